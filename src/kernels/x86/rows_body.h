/* SPDX-License-Identifier: MIT
 *
 * Products of rows and vectors, for registers of any width. The includer defines vec, LANES and v_load,
 * v_store, v_zero, v_fma (a * b + c), v_mul, v_set, v_join (the sum of the lanes), v_load_f16, v_load_bf16
 * and v_load_i8; and DOT_VECTORS and MIX_VECTORS, so many that all sums of a tile and what they are made of
 * have registers.
 *
 * A tile is TILE_ROWS rows by a few vectors: each element is loaded and widened once, and added to a sum for
 * every vector. A sum is one register, whatever the tile, so that its bits do not depend on that.
 */
enum { TILE_ROWS = 4, MIX_CHUNKS = 4, NEAR_BYTES = 2048, AHEAD_BYTES = 1024 };

/* 2^(byte - 127); the least one is subnormal. */
LB_INLINE float power_at(const lb_rows *rows, size_t row, size_t i)
{
    const uint8_t byte = ((const uint8_t *)rows->scales)[row * rows->scale_stride + i / LB_ROWS_BLOCK];
    return lb_float_from_bits(byte ? (uint32_t)byte << 23 : 0x400000u);
}

/* LANES elements of a type, from memory that may be a copy of the row's, as products with the row's scale. */
LB_INLINE vec widen(lb_row_type type, const lb_rows *rows, size_t row, size_t i, const void *p)
{
    switch (type) {
    case LB_ROWS_F32:
        return v_load(p);
    case LB_ROWS_F16:
        return v_load_f16(p);
    case LB_ROWS_BF16:
        return v_load_bf16(p);
    case LB_ROWS_INT8:
        return v_mul(v_load_i8(p), v_set(((const float *)rows->scales)[row * rows->scale_stride]));
    default:
        return v_mul(v_load_i8(p), v_set(power_at(rows, row, i)));
    }
}

LB_INLINE size_t element_bytes(lb_row_type type)
{
    return type == LB_ROWS_F32 ? 4 : type == LB_ROWS_F16 || type == LB_ROWS_BF16 ? 2 : 1;
}

LB_INLINE const uint8_t *element_at(lb_row_type type, const lb_rows *rows, size_t row, size_t i)
{
    return (const uint8_t *)rows->values + (row * rows->stride + i) * element_bytes(type);
}

LB_INLINE vec row_at(lb_row_type type, const lb_rows *rows, size_t row, size_t i)
{
    return widen(type, rows, row, i, element_at(type, rows, row, i));
}

/* The last `count` < LANES elements, and zeros. */
LB_INLINE vec row_end(lb_row_type type, const lb_rows *rows, size_t row, size_t i, size_t count)
{
    uint8_t copy[LANES * sizeof(float)] = {0};
    memcpy(copy, element_at(type, rows, row, i), count * element_bytes(type));
    return widen(type, rows, row, i, copy);
}

LB_INLINE vec vector_end(const float *x, size_t count)
{
    float copy[LANES] = {0};
    memcpy(copy, x, count * sizeof *copy);
    return v_load(copy);
}

/* 16-bit weights come from memory, and the processor's own prefetching lags behind. Short rows are asked for
 * a tile ahead, long ones further on in themselves. */
LB_INLINE void ask_for(lb_row_type type, const lb_rows *rows, const uint8_t *p)
{
    const size_t row_bytes = rows->stride * element_bytes(type);
    if (type == LB_ROWS_F16 || type == LB_ROWS_BF16)
        _mm_prefetch((const char *)p + (row_bytes < NEAR_BYTES ? TILE_ROWS * row_bytes : AHEAD_BYTES),
                     _MM_HINT_T0);
}

LB_INLINE void dot_tile(lb_row_type type, const lb_rows_job *j, size_t first, size_t row_count, size_t at,
                        size_t vector_count)
{
    const lb_rows *rows = &j->rows;
    const size_t n = rows->n;
    vec sums[TILE_ROWS][DOT_VECTORS], xs[DOT_VECTORS];
    size_t i = 0;
#pragma GCC unroll 4
    for (size_t r = 0; r < row_count; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vector_count; v++)
            sums[r][v] = v_zero();
    for (; n - i >= LANES; i += LANES) {
#pragma GCC unroll 4
        for (size_t v = 0; v < vector_count; v++)
            xs[v] = v_load(j->x + (at + v) * j->x_stride + i);
#pragma GCC unroll 4
        for (size_t r = 0; r < row_count; r++) {
            if (i % (64 / element_bytes(type)) == 0)
                ask_for(type, rows, element_at(type, rows, first + r, i));
            const vec w = row_at(type, rows, first + r, i);
#pragma GCC unroll 4
            for (size_t v = 0; v < vector_count; v++)
                sums[r][v] = v_fma(w, xs[v], sums[r][v]);
        }
    }
    if (i < n) {
        for (size_t v = 0; v < vector_count; v++)
            xs[v] = vector_end(j->x + (at + v) * j->x_stride + i, n - i);
        for (size_t r = 0; r < row_count; r++) {
            const vec w = row_end(type, rows, first + r, i, n - i);
            for (size_t v = 0; v < vector_count; v++)
                sums[r][v] = v_fma(w, xs[v], sums[r][v]);
        }
    }
#pragma GCC unroll 4
    for (size_t r = 0; r < row_count; r++)
#pragma GCC unroll 4
        for (size_t v = 0; v < vector_count; v++)
            j->y[(at + v) * j->y_stride + first + r] = v_join(sums[r][v]);
}

/* All vectors, beside rows_count rows. FEW_ROWS rows by DOT_VECTORS vectors widen an element less often than
 * TILE_ROWS by fewer; with fewer vectors than that it takes TILE_ROWS rows to keep both multipliers busy. */
LB_INLINE void dot_vectors(lb_row_type type, const lb_rows_job *j, size_t first, size_t row_count)
{
    size_t at = 0;
    for (; j->vectors - at >= DOT_VECTORS; at += DOT_VECTORS) {
        if (row_count == 1) {
            dot_tile(type, j, first, 1, at, DOT_VECTORS);
            continue;
        }
        for (size_t r = 0; r < TILE_ROWS; r += FEW_ROWS)
            dot_tile(type, j, first + r, FEW_ROWS, at, DOT_VECTORS);
    }
    switch (j->vectors - at) {
    case 1:
        dot_tile(type, j, first, row_count, at, 1);
        break;
    case 2:
        dot_tile(type, j, first, row_count, at, 2);
        break;
    case 3:
        dot_tile(type, j, first, row_count, at, 3);
        break;
    default:
        break;
    }
}

LB_INLINE void dot_rows(lb_row_type type, const lb_rows_job *j)
{
    size_t first = 0;
    for (; j->count - first >= TILE_ROWS; first += TILE_ROWS)
        dot_vectors(type, j, first, TILE_ROWS);
    for (; first < j->count; first++)
        dot_vectors(type, j, first, 1);
}

/* Columns [at, at + chunks * LANES), or the last `end` < LANES ones where end > 0 (chunks is 1 then). */
LB_INLINE void mix_tile(lb_row_type type, const lb_rows_job *j, size_t from, size_t vector_count, size_t at,
                        size_t chunks, size_t end)
{
    vec sums[MIX_VECTORS][MIX_CHUNKS];
    float *y = j->y + from * j->y_stride + at;
    const float *x = j->x + from * j->x_stride;
#pragma GCC unroll 4
    for (size_t v = 0; v < vector_count; v++)
#pragma GCC unroll 4
        for (size_t c = 0; c < chunks; c++)
            sums[v][c] = end ? vector_end(y + v * j->y_stride, end) : v_load(y + v * j->y_stride + c * LANES);
    for (size_t r = 0; r < j->count; r++) {
#pragma GCC unroll 4
        for (size_t c = 0; c < chunks; c++) {
            const vec w =
                end ? row_end(type, &j->rows, r, at, end) : row_at(type, &j->rows, r, at + c * LANES);
#pragma GCC unroll 4
            for (size_t v = 0; v < vector_count; v++)
                sums[v][c] = v_fma(w, v_set(x[v * j->x_stride + r]), sums[v][c]);
        }
    }
#pragma GCC unroll 4
    for (size_t v = 0; v < vector_count; v++) {
#pragma GCC unroll 4
        for (size_t c = 0; c < chunks; c++) {
            float copy[LANES];
            v_store(end ? copy : y + v * j->y_stride + c * LANES, sums[v][c]);
            if (end)
                memcpy(y + v * j->y_stride, copy, end * sizeof *copy);
        }
    }
}

LB_INLINE void mix_vectors(lb_row_type type, const lb_rows_job *j, size_t from, size_t vector_count)
{
    const size_t n = j->rows.n;
    size_t at = 0;
    for (; n - at >= MIX_CHUNKS * LANES; at += MIX_CHUNKS * LANES)
        mix_tile(type, j, from, vector_count, at, MIX_CHUNKS, 0);
    for (; n - at >= LANES; at += LANES)
        mix_tile(type, j, from, vector_count, at, 1, 0);
    if (at < n)
        mix_tile(type, j, from, vector_count, at, 1, n - at);
}

LB_INLINE void mix_rows(lb_row_type type, const lb_rows_job *j)
{
    size_t from = 0;
    for (; j->vectors - from >= MIX_VECTORS; from += MIX_VECTORS)
        mix_vectors(type, j, from, MIX_VECTORS);
    for (; from < j->vectors; from++)
        mix_vectors(type, j, from, 1);
}

#define LB_ROWS_OF(type, suffix) \
    static void dot_##suffix(const lb_rows_job *j) \
    { \
        dot_rows(type, j); \
    } \
    static void mix_##suffix(const lb_rows_job *j) \
    { \
        mix_rows(type, j); \
    }
LB_ROWS_OF(LB_ROWS_F32, f32)
LB_ROWS_OF(LB_ROWS_F16, f16)
LB_ROWS_OF(LB_ROWS_BF16, bf16)
LB_ROWS_OF(LB_ROWS_INT8, int8)
LB_ROWS_OF(LB_ROWS_MXINT8, mxint8)

static void rows_dot(lb_row_type type, const lb_rows_job *j)
{
    static void (*const by_type[])(const lb_rows_job *) = {dot_f32, dot_f16, dot_bf16, dot_int8, dot_mxint8};
    by_type[type](j);
}

static void rows_mix(lb_row_type type, const lb_rows_job *j)
{
    static void (*const by_type[])(const lb_rows_job *) = {mix_f32, mix_f16, mix_bf16, mix_int8, mix_mxint8};
    by_type[type](j);
}
