/* SPDX-License-Identifier: MIT
 * Quantized matrices of integer codes, in panels of 16 rows (panel.h draws the layout). */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "formats/block_format.h"
#include "formats/int.h"
#include "kernels/qmat_kind.h"

/* E8M0: the bytes of 1 and of NaN. */
enum { E8M0_ONE = 127, E8M0_NAN = 255 };

_Static_assert((int)LB_QMAT_ROWS == (int)LB_PANEL_ROWS && (int)LB_QMAT_COLS == (int)LB_PANEL_COLS,
               "qmat.h and panel.h describe one layout");

typedef struct panel_matrix {
    lb_qmat base;
    size_t groups; /* rows of scales in a panel */
    size_t scale_bytes; /* of one scale */
    lb_qmat_panel first;
    uint8_t *codes; /* [panels][panel_bytes] */
    uint8_t *scales; /* [panels][groups][16] of scale_bytes */
    uint8_t *zeros; /* [panels][groups][16], NULL when symmetric */
    uint8_t from_code[256]; /* blocked, or mapped: what the panel holds for a code of the format */
} panel_matrix;

static const lb_qmat_kind panel_kind;

static const panel_matrix *of(const lb_qmat *matrix)
{
    assert(matrix->kind == &panel_kind);
    return (const panel_matrix *)matrix;
}

/* A matrix of zeros, laid out as `first` and `asymmetric` ask. */
static lb_status create(size_t rows, size_t cols, const lb_qmat_panel *first, bool asymmetric, lb_qmat **out,
                        lb_error *err)
{
    static const size_t scale_bytes[] = {
        [LB_PANEL_F16] = 2, [LB_PANEL_F32] = 4, [LB_PANEL_E8M0] = 1, [LB_PANEL_E4M3] = 1};
    lb_status st = LB_OK;
    panel_matrix *m = lb_alloc_zero(1, sizeof *m);
    if (!m)
        return lb_fail(err, LB_ENOMEM, "quantized matrix: no memory for %zu bytes", sizeof *m);
    lb_qmat_panel *panel = &m->first;
    *panel = *first;
    panel->col_blocks = lb_divide_up(cols, LB_PANEL_COLS);
    if (panel->group_blocks == 0 || panel->group_blocks > panel->col_blocks)
        panel->group_blocks = panel->col_blocks;
    m->base = (lb_qmat){.kind = &panel_kind,
                        .rows = rows,
                        .cols = cols,
                        .panels = lb_divide_up(rows, LB_PANEL_ROWS),
                        .panel_bytes = panel->col_blocks * panel->bits * LB_LINE_BYTES};
    m->groups = lb_divide_up(panel->col_blocks, panel->group_blocks) * (panel->halves ? 2 : 1);
    m->scale_bytes = scale_bytes[panel->scale_type];

    const size_t code_bytes = m->base.panels * m->base.panel_bytes;
    const size_t parameters = m->base.panels * m->groups * LB_PANEL_ROWS;
    LB_GO(lb_alloc_array(&m->codes, m->base.panels, m->base.panel_bytes, "quantized matrix's codes", err));
    LB_GO(lb_alloc_array(&m->scales, parameters, m->scale_bytes, "quantized matrix's scales", err));
    if (asymmetric)
        LB_GO(lb_alloc_array(&m->zeros, parameters, 1, "quantized matrix's zeros", err));
    /* Before the first touch, which is what decides the size of a page. */
    lb_advise_huge(m->codes, code_bytes);
    lb_advise_huge(m->scales, parameters * m->scale_bytes);
    memset(m->codes, 0, code_bytes);
    memset(m->scales, panel->scale_type == LB_PANEL_E8M0 ? E8M0_ONE : 0, parameters * m->scale_bytes);
    if (m->zeros)
        memset(m->zeros, 0, parameters);
    panel->codes = m->codes;
    panel->scales = m->scales;
    panel->zeros = m->zeros;
    *out = &m->base;
    m = NULL;
done:
    if (m)
        lb_qmat_destroy(&m->base);
    return st;
}

lb_status lb_qmat_create(size_t rows, size_t cols, unsigned bits, size_t group, bool symmetric, lb_qmat **out,
                         lb_error *err)
{
    if (bits < 2 || bits > 8)
        return lb_fail(err, LB_EINVAL, "quantized matrix: %u bits, wanted 2 to 8", bits);
    if (group % LB_PANEL_COLS != 0)
        return lb_fail(err, LB_EINVAL, "quantized matrix: groups of %zu, wanted a multiple of %d", group,
                       LB_PANEL_COLS);
    LB_TRY(lb_qmat_check_shape(rows, cols, LB_PANEL_ROWS, LB_PANEL_COLS, err));
    const lb_qmat_panel panel = {.zero = (float)(1u << (bits - 1)),
                                 .factor = 1.0f,
                                 .scale_type = LB_PANEL_F16,
                                 .bits = bits,
                                 .group_blocks = group / LB_PANEL_COLS};
    return create(rows, cols, &panel, !symmetric, out, err);
}

static void destroy_panels(lb_qmat *matrix)
{
    const panel_matrix *m = of(matrix);
    lb_free(m->codes);
    lb_free(m->scales);
    lb_free(m->zeros);
    lb_free(matrix);
}

static size_t bytes_of_panels(const lb_qmat *matrix)
{
    const panel_matrix *m = of(matrix);
    const size_t parameters = matrix->panels * m->groups * LB_PANEL_ROWS;
    return matrix->panels * matrix->panel_bytes +
           parameters * (m->scale_bytes + (m->zeros ? sizeof *m->zeros : 0));
}

static lb_qmat_panel panel_at(const lb_qmat *matrix, size_t index)
{
    const panel_matrix *m = of(matrix);
    lb_qmat_panel panel = m->first;
    panel.codes += index * matrix->panel_bytes;
    panel.scales = m->scales + index * m->groups * LB_PANEL_ROWS * m->scale_bytes;
    if (panel.zeros)
        panel.zeros += index * m->groups * LB_PANEL_ROWS;
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

/* A row's codes [cols], each replaced by map[code] unless map is NULL. */
static void set_codes(const panel_matrix *m, size_t row, const uint8_t *codes, const uint8_t *map)
{
    const unsigned bits = m->first.bits;
    const size_t cols = m->base.cols;
    uint8_t *block = m->codes + row / LB_PANEL_ROWS * m->base.panel_bytes;
    for (size_t c = 0; c < cols; c += LB_PANEL_COLS, block += (size_t)bits * LB_LINE_BYTES) {
        const size_t n = cols - c < LB_PANEL_COLS ? cols - c : LB_PANEL_COLS;
        uint8_t copy[LB_PANEL_COLS] = {0};
        memcpy(copy, codes + c, n);
        for (size_t i = 0; map && i < n; i++)
            copy[i] = map[copy[i]];
        pack_row(block, bits, row % LB_PANEL_ROWS, copy);
    }
}

/* Where scale (or zero) `group` of a row lies. */
static size_t parameter_at(const panel_matrix *m, size_t row, size_t group)
{
    return (row / LB_PANEL_ROWS * m->groups + group) * LB_PANEL_ROWS + row % LB_PANEL_ROWS;
}

/* Group g's scale and zero: scales[g * stride] and zeros[g * stride]. */
static void set_groups(const panel_matrix *m, size_t row, const float *scales, const float *zeros,
                       size_t stride)
{
    for (size_t group = 0; group < m->groups; group++) {
        const size_t at = parameter_at(m, row, group);
        const uint16_t scale = lb_f16_from_float(scales[group * stride]);
        memcpy(m->scales + at * sizeof scale, &scale, sizeof scale);
        if (m->zeros)
            m->zeros[at] = (uint8_t)zeros[group * stride];
    }
}

void lb_qmat_set_row(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                     const float *zeros)
{
    const panel_matrix *m = of(matrix);
    assert(row < matrix->rows && !m->first.blocked);
    set_codes(m, row, codes, NULL);
    set_groups(m, row, scales, zeros, 1);
}

/* ---- Mapped codes -------------------------------------------------------------------------------- */

lb_status lb_panel_matrix_create_mapped(size_t rows, size_t cols, unsigned bits, size_t group,
                                        const uint8_t map[256], lb_qmat **out, lb_error *err)
{
    if (group != LB_PANEL_HALF) {
        LB_TRY(lb_qmat_create(rows, cols, bits, group, true, out, err));
    } else {
        const lb_qmat_panel panel = {.zero = (float)(1u << (bits - 1)),
                                     .factor = 1.0f,
                                     .scale_type = LB_PANEL_F32,
                                     .bits = bits,
                                     .blocked = true,
                                     .halves = true,
                                     .group_blocks = 1};
        LB_TRY(create(rows, cols, &panel, false, out, err));
    }
    memcpy(((panel_matrix *)*out)->from_code, map, sizeof((panel_matrix *)*out)->from_code);
    return LB_OK;
}

void lb_panel_matrix_set_mapped(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                                size_t stride)
{
    const panel_matrix *m = of(matrix);
    set_codes(m, row, codes, m->from_code);
    if (!m->first.blocked)
        set_groups(m, row, scales, NULL, stride);
    for (size_t g = 0; m->first.blocked && g < matrix->cols / LB_PANEL_HALF; g++)
        memcpy(m->scales + parameter_at(m, row, g) * sizeof *scales, &scales[g * stride], sizeof *scales);
}

/* ---- Formats ------------------------------------------------------------------------------------- */

/* The elements that are small integers, counted in `unit`: a panel holds element / unit + zero. */
typedef struct held_element {
    const lb_element *element;
    unsigned bits;
    int zero;
    float unit;
} held_element;

static const held_element held_elements[] = {
    {&lb_int8, 8, 128, 1.0f},  {&lb_int6, 6, 32, 1.0f},
    {&lb_int4, 4, 8, 1.0f},    {&lb_e2m1, 4, LB_PANEL_E2M1_ZERO, 0.5f},
    {&lb_e2m3, 7, 60, 0.125f},
};

static const held_element *find_held(const lb_format *format)
{
    for (size_t i = 0; i < sizeof held_elements / sizeof *held_elements; i++)
        if (held_elements[i].element == format->element)
            return &held_elements[i];
    return NULL;
}

bool lb_panel_matrix_holds(const lb_format *format)
{
    return format->ops == &lb_int_format || (format->element && find_held(format));
}

/* The scale of an element's unit, from what is stored. E4M3 stands for 2^-8 of its value (panel.h). */
static lb_panel_scale scale_type_of(const lb_format *format, float unit, float *factor)
{
    *factor = unit;
    if (format->rule == LB_SCALE_EXACT)
        return LB_PANEL_F32;
    if (format->rule != LB_SCALE_TWO_LEVEL)
        return LB_PANEL_E8M0;
    if (!(format->tensor_scale <= 0x1p100f))
        return LB_PANEL_F32;
    *factor = unit * format->tensor_scale * 256.0f;
    return LB_PANEL_E4M3;
}

lb_status lb_panel_matrix_create(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                 lb_error *err)
{
    if (!format->element)
        return lb_qmat_create(rows, cols, format->bits, format->group, format->symmetric, out, err);
    const held_element *held = find_held(format);
    lb_qmat_panel panel = {.zero = (float)held->zero,
                           .bits = held->bits,
                           .e2m1 = format->element == &lb_e2m1,
                           .blocked = true,
                           .halves = format->group == LB_PANEL_HALF,
                           .group_blocks = 1};
    assert(panel.halves || format->group == LB_PANEL_COLS);
    panel.scale_type = scale_type_of(format, held->unit, &panel.factor);
    LB_TRY(lb_qmat_check_shape(rows, cols, LB_PANEL_ROWS, LB_PANEL_COLS, err));
    LB_TRY(create(rows, cols, &panel, false, out, err));
    panel_matrix *m = (panel_matrix *)*out;
    for (unsigned code = 0; code < 256; code++) {
        const float value = lb_element_decode(format->element, (uint8_t)code);
        m->from_code[code] = panel.e2m1 ? (uint8_t)code : (uint8_t)((int)(value / held->unit) + held->zero);
    }
    return LB_OK;
}

/* Nothing but zeros may have any scale: 1 is faster than a subnormal number, which is what MX gives them. */
static bool all_zero(const lb_element *e, const uint8_t *codes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (lb_element_decode(e, codes[i]) != 0.0f)
            return false;
    return true;
}

static uint8_t e8m0_byte(const lb_format *format, float scale, const uint8_t *codes, size_t n)
{
    enum { LEAST_NORMAL = 4 }; /* 2^-123: its eighth is no subnormal number */
    const uint8_t byte = isnan(scale) ? E8M0_NAN : (uint8_t)(lb_float_bits(scale) >> 23);
    return byte < LEAST_NORMAL && all_zero(format->element, codes, n) ? E8M0_ONE : byte;
}

static uint8_t e4m3_byte(float factor)
{
    return isnan(factor) ? 255 : lb_element_encode(&lb_e4m3, lb_e4m3.max, factor);
}

static void set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params)
{
    const panel_matrix *m = of(matrix);
    const lb_format *f = &matrix->format;
    if (!m->first.blocked) {
        set_codes(m, row, codes, NULL);
        set_groups(m, row, params + LB_INT_SCALE, params + LB_INT_ZERO, f->params);
        return;
    }
    set_codes(m, row, codes, m->from_code);
    for (size_t g = 0; g < lb_format_groups(f, matrix->cols); g++) {
        const size_t at = parameter_at(m, row, g);
        const float *p = params + g * f->params;
        if (m->first.scale_type == LB_PANEL_F32)
            memcpy(m->scales + at * sizeof *p, &p[LB_BLOCK_SCALE], sizeof *p);
        else if (m->first.scale_type == LB_PANEL_E4M3)
            m->scales[at] = e4m3_byte(p[LB_NV_BLOCK_FACTOR]);
        else
            m->scales[at] = e8m0_byte(f, p[LB_BLOCK_SCALE], codes + g * f->group,
                                      lb_format_group_size(f, matrix->cols, g));
    }
}

/* ---- Products ------------------------------------------------------------------------------------ */

static void times(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                  size_t index, float *y)
{
    const lb_qmat_panel p = panel_at(matrix, panel);
    const lb_qvec_view view = lb_qvec_codes(x, index);
    kernels->qmat_times(&p, &view, y);
}

static void times_few(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qvec *x,
                      size_t index, size_t count, float *y, size_t stride)
{
    const lb_qmat_panel p = panel_at(matrix, panel);
    lb_qvec_view views[LB_QMAT_FEW];
    assert(count <= LB_QMAT_FEW);
    for (size_t i = 0; i < count; i++)
        views[i] = lb_qvec_codes(x, index + i);
    kernels->qmat_times_few(&p, views, count, y, stride);
}

/* Portable kernels are far behind BLAS, and blocks of 16 are multiplied one vector at a time. */
static bool many_pays(const lb_kernels *kernels, const lb_qmat *matrix)
{
    return kernels->qmat_times_few != lb_kernels_get(LB_CPU_REF)->qmat_times_few && !of(matrix)->first.halves;
}

static bool takes_rows(const lb_qmat *matrix)
{
    return !of(matrix)->first.blocked;
}

static void times_rows(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, const lb_qrows_view *x,
                       size_t count, float *y)
{
    const lb_qmat_panel p = panel_at(matrix, panel);
    kernels->qmat_times_rows(&p, x, count, y);
}

static void dequantize(const lb_kernels *kernels, const lb_qmat *matrix, size_t panel, size_t first,
                       size_t count, float *out)
{
    const lb_qmat_panel p = panel_at(matrix, panel);
    kernels->qmat_dequantize(&p, first, count, matrix->cols, out);
}

static const lb_qmat_kind panel_kind = {.panel_rows = LB_PANEL_ROWS,
                                        .destroy = destroy_panels,
                                        .bytes = bytes_of_panels,
                                        .set_encoded = set_encoded,
                                        .times = times,
                                        .times_few = times_few,
                                        .many_pays = many_pays,
                                        .takes_rows = takes_rows,
                                        .times_rows = times_rows,
                                        .dequantize = dequantize};
