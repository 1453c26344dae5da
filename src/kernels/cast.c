/* SPDX-License-Identifier: MIT
 * See cast.h. */
#include "kernels/cast.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "formats/kinds.h"

/* Floats of a chunk: enough work to be worth handing to a thread. */
enum { CHUNK_FLOATS = 16 << 10, TILE = 256 };

typedef struct job {
    const lb_kernels *kernels;
    const lb_format *format;
    bool bind_rows;
    float *x;
    size_t cols;
} job;

static void cast_to_half(const lb_format *format, float *x, size_t n)
{
    if (strcmp(format->name, "f16") == 0) {
        for (size_t i = 0; i < n; i++)
            x[i] = lb_f16_to_float(lb_f16_from_float(x[i]));
    } else if (strcmp(format->name, "bf16") == 0) {
        for (size_t i = 0; i < n; i++)
            x[i] = lb_bf16_to_float(lb_bf16_from_float(x[i]));
    }
}

static bool all_finite(const float *x, size_t n)
{
    uint32_t largest = 0;
    for (size_t i = 0; i < n; i++) {
        const uint32_t magnitude = lb_float_bits(x[i]) & 0x7fffffffu;
        largest = magnitude > largest ? magnitude : largest;
    }
    return largest < 0x7f800000u;
}

/* A group may be a whole row: its codes exist a tile at a time. Formats whose scale cannot be NaN do as the
 * block formats do: a NaN or an infinity makes NaNs of its group. */
static void cast_groups(const lb_format *format, float *x, size_t cols)
{
    float params[LB_FORMAT_MAX_PARAMS];
    uint8_t codes[TILE];
    for (size_t g = 0, at = 0; at < cols; g++) {
        const size_t end = at + lb_format_group_size(format, cols, g);
        if (!all_finite(x + at, end - at)) {
            for (; at < end; at++)
                x[at] = NAN;
            continue;
        }
        if (format->ops->kinds) /* groups of these fit a tile */
            format->ops->kinds->choose(format, x + at, NULL, end - at, codes);
        lb_format_fit(format, x + at, NULL, codes, end - at, LB_FIT_RANGE, params);
        while (at < end) {
            const size_t n = end - at < TILE ? end - at : TILE;
            format->ops->round(format, params, x + at, n, codes);
            format->ops->value(format, params, codes, n, x + at);
            at += n;
        }
    }
}

static void cast_chunk(void *arg, size_t begin, size_t end)
{
    const job *j = arg;
    for (size_t row = begin; row < end; row++) {
        float *x = j->x + row * j->cols;
        if (lb_format_is_float(j->format)) {
            cast_to_half(j->format, x, j->cols);
            continue;
        }
        lb_format format = *j->format;
        if (j->bind_rows)
            lb_format_bind(&format, x, j->cols);
        if (format.element)
            j->kernels->block_cast(&format, x, j->cols);
        else
            cast_groups(&format, x, j->cols);
    }
}

lb_status lb_cast_rows(const lb_kernels *kernels, const lb_format *format, bool bind_rows, float *x,
                       size_t rows, size_t cols, lb_error *err)
{
    LB_TRY(lb_format_check_cols(format, cols, "a tensor", err));
    job j = {.kernels = kernels, .format = format, .bind_rows = bind_rows, .x = x, .cols = cols};
    if (lb_format_has_tensor_scale(format) && !bind_rows &&
        !(format->tensor_scale > 0.0f && isfinite(format->tensor_scale)))
        return lb_fail(err, LB_EINVAL, "the tensor scale of %s is %g, want a finite number above 0",
                       format->name, (double)format->tensor_scale);
    if (rows > 0 && cols > 0 && strcmp(format->name, "f32") != 0)
        lb_parallel_for(rows, CHUNK_FLOATS / cols + 1, cast_chunk, &j);
    return LB_OK;
}

/* ---- Activations in banks ---------------------------------------------------------------------------------- */

typedef struct bank_job {
    const lb_act *act;
    float *x;
    size_t cols;
    atomic_int failed;
} bank_job;

/* Which of x [n] are its `count` largest magnitudes, the first of equals: high [n]. */
static void choose_high(const float *x, size_t n, size_t count, bool *high)
{
    memset(high, 0, n * sizeof *high);
    for (size_t k = 0; k < count; k++) {
        size_t best = n;
        for (size_t i = 0; i < n; i++)
            if (!high[i] && (best == n || fabsf(x[i]) > fabsf(x[best])))
                best = i;
        high[best] = true;
    }
}

/* A row's own choice: its high numbers, then its low ones, are cast beside it and put back. */
static void cast_dynamic(const lb_act *a, float *x, size_t cols, float *copy, bool *high)
{
    const size_t split = lb_act_high_channels(a, cols);
    size_t at[2] = {0, split};
    for (size_t b = 0; b < cols; b += a->bank)
        choose_high(x + b, a->bank, a->high_per_bank, high + b);
    for (size_t i = 0; i < cols; i++)
        copy[at[!high[i]]++] = x[i];
    cast_groups(&a->high, copy, split);
    cast_groups(&a->format, copy + split, cols - split);
    at[0] = 0;
    at[1] = split;
    for (size_t i = 0; i < cols; i++)
        x[i] = copy[at[!high[i]]++];
}

static void cast_banks(void *arg, size_t begin, size_t end)
{
    bank_job *j = arg;
    const size_t split = lb_act_high_channels(j->act, j->cols);
    float *copy = NULL;
    if (j->act->dynamic && !(copy = lb_alloc(j->cols, sizeof *copy + sizeof(bool)))) {
        atomic_store(&j->failed, 1);
        return;
    }
    for (size_t row = begin; row < end; row++) {
        float *x = j->x + row * j->cols;
        if (j->act->dynamic) {
            cast_dynamic(j->act, x, j->cols, copy, (bool *)(copy + j->cols));
            continue;
        }
        cast_groups(&j->act->high, x, split);
        cast_groups(&j->act->format, x + split, j->cols - split);
    }
    lb_free(copy);
}

lb_status lb_cast_act(const lb_kernels *kernels, const lb_act *act, float *x, size_t rows, size_t cols,
                      lb_error *err)
{
    if (act->bank == 0)
        return lb_cast_rows(kernels, &act->format, true, x, rows, cols, err);
    if (cols % act->bank != 0)
        return lb_fail(err, LB_EINVAL, "banks of %zu channels do not divide %zu", act->bank, cols);
    bank_job j = {.act = act, .x = x, .cols = cols};
    lb_parallel_for(rows, CHUNK_FLOATS / cols + 1, cast_banks, &j);
    return atomic_load(&j.failed) ? lb_fail(err, LB_ENOMEM, "%s: no memory for a row", act->name) : LB_OK;
}
