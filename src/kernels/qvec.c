/* SPDX-License-Identifier: MIT
 * Vectors of codes: the activations' side of a product. */
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

lb_status lb_qvec_create(size_t max_count, size_t max_cols, lb_qvec **out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_qvec *v = lb_alloc_zero(1, sizeof *v);
    if (!v)
        return lb_fail(err, LB_ENOMEM, "8-bit vectors: no memory for %zu bytes", sizeof *v);
    *v = (lb_qvec){.max_count = max_count, .max_cols = max_cols, .blocks = block_count(max_cols)};
    const size_t blocks = max_count * v->blocks, units = 2 * blocks;
    LB_GO(lb_alloc_array(&v->codes, blocks, LB_PANEL_COLS, "8-bit vectors' codes", err));
    LB_GO(lb_alloc_array(&v->scales, 2 * blocks, sizeof *v->scales, "8-bit vectors' scales", err));
    LB_GO(lb_alloc_array(&v->sums, blocks, sizeof *v->sums, "8-bit vectors' sums", err));
    LB_GO(lb_alloc_array(&v->code_sums, 2 * blocks, sizeof *v->code_sums, "8-bit vectors' code sums", err));
    LB_GO(lb_alloc_array(&v->tables, units, LB_SUM_UNIT_BYTES, "tables of sums", err));
    LB_GO(lb_alloc_array(&v->table_scales, blocks, sizeof *v->table_scales, "tables of sums", err));
    LB_GO(lb_alloc_array(&v->table_sums, units, sizeof *v->table_sums, "tables of sums", err));
    *out = v;
    v = NULL;
done:
    lb_qvec_destroy(v);
    return st;
}

void lb_qvec_destroy(lb_qvec *v)
{
    if (!v)
        return;
    lb_free(v->codes);
    lb_free(v->scales);
    lb_free(v->sums);
    lb_free(v->code_sums);
    lb_free(v->tables);
    lb_free(v->table_scales);
    lb_free(v->table_sums);
    lb_free(v);
}

/* One of the vectors. */
typedef struct vector {
    int8_t *codes;
    float *scales, *sums, *table_scales;
    int32_t *code_sums, *table_sums;
    uint8_t *tables;
} vector;

static vector vector_at(const lb_qvec *v, size_t index)
{
    const size_t blocks = index * v->blocks, units = 2 * blocks;
    return (vector){.codes = v->codes + blocks * LB_PANEL_COLS,
                    .scales = v->scales + 2 * blocks,
                    .sums = v->sums + blocks,
                    .table_scales = v->table_scales + blocks,
                    .code_sums = v->code_sums + 2 * blocks,
                    .table_sums = v->table_sums + units,
                    .tables = v->tables + units * LB_SUM_UNIT_BYTES};
}

static void set_codes(const lb_kernels *kernels, const vector *to, const float *x, size_t cols)
{
    const size_t whole = cols / LB_PANEL_COLS, rest = cols % LB_PANEL_COLS;
    kernels->qvec_encode(x, whole, to->codes, to->scales, to->code_sums);
    if (rest) {
        float last[LB_PANEL_COLS] = {0};
        memcpy(last, x + whole * LB_PANEL_COLS, rest * sizeof *last);
        kernels->qvec_encode(last, 1, to->codes + whole * LB_PANEL_COLS, to->scales + 2 * whole,
                             to->code_sums + 2 * whole);
    }
    for (size_t b = 0; b < block_count(cols); b++)
        to->sums[b] = to->scales[2 * b] * (float)(to->code_sums[2 * b] + to->code_sums[2 * b + 1]);
}

void lb_qvec_set(const lb_kernels *kernels, lb_qvec *v, const float *x, size_t count, size_t cols)
{
    assert(count <= v->max_count && cols <= v->max_cols);
    for (size_t i = 0; i < count; i++) {
        const vector to = vector_at(v, i);
        set_codes(kernels, &to, x + i * cols, cols);
    }
    v->count = count;
    v->cols = cols;
    v->x = x;
    v->halves = v->has_tables = false;
}

lb_qvec_view lb_qvec_codes(const lb_qvec *v, size_t index)
{
    const vector at = vector_at(v, index);
    return (lb_qvec_view){.codes = at.codes,
                          .scales = at.scales,
                          .code_sums = at.code_sums,
                          .sums = at.sums,
                          .halves = v->halves};
}

/* The last, unfinished 256 entries by way of a copy padded with zeros. */
static void set_tables(const lb_kernels *kernels, const vector *to, const float *x, size_t cols)
{
    const size_t whole = cols / LB_SUM_RUN * LB_SUM_RUN, rest = cols - whole;
    const size_t units = whole / LB_PLANE_UNIT;
    kernels->sum_tables(x, units, to->tables, to->table_scales, to->table_sums);
    if (rest) {
        float last[LB_SUM_RUN] = {0};
        memcpy(last, x + whole, rest * sizeof *last);
        kernels->sum_tables(last, (rest + LB_PLANE_UNIT - 1) / LB_PLANE_UNIT,
                            to->tables + units * LB_SUM_UNIT_BYTES, to->table_scales + whole / LB_SUM_RUN,
                            to->table_sums + units);
    }
}

void lb_qvec_make_sums(const lb_kernels *kernels, lb_qvec *v)
{
    assert(v->x);
    for (size_t i = 0; !v->has_tables && i < v->count; i++) {
        const vector to = vector_at(v, i);
        set_tables(kernels, &to, v->x + i * v->cols, v->cols);
    }
    v->has_tables = true;
}

lb_sums_view lb_qvec_sums(const lb_qvec *v, size_t index)
{
    const vector at = vector_at(v, index);
    assert(v->has_tables);
    return (lb_sums_view){.tables = at.tables, .scales = at.table_scales, .code_sums = at.table_sums};
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
static void encode(const lb_kernels *kernels, const lb_format *format, const vector *to, const float *x,
                   size_t cols)
{
    enum { TILE = 16 * LB_PANEL_COLS };
    uint8_t packed[TILE], stored[TILE / LB_PANEL_HALF * LB_BLOCK_SCALE_BYTES];
    const size_t halves = 2 * block_count(cols), per_scale = format->group / LB_PANEL_HALF;
    const size_t scale_bytes = lb_block_scale_bytes(format);
    for (size_t at = 0; at < cols; at += TILE) {
        const size_t n = cols - at < TILE ? cols - at : TILE;
        float *scales = to->scales + at / LB_PANEL_HALF;
        kernels->block_encode(format, x + at, n, packed, stored);
        lb_bits_unpack(packed, n, format->bits, (uint8_t *)to->codes + at);
        for (size_t h = 0; h * LB_PANEL_HALF < n; h++)
            scales[h] = lb_block_load_scale(format, stored + h / per_scale * scale_bytes);
    }
    memset(to->codes + cols, 0, halves * LB_PANEL_HALF - cols);
    if (cols <=
        (halves - 1) * LB_PANEL_HALF) /* the last half has no entries: an empty block's scale, or nothing */
        to->scales[halves - 1] = per_scale == 2 ? to->scales[halves - 2] : 0.0f;
    for (size_t h = 0; h < halves; h++)
        to->code_sums[h] = sign_extend(to->codes + h * LB_PANEL_HALF, format->bits);
}

bool lb_qvec_set_format(const lb_kernels *kernels, lb_qvec *v, const lb_format *act, const float *x,
                        size_t count, size_t cols)
{
    assert(count <= v->max_count && cols <= v->max_cols);
    const lb_element *e = act->element;
    /* -128 times -128, twice, is more than a kernel's 16 bits hold. */
    if (!e || !e->twos_complement || (e->bits == 8 && !act->symmetric))
        return false;
    v->halves = act->group == LB_PANEL_HALF;
    for (size_t i = 0; i < count; i++) {
        const vector to = vector_at(v, i);
        lb_format format = *act;
        lb_format_bind(&format, x + i * cols, cols);
        encode(kernels, &format, &to, x + i * cols, cols);
        for (size_t b = 0; b < block_count(cols); b++) {
            const float *scales = to.scales + 2 * b;
            const int32_t *sums = to.code_sums + 2 * b;
            to.sums[b] = v->halves ? scales[0] * (float)sums[0] + scales[1] * (float)sums[1]
                                   : scales[0] * (float)(sums[0] + sums[1]);
        }
    }
    v->count = count;
    v->cols = cols;
    v->x = NULL;
    return true;
}
