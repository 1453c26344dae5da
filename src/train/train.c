/* SPDX-License-Identifier: MIT
 * lb_train: opens or makes a run, and takes its steps. */
#define _GNU_SOURCE
#include "lowbit/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/options.h"
#include "train/bpe_train.h"
#include "train/model_folder.h"
#include "train/optimizer.h"
#include "train/run_average.h"
#include "train/run_folder.h"
#include "train/train_log.h"
#include "train/train_settings.h"
#include "train/training_pass.h"
#include "train/window_order.h"

enum { MAX_RECORD_BYTES = 64 << 20, DEFAULT_SAMPLE_BYTES = 32 << 20 };

typedef struct trainer {
    lb_train_options o; /* resolved */
    json_t *record; /* run.json of a resumed run */
    json_t *parent; /* run.json of the run that this one branches off */
    char *parent_data; /* the folder of its tokens */
    json_t *config_json;
    lb_config config;
    lb_format format; /* of low-bit training */
    const lb_kernels *kernels;
    lb_corpus corpus;
    lb_parameters parameters;
    lb_train_state state;
    lb_schedule schedule;
    lb_average_named average; /* where the options name one */
    lb_window_order order;
    lb_optimizer optimizer;
    lb_training_pass pass;
    lb_low_bit low_bit;
    lb_train_log log;
    float *grads;
    uint32_t *ids, *targets; /* of micro_tokens */
    int lock;
    bool made, made_data; /* the folder is new, the tokens in it are */
    char *data, *from; /* those of the options, from the root: a run may be resumed from anywhere */
    /* This process's part of the run. */
    double began;
    uint64_t began_step;
    double grad_norm, rate;
    char last[64]; /* name of the last checkpoint */
    lb_train_row row;
} trainer;

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "training: no memory");
}

static void trainer_free(trainer *t)
{
    lb_training_pass_free(&t->pass);
    lb_low_bit_free(&t->low_bit);
    lb_optimizer_free(&t->optimizer);
    lb_window_order_free(&t->order);
    lb_train_state_free(&t->state);
    lb_parameters_free(&t->parameters);
    lb_corpus_close(&t->corpus);
    lb_train_log_free(&t->log);
    lb_free(t->grads);
    lb_free(t->ids);
    lb_free(t->targets);
    json_decref(t->record);
    json_decref(t->parent);
    lb_free(t->parent_data);
    lb_free(t->data);
    lb_free(t->from);
    json_decref(t->config_json);
    if (t->lock >= 0)
        lb_unlock_directory(t->lock);
}

/* ---- Opening -------------------------------------------------------------------------------------------- */

/* The run's folder: made, or of a resumed run read. */
static lb_status open_folder(trainer *t, lb_error *err)
{
    const char *run = t->o.output;
    char *path = lb_path_join(run, LB_RUN_NAME);
    if (!path)
        return no_memory(err);
    const bool there = lb_path_exists(path);
    lb_status st = LB_OK;
    if (t->o.resume && !there)
        st = lb_fail(err, LB_EINVAL, "cannot resume %s: there is no run.json in it", run);
    else if (!t->o.resume && there)
        st = lb_fail(err, LB_EEXIST,
                     "%s is a run already; add --resume to go on with it, or choose another folder", run);
    else if (!lb_path_exists(run)) {
        st = lb_make_directory(run, err);
        t->made = st == LB_OK;
    }
    if (st == LB_OK)
        st = lb_lock_directory(run, &t->lock, err);
    if (st == LB_OK && t->o.resume)
        st = lb_json_load(path, MAX_RECORD_BYTES, &t->record, err);
    lb_free(path);
    return st;
}

/* A branch is as the run that it branches off, where it is not told otherwise. A checkpoint that stands alone has no
 * run to follow. */
static lb_status follow_parent(trainer *t, lb_error *err)
{
    lb_train_options *o = &t->o;
    char *run = lb_path_parent(o->from), *path = run ? lb_path_join(run, LB_RUN_NAME) : NULL;
    lb_status st = path ? LB_OK : no_memory(err);
    if (st == LB_OK && lb_path_exists(path)) {
        const bool data_given = o->data || o->text_count > 0;
        const char *data = o->data;
        LB_GO(lb_json_load(path, MAX_RECORD_BYTES, &t->parent, err));
        LB_GO(lb_train_settings_inherit(o, json_object_get(t->parent, "settings"), err));
        if (data_given) {
            o->data = data;
        } else if (!o->data) {
            t->parent_data = lb_path_join(run, "data");
            st = t->parent_data ? LB_OK : no_memory(err);
            o->data = t->parent_data;
        }
    }
done:
    lb_free(run);
    lb_free(path);
    return st;
}

/* The tokens: of the folder `data`, made where there is none. */
static lb_status open_corpus(trainer *t, lb_error *err)
{
    const lb_train_options *o = &t->o;
    const lb_corpus_source source = {.texts = o->texts,
                                     .text_count = o->text_count,
                                     .valid = o->valid,
                                     .tokenizer = o->tokenizer,
                                     .vocab = t->config.vocab,
                                     .sample_bytes =
                                         o->sample_bytes ? o->sample_bytes : DEFAULT_SAMPLE_BYTES};
    char *folder = o->data ? lb_strdup(o->data) : lb_path_join(o->output, "data");
    lb_status st = folder ? LB_OK : no_memory(err);
    if (st == LB_OK && !lb_path_exists(folder)) {
        st = o->text_count ? lb_corpus_make(folder, &source, &o->progress, err)
                           : lb_fail(err, LB_EINVAL,
                                     "training: no text is given, and %s is not there; --data says where the "
                                     "tokens are",
                                     folder);
        t->made_data = st == LB_OK && !o->data;
    }
    if (st == LB_OK)
        st = lb_corpus_open(folder, &t->corpus, err);
    if (st == LB_OK)
        st = lb_corpus_check(&t->corpus, &source, folder, err);
    if (st == LB_OK && t->corpus.vocab > t->config.vocab)
        st = lb_fail(err, LB_EINVAL, "%s: its tokenizer has %zu tokens, the model a vocabulary of %zu",
                     folder, t->corpus.vocab, t->config.vocab);
    if (st == LB_OK && o->valid && t->corpus.valid.view.count <= o->length)
        st = lb_fail(err, LB_EINVAL, "%s: %zu tokens of held-out text, want more than a sequence of %zu",
                     o->valid, t->corpus.valid.view.count, o->length);
    lb_free(folder);
    return st;
}

/* run.json: settings, model, and what it is trained on. */
static lb_status save_record(const trainer *t, lb_error *err)
{
    json_t *settings = lb_train_settings_json(&t->o);
    json_t *record = settings ? json_pack("{s:i, s:O, s:O, s:O}", "version", 1, "settings", settings, "model",
                                          t->config_json, "corpus", t->corpus.about)
                              : NULL;
    char *path = lb_path_join(t->o.output, LB_RUN_NAME);
    const lb_status st = record && path ? lb_json_save(path, record, err) : no_memory(err);
    lb_free(path);
    json_decref(record);
    json_decref(settings);
    return st;
}

/* The model: of the record, which what is given must agree with; of the checkpoint that the run begins from; or new. */
static lb_status find_config(trainer *t, lb_error *err)
{
    json_t *before = json_object_get(t->record, "model"), *loaded = NULL;
    const lb_train_options *o = &t->o;
    const bool given =
        o->config || o->hidden || o->layers || o->heads || o->kv_heads || o->ffn || o->vocab || o->untied;
    if (!before && o->from && !given) {
        char *path = lb_path_join(o->from, "config.json");
        const lb_status st = path ? lb_json_load(path, MAX_RECORD_BYTES, &loaded, err) : no_memory(err);
        lb_free(path);
        LB_TRY(st);
        before = loaded;
    }
    if (!before || given) {
        LB_TRY(lb_train_config(o, &t->config_json, &t->config, err));
        if (before && !json_equal(before, t->config_json))
            return lb_fail(err, LB_EINVAL, "cannot resume %s with another model than it has", o->output);
        return LB_OK;
    }
    t->config_json = loaded ? loaded : json_incref(before);
    return lb_config_read(t->config_json, "the run's model", &t->config, err);
}

/* A resumed run may be longer or end otherwise, but not have begun otherwise. */
static lb_status check_schedule(const trainer *t, uint64_t step, lb_error *err)
{
    lb_train_options before;
    lb_schedule old;
    if (!t->record)
        return LB_OK;
    lb_train_options_init(&before);
    before.output = t->o.output;
    LB_TRY(lb_train_settings_resolve(&before, json_object_get(t->record, "settings"), err));
    LB_TRY(lb_train_schedule(&before, &old, err));
    const uint64_t longest = old.steps > t->schedule.steps ? old.steps : t->schedule.steps;
    for (uint64_t s = 1; s <= step && s <= longest + 1; s++) /* after both ends no rate changes any more */
        if (lb_schedule_rate(&old, s) != lb_schedule_rate(&t->schedule, s))
            return lb_fail(err, LB_EINVAL,
                           "cannot resume %s so: at step %" PRIu64
                           " it had another learning rate than this schedule of %" PRIu64 " steps",
                           t->o.output, s, t->schedule.steps);
    return LB_OK;
}

/* A branch that has nothing to do is a mistake in its flags. */
static lb_status check_end(const trainer *t, lb_error *err)
{
    const uint64_t step = t->state.position.step;
    if (step < t->schedule.steps || (t->o.resume && step == t->schedule.steps))
        return LB_OK;
    if (t->o.resume)
        return lb_fail(err, LB_EINVAL,
                       "%s is at step %" PRIu64 ", and %" PRIu64 " tokens are %" PRIu64
                       " steps of %zu: a run cannot be "
                       "made shorter than it is",
                       t->o.output, step, t->o.tokens, t->schedule.steps, t->o.batch_tokens);
    return lb_fail(err, LB_EINVAL,
                   "%s is at step %" PRIu64 ", and %" PRIu64 " tokens are %" PRIu64
                   " steps of %zu: nothing is left to train; give more --tokens",
                   t->o.from, step, t->o.tokens, t->schedule.steps, t->o.batch_tokens);
}

static lb_status read_state(trainer *t, const char *folder, lb_error *err)
{
    char *path = lb_path_join(folder, LB_STATE_NAME);
    const lb_status st = path ? lb_train_state_read(path, &t->parameters, &t->state, err) : no_memory(err);
    lb_free(path);
    return st;
}

/* The state of the run's latest checkpoint; the weights of a new one. */
static lb_status find_state(trainer *t, lb_error *err)
{
    lb_run_steps steps = {0}, all = {0};
    char name[LB_STEP_NAME_BYTES];
    lb_status st = LB_OK;
    lb_parameters_init(&t->parameters, t->o.init_std, t->o.seed, t->state.weights);
    if (!t->o.resume)
        return t->o.from ? read_state(t, t->o.from, err) : LB_OK;
    char *stopped = lb_run_path(t->o.output, LB_INTERRUPTED_NAME, LB_STATE_NAME);
    if (!stopped)
        return no_memory(err);
    LB_GO(lb_run_steps_list(t->o.output, true, &steps, err));
    if (lb_path_exists(stopped)) {
        LB_GO(lb_train_state_read(stopped, &t->parameters, &t->state, err));
        snprintf(t->last, sizeof t->last, "%s", LB_INTERRUPTED_NAME);
    }
    if (steps.count > 0 && steps.steps[steps.count - 1] >= t->state.position.step) {
        lb_step_name(steps.steps[steps.count - 1], name);
        char *folder = lb_path_join(t->o.output, name);
        st = folder ? read_state(t, folder, err) : no_memory(err);
        lb_free(folder);
        snprintf(t->last, sizeof t->last, "%s", name);
    } else if (t->state.position.step == 0 && t->o.from) {
        st = read_state(t, t->o.from, err);
    }
    LB_GO(st);
    LB_GO(lb_run_steps_list(t->o.output, false, &all, err));
    if (all.count > 0 && all.steps[all.count - 1] > t->state.position.step) {
        lb_step_name(all.steps[all.count - 1], name);
        st = lb_fail(err, LB_EINVAL, "cannot resume %s: its last checkpoint, %s, has no %s", t->o.output,
                     name, LB_STATE_NAME);
    }
done:
    lb_free(stopped);
    lb_run_steps_free(&steps);
    lb_run_steps_free(&all);
    return st;
}

/* Weights, gradients, two moments, and the pass. */
static lb_status check_memory(const trainer *t, lb_error *err)
{
    const size_t needed = 4 * sizeof(float) * t->parameters.floats +
                          lb_training_pass_bytes(&t->parameters, t->o.micro_tokens, t->o.length);
    const size_t there = lb_available_memory_bytes();
    if (needed <= there)
        return LB_OK;
    return lb_fail(
        err, LB_ENOMEM,
        "training %zu parameters takes %zu MB with %zu tokens at once, and %zu MB can be had; try fewer "
        "(--micro), or a smaller model",
        t->parameters.weights, needed >> 20, t->o.micro_tokens, there >> 20);
}

static lb_status make_room(trainer *t, lb_error *err)
{
    const lb_train_options *o = &t->o;
    LB_TRY(lb_parameters_create(&t->config, &t->parameters, err));
    LB_TRY(check_memory(t, err));
    LB_TRY(lb_train_state_create(&t->parameters, &t->state, err));
    LB_TRY(lb_window_order_create(&t->corpus, o->length, o->seed, &t->order, err));
    LB_TRY(lb_optimizer_create(t->kernels, &t->parameters, o->decay_all, &t->optimizer, err));
    t->optimizer.beta1 = o->beta1;
    t->optimizer.beta2 = o->beta2;
    t->optimizer.eps = o->eps;
    t->optimizer.weight_decay = o->weight_decay;
    t->optimizer.clip = o->clip;
    LB_TRY(lb_alloc_array(&t->grads, t->parameters.floats, sizeof *t->grads, "gradients", err));
    LB_TRY(lb_alloc_array(&t->ids, o->micro_tokens, sizeof *t->ids, "tokens", err));
    LB_TRY(lb_alloc_array(&t->targets, o->micro_tokens, sizeof *t->targets, "tokens", err));
    LB_TRY(lb_training_pass_create(t->kernels, &t->parameters, t->state.weights, t->grads, o->micro_tokens,
                                   o->length, &t->pass, err));
    t->pass.z_weight = (float)o->z_loss;
    if (o->low_bit) {
        LB_TRY(lb_low_bit_create(&t->format, &t->config, o->micro_tokens, o->length, &t->low_bit, err));
        t->pass.low_bit = &t->low_bit;
    }
    return LB_OK;
}

/* What run.json keeps of paths. */
static lb_status keep_paths(trainer *t, lb_error *err)
{
    t->data = t->o.data ? lb_path_absolute(t->o.data) : NULL;
    t->from = t->o.from ? lb_path_absolute(t->o.from) : NULL;
    if (t->o.data && !t->data)
        return no_memory(err);
    t->o.data = t->data;
    t->o.from = t->from ? t->from : t->o.from; /* a resumed run can do without what it began from */
    return LB_OK;
}

static lb_status check_average(trainer *t, lb_error *err)
{
    const lb_run_plan plan = {.run = t->o.output,
                              .step = t->state.position.step,
                              .last = t->schedule.steps,
                              .save_every = t->o.save_every};
    return t->o.average ? lb_run_average_check(&t->average, &plan, err) : LB_OK;
}

static lb_status open_run(trainer *t, lb_error *err)
{
    LB_TRY(lb_kernels_choose(t->o.cpu, &t->kernels, err));
    if (t->o.resume)
        LB_TRY(open_folder(t, err));
    else if (t->o.from)
        LB_TRY(follow_parent(t, err));
    LB_TRY(lb_train_settings_resolve(&t->o, json_object_get(t->record, "settings"), err));
    if (t->o.average)
        LB_TRY(lb_average_parse(t->o.average, &t->average, err));
    if (t->o.low_bit)
        LB_TRY(lb_format_parse(t->o.low_bit, &t->format, err));
    LB_TRY(find_config(t, err));
    LB_TRY(lb_train_schedule(&t->o, &t->schedule, err));
    if (t->o.low_bit)
        LB_TRY(lb_low_bit_check(&t->format, &t->config, t->o.length, err));
    if (!t->o.resume) /* not before what is asked for makes sense */
        LB_TRY(open_folder(t, err));
    LB_TRY(open_corpus(t, err));
    if (t->record && !json_equal(json_object_get(t->record, "corpus"), t->corpus.about))
        return lb_fail(err, LB_EINVAL, "cannot resume %s: its tokens are not those that it began with",
                       t->o.output);
    LB_TRY(make_room(t, err));
    LB_TRY(find_state(t, err));
    LB_TRY(check_end(t, err));
    LB_TRY(check_schedule(t, t->state.position.step, err));
    if (t->o.save_every == 0)
        t->o.save_every = t->schedule.steps < 10 ? 1 : (size_t)(t->schedule.steps / 10);
    if (t->o.valid_every == 0)
        t->o.valid_every = t->o.save_every;
    LB_TRY(check_average(t, err));
    LB_TRY(keep_paths(t, err));
    LB_TRY(lb_train_log_open(t->o.output, t->state.position.step, &t->log, err));
    return save_record(t, err); /* the last: what is refused changes nothing */
}

/* ---- Checkpoints ---------------------------------------------------------------------------------------- */

static lb_status write_checkpoint(const trainer *t, const char *folder, lb_error *err)
{
    const lb_model_folder model = {.parameters = &t->parameters,
                                   .config = t->config_json,
                                   .tokenizer = t->corpus.tokenizer,
                                   .tokenizer_config = t->corpus.tokenizer_config,
                                   .dtype = strcmp(t->o.dtype, "f32") == 0 ? LB_DTYPE_F32 : LB_DTYPE_BF16};
    LB_TRY(lb_model_folder_write(&model, t->state.weights, folder, err));
    char *path = lb_path_join(folder, LB_STATE_NAME);
    const lb_status st = path ? lb_train_state_write(path, &t->parameters, &t->state, err) : no_memory(err);
    lb_free(path);
    return st;
}

/* The state of the checkpoint before is of no use any more, and that of an interruption neither. */
static void drop_older(trainer *t, const char *name)
{
    if (t->last[0] == '\0' || strcmp(t->last, name) == 0)
        return;
    const bool stopped = strcmp(t->last, LB_INTERRUPTED_NAME) == 0;
    char *path = lb_run_path(t->o.output, t->last, stopped ? NULL : LB_STATE_NAME);
    if (path && stopped)
        (void)lb_remove_directory(path, NULL);
    else if (path && !t->o.keep_states)
        (void)unlink(path);
    lb_free(path);
}

/* The checkpoint appears under its name when all of it is there. */
static lb_status save_checkpoint(trainer *t, const char *name, lb_error *err)
{
    char partial[LB_STEP_NAME_BYTES + 16];
    snprintf(partial, sizeof partial, "%s.partial", name);
    char *from = lb_path_join(t->o.output, partial), *to = lb_path_join(t->o.output, name);
    lb_status st = from && to ? LB_OK : no_memory(err);
    if (st == LB_OK && lb_path_exists(from))
        st = lb_remove_directory(from, err);
    if (st == LB_OK)
        st = lb_make_directory(from, err);
    if (st == LB_OK)
        st = write_checkpoint(t, from, err);
    if (st == LB_OK) /* rows that no checkpoint follows are cut by resuming, but none is missing before one */
        st = lb_train_log_flush(&t->log, err);
    if (st == LB_OK && lb_path_exists(to))
        st = lb_remove_directory(to, err);
    if (st == LB_OK)
        st = lb_rename_directory(from, to, err);
    if (st == LB_OK) {
        drop_older(t, name);
        snprintf(t->last, sizeof t->last, "%s", name);
    }
    lb_free(from);
    lb_free(to);
    return st;
}

/* ---- Steps ---------------------------------------------------------------------------------------------- */

static lb_status ask(const trainer *t, lb_error *err)
{
    return lb_progress_tell(&t->o.progress, "training", 0, 0, err);
}

/* One step's gradients, a micro-batch at a time; nothing of the state changes but where its text is. */
static lb_status gradients(trainer *t, double *loss, lb_error *err)
{
    const size_t length = t->o.length, sequences = t->o.batch_tokens / length;
    const size_t most = t->o.micro_tokens / length;
    double sum = 0.0, micro;
    memset(t->grads, 0, t->parameters.floats * sizeof *t->grads);
    for (size_t at = 0; at < sequences; at += most) {
        const size_t count = sequences - at < most ? sequences - at : most;
        for (size_t i = 0; i < count; i++)
            lb_window_order_read(&t->order, t->state.position.windows + at + i, t->ids + i * length,
                                 t->targets + i * length);
        LB_TRY(lb_training_pass_run(&t->pass, t->ids, t->targets, count, 1.0f / (float)t->o.batch_tokens,
                                    &micro, err));
        sum += micro;
        LB_TRY(ask(t, err));
    }
    *loss = sum / (double)t->o.batch_tokens;
    return LB_OK;
}

static lb_status take_step(trainer *t, lb_error *err)
{
    lb_train_position *p = &t->state.position;
    double loss;
    LB_TRY(gradients(t, &loss, err));
    t->grad_norm = lb_optimizer_norm(&t->optimizer, t->grads);
    if (!isfinite(loss) || !isfinite(t->grad_norm))
        return lb_fail(err, LB_EINVAL,
                       "training: at step %" PRIu64 " the loss is %g and the gradient's norm %g; try a lower "
                       "learning rate",
                       p->step + 1, fabs(loss), fabs(t->grad_norm));
    t->rate = lb_schedule_rate(&t->schedule, p->step + 1);
    lb_optimizer_step(&t->optimizer, p->step + 1, t->rate, t->grad_norm, t->grads, &t->state);
    p->step++;
    p->windows += t->o.batch_tokens / t->o.length;
    p->tokens += t->o.batch_tokens;
    p->loss_sum += loss;
    p->loss_count++;
    return LB_OK;
}

/* The loss on the first tokens of the held-out text, always the same. Not to be interrupted: what follows a step is
 * done whole, so that a resumed run lacks none of it. */
static lb_status validate(trainer *t, lb_error *err)
{
    const lb_token_view *text = &t->corpus.valid.view;
    const size_t length = t->o.length, most = t->o.micro_tokens / length;
    const size_t tokens = text->count < t->o.valid_tokens ? text->count : t->o.valid_tokens;
    const size_t windows = tokens > 0 ? (tokens - 1) / length : 0;
    double sum = 0.0, loss;
    for (size_t at = 0; at < windows; at += most) {
        const size_t count = windows - at < most ? windows - at : most;
        lb_token_view_read(text, at * length, count * length, t->ids);
        lb_token_view_read(text, at * length + 1, count * length, t->targets);
        LB_TRY(lb_training_pass_loss(&t->pass, t->ids, t->targets, count, &loss, err));
        sum += loss;
    }
    t->state.position.valid_loss = windows ? sum / (double)(windows * length) : NAN;
    return LB_OK;
}

static lb_status log_row(trainer *t, bool validated, lb_error *err)
{
    lb_train_position *p = &t->state.position;
    const double seconds = lb_now() - t->began;
    const uint64_t steps = p->step - t->began_step;
    t->row = (lb_train_row){.step = p->step,
                            .steps = t->schedule.steps,
                            .tokens = p->tokens,
                            .rate = t->rate,
                            .loss = p->loss_sum / (double)p->loss_count,
                            .grad_norm = t->grad_norm,
                            .weight_norm = lb_optimizer_norm(&t->optimizer, t->state.weights),
                            .valid_loss = validated ? p->valid_loss : NAN,
                            .tokens_per_second = (double)steps * (double)t->o.batch_tokens / seconds,
                            .seconds_left = seconds / (double)steps * (double)(t->schedule.steps - p->step)};
    p->loss_sum = 0.0;
    p->loss_count = 0;
    if (t->o.on_row)
        t->o.on_row(t->o.on_row_user, &t->row);
    return lb_train_log_add(&t->log, &t->row, seconds, err);
}

static lb_status after_step(trainer *t, lb_error *err)
{
    const lb_train_position *p = &t->state.position;
    const bool last = p->step == t->schedule.steps;
    const bool validates =
        t->corpus.valid.view.count > t->o.length && (last || p->step % t->o.valid_every == 0);
    if (validates)
        LB_TRY(validate(t, err));
    if (last || validates || p->step % t->o.log_every == 0)
        LB_TRY(log_row(t, validates, err));
    if (last || p->step % t->o.save_every == 0) {
        char name[LB_STEP_NAME_BYTES];
        lb_step_name(p->step, name);
        LB_TRY(save_checkpoint(t, name, err));
    }
    return lb_progress_tell(&t->o.progress, "training", (size_t)p->step, (size_t)t->schedule.steps, err);
}

static lb_status run(trainer *t, lb_error *err)
{
    lb_status st = LB_OK;
    t->began = lb_now();
    t->began_step = t->state.position.step;
    while (st == LB_OK && t->state.position.step < t->schedule.steps) {
        st = take_step(t, err);
        if (st == LB_OK)
            st = after_step(t, err);
    }
    return st;
}

/* Of a run that was refused, not even its tokens: another text may be wanted. */
static void leave_nothing(const trainer *t)
{
    char *data = t->made_data ? lb_path_join(t->o.output, "data") : NULL;
    if (data)
        (void)lb_remove_directory(data, NULL);
    if (t->made)
        (void)rmdir(t->o.output);
    lb_free(data);
}

lb_status lb_train(const lb_train_options *options, lb_train_result *result, lb_error *err)
{
    trainer t = {.lock = -1, .row = {.loss = NAN}};
    const double began = lb_now();
    lb_train_options_init(&t.o);
    LB_TRY(lb_options_adopt(&t.o, sizeof t.o, options, "lb_train_options", err));
    lb_status st = open_run(&t, err);
    if (st != LB_OK && !lb_run_exists(t.o.output))
        leave_nothing(&t);
    const uint64_t first = t.state.position.step;
    if (st == LB_OK)
        st = run(&t, err);
    if (st != LB_OK && t.began > 0.0) /* rows since the last checkpoint say how it came to that */
        (void)lb_train_log_flush(&t.log, NULL);
    if (st == LB_ECANCELED && t.state.position.step > first) {
        lb_error other; /* the sentence about the interruption stays, unless the state could not be saved */
        const lb_status saved = save_checkpoint(&t, LB_INTERRUPTED_NAME, &other);
        if (saved != LB_OK) {
            st = saved;
            if (err)
                *err = other;
        }
    }
    if (st == LB_OK && t.o.average)
        st = lb_run_average_write(&t.average, t.o.output, &t.o.progress, err);
    if (st == LB_OK && result) {
        *result = (lb_train_result){.step = t.state.position.step,
                                    .tokens = t.state.position.tokens,
                                    .parameters = t.parameters.weights,
                                    .loss = t.row.loss,
                                    .valid_loss = t.state.position.valid_loss,
                                    .seconds = lb_now() - began,
                                    .peak_rss_bytes = lb_peak_rss_bytes()};
        snprintf(result->checkpoint, sizeof result->checkpoint, "%s", t.last);
    }
    trainer_free(&t);
    return st;
}
