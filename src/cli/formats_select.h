/* SPDX-License-Identifier: MIT
 * Which formats `lowbit formats` measures: names and scale rules as typed, turned into a list. */
#ifndef LB_CLI_FORMATS_SELECT_H
#define LB_CLI_FORMATS_SELECT_H

#include "cli/args.h"
#include "formats/format.h"

typedef struct lb_format_list {
    lb_format items[256];
    size_t count;
} lb_format_list;

/* `names`: what --format was given, each a list of names with commas; empty: the ten of the paper. `rule`:
 * a rule's name, appended to all of them (of the paper's ten: to those that have it); "all": every rule that a
 * format has; NULL: formats as they are named. LB_EINVAL for a name or a rule that there is not. */
lb_status lb_formats_select(const lb_arg_list *names, const char *rule, lb_format_list *out, lb_error *err);

/* "ceil", "ocp", ..., "two-level"; "-" for a format without such a rule. */
const char *lb_rule_name(const lb_format *format);

#endif
