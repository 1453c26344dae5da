/* SPDX-License-Identifier: MIT */
#include "transform/rotate.h"

lb_status lb_block_rotate(const lb_kernels *kernels, const lb_inputs *inputs, lb_block *block, lb_error *err)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear *l = &block->linear[which];
        const lb_rotation *rotation = inputs->rotations[lb_block_linears[which].stage];
        if (!rotation)
            continue;
        if (l->quantized || l->type != LB_DENSE_F32)
            return lb_fail(err, LB_EINVAL, "%s: only float32 weights can be rotated",
                           lb_block_linears[which].suffix);
        /* Rows of W are rotated as inputs are: with x as a row vector, (x R)(W R)^T = x W^T. */
        lb_rotation_apply(kernels, rotation, l->dense, l->rows);
    }
    return LB_OK;
}
