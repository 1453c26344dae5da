/* SPDX-License-Identifier: MIT */
#include "infer/session.h"

#include <assert.h>

#include "base/alloc.h"

struct lb_session {
    lb_sequence *sequence;
    lb_runner *runner;
};

lb_status lb_session_create_kv(const lb_kernels *kernels, const lb_resident *model, lb_kv_type kv,
                               size_t context, size_t chunk, lb_session **out, lb_error *err)
{
    lb_status st = LB_OK;
    lb_session *s = lb_alloc_zero(1, sizeof *s);
    if (!s)
        return lb_fail(err, LB_ENOMEM, "session: no memory for %zu bytes", sizeof *s);
    LB_GO(lb_sequence_create(&model->config, kv, context, &s->sequence, err));
    LB_GO(lb_runner_create(kernels, model, context, chunk, 1, &s->runner, err));
    *out = s;
    s = NULL;
done:
    lb_session_destroy(s);
    return st;
}

lb_status lb_session_create(const lb_kernels *kernels, const lb_resident *model, size_t context, size_t chunk,
                            lb_session **out, lb_error *err)
{
    return lb_session_create_kv(kernels, model, LB_KV_F32, context, chunk, out, err);
}

void lb_session_destroy(lb_session *s)
{
    if (!s)
        return;
    lb_runner_destroy(s->runner);
    lb_sequence_destroy(s->sequence);
    lb_free(s);
}

void lb_session_set_model(lb_session *session, const lb_resident *model)
{
    lb_runner_set_model(session->runner, model);
}

lb_status lb_session_feed(lb_session *s, const uint32_t *ids, size_t n, const lb_progress *progress,
                          float **logits, lb_error *err)
{
    return lb_runner_feed(s->runner, s->sequence, ids, n, progress, logits, err);
}

size_t lb_session_context(const lb_session *session)
{
    return session->sequence->context;
}

size_t lb_session_past(const lb_session *session)
{
    return session->sequence->past;
}

void lb_session_rewind(lb_session *session, size_t past)
{
    assert(past <= session->sequence->past);
    session->sequence->past = past;
}

void lb_session_time(lb_session *session, lb_step_times *times)
{
    lb_runner_time(session->runner, times);
}

void lb_session_products(lb_session *session)
{
    lb_runner_products(session->runner);
}
