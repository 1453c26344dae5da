/* SPDX-License-Identifier: MIT
 * From names to formats, and the loops over a row's groups that all formats share. */
#include <stdio.h>
#include <string.h>

#include "formats/format.h"
#include "formats/block_format.h"
#include "formats/int.h"
#include "formats/k_blocks.h"
#include "formats/kinds.h"
#include "formats/mx.h"
#include "formats/nv.h"
#include "formats/planes.h"
#include "formats/sq.h"

/* A new family is one line here. */
static const lb_format_ops *const families[] = {&lb_int_format,    &lb_mx_format, &lb_nv_format,
                                                &lb_planes_format, &lb_sq_format, &lb_k_format};

static bool parse_float(const char *name, lb_format *out)
{
    static const struct {
        const char *name;
        unsigned bits;
    } floats[] = {{"f32", 32}, {"f16", 16}, {"bf16", 16}};
    for (size_t i = 0; i < sizeof floats / sizeof *floats; i++) {
        if (strcmp(name, floats[i].name) == 0) {
            *out = (lb_format){.bits = floats[i].bits};
            memcpy(out->name, floats[i].name, strlen(floats[i].name) + 1);
            return true;
        }
    }
    return false;
}

const lb_format_ops *lb_format_family(size_t index)
{
    return index < sizeof families / sizeof *families ? families[index] : NULL;
}

lb_status lb_format_parse(const char *name, lb_format *out, lb_error *err)
{
    lb_format found;
    if (parse_float(name, &found)) {
        *out = found;
        return LB_OK;
    }
    char known[512] = "";
    if (!*name)
        return lb_fail(err, LB_EINVAL, "a format's name is missing");
    for (size_t i = 0; lb_format_family(i); i++) {
        if (families[i]->parse(name, &found)) {
            *out = found;
            return LB_OK;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s; ", families[i]->syntax);
    }
    for (size_t i = 0; lb_format_family(i); i++)
        if (families[i]->refuse)
            LB_TRY(families[i]->refuse(name, err));
    return lb_fail(err, LB_EINVAL, "format \"%.40s\" is not known: there are %sf32, f16, bf16", name, known);
}

bool lb_format_is_float(const lb_format *format)
{
    return format->ops == NULL;
}

bool lb_format_keeps(const lb_format *format)
{
    return format->ops == NULL && (format->bits == 32 || format->bits == 0);
}

lb_status lb_format_check_cols(const lb_format *format, size_t cols, const char *what, lb_error *err)
{
    size_t fitting = 256;
    if (lb_format_is_float(format) || !format->ops->whole_groups || cols % format->group == 0)
        return LB_OK;
    if (!format->ops->kinds)
        return lb_fail(err, LB_EINVAL, "%s: %s has blocks of %zu, which do not divide its width of %zu", what,
                       format->name, format->group, cols);
    while (cols % fitting != 0)
        fitting /= 2;
    if (fitting >= 16)
        return lb_fail(err, LB_EINVAL,
                       "%s: %s has banks of %zu, which do not divide its width of %zu; banks of %zu do", what,
                       format->name, format->group, cols, fitting);
    return lb_fail(err, LB_EINVAL,
                   "%s: %s has banks of %zu, which do not divide its width of %zu, nor do smaller ones", what,
                   format->name, format->group, cols);
}

size_t lb_format_groups(const lb_format *format, size_t cols)
{
    return format->group == 0 ? 1 : cols / format->group + (cols % format->group != 0);
}

size_t lb_format_group_size(const lb_format *format, size_t cols, size_t g)
{
    if (format->group == 0)
        return cols;
    size_t begin = g * format->group;
    return cols - begin < format->group ? cols - begin : format->group;
}

size_t lb_format_row_bytes(const lb_format *format, size_t cols)
{
    if (lb_format_is_float(format))
        return cols * format->bits / 8;
    lb_format_part parts[LB_FORMAT_MAX_PARTS];
    unsigned count = format->ops->parts(format, cols, parts);
    size_t bytes = 0;
    for (unsigned i = 0; i < count; i++)
        bytes += parts[i].row_bytes;
    return bytes;
}

bool lb_format_has_tensor_scale(const lb_format *format)
{
    return format->ops && format->ops->tensor_scale && format->rule == LB_SCALE_TWO_LEVEL;
}

void lb_format_bind(lb_format *format, const float *w, size_t n)
{
    if (lb_format_has_tensor_scale(format))
        format->tensor_scale = format->ops->tensor_scale(format, w, n);
}

uint64_t lb_format_tensor_bytes(const lb_format *format, size_t rows, size_t cols)
{
    return (uint64_t)rows * lb_format_row_bytes(format, cols) +
           (lb_format_has_tensor_scale(format) ? sizeof(float) : 0);
}

void lb_format_choose_row(const lb_format *format, const float *w, const float *score, size_t cols,
                          uint8_t *codes)
{
    for (size_t g = 0, at = 0; format->ops->kinds && at < cols; g++) {
        const size_t n = lb_format_group_size(format, cols, g);
        format->ops->kinds->choose(format, w + at, score ? score + at : NULL, n, codes + at);
        at += n;
    }
}

void lb_format_fit(const lb_format *format, const float *w, const float *importance, const uint8_t *codes,
                   size_t n, lb_fit how, float *params)
{
    if (format->ops->kinds)
        format->ops->kinds->fit(format, w, importance, codes, n, how, params);
    else
        format->ops->fit(format, w, importance, n, how, params);
}

void lb_format_encode_chosen_row(const lb_format *format, const float *w, const float *importance,
                                 size_t cols, lb_fit how, uint8_t *codes, float *params)
{
    for (size_t g = 0, at = 0; at < cols; g++) {
        const size_t n = lb_format_group_size(format, cols, g);
        float *p = params + g * format->params;
        lb_format_fit(format, w + at, importance ? importance + at : NULL, codes + at, n, how, p);
        format->ops->round(format, p, w + at, n, codes + at);
        at += n;
    }
}

void lb_format_encode_row(const lb_format *format, const float *w, const float *importance, size_t cols,
                          lb_fit how, uint8_t *codes, float *params)
{
    lb_format_choose_row(format, w, importance, cols, codes);
    lb_format_encode_chosen_row(format, w, importance, cols, how, codes, params);
}

void lb_format_decode_row(const lb_format *format, const uint8_t *codes, const float *params, size_t cols,
                          float *w)
{
    for (size_t g = 0, at = 0; at < cols; g++) {
        size_t n = lb_format_group_size(format, cols, g);
        format->ops->value(format, params + g * format->params, codes + at, n, w + at);
        at += n;
    }
}
