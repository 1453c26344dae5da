/* SPDX-License-Identifier: MIT
 *
 * The loops of planes_dequantize and sum_tables, for the instruction set of the including file, which has defined:
 *
 *   expand_8(bits, stride, planes, coefficients, out)  eight columns of a row: `bits` is the first plane's byte for
 *                                                      them, `stride` bytes before the next plane's
 *   activation_scale(x, n, most)                       kernels/activation.h, n a multiple of 16
 *   encode_unit(x, scale, codes)                       sixteen entries to codes; gives their sum
 *   set_quad(codes, table)                             the sums of the subsets of four codes
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/half.h"
#include "kernels/plane_panel.h"

/* n columns of a run, whose first plane's lines begin at `bits`. */
LB_INLINE void expand_run(const uint8_t *bits, size_t stride, unsigned planes, const float *coefficients,
                          size_t n, float *out)
{
    size_t c = 0;
    for (; n - c >= 8; c += 8, bits += LB_PLANE_LINE)
        expand_8(bits, stride, planes, coefficients, out + c);
    if (c < n) {
        float last[8];
        expand_8(bits, stride, planes, coefficients, last);
        memcpy(out + c, last, (n - c) * sizeof *out);
    }
}

static void expand_row(const lb_plane_panel *panel, size_t row, size_t cols, float *out)
{
    enum { MOST = 5 };
    const unsigned count = panel->planes + 1;
    const uint8_t *bits = panel->codes + lb_plane_byte((unsigned)row);
    float coefficients[MOST];
    for (size_t unit = 0; unit < panel->units; unit += panel->run_units) {
        const size_t left = panel->units - unit, units = left < panel->run_units ? left : panel->run_units;
        const size_t first = unit * LB_PLANE_UNIT, stride = units * LB_PLANE_UNIT_BYTES;
        const uint16_t *from = panel->coefficients + unit / panel->group_units * count * LB_PLANE_ROWS + row;
        for (unsigned i = 0; i < count; i++)
            coefficients[i] = lb_f16_to_float(from[i * LB_PLANE_ROWS]);
        const size_t n = cols - first < units * LB_PLANE_UNIT ? cols - first : units * LB_PLANE_UNIT;
        expand_run(bits, stride, panel->planes, coefficients, n, out + first);
        bits += panel->planes * stride;
    }
}

static void planes_dequantize(const lb_plane_panel *panel, size_t first, size_t count, size_t cols,
                              float *out)
{
    for (size_t row = first; row < first + count; row++, out += cols)
        expand_row(panel, row, cols, out);
}

static void sum_tables(const float *x, size_t units, uint8_t *tables, float *scales, int32_t *code_sums)
{
    for (size_t u = 0; u < units; u++, x += LB_PLANE_UNIT) {
        int16_t codes[LB_PLANE_UNIT] = {0};
        if (u % LB_SUM_RUN_UNITS == 0) {
            const size_t run = units - u < LB_SUM_RUN_UNITS ? units - u : LB_SUM_RUN_UNITS;
            scales[u / LB_SUM_RUN_UNITS] = activation_scale(x, run * LB_PLANE_UNIT, (float)LB_SUM_MOST);
        }
        const float scale = scales[u / LB_SUM_RUN_UNITS];
        code_sums[u] = scale > 0.0f ? encode_unit(x, scale, codes) : 0;
        for (unsigned q = 0; q < 4; q++, tables += LB_SUM_QUAD_BYTES)
            set_quad(codes + 4 * q, tables);
    }
}
