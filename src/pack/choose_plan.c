/* SPDX-License-Identifier: MIT */
#include "pack/choose_plan.h"

#include <math.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "quantize/allocate.h"

lb_status lb_plan_begin(const lb_config *config, const lb_recipe *recipe, lb_plan *out, lb_error *err)
{
    const size_t layers = config->layers * LB_BLOCK_LINEARS;
    lb_plan plan = {0};
    lb_status st = LB_OK;
    LB_GO(lb_alloc_array(&plan.formats, layers, sizeof *plan.formats, "plan", err));
    if (lb_allocate_needs_scores(recipe->allocation.how))
        LB_GO(lb_alloc_array(&plan.scores, recipe->allocation.candidate_count * layers, sizeof *plan.scores,
                             "sensitivities", err));
    LB_GO(lb_allocate_plan(config, recipe, NULL, plan.formats, err));
    *out = plan;
    plan = (lb_plan){0};
done:
    lb_plan_free(&plan);
    return st;
}

void lb_plan_free(lb_plan *plan)
{
    lb_free(plan->formats);
    lb_free(plan->scores);
    *plan = (lb_plan){0};
}

/* Whether notes have a candidate's scores [layers]. */
static bool recall(const json_t *notes, const char *candidate, size_t layers, double *scores)
{
    const json_t *kept = json_object_get(notes, candidate);
    if (json_array_size(kept) != layers)
        return false;
    for (size_t i = 0; i < layers; i++) {
        const json_t *score = json_array_get(kept, i);
        scores[i] = json_number_value(score);
        if (!json_is_number(score) || scores[i] < 0.0) /* nothing that was measured */
            return false;
    }
    return true;
}

static lb_status note(json_t *notes, const char *candidate, size_t layers, const double *scores,
                      lb_error *err)
{
    json_t *kept = json_array();
    int failed = kept == NULL;
    for (size_t i = 0; i < layers; i++)
        failed |= json_array_append_new(kept, json_real(scores[i]));
    failed |= json_object_set_new(notes, candidate, kept);
    return failed ? lb_fail(err, LB_ENOMEM, "no memory to note sensitivities") : LB_OK;
}

/* As many candidates at a time as one backward pass serves; each is kept as soon as it is known. */
static lb_status find_scores(const lb_sensitivity *job, lb_quantized_dir *dir, double *scores, lb_error *err)
{
    const lb_allocation *a = &job->recipe->allocation;
    const size_t layers = job->weights->config.layers * LB_BLOCK_LINEARS;
    const size_t together = a->how == LB_ALLOCATE_FISHER ? a->candidate_count : 1;
    json_t *notes = dir ? lb_quantized_dir_kept(dir) : NULL;
    lb_status st = LB_OK;
    if (!notes)
        notes = json_object();
    for (size_t k = 0; k < a->candidate_count; k += together) {
        bool known = true;
        for (size_t i = k; i < k + together; i++)
            known = recall(notes, a->candidates[i].name, layers, scores + i * layers) && known;
        if (known)
            continue;
        LB_GO(lb_sensitivity_measure(job, a->candidates + k, together, scores + k * layers, err));
        for (size_t i = k; i < k + together; i++)
            LB_GO(note(notes, a->candidates[i].name, layers, scores + i * layers, err));
        if (dir)
            LB_GO(lb_quantized_dir_keep(dir, notes, err));
    }
done:
    json_decref(notes);
    return st;
}

/* What was measured of a layer that a rule decides is about the rule's format, and not about any candidate. */
static void forget_ruled(const lb_sensitivity *job, double *scores)
{
    const size_t layers = job->weights->config.layers * LB_BLOCK_LINEARS;
    for (size_t i = 0; scores && i < layers; i++)
        if (lb_allocate_is_ruled(job->recipe, i / LB_BLOCK_LINEARS, (unsigned)(i % LB_BLOCK_LINEARS)))
            for (size_t k = 0; k < job->recipe->allocation.candidate_count; k++)
                scores[k * layers + i] = NAN;
}

lb_status lb_plan_choose(const lb_sensitivity *job, lb_quantized_dir *dir, lb_plan *plan, lb_error *err)
{
    const double start = lb_now();
    if (plan->scores)
        LB_TRY(find_scores(job, dir, plan->scores, err));
    LB_TRY(lb_allocate_plan(&job->weights->config, job->recipe, plan->scores, plan->formats, err));
    forget_ruled(job, plan->scores);
    plan->seconds = lb_now() - start;
    return LB_OK;
}
