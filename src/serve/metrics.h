/* SPDX-License-Identifier: MIT
 * What the server counts, and how Prometheus reads it (text format 0.0.4). Any thread may count. */
#ifndef LB_SERVE_METRICS_H
#define LB_SERVE_METRICS_H

#include <pthread.h>
#include <stdint.h>

#include "base/text.h"
#include "lowbit/generate.h"

/* How answers end. */
typedef enum lb_answer_end {
    LB_ANSWER_STOP, /* the model, or a stop text */
    LB_ANSWER_LENGTH,
    LB_ANSWER_GONE, /* the client went away */
    LB_ANSWER_TIMEOUT,
    LB_ANSWER_SHUTDOWN,
    LB_ANSWER_FAILED,
    LB_ANSWER_ENDS
} lb_answer_end;

enum { LB_METRICS_STATUSES = 16 };

typedef struct lb_metrics {
    pthread_mutex_t lock;
    double began; /* lb_now */
    struct {
        unsigned status;
        uint64_t count;
    } responses[LB_METRICS_STATUSES]; /* by HTTP status; unused ones have status 0 */
    uint64_t answers[LB_ANSWER_ENDS];
    uint64_t prompt_tokens, reused_tokens, generated_tokens;
    uint64_t steps, step_sequences; /* and over them, how many sequences were under way */
    double prompt_seconds, decode_seconds, wait_seconds; /* of all answers together */
    /* As they are now. */
    size_t busy, sequences, waiting, queue_limit, connections;
} lb_metrics;

void lb_metrics_init(lb_metrics *metrics);
void lb_metrics_destroy(lb_metrics *metrics);

void lb_metrics_response(lb_metrics *metrics, unsigned status);
void lb_metrics_answer(lb_metrics *metrics, lb_answer_end end, const lb_generate_result *result);
void lb_metrics_wait(lb_metrics *metrics, double seconds);
void lb_metrics_step(lb_metrics *metrics, size_t sequences);
void lb_metrics_load(lb_metrics *metrics, size_t busy, size_t waiting);

void lb_metrics_write(lb_metrics *metrics, const char *model, lb_text *out);

#endif
