/* SPDX-License-Identifier: MIT */
#include "eval/windows.h"

#include "base/alloc.h"
#include "base/error.h"

lb_status lb_windows_create(const lb_tokenizer *tokenizer, const char *text, size_t bytes,
                            lb_protocol protocol, size_t ctx, size_t limit, lb_windows *out, lb_error *err)
{
    lb_windows w = {.ctx = ctx, .first_scored = protocol == LB_PROTOCOL_HALF ? ctx / 2 + 1 : 1};
    size_t available;
    if (ctx < 2)
        return lb_fail(err, LB_EINVAL, "a window of %zu tokens scores nothing; want at least 2", ctx);
    if (protocol == LB_PROTOCOL_HALF && ctx < 4)
        return lb_fail(err, LB_EINVAL, "the half protocol wants windows of at least 4 tokens, got %zu", ctx);
    LB_TRY(lb_tokenizer_encode(tokenizer, text, bytes, LB_ENCODE_DEFAULT_BOS, &w.ids, &available, err));
    if (limit && limit < available)
        available = limit;
    w.count = available / ctx;
    if (w.count == 0) {
        lb_windows_free(&w);
        return lb_fail(err, LB_EINVAL, "the text has %zu tokens, less than one window of %zu (see --ctx)",
                       available, ctx);
    }
    if (protocol == LB_PROTOCOL_HALF && lb_tokenizer_adds_bos(tokenizer)) {
        for (size_t i = 0; i < w.count; i++)
            w.ids[i * ctx] = lb_tokenizer_bos(tokenizer);
    }
    *out = w;
    return LB_OK;
}

void lb_windows_free(lb_windows *windows)
{
    lb_ids_free(windows->ids);
    *windows = (lb_windows){0};
}
