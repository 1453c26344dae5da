/* SPDX-License-Identifier: MIT */
#include "eval/task_prompt.h"

#include <ctype.h>
#include <string.h>

#include "base/alloc.h"
#include "base/text.h"

/* The last most + 1 of prefix (unless UINT32_MAX) and ids [count], of which those from `first` on are scored. */
static lb_status make_request(uint32_t prefix, const uint32_t *ids, size_t count, size_t first, size_t most,
                              lb_request *out, lb_error *err)
{
    const size_t extra = prefix != UINT32_MAX, all = extra + count,
                 dropped = all > most + 1 ? all - most - 1 : 0;
    lb_request r = {.count = all - dropped, .first = first + extra > dropped ? first + extra - dropped : 0};
    if (r.first == 0) /* nothing predicts the first id */
        r.first = 1;
    LB_TRY(lb_alloc_array(&r.ids, r.count, sizeof *r.ids, "a question", err));
    for (size_t i = 0; i < r.count; i++)
        r.ids[i] = i + dropped < extra ? prefix : ids[i + dropped - extra];
    *out = r;
    return LB_OK;
}

lb_status lb_task_prompt(const lb_tokenizer *tokenizer, const char *question, const char *choice, bool bos,
                         size_t most, lb_request *out, lb_error *err)
{
    const unsigned flags = bos ? LB_ENCODE_DEFAULT_BOS : LB_ENCODE_PLAIN;
    size_t length = strlen(question), before, count;
    uint32_t *alone = NULL, *ids = NULL, prefix = UINT32_MAX;
    lb_text text = {0};
    lb_status st = LB_OK;
    while (length > 0 && isspace((unsigned char)question[length - 1]))
        length--;
    lb_text_add_string(&text, question);
    lb_text_add_string(&text, choice);
    if (text.failed) {
        st = lb_fail(err, LB_ENOMEM, "tasks: no memory");
        goto done;
    }
    LB_GO(lb_tokenizer_encode(tokenizer, question, length, flags, &alone, &before, err));
    LB_GO(lb_tokenizer_encode(tokenizer, text.data, text.length, flags, &ids, &count, err));
    if (before == 0) {
        prefix = lb_tokenizer_bos(tokenizer);
        prefix = prefix != UINT32_MAX ? prefix : lb_tokenizer_eos(tokenizer);
    }
    if (before >= count || (count < 2 && prefix == UINT32_MAX))
        st = lb_fail(err, LB_EFORMAT, "\"%.60s\" is no token of its own after the question", choice);
    else
        st = make_request(prefix, ids, count, before, most, out, err);
done:
    lb_text_free(&text);
    lb_ids_free(alone);
    lb_ids_free(ids);
    return st;
}
