/* SPDX-License-Identifier: MIT
 * The "normalizer" of a tokenizer.json: what is done to a text before it is cut into words. */
#ifndef LB_IO_NORMALIZE_H
#define LB_IO_NORMALIZE_H

#include <jansson.h>

#include "base/text.h"
#include "io/regex.h"

typedef struct lb_normalizer lb_normalizer;

/* `spec` is the JSON of "normalizer"; NULL and null give a normalizer that does nothing. A kind that
 * is not known is refused by name. */
lb_status lb_normalizer_create(const json_t *spec, const char *where, lb_normalizer **out, lb_error *err);
void lb_normalizer_destroy(lb_normalizer *normalizer); /* NULL is allowed */

/* True when lb_normalizer_run would change nothing, whatever the text. */
bool lb_normalizer_is_empty(const lb_normalizer *normalizer);

/* text [length], valid UTF-8, into *out (emptied first). */
lb_status lb_normalizer_run(const lb_normalizer *normalizer, lb_searcher *searcher, const char *text,
                            size_t length, lb_text *out, lb_error *err);

/* Reads {"String": ...} or {"Regex": ...}, which normalizers and pre-tokenizers share. */
lb_status lb_pattern_from_json(const json_t *spec, const char *where, lb_pattern **out, lb_error *err);

#endif
