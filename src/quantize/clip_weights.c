/* SPDX-License-Identifier: MIT */
#include "quantize/clip_weights.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include <cblas.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"

enum { ROWS_PER_CHUNK = 32, STEPS = 10 };

/* One group of all rows. */
typedef struct clip_job {
    const lb_format *format;
    const float *gram; /* [n, n] sums over tokens of x x^T */
    float *w; /* the group's first weight in row 0 */
    size_t n, stride;
    atomic_int failed;
} clip_job;

static float largest_magnitude(const float *w, size_t n)
{
    float most = 0.0f;
    for (size_t i = 0; i < n; i++)
        most = fabsf(w[i]) > most ? fabsf(w[i]) : most;
    return most;
}

static void clamp(const float *w, size_t n, float most, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = w[i] > most ? most : w[i] < -most ? -most : w[i];
}

static float share(int step)
{
    return 1.0f - (float)step / 20.0f;
}

/* out [n] = what clamping w to `most` and rounding changes. */
static void find_change(const clip_job *j, const float *w, float most, uint8_t *codes, float *out)
{
    float params[LB_FORMAT_MAX_PARAMS];
    clamp(w, j->n, most, out);
    lb_format_encode_row(j->format, out, NULL, j->n, LB_FIT_RANGE, codes, params);
    j->format->ops->value(j->format, params, codes, j->n, out);
    for (size_t i = 0; i < j->n; i++)
        out[i] = w[i] - out[i];
}

static void clip_rows(void *arg, size_t begin, size_t end)
{
    clip_job *j = arg;
    const size_t rows = end - begin, n = j->n;
    float *changes = lb_alloc(2 * rows, n * sizeof *changes), *products = changes + rows * n;
    uint8_t *codes = lb_alloc(n, 1);
    double least[ROWS_PER_CHUNK];
    int best[ROWS_PER_CHUNK] = {0};
    if (!changes || !codes) {
        atomic_store(&j->failed, 1);
        lb_free(changes);
        lb_free(codes);
        return;
    }
    lb_blas_prepare();
    for (int step = 0; step < STEPS; step++) {
        for (size_t r = 0; r < rows; r++) {
            const float *w = j->w + (begin + r) * j->stride;
            find_change(j, w, share(step) * largest_magnitude(w, n), codes, changes + r * n);
        }
        cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)n, (int)n, 1.0f, changes,
                    (int)n, j->gram, (int)n, 0.0f, products, (int)n);
        for (size_t r = 0; r < rows; r++) {
            double error = 0.0;
            for (size_t i = 0; i < n; i++)
                error += (double)changes[r * n + i] * (double)products[r * n + i];
            if (step == 0 || error < least[r]) {
                least[r] = error;
                best[r] = step;
            }
        }
    }
    for (size_t r = 0; r < rows; r++) {
        float *w = j->w + (begin + r) * j->stride;
        if (best[r] > 0)
            clamp(w, n, share(best[r]) * largest_magnitude(w, n), w);
    }
    lb_free(changes);
    lb_free(codes);
}

/* gram [n, n] of columns [at, at + n); part [tokens, n] is scratch. */
static void find_gram(const float *x, size_t tokens, size_t cols, size_t at, size_t n, float *part,
                      float *gram)
{
    for (size_t t = 0; t < tokens; t++)
        memcpy(part + t * n, x + t * cols + at, n * sizeof *part);
    memset(gram, 0, n * n * sizeof *gram);
    lb_gram_add(tokens, n, part, gram);
    for (size_t i = 0; i < n; i++)
        for (size_t k = i + 1; k < n; k++)
            gram[k * n + i] = gram[i * n + k];
}

lb_status lb_clip_weights(const lb_format *format, const float *x, size_t tokens, float *w, size_t rows,
                          size_t cols, lb_error *err)
{
    const size_t most = lb_format_group_size(format, cols, 0);
    float *part = NULL, *gram = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&part, tokens, most * sizeof *part, "clipping", err));
    LB_GO(lb_alloc_array(&gram, most, most * sizeof *gram, "clipping", err));
    for (size_t g = 0, at = 0; at < cols; g++) {
        const size_t n = lb_format_group_size(format, cols, g);
        clip_job j = {.format = format, .gram = gram, .w = w + at, .n = n, .stride = cols};
        find_gram(x, tokens, cols, at, n, part, gram);
        lb_parallel_for(rows, ROWS_PER_CHUNK, clip_rows, &j);
        if (atomic_load(&j.failed)) {
            st = lb_fail(err, LB_ENOMEM, "clipping: no memory for %d rows", ROWS_PER_CHUNK);
            goto done;
        }
        at += n;
    }
done:
    lb_free(part);
    lb_free(gram);
    return st;
}
