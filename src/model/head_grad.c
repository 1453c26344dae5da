/* SPDX-License-Identifier: MIT */
#include "model/head_grad.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "linalg/gemm.h"
#include "model/norm_grad.h"

/* A chunk has this many logits, if that is neither few tokens nor more than products gain from. */
enum { CHUNK_LOGITS = 1 << 23, LEAST_TOKENS = 16, MOST_TOKENS = 512, SLAB_ROWS = 4096, SLAB_GRAIN = 64 };

static bool is_float(const lb_linear *l)
{
    return !l->quantized && l->type == LB_DENSE_F32;
}

static size_t chunk_tokens(const lb_embedding *ends)
{
    const size_t n = CHUNK_LOGITS / ends->vocab;
    return n < LEAST_TOKENS ? LEAST_TOKENS : n > MOST_TOKENS ? MOST_TOKENS : n;
}

static size_t slab_rows(const lb_embedding *ends)
{
    if (is_float(&ends->head))
        return 0;
    return ends->vocab < SLAB_ROWS ? ends->vocab : SLAB_ROWS;
}

size_t lb_head_scratch_bytes(const lb_embedding *ends)
{
    const size_t chunk = chunk_tokens(ends);
    return sizeof(float) * (chunk * (2 * ends->hidden + ends->vocab) + slab_rows(ends) * ends->hidden +
                            lb_norm_grad_partials(chunk, ends->hidden)) +
           sizeof(double) * chunk;
}

size_t lb_head_teacher_bytes(const lb_embedding *ends)
{
    return chunk_tokens(ends) * ends->vocab * sizeof(float);
}

lb_status lb_head_scratch_create(const lb_embedding *ends, lb_head_scratch *out, lb_error *err)
{
    static const char *const what = "gradient of the head";
    lb_head_scratch s = {.chunk_tokens = chunk_tokens(ends), .slab_rows = slab_rows(ends)};
    const size_t row = ends->hidden * sizeof(float);
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&s.normed, s.chunk_tokens, row, what, err));
    LB_GO(lb_alloc_array(&s.d_normed, s.chunk_tokens, row, what, err));
    LB_GO(lb_alloc_array(&s.logits, s.chunk_tokens, ends->vocab * sizeof(float), what, err));
    LB_GO(lb_alloc_array(&s.losses, s.chunk_tokens, sizeof *s.losses, what, err));
    LB_GO(lb_alloc_array(&s.partials, lb_norm_grad_partials(s.chunk_tokens, ends->hidden), sizeof(float),
                         what, err));
    if (s.slab_rows > 0)
        LB_GO(lb_alloc_array(&s.slab, s.slab_rows, row, what, err));
    *out = s;
    s = (lb_head_scratch){0};
done:
    lb_head_scratch_free(&s);
    return st;
}

lb_status lb_head_scratch_add_teacher(const lb_embedding *ends, lb_head_scratch *s, lb_error *err)
{
    return lb_alloc_array(&s->teacher, s->chunk_tokens, ends->vocab * sizeof(float), "gradient of the head",
                          err);
}

void lb_head_scratch_free(lb_head_scratch *s)
{
    lb_free(s->teacher);
    lb_free(s->normed);
    lb_free(s->d_normed);
    lb_free(s->logits);
    lb_free(s->losses);
    lb_free(s->slab);
    lb_free(s->partials);
    *s = (lb_head_scratch){0};
}

typedef struct head_job {
    const lb_kernels *kernels;
    const lb_embedding *ends;
    const lb_head_scratch *s;
    const uint32_t *targets;
    float scale, z_weight;
    size_t slab; /* first row of the slab that is read */
} head_job;

/* Eight at a time, which compilers turn into vectors. */
static float largest_of(const float *x, size_t n)
{
    enum { LANES = 8 };
    float lanes[LANES];
    size_t i = 0;
    for (size_t k = 0; k < LANES; k++)
        lanes[k] = x[0];
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k];
    for (; i < n; i++)
        lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
    for (size_t k = 1; k < LANES; k++)
        lanes[0] = lanes[k] > lanes[0] ? lanes[k] : lanes[0];
    return lanes[0];
}

/* Rows of logits -> scale * (p - the target's 1). The largest p is 1 / sum e^(logit - largest), so that
 * -log p(target) = largest - log(largest p) - logit(target) holds also where p(target) is too small for a
 * float. */
static void loss_rows(void *arg, size_t begin, size_t end)
{
    const head_job *j = arg;
    const size_t vocab = j->ends->vocab;
    for (size_t t = begin; t < end; t++) {
        float *row = j->s->logits + t * vocab;
        if (j->targets[t] == LB_NO_TARGET) {
            memset(row, 0, vocab * sizeof *row);
            j->s->losses[t] = 0.0;
            continue;
        }
        const float largest = largest_of(row, vocab), own = row[j->targets[t]];
        j->kernels->softmax(row, vocab);
        const double z = (double)largest - log((double)largest_of(row, vocab)); /* log sum e^logit */
        const float more = 1.0f + 2.0f * j->z_weight * (float)z; /* d z / d logit is p */
        j->s->losses[t] = z - (double)own;
        for (size_t i = 0; i < vocab; i++)
            row[i] *= j->scale * more;
        row[j->targets[t]] -= j->scale;
    }
}

/* Rows of logits -> scale * (p - the teacher's p). */
static void divergence_rows(void *arg, size_t begin, size_t end)
{
    const head_job *j = arg;
    const size_t vocab = j->ends->vocab;
    for (size_t t = begin; t < end; t++) {
        float *row = j->s->logits + t * vocab, *teacher = j->s->teacher + t * vocab;
        const float largest = largest_of(row, vocab);
        double loss = 0.0;
        j->kernels->softmax(teacher, vocab);
        for (size_t i = 0; i < vocab; i++)
            if (!(teacher[i] <= 0.0f)) /* a NaN counts */
                loss += (double)(teacher[i] * (logf(teacher[i]) - (row[i] - largest)));
        j->kernels->softmax(row, vocab);
        j->s->losses[t] = loss - log((double)largest_of(row, vocab));
        for (size_t i = 0; i < vocab; i++)
            row[i] = j->scale * (row[i] - teacher[i]);
    }
}

static void read_slab(void *arg, size_t begin, size_t end)
{
    const head_job *j = arg;
    for (size_t row = begin; row < end; row++)
        lb_linear_row(j->kernels, &j->ends->head, j->slab + row, j->s->slab + row * j->ends->hidden);
}

/* d_normed = logits' gradients times the head. */
static void through_head(head_job *j, size_t tokens)
{
    const lb_linear *head = &j->ends->head;
    const lb_head_scratch *s = j->s;
    const size_t hidden = j->ends->hidden, vocab = j->ends->vocab;
    memset(s->d_normed, 0, tokens * hidden * sizeof *s->d_normed);
    if (is_float(head)) {
        lb_gemm_nn_add(tokens, hidden, vocab, s->logits, vocab, head->dense, hidden, s->d_normed, hidden);
        return;
    }
    for (j->slab = 0; j->slab < vocab; j->slab += s->slab_rows) {
        const size_t rows = vocab - j->slab < s->slab_rows ? vocab - j->slab : s->slab_rows;
        lb_parallel_for(rows, SLAB_GRAIN, read_slab, j);
        lb_gemm_nn_add(tokens, hidden, rows, s->logits + j->slab, vocab, s->slab, hidden, s->d_normed,
                       hidden);
    }
}

/* Tokens of one chunk, whose rows of x and dx begin there. */
static void chunk_gradients(head_job *j, const float *x, size_t tokens, const lb_head_grads *grads, float *dx)
{
    const lb_embedding *e = j->ends;
    if (grads->head) {
        const lb_gemm_tn product = {.m = e->vocab,
                                    .n = e->hidden,
                                    .k = tokens,
                                    .a = j->s->logits,
                                    .b = j->s->normed,
                                    .c = grads->head};
        lb_gemm_tn_add(&product, 1);
    }
    if (!dx && !grads->norm)
        return;
    through_head(j, tokens);
    const lb_norm_grad g = {.x = x,
                            .weight = e->norm,
                            .d = j->s->d_normed,
                            .rows = tokens,
                            .n = e->hidden,
                            .eps = e->norm_eps,
                            .dx = dx ? dx : j->s->d_normed,
                            .dweight = grads->norm,
                            .partials = j->s->partials};
    lb_norm_grad_rows(j->kernels, &g);
}

lb_status lb_head_backward(const lb_kernels *kernels, const lb_embedding *ends, const float *x,
                           const uint32_t *targets, size_t tokens, float scale,
                           const lb_head_scratch *scratch, const lb_head_grads *grads, double *loss,
                           lb_error *err)
{
    double sum = 0.0;
    for (size_t t = 0; t < tokens; t++)
        if (targets[t] >= ends->vocab && targets[t] != LB_NO_TARGET)
            return lb_fail(err, LB_EINVAL, "target %u does not fit the model's vocabulary of %zu", targets[t],
                           ends->vocab);
    for (size_t at = 0; at < tokens; at += scratch->chunk_tokens) {
        const size_t count = tokens - at < scratch->chunk_tokens ? tokens - at : scratch->chunk_tokens;
        const float *rows = x + at * ends->hidden;
        head_job j = {.kernels = kernels,
                      .ends = ends,
                      .s = scratch,
                      .targets = targets + at,
                      .scale = scale,
                      .z_weight = grads->z_weight};
        LB_TRY(lb_embedding_logits(kernels, ends, rows, count, scratch->normed, scratch->logits, err));
        lb_parallel_for(count, 1, loss_rows, &j);
        for (size_t t = 0; t < count; t++)
            sum += scratch->losses[t];
        chunk_gradients(&j, rows, count, grads, grads->dx ? grads->dx + at * ends->hidden : NULL);
    }
    *loss = sum;
    return LB_OK;
}

lb_status lb_head_divergence(const lb_kernels *kernels, const lb_embedding *ends, const float *x,
                             const float *teacher, size_t tokens, float scale, const lb_head_scratch *scratch,
                             const lb_head_grads *grads, double *loss, lb_error *err)
{
    double sum = 0.0;
    for (size_t at = 0; at < tokens; at += scratch->chunk_tokens) {
        const size_t count = tokens - at < scratch->chunk_tokens ? tokens - at : scratch->chunk_tokens;
        const float *rows = x + at * ends->hidden;
        head_job j = {.kernels = kernels, .ends = ends, .s = scratch, .scale = scale};
        LB_TRY(lb_embedding_logits(kernels, ends, teacher + at * ends->hidden, count, scratch->normed,
                                   scratch->teacher, err));
        LB_TRY(lb_embedding_logits(kernels, ends, rows, count, scratch->normed, scratch->logits, err));
        lb_parallel_for(count, 1, divergence_rows, &j);
        for (size_t t = 0; t < count; t++)
            sum += scratch->losses[t];
        chunk_gradients(&j, rows, count, grads, grads->dx ? grads->dx + at * ends->hidden : NULL);
    }
    *loss = sum;
    return LB_OK;
}
