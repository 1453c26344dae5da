/* SPDX-License-Identifier: MIT */
#include "quantize/columns.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "linalg/cholesky.h"
#include "linalg/gemm.h"

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
static void order_by_group(const lb_format *format, const lb_hessian *h, lb_columns *p, keyed *keys,
                           keyed *groups)
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

static lb_status order_columns(lb_order order, const lb_format *format, const lb_hessian *h, lb_columns *p,
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
    if (order == LB_ORDER_ACT) {
        qsort(keys, p->n, sizeof *keys, larger_first);
        for (size_t i = 0; i < p->n; i++)
            p->column[i] = keys[i].index;
    } else if (order == LB_ORDER_GROUP) {
        order_by_group(format, h, p, keys, groups);
    }
    for (size_t i = 0; i < p->n; i++) {
        p->group[i] = format->group ? p->column[i] / format->group : 0;
        p->starts[i] = order != LB_ORDER_ACT && (i == 0 || p->group[i] != p->group[i - 1]);
    }
done:
    lb_free(keys);
    lb_free(groups);
    return st;
}

/* Cuts the columns so that a group which begins inside a span also ends inside it: its fit then sees
 * weights that carry every earlier error. */
static void cut_spans(lb_columns *p)
{
    size_t begin = 0;
    for (size_t i = 0; i < p->n;) {
        size_t end = i + 1; /* of the group that begins at i */
        while (end < p->n && !p->starts[end])
            end++;
        if (end - begin > LB_SPAN_COLUMNS && i > begin) {
            p->spans[p->span_count++] = (lb_span){begin, i};
            begin = i;
        }
        while (end - begin >
               LB_SPAN_COLUMNS) { /* a group wider than a block: only its first span has a fit */
            p->spans[p->span_count++] = (lb_span){begin, begin + LB_SPAN_COLUMNS};
            begin += LB_SPAN_COLUMNS;
        }
        i = end;
    }
    if (begin < p->n)
        p->spans[p->span_count++] = (lb_span){begin, p->n};
}

/* U of the reordered Hessian. Unseen inputs leave H singular: damping is `damp` of the mean diagonal,
 * more where that is not enough. */
static lb_status factorize(const lb_recipe *recipe, const lb_hessian *h, lb_columns *p, lb_error *err)
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

void lb_columns_free(lb_columns *p)
{
    lb_free(p->column);
    lb_free(p->group);
    lb_free(p->starts);
    lb_free(p->spans);
    lb_free(p->u);
    lb_free(p->importance);
}

lb_status lb_columns_create(const lb_recipe *recipe, lb_order order, const lb_format *format,
                            const lb_hessian *h, lb_columns *out, lb_error *err)
{
    lb_columns p = {.n = h->n};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&p.column, p.n, sizeof *p.column, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.group, p.n, sizeof *p.group, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.starts, p.n, sizeof *p.starts, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.spans, p.n, sizeof *p.spans, "GPTQ order", err));
    LB_GO(lb_alloc_array(&p.u, p.n, p.n * sizeof *p.u, "GPTQ factor", err));
    LB_GO(lb_alloc_array(&p.importance, p.n, sizeof *p.importance, "GPTQ importance", err));
    LB_GO(order_columns(order, format, h, &p, err));
    cut_spans(&p);
    LB_GO(factorize(recipe, h, &p, err));
    /* What an error costs here: columns still to come make up for the rest. [GPTQ eq. 3] */
    for (size_t i = 0; i < p.n; i++)
        p.importance[i] = 1.0f / (p.u[i * p.n + i] * p.u[i * p.n + i]);
    *out = p;
    p = (lb_columns){0};
done:
    lb_columns_free(&p);
    return st;
}

/* scratch [rows, n]. */
static void add_compensation(const lb_columns *p, double share, const lb_hessian *h, const lb_layer *layer,
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
            target[at] = layer->w[at] + (float)share * scratch[r * n + t];
        }
    }
}

lb_status lb_columns_target(const lb_columns *columns, const lb_recipe *recipe, const lb_hessian *h,
                            const lb_layer *layer, float *target, lb_error *err)
{
    const size_t n = layer->rows * columns->n;
    float *scratch;
    if (!h->drift || !(recipe->compensate > 0.0)) {
        memcpy(target, layer->w, n * sizeof *target);
        return LB_OK;
    }
    LB_TRY(lb_alloc_array(&scratch, n, sizeof *scratch, "GPTQ target", err));
    add_compensation(columns, recipe->compensate, h, layer, scratch, target);
    lb_free(scratch);
    return LB_OK;
}

lb_status lb_columns_for_layers(const lb_recipe *recipe, lb_order order, const lb_hessian *h,
                                const lb_layer *layers, size_t count, lb_columns_fn choose, lb_error *err)
{
    lb_columns c = {0};
    size_t planned = SIZE_MAX - 1; /* the group size that c was made for */
    lb_status st = LB_OK;
    for (size_t i = 0; st == LB_OK && i < count; i++) {
        if (layers[i].format.group != planned) { /* layers of one input mostly share their format */
            lb_columns_free(&c);
            c = (lb_columns){0};
            planned = layers[i].format.group;
            st = lb_columns_create(recipe, order, &layers[i].format, h, &c, err);
        }
        if (st == LB_OK)
            st = choose(recipe, &c, h, &layers[i], err);
    }
    lb_columns_free(&c);
    return st;
}
