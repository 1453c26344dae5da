/* SPDX-License-Identifier: MIT */
#include "model/model_grad.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"

typedef struct pass {
    const lb_model_grad *job;
    size_t tokens;
    float **x; /* [layers + 1]: every block's inputs [tokens, hidden], and what the last one puts out, which
                * becomes the loss's gradient with respect to it */
    uint32_t *targets;
    lb_rope rope;
    lb_block_trace trace;
    lb_block_grads grads; /* memory of the block's weights and inputs */
    lb_head_scratch head;
    size_t done; /* blocks, on both ways */
} pass;

static size_t weight_count(const lb_config *c, unsigned which)
{
    size_t rows, cols;
    lb_linear_shape(c, which, &rows, &cols);
    return rows * cols;
}

static void pass_free(pass *p)
{
    for (size_t i = 0; p->x && i <= p->job->config->layers; i++)
        lb_free(p->x[i]);
    lb_free(p->x);
    lb_free(p->targets);
    lb_rope_free(&p->rope);
    lb_block_trace_free(&p->trace);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        lb_free(p->grads.weights[which]);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        lb_free(p->grads.inputs[stage]);
    lb_head_scratch_free(&p->head);
}

static lb_status make_room(pass *p, lb_error *err)
{
    const lb_model_grad *j = p->job;
    const lb_config *c = j->config;
    const size_t batch_tokens = j->batch * j->length;
    p->x = lb_alloc_zero(c->layers + 1, sizeof *p->x);
    if (!p->x)
        return lb_fail(err, LB_ENOMEM, "gradients: no memory for %zu blocks", c->layers);
    for (size_t i = 0; i <= c->layers; i++)
        LB_TRY(lb_alloc_array(&p->x[i], p->tokens, c->hidden * sizeof(float), "inputs of blocks", err));
    LB_TRY(lb_alloc_array(&p->targets, p->tokens, sizeof *p->targets, "targets", err));
    LB_TRY(lb_rope_create(c, j->length, &p->rope, err));
    LB_TRY(lb_block_trace_create(c, batch_tokens, j->length, &p->trace, err));
    for (unsigned which = 0; !(j->sums && j->sums->blocks) && which < LB_BLOCK_LINEARS; which++)
        LB_TRY(lb_alloc_array(&p->grads.weights[which], weight_count(c, which), sizeof(float),
                              "gradients of a block", err));
    for (unsigned stage = 0; j->wants_inputs && stage < LB_STAGE_COUNT; stage++)
        LB_TRY(lb_alloc_array(&p->grads.inputs[stage], batch_tokens,
                              lb_stage_width(c, (lb_stage)stage) * sizeof(float), "gradients of a block",
                              err));
    LB_TRY(lb_head_scratch_create(j->ends, &p->head, err));
    return j->teacher ? lb_head_scratch_add_teacher(j->ends, &p->head, err) : LB_OK;
}

size_t lb_model_backward_bytes(const lb_config *c, size_t sequences, size_t length, size_t batch)
{
    const lb_embedding ends = {.vocab = c->vocab, .hidden = c->hidden};
    size_t bytes = sequences * length * ((c->layers + 1) * c->hidden * sizeof(float) + sizeof(uint32_t)) +
                   lb_block_trace_bytes(c, batch * length, length) + lb_head_scratch_bytes(&ends);
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        bytes += weight_count(c, which) * sizeof(float);
    for (unsigned stage = 0; stage < LB_STAGE_COUNT; stage++)
        bytes += batch * length * lb_stage_width(c, (lb_stage)stage) * sizeof(float);
    return bytes;
}

static size_t batch_at(const pass *p, size_t first)
{
    const size_t left = p->job->sequences - first;
    return left < p->job->batch ? left : p->job->batch;
}

static lb_status tell(pass *p, lb_error *err)
{
    return lb_progress_tell(p->job->progress, p->job->label, p->done++, 2 * p->job->config->layers, err);
}

static lb_stage_context context(const pass *p, const lb_block *block)
{
    return (lb_stage_context){.kernels = p->job->kernels,
                              .config = p->job->config,
                              .rope = &p->rope,
                              .block = block,
                              .inputs = p->job->inputs};
}

static lb_status forward(pass *p, size_t layer, lb_error *err)
{
    const lb_model_grad *j = p->job;
    const size_t row = j->length * j->config->hidden;
    lb_block block = {0};
    lb_status st = LB_OK;
    LB_GO(j->load(j->self, layer, &block, err));
    const lb_stage_context c = context(p, &block);
    for (size_t at = 0; at < j->sequences; at += j->batch) {
        LB_GO(lb_block_forward_traced(&c, p->x[layer] + at * row, batch_at(p, at), j->length, &p->trace,
                                      p->x[layer + 1] + at * row, err));
        LB_GO(lb_progress_tell(j->progress, j->label, 0, 0, err));
    }
done:
    lb_block_free(&block);
    return st;
}

/* Cross-entropy of the ids that come next; the gradients may be those of other targets. */
static lb_status next_token_loss(pass *p, const float *x, const lb_head_grads *grads, double *loss,
                                 lb_error *err)
{
    const lb_model_grad *j = p->job;
    const lb_head_grads none = {0};
    double ignored;
    for (size_t t = 0; t < p->tokens; t++)
        p->targets[t] = (t + 1) % j->length == 0 ? LB_NO_TARGET : j->ids[t + 1];
    if (j->retarget) {
        LB_TRY(lb_head_backward(j->kernels, j->ends, x, p->targets, p->tokens, 1.0f, &p->head, &none, loss,
                                err));
        LB_TRY(j->retarget(j->self, x, p->tokens, p->targets, err));
    }
    return lb_head_backward(j->kernels, j->ends, x, p->targets, p->tokens, 1.0f, &p->head, grads,
                            j->retarget ? &ignored : loss, err);
}

/* The loss, and its gradient with respect to what the last block put out, in that one's place. */
static lb_status loss_end(pass *p, double *loss, lb_error *err)
{
    const lb_model_grad *j = p->job;
    float *x = p->x[j->config->layers];
    lb_head_grads grads = {
        .head = j->sums ? j->sums->head : NULL, .norm = j->sums ? j->sums->norm : NULL, .dx = x};
    if (j->loss_only)
        grads = (lb_head_grads){0};
    LB_TRY(j->teacher ? lb_head_divergence(j->kernels, j->ends, x, j->teacher, p->tokens, 1.0f, &p->head,
                                           &grads, loss, err)
                      : next_token_loss(p, x, &grads, loss, err));
    if (isfinite(*loss))
        return LB_OK;
    return lb_fail(err, LB_EINVAL,
                   "%s: the model's loss on the calibration text is %g, so that nothing can be "
                   "learned from its gradients",
                   j->label, fabs(*loss)); /* a NaN's sign means nothing */
}

/* Where a block's gradients go: to the caller's sums, or to a batch's own. */
static lb_block_grads block_grads(const pass *p, size_t layer)
{
    const lb_model_sums *sums = p->job->sums;
    if (!sums || !sums->blocks)
        return p->grads;
    lb_block_grads grads = sums->blocks[layer];
    memcpy(grads.inputs, p->grads.inputs, sizeof grads.inputs);
    return grads;
}

static void begin_batch(const pass *p)
{
    for (unsigned which = 0; which < LB_BLOCK_LINEARS; which++)
        if (p->grads.weights[which])
            memset(p->grads.weights[which], 0, weight_count(p->job->config, which) * sizeof(float));
}

/* d [tokens, hidden], the gradient with respect to what the first block was fed. */
static void add_to_embedding(const pass *p, const float *d)
{
    const size_t width = p->job->config->hidden;
    for (size_t t = 0; t < p->tokens; t++) {
        float *row = p->job->sums->embed + p->job->ids[t] * width;
        for (size_t i = 0; i < width; i++)
            row[i] += d[t * width + i];
    }
}

/* dy, the gradient with respect to what the block put out, becomes that with respect to what it was fed. */
static lb_status backward(pass *p, size_t layer, float *dy, lb_error *err)
{
    const lb_model_grad *j = p->job;
    const size_t row = j->length * j->config->hidden;
    const lb_block_grads grads = block_grads(p, layer);
    const bool goes_on = layer > 0 || (j->sums && j->sums->embed);
    lb_block block = {0};
    lb_status st = LB_OK;
    LB_GO(j->load(j->self, layer, &block, err));
    const lb_stage_context c = context(p, &block);
    for (size_t at = 0; at < j->sequences; at += j->batch) {
        float *x = p->x[layer] + at * row, *d = dy + at * row;
        begin_batch(p);
        LB_GO(lb_block_forward_traced(&c, x, batch_at(p, at), j->length, &p->trace, x, err));
        LB_GO(lb_block_backward(&c, &p->trace, d, &grads, goes_on ? d : NULL, err));
        const lb_block_pass done_pass = {
            .layer = layer, .batch = at / j->batch, .context = &c, .trace = &p->trace, .grads = &grads};
        if (j->take)
            LB_GO(j->take(j->self, &done_pass, err));
        LB_GO(lb_progress_tell(j->progress, j->label, 0, 0, err));
    }
done:
    lb_block_free(&block);
    return st;
}

lb_status lb_model_backward(const lb_model_grad *job, double *loss, lb_error *err)
{
    const size_t layers = job->config->layers;
    pass p = {.job = job, .tokens = job->sequences * job->length};
    lb_status st = LB_OK;
    if (job->sequences == 0 || job->length < 2)
        return lb_fail(err, LB_EINVAL,
                       "gradients of a model want at least 1 sequence of 2 tokens, got %zu of %zu",
                       job->sequences, job->length);
    if (job->batch == 0)
        return lb_fail(err, LB_EINVAL, "gradients of a model want batches of at least 1 sequence");
    LB_GO(make_room(&p, err));
    LB_GO(lb_embedding_look_up(job->kernels, job->ends, job->ids, p.tokens, p.x[0], err));
    for (size_t i = 0; i < layers; i++) {
        LB_GO(tell(&p, err));
        LB_GO(forward(&p, i, err));
    }
    LB_GO(loss_end(&p, loss, err));
    for (size_t i = job->loss_only ? 0 : layers; i-- > 0;) {
        LB_GO(tell(&p, err));
        LB_GO(backward(&p, i, p.x[layers], err));
    }
    if (!job->loss_only && job->sums && job->sums->embed)
        add_to_embedding(&p, p.x[layers]);
done:
    pass_free(&p);
    return st;
}
