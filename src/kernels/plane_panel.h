/* SPDX-License-Identifier: MIT
 *
 * What the look-up kernels work on: a panel of 64 rows of bit planes (formats/planes.h), and what a vector's
 * entries sum to, four at a time.
 *
 * Sixteen columns are a unit, and a unit of one plane two lines of 64 bytes. A line holds eight columns, a byte for
 * each row: bit c is column c, so that half a byte says which of four neighbouring columns count:
 *
 *     line 0: columns 0..7    line 1: columns 8..15    byte = lb_plane_byte(row)
 *
 * A run is 256 columns, or a group where that is less: its units of the first plane, then those of the second ...
 *
 * The vector is rounded to 10 bits and a scale for 256 entries. For each quad (four neighbours) there is a table of
 * the sums of its 16 subsets, subset s at place s, plus LB_SUM_OFFSET, which makes them 12 bits that are not negative;
 * the low and the high six bits lie apart, so that four of either can be added in a byte. A byte shuffle looks up
 * many rows at once, and one table serves all rows and planes.
 *
 * Ten bits for 256 entries lose at most half of the squared error that 8 bits for each 32 do (panel.h): with M the
 * largest magnitude and an error of step^2 / 12 an entry, 256 (M / 511)^2 / 12 against at least 32 (M / 127)^2 / 12,
 * which is what the block with M in it loses alone.
 */
#ifndef LB_KERNELS_PLANE_PANEL_H
#define LB_KERNELS_PLANE_PANEL_H

#include <stddef.h>
#include <stdint.h>

enum {
    LB_PLANE_ROWS = 64,
    LB_PLANE_UNIT = 16, /* columns */
    LB_PLANE_LINE = 64, /* bytes */
    LB_PLANE_UNIT_BYTES = 2 * LB_PLANE_LINE, /* of one plane */
    LB_SUM_RUN = 256, /* entries with one scale */
    LB_SUM_RUN_UNITS = LB_SUM_RUN / LB_PLANE_UNIT,
    LB_SUM_MOST = 511,
    LB_SUM_OFFSET = 2048, /* above 4 * LB_SUM_MOST */
    LB_SUM_HALF_BITS = 6,
    LB_SUM_QUAD_BYTES = 32, /* sixteen low parts, sixteen high parts */
    LB_SUM_UNIT_BYTES = 4 * LB_SUM_QUAD_BYTES
};

typedef struct lb_plane_panel {
    const uint8_t *codes; /* [runs][planes][units of the run][2][64], 64-byte aligned */
    const uint16_t *coefficients; /* f16 [groups][planes + 1][64], in the order of rows */
    unsigned planes; /* 1..4 */
    size_t units;
    size_t group_units; /* even, at most 16; or all of the units; the last group may have fewer */
    size_t run_units; /* at most 16; the last run may have fewer */
} lb_plane_panel;

typedef struct lb_sums_view {
    const uint8_t *tables; /* [units][4][2][16], 64-byte aligned */
    const float *scales; /* one for 256 entries */
    const int32_t *code_sums; /* [units] */
} lb_sums_view;

/* Where the first plane's lines of a unit begin, and how far the next plane's are from there. */
static inline size_t lb_plane_unit_at(const lb_plane_panel *panel, size_t unit, size_t *stride)
{
    const size_t first = unit / panel->run_units * panel->run_units, left = panel->units - first;
    *stride = (left < panel->run_units ? left : panel->run_units) * LB_PLANE_UNIT_BYTES;
    return (first * panel->planes + (unit - first)) * LB_PLANE_UNIT_BYTES;
}

/* Of the vector's entries in units [begin, begin + units). */
static inline int32_t lb_code_sum(const lb_sums_view *x, size_t begin, size_t units)
{
    int32_t sum = 0;
    for (size_t u = begin; u < begin + units; u++)
        sum += x->code_sums[u];
    return sum;
}

/* Where in a line a row's byte is: so that a line's bytes, widened to 32 bits half a 16-byte lane at a time, come out
 * in the order of rows. */
static inline unsigned lb_plane_byte(unsigned row)
{
    return row % 16 / 4 * 16 + row / 16 * 4 + row % 4;
}

#endif
