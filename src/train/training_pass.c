/* SPDX-License-Identifier: MIT */
#include "train/training_pass.h"

#include "base/alloc.h"

static lb_status create(lb_training_pass *p, float *values, float *grads, lb_error *err)
{
    const lb_parameters *parameters = p->parameters;
    const lb_config *c = &parameters->config;
    LB_TRY(lb_rope_create(c, p->length, &p->rope, err));
    lb_parameters_ends(parameters, values, &p->ends);
    LB_TRY(lb_head_scratch_create(&p->ends, &p->head, err));
    LB_TRY(lb_alloc_array(&p->x, p->max_tokens, c->hidden * sizeof *p->x, "training", err));
    LB_TRY(lb_alloc_array(&p->blocks, c->layers, sizeof *p->blocks, "training", err));
    p->traces = lb_alloc_zero(c->layers, sizeof *p->traces);
    p->grads = lb_alloc_zero(c->layers, sizeof *p->grads);
    if (!p->traces || !p->grads)
        return lb_fail(err, LB_ENOMEM, "training: no memory for %zu blocks", c->layers);
    for (size_t layer = 0; layer < c->layers; layer++) {
        lb_parameters_block(parameters, values, layer, &p->blocks[layer]);
        if (grads)
            lb_parameters_grads(parameters, grads, layer, &p->grads[layer]);
    }
    if (grads) {
        lb_embedding views;
        lb_parameters_ends(parameters, grads, &views);
        p->embed_grad = views.embed.dense;
        p->head_grad = views.head.dense;
        p->norm_grad = views.norm;
    }
    LB_TRY(lb_block_trace_create(c, p->max_tokens, p->length, &p->traces[0], err));
    for (size_t layer = 1; grads && layer < c->layers; layer++)
        LB_TRY(lb_block_trace_share(c, &p->traces[0], &p->traces[layer], err));
    return LB_OK;
}

lb_status lb_training_pass_create(const lb_kernels *kernels, const lb_parameters *parameters, float *values,
                                  float *grads, size_t max_tokens, size_t length, lb_training_pass *out,
                                  lb_error *err)
{
    lb_training_pass p = {
        .kernels = kernels, .parameters = parameters, .max_tokens = max_tokens, .length = length};
    const lb_status st = create(&p, values, grads, err);
    if (st == LB_OK)
        *out = p;
    else
        lb_training_pass_free(&p);
    return st;
}

void lb_training_pass_free(lb_training_pass *p)
{
    lb_rope_free(&p->rope);
    lb_head_scratch_free(&p->head);
    for (size_t layer = p->parameters ? p->parameters->config.layers : 0; p->traces && layer-- > 0;)
        lb_block_trace_free(&p->traces[layer]);
    lb_free(p->traces);
    lb_free(p->blocks);
    lb_free(p->grads);
    lb_free(p->x);
    *p = (lb_training_pass){0};
}

size_t lb_training_pass_bytes(const lb_parameters *parameters, size_t max_tokens, size_t length)
{
    const lb_config *c = &parameters->config;
    const lb_embedding ends = {.vocab = c->vocab, .hidden = c->hidden};
    return lb_block_trace_bytes(c, max_tokens, length) +
           (c->layers - 1) * lb_block_trace_shared_bytes(c, max_tokens, length) +
           lb_head_scratch_bytes(&ends) + max_tokens * c->hidden * sizeof(float);
}

static lb_stage_context context(const lb_training_pass *p, size_t layer)
{
    return (lb_stage_context){.kernels = p->kernels,
                              .config = &p->parameters->config,
                              .rope = &p->rope,
                              .block = &p->blocks[layer],
                              .low_bit = p->low_bit};
}

static lb_status forward(lb_training_pass *p, const uint32_t *ids, size_t sequences, bool keeps,
                         lb_error *err)
{
    if (sequences == 0 || sequences * p->length > p->max_tokens)
        return lb_fail(err, LB_EINVAL,
                       "training: a batch of %zu sequences of %zu tokens, want 1 to %zu tokens", sequences,
                       p->length, p->max_tokens);
    LB_TRY(lb_embedding_look_up(p->kernels, &p->ends, ids, sequences * p->length, p->x, err));
    for (size_t layer = 0; layer < p->parameters->config.layers; layer++) {
        const lb_stage_context c = context(p, layer);
        LB_TRY(lb_block_forward_traced(&c, p->x, sequences, p->length, &p->traces[keeps ? layer : 0], p->x,
                                       err));
    }
    return LB_OK;
}

/* d [tokens, hidden], the gradient with respect to what the first block was fed. */
static void add_to_embedding(const lb_training_pass *p, const uint32_t *ids, size_t tokens)
{
    const size_t width = p->parameters->config.hidden;
    for (size_t t = 0; t < tokens; t++) {
        float *row = p->embed_grad + ids[t] * width;
        for (size_t i = 0; i < width; i++)
            row[i] += p->x[t * width + i];
    }
}

lb_status lb_training_pass_run(lb_training_pass *p, const uint32_t *ids, const uint32_t *targets,
                               size_t sequences, float scale, double *loss, lb_error *err)
{
    const size_t tokens = sequences * p->length, layers = p->parameters->config.layers;
    const lb_head_grads ends = {
        .head = p->head_grad, .norm = p->norm_grad, .dx = p->x, .z_weight = p->z_weight};
    LB_TRY(forward(p, ids, sequences, true, err));
    LB_TRY(lb_head_backward(p->kernels, &p->ends, p->x, targets, tokens, scale, &p->head, &ends, loss, err));
    for (size_t layer = layers; layer-- > 0;) {
        const lb_stage_context c = context(p, layer);
        if (layer + 1 < layers) /* the last block's is still there */
            LB_TRY(lb_block_trace_restore(&c, &p->traces[layer], err));
        LB_TRY(lb_block_backward(&c, &p->traces[layer], p->x, &p->grads[layer], p->x, err));
    }
    add_to_embedding(p, ids, tokens);
    return LB_OK;
}

lb_status lb_training_pass_loss(lb_training_pass *p, const uint32_t *ids, const uint32_t *targets,
                                size_t sequences, double *loss, lb_error *err)
{
    const lb_head_grads none = {0};
    LB_TRY(forward(p, ids, sequences, false, err));
    return lb_head_backward(p->kernels, &p->ends, p->x, targets, sequences * p->length, 1.0f, &p->head, &none,
                            loss, err);
}
