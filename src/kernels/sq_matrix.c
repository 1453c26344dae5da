/* SPDX-License-Identifier: MIT
 * Matrices in SQ-format: the low elements are a matrix of small integers in which high ones are zeros (panel_matrix.c),
 * the high ones lie beside it (high_panel.h draws the layout), and a product is the sum of both. */
#include <assert.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "formats/sq.h"
#include "kernels/qmat_kind.h"

typedef struct sq_matrix {
    lb_qmat base;
    lb_format format;
    lb_qmat *low;
    lb_high_panel first;
    size_t panel_lines, panel_scales, panel_spans; /* how many a panel has: bytes, f16, bytes */
    uint8_t *lines, *spans;
    uint16_t *scales;
} sq_matrix;

static const lb_qmat_kind sq_kind;

static const sq_matrix *of(const lb_qmat *matrix)
{
    assert(matrix->kind == &sq_kind);
    return (const sq_matrix *)matrix;
}

/* Low integers as a panel holds them, and its zero for all that is high. */
static void map_codes(const lb_format *format, unsigned bits, uint8_t map[256])
{
    const int zero = 1 << (bits - 1);
    memset(map, zero, 256);
    for (int q = -lb_sq_low_top(format); q <= lb_sq_low_top(format); q++)
        map[lb_sq_code(format, false, q)] = (uint8_t)(q + zero);
}

static void describe(sq_matrix *m, size_t rows, size_t cols, const lb_format *format)
{
    lb_high_panel *p = &m->first;
    p->bank = format->group;
    p->banks = cols / format->group;
    p->quads = lb_divide_up(format->high_count, LB_HIGH_SLOTS);
    p->parts = lb_divide_up(format->group, LB_PANEL_COLS);
    m->format = *format;
    m->panel_lines = p->banks * p->quads * LB_HIGH_QUAD_BYTES;
    m->panel_scales = p->banks * LB_PANEL_ROWS;
    m->panel_spans = p->banks * p->parts * 2;
    m->base =
        (lb_qmat){.kind = &sq_kind, .rows = rows, .cols = cols, .panels = lb_divide_up(rows, LB_PANEL_ROWS)};
}

lb_status lb_sq_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out, lb_error *err)
{
    lb_status st = LB_OK;
    uint8_t map[256];
    LB_TRY(lb_format_check_cols(format, cols, "quantized matrix", err));
    LB_TRY(lb_qmat_check_shape(rows, cols, LB_PANEL_ROWS, LB_PANEL_COLS, err));
    sq_matrix *m = lb_alloc_zero(1, sizeof *m);
    if (!m)
        return lb_fail(err, LB_ENOMEM, "matrix in SQ-format: no memory for %zu bytes", sizeof *m);
    describe(m, rows, cols, format);
    /* Blocks of 16 columns have kernels for 4 bits, not for fewer. */
    const unsigned bits = format->group < LB_PANEL_COLS ? 4 : format->low_bits;
    map_codes(format, bits, map);
    LB_GO(lb_panel_matrix_create_mapped(rows, cols, bits, format->group, map, &m->low, err));
    m->base.panel_bytes = m->low->panel_bytes + m->panel_lines;
    LB_GO(lb_alloc_array(&m->lines, m->base.panels, m->panel_lines, "high weights", err));
    LB_GO(lb_alloc_array(&m->scales, m->base.panels, m->panel_scales * sizeof *m->scales,
                         "scales of high weights", err));
    LB_GO(lb_alloc_array(&m->spans, m->base.panels, m->panel_spans, "spans of high weights", err));
    /* Before the first touch, which is what decides the size of a page. */
    lb_advise_huge(m->lines, m->base.panels * m->panel_lines);
    memset(m->lines, 0, m->base.panels * m->panel_lines);
    memset(m->scales, 0, m->base.panels * m->panel_scales * sizeof *m->scales);
    for (size_t i = 0; i < m->base.panels * m->panel_spans; i += 2) {
        m->spans[i] = UINT8_MAX; /* no quad */
        m->spans[i + 1] = 0;
    }
    *out = &m->base;
    m = NULL;
done:
    if (m)
        lb_qmat_destroy(&m->base);
    return st;
}

static void destroy_sq(lb_qmat *matrix)
{
    const sq_matrix *m = of(matrix);
    lb_qmat_destroy(m->low);
    lb_free(m->lines);
    lb_free(m->scales);
    lb_free(m->spans);
    lb_free(matrix);
}

static size_t bytes_of_sq(const lb_qmat *matrix)
{
    const sq_matrix *m = of(matrix);
    return lb_qmat_bytes(m->low) +
           matrix->panels * (m->panel_lines + m->panel_scales * sizeof *m->scales + m->panel_spans);
}

/* The high elements of one row's bank, codes [bank]. Spans only grow, since they are about other rows too. */
static void set_bank(const sq_matrix *m, const uint8_t *codes, size_t lane, uint8_t *lines, uint8_t *spans)
{
    size_t slot = 0;
    for (size_t i = 0; i < m->first.bank; i++) {
        if (!lb_sq_is_high(&m->format, codes[i]))
            continue;
        assert(slot < m->format.high_count);
        const size_t quad = slot / LB_HIGH_SLOTS;
        uint8_t *place = lines + quad * LB_HIGH_QUAD_BYTES + 4 * lane + slot % LB_HIGH_SLOTS;
        uint8_t *span = spans + i / LB_PANEL_COLS * 2;
        place[0] = (uint8_t)i;
        place[LB_HIGH_LINE] = (uint8_t)lb_sq_integer(&m->format, codes[i]);
        span[0] = quad < span[0] ? (uint8_t)quad : span[0];
        span[1] = quad >= span[1] ? (uint8_t)(quad + 1) : span[1];
        slot++;
    }
    assert(slot == m->format.high_count);
}

static void set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params)
{
    const sq_matrix *m = of(matrix);
    const lb_high_panel *p = &m->first;
    const size_t panel = row / LB_PANEL_ROWS, lane = row % LB_PANEL_ROWS;
    uint8_t *lines = m->lines + panel * m->panel_lines, *spans = m->spans + panel * m->panel_spans;
    uint16_t *scales = m->scales + panel * m->panel_scales + lane;
    lb_panel_matrix_set_mapped(m->low, row, codes, params + LB_SQ_LOW, LB_SQ_PARAMS);
    for (size_t bank = 0; bank < p->banks; bank++) {
        set_bank(m, codes + bank * p->bank, lane, lines + bank * p->quads * LB_HIGH_QUAD_BYTES,
                 spans + bank * p->parts * 2);
        scales[bank * LB_PANEL_ROWS] = lb_f16_from_float(params[bank * LB_SQ_PARAMS + LB_SQ_HIGH]);
    }
}

static lb_high_panel panel_at(const sq_matrix *m, size_t index)
{
    lb_high_panel panel = m->first;
    panel.lines = m->lines + index * m->panel_lines;
    panel.scales = m->scales + index * m->panel_scales;
    panel.spans = m->spans + index * m->panel_spans;
    return panel;
}

static void times(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                  size_t index, float *y)
{
    const sq_matrix *m = of(matrix);
    const lb_high_panel high = panel_at(m, panel);
    const lb_qvec_view view = lb_qvec_codes(x, index);
    m->low->kind->times(kernels, m->low, panel, x, index, y);
    kernels->high_times(&high, &view, y);
}

static void times_few(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                      size_t index, size_t count, float *y, size_t stride)
{
    const sq_matrix *m = of(matrix);
    const lb_high_panel high = panel_at(m, panel);
    m->low->kind->times_few(kernels, m->low, panel, x, index, count, y, stride);
    for (size_t i = 0; i < count; i++) {
        const lb_qvec_view view = lb_qvec_codes(x, index + i);
        kernels->high_times(&high, &view, y + i * stride);
    }
}

static void dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, size_t first,
                       size_t count, float *out)
{
    const sq_matrix *m = of(matrix);
    const lb_high_panel high = panel_at(m, panel);
    m->low->kind->dequantize(kernels, m->low, panel, first, count, out);
    for (size_t row = first; row < first + count; row++, out += matrix->cols) {
        for (size_t bank = 0; bank < high.banks; bank++) {
            const float scale = lb_f16_to_float(high.scales[bank * LB_PANEL_ROWS + row]);
            const uint8_t *lines = high.lines + bank * high.quads * LB_HIGH_QUAD_BYTES + 4 * row;
            for (size_t slot = 0; slot < m->format.high_count; slot++) {
                const uint8_t *at = lines + slot / LB_HIGH_SLOTS * LB_HIGH_QUAD_BYTES + slot % LB_HIGH_SLOTS;
                out[bank * high.bank + at[0]] = scale * (float)(int8_t)at[LB_HIGH_LINE];
            }
        }
    }
}

static const lb_qmat_kind sq_kind = {.panel_rows = LB_PANEL_ROWS,
                                     .destroy = destroy_sq,
                                     .bytes = bytes_of_sq,
                                     .set_encoded = set_encoded,
                                     .times = times,
                                     .times_few = times_few,
                                     .dequantize = dequantize};
