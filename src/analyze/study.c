/* SPDX-License-Identifier: MIT */
#include "analyze/study.h"

#include <math.h>
#include <string.h>

#include "analyze/qsnr_measure.h"
#include "base/alloc.h"
#include "kernels/cast.h"

const lb_study_pair lb_study_pairs[LB_STUDY_PAIRS] = {
    {"8-bit MX", {"mxint8", "mxfp8-e4m3"}},
    {"6-bit MX", {"mxint6", "mxfp6-e2m3"}},
    {"4-bit MX", {"mxint4", "mxfp4"}},
    {"4-bit NV", {"nvint4", "nvfp4"}},
};
const char *const lb_study_ways[LB_STUDY_WAYS] = {"none", "hadamard"};

/* Sums over a tensor that comes in pieces. */
typedef struct sums {
    lb_qsnr qsnr[LB_STUDY_PAIRS][LB_STUDY_WAYS][2];
    lb_crest_mean crest[LB_STUDY_PAIRS][LB_STUDY_WAYS];
} sums;

typedef struct survey {
    const lb_kernels *kernels;
    lb_format formats[LB_STUDY_PAIRS][2];
    lb_inputs rotations[LB_STUDY_PAIRS];
    lb_study study;
    sums inputs[LB_STAGE_COUNT]; /* of the block at hand, whose inputs come window by window */
    float *copy, *rounded; /* [room] */
    size_t room;
} survey;

static lb_status make_room(survey *v, size_t n, lb_error *err)
{
    if (n <= v->room)
        return LB_OK;
    lb_free(v->copy);
    lb_free(v->rounded);
    v->copy = v->rounded = NULL;
    v->room = 0;
    LB_TRY(lb_alloc_array(&v->copy, n, sizeof *v->copy, "a tensor's copy", err));
    LB_TRY(lb_alloc_array(&v->rounded, n, sizeof *v->rounded, "a tensor's copy", err));
    v->room = n;
    return LB_OK;
}

/* One pair, one way, over a piece of a tensor. */
static lb_status survey_pair(survey *v, sums *total, unsigned pair, unsigned way, lb_stage stage,
                             bool is_input, const float *x, size_t rows, size_t cols, lb_error *err)
{
    const size_t n = rows * cols;
    memcpy(v->copy, x, n * sizeof *x);
    if (way == 1)
        lb_inputs_rotate(v->kernels, &v->rotations[pair], stage, v->copy, rows);
    for (unsigned f = 0; f < 2; f++) {
        lb_format format = v->formats[pair][f];
        memcpy(v->rounded, v->copy, n * sizeof *x);
        lb_format_bind(&format, v->copy, n);
        LB_TRY(lb_cast_rows(v->kernels, &format, is_input, v->rounded, rows, cols, err));
        LB_TRY(lb_qsnr_compare(v->copy, v->rounded, rows, cols, &total->qsnr[pair][way][f], err));
    }
    return lb_crest_mean_add(&total->crest[pair][way], v->formats[pair][0].group, v->copy, rows, cols, err);
}

static lb_status survey_piece(survey *v, sums *total, lb_stage stage, bool is_input, const float *x,
                              size_t rows, size_t cols, lb_error *err)
{
    LB_TRY(make_room(v, rows * cols, err));
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++)
        for (unsigned way = 0; way < LB_STUDY_WAYS; way++)
            LB_TRY(survey_pair(v, total, pair, way, stage, is_input, x, rows, cols, err));
    return LB_OK;
}

static lb_study_tensor *tensor_at(survey *v, size_t block, bool is_input, unsigned which)
{
    const size_t of_block = LB_BLOCK_LINEARS + LB_STAGE_COUNT;
    return &v->study.tensors[block * of_block + (is_input ? LB_BLOCK_LINEARS : 0) + which];
}

/* The tensor's sums become its entry. */
static void close_tensor(lb_study_tensor *t, const sums *s)
{
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++) {
        for (unsigned way = 0; way < LB_STUDY_WAYS; way++) {
            const lb_crest_mean *crest = &s->crest[pair][way];
            for (unsigned f = 0; f < 2; f++)
                t->db[pair][way][f] = lb_qsnr_db(&s->qsnr[pair][way][f]);
            t->crest[pair][way] = crest->blocks ? crest->sum / (double)crest->blocks : 0.0;
        }
    }
}

static lb_status visit_weight(void *self, size_t block, unsigned which, const float *w, size_t rows,
                              size_t cols, lb_error *err)
{
    survey *v = self;
    lb_study_tensor *t = tensor_at(v, block, false, which);
    sums s = {0};
    if (which == 0) /* a new block */
        memset(v->inputs, 0, sizeof v->inputs);
    LB_TRY(survey_piece(v, &s, lb_block_linears[which].stage, false, w, rows, cols, err));
    *t = (lb_study_tensor){.block = block, .is_input = false, .which = which};
    close_tensor(t, &s);
    return LB_OK;
}

/* More windows may follow: the entry is that of all so far. */
static lb_status visit_inputs(void *self, size_t block, lb_stage stage, const float *x, size_t tokens,
                              size_t cols, lb_error *err)
{
    survey *v = self;
    lb_study_tensor *t = tensor_at(v, block, true, stage);
    LB_TRY(survey_piece(v, &v->inputs[stage], stage, true, x, tokens, cols, err));
    *t = (lb_study_tensor){.block = block, .is_input = true, .which = stage};
    close_tensor(t, &v->inputs[stage]);
    return LB_OK;
}

static lb_status prepare_pair(survey *v, const lb_config *config, unsigned pair, uint64_t seed, lb_error *err)
{
    lb_transform transform;
    for (unsigned f = 0; f < 2; f++)
        LB_TRY(lb_format_parse(lb_study_pairs[pair].formats[f], &v->formats[pair][f], err));
    LB_TRY(lb_transform_parse(lb_study_ways[1], &transform, err));
    transform.seed = seed;
    LB_TRY(lb_transform_resolve(&transform, &v->formats[pair][0], config, err));
    return lb_inputs_create(config, &transform, NULL, &v->rotations[pair], err);
}

lb_status lb_study_run(const lb_weights *weights, const lb_kernels *kernels, const lb_walk_text *text,
                       uint64_t seed, const lb_progress *progress, lb_study *out, lb_error *err)
{
    const lb_config *config = &weights->config;
    survey v = {.kernels = kernels};
    const lb_walker walker = {.self = &v, .weight = visit_weight, .inputs = visit_inputs};
    lb_status st = LB_OK;
    v.study.count = config->layers * (LB_BLOCK_LINEARS + LB_STAGE_COUNT);
    LB_GO(lb_alloc_array(&v.study.tensors, v.study.count, sizeof *v.study.tensors, "study", err));
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++)
        LB_GO(prepare_pair(&v, config, pair, seed, err));
    LB_GO(lb_walk(weights, kernels, text, config->layers, &walker, progress, err));
    *out = v.study;
    v.study = (lb_study){0};
done:
    for (unsigned pair = 0; pair < LB_STUDY_PAIRS; pair++)
        lb_inputs_free(&v.rotations[pair]);
    lb_study_free(&v.study);
    lb_free(v.copy);
    lb_free(v.rounded);
    return st;
}

void lb_study_free(lb_study *study)
{
    lb_free(study->tensors);
    *study = (lb_study){0};
}

lb_study_tally lb_study_sum(const lb_study *study, unsigned pair, unsigned way, unsigned kinds)
{
    lb_study_tally total = {0};
    for (size_t i = 0; i < study->count; i++) {
        const lb_study_tensor *t = &study->tensors[i];
        const double *db = t->db[pair][way];
        if (!(kinds & (t->is_input ? LB_STUDY_INPUTS : LB_STUDY_WEIGHTS)) || !isfinite(db[0]) ||
            !isfinite(db[1]))
            continue;
        total.tensors++;
        total.integer_wins += db[0] > db[1];
        total.db[0] += db[0];
        total.db[1] += db[1];
        total.crest += t->crest[pair][way];
    }
    if (total.tensors > 0) {
        total.db[0] /= (double)total.tensors;
        total.db[1] /= (double)total.tensors;
        total.crest /= (double)total.tensors;
    } else {
        total.db[0] = total.db[1] = total.crest = NAN;
    }
    return total;
}
