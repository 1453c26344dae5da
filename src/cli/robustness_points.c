/* SPDX-License-Identifier: MIT */
#include "cli/robustness_points.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "train/run_folder.h"
#include "train/train_log.h"
#include "train/train_settings.h"

enum { MAX_RECORD_BYTES = 64 << 20 };

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "list of checkpoints: no memory");
}

/* ---- Runs ------------------------------------------------------------------------------------------------ */

/* The last component, without slashes at the end; in new memory. */
static char *name_of(const char *path)
{
    size_t length = strlen(path);
    while (length > 1 && path[length - 1] == '/')
        length--;
    size_t begin = length;
    while (begin > 0 && path[begin - 1] != '/')
        begin--;
    lb_text name = {0};
    lb_text_add(&name, path + begin, length - begin);
    return name.data; /* NULL without memory */
}

static lb_status add_run(lb_robust_points *p, const char *path, lb_error *err)
{
    lb_robust_run *run = &p->runs[p->run_count];
    *run = (lb_robust_run){.path = lb_strdup(path), .name = name_of(path), .parent = SIZE_MAX};
    run->is_run = lb_run_exists(path);
    p->run_count++;
    const bool good = run->path && run->name;
    for (size_t i = 0; good && i + 1 < p->run_count; i++) {
        if (lb_path_same(p->runs[i].path, path))
            return lb_fail(err, LB_EINVAL, "%s is given twice", path);
        if (strcmp(p->runs[i].name, run->name) ==
            0) { /* of two that are called alike, the later by its whole path */
            lb_free(run->name);
            run->name = lb_strdup(path);
        }
    }
    return good && run->name ? LB_OK : no_memory(err);
}

/* The run that this one branches off, if it is among those before or after it. `from` is ".../RUN/step-N". */
static void find_parent(lb_robust_points *p, lb_robust_run *run, const char *from)
{
    char *folder = lb_path_parent(from), *base = name_of(from);
    for (size_t i = 0; folder && base && i < p->run_count; i++) {
        if (&p->runs[i] != run && lb_path_same(p->runs[i].path, folder) &&
            sscanf(base, "step-%20" SCNu64, &run->parent_step) == 1)
            run->parent = i;
    }
    lb_free(folder);
    lb_free(base);
}

/* What the run's record says: its schedule of learning rates. *record keeps the options' names (json_decref). */
static lb_status read_record(lb_robust_points *p, lb_robust_run *run, lb_train_options *o,
                             lb_schedule *schedule, json_t **record, lb_error *err)
{
    char *path = lb_path_join(run->path, LB_RUN_NAME);
    lb_status st = path ? lb_json_load(path, MAX_RECORD_BYTES, record, err) : no_memory(err);
    lb_free(path);
    LB_TRY(st);
    lb_train_options_init(o);
    o->output = run->path;
    LB_TRY(lb_train_settings_resolve(o, json_object_get(*record, "settings"), err));
    if (o->from)
        find_parent(p, run, o->from);
    return lb_train_schedule(o, schedule, err);
}

/* ---- Points ---------------------------------------------------------------------------------------------- */

/* Takes over `model`. */
static lb_status add_point(lb_robust_points *p, lb_robust_point point, lb_error *err)
{
    if (point.model && p->count == p->capacity) {
        const size_t more = p->capacity ? 2 * p->capacity : 64;
        lb_robust_point *grown = lb_grow(p->points, p->capacity, more, sizeof *grown);
        if (grown) {
            p->points = grown;
            p->capacity = more;
        }
    }
    if (!point.model || p->count == p->capacity) {
        lb_free(point.model);
        return no_memory(err);
    }
    p->points[p->count++] = point;
    return LB_OK;
}

static bool is_there(const lb_run_steps *list, size_t until, uint64_t step)
{
    for (size_t i = 0; i <= until; i++)
        if (list->steps[i] == step)
            return true;
    return false;
}

/* Whether every checkpoint that the average at steps[at] is of is there: a mean of fewer would be another one. */
static bool is_whole(const lb_run_steps *list, size_t at, const lb_average_named *a)
{
    if (a->keep >= 0.0)
        return at > 0;
    if (a->spacing == 0)
        return at + 1 >= a->latest;
    for (size_t k = 0; k < a->latest; k++)
        if (k * a->spacing > list->steps[at] || !is_there(list, at, list->steps[at] - k * a->spacing))
            return false;
    return true;
}

static lb_status add_checkpoints(lb_robust_points *p, size_t index, uint64_t every, const lb_train_options *o,
                                 const lb_schedule *schedule, const lb_average_named *average, lb_error *err)
{
    const lb_robust_run *run = &p->runs[index];
    lb_run_steps list;
    lb_status st = LB_OK;
    LB_TRY(lb_run_steps_list(run->path, false, &list, err));
    if (list.count == 0)
        st = lb_fail(err, LB_EINVAL, "%s: a run without a checkpoint", run->path);
    for (size_t i = 0; st == LB_OK && i < list.count; i++) {
        const uint64_t step = list.steps[i];
        if ((every > 0 && step % every != 0 && i + 1 < list.count) ||
            (average && !is_whole(&list, i, average)))
            continue;
        char name[LB_STEP_NAME_BYTES];
        lb_train_row row = {.loss = NAN};
        bool found;
        lb_step_name(step, name);
        st = lb_train_log_find(run->path, step, &row, &found, err);
        if (st == LB_OK)
            st = add_point(p,
                           (lb_robust_point){.run = index,
                                             .model = lb_path_join(run->path, name),
                                             .average = average ? average->text : NULL,
                                             .step = step,
                                             .tokens = step * o->batch_tokens,
                                             .rate = lb_schedule_rate(schedule, step),
                                             .train_loss = found ? row.loss : NAN},
                           err);
    }
    lb_run_steps_free(&list);
    return st;
}

static lb_status add_points(lb_robust_points *p, size_t index, uint64_t every,
                            const lb_average_named *averages, size_t average_count, lb_error *err)
{
    lb_robust_run *run = &p->runs[index];
    lb_train_options o;
    lb_schedule schedule;
    json_t *record = NULL;
    if (!run->is_run)
        return add_point(
            p, (lb_robust_point){.run = index, .model = lb_strdup(run->path), .rate = NAN, .train_loss = NAN},
            err);
    lb_status st = read_record(p, run, &o, &schedule, &record, err);
    if (st == LB_OK)
        st = add_checkpoints(p, index, every, &o, &schedule, NULL, err);
    for (size_t i = 0; st == LB_OK && i < average_count; i++)
        st = add_checkpoints(p, index, every, &o, &schedule, &averages[i], err);
    json_decref(record);
    return st;
}

lb_status lb_robust_points_list(const char *const *models, size_t count, uint64_t every,
                                const lb_average_named *averages, size_t average_count, lb_robust_points *out,
                                lb_error *err)
{
    *out = (lb_robust_points){0};
    LB_TRY(lb_alloc_array(&out->runs, count, sizeof *out->runs, "list of runs", err));
    for (size_t i = 0; i < count; i++)
        LB_TRY(add_run(out, models[i], err));
    for (size_t i = 0; i < count; i++)
        LB_TRY(add_points(out, i, every, averages, average_count, err));
    return LB_OK;
}

void lb_robust_points_free(lb_robust_points *p)
{
    for (size_t i = 0; i < p->run_count; i++) {
        lb_free(p->runs[i].path);
        lb_free(p->runs[i].name);
    }
    for (size_t i = 0; i < p->count; i++)
        lb_free(p->points[i].model);
    lb_free(p->runs);
    lb_free(p->points);
    *p = (lb_robust_points){0};
}
