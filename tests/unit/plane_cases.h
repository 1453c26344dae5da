/* SPDX-License-Identifier: MIT
 * All formats of bit planes, and the levels of one by their definition, in double. */
#ifndef LB_TESTS_PLANE_CASES_H
#define LB_TESTS_PLANE_CASES_H

#include "near.h"

#include <stdlib.h>

#include "base/half.h"
#include "base/rng.h"
#include "formats/planes.h"

enum { MOST = 1000, PLANES = 4, GROUPS = 5, FORMATS = PLANES * GROUPS, COEFFICIENTS = PLANES + 1 };

static const size_t group_sizes[GROUPS] = {0, 32, 64, 128, 256};
static lb_format formats[FORMATS];

static inline int list_formats(void **state)
{
    (void)state;
    for (size_t k = 0; k < FORMATS; k++) {
        char name[32];
        if (group_sizes[k % GROUPS])
            snprintf(name, sizeof name, "bp%zu-g%zu", 1 + k / GROUPS, group_sizes[k % GROUPS]);
        else
            snprintf(name, sizeof name, "bp%zu-row", 1 + k / GROUPS);
        assert_int_equal(lb_format_parse(name, &formats[k], NULL), LB_OK);
        assert_string_equal(formats[k].name, name);
    }
    return 0;
}

static inline const lb_format *format_of(unsigned planes)
{
    return &formats[(planes - 1) * GROUPS];
}

static inline double value_of(const lb_format *f, const float *params, unsigned code)
{
    double sum = (double)params[0];
    for (unsigned i = 0; i < f->bits; i++)
        sum += (double)params[i + 1] * (double)(code >> i & 1);
    return sum;
}

/* The sum of magnitudes, which bounds what floats round off. */
static inline double size_of(const lb_format *f, const float *params)
{
    double sum = 0.0;
    for (unsigned i = 0; i <= f->bits; i++)
        sum += fabs((double)params[i]);
    return sum;
}

/* Distance from w to the nearest level. */
static inline double nearest(const lb_format *f, const float *params, double w)
{
    double best = HUGE_VAL;
    for (unsigned code = 0; code < 1u << f->bits; code++)
        best = fmin(best, fabs(w - value_of(f, params, code)));
    return best;
}

#endif
