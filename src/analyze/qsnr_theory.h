/* SPDX-License-Identifier: MIT
 *
 * What the quantization signal-to-noise ratio of a block format should be, as a function of the crest factor
 * of its blocks, crest = max |x| / rms(x):
 *
 *   QSNR = -10 log10(|x - round(x)|^2 / |x|^2)  dB
 *
 * Theorems 1 (integers) and 2 (floats) of arXiv:2510.25602, and the same with its approximations taken away
 * one after the other; docs/number-formats-theory.md derives them.
 *
 * A block of g values has a crest factor between 1 and sqrt(g). The theorems do not know that, and give
 * numbers beyond it too; LB_THEORY_GRID does, and gives NaN there.
 */
#ifndef LB_ANALYZE_QSNR_THEORY_H
#define LB_ANALYZE_QSNR_THEORY_H

#include <stddef.h>

#include "formats/element.h"
#include "formats/format.h"

typedef enum lb_theory {
    LB_THEORY_PAPER, /* as printed: an integer of b bits reaches 2^(b-1), its scale is 1.5 times too large */
    LB_THEORY_RANGE, /* the same, but integers reach 2^(b-1) - 1 */
    LB_THEORY_PHASE, /* and the positions of scales and values between powers of two are log-uniform */
    LB_THEORY_GRID, /* and the error is integrated over the element's own grid, largest value apart */
    LB_THEORY_COUNT
} lb_theory;

/* How much too large the paper takes scales to be: E8M0, and (in its code) E4M3. */
#define LB_PAPER_RHO_E8M0 1.5
#define LB_PAPER_RHO_E4M3 1.05

/* Theorem 1: integers of `bits` bits, with the scale `rho` times what would be exact. block = 0: an E8M0
 * scale; otherwise an E4M3 scale, with which the largest value of a block of that size has no error.
 * `range` is the largest integer; 0 gives the paper's 4.78 + 6.02 bits. */
double lb_theorem_int(unsigned bits, double range, double crest, double rho, size_t block);

/* Theorem 2: floats. mean_inverse_square is E[1 / m^2] of mantissas m in [1, 2): 1/2 in the paper. */
double lb_theorem_float(const lb_element *element, double mean_inverse_square, double crest, double rho,
                        size_t block);

/* Means over log-uniform positions in an octave: rho^2 = 4^u gives 3 / (2 ln 2), 1 / m^2 gives 3 / (8 ln 2). */
#define LB_PHASE_RHO_SQUARE 2.1640425613334451
#define LB_PHASE_INVERSE_SQUARE 0.54101064033336128

/* QSNR in dB of blocks of `block` values with that crest factor; NaN where the theory does not cover the
 * format: the first three know the paper's rule, float scales, and (but for the first) plain symmetric
 * integers; the last knows all rules. */
double lb_theory_qsnr(lb_theory theory, const lb_format *format, double crest, size_t block);

/* The crest factor below which the integer format has the higher QSNR, and that QSNR; false when there is
 * none, up to 20 in the first three theories and sqrt(block) in the last. */
bool lb_theory_crossover(lb_theory theory, const lb_format *integer, const lb_format *floating, double *crest,
                         double *db);

#endif
