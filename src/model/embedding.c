/* SPDX-License-Identifier: MIT */
#include "model/embedding.h"

#include "base/alloc.h"

lb_status lb_embedding_load(const lb_weights *weights, lb_embedding *out, lb_error *err)
{
    const lb_config *c = &weights->config;
    lb_embedding e = {.vocab = c->vocab, .hidden = c->hidden, .norm_eps = c->norm_eps};
    lb_weight w;
    lb_status st = LB_OK;
    LB_GO(lb_weights_find(weights, "model.embed_tokens.weight", c->vocab, c->hidden, &w, err));
    LB_GO(lb_linear_load(&w, NULL, LB_LOAD_NATIVE, &e.embed, err));
    lb_weight_forget(weights, &w);
    if (c->tied_embeddings) {
        e.head = e.embed;
        e.head.borrowed = true;
    } else {
        LB_GO(lb_weights_find(weights, "lm_head.weight", c->vocab, c->hidden, &w, err));
        LB_GO(lb_linear_load(&w, NULL, LB_LOAD_NATIVE, &e.head, err));
        lb_weight_forget(weights, &w);
    }
    LB_GO(lb_weights_find(weights, "model.norm.weight", 1, c->hidden, &w, err));
    LB_GO(lb_alloc_array(&e.norm, c->hidden, sizeof *e.norm, w.name, err));
    LB_GO(lb_weight_read(&w, 0, 1, e.norm, err));
    *out = e;
    e = (lb_embedding){0};
done:
    lb_embedding_free(&e);
    return st;
}

void lb_embedding_free(lb_embedding *e)
{
    if (e->head.borrowed)
        e->head = (lb_linear){0};
    lb_linear_free(&e->head);
    lb_linear_free(&e->embed);
    lb_free(e->norm);
    *e = (lb_embedding){0};
}

lb_status lb_embedding_look_up(const lb_kernels *kernels, const lb_embedding *e, const uint32_t *ids,
                               size_t n, float *x, lb_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= e->vocab)
            return lb_fail(err, LB_EINVAL, "token id %u does not fit the model's embedding of %zu rows",
                           ids[i], e->vocab);
        lb_linear_row(kernels, &e->embed, ids[i], x + i * e->hidden);
    }
    return LB_OK;
}

lb_status lb_embedding_logits(const lb_kernels *kernels, const lb_embedding *e, const float *x, size_t tokens,
                              float *scratch, float *logits, lb_error *err)
{
    for (size_t t = 0; t < tokens; t++)
        kernels->rms_norm(x + t * e->hidden, e->norm, e->hidden, (float)e->norm_eps, scratch + t * e->hidden);
    return lb_linear_apply(kernels, &e->head, scratch, tokens, logits, err);
}

void lb_embedding_logits_decode(const lb_kernels *kernels, const lb_embedding *e, const float *x,
                                size_t tokens, float *scratch, lb_qvec *vectors, float *logits)
{
    for (size_t t = 0; t < tokens; t++)
        kernels->rms_norm(x + t * e->hidden, e->norm, e->hidden, (float)e->norm_eps, scratch + t * e->hidden);
    lb_linear_decode(kernels, &e->head, scratch, tokens, vectors, false, logits);
}
