/* SPDX-License-Identifier: MIT
 *
 * What SQ-format's two precisions are worth in time (arXiv:2512.05409): products of a share S of low precision, of
 * which a unit makes r times as many a second as of the high one.
 *
 *   serial     one after the other, each its share: as two matrix products on one processor
 *              speed-up over all high = 1 / ((1 - S) + S / r)
 *   parallel   a low unit goes through all channels (the high ones' codes stand for nothing there), a high unit
 *              through its own beside it
 *              speed-up over all high = 1 / max(1 / r, 1 - S), which is r from S = 1 - 1 / r on
 */
#ifndef LB_ANALYZE_THROUGHPUT_H
#define LB_ANALYZE_THROUGHPUT_H

#include "kernels/kernels.h"

double lb_serial_speedup(double share, double ratio);
double lb_parallel_speedup(double share, double ratio);
/* The least share of low precision from which on parallel units lose nothing to the high part. */
double lb_parallel_share(double ratio);

enum { LB_THROUGHPUT_SHARES = 4 };
extern const double lb_throughput_shares[LB_THROUGHPUT_SHARES]; /* 1/2, 3/4, 7/8, 15/16 */

/* Multiplications and additions a second of this processor's kernels (kernels/qrows.h), on all threads. */
typedef struct lb_throughput {
    double w8a8, w4a8, w4a4;
    double mixed[LB_THROUGHPUT_SHARES]; /* weights of 4 bits; inputs of 4 bits but for a share of 8 */
} lb_throughput;

/* Takes about half a second. */
lb_status lb_throughput_measure(const lb_kernels *kernels, lb_throughput *out, lb_error *err);

#endif
