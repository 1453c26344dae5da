/* SPDX-License-Identifier: MIT
 *
 * Requests in a line, and as many of them under way as the engine has sequences. lb_scheduler_submit may be called from
 * any thread; all else belongs to the engine's thread.
 */
#ifndef LB_SERVE_SCHEDULER_H
#define LB_SERVE_SCHEDULER_H

#include "serve/job.h"
#include "serve/metrics.h"

typedef struct lb_scheduler lb_scheduler;

/* At most `queue` jobs wait (0: a job is taken only while a sequence is free). Names the model in replies. */
lb_status lb_scheduler_create(lb_engine *engine, size_t sequences, size_t queue, const char *model,
                              lb_metrics *metrics, lb_scheduler **out, lb_error *err);
/* Nothing may be left: lb_scheduler_stop first. */
void lb_scheduler_destroy(lb_scheduler *scheduler);

/* LB_EEXIST: the line is full; LB_ECANCELED: nothing is accepted any more. The job comes to an end in any case that is
 * LB_OK, with job->over. */
lb_status lb_scheduler_submit(lb_scheduler *scheduler, lb_job *job, lb_error *err);

/* Lets jobs begin, and makes one step; waits at most so long where there is nothing to do. */
void lb_scheduler_turn(lb_scheduler *scheduler, double patience);

/* Accepts nothing more, and ends what waits. */
void lb_scheduler_close(lb_scheduler *scheduler);
/* Answers under way. */
size_t lb_scheduler_busy(const lb_scheduler *scheduler);
/* Closes, and ends what is under way. */
void lb_scheduler_stop(lb_scheduler *scheduler);

#endif
