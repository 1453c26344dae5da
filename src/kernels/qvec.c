/* SPDX-License-Identifier: MIT
 * Vectors with 8-bit codes: the activations' side of a product. */
#include "kernels/qvec.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "formats/bits.h"
#include "kernels/block_codec.h"

static size_t block_count(size_t cols)
{
    return cols / LB_PANEL_COLS + (cols % LB_PANEL_COLS != 0);
}

lb_status lb_qvec_create(size_t max_cols, lb_qvec **out, lb_error *err)
{
    lb_status st = LB_OK;
    size_t blocks = block_count(max_cols);
    lb_qvec *vector = lb_alloc_zero(1, sizeof *vector);
    if (!vector)
        return lb_fail(err, LB_ENOMEM, "8-bit vector: no memory for %zu bytes", sizeof *vector);
    vector->max_cols = max_cols;
    LB_GO(lb_alloc_array(&vector->codes, blocks, LB_PANEL_COLS, "8-bit vector's codes", err));
    LB_GO(lb_alloc_array(&vector->scales, blocks, 2 * sizeof *vector->scales, "8-bit vector's scales", err));
    LB_GO(lb_alloc_array(&vector->sums, blocks, sizeof *vector->sums, "8-bit vector's sums", err));
    LB_GO(lb_alloc_array(&vector->code_sums, blocks, 2 * sizeof *vector->code_sums,
                         "8-bit vector's code sums", err));
    LB_GO(lb_alloc_array(&vector->tables, 2 * blocks, LB_SUM_UNIT_BYTES, "tables of sums", err));
    LB_GO(lb_alloc_array(&vector->table_scales, blocks, sizeof *vector->table_scales, "tables of sums", err));
    LB_GO(lb_alloc_array(&vector->table_sums, 2 * blocks, sizeof *vector->table_sums, "tables of sums", err));
    *out = vector;
    vector = NULL;
done:
    lb_qvec_destroy(vector);
    return st;
}

void lb_qvec_destroy(lb_qvec *vector)
{
    if (!vector)
        return;
    lb_free(vector->codes);
    lb_free(vector->scales);
    lb_free(vector->sums);
    lb_free(vector->code_sums);
    lb_free(vector->tables);
    lb_free(vector->table_scales);
    lb_free(vector->table_sums);
    lb_free(vector);
}

void lb_qvec_set(const lb_kernels *kernels, lb_qvec *vector, const float *x, size_t cols)
{
    assert(cols <= vector->max_cols);
    size_t whole = cols / LB_PANEL_COLS, rest = cols % LB_PANEL_COLS;
    kernels->qvec_encode(x, whole, vector->codes, vector->scales, vector->code_sums);
    if (rest) {
        float last[LB_PANEL_COLS] = {0};
        memcpy(last, x + whole * LB_PANEL_COLS, rest * sizeof *last);
        kernels->qvec_encode(last, 1, vector->codes + whole * LB_PANEL_COLS, vector->scales + 2 * whole,
                             vector->code_sums + 2 * whole);
    }
    for (size_t b = 0; b < block_count(cols); b++)
        vector->sums[b] =
            vector->scales[2 * b] * (float)(vector->code_sums[2 * b] + vector->code_sums[2 * b + 1]);
    vector->cols = cols;
    vector->x = x;
    vector->halves = vector->has_tables = false;
}

lb_qvec_view lb_qvec_codes(const lb_qvec *vector)
{
    return (lb_qvec_view){.codes = vector->codes,
                          .scales = vector->scales,
                          .code_sums = vector->code_sums,
                          .sums = vector->sums,
                          .halves = vector->halves};
}

void lb_qvec_make_sums(const lb_kernels *kernels, lb_qvec *vector)
{
    assert(vector->x);
    if (vector->has_tables)
        return;
    /* The last, unfinished 256 entries by way of a copy padded with zeros. */
    const size_t whole = vector->cols / LB_SUM_RUN * LB_SUM_RUN, rest = vector->cols - whole;
    const size_t units = whole / LB_PLANE_UNIT;
    kernels->sum_tables(vector->x, units, vector->tables, vector->table_scales, vector->table_sums);
    if (rest) {
        float last[LB_SUM_RUN] = {0};
        memcpy(last, vector->x + whole, rest * sizeof *last);
        kernels->sum_tables(last, (rest + LB_PLANE_UNIT - 1) / LB_PLANE_UNIT,
                            vector->tables + units * LB_SUM_UNIT_BYTES,
                            vector->table_scales + whole / LB_SUM_RUN, vector->table_sums + units);
    }
    vector->has_tables = true;
}

lb_sums_view lb_qvec_sums(const lb_qvec *vector)
{
    assert(vector->has_tables);
    return (lb_sums_view){
        .tables = vector->tables, .scales = vector->table_scales, .code_sums = vector->table_sums};
}

/* Codes of `bits` bits, two's complement, as what they stand for, and their sum. */
static int32_t sign_extend(int8_t *codes, unsigned bits)
{
    const unsigned spare = 8 - bits;
    int32_t sum = 0;
    for (size_t i = 0; i < LB_PANEL_HALF; i++) {
        codes[i] = (int8_t)((int8_t)(uint8_t)((unsigned)(uint8_t)codes[i] << spare) >> spare);
        sum += codes[i];
    }
    return sum;
}

/* Codes and scales of x [cols] as `format` (bound) encodes them; zeros after the last. */
static void encode(const lb_kernels *kernels, const lb_format *format, lb_qvec *vector, const float *x,
                   size_t cols)
{
    enum { TILE = 16 * LB_PANEL_COLS };
    uint8_t packed[TILE], stored[TILE / LB_PANEL_HALF * LB_BLOCK_SCALE_BYTES];
    const size_t halves = 2 * block_count(cols), per_scale = format->group / LB_PANEL_HALF;
    const size_t scale_bytes = lb_block_scale_bytes(format);
    for (size_t at = 0; at < cols; at += TILE) {
        const size_t n = cols - at < TILE ? cols - at : TILE;
        float *scales = vector->scales + at / LB_PANEL_HALF;
        kernels->block_encode(format, x + at, n, packed, stored);
        lb_bits_unpack(packed, n, format->bits, (uint8_t *)vector->codes + at);
        for (size_t h = 0; h * LB_PANEL_HALF < n; h++)
            scales[h] = lb_block_load_scale(format, stored + h / per_scale * scale_bytes);
    }
    memset(vector->codes + cols, 0, halves * LB_PANEL_HALF - cols);
    if (cols <=
        (halves - 1) * LB_PANEL_HALF) /* the last half has no entries: an empty block's scale, or nothing */
        vector->scales[halves - 1] = per_scale == 2 ? vector->scales[halves - 2] : 0.0f;
    for (size_t h = 0; h < halves; h++)
        vector->code_sums[h] = sign_extend(vector->codes + h * LB_PANEL_HALF, format->bits);
}

bool lb_qvec_set_format(const lb_kernels *kernels, lb_qvec *vector, const lb_format *act, const float *x,
                        size_t cols)
{
    assert(cols <= vector->max_cols);
    const lb_element *e = act->element;
    /* -128 times -128, twice, is more than a kernel's 16 bits hold. */
    if (!e || !e->twos_complement || (e->bits == 8 && !act->symmetric))
        return false;
    lb_format format = *act;
    lb_format_bind(&format, x, cols);
    encode(kernels, &format, vector, x, cols);
    vector->cols = cols;
    vector->x = NULL;
    vector->halves = format.group == LB_PANEL_HALF;
    for (size_t b = 0; b < block_count(cols); b++) {
        const float *scales = vector->scales + 2 * b;
        const int32_t *sums = vector->code_sums + 2 * b;
        vector->sums[b] = vector->halves ? scales[0] * (float)sums[0] + scales[1] * (float)sums[1]
                                         : scales[0] * (float)(sums[0] + sums[1]);
    }
    return true;
}
