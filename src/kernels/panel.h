/* SPDX-License-Identifier: MIT
 *
 * What a matrix kernel works on: a panel of 16 rows of a quantized matrix, and a vector of 8-bit codes.
 *
 * Codes lie in blocks of 16 rows x 32 columns, a block in `bits` lines of 64 bytes. A line holds one
 * 32-bit lane per row, and a lane one byte for each column c of a quad (four neighbouring columns):
 *
 *        row 0        row 1             row 15
 *     | c0 c1 c2 c3 | c0 c1 c2 c3 | ... | c0 c1 c2 c3 |     byte address = 4 * row + c % 4
 *
 * A byte serves several quads q = 0..7 of the block's 32 columns. A code is split into planes of 4, 2
 * and 1 bits, lowest bits first, as its width asks (3 = 2+1, 5 = 4+1, 6 = 4+2, 7 = 4+2+1):
 *
 *     plane of 4 bits: 4 lines, quad q in line q / 2 at bit 4 * (q % 2)
 *     plane of 2 bits: 2 lines, quad q in line q / 4 at bit 2 * (q % 4)
 *     plane of 1 bit:  1 line,  quad q at bit q
 *     8-bit codes:     8 lines, quad q in line q
 */
#ifndef LB_KERNELS_PANEL_H
#define LB_KERNELS_PANEL_H

#include <stddef.h>
#include <stdint.h>

enum { LB_PANEL_ROWS = 16, LB_PANEL_COLS = 32, LB_LINE_BYTES = 64, LB_PANEL_QUADS = 8 };

typedef struct lb_qmat_panel {
    const uint8_t *codes;   /* [col_blocks][bits][64], 64-byte aligned */
    const uint16_t *scales; /* [groups][16] as f16 */
    const uint8_t *zeros;   /* [groups][16], or NULL when every zero is `zero` */
    float zero;
    unsigned bits;
    size_t col_blocks;   /* blocks of 32 columns */
    size_t group_blocks; /* blocks in a group; the last group may have fewer */
} lb_qmat_panel;

typedef struct lb_qvec_view {
    const int8_t *codes;      /* [col_blocks][32], -127..127 */
    const float *scales;      /* [col_blocks] */
    const int32_t *code_sums; /* [col_blocks] sum of the block's codes */
    const float *sums;        /* [col_blocks] scales[b] * (float)code_sums[b] */
} lb_qvec_view;

#endif
