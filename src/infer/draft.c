/* SPDX-License-Identifier: MIT */
#include "infer/draft.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "io/tokenizer.h"

typedef struct side {
    lb_sequence *sequence;
    uint32_t *ids; /* [context]: whose keys and values the sequence holds */
    lb_sampler *sampler;
    size_t vocab; /* of the sampler */
    lb_proposal *proposals; /* [most] */
    lb_candidate *candidates; /* of all of them */
} side;

struct lb_draft {
    const lb_kernels *kernels;
    lb_resident model;
    lb_runner *runner;
    size_t context, count, most;
    float confidence;
    side *sides; /* [count] */
};

/* Ids are exchanged: each must mean the same on both sides. */
static lb_status compare_tokens(const char *path, const lb_tokenizer *own, const lb_tokenizer *wanted,
                                lb_detokenizer *own_stream, lb_detokenizer *wanted_stream, lb_error *err)
{
    const size_t count = lb_tokenizer_vocab_size(wanted);
    if (lb_tokenizer_vocab_size(own) != count)
        return lb_fail(err, LB_EINVAL, "%s cannot draft: its tokenizer has %zu tokens, the model's has %zu",
                       path, lb_tokenizer_vocab_size(own), count);
    for (size_t id = 0; id < count; id++) {
        const char *a, *b;
        size_t a_length, b_length;
        LB_TRY(lb_detokenizer_token(own_stream, (uint32_t)id, &a, &a_length, err));
        LB_TRY(lb_detokenizer_token(wanted_stream, (uint32_t)id, &b, &b_length, err));
        if (a_length != b_length || memcmp(a, b, a_length) != 0)
            return lb_fail(
                err, LB_EINVAL,
                "%s cannot draft: its tokenizer is not the model's, token %zu is \"%.*s\" and not \"%.*s\"",
                path, id, (int)(a_length < 40 ? a_length : 40), a, (int)(b_length < 40 ? b_length : 40), b);
    }
    return LB_OK;
}

static lb_status check_tokenizer(const char *path, const lb_tokenizer *wanted, const lb_config *config,
                                 lb_error *err)
{
    lb_tokenizer *own = NULL;
    lb_detokenizer *own_stream = NULL, *wanted_stream = NULL;
    lb_status st = LB_OK;
    LB_GO(lb_tokenizer_open(path, &own, err));
    LB_GO(lb_tokenizer_check_rows(own, config->vocab, path, err));
    LB_GO(lb_detokenizer_create(own, &own_stream, err));
    LB_GO(lb_detokenizer_create(wanted, &wanted_stream, err));
    LB_GO(compare_tokens(path, own, wanted, own_stream, wanted_stream, err));
done:
    lb_detokenizer_destroy(own_stream);
    lb_detokenizer_destroy(wanted_stream);
    lb_tokenizer_destroy(own);
    return st;
}

static lb_status create_sides(lb_draft *d, lb_kv_type kv, lb_error *err)
{
    d->sides = lb_alloc_zero(d->count, sizeof *d->sides);
    if (!d->sides)
        return lb_fail(err, LB_ENOMEM, "draft: no memory for %zu sequences", d->count);
    for (size_t i = 0; i < d->count; i++) {
        side *s = &d->sides[i];
        LB_TRY(lb_sequence_create(&d->model.config, kv, d->context, &s->sequence, err));
        LB_TRY(lb_alloc_array(&s->ids, d->context, sizeof *s->ids, "draft", err));
        LB_TRY(lb_alloc_array(&s->proposals, d->most, sizeof *s->proposals, "draft", err));
    }
    return LB_OK;
}

lb_status lb_draft_open(const char *path, const lb_tokenizer *tokenizer, const lb_draft_options *o,
                        const lb_progress *progress, lb_draft **out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_draft *d = lb_alloc_zero(1, sizeof *d);
    if (!d)
        return lb_fail(err, LB_ENOMEM, "%s: no memory to open it", path);
    d->kernels = o->kernels;
    d->count = o->sequences;
    d->most = o->most;
    d->confidence = o->confidence;
    LB_GO(lb_resident_load(path, progress, &d->model, err));
    LB_GO(check_tokenizer(path, tokenizer, &d->model.config, err));
    d->context = o->context < d->model.config.max_context ? o->context : d->model.config.max_context;
    LB_GO(create_sides(d, o->kv, err));
    LB_GO(lb_runner_create(o->kernels, &d->model, d->context, o->chunk, 1, &d->runner, err));
    *out = d;
    d = NULL;
done:
    lb_draft_close(d);
    return st;
}

static void forget_settings(side *s)
{
    lb_sampler_destroy(s->sampler);
    lb_free(s->candidates);
    s->sampler = NULL;
    s->candidates = NULL;
}

void lb_draft_close(lb_draft *d)
{
    if (!d)
        return;
    for (size_t i = 0; d->sides && i < d->count; i++) {
        forget_settings(&d->sides[i]);
        lb_sequence_destroy(d->sides[i].sequence);
        lb_free(d->sides[i].ids);
        lb_free(d->sides[i].proposals);
    }
    lb_free(d->sides);
    lb_runner_destroy(d->runner);
    lb_resident_free(&d->model);
    lb_free(d);
}

lb_status lb_draft_begin(lb_draft *d, size_t index, const lb_sampling *how, size_t vocab, lb_error *err)
{
    side *s = &d->sides[index];
    lb_sampling own = *how;
    own.seed ^= 0x9e3779b97f4a7c15u; /* its draws must not be those that judge them */
    forget_settings(s);
    LB_TRY(lb_sampler_create(&own, vocab, &s->sampler, err));
    s->vocab = vocab;
    const size_t room = lb_sampler_most(s->sampler);
    LB_TRY(lb_alloc_array(&s->candidates, d->most * room, sizeof *s->candidates, "draft", err));
    for (size_t i = 0; i < d->most; i++)
        s->proposals[i].q = s->candidates + i * room;
    return LB_OK;
}

/* Brings a side's sequence to hold ids [count], and no more; *logits are those after the last one. */
static lb_status catch_up(lb_draft *d, side *s, const uint32_t *ids, size_t count, float **logits,
                          lb_error *err)
{
    size_t same = 0;
    while (same < s->sequence->past && same + 1 < count && s->ids[same] == ids[same])
        same++;
    s->sequence->past = same;
    memcpy(s->ids + same, ids + same, (count - same) * sizeof *ids);
    return lb_runner_feed(d->runner, s->sequence, ids + same, count - same, NULL, logits, err);
}

/* Whether the model is sure enough of a next token for a proposal to be worth it; logits are used up. */
static bool is_confident(const lb_draft *d, float *logits, size_t vocab)
{
    float largest;
    return d->kernels->exp_sum(logits, vocab, 1.0f, &largest) * d->confidence <= 1.0f;
}

lb_status lb_draft_propose(lb_draft *d, size_t index, const uint32_t *ids, size_t count, size_t room,
                           const lb_sampler *sampler, const lb_proposal **proposals, size_t *proposed,
                           lb_error *err)
{
    side *s = &d->sides[index];
    float *logits;
    *proposals = s->proposals;
    *proposed = 0;
    if (room > d->most)
        room = d->most;
    if (room == 0 || count >= d->context)
        return LB_OK;
    if (room > d->context - count)
        room = d->context - count;
    lb_sampler_copy_memory(sampler, s->sampler);
    LB_TRY(catch_up(d, s, ids, count, &logits, err));
    for (;;) {
        uint32_t id;
        LB_TRY(lb_sampler_pick(s->sampler, logits, &id, err));
        lb_sampler_propose(s->sampler, id, &s->proposals[*proposed]);
        if (!is_confident(d, logits, s->vocab))
            return LB_OK;
        if (++*proposed == room)
            return LB_OK;
        lb_sampler_accept(s->sampler, id);
        s->ids[s->sequence->past] = id;
        LB_TRY(lb_runner_feed(d->runner, s->sequence, &id, 1, NULL, &logits, err));
    }
}
