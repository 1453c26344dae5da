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
 *
 * What kernels multiply are the codes' integers, which are the codes themselves or, for E2M1, what
 * LB_PANEL_E2M1 says. A vector's codes are cut into halves of 16 as its own block or the matrix's may be.
 */
#ifndef LB_KERNELS_PANEL_H
#define LB_KERNELS_PANEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { LB_PANEL_ROWS = 16, LB_PANEL_COLS = 32, LB_LINE_BYTES = 64, LB_PANEL_QUADS = 8, LB_PANEL_HALF = 16 };

/* How a scale is stored. `factor` multiplies what is read from all but F16. */
typedef enum lb_panel_scale {
    LB_PANEL_F16,
    LB_PANEL_F32,
    LB_PANEL_E8M0, /* byte c: 2^(c - 127); 255: infinity, which makes NaN of a block of zeros */
    LB_PANEL_E4M3 /* byte: the 8-bit float's value times 2^-8 (an f16's bits << 7); 255: NaN */
} lb_panel_scale;

/* The sixteen E2M1 codes as the integers 2 * value + 12, so that their zero is 12. */
#define LB_PANEL_E2M1 12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0
enum { LB_PANEL_E2M1_ZERO = 12 };

typedef struct lb_qmat_panel {
    const uint8_t *codes; /* [col_blocks][bits][64], 64-byte aligned */
    const void *scales; /* [groups][16] as scale_type; blocked: [col_blocks][16], or [2 * col_blocks][16] */
    const uint8_t *zeros; /* [groups][16], or NULL when every zero is `zero` */
    float zero;
    float factor;
    lb_panel_scale scale_type; /* F16 exactly when not blocked */
    unsigned bits;
    bool e2m1; /* codes of 4 bits that stand for LB_PANEL_E2M1 */
    bool blocked; /* a scale per block, and the zero taken off in integers (kernels.def) */
    bool halves; /* blocked: blocks of 16, otherwise of 32 */
    size_t col_blocks; /* blocks of 32 columns */
    size_t group_blocks; /* blocks in a group; the last group may have fewer; blocked: 1 */
} lb_qmat_panel;

typedef struct lb_qvec_view {
    const int8_t *codes; /* [col_blocks][32], -128..127 */
    const float *scales; /* [2 * col_blocks], one for 16 codes; both of a block the same unless `halves` */
    const int32_t *code_sums; /* [2 * col_blocks] sums of 16 codes */
    const float *sums; /* [col_blocks] scales * (float)code_sums: the block's, or both halves' and added */
    bool halves; /* scales per 16, otherwise per 32 */
} lb_qvec_view;

/* One part of several rows of activations (qrows.h). */
typedef struct lb_qrows_view {
    const int8_t *codes; /* [rows][blocks][32], -128..127; zero in columns of another part */
    const int32_t *sums; /* [rows][blocks] of a block's codes */
    const float *scales; /* [rows] */
    size_t blocks; /* of a row: the panel's col_blocks */
    size_t first, end; /* blocks that the part lies in */
} lb_qrows_view;

#endif
