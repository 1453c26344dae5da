/* SPDX-License-Identifier: MIT
 * Another program as a function from bytes to bytes. */
#ifndef LB_REPORT_FILTER_H
#define LB_REPORT_FILTER_H

#include "base/error.h"
#include "base/text.h"

typedef struct lb_filter {
    const char *const *argv; /* argv[0] is looked for in PATH; ends with NULL */
    const char
        *package; /* "gnuplot (Debian: apt install gnuplot-nox)", for the sentence that it is missing */
    size_t max_output; /* bytes; more is LB_EFORMAT */
    double max_seconds;
} lb_filter;

/* Runs the program with `input` as its standard input and appends what it writes to *output. LB_EUNSUPPORTED
 * when there is no such program; LB_EIO with its first line on standard error when it fails, dies or takes too
 * long (it is killed then). Never raises SIGPIPE, and leaves no process behind. */
lb_status lb_filter_run(const lb_filter *filter, const char *input, size_t input_bytes, lb_text *output,
                        lb_error *err);

#endif
