/* SPDX-License-Identifier: MIT
 * Quantized matrices of bit planes, in panels of 64 rows (plane_panel.h draws the layout). */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "kernels/qmat_kind.h"

typedef struct plane_matrix {
    lb_qmat base;
    size_t groups;
    lb_plane_panel first;
    uint8_t *codes; /* [panels][panel_bytes] */
    uint16_t *coefficients; /* [panels][groups][planes + 1][64] */
} plane_matrix;

static const lb_qmat_kind plane_kind;

static const plane_matrix *of(const lb_qmat *matrix)
{
    assert(matrix->kind == &plane_kind);
    return (const plane_matrix *)matrix;
}

/* Coefficients of a panel. */
static size_t panel_coefficients(const plane_matrix *m)
{
    return m->groups * (m->first.planes + 1) * LB_PLANE_ROWS;
}

lb_status lb_plane_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                 lb_error *err)
{
    lb_status st = LB_OK;
    plane_matrix *m = NULL;
    LB_TRY(lb_qmat_check_shape(rows, cols, LB_PLANE_ROWS, LB_PLANE_UNIT, err));
    m = lb_alloc_zero(1, sizeof *m);
    if (!m)
        return lb_fail(err, LB_ENOMEM, "matrix of bit planes: no memory for %zu bytes", sizeof *m);
    const size_t units = lb_divide_up(cols, LB_PLANE_UNIT);
    m->first = (lb_plane_panel){.planes = format->bits,
                                .units = units,
                                .group_units = format->group ? format->group / LB_PLANE_UNIT : units};
    m->first.run_units = m->first.group_units < LB_SUM_RUN_UNITS ? m->first.group_units : LB_SUM_RUN_UNITS;
    m->groups = lb_format_groups(format, cols);
    m->base = (lb_qmat){.kind = &plane_kind,
                        .rows = rows,
                        .cols = cols,
                        .panels = lb_divide_up(rows, LB_PLANE_ROWS),
                        .panel_bytes = units * format->bits * LB_PLANE_UNIT_BYTES};
    const size_t code_bytes = m->base.panels * m->base.panel_bytes;
    const size_t coefficients = m->base.panels * panel_coefficients(m);
    LB_GO(lb_alloc_array(&m->codes, code_bytes, 1, "codes of bit planes", err));
    LB_GO(lb_alloc_array(&m->coefficients, coefficients, sizeof *m->coefficients,
                         "coefficients of bit planes", err));
    /* Before the first touch, which is what decides the size of a page. */
    lb_advise_huge(m->codes, code_bytes);
    lb_advise_huge(m->coefficients, coefficients * sizeof *m->coefficients);
    memset(m->codes, 0, code_bytes);
    memset(m->coefficients, 0, coefficients * sizeof *m->coefficients);
    *out = &m->base;
    m = NULL;
done:
    if (m)
        lb_qmat_destroy(&m->base);
    return st;
}

static void destroy_planes(lb_qmat *matrix)
{
    lb_free(of(matrix)->codes);
    lb_free(of(matrix)->coefficients);
    lb_free(matrix);
}

static size_t bytes_of_planes(const lb_qmat *matrix)
{
    return matrix->panels * (matrix->panel_bytes + panel_coefficients(of(matrix)) * sizeof(uint16_t));
}

/* Eight codes' bits of one plane, the first lowest. */
static uint8_t plane_of(const uint8_t *codes, size_t n, unsigned plane)
{
    unsigned bits = 0;
    for (size_t i = 0; i < n; i++)
        bits |= (codes[i] >> plane & 1u) << i;
    return (uint8_t)bits;
}

static void set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params)
{
    const plane_matrix *m = of(matrix);
    const size_t panel = row / LB_PLANE_ROWS, lane = row % LB_PLANE_ROWS;
    const unsigned planes = m->first.planes;
    uint8_t *bytes = m->codes + panel * matrix->panel_bytes + lb_plane_byte((unsigned)lane);
    uint16_t *coefficients = m->coefficients + panel * panel_coefficients(m) + lane;
    for (size_t c = 0; c < matrix->cols; c += 8) {
        const size_t n = matrix->cols - c < 8 ? matrix->cols - c : 8;
        size_t stride;
        const size_t at = lb_plane_unit_at(&m->first, c / LB_PLANE_UNIT, &stride) + c / 8 % 2 * LB_PLANE_LINE;
        for (unsigned p = 0; p < planes; p++)
            bytes[at + p * stride] = plane_of(codes + c, n, p);
    }
    for (size_t i = 0; i < m->groups * (planes + 1); i++)
        coefficients[i * LB_PLANE_ROWS] = lb_f16_from_float(params[i]);
}

static lb_plane_panel panel_at(const lb_qmat *matrix, size_t index)
{
    const plane_matrix *m = of(matrix);
    lb_plane_panel panel = m->first;
    panel.codes = m->codes + index * matrix->panel_bytes;
    panel.coefficients = m->coefficients + index * panel_coefficients(m);
    return panel;
}

static void times(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                  size_t index, float *y)
{
    const lb_plane_panel p = panel_at(matrix, panel);
    const lb_sums_view view = lb_qvec_sums(x, index);
    kernels->planes_times(&p, &view, y);
}

/* A plane is a pass of its own, and after some of them BLAS is faster; so it is than the portable kernels. */
static bool many_pays(const lb_kernels *kernels, const lb_qmat *matrix)
{
    enum { MOST_PLANES = 3 };
    return kernels->planes_times != lb_kernels_get(LB_CPU_REF)->planes_times &&
           of(matrix)->first.planes <= MOST_PLANES;
}

static void dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, size_t first,
                       size_t count, float *out)
{
    const lb_plane_panel p = panel_at(matrix, panel);
    kernels->planes_dequantize(&p, first, count, matrix->cols, out);
}

static const lb_qmat_kind plane_kind = {.panel_rows = LB_PLANE_ROWS,
                                        .destroy = destroy_planes,
                                        .bytes = bytes_of_planes,
                                        .set_encoded = set_encoded,
                                        .prepare = lb_qvec_make_sums,
                                        .times = times,
                                        .many_pays = many_pays,
                                        .dequantize = dequantize};
