/* SPDX-License-Identifier: MIT
 *
 * A layer whose codes are chosen, looked at once more as a whole. Methods that go from column to column choose each
 * code, and each group's coefficients, for what earlier columns left and as if later ones could make up for the rest;
 * here all the others are known. With R = W' - Q what is left of the layer's target, in the geometry of its inputs,
 * each coordinate's best value given the others is exact:
 *
 *   code of column t     the nearest value to   q_t + (R H)_t / H_tt
 *   coefficients c       c + (F^T H_gg F)^-1 F^T (R H)_g,   Q = c F^T in group g
 *
 * which never makes tr(R H R^T) larger. (Coordinate descent on codes: QuantEase, arXiv:2309.01885. With coefficients in
 * turn: ours.)
 */
#ifndef LB_QUANTIZE_REFINE_H
#define LB_QUANTIZE_REFINE_H

#include "quantize/method.h"

/* Groups in turn, first codes and then, where the format has them, coefficients: recipe->refine times, or until no code
 * changes. target [rows, n] is what the layer should weigh, in stored order; damping from the recipe. The same bits at
 * any thread count. */
lb_status lb_refine_layer(const lb_recipe *recipe, const lb_hessian *h, const lb_layer *layer,
                          const float *target, lb_error *err);

#endif
