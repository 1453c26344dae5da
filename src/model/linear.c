/* SPDX-License-Identifier: MIT */
#include "model/linear.h"

#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "kernels/cast.h"
#include "linalg/gemm.h"
#include "model/foreign.h"

enum { READ_ROWS = 64 };

/* Rows of a weight are read by several threads; the first failure is kept. */
typedef struct reader {
    const lb_weight *weight;
    lb_linear *linear;
    atomic_int failed;
    lb_error err;
} reader;

static void note_failure(reader *r, const lb_error *err)
{
    if (atomic_exchange(&r->failed, 1) == 0)
        r->err = *err;
}

static void read_float_rows(void *arg, size_t begin, size_t end)
{
    reader *r = arg;
    lb_error err;
    float *out = (float *)r->linear->dense + begin * r->linear->cols;
    if (lb_weight_read(r->weight, begin, end - begin, out, &err) != LB_OK)
        note_failure(r, &err);
}

static lb_status failure_of(reader *r, lb_error *err)
{
    if (!atomic_load(&r->failed))
        return LB_OK;
    if (err)
        *err = r->err;
    return r->err.status;
}

/* ---- Rows of codes ----------------------------------------------------------------------------------- */

typedef struct builder {
    reader r; /* weight is NULL */
    const lb_format *format;
    const char *name;
    lb_row_source source;
    const void *context;
    atomic_int inexact; /* a value did not fit bfloat16 */
} builder;

/* Whether all of them are exact. */
static bool to_bf16(const float *w, size_t n, uint16_t *out)
{
    uint32_t lost = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t bits = lb_float_bits(w[i]);
        lost |= bits & 0xffffu;
        out[i] = (uint16_t)(bits >> 16);
    }
    return lost == 0;
}

static void store_row(builder *b, size_t row, const uint8_t *codes, const float *params, float *scratch)
{
    const lb_linear *l = b->r.linear;
    if (l->quantized) {
        lb_qmat_set_encoded(l->quantized, row, codes, params);
    } else if (l->type == LB_DENSE_F32) {
        lb_format_decode_row(b->format, codes, params, l->cols, (float *)l->dense + row * l->cols);
    } else {
        lb_format_decode_row(b->format, codes, params, l->cols, scratch);
        if (!to_bf16(scratch, l->cols, (uint16_t *)l->dense + row * l->cols))
            atomic_store(&b->inexact, 1);
    }
}

static void build_rows(void *arg, size_t begin, size_t end)
{
    builder *b = arg;
    const size_t cols = b->r.linear->cols, params_n = lb_format_groups(b->format, cols) * b->format->params;
    lb_error err = {0};
    uint8_t *codes = lb_alloc(cols, 1);
    float *scratch = lb_alloc(cols + params_n, sizeof *scratch);
    lb_status st = codes && scratch ? LB_OK : lb_fail(&err, LB_ENOMEM, "%s: no memory for a row", b->name);
    for (size_t row = begin; st == LB_OK && row < end; row++) {
        st = b->source(b->context, row, scratch, codes, scratch + cols, &err);
        if (st == LB_OK)
            store_row(b, row, codes, scratch + cols, scratch);
    }
    if (st != LB_OK)
        note_failure(&b->r, &err);
    lb_free(codes);
    lb_free(scratch);
}

static lb_status alloc_dense(lb_linear *l, const char *name, lb_error *err)
{
    const size_t size = lb_dense_size(l->type);
    LB_TRY(lb_alloc_array(&l->dense, l->rows * l->cols, size, name, err));
    lb_advise_huge(l->dense, l->rows * l->cols * size);
    return LB_OK;
}

static lb_status build(builder *b, lb_dense_type type, lb_error *err)
{
    lb_linear *l = b->r.linear;
    l->type = type;
    if (lb_qmat_holds(b->format))
        LB_TRY(lb_qmat_create_format(l->rows, l->cols, b->format, &l->quantized, err));
    else
        LB_TRY(alloc_dense(l, b->name, err));
    lb_parallel_for(l->rows, READ_ROWS, build_rows, b); /* a multiple of LB_QMAT_ROWS */
    return failure_of(&b->r, err);
}

lb_status lb_linear_build(const lb_format *format, size_t rows, size_t cols, const char *name,
                          lb_row_source source, const void *context, lb_linear *out, lb_error *err)
{
    LB_TRY(lb_format_check_cols(format, cols, name, err));
    lb_linear l = {.rows = rows, .cols = cols, .encoded = true};
    builder b = {.r = {.linear = &l}, .format = format, .name = name, .source = source, .context = context};
    /* Elements have few bits: times a power of two they fit bfloat16 unless they leave its range. */
    const bool narrow =
        format->element && format->rule != LB_SCALE_EXACT && format->rule != LB_SCALE_TWO_LEVEL;
    lb_status st = build(&b, narrow ? LB_DENSE_BF16 : LB_DENSE_F32, err);
    if (st == LB_OK && atomic_load(&b.inexact)) {
        lb_free(l.dense);
        l.dense = NULL;
        st = build(&b, LB_DENSE_F32, err);
    }
    if (st == LB_OK)
        *out = l;
    else
        lb_linear_free(&l);
    return st;
}

static lb_status unpack_row(const void *context, size_t row, float *scratch, uint8_t *codes, float *params,
                            lb_error *err)
{
    (void)scratch;
    return lb_weight_unpack_row(context, row, codes, params, err);
}

/* ---- Loading ----------------------------------------------------------------------------------------- */

static lb_status load_matrix(const lb_weight *given, lb_load how, lb_linear *l, lb_error *err)
{
    lb_weight coded = *given;
    if (how == LB_LOAD_NATIVE)
        LB_TRY(lb_foreign_from_gguf(&coded, err));
    const lb_weight *weight = &coded;
    if (how == LB_LOAD_NATIVE && !lb_format_is_float(&weight->format))
        return lb_linear_build(&weight->format, weight->rows, weight->cols, weight->name, unpack_row, weight,
                               l, err);
    reader r = {.weight = weight, .linear = l};
    const lb_dtype stored = weight->tensor ? weight->tensor->dtype : LB_DTYPE_U8;
    /* Rows that GGUF stores in another order are put right by reading them, not by copying. */
    const bool halves =
        (stored == LB_DTYPE_F16 || stored == LB_DTYPE_BF16) && !weight->tensor->interleaved_heads;
    l->type = how == LB_LOAD_FLOAT || !halves ? LB_DENSE_F32
              : stored == LB_DTYPE_F16        ? LB_DENSE_F16
                                              : LB_DENSE_BF16;
    LB_TRY(alloc_dense(l, weight->name, err));
    if (l->type == LB_DENSE_F32)
        lb_parallel_for(l->rows, READ_ROWS, read_float_rows, &r);
    else
        memcpy(l->dense, weight->tensor->data, weight->tensor->bytes);
    return failure_of(&r, err);
}

lb_status lb_linear_load(const lb_weight *weight, const lb_weight *bias, lb_load how, lb_linear *out,
                         lb_error *err)
{
    lb_linear l = {.rows = weight->rows, .cols = weight->cols};
    lb_status st = load_matrix(weight, how, &l, err);
    if (st == LB_OK && bias) {
        st = lb_alloc_array(&l.bias, bias->cols, sizeof *l.bias, bias->name, err);
        if (st == LB_OK)
            st = lb_weight_read(bias, 0, 1, l.bias, err);
    }
    if (st == LB_OK)
        *out = l;
    else
        lb_linear_free(&l);
    return st;
}

void lb_linear_free(lb_linear *linear)
{
    lb_qmat_destroy(linear->quantized);
    if (!linear->borrowed)
        lb_free(linear->dense);
    lb_free(linear->bias);
    *linear = (lb_linear){0};
}

typedef struct product {
    const lb_kernels *kernels;
    const lb_linear *linear;
    const float *x;
    size_t tokens;
    float *y;
    atomic_int failed;
} product;

/* Rows [begin, end) of W as floats, then BLAS: the prompt path of every stored type but float32. */
static void apply_tile(void *arg, size_t begin, size_t end)
{
    product *p = arg;
    const lb_linear *l = p->linear;
    const size_t count = end - begin;
    float *tile = lb_alloc(count * l->cols, sizeof *tile);
    if (!tile) {
        atomic_store(&p->failed, 1);
        return;
    }
    if (l->quantized)
        lb_qmat_dequantize(p->kernels, l->quantized, begin, count, tile);
    else
        lb_dense_to_f32(p->kernels, l->type,
                        (const uint8_t *)l->dense + begin * l->cols * lb_dense_size(l->type), count * l->cols,
                        tile);
    lb_gemm_nt(p->tokens, count, l->cols, p->x, l->cols, tile, l->cols, 0.0f, p->y + begin, l->rows);
    lb_free(tile);
}

static void add_bias(const lb_linear *linear, size_t tokens, float *y)
{
    for (size_t t = 0; linear->bias && t < tokens; t++)
        for (size_t i = 0; i < linear->rows; i++)
            y[t * linear->rows + i] += linear->bias[i];
}

lb_status lb_linear_apply(const lb_kernels *kernels, const lb_linear *linear, const float *x, size_t tokens,
                          float *y, lb_error *err)
{
    enum { TILE_ROWS = 192 };
    if (!linear->quantized && linear->type == LB_DENSE_F32) {
        lb_gemm_nt(tokens, linear->rows, linear->cols, x, linear->cols, linear->dense, linear->cols, 0.0f, y,
                   linear->rows);
    } else {
        product p = {.kernels = kernels, .linear = linear, .x = x, .tokens = tokens, .y = y};
        lb_parallel_for(linear->rows, TILE_ROWS, apply_tile, &p);
        if (atomic_load(&p.failed))
            return lb_fail(err, LB_ENOMEM, "linear layer: no memory for a tile of %d rows", TILE_ROWS);
    }
    add_bias(linear, tokens, y);
    return LB_OK;
}

void lb_linear_decode(const lb_kernels *kernels, const lb_linear *linear, const float *x, size_t tokens,
                      lb_qvec *vectors, bool vectors_are_set, float *y)
{
    if (linear->quantized) {
        if (!vectors_are_set)
            lb_qvec_set(kernels, vectors, x, tokens, linear->cols);
        lb_qmat_times(kernels, linear->quantized, vectors, y);
    } else {
        lb_dense_times_few(kernels, linear->type, linear->dense, linear->rows, linear->cols, x, tokens, y);
    }
    add_bias(linear, tokens, y);
}

void lb_linear_times_rows(const lb_kernels *kernels, const lb_linear *linear, const lb_qrows *x,
                          size_t tokens, float *y)
{
    lb_qmat_times_rows(kernels, linear->quantized, x, y);
    add_bias(linear, tokens, y);
}

void lb_linear_row(const lb_kernels *kernels, const lb_linear *linear, size_t row, float *out)
{
    if (linear->quantized)
        lb_qmat_dequantize(kernels, linear->quantized, row, 1, out);
    else
        lb_dense_to_f32(kernels, linear->type,
                        (const uint8_t *)linear->dense + row * linear->cols * lb_dense_size(linear->type),
                        linear->cols, out);
}

size_t lb_linear_bytes(const lb_linear *linear)
{
    return linear->quantized ? lb_qmat_bytes(linear->quantized)
                             : linear->rows * linear->cols * lb_dense_size(linear->type);
}

typedef struct round_job {
    lb_linear *linear;
    const lb_format *format;
    atomic_int failed;
} round_job;

static void search_rows(void *arg, size_t begin, size_t end)
{
    round_job *job = arg;
    const size_t cols = job->linear->cols;
    uint8_t *codes = lb_alloc(cols, 1);
    float *params = lb_alloc(lb_format_groups(job->format, cols), job->format->params * sizeof *params);
    if (!codes || !params)
        atomic_store(&job->failed, 1);
    for (size_t row = begin; codes && params && row < end; row++) {
        float *w = (float *)job->linear->dense + row * cols;
        lb_format_encode_row(job->format, w, NULL, cols, LB_FIT_SEARCH, codes, params);
        lb_format_decode_row(job->format, codes, params, cols, w);
    }
    lb_free(codes);
    lb_free(params);
}

lb_status lb_linear_round(const lb_kernels *kernels, lb_linear *linear, const lb_format *format, lb_fit fit,
                          lb_error *err)
{
    lb_format bound = *format;
    if (lb_format_keeps(format))
        return LB_OK;
    if (linear->quantized || linear->type != LB_DENSE_F32)
        return lb_fail(err, LB_EINVAL, "only float32 weights can be rounded to %s", format->name);
    LB_TRY(lb_format_check_cols(format, linear->cols, "a layer", err));
    lb_format_bind(&bound, linear->dense, linear->rows * linear->cols);
    if (fit == LB_FIT_RANGE || lb_format_is_float(format))
        return lb_cast_rows(kernels, &bound, false, linear->dense, linear->rows, linear->cols, err);
    round_job job = {.linear = linear, .format = &bound};
    lb_parallel_for(linear->rows, READ_ROWS, search_rows, &job);
    return atomic_load(&job.failed) ? lb_fail(err, LB_ENOMEM, "%s: no memory for a row", format->name)
                                    : LB_OK;
}
