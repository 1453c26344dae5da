/* SPDX-License-Identifier: MIT
 * The portable kernels: what every faster one must agree with. Contracts: kernels.def. */
#include "kernels/ref.h"

#include <string.h>

#include "base/half.h"
#include "kernels/activation.h"

/* Independent partial sums of the float reductions: enough for a compiler to vectorize. */
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

static float scale_of(const lb_qmat_panel *panel, size_t group, size_t row)
{
    const size_t at = group * LB_PANEL_ROWS + row;
    const uint8_t byte = ((const uint8_t *)panel->scales)[at];
    switch (panel->scale_type) {
    case LB_PANEL_F32:
        return ((const float *)panel->scales)[at] * panel->factor;
    case LB_PANEL_E8M0:
        return lb_float_from_bits(byte ? (uint32_t)byte << 23 : UINT32_C(1) << 22) * panel->factor;
    case LB_PANEL_E4M3:
        return lb_f16_to_float((uint16_t)(byte << 7)) * panel->factor;
    default:
        return lb_f16_to_float(((const uint16_t *)panel->scales)[at]);
    }
}

/* What a code stands for, before its zero is taken off. */
static int32_t integer_at(const lb_qmat_panel *panel, size_t block, unsigned row, unsigned column)
{
    static const uint8_t e2m1[] = {LB_PANEL_E2M1};
    const unsigned code =
        code_at(panel->codes + block * panel->bits * LB_LINE_BYTES, panel->bits, row, column);
    return panel->e2m1 ? e2m1[code] : (int32_t)code;
}

static int32_t half_sum(const lb_qmat_panel *panel, const lb_qvec_view *x, size_t half, unsigned row)
{
    const unsigned first = half % 2 * LB_PANEL_HALF;
    int32_t sum = 0;
    for (unsigned c = 0; c < LB_PANEL_HALF; c++)
        sum += integer_at(panel, half / 2, row, first + c) * x->codes[half * LB_PANEL_HALF + c];
    return sum;
}

/* The sum of (code - zero) * x over blocks [begin, end). */
static int32_t centred_sum(const lb_qmat_panel *panel, const lb_qrows_view *x, size_t token, size_t begin,
                           size_t end, int32_t zero, unsigned row)
{
    int32_t sum = 0;
    for (size_t b = begin; b < end; b++) {
        const int8_t *codes = x->codes + (token * x->blocks + b) * LB_PANEL_COLS;
        for (unsigned c = 0; c < LB_PANEL_COLS; c++)
            sum += (integer_at(panel, b, row, c) - zero) * codes[c];
    }
    return sum;
}

static void qmat_times_rows(const lb_qmat_panel *panel, const lb_qrows_view *x, size_t count, float *y)
{
    for (size_t i = 0; i < count * LB_PANEL_ROWS; i++) {
        const unsigned row = (unsigned)(i % LB_PANEL_ROWS);
        y[i] = 0.0f;
        for (size_t at = x->first; at < x->end;) {
            const size_t group = at / panel->group_blocks, rest = (group + 1) * panel->group_blocks;
            const size_t end = rest < x->end ? rest : x->end;
            const int32_t zero = (int32_t)zero_of(panel, group, row);
            y[i] += scale_of(panel, group, row) *
                    (float)centred_sum(panel, x, i / LB_PANEL_ROWS, at, end, zero, row);
            at = end;
        }
        y[i] *= x->scales[i / LB_PANEL_ROWS];
    }
}

static float row_of_groups(const lb_qmat_panel *panel, const lb_qvec_view *x, unsigned row)
{
    float total = 0.0f;
    size_t group = 0;
    for (size_t first = 0; first < panel->col_blocks; first = group_end(panel, first), group++) {
        float sum = 0.0f, x_sum = 0.0f;
        for (size_t b = first; b < group_end(panel, first); b++) {
            const int32_t low = half_sum(panel, x, 2 * b, row), high = half_sum(panel, x, 2 * b + 1, row);
            if (x->halves) {
                sum += (float)low * x->scales[2 * b];
                sum += (float)high * x->scales[2 * b + 1];
            } else {
                sum += (float)(low + high) * x->scales[2 * b];
            }
            x_sum += x->sums[b];
        }
        total += scale_of(panel, group, row) * (sum - zero_of(panel, group, row) * x_sum);
    }
    return total;
}

static float row_of_blocks(const lb_qmat_panel *panel, const lb_qvec_view *x, unsigned row)
{
    float total = 0.0f;
    for (size_t h = 0; h < 2 * panel->col_blocks; h++) {
        const int32_t zero = (int32_t)panel->zero;
        int32_t sum = half_sum(panel, x, h, row) - zero * x->code_sums[h];
        if (!panel->halves && !x->halves) {
            h++;
            sum += half_sum(panel, x, h, row) - zero * x->code_sums[h];
        }
        total += scale_of(panel, panel->halves ? h : h / 2, row) * ((float)sum * x->scales[h]);
    }
    return total;
}

static void qmat_times(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    for (unsigned row = 0; row < LB_PANEL_ROWS; row++)
        y[row] = panel->blocked ? row_of_blocks(panel, x, row) : row_of_groups(panel, x, row);
}

static void qmat_times_few(const lb_qmat_panel *panel, const lb_qvec_view *x, size_t count, float *y,
                           size_t stride)
{
    for (size_t i = 0; i < count; i++)
        qmat_times(panel, &x[i], y + i * stride);
}

static void qmat_dequantize(const lb_qmat_panel *panel, size_t first, size_t count, size_t cols, float *out)
{
    for (size_t row = first; row < first + count; row++, out += cols) {
        for (size_t c = 0; c < cols; c++) {
            const size_t block = c / LB_PANEL_COLS;
            const size_t group = panel->halves ? c / LB_PANEL_HALF : block / panel->group_blocks;
            const int32_t integer = integer_at(panel, block, (unsigned)row, (unsigned)(c % LB_PANEL_COLS));
            out[c] = scale_of(panel, group, row) * ((float)integer - zero_of(panel, group, row));
        }
    }
}

static void qvec_encode(const float *x, size_t blocks, int8_t *codes, float *scales, int32_t *code_sums)
{
    for (size_t b = 0; b < blocks; b++, x += LB_PANEL_COLS, codes += LB_PANEL_COLS) {
        const float scale = lb_activation_scale(x, LB_PANEL_COLS, 127.0f);
        scales[2 * b] = scales[2 * b + 1] = scale;
        code_sums[2 * b] = code_sums[2 * b + 1] = 0;
        memset(codes, 0, LB_PANEL_COLS);
        if (scale == 0.0f)
            continue;
        for (unsigned i = 0; i < LB_PANEL_COLS; i++) {
            codes[i] = (int8_t)lb_activation_code(x[i], 1.0f / scale, 127.0f);
            code_sums[2 * b + i / LB_PANEL_HALF] += codes[i];
        }
    }
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
        .qmat_times_few = qmat_times_few,
        .qmat_times_rows = qmat_times_rows,
        .qmat_dequantize = qmat_dequantize,
        .qvec_encode = qvec_encode,
        .f16_to_f32 = f16_to_f32,
        .bf16_to_f32 = bf16_to_f32,
        .read_sum = read_sum,
    };
}
