/* SPDX-License-Identifier: MIT
 * What the tests of single formats share: a format by its name, and the signal to noise ratio that it reaches
 * on normal data, sigma 1, against that of an independent simulation. */
#ifndef LB_TESTS_FORMAT_CASE_H
#define LB_TESTS_FORMAT_CASE_H

#include "near.h"

#include "base/rng.h"
#include "formats/format.h"

static inline lb_format must_parse(const char *name)
{
    lb_format f;
    lb_error err;
    if (lb_format_parse(name, &f, &err) != LB_OK)
        fail_msg("%s", err.msg);
    return f;
}

typedef struct normal_case {
    const char *name;
    double db;
} normal_case;

/* Of formats with blocks of at least 16 and at most two parameters. */
static inline void check_normal_data(const normal_case *cases, size_t count)
{
    enum { N = 1 << 20, LEAST_BLOCK = 16, MOST_PARAMS = 2 };
    static float x[N], values[N], params[MOST_PARAMS * N / LEAST_BLOCK];
    static uint8_t codes[N];
    lb_rng rng;
    lb_rng_seed(&rng, 20251029);
    double signal = 0.0;
    for (size_t i = 0; i < N; i++) {
        x[i] = (float)lb_rng_normal(&rng);
        signal += (double)x[i] * (double)x[i];
    }
    for (size_t k = 0; k < count; k++) {
        lb_format f = must_parse(cases[k].name);
        double noise = 0.0;
        assert_true(f.group >= LEAST_BLOCK && f.params <= MOST_PARAMS);
        lb_format_bind(&f, x, N);
        lb_format_encode_row(&f, x, NULL, N, LB_FIT_RANGE, codes, params);
        lb_format_decode_row(&f, codes, params, N, values);
        for (size_t i = 0; i < N; i++)
            noise += pow((double)values[i] - (double)x[i], 2.0);
        const double db = 10.0 * log10(signal / noise);
        if (fabs(db - cases[k].db) > 0.05)
            fail_msg("%s: %.3f dB, wanted %.2f within 0.05", cases[k].name, db, cases[k].db);
    }
}

#endif
