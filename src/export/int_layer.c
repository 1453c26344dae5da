/* SPDX-License-Identifier: MIT */
#include "export/int_layer.h"

#include "base/alloc.h"
#include "base/half.h"
#include "formats/int.h"

lb_status lb_int_scheme_of(const lb_weight *weight, const char *kind, lb_int_scheme *out, lb_error *err)
{
    const lb_format *f = &weight->format;
    if (!lb_export_is_integer(f))
        return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, and %s holds integers with scales only%s",
                       weight->name, lb_export_codes_name(weight), kind, lb_export_advice(weight));
    *out = (lb_int_scheme){
        .bits = f->bits, .group = f->group, .symmetric = f->ops != &lb_int_format || f->symmetric};
    return LB_OK;
}

void lb_int_layer_free(lb_int_layer *layer)
{
    lb_free(layer->codes);
    lb_free(layer->zeros);
    lb_free(layer->scales);
    *layer = (lb_int_layer){0};
}

static lb_status scale_to_half(const lb_weight *w, const lb_export_row *row, size_t index, size_t g,
                               uint16_t *out, lb_error *err)
{
    *out = lb_f16_from_float(row->scales[g]);
    if (lb_f16_to_float(*out) == row->scales[g])
        return LB_OK;
    return lb_fail(err, LB_EUNSUPPORTED, "%s is %s, and the scale %g at row %zu is no f16", w->name,
                   w->format.name, (double)row->scales[g], index);
}

lb_status lb_int_check_scales(const lb_weight *weight, lb_error *err)
{
    lb_export_row row;
    uint16_t half;
    if (weight->format.ops == &lb_int_format)
        return LB_OK; /* they are, by definition */
    LB_TRY(lb_export_row_make(weight, &row, err));
    lb_status st = LB_OK;
    for (size_t i = 0; st == LB_OK && i < weight->rows; i++) {
        st = lb_export_row_read(weight, i, &row, err);
        for (size_t g = 0; st == LB_OK && g < lb_format_groups(&weight->format, weight->cols); g++)
            st = scale_to_half(weight, &row, i, g, &half, err);
    }
    lb_export_row_free(&row);
    return st;
}

static lb_status take_row(const lb_weight *w, const lb_export_row *row, size_t index, int shift,
                          lb_int_layer *to, lb_error *err)
{
    for (size_t g = 0; g < to->groups; g++) {
        LB_TRY(scale_to_half(w, row, index, g, &to->scales[index * to->groups + g], err));
        to->zeros[index * to->groups + g] = (uint8_t)(row->zeros[g] + shift);
    }
    for (size_t k = 0; k < w->cols; k++)
        to->codes[index * w->cols + k] = (uint8_t)(row->n[k] + row->zeros[k / to->group] + shift);
    return LB_OK;
}

lb_status lb_int_layer_read(const lb_weight *weight, unsigned bits, lb_int_layer *out, lb_error *err)
{
    const lb_format *f = &weight->format;
    const bool symmetric = f->ops != &lb_int_format || f->symmetric;
    const int shift = symmetric ? (1 << (bits - 1)) - (1 << (f->bits - 1)) : 0;
    lb_int_layer l = {.rows = weight->rows,
                      .cols = weight->cols,
                      .group = f->group ? f->group : weight->cols,
                      .groups = lb_format_groups(f, weight->cols),
                      .bits = bits};
    lb_export_row row = {0};
    lb_status st;
    LB_GO(lb_alloc_array(&l.codes, l.rows, l.cols, weight->name, err));
    LB_GO(lb_alloc_array(&l.zeros, l.rows, l.groups, weight->name, err));
    LB_GO(lb_alloc_array(&l.scales, l.rows, l.groups * sizeof *l.scales, weight->name, err));
    LB_GO(lb_export_row_make(weight, &row, err));
    for (size_t i = 0; i < l.rows; i++) {
        LB_GO(lb_export_row_read(weight, i, &row, err));
        LB_GO(take_row(weight, &row, i, shift, &l, err));
    }
    *out = l;
    l = (lb_int_layer){0};
done:
    lb_export_row_free(&row);
    lb_int_layer_free(&l);
    return st;
}

void lb_int_layer_scales_across(const lb_int_layer *layer, uint16_t *out)
{
    for (size_t r = 0; r < layer->rows; r++)
        for (size_t g = 0; g < layer->groups; g++)
            out[g * layer->rows + r] = layer->scales[r * layer->groups + g];
}
