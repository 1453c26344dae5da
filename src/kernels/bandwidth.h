/* SPDX-License-Identifier: MIT
 * How fast this machine can read memory: the limit of every matrix-vector product. */
#ifndef LB_KERNELS_BANDWIDTH_H
#define LB_KERNELS_BANDWIDTH_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "kernels/kernels.h"

/* Enough that no cache of today's processors holds it. */
#define LB_BANDWIDTH_BYTES ((size_t)512 << 20)

/* The best rate, in 1e9 bytes a second, of `repeats` plain reads of a buffer of `bytes`, on as many
 * threads as lb_parallel_for uses. */
lb_status lb_read_bandwidth(const lb_kernels *kernels, size_t bytes, unsigned repeats, double *gb_per_second,
                            lb_error *err);

#endif
