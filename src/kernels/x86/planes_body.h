/* SPDX-License-Identifier: MIT
 *
 * planes_times by look-up, for the registers that the including file has defined:
 *
 *   ints, floats      a register of REGISTER_BYTES: bytes of so many rows, or a quarter as many numbers
 *   V(name)           the intrinsic of that name on such registers: V(add_epi8)(a, b)
 *   INTS_LOAD(p) INTS_AND(a, b) INTS_ZERO()
 *   table_load(p)     16 bytes, the same in every 16-byte lane
 *   halves_load(p)    floats from as many f16
 *
 * Looked-up parts have six bits, so that those of four quads add up in a byte. A unit's two bytes are joined in 16
 * bits, where four units' sums fit, and those are widened. */
#include "kernels/x86/x86.h"

enum {
    PREFETCH_BYTES = 4096, /* how far ahead codes are asked for */
    STRIPES = LB_PLANE_LINE / REGISTER_BYTES, /* registers to a line, one after the other */
    NUMBERS = REGISTER_BYTES / 4,
    SHORT_UNITS = 4, /* whose sums are at most 16 * 4 * LB_SUM_MOST < 2^15 */
    UNIT_OFFSET = 4 * LB_SUM_OFFSET
};

/* Of a line's rows: the first and the second eight of each 16-byte lane. */
typedef struct shorts {
    ints rows[STRIPES][2];
} shorts;

/* Parts [STRIPES] += what the tables of a quad say of its subsets, the lower or upper halves of a line's bytes. */
LB_INLINE void look_up(ints *low, ints *high, const uint8_t *table, const uint8_t *line, const bool upper)
{
    const ints low_table = table_load(table), high_table = table_load(table + LB_SUM_QUAD_BYTES / 2);
    for (unsigned s = 0; s < STRIPES; s++) {
        ints subsets = INTS_LOAD(line + s * REGISTER_BYTES);
        if (upper)
            subsets = V(srli_epi16)(subsets, 4);
        subsets = INTS_AND(subsets, V(set1_epi8)(15));
        low[s] = V(add_epi8)(low[s], V(shuffle_epi8)(low_table, subsets));
        high[s] = V(add_epi8)(high[s], V(shuffle_epi8)(high_table, subsets));
    }
}

/* Exact sums of a plane over at most SHORT_UNITS units. */
LB_INLINE shorts sum_units(const uint8_t *codes, const uint8_t *tables, size_t units)
{
    const ints weights = V(set1_epi16)(1 << (8 + LB_SUM_HALF_BITS) | 1);
    shorts sums;
    for (unsigned s = 0; s < STRIPES; s++)
        sums.rows[s][0] = sums.rows[s][1] = V(set1_epi16)((short)(-(int)units * UNIT_OFFSET));
    for (size_t u = 0; u < units; u++, codes += LB_PLANE_UNIT_BYTES, tables += LB_SUM_UNIT_BYTES) {
        ints low[STRIPES], high[STRIPES];
        for (unsigned s = 0; s < STRIPES; s++)
            low[s] = high[s] = INTS_ZERO();
        _mm_prefetch((const char *)codes + PREFETCH_BYTES, _MM_HINT_T0);
        _mm_prefetch((const char *)codes + PREFETCH_BYTES + LB_PLANE_LINE, _MM_HINT_T0);
        look_up(low, high, tables, codes, false);
        look_up(low, high, tables + LB_SUM_QUAD_BYTES, codes, true);
        look_up(low, high, tables + 2 * LB_SUM_QUAD_BYTES, codes + LB_PLANE_LINE, false);
        look_up(low, high, tables + 3 * LB_SUM_QUAD_BYTES, codes + LB_PLANE_LINE, true);
        for (unsigned s = 0; s < STRIPES; s++) {
            const ints first = V(maddubs_epi16)(V(unpacklo_epi8)(low[s], high[s]), weights);
            const ints second = V(maddubs_epi16)(V(unpackhi_epi8)(low[s], high[s]), weights);
            sums.rows[s][0] = V(add_epi16)(sums.rows[s][0], first);
            sums.rows[s][1] = V(add_epi16)(sums.rows[s][1], second);
        }
    }
    return sums;
}

/* wide [STRIPES][4]: exact sums of a plane over a run of units, for rows that begin at 0, 16, 32 and 48. */
LB_INLINE void sum_plane(const uint8_t *codes, const uint8_t *tables, size_t units, ints wide[STRIPES][4])
{
    const ints ones = V(set1_epi16)(1);
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        wide[i / 4][i % 4] = INTS_ZERO();
    while (units > 0) {
        const size_t n = units < SHORT_UNITS ? units : SHORT_UNITS;
        const size_t m = units - n < SHORT_UNITS ? units - n : SHORT_UNITS;
        const shorts a = sum_units(codes, tables, n);
        const shorts b = sum_units(codes + n * LB_PLANE_UNIT_BYTES, tables + n * LB_SUM_UNIT_BYTES, m);
        for (unsigned i = 0; i < 2 * STRIPES; i++) {
            const ints x = a.rows[i / 2][i % 2], y = b.rows[i / 2][i % 2];
            ints *to = &wide[i / 2][i % 2 * 2];
            to[0] = V(add_epi32)(to[0], V(madd_epi16)(V(unpacklo_epi16)(x, y), ones));
            to[1] = V(add_epi32)(to[1], V(madd_epi16)(V(unpackhi_epi16)(x, y), ones));
        }
        codes += (n + m) * LB_PLANE_UNIT_BYTES;
        tables += (n + m) * LB_SUM_UNIT_BYTES;
        units -= n + m;
    }
}

LB_INLINE void add_rows(floats *total, const uint16_t *coefficients, floats by)
{
    *total = V(add_ps)(*total, V(mul_ps)(halves_load(coefficients), by));
}

static void planes_times(const lb_plane_panel *panel, const lb_sums_view *x, float *y)
{
    const uint8_t *codes = panel->codes;
    floats total[STRIPES][4];
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        total[i / 4][i % 4] = V(setzero_ps)();
    for (size_t begin = 0; begin < panel->units; begin += panel->run_units) {
        const size_t left = panel->units - begin, units = left < panel->run_units ? left : panel->run_units;
        const uint8_t *tables = x->tables + begin * LB_SUM_UNIT_BYTES;
        const uint16_t *coefficients =
            panel->coefficients + begin / panel->group_units * (panel->planes + 1) * LB_PLANE_ROWS;
        const size_t coefficient_bytes = (panel->planes + 1) * LB_PLANE_ROWS * sizeof *coefficients;
        for (size_t i = 0; i < coefficient_bytes; i += 64) /* those of the next group */
            _mm_prefetch((const char *)coefficients + coefficient_bytes + i, _MM_HINT_T0);
        const float scale = x->scales[begin / LB_SUM_RUN_UNITS];
        const floats all = V(set1_ps)(scale * (float)lb_code_sum(x, begin, units));
        for (unsigned i = 0; i < 4 * STRIPES; i++)
            add_rows(&total[i / 4][i % 4], coefficients + i % 4 * 16 + i / 4 * NUMBERS, all);
        for (unsigned p = 0; p < panel->planes; p++, codes += units * LB_PLANE_UNIT_BYTES) {
            ints wide[STRIPES][4];
            coefficients += LB_PLANE_ROWS;
            sum_plane(codes, tables, units, wide);
            for (unsigned i = 0; i < 4 * STRIPES; i++)
                add_rows(&total[i / 4][i % 4], coefficients + i % 4 * 16 + i / 4 * NUMBERS,
                         V(mul_ps)(V(set1_ps)(scale), V(cvtepi32_ps)(wide[i / 4][i % 4])));
        }
    }
    for (unsigned i = 0; i < 4 * STRIPES; i++)
        V(storeu_ps)(y + i % 4 * 16 + i / 4 * NUMBERS, total[i / 4][i % 4]);
}
