/* SPDX-License-Identifier: MIT
 * A text as the windows that a perplexity protocol prescribes. */
#ifndef LB_EVAL_WINDOWS_H
#define LB_EVAL_WINDOWS_H

#include <stdint.h>

#include "lowbit/eval.h"
#include "lowbit/tokenizer.h"

typedef struct lb_windows {
    uint32_t *ids; /* [count, ctx] */
    size_t count, ctx;
    size_t first_scored; /* position in a window of the first token whose probability counts */
} lb_windows;

/* text [bytes]; `limit` keeps the first so many ids (0: all). A text that does not fill one window is
 * LB_EINVAL. */
lb_status lb_windows_create(const lb_tokenizer *tokenizer, const char *text, size_t bytes,
                            lb_protocol protocol, size_t ctx, size_t limit, lb_windows *out, lb_error *err);
void lb_windows_free(lb_windows *windows);

#endif
