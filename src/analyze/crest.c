/* SPDX-License-Identifier: MIT
 * See crest.h. */
#include "analyze/crest.h"

#include <math.h>

#include "base/alloc.h"
#include "base/thread.h"

enum {
    BINS_PER_OCTAVE = 2048,
    OCTAVES = 16, /* blocks of up to 2^32 values */
    BINS = BINS_PER_OCTAVE * OCTAVES,
    SLAB_BLOCKS = 1 << 16, /* whose crest factors exist at a time */
    ROWS_PER_CHUNK = 64,
    KNOTS_PER_OCTAVE = 24 /* of a theory's curve */
};

struct lb_crest {
    size_t block, last_cols;
    size_t count[BINS]; /* of blocks */
    double energy[BINS];
    size_t blocks;
    double sum, min, max;
};

lb_status lb_crest_create(size_t block, lb_crest **out, lb_error *err)
{
    lb_crest *c = lb_alloc_zero(1, sizeof *c);
    if (!c)
        return lb_fail(err, LB_ENOMEM, "crest factors: no memory for a histogram");
    c->block = block;
    *out = c;
    return LB_OK;
}

void lb_crest_destroy(lb_crest *crest)
{
    lb_free(crest);
}

/* Of one block each; crest 0: all zeros. */
typedef struct block_measure {
    double crest, energy;
} block_measure;

typedef struct slab {
    const float *x;
    size_t cols, block, blocks_per_row;
    block_measure *out;
} slab;

static block_measure measure_block(const float *x, size_t n)
{
    double energy = 0.0, max = 0.0;
    for (size_t i = 0; i < n; i++) {
        const double magnitude = fabs((double)x[i]);
        max = magnitude > max ? magnitude : max;
        energy += magnitude * magnitude;
    }
    return (block_measure){energy > 0.0 ? max * sqrt((double)n / energy) : 0.0, energy};
}

static void measure_rows(void *arg, size_t begin, size_t end)
{
    const slab *s = arg;
    for (size_t row = begin; row < end; row++) {
        for (size_t b = 0; b < s->blocks_per_row; b++) {
            const size_t at = b * s->block, left = s->cols - at;
            s->out[row * s->blocks_per_row + b] =
                measure_block(s->x + row * s->cols + at, left < s->block ? left : s->block);
        }
    }
}

/* Shows every block of x in order, measured a slab of rows at a time; those of zeros are left out. */
static lb_status measure_blocks(size_t block, const float *x, size_t rows, size_t cols,
                                void (*take)(void *self, block_measure m), void *self, lb_error *err)
{
    if (rows == 0 || cols == 0)
        return LB_OK;
    const size_t per_row = (cols + block - 1) / block;
    const size_t slab_rows = per_row < SLAB_BLOCKS ? SLAB_BLOCKS / per_row : 1;
    block_measure *measures;
    LB_TRY(lb_alloc_array(&measures, slab_rows < rows ? slab_rows : rows, per_row * sizeof *measures,
                          "crest factors", err));
    for (size_t row = 0; row < rows; row += slab_rows) {
        const size_t count = rows - row < slab_rows ? rows - row : slab_rows;
        slab s = {x + row * cols, cols, block, per_row, measures};
        lb_parallel_for(count, ROWS_PER_CHUNK, measure_rows, &s);
        for (size_t i = 0; i < count * per_row; i++) {
            if (measures[i].crest != 0.0)
                take(self, measures[i]);
        }
    }
    lb_free(measures);
    return LB_OK;
}

static void add_to_mean(void *self, block_measure m)
{
    lb_crest_mean *mean = self;
    mean->sum += m.crest;
    mean->blocks++;
}

lb_status lb_crest_mean_add(lb_crest_mean *mean, size_t block, const float *x, size_t rows, size_t cols,
                            lb_error *err)
{
    return measure_blocks(block, x, rows, cols, add_to_mean, mean, err);
}

static void count_block(void *self, block_measure m)
{
    lb_crest *c = self;
    const double octaves = m.crest > 1.0 ? log2(m.crest) : 0.0; /* rounding can make it a little less */
    const size_t bin = (size_t)(octaves * BINS_PER_OCTAVE);
    c->count[bin < BINS ? bin : BINS - 1]++;
    c->energy[bin < BINS ? bin : BINS - 1] += m.energy;
    c->min = c->blocks == 0 || m.crest < c->min ? m.crest : c->min;
    c->max = m.crest > c->max ? m.crest : c->max;
    c->sum += m.crest;
    c->blocks++;
}

lb_status lb_crest_add(lb_crest *crest, const float *x, size_t rows, size_t cols, lb_error *err)
{
    if (rows > 0 && cols > 0)
        crest->last_cols = cols;
    return measure_blocks(crest->block ? crest->block : cols, x, rows, cols, count_block, crest, err);
}

/* The crest factor that the bin stands for, its middle. */
static double crest_of_bin(size_t bin)
{
    return exp2(((double)bin + 0.5) / BINS_PER_OCTAVE);
}

static double quantile(const lb_crest *c, double share)
{
    const double wanted = share * (double)(c->blocks - 1);
    size_t seen = 0, bin = 0;
    for (; bin < BINS - 1; bin++) {
        seen += c->count[bin];
        if ((double)seen > wanted)
            break;
    }
    const double crest = crest_of_bin(bin);
    return crest < c->min ? c->min : crest > c->max ? c->max : crest;
}

lb_crest_summary lb_crest_summarize(const lb_crest *crest)
{
    if (crest->blocks == 0)
        return (lb_crest_summary){.blocks = 0};
    return (lb_crest_summary){.min = crest->min,
                              .q1 = quantile(crest, 0.25),
                              .median = quantile(crest, 0.5),
                              .q3 = quantile(crest, 0.75),
                              .max = crest->max,
                              .mean = crest->sum / (double)crest->blocks,
                              .blocks = crest->blocks};
}

/* log of the theory's noise-to-signal ratio at knots, and straight lines between. Blocks at the very ends of
 * what is possible count as a little inside. */
typedef struct curve {
    lb_theory theory;
    const lb_format *format;
    size_t block;
    double last; /* the largest crest factor to ask for */
    long knot; /* of `from` and `to`; -1: none yet */
    double from, to;
} curve;

static double log_noise(const curve *c, long knot)
{
    double crest = exp2((double)knot / KNOTS_PER_OCTAVE);
    crest = crest < 1.02 ? 1.02 : crest > c->last ? c->last : crest;
    return lb_theory_qsnr(c->theory, c->format, crest, c->block) * -0.23025850929940457;
}

static double noise_at(curve *c, double crest)
{
    const double at = log2(crest) * KNOTS_PER_OCTAVE;
    const long knot = (long)at;
    if (knot != c->knot) {
        c->from = knot == c->knot + 1 && c->knot >= 0 ? c->to : log_noise(c, knot);
        c->to = log_noise(c, knot + 1);
        c->knot = knot;
    }
    return exp(c->from + (at - (double)knot) * (c->to - c->from));
}

double lb_crest_theory(const lb_crest *crest, lb_theory theory, const lb_format *format)
{
    const size_t block = crest->block ? crest->block : crest->last_cols;
    double energy = 0.0, noise = 0.0;
    if (crest->blocks == 0)
        return NAN;
    if (theory == LB_THEORY_PAPER)
        return lb_theory_qsnr(theory, format, crest->sum / (double)crest->blocks, block);
    curve c = {theory, format, block, 0.999 * sqrt((double)block), -1, 0.0, 0.0};
    for (size_t bin = 0; bin < BINS; bin++) {
        if (crest->count[bin] == 0)
            continue;
        energy += crest->energy[bin];
        noise += crest->energy[bin] * noise_at(&c, crest_of_bin(bin));
    }
    return -10.0 * log10(noise / energy);
}
