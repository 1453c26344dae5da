/* SPDX-License-Identifier: MIT
 *
 * Rows of mxfp4 and nvfp4 in the order of GGUF's blocks (types 39 and 40 of ggml), code for code.
 *
 *   ours, as compressed-tensors checkpoints have it      GGUF
 *   codes:  byte j = element 2j low, 2j+1 high           MXFP4  scale | 16 bytes                32 elements
 *   scales: an array of their own                        NVFP4  4 scales | 8 bytes a scale      64 elements
 *                                                        byte j of a scale's elements:
 *                                                        element j low, j + half of them high
 *
 * MXFP4's scale is the same E8M0 code here and there (ggml writes it as 2^(code - 128) beside a table of
 * doubled elements). ggml knows no NaN there: of the code 255, which is one in OCP MX, it makes 2^128.
 * NVFP4's scales are E4M3 codes without a sign, of which ggml reads 0x7f as 0 where E4M3 has its NaN. Its
 * float of the whole tensor is a tensor of its own, NAME.scale beside NAME.weight, and the same number as
 * our tensor_scale; absent, it is 1.
 */
#ifndef LB_FORMATS_GGUF_ORDER_H
#define LB_FORMATS_GGUF_ORDER_H

#include "formats/format.h"

typedef struct lb_gguf_order {
    const char *name; /* GGUF's own: "MXFP4" */
    unsigned type; /* its number in GGUF files */
    size_t elems, bytes; /* of a block */
    size_t group; /* elements that share a scale */
} lb_gguf_order;

extern const lb_gguf_order lb_gguf_mxfp4, lb_gguf_nvfp4;

/* The GGUF type that holds rows of this format code for code; NULL when there is none. */
const lb_gguf_order *lb_gguf_order_of(const lb_format *format);

/* The parts of a packed row (formats/format.h: codes, scales) -> its blocks [cols / elems * bytes]. LB_EINVAL
 * when blocks do not divide cols; LB_EFORMAT for a scale that is NaN in NVFP4, or negative. */
lb_status lb_gguf_order_pack(const lb_gguf_order *order, const uint8_t *const *parts, size_t cols,
                             uint8_t *blocks, lb_error *err);
/* And back. NVFP4's scale 0x7f becomes 0x00, which means the same there; one above is LB_EFORMAT. */
lb_status lb_gguf_order_unpack(const lb_gguf_order *order, const uint8_t *blocks, size_t cols,
                               uint8_t *const *parts, lb_error *err);

#endif
