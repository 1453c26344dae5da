/* SPDX-License-Identifier: MIT
 * Float matrix products through BLAS. The work is cut into fixed tiles, each a single-threaded BLAS
 * call, so results do not depend on the number of threads. Row-major everywhere. */
#ifndef LB_LINALG_GEMM_H
#define LB_LINALG_GEMM_H

#include <stddef.h>

/* Keeps BLAS itself on one thread. To be called on the thread that is about to call BLAS, every time;
 * cheap. Functions of this folder do so themselves. */
void lb_blas_prepare(void);

/* C [m, n] = A [m, k] * B [n, k]^T + beta * C; ldX are row strides in elements. */
void lb_gemm_nt(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                float beta, float *c, size_t ldc);

/* C [m, n] = A [m, k] * B [k, n]. */
void lb_gemm_nn(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                float *c, size_t ldc);

/* C [m, n] += A [m, k] * B [k, n]. */
void lb_gemm_nn_add(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                    float *c, size_t ldc);

/* One product of several: C [m, n] += A [k, m]^T * B [k, n]. */
typedef struct lb_gemm_tn {
    size_t m, n, k;
    const float *a, *b;
    float *c;
} lb_gemm_tn;

/* All of them in one loop, so that threads wait for each other only once. No two C may overlap. */
void lb_gemm_tn_add(const lb_gemm_tn *products, size_t count);

/* H [n, n] += X [m, n]^T Y [m, n]. */
void lb_cross_add(size_t m, size_t n, const float *x, const float *y, float *h);

/* H [n, n] += X [m, n]^T X. Only the upper triangle (column >= row) is touched. */
void lb_gram_add(size_t m, size_t n, const float *x, float *h);

#endif
