/* SPDX-License-Identifier: MIT
 * Quantized matrices in panels of 16 rows (panel.h draws the layout): building, expanding, multiplying. */
#include "kernels/qmat.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "formats/block_format.h"
#include "formats/int.h"
#include "kernels/qvec.h"

/* A matrix below SERIAL_BYTES is done before a second thread would have begun. */
enum { CHUNK_BYTES = 32 << 10, SERIAL_BYTES = 128 << 10 };

/* E8M0: the bytes of 1 and of NaN. */
enum { E8M0_ONE = 127, E8M0_NAN = 255 };

_Static_assert((int)LB_QMAT_ROWS == (int)LB_PANEL_ROWS && (int)LB_QMAT_COLS == (int)LB_PANEL_COLS,
               "qmat.h and panel.h describe one layout");

struct lb_qmat {
    size_t rows, cols;
    size_t panels, groups; /* groups: rows of scales in a panel */
    size_t panel_bytes; /* of codes */
    size_t scale_bytes; /* of one scale */
    lb_qmat_panel first;
    uint8_t *codes; /* [panels][panel_bytes] */
    uint8_t *scales; /* [panels][groups][16] of scale_bytes */
    uint8_t *zeros; /* [panels][groups][16], NULL when symmetric */
    lb_format format; /* for lb_qmat_set_encoded */
    uint8_t from_code[256]; /* blocked: what the panel holds for a code of the format */
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

/* A matrix of zeros, laid out as `first` and `asymmetric` ask. */
static lb_status create(size_t rows, size_t cols, const lb_qmat_panel *first, bool asymmetric, lb_qmat **out,
                        lb_error *err)
{
    static const size_t scale_bytes[] = {
        [LB_PANEL_F16] = 2, [LB_PANEL_F32] = 4, [LB_PANEL_E8M0] = 1, [LB_PANEL_E4M3] = 1};
    lb_status st = LB_OK;
    lb_qmat *matrix = lb_alloc_zero(1, sizeof *matrix);
    if (!matrix)
        return lb_fail(err, LB_ENOMEM, "quantized matrix: no memory for %zu bytes", sizeof *matrix);
    lb_qmat_panel *panel = &matrix->first;
    *panel = *first;
    matrix->rows = rows;
    matrix->cols = cols;
    panel->col_blocks = divide_up(cols, LB_PANEL_COLS);
    if (panel->group_blocks == 0 || panel->group_blocks > panel->col_blocks)
        panel->group_blocks = panel->col_blocks;
    matrix->panels = divide_up(rows, LB_PANEL_ROWS);
    matrix->groups = divide_up(panel->col_blocks, panel->group_blocks) * (panel->halves ? 2 : 1);
    matrix->panel_bytes = panel->col_blocks * panel->bits * LB_LINE_BYTES;
    matrix->scale_bytes = scale_bytes[panel->scale_type];

    const size_t parameters = matrix->panels * matrix->groups * LB_PANEL_ROWS;
    LB_GO(
        lb_alloc_array(&matrix->codes, matrix->panels, matrix->panel_bytes, "quantized matrix's codes", err));
    LB_GO(lb_alloc_array(&matrix->scales, parameters, matrix->scale_bytes, "quantized matrix's scales", err));
    if (asymmetric)
        LB_GO(lb_alloc_array(&matrix->zeros, parameters, 1, "quantized matrix's zeros", err));
    /* Before the first touch, which is what decides the size of a page. */
    lb_advise_huge(matrix->codes, matrix->panels * matrix->panel_bytes);
    lb_advise_huge(matrix->scales, parameters * matrix->scale_bytes);
    memset(matrix->codes, 0, matrix->panels * matrix->panel_bytes);
    memset(matrix->scales, panel->scale_type == LB_PANEL_E8M0 ? E8M0_ONE : 0,
           parameters * matrix->scale_bytes);
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

lb_status lb_qmat_create(size_t rows, size_t cols, unsigned bits, size_t group, bool symmetric, lb_qmat **out,
                         lb_error *err)
{
    LB_TRY(check_shape(rows, cols, bits, group, err));
    const lb_qmat_panel panel = {.zero = (float)(1u << (bits - 1)),
                                 .factor = 1.0f,
                                 .scale_type = LB_PANEL_F16,
                                 .bits = bits,
                                 .group_blocks = group / LB_PANEL_COLS};
    return create(rows, cols, &panel, !symmetric, out, err);
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
    size_t parameter_bytes = matrix->scale_bytes + (matrix->zeros ? sizeof *matrix->zeros : 0);
    return matrix->panels * matrix->panel_bytes + parameters * parameter_bytes;
}

static lb_qmat_panel panel_at(const lb_qmat *matrix, size_t index)
{
    lb_qmat_panel panel = matrix->first;
    panel.codes += index * matrix->panel_bytes;
    panel.scales = matrix->scales + index * matrix->groups * LB_PANEL_ROWS * matrix->scale_bytes;
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

/* A row's codes [cols], each replaced by map[code] unless map is NULL. */
static void set_codes(lb_qmat *matrix, size_t row, const uint8_t *codes, const uint8_t *map)
{
    const unsigned bits = matrix->first.bits;
    uint8_t *block = matrix->codes + row / LB_PANEL_ROWS * matrix->panel_bytes;
    for (size_t c = 0; c < matrix->cols; c += LB_PANEL_COLS, block += (size_t)bits * LB_LINE_BYTES) {
        const size_t n = matrix->cols - c < LB_PANEL_COLS ? matrix->cols - c : LB_PANEL_COLS;
        uint8_t copy[LB_PANEL_COLS] = {0};
        memcpy(copy, codes + c, n);
        for (size_t i = 0; map && i < n; i++)
            copy[i] = map[copy[i]];
        pack_row(block, bits, row % LB_PANEL_ROWS, copy);
    }
}

/* Where scale (or zero) `group` of a row lies. */
static size_t parameter_at(const lb_qmat *matrix, size_t row, size_t group)
{
    return (row / LB_PANEL_ROWS * matrix->groups + group) * LB_PANEL_ROWS + row % LB_PANEL_ROWS;
}

/* Group g's scale and zero: scales[g * stride] and zeros[g * stride]. */
static void set_groups(lb_qmat *matrix, size_t row, const float *scales, const float *zeros, size_t stride)
{
    for (size_t group = 0; group < matrix->groups; group++) {
        const size_t at = parameter_at(matrix, row, group);
        const uint16_t scale = lb_f16_from_float(scales[group * stride]);
        memcpy(matrix->scales + at * sizeof scale, &scale, sizeof scale);
        if (matrix->zeros)
            matrix->zeros[at] = (uint8_t)zeros[group * stride];
    }
}

void lb_qmat_set_row(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *scales,
                     const float *zeros)
{
    assert(row < matrix->rows && !matrix->first.blocked);
    set_codes(matrix, row, codes, NULL);
    set_groups(matrix, row, scales, zeros, 1);
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

bool lb_qmat_holds(const lb_format *format)
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

lb_status lb_qmat_create_format(size_t rows, size_t cols, const lb_format *format, lb_qmat **out,
                                lb_error *err)
{
    lb_status st = LB_OK;
    if (!lb_qmat_holds(format))
        return lb_fail(err, LB_EUNSUPPORTED, "quantized matrix: format %s has no small integers to multiply",
                       format->name);
    if (!format->element) {
        st = lb_qmat_create(rows, cols, format->bits, format->group, format->symmetric, out, err);
    } else {
        const held_element *held = find_held(format);
        lb_qmat_panel panel = {.zero = (float)held->zero,
                               .bits = held->bits,
                               .e2m1 = format->element == &lb_e2m1,
                               .blocked = true,
                               .halves = format->group == LB_PANEL_HALF,
                               .group_blocks = 1};
        assert(panel.halves || format->group == LB_PANEL_COLS);
        panel.scale_type = scale_type_of(format, held->unit, &panel.factor);
        LB_TRY(check_shape(rows, cols, held->bits, LB_PANEL_COLS, err));
        st = create(rows, cols, &panel, false, out, err);
        for (unsigned code = 0; st == LB_OK && code < 256; code++) {
            const float value = lb_element_decode(format->element, (uint8_t)code);
            (*out)->from_code[code] =
                panel.e2m1 ? (uint8_t)code : (uint8_t)((int)(value / held->unit) + held->zero);
        }
    }
    if (st == LB_OK)
        (*out)->format = *format;
    return st;
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

void lb_qmat_set_encoded(lb_qmat *matrix, size_t row, const uint8_t *codes, const float *params)
{
    const lb_format *f = &matrix->format;
    assert(row < matrix->rows && f->ops);
    if (!matrix->first.blocked) {
        set_codes(matrix, row, codes, NULL);
        set_groups(matrix, row, params + LB_INT_SCALE, params + LB_INT_ZERO, f->params);
        return;
    }
    set_codes(matrix, row, codes, matrix->from_code);
    for (size_t g = 0; g < lb_format_groups(f, matrix->cols); g++) {
        const size_t at = parameter_at(matrix, row, g);
        const float *p = params + g * f->params;
        if (matrix->first.scale_type == LB_PANEL_F32)
            memcpy(matrix->scales + at * sizeof *p, &p[LB_BLOCK_SCALE], sizeof *p);
        else if (matrix->first.scale_type == LB_PANEL_E4M3)
            matrix->scales[at] = e4m3_byte(p[LB_NV_BLOCK_FACTOR]);
        else
            matrix->scales[at] = e8m0_byte(f, p[LB_BLOCK_SCALE], codes + g * f->group,
                                           lb_format_group_size(f, matrix->cols, g));
    }
}

/* ---- Products ------------------------------------------------------------------------------------ */

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
                 .x = {.codes = x->codes,
                       .scales = x->scales,
                       .code_sums = x->code_sums,
                       .sums = x->sums,
                       .halves = x->halves},
                 .y = y};
    if (matrix->panels * matrix->panel_bytes < SERIAL_BYTES)
        multiply_panels(&p, 0, matrix->panels);
    else
        lb_parallel_for(matrix->panels, divide_up(CHUNK_BYTES, matrix->panel_bytes), multiply_panels, &p);
}
