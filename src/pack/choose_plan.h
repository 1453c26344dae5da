/* SPDX-License-Identifier: MIT
 * An allocation of bits as part of a run: sensitivities are measured, or taken over from the part of the run that
 * was interrupted, and the plan follows. */
#ifndef LB_PACK_CHOOSE_PLAN_H
#define LB_PACK_CHOOSE_PLAN_H

#include "pack/quantized_dir.h"
#include "quantize/sensitivity.h"

typedef struct lb_plan {
    lb_format *formats; /* [layers * LB_BLOCK_LINEARS] */
    double *scores; /* [candidates, layers * LB_BLOCK_LINEARS]; NULL where the way needs none */
    double seconds;
} lb_plan;

/* A plan of the same size as the one to come, from what is known beforehand. */
lb_status lb_plan_begin(const lb_config *config, const lb_recipe *recipe, lb_plan *out, lb_error *err);

/* The plan itself. `dir` NULL: nothing is kept. */
lb_status lb_plan_choose(const lb_sensitivity *job, lb_quantized_dir *dir, lb_plan *plan, lb_error *err);

void lb_plan_free(lb_plan *plan);

#endif
