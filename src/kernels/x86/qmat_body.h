/* SPDX-License-Identifier: MIT
 *
 * The product of one panel and a vector, for one width of codes: included once for each BITS by a file
 * that has defined, for its instruction set and for all 16 rows at once,
 *
 *   ints, floats                      a line of 64 bytes; a float per row
 *   LINE_LOAD(p) LINE_AND(v, byte) LINE_OR(u, v) LINE_SHIFT_RIGHT(v, n) LINE_SHIFT_LEFT(v, n)
 *   counter, count(&c, codes, x, bits, quad), counted(&c, bits, code_sum)
 *                                     the exact sum of codes * x over a block's quads, as floats
 *   FLOATS_ZERO() FLOATS_ALL(f) FLOATS_ADD SUB MUL(a, b), scales_load(p), zeros_load(p), floats_store
 *
 * Everything that must be an immediate is one by the preprocessor alone, so this also compiles at -O0. */

#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

/* Where the planes of 2 and 1 bits begin in a block, and the bit of the code that they hold. */
#define CRUMB_PLANE ((BITS & 4) ? 4 * LB_LINE_BYTES : 0)
#define BIT_PLANE (CRUMB_PLANE + ((BITS & 2) ? 2 * LB_LINE_BYTES : 0))
#define CRUMB_PLACE (BITS & 4)
#define BIT_PLACE (BITS & 6)

/* Bits that are at `from` brought to `to`; those of neighbouring bytes that come along are masked off. */
#define MOVED(v, from, to) \
    ((from) >= (to) ? LINE_SHIFT_RIGHT(v, (from) >= (to) ? (from) - (to) : 0) \
                    : LINE_SHIFT_LEFT(v, (from) >= (to) ? 0 : (to) - (from)))
#define NIBBLES(q) LINE_AND(MOVED(LINE_LOAD(block + (q) / 2 * LB_LINE_BYTES), (q) % 2 * 4, 0), 15)
#define CRUMBS(q)                                                                                       \
    LINE_AND(MOVED(LINE_LOAD(block + CRUMB_PLANE + (q) / 4 * LB_LINE_BYTES), (q) % 4 * 2, CRUMB_PLACE), \
             3 << CRUMB_PLACE)
#define SINGLES(q) LINE_AND(MOVED(LINE_LOAD(block + BIT_PLANE), (q), BIT_PLACE), 1 << BIT_PLACE)

#if BITS == 2
#define CODES(q) CRUMBS(q)
#elif BITS == 3
#define CODES(q) LINE_OR(CRUMBS(q), SINGLES(q))
#elif BITS == 4
#define CODES(q) NIBBLES(q)
#elif BITS == 5
#define CODES(q) LINE_OR(NIBBLES(q), SINGLES(q))
#elif BITS == 6
#define CODES(q) LINE_OR(NIBBLES(q), CRUMBS(q))
#elif BITS == 7
#define CODES(q) LINE_OR(LINE_OR(NIBBLES(q), CRUMBS(q)), SINGLES(q))
#elif BITS == 8
#define CODES(q) LINE_LOAD(block + (q) * LB_LINE_BYTES)
#endif
#define COUNT(q) count(&c, CODES(q), x + (q) * 4, BITS, (q))

LB_INLINE floats JOIN(block_sum_, BITS)(const uint8_t *block, const int8_t *x, int32_t code_sum)
{
    counter c;
    COUNT(0);
    COUNT(1);
    COUNT(2);
    COUNT(3);
    COUNT(4);
    COUNT(5);
    COUNT(6);
    COUNT(7);
    return counted(&c, BITS, code_sum);
}

static void JOIN(times_, BITS)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    const size_t block_bytes = BITS * LB_LINE_BYTES;
    const uint8_t *block = panel->codes;
    const uint16_t *scales = panel->scales;
    const uint8_t *zeros = panel->zeros;
    floats zero = FLOATS_ALL(panel->zero), total = FLOATS_ZERO();
    for (size_t first = 0; first < panel->col_blocks; first += panel->group_blocks) {
        size_t left = panel->col_blocks - first;
        size_t end = first + (left < panel->group_blocks ? left : panel->group_blocks);
        floats sum = FLOATS_ZERO();
        float x_sum = 0.0f;
        for (size_t b = first; b < end; b++, block += block_bytes) {
            for (size_t line = 0; line < block_bytes; line += LB_LINE_BYTES)
                _mm_prefetch((const char *)block + PREFETCH_BYTES + line, _MM_HINT_T0);
            floats dot = JOIN(block_sum_, BITS)(block, x->codes + b * LB_PANEL_COLS, x->code_sums[b]);
            sum = FLOATS_ADD(sum, FLOATS_MUL(dot, FLOATS_ALL(x->scales[b])));
            x_sum += x->sums[b];
        }
        if (zeros) {
            zero = zeros_load(zeros);
            zeros += LB_PANEL_ROWS;
        }
        sum = FLOATS_SUB(sum, FLOATS_MUL(zero, FLOATS_ALL(x_sum)));
        total = FLOATS_ADD(total, FLOATS_MUL(scales_load(scales), sum));
        scales += LB_PANEL_ROWS;
    }
    floats_store(y, total);
}

#undef JOIN_
#undef JOIN
#undef CRUMB_PLANE
#undef BIT_PLANE
#undef CRUMB_PLACE
#undef BIT_PLACE
#undef MOVED
#undef NIBBLES
#undef CRUMBS
#undef SINGLES
#undef CODES
#undef COUNT
#undef BITS
