/* SPDX-License-Identifier: MIT
 * Quantized matrices in panels of 16 rows (panel.h draws the layout): building, expanding, multiplying. */
#include "kernels/qmat.h"

#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "kernels/qvec.h"

/* A matrix below SERIAL_BYTES is done before a second thread would have begun. */
enum { CHUNK_BYTES = 32 << 10, SERIAL_BYTES = 128 << 10 };

_Static_assert((int)LB_QMAT_ROWS == (int)LB_PANEL_ROWS && (int)LB_QMAT_COLS == (int)LB_PANEL_COLS,
               "qmat.h and panel.h describe one layout");

struct lb_qmat {
    size_t rows, cols;
    size_t panels, groups;
    size_t panel_bytes; /* of codes */
    lb_qmat_panel first;
    uint8_t *codes;   /* [panels][panel_bytes] */
    uint16_t *scales; /* [panels][groups][16] */
    uint8_t *zeros;   /* [panels][groups][16], NULL when symmetric */
};

static size_t divide_up(size_t n, size_t by)
{
    return n / by + (n % by != 0);
}

static lb_status check_shape(size_t rows, size_t cols, unsigned bits, size_t group, lb_error *err)
{
    if (rows == 0 || cols == 0)
        return lb_fail(err, LB_EINVAL, "quantized matrix: %zu x %zu has no elements", rows, cols);
    if (bits < 2 || bits > 8)
        return lb_fail(err, LB_EINVAL, "quantized matrix: %u bits, wanted 2 to 8", bits);
    if (group % LB_PANEL_COLS != 0)
        return lb_fail(err, LB_EINVAL, "quantized matrix: groups of %zu, wanted a multiple of %d", group,
                       LB_PANEL_COLS);
    size_t padded;
    if (__builtin_mul_overflow(divide_up(rows, LB_PANEL_ROWS) * LB_PANEL_ROWS,
                               divide_up(cols, LB_PANEL_COLS) * LB_PANEL_COLS, &padded) ||
        rows > SIZE_MAX / 4 || cols > SIZE_MAX / 4 || padded > SIZE_MAX / 4)
        return lb_fail(err, LB_ENOMEM, "quantized matrix: %zu x %zu is too large to address", rows, cols);
    return LB_OK;
}

lb_status lb_qmat_create(size_t rows, size_t cols, unsigned bits, size_t group, bool symmetric,
                         lb_qmat **out, lb_error *err)
{
    lb_status st = LB_OK;
    LB_TRY(check_shape(rows, cols, bits, group, err));
    lb_qmat *matrix = lb_alloc_zero(1, sizeof *matrix);
    if (!matrix)
        return lb_fail(err, LB_ENOMEM, "quantized matrix: no memory for %zu bytes", sizeof *matrix);
    lb_qmat_panel *panel = &matrix->first;
    matrix->rows = rows;
    matrix->cols = cols;
    panel->bits = bits;
    panel->zero = (float)(1u << (bits - 1));
    panel->col_blocks = divide_up(cols, LB_PANEL_COLS);
    panel->group_blocks = group / LB_PANEL_COLS;
    if (panel->group_blocks == 0 || panel->group_blocks > panel->col_blocks)
        panel->group_blocks = panel->col_blocks;
    matrix->panels = divide_up(rows, LB_PANEL_ROWS);
    matrix->groups = divide_up(panel->col_blocks, panel->group_blocks);
    matrix->panel_bytes = panel->col_blocks * bits * LB_LINE_BYTES;

    size_t parameters = matrix->panels * matrix->groups * LB_PANEL_ROWS;
    LB_GO(lb_alloc_array(&matrix->codes, matrix->panels, matrix->panel_bytes, "quantized matrix's codes",
                         err));
    LB_GO(lb_alloc_array(&matrix->scales, parameters, sizeof *matrix->scales, "quantized matrix's scales",
                         err));
    if (!symmetric)
        LB_GO(lb_alloc_array(&matrix->zeros, parameters, 1, "quantized matrix's zeros", err));
    /* Before the first touch, which is what decides the size of a page. */
    lb_advise_huge(matrix->codes, matrix->panels * matrix->panel_bytes);
    lb_advise_huge(matrix->scales, parameters * sizeof *matrix->scales);
    memset(matrix->codes, 0, matrix->panels * matrix->panel_bytes);
    memset(matrix->scales, 0, parameters * sizeof *matrix->scales);
    if (matrix->zeros)
        memset(matrix->zeros, 0, parameters);
    panel->codes = matrix->codes;
    panel->scales = matrix->scales;
    panel->zeros = matrix->zeros;
    *out = matrix;
    matrix = NULL;
done:
    lb_qmat_destroy(matrix);
    return st;
}

void lb_qmat_destroy(lb_qmat *matrix)
{
    if (!matrix)
        return;
    lb_free(matrix->codes);
    lb_free(matrix->scales);
    lb_free(matrix->zeros);
    lb_free(matrix);
}

size_t lb_qmat_rows(const lb_qmat *matrix)
{
    return matrix->rows;
}

size_t lb_qmat_cols(const lb_qmat *matrix)
{
    return matrix->cols;
}

size_t lb_qmat_bytes(const lb_qmat *matrix)
{
    size_t parameters = matrix->panels * matrix->groups * LB_PANEL_ROWS;
    size_t parameter_bytes = sizeof *matrix->scales + (matrix->zeros ? sizeof *matrix->zeros : 0);
    return matrix->panels * matrix->panel_bytes + parameters * parameter_bytes;
}

static lb_qmat_panel panel_at(const lb_qmat *matrix, size_t index)
{
    lb_qmat_panel panel = matrix->first;
    panel.codes += index * matrix->panel_bytes;
    panel.scales += index * matrix->groups * LB_PANEL_ROWS;
    if (panel.zeros)
        panel.zeros += index * matrix->groups * LB_PANEL_ROWS;
    return panel;
}

/* One row's 32 codes into its lane of a block. Four codes travel as one 32-bit word; the masks keep its
 * bytes apart. */
static void pack_row(uint8_t *block, unsigned bits, size_t row, const uint8_t *codes)
{
    uint32_t quads[LB_PANEL_QUADS];
    memcpy(quads, codes, sizeof quads);
    unsigned place = 0;
    for (unsigned width = 8; width != 0; width /= 2) {
        if (!(bits & width))
            continue;
        const uint32_t mask = UINT32_C(0x01010101) * ((UINT32_C(1) << width) - 1);
        const unsigned quads_per_line = 8 / width;
        for (unsigned q = 0; q < LB_PANEL_QUADS; block += LB_LINE_BYTES) {
            uint32_t word = 0;
            for (unsigned i = 0; i < quads_per_line; i++, q++)
                word |= ((quads[q] >> place) & mask) << (i * width);
            memcpy(block + 4 * row, &word, sizeof word);
        }
        place += width;
    }
}

void lb_qmat_set_row(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                     const float *zeros)
{
    assert(row < matrix->rows);
    const unsigned bits = matrix->first.bits;
    const size_t panel = row / LB_PANEL_ROWS, lane = row % LB_PANEL_ROWS;
    uint8_t *block = matrix->codes + panel * matrix->panel_bytes;
    for (size_t c = 0; c < matrix->cols; c += LB_PANEL_COLS, block += (size_t)bits * LB_LINE_BYTES) {
        if (matrix->cols - c >= LB_PANEL_COLS) {
            pack_row(block, bits, lane, codes + c);
        } else {
            uint8_t last[LB_PANEL_COLS] = {0};
            memcpy(last, codes + c, matrix->cols - c);
            pack_row(block, bits, lane, last);
        }
    }
    for (size_t group = 0; group < matrix->groups; group++) {
        size_t at = (panel * matrix->groups + group) * LB_PANEL_ROWS + lane;
        matrix->scales[at] = lb_f16_from_float(scales[group]);
        if (matrix->zeros)
            matrix->zeros[at] = (uint8_t)zeros[group];
    }
}

void lb_qmat_dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t first, size_t count,
                        float *out)
{
    assert(first <= matrix->rows && count <= matrix->rows - first);
    while (count != 0) {
        size_t lane = first % LB_PANEL_ROWS;
        size_t here = count < LB_PANEL_ROWS - lane ? count : LB_PANEL_ROWS - lane;
        lb_qmat_panel panel = panel_at(matrix, first / LB_PANEL_ROWS);
        kernels->qmat_dequantize(&panel, lane, here, matrix->cols, out);
        first += here;
        count -= here;
        out += here * matrix->cols;
    }
}

typedef struct product {
    const lb_kernels *kernels;
    const lb_qmat *matrix;
    lb_qvec_view x;
    float *y;
} product;

static void multiply_panels(void *arg, size_t begin, size_t end)
{
    const product *p = arg;
    for (size_t index = begin; index < end; index++) {
        lb_qmat_panel panel = panel_at(p->matrix, index);
        float *y = p->y + index * LB_PANEL_ROWS;
        size_t rows = p->matrix->rows - index * LB_PANEL_ROWS;
        if (rows >= LB_PANEL_ROWS) {
            p->kernels->qmat_times(&panel, &p->x, y);
        } else {
            float last[LB_PANEL_ROWS];
            p->kernels->qmat_times(&panel, &p->x, last);
            memcpy(y, last, rows * sizeof *y);
        }
    }
}

void lb_qmat_times(const lb_kernels *kernels, const lb_qmat *matrix, const lb_qvec *x, float *y)
{
    assert(x->cols == matrix->cols);
    product p = {.kernels = kernels,
                 .matrix = matrix,
                 .x = {.codes = x->codes, .scales = x->scales, .code_sums = x->code_sums, .sums = x->sums},
                 .y = y};
    if (matrix->panels * matrix->panel_bytes < SERIAL_BYTES)
        multiply_panels(&p, 0, matrix->panels);
    else
        lb_parallel_for(matrix->panels, divide_up(CHUNK_BYTES, matrix->panel_bytes), multiply_panels, &p);
}
