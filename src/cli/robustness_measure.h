/* SPDX-License-Identifier: MIT
 * Quantizes the points of `lowbit robustness` and scores what comes out. */
#ifndef LB_CLI_ROBUSTNESS_MEASURE_H
#define LB_CLI_ROBUSTNESS_MEASURE_H

#include <jansson.h>

#include "cli/robustness_points.h"
#include "lowbit/eval.h"
#include "lowbit/quantize.h"

enum { LB_ROBUST_MAX_FORMATS = 16, LB_ROBUST_FORMAT_BYTES = 48 };

typedef struct lb_robust_score {
    double loss; /* nats a token, quantized */
    double error; /* loss / loss of the point - 1: arXiv:2510.06213's quantization error */
    double kl, kl_stderr; /* from the point, nats a token */
    double bits; /* a weight, of quantized layers */
} lb_robust_score;

typedef struct lb_robust_row {
    bool done;
    double loss; /* of the point itself */
    double norm, crest; /* analyze/weight_norms.h, groups of 128 */
    lb_robust_score scores[LB_ROBUST_MAX_FORMATS];
} lb_robust_row;

typedef struct lb_robust_study {
    const char *output, *text;
    size_t ctx, tokens; /* of a score; scored positions are known after the first */
    const char *cpu;
    lb_quantize_options recipe; /* but for model, output, format */
    char formats[LB_ROBUST_MAX_FORMATS][LB_ROBUST_FORMAT_BYTES];
    size_t format_count;
    bool allocates; /* the only format is a name for what --target-bits chooses */
    lb_robust_points points;
    lb_robust_row *rows; /* [points.count] */
    json_t *settings; /* what all rows must agree on */
    size_t taken_over; /* rows that were there already */
} lb_robust_study;

/* Whatever can be wrong, before the work: quantizes the first point dry, and fills in `settings`. */
lb_status lb_robust_check(lb_robust_study *study, lb_error *err);

/* Rows that OUTPUT/results.json has. LB_EINVAL where it was made with other settings. */
lb_status lb_robust_take_over(lb_robust_study *study, lb_error *err);

/* Measures the rows that are not done, several at once, one thread each; OUTPUT/results.json holds what is done at any
 * time. */
lb_status lb_robust_measure(lb_robust_study *study, const lb_progress *progress, lb_error *err);

/* {"settings", "rows"}; NULL without memory. */
json_t *lb_robust_json(const lb_robust_study *study);

#endif
