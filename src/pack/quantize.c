/* SPDX-License-Identifier: MIT
 * lb_quantize: options to a recipe, checks before work, the pipeline with a folder as its sink, and
 * the account of it. */
#define _GNU_SOURCE
#include "lowbit/quantize.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/options.h"
#include "base/text.h"
#include "calibrate/builtin_text.h"
#include "io/tokenizer.h"
#include "pack/check_values.h"
#include "pack/choose_plan.h"
#include "pack/plan.h"
#include "pack/quantized_dir.h"
#include "quantize/allocate.h"
#include "quantize/pipeline.h"
#include "quantize/polish.h"

enum { MAX_CALIBRATION_BYTES = 1 << 30 };

void lb_quantize_options_init_sized(lb_quantize_options *options, size_t size)
{
    const lb_quantize_options defaults = {.struct_size = sizeof defaults,
                                          .format = "int4-g128",
                                          .transform = "none",
                                          .method = "gptq",
                                          .fit = "search",
                                          .order = "group",
                                          .saliency = "obs",
                                          .damp = 0.01,
                                          .compensate = 0.5,
                                          .refine = 10,
                                          .samples = 128,
                                          .seqlen = 512,
                                          .seed = 42,
                                          .iters = 200,
                                          .batch = 8,
                                          .multiplier = true,
                                          .filter = true,
                                          .best = "held-aside",
                                          .alternations = 10,
                                          .init = "search",
                                          .polish_batch = 2,
                                          .polish_lr = 0.005,
                                          .candidates = "int2-g128,int3-g128,int4-g128,int8-g128",
                                          .allocate = "fisher",
                                          .sensitivity_samples = 32,
                                          .sensitivity_seqlen = 256,
                                          .smooth = 0.5,
                                          .clip = true,
                                          .act_mask = "norm"};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

typedef struct job {
    const lb_quantize_options *options;
    lb_recipe recipe;
    const lb_kernels *kernels;
    lb_weights *weights;
    lb_tokenizer *tokenizer;
    lb_samples samples, sensitivity_samples;
    lb_plan plan;
    lb_checkpoint_size size;
    lb_quantized_dir *dir;
} job;

static lb_status make_tuning(const lb_quantize_options *o, lb_tuning *out, lb_error *err)
{
    LB_TRY(lb_best_parse(o->best, &out->best, err));
    if (o->iters > 1000000)
        return lb_fail(err, LB_EINVAL, "%zu steps of learning are more than 1000000", o->iters);
    if (o->batch == 0 || o->batch > 1000000)
        return lb_fail(err, LB_EINVAL, "a batch of %zu samples is outside 1 to 1000000", o->batch);
    if (!(o->lr >= 0.0 && o->lr <= 1.0))
        return lb_fail(err, LB_EINVAL, "learning rate %g is outside 0 to 1", o->lr);
    out->iters = o->iters;
    out->batch = o->batch;
    out->lr = o->lr;
    out->multiplier = o->multiplier;
    out->filter = o->filter;
    return LB_OK;
}

static lb_status make_alternation(const lb_quantize_options *o, lb_alternation *out, lb_error *err)
{
    LB_TRY(lb_init_parse(o->init, &out->init, err));
    if (o->alternations > 10000)
        return lb_fail(err, LB_EINVAL, "%zu alternations are more than 10000", o->alternations);
    out->iters = o->alternations;
    out->faithful = o->faithful;
    return LB_OK;
}

static lb_status make_allocation(const lb_quantize_options *o, lb_allocation *out, lb_error *err)
{
    out->samples = out->seqlen = 0;
    if (o->target_bits == 0.0)
        return LB_OK;
    if (!(o->target_bits > 0.0 && o->target_bits <= 32.0))
        return lb_fail(err, LB_EINVAL, "a target of %g bits per weight is outside 0 to 32", o->target_bits);
    LB_TRY(lb_allocate_parse(o->allocate, &out->how, err));
    LB_TRY(lb_candidates_parse(o->candidates, out, err));
    out->target_bits = o->target_bits;
    out->untied = o->untied;
    if (!lb_allocate_needs_scores(out->how))
        return LB_OK;
    if (o->sensitivity_samples == 0 || o->sensitivity_samples > 1000000 || o->sensitivity_seqlen < 2 ||
        o->sensitivity_seqlen > 1000000)
        return lb_fail(err, LB_EINVAL,
                       "sensitivities want 1 to 1000000 samples of 2 to 1000000 tokens, got %zu of %zu",
                       o->sensitivity_samples, o->sensitivity_seqlen);
    out->samples = o->sensitivity_samples;
    out->seqlen = o->sensitivity_seqlen;
    return LB_OK;
}

static lb_status make_polish(const lb_quantize_options *o, lb_polish_recipe *out, lb_error *err)
{
    *out = (lb_polish_recipe){.steps = o->polish_steps, .batch = o->polish_batch, .lr = o->polish_lr};
    if (o->polish_steps > 1000000)
        return lb_fail(err, LB_EINVAL, "%zu steps of polishing are more than 1000000", o->polish_steps);
    if (o->polish_batch == 0 || o->polish_batch > 1000000)
        return lb_fail(err, LB_EINVAL, "polishing with %zu samples a step is outside 1 to 1000000",
                       o->polish_batch);
    if (!(o->polish_lr > 0.0 && o->polish_lr <= 1.0))
        return lb_fail(err, LB_EINVAL, "polishing rate %g is outside 0 to 1", o->polish_lr);
    return LB_OK;
}

static lb_status make_recipe(const lb_quantize_options *o, lb_recipe *out, lb_error *err)
{
    lb_recipe_default(out);
    LB_TRY(lb_format_parse(o->format, &out->format, err));
    LB_TRY(make_allocation(o, &out->allocation, err));
    if (out->allocation.how != LB_ALLOCATE_NONE)
        out->format = out->allocation.candidates[0]; /* whose groups a rotation follows */
    if (o->act)
        LB_TRY(lb_act_parse(o->act, &out->act, err));
    LB_TRY(lb_mask_score_parse(o->act_mask, &out->mask_score, err));
    LB_TRY(lb_transform_parse(o->transform, &out->transform, err));
    if (!(o->smooth >= 0.0 && o->smooth <= 1.0))
        return lb_fail(err, LB_EINVAL, "smoothing strength %g is outside 0 to 1", o->smooth);
    out->transform.strength = o->smooth;
    if (o->seed > INT64_MAX)
        return lb_fail(err, LB_EINVAL, "the seed %llu is more than the %lld that a checkpoint can record",
                       (unsigned long long)o->seed, (long long)INT64_MAX);
    out->transform.seed = o->seed;
    LB_TRY(lb_method_find(o->method, &out->method, err));
    LB_TRY(lb_order_parse(o->order, &out->order, err));
    LB_TRY(lb_saliency_parse(o->saliency, &out->saliency, err));
    if (strcmp(o->fit, "search") != 0 && strcmp(o->fit, "range") != 0)
        return lb_fail(err, LB_EINVAL, "fit \"%.40s\" is not known: there are search, range", o->fit);
    out->fit = strcmp(o->fit, "search") == 0 ? LB_FIT_SEARCH : LB_FIT_RANGE;
    if (lb_act_masks(&out->act) && (out->method->reconstruct || out->allocation.how != LB_ALLOCATE_NONE))
        return lb_fail(
            err, LB_EINVAL,
            "activation format %s puts channels in an order that %s does not know; take %s-dynamic, "
            "or one format by rtn, gptq or bpdq",
            out->act.name, out->method->reconstruct ? "learned rounding" : "an allocation", out->act.name);
    /* A search of scales has done what clipping does, and learned rounding does it better. */
    out->transform.clip =
        out->transform.clip && o->clip && out->fit == LB_FIT_RANGE && !out->method->reconstruct;
    if (!(o->damp >= 0.0 && o->damp <= 10.0))
        return lb_fail(err, LB_EINVAL, "damping %g is outside 0 to 10", o->damp);
    if (o->samples > 1000000 || o->seqlen > 1000000)
        return lb_fail(err, LB_EINVAL, "calibration of %zu samples of %zu tokens is out of range", o->samples,
                       o->seqlen);
    if (!(o->compensate >= 0.0 && o->compensate <= 1.0))
        return lb_fail(err, LB_EINVAL, "compensation %g is outside 0 to 1", o->compensate);
    if (o->refine > 10000)
        return lb_fail(err, LB_EINVAL, "%zu sweeps of refinement are more than 10000", o->refine);
    out->damp = o->damp;
    out->compensate = o->compensate;
    out->refine = o->refine;
    out->seed = o->seed;
    LB_TRY(make_tuning(o, &out->tuning, err));
    LB_TRY(make_alternation(o, &out->alternation, err));
    LB_TRY(make_polish(o, &out->polish, err));
    const bool calibrates = out->method->needs_calibration || out->transform.rescale != LB_RESCALE_NONE ||
                            lb_act_masks(&out->act) || o->calibration || o->polish_steps > 0;
    if (calibrates && (o->samples == 0 || o->seqlen < 2))
        return lb_fail(err, LB_EINVAL, "calibration wants at least 1 sample of 2 tokens, got %zu of %zu",
                       o->samples, o->seqlen);
    out->samples = calibrates ? o->samples : 0;
    out->seqlen = calibrates ? o->seqlen : 0;
    for (size_t i = 0; i < o->layer_rule_count; i++)
        LB_TRY(lb_recipe_add_rule(out, o->layer_rules[i], err));
    return LB_OK;
}

static lb_status check_format(const lb_method *method, const lb_format *format, const char *where,
                              lb_error *err)
{
    if (lb_format_is_float(format) || !method->takes || method->takes(format))
        return LB_OK;
    return lb_fail(err, LB_EINVAL, "%s: method %s wants %s, not %s", where, method->name, method->wants,
                   format->name);
}

/* Polishing needs a layer that has something to learn, whatever an allocation chooses. */
static lb_status check_polish(const job *j, lb_error *err)
{
    const lb_recipe *r = &j->recipe;
    bool takes = r->polish.steps == 0;
    for (size_t k = 0; k < r->allocation.candidate_count; k++)
        takes = takes || lb_polish_takes(&r->allocation.candidates[k]);
    for (size_t i = 0; !takes && i < j->weights->config.layers * LB_BLOCK_LINEARS; i++)
        takes = lb_polish_takes(lb_recipe_layer(r, i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS)));
    if (r->polish.steps > 0 && lb_act_masks(&r->act))
        return lb_fail(err, LB_EINVAL,
                       "polishing cannot follow inputs in %s, whose channels are chosen block by block; use "
                       "%s-dynamic, or no --polish",
                       r->act.name, r->act.name);
    if (takes)
        return LB_OK;
    return lb_fail(err, LB_EINVAL,
                   "polishing learns scales and coefficients of int, bp and sq formats, and %s has none",
                   r->format.name);
}

/* And samples to learn from, and others to be judged by. */
static lb_status check_polish_samples(const job *j, lb_error *err)
{
    if (j->recipe.polish.steps == 0 || j->samples.count >= 2)
        return LB_OK;
    return lb_fail(err, LB_EINVAL, "polishing wants at least 2 calibration samples, got %zu",
                   j->samples.count);
}

/* Before the work: whether the method can do what the recipe may ask of it. */
static lb_status check_formats(const job *j, lb_error *err)
{
    const lb_recipe *r = &j->recipe;
    char name[128];
    for (size_t k = 0; k < r->allocation.candidate_count; k++) {
        LB_TRY(check_format(r->method, &r->allocation.candidates[k], "candidates", err));
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            size_t rows, cols;
            lb_linear_shape(&j->weights->config, which, &rows, &cols);
            LB_TRY(lb_format_check_cols(&r->allocation.candidates[k], cols, lb_block_linears[which].suffix,
                                        err));
        }
    }
    for (size_t i = 0; i < j->weights->config.layers * LB_BLOCK_LINEARS; i++) {
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        lb_linear_name(i / LB_BLOCK_LINEARS, which, name, sizeof name);
        LB_TRY(check_format(r->method, lb_recipe_layer(r, i / LB_BLOCK_LINEARS, which), name, err));
    }
    return LB_OK;
}

/* A token id that the embedding has no row for would only be noticed when a text contains it. */
static lb_status check_tokenizer(job *j, lb_error *err)
{
    const lb_checkpoint *c = &j->weights->checkpoint;
    if (!c->tokenizer) {
        if (j->recipe.samples == 0 && j->recipe.allocation.samples == 0)
            return LB_OK;
        return lb_fail(
            err, LB_EFORMAT,
            "%s has no tokenizer, and calibration needs one; method rtn with one format for all does "
            "without",
            c->path);
    }
    LB_TRY(lb_tokenizer_create(c->tokenizer, c->tokenizer_config, c->path, &j->tokenizer, err));
    return lb_tokenizer_check_rows(j->tokenizer, j->weights->config.vocab, c->path, err);
}

/* Windows of the calibration text; the numbers say how many there are in the end, not how many were asked for. */
static lb_status cut_samples(const job *j, const char *text, size_t bytes, size_t *samples, size_t *seqlen,
                             lb_samples *out, lb_error *err)
{
    if (*samples == 0)
        return LB_OK;
    if (*seqlen > j->weights->config.max_context)
        *seqlen = j->weights->config.max_context;
    const lb_status st =
        lb_samples_create(j->tokenizer, text, bytes, *samples, *seqlen, j->recipe.seed, out, err);
    if (st != LB_OK)
        return lb_fail_at(err, st, "%s",
                          j->options->calibration ? j->options->calibration : "built-in calibration text");
    *samples = out->count;
    return LB_OK;
}

static lb_status make_samples(job *j, lb_error *err)
{
    lb_allocation *a = &j->recipe.allocation;
    char *text = NULL;
    size_t bytes = lb_builtin_calibration_size;
    const char *from = (const char *)lb_builtin_calibration;
    if (j->recipe.samples == 0 && a->samples == 0)
        return LB_OK;
    if (j->options->calibration) {
        LB_TRY(lb_file_read_text(j->options->calibration, MAX_CALIBRATION_BYTES, &text, &bytes, err));
        from = text;
    }
    lb_status st = cut_samples(j, from, bytes, &j->recipe.samples, &j->recipe.seqlen, &j->samples, err);
    if (st == LB_OK)
        st = cut_samples(j, from, bytes, &a->samples, &a->seqlen, &j->sensitivity_samples, err);
    lb_free(text);
    return st;
}

/* What an interrupted run has written already. */
static uint64_t partial_bytes(const char *output)
{
    uint64_t bytes = 0;
    lb_text path = {0};
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    lb_text_add(&path, output, length);
    lb_text_add_string(&path, ".partial");
    if (path.failed || lb_directory_bytes(path.data, &bytes, NULL) != LB_OK)
        bytes = 0;
    lb_text_free(&path);
    return bytes;
}

static lb_status check_output(const job *j, lb_quantize_result *r, lb_error *err)
{
    uint64_t free_bytes;
    if (!j->options->output || !*j->options->output)
        return j->options->dry_run && !j->options->output ? LB_OK
                                                          : lb_fail(err, LB_EINVAL, "no output was named");
    char *parent = lb_path_parent(j->options->output);
    if (!parent)
        return lb_fail(err, LB_ENOMEM, "no memory for a name");
    lb_status st = LB_OK;
    if (!lb_path_is_directory(parent))
        st = lb_fail(err, LB_EIO, "cannot create %s: there is no folder %s", j->options->output, parent);
    else if (access(parent, W_OK | X_OK) != 0)
        st = lb_fail(err, LB_EIO, "cannot create %s: folder %s is not writable", j->options->output, parent);
    else if (lb_path_exists(j->options->output))
        st = lb_fail(err, LB_EEXIST, "the output %s exists already; choose another name or delete it",
                     j->options->output);
    else
        st = lb_free_space(parent, &free_bytes, err);
    /* A little over the tensors' bytes: headers, configuration, tokenizer. */
    uint64_t wanted = j->size.all_bytes + j->size.all_bytes / 64 + (1 << 20);
    const uint64_t there = j->options->resume ? partial_bytes(j->options->output) : 0;
    wanted = wanted > there ? wanted - there : 0;
    if (st == LB_OK && free_bytes < wanted)
        st = lb_fail(err, LB_ENOSPC, "%s: the result takes %.1f MB, but only %.1f MB are free there", parent,
                     (double)wanted / 1e6, (double)free_bytes / 1e6);
    if (st == LB_OK)
        r->disk_free_bytes = free_bytes;
    lb_free(parent);
    return st;
}

static lb_status check_memory(const job *j, lb_quantize_result *r, lb_error *err)
{
    const size_t available = lb_available_memory_bytes();
    const lb_allocation *a = &j->recipe.allocation;
    r->memory_bytes =
        lb_pipeline_memory(&j->weights->config, &j->recipe, j->samples.count, j->samples.length);
    const size_t before = lb_sensitivity_bytes(&j->weights->config, &j->recipe, a->samples, a->seqlen);
    if (a->samples > 0 && before > r->memory_bytes)
        r->memory_bytes = before;
    if (a->samples > 0 && before > available)
        return lb_fail(
            err, LB_ENOMEM,
            "measuring sensitivities needs about %.0f MB of memory, but only %.0f MB are available; "
            "fewer or shorter --sensitivity-samples need less",
            (double)before / 1e6, (double)available / 1e6);
    if (r->memory_bytes > available)
        return lb_fail(err, LB_ENOMEM,
                       "quantizing needs about %.0f MB of memory, but only %.0f MB are available; "
                       "fewer --samples or a shorter --seqlen need less",
                       (double)r->memory_bytes / 1e6, (double)available / 1e6);
    return LB_OK;
}

static int add_to_text(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return ((lb_text *)text)->failed ? -1 : 0;
}

/* FNV-1a over 8 bytes at a time: as fast as the disk. */
static uint64_t hash(uint64_t h, const void *data, size_t bytes)
{
    const uint8_t *p = data;
    while (bytes > 0) {
        uint64_t word = 0;
        const size_t count = bytes < 8 ? bytes : 8;
        memcpy(&word, p, count);
        h = (h ^ word) * 0x100000001b3u;
        h ^= h >> 29; /* or a word's high bits would never reach the low ones */
        p += count;
        bytes -= count;
    }
    return h;
}

/* What an interrupted run is recognised by: the recipe, the samples, and the model, of which every
 * tensor's name, size and bytes count. */
static json_t *make_record(const job *j)
{
    const lb_tensor_set *set = &j->weights->checkpoint.tensors;
    const uint64_t basis = 0xcbf29ce484222325u;
    uint64_t model = basis;
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *t = &set->tensors[i];
        model = hash(model, t->name, strlen(t->name) + 1);
        model = hash(model, &t->bytes, sizeof t->bytes);
        model = hash(model, t->data, t->bytes);
        lb_tensor_forget(set, t);
    }
    const lb_samples *s = &j->samples, *a = &j->sensitivity_samples;
    uint64_t samples = hash(basis, s->ids, s->count * s->length * sizeof *s->ids);
    samples = hash(samples, a->ids, a->count * a->length * sizeof *a->ids);
    char model_text[32], samples_text[32];
    snprintf(model_text, sizeof model_text, "%016llx", (unsigned long long)model);
    snprintf(samples_text, sizeof samples_text, "%016llx", (unsigned long long)samples);
    return json_pack("{s:o, s:s, s:s, s:i}", "recipe", lb_recipe_json(&j->recipe), "model", model_text,
                     "calibration text", samples_text, "checkpoint format", LB_QUANTIZED_VERSION);
}

/* Every linear layer of every block, as planned. */
static lb_status describe_plan(const job *j, lb_quantize_result *r, lb_error *err)
{
    const lb_config *c = &j->weights->config;
    LB_TRY(lb_alloc_array(&r->layers, c->layers * LB_BLOCK_LINEARS, sizeof *r->layers, "report", err));
    r->layer_count = c->layers * LB_BLOCK_LINEARS;
    for (size_t i = 0; i < r->layer_count; i++) {
        lb_quantize_layer *to = &r->layers[i];
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        const lb_format *format = lb_recipe_layer(&j->recipe, i / LB_BLOCK_LINEARS, which);
        size_t rows, cols;
        lb_linear_shape(c, which, &rows, &cols);
        *to = (lb_quantize_layer){.relative_error = NAN};
        lb_linear_name(i / LB_BLOCK_LINEARS, which, to->name, sizeof to->name);
        snprintf(to->format, sizeof to->format, "%s", format->name);
        to->bits_per_weight =
            8.0 * (double)lb_format_tensor_bytes(format, rows, cols) / ((double)rows * (double)cols);
    }
    return LB_OK;
}

/* What the layers that an allocation decides on average. */
static double allocated_bits(const job *j)
{
    const lb_config *c = &j->weights->config;
    double bytes = 0.0, weights = 0.0;
    char name[128];
    for (size_t i = 0; i < c->layers * LB_BLOCK_LINEARS; i++) {
        size_t rows, cols;
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        lb_linear_name(i / LB_BLOCK_LINEARS, which, name, sizeof name);
        if (lb_recipe_format(&j->recipe, name, NULL, NULL))
            continue;
        lb_linear_shape(c, which, &rows, &cols);
        bytes += (double)lb_format_tensor_bytes(&j->plan.formats[i], rows, cols);
        weights += (double)rows * (double)cols;
    }
    return 8.0 * bytes / weights;
}

/* What the allocation went by. */
static lb_status describe_allocation(job *j, lb_quantize_result *r, lb_error *err)
{
    const lb_allocation *a = &j->recipe.allocation;
    if (a->how == LB_ALLOCATE_NONE)
        return LB_OK;
    LB_TRY(lb_alloc_array(&r->candidates, a->candidate_count, sizeof *r->candidates, "report", err));
    for (size_t k = 0; k < a->candidate_count; k++)
        snprintf(r->candidates[k].name, sizeof r->candidates[k].name, "%s", a->candidates[k].name);
    r->candidate_count = a->candidate_count;
    r->allocated_bits_per_weight = allocated_bits(j);
    r->seconds_allocate = j->plan.seconds;
    r->sensitivities = j->plan.scores;
    j->plan.scores = NULL;
    return LB_OK;
}

static lb_status choose_plan(job *j, lb_error *err)
{
    if (j->recipe.allocation.how == LB_ALLOCATE_NONE)
        return LB_OK;
    const lb_sensitivity sensitivity = {.kernels = j->kernels,
                                        .weights = j->weights,
                                        .recipe = &j->recipe,
                                        .samples = &j->sensitivity_samples,
                                        .progress = &j->options->progress};
    LB_TRY(lb_plan_choose(&sensitivity, j->dir, &j->plan, err));
    return lb_quantized_size(j->weights, &j->recipe, &j->size, err);
}

static lb_status work(job *j, lb_quantize_result *r, lb_error *err)
{
    const size_t blocks = j->weights->config.layers;
    lb_block_report *reports = NULL;
    lb_layer *layers = NULL;
    lb_stage_times times;
    lb_polish_report polished;
    lb_status st = LB_OK;
    json_t *record = make_record(j);
    if (!record) {
        st = lb_fail(err, LB_ENOMEM, "no memory to describe the run");
        goto done;
    }
    LB_GO(lb_alloc_array(&layers, blocks * LB_BLOCK_LINEARS, sizeof *layers, "layers", err));
    LB_GO(lb_alloc_array(&reports, blocks, sizeof *reports, "report", err));
    LB_GO(lb_alloc_array(&r->block_errors, blocks, sizeof *r->block_errors, "report", err));
    LB_GO(lb_quantized_dir_open(j->options->output, j->weights, &j->recipe, record, j->options->resume,
                                &j->dir, err));
    r->resumed_blocks = lb_quantized_dir_done(j->dir);
    LB_GO(choose_plan(j, err));
    LB_GO(describe_plan(j, r, err));
    LB_GO(describe_allocation(j, r, err)); /* before the work, as print_recipe */
    lb_pipeline pipeline = {.weights = j->weights,
                            .recipe = &j->recipe,
                            .samples = &j->samples,
                            .kernels = j->kernels,
                            .sink = lb_quantized_dir_sink(j->dir),
                            .progress = j->options->progress};
    LB_GO(lb_pipeline_run(&pipeline, layers, reports, &polished, &times, err));
    const double start = lb_now();
    LB_GO(lb_quantized_dir_finish(j->dir, &r->file_bytes, err));
    r->seconds_load = times.load;
    r->seconds_capture = times.capture;
    r->seconds_hessian = times.hessian;
    r->seconds_solve = times.solve;
    r->seconds_tune = times.tune;
    r->seconds_polish = times.polish;
    r->kl_before_polish = polished.before;
    r->kl_after_polish = polished.after;
    r->seconds_write = times.write + lb_now() - start;
    r->block_count = blocks;
    for (size_t i = 0; i < blocks; i++)
        r->block_errors[i] = reports[i].output_error;
    for (size_t i = 0; i < r->layer_count; i++)
        r->layers[i].relative_error = layers[i].relative_error;
done:
    json_decref(record);
    lb_free(layers);
    lb_free(reports);
    return st;
}

/* Before the work: nothing of a report may fail once the result has its name. */
static lb_status print_recipe(const job *j, lb_quantize_result *r, lb_error *err)
{
    json_t *recipe = lb_recipe_json(&j->recipe);
    lb_text text = {0};
    const int failed =
        !recipe || json_dump_callback(recipe, add_to_text, &text,
                                      JSON_SORT_KEYS | JSON_COMPACT | JSON_REAL_PRECISION(12)) != 0;
    json_decref(recipe);
    r->recipe = text.data;
    return failed || text.failed ? lb_fail(err, LB_ENOMEM, "no memory to describe the recipe") : LB_OK;
}

static void summarize(const job *j, lb_quantize_result *r)
{
    r->weights = j->size.all_weights;
    r->bytes = j->size.all_bytes;
    r->quantized_weights = j->size.quantized_weights;
    r->quantized_bytes = j->size.quantized_bytes;
    r->bits_per_weight = 8.0 * (double)r->bytes / (double)r->weights;
    if (r->quantized_weights > 0)
        r->quantized_bits_per_weight = 8.0 * (double)r->quantized_bytes / (double)r->quantized_weights;
    r->samples = j->samples.count;
    r->seqlen = j->samples.length;
    r->peak_rss_bytes = lb_peak_rss_bytes();
}

lb_status lb_quantize(const lb_quantize_options *options, lb_quantize_result *result, lb_error *err)
{
    lb_quantize_options o;
    job j = {.options = &o};
    lb_quantize_result r = {.kl_before_polish = NAN, .kl_after_polish = NAN};
    lb_status st = LB_OK;
    const double start = lb_now();
    lb_quantize_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_quantize_options", err));
    LB_GO(make_recipe(&o, &j.recipe, err));
    LB_GO(lb_kernels_choose(o.cpu, &j.kernels, err));
    LB_GO(lb_weights_open(o.model, &j.weights, err));
    LB_GO(lb_transform_resolve(&j.recipe.transform, &j.recipe.format, &j.weights->config, err));
    LB_GO(lb_act_check(&j.recipe.act, &j.recipe.transform, &j.weights->config, err));
    if (j.recipe.allocation.how != LB_ALLOCATE_NONE) {
        LB_GO(lb_plan_begin(&j.weights->config, &j.recipe, &j.plan, err));
        j.recipe.plan = j.plan.formats;
    }
    LB_GO(lb_quantized_size(j.weights, &j.recipe, &j.size, err));
    LB_GO(check_formats(&j, err));
    LB_GO(check_polish(&j, err));
    LB_GO(check_output(&j, &r, err));
    LB_GO(check_tokenizer(&j, err));
    LB_GO(make_samples(&j, err));
    LB_GO(check_polish_samples(&j, err));
    LB_GO(check_memory(&j, &r, err));
    LB_GO(lb_check_values(j.weights, &j.recipe, &o.progress, err));
    LB_GO(print_recipe(&j, &r, err));
    if (o.dry_run) {
        LB_GO(choose_plan(&j, err));
        LB_GO(describe_plan(&j, &r, err));
        LB_GO(describe_allocation(&j, &r, err));
    } else {
        LB_GO(work(&j, &r, err));
    }
    summarize(&j, &r);
    r.seconds = lb_now() - start;
    *result = r;
    r = (lb_quantize_result){0};
done:
    lb_quantize_result_free(&r);
    lb_quantized_dir_close(j.dir);
    lb_plan_free(&j.plan);
    lb_samples_free(&j.samples);
    lb_samples_free(&j.sensitivity_samples);
    lb_tokenizer_destroy(j.tokenizer);
    lb_weights_close(j.weights);
    return st;
}

void lb_quantize_result_free(lb_quantize_result *result)
{
    lb_free(result->recipe);
    lb_free(result->layers);
    lb_free(result->block_errors);
    lb_free(result->candidates);
    lb_free(result->sensitivities);
    *result = (lb_quantize_result){0};
}
