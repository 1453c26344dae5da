/* SPDX-License-Identifier: MIT */
#include "quantize/block_loss.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"

enum { HALF_BITS = 16, BINS = 1 << HALF_BITS };

lb_status lb_block_loss_create(size_t sequences, size_t length, size_t hidden, bool filter,
                               lb_block_loss *out, lb_error *err)
{
    lb_block_loss l = {.length = length, .hidden = hidden, .filter = filter};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&l.partials, sequences * length, sizeof *l.partials, "loss", err));
    LB_GO(lb_alloc_array(&l.counts, BINS, sizeof *l.counts, "loss", err));
    *out = l;
    l = (lb_block_loss){0};
done:
    lb_block_loss_free(&l);
    return st;
}

void lb_block_loss_free(lb_block_loss *loss)
{
    lb_free(loss->partials);
    lb_free(loss->counts);
    *loss = (lb_block_loss){0};
}

typedef struct loss_job {
    const lb_block_loss *loss;
    const float *target; /* NULL: y holds differences already */
    float *y;
} loss_job;

static void subtract_tokens(void *arg, size_t begin, size_t end)
{
    const loss_job *j = arg;
    const size_t n = j->loss->hidden;
    for (size_t t = begin; t < end; t++) {
        float *y = j->y + t * n;
        const bool counts = (t + 1) % j->loss->length != 0;
        double sum = 0.0;
        for (size_t i = 0; j->target && i < n; i++)
            y[i] = counts ? y[i] - j->target[t * n + i] : 0.0f;
        for (size_t i = 0; i < n; i++)
            sum += (double)y[i] * (double)y[i];
        j->loss->partials[t] = sum;
    }
}

static double find_sum(const lb_block_loss *loss, size_t tokens, const float *target, float *y)
{
    loss_job job = {loss, target, y};
    double sum = 0.0;
    lb_parallel_for(tokens, 32, subtract_tokens, &job);
    for (size_t t = 0; t < tokens; t++)
        sum += loss->partials[t];
    return sum;
}

static uint32_t magnitude(float x)
{
    return lb_float_bits(x) & 0x7fffffffu;
}

/* The bin in which the `wanted` largest end; *wanted becomes how many of that bin belong to them. */
static uint32_t bin_of(const uint32_t *counts, size_t *wanted)
{
    uint32_t bin = BINS - 1;
    while (bin > 0 && counts[bin] < *wanted)
        *wanted -= counts[bin--];
    return bin;
}

/* Sets the largest thousandth of d [n], and one at least, to 0; of equal ones the first. Magnitudes of floats
 * are in the order of their bits: the least that goes is found from the upper half of its bits, then the
 * lower. */
static void drop_largest(const lb_block_loss *loss, size_t counting, float *d, size_t n)
{
    size_t wanted = counting / 1000 > 1 ? counting / 1000 : 1;
    memset(loss->counts, 0, BINS * sizeof *loss->counts);
    for (size_t i = 0; i < n; i++)
        loss->counts[magnitude(d[i]) >> HALF_BITS]++;
    const uint32_t upper = bin_of(loss->counts, &wanted);
    memset(loss->counts, 0, BINS * sizeof *loss->counts);
    for (size_t i = 0; i < n; i++)
        if (magnitude(d[i]) >> HALF_BITS == upper)
            loss->counts[magnitude(d[i]) & (BINS - 1)]++;
    const uint32_t least = upper << HALF_BITS | bin_of(loss->counts, &wanted);
    for (size_t i = 0; i < n; i++) {
        if (magnitude(d[i]) > least) {
            d[i] = 0.0f;
        } else if (magnitude(d[i]) == least && wanted > 0) {
            d[i] = 0.0f;
            wanted--;
        }
    }
}

void lb_block_loss_find(const lb_block_loss *loss, size_t sequences, const float *target, float *y,
                        double *sum)
{
    const size_t tokens = sequences * loss->length;
    *sum = find_sum(loss, tokens, target, y);
    if (!loss->filter || !isfinite(*sum))
        return;
    drop_largest(loss, (tokens - sequences) * loss->hidden, y, tokens * loss->hidden);
    *sum = find_sum(loss, tokens, NULL, y);
}
