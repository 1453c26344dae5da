/* SPDX-License-Identifier: MIT */
#include "infer/resident.h"

#include <math.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"

lb_status lb_resident_load(const char *path, const lb_progress *progress, lb_resident *out, lb_error *err)
{
    lb_weights *weights = NULL;
    lb_resident r = {0};
    lb_status st = lb_weights_open(path, &weights, err);
    if (st != LB_OK)
        return st;
    r.config = weights->config;
    r.blocks = lb_alloc_zero(r.config.layers, sizeof *r.blocks);
    if (!r.blocks) {
        st = lb_fail(err, LB_ENOMEM, "%s: no memory for %zu blocks", path, r.config.layers);
        goto done;
    }
    for (size_t layer = 0; layer < r.config.layers; layer++) {
        LB_GO(lb_block_load(weights, layer, LB_LOAD_NATIVE, &r.blocks[layer], err));
        LB_GO(lb_progress_tell(progress, "loading", layer + 1, r.config.layers, err));
    }
    LB_GO(lb_embedding_load(weights, &r.ends, err));
    LB_GO(lb_inputs_create(&r.config, &weights->transform, &weights->act, &r.inputs, err));
    *out = r;
    r = (lb_resident){0};
done:
    lb_resident_free(&r);
    lb_weights_close(weights);
    return st;
}

/* What lb_resident_round made: all but the bias. */
static void free_rounded(lb_linear *linear)
{
    linear->bias = NULL;
    lb_linear_free(linear);
}

void lb_resident_free(lb_resident *r)
{
    for (size_t layer = 0; r->blocks && layer < r->config.layers; layer++) {
        if (!r->borrows) {
            lb_block_free(&r->blocks[layer]);
            continue;
        }
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            free_rounded(&r->blocks[layer].linear[which]);
    }
    lb_inputs_free(&r->inputs);
    if (!r->borrows)
        lb_embedding_free(&r->ends);
    else if (r->rounded_head)
        free_rounded(&r->ends.head);
    lb_free(r->blocks);
    *r = (lb_resident){0};
}

typedef struct rounding {
    const lb_kernels *kernels;
    lb_format format;
    const lb_linear *from;
    float *largest; /* [rows] */
    atomic_int failed;
} rounding;

/* The largest finite magnitude of each row. */
static void find_largest(void *arg, size_t begin, size_t end)
{
    rounding *r = arg;
    const size_t cols = r->from->cols;
    float *row = lb_alloc(cols, sizeof *row);
    if (!row)
        atomic_store(&r->failed, 1);
    for (size_t i = begin; row && i < end; i++) {
        lb_linear_row(r->kernels, r->from, i, row);
        r->largest[i] = 0.0f;
        for (size_t c = 0; c < cols; c++)
            if (isfinite(row[c]) && fabsf(row[c]) > r->largest[i])
                r->largest[i] = fabsf(row[c]);
    }
    lb_free(row);
}

/* What a tensor's groups share follows from its largest value, which is among those of its rows. */
static lb_status bind_format(rounding *r, lb_error *err)
{
    enum { ROWS_PER_CHUNK = 64 };
    if (!lb_format_has_tensor_scale(&r->format))
        return LB_OK;
    LB_TRY(lb_alloc_array(&r->largest, r->from->rows, sizeof *r->largest, r->format.name, err));
    lb_parallel_for(r->from->rows, ROWS_PER_CHUNK, find_largest, r);
    lb_format_bind(&r->format, r->largest, r->from->rows);
    lb_free(r->largest);
    return atomic_load(&r->failed)
               ? lb_fail(err, LB_ENOMEM, "rounding to %s: no memory for a row of %zu weights", r->format.name,
                         r->from->cols)
               : LB_OK;
}

static lb_status round_row(const void *context, size_t row, float *scratch, uint8_t *codes, float *params,
                           lb_error *err)
{
    const rounding *r = context;
    (void)err;
    lb_linear_row(r->kernels, r->from, row, scratch);
    lb_format_encode_row(&r->format, scratch, NULL, r->from->cols, LB_FIT_RANGE, codes, params);
    return LB_OK;
}

static lb_status round_linear(const lb_linear *from, const lb_format *format, lb_linear *out, lb_error *err)
{
    rounding r = {.kernels = lb_kernels_get(LB_CPU_BEST), .format = *format, .from = from};
    if (lb_format_is_float(format))
        return lb_fail(err, LB_EUNSUPPORTED, "format %s rounds nothing: name one with codes, like int4-g64",
                       format->name);
    LB_TRY(bind_format(&r, err));
    LB_TRY(lb_linear_build(&r.format, from->rows, from->cols, format->name, round_row, &r, out, err));
    out->bias = from->bias;
    return LB_OK;
}

lb_status lb_resident_round(const lb_resident *from, const lb_format *layers, const lb_format *head,
                            lb_resident *out, lb_error *err)
{
    lb_resident r = {.config = from->config, .ends = from->ends, .borrows = true};
    lb_status st = LB_OK;
    if (lb_resident_is_quantized(from))
        return lb_fail(err, LB_EINVAL, "the model is quantized already, it cannot be rounded to %s",
                       layers->name);
    r.blocks = lb_alloc_zero(r.config.layers, sizeof *r.blocks);
    if (!r.blocks)
        return lb_fail(err, LB_ENOMEM, "rounding to %s: no memory for %zu blocks", layers->name,
                       r.config.layers);
    for (size_t layer = 0; layer < r.config.layers; layer++) {
        lb_block *block = &r.blocks[layer];
        *block = from->blocks[layer];
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            block->linear[which] = (lb_linear){0};
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            LB_GO(round_linear(&from->blocks[layer].linear[which], layers, &block->linear[which], err));
    }
    if (head) {
        LB_GO(round_linear(&from->ends.head, head, &r.ends.head, err));
        r.rounded_head = true;
    }
    *out = r;
    r = (lb_resident){0};
done:
    lb_resident_free(&r);
    return st;
}

bool lb_resident_is_quantized(const lb_resident *r)
{
    for (size_t layer = 0; layer < r->config.layers; layer++)
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            if (r->blocks[layer].linear[which].encoded)
                return true;
    return false;
}

size_t lb_resident_token_bytes(const lb_resident *r)
{
    const lb_config *c = &r->config;
    size_t bytes = lb_linear_bytes(&r->ends.head) + lb_linear_bytes(&r->ends.embed) / c->vocab +
                   c->hidden * sizeof(float);
    for (size_t layer = 0; layer < c->layers; layer++) {
        const lb_block *b = &r->blocks[layer];
        bytes += (2 * c->hidden + (c->qk_norm ? 2 * c->head_dim : 0)) * sizeof(float);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            bytes += lb_linear_bytes(&b->linear[which]) +
                     (b->linear[which].bias ? b->linear[which].rows * sizeof(float) : 0);
    }
    return bytes;
}

size_t lb_resident_bytes(const lb_resident *r)
{
    const size_t embed = lb_linear_bytes(&r->ends.embed);
    return lb_resident_token_bytes(r) - embed / r->config.vocab + (r->ends.head.borrowed ? 0 : embed);
}

double lb_resident_layer_bits(const lb_resident *r)
{
    double bytes = 0, weights = 0;
    for (size_t layer = 0; layer < r->config.layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            const lb_linear *l = &r->blocks[layer].linear[which];
            bytes += (double)lb_linear_bytes(l);
            weights += (double)l->rows * (double)l->cols;
        }
    }
    return weights > 0 ? 8.0 * bytes / weights : 0;
}
