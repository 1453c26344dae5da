/* SPDX-License-Identifier: MIT
 *
 * Random Hadamard rotations of vectors (INT v.s. FP, arXiv:2510.25602; QuaRot, arXiv:2404.00456):
 *
 *   R = diag(signs) * blockdiag(H_b / sqrt(b), ...)
 *
 * is orthogonal, so (x R)(W R)^T = x W^T, while the entries of x R are sums over a whole chunk with random
 * signs: outliers are spread, and what is left is close to normal. H_b is Sylvester's matrix where b is a
 * power of two (b = 32 is the rotation of the paper); otherwise a Kronecker product of matrices of order
 * 12, 20 and 28 by Paley's second construction and one of Sylvester's. All are symmetric.
 *
 * A rotation costs n log2(n) additions and no memory. An infinity or NaN makes its chunk NaN or infinite.
 */
#ifndef LB_KERNELS_HADAMARD_H
#define LB_KERNELS_HADAMARD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"

typedef struct lb_rotation lb_rotation;

/* For vectors of n entries in chunks of `block` (0: one chunk of n). A chunk's size must be of the form 2^k,
 * or a product of 12s, 20s, 28s and powers of two; otherwise LB_EINVAL with the sizes near it that would do.
 * n must be a multiple of block, unless cut_tail: then what is left over is cut into powers of two, largest
 * first. Random signs depend on seed and n only. */
lb_status lb_rotation_create(size_t n, size_t block, bool cut_tail, uint64_t seed, lb_rotation **out,
                             lb_error *err);
void lb_rotation_destroy(lb_rotation *rotation); /* NULL is allowed */

size_t lb_rotation_size(const lb_rotation *rotation); /* n */

/* x [rows, n] -> x R in place, threaded over rows. */
void lb_rotation_apply(const lb_kernels *kernels, const lb_rotation *rotation, float *x, size_t rows);

/* x [rows, n] -> x R^T in place. */
void lb_rotation_undo(const lb_kernels *kernels, const lb_rotation *rotation, float *x, size_t rows);

/* Whether one chunk of that size can be made. */
bool lb_hadamard_order_exists(size_t n);

#endif
