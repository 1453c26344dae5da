/* SPDX-License-Identifier: MIT
 * Numbers of a layer that another tool packed, one by one and row by row. */
#ifndef LB_MODEL_FOREIGN_ROWS_H
#define LB_MODEL_FOREIGN_ROWS_H

#include "model/foreign.h"

/* Of a layer whose tensors have been checked: */
float lb_foreign_scale(const lb_weight *w, size_t row, size_t group);
int lb_foreign_zero(const lb_weight *w, size_t row, size_t group);

/* The zero of 4 bits that minimum m = -d * zero of a block of Q4_1 stands for, if it stands for one. */
int lb_foreign_zero_of_minimum(float d, float m);

/* The scale of a tensor that lowbit noted down, where `scale` is what its stored inverse gives; otherwise `scale`. */
float lb_foreign_exact_scale(const lb_weights *weights, const char *name, float scale);

#endif
