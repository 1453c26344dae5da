/* SPDX-License-Identifier: MIT
 * BPDQ (arXiv:2602.04163) as it is described, in double: the inverse Hessian formed and then factored, whitening by
 * triangular solves for every row, errors of the sweep corrected by the difference that the refit made. */
#ifndef LB_TESTS_SLOW_BPDQ_H
#define LB_TESTS_SLOW_BPDQ_H

#include "slow_columns.h"

/* Of one layer, in visiting order unless it says otherwise. */
typedef struct slow_bpdq {
    size_t rows, n;
    size_t *column; /* [n] stored place of each visited column */
    double *h, *inverse, *u; /* [n, n] H + damp I, its inverse, and U with U^T U = inverse */
    double *target; /* [rows, n] what to approximate */
    uint8_t *codes; /* [rows, n] in stored order */
    float *params; /* [rows, params_per_row] */
    double *energy; /* [rows] sum of E^2 over all groups */
    double delta_error; /* the largest difference of the two ways to E, as a share of |E| */
} slow_bpdq;

/* What one round of a row gives in a group. */
typedef struct slow_iterate {
    uint8_t codes[512];
    float params[LB_FORMAT_MAX_PARAMS];
    double sweep_error[512], delta[512]; /* E of the sweep, and what the refit adds */
    double score;
} slow_iterate;

static inline size_t slow_group_of(const method_case *c, size_t stored)
{
    return c->layer.format.group ? stored / c->layer.format.group : 0;
}

static inline double slow_level(const lb_format *f, const float *params, unsigned code)
{
    double sum = (double)params[0];
    if (strcmp(f->ops->family, "int") == 0)
        return sum * ((double)code - (double)params[1]);
    for (unsigned i = 0; i < f->bits; i++)
        sum += (double)params[i + 1] * (double)(code >> i & 1);
    return sum;
}

/* What coefficient i is multiplied with. */
static inline double slow_basis(const lb_format *f, const float *params, unsigned code, unsigned i)
{
    if (strcmp(f->ops->family, "int") == 0)
        return (double)code - (double)params[1];
    return i == 0 ? 1.0 : (double)(code >> (i - 1) & 1);
}

static inline unsigned slow_coefficients(const lb_format *f)
{
    return strcmp(f->ops->family, "int") == 0 ? 1 : f->bits + 1;
}

/* H + damp I, its inverse and U, of the columns in the order of s->column. */
static inline void slow_geometry(const method_case *c, slow_bpdq *s)
{
    const size_t n = s->n;
    slow_damped(c, s->column, s->h);
    memcpy(s->inverse, s->h, n * n * sizeof *s->h);
    slow_invert(n, s->inverse);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = i; j < n; j++) {
            double sum = s->inverse[i * n + j];
            for (size_t k = 0; k < i; k++)
                sum -= s->u[k * n + i] * s->u[k * n + j];
            s->u[i * n + j] = i == j ? sqrt(sum) : sum / s->u[i * (n + 1)];
        }
    }
}

/* W + compensate * W E^T (H + damp I)^-1 where the Hessian has a drift E, and W where not. */
static inline void slow_target(const method_case *c, slow_bpdq *s)
{
    const size_t n = s->n;
    double *pull = case_alloc(n, sizeof *pull);
    for (size_t r = 0; r < s->rows; r++) {
        const float *w = c->layer.w + r * n;
        for (size_t t = 0; t < n; t++) {
            pull[t] = 0.0;
            for (size_t i = 0; c->hessian.drift && i < n; i++)
                pull[t] += (double)w[i] * (double)c->hessian.drift[s->column[t] * n + i];
        }
        for (size_t t = 0; t < n; t++) {
            s->target[r * n + t] = (double)w[s->column[t]];
            for (size_t i = 0; i < n; i++)
                s->target[r * n + t] += c->recipe.compensate * pull[i] * s->inverse[i * n + t];
        }
    }
    free(pull);
}

static inline slow_bpdq slow_create(const method_case *c)
{
    const size_t rows = c->layer.rows, n = c->layer.cols;
    slow_bpdq s = {.rows = rows, .n = n};
    s.column = case_alloc(n, sizeof *s.column);
    s.h = case_alloc(n * n, sizeof *s.h);
    s.inverse = case_alloc(n * n, sizeof *s.inverse);
    s.u = case_alloc(n * n, sizeof *s.u);
    s.target = case_alloc(rows * n, sizeof *s.target);
    s.codes = case_alloc(rows * n, 1);
    s.params = case_alloc(rows * c->params_per_row, sizeof *s.params);
    s.energy = case_alloc(rows, sizeof *s.energy);
    slow_order(c, c->recipe.order == LB_ORDER_ACT ? LB_ORDER_GROUP : c->recipe.order, s.column);
    slow_geometry(c, &s);
    slow_target(c, &s);
    return s;
}

static inline void slow_free(slow_bpdq *s)
{
    free(s->column);
    free(s->h);
    free(s->inverse);
    free(s->u);
    free(s->target);
    free(s->codes);
    free(s->params);
    free(s->energy);
}

/* x Ul = r, or Ul^T x = r, of the group's block of U: forward substitution either way. x may be r. */
static inline void slow_solve(const slow_bpdq *s, size_t begin, size_t size, const double *r, double *x)
{
    for (size_t t = 0; t < size; t++) {
        double sum = r[t];
        for (size_t k = 0; k < t; k++)
            sum -= x[k] * s->u[(begin + k) * s->n + begin + t];
        x[t] = sum / s->u[(begin + t) * (s->n + 1)];
    }
}

/* The nearest level of each column, whose error the later ones make up for. */
static inline void slow_sweep(const method_case *c, const slow_bpdq *s, size_t begin, size_t size,
                              const double *wt, slow_iterate *it)
{
    const lb_format *f = &c->layer.format;
    double v[512];
    memcpy(v, wt, size * sizeof *v);
    for (size_t t = 0; t < size; t++) {
        const double *u = s->u + (begin + t) * s->n + begin;
        unsigned best = 0;
        for (unsigned code = 1; code < 1u << f->bits; code++)
            if (fabs(v[t] - slow_level(f, it->params, code)) < fabs(v[t] - slow_level(f, it->params, best)))
                best = code;
        it->codes[t] = (uint8_t)best;
        it->sweep_error[t] = (v[t] - slow_level(f, it->params, best)) / u[t];
        for (size_t k = t; k < size; k++)
            v[k] -= it->sweep_error[t] * u[k];
    }
}

/* m [count, count + 1] of equations, by elimination with pivots; false: all zero. */
static inline bool slow_eliminate(unsigned count, double m[][LB_FORMAT_MAX_PARAMS + 1], double *x)
{
    for (unsigned p = 0; p < count; p++) {
        unsigned pivot = p;
        for (unsigned i = p + 1; i < count; i++)
            pivot = fabs(m[i][p]) > fabs(m[pivot][p]) ? i : pivot;
        if (m[pivot][p] == 0.0)
            return false;
        for (unsigned j = 0; j <= count; j++) {
            const double swap = m[p][j];
            m[p][j] = m[pivot][j];
            m[pivot][j] = swap;
        }
        for (unsigned i = 0; i < count; i++) {
            const double factor = m[i][p] / m[p][p];
            for (unsigned j = p; i != p && j <= count; j++)
                m[i][j] -= factor * m[p][j];
        }
    }
    for (unsigned p = 0; p < count; p++)
        x[p] = m[p][count] / m[p][p];
    return true;
}

/* |(Wt - Q) Ul^-1|^2 of an iterate. */
static inline double slow_objective(const method_case *c, const slow_bpdq *s, size_t begin, size_t size,
                                    const double *wt, const slow_iterate *it)
{
    double d[512], sum = 0.0;
    for (size_t t = 0; t < size; t++)
        d[t] = wt[t] - slow_level(&c->layer.format, it->params, it->codes[t]);
    slow_solve(s, begin, size, d, d);
    for (size_t t = 0; t < size; t++)
        sum += d[t] * d[t];
    return sum;
}

/* V = Ul^-T F and y = Ul^-T Wt, (V^T V + alpha I) c = V^T y, and c as storage holds it. The paper's alpha is 1e-4
 * where H is 2 / T X^T X, which is twice ours. */
static inline void slow_refit(const method_case *c, const slow_bpdq *s, size_t begin, size_t size,
                              const double *wt, slow_iterate *it)
{
    const lb_format *f = &c->layer.format;
    const unsigned count = slow_coefficients(f);
    double v[LB_FORMAT_MAX_PARAMS + 1][512], m[LB_FORMAT_MAX_PARAMS][LB_FORMAT_MAX_PARAMS + 1];
    double x[LB_FORMAT_MAX_PARAMS], largest = 0.0;
    for (unsigned i = 0; i < count; i++) {
        for (size_t t = 0; t < size; t++)
            v[i][t] = slow_basis(f, it->params, it->codes[t], i);
        slow_solve(s, begin, size, v[i], v[i]);
    }
    slow_solve(s, begin, size, wt, v[count]);
    for (unsigned i = 0; i < count; i++) {
        for (unsigned k = 0; k <= count; k++) {
            m[i][k] = 0.0;
            for (size_t t = 0; t < size; t++)
                m[i][k] += v[i][t] * v[k][t];
        }
        largest = fmax(largest, m[i][i]);
    }
    for (unsigned i = 0; i < count; i++)
        m[i][i] += c->recipe.alternation.faithful ? 1e-4 / 2.0 : 1e-9 * largest;
    if (!slow_eliminate(count, m, x))
        return;
    float before[LB_FORMAT_MAX_PARAMS];
    memcpy(before, it->params, sizeof before);
    const double kept = slow_objective(c, s, begin, size, wt, it);
    for (unsigned i = 0; i < count; i++)
        it->params[i] = lb_round_to_f16((float)x[i]);
    if (!c->recipe.alternation.faithful && kept <= slow_objective(c, s, begin, size, wt, it))
        memcpy(it->params, before, sizeof before);
}

/* One round, from Wt and it->params: codes, E_old, the refit, and the correction of E. */
static inline void slow_round(const method_case *c, slow_bpdq *s, size_t begin, size_t size, const double *wt,
                              slow_iterate *it)
{
    const lb_format *f = &c->layer.format;
    double old[512], now[512], exact[512], off = 0.0;
    slow_sweep(c, s, begin, size, wt, it);
    for (size_t t = 0; t < size; t++)
        old[t] = slow_level(f, it->params, it->codes[t]);
    if (c->recipe.alternation.iters > 0)
        slow_refit(c, s, begin, size, wt, it);
    for (size_t t = 0; t < size; t++) {
        now[t] = slow_level(f, it->params, it->codes[t]);
        it->delta[t] = old[t] - now[t];
        exact[t] = wt[t] - now[t];
    }
    slow_solve(s, begin, size, it->delta, it->delta); /* delta E Ul = Q_old - Q_new */
    slow_solve(s, begin, size, exact, exact);
    it->score = 0.0;
    for (size_t t = 0; t < size; t++) {
        const double e = it->sweep_error[t] + it->delta[t];
        it->score += e * e;
        off += (e - exact[t]) * (e - exact[t]);
    }
    if (it->score > 0.0)
        s->delta_error = fmax(s->delta_error, sqrt(off / it->score));
}

/* The paper's beginning: of 8-bit codes over the range with zero, the highest bits; then coefficients. */
static inline void slow_highest_bits(const method_case *c, const slow_bpdq *s, size_t begin, size_t size,
                                     const double *wt, slow_iterate *it)
{
    double low = 0.0, high = 0.0;
    for (size_t t = 0; t < size; t++) {
        low = fmin(low, wt[t]);
        high = fmax(high, wt[t]);
    }
    const double scale = (high - low) / 255.0;
    for (size_t t = 0; t < size; t++) {
        const double q = scale > 0.0 ? rint(wt[t] / scale) + rint(-low / scale) : 0.0;
        it->codes[t] = (uint8_t)((unsigned)fmin(fmax(q, 0.0), 255.0) >> (8 - c->layer.format.bits));
    }
    slow_refit(c, s, begin, size, wt, it);
}

static inline void slow_begin(const method_case *c, const slow_bpdq *s, size_t begin, size_t size,
                              const double *wt, slow_iterate *it)
{
    const lb_format *f = &c->layer.format;
    float w[512], importance[512];
    for (size_t t = 0; t < size; t++) {
        w[t] = (float)wt[t];
        importance[t] = (float)pow(s->u[(begin + t) * (s->n + 1)], -2.0);
    }
    f->ops->fit(f, w, importance, size,
                c->recipe.alternation.init == LB_INIT_SEARCH ? LB_FIT_SEARCH : LB_FIT_RANGE, it->params);
    if (c->recipe.alternation.init == LB_INIT_BITS)
        slow_highest_bits(c, s, begin, size, wt, it);
}

/* The group's columns of every row, chosen and passed on; w [rows, n] is what earlier groups left. */
static inline void slow_group(const method_case *c, slow_bpdq *s, size_t begin, size_t size, double *w)
{
    const lb_format *f = &c->layer.format;
    const size_t n = s->n, rounds = c->recipe.alternation.iters ? c->recipe.alternation.iters : 1;
    slow_iterate *all = case_alloc(s->rows * rounds, sizeof *all);
    double *sums = case_alloc(rounds, sizeof *sums);
    size_t of_layer = 0;
    for (size_t r = 0; r < s->rows; r++) {
        slow_iterate *its = all + r * rounds;
        slow_begin(c, s, begin, size, w + r * n + begin, its);
        for (size_t i = 0; i < rounds; i++) {
            if (i > 0)
                memcpy(its[i].params, its[i - 1].params, sizeof its->params);
            slow_round(c, s, begin, size, w + r * n + begin, &its[i]);
            sums[i] += its[i].score;
        }
    }
    for (size_t i = 1; i < rounds; i++)
        of_layer = sums[i] < sums[of_layer] ? i : of_layer;
    for (size_t r = 0; r < s->rows; r++) {
        const slow_iterate *best = all + r * rounds;
        for (size_t i = 1; i < rounds; i++)
            best = all[r * rounds + i].score < best->score ? &all[r * rounds + i] : best;
        if (c->recipe.alternation.faithful)
            best = all + r * rounds + of_layer;
        const size_t group = slow_group_of(c, s->column[begin]);
        memcpy(s->params + r * c->params_per_row + group * f->params, best->params,
               f->params * sizeof(float));
        s->energy[r] += best->score;
        for (size_t t = 0; t < size; t++) {
            const double *u = s->u + (begin + t) * n;
            s->codes[r * n + s->column[begin + t]] = best->codes[t];
            for (size_t k = begin + size; k < n; k++)
                w[r * n + k] -= best->sweep_error[t] * u[k];
            for (size_t k = begin + size; k < n; k++)
                w[r * n + k] -= best->delta[t] * u[k];
        }
    }
    free(all);
    free(sums);
}

static inline size_t slow_group_end(const method_case *c, const slow_bpdq *s, size_t begin)
{
    size_t end = begin;
    while (end < s->n && slow_group_of(c, s->column[end]) == slow_group_of(c, s->column[begin]))
        end++;
    assert_true(end - begin <= 512);
    return end;
}

static inline void slow_run(const method_case *c, slow_bpdq *s)
{
    double *w = case_alloc(s->rows * s->n, sizeof *w);
    memcpy(w, s->target, s->rows * s->n * sizeof *w);
    for (size_t begin = 0; begin < s->n; begin = slow_group_end(c, s, begin))
        slow_group(c, s, begin, slow_group_end(c, s, begin) - begin, w);
    free(w);
}

/* target - values of row r, d [n] in visiting order. */
static inline void slow_difference(const method_case *c, const slow_bpdq *s, const uint8_t *codes,
                                   const float *params, size_t r, double *d)
{
    const lb_format *f = &c->layer.format;
    for (size_t t = 0; t < s->n; t++) {
        const float *p = params + r * c->params_per_row + slow_group_of(c, s->column[t]) * f->params;
        d[t] = s->target[r * s->n + t] - slow_level(f, p, codes[r * s->n + s->column[t]]);
    }
}

/* d (H + damp I) d^T of row r; where `first` is not NULL, also |(W - Q) Ul^-1|^2 of the group that comes first. */
static inline double slow_energy(const method_case *c, const slow_bpdq *s, const uint8_t *codes,
                                 const float *params, size_t r, double *first)
{
    const size_t n = s->n, size = slow_group_end(c, s, 0);
    double total = 0.0, e[512], *d = case_alloc(n, sizeof *d);
    slow_difference(c, s, codes, params, r, d);
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            total += d[i] * s->h[i * n + j] * d[j];
    if (first) {
        slow_solve(s, 0, size, d, e);
        *first = 0.0;
        for (size_t t = 0; t < size; t++)
            *first += e[t] * e[t];
    }
    free(d);
    return total;
}

#endif
