/* SPDX-License-Identifier: MIT */
#include "quantize/refine.h"

#include <stdatomic.h>
#include <string.h>

#include <cblas.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "formats/linear_format.h"
#include "linalg/gemm.h"

/* Products serve so many rows at once. Codes of wider groups are chosen in spans of so many columns. */
enum { CHUNK_ROWS = 32, WIDEST_SPAN = 256, MOST_CODES = 256 };

typedef struct refining {
    const lb_layer *layer;
    const lb_linear_format_ops *linear; /* NULL: codes only */
    unsigned count; /* of coefficients; 0: none */
    size_t n, groups, widest; /* columns; groups of a row; columns of the widest group */
    const float *h; /* [n, n] */
    float damp; /* to be added to its diagonal */
    const float *target; /* [rows, n] */
    size_t sweeps;
    atomic_int failed;
} refining;

/* Up to CHUNK_ROWS rows. */
typedef struct chunk {
    const refining *r;
    size_t rows;
    uint8_t *codes; /* [rows, n] */
    float *params; /* [rows, groups * format.params] */
    float *q; /* [rows, n] values */
    float *left; /* [rows, n] (target - q) H, with the damped H */
    float *change; /* [rows, n] of q, in the columns that are at work */
    float *near; /* [rows, WIDEST_SPAN] what `left` would be there */
    float *basis, *product; /* [count, rows, widest]: of a group, and times H there */
    float levels[MOST_CODES * LB_LINEAR_MOST];
    size_t changed; /* codes in this sweep */
} chunk;

static void chunk_free(chunk *c)
{
    float *const arrays[] = {c->q, c->left, c->change, c->near, c->basis, c->product};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        lb_free(arrays[i]);
    lb_free(c);
}

static chunk *chunk_create(const refining *r)
{
    const size_t group = CHUNK_ROWS * r->widest * (r->count > 0 ? r->count : 1);
    chunk *c = lb_alloc_zero(1, sizeof *c);
    if (!c)
        return NULL;
    *c = (chunk){.r = r,
                 .q = lb_alloc(CHUNK_ROWS * r->n, sizeof(float)),
                 .left = lb_alloc(CHUNK_ROWS * r->n, sizeof(float)),
                 .change = lb_alloc(CHUNK_ROWS * r->n, sizeof(float)),
                 .near = lb_alloc(CHUNK_ROWS * WIDEST_SPAN, sizeof(float)),
                 .basis = lb_alloc(group, sizeof(float)),
                 .product = lb_alloc(group, sizeof(float))};
    if (c->q && c->left && c->change && c->near && c->basis && c->product)
        return c;
    chunk_free(c);
    return NULL;
}

/* left += by * change H of columns [begin, end). */
static void add_change(const chunk *c, size_t begin, size_t end, float by)
{
    const size_t n = c->r->n;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)c->rows, (int)n, (int)(end - begin), by,
                c->change + begin, (int)n, c->r->h + begin * n, (int)n, 1.0f, c->left, (int)n);
    for (size_t row = 0; row < c->rows; row++)
        for (size_t t = begin; t < end; t++)
            c->left[row * n + t] += by * (c->r->damp * c->change[row * n + t]);
}

static void begin_chunk(chunk *c, const float *target)
{
    const lb_format *f = &c->r->layer->format;
    const size_t n = c->r->n, params = c->r->groups * f->params;
    for (size_t row = 0; row < c->rows; row++)
        lb_format_decode_row(f, c->codes + row * n, c->params + row * params, n, c->q + row * n);
    for (size_t i = 0; i < c->rows * n; i++)
        c->change[i] = target[i] - c->q[i];
    memset(c->left, 0, c->rows * n * sizeof *c->left);
    add_change(c, 0, n, 1.0f);
}

/* Codes of one row, columns [begin, end) of one group; `near` [end - begin] is kept up to date. */
static void choose_codes(chunk *c, size_t row, size_t begin, size_t end, const float *params, float *near)
{
    const lb_format *f = &c->r->layer->format;
    const size_t n = c->r->n;
    float *q = c->q + row * n, *change = c->change + row * n;
    for (size_t t = begin; t < end; t++) {
        const float *h = c->r->h + t * n, weight = h[t] + c->r->damp;
        const float wanted = weight > 0.0f ? q[t] + near[t - begin] / weight : q[t];
        uint8_t code = c->codes[row * n + t];
        float value;
        change[t] = 0.0f;
        const float *grid = lb_format_grid(f, params, t);
        f->ops->round(f, grid, &wanted, 1, &code);
        if (code == c->codes[row * n + t])
            continue;
        f->ops->value(f, grid, &code, 1, &value);
        if (value == q[t]) /* another zero */
            continue;
        change[t] = value - q[t];
        q[t] = value;
        c->codes[row * n + t] = code;
        c->changed++;
        for (size_t k = begin; k < end; k++)
            near[k - begin] -= change[t] * h[k];
        near[t - begin] -= change[t] * c->r->damp;
    }
}

/* What multiplies each coefficient, and that times H, of a group of all rows. */
static void find_products(chunk *c, size_t g, size_t begin, size_t width)
{
    const refining *r = c->r;
    const lb_format *f = &r->layer->format;
    const size_t stride = c->rows * width;
    for (size_t row = 0; row < c->rows; row++) {
        r->linear->basis(f, c->params + (row * r->groups + g) * f->params, c->levels);
        for (size_t t = 0; t < width; t++) {
            const float *level = c->levels + c->codes[row * r->n + begin + t] * r->count;
            for (unsigned i = 0; i < r->count; i++)
                c->basis[i * stride + row * width + t] = level[i];
        }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (int)(r->count * c->rows), (int)width, (int)width,
                1.0f, c->basis, (int)width, r->h + begin * r->n + begin, (int)r->n, 0.0f, c->product,
                (int)width);
    for (size_t i = 0; i < r->count * stride; i++)
        c->product[i] += r->damp * c->basis[i];
}

static double dot(const float *a, const float *b, size_t n)
{
    enum { LANES = 8 };
    float lanes[LANES] = {0};
    double sum = 0.0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += a[i + k] * b[i + k];
    for (; i < n; i++)
        sum += (double)(a[i] * b[i]);
    for (size_t k = 0; k < LANES; k++)
        sum += (double)lanes[k];
    return sum;
}

/* Coefficients of one row's group, whose `left` is given, as storage rounds them; its values and their change. */
static void fit_group(chunk *c, size_t row, size_t begin, size_t width, const float *left, float *params)
{
    const refining *r = c->r;
    const lb_format *f = &r->layer->format;
    const size_t stride = c->rows * width, at = row * r->n + begin;
    double a[LB_LINEAR_MOST * LB_LINEAR_MOST], b[LB_LINEAR_MOST], by[LB_LINEAR_MOST];
    float coefficients[LB_LINEAR_MOST];
    double largest = 0.0;
    for (unsigned i = 0; i < r->count; i++) {
        const float *basis = c->basis + i * stride + row * width;
        b[i] = dot(basis, left, width);
        for (unsigned k = 0; k < r->count; k++)
            a[i * r->count + k] = dot(basis, c->product + k * stride + row * width, width);
        largest = a[i * r->count + i] > largest ? a[i * r->count + i] : largest;
    }
    if (!lb_solve_normal(r->count, a, b, 1e-9 * largest, by))
        return;
    r->linear->get(f, params, coefficients);
    for (unsigned i = 0; i < r->count; i++)
        coefficients[i] += (float)by[i];
    r->linear->set(f, coefficients, params);
    float *q = c->q + at, *change = c->change + at;
    for (size_t t = 0; t < width; t++)
        change[t] -= q[t];
    f->ops->value(f, params, c->codes + at, width, q);
    for (size_t t = 0; t < width; t++)
        change[t] += q[t];
}

static float *group_params(const chunk *c, size_t row, size_t g)
{
    return c->params + (row * c->r->groups + g) * c->r->layer->format.params;
}

/* A group of all rows that is one span: codes, then coefficients, then what both change elsewhere. */
static void refine_narrow(chunk *c, size_t g, size_t begin, size_t width)
{
    const size_t n = c->r->n;
    for (size_t row = 0; row < c->rows; row++) {
        memcpy(c->near + row * width, c->left + row * n + begin, width * sizeof *c->near);
        choose_codes(c, row, begin, begin + width, group_params(c, row, g), c->near + row * width);
    }
    if (c->r->linear) {
        find_products(c, g, begin, width);
        for (size_t row = 0; row < c->rows; row++)
            fit_group(c, row, begin, width, c->near + row * width, group_params(c, row, g));
    }
    add_change(c, begin, begin + width, -1.0f);
}

/* The same of a wider one, whose codes are chosen span by span. */
static void refine_wide(chunk *c, size_t g, size_t begin, size_t width)
{
    const size_t n = c->r->n, end = begin + width;
    for (size_t from = begin, to; from < end; from = to) {
        to = end - from < WIDEST_SPAN ? end : from + WIDEST_SPAN;
        for (size_t row = 0; row < c->rows; row++) {
            memcpy(c->near, c->left + row * n + from, (to - from) * sizeof *c->near);
            choose_codes(c, row, from, to, group_params(c, row, g), c->near);
        }
        add_change(c, from, to, -1.0f);
    }
    if (!c->r->linear)
        return;
    find_products(c, g, begin, width);
    for (size_t row = 0; row < c->rows; row++) {
        memset(c->change + row * n + begin, 0, width * sizeof *c->change);
        fit_group(c, row, begin, width, c->left + row * n + begin, group_params(c, row, g));
    }
    add_change(c, begin, end, -1.0f);
}

static void refine_chunk(chunk *c)
{
    const lb_format *f = &c->r->layer->format;
    for (size_t sweep = 0; sweep < c->r->sweeps; sweep++) {
        c->changed = 0;
        for (size_t g = 0, begin = 0; g < c->r->groups; g++) {
            const size_t width = lb_format_group_size(f, c->r->n, g);
            (width <= WIDEST_SPAN ? refine_narrow : refine_wide)(c, g, begin, width);
            begin += width;
        }
        if (c->changed == 0)
            break;
    }
}

static void refine_rows(void *arg, size_t begin, size_t end)
{
    refining *r = arg;
    chunk *c = chunk_create(r);
    if (!c) {
        atomic_store(&r->failed, 1);
        return;
    }
    lb_blas_prepare();
    c->rows = end - begin;
    c->codes = r->layer->codes + begin * r->n;
    c->params = r->layer->params + begin * r->groups * r->layer->format.params;
    begin_chunk(c, r->target + begin * r->n);
    refine_chunk(c);
    chunk_free(c);
}

static double mean_diagonal(const lb_hessian *h)
{
    double sum = 0.0;
    for (size_t i = 0; i < h->n; i++)
        sum += (double)h->h[i * h->n + i];
    return sum / (double)h->n;
}

lb_status lb_refine_layer(const lb_recipe *recipe, const lb_hessian *h, const lb_layer *layer,
                          const float *target, lb_error *err)
{
    const lb_format *f = &layer->format;
    refining r = {.layer = layer,
                  .linear = f->ops->linear,
                  .count = f->ops->linear ? f->ops->linear->count(f) : 0,
                  .n = layer->cols,
                  .groups = lb_format_groups(f, layer->cols),
                  .widest = lb_format_group_size(f, layer->cols, 0),
                  .h = h->h,
                  .damp = (float)(recipe->damp * mean_diagonal(h)),
                  .target = target,
                  .sweeps = recipe->refine};
    if (r.sweeps == 0)
        return LB_OK;
    lb_parallel_for(layer->rows, CHUNK_ROWS, refine_rows, &r);
    if (!atomic_load(&r.failed))
        return LB_OK;
    return lb_fail(err, LB_ENOMEM, "no memory to refine %d rows of %s", CHUNK_ROWS, layer->name);
}
