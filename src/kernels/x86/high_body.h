/* SPDX-License-Identifier: MIT
 *
 * high_times for the registers that the including file has defined:
 *
 *   ints, floats      a register of REGISTER_BYTES: a 32-bit lane a row
 *   V(name)           the intrinsic of that name on such registers: V(add_epi8)(a, b)
 *   INTS_LOAD(p) INTS_OR(a, b) INTS_ZERO()
 *   table_load(p)     16 bytes, the same in every 16-byte lane
 *   halves_load(p)    floats from as many f16
 *   dot(sums, v, x)   sums + of each lane's four bytes v * x, both signed, |v| at most 127: exactly
 *
 * A byte shuffle looks up sixteen activations; places outside of these give zeros, since adding 0x70 brings them to the
 * shuffle's highest bit. */
#include "kernels/x86/x86.h"

enum {
    PREFETCH_BYTES = 2048, /* how far ahead lines are asked for */
    STRIPES = LB_HIGH_LINE / REGISTER_BYTES, /* registers to a line, one after the other */
    NUMBERS = REGISTER_BYTES / 4
};

/* sums [STRIPES] of the elements in columns [place, place + 16), or 32 where `wide`, of a bank whose activations of
 * those columns are x, among quads [first, end). */
LB_INLINE void sum_part(ints *sums, const uint8_t *lines, size_t first, size_t end, const int8_t *x,
                        size_t place, const bool wide)
{
    const ints reach = V(set1_epi8)(0x70), half = V(set1_epi8)(LB_PANEL_HALF);
    const ints begin = V(set1_epi8)((char)place);
    const ints low = table_load(x), high = wide ? table_load(x + LB_PANEL_HALF) : low;
    for (size_t q = first; q < end; q++) {
        const uint8_t *line = lines + q * LB_HIGH_QUAD_BYTES;
        for (unsigned s = 0; s < STRIPES; s++) {
            ints at = V(sub_epi8)(INTS_LOAD(line + s * REGISTER_BYTES), begin);
            ints found = V(shuffle_epi8)(low, V(adds_epu8)(at, reach));
            if (wide) {
                at = V(sub_epi8)(at, half);
                found = INTS_OR(found, V(shuffle_epi8)(high, V(adds_epu8)(at, reach)));
            }
            sums[s] = dot(sums[s], INTS_LOAD(line + LB_HIGH_LINE + s * REGISTER_BYTES), found);
        }
    }
}

LB_INLINE void times(const lb_high_panel *panel, const lb_qvec_view *x, float *y, const bool wide)
{
    const size_t width = wide ? LB_PANEL_COLS : LB_PANEL_HALF, bank_bytes = panel->quads * LB_HIGH_QUAD_BYTES;
    const size_t part_cols = panel->bank / panel->parts;
    const uint8_t *lines = panel->lines, *spans = panel->spans;
    const int8_t *codes = x->codes;
    const float *scales = x->scales;
    floats total[STRIPES];
    for (unsigned s = 0; s < STRIPES; s++)
        total[s] = V(loadu_ps)(y + s * NUMBERS);
    for (size_t bank = 0; bank < panel->banks; bank++) {
        floats sum[STRIPES];
        for (unsigned s = 0; s < STRIPES; s++)
            sum[s] = V(setzero_ps)();
        for (size_t i = 0; i < bank_bytes; i += LB_HIGH_LINE)
            _mm_prefetch((const char *)lines + PREFETCH_BYTES + i, _MM_HINT_T0);
        for (size_t place = 0; place < panel->bank; place += width) {
            const uint8_t *span = spans + place / part_cols * 2;
            ints sums[STRIPES];
            for (unsigned s = 0; s < STRIPES; s++)
                sums[s] = INTS_ZERO();
            sum_part(sums, lines, span[0], span[1], codes + place, place, wide);
            const floats scale = V(set1_ps)(scales[place / LB_PANEL_HALF]);
            for (unsigned s = 0; s < STRIPES; s++)
                sum[s] = V(add_ps)(sum[s], V(mul_ps)(V(cvtepi32_ps)(sums[s]), scale));
        }
        for (unsigned s = 0; s < STRIPES; s++) {
            const floats scale = halves_load(panel->scales + bank * LB_PANEL_ROWS + s * NUMBERS);
            total[s] = V(add_ps)(total[s], V(mul_ps)(scale, sum[s]));
        }
        lines += bank_bytes;
        spans += 2 * panel->parts;
        codes += panel->bank;
        scales += panel->bank / LB_PANEL_HALF;
    }
    for (unsigned s = 0; s < STRIPES; s++)
        V(storeu_ps)(y + s * NUMBERS, total[s]);
}

static void high_times(const lb_high_panel *panel, const lb_qvec_view *x, float *y)
{
    if (x->halves || panel->bank == LB_PANEL_HALF)
        times(panel, x, y, false);
    else
        times(panel, x, y, true);
}
