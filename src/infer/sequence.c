/* SPDX-License-Identifier: MIT */
#include "infer/sequence.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

enum { KEYS, VALUES };

lb_status lb_sequence_create(const lb_config *c, lb_kv_type type, size_t context, lb_sequence **out,
                             lb_error *err)
{
    static const char *const names[] = {"cached keys", "cached values"};
    lb_status st = LB_OK;
    size_t rows;
    if (context == 0 || context > c->max_context)
        return lb_fail(err, LB_EINVAL, "a context of %zu tokens was asked for; this model takes 1 to %zu",
                       context, c->max_context);
    if (__builtin_mul_overflow(c->layers, context, &rows))
        return lb_fail(err, LB_ENOMEM, "sequence: %zu layers of %zu tokens are too large to address",
                       c->layers, context);
    const size_t value_bytes = lb_kv_value_bytes(type, c->kv_heads, c->head_dim);
    const size_t scale_bytes = lb_kv_scale_bytes(type, c->kv_heads, c->head_dim);
    lb_sequence *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "sequence: no memory for %zu bytes", sizeof *s);
    s->context = context;
    s->layers = c->layers;
    s->heads = c->kv_heads;
    s->dim = c->head_dim;
    s->type = type;
    for (unsigned which = KEYS; which <= VALUES; which++) {
        LB_GO(lb_alloc_array(&s->values[which], rows, value_bytes, names[which], err));
        if (scale_bytes)
            LB_GO(lb_alloc_array(&s->scales[which], rows, scale_bytes, names[which], err));
    }
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
    for (unsigned which = KEYS; which <= VALUES; which++) {
        lb_free(s->values[which]);
        lb_free(s->scales[which]);
    }
    lb_free(s);
}

static lb_kv of_layer(const lb_sequence *s, unsigned which, size_t layer)
{
    const size_t row = layer * s->context;
    lb_kv kv = {.type = s->type,
                .heads = s->heads,
                .dim = s->dim,
                .values = s->values[which] + row * lb_kv_value_bytes(s->type, s->heads, s->dim)};
    if (s->scales[which])
        kv.scales = s->scales[which] + row * lb_kv_scale_bytes(s->type, s->heads, s->dim);
    return kv;
}

lb_kv lb_sequence_keys(const lb_sequence *s, size_t layer)
{
    return of_layer(s, KEYS, layer);
}

lb_kv lb_sequence_values(const lb_sequence *s, size_t layer)
{
    return of_layer(s, VALUES, layer);
}

void lb_sequence_copy(const lb_sequence *from, size_t past, lb_sequence *to)
{
    const size_t values = past * lb_kv_value_bytes(from->type, from->heads, from->dim);
    const size_t scales = past * lb_kv_scale_bytes(from->type, from->heads, from->dim);
    assert(from != to && from->layers == to->layers && from->type == to->type);
    assert(from->heads == to->heads && from->dim == to->dim);
    assert(past <= from->past && past <= to->context);
    for (size_t layer = 0; past > 0 && layer < from->layers; layer++) {
        for (unsigned which = KEYS; which <= VALUES; which++) {
            const lb_kv source = of_layer(from, which, layer), copy = of_layer(to, which, layer);
            memcpy(copy.values, source.values, values);
            if (scales)
                memcpy(copy.scales, source.scales, scales);
        }
    }
    to->past = past;
}

size_t lb_sequence_token_bytes(const lb_config *c, lb_kv_type type)
{
    return 2 * c->layers *
           (lb_kv_value_bytes(type, c->kv_heads, c->head_dim) +
            lb_kv_scale_bytes(type, c->kv_heads, c->head_dim));
}
