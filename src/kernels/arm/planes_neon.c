/* SPDX-License-Identifier: MIT
 * Bit planes with NEON: products by look-up, 16 rows a register; expanding; and the tables of sums.
 *
 * Looked-up parts have six bits, so that those of four quads add up in a byte. A unit's two bytes are joined in 16
 * bits, where four units' sums fit, and those are widened. */
#include <float.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/arm/arm.h"
#include "kernels/arm/neon.h"

enum {
    PREFETCH_BYTES = 4096, /* how far ahead codes are asked for */
    STRIPE = 16, /* bytes of a line */
    STRIPES = LB_PLANE_LINE / STRIPE,
    SHORT_UNITS = 4, /* whose sums are at most 16 * (LB_SUM_OFFSET + 4 * LB_SUM_MOST) < 2^16 */
    UNIT_OFFSET = 4 * LB_SUM_OFFSET
};

/* Parts [STRIPES] += what the tables of a quad say of its subsets, the lower or upper halves of a line's bytes. */
LB_INLINE void look_up(uint8x16_t *low, uint8x16_t *high, const uint8_t *table, const uint8_t *line,
                       const int upper)
{
    const uint8x16_t low_table = vld1q_u8(table), high_table = vld1q_u8(table + LB_SUM_QUAD_BYTES / 2);
    for (unsigned s = 0; s < STRIPES; s++) {
        const uint8x16_t bytes = vld1q_u8(line + s * STRIPE);
        const uint8x16_t subsets = upper ? vshrq_n_u8(bytes, 4) : vandq_u8(bytes, vdupq_n_u8(15));
        low[s] = vaddq_u8(low[s], vqtbl1q_u8(low_table, subsets));
        high[s] = vaddq_u8(high[s], vqtbl1q_u8(high_table, subsets));
    }
}

/* wide += the sums of a plane over at most SHORT_UNITS units, with their offsets. */
LB_INLINE void add_units(const uint8_t *codes, const uint8_t *tables, size_t units,
                         uint32x4_t wide[STRIPES][4])
{
    const uint8x16_t weight = vdupq_n_u8(1 << LB_SUM_HALF_BITS);
    uint16x8_t sums[STRIPES][2];
    for (unsigned s = 0; s < STRIPES; s++)
        sums[s][0] = sums[s][1] = vdupq_n_u16(0);
    for (size_t u = 0; u < units; u++, codes += LB_PLANE_UNIT_BYTES, tables += LB_SUM_UNIT_BYTES) {
        uint8x16_t low[STRIPES], high[STRIPES];
        for (unsigned s = 0; s < STRIPES; s++)
            low[s] = high[s] = vdupq_n_u8(0);
        __builtin_prefetch(codes + PREFETCH_BYTES);
        __builtin_prefetch(codes + PREFETCH_BYTES + LB_PLANE_LINE);
        look_up(low, high, tables, codes, 0);
        look_up(low, high, tables + LB_SUM_QUAD_BYTES, codes, 1);
        look_up(low, high, tables + 2 * LB_SUM_QUAD_BYTES, codes + LB_PLANE_LINE, 0);
        look_up(low, high, tables + 3 * LB_SUM_QUAD_BYTES, codes + LB_PLANE_LINE, 1);
        for (unsigned s = 0; s < STRIPES; s++) {
            sums[s][0] = vaddw_u8(sums[s][0], vget_low_u8(low[s]));
            sums[s][0] = vmlal_u8(sums[s][0], vget_low_u8(high[s]), vget_low_u8(weight));
            sums[s][1] = vaddw_high_u8(sums[s][1], low[s]);
            sums[s][1] = vmlal_high_u8(sums[s][1], high[s], weight);
        }
    }
    for (unsigned i = 0; i < 2 * STRIPES; i++) {
        const uint16x8_t sum = sums[i / 2][i % 2];
        uint32x4_t *to = &wide[i / 2][i % 2 * 2];
        to[0] = vaddw_u16(to[0], vget_low_u16(sum));
        to[1] = vaddw_high_u16(to[1], sum);
    }
}

/* wide [STRIPES][4]: exact sums of a plane over a run of units, modulo 2^32, for rows that begin at 0, 16, 32 and
 * 48. */
LB_INLINE void sum_plane(const uint8_t *codes, const uint8_t *tables, size_t units,
                         uint32x4_t wide[STRIPES][4])
{
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        wide[i / 4][i % 4] = vdupq_n_u32(0u - (uint32_t)units * UNIT_OFFSET);
    while (units > 0) {
        const size_t n = units < SHORT_UNITS ? units : SHORT_UNITS;
        add_units(codes, tables, n, wide);
        codes += n * LB_PLANE_UNIT_BYTES;
        tables += n * LB_SUM_UNIT_BYTES;
        units -= n;
    }
}

LB_INLINE void add_rows(float32x4_t *total, const uint16_t *coefficients, float32x4_t by)
{
    const float32x4_t four = vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(coefficients)));
    *total = vaddq_f32(*total, vmulq_f32(four, by));
}

static void planes_times(const lb_plane_panel *panel, const lb_sums_view *x, float *y)
{
    const uint8_t *codes = panel->codes;
    float32x4_t total[STRIPES][4];
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        total[i / 4][i % 4] = vdupq_n_f32(0.0f);
    for (size_t begin = 0; begin < panel->units; begin += panel->run_units) {
        const size_t left = panel->units - begin, units = left < panel->run_units ? left : panel->run_units;
        const uint8_t *tables = x->tables + begin * LB_SUM_UNIT_BYTES;
        const size_t group_coefficients = (panel->planes + 1) * LB_PLANE_ROWS;
        const uint16_t *coefficients = panel->coefficients + begin / panel->group_units * group_coefficients;
        for (size_t i = 0; i < group_coefficients; i += 32) /* those of the next group */
            __builtin_prefetch(coefficients + group_coefficients + i);
        const float scale = x->scales[begin / LB_SUM_RUN_UNITS];
        const float32x4_t all = vdupq_n_f32(scale * (float)lb_code_sum(x, begin, units));
        for (unsigned i = 0; i < 4 * STRIPES; i++)
            add_rows(&total[i / 4][i % 4], coefficients + i % 4 * 16 + i / 4 * 4, all);
        for (unsigned p = 0; p < panel->planes; p++, codes += units * LB_PLANE_UNIT_BYTES) {
            uint32x4_t wide[STRIPES][4];
            coefficients += LB_PLANE_ROWS;
            sum_plane(codes, tables, units, wide);
            for (unsigned i = 0; i < 4 * STRIPES; i++) {
                const int32x4_t sum = vreinterpretq_s32_u32(wide[i / 4][i % 4]);
                add_rows(&total[i / 4][i % 4], coefficients + i % 4 * 16 + i / 4 * 4,
                         vmulq_f32(vdupq_n_f32(scale), vcvtq_f32_s32(sum)));
            }
        }
    }
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        vst1q_f32(y + i % 4 * 16 + i / 4 * 4, total[i / 4][i % 4]);
}

/* ---- What planes_simd.h is made of --------------------------------------------------------------- */

LB_INLINE void expand_8(const uint8_t *bits, size_t stride, unsigned planes, const float *coefficients,
                        float *out)
{
    static const uint32_t places[8] = {1, 2, 4, 8, 16, 32, 64, 128};
    const uint32x4_t first = vld1q_u32(places), second = vld1q_u32(places + 4);
    float32x4_t a = vdupq_n_f32(coefficients[0]), b = a;
    for (unsigned p = 0; p < planes; p++, bits += stride) {
        const uint32x4_t byte = vdupq_n_u32(*bits);
        const float32x4_t coefficient = vdupq_n_f32(coefficients[p + 1]);
        a = vbslq_f32(vtstq_u32(byte, first), vaddq_f32(a, coefficient), a);
        b = vbslq_f32(vtstq_u32(byte, second), vaddq_f32(b, coefficient), b);
    }
    vst1q_f32(out, a);
    vst1q_f32(out + 4, b);
}

LB_INLINE float activation_scale(const float *x, size_t n, float most)
{
    float32x4_t all = vdupq_n_f32(0.0f);
    for (size_t i = 0; i < n; i += 4) {
        const float32x4_t magnitude = vabsq_f32(vld1q_f32(x + i));
        all = vbslq_f32(vcgtq_f32(magnitude, all), magnitude, all); /* never a NaN */
    }
    const float largest = vmaxvq_f32(all);
    const float scale = (largest < FLT_MAX ? largest : FLT_MAX) / most;
    return scale >= FLT_MIN ? scale : 0.0f;
}

/* Both conversions saturate, and the first makes 0 of a NaN. */
LB_INLINE int16x4_t encode_4(const float *x, float32x4_t inverse)
{
    return vqmovn_s32(vcvtnq_s32_f32(vmulq_f32(vld1q_f32(x), inverse)));
}

LB_INLINE int32_t encode_unit(const float *x, float scale, int16_t *codes)
{
    const float32x4_t inverse = vdupq_n_f32(1.0f / scale);
    int32_t sum = 0;
    for (unsigned i = 0; i < LB_PLANE_UNIT; i += 8) {
        int16x8_t eight = vcombine_s16(encode_4(x + i, inverse), encode_4(x + i + 4, inverse));
        eight = vmaxq_s16(vminq_s16(eight, vdupq_n_s16(LB_SUM_MOST)), vdupq_n_s16(-LB_SUM_MOST));
        vst1q_s16(codes + i, eight);
        sum += vaddvq_s16(eight);
    }
    return sum;
}

LB_INLINE void set_quad(const int16_t *codes, uint8_t *table)
{
    static const int16_t has[3][8] = {
        {0, -1, 0, -1, 0, -1, 0, -1}, {0, 0, -1, -1, 0, 0, -1, -1}, {0, 0, 0, 0, -1, -1, -1, -1}};
    int16x8_t without = vdupq_n_s16(LB_SUM_OFFSET); /* subsets 0..7, which are without the fourth code */
    for (unsigned i = 0; i < 3; i++)
        without = vaddq_s16(without, vandq_s16(vdupq_n_s16(codes[i]), vld1q_s16(has[i])));
    const uint16x8_t first = vreinterpretq_u16_s16(without);
    const uint16x8_t second = vreinterpretq_u16_s16(vaddq_s16(without, vdupq_n_s16(codes[3])));
    const uint8x16_t low = vcombine_u8(vmovn_u16(first), vmovn_u16(second));
    vst1q_u8(table, vandq_u8(low, vdupq_n_u8((1 << LB_SUM_HALF_BITS) - 1)));
    vst1q_u8(table + 16,
             vcombine_u8(vshrn_n_u16(first, LB_SUM_HALF_BITS), vshrn_n_u16(second, LB_SUM_HALF_BITS)));
}

#include "kernels/planes_simd.h"

void lb_fill_planes_neon(lb_kernels *table)
{
    table->planes_times = planes_times;
    table->planes_dequantize = planes_dequantize;
    table->sum_tables = sum_tables;
}
