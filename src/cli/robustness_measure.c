/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "cli/robustness_measure.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "analyze/weight_norms.h"
#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "base/thread.h"
#include "cli/output.h"
#include "lowbit/train.h"

enum { NORM_GROUP = 128, MAX_RESULT_BYTES = 256 << 20, NAME_BYTES = 64 };
static const char RESULTS[] = "results.json";

/* ---- results.json ---------------------------------------------------------------------------------------- */

static json_t *score_json(const lb_robust_score *s)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "loss", lb_json_number(s->loss), "error",
                     lb_json_number(s->error), "kl_mean", lb_json_number(s->kl), "kl_stderr",
                     lb_json_number(s->kl_stderr), "bits_per_weight", lb_json_number(s->bits));
}

static json_t *row_json(const lb_robust_study *study, size_t index)
{
    const lb_robust_point *p = &study->points.points[index];
    const lb_robust_row *r = &study->rows[index];
    json_t *quantized = json_object();
    int failed = 0;
    for (size_t f = 0; f < study->format_count; f++)
        failed |= json_object_set_new(quantized, study->formats[f], score_json(&r->scores[f]));
    if (failed) {
        json_decref(quantized);
        return NULL;
    }
    return json_pack("{s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:o}", "model",
                     lb_json_text(p->model), "run", lb_json_text(study->points.runs[p->run].name), "average",
                     p->average ? lb_json_text(p->average) : json_null(), "step", (json_int_t)p->step,
                     "tokens", (json_int_t)p->tokens, "learning_rate", lb_json_number(p->rate), "train_loss",
                     lb_json_number(p->train_loss), "loss", lb_json_number(r->loss), "weight_norm",
                     lb_json_number(r->norm), "crest", lb_json_number(r->crest), "quantized", quantized);
}

json_t *lb_robust_json(const lb_robust_study *study)
{
    json_t *rows = json_array();
    int failed = rows == NULL;
    for (size_t i = 0; i < study->points.count; i++)
        if (study->rows[i].done)
            failed |= json_array_append_new(rows, row_json(study, i));
    if (failed) {
        json_decref(rows);
        return NULL;
    }
    return json_pack("{s:i, s:O, s:o}", "version", 1, "settings", study->settings, "rows", rows);
}

static lb_status save_results(const lb_robust_study *study, lb_error *err)
{
    char *path = lb_path_join(study->output, RESULTS);
    json_t *results = lb_robust_json(study);
    const lb_status st =
        path && results ? lb_json_save(path, results, err) : lb_fail(err, LB_ENOMEM, "no memory for results");
    json_decref(results);
    lb_free(path);
    return st;
}

/* The row that `entry` is about, or NULL: it may be of a run that is not asked for this time. */
static lb_robust_row *find_row(lb_robust_study *study, const json_t *entry)
{
    const char *model = json_string_value(json_object_get(entry, "model"));
    const char *average = json_string_value(json_object_get(entry, "average"));
    for (size_t i = 0; model && i < study->points.count; i++) {
        const lb_robust_point *p = &study->points.points[i];
        const bool same_average = p->average ? average && strcmp(p->average, average) == 0 : average == NULL;
        if (same_average && strcmp(p->model, model) == 0)
            return &study->rows[i];
    }
    return NULL;
}

/* null is what a number that is not finite was written as; anything else clears *whole. */
static double number(const json_t *object, const char *key, bool *whole)
{
    const json_t *value = json_object_get(object, key);
    *whole = *whole && (json_is_number(value) || json_is_null(value));
    return json_is_number(value) ? json_number_value(value) : NAN;
}

static bool same(double a, double b)
{
    return a == b || (isnan(a) && isnan(b));
}

/* Whether a row is about this very checkpoint: a run that was trained anew in the same folder has another past. */
static bool is_of(const lb_robust_point *point, const json_t *entry)
{
    bool whole = true;
    const double rate = number(entry, "learning_rate", &whole), loss = number(entry, "train_loss", &whole);
    return whole && same(rate, point->rate) && same(loss, point->train_loss);
}

/* A row that lacks something, or is of another run, is measured again. */
static void read_row(const lb_robust_study *study, const lb_robust_point *point, const json_t *entry,
                     lb_robust_row *row)
{
    const json_t *quantized = json_object_get(entry, "quantized");
    bool whole = is_of(point, entry);
    *row = (lb_robust_row){.loss = number(entry, "loss", &whole),
                           .norm = number(entry, "weight_norm", &whole),
                           .crest = number(entry, "crest", &whole)};
    for (size_t f = 0; f < study->format_count; f++) {
        const json_t *s = json_object_get(quantized, study->formats[f]);
        row->scores[f] = (lb_robust_score){.loss = number(s, "loss", &whole),
                                           .error = number(s, "error", &whole),
                                           .kl = number(s, "kl_mean", &whole),
                                           .kl_stderr = number(s, "kl_stderr", &whole),
                                           .bits = number(s, "bits_per_weight", &whole)};
    }
    row->done = whole;
}

lb_status lb_robust_take_over(lb_robust_study *study, lb_error *err)
{
    char *path = lb_path_join(study->output, RESULTS);
    json_t *results = NULL;
    size_t i;
    const json_t *entry;
    lb_status st = path ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for results");
    if (st == LB_OK)
        st = lb_json_load(path, MAX_RESULT_BYTES, &results, err);
    if (st == LB_OK && !json_equal(json_object_get(results, "settings"), study->settings))
        st = lb_fail(
            err, LB_EINVAL,
            "%s was made with other settings (text, formats or recipe); give the same, or another -o", path);
    json_array_foreach(json_object_get(results, "rows"), i, entry)
    {
        lb_robust_row *row = st == LB_OK ? find_row(study, entry) : NULL;
        if (row) {
            read_row(study, &study->points.points[row - study->rows], entry, row);
            study->taken_over += row->done;
        }
    }
    json_decref(results);
    lb_free(path);
    return st;
}

/* ---- One point ------------------------------------------------------------------------------------------- */

/* What the workers share. */
typedef struct shared {
    lb_robust_study *study;
    const lb_progress *progress;
    const size_t *pending; /* indices of points */
    pthread_mutex_t lock; /* guards everything that follows, and done rows of the study */
    size_t done;
    lb_status st;
    lb_error err;
} shared;

/* What the library asks while it works on one of several points. */
static int ask(void *user, const char *stage, size_t done, size_t total)
{
    shared *s = user;
    (void)stage;
    (void)done;
    (void)total;
    pthread_mutex_lock(&s->lock);
    if (s->st == LB_OK)
        s->st = lb_progress_tell(s->progress, "checkpoints", 0, 0, &s->err);
    const bool stop = s->st != LB_OK;
    pthread_mutex_unlock(&s->lock);
    return stop;
}

static lb_status measure_norms(const char *model, lb_robust_row *row, lb_error *err)
{
    lb_weights *weights = NULL;
    lb_weight_norms norms = {0};
    LB_TRY(lb_weights_open(model, &weights, err));
    const lb_status st = lb_weight_norms_measure(weights, NORM_GROUP, &norms, err);
    lb_weights_close(weights);
    row->norm = norms.norm;
    row->crest = norms.crest;
    return st;
}

/* The options for one format; study->recipe has no model yet. */
static lb_quantize_options options_for(const lb_robust_study *study, size_t format, const char *model)
{
    lb_quantize_options o = study->recipe;
    o.model = model;
    o.cpu = study->cpu;
    if (!study->allocates)
        o.format = study->formats[format];
    return o;
}

static lb_status score_format(shared *s, size_t format, const char *model, const char *folder,
                              lb_robust_row *row, lb_error *err)
{
    const lb_robust_study *study = s->study;
    lb_quantize_options o = options_for(study, format, model);
    lb_quantize_result q;
    lb_eval_options e;
    lb_eval_result r;
    o.output = folder;
    o.progress = (lb_progress){.fn = ask, .user = s};
    LB_TRY(lb_quantize(&o, &q, err));
    row->scores[format].bits = q.quantized_bits_per_weight;
    lb_quantize_result_free(&q);
    lb_eval_options_init(&e);
    e.model = folder;
    e.against = model;
    e.text = study->text;
    e.ctx = study->ctx;
    e.tokens = study->tokens;
    e.cpu = study->cpu;
    e.progress = o.progress;
    LB_TRY(lb_evaluate(&e, &r, err));
    lb_robust_score *score = &row->scores[format];
    row->loss = r.reference.nll_mean;
    score->loss = r.model.nll_mean;
    score->error = r.model.nll_mean / r.reference.nll_mean - 1.0;
    score->kl = r.kl_mean;
    score->kl_stderr = r.kl_stderr;
    return LB_OK;
}

/* Of a point's work nothing stays but its row. */
static void remove_folder(const char *path)
{
    lb_text partial = {0};
    if (lb_path_exists(path))
        (void)lb_remove_directory(path, NULL);
    lb_text_add_format(&partial, "%s.partial", path);
    if (!partial.failed && lb_path_exists(partial.data))
        (void)lb_remove_directory(partial.data, NULL);
    lb_text_free(&partial);
}

static lb_status make_average(const lb_robust_study *study, const lb_robust_point *p, const char *folder,
                              const lb_progress *progress, lb_error *err)
{
    const char *run = study->points.runs[p->run].path;
    lb_average_named a;
    lb_average_options o;
    LB_TRY(lb_average_parse(p->average, &a, err));
    lb_average_options_init(&o);
    o.models = &run;
    o.model_count = 1;
    o.output = folder;
    o.until = p->step;
    o.progress = *progress;
    lb_average_choose(&a, &o);
    return lb_average(&o, NULL, err);
}

static lb_status measure_point(shared *s, size_t index, lb_robust_row *out, lb_error *err)
{
    const lb_robust_study *study = s->study;
    const lb_robust_point *p = &study->points.points[index];
    const lb_progress progress = {.fn = ask, .user = s};
    char name[NAME_BYTES];
    lb_robust_row row = {0};
    lb_status st = LB_OK;
    snprintf(name, sizeof name, "work-%zu-average", index);
    char *average = lb_path_join(study->output, name);
    snprintf(name, sizeof name, "work-%zu-quantized", index);
    char *quantized = lb_path_join(study->output, name);
    if (!average || !quantized) {
        st = lb_fail(err, LB_ENOMEM, "no memory for names");
        goto done;
    }
    remove_folder(average); /* of a process that was killed */
    remove_folder(quantized);
    if (p->average)
        LB_GO(make_average(study, p, average, &progress, err));
    const char *model = p->average ? average : p->model;
    LB_GO(measure_norms(model, &row, err));
    for (size_t f = 0; f < study->format_count; f++) {
        LB_GO(score_format(s, f, model, quantized, &row, err));
        remove_folder(quantized);
    }
    row.done = true;
    *out = row;
done:
    if (average && quantized) {
        remove_folder(average);
        remove_folder(quantized);
    }
    lb_free(average);
    lb_free(quantized);
    return st == LB_OK || st == LB_ECANCELED ? st : lb_fail_at(err, st, "%s", p->model);
}

/* ---- All points ------------------------------------------------------------------------------------------ */

static void work(void *arg, size_t begin, size_t end)
{
    shared *s = arg;
    for (size_t i = begin; i < end; i++) {
        lb_error err;
        pthread_mutex_lock(&s->lock);
        const bool stop = s->st != LB_OK;
        pthread_mutex_unlock(&s->lock);
        if (stop)
            return;
        lb_robust_row row;
        const lb_status st = measure_point(s, s->pending[i], &row, &err);
        pthread_mutex_lock(&s->lock);
        if (st == LB_OK) {
            s->study->rows[s->pending[i]] = row;
            s->done++;
        }
        if (s->st == LB_OK && st != LB_OK) {
            s->st = st;
            s->err = err;
        }
        if (s->st == LB_OK)
            s->st = save_results(s->study, &s->err);
        if (s->st == LB_OK)
            s->st = lb_progress_tell(s->progress, "checkpoints", s->study->taken_over + s->done,
                                     s->study->points.count, &s->err);
        pthread_mutex_unlock(&s->lock);
    }
}

lb_status lb_robust_measure(lb_robust_study *study, const lb_progress *progress, lb_error *err)
{
    size_t *pending, count = 0;
    LB_TRY(lb_alloc_array(&pending, study->points.count, sizeof *pending, "list of work", err));
    for (size_t i = 0; i < study->points.count; i++)
        if (!study->rows[i].done)
            pending[count++] = i;
    shared s = {.study = study, .progress = progress, .pending = pending, .lock = PTHREAD_MUTEX_INITIALIZER};
    s.st = save_results(study, &s.err); /* whether there is room is known at once */
    if (s.st == LB_OK)
        s.st = lb_progress_tell(progress, "checkpoints", study->taken_over, study->points.count, &s.err);
    if (s.st == LB_OK)
        lb_parallel_for(count, 1, work, &s);
    lb_free(pending);
    pthread_mutex_destroy(&s.lock);
    if (s.st != LB_OK && err)
        *err = s.err;
    return s.st;
}

/* ---- Before ---------------------------------------------------------------------------------------------- */

static lb_status check_text(const lb_robust_study *study, const char *model, lb_error *err)
{
    lb_eval_options e;
    lb_eval_result ignored;
    lb_eval_options_init(&e);
    e.model = model;
    e.text = study->text;
    e.ctx = study->ctx;
    e.tokens = study->tokens;
    e.dry_run = true;
    return lb_evaluate(&e, &ignored, err);
}

lb_status lb_robust_check(lb_robust_study *study, lb_error *err)
{
    const char *model = study->points.points[0].model;
    json_t *recipes = json_object();
    lb_mapping text = {0};
    lb_status st =
        recipes ? check_text(study, model, err) : lb_fail(err, LB_ENOMEM, "no memory for settings");
    for (size_t f = 0; st == LB_OK && f < study->format_count; f++) {
        lb_quantize_options o = options_for(study, f, model);
        lb_quantize_result r;
        json_t *recipe = NULL;
        o.dry_run = true;
        LB_GO(lb_quantize(&o, &r, err));
        st = lb_json_parse(r.recipe, strlen(r.recipe), "recipe", &recipe, err);
        lb_quantize_result_free(&r);
        if (st == LB_OK && json_object_set_new(recipes, study->formats[f], recipe) != 0)
            st = lb_fail(err, LB_ENOMEM, "no memory for settings");
    }
    if (st == LB_OK)
        st = lb_map_open(study->text, &text, err);
    if (st == LB_OK) {
        study->settings = json_pack("{s:o, s:I, s:I, s:I, s:O}", "text", lb_json_text(study->text),
                                    "text_bytes", (json_int_t)text.size, "ctx", (json_int_t)study->ctx,
                                    "tokens", (json_int_t)study->tokens, "recipes", recipes);
        st = study->settings ? LB_OK : lb_fail(err, LB_ENOMEM, "no memory for settings");
    }
done:
    if (text.data)
        lb_map_close(&text);
    json_decref(recipes);
    return st;
}
