/* SPDX-License-Identifier: MIT */
#include "infer/resident.h"

#include <stdatomic.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/int.h"

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
    *out = r;
    r = (lb_resident){0};
done:
    lb_resident_free(&r);
    lb_weights_close(weights);
    return st;
}

void lb_resident_free(lb_resident *r)
{
    for (size_t layer = 0; r->blocks && layer < r->config.layers; layer++) {
        if (!r->borrows) {
            lb_block_free(&r->blocks[layer]);
            continue;
        }
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            lb_qmat_destroy(r->blocks[layer].linear[which].quantized);
    }
    if (!r->borrows)
        lb_embedding_free(&r->ends);
    else if (r->rounded_head)
        lb_qmat_destroy(r->ends.head.quantized);
    lb_free(r->blocks);
    *r = (lb_resident){0};
}

typedef struct rounding {
    const lb_kernels *kernels;
    const lb_format *format;
    const lb_linear *from;
    lb_qmat *to;
    atomic_int failed;
} rounding;

static void round_rows(void *arg, size_t begin, size_t end)
{
    rounding *r = arg;
    const lb_format *f = r->format;
    const size_t cols = r->from->cols, groups = lb_format_groups(f, cols);
    float *row = lb_alloc(cols + groups * (f->params + 2), sizeof *row);
    uint8_t *codes = lb_alloc(cols, 1);
    if (!row || !codes)
        atomic_store(&r->failed, 1);
    for (size_t i = begin; row && codes && i < end; i++) {
        float *params = row + cols, *scales = params + groups * f->params, *zeros = scales + groups;
        lb_linear_row(r->kernels, r->from, i, row);
        lb_format_encode_row(f, row, NULL, cols, LB_FIT_RANGE, codes, params);
        for (size_t g = 0; g < groups; g++) {
            scales[g] = params[g * f->params + LB_INT_SCALE];
            zeros[g] = params[g * f->params + LB_INT_ZERO];
        }
        lb_qmat_set_row(r->to, i, codes, scales, f->symmetric ? NULL : zeros);
    }
    lb_free(row);
    lb_free(codes);
}

static lb_status round_linear(const lb_linear *from, const lb_format *format, lb_linear *out, lb_error *err)
{
    enum { ROUND_ROWS = 4 * LB_QMAT_ROWS };
    lb_linear l = {.rows = from->rows, .cols = from->cols, .bias = from->bias};
    if (format->ops != &lb_int_format)
        return lb_fail(err, LB_EUNSUPPORTED, "format %s has no decoding kernel; int2 to int8 have",
                       format->name);
    LB_TRY(lb_qmat_create(l.rows, l.cols, format->bits, format->group, format->symmetric, &l.quantized, err));
    rounding r = {.kernels = lb_kernels_get(LB_CPU_BEST), .format = format, .from = from, .to = l.quantized};
    lb_parallel_for(l.rows, ROUND_ROWS, round_rows, &r);
    if (atomic_load(&r.failed)) {
        lb_qmat_destroy(l.quantized);
        return lb_fail(err, LB_ENOMEM, "rounding to %s: no memory for a row of %zu weights", format->name,
                       l.cols);
    }
    *out = l;
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
    if (r->ends.head.quantized || r->ends.embed.quantized)
        return true;
    for (size_t layer = 0; layer < r->config.layers; layer++)
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            if (r->blocks[layer].linear[which].quantized)
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
