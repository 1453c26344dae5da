/* SPDX-License-Identifier: MIT
 * The portable kernels of bit planes: what every faster one must agree with. Contracts: kernels.def. */
#include <string.h>

#include "base/half.h"
#include "kernels/activation.h"
#include "kernels/ref.h"

static float coefficient(const lb_plane_panel *panel, size_t group, unsigned which, size_t row)
{
    return lb_f16_to_float(panel->coefficients[(group * (panel->planes + 1) + which) * LB_PLANE_ROWS + row]);
}

/* The byte of a row with eight columns of a plane. */
static unsigned eight_bits(const lb_plane_panel *panel, size_t unit, unsigned plane, unsigned line,
                           unsigned row)
{
    size_t stride;
    const size_t at = lb_plane_unit_at(panel, unit, &stride);
    return panel->codes[at + plane * stride + line * LB_PLANE_LINE + lb_plane_byte(row)];
}

static int32_t looked_up(const uint8_t *quad_table, unsigned subset)
{
    return quad_table[subset] + (quad_table[16 + subset] << LB_SUM_HALF_BITS) - LB_SUM_OFFSET;
}

/* Of a plane over units [begin, end). */
static int32_t plane_sum(const lb_plane_panel *panel, const lb_sums_view *x, size_t begin, size_t end,
                         unsigned plane, unsigned row)
{
    int32_t sum = 0;
    for (size_t u = begin; u < end; u++) {
        for (unsigned line = 0; line < 2; line++) {
            const uint8_t *table = x->tables + u * LB_SUM_UNIT_BYTES + line * 2 * (size_t)LB_SUM_QUAD_BYTES;
            const unsigned bits = eight_bits(panel, u, plane, line, row);
            sum += looked_up(table, bits & 15) + looked_up(table + LB_SUM_QUAD_BYTES, bits >> 4);
        }
    }
    return sum;
}

static void planes_times(const lb_plane_panel *panel, const lb_sums_view *x, float *y)
{
    const size_t run = panel->run_units;
    memset(y, 0, LB_PLANE_ROWS * sizeof *y);
    for (size_t begin = 0; begin < panel->units; begin += run) {
        const size_t end = panel->units - begin < run ? panel->units : begin + run;
        const size_t group = begin / panel->group_units;
        const float scale = x->scales[begin / LB_SUM_RUN_UNITS];
        const float all = scale * (float)lb_code_sum(x, begin, end - begin);
        for (unsigned row = 0; row < LB_PLANE_ROWS; row++) {
            y[row] += coefficient(panel, group, 0, row) * all;
            for (unsigned p = 0; p < panel->planes; p++)
                y[row] += coefficient(panel, group, p + 1, row) *
                          (scale * (float)plane_sum(panel, x, begin, end, p, row));
        }
    }
}

static void planes_dequantize(const lb_plane_panel *panel, size_t first, size_t count, size_t cols,
                              float *out)
{
    for (size_t row = first; row < first + count; row++, out += cols) {
        for (size_t c = 0; c < cols; c++) {
            const size_t unit = c / LB_PLANE_UNIT, group = unit / panel->group_units;
            out[c] = coefficient(panel, group, 0, row);
            for (unsigned p = 0; p < panel->planes; p++)
                if (eight_bits(panel, unit, p, c / 8 % 2, (unsigned)row) >> c % 8 & 1)
                    out[c] += coefficient(panel, group, p + 1, row);
        }
    }
}

static void set_quad(const int32_t *codes, uint8_t *table)
{
    for (unsigned subset = 0; subset < 16; subset++) {
        int32_t sum = LB_SUM_OFFSET;
        for (unsigned i = 0; i < 4; i++)
            sum += subset >> i & 1 ? codes[i] : 0;
        table[subset] = (uint8_t)(sum & ((1 << LB_SUM_HALF_BITS) - 1));
        table[16 + subset] = (uint8_t)(sum >> LB_SUM_HALF_BITS);
    }
}

static void sum_tables(const float *x, size_t units, uint8_t *tables, float *scales, int32_t *code_sums)
{
    for (size_t at = 0; at < units * LB_PLANE_UNIT; at += LB_SUM_RUN, scales++) {
        const size_t left = units * LB_PLANE_UNIT - at, n = left < LB_SUM_RUN ? left : LB_SUM_RUN;
        *scales = lb_activation_scale(x + at, n, (float)LB_SUM_MOST);
        memset(code_sums + at / LB_PLANE_UNIT, 0, n / LB_PLANE_UNIT * sizeof *code_sums);
        for (size_t i = at; i < at + n; i += 4, tables += LB_SUM_QUAD_BYTES) {
            int32_t codes[4] = {0};
            for (unsigned k = 0; k < 4 && *scales > 0.0f; k++) {
                codes[k] = lb_activation_code(x[i + k], 1.0f / *scales, (float)LB_SUM_MOST);
                code_sums[i / LB_PLANE_UNIT] += codes[k];
            }
            set_quad(codes, tables);
        }
    }
}

void lb_fill_planes_ref(lb_kernels *table)
{
    table->planes_times = planes_times;
    table->planes_dequantize = planes_dequantize;
    table->sum_tables = sum_tables;
}
