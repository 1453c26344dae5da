/* SPDX-License-Identifier: MIT
 * SignRound on one tiny block: V1 step by step against the same thing written plainly in double, whose
 * gradients are differences of a block in double; what it is for; and what must not depend on anything. */
#include "slow_block.h"

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "quantize/method.h"

/* ---- A block to reconstruct ----------------------------------------------------------------------------- */

typedef struct problem {
    setup s; /* of one batch */
    lb_recipe recipe;
    lb_reconstruction job;
    lb_layer layers[LB_BLOCK_LINEARS];
    size_t groups[LB_BLOCK_LINEARS]; /* of a row */
    float *x, *target; /* [sequences * tokens, hidden] */
    float *importance;
    lb_rng rng;
} problem;

static const block_case small = {"small",
                                 {.hidden = 12, .ffn = 20, .heads = 2, .kv_heads = 1, .head_dim = 6},
                                 .sequences = 2,
                                 .tokens = 5};

static void make_layer(problem *p, unsigned which, const char *format)
{
    lb_layer *l = &p->layers[which];
    *l = (lb_layer){.rows = p->s.block.linear[which].rows,
                    .cols = p->s.block.linear[which].cols,
                    .w = p->s.p[WEIGHT + which].given};
    lb_linear_name(0, which, l->name, sizeof l->name);
    assert_int_equal(lb_format_parse(format, &l->format, NULL), LB_OK);
    lb_format_bind(&l->format, l->w, l->rows * l->cols);
    p->groups[which] = lb_format_groups(&l->format, l->cols);
    l->codes = must(calloc(l->rows, l->cols));
    l->params = must(calloc(l->rows * p->groups[which] * (l->format.params + 1u), sizeof *l->params));
}

/* Tokens that are mostly made of a few directions, as those of models are. */
static void draw_inputs(problem *p, double *x, size_t tokens)
{
    enum { DIRECTIONS = 6 };
    const size_t n = p->s.config.hidden;
    lb_rng fixed;
    for (size_t t = 0; t < tokens; t++) {
        double share[DIRECTIONS];
        for (size_t k = 0; k < DIRECTIONS; k++)
            share[k] = lb_rng_normal(&p->rng);
        lb_rng_seed(&fixed, 17);
        for (size_t i = 0; i < n; i++) {
            x[t * n + i] = 0.2 * lb_rng_normal(&p->rng);
            for (size_t k = 0; k < DIRECTIONS; k++)
                x[t * n + i] += 0.4 * share[k] * lb_rng_normal(&fixed);
        }
    }
}

/* `sequences` samples in all, of which a batch has how->sequences. The quantized stream's inputs are those of
 * the original one and a little noise: a quantized prefix. */
static problem *make_problem(const block_case *how, size_t sequences, const char *format)
{
    problem *p = must(calloc(1, sizeof *p));
    make(&p->s, how);
    lb_rng_seed(&p->rng, 91);
    const size_t n = how->tokens * p->s.config.hidden;
    p->x = must(malloc(sequences * n * sizeof *p->x));
    p->target = must(malloc(sequences * n * sizeof *p->target));
    double *y = must(malloc(p->s.p[INPUT].n * sizeof *y));
    for (size_t at = 0; at < sequences; at += how->sequences) {
        const size_t count = (sequences - at < how->sequences ? sequences - at : how->sequences) * n;
        draw_inputs(p, p->s.p[INPUT].at, p->s.tokens);
        slow_block(&p->s, false, y);
        for (size_t i = 0; i < count; i++) {
            p->target[at * n + i] = (float)y[i];
            p->x[at * n + i] = (float)(p->s.p[INPUT].at[i] + 0.02 * lb_rng_normal(&p->rng));
        }
    }
    free(y);
    p->importance = must(malloc(p->s.config.ffn * 4 * sizeof *p->importance));
    for (size_t i = 0; i < p->s.config.ffn * 4; i++)
        p->importance[i] = (float)exp(0.5 * lb_rng_normal(&p->rng));
    lb_recipe_default(&p->recipe);
    p->recipe.method = &lb_method_signround;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        make_layer(p, which, format);
    p->job = (lb_reconstruction){.kernels = p->s.c.kernels,
                                 .config = &p->s.config,
                                 .rope = &p->s.rope,
                                 .inputs = &p->s.inputs,
                                 .block = &p->s.block,
                                 .x = p->x,
                                 .target = p->target,
                                 .sequences = sequences,
                                 .length = how->tokens,
                                 .label = "test"};
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        p->job.importance[stage] = p->importance;
    return p;
}

static void drop_problem(problem *p)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        free(p->layers[which].codes);
        free(p->layers[which].params);
    }
    free(p->x);
    free(p->target);
    free(p->importance);
    drop(&p->s);
    free(p);
}

static void make_v1(problem *p)
{
    p->recipe.fit = LB_FIT_RANGE;
    p->recipe.tuning.multiplier = p->recipe.tuning.filter = false;
    p->recipe.tuning.best = LB_BEST_BATCH;
}

static void run(problem *p)
{
    lb_error err;
    ok(lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err), &err);
}

/* ---- V1 in double --------------------------------------------------------------------------------------- */

typedef struct slow_layer {
    size_t rows, cols, group, groups;
    double *v, *alpha, *beta, *grad;
    int *code, *best_code; /* less zero */
    double *scale, *best_scale;
} slow_layer;

static double f16(double x)
{
    return (double)lb_round_to_f16((float)x);
}

typedef struct slow_group {
    double low, high, scale;
    bool by_beta;
    size_t begin, end;
} slow_group;

static slow_group find_group(const problem *p, unsigned which, const slow_layer *l, size_t row, size_t g)
{
    slow_group out = {.begin = row * l->cols + g * l->group};
    out.end = g + 1 == l->groups ? (row + 1) * l->cols : out.begin + l->group;
    for (size_t i = out.begin; i < out.end; i++) {
        out.low = fmin(out.low, (double)p->layers[which].w[i]);
        out.high = fmax(out.high, (double)p->layers[which].w[i]);
    }
    const double a = -l->alpha[row * l->groups + g] * out.low, b = l->beta[row * l->groups + g] * out.high;
    const double half = ldexp(1.0, (int)p->layers[which].format.bits - 1);
    out.by_beta = b >= a;
    out.scale = f16((out.by_beta ? -b : a) / half);
    return out;
}

/* Offsets and factors to weights in the slow block. */
static void slow_quantize(problem *p, unsigned which, slow_layer *l)
{
    const double half = ldexp(1.0, (int)p->layers[which].format.bits - 1);
    for (size_t row = 0; row < l->rows; row++) {
        for (size_t g = 0; g < l->groups; g++) {
            const slow_group group = find_group(p, which, l, row, g);
            l->scale[row * l->groups + g] = group.scale;
            for (size_t i = group.begin; i < group.end; i++) {
                const double code = rint((double)p->layers[which].w[i] / group.scale + l->v[i]);
                l->code[i] = (int)fmin(fmax(code, -half), half - 1.0);
                p->s.p[WEIGHT + which].at[i] = group.scale * l->code[i];
            }
        }
    }
}

static double sign(double x)
{
    return x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : 0.0;
}

static void slow_step(const problem *p, unsigned which, slow_layer *l, double lr)
{
    const double half = ldexp(1.0, (int)p->layers[which].format.bits - 1);
    for (size_t row = 0; row < l->rows; row++) {
        for (size_t g = 0; g < l->groups; g++) {
            const slow_group group = find_group(p, which, l, row, g);
            double by_scale = 0.0;
            for (size_t i = group.begin; i < group.end; i++) {
                const double x = (double)p->layers[which].w[i] / group.scale, code = rint(x + l->v[i]);
                const double inside = code >= -half && code <= half - 1.0;
                by_scale += l->grad[i] * (l->code[i] - inside * x);
                l->v[i] -= lr * sign(l->grad[i] * group.scale * inside);
            }
            double *factor = (group.by_beta ? l->beta : l->alpha) + row * l->groups + g;
            *factor -= lr * sign(by_scale * (group.by_beta ? -group.high : -group.low));
            *factor = fmin(fmax(*factor, 0.0), 1.0);
        }
    }
}

/* The squared error on samples [how->sequences], and its gradients by every weight. */
static double slow_gradients(problem *p, const size_t *samples, slow_layer *layers)
{
    setup *s = &p->s;
    const size_t n = s->how->tokens * s->config.hidden;
    double *y = must(malloc(s->p[INPUT].n * sizeof *y)), loss = 0.0;
    for (size_t i = 0; i < s->p[INPUT].n; i++)
        s->p[INPUT].at[i] = (double)p->x[samples[i / n] * n + i % n];
    slow_block(s, false, y);
    for (size_t i = 0; i < s->p[INPUT].n; i++) {
        const bool last = i % n / s->config.hidden == s->how->tokens - 1;
        const double d = last ? 0.0 : y[i] - (double)p->target[samples[i / n] * n + i % n];
        loss += d * d;
        s->dy[i] = (float)d;
    }
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        for (size_t i = 0; i < s->p[WEIGHT + which].n; i++)
            layers[which].grad[i] = slow_derivative(s, WEIGHT + which, NULL, i);
    free(y);
    return loss;
}

static void make_slow(const problem *p, unsigned which, slow_layer *l)
{
    const lb_layer *layer = &p->layers[which];
    const size_t n = layer->rows * layer->cols, groups = layer->rows * p->groups[which];
    *l = (slow_layer){.rows = layer->rows, .cols = layer->cols, .groups = p->groups[which]};
    l->group = layer->format.group ? layer->format.group : layer->cols;
    l->v = must(calloc(n, sizeof *l->v));
    l->grad = must(calloc(n, sizeof *l->grad));
    l->code = must(calloc(n, sizeof *l->code));
    l->best_code = must(calloc(n, sizeof *l->best_code));
    l->alpha = must(calloc(groups, sizeof *l->alpha));
    l->beta = must(calloc(groups, sizeof *l->beta));
    l->scale = must(calloc(groups, sizeof *l->scale));
    l->best_scale = must(calloc(groups, sizeof *l->best_scale));
    for (size_t i = 0; i < groups; i++)
        l->alpha[i] = l->beta[i] = 1.0;
}

static void drop_slow(slow_layer *l)
{
    void *const arrays[] = {l->v, l->grad, l->code, l->best_code, l->alpha, l->beta, l->scale, l->best_scale};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
}

static void keep(slow_layer *layers)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        slow_layer *l = &layers[which];
        memcpy(l->best_code, l->code, l->rows * l->cols * sizeof *l->code);
        memcpy(l->best_scale, l->scale, l->rows * l->groups * sizeof *l->scale);
    }
}

/* Fisher and Yates, as the command's seed makes it. */
static void slow_shuffle(lb_rng *rng, size_t *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        const size_t k = (size_t)lb_rng_below(rng, i), item = items[k];
        items[k] = items[i - 1];
        items[i - 1] = item;
    }
}

static void slow_signround(problem *p, slow_layer *layers)
{
    const lb_tuning *t = &p->recipe.tuning;
    const size_t batch = p->s.how->sequences;
    size_t *order = must(malloc(p->job.sequences * sizeof *order)), next = p->job.sequences;
    double best = HUGE_VAL;
    lb_rng rng;
    lb_rng_seed(&rng, p->recipe.seed + 0x9e3779b97f4a7c15u);
    for (size_t i = 0; i < p->job.sequences; i++)
        order[i] = i;
    slow_shuffle(&rng, order, p->job.sequences);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        make_slow(p, which, &layers[which]);
        slow_quantize(p, which, &layers[which]);
    }
    for (size_t i = 0; i < t->iters; i++) {
        if (next + batch > p->job.sequences) {
            slow_shuffle(&rng, order, p->job.sequences);
            next = 0;
        }
        const double loss = slow_gradients(p, order + next, layers);
        next += batch;
        if (t->best == LB_BEST_BATCH && loss < best) {
            best = loss;
            keep(layers);
        }
        const double lr =
            (t->lr > 0.0 ? t->lr : 1.0 / (double)t->iters) * (1.0 - (double)i / (double)t->iters);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            slow_step(p, which, &layers[which], lr);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
            slow_quantize(p, which, &layers[which]);
    }
    if (t->best == LB_BEST_LAST)
        keep(layers);
    free(order);
}

static void compare(const char *format, size_t iters, double lr, lb_best best)
{
    problem *p = make_problem(&small, 5, format);
    slow_layer layers[LB_BLOCK_LINEARS];
    size_t moved = 0;
    make_v1(p);
    p->recipe.tuning.iters = iters;
    p->recipe.tuning.lr = lr;
    p->recipe.tuning.batch = small.sequences;
    p->recipe.tuning.best = best;
    run(p);
    slow_signround(p, layers);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_layer *l = &p->layers[which];
        for (size_t i = 0; i < l->rows * l->cols; i++) {
            const size_t group = i / l->cols * p->groups[which] + i % l->cols / layers[which].group;
            const double scale = (double)l->params[group * 2], zero = (double)l->params[group * 2 + 1];
            if ((double)l->codes[i] - zero != layers[which].best_code[i] ||
                scale != layers[which].best_scale[group])
                fail_msg("%s, %zu steps, %s %zu: code %g of scale %.9g, wanted %d of %.9g", format, iters,
                         class_names[which], i, (double)l->codes[i] - zero, scale, layers[which].best_code[i],
                         layers[which].best_scale[group]);
            moved += rint((double)l->w[i] / scale) != layers[which].best_code[i];
        }
        drop_slow(&layers[which]);
    }
    assert_true(moved > 20); /* or nothing would have been compared */
    drop_problem(p);
}

static void the_first_version_is_the_plain_one(void **state)
{
    (void)state;
    compare("int4-row", 1, 0.4, LB_BEST_LAST);
    compare("int4-row", 6, 0.15, LB_BEST_LAST);
    compare("int2-row", 5, 0.0, LB_BEST_LAST);
    compare("int3-row", 8, 0.1, LB_BEST_BATCH);
}

/* ---- What it is for ------------------------------------------------------------------------------------- */

static const block_case wide = {"wide",
                                {.hidden = 64, .ffn = 96, .heads = 4, .kv_heads = 2, .head_dim = 16},
                                .sequences = 4,
                                .tokens = 12};

/* Squared error of the block with the layers' codes over samples [first, last), last tokens left out. */
static double error_of(const problem *p, size_t first, size_t last)
{
    lb_error err;
    const size_t n = p->job.length * p->s.config.hidden;
    lb_block block = p->s.block;
    lb_stage_context c = p->s.c;
    lb_block_trace trace;
    float *y = must(malloc(n * sizeof *y));
    double sum = 0.0;
    c.block = &block;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        const lb_layer *l = &p->layers[which];
        float *w = block.linear[which].dense = must(malloc(l->rows * l->cols * sizeof *w));
        for (size_t row = 0; row < l->rows; row++)
            lb_format_decode_row(&l->format, l->codes + row * l->cols,
                                 l->params + row * p->groups[which] * l->format.params, l->cols,
                                 w + row * l->cols);
    }
    ok(lb_block_trace_create(&p->s.config, p->job.length, p->job.length, &trace, &err), &err);
    for (size_t k = first; k < last; k++) {
        ok(lb_block_forward_traced(&c, p->x + k * n, 1, p->job.length, &trace, y, &err), &err);
        for (size_t i = 0; i + p->s.config.hidden < n; i++)
            sum += pow((double)y[i] - (double)p->target[k * n + i], 2.0);
    }
    lb_block_trace_free(&trace);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        free(block.linear[which].dense);
    free(y);
    return sum;
}

/* Trained on the first 72 samples, some 800 tokens, judged on 8 others. */
static void learned_rounding_beats_rounding_to_nearest(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g32", "int3-g32", "int4-row", "int3-g32-asym",
                                          "mxfp4",    "nvfp4",    "nvint4"};
    for (size_t k = 0; k < sizeof formats / sizeof *formats; k++) {
        problem *p = make_problem(&wide, 80, formats[k]);
        p->job.sequences = 72;
        p->recipe.tuning.batch = 4;
        p->recipe.tuning.iters = 0;
        run(p);
        const double searched = error_of(p, 72, 80);
        p->recipe.tuning.iters = 60;
        run(p);
        const double second = error_of(p, 72, 80);
        make_v1(p);
        p->recipe.tuning.iters = 0;
        run(p);
        const double nearest = error_of(p, 72, 80);
        p->recipe.tuning.iters = 60;
        run(p);
        const double first = error_of(p, 72, 80);
        if (!(second < 0.7 * searched && first < 0.7 * nearest))
            fail_msg("%s: V1 %g of %g, V2 %g of %g", formats[k], first, nearest, second, searched);
        drop_problem(p);
    }
}

/* On what it is trained on it gets better the longer it goes on. */
static void more_steps_fit_better(void **state)
{
    (void)state;
    static const size_t steps[] = {0, 5, 20, 80};
    problem *p = make_problem(&wide, 4, "int2-g32");
    p->recipe.tuning.batch = 4;
    p->recipe.tuning.best = LB_BEST_LAST;
    for (double before = HUGE_VAL, now, k = 0; k < 4; before = now, k++) {
        p->recipe.tuning.iters = steps[(size_t)k];
        run(p);
        now = error_of(p, 0, 4);
        assert_true(now < 0.97 * before);
    }
    drop_problem(p);
}

/* With iterations that only do harm, the iterate that is held on to is the first. */
static void the_best_iterate_is_kept(void **state)
{
    (void)state;
    problem *p = make_problem(&wide, 16, "int4-g32");
    uint8_t *codes = must(malloc(96 * 64));
    p->recipe.tuning.iters = 0;
    run(p);
    memcpy(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64);
    p->recipe.tuning.iters = 3;
    p->recipe.tuning.lr = 1.0; /* codes jump at random */
    p->recipe.tuning.best = LB_BEST_HELD_ASIDE;
    run(p);
    assert_memory_equal(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64);
    p->recipe.tuning.best = LB_BEST_BATCH;
    p->recipe.tuning.batch = 16; /* always the same */
    run(p);
    assert_memory_equal(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64);
    p->recipe.tuning.best = LB_BEST_LAST;
    run(p);
    assert_memory_not_equal(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64);
    free(codes);
    drop_problem(p);
}

/* The largest errors are left out below four bits, and there alone. */
static void errors_are_filtered_at_few_bits(void **state)
{
    (void)state;
    static const char *const formats[] = {"int2-g32", "int3-g32", "bp3-g32", "int4-g32", "mxfp4"};
    for (size_t k = 0; k < 5; k++) {
        problem *p = make_problem(&wide, 4, formats[k]);
        uint8_t *codes = must(malloc(96 * 64));
        p->recipe.tuning.batch = 4;
        p->recipe.tuning.iters = 6;
        p->recipe.tuning.best = LB_BEST_LAST;
        assert_true(p->recipe.tuning.filter);
        run(p);
        memcpy(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64);
        p->recipe.tuning.filter = false;
        run(p);
        assert_int_equal(memcmp(codes, p->layers[LB_LINEAR_UP].codes, 96 * 64) != 0, k < 3);
        free(codes);
        drop_problem(p);
    }
}

/* Rounded and rotated inputs, layers that stay as they are, one sample, more samples a batch than there are. */
static void odd_circumstances(void **state)
{
    (void)state;
    block_case rotated = wide;
    rotated.transform = "hadamard";
    rotated.act = "mxfp4";
    problem *p = make_problem(&rotated, 8, "mxfp4");
    p->recipe.act = p->s.inputs.act;
    p->recipe.tuning.batch = 8;
    p->recipe.tuning.best = LB_BEST_LAST;
    p->recipe.tuning.iters = 0;
    run(p);
    const double nearest = error_of(p, 0, 8);
    p->recipe.tuning.iters = 40;
    run(p);
    assert_true(error_of(p, 0, 8) < nearest);
    drop_problem(p);
    p = make_problem(&wide, 1, "int3-g64");
    p->recipe.tuning.batch = 100;
    p->recipe.tuning.iters = 3;
    for (size_t kept = 0; kept <= LB_BLOCK_LINEARS; kept++) {
        run(p);
        if (kept < LB_BLOCK_LINEARS) {
            p->layers[kept].format = (lb_format){.name = "f32", .bits = 32};
            memset(p->layers[kept].codes, 0xee, p->layers[kept].rows * p->layers[kept].cols);
        }
        for (size_t k = 0; k < kept; k++)
            assert_int_equal(p->layers[k].codes[0], 0xee);
    }
    drop_problem(p);
}

/* ---- What must not matter, and what must fail ------------------------------------------------------------ */

static void any_number_of_threads_gives_the_same_bytes(void **state)
{
    (void)state;
    problem *first = make_problem(&wide, 12, "int2-g32"), *other = make_problem(&wide, 12, "int2-g32");
    first->recipe.tuning.iters = other->recipe.tuning.iters = 12;
    first->recipe.tuning.batch = other->recipe.tuning.batch = 5;
    lb_thread_set_count(1);
    run(first);
    for (unsigned threads = 2; threads <= 4; threads++) {
        lb_thread_set_count(threads);
        run(other);
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            const lb_layer *a = &first->layers[which], *b = &other->layers[which];
            assert_memory_equal(a->codes, b->codes, a->rows * a->cols);
            assert_memory_equal(a->params, b->params,
                                a->rows * first->groups[which] * a->format.params * sizeof(float));
        }
    }
    lb_thread_set_count(0);
    other->job.index = 1; /* another block sees another order of samples */
    other->recipe.tuning.best = first->recipe.tuning.best = LB_BEST_LAST;
    run(first);
    run(other);
    assert_memory_not_equal(first->layers[0].codes, other->layers[0].codes, 64 * 64);
    drop_problem(first);
    drop_problem(other);
}

static int stop(void *user, const char *stage, size_t done, size_t total)
{
    (void)stage;
    (void)done;
    (void)total;
    return --*(size_t *)user == 0;
}

static void failures_are_answers(void **state)
{
    (void)state;
    lb_error err;
    problem *p = make_problem(&small, 4, "int4-row");
    size_t steps = 3;
    const lb_progress progress = {stop, &steps};
    p->recipe.tuning.iters = 10;
    p->job.progress = &progress;
    assert_int_equal(lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err), LB_ECANCELED);
    assert_int_equal(steps, 0);
    p->job.progress = NULL;
    p->target[3] = NAN;
    assert_int_equal(lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "block 1: the squared error of its output is nan"));
    p->target[3] = INFINITY;
    assert_int_equal(lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err), LB_EINVAL);
    p->target[3] = 0.0f;
    p->job.sequences = 0;
    assert_int_equal(lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err), LB_EINVAL);
    assert_non_null(strstr(err.msg, "at least 1 calibration sample of 2 tokens, got 0 of 5"));
    p->job.sequences = 4;
    size_t failed = 0;
    for (lb_status st = LB_ENOMEM; st != LB_OK; failed++) {
        lb_alloc_fail_at(failed + 1);
        st = lb_method_signround.reconstruct(&p->recipe, &p->job, p->layers, &err);
        lb_alloc_fail_at(0);
        assert_true(st == LB_OK || st == LB_ENOMEM);
    }
    assert_true(failed > 40);
    drop_problem(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_version_is_the_plain_one),
        cmocka_unit_test(learned_rounding_beats_rounding_to_nearest),
        cmocka_unit_test(more_steps_fit_better),
        cmocka_unit_test(the_best_iterate_is_kept),
        cmocka_unit_test(errors_are_filtered_at_few_bits),
        cmocka_unit_test(odd_circumstances),
        cmocka_unit_test(any_number_of_threads_gives_the_same_bytes),
        cmocka_unit_test(failures_are_answers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
