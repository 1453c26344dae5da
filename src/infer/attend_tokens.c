/* SPDX-License-Identifier: MIT
 *
 * The past is cut into spans of SPAN positions, so that threads can share a long one. Of a span s and a head remain
 * m_s = max score, l_s = sum e^(score - m_s) and o_s = sum e^(score - m_s) v, and with m = max m_s
 *
 *   out = (sum_s e^(m_s - m) o_s) / (sum_s e^(m_s - m) l_s)
 */
#include "infer/attend_tokens.h"

#include <math.h>
#include <string.h>

#include "base/thread.h"

/* Below so many products of a query's and a key's entries no second thread is worth waking. */
enum { SERIAL_PRODUCTS = 1 << 17, SPAN = 256 };

/* What a span leaves of a head: [dim] numbers, and these. */
enum { LARGEST, SUM, STATE };

typedef struct attending {
    const lb_kernels *kernels;
    const lb_config *config;
    const lb_attending *tokens;
    size_t spans; /* of a whole context */
    size_t most_spans; /* of the token that has most to see */
    float *states; /* [tokens, heads, spans, dim + STATE] */
    float *scores; /* [tokens, heads, spans, SPAN] */
} attending;

static size_t span_count(size_t positions)
{
    return (positions + SPAN - 1) / SPAN;
}

size_t lb_attend_scratch(const lb_config *c, size_t context)
{
    return c->heads * span_count(context) * (c->head_dim + STATE + SPAN);
}

static size_t seen_begin(const attending *a, size_t token)
{
    const size_t window = a->config->window, end = a->tokens[token].position + 1;
    return window && end > window ? end - window : 0;
}

static float *state_of(const attending *a, size_t token, size_t head, size_t span)
{
    return a->states + ((token * a->config->heads + head) * a->spans + span) * (a->config->head_dim + STATE);
}

/* The heads that share a key-value head look at one span: its keys and values are widened once for all of them. */
static void attend_span(const attending *a, size_t token, size_t kv_head, size_t span)
{
    const lb_config *c = a->config;
    const lb_attending *t = &a->tokens[token];
    const size_t shared = c->heads / c->kv_heads, first = kv_head * shared;
    const size_t seen = seen_begin(a, token), end = t->position + 1;
    const size_t from = span * SPAN > seen ? span * SPAN : seen;
    const size_t to = (span + 1) * SPAN < end ? (span + 1) * SPAN : end;
    if (from >= to)
        return;
    const size_t scores_stride = a->spans * SPAN, state_stride = a->spans * (c->head_dim + STATE);
    float *scores = a->scores + (token * c->heads + first) * scores_stride + span * SPAN;
    float *states = state_of(a, token, first, span);
    lb_rows_job job = {.rows = lb_kv_rows(&t->keys, kv_head, from),
                       .count = to - from,
                       .vectors = shared,
                       .x = t->q + first * c->head_dim,
                       .x_stride = c->head_dim,
                       .y = scores,
                       .y_stride = scores_stride};
    a->kernels->rows_dot(lb_kv_row_type(t->keys.type), &job);
    for (size_t h = 0; h < shared; h++) {
        float *state = states + h * state_stride;
        memset(state, 0, c->head_dim * sizeof *state);
        state[c->head_dim + SUM] =
            a->kernels->exp_sum(scores + h * scores_stride, to - from, 1.0f / sqrtf((float)c->head_dim),
                                &state[c->head_dim + LARGEST]);
    }
    job = (lb_rows_job){.rows = lb_kv_rows(&t->values, kv_head, from),
                        .count = to - from,
                        .vectors = shared,
                        .x = scores,
                        .x_stride = scores_stride,
                        .y = states,
                        .y_stride = state_stride};
    a->kernels->rows_mix(lb_kv_row_type(t->values.type), &job);
}

static void attend_spans(void *arg, size_t begin, size_t end)
{
    const attending *a = arg;
    const size_t heads = a->config->kv_heads;
    for (size_t unit = begin; unit < end; unit++)
        attend_span(a, unit / a->most_spans / heads, unit / a->most_spans % heads, unit % a->most_spans);
}

static void join_spans(const attending *a, size_t token, size_t head)
{
    const lb_config *c = a->config;
    const size_t dim = c->head_dim, end = span_count(a->tokens[token].position + 1);
    const size_t begin = seen_begin(a, token) / SPAN;
    float *out = a->tokens[token].out + head * dim, largest = -INFINITY, sum = 0.0f;
    memset(out, 0, dim * sizeof *out);
    for (size_t s = begin; s < end; s++) {
        const float m = state_of(a, token, head, s)[dim + LARGEST];
        largest = m > largest ? m : largest;
    }
    for (size_t s = begin; s < end; s++) {
        const float *state = state_of(a, token, head, s);
        const float weight = expf(state[dim + LARGEST] - largest);
        sum += weight * state[dim + SUM];
        for (size_t i = 0; i < dim; i++)
            out[i] += weight * state[i];
    }
    const float scale = 1.0f / sum;
    for (size_t i = 0; i < dim; i++)
        out[i] *= scale;
}

void lb_attend_tokens(const lb_kernels *kernels, const lb_config *config, const lb_attending *tokens,
                      size_t count, size_t context, float *scratch)
{
    attending a = {.kernels = kernels,
                   .config = config,
                   .tokens = tokens,
                   .spans = span_count(context),
                   .states = scratch};
    size_t products = 0;
    a.scores = scratch + count * config->heads * a.spans * (config->head_dim + STATE);
    for (size_t i = 0; i < count; i++) {
        const size_t spans = span_count(tokens[i].position + 1);
        a.most_spans = spans > a.most_spans ? spans : a.most_spans;
        products += (tokens[i].position + 1 - seen_begin(&a, i)) * config->heads * config->head_dim;
    }
    const size_t units = count * config->kv_heads * a.most_spans;
    lb_parallel_for(units, products < SERIAL_PRODUCTS ? units : 1, attend_spans, &a);
    for (size_t i = 0; i < count; i++)
        for (size_t head = 0; head < config->heads; head++)
            join_spans(&a, i, head);
}
