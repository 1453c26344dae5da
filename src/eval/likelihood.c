/* SPDX-License-Identifier: MIT */
#include "eval/likelihood.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "eval/divergence.h"

enum { BATCH_BYTES = 64 << 20, ROWS = 64 };

/* Requests whose inputs, all ids but the last, are the same: one window. */
typedef struct window {
    size_t first, count; /* in the sorted order */
    size_t length; /* of the inputs */
} window;

/* One prediction that is asked for. */
typedef struct row {
    size_t request;
    uint32_t target;
} row;

typedef struct run {
    lb_forward *f;
    lb_way way;
    lb_request *requests;
    size_t *order; /* [count] longest inputs first, equal ones side by side */
    window *windows;
    size_t window_count, most_tokens, widest; /* widest: windows of a batch */
    uint32_t *ids; /* [most_tokens] */
    float *x; /* [most_tokens, hidden] */
    float *gathered, *scratch, *logits; /* [ROWS, hidden], [ROWS, hidden], [ROWS, vocab] */
    row rows[ROWS];
    double found[ROWS];
    bool best[ROWS];
    size_t row_count;
} run;

/* ---- Which requests share a window ------------------------------------------------------------------------ */

static int compare_inputs(const lb_request *a, const lb_request *b)
{
    if (a->count != b->count)
        return a->count > b->count ? -1 : 1;
    for (size_t i = 0; i + 1 < a->count; i++)
        if (a->ids[i] != b->ids[i])
            return a->ids[i] < b->ids[i] ? -1 : 1;
    return 0;
}

static int by_inputs(const void *a, const void *b)
{
    const lb_request *const *x = a, *const *y = b;
    const int order = compare_inputs(*x, *y);
    return order ? order : *x < *y ? -1 : *x > *y;
}

static lb_status find_windows(run *r, size_t count, lb_error *err)
{
    const lb_request **sorted;
    LB_TRY(lb_alloc_array(&r->order, count, sizeof *r->order, "likelihoods", err));
    LB_TRY(lb_alloc_array(&r->windows, count, sizeof *r->windows, "likelihoods", err));
    LB_TRY(lb_alloc_array(&sorted, count, sizeof *sorted, "likelihoods", err));
    for (size_t i = 0; i < count; i++)
        sorted[i] = &r->requests[i];
    if (count > 0)
        qsort(sorted, count, sizeof *sorted, by_inputs);
    for (size_t i = 0; i < count; i++) {
        r->order[i] = (size_t)(sorted[i] - r->requests);
        if (i == 0 || compare_inputs(sorted[i], sorted[i - 1]) != 0)
            r->windows[r->window_count++] = (window){.first = i, .length = sorted[i]->count - 1};
        r->windows[r->window_count - 1].count++;
    }
    lb_free(sorted);
    return LB_OK;
}

/* ---- Predictions ------------------------------------------------------------------------------------------- */

static void score_rows(void *arg, size_t begin, size_t end)
{
    run *r = arg;
    const size_t vocab = r->f->embedding.vocab;
    for (size_t i = begin; i < end; i++) {
        size_t likeliest;
        const float *logits = r->logits + i * vocab;
        r->found[i] = (double)logits[r->rows[i].target] - lb_log_sum_exp(logits, vocab, &likeliest);
        r->best[i] = likeliest == r->rows[i].target;
    }
}

/* The rows that were gathered become parts of their requests' sums, in their order. */
static lb_status flush(run *r, lb_error *err)
{
    if (r->row_count == 0)
        return LB_OK;
    LB_TRY(lb_embedding_logits(r->f->kernels, &r->f->embedding, r->gathered, r->row_count, r->scratch,
                               r->logits, err));
    lb_parallel_for(r->row_count, 1, score_rows, r);
    for (size_t i = 0; i < r->row_count; i++) {
        lb_request *q = &r->requests[r->rows[i].request];
        q->sum += r->found[i];
        q->greedy = q->greedy && r->best[i];
    }
    r->row_count = 0;
    return LB_OK;
}

/* x [length, hidden], outputs of a window's last block. */
static lb_status score_window(run *r, const window *w, const float *x, lb_error *err)
{
    const size_t hidden = r->f->embedding.hidden;
    for (size_t k = 0; k < w->count; k++) {
        const size_t index = r->order[w->first + k];
        lb_request *q = &r->requests[index];
        q->sum = 0.0;
        q->greedy = true;
        for (size_t at = q->first; at < q->count; at++) {
            memcpy(r->gathered + r->row_count * hidden, x + (at - 1) * hidden, hidden * sizeof *x);
            r->rows[r->row_count++] = (row){.request = index, .target = q->ids[at]};
            if (r->row_count == ROWS)
                LB_TRY(flush(r, err));
        }
    }
    return LB_OK;
}

/* Windows [first, first + count), filled up to the longest, which is the first: attention looks back only. */
static lb_status run_batch(run *r, size_t first, size_t count, const lb_progress *progress, const char *label,
                           lb_error *err)
{
    const size_t ctx = r->windows[first].length, hidden = r->f->embedding.hidden;
    memset(r->ids, 0, count * ctx * sizeof *r->ids);
    for (size_t i = 0; i < count; i++) {
        const window *w = &r->windows[first + i];
        memcpy(r->ids + i * ctx, r->requests[r->order[w->first]].ids, w->length * sizeof *r->ids);
    }
    lb_forward_set_ctx(r->f, ctx);
    LB_TRY(lb_forward_run(r->f, &r->way, r->ids, count, r->x, progress, label, err));
    for (size_t i = 0; i < count; i++)
        LB_TRY(score_window(r, &r->windows[first + i], r->x + i * ctx * hidden, err));
    return flush(r, err);
}

static lb_status make_room(run *r, lb_error *err)
{
    const size_t hidden = r->f->embedding.hidden, longest = r->windows[0].length;
    const size_t fitting = (size_t)BATCH_BYTES / (hidden * sizeof(float));
    r->most_tokens = fitting > longest ? fitting : longest;
    LB_TRY(lb_alloc_array(&r->ids, r->most_tokens, sizeof *r->ids, "likelihoods", err));
    LB_TRY(lb_alloc_array(&r->x, r->most_tokens, hidden * sizeof *r->x, "activations", err));
    LB_TRY(lb_alloc_array(&r->gathered, ROWS, hidden * sizeof *r->gathered, "logits", err));
    LB_TRY(lb_alloc_array(&r->scratch, ROWS, hidden * sizeof *r->scratch, "logits", err));
    return lb_alloc_array(&r->logits, ROWS, r->f->embedding.vocab * sizeof *r->logits, "logits", err);
}

static lb_status check_finite(const run *r, size_t count, lb_error *err)
{
    for (size_t i = 0; i < count; i++)
        if (!isfinite(r->requests[i].sum))
            return lb_fail(err, LB_EFORMAT, "%s computes logits that are not finite numbers",
                           r->f->weights->checkpoint.path);
    return LB_OK;
}

lb_status lb_likelihood_run(lb_forward *forward, lb_request *requests, size_t count,
                            const lb_progress *progress, const char *label, lb_error *err)
{
    static const lb_cast as_it_is = {0};
    const size_t whole = forward->ctx;
    run r = {.f = forward, .requests = requests};
    lb_status st = LB_OK;
    if (count == 0)
        return LB_OK;
    LB_GO(lb_way_create(forward, &as_it_is, 0, &r.way, err));
    LB_GO(find_windows(&r, count, err));
    LB_GO(make_room(&r, err));
    for (size_t first = 0, n; first < r.window_count; first += n) {
        const size_t left = r.window_count - first, fitting = r.most_tokens / r.windows[first].length;
        n = left < fitting ? left : fitting;
        LB_GO(lb_progress_tell(progress, label, first, r.window_count, err));
        LB_GO(run_batch(&r, first, n, progress, label, err));
    }
    LB_GO(lb_progress_tell(progress, label, r.window_count, r.window_count, err));
    st = check_finite(&r, count, err);
done:
    lb_forward_set_ctx(forward, whole);
    lb_way_free(&r.way);
    lb_free(r.order);
    lb_free(r.windows);
    lb_free(r.ids);
    lb_free(r.x);
    lb_free(r.gathered);
    lb_free(r.scratch);
    lb_free(r.logits);
    return st;
}
