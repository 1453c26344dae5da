/* SPDX-License-Identifier: MIT */
#include "cli/formats_source.h"

#include <stdio.h>
#include <string.h>

#include "analyze/walk.h"
#include "base/alloc.h"
#include "cli/suggest.h"
#include "model/weights.h"

enum { NAME_BYTES = 160 };
static const char weight_suffix[] = ".weight";

void lb_source_tensor_free(lb_source_tensor *tensor)
{
    lb_free(tensor->x);
    *tensor = (lb_source_tensor){0};
}

/* "MODEL:NAME" cut at its last colon, since paths may hold some and names do not. */
static lb_status open_place(const char *place, const char *what, char name[NAME_BYTES], lb_weights **weights,
                            lb_error *err)
{
    const char *colon = strrchr(place, ':');
    if (!colon || colon == place || colon[1] == '\0' || strlen(colon + 1) >= NAME_BYTES)
        return lb_fail(err, LB_EINVAL, "\"%.80s\" does not name a %s: want MODEL:NAME", place, what);
    memcpy(name, colon + 1, strlen(colon + 1) + 1);
    char *path = lb_strndup(place, (size_t)(colon - place));
    if (!path)
        return lb_fail(err, LB_ENOMEM, "%.80s: no memory", place);
    lb_status st = lb_weights_open(path, weights, err);
    lb_free(path);
    return st;
}

static bool ends_with(const char *text, const char *end)
{
    const size_t length = strlen(text), tail = strlen(end);
    return length >= tail && strcmp(text + length - tail, end) == 0;
}

static void cut_suffix(char *name)
{
    if (ends_with(name, weight_suffix))
        name[strlen(name) - strlen(weight_suffix)] = '\0';
}

/* ---- A tensor -------------------------------------------------------------------------------------- */

/* Rows and columns of the tensor `name`, which may be a weight that is stored quantized. */
static bool find_shape(const lb_weights *w, const char *name, size_t *rows, size_t *cols)
{
    const lb_tensor *tensor = lb_tensor_find(&w->checkpoint.tensors, name);
    char layer[NAME_BYTES + 16];
    if (tensor) {
        *rows = lb_tensor_rows(tensor);
        *cols = lb_tensor_cols(tensor);
        return true;
    }
    snprintf(layer, sizeof layer, "%s", name);
    cut_suffix(layer);
    if (!ends_with(name, weight_suffix) || !lb_weights_quantized(w))
        return false;
    for (size_t block = 0; block < w->config.layers; block++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            char linear[96];
            lb_linear_name(block, which, linear, sizeof linear);
            lb_linear_shape(&w->config, which, rows, cols);
            if (strcmp(linear, layer) == 0)
                return true;
        }
    }
    if (!w->layer_formats || !json_object_get(w->layer_formats, layer))
        return false;
    *rows = w->config.vocab; /* the embedding, or a head of its own */
    *cols = w->config.hidden;
    return true;
}

/* A name that is near to what was typed, or that ends with it; NULL: none. */
static const char *near_tensor(const lb_weights *w, const char *name, char best[NAME_BYTES])
{
    const lb_tensor_set *set = &w->checkpoint.tensors;
    const char *near = NULL;
    for (size_t i = 0; i < set->count; i++)
        near = lb_suggest(name, near, set->tensors[i].name);
    for (size_t i = 0; i < set->count && !near; i++) {
        snprintf(best, NAME_BYTES, "%s", set->tensors[i].name);
        cut_suffix(best);
        if (ends_with(best, name) || ends_with(set->tensors[i].name, name))
            near = best;
    }
    return near;
}

static lb_status unknown(const lb_weights *w, const char *what, const char *name, const char *near,
                         lb_error *err)
{
    if (near)
        return lb_fail(err, LB_EINVAL, "%s has no %s called %s; did you mean %s?", w->checkpoint.path, what,
                       name, near);
    return lb_fail(err, LB_EINVAL, "%s has no %s called %s; lowbit inspect --tensors lists its tensors",
                   w->checkpoint.path, what, name);
}

static lb_status read_weight(const lb_weights *w, const char *name, lb_source_tensor *out, lb_error *err)
{
    char full[NAME_BYTES + 16], best[NAME_BYTES];
    lb_weight weight;
    snprintf(full, sizeof full, "%s", name);
    if (!find_shape(w, full, &out->rows, &out->cols)) {
        snprintf(full, sizeof full, "%s%s", name, weight_suffix);
        if (!find_shape(w, full, &out->rows, &out->cols))
            return unknown(w, "tensor", name, near_tensor(w, name, best), err);
    }
    LB_TRY(lb_weights_find(w, full, out->rows, out->cols, &weight, err));
    LB_TRY(lb_alloc_array(&out->x, out->rows, out->cols * sizeof(float), full, err));
    return lb_weight_read(&weight, 0, out->rows, out->x, err);
}

lb_status lb_source_weight(const char *place, lb_source_tensor *out, lb_error *err)
{
    char name[NAME_BYTES];
    lb_weights *weights = NULL;
    *out = (lb_source_tensor){0};
    lb_status st = open_place(place, "tensor of a model", name, &weights, err);
    if (st == LB_OK)
        st = read_weight(weights, name, out, err);
    lb_weights_close(weights);
    if (st != LB_OK)
        lb_source_tensor_free(out);
    return st;
}

/* ---- Inputs of a layer ----------------------------------------------------------------------------- */

typedef struct capture {
    size_t block;
    lb_stage stage;
    size_t tokens; /* there will be */
    lb_source_tensor *out; /* rows: tokens so far */
} capture;

static lb_status keep_inputs(void *self, size_t block, lb_stage stage, const float *x, size_t tokens,
                             size_t cols, lb_error *err)
{
    capture *c = self;
    if (block != c->block || stage != c->stage)
        return LB_OK;
    if (!c->out->x) {
        LB_TRY(lb_alloc_array(&c->out->x, c->tokens, cols * sizeof(float), "inputs of a layer", err));
        c->out->cols = cols;
    }
    memcpy(c->out->x + c->out->rows * cols, x, tokens * cols * sizeof(float));
    c->out->rows += tokens;
    return LB_OK;
}

static lb_status find_layer(const lb_weights *w, char *name, capture *c, lb_error *err)
{
    char near[96] = "", linear[96];
    cut_suffix(name);
    for (size_t block = 0; block < w->config.layers; block++) {
        for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
            lb_linear_name(block, which, linear, sizeof linear);
            if (strcmp(linear, name) == 0) {
                c->block = block;
                c->stage = lb_block_linears[which].stage;
                return LB_OK;
            }
            const bool nearer = near[0] ? lb_suggest(name, near, linear) == linear
                                        : lb_suggest(name, NULL, linear) || ends_with(linear, name);
            if (nearer)
                memcpy(near, linear, sizeof near);
        }
    }
    return unknown(w, "linear layer", name, near[0] ? near : NULL, err);
}

static lb_status capture_inputs(const lb_weights *w, char *name, const char *text_path, size_t tokens,
                                const lb_kernels *kernels, const lb_progress *progress, lb_source_tensor *out,
                                lb_error *err)
{
    capture c = {.out = out};
    lb_walk_text text;
    LB_TRY(find_layer(w, name, &c, err));
    LB_TRY(lb_walk_text_read(w, text_path, tokens, 0, &text, err));
    c.tokens = text.windows * text.ctx;
    const lb_walker walker = {.self = &c, .inputs = keep_inputs};
    lb_status st = lb_walk(w, kernels, &text, c.block + 1, &walker, progress, err);
    lb_walk_text_free(&text);
    return st;
}

lb_status lb_source_inputs(const char *place, const char *text_path, size_t tokens, const lb_kernels *kernels,
                           const lb_progress *progress, lb_source_tensor *out, lb_error *err)
{
    char name[NAME_BYTES];
    lb_weights *weights = NULL;
    *out = (lb_source_tensor){0};
    lb_status st = open_place(place, "linear layer of a model", name, &weights, err);
    if (st == LB_OK)
        st = capture_inputs(weights, name, text_path, tokens, kernels, progress, out, err);
    lb_weights_close(weights);
    if (st != LB_OK)
        lb_source_tensor_free(out);
    return st;
}
