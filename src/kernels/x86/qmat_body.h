/* SPDX-License-Identifier: MIT
 *
 * The product of one panel and a vector, for one layout of codes: included once for each BITS, and once with
 * E2M1 defined, by a file that has defined, for its instruction set and for all 16 rows at once,
 *
 *   ints, floats                      a line of 64 bytes; a float per row
 *   LINE_LOAD(p) LINE_AND(v, byte) LINE_OR(u, v) LINE_SHIFT_RIGHT(v, n) LINE_SHIFT_LEFT(v, n)
 *   LINE_E2M1(v)                      LB_PANEL_E2M1[v]
 *   counter, count(&c, codes, x, width, quad, quads), counted(&c)
 *                                     the exact sum of codes * x over so many quads
 *   FLOATS_ZERO() FLOATS_ALL(f) FLOATS_ADD SUB MUL(a, b), scales_load(p), zeros_load(p), floats_store,
 *   to_floats(ints), less(ints, int), less_zeros(ints, zeros, int), block_scales(panel, index)
 *   INTS_ZERO() INTS_ADD(a, b)
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
#define CRUMBS(q) \
    LINE_AND(MOVED(LINE_LOAD(block + CRUMB_PLANE + (q) / 4 * LB_LINE_BYTES), (q) % 4 * 2, CRUMB_PLACE), \
             3 << CRUMB_PLACE)
#define SINGLES(q) LINE_AND(MOVED(LINE_LOAD(block + BIT_PLANE), (q), BIT_PLACE), 1 << BIT_PLACE)

/* Which layouts blocked panels have; what E2M1 stands for needs 5 bits. */
#if BITS == 4 || BITS >= 6
#define BLOCKS
#endif
#ifdef E2M1
#define NAMED(prefix) JOIN(prefix, e2m1)
#define WIDTH 5
#define CODES(q) LINE_E2M1(NIBBLES(q))
#else
#define NAMED(prefix) JOIN(prefix, BITS)
#define WIDTH BITS
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
#define CODES(q) LINE_LOAD(block + (q)*LB_LINE_BYTES)
#endif
#endif
#define COUNT(q, quads) count(&c, CODES(q), x + (q)*4, WIDTH, (q) % (quads), (quads))

LB_INLINE ints NAMED(block_sum_)(const uint8_t *block, const int8_t *x)
{
    counter c;
    COUNT(0, 8);
    COUNT(1, 8);
    COUNT(2, 8);
    COUNT(3, 8);
    COUNT(4, 8);
    COUNT(5, 8);
    COUNT(6, 8);
    COUNT(7, 8);
    return counted(&c);
}

LB_INLINE ints NAMED(low_sum_)(const uint8_t *block, const int8_t *x)
{
    counter c;
    COUNT(0, 4);
    COUNT(1, 4);
    COUNT(2, 4);
    COUNT(3, 4);
    return counted(&c);
}

LB_INLINE ints NAMED(high_sum_)(const uint8_t *block, const int8_t *x)
{
    counter c;
    COUNT(4, 4);
    COUNT(5, 4);
    COUNT(6, 4);
    COUNT(7, 4);
    return counted(&c);
}

#ifndef E2M1
/* A scale and a float zero per group. */
LB_INLINE void NAMED(groups_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y, const bool halves)
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
            const int8_t *codes = x->codes + b * LB_PANEL_COLS;
            for (size_t line = 0; line < block_bytes; line += LB_LINE_BYTES)
                _mm_prefetch((const char *)block + PREFETCH_BYTES + line, _MM_HINT_T0);
            if (halves) {
                floats low = to_floats(NAMED(low_sum_)(block, codes));
                floats high = to_floats(NAMED(high_sum_)(block, codes));
                sum = FLOATS_ADD(sum, FLOATS_MUL(low, FLOATS_ALL(x->scales[2 * b])));
                sum = FLOATS_ADD(sum, FLOATS_MUL(high, FLOATS_ALL(x->scales[2 * b + 1])));
            } else {
                floats dot = to_floats(NAMED(block_sum_)(block, codes));
                sum = FLOATS_ADD(sum, FLOATS_MUL(dot, FLOATS_ALL(x->scales[2 * b])));
            }
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

/* One quad of a block times one activation of each of some tokens. */
#define ROW_COUNT(q) \
    do { \
        const ints line = CODES(q); \
        count(&c0, line, codes + (q)*4, WIDTH, (q), 8); \
        if (tokens > 1) { \
            count(&c1, line, codes + stride + (q)*4, WIDTH, (q), 8); \
            count(&c2, line, codes + 2 * stride + (q)*4, WIDTH, (q), 8); \
            count(&c3, line, codes + 3 * stride + (q)*4, WIDTH, (q), 8); \
        } \
    } while (0)

/* One token or ROW_TILE of them, from `row` on: whole groups summed in integers. */
LB_INLINE void NAMED(tokens_)(const lb_qmat_panel *panel, const lb_qrows_view *x, size_t row,
                              const size_t tokens, float *y)
{
    const size_t block_bytes = BITS * LB_LINE_BYTES, stride = x->blocks * LB_PANEL_COLS;
    const uint16_t *scales = panel->scales;
    floats totals[ROW_TILE];
    for (size_t t = 0; t < tokens; t++)
        totals[t] = FLOATS_ZERO();
    for (size_t at = x->first; at < x->end;) {
        const size_t group = at / panel->group_blocks, rest = (group + 1) * panel->group_blocks;
        const size_t end = rest < x->end ? rest : x->end;
        ints sums[ROW_TILE];
        int32_t x_sums[ROW_TILE] = {0};
        for (size_t t = 0; t < tokens; t++)
            sums[t] = INTS_ZERO();
        for (; at < end; at++) {
            const uint8_t *block = panel->codes + at * block_bytes;
            const int8_t *codes = x->codes + row * stride + at * LB_PANEL_COLS;
            counter c0, c1, c2, c3;
            ROW_COUNT(0);
            ROW_COUNT(1);
            ROW_COUNT(2);
            ROW_COUNT(3);
            ROW_COUNT(4);
            ROW_COUNT(5);
            ROW_COUNT(6);
            ROW_COUNT(7);
            sums[0] = INTS_ADD(sums[0], counted(&c0));
            if (tokens > 1) {
                sums[1] = INTS_ADD(sums[1], counted(&c1));
                sums[2] = INTS_ADD(sums[2], counted(&c2));
                sums[3] = INTS_ADD(sums[3], counted(&c3));
            }
            for (size_t t = 0; t < tokens; t++)
                x_sums[t] += x->sums[(row + t) * x->blocks + at];
        }
        const floats scale = scales_load(scales + group * LB_PANEL_ROWS);
        for (size_t t = 0; t < tokens; t++) {
            const ints centred = panel->zeros
                                     ? less_zeros(sums[t], panel->zeros + group * LB_PANEL_ROWS, x_sums[t])
                                     : less(sums[t], (int32_t)panel->zero * x_sums[t]);
            totals[t] = FLOATS_ADD(totals[t], FLOATS_MUL(scale, to_floats(centred)));
        }
    }
    for (size_t t = 0; t < tokens; t++)
        floats_store(y + (row + t) * LB_PANEL_ROWS, FLOATS_MUL(totals[t], FLOATS_ALL(x->scales[row + t])));
}

static void NAMED(rows_)(const lb_qmat_panel *panel, const lb_qrows_view *x, size_t count, float *y)
{
    size_t row = 0;
    for (; row + ROW_TILE <= count; row += ROW_TILE)
        NAMED(tokens_)(panel, x, row, ROW_TILE, y);
    for (; row < count; row++)
        NAMED(tokens_)(panel, x, row, 1, y);
}
#undef ROW_COUNT

static void NAMED(whole_groups_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    NAMED(groups_)(panel, x, y, false);
}

static void NAMED(half_groups_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    NAMED(groups_)(panel, x, y, true);
}
#endif

#ifdef BLOCKS
/* A scale per block, and the zero taken off in integers. */
LB_INLINE void NAMED(blocks_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y, const bool halves)
{
    const size_t block_bytes = BITS * LB_LINE_BYTES;
    const uint8_t *block = panel->codes;
    const int32_t zero = (int32_t)panel->zero;
    floats total = FLOATS_ZERO();
    for (size_t b = 0; b < panel->col_blocks; b++, block += block_bytes) {
        const int8_t *codes = x->codes + b * LB_PANEL_COLS;
        const int32_t low_sum = x->code_sums[2 * b], high_sum = x->code_sums[2 * b + 1];
        for (size_t line = 0; line < block_bytes; line += LB_LINE_BYTES)
            _mm_prefetch((const char *)block + PREFETCH_BYTES + line, _MM_HINT_T0);
        if (halves) {
            floats low = to_floats(less(NAMED(low_sum_)(block, codes), zero * low_sum));
            floats high = to_floats(less(NAMED(high_sum_)(block, codes), zero * high_sum));
            low = FLOATS_MUL(low, FLOATS_ALL(x->scales[2 * b]));
            high = FLOATS_MUL(high, FLOATS_ALL(x->scales[2 * b + 1]));
            floats scale = block_scales(panel, panel->halves ? 2 * b : b);
            total = FLOATS_ADD(total, FLOATS_MUL(scale, low));
            if (panel->halves)
                scale = block_scales(panel, 2 * b + 1);
            total = FLOATS_ADD(total, FLOATS_MUL(scale, high));
        } else {
            const int32_t code_sum = low_sum + high_sum;
            floats dot = to_floats(less(NAMED(block_sum_)(block, codes), zero * code_sum));
            dot = FLOATS_MUL(dot, FLOATS_ALL(x->scales[2 * b]));
            total = FLOATS_ADD(total, FLOATS_MUL(block_scales(panel, b), dot));
        }
    }
    floats_store(y, total);
}

static void NAMED(whole_blocks_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    NAMED(blocks_)(panel, x, y, false);
}

static void NAMED(half_blocks_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    NAMED(blocks_)(panel, x, y, true);
}
#endif

static void NAMED(times_)(const lb_qmat_panel *panel, const lb_qvec_view *x, float *y)
{
    const bool halves = panel->halves || x->halves;
#ifdef BLOCKS
    if (panel->blocked) {
        (halves ? NAMED(half_blocks_) : NAMED(whole_blocks_))(panel, x, y);
        return;
    }
#endif
#ifndef E2M1
    (halves ? NAMED(half_groups_) : NAMED(whole_groups_))(panel, x, y);
#endif
}

/* One quad of a block times the activations of each of some vectors. */
#define FEW_COUNT(q) \
    do { \
        const ints line = CODES(q); \
        count(&c0, line, x[0].codes + at + (q)*4, WIDTH, (q), 8); \
        count(&c1, line, x[1].codes + at + (q)*4, WIDTH, (q), 8); \
        if (vectors > 2) { \
            count(&c2, line, x[2].codes + at + (q)*4, WIDTH, (q), 8); \
            count(&c3, line, x[3].codes + at + (q)*4, WIDTH, (q), 8); \
        } \
    } while (0)

/* block_sum_ for 2 vectors or FEW_TILE of them, which share what is unpacked. */
LB_INLINE void NAMED(few_sums_)(const uint8_t *block, const lb_qvec_view *x, size_t at, const size_t vectors,
                                ints *sums)
{
    counter c0, c1, c2, c3;
    FEW_COUNT(0);
    FEW_COUNT(1);
    FEW_COUNT(2);
    FEW_COUNT(3);
    FEW_COUNT(4);
    FEW_COUNT(5);
    FEW_COUNT(6);
    FEW_COUNT(7);
    sums[0] = counted(&c0);
    sums[1] = counted(&c1);
    if (vectors > 2) {
        sums[2] = counted(&c2);
        sums[3] = counted(&c3);
    }
}
#undef FEW_COUNT

LB_INLINE void NAMED(few_prefetch_)(const uint8_t *block)
{
    for (size_t line = 0; line < BITS * LB_LINE_BYTES; line += LB_LINE_BYTES)
        _mm_prefetch((const char *)block + PREFETCH_BYTES + line, _MM_HINT_T0);
}

#ifndef E2M1
/* groups_ for vectors that are not cut into halves. */
LB_INLINE void NAMED(few_groups_)(const lb_qmat_panel *panel, const lb_qvec_view *x, const size_t vectors,
                                  float *y, size_t stride)
{
    const uint8_t *block = panel->codes, *zeros = panel->zeros;
    const uint16_t *scales = panel->scales;
    floats zero = FLOATS_ALL(panel->zero), totals[FEW_TILE];
    for (size_t v = 0; v < vectors; v++)
        totals[v] = FLOATS_ZERO();
    for (size_t first = 0; first < panel->col_blocks; first += panel->group_blocks) {
        const size_t left = panel->col_blocks - first;
        const size_t end = first + (left < panel->group_blocks ? left : panel->group_blocks);
        floats sums[FEW_TILE];
        float x_sums[FEW_TILE] = {0.0f};
        for (size_t v = 0; v < vectors; v++)
            sums[v] = FLOATS_ZERO();
        for (size_t b = first; b < end; b++, block += BITS * LB_LINE_BYTES) {
            ints dots[FEW_TILE];
            NAMED(few_prefetch_)(block);
            NAMED(few_sums_)(block, x, b * LB_PANEL_COLS, vectors, dots);
            for (size_t v = 0; v < vectors; v++) {
                sums[v] = FLOATS_ADD(sums[v], FLOATS_MUL(to_floats(dots[v]), FLOATS_ALL(x[v].scales[2 * b])));
                x_sums[v] += x[v].sums[b];
            }
        }
        if (zeros) {
            zero = zeros_load(zeros);
            zeros += LB_PANEL_ROWS;
        }
        const floats scale = scales_load(scales);
        scales += LB_PANEL_ROWS;
        for (size_t v = 0; v < vectors; v++) {
            const floats centred = FLOATS_SUB(sums[v], FLOATS_MUL(zero, FLOATS_ALL(x_sums[v])));
            totals[v] = FLOATS_ADD(totals[v], FLOATS_MUL(scale, centred));
        }
    }
    for (size_t v = 0; v < vectors; v++)
        floats_store(y + v * stride, totals[v]);
}
#endif

#ifdef BLOCKS
/* And blocks_. */
LB_INLINE void NAMED(few_blocks_)(const lb_qmat_panel *panel, const lb_qvec_view *x, const size_t vectors,
                                  float *y, size_t stride)
{
    const uint8_t *block = panel->codes;
    const int32_t zero = (int32_t)panel->zero;
    floats totals[FEW_TILE];
    for (size_t v = 0; v < vectors; v++)
        totals[v] = FLOATS_ZERO();
    for (size_t b = 0; b < panel->col_blocks; b++, block += BITS * LB_LINE_BYTES) {
        ints dots[FEW_TILE];
        NAMED(few_prefetch_)(block);
        NAMED(few_sums_)(block, x, b * LB_PANEL_COLS, vectors, dots);
        const floats scale = block_scales(panel, b);
        for (size_t v = 0; v < vectors; v++) {
            const int32_t code_sum = x[v].code_sums[2 * b] + x[v].code_sums[2 * b + 1];
            floats dot = to_floats(less(dots[v], zero * code_sum));
            dot = FLOATS_MUL(dot, FLOATS_ALL(x[v].scales[2 * b]));
            totals[v] = FLOATS_ADD(totals[v], FLOATS_MUL(scale, dot));
        }
    }
    for (size_t v = 0; v < vectors; v++)
        floats_store(y + v * stride, totals[v]);
}
#endif

LB_INLINE void NAMED(few_of_)(const lb_qmat_panel *panel, const lb_qvec_view *x, const size_t vectors,
                              float *y, size_t stride)
{
#ifdef BLOCKS
    if (panel->blocked) {
        NAMED(few_blocks_)(panel, x, vectors, y, stride);
        return;
    }
#endif
#ifndef E2M1
    NAMED(few_groups_)(panel, x, vectors, y, stride);
#endif
}

/* FEW_TILE vectors, or 2. */
static void NAMED(few_)(const lb_qmat_panel *panel, const lb_qvec_view *x, size_t vectors, float *y,
                        size_t stride)
{
    if (vectors == FEW_TILE)
        NAMED(few_of_)(panel, x, FEW_TILE, y, stride);
    else
        NAMED(few_of_)(panel, x, 2, y, stride);
}

#undef JOIN_
#undef JOIN
#undef NAMED
#undef WIDTH
#undef BLOCKS
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
#undef E2M1
