/* SPDX-License-Identifier: MIT
 * Round to nearest: fit each group's parameters, round each weight. With calibration the scale search
 * weighs channels by the mean square of their inputs. */
#include "base/alloc.h"
#include "base/thread.h"
#include "quantize/method.h"

typedef struct rtn_job {
    const lb_recipe *recipe;
    const lb_layer *layer;
    const float *importance;
} rtn_job;

static void encode_rows(void *arg, size_t begin, size_t end)
{
    const rtn_job *job = arg;
    const lb_layer *l = job->layer;
    const size_t params = lb_format_groups(&l->format, l->cols) * l->format.params;
    for (size_t row = begin; row < end; row++)
        lb_format_encode_row(&l->format, l->w + row * l->cols, job->importance, l->cols, job->recipe->fit,
                             l->codes + row * l->cols, l->params + row * params);
}

static lb_status quantize_rtn(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers,
                              size_t count, lb_error *err)
{
    float *importance = NULL;
    if (hessian) {
        LB_TRY(lb_alloc_array(&importance, hessian->n, sizeof *importance, "channel importance", err));
        lb_hessian_importance(hessian, importance);
    }
    for (size_t i = 0; i < count; i++) {
        rtn_job job = {recipe, &layers[i], importance};
        lb_parallel_for(layers[i].rows, 16, encode_rows, &job);
    }
    lb_free(importance);
    return LB_OK;
}

const lb_method lb_method_rtn = {
    .name = "rtn",
    .summary = "round to nearest",
    .needs_hessian = false,
    .quantize = quantize_rtn,
};
