/* SPDX-License-Identifier: MIT */
#include "train/parameters.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/rng.h"

enum { ALIGNMENT = 16, MOST_OF_A_BLOCK = LB_BLOCK_LINEARS * 2 + 4, MOST_OF_THE_ENDS = 3 };

static void add(lb_parameters *p, const char *name, lb_parameter_kind kind, size_t rows, size_t cols)
{
    lb_parameter *one = &p->list[p->count++];
    *one = (lb_parameter){.kind = kind, .rows = rows, .cols = cols, .at = p->floats};
    snprintf(one->name, sizeof one->name, "%s", name);
    p->weights += rows * cols;
    p->floats += (rows * cols + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static void add_block(lb_parameters *p, size_t layer)
{
    char base[96], name[128];
    size_t rows, cols, n;
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear_shape(&p->config, which, &rows, &cols);
        lb_linear_name(layer, which, base, sizeof base);
        snprintf(name, sizeof name, "%s.weight", base);
        add(p, name, LB_PARAMETER_MATRIX, rows, cols);
        p->list[p->count - 1].is_last_of_branch = which == LB_LINEAR_O || which == LB_LINEAR_DOWN;
    }
    for (size_t i = 0; lb_block_vector(&p->config, layer, i, name, sizeof name, &n); i++) {
        const size_t length = strlen(name);
        const bool is_bias = length > 5 && strcmp(name + length - 5, ".bias") == 0;
        add(p, name, is_bias ? LB_PARAMETER_BIAS : LB_PARAMETER_NORM, 1, n);
    }
}

lb_status lb_parameters_create(const lb_config *config, lb_parameters *out, lb_error *err)
{
    lb_parameters p = {.config = *config};
    LB_TRY(lb_alloc_array(&p.list, config->layers * MOST_OF_A_BLOCK + MOST_OF_THE_ENDS, sizeof *p.list,
                          "parameters", err));
    add(&p, "model.embed_tokens.weight", LB_PARAMETER_EMBEDDING, config->vocab, config->hidden);
    for (size_t layer = 0; layer < config->layers; layer++)
        add_block(&p, layer);
    add(&p, "model.norm.weight", LB_PARAMETER_NORM, 1, config->hidden);
    if (!config->tied_embeddings)
        add(&p, "lm_head.weight", LB_PARAMETER_EMBEDDING, config->vocab, config->hidden);
    *out = p;
    return LB_OK;
}

void lb_parameters_free(lb_parameters *p)
{
    lb_free(p->list);
    *p = (lb_parameters){0};
}

const lb_parameter *lb_parameter_find(const lb_parameters *p, const char *name)
{
    for (size_t i = 0; i < p->count; i++)
        if (strcmp(p->list[i].name, name) == 0)
            return &p->list[i];
    return NULL;
}

static float *find(const lb_parameters *p, float *values, const char *name)
{
    const lb_parameter *one = lb_parameter_find(p, name);
    return one ? values + one->at : NULL;
}

static float *of_block(const lb_parameters *p, float *values, size_t layer, const char *suffix)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.%s", layer, suffix);
    return find(p, values, name);
}

static float *of_linear(const lb_parameters *p, float *values, size_t layer, unsigned which, const char *part)
{
    char base[96], name[128];
    lb_linear_name(layer, which, base, sizeof base);
    snprintf(name, sizeof name, "%s.%s", base, part);
    return find(p, values, name);
}

static lb_linear matrix(const lb_parameters *p, float *values, const char *name)
{
    const lb_parameter *one = lb_parameter_find(p, name);
    return (lb_linear){.rows = one->rows,
                       .cols = one->cols,
                       .type = LB_DENSE_F32,
                       .dense = values + one->at,
                       .borrowed = true};
}

void lb_parameters_block(const lb_parameters *p, float *values, size_t layer, lb_block *out)
{
    *out = (lb_block){.attn_norm = of_block(p, values, layer, "input_layernorm.weight"),
                      .ffn_norm = of_block(p, values, layer, "post_attention_layernorm.weight"),
                      .q_norm = of_block(p, values, layer, "self_attn.q_norm.weight"),
                      .k_norm = of_block(p, values, layer, "self_attn.k_norm.weight")};
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        lb_linear *l = &out->linear[which];
        lb_linear_shape(&p->config, which, &l->rows, &l->cols);
        l->type = LB_DENSE_F32;
        l->dense = of_linear(p, values, layer, which, "weight");
        l->borrowed = true;
        l->bias = of_linear(p, values, layer, which, "bias");
    }
}

void lb_parameters_ends(const lb_parameters *p, float *values, lb_embedding *out)
{
    *out = (lb_embedding){.vocab = p->config.vocab,
                          .hidden = p->config.hidden,
                          .embed = matrix(p, values, "model.embed_tokens.weight"),
                          .norm = find(p, values, "model.norm.weight"),
                          .norm_eps = p->config.norm_eps};
    out->head = p->config.tied_embeddings ? out->embed : matrix(p, values, "lm_head.weight");
}

void lb_parameters_grads(const lb_parameters *p, float *values, size_t layer, lb_block_grads *out)
{
    lb_block views;
    lb_parameters_block(p, values, layer, &views);
    *out = (lb_block_grads){.attn_norm = views.attn_norm,
                            .ffn_norm = views.ffn_norm,
                            .q_norm = views.q_norm,
                            .k_norm = views.k_norm};
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++) {
        out->weights[which] = views.linear[which].dense;
        out->biases[which] = views.linear[which].bias;
    }
}

void lb_parameters_init(const lb_parameters *p, double std, uint64_t seed, float *values)
{
    memset(values, 0, p->floats * sizeof *values);
    for (size_t i = 0; i < p->count; i++) {
        const lb_parameter *one = &p->list[i];
        const size_t n = one->rows * one->cols;
        const double scale = one->is_last_of_branch ? std / sqrt(2.0 * (double)p->config.layers) : std;
        lb_rng rng;
        lb_rng_seed(&rng, seed * 0x9E3779B97F4A7C15u + i);
        for (size_t k = 0; k < n && one->kind != LB_PARAMETER_BIAS; k++)
            values[one->at + k] =
                one->kind == LB_PARAMETER_NORM ? 1.0f : (float)(scale * lb_rng_normal(&rng));
    }
}
