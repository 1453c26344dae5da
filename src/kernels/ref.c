/* SPDX-License-Identifier: MIT
 * The portable kernels: what every faster one must agree with. Contracts: kernels.def. */
#include "kernels/ref.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/half.h"

/* Independent partial sums of the float reductions: enough for a compiler to vectorize. */
enum { LANES = 16 };

/* Bits of quad q, at the bottom of each byte, from a plane of `width` bits whose lines begin at `plane`. */
static unsigned plane_bits(const uint8_t *plane, unsigned width, unsigned row, unsigned column)
{
    unsigned quad = column / 4, quads_per_line = 8 / width;
    const uint8_t *line = plane + (size_t)(quad / quads_per_line) * LB_LINE_BYTES;
    return (unsigned)(line[row * 4 + column % 4] >> (quad % quads_per_line * width)) & ((1u << width) - 1u);
}

static unsigned code_at(const uint8_t *block, unsigned bits, unsigned row, unsigned column)
{
    unsigned code = 0, place = 0;
    for (unsigned width = 8; width != 0; width /= 2) {
        if (!(bits & width))
            continue;
        code |= plane_bits(block, width, row, column) << place;
        block += (size_t)width * LB_LINE_BYTES;
        place += width;
    }
    return code;
}

static size_t group_end(const lb_qmat_panel *panel, size_t first)
{
    size_t left = panel->col_blocks - first;
    return first + (left < panel->group_blocks ? left : panel->group_blocks);
}

static float zero_of(const lb_qmat_panel *panel, size_t group, size_t row)
{
    return panel->zeros ? (float)panel->zeros[group * LB_PANEL_ROWS + row] : panel->zero;
}

static void qmat_times(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    const size_t block_bytes = (size_t)panel->bits * LB_LINE_BYTES;
    for (unsigned row = 0; row < LB_PANEL_ROWS; row++) {
        float total = 0.0f;
        size_t group = 0;
        for (size_t first = 0; first < panel->col_blocks; first = group_end(panel, first), group++) {
            float sum = 0.0f, x_sum = 0.0f;
            for (size_t b = first; b < group_end(panel, first); b++) {
                int32_t integer_sum = 0;
                for (unsigned c = 0; c < LB_PANEL_COLS; c++)
                    integer_sum += (int32_t)code_at(panel->codes + b * block_bytes, panel->bits, row, c) *
                                   x->codes[b * LB_PANEL_COLS + c];
                sum += (float)integer_sum * x->scales[b];
                x_sum += x->sums[b];
            }
            float scale = lb_f16_to_float(panel->scales[group * LB_PANEL_ROWS + row]);
            total += scale * (sum - zero_of(panel, group, row) * x_sum);
        }
        y[row] = total;
    }
}

static void qmat_dequantize(const lb_qmat_panel *panel, size_t first, size_t count, size_t cols, float *out)
{
    const size_t block_bytes = (size_t)panel->bits * LB_LINE_BYTES;
    for (size_t row = first; row < first + count; row++, out += cols) {
        for (size_t c = 0; c < cols; c++) {
            size_t block = c / LB_PANEL_COLS, group = block / panel->group_blocks;
            unsigned code = code_at(panel->codes + block * block_bytes, panel->bits, (unsigned)row,
                                    (unsigned)(c % LB_PANEL_COLS));
            float scale = lb_f16_to_float(panel->scales[group * LB_PANEL_ROWS + row]);
            out[c] = scale * ((float)code - zero_of(panel, group, row));
        }
    }
}

static void qvec_encode(const float *x, size_t blocks, int8_t *codes, float *scales, int32_t *code_sums)
{
    for (size_t b = 0; b < blocks; b++, x += LB_PANEL_COLS, codes += LB_PANEL_COLS) {
        float largest = 0.0f;
        for (unsigned i = 0; i < LB_PANEL_COLS; i++) {
            float magnitude = fabsf(x[i]);
            if (magnitude > largest) /* false for NaN */
                largest = magnitude;
        }
        float scale = (largest < FLT_MAX ? largest : FLT_MAX) / 127.0f;
        scales[b] = 0.0f;
        code_sums[b] = 0;
        memset(codes, 0, LB_PANEL_COLS);
        if (!(scale >= FLT_MIN))
            continue;
        float inverse = 1.0f / scale;
        scales[b] = scale;
        for (unsigned i = 0; i < LB_PANEL_COLS; i++) {
            float scaled = x[i] * inverse;
            if (!(scaled == scaled))
                scaled = 0.0f;
            if (scaled > 127.0f)
                scaled = 127.0f;
            if (scaled < -127.0f)
                scaled = -127.0f;
            codes[i] = (int8_t)lrintf(scaled);
            code_sums[b] += codes[i];
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

static float dot_f32(const float *w, const float *x, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        for (unsigned lane = 0; lane < LANES; lane++)
            lanes[lane] += w[i + lane] * x[i + lane];
    for (unsigned lane = 0; i < n; i++, lane++)
        lanes[lane] += w[i] * x[i];
    return join_lanes(lanes);
}

static float dot_f16(const uint16_t *w, const float *x, size_t n)
{
    float lanes[LANES] = {0};
    for (size_t i = 0; i < n; i++)
        lanes[i % LANES] += lb_f16_to_float(w[i]) * x[i];
    return join_lanes(lanes);
}

static float dot_bf16(const uint16_t *w, const float *x, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; n - i >= LANES; i += LANES)
        for (unsigned lane = 0; lane < LANES; lane++)
            lanes[lane] += lb_bf16_to_float(w[i + lane]) * x[i + lane];
    for (unsigned lane = 0; i < n; i++, lane++)
        lanes[lane] += lb_bf16_to_float(w[i]) * x[i];
    return join_lanes(lanes);
}

static void f16_to_f32(const uint16_t *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = lb_f16_to_float(in[i]);
}

static void bf16_to_f32(const uint16_t *in, float *out, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = lb_bf16_to_float(in[i]);
}

static uint64_t read_sum(const void *data, size_t bytes)
{
    const uint8_t *from = data;
    uint64_t sums[8] = {0}, total = 0;
    for (size_t line = 0; line < bytes / LB_LINE_BYTES; line++, from += LB_LINE_BYTES) {
        uint64_t words[8];
        memcpy(words, from, sizeof words);
        for (unsigned i = 0; i < 8; i++)
            sums[i] += words[i];
    }
    for (unsigned i = 0; i < 8; i++)
        total += sums[i];
    return total;
}

void lb_fill_ref(lb_kernels *table)
{
    *table = (lb_kernels){
        .level = LB_CPU_REF,
        .qmat_times = qmat_times,
        .qmat_dequantize = qmat_dequantize,
        .qvec_encode = qvec_encode,
        .dot_f32 = dot_f32,
        .dot_f16 = dot_f16,
        .dot_bf16 = dot_bf16,
        .f16_to_f32 = f16_to_f32,
        .bf16_to_f32 = bf16_to_f32,
        .read_sum = read_sum,
    };
}
