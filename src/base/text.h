/* SPDX-License-Identifier: MIT
 * A growing string of bytes. */
#ifndef LB_BASE_TEXT_H
#define LB_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Zero-initialise; `data` is NUL-terminated once anything was added. lb_text_free at the end.
 * When memory runs out `failed` stays set and later additions do nothing: check it once. */
typedef struct lb_text {
    char *data;
    size_t length, capacity;
    bool failed;
} lb_text;

void lb_text_add(lb_text *text, const char *bytes, size_t length);
void lb_text_add_string(lb_text *text, const char *string);
void lb_text_add_format(lb_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void lb_text_free(lb_text *text);

#endif
