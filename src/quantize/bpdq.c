/* SPDX-License-Identifier: MIT
 *
 * BPDQ (arXiv:2602.04163): codes and the coefficients of every group in turns, in the geometry of the layer's
 * inputs. Groups are taken one after the other, as in GPTQ. With Wt a row's weights in the group, which carry
 * what earlier groups left to them, and Ul the group's block of U:
 *
 *   sweep   codes: the nearest value of each column, whose error the group's later columns make up for (GPTQ)
 *   refit   coefficients c for these codes: the least |(Wt - Q) Ul^-1|^2, Q = c F^T linear in c
 *
 * from the same Wt again and again, and the best pair is kept. Its error goes on to later groups as a whole,
 *
 *   E = (Wt - Q) Ul^-1,   W[:, later] -= E U[group, later],
 *
 * which is what the paper's delta correction amounts to; |E|^2 is what the group adds to the layer's error. With
 * S = (Ul^T Ul)^-1, shared by all rows, the refit is c = (F^T S F)^-1 F^T S Wt.
 *
 * For all formats whose values are linear in coefficients (linear_format.h): bit planes, and integers, whose scale is
 * the one coefficient.
 */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/linear_format.h"
#include "linalg/cholesky.h"
#include "linalg/gemm.h"
#include "quantize/columns.h"
#include "quantize/refine.h"

enum { ROWS_PER_CHUNK = 8 };

/* One group of a layer while all rows choose their codes in it. */
typedef struct group_job {
    const lb_recipe *recipe;
    const lb_columns *columns;
    const lb_layer *layer;
    const lb_linear_format_ops *linear;
    unsigned count; /* of coefficients */
    size_t begin, size; /* in visiting order */
    const double *s; /* [size, size] */
    const float *w; /* [rows, n] in visiting order */
    float *errors; /* [rows, size] E */
    double *scores; /* [rows, iterations]; NULL: each row keeps its own best */
    size_t chosen; /* the iterate that all rows keep; SIZE_MAX: not decided */
    atomic_int failed;
} group_job;

/* What one row needs meanwhile. */
typedef struct scratch {
    float *v; /* [size] weights on their way through a sweep */
    double *sw; /* [size] S Wt */
    double *sf; /* [count, size] S F of `held` */
    float *basis; /* [2^bits, count] */
    uint8_t *codes, *best, *held; /* [size] */
} scratch;

static size_t iterations(const group_job *j)
{
    return j->recipe->alternation.iters > 0 ? j->recipe->alternation.iters : 1;
}

static const float *factor_row(const group_job *j, size_t t)
{
    return j->columns->u + (j->begin + t) * j->columns->n + j->begin;
}

/* Codes for params; v is left as it was swept. */
static void sweep(const group_job *j, const float *wt, const float *params, float *v, uint8_t *codes)
{
    const lb_format *f = &j->layer->format;
    memcpy(v, wt, j->size * sizeof *v);
    for (size_t t = 0; t < j->size; t++) {
        const float *u = factor_row(j, t);
        float value;
        f->ops->round(f, params, v + t, 1, codes + t);
        f->ops->value(f, params, codes + t, 1, &value);
        const float error = (v[t] - value) / u[t];
        for (size_t k = t + 1; k < j->size; k++)
            v[k] -= error * u[k];
    }
}

/* sf += by * S[t, :] of each coefficient; by [count]. */
static void add_column(const group_job *j, const scratch *x, size_t t, const float *by)
{
    const double *row = j->s + t * j->size;
    for (unsigned i = 0; i < j->count; i++) {
        const double f = (double)by[i];
        double *to = x->sf + i * j->size;
        for (size_t k = 0; f != 0.0 && k < j->size; k++)
            to[k] += f * row[k];
    }
}

/* S F of the codes `held`: all of it anew. */
static void begin_sf(const group_job *j, const scratch *x, const uint8_t *codes)
{
    memset(x->sf, 0, j->count * j->size * sizeof *x->sf);
    memcpy(x->held, codes, j->size);
    for (size_t t = 0; t < j->size; t++)
        add_column(j, x, t, x->basis + codes[t] * j->count);
}

/* From one sweep to the next few codes change, and only their columns are added. */
static void update_sf(const group_job *j, const scratch *x, const uint8_t *codes)
{
    for (size_t t = 0; t < j->size; t++) {
        float by[LB_LINEAR_MOST];
        if (codes[t] == x->held[t])
            continue;
        for (unsigned i = 0; i < j->count; i++)
            by[i] = x->basis[codes[t] * j->count + i] - x->basis[x->held[t] * j->count + i];
        add_column(j, x, t, by);
        x->held[t] = codes[t];
    }
}

/* a [count, count] = F^T S F and b [count] = F^T S Wt of the codes `held`. */
static void normal_equations(const group_job *j, const scratch *x, double *a, double *b)
{
    const unsigned count = j->count;
    memset(a, 0, count * count * sizeof *a);
    memset(b, 0, count * sizeof *b);
    for (size_t t = 0; t < j->size; t++) {
        const float *basis = x->basis + x->held[t] * count;
        for (unsigned i = 0; i < count; i++) {
            const double f = (double)basis[i];
            b[i] += f * x->sw[t];
            for (unsigned k = 0; k < count; k++)
                a[i * count + k] += f * x->sf[k * j->size + t];
        }
    }
}

/* |(Wt - c F^T) Ul^-1|^2 = Wt S Wt - 2 c b + c a c. */
static double objective(unsigned count, double whole, const double *a, const double *b, const double *c)
{
    double sum = whole;
    for (unsigned i = 0; i < count; i++) {
        sum -= 2.0 * c[i] * b[i];
        for (unsigned k = 0; k < count; k++)
            sum += c[i] * a[i * count + k] * c[k];
    }
    return sum > 0.0 ? sum : 0.0;
}

/* The objective of params for some codes. */
static double judge(const group_job *j, const float *params, double whole, const double *a, const double *b)
{
    float stored[LB_FORMAT_MAX_PARAMS];
    double c[LB_FORMAT_MAX_PARAMS];
    j->linear->get(&j->layer->format, params, stored);
    for (unsigned i = 0; i < j->count; i++)
        c[i] = (double)stored[i];
    return objective(j->count, whole, a, b, c);
}

/* Coefficients for the codes `held`, as storage holds them, into params; returns the objective. They stay where they
 * cannot be told apart, because too few of the levels are in use, and where storage rounds the better ones to worse. */
static double refit(const group_job *j, const scratch *x, double whole, float *params)
{
    double a[LB_LINEAR_MOST * LB_LINEAR_MOST], b[LB_LINEAR_MOST], c[LB_LINEAR_MOST];
    float coefficients[LB_LINEAR_MOST], refitted[LB_LINEAR_MOST];
    double largest = 0.0;
    normal_equations(j, x, a, b);
    for (unsigned i = 0; i < j->count; i++)
        largest = a[i * j->count + i] > largest ? a[i * j->count + i] : largest;
    /* the paper's 1e-4 goes with H = 2 / T X^T X, twice ours */
    const bool faithful = j->recipe->alternation.faithful;
    const double before = judge(j, params, whole, a, b);
    if (!lb_solve_normal(j->count, a, b, faithful ? 0.5e-4 : 1e-9 * largest, c))
        return before;
    for (unsigned i = 0; i < j->count; i++)
        coefficients[i] = (float)c[i];
    memcpy(refitted, params, j->layer->format.params * sizeof *params);
    j->linear->set(&j->layer->format, coefficients, refitted);
    const double after = judge(j, refitted, whole, a, b);
    if (!faithful && before <= after)
        return before;
    memcpy(params, refitted, j->layer->format.params * sizeof *params);
    return after;
}

/* The most significant bits of 8-bit asymmetric codes, as the paper's code begins. */
static void most_significant_bits(const group_job *j, const float *wt, uint8_t *codes)
{
    float low = 0.0f, high = 0.0f;
    for (size_t t = 0; t < j->size; t++) {
        low = wt[t] < low ? wt[t] : low;
        high = wt[t] > high ? wt[t] : high;
    }
    const float scale = (high - low) / 255.0f, zero = scale > 0.0f ? nearbyintf(-low / scale) : 0.0f;
    for (size_t t = 0; t < j->size; t++) {
        const float q = scale > 0.0f ? nearbyintf(wt[t] / scale) + zero : 0.0f;
        codes[t] = (uint8_t)((unsigned)(q < 0.0f     ? 0.0f
                                        : q > 255.0f ? 255.0f
                                                     : q) >>
                             (8 - j->layer->format.bits));
    }
}

static void begin_row(const group_job *j, const scratch *x, const float *wt, double whole, float *params)
{
    const lb_format *f = &j->layer->format;
    const lb_fit how = j->recipe->alternation.init == LB_INIT_SEARCH ? LB_FIT_SEARCH : LB_FIT_RANGE;
    f->ops->fit(f, wt, j->columns->importance + j->begin, j->size, how, params);
    j->linear->basis(f, params, x->basis);
    if (j->recipe->alternation.init != LB_INIT_BITS)
        return;
    most_significant_bits(j, wt, x->codes);
    begin_sf(j, x, x->codes);
    (void)refit(j, x, whole, params);
}

static double begin_products(const group_job *j, const scratch *x, const float *wt)
{
    double whole = 0.0;
    memset(x->sw, 0, j->size * sizeof *x->sw);
    for (size_t t = 0; t < j->size; t++) {
        const double w = (double)wt[t], *row = j->s + t * j->size;
        for (size_t k = 0; k < j->size; k++)
            x->sw[k] += w * row[k];
    }
    for (size_t t = 0; t < j->size; t++)
        whole += (double)wt[t] * x->sw[t];
    return whole;
}

/* Codes of the group and its parameters, in their places, and E. */
static void finish_row(const group_job *j, const scratch *x, size_t row, const float *wt, const float *params)
{
    const lb_columns *c = j->columns;
    const lb_format *f = &j->layer->format;
    float *e = j->errors + row * j->size;
    float *stored = j->layer->params + (row * lb_format_groups(f, c->n) + c->group[j->begin]) * f->params;
    memcpy(stored, params, f->params * sizeof *params);
    f->ops->value(f, params, x->best, j->size, x->v);
    for (size_t t = 0; t < j->size; t++) {
        j->layer->codes[row * c->n + c->column[j->begin + t]] = x->best[t];
        x->v[t] = wt[t] - x->v[t];
    }
    for (size_t t = 0; t < j->size; t++) {
        const float *u = factor_row(j, t);
        e[t] = x->v[t] / u[t];
        for (size_t k = t + 1; k < j->size; k++)
            x->v[k] -= e[t] * u[k];
    }
}

static void choose_row(const group_job *j, const scratch *x, size_t row)
{
    const float *wt = j->w + row * j->columns->n + j->begin;
    const size_t params_bytes = j->layer->format.params * sizeof(float), rounds = iterations(j);
    const double whole = begin_products(j, x, wt);
    float params[LB_FORMAT_MAX_PARAMS], best[LB_FORMAT_MAX_PARAMS];
    double least = HUGE_VAL;
    begin_row(j, x, wt, whole, params);
    memcpy(best, params, params_bytes);
    for (size_t i = 0; i < rounds && (j->chosen == SIZE_MAX || i <= j->chosen); i++) {
        float swept[LB_FORMAT_MAX_PARAMS];
        double score = 0.0;
        memcpy(swept, params, params_bytes);
        sweep(j, wt, params, x->v, x->codes);
        if (j->recipe->alternation.iters > 0) {
            (i ? update_sf : begin_sf)(j, x, x->codes);
            score = refit(j, x, whole, params);
        }
        if (j->scores)
            j->scores[row * rounds + i] = score;
        if (j->chosen == SIZE_MAX ? score < least : i == j->chosen) {
            least = score;
            memcpy(best, params, params_bytes);
            memcpy(x->best, x->codes, j->size);
        }
        /* Another sweep would find what this one found. */
        if (!j->recipe->alternation.faithful && memcmp(params, swept, params_bytes) == 0)
            break;
    }
    finish_row(j, x, row, wt, best);
}

static void scratch_free(scratch *x)
{
    lb_free(x->v);
    lb_free(x->sw);
    lb_free(x->sf);
    lb_free(x->basis);
    lb_free(x->codes);
    lb_free(x->best);
    lb_free(x->held);
}

static bool scratch_create(const group_job *j, scratch *x)
{
    x->v = lb_alloc(j->size, sizeof *x->v);
    x->sw = lb_alloc(j->size, sizeof *x->sw);
    x->sf = lb_alloc(j->size, j->count * sizeof *x->sf);
    x->basis = lb_alloc(1u << j->layer->format.bits, j->count * sizeof *x->basis);
    x->codes = lb_alloc(j->size, 1);
    x->best = lb_alloc_zero(j->size, 1);
    x->held = lb_alloc(j->size, 1);
    return x->v && x->sw && x->sf && x->basis && x->codes && x->best && x->held;
}

static void choose_rows(void *arg, size_t begin, size_t end)
{
    group_job *j = arg;
    scratch x = {0};
    if (scratch_create(j, &x)) {
        for (size_t row = begin; row < end; row++)
            choose_row(j, &x, row);
    } else {
        atomic_store(&j->failed, 1);
    }
    scratch_free(&x);
}

/* The iterate with the least error over all rows, as the paper's code keeps it. */
static size_t best_of_layer(const group_job *j)
{
    const size_t rounds = iterations(j);
    size_t best = 0;
    double least = HUGE_VAL;
    for (size_t i = 0; i < rounds; i++) {
        double sum = 0.0;
        for (size_t row = 0; row < j->layer->rows; row++)
            sum += j->scores[row * rounds + i];
        if (sum < least) {
            least = sum;
            best = i;
        }
    }
    return best;
}

static lb_status choose_group(group_job *j, lb_error *err)
{
    const size_t rows = j->layer->rows;
    double *scores = NULL;
    j->chosen = SIZE_MAX;
    if (j->recipe->alternation.faithful) {
        LB_TRY(lb_alloc_array(&scores, rows, iterations(j) * sizeof *scores, "BPDQ scores", err));
        j->scores = scores;
        lb_parallel_for(rows, ROWS_PER_CHUNK, choose_rows, j);
        j->chosen = best_of_layer(j);
        j->scores = NULL;
        lb_free(scores);
    }
    lb_parallel_for(rows, ROWS_PER_CHUNK, choose_rows, j);
    if (!atomic_load(&j->failed))
        return LB_OK;
    return lb_fail(err, LB_ENOMEM, "BPDQ: no memory for a row of %s", j->layer->name);
}

/* W[:, later] -= E U[group, later]; `product` [rows, n]. */
static void pass_on(const group_job *j, float *w, float *product)
{
    const size_t n = j->columns->n, end = j->begin + j->size, later = n - end, rows = j->layer->rows;
    if (later == 0)
        return;
    lb_gemm_nn(rows, later, j->size, j->errors, j->size, j->columns->u + j->begin * n + end, n, product,
               later);
    for (size_t row = 0; row < rows; row++)
        for (size_t k = 0; k < later; k++)
            w[row * n + end + k] -= product[row * later + k];
}

static size_t group_end(const lb_columns *c, size_t begin)
{
    size_t end = begin + 1;
    while (end < c->n && !c->starts[end])
        end++;
    return end;
}

static bool takes_linear(const lb_format *format)
{
    return format->ops->linear && !format->ops->kinds; /* codes are chosen here before there are kinds */
}

static lb_status quantize_layer(const lb_recipe *recipe, const lb_columns *c, const lb_hessian *h,
                                const lb_layer *layer, lb_error *err)
{
    const size_t n = c->n;
    const size_t widest = layer->format.group == 0 || layer->format.group > n ? n : layer->format.group;
    float *target = NULL, *w = NULL, *errors = NULL, *product = NULL;
    double *s = NULL;
    lb_status st = LB_OK;
    if (!takes_linear(&layer->format))
        return lb_fail(err, LB_EINVAL,
                       "%s: method bpdq wants a format with free coefficients (bp, int), not %s", layer->name,
                       layer->format.name);
    LB_GO(lb_alloc_array(&target, layer->rows, n * sizeof *target, "BPDQ target", err));
    LB_GO(lb_alloc_array(&w, layer->rows, n * sizeof *w, "BPDQ weights", err));
    LB_GO(lb_alloc_array(&product, layer->rows, n * sizeof *product, "BPDQ weights", err));
    LB_GO(lb_alloc_array(&errors, layer->rows, widest * sizeof *errors, "BPDQ errors", err));
    LB_GO(lb_alloc_array(&s, widest, widest * sizeof *s, "BPDQ group", err));
    LB_GO(lb_columns_target(c, recipe, h, layer, target, err));
    for (size_t row = 0; row < layer->rows; row++)
        for (size_t t = 0; t < n; t++)
            w[row * n + t] = target[row * n + c->column[t]];
    for (size_t begin = 0; begin < n; begin = group_end(c, begin)) {
        group_job j = {.recipe = recipe,
                       .columns = c,
                       .layer = layer,
                       .linear = layer->format.ops->linear,
                       .count = layer->format.ops->linear->count(&layer->format),
                       .begin = begin,
                       .size = group_end(c, begin) - begin,
                       .s = s,
                       .w = w,
                       .errors = errors};
        LB_GO(lb_inverse_of_factor(j.size, c->u + begin * n + begin, n, s, err));
        LB_GO(choose_group(&j, err));
        pass_on(&j, w, product);
    }
    st = lb_refine_layer(recipe, h, layer, target, err);
done:
    lb_free(target);
    lb_free(w);
    lb_free(errors);
    lb_free(product);
    lb_free(s);
    return st;
}

static lb_status quantize_bpdq(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers,
                               size_t count, lb_error *err)
{
    /* groups are whole: columns of several cannot mix */
    const lb_order order = recipe->order == LB_ORDER_NONE ? LB_ORDER_NONE : LB_ORDER_GROUP;
    return lb_columns_for_layers(recipe, order, hessian, layers, count, quantize_layer, err);
}

const lb_method lb_method_bpdq = {
    .name = "bpdq",
    .summary = "codes and coefficients of each group in turns, errors passed on (needs calibration)",
    .needs_calibration = true,
    .needs_hessian = true,
    .alternates = true,
    .takes = takes_linear,
    .wants = "formats with free coefficients: bp and int",
    .quantize = quantize_bpdq,
};
