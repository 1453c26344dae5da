/* SPDX-License-Identifier: MIT
 * A folder that appears under its name when all of it is there: until then it is "OUT.partial", held by a lock. What a
 * process that was killed left of such a folder is removed by the next that wants the name. A folder that something
 * else made stays, which a file inside tells apart. (Runs that can be resumed have their own: pack/quantized_dir.) */
#ifndef LB_BASE_PARTIAL_H
#define LB_BASE_PARTIAL_H

#include "base/error.h"

typedef struct lb_partial {
    char *output; /* without slashes at its end */
    char *path; /* where the files go; NULL: none is begun */
    int lock;
} lb_partial;

/* LB_EEXIST where the output is there, or another process is at work on it, or OUT.partial is somebody's. */
lb_status lb_partial_begin(const char *output, lb_partial *out, lb_error *err);

/* Synced, under its name. After a failure it still is to be abandoned. */
lb_status lb_partial_commit(lb_partial *partial, lb_error *err);

/* Removes it; does nothing after a commit, or of one that is all zeros. */
void lb_partial_abandon(lb_partial *partial);

#endif
