/* SPDX-License-Identifier: MIT
 * What `lowbit quantize` did, for people and for programs. quantize_page.h has the report. */
#ifndef LB_CLI_QUANTIZE_TEXT_H
#define LB_CLI_QUANTIZE_TEXT_H

#include <jansson.h>

#include "lowbit/eval.h"
#include "lowbit/quantize.h"

typedef struct lb_quantize_findings {
    const char *model, *output, *calibration, *method; /* as given; output and calibration may be NULL */
    bool dry_run;
    const lb_quantize_result *result;
    const lb_eval_options *eval_options;
    const lb_eval_result *eval; /* NULL: not evaluated */
} lb_quantize_findings;

/* The plan of a dry run, or the result; `verbose`: with every layer. */
void lb_quantize_print(const lb_quantize_findings *f, bool verbose);
/* What evaluation found, and whether the result is worth using. */
void lb_quantize_print_score(const lb_quantize_findings *f);

/* The JSON object, but for "eval". NULL without memory. */
json_t *lb_quantize_json(const lb_quantize_findings *f);

/* Whether a result is not worth using (docs/evaluation.md). */
bool lb_collapsed(const lb_eval_result *e);

/* A ratio of energies as a percentage of magnitudes. */
double lb_relative_root(double energy_ratio);

#endif
