/* SPDX-License-Identifier: MIT
 *
 * The loops of a Hadamard transform, written once with the compiler's vectors and compiled once per
 * instruction set. The includer defines LB_FILL_HADAMARD, the name of the function that enters them into a
 * table, and LB_HADAMARD_LANES, the floats of a register: 4, 8 or 16.
 *
 * Every instruction set gives the same bits, because every result is the same tree of additions whatever
 * the width: butterflies (a + b, a - b) over distance 1, 2, 4, ... for the power of two, and for the other
 * orders sums of fours.
 */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/ref.h"
#include "kernels/x86/x86.h"

enum { LANES = LB_HADAMARD_LANES, MOST_VECS = 8, MOST_FOURS = 7, SIDE_BY_SIDE = 4 };

typedef float vec __attribute__((vector_size(4 * LB_HADAMARD_LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LB_HADAMARD_LANES)));
typedef float four __attribute__((vector_size(16)));

#define ALWAYS_INLINE static inline __attribute__((always_inline))

/* f(i, h) for every lane i. */
#define EACH4(f, h, i) f((i), h), f((i) + 1, h), f((i) + 2, h), f((i) + 3, h)
#if LB_HADAMARD_LANES == 4
#define EACH(f, h) EACH4(f, h, 0)
#elif LB_HADAMARD_LANES == 8
#define EACH(f, h) EACH4(f, h, 0), EACH4(f, h, 4)
#else
#define EACH(f, h) EACH4(f, h, 0), EACH4(f, h, 4), EACH4(f, h, 8), EACH4(f, h, 12)
#endif
#define PARTNER(i, h) ((i) ^ (h))
#define SIGN(i, h) ((i) & (h) ? INT32_MIN : 0)
#ifdef __clang__
#define SWAPPED(v, h) __builtin_shufflevector(v, v, EACH(PARTNER, h))
#else
#define SWAPPED(v, h) __builtin_shuffle(v, (ivec){EACH(PARTNER, h)})
#endif

/* Lane i gets v[i] + v[i + h], lane i + h gets v[i] - v[i + h]. */
#define BUTTERFLY(v, h) (SWAPPED(v, h) + (vec)((ivec)(v) ^ (ivec){EACH(SIGN, h)}))

/* The butterflies of distance 1, 2, ... below n inside one vector. */
#define WITHIN4(v, n) \
    do { \
        if ((n) > 1) \
            (v) = BUTTERFLY(v, 1); \
        if ((n) > 2) \
            (v) = BUTTERFLY(v, 2); \
    } while (0)
#if LB_HADAMARD_LANES == 4
#define WITHIN(v, n) WITHIN4(v, n)
#elif LB_HADAMARD_LANES == 8
#define WITHIN(v, n) \
    do { \
        WITHIN4(v, n); \
        if ((n) > 4) \
            (v) = BUTTERFLY(v, 4); \
    } while (0)
#else
#define WITHIN(v, n) \
    do { \
        WITHIN4(v, n); \
        if ((n) > 4) \
            (v) = BUTTERFLY(v, 4); \
        if ((n) > 8) \
            (v) = BUTTERFLY(v, 8); \
    } while (0)
#endif

#define PAIR(v, i, k) \
    do { \
        const vec before = (v)[i]; \
        (v)[i] = before + (v)[k]; \
        (v)[k] = before - (v)[k]; \
    } while (0)

/* The butterflies between `count` = 1, 2, 4 or 8 vectors. */
ALWAYS_INLINE void between(vec *v, size_t count)
{
    if (count > 1)
        PAIR(v, 0, 1);
    if (count > 2) {
        PAIR(v, 2, 3);
        PAIR(v, 0, 2);
        PAIR(v, 1, 3);
    }
    if (count > 4) {
        PAIR(v, 4, 5);
        PAIR(v, 6, 7);
        PAIR(v, 4, 6);
        PAIR(v, 5, 7);
        PAIR(v, 0, 4);
        PAIR(v, 1, 5);
        PAIR(v, 2, 6);
        PAIR(v, 3, 7);
    }
}

/* do_one(i) for the first `count` = 1, 2, 4 or 8 vectors of v. Loops would do, but for clang, which takes
 * them for copies of memory and keeps the vectors there. */
#define FOR_COUNT(do_one) \
    do { \
        do_one(0); \
        if (count > 1) \
            do_one(1); \
        if (count > 2) { \
            do_one(2); \
            do_one(3); \
        } \
        if (count > 4) { \
            do_one(4); \
            do_one(5); \
            do_one(6); \
            do_one(7); \
        } \
    } while (0)
#define LOAD(i) memcpy(&v[i], from + (i)*stride, sizeof *v)
#define STORE(i) memcpy(to + (i)*stride, &v[i], sizeof *v)
#define SCALE(i) v[i] *= s[i]
#define WITHIN_ONE(i) WITHIN(v[i], LANES)

/* `count` vectors whose beginnings are `stride` floats apart. */
ALWAYS_INLINE void load(vec *v, const float *from, size_t stride, size_t count)
{
    FOR_COUNT(LOAD);
}

ALWAYS_INLINE void store(const vec *v, float *to, size_t stride, size_t count)
{
    FOR_COUNT(STORE);
}

/* The scale and all butterflies that fit into `count` vectors, for all of x [total]. */
ALWAYS_INLINE void first_pass(float *x, const float *scale, size_t total, size_t count)
{
    for (size_t i = 0; i < total; i += count * LANES) {
        vec v[MOST_VECS], s[MOST_VECS];
        load(v, x + i, LANES, count);
        if (scale) {
            load(s, scale + i, LANES, count);
            FOR_COUNT(SCALE);
        }
        FOR_COUNT(WITHIN_ONE);
        between(v, count);
        store(v, x + i, LANES, count);
    }
}

/* The same where several chunks of n fit into one vector. */
static void small_pass(float *x, const float *scale, size_t n, size_t total)
{
    size_t i = 0;
    for (; i + LANES <= total; i += LANES) {
        vec v, s;
        memcpy(&v, x + i, sizeof v);
        if (scale) {
            memcpy(&s, scale + i, sizeof s);
            v *= s;
        }
        WITHIN(v, n);
        memcpy(x + i, &v, sizeof v);
    }
    for (size_t k = i; scale && k < total; k++)
        x[k] *= scale[k];
    for (size_t h = 1; h < n; h *= 2) {
        for (size_t k = i; k < total; k += k % h == h - 1 ? h + 1 : 1) {
            const float before = x[k];
            x[k] = before + x[k + h];
            x[k + h] = before - x[k + h];
        }
    }
}

/* The butterflies of distance h, 2 h, ..., count h / 2 of all of x [total], h a multiple of LANES. */
ALWAYS_INLINE void later_pass(float *x, size_t h, size_t total, size_t count)
{
    for (size_t i = 0; i < total; i += count * h) {
        for (size_t k = i; k < i + h; k += LANES) {
            vec v[MOST_VECS];
            load(v, x + k, h, count);
            between(v, count);
            store(v, x + k, h, count);
        }
    }
}

static void hadamard(float *x, const float *scale, size_t n, size_t count)
{
    const size_t total = n * count, vecs = n / LANES;
    size_t done = n;
    if (vecs >= 8) {
        first_pass(x, scale, total, 8);
        done = 8 * LANES;
    } else if (vecs == 4) {
        first_pass(x, scale, total, 4);
    } else if (vecs == 2) {
        first_pass(x, scale, total, 2);
    } else {
        small_pass(x, scale, n, total);
    }
    for (; n / done >= 8; done *= 8)
        later_pass(x, done, total, 8);
    if (n / done == 4)
        later_pass(x, done, total, 4);
    else if (n / done == 2)
        later_pass(x, done, total, 2);
}

#define EACH_COLUMN(count) _Pragma("GCC unroll 4") for (size_t u = 0; u < (count); u++)

/* `count` columns of x [order, stride] -> H x; column u is one register wide and begins at x + u * step. Each
 * four of entries a, b, c, d is summed once with each of the eight choices of signs that leave a's alone; a
 * row of H is then order / 4 of these sums, each added or subtracted. */
#define DEFINE_MIX(name, type, count) \
    static void name(float *x, const uint8_t *picks, size_t order, size_t stride, size_t step) \
    { \
        const float signs[2] = {1.0f, -1.0f}; \
        const size_t fours = order / 4; \
        type sums[MOST_FOURS][8][count]; \
        for (size_t q = 0; q < fours; q++) { \
            for (size_t u = 0; u < (count); u++) { \
                const float *from = x + 4 * q * stride + u * step; \
                type a, b, c, d; \
                memcpy(&a, from, sizeof a); \
                memcpy(&b, from + stride, sizeof b); \
                memcpy(&c, from + 2 * stride, sizeof c); \
                memcpy(&d, from + 3 * stride, sizeof d); \
                const type plus = a + b, minus = a - b, same = c + d, other = c - d; \
                sums[q][0][u] = plus + same; \
                sums[q][1][u] = plus + other; \
                sums[q][2][u] = plus - other; \
                sums[q][3][u] = plus - same; \
                sums[q][4][u] = minus + same; \
                sums[q][5][u] = minus + other; \
                sums[q][6][u] = minus - other; \
                sums[q][7][u] = minus - same; \
            } \
        } \
        for (size_t row = 0; row < order; row++, picks += fours) { \
            type total[count]; \
            EACH_COLUMN(count) \
            total[u] = sums[0][picks[0] & 7][u] * signs[picks[0] >> 3]; \
            for (size_t q = 1; q < fours; q++) { \
                const type *sum = sums[q][picks[q] & 7]; \
                const float sign = signs[picks[q] >> 3]; \
                EACH_COLUMN(count) \
                total[u] += sum[u] * sign; \
            } \
            EACH_COLUMN(count) \
            memcpy(x + row * stride + u * step, &total[u], sizeof total[u]); \
        } \
    }
DEFINE_MIX(mix_float, float, 1)
DEFINE_MIX(mix_four, four, 1)
DEFINE_MIX(mix_fours, four, SIDE_BY_SIDE)
DEFINE_MIX(mix_vec, vec, 1)
DEFINE_MIX(mix_vecs, vec, SIDE_BY_SIDE)

/* Several columns at once share the reading of picks: columns of one matrix where it has registers full of
 * them, else those in the same place of neighbouring matrices. */
static void hadamard_mix(float *x, const uint8_t *picks, size_t order, size_t stride, size_t count)
{
    const size_t size = order * stride, end = size * count;
    size_t i = 0;
    if (stride % LANES == 0) {
        for (; i < end; i += size) {
            size_t k = i;
            for (; k + SIDE_BY_SIDE * LANES <= i + stride; k += SIDE_BY_SIDE * LANES)
                mix_vecs(x + k, picks, order, stride, LANES);
            for (; k < i + stride; k += LANES)
                mix_vec(x + k, picks, order, stride, 0);
        }
    } else if (stride % 4 == 0) {
        for (; i + SIDE_BY_SIDE * size <= end; i += SIDE_BY_SIDE * size)
            for (size_t k = i; k < i + stride; k += 4)
                mix_fours(x + k, picks, order, stride, size);
        for (; i < end; i += size)
            for (size_t k = i; k < i + stride; k += 4)
                mix_four(x + k, picks, order, stride, 0);
    } else {
        for (; i < end; i += size)
            for (size_t k = i; k < i + stride; k++)
                mix_float(x + k, picks, order, stride, 0);
    }
}

void LB_FILL_HADAMARD(lb_kernels *table)
{
    table->hadamard = hadamard;
    table->hadamard_mix = hadamard_mix;
}
