/* SPDX-License-Identifier: MIT
 *
 * The quantization signal-to-noise ratio of number formats, measured: signal and noise energies are summed in
 * double, rows in order, so that results never depend on the number of threads. Beside it the crest factors
 * max |x| / rms of the blocks, which the theory (qsnr_theory.h) is a function of.
 *
 *   lb_qsnr_set *set;
 *   lb_qsnr_set_create(kernels, formats, count, true, 42, &set, err)
 *   for every tensor: lb_qsnr_set_add(set, x, rows, cols, "layer 3", err)
 *   lb_qsnr_set_result(set, i, false) .qsnr_db ...
 *   lb_qsnr_set_destroy(set)
 */
#ifndef LB_ANALYZE_QSNR_MEASURE_H
#define LB_ANALYZE_QSNR_MEASURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "analyze/crest.h"
#include "base/error.h"
#include "formats/format.h"
#include "kernels/kernels.h"

/* ---- One format ------------------------------------------------------------------------------------ */

typedef struct lb_qsnr {
    double signal, noise;
    size_t values;
} lb_qsnr;

/* Adds x [rows, cols], rounded to the format (fitted by range); a format with a tensor scale must be bound.
 * A value that is not finite is LB_EFORMAT with its place in `name`. */
lb_status lb_qsnr_add(const lb_kernels *kernels, const lb_format *format, const float *x, size_t rows,
                      size_t cols, const char *name, lb_qsnr *sum, lb_error *err);

/* Adds x [rows, cols] and what somebody has rounded it to. */
lb_status lb_qsnr_compare(const float *x, const float *rounded, size_t rows, size_t cols, lb_qsnr *sum,
                          lb_error *err);

/* dB; +infinity when all values were represented exactly. */
double lb_qsnr_db(const lb_qsnr *sum);

/* ---- Several formats on the same tensors, plain and rotated ----------------------------------------- */

typedef struct lb_qsnr_result {
    double qsnr_db;
    double theory_db, theory_paper_db; /* LB_THEORY_GRID, LB_THEORY_PAPER; NaN: none */
    lb_crest_summary crest;
    size_t values;
    double bits_per_value;
} lb_qsnr_result;

typedef struct lb_qsnr_set lb_qsnr_set;

/* With `rotate`, tensors are measured once more after a random Hadamard rotation of their rows in chunks of
 * each format's block (kernels/hadamard.h); tensor i has signs of its own from seed + i. */
lb_status lb_qsnr_set_create(const lb_kernels *kernels, const lb_format *formats, size_t count, bool rotate,
                             uint64_t seed, lb_qsnr_set **out, lb_error *err);
void lb_qsnr_set_destroy(lb_qsnr_set *set); /* NULL is allowed */

/* One tensor: formats with a tensor scale are bound to it. x is left as it is. */
lb_status lb_qsnr_set_add(lb_qsnr_set *set, const float *x, size_t rows, size_t cols, const char *name,
                          lb_error *err);

lb_qsnr_result lb_qsnr_set_result(const lb_qsnr_set *set, size_t format, bool rotated);

#endif
