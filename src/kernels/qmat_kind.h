/* SPDX-License-Identifier: MIT
 * What is inside an lb_qmat (qmat.h), and what the layouts of one differ in: panels of integer codes
 * (panel_matrix.c), of bit planes (plane_matrix.c), and both kinds of SQ-format (sq_matrix.c). */
#ifndef LB_KERNELS_QMAT_KIND_H
#define LB_KERNELS_QMAT_KIND_H

#include "kernels/qmat.h"
#include "kernels/qvec.h"

typedef struct lb_qmat_kind {
    size_t panel_rows; /* at most LB_QMAT_MOST_PANEL_ROWS */
    void (*destroy)(lb_qmat *matrix);
    size_t (*bytes)(const lb_qmat *matrix);
    void (*set_encoded)(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params);
    void (*prepare)(const lb_kernels *kernels,
                    lb_qvec *x); /* makes what `times` takes of x; NULL: it is there */
    /* y [panel_rows], those past the matrix's last row included, of vector `index` */
    void (*times)(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                  size_t index, float *y);
    /* The same of vectors index .. index + count - 1, count <= LB_QMAT_FEW: vector i's is at y + i * stride. NULL:
     * there is nothing that they could share. */
    void (*times_few)(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                      size_t index, size_t count, float *y, size_t stride);
    /* lb_qmat_many_pays; NULL: never. */
    bool (*many_pays)(const lb_kernels *kernels, const lb_qmat *matrix);
    /* NULL: never. y [count][16] of one part of rows (qrows.h), where takes_rows. */
    bool (*takes_rows)(const lb_qmat *matrix);
    void (*times_rows)(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qrows_view *x,
                       size_t count, float *y);
    void (*dequantize)(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, size_t first,
                       size_t count, float *out);
} lb_qmat_kind;

enum { LB_QMAT_MOST_PANEL_ROWS = 64, LB_QMAT_FEW = 8 };

struct lb_qmat {
    const lb_qmat_kind *kind;
    size_t rows, cols, panels;
    size_t panel_bytes; /* of codes */
    lb_format format; /* for lb_qmat_set_encoded; ops NULL: none */
};

/* Whether rows x cols can be addressed, in panels of `panel_rows` and blocks of `block_cols`. */
lb_status lb_qmat_check_shape(size_t rows, size_t cols, size_t panel_rows, size_t block_cols, lb_error *err);

/* lb_qmat_create_format of either kind. */
bool lb_panel_matrix_holds(const lb_format *format);
lb_status lb_panel_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                 lb_error *err);
lb_status lb_plane_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                 lb_error *err);
lb_status lb_sq_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                              lb_error *err);

/* A matrix of integers map[code] - 2^(bits-1) with a scale per group: 2 to 4 bits and groups of whole blocks of 32
 * columns, or 4 bits and groups of 16. */
lb_status lb_panel_matrix_create_mapped(size_t rows, size_t cols, unsigned bits, size_t group,
                                        const uint8_t map[256], lb_qmat **out, lb_error *err);
/* One row: codes [cols]; group g's scale is scales[g * stride], exact in f16. */
void lb_panel_matrix_set_mapped(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                                size_t stride);

static inline size_t lb_divide_up(size_t n, size_t by)
{
    return n / by + (n % by != 0);
}

#endif
