/* SPDX-License-Identifier: MIT
 * Vectors with 8-bit codes: the activations' side of a product. */
#include "kernels/qvec.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"

static size_t block_count(size_t cols)
{
    return cols / LB_PANEL_COLS + (cols % LB_PANEL_COLS != 0);
}

lb_status lb_qvec_create(size_t max_cols, lb_qvec **out, lb_error *err)
{
    lb_status st = LB_OK;
    size_t blocks = block_count(max_cols);
    lb_qvec *vector = lb_alloc_zero(1, sizeof *vector);
    if (!vector)
        return lb_fail(err, LB_ENOMEM, "8-bit vector: no memory for %zu bytes", sizeof *vector);
    vector->max_cols = max_cols;
    LB_GO(lb_alloc_array(&vector->codes, blocks, LB_PANEL_COLS, "8-bit vector's codes", err));
    LB_GO(lb_alloc_array(&vector->scales, blocks, sizeof *vector->scales, "8-bit vector's scales", err));
    LB_GO(lb_alloc_array(&vector->sums, blocks, sizeof *vector->sums, "8-bit vector's sums", err));
    LB_GO(lb_alloc_array(&vector->code_sums, blocks, sizeof *vector->code_sums, "8-bit vector's code sums",
                         err));
    *out = vector;
    vector = NULL;
done:
    lb_qvec_destroy(vector);
    return st;
}

void lb_qvec_destroy(lb_qvec *vector)
{
    if (!vector)
        return;
    lb_free(vector->codes);
    lb_free(vector->scales);
    lb_free(vector->sums);
    lb_free(vector->code_sums);
    lb_free(vector);
}

void lb_qvec_set(const lb_kernels *kernels, lb_qvec *vector, const float *x, size_t cols)
{
    assert(cols <= vector->max_cols);
    size_t whole = cols / LB_PANEL_COLS, rest = cols % LB_PANEL_COLS;
    kernels->qvec_encode(x, whole, vector->codes, vector->scales, vector->code_sums);
    if (rest) {
        float last[LB_PANEL_COLS] = {0};
        memcpy(last, x + whole * LB_PANEL_COLS, rest * sizeof *last);
        kernels->qvec_encode(last, 1, vector->codes + whole * LB_PANEL_COLS, vector->scales + whole,
                             vector->code_sums + whole);
    }
    for (size_t b = 0; b < block_count(cols); b++)
        vector->sums[b] = vector->scales[b] * (float)vector->code_sums[b];
    vector->cols = cols;
}
