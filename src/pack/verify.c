/* SPDX-License-Identifier: MIT */
#include "pack/verify.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/thread.h"
#include "model/foreign.h"
#include "model/input_order.h"
#include "pack/plan.h"

/* Calls back with every weight of the model: matrices in order, vectors in between. */
typedef lb_status (*visit_weight)(void *self, const char *layer, const lb_weight *weight, lb_error *err);

static lb_status visit_matrix(const lb_weights *weights, const char *layer, size_t rows, size_t cols,
                              visit_weight visit, void *self, lb_error *err)
{
    char name[160];
    lb_weight w;
    snprintf(name, sizeof name, "%s.weight", layer);
    LB_TRY(lb_weights_find(weights, name, rows, cols, &w, err));
    return visit(self, layer, &w, err);
}

static lb_status visit_all(const lb_weights *weights, visit_weight visit, void *self, lb_error *err)
{
    const lb_config *c = &weights->config;
    const char *outer;
    char name[128];
    size_t rows, cols, n;
    lb_weight w;
    for (size_t layer = 0; layer < c->layers; layer++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            lb_linear_name(layer, which, name, sizeof name);
            lb_linear_shape(c, which, &rows, &cols);
            LB_TRY(visit_matrix(weights, name, rows, cols, visit, self, err));
        }
        for (size_t i = 0; lb_block_vector(c, layer, i, name, sizeof name, &n); i++) {
            LB_TRY(lb_weights_find(weights, name, 1, n, &w, err));
            LB_TRY(visit(self, NULL, &w, err));
        }
    }
    for (size_t i = 0; lb_outer_matrix(c, i, &outer); i++)
        LB_TRY(visit_matrix(weights, outer, c->vocab, c->hidden, visit, self, err));
    LB_TRY(lb_weights_find(weights, "model.norm.weight", 1, c->hidden, &w, err));
    return visit(self, NULL, &w, err);
}

static lb_status note_weight(void *self, const char *layer, const lb_weight *w, lb_error *err)
{
    lb_stored_model *m = self;
    const uint64_t elems = (uint64_t)w->rows * w->cols, bytes = lb_weight_bytes(w);
    (void)err;
    m->size.all_weights += elems;
    m->size.all_bytes += bytes;
    if (w->part_count > 0) {
        m->size.quantized_weights += elems;
        m->size.quantized_bytes += bytes;
    }
    if (layer) {
        lb_stored_layer *to = &m->layers[m->count++];
        *to = (lb_stored_layer){.format = w->format, .rows = w->rows, .cols = w->cols, .bytes = bytes};
        snprintf(to->name, sizeof to->name, "%s", layer);
        if (w->tensor && lb_dtype_block_elems(w->tensor->dtype) > 1) /* GGUF's: no format of ours */
            snprintf(to->format.name, sizeof to->format.name, "%s", lb_dtype_name(w->tensor->dtype));
        else if (w->part_count > 0 && lb_format_is_float(&w->format)) /* another tool's, likewise */
            snprintf(to->format.name, sizeof to->format.name, "%s", lb_foreign_name(w));
    }
    return LB_OK;
}

lb_status lb_stored_model_list(const lb_weights *weights, lb_stored_model *out, lb_error *err)
{
    lb_stored_model m = {0};
    LB_TRY(lb_alloc_array(&m.layers, weights->config.layers * LB_BLOCK_LINEARS + 2, sizeof *m.layers,
                          "layers", err));
    const lb_status st = visit_all(weights, note_weight, &m, err);
    if (st == LB_OK) {
        m.size.all_bytes += lb_input_masks_bytes(&weights->config, &weights->act);
        *out = m;
    } else
        lb_free(m.layers);
    return st;
}

void lb_stored_model_free(lb_stored_model *model)
{
    lb_free(model->layers);
    *model = (lb_stored_model){0};
}

typedef struct verification {
    const lb_weights *weights;
    const lb_progress *progress;
    size_t done, total; /* tensors */
} verification;

typedef struct row_check {
    const lb_weight *weight;
    atomic_int failed;
} row_check;

static void check_rows(void *arg, size_t begin, size_t end)
{
    row_check *check = arg;
    float *row = lb_alloc(check->weight->cols, sizeof *row);
    bool fine = row != NULL;
    for (size_t i = begin; fine && i < end; i++)
        fine = lb_weight_read(check->weight, i, 1, row, NULL) == LB_OK;
    if (!fine)
        atomic_store(&check->failed, 1);
    lb_free(row);
}

/* Threads only find that something is wrong; the first place is then looked for in order. */
static lb_status verify_weight(void *self, const char *layer, const lb_weight *w, lb_error *err)
{
    verification *v = self;
    row_check check = {.weight = w};
    float *row;
    (void)layer;
    LB_TRY(lb_progress_tell(v->progress, "verifying", v->done++, v->total, err));
    lb_parallel_for(w->rows, 64, check_rows, &check);
    lb_status st = LB_OK;
    if (atomic_load(&check.failed)) {
        LB_TRY(lb_alloc_array(&row, w->cols, sizeof *row, w->name, err));
        for (size_t i = 0; st == LB_OK && i < w->rows; i++)
            st = lb_weight_read(w, i, 1, row, err);
        lb_free(row);
    }
    lb_weight_forget(v->weights, w);
    return st == LB_OK ? LB_OK : lb_fail_at(err, st, "%s", v->weights->checkpoint.path);
}

lb_status lb_verify_values(const lb_weights *weights, const lb_progress *progress, lb_error *err)
{
    verification v = {weights, progress, 0, weights->checkpoint.tensors.count};
    return visit_all(weights, verify_weight, &v, err);
}
