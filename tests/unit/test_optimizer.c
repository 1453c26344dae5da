/* SPDX-License-Identifier: MIT
 * AdamW over many steps against the algorithm in double, with clipping, with and without decay, at every level of
 * instructions and any number of threads; and norms. */
#include "near.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "base/thread.h"
#include "train/optimizer.h"

enum { STEPS = 20 };
static const lb_cpu_level levels[] = {LB_CPU_REF, LB_CPU_AVX2, LB_CPU_AVX512};

typedef struct model {
    lb_parameters parameters;
    lb_train_state state;
    float *grads;
    double *w, *m, *v; /* in double */
} model;

static void open_model(model *o)
{
    lb_error err;
    const lb_config config = {.hidden = 36,
                              .ffn = 52,
                              .layers = 2,
                              .heads = 2,
                              .kv_heads = 1,
                              .head_dim = 18,
                              .vocab = 1001,
                              .qkv_bias = true,
                              .tied_embeddings = true};
    assert_int_equal(lb_parameters_create(&config, &o->parameters, &err), LB_OK);
    assert_int_equal(lb_train_state_create(&o->parameters, &o->state, &err), LB_OK);
    lb_parameters_init(&o->parameters, 0.3, 5, o->state.weights);
    const size_t n = o->parameters.floats;
    o->grads = lb_alloc_zero(n, sizeof *o->grads);
    o->w = lb_alloc_zero(n, sizeof *o->w);
    o->m = lb_alloc_zero(n, sizeof *o->m);
    o->v = lb_alloc_zero(n, sizeof *o->v);
    assert_true(o->grads && o->w && o->m && o->v);
    for (size_t i = 0; i < n; i++)
        o->w[i] = (double)o->state.weights[i];
}

static void close_model(model *o)
{
    lb_free(o->grads);
    lb_free(o->w);
    lb_free(o->m);
    lb_free(o->v);
    lb_train_state_free(&o->state);
    lb_parameters_free(&o->parameters);
}

/* Sizes from 1e-6 to 1: clipped in some steps, not in others. */
static void draw_gradients(const model *o, uint64_t step)
{
    lb_rng rng;
    lb_rng_seed(&rng, step);
    const double size = pow(10.0, -6.0 * lb_rng_uniform(&rng));
    for (size_t i = 0; i < o->parameters.count; i++) {
        const lb_parameter *p = &o->parameters.list[i];
        for (size_t k = 0; k < p->rows * p->cols; k++)
            o->grads[p->at + k] = (float)(size * lb_rng_normal(&rng));
    }
}

static double slow_norm(const model *o)
{
    double squares = 0.0;
    for (size_t i = 0; i < o->parameters.floats; i++)
        squares += (double)o->grads[i] * (double)o->grads[i];
    return sqrt(squares);
}

/* [Loshchilov & Hutter 2019, algorithm 2, with the schedule's multiplier inside the rate] */
static void slow_step(model *o, const lb_optimizer *a, bool decay_all, uint64_t t, double rate)
{
    const double norm = slow_norm(o), scale = a->clip > 0 && norm > a->clip ? a->clip / norm : 1.0;
    for (size_t i = 0; i < o->parameters.count; i++) {
        const lb_parameter *p = &o->parameters.list[i];
        const bool decays = decay_all || p->kind == LB_PARAMETER_MATRIX;
        for (size_t k = p->at; k < p->at + p->rows * p->cols; k++) {
            const double g = scale * (double)o->grads[k];
            o->m[k] = a->beta1 * o->m[k] + (1.0 - a->beta1) * g;
            o->v[k] = a->beta2 * o->v[k] + (1.0 - a->beta2) * g * g;
            const double m = o->m[k] / (1.0 - pow(a->beta1, (double)t));
            const double v = o->v[k] / (1.0 - pow(a->beta2, (double)t));
            if (decays)
                o->w[k] -= rate * a->weight_decay * o->w[k];
            o->w[k] -= rate * m / (sqrt(v) + a->eps);
        }
    }
}

static void run(model *o, lb_cpu_level level, bool decay_all, unsigned threads)
{
    lb_error err;
    lb_optimizer a;
    lb_thread_set_count(threads);
    assert_int_equal(lb_optimizer_create(lb_kernels_get(level), &o->parameters, decay_all, &a, &err), LB_OK);
    a.beta1 = 0.9;
    a.beta2 = 0.95;
    a.eps = 1e-8;
    a.weight_decay = 0.3;
    a.clip = 1.0;
    for (uint64_t t = 1; t <= STEPS; t++) {
        const double rate = 0.01 * (double)t / STEPS;
        draw_gradients(o, t);
        const double norm = lb_optimizer_norm(&a, o->grads);
        assert_true(fabs(norm - slow_norm(o)) <= 1e-6 * norm);
        lb_optimizer_step(&a, t, rate, norm, o->grads, &o->state);
        slow_step(o, &a, decay_all, t, rate);
    }
    lb_optimizer_free(&a);
    lb_thread_set_count(0);
}

/* A step of at most about 0.01 is off by a few units in the last place of itself and of the weight (below 2). */
static void steps_are_adamw(void **state)
{
    (void)state;
    for (int decay_all = 0; decay_all < 2; decay_all++) {
        model o;
        open_model(&o);
        run(&o, LB_CPU_BEST, decay_all, 1);
        near_array(o.state.weights, o.w, o.parameters.floats, STEPS * 4.0 * U24);
        for (size_t i = 0; i < o.parameters.floats; i++)
            assert_true(fabs((double)o.state.second[i] - o.v[i]) <= 64.0 * U24 * o.v[i]);
        close_model(&o);
    }
}

static void every_level_and_any_threads_give_the_same_bits(void **state)
{
    (void)state;
    model first;
    open_model(&first);
    run(&first, LB_CPU_REF, false, 1);
    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
        model o;
        open_model(&o);
        run(&o, levels[i], false, (unsigned)i + 1);
        assert_memory_equal(o.state.weights, first.state.weights, o.parameters.floats * sizeof(float));
        assert_memory_equal(o.state.first, first.state.first, o.parameters.floats * sizeof(float));
        assert_memory_equal(o.state.second, first.state.second, o.parameters.floats * sizeof(float));
        close_model(&o);
    }
    close_model(&first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_are_adamw),
        cmocka_unit_test(every_level_and_any_threads_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
