/* SPDX-License-Identifier: MIT
 *
 * GPTQ (arXiv:2210.17323): columns are rounded one after the other, and each column's rounding error
 * is made up for by the columns that are still to come.
 *
 *   (H + damp I)^-1 = U^T U;   e = (w_t - q_t) / U_tt;   w_j -= e U_tj for j > t       [GPTQ eq. 3-4]
 *
 * columns.h says in which order. Where a format has elements of two kinds, a group's are chosen when its turn comes, by
 * weights that already carry what earlier columns left to them; each column is then rounded on its element's grid.
 */
#include <assert.h>
#include <math.h>
#include <stdatomic.h>

#include <cblas.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/kinds.h"
#include "linalg/gemm.h"
#include "quantize/columns.h"
#include "quantize/refine.h"
#include "quantize/saliency.h"

enum { ROWS_PER_CHUNK = 32 };

typedef struct sweep {
    const lb_recipe *recipe;
    const lb_columns *columns;
    const lb_layer *layer;
    const float *w; /* [rows, n] what to approximate, in stored order */
    const float
        *scores; /* by which elements are of the high kind, in visiting order; NULL: there are no kinds */
    const float *channel_importance; /* in stored order, for fits before the sweep */
    const float *channel_scores; /* as scores, in stored order */
    atomic_int failed;
} sweep;

/* Grids are of neighbours: of a group that begins at column t in another order, as it is stored. */
static void fit_in_order(const sweep *s, size_t t, const float *w, size_t size, float *params)
{
    enum { MOST = 256 };
    const lb_columns *p = s->columns;
    const lb_format *f = &s->layer->format;
    const size_t begin = p->group[t] * f->group;
    float stored[MOST], importance[MOST];
    assert(size <= MOST);
    for (size_t i = 0; i < size; i++) {
        stored[p->column[t + i] - begin] = w[i];
        importance[p->column[t + i] - begin] = p->importance[t + i];
    }
    f->ops->fit(f, stored, importance, size, s->recipe->fit, params);
}

/* The parameters of the group that begins at column t, and the kinds of its elements: w [size], codes of the row. */
static void begin_group(const sweep *s, size_t t, const float *w, uint8_t *codes, float *params)
{
    const lb_columns *p = s->columns;
    const lb_format *f = &s->layer->format;
    const size_t size = lb_format_group_size(f, p->n, p->group[t]);
    uint8_t chosen[LB_KINDS_MOST_GROUP];
    if (f->grid) {
        fit_in_order(s, t, w, size, params);
        return;
    }
    if (s->scores) {
        f->ops->kinds->choose(f, w, s->scores + t, size, chosen);
        for (size_t i = 0; i < size; i++)
            codes[p->column[t + i]] = chosen[i];
    }
    lb_format_fit(f, w, p->importance + t, chosen, size, s->recipe->fit, params);
}

/* One row through one span: w [n] is the compensated row in visiting order, e [span] its errors. */
static void sweep_row(const sweep *s, lb_span span, size_t row, float *w, float *e)
{
    const lb_columns *p = s->columns;
    const lb_format *f = &s->layer->format;
    uint8_t *codes = s->layer->codes + row * p->n;
    float *params = s->layer->params + row * lb_format_groups(f, p->n) * f->params;
    for (size_t t = span.begin; t < span.end; t++) {
        float *group_params = params + p->group[t] * f->params;
        if (p->starts[t])
            begin_group(s, t, w + t, codes, group_params);
        uint8_t *code = &codes[p->column[t]];
        float value;
        const float *grid = lb_format_grid(f, group_params, p->column[t]);
        f->ops->round(f, grid, w + t, 1, code);
        f->ops->value(f, grid, code, 1, &value);
        const float *u = p->u + t * p->n;
        const float error = (w[t] - value) / u[t];
        e[t - span.begin] = error;
        for (size_t j = t + 1; j < span.end; j++)
            w[j] -= error * u[j];
    }
}

static void sweep_rows(void *arg, size_t begin, size_t end)
{
    sweep *s = arg;
    const lb_columns *p = s->columns;
    const lb_layer *l = s->layer;
    const size_t rows = end - begin, n = p->n;
    float *w = lb_alloc(rows, (n + LB_SPAN_COLUMNS) * sizeof *w);
    if (!w) {
        atomic_store(&s->failed, 1);
        return;
    }
    lb_blas_prepare();
    float *errors = w + rows * n; /* [rows, span] */
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < n; t++)
            w[r * n + t] = s->w[(begin + r) * n + p->column[t]];
    if (s->channel_importance) {
        const size_t params = lb_format_groups(&l->format, n) * l->format.params;
        for (size_t r = begin; r < end; r++) {
            lb_format_choose_row(&l->format, s->w + r * n, s->channel_scores, n, l->codes + r * n);
            lb_format_encode_chosen_row(&l->format, s->w + r * n, s->channel_importance, n, s->recipe->fit,
                                        l->codes + r * n, l->params + r * params);
        }
    }
    for (size_t i = 0; i < p->span_count; i++) {
        const lb_span c = p->spans[i];
        const size_t width = c.end - c.begin;
        for (size_t r = 0; r < rows; r++)
            sweep_row(s, c, begin + r, w + r * n, errors + r * width);
        if (c.end < n)
            cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)rows, (int)(n - c.end), (int)width,
                        -1.0f, errors, (int)width, p->u + c.begin * n + c.end, (int)n, 1.0f, w + c.end,
                        (int)n);
    }
    lb_free(w);
}

/* By what the kinds of elements are chosen: scores [n] in visiting order, stored [n] in stored order. */
static void find_scores(const lb_recipe *recipe, const lb_columns *p, float *scores, float *stored)
{
    lb_saliency_scores(recipe->saliency, p, scores);
    for (size_t t = 0; t < p->n; t++)
        stored[p->column[t]] = scores[t];
}

static lb_status sweep_layer(const lb_recipe *recipe, const lb_columns *p, const lb_hessian *h,
                             const lb_layer *layer, lb_error *err)
{
    sweep s = {.recipe = recipe, .columns = p, .layer = layer, .w = layer->w};
    float *importance = NULL, *scores = NULL, *target = NULL;
    lb_status st = LB_OK;
    if (recipe->order == LB_ORDER_ACT) {
        LB_GO(lb_alloc_array(&importance, h->n, sizeof *importance, "GPTQ importance", err));
        lb_hessian_importance(h, importance);
        s.channel_importance = importance;
    }
    if (layer->format.ops->kinds) {
        LB_GO(lb_alloc_array(&scores, 2 * h->n, sizeof *scores, "GPTQ saliency", err));
        find_scores(recipe, p, scores, scores + h->n);
        s.scores = scores;
        s.channel_scores = scores + h->n;
    }
    if (h->drift && recipe->compensate > 0.0) {
        LB_GO(lb_alloc_array(&target, layer->rows, h->n * sizeof *target, "GPTQ target", err));
        LB_GO(lb_columns_target(p, recipe, h, layer, target, err));
        s.w = target;
    }
    lb_parallel_for(layer->rows, ROWS_PER_CHUNK, sweep_rows, &s);
    if (atomic_load(&s.failed))
        st = lb_fail(err, LB_ENOMEM, "GPTQ: no memory for %d rows of %s", ROWS_PER_CHUNK, layer->name);
    else
        st = lb_refine_layer(recipe, h, layer, s.w, err);
done:
    lb_free(importance);
    lb_free(scores);
    lb_free(target);
    return st;
}

static lb_status quantize_gptq(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers,
                               size_t count, lb_error *err)
{
    return lb_columns_for_layers(recipe, recipe->order, hessian, layers, count, sweep_layer, err);
}

const lb_method lb_method_gptq = {
    .name = "gptq",
    .summary = "rounds column by column, passing each error on (needs calibration)",
    .needs_calibration = true,
    .needs_hessian = true,
    .quantize = quantize_gptq,
};
