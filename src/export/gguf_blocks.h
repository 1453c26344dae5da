/* SPDX-License-Identifier: MIT
 * Rows of codes as blocks of GGUF's types, code for code. */
#ifndef LB_EXPORT_GGUF_BLOCKS_H
#define LB_EXPORT_GGUF_BLOCKS_H

#include "export/source.h"

/* The type that holds all rows of this weight (which has codes) exactly; LB_EUNSUPPORTED with the reason where there
 * is none.
 *
 *   scale * n, scale an f16, n within   -8..7     Q4_0    d = scale, code n + 8
 *                                       -16..15   Q5_0    d = scale, code n + 16
 *                                       -128..127 Q8_0    d = scale
 *   scale * (code - zero), code and zero 0..15               Q4_1   d = scale, m = -scale * zero, which is rounded to
 *                                                                   f16: within 2^-11 of it, and the zero follows
 *   mxfp4, nvfp4                                             MXFP4, NVFP4 (formats/gguf_order.h)
 *   q2_k to q6_k                                             Q2_K to Q6_K, as they are stored
 *
 *   blocks of GGUF that no format has (Q5_1, other Q4_1)    the same, byte for byte
 *
 * Groups of more than 32 share their scale with all the blocks that they consist of. */
lb_status lb_gguf_type_for(const lb_weight *weight, lb_dtype *out, lb_error *err);

/* The blocks of row `index`; `row` is room for it. */
lb_status lb_gguf_blocks(const lb_weight *weight, lb_dtype type, size_t index, lb_export_row *row,
                         uint8_t *out, lb_error *err);

/* Values [cols] rounded to Q8_0: scale = the largest magnitude / 127 as an f16. */
void lb_gguf_round_q8_0(const float *values, size_t cols, uint8_t *out);

#endif
