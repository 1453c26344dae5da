/* SPDX-License-Identifier: MIT
 *
 * GPTQ (arXiv:2210.17323): columns are rounded one after the other, and each column's rounding error
 * is made up for by the columns that are still to come.
 *
 *   (H + damp I)^-1 = U^T U;   e = (w_t - q_t) / U_tt;   w_j -= e U_tj for j > t       [GPTQ eq. 3-4]
 *
 * Columns are visited in one of three orders (recipe.h). In group order columns move only inside
 * their group and groups move as wholes (BPDQ, arXiv:2602.04163, calls it group-aware reordering), so
 * that nothing of the order has to be stored; a group's parameters are fitted when its turn comes, to
 * weights that already carry what earlier columns left to them. In act order columns of all groups
 * mix, so every group's parameters are fitted before the sweep.
 */
#include <math.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cblas.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/cholesky.h"
#include "linalg/gemm.h"
#include "quantize/method.h"

enum { SWEEP_BLOCK = 128, ROWS_PER_CHUNK = 32 };

/* A run of columns between two updates of everything to their right. */
typedef struct span {
    size_t begin, end;
} span;

/* Everything about a layer's input that all its rows share. */
typedef struct plan {
    size_t n;
    size_t *column; /* [n] original column of each visited one */
    size_t *group; /* [n] its group */
    uint8_t *starts; /* [n] whether its group's parameters are fitted here */
    span *spans;
    size_t span_count;
    float *u; /* [n, n] */
    float *importance; /* [n] in visiting order */
} plan;

typedef struct keyed {
    float key;
    size_t index;
} keyed;

/* Descending by key; equal keys keep their order, so that the result does not depend on qsort. */
static int larger_first(const void *a, const void *b)
{
    const keyed *x = a, *y = b;
    if (x->key != y->key)
        return x->key > y->key ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

/* Fills plan->column for group order; keys [n] and groups [group count] are scratch. */
static void order_by_group(const lb_format *format, const lb_hessian *h, plan *p, keyed *keys, keyed *groups)
{
    const size_t count = lb_format_groups(format, p->n);
    for (size_t g = 0, at = 0; g < count; g++) {
        const size_t size = lb_format_group_size(format, p->n, g);
        for (size_t i = at; i < at + size; i++)
            keys[i] = (keyed){h->h[i * p->n + i], i};
        qsort(keys + at, size, sizeof *keys, larger_first);
        groups[g] = (keyed){keys[at].key, g};
        at += size;
    }
    qsort(groups, count, sizeof *groups, larger_first);
    for (size_t k = 0, to = 0; k < count; k++) {
        const size_t g = groups[k].index, size = lb_format_group_size(format, p->n, g);
        const size_t from = format->group ? g * format->group : 0;
        for (size_t i = 0; i < size; i++)
            p->column[to++] = keys[from + i].index;
    }
}

static lb_status order_columns(const lb_recipe *recipe, const lb_format *format, const lb_hessian *h, plan *p,
                               lb_error *err)
{
    keyed *keys = lb_alloc(p->n, sizeof *keys);
    keyed *groups = lb_alloc(lb_format_groups(format, p->n), sizeof *groups);
    lb_status st = LB_OK;
    if (!keys || !groups) {
        st = lb_fail(err, LB_ENOMEM, "GPTQ: no memory to order %zu columns", p->n);
        goto done;
    }
    for (size_t i = 0; i < p->n; i++) {
        p->column[i] = i;
        keys[i] = (keyed){h->h[i * p->n + i], i};
    }
    if (recipe->order == LB_ORDER_ACT) {
        qsort(keys, p->n, sizeof *keys, larger_first);
        for (size_t i = 0; i < p->n; i++)
            p->column[i] = keys[i].index;
    } else if (recipe->order == LB_ORDER_GROUP) {
        order_by_group(format, h, p, keys, groups);
    }
    for (size_t i = 0; i < p->n; i++) {
        p->group[i] = format->group ? p->column[i] / format->group : 0;
        p->starts[i] = recipe->order != LB_ORDER_ACT && (i == 0 || p->group[i] != p->group[i - 1]);
    }
done:
    lb_free(keys);
    lb_free(groups);
    return st;
}

/* Cuts the columns so that a group which begins inside a span also ends inside it: its fit then sees
 * weights that carry every earlier error. */
static void cut_spans(plan *p)
{
    size_t begin = 0;
    for (size_t i = 0; i < p->n;) {
        size_t end = i + 1; /* of the group that begins at i */
        while (end < p->n && !p->starts[end])
            end++;
        if (end - begin > SWEEP_BLOCK && i > begin) {
            p->spans[p->span_count++] = (span){begin, i};
            begin = i;
        }
        while (end - begin > SWEEP_BLOCK) { /* a group wider than a block: only its first span has a fit */
            p->spans[p->span_count++] = (span){begin, begin + SWEEP_BLOCK};
            begin += SWEEP_BLOCK;
        }
        i = end;
    }
    if (begin < p->n)
        p->spans[p->span_count++] = (span){begin, p->n};
}

/* U of the reordered Hessian. Unseen inputs leave H singular: damping is `damp` of the mean diagonal,
 * more where that is not enough. */
static lb_status factorize(const lb_recipe *recipe, const lb_hessian *h, plan *p, lb_error *err)
{
    const size_t n = p->n;
    float *reordered;
    double mean = 0.0;
    bool definite = false;
    LB_TRY(lb_alloc_array(&reordered, n, n * sizeof *reordered, "GPTQ Hessian", err));
    for (size_t i = 0; i < n; i++) {
        const float *row = h->h + p->column[i] * n;
        mean += (double)row[p->column[i]] / (double)n;
        for (size_t j = 0; j < n; j++)
            reordered[i * n + j] = row[p->column[j]];
    }
    if (!(mean > 0.0))
        mean = 1.0;
    lb_status st = LB_OK;
    double damp = recipe->damp;
    for (int attempt = 0; st == LB_OK && !definite && attempt < 20; attempt++) {
        st = lb_inverse_cholesky(n, reordered, damp * mean, p->u, &definite, err);
        damp = damp * 2.0 + 1e-4;
    }
    lb_free(reordered);
    if (st == LB_OK && !definite)
        st = lb_fail(err, LB_EINVAL,
                     "GPTQ: the inputs' Hessian is not positive definite even with damping %g", damp);
    return st;
}

static void plan_free(plan *p)
{
    lb_free(p->column);
    lb_free(p->group);
    lb_free(p->starts);
    lb_free(p->spans);
    lb_free(p->u);
    lb_free(p->importance);
}

static lb_status plan_create(const lb_recipe *recipe, const lb_format *format, const lb_hessian *h, plan *out,
                             lb_error *err)
{
    plan p = {.n = h->n};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&p.column, p.n, sizeof *p.column, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.group, p.n, sizeof *p.group, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.starts, p.n, sizeof *p.starts, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.spans, p.n, sizeof *p.spans, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.u, p.n, p.n * sizeof *p.u, "GPTQ factor", err));
    LB_GO(lb_alloc_array(&p.importance, p.n, sizeof *p.importance, "GPTQ importance", err));
    LB_GO(order_columns(recipe, format, h, &p, err));
    cut_spans(&p);
    LB_GO(factorize(recipe, h, &p, err));
    /* What an error costs here: columns still to come make up for the rest. [GPTQ eq. 3] */
    for (size_t i = 0; i < p.n; i++)
        p.importance[i] = 1.0f / (p.u[i * p.n + i] * p.u[i * p.n + i]);
    *out = p;
    p = (plan){0};
done:
    plan_free(&p);
    return st;
}

/* What the layer should weigh so that, fed by the quantized stream, it puts out what the original layer
 * puts out on the original stream: the least-squares answer, taken `compensate` of the way.
 *   W' = W + compensate * W E^T (H + damp I)^-1,   E = mean of x (x_original - x)^T
 * target [rows, n] in stored order; scratch [rows, n]. */
static void compensate(const lb_recipe *recipe, const plan *p, const lb_hessian *h, const lb_layer *layer,
                       float *scratch, float *target)
{
    const size_t n = p->n, rows = layer->rows;
    lb_gemm_nt(rows, n, n, layer->w, n, h->drift, n, 0.0f, scratch, n);
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < n; t++)
            target[r * n + t] = scratch[r * n + p->column[t]];
    lb_gemm_nt(rows, n, n, target, n, p->u, n, 0.0f, scratch, n);
    lb_gemm_nn(rows, n, n, scratch, n, p->u, n, target, n);
    memcpy(scratch, target, rows * n * sizeof *target);
    for (size_t r = 0; r < rows; r++) {
        for (size_t t = 0; t < n; t++) {
            const size_t at = r * n + p->column[t];
            target[at] = layer->w[at] + (float)recipe->compensate * scratch[r * n + t];
        }
    }
}

typedef struct sweep {
    const lb_recipe *recipe;
    const plan *plan;
    const lb_layer *layer;
    const float *w; /* [rows, n] what to approximate, in stored order */
    const float *channel_importance; /* in stored order, for fits before the sweep */
    atomic_int failed;
} sweep;

/* One row through one span: w [n] is the compensated row in visiting order, e [span] its errors. */
static void sweep_row(const sweep *s, span columns, size_t row, float *w, float *e)
{
    const plan *p = s->plan;
    const lb_format *f = &s->layer->format;
    uint8_t *codes = s->layer->codes + row * p->n;
    float *params = s->layer->params + row * lb_format_groups(f, p->n) * f->params;
    for (size_t t = columns.begin; t < columns.end; t++) {
        float *group_params = params + p->group[t] * f->params;
        if (p->starts[t])
            f->ops->fit(f, w + t, p->importance + t, lb_format_group_size(f, p->n, p->group[t]),
                        s->recipe->fit, group_params);
        uint8_t code;
        float value;
        f->ops->round(f, group_params, w + t, 1, &code);
        f->ops->value(f, group_params, &code, 1, &value);
        codes[p->column[t]] = code;
        const float *u = p->u + t * p->n;
        const float error = (w[t] - value) / u[t];
        e[t - columns.begin] = error;
        for (size_t j = t + 1; j < columns.end; j++)
            w[j] -= error * u[j];
    }
}

static void sweep_rows(void *arg, size_t begin, size_t end)
{
    sweep *s = arg;
    const plan *p = s->plan;
    const lb_layer *l = s->layer;
    const size_t rows = end - begin, n = p->n;
    float *w = lb_alloc(rows, (n + SWEEP_BLOCK) * sizeof *w);
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
        for (size_t r = begin; r < end; r++)
            lb_format_encode_row(&l->format, s->w + r * n, s->channel_importance, n, s->recipe->fit,
                                 l->codes + r * n, l->params + r * params);
    }
    for (size_t i = 0; i < p->span_count; i++) {
        const span c = p->spans[i];
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

static lb_status sweep_layer(const lb_recipe *recipe, const plan *p, const lb_hessian *h,
                             const lb_layer *layer, lb_error *err)
{
    sweep s = {.recipe = recipe, .plan = p, .layer = layer, .w = layer->w};
    float *importance = NULL, *target = NULL, *scratch = NULL;
    lb_status st = LB_OK;
    if (recipe->order == LB_ORDER_ACT) {
        LB_GO(lb_alloc_array(&importance, h->n, sizeof *importance, "GPTQ importance", err));
        lb_hessian_importance(h, importance);
        s.channel_importance = importance;
    }
    if (h->drift && recipe->compensate > 0.0) {
        LB_GO(lb_alloc_array(&target, layer->rows, h->n * sizeof *target, "GPTQ target", err));
        LB_GO(lb_alloc_array(&scratch, layer->rows, h->n * sizeof *scratch, "GPTQ target", err));
        compensate(recipe, p, h, layer, scratch, target);
        s.w = target;
    }
    lb_parallel_for(layer->rows, ROWS_PER_CHUNK, sweep_rows, &s);
    if (atomic_load(&s.failed))
        st = lb_fail(err, LB_ENOMEM, "GPTQ: no memory for %d rows of %s", ROWS_PER_CHUNK, layer->name);
done:
    lb_free(importance);
    lb_free(target);
    lb_free(scratch);
    return st;
}

static lb_status quantize_gptq(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers,
                               size_t count, lb_error *err)
{
    plan p = {0};
    size_t planned = SIZE_MAX - 1; /* the group size that p was made for */
    lb_status st = LB_OK;
    for (size_t i = 0; st == LB_OK && i < count; i++) {
        if (layers[i].format.group != planned) { /* layers of one input mostly share their format */
            plan_free(&p);
            p = (plan){0};
            planned = layers[i].format.group;
            st = plan_create(recipe, &layers[i].format, hessian, &p, err);
        }
        if (st == LB_OK)
            st = sweep_layer(recipe, &p, hessian, &layers[i], err);
    }
    plan_free(&p);
    return st;
}

const lb_method lb_method_gptq = {
    .name = "gptq",
    .summary = "rounds column by column, passing each error on (needs calibration)",
    .needs_calibration = true,
    .needs_hessian = true,
    .quantize = quantize_gptq,
};
