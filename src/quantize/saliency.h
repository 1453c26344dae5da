/* SPDX-License-Identifier: MIT
 *
 * Which weights of a bank deserve the high width (formats/kinds.h): those with the largest w^2 * score of their input
 * channel i. With H the inputs' damped second moments and (H)^-1 = U^T U,
 *
 *   obs        1 / [H^-1]_ii      what it costs to lose the weight when all others make up for it (Optimal Brain
 *                                 Surgeon)
 *   paper      1 / [H^-1]_ii^2    as arXiv:2512.05409, algorithm 1, has it
 *   chol       1 / U_ii^2         as the code of SparseGPT has it: when the channels after i make up for it
 *   magnitude  1
 */
#ifndef LB_QUANTIZE_SALIENCY_H
#define LB_QUANTIZE_SALIENCY_H

#include "quantize/columns.h"

/* Scores of all channels in visiting order: out [columns->n]. */
void lb_saliency_scores(lb_saliency how, const lb_columns *columns, float *out);

#endif
