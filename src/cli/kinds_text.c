/* SPDX-License-Identifier: MIT */
#include "cli/kinds_text.h"

#include <stdio.h>

#include "formats/kinds.h"

static bool has_kinds(const lb_format *format)
{
    return format->ops && format->ops->kinds;
}

void lb_print_kinds(const lb_format *format)
{
    if (!has_kinds(format))
        return;
    const double stored =
        8.0 * (double)lb_format_row_bytes(format, 8 * format->group) / (8.0 * (double)format->group);
    printf("%s: %.3f bits nominally, %.3f stored: of %zu weights %zu have %u bits, marked by %s, and two "
           "scales\n",
           format->name, lb_kinds_nominal_bits(format), stored, format->group, format->high_count,
           format->high_bits, format->masked ? "a bit each" : "a low code");
}

json_t *lb_kinds_add_json(const lb_format *format, json_t *object)
{
    if (!object || !has_kinds(format))
        return object;
    json_object_set_new(object, "nominal_bits", json_real(lb_kinds_nominal_bits(format)));
    json_object_set_new(object, "marked_by", json_string(format->masked ? "mask" : "sentinel"));
    return object;
}
