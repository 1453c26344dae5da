/* SPDX-License-Identifier: MIT */
#include "infer/sequence.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

lb_status lb_sequence_create(const lb_config *c, size_t context, lb_sequence **out, lb_error *err)
{
    lb_status st = LB_OK;
    size_t rows;
    if (context == 0 || context > c->max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens was asked for; this model takes 1 to %zu",
                       context, c->max_context);
    if (__builtin_mul_overflow(c->layers, context, &rows))
        return lb_fail(err, LB_ENOMEM, "sequence: %zu layers of %zu tokens are too large to address",
                       c->layers, context);
    lb_sequence *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "sequence: no memory for %zu bytes", sizeof *s);
    s->context = context;
    s->layers = c->layers;
    s->width = c->kv_heads * c->head_dim;
    LB_GO(lb_alloc_array(&s->keys, rows, s->width * sizeof(float), "cached keys", err));
    LB_GO(lb_alloc_array(&s->values, rows, s->width * sizeof(float), "cached values", err));
    *out = s;
    s = NULL;
done:
    lb_sequence_destroy(s);
    return st;
}

void lb_sequence_destroy(lb_sequence *s)
{
    if (!s)
        return;
    lb_free(s->keys);
    lb_free(s->values);
    lb_free(s);
}

float *lb_sequence_keys(const lb_sequence *s, size_t layer)
{
    return s->keys + layer * s->context * s->width;
}

float *lb_sequence_values(const lb_sequence *s, size_t layer)
{
    return s->values + layer * s->context * s->width;
}

void lb_sequence_copy(const lb_sequence *from, size_t past, lb_sequence *to)
{
    const size_t bytes = past * from->width * sizeof(float);
    assert(from != to && from->layers == to->layers && from->width == to->width);
    assert(past <= from->past && past <= to->context);
    for (size_t layer = 0; bytes > 0 && layer < from->layers; layer++) {
        memcpy(lb_sequence_keys(to, layer), lb_sequence_keys(from, layer), bytes);
        memcpy(lb_sequence_values(to, layer), lb_sequence_values(from, layer), bytes);
    }
    to->past = past;
}
