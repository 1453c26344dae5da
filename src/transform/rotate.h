/* SPDX-License-Identifier: MIT
 * The weights' half of a rotation (model/inputs.h has the other): rows w of W -> w R, as inputs x -> x R. */
#ifndef LB_TRANSFORM_ROTATE_H
#define LB_TRANSFORM_ROTATE_H

#include "model/block.h"

/* Rotates every linear layer of a block of float32 weights as `inputs` rotates what it is multiplied by. */
lb_status lb_block_rotate(const lb_kernels *kernels, const lb_inputs *inputs, lb_block *block, lb_error *err);

#endif
