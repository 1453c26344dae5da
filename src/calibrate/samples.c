/* SPDX-License-Identifier: MIT */
#include "calibrate/samples.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

/* Marks `count` of `windows` windows: the first `count` steps of a Fisher-Yates shuffle. */
static lb_status choose(size_t windows, size_t count, uint64_t seed, unsigned char *chosen, lb_error *err)
{
    size_t *order;
    lb_rng rng;
    LB_TRY(lb_alloc_array(&order, windows, sizeof *order, "calibration samples", err));
    for (size_t i = 0; i < windows; i++)
        order[i] = i;
    lb_rng_seed(&rng, seed);
    for (size_t i = 0; i < count; i++) {
        size_t other = i + (size_t)lb_rng_below(&rng, windows - i);
        size_t window = order[other];
        order[other] = order[i];
        chosen[window] = 1;
    }
    lb_free(order);
    return LB_OK;
}

static lb_status cut(const uint32_t *ids, size_t available, size_t wanted, size_t length, uint32_t bos,
                     uint64_t seed, lb_samples *out, lb_error *err)
{
    const size_t fresh = length - (bos != UINT32_MAX); /* text tokens in a window */
    const size_t windows = available / fresh;
    const size_t count = wanted < windows ? wanted : windows;
    unsigned char *chosen = lb_alloc_zero(windows, 1);
    uint32_t *result = lb_alloc(count * length, sizeof *result);
    lb_status st = chosen && result ? choose(windows, count, seed, chosen, err)
                                    : lb_fail(err, LB_ENOMEM, "calibration samples: no memory");
    if (st == LB_OK) {
        uint32_t *to = result;
        for (size_t w = 0; w < windows; w++) {
            if (!chosen[w])
                continue;
            if (bos != UINT32_MAX)
                *to++ = bos;
            memcpy(to, ids + w * fresh, fresh * sizeof *to);
            to += fresh;
        }
        *out = (lb_samples){.ids = result, .count = count, .length = length};
        result = NULL;
    }
    lb_free(chosen);
    lb_free(result);
    return st;
}

lb_status lb_samples_create(const lb_tokenizer *tokenizer, const char *text, size_t bytes, size_t count,
                            size_t length, uint64_t seed, lb_samples *out, lb_error *err)
{
    uint32_t *ids;
    size_t available;
    LB_TRY(lb_tokenizer_encode(tokenizer, text, bytes, LB_ENCODE_PLAIN, &ids, &available, err));
    const uint32_t bos = lb_tokenizer_adds_bos(tokenizer) ? lb_tokenizer_bos(tokenizer) : UINT32_MAX;
    lb_status st;
    if (length < 2 || count == 0)
        st = lb_fail(err, LB_EINVAL, "calibration wants at least 1 sample of 2 tokens, got %zu of %zu", count,
                     length);
    else if (available < length - (bos != UINT32_MAX))
        st = lb_fail(err, LB_EINVAL, "the calibration text has %zu tokens, less than one sample of %zu",
                     available, length);
    else
        st = cut(ids, available, count, length, bos, seed, out, err);
    lb_ids_free(ids);
    return st;
}

void lb_samples_free(lb_samples *samples)
{
    lb_free(samples->ids);
    *samples = (lb_samples){0};
}
