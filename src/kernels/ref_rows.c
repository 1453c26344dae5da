/* SPDX-License-Identifier: MIT
 * The portable products of rows and vectors: a row is widened piece by piece, for all vectors. */
#include <string.h>

#include "base/half.h"
#include "formats/block_format.h"
#include "kernels/ref.h"

enum { LANES = 16, PIECE = 128 };

_Static_assert((int)LB_ROWS_BLOCK == (int)LB_MX_BLOCK && PIECE % LANES == 0 && PIECE % LB_ROWS_BLOCK == 0,
               "a piece is cut as rows are");

/* Elements [at, at + n) of a row as floats; `at` is a multiple of PIECE. */
static void widen(lb_row_type type, const lb_rows *rows, size_t row, size_t at, size_t n, float *out)
{
    const size_t from = row * rows->stride + at;
    const int8_t *codes = (const int8_t *)rows->values + from;
    switch (type) {
    case LB_ROWS_F32:
        memcpy(out, (const float *)rows->values + from, n * sizeof *out);
        break;
    case LB_ROWS_F16:
        for (size_t i = 0; i < n; i++)
            out[i] = lb_f16_to_float(((const uint16_t *)rows->values)[from + i]);
        break;
    case LB_ROWS_BF16:
        for (size_t i = 0; i < n; i++)
            out[i] = lb_bf16_to_float(((const uint16_t *)rows->values)[from + i]);
        break;
    case LB_ROWS_INT8:
        for (size_t i = 0; i < n; i++)
            out[i] = (float)codes[i] * ((const float *)rows->scales)[row * rows->scale_stride];
        break;
    default: {
        const uint8_t *scales = (const uint8_t *)rows->scales + row * rows->scale_stride + at / LB_ROWS_BLOCK;
        for (size_t i = 0; i < n; i++)
            out[i] = (float)codes[i] * lb_power_of_two((int)scales[i / LB_ROWS_BLOCK] - 127);
    }
    }
}

static float join_lanes(float *lanes)
{
    for (unsigned half = LANES / 2; half != 0; half /= 2)
        for (unsigned i = 0; i < half; i++)
            lanes[i] += lanes[i + half];
    return lanes[0];
}

static void add_products(const float *w, const float *x, size_t n, float *lanes)
{
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        for (unsigned lane = 0; lane < LANES; lane++)
            lanes[lane] += w[i + lane] * x[i + lane];
    for (unsigned lane = 0; i < n; i++, lane++)
        lanes[lane] += w[i] * x[i];
}

static size_t piece_at(const lb_rows *rows, size_t at)
{
    return rows->n - at < PIECE ? rows->n - at : PIECE;
}

static void rows_dot(lb_row_type type, const lb_rows_job *j)
{
    enum { TOGETHER = 8 };
    float wide[PIECE], lanes[TOGETHER][LANES];
    for (size_t r = 0; r < j->count; r++) {
        for (size_t v = 0; v < j->vectors; v += TOGETHER) {
            const size_t most = j->vectors - v < TOGETHER ? j->vectors - v : TOGETHER;
            memset(lanes, 0, sizeof lanes);
            for (size_t at = 0; at < j->rows.n; at += PIECE) {
                const size_t n = piece_at(&j->rows, at);
                widen(type, &j->rows, r, at, n, wide);
                for (size_t k = 0; k < most; k++)
                    add_products(wide, j->x + (v + k) * j->x_stride + at, n, lanes[k]);
            }
            for (size_t k = 0; k < most; k++)
                j->y[(v + k) * j->y_stride + r] = join_lanes(lanes[k]);
        }
    }
}

static void rows_mix(lb_row_type type, const lb_rows_job *j)
{
    float wide[PIECE];
    for (size_t at = 0; at < j->rows.n; at += PIECE) {
        const size_t n = piece_at(&j->rows, at);
        for (size_t r = 0; r < j->count; r++) {
            widen(type, &j->rows, r, at, n, wide);
            for (size_t v = 0; v < j->vectors; v++) {
                const float factor = j->x[v * j->x_stride + r];
                float *y = j->y + v * j->y_stride + at;
                for (size_t i = 0; i < n; i++)
                    y[i] += factor * wide[i];
            }
        }
    }
}

static void f32_to_f16(const float *in, uint16_t *out, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const float x = in[i] > 65504.0f ? 65504.0f : in[i] < -65504.0f ? -65504.0f : in[i];
        out[i] = lb_f16_from_float(x);
    }
}

void lb_fill_rows_ref(lb_kernels *table)
{
    table->rows_dot = rows_dot;
    table->rows_mix = rows_mix;
    table->f32_to_f16 = f32_to_f16;
}
