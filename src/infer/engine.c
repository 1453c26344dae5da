/* SPDX-License-Identifier: MIT */
#include "lowbit/engine.h"

#include <string.h>

#include "base/alloc.h"
#include "base/options.h"
#include "infer/draft.h"
#include "infer/runner.h"
#include "infer/task.h"
#include "io/tokenizer.h"

enum { DEFAULT_CONTEXT = 8192, DEFAULT_DRAFT = 4 };

/* A sequence, with a record of the tokens whose keys and values it holds. */
typedef struct slot {
    lb_sequence *sequence;
    uint32_t *ids; /* [context] */
    lb_task *task; /* NULL: free, and what it holds may be of use to another */
    uint64_t used; /* the number of the last task */
} slot;

struct lb_engine {
    lb_tokenizer *tokenizer;
    lb_resident model;
    lb_runner *runner;
    lb_draft *draft; /* NULL: nothing is proposed */
    size_t draft_tokens;
    size_t context, count, busy;
    slot *slots; /* [count] */
    uint64_t tasks; /* begun so far */
};

void lb_engine_options_init_sized(lb_engine_options *options, size_t size)
{
    const lb_engine_options defaults = {.struct_size = sizeof defaults, .sequences = 1, .draft_confidence = 0.4};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

static lb_status create_slots(lb_engine *e, lb_kv_type kv, lb_error *err)
{
    e->slots = lb_alloc_zero(e->count, sizeof *e->slots);
    if (!e->slots)
        return lb_fail(err, LB_ENOMEM, "no memory for %zu sequences", e->count);
    for (size_t i = 0; i < e->count; i++) {
        LB_TRY(lb_sequence_create(&e->model.config, kv, e->context, &e->slots[i].sequence, err));
        LB_TRY(lb_alloc_array(&e->slots[i].ids, e->context, sizeof *e->slots[i].ids, "token ids", err));
    }
    return LB_OK;
}

static lb_status check_options(const lb_engine_options *o, lb_error *err)
{
    if (o->sequences == 0 || o->sequences > LB_ENGINE_MOST_SEQUENCES)
        return lb_fail(err, LB_EINVAL, "%zu sequences were asked for, wanted 1 to %d", o->sequences,
                       LB_ENGINE_MOST_SEQUENCES);
    if (o->draft_tokens > LB_GENERATE_MOST_DRAFT)
        return lb_fail(err, LB_EINVAL, "a draft of %zu tokens was asked for, wanted at most %d",
                       o->draft_tokens, LB_GENERATE_MOST_DRAFT);
    if (!(o->draft_confidence >= 0 && o->draft_confidence <= 1))
        return lb_fail(err, LB_EINVAL, "the draft's confidence is %g, wanted 0 to 1", o->draft_confidence);
    return LB_OK;
}

/* Everything but the files' content has been checked. */
static lb_status load(lb_engine *e, const char *path, const lb_engine_options *o, const lb_kernels *kernels,
                      lb_kv_type kv, lb_error *err)
{
    LB_TRY(lb_tokenizer_open(path, &e->tokenizer, err));
    LB_TRY(lb_resident_load(path, &o->progress, &e->model, err));
    LB_TRY(lb_tokenizer_check_rows(e->tokenizer, e->model.config.vocab, path, err));
    const size_t limit = e->model.config.max_context;
    e->context = o->context ? o->context : limit < DEFAULT_CONTEXT ? limit : DEFAULT_CONTEXT;
    LB_TRY(create_slots(e, kv, err));
    if (o->draft_path) {
        e->draft_tokens = o->draft_tokens ? o->draft_tokens : DEFAULT_DRAFT;
        const lb_draft_options draft = {.kernels = kernels,
                                        .kv = kv,
                                        .context = e->context,
                                        .chunk = o->chunk,
                                        .sequences = e->count,
                                        .most = e->draft_tokens,
                                        .confidence = (float)o->draft_confidence};
        LB_TRY(lb_draft_open(o->draft_path, e->tokenizer, &draft, &o->progress, &e->draft, err));
    }
    return lb_runner_create(kernels, &e->model, e->context, o->chunk, e->count * (1 + e->draft_tokens),
                            &e->runner, err);
}

lb_status lb_engine_open(const char *path, const lb_engine_options *options, lb_engine **out, lb_error *err)
{
    const lb_kernels *kernels;
    lb_kv_type kv;
    lb_engine_options o;
    lb_engine_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_engine_options", err));
    LB_TRY(check_options(&o, err));
    LB_TRY(lb_kernels_choose(o.cpu, &kernels, err));
    LB_TRY(lb_kv_type_parse(o.kv, &kv, err));
    lb_engine *e = lb_alloc_zero(1, sizeof *e);
    if (!e)
        return lb_fail(err, LB_ENOMEM, "%s: no memory to open it", path);
    e->count = o.sequences;
    const lb_status st = load(e, path, &o, kernels, kv, err);
    if (st == LB_OK)
        *out = e;
    else
        lb_engine_close(e);
    return st;
}

void lb_engine_close(lb_engine *e)
{
    if (!e)
        return;
    for (size_t i = 0; e->slots && i < e->count; i++) {
        lb_task_destroy(e->slots[i].task);
        lb_sequence_destroy(e->slots[i].sequence);
        lb_free(e->slots[i].ids);
    }
    lb_free(e->slots);
    lb_draft_close(e->draft);
    lb_runner_destroy(e->runner);
    lb_resident_free(&e->model);
    lb_tokenizer_destroy(e->tokenizer);
    lb_free(e);
}

const lb_tokenizer *lb_engine_tokenizer(const lb_engine *engine)
{
    return engine->tokenizer;
}

size_t lb_engine_context(const lb_engine *engine)
{
    return engine->context;
}

size_t lb_engine_vocab(const lb_engine *engine)
{
    return engine->model.config.vocab;
}

size_t lb_engine_busy(const lb_engine *engine)
{
    return engine->busy;
}

lb_status lb_engine_check(const lb_engine *e, size_t count, size_t max_tokens, lb_error *err)
{
    const size_t context = e->context, limit = e->model.config.max_context;
    if (count == 0)
        return lb_fail(err, LB_EINVAL, "the prompt has no tokens, and there is nothing to continue");
    if (count > context)
        return lb_fail(err, LB_EINVAL,
                       "the prompt has %zu tokens, but the context holds %zu (this model's limit "
                       "is %zu)",
                       count, context, limit);
    /* The last token generated is never fed back: it needs no room. */
    if (max_tokens > 0 && max_tokens - 1 > context - count)
        return lb_fail(err, LB_EINVAL,
                       "the prompt of %zu tokens and %zu to generate do not fit into the context "
                       "of %zu (this model's limit is %zu)",
                       count, max_tokens, context, limit);
    return LB_OK;
}

/* ---- Which sequence a prompt gets -------------------------------------------------------------------- */

/* How many of the prompt's tokens a slot holds already; the last one is computed in any case, for its
 * logits. */
static size_t common(const slot *s, const uint32_t *ids, size_t count)
{
    size_t same = 0;
    while (same < s->sequence->past && same + 1 < count && s->ids[same] == ids[same])
        same++;
    return same;
}

/* A free slot: one whose tokens the prompt goes on from, the longest; otherwise the one that has rested
 * longest, whose tokens are the least likely to be asked for again. NULL: none is free. */
static slot *choose_slot(lb_engine *e, const uint32_t *ids, size_t count)
{
    slot *best = NULL;
    size_t best_same = 0;
    for (size_t i = 0; i < e->count; i++) {
        slot *s = &e->slots[i];
        if (s->task)
            continue;
        /* An answer's last token may have been another way of writing what the next prompt says. */
        const size_t same = common(s, ids, count), own = same + 8 >= s->sequence->past ? same : 0;
        if (!best || own > best_same || (own == best_same && s->used < best->used)) {
            best = s;
            best_same = own;
        }
    }
    return best;
}

/* Leaves in `to` what it, or any other slot, holds of the prompt. */
static size_t reuse(lb_engine *e, slot *to, const uint32_t *ids, size_t count)
{
    const slot *from = to;
    size_t most = common(to, ids, count);
    for (size_t i = 0; i < e->count; i++) {
        const size_t same = common(&e->slots[i], ids, count);
        if (same > most) {
            most = same;
            from = &e->slots[i];
        }
    }
    if (from == to) {
        to->sequence->past = most;
    } else {
        lb_sequence_copy(from->sequence, most, to->sequence);
        memcpy(to->ids, ids, most * sizeof *ids);
    }
    return most;
}

lb_status lb_engine_begin(lb_engine *e, const uint32_t *ids, size_t count, const lb_generate_options *options,
                          lb_task_end_fn on_end, lb_task **out, lb_error *err)
{
    lb_generate_options o;
    lb_task *task;
    lb_generate_options_init(&o);
    LB_TRY(lb_options_adopt(&o, sizeof o, options, "lb_generate_options", err));
    LB_TRY(lb_engine_check(e, count, o.max_tokens, err));
    slot *s = choose_slot(e, ids, count);
    if (!s)
        return lb_fail(err, LB_EEXIST, "all %zu sequences are busy", e->count);
    LB_TRY(lb_task_create(e->tokenizer, ids, count, &o, on_end, &task, err));
    if (e->draft && !o.no_draft) {
        const lb_sampling how = lb_task_sampling(&o);
        const lb_status st = lb_draft_begin(e->draft, (size_t)(s - e->slots), &how,
                                            lb_tokenizer_vocab_size(e->tokenizer), err);
        if (st != LB_OK) {
            lb_task_destroy(task);
            return st;
        }
    }
    task->number = ++e->tasks;
    if (o.forget)
        s->sequence->past = 0;
    else
        task->result.reused_tokens = reuse(e, s, ids, count);
    s->task = task;
    s->used = task->number;
    e->busy++;
    *out = task;
    return LB_OK;
}

lb_status lb_engine_logits(lb_engine *e, const uint32_t *ids, size_t count, size_t first,
                           const lb_progress *progress, float *logits, lb_error *err)
{
    LB_TRY(lb_engine_check(e, count, 1, err));
    if (first >= count)
        return lb_fail(err, LB_EINVAL, "logits from token %zu on were asked for, of %zu", first, count);
    slot *s = choose_slot(e, ids, count);
    if (!s)
        return lb_fail(err, LB_EEXIST, "all %zu sequences are busy", e->count);
    s->used = ++e->tasks;
    s->sequence->past = 0;
    memcpy(s->ids, ids, count * sizeof *ids);
    if (first > 0)
        LB_TRY(lb_runner_feed(e->runner, s->sequence, ids, first, progress, NULL, err));
    return lb_runner_feed_all(e->runner, s->sequence, ids + first, count - first, progress, logits, err);
}

static void release(lb_engine *e, slot *s)
{
    lb_task_destroy(s->task);
    s->task = NULL;
    e->busy--;
}

void lb_engine_abandon(lb_engine *e, lb_task *task)
{
    for (size_t i = 0; i < e->count; i++)
        if (e->slots[i].task == task)
            release(e, &e->slots[i]);
}

/* ---- A step ------------------------------------------------------------------------------------------ */

static void end(lb_engine *e, slot *s, lb_status st, lb_error *err)
{
    lb_task *t = s->task;
    if (st == LB_OK)
        st = lb_task_finish(t, err);
    if (t->on_end)
        t->on_end(t->options.user, st, &t->result, err);
    release(e, s);
}

/* Takes the next token from logits [count + 1, vocab]: of the proposals [count] each is judged by the row of
 * the token before it, and where it is taken the row of its own is next. The sequence, which holds them all,
 * forgets the others. */
static void take(lb_engine *e, slot *s, float *logits, const lb_proposal *proposals, size_t count)
{
    bool over = false, taken = true;
    lb_error err = {0};
    lb_status st = LB_OK;
    const size_t before = s->sequence->past - count; /* with the first row's token */
    size_t rows = 0;
    for (; st == LB_OK && !over && taken && rows <= count; rows++) {
        s->sequence->past = before + rows;
        st = lb_task_take(s->task, logits + rows * e->model.config.vocab,
                          rows < count ? &proposals[rows] : NULL, s->sequence->past < e->context, &taken,
                          &over, &err);
        s->task->result.accepted_tokens += taken;
    }
    if (st != LB_OK || over)
        end(e, s, st, &err);
}

/* The next piece of a prompt; after the last one, the answer's first token. */
static lb_status read_chunk(lb_engine *e, slot *s, float **logits, lb_error *err)
{
    lb_task *t = s->task;
    const size_t past = s->sequence->past, left = t->count - past, most = lb_runner_chunk(e->runner);
    const size_t n = left < most ? left : most, begin = t->result.reused_tokens;
    memcpy(s->ids + past, t->prompt + past, n * sizeof *s->ids);
    LB_TRY(lb_runner_feed(e->runner, s->sequence, t->prompt + past, n, NULL, n == left ? logits : NULL, err));
    LB_TRY(lb_progress_tell(&t->options.progress, "prompt", past + n - begin, t->count - begin, err));
    return n == left ? lb_task_begin_answer(t, err) : LB_OK;
}

static void read_oldest_prompt(lb_engine *e)
{
    slot *s = NULL;
    float *logits = NULL;
    lb_error err = {0};
    for (size_t i = 0; i < e->count; i++) {
        slot *other = &e->slots[i];
        if (other->task && other->task->is_reading && (!s || other->task->number < s->task->number))
            s = other;
    }
    if (!s)
        return;
    const lb_status st = read_chunk(e, s, &logits, &err);
    if (st != LB_OK)
        end(e, s, st, &err);
    else if (logits)
        take(e, s, logits, NULL, 0);
}

/* An answer's part in a step: the token that is to be fed, and what the draft makes of it. */
typedef struct share {
    slot *slot;
    const lb_proposal *proposals;
    size_t count; /* of proposals */
} share;

/* Proposals for an answer, so many as there is room for and it may have use for. */
static lb_status propose(lb_engine *e, share *part, lb_error *err)
{
    slot *s = part->slot;
    lb_task *t = s->task;
    const size_t past = s->sequence->past, left = t->options.max_tokens - t->result.generated_tokens;
    size_t room = e->context - past - 1;
    s->ids[past] = t->next;
    if (!e->draft || t->options.no_draft)
        return LB_OK;
    if (t->options.max_tokens > 0 && room > left - 1)
        room = left - 1;
    LB_TRY(lb_draft_propose(e->draft, (size_t)(s - e->slots), s->ids, past + 1, room, t->sampler,
                            &part->proposals, &part->count, err));
    for (size_t i = 0; i < part->count; i++)
        s->ids[past + 1 + i] = part->proposals[i].id;
    t->result.drafted_tokens += part->count;
    return LB_OK;
}

/* All answers under way, but for those whose proposals failed. */
static size_t gather(lb_engine *e, share *parts)
{
    size_t count = 0;
    for (size_t i = 0; i < e->count; i++) {
        slot *s = &e->slots[i];
        lb_error err = {0};
        if (!s->task || s->task->is_reading)
            continue;
        parts[count] = (share){.slot = s};
        const lb_status st = propose(e, &parts[count], &err);
        if (st == LB_OK)
            count++;
        else
            end(e, s, st, &err);
    }
    return count;
}

static void decode_all(lb_engine *e)
{
    enum { MOST = LB_ENGINE_MOST_SEQUENCES * (1 + LB_GENERATE_MOST_DRAFT) };
    share parts[LB_ENGINE_MOST_SEQUENCES];
    lb_sequence *sequences[MOST];
    uint32_t ids[MOST];
    size_t items = 0;
    float *logits = NULL;
    lb_error err = {0};
    const size_t count = gather(e, parts);
    for (size_t p = 0; p < count; p++) {
        const slot *s = parts[p].slot;
        for (size_t i = 0; i <= parts[p].count; i++) {
            sequences[items] = s->sequence;
            ids[items++] = s->ids[s->sequence->past + i];
        }
    }
    if (items == 0)
        return;
    const lb_status st = lb_runner_step(e->runner, sequences, ids, items, &logits, &err);
    for (size_t p = 0; p < count; p++) {
        slot *s = parts[p].slot;
        lb_status own = st;
        lb_error why = err;
        s->task->result.passes++;
        if (own == LB_OK)
            own = lb_progress_tell(&s->task->options.progress, "prompt", 1, 1, &why);
        if (own == LB_OK)
            take(e, s, logits, parts[p].proposals, parts[p].count);
        else
            end(e, s, own, &why);
        if (logits)
            logits += (1 + parts[p].count) * e->model.config.vocab;
    }
}

void lb_engine_step(lb_engine *e)
{
    read_oldest_prompt(e);
    decode_all(e);
}
