/* SPDX-License-Identifier: MIT
 * What a folder's quantization_config says of one layer. */
#ifndef LB_MODEL_FOREIGN_SCHEME_H
#define LB_MODEL_FOREIGN_SCHEME_H

#include "model/weights.h"

/* The bits of the integers of weight `name`; 0: that is not said, or said layer by layer in rules that only their tools
 * read (GPTQModel's "dynamic", AutoRound's "extra_config"). LB_EFORMAT for a number that no layer can have, and for
 * compressed-tensors' groups of floats: `name` consists of integers. */
lb_status lb_foreign_declared_bits(const lb_weights *weights, const char *name, unsigned *bits,
                                   lb_error *err);

#endif
