/* SPDX-License-Identifier: MIT */
#include "pack/check_values.h"

#include <math.h>
#include <stdio.h>

#include "base/alloc.h"
#include "pack/plan.h"
#include "quantize/magnitude.h"

/* Reading checks that values are finite. */
static lb_status find_largest(const lb_weights *weights, const char *name, size_t rows, size_t cols,
                              float *largest, lb_error *err)
{
    enum { ROWS = 64 };
    lb_weight w;
    float *values;
    *largest = 0.0f;
    LB_TRY(lb_weights_find(weights, name, rows, cols, &w, err));
    LB_TRY(lb_alloc_array(&values, ROWS * cols, sizeof *values, name, err));
    lb_status st = LB_OK;
    for (size_t row = 0; st == LB_OK && row < rows; row += ROWS) {
        const size_t count = rows - row < ROWS ? rows - row : ROWS;
        st = lb_weight_read(&w, row, count, values, err);
        for (size_t i = 0; st == LB_OK && i < count * cols; i++)
            *largest = fabsf(values[i]) > *largest ? fabsf(values[i]) : *largest;
    }
    lb_weight_forget(weights, &w);
    lb_free(values);
    return st;
}

/* The formats that a layer may get. */
static lb_status check_reach(const lb_recipe *recipe, const char *layer, float largest, lb_error *err)
{
    const lb_format *ruled = lb_recipe_format(recipe, layer, NULL, NULL);
    const lb_allocation *a = &recipe->allocation;
    if (recipe->transform.kind != LB_TRANSFORM_NONE || recipe->transform.rescale)
        return LB_OK;
    if (ruled || a->how == LB_ALLOCATE_NONE)
        return lb_check_magnitude(ruled ? ruled : &recipe->format, layer, largest, err);
    for (size_t k = 0; k < a->candidate_count; k++)
        LB_TRY(lb_check_magnitude(&a->candidates[k], layer, largest, err));
    return LB_OK;
}

static lb_status check_outer(const lb_weights *weights, lb_error *err)
{
    const lb_config *c = &weights->config;
    const char *layer;
    char name[64];
    float largest;
    for (size_t i = 0; lb_outer_matrix(c, i, &layer); i++) {
        snprintf(name, sizeof name, "%s.weight", layer);
        LB_TRY(find_largest(weights, name, c->vocab, c->hidden, &largest, err));
    }
    return find_largest(weights, "model.norm.weight", 1, c->hidden, &largest, err);
}

static lb_status check_block(const lb_weights *weights, const lb_recipe *recipe, size_t layer, lb_error *err)
{
    char name[128], tensor[144];
    size_t n;
    float largest;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        size_t rows, cols;
        lb_linear_shape(&weights->config, which, &rows, &cols);
        lb_linear_name(layer, which, name, sizeof name);
        snprintf(tensor, sizeof tensor, "%s.weight", name);
        LB_TRY(find_largest(weights, tensor, rows, cols, &largest, err));
        LB_TRY(check_reach(recipe, name, largest, err));
    }
    for (size_t i = 0; lb_block_vector(&weights->config, layer, i, name, sizeof name, &n); i++)
        LB_TRY(find_largest(weights, name, 1, n, &largest, err));
    return LB_OK;
}

lb_status lb_check_values(const lb_weights *weights, const lb_recipe *recipe, const lb_progress *progress,
                          lb_error *err)
{
    LB_TRY(check_outer(weights, err));
    for (size_t layer = 0; layer < weights->config.layers; layer++) {
        LB_TRY(
            lb_progress_tell(progress, "checking", 0, 0, err)); /* whether to go on; too short to be shown */
        LB_TRY(check_block(weights, recipe, layer, err));
    }
    return LB_OK;
}
