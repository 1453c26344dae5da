/* SPDX-License-Identifier: MIT
 * Round to nearest: fit each group's parameters, round each weight. With calibration the scale search
 * weighs channels by the mean square of their inputs, and where a format has elements of two kinds, the high ones
 * are chosen by what losing them would cost (saliency.h); without, by magnitude. */
#include "base/alloc.h"
#include "base/thread.h"
#include "quantize/layer.h"
#include "quantize/saliency.h"

typedef struct rtn_job {
    const lb_recipe *recipe;
    const lb_layer *layer;
    const float *importance, *scores;
} rtn_job;

static void encode_rows(void *arg, size_t begin, size_t end)
{
    const rtn_job *job = arg;
    const lb_layer *l = job->layer;
    const size_t params = lb_layer_row_params(l);
    for (size_t row = begin; row < end; row++) {
        const float *w = l->w + row * l->cols;
        uint8_t *codes = l->codes + row * l->cols;
        lb_format_choose_row(&l->format, w, job->scores, l->cols, codes);
        lb_format_encode_chosen_row(&l->format, w, job->importance, l->cols, job->recipe->fit, codes,
                                    l->params + row * params);
    }
}

static bool wants_scores(const lb_recipe *recipe, const lb_layer *layers, size_t count)
{
    bool any = false;
    for (size_t i = 0; i < count; i++)
        any = any || layers[i].format.ops->kinds;
    return any && recipe->saliency != LB_SALIENCY_MAGNITUDE;
}

/* scores [n] in stored order; the layers share their input, and so its Hessian. */
static lb_status find_scores(const lb_recipe *recipe, const lb_hessian *h, const lb_format *format,
                             float *scores, lb_error *err)
{
    lb_columns columns;
    LB_TRY(lb_columns_create(recipe, LB_ORDER_NONE, format, h, &columns, err));
    lb_saliency_scores(recipe->saliency, &columns, scores);
    lb_columns_free(&columns);
    return LB_OK;
}

static lb_status quantize_rtn(const lb_recipe *recipe, const lb_hessian *hessian, lb_layer *layers,
                              size_t count, lb_error *err)
{
    float *importance = NULL, *scores = NULL;
    lb_status st = LB_OK;
    if (hessian) {
        LB_GO(lb_alloc_array(&importance, hessian->n, sizeof *importance, "channel importance", err));
        lb_hessian_importance(hessian, importance);
    }
    if (hessian && wants_scores(recipe, layers, count)) {
        LB_GO(lb_alloc_array(&scores, hessian->n, sizeof *scores, "channel saliency", err));
        LB_GO(find_scores(recipe, hessian, &layers[0].format, scores, err));
    }
    for (size_t i = 0; i < count; i++) {
        rtn_job job = {recipe, &layers[i], importance, scores};
        lb_parallel_for(layers[i].rows, 16, encode_rows, &job);
    }
done:
    lb_free(importance);
    lb_free(scores);
    return st;
}

const lb_method lb_method_rtn = {
    .name = "rtn",
    .summary = "round to nearest",
    .needs_hessian = false,
    .quantize = quantize_rtn,
};
