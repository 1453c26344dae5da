/* SPDX-License-Identifier: MIT */
#include "calibrate/hessian.h"

#include "base/alloc.h"
#include "linalg/gemm.h"

lb_status lb_hessian_create(size_t n, bool with_drift, lb_hessian *out, lb_error *err)
{
    lb_hessian h = {.n = n, .h = lb_alloc_zero(n * n, sizeof *h.h)};
    if (with_drift)
        h.drift = lb_alloc_zero(n * n, sizeof *h.drift);
    if (!h.h || (with_drift && !h.drift)) {
        lb_hessian_free(&h);
        return lb_fail(err, LB_ENOMEM, "Hessian: no memory for %zu x %zu floats", n, n);
    }
    *out = h;
    return LB_OK;
}

void lb_hessian_free(lb_hessian *hessian)
{
    lb_free(hessian->h);
    lb_free(hessian->drift);
    *hessian = (lb_hessian){0};
}

void lb_hessian_add(lb_hessian *hessian, const float *x, float *original, size_t tokens)
{
    lb_gram_add(tokens, hessian->n, x, hessian->h);
    if (hessian->drift) {
        for (size_t i = 0; i < tokens * hessian->n; i++)
            original[i] -= x[i];
        lb_cross_add(tokens, hessian->n, x, original, hessian->drift);
    }
    hessian->tokens += tokens;
}

void lb_hessian_finish(lb_hessian *hessian)
{
    const size_t n = hessian->n;
    const float scale = hessian->tokens ? 1.0f / (float)hessian->tokens : 0.0f;
    for (size_t i = 0; i < n; i++) {
        hessian->h[i * n + i] *= scale;
        for (size_t j = i + 1; j < n; j++) {
            hessian->h[i * n + j] *= scale;
            hessian->h[j * n + i] = hessian->h[i * n + j];
        }
    }
    for (size_t i = 0; hessian->drift && i < n * n; i++)
        hessian->drift[i] *= scale;
}

void lb_hessian_importance(const lb_hessian *hessian, float *out)
{
    float largest = 0.0f;
    for (size_t i = 0; i < hessian->n; i++) {
        out[i] = hessian->h[i * hessian->n + i];
        largest = out[i] > largest ? out[i] : largest;
    }
    for (size_t i = 0; i < hessian->n; i++) {
        const float least = largest * 1e-6f;
        out[i] = largest == 0.0f ? 1.0f : out[i] > least ? out[i] : least;
    }
}

lb_status lb_hessian_energy(const lb_hessian *hessian, const float *d, size_t rows, double *out,
                            lb_error *err)
{
    const size_t n = hessian->n;
    float *dh;
    LB_TRY(lb_alloc_array(&dh, rows, n * sizeof *dh, "error energy", err));
    lb_gemm_nt(rows, n, n, d, n, hessian->h, n, 0.0f, dh, n);
    double total = 0.0;
    for (size_t r = 0; r < rows; r++) {
        double row = 0.0;
        for (size_t i = 0; i < n; i++)
            row += (double)d[r * n + i] * (double)dh[r * n + i];
        total += row;
    }
    lb_free(dh);
    *out = total;
    return LB_OK;
}
