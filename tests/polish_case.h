/* SPDX-License-Identifier: MIT
 * What tests of polishing share: the loop over blocks on a tiny model with a sink in memory, and what codes and params
 * make of that model's predictions, in double and by the formats' definitions. */
#ifndef LB_TESTS_POLISH_CASE_H
#define LB_TESTS_POLISH_CASE_H

#include "scratch.h"

#include <malloc.h> /* mallinfo2 */

#include "base/alloc.h"
#include "base/thread.h"
#include "quantize/polish.h"
#include "reference_model.h"

enum {
    BLOCKS = 2,
    LAYERS = BLOCKS * LB_BLOCK_LINEARS,
    LENGTH = 8,
    MOST_SAMPLES = 8,
    VOCAB = 40,
    MOST_VECTORS = 16
};

/* Lines of 40 and of 72 numbers: last groups are short. */
static const tiny_model_options small = {
    .seed = 61, .hidden = 40, .ffn = 72, .heads = 4, .kv_heads = 2, .vocab = VOCAB, .layers = BLOCKS};

/* A layer as it was committed. */
typedef struct stored {
    uint8_t *codes;
    float *params;
} stored;

typedef struct trial {
    tiny_model *made; /* the original */
    lb_weights *weights;
    lb_recipe recipe;
    uint32_t ids[MOST_SAMPLES * LENGTH];
    lb_samples samples;
    double *teacher; /* [samples, LENGTH, VOCAB] logits of the original, in double */
    lb_layer layers[LAYERS];
    stored first[LAYERS], last[LAYERS]; /* as committed by the method, and by whoever came last */
    float *learned[LAYERS];
    float *floats[LAYERS], *vectors[BLOCKS][MOST_VECTORS]; /* layers that stay float; norms and biases */
    bool done[BLOCKS], has_learned[BLOCKS];
    size_t commits, saves, stop_commit; /* the commit that fails; 0: none */
    size_t asked, stop_at;
    size_t memory, most_memory; /* in use before anything was learned, and at most from then on */
    lb_polish_report report;
} trial;

static inline void *must(void *ptr)
{
    assert_non_null(ptr);
    return ptr;
}

static inline void ok(lb_status st, const lb_error *err)
{
    if (st != LB_OK)
        fail_msg("%s", err->msg);
}

static inline size_t params_of_row(const lb_layer *l)
{
    return lb_format_groups(&l->format, l->cols) * l->format.params;
}

static inline size_t params_of(const lb_layer *l)
{
    return l->rows * params_of_row(l);
}

/* ---- Where blocks go ----------------------------------------------------------------------------------- */

static inline bool has(void *self, size_t block)
{
    return ((trial *)self)->done[block];
}

static inline void keep(stored *to, const lb_layer *l)
{
    free(to->codes);
    free(to->params);
    to->codes = must(malloc(l->rows * l->cols));
    to->params = must(malloc(params_of(l) * sizeof(float)));
    memcpy(to->codes, l->codes, l->rows * l->cols);
    memcpy(to->params, l->params, params_of(l) * sizeof(float));
}

static inline void keep_floats(float **to, const float *from, size_t n)
{
    free(*to);
    *to = must(malloc(n * sizeof **to));
    memcpy(*to, from, n * sizeof **to);
}

static inline lb_status commit(void *self, size_t block, const lb_layer *layers, size_t count,
                               const lb_block *floats, lb_error *err)
{
    trial *t = self;
    if (++t->commits == t->stop_commit)
        return lb_fail(err, LB_EIO, "no room");
    for (size_t i = 0; i < count; i++) {
        const size_t at = block * LB_BLOCK_LINEARS + i;
        if (lb_format_is_float(&layers[i].format)) {
            keep_floats(&t->floats[at], layers[i].w, layers[i].rows * layers[i].cols);
            continue;
        }
        assert_true(layers[i].relative_error >= 0.0);
        keep(&t->last[at], &layers[i]);
        if (!t->done[block])
            keep(&t->first[at], &layers[i]);
    }
    char name[128];
    size_t n;
    for (size_t i = 0; lb_block_vector(&t->weights->config, block, i, name, sizeof name, &n); i++)
        keep_floats(&t->vectors[block][i], lb_block_vector_values(&t->weights->config, floats, i), n);
    t->done[block] = true;
    return LB_OK;
}

static inline lb_status restore(void *self, size_t block, lb_layer *layers, size_t count, lb_block *floats,
                                lb_error *err)
{
    const trial *t = self;
    const lb_config *config = &t->weights->config;
    char name[128];
    size_t n;
    (void)err;
    for (size_t i = 0; floats && lb_block_vector(config, block, i, name, sizeof name, &n); i++)
        memcpy(lb_block_vector_values(config, floats, i), t->vectors[block][i], n * sizeof(float));
    for (size_t i = 0; floats && i < count; i++)
        if (lb_format_is_float(&layers[i].format))
            memcpy(floats->linear[i].dense, t->floats[block * LB_BLOCK_LINEARS + i],
                   layers[i].rows * layers[i].cols * sizeof(float));
    assert_true(t->done[block]);
    for (size_t i = 0; i < count; i++) {
        const stored *from = &t->last[block * LB_BLOCK_LINEARS + i];
        if (lb_format_is_float(&layers[i].format))
            continue;
        memcpy(layers[i].codes, from->codes, layers[i].rows * layers[i].cols);
        memcpy(layers[i].params, from->params, params_of(&layers[i]) * sizeof(float));
        layers[i].relative_error = 0.0;
    }
    return LB_OK;
}

/* 0 where that is not known, as under sanitizers. */
static inline size_t memory_in_use(void)
{
#ifdef __GLIBC__
    const struct mallinfo2 now = mallinfo2();
    return now.uordblks + now.hblkhd;
#else
    return 0;
#endif
}

/* Asked right before learning. */
static inline bool has_learned(void *self, size_t block)
{
    trial *t = self;
    t->memory = t->most_memory = memory_in_use();
    return t->has_learned[block];
}

/* Of the layers that have something to learn, and of no others. */
static inline lb_status save_learned(void *self, size_t block, const lb_layer *layers, size_t count,
                                     lb_error *err)
{
    trial *t = self;
    (void)err;
    for (size_t i = 0; i < count; i++) {
        float **to = &t->learned[block * LB_BLOCK_LINEARS + i];
        assert_true((layers[i].params != NULL) == lb_polish_takes(&layers[i].format));
        assert_null(layers[i].codes);
        free(*to);
        *to = NULL;
        if (!layers[i].params)
            continue;
        *to = must(malloc(params_of(&layers[i]) * sizeof(float)));
        memcpy(*to, layers[i].params, params_of(&layers[i]) * sizeof(float));
    }
    t->has_learned[block] = true;
    t->saves++;
    return LB_OK;
}

static inline lb_status restore_learned(void *self, size_t block, lb_layer *layers, size_t count,
                                        lb_error *err)
{
    const trial *t = self;
    (void)err;
    for (size_t i = 0; i < count; i++)
        if (t->learned[block * LB_BLOCK_LINEARS + i])
            memcpy(layers[i].params, t->learned[block * LB_BLOCK_LINEARS + i],
                   params_of(&layers[i]) * sizeof(float));
    return LB_OK;
}

/* Memory is that of one block. */
static inline void check_codes(const trial *t)
{
    size_t blocks = 0;
    for (size_t block = 0; block < BLOCKS; block++) {
        bool there = false;
        for (size_t i = 0; i < LB_BLOCK_LINEARS; i++)
            there = there || t->layers[block * LB_BLOCK_LINEARS + i].codes;
        blocks += there;
    }
    assert_true(blocks <= 1);
}

static inline int ask(void *user, const char *stage, size_t done, size_t total)
{
    trial *t = user;
    (void)stage;
    (void)done;
    (void)total;
    check_codes(t);
    const size_t in_use = memory_in_use();
    t->most_memory = in_use > t->most_memory ? in_use : t->most_memory;
    return ++t->asked == t->stop_at;
}

/* ---- Runs ---------------------------------------------------------------------------------------------- */

/* As the original is now. */
static inline void reopen(trial *t)
{
    lb_error err;
    char *folder = scratch_make("lb_polish");
    lb_weights_close(t->weights);
    assert_int_equal(tiny_model_save(folder, t->made), 0);
    ok(lb_weights_open(folder, &t->weights, &err), &err);
    scratch_remove(folder);
    free(folder);
    for (size_t s = 0; s < t->samples.count; s++)
        reference_logits(t->made, t->ids + s * LENGTH, LENGTH, t->teacher + s * LENGTH * VOCAB);
}

static inline void open_trial(trial *t, const tiny_model_options *options, const char *format, size_t samples)
{
    lb_error err;
    lb_rng rng;
    *t = (trial){.made = must(tiny_model_make(options))};
    lb_rng_seed(&rng, 62);
    /* Samples that have much in common, so that what is learned from some serves the others. */
    for (size_t i = 0; i < samples * LENGTH; i++)
        t->ids[i] = i >= LENGTH && i % 4 ? t->ids[i % LENGTH] : (uint32_t)lb_rng_below(&rng, VOCAB);
    t->samples = (lb_samples){.ids = t->ids, .count = samples, .length = LENGTH};
    t->teacher = must(malloc(samples * LENGTH * VOCAB * sizeof *t->teacher));
    reopen(t);
    lb_recipe_default(&t->recipe);
    t->recipe.method = &lb_method_rtn;
    t->recipe.polish = (lb_polish_recipe){.steps = 1, .batch = 4, .lr = 0.02};
    ok(lb_format_parse(format, &t->recipe.format, &err), &err);
}

static inline void close_trial(trial *t)
{
    for (size_t i = 0; i < LAYERS; i++) {
        free(t->first[i].codes);
        free(t->first[i].params);
        free(t->last[i].codes);
        free(t->last[i].params);
        free(t->learned[i]);
        free(t->floats[i]);
    }
    for (size_t i = 0; i < BLOCKS * MOST_VECTORS; i++)
        free(t->vectors[i / MOST_VECTORS][i % MOST_VECTORS]);
    free(t->teacher);
    lb_weights_close(t->weights);
    tiny_model_free(t->made);
}

/* On from what is there. */
static inline lb_status run(trial *t, lb_error *err)
{
    lb_block_report reports[BLOCKS];
    lb_stage_times times;
    const lb_pipeline p = {.weights = t->weights,
                           .recipe = &t->recipe,
                           .samples = &t->samples,
                           .kernels = lb_kernels_get(LB_CPU_BEST),
                           .sink = {.self = t,
                                    .has = has,
                                    .restore = restore,
                                    .commit = commit,
                                    .has_learned = has_learned,
                                    .restore_learned = restore_learned,
                                    .save_learned = save_learned},
                           .progress = {ask, t}};
    t->commits = t->saves = t->asked = 0;
    memset(t->layers, 0, sizeof t->layers);
    const lb_status st = lb_pipeline_run(&p, t->layers, reports, &t->report, &times, err);
    for (size_t i = 0; i < LAYERS; i++)
        assert_true(!t->layers[i].codes && !t->layers[i].params);
    return st;
}

static inline void must_run(trial *t)
{
    lb_error err;
    ok(run(t, &err), &err);
}

static inline void forget(trial *t)
{
    memset(t->done, 0, sizeof t->done);
    memset(t->has_learned, 0, sizeof t->has_learned);
}

static inline bool same_params(const trial *t, const stored *a, const stored *b)
{
    bool same = true;
    for (size_t i = 0; i < LAYERS; i++) {
        const lb_layer *l = &t->layers[i];
        if (lb_format_is_float(&l->format))
            continue;
        assert_memory_equal(a[i].codes, b[i].codes, l->rows * l->cols); /* whatever else */
        same = same && memcmp(a[i].params, b[i].params, params_of(l) * sizeof(float)) == 0;
    }
    return same;
}

/* What was committed last, kept for comparison. */
static inline void copy_of(const trial *t, stored *out)
{
    memset(out, 0, LAYERS * sizeof *out);
    for (size_t i = 0; i < LAYERS; i++) {
        lb_layer l = t->layers[i];
        if (lb_format_is_float(&l.format))
            continue;
        l.codes = t->last[i].codes;
        l.params = t->last[i].params;
        keep(&out[i], &l);
    }
}

static inline void drop(stored *layers)
{
    for (size_t i = 0; i < LAYERS; i++) {
        free(layers[i].codes);
        free(layers[i].params);
    }
}

/* ---- The same in double -------------------------------------------------------------------------------- */

static inline tiny_tensor *tensor_of(tiny_model *m, size_t i)
{
    char base[96], name[128];
    lb_linear_name(i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS), base, sizeof base);
    snprintf(name, sizeof name, "%s.weight", base);
    for (size_t k = 0; k < m->count; k++)
        if (strcmp(m->tensors[k].name, name) == 0)
            return &m->tensors[k];
    fail_msg("no %s", name);
    return NULL;
}

/* How much the value of a code changes with coefficient i, by the formats' definitions. */
static inline double basis(const lb_format *f, const float *params, uint8_t code, unsigned i)
{
    if (strncmp(f->name, "int", 3) == 0)
        return (double)code - (double)params[1];
    return i == 0 ? 1.0 : (double)(code >> (i - 1) & 1);
}

static inline unsigned coefficients(const lb_format *f)
{
    return strncmp(f->name, "int", 3) == 0 ? 1 : f->bits + 1;
}

static inline double value(const lb_format *f, const float *params, uint8_t code)
{
    double sum = 0.0;
    for (unsigned i = 0; i < coefficients(f); i++)
        sum += (double)params[i] * basis(f, params, code, i);
    return sum;
}

/* The values of one row of a layer into the model. */
static inline void put_row(const trial *t, tiny_model *m, size_t i, size_t row, const uint8_t *codes,
                           const float *params)
{
    const lb_layer *l = &t->layers[i];
    const size_t size = l->format.group ? l->format.group : l->cols;
    float *to = tensor_of(m, i)->values + row * l->cols;
    for (size_t k = 0; k < l->cols; k++)
        to[k] = (float)value(&l->format, params + k / size * l->format.params, codes[row * l->cols + k]);
}

/* The original with the values that these codes and params stand for. */
static inline tiny_model *model_of(const trial *t, const stored *from)
{
    tiny_model *m = must(tiny_model_make(&t->made->options));
    for (size_t i = 0; i < LAYERS; i++)
        for (size_t row = 0; from[i].codes && row < t->layers[i].rows; row++)
            put_row(t, m, i, row, from[i].codes, from[i].params + row * params_of_row(&t->layers[i]));
    return m;
}

static inline double log_sum(const double *logits)
{
    double sum = 0.0;
    for (size_t v = 0; v < VOCAB; v++)
        sum += exp(logits[v]);
    return log(sum);
}

/* Mean over the tokens of a sample of KL(original's p | p). */
static inline double divergence(const trial *t, const tiny_model *m, size_t sample)
{
    static double logits[LENGTH * VOCAB];
    double total = 0.0;
    reference_logits(m, t->ids + sample * LENGTH, LENGTH, logits);
    for (size_t k = 0; k < LENGTH; k++) {
        const double *wanted = t->teacher + (sample * LENGTH + k) * VOCAB, *got = logits + k * VOCAB;
        const double a = log_sum(wanted), b = log_sum(got);
        for (size_t v = 0; v < VOCAB; v++)
            total += exp(wanted[v] - a) * (wanted[v] - a - got[v] + b);
    }
    return total / LENGTH;
}

/* The one sample that was held aside, of up to 15: what was reported is its divergence, before and after. */
static inline size_t held_aside(const trial *t)
{
    const double noise = 3e-7; /* what logits of floats make of a divergence near none */
    tiny_model *before = model_of(t, t->first), *after = model_of(t, t->last);
    size_t held = SIZE_MAX;
    for (size_t s = 0; s < t->samples.count; s++) {
        const double d = divergence(t, before, s);
        if (fabs(d - t->report.before) > 1e-4 * d + noise)
            continue;
        assert_int_equal(held, SIZE_MAX);
        held = s;
    }
    assert_int_not_equal(held, SIZE_MAX);
    const double d = divergence(t, after, held);
    assert_true(fabs(d - t->report.after) <= 1e-4 * d + noise);
    tiny_model_free(before);
    tiny_model_free(after);
    return held;
}

#endif
