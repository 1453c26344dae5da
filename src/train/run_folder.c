/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "train/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "train/train_state.h"

void lb_step_name(uint64_t step, char out[LB_STEP_NAME_BYTES])
{
    snprintf(out, LB_STEP_NAME_BYTES, "step-%08" PRIu64, step);
}

char *lb_run_path(const char *run, const char *name, const char *file)
{
    char *path = lb_path_join(run, name);
    if (!path || !file)
        return path;
    char *longer = lb_path_join(path, file);
    lb_free(path);
    return longer;
}

/* Whether a name is one that lb_step_name makes, and of which step. */
static bool parse_step(const char *name, uint64_t *step)
{
    char again[LB_STEP_NAME_BYTES];
    if (sscanf(name, "step-%20" SCNu64, step) != 1)
        return false;
    lb_step_name(*step, again);
    return strcmp(name, again) == 0;
}

static int compare_steps(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

static lb_status add(lb_run_steps *list, size_t *capacity, uint64_t step, lb_error *err)
{
    if (list->count == *capacity) {
        const size_t more = *capacity ? 2 * *capacity : 64;
        uint64_t *steps = lb_grow(list->steps, *capacity, more, sizeof *steps);
        if (!steps)
            return lb_fail(err, LB_ENOMEM, "list of checkpoints: no memory");
        list->steps = steps;
        *capacity = more;
    }
    list->steps[list->count++] = step;
    return LB_OK;
}

bool lb_run_exists(const char *folder)
{
    char *record = lb_path_join(folder, LB_RUN_NAME);
    const bool there = record && lb_path_exists(record);
    lb_free(record);
    return there;
}

lb_status lb_run_steps_list(const char *run, bool with_state, lb_run_steps *out, lb_error *err)
{
    lb_run_steps list = {0};
    size_t capacity = 0;
    uint64_t step;
    lb_status st = LB_OK;
    DIR *dir = opendir(run);
    if (!dir)
        return lb_fail(err, LB_EIO, "cannot read folder %s: %s", run, strerror(errno));
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        if (!parse_step(entry->d_name, &step))
            continue;
        char *path = lb_run_path(run, entry->d_name, with_state ? LB_STATE_NAME : "config.json");
        const bool there = path && lb_path_exists(path);
        lb_free(path);
        if (there)
            LB_GO(add(&list, &capacity, step, err));
    }
    if (list.count > 0)
        qsort(list.steps, list.count, sizeof *list.steps, compare_steps);
    *out = list;
    list = (lb_run_steps){0};
done:
    closedir(dir);
    lb_run_steps_free(&list);
    return st;
}

void lb_run_steps_free(lb_run_steps *steps)
{
    lb_free(steps->steps);
    *steps = (lb_run_steps){0};
}
