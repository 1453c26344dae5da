/* SPDX-License-Identifier: MIT
 *
 * The high elements of sixteen rows of a matrix in SQ-format (formats/sq.h), whose low elements lie in a panel of
 * their own (panel.h): of each bank of neighbouring columns every row has the same number of them, integers of at most
 * 8 bits, each with its place in the bank.
 *
 * Four slots of all rows are a quad, in two lines of 64 bytes, a 32-bit lane a row: places, then integers.
 *
 *        row 0        row 1             row 15
 *     | s0 s1 s2 s3 | s0 s1 s2 s3 | ... | s0 s1 s2 s3 |     byte address = 4 * row + slot % 4
 *
 * A row's slots are in the order of columns; those after the last are zeros. `spans` say which quads have to do with
 * which 32 columns of a bank, so that a product looks up activations only where there are some. */
#ifndef LB_KERNELS_HIGH_PANEL_H
#define LB_KERNELS_HIGH_PANEL_H

#include <stddef.h>
#include <stdint.h>

enum { LB_HIGH_LINE = 64, LB_HIGH_SLOTS = 4, LB_HIGH_QUAD_BYTES = 2 * LB_HIGH_LINE };

typedef struct lb_high_panel {
    const uint8_t *lines; /* [banks][quads][2][64], 64-byte aligned */
    const uint16_t *scales; /* f16 [banks][16] */
    const uint8_t *spans; /* [banks][parts][2]: the first quad, and the one after the last */
    size_t banks, quads; /* quads of a bank */
    size_t bank; /* columns: 16, 32, 64, 128, 256 */
    size_t parts; /* of 32 columns, or of 16 where a bank has no more */
} lb_high_panel;

#endif
