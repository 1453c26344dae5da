/* SPDX-License-Identifier: MIT */
#include "infer/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"

struct lb_sampler {
    lb_sampling how;
    lb_rng rng;
    size_t vocab;
    lb_candidate *candidates; /* [vocab], or [top_k] */
    size_t count;
    uint32_t *recent; /* [repeat_window]: a ring */
    size_t recent_count, recent_at;
    uint32_t *penalized_in; /* [vocab]: the round in which an id was last penalized */
    uint32_t round;
};

static lb_status check(const lb_sampling *how, lb_error *err)
{
    if (!(how->temperature >= 0 && how->temperature <= 1e6))
        return lb_fail(err, LB_EINVAL, "temperature is %g, wanted 0 to 1e6", how->temperature);
    if (!(how->top_p > 0 && how->top_p <= 1))
        return lb_fail(err, LB_EINVAL, "top-p is %g, wanted more than 0, at most 1", how->top_p);
    if (!(how->min_p >= 0 && how->min_p <= 1))
        return lb_fail(err, LB_EINVAL, "min-p is %g, wanted 0 to 1", how->min_p);
    if (!(how->repeat_penalty >= 1e-3 && how->repeat_penalty <= 1e3))
        return lb_fail(err, LB_EINVAL, "repeat penalty is %g, wanted 0.001 to 1000", how->repeat_penalty);
    return LB_OK;
}

lb_status lb_sampler_create(const lb_sampling *how, size_t vocab, lb_sampler **out, lb_error *err)
{
    lb_status st = LB_OK;
    LB_TRY(check(how, err));
    if (vocab == 0 || vocab > UINT32_MAX)
        return lb_fail(err, LB_EINVAL, "sampler: a vocabulary of %zu tokens", vocab);
    lb_sampler *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "sampler: no memory for %zu bytes", sizeof *s);
    s->how = *how;
    s->vocab = vocab;
    if (s->how.top_k == 0 || s->how.top_k > vocab)
        s->how.top_k = vocab;
    lb_rng_seed(&s->rng, how->seed);
    LB_GO(lb_alloc_array(&s->candidates, s->how.top_k, sizeof *s->candidates, "sampler", err));
    if (how->repeat_penalty != 1 && how->repeat_window > 0) {
        LB_GO(lb_alloc_array(&s->recent, how->repeat_window, sizeof *s->recent, "repeat window", err));
        LB_GO(lb_alloc_array(&s->penalized_in, vocab, sizeof *s->penalized_in, "sampler", err));
        memset(s->penalized_in, 0, vocab * sizeof *s->penalized_in);
    }
    *out = s;
    s = NULL;
done:
    lb_sampler_destroy(s);
    return st;
}

void lb_sampler_destroy(lb_sampler *s)
{
    if (!s)
        return;
    lb_free(s->candidates);
    lb_free(s->recent);
    lb_free(s->penalized_in);
    lb_free(s);
}

void lb_sampler_accept(lb_sampler *s, uint32_t id)
{
    if (!s->recent || id >= s->vocab)
        return;
    s->recent[s->recent_at] = id;
    s->recent_at = (s->recent_at + 1) % s->how.repeat_window;
    if (s->recent_count < s->how.repeat_window)
        s->recent_count++;
}

static void penalize(lb_sampler *s, float *logits)
{
    const float penalty = (float)s->how.repeat_penalty;
    if (++s->round == 0) { /* after 2^32 tokens the marks would look fresh */
        memset(s->penalized_in, 0, s->vocab * sizeof *s->penalized_in);
        s->round = 1;
    }
    for (size_t i = 0; i < s->recent_count; i++) {
        const uint32_t id = s->recent[i];
        if (s->penalized_in[id] == s->round)
            continue;
        s->penalized_in[id] = s->round;
        logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
}

static lb_status broken(const float *logits, size_t id, lb_error *err)
{
    return lb_fail(err, LB_EFORMAT, "the model's logit of token %zu is %g, not a finite number", id,
                   (double)logits[id]);
}

static lb_status pick_largest(const float *logits, size_t n, uint32_t *id, lb_error *err)
{
    float largest = -INFINITY;
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (logits[i] <= largest)
            continue;
        if (!(logits[i] < INFINITY)) /* NaN, too */
            return broken(logits, i, err);
        largest = logits[i];
        at = i;
    }
    if (largest == -INFINITY)
        return broken(logits, 0, err);
    *id = (uint32_t)at;
    return LB_OK;
}

/* a is a better choice than b. */
static bool before(const lb_candidate *a, const lb_candidate *b)
{
    return a->logit != b->logit ? a->logit > b->logit : a->id < b->id;
}

static int compare(const void *a, const void *b)
{
    return before(a, b) ? -1 : 1; /* ids differ, so no two are equal */
}

/* Restores the heap whose root is its worst element, after the element at `at` changed. */
static void sift_down(lb_candidate *heap, size_t count, size_t at)
{
    const lb_candidate moving = heap[at];
    for (size_t child; (child = 2 * at + 1) < count; at = child) {
        if (child + 1 < count && before(&heap[child], &heap[child + 1]))
            child++;
        if (before(&heap[child], &moving))
            break;
        heap[at] = heap[child];
    }
    heap[at] = moving;
}

/* The top_k largest logits that are not -infinity into candidates, in no order. */
static lb_status collect(lb_sampler *s, const float *logits, lb_error *err)
{
    const size_t k = s->how.top_k;
    float enough = -INFINITY; /* what a logit must exceed */
    s->count = 0;
    for (size_t i = 0; i < s->vocab; i++) {
        if (logits[i] <= enough)
            continue;
        if (!(logits[i] < INFINITY))
            return broken(logits, i, err);
        const lb_candidate fresh = {.id = (uint32_t)i, .logit = logits[i]};
        if (s->count < k) {
            s->candidates[s->count++] = fresh;
            if (s->count < k || k == s->vocab)
                continue;
            for (size_t at = k / 2; at-- > 0;)
                sift_down(s->candidates, k, at);
        } else {
            s->candidates[0] = fresh;
            sift_down(s->candidates, k, 0);
        }
        enough = s->candidates[0].logit;
    }
    return s->count ? LB_OK : broken(logits, 0, err);
}

/* exp((l - largest) / temperature) into every candidate's probability; returns the sum. */
static double weigh(lb_sampler *s)
{
    float largest = -INFINITY;
    double sum = 0;
    for (size_t i = 0; i < s->count; i++)
        largest = s->candidates[i].logit > largest ? s->candidates[i].logit : largest;
    for (size_t i = 0; i < s->count; i++) {
        lb_candidate *c = &s->candidates[i];
        c->probability = exp(((double)c->logit - (double)largest) / s->how.temperature);
        sum += c->probability;
    }
    return sum;
}

/* Drops what top-p and min-p exclude; the largest weight is 1, all of them sum to `sum`. */
static void filter(lb_sampler *s, double sum)
{
    double least = s->how.min_p;
    size_t kept = 0;
    /* Tokens below this weight have less than 1 - top_p together, so top-p never needs them: what is
     * left to be sorted is short. */
    const double needless = (1 - s->how.top_p) * sum / (double)s->count;
    if (needless > least && needless <= 1)
        least = needless;
    for (size_t i = 0; i < s->count; i++)
        if (s->candidates[i].probability >= least)
            s->candidates[kept++] = s->candidates[i];
    s->count = kept;
    if (s->how.top_p >= 1 && s->how.top_k == s->vocab)
        return;
    qsort(s->candidates, kept, sizeof *s->candidates, compare);
    double mass = 0;
    for (size_t i = 0; i < kept; i++) {
        mass += s->candidates[i].probability;
        if (mass >= s->how.top_p * sum && s->how.top_p < 1) {
            s->count = i + 1;
            break;
        }
    }
}

static void normalize(lb_sampler *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->count; i++)
        sum += s->candidates[i].probability;
    for (size_t i = 0; i < s->count; i++)
        s->candidates[i].probability /= sum;
}

static uint32_t draw(lb_sampler *s)
{
    double passed = 0;
    const double target = lb_rng_uniform(&s->rng);
    for (size_t i = 0; i < s->count; i++) {
        passed += s->candidates[i].probability;
        if (target < passed)
            return s->candidates[i].id;
    }
    return s->candidates[s->count - 1].id; /* rounding left the sum just below 1 */
}

/* Leaves the candidates and their probabilities; one at temperature 0. */
static lb_status find_candidates(lb_sampler *s, float *logits, lb_error *err)
{
    uint32_t id;
    if (s->recent)
        penalize(s, logits);
    if (s->how.temperature == 0) {
        LB_TRY(pick_largest(logits, s->vocab, &id, err));
        s->candidates[0] = (lb_candidate){.id = id, .logit = logits[id], .probability = 1};
        s->count = 1;
        return LB_OK;
    }
    LB_TRY(collect(s, logits, err));
    filter(s, weigh(s));
    normalize(s);
    return LB_OK;
}

lb_status lb_sampler_pick(lb_sampler *s, float *logits, uint32_t *id, lb_error *err)
{
    LB_TRY(find_candidates(s, logits, err));
    *id = s->how.temperature == 0 ? s->candidates[0].id : draw(s);
    return LB_OK;
}

/* ---- Proposals ----------------------------------------------------------------------------------------- */

size_t lb_sampler_most(const lb_sampler *s)
{
    return s->how.top_k;
}

static int by_id(const void *a, const void *b)
{
    const lb_candidate *x = a, *y = b;
    return x->id < y->id ? -1 : 1;
}

void lb_sampler_propose(const lb_sampler *s, uint32_t id, lb_proposal *out)
{
    bool in_order = true;
    out->id = id;
    out->count = s->count;
    memcpy(out->q, s->candidates, s->count * sizeof *out->q);
    for (size_t i = 1; i < s->count; i++)
        in_order = in_order && out->q[i - 1].id < out->q[i].id;
    if (!in_order)
        qsort(out->q, s->count, sizeof *out->q, by_id);
}

static double proposed(const lb_proposal *p, uint32_t id)
{
    size_t low = 0, high = p->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (p->q[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < p->count && p->q[low].id == id ? p->q[low].probability : 0;
}

static double beyond(const lb_candidate *c, const lb_proposal *proposal)
{
    const double rest = c->probability - proposed(proposal, c->id);
    return rest > 0 ? rest : 0;
}

/* From what is left of p where q is taken off it. */
static uint32_t draw_beyond(lb_sampler *s, const lb_proposal *proposal)
{
    double sum = 0, passed = 0;
    uint32_t last = s->candidates[0].id;
    for (size_t i = 0; i < s->count; i++)
        sum += beyond(&s->candidates[i], proposal);
    if (!(sum > 0))
        return draw(s); /* p is q, but for rounding */
    const double target = s->how.temperature == 0 ? 0 : sum * lb_rng_uniform(&s->rng);
    for (size_t i = 0; i < s->count; i++) {
        const double rest = beyond(&s->candidates[i], proposal);
        passed += rest;
        if (rest > 0)
            last = s->candidates[i].id;
        if (rest > 0 && target < passed)
            break;
    }
    return last;
}

lb_status lb_sampler_verify(lb_sampler *s, float *logits, const lb_proposal *proposal, uint32_t *id,
                            bool *taken, lb_error *err)
{
    double p = 0;
    LB_TRY(find_candidates(s, logits, err));
    const double q = proposed(proposal, proposal->id);
    for (size_t i = 0; i < s->count; i++)
        if (s->candidates[i].id == proposal->id)
            p = s->candidates[i].probability;
    *taken = p >= q || (p > 0 && lb_rng_uniform(&s->rng) * q < p);
    *id = *taken ? proposal->id : draw_beyond(s, proposal);
    return LB_OK;
}

void lb_sampler_copy_memory(const lb_sampler *from, lb_sampler *to)
{
    if (!from->recent)
        return;
    memcpy(to->recent, from->recent, from->how.repeat_window * sizeof *to->recent);
    to->recent_count = from->recent_count;
    to->recent_at = from->recent_at;
}

const lb_candidate *lb_sampler_candidates(const lb_sampler *sampler, size_t *count)
{
    *count = sampler->count;
    return sampler->candidates;
}
