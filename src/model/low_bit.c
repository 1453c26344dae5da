/* SPDX-License-Identifier: MIT */
#include "model/low_bit.h"

#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"
#include "model/inputs.h"

/* Columns are rounded in tiles of a block's rows and so many columns, which are turned, rounded and turned back. */
enum { STRIP = 64, MOST_OF_A_BLOCK = 32, ROWS_PER_CHUNK = 32 };

static lb_status check_length(const lb_format *format, const char *what, size_t n, lb_error *err)
{
    if (n % format->group == 0)
        return LB_OK;
    return lb_fail(err, LB_EINVAL, "training in %s: %s %zu is not a multiple of its blocks of %zu",
                   format->name, what, n, format->group);
}

lb_status lb_low_bit_check(const lb_format *format, const lb_config *c, size_t length, lb_error *err)
{
    if (!format->element || lb_format_has_tensor_scale(format) || format->group > MOST_OF_A_BLOCK)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "training in %s is not supported; it is in MX formats, such as mxint8 and mxfp8",
                       format->name);
    LB_TRY(check_length(format, "the hidden size", c->hidden, err));
    LB_TRY(check_length(format, "the feed-forward size", c->ffn, err));
    LB_TRY(check_length(format, "the queries' size", c->heads * c->head_dim, err));
    LB_TRY(check_length(format, "the keys' size", c->kv_heads * c->head_dim, err));
    return check_length(format, "a sequence's length", length, err);
}

lb_status lb_low_bit_create(const lb_format *format, const lb_config *c, size_t max_tokens, size_t length,
                            lb_low_bit *out, lb_error *err)
{
    lb_low_bit l = {.format = *format};
    size_t widest = 0, largest = 0;
    lb_status st = LB_OK;
    LB_TRY(lb_low_bit_check(format, c, length, err));
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        widest = rows > widest ? rows : widest;
        largest = rows * cols > largest ? rows * cols : largest;
    }
    LB_GO(lb_alloc_array(&l.x, max_tokens, lb_widest_input(c) * sizeof(float), "low-bit training", err));
    LB_GO(lb_alloc_array(&l.d, max_tokens, widest * sizeof(float), "low-bit training", err));
    LB_GO(lb_alloc_array(&l.w, largest, sizeof(float), "low-bit training", err));
    *out = l;
    l = (lb_low_bit){0};
done:
    lb_low_bit_free(&l);
    return st;
}

void lb_low_bit_free(lb_low_bit *l)
{
    lb_free(l->x);
    lb_free(l->d);
    lb_free(l->w);
    *l = (lb_low_bit){0};
}

typedef struct round_job {
    const lb_kernels *kernels;
    const lb_format *format;
    const float *x;
    float *out;
    size_t cols, strips;
} round_job;

static void round_rows(void *arg, size_t begin, size_t end)
{
    const round_job *j = arg;
    for (size_t row = begin; row < end; row++) {
        memcpy(j->out + row * j->cols, j->x + row * j->cols, j->cols * sizeof *j->out);
        j->kernels->block_cast(j->format, j->out + row * j->cols, j->cols);
    }
}

static void round_tiles(void *arg, size_t begin, size_t end)
{
    const round_job *j = arg;
    const size_t block = j->format->group;
    float turned[STRIP * MOST_OF_A_BLOCK];
    for (size_t tile = begin; tile < end; tile++) {
        const size_t col = tile % j->strips * STRIP, n = j->cols - col < STRIP ? j->cols - col : STRIP;
        const size_t at = tile / j->strips * block * j->cols + col;
        for (size_t row = 0; row < block; row++)
            for (size_t i = 0; i < n; i++)
                turned[i * block + row] = j->x[at + row * j->cols + i];
        j->kernels->block_cast(j->format, turned, n * block);
        for (size_t row = 0; row < block; row++)
            for (size_t i = 0; i < n; i++)
                j->out[at + row * j->cols + i] = turned[i * block + row];
    }
}

void lb_low_bit_rows(const lb_kernels *kernels, const lb_low_bit *l, const float *x, size_t rows, size_t cols,
                     float *out)
{
    round_job j = {.kernels = kernels, .format = &l->format, .x = x, .out = out, .cols = cols};
    lb_parallel_for(rows, ROWS_PER_CHUNK, round_rows, &j);
}

void lb_low_bit_columns(const lb_kernels *kernels, const lb_low_bit *l, const float *x, size_t rows,
                        size_t cols, float *out)
{
    round_job j = {.kernels = kernels, .format = &l->format, .x = x, .out = out, .cols = cols};
    j.strips = (cols + STRIP - 1) / STRIP;
    lb_parallel_for(rows / l->format.group * j.strips, 8, round_tiles, &j);
}

static void add_bias(const lb_linear *layer, size_t tokens, float *y)
{
    for (size_t t = 0; layer->bias && t < tokens; t++)
        for (size_t i = 0; i < layer->rows; i++)
            y[t * layer->rows + i] += layer->bias[i];
}

void lb_low_bit_apply(const lb_kernels *kernels, const lb_low_bit *l, const lb_linear *layers, size_t count,
                      const float *x, size_t tokens, float *const *outs)
{
    const size_t cols = layers[0].cols;
    lb_low_bit_rows(kernels, l, x, tokens, cols, l->x);
    for (size_t i = 0; i < count; i++) {
        const size_t rows = layers[i].rows;
        lb_low_bit_rows(kernels, l, layers[i].dense, rows, cols, l->w);
        lb_gemm_nt(tokens, rows, cols, l->x, cols, l->w, cols, 0.0f, outs[i], rows);
        add_bias(&layers[i], tokens, outs[i]);
    }
}

void lb_low_bit_input_gradient(const lb_kernels *kernels, const lb_low_bit *l, const lb_linear *layers,
                               size_t count, const float *const *ds, size_t tokens, float *dx)
{
    const size_t cols = layers[0].cols;
    for (size_t i = 0; i < count; i++) {
        const size_t rows = layers[i].rows;
        lb_low_bit_rows(kernels, l, ds[i], tokens, rows, l->d);
        lb_low_bit_columns(kernels, l, layers[i].dense, rows, cols, l->w);
        (i == 0 ? lb_gemm_nn : lb_gemm_nn_add)(tokens, cols, rows, l->d, rows, l->w, cols, dx, cols);
    }
}

void lb_low_bit_weight_gradients(const lb_kernels *kernels, const lb_low_bit *l, const lb_linear *layers,
                                 size_t count, const float *const *ds, const float *x, size_t tokens,
                                 float *const *sums)
{
    const size_t cols = layers[0].cols;
    bool rounded = false;
    for (size_t i = 0; i < count; i++) {
        if (!sums[i])
            continue;
        if (!rounded)
            lb_low_bit_columns(kernels, l, x, tokens, cols, l->x);
        rounded = true;
        lb_low_bit_columns(kernels, l, ds[i], tokens, layers[i].rows, l->d);
        const lb_gemm_tn product = {
            .m = layers[i].rows, .n = cols, .k = tokens, .a = l->d, .b = l->x, .c = sums[i]};
        lb_gemm_tn_add(&product, 1);
    }
}
