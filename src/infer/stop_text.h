/* SPDX-License-Identifier: MIT
 * Texts that end an answer. A stream of text goes through; what may be the beginning of one of them is kept back until
 * it is known whether it is. */
#ifndef LB_INFER_STOP_TEXT_H
#define LB_INFER_STOP_TEXT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

typedef struct lb_stop_text {
    char **stops;
    size_t count;
    lb_text held;
    size_t given; /* bytes of `held` that the last call gave */
} lb_stop_text;

/* An empty text, one that is too long, or too many (generate.h says how many) are LB_EINVAL. */
lb_status lb_stop_text_create(const char *const *stops, size_t count, lb_stop_text *out, lb_error *err);
void lb_stop_text_free(lb_stop_text *stop);

/* Adds text; *out [*out_length] is what is now certain to be before any stop, valid until the next call. True: a stop
 * has come up, and *out is the last there is. Whole characters come out where whole characters go in. Without memory
 * stop->held.failed is set. */
bool lb_stop_text_put(lb_stop_text *stop, const char *text, size_t length, const char **out,
                      size_t *out_length);

/* What was kept back. */
void lb_stop_text_rest(lb_stop_text *stop, const char **out, size_t *out_length);

#endif
