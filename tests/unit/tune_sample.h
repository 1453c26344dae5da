/* SPDX-License-Identifier: MIT
 * A group of random weights whose rounding has been learned a little way, for tests of formats/tune.h. */
#ifndef LB_TESTS_TUNE_SAMPLE_H
#define LB_TESTS_TUNE_SAMPLE_H

#include "near.h"

#include "base/rng.h"
#include "formats/tune.h"

enum { MOST = 256 };

typedef struct sample {
    lb_format format;
    size_t n;
    float w[MOST], v[MOST], importance[MOST], start[LB_FORMAT_MAX_PARAMS];
    lb_tune_group group;
} sample;

/* With `multiplier` from the searched parameters, otherwise from the group's extremes. Offsets are up to `offset`;
 * where that is 0, nothing is learned. */
static inline sample make_sample(const char *name, uint64_t seed, bool multiplier, double offset)
{
    sample s = {.n = 0};
    lb_rng rng;
    lb_rng_seed(&rng, seed);
    assert_int_equal(lb_format_parse(name, &s.format, NULL), LB_OK);
    s.n = s.format.group ? s.format.group : 100;
    if (seed % 4 == 3)
        s.n -= 5; /* as the last of a row may be */
    for (size_t i = 0; i < s.n; i++) {
        s.w[i] = (float)(0.05 * lb_rng_normal(&rng));
        s.v[i] = (float)(offset * (2.0 * lb_rng_uniform(&rng) - 1.0));
        s.importance[i] = (float)exp(lb_rng_normal(&rng));
    }
    lb_format_bind(&s.format, s.w, s.n);
    s.format.ops->fit(&s.format, s.w, s.importance, s.n, multiplier ? LB_FIT_SEARCH : LB_FIT_RANGE, s.start);
    s.group.n = s.n;
    for (unsigned k = 0; k < LB_TUNE_MOST_FACTORS; k++) {
        const double u = lb_rng_uniform(&rng);
        s.group.factors[k] = (float)(offset == 0.0 ? 1.0 : multiplier ? 0.7 + 0.6 * u : 0.6 + 0.4 * u);
    }
    return s;
}

/* A sample may be copied: pointers into it are set last. */
static inline const lb_tune_group *group_of(sample *s, bool multiplier)
{
    s->group.w = s->w;
    s->group.v = s->v;
    s->group.start = multiplier ? s->start : NULL;
    return &s->group;
}

#endif
