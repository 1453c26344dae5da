/* SPDX-License-Identifier: MIT
 * GGUF's block formats turned into floats. */
#ifndef LB_IO_TENSOR_BLOCKS_H
#define LB_IO_TENSOR_BLOCKS_H

#include "io/tensor.h"

/* `count` blocks of a dtype whose block is larger than one element, at `blocks` (no alignment needed),
 * into out [count * lb_dtype_block_elems(dtype)]. Bit for bit what GGUF's own reference gives, except that
 * MXFP4's scale 255 is NaN, as OCP MX says, where the reference makes 2^128 of it. */
void lb_tensor_blocks_decode(lb_dtype dtype, const uint8_t *blocks, size_t count, float *out);

#endif
