/* SPDX-License-Identifier: MIT
 * One sequence (sequence.h) and a runner of its own (runner.h): what a bench or a test wants. */
#ifndef LB_INFER_SESSION_H
#define LB_INFER_SESSION_H

#include "infer/runner.h"

typedef struct lb_session lb_session;

/* Room for `context` tokens, which must not exceed the model's own limit. Prompts are taken `chunk`
 * tokens at a time (0: a default). The model must outlive the session. Keys and values are float32. */
lb_status lb_session_create(const lb_kernels *kernels, const lb_resident *model, size_t context, size_t chunk,
                            lb_session **out, lb_error *err);
/* The same with keys and values of another type. */
lb_status lb_session_create_kv(const lb_kernels *kernels, const lb_resident *model, lb_kv_type kv,
                               size_t context, size_t chunk, lb_session **out, lb_error *err);
void lb_session_destroy(lb_session *session);

/* The same weights' shape in another format: takes over from the next token on. */
void lb_session_set_model(lb_session *session, const lb_resident *model);

/* Appends ids [n], n > 0. *logits [vocab] are those after the last one; the caller may change them,
 * and they are valid until the next call. More tokens than there is room for are refused before
 * anything is computed. After a failure or a cancellation lb_session_past tells how many were kept. */
lb_status lb_session_feed(lb_session *session, const uint32_t *ids, size_t n, const lb_progress *progress,
                          float **logits, lb_error *err);

size_t lb_session_context(const lb_session *session);
size_t lb_session_past(const lb_session *session);
/* Forgets all but the first `past` tokens. */
void lb_session_rewind(lb_session *session, size_t past);

/* As lb_runner_time. */
void lb_session_time(lb_session *session, lb_step_times *times);

/* Only the products with matrices that one decoded token costs, on whatever is in the scratch: what the
 * time of a whole step is compared with. */
void lb_session_products(lb_session *session);

#endif
