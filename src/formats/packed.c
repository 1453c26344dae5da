/* SPDX-License-Identifier: MIT
 * Matrices in a format, for programs that use the library (lowbit/formats.h): the same fit, rounding and packing as a
 * checkpoint's, a row at a time. */
#include "lowbit/formats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/options.h"
#include "base/thread.h"
#include "formats/format.h"

/* Rows of a chunk of a threaded loop, and the row that bits per weight are told of. */
enum { GRAIN = 16, USUAL_COLS = 4096 };

struct lb_packed {
    lb_format format; /* bound */
    size_t rows, cols;
    unsigned count; /* of parts, without the tensor's scale */
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    uint8_t *data[LB_FORMAT_MAX_PARTS]; /* [rows, row_bytes] */
};

lb_status lb_format_describe(const char *name, lb_format_info *out, lb_error *err)
{
    lb_format f;
    if (!name)
        return lb_fail(err, LB_EINVAL, "a format's name is missing");
    LB_TRY(lb_format_parse(name, &f, err));
    *out =
        (lb_format_info){.bits = f.bits,
                         .group = f.group,
                         .params = f.params,
                         .symmetric = f.symmetric || lb_format_is_float(&f),
                         .whole_groups = f.ops && f.ops->whole_groups,
                         .tensor_scale = lb_format_has_tensor_scale(&f),
                         .bits_per_weight = 8.0 * (double)lb_format_row_bytes(&f, USUAL_COLS) / USUAL_COLS};
    snprintf(out->name, sizeof out->name, "%s", f.name);
    snprintf(out->family, sizeof out->family, "%s", f.ops ? f.ops->family : "float");
    return LB_OK;
}

void lb_pack_options_init_sized(lb_pack_options *options, size_t size)
{
    const lb_pack_options defaults = {.struct_size = sizeof defaults, .fit = "search"};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

/* ---- What is asked for ------------------------------------------------------------------------------- */

static lb_status check_values(const float *values, size_t rows, size_t cols, lb_error *err)
{
    for (size_t i = 0; i < rows * cols; i++)
        if (!isfinite(values[i]))
            return lb_fail(err, LB_EINVAL, "the value in row %zu, column %zu is not finite", i / cols,
                           i % cols);
    return LB_OK;
}

static lb_status check(const lb_format *format, const float *values, size_t rows, size_t cols,
                       const lb_pack_options *o, lb_error *err)
{
    if (rows == 0 || cols == 0 || rows > SIZE_MAX / sizeof(float) / cols)
        return lb_fail(err, LB_EINVAL, "a matrix of %zu x %zu cannot be packed", rows, cols);
    if (!o->fit || (strcmp(o->fit, "range") != 0 && strcmp(o->fit, "search") != 0))
        return lb_fail(err, LB_EINVAL, "fit is \"%.40s\", wanted \"range\" or \"search\"",
                       o->fit ? o->fit : "");
    for (size_t c = 0; o->importance && c < cols; c++)
        if (!isfinite(o->importance[c]) || o->importance[c] <= 0)
            return lb_fail(err, LB_EINVAL, "the importance of column %zu is %g, wanted a number above 0", c,
                           (double)o->importance[c]);
    LB_TRY(lb_format_check_cols(format, cols, "the matrix", err));
    return check_values(values, rows, cols, err);
}

static lb_status create(const lb_format *format, size_t rows, size_t cols, lb_packed **out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_packed *p = lb_alloc_zero(1, sizeof *p);
    if (!p)
        return lb_fail(err, LB_ENOMEM, "packed matrix: no memory for %zu bytes", sizeof *p);
    p->format = *format;
    p->rows = rows;
    p->cols = cols;
    p->count = 1;
    if (lb_format_is_float(format))
        p->parts[0] = (lb_format_part){"values", format->bits / 8, cols * format->bits / 8};
    else
        p->count = format->ops->parts(format, cols, p->parts);
    for (unsigned i = 0; i < p->count; i++)
        LB_GO(lb_alloc_array(&p->data[i], rows, p->parts[i].row_bytes, "packed matrix", err));
    *out = p;
    p = NULL;
done:
    lb_packed_free(p);
    return st;
}

void lb_packed_free(lb_packed *packed)
{
    for (unsigned i = 0; packed && i < packed->count; i++)
        lb_free(packed->data[i]);
    lb_free(packed);
}

/* ---- Floats ------------------------------------------------------------------------------------------ */

static lb_status pack_floats(lb_packed *p, const float *values, lb_error *err)
{
    const size_t n = p->rows * p->cols;
    const bool half = strcmp(p->format.name, "f16") == 0;
    uint16_t *out = (uint16_t *)(void *)p->data[0];
    if (p->format.bits == 32) {
        memcpy(p->data[0], values, n * sizeof *values);
        return LB_OK;
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = half ? lb_f16_from_float(values[i]) : lb_bf16_from_float(values[i]);
        if (!isfinite(half ? lb_f16_to_float(out[i]) : lb_bf16_to_float(out[i])))
            return lb_fail(err, LB_EINVAL, "the value %g in row %zu, column %zu is too large for %s",
                           (double)values[i], i / p->cols, i % p->cols, p->format.name);
    }
    return LB_OK;
}

static void unpack_floats(const lb_packed *p, float *values)
{
    const size_t n = p->rows * p->cols;
    const bool half = strcmp(p->format.name, "f16") == 0;
    const uint16_t *in = (const uint16_t *)(const void *)p->data[0];
    if (p->format.bits == 32) {
        memcpy(values, p->data[0], n * sizeof *values);
        return;
    }
    for (size_t i = 0; i < n; i++)
        values[i] = half ? lb_f16_to_float(in[i]) : lb_bf16_to_float(in[i]);
}

/* ---- Codes, a row at a time -------------------------------------------------------------------------- */

typedef struct job {
    lb_packed *packed;
    const float *values, *importance;
    lb_fit fit;
    uint8_t *codes; /* [rows, cols] */
    float *params; /* [rows, groups * format.params] */
    size_t row_params;
} job;

static lb_status create_scratch(const lb_packed *p, uint8_t **codes, float **params, lb_error *err)
{
    const size_t row_params = lb_format_groups(&p->format, p->cols) * p->format.params;
    LB_TRY(lb_alloc_array(codes, p->rows, p->cols, "codes", err));
    return lb_alloc_array(params, p->rows * sizeof **params, row_params, "parameters", err);
}

static void pack_rows(void *arg, size_t begin, size_t end)
{
    job *j = arg;
    lb_packed *p = j->packed;
    for (size_t row = begin; row < end; row++) {
        uint8_t *codes = j->codes + row * p->cols, *parts[LB_FORMAT_MAX_PARTS];
        float *params = j->params + row * j->row_params;
        for (unsigned i = 0; i < p->count; i++)
            parts[i] = p->data[i] + row * p->parts[i].row_bytes;
        lb_format_encode_row(&p->format, j->values + row * p->cols, j->importance, p->cols, j->fit, codes,
                             params);
        p->format.ops->pack(&p->format, codes, params, p->cols, parts);
    }
}

lb_status lb_pack(const char *format, const float *values, size_t rows, size_t cols,
                  const lb_pack_options *options, lb_packed **out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_format f;
    lb_pack_options o;
    job j = {.values = values};
    lb_pack_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_pack_options", err));
    if (!format)
        return lb_fail(err, LB_EINVAL, "a format's name is missing");
    LB_TRY(lb_format_parse(format, &f, err));
    LB_TRY(check(&f, values, rows, cols, &o, err));
    lb_format_bind(&f, values, rows * cols);
    LB_TRY(create(&f, rows, cols, &j.packed, err));
    if (lb_format_is_float(&f)) {
        LB_GO(pack_floats(j.packed, values, err));
    } else {
        j.importance = o.importance;
        j.fit = strcmp(o.fit, "search") == 0 ? LB_FIT_SEARCH : LB_FIT_RANGE;
        j.row_params = lb_format_groups(&f, cols) * f.params;
        LB_GO(create_scratch(j.packed, &j.codes, &j.params, err));
        lb_parallel_for(rows, GRAIN, pack_rows, &j);
    }
    *out = j.packed;
    j.packed = NULL;
done:
    lb_free(j.codes);
    lb_free(j.params);
    lb_packed_free(j.packed);
    return st;
}

static lb_status unpack_row(const lb_packed *p, size_t row, uint8_t *codes, float *params, lb_error *err)
{
    const uint8_t *parts[LB_FORMAT_MAX_PARTS];
    for (unsigned i = 0; i < p->count; i++)
        parts[i] = p->data[i] + row * p->parts[i].row_bytes;
    return p->format.ops->unpack(&p->format, parts, p->cols, codes, params, err);
}

lb_status lb_packed_codes(const lb_packed *p, uint8_t *codes, float *params, lb_error *err)
{
    lb_status st = LB_OK;
    uint8_t *row_codes = NULL;
    float *row_params = NULL;
    const size_t width = lb_format_groups(&p->format, p->cols) * p->format.params;
    if (lb_format_is_float(&p->format))
        return lb_fail(err, LB_EUNSUPPORTED, "%s has no codes: its values are stored as they are",
                       p->format.name);
    LB_GO(lb_alloc_array(&row_codes, p->cols, 1, "codes", err));
    LB_GO(lb_alloc_array(&row_params, width, sizeof *row_params, "parameters", err));
    for (size_t row = 0; row < p->rows; row++) {
        LB_GO(unpack_row(p, row, row_codes, row_params, err));
        if (codes)
            memcpy(codes + row * p->cols, row_codes, p->cols);
        if (params)
            memcpy(params + row * width, row_params, width * sizeof *params);
    }
done:
    lb_free(row_codes);
    lb_free(row_params);
    return st;
}

lb_status lb_unpack(const lb_packed *p, float *values, lb_error *err)
{
    lb_status st = LB_OK;
    uint8_t *codes = NULL;
    float *params = NULL;
    if (lb_format_is_float(&p->format)) {
        unpack_floats(p, values);
        return LB_OK;
    }
    LB_GO(lb_alloc_array(&codes, p->cols, 1, "codes", err));
    LB_GO(lb_alloc_array(&params, lb_format_groups(&p->format, p->cols) * p->format.params, sizeof *params,
                         "parameters", err));
    for (size_t row = 0; row < p->rows; row++) {
        LB_GO(unpack_row(p, row, codes, params, err));
        lb_format_decode_row(&p->format, codes, params, p->cols, values + row * p->cols);
    }
done:
    lb_free(codes);
    lb_free(params);
    return st;
}

/* ---- What there is ----------------------------------------------------------------------------------- */

const char *lb_packed_format(const lb_packed *packed)
{
    return packed->format.name;
}

size_t lb_packed_rows(const lb_packed *packed)
{
    return packed->rows;
}

size_t lb_packed_cols(const lb_packed *packed)
{
    return packed->cols;
}

size_t lb_packed_groups(const lb_packed *packed)
{
    return lb_format_is_float(&packed->format) ? 0 : lb_format_groups(&packed->format, packed->cols);
}

uint64_t lb_packed_bytes(const lb_packed *packed)
{
    return lb_format_tensor_bytes(&packed->format, packed->rows, packed->cols);
}

double lb_packed_bits_per_weight(const lb_packed *packed)
{
    return 8.0 * (double)lb_packed_bytes(packed) / ((double)packed->rows * (double)packed->cols);
}

size_t lb_packed_part_count(const lb_packed *packed)
{
    return packed->count + (lb_format_has_tensor_scale(&packed->format) ? 1u : 0u);
}

lb_status lb_packed_get_part(const lb_packed *p, size_t index, lb_packed_part *out, lb_error *err)
{
    const size_t count = lb_packed_part_count(p);
    if (index >= count)
        return lb_fail(err, LB_EINVAL, "part %zu was asked for; %s has %zu", index, p->format.name, count);
    if (index == p->count) {
        *out = (lb_packed_part){.data = &p->format.tensor_scale,
                                .row_bytes = sizeof p->format.tensor_scale,
                                .rows = 1,
                                .element_bytes = sizeof p->format.tensor_scale};
        snprintf(out->name, sizeof out->name, "tensor_scale");
        return LB_OK;
    }
    const lb_format_part *part = &p->parts[index];
    *out = (lb_packed_part){.data = p->data[index],
                            .row_bytes = part->row_bytes,
                            .rows = p->rows,
                            .element_bytes = part->elem_bytes};
    snprintf(out->name, sizeof out->name, "%s", part->name);
    return LB_OK;
}
