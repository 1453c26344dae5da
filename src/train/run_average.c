/* SPDX-License-Identifier: MIT */
#include "train/run_average.h"

#include "base/alloc.h"
#include "base/file.h"
#include "train/run_folder.h"

static bool is_taken(const lb_average_named *a, const lb_run_plan *plan, uint64_t step)
{
    return a->spacing == 0 || (plan->last - step) % a->spacing == 0;
}

lb_status lb_run_average_check(const lb_average_named *a, const lb_run_plan *plan, lb_error *err)
{
    lb_run_steps there;
    size_t count = 0;
    LB_TRY(lb_run_steps_list(plan->run, false, &there, err));
    for (size_t i = 0; i < there.count; i++)
        count += there.steps[i] <= plan->step && is_taken(a, plan, there.steps[i]);
    lb_run_steps_free(&there);
    for (uint64_t step = plan->step - plan->step % plan->save_every + plan->save_every; step < plan->last;
         step += plan->save_every)
        count += is_taken(a, plan, step);
    count += plan->step < plan->last;
    if (a->keep >= 0.0 || a->latest <= count)
        return LB_OK;
    return lb_fail(
        err, LB_EINVAL,
        "training: an average of %zu checkpoints (%s), and the run will have %zu that it could take; "
        "save more often",
        a->latest, a->text, count);
}

lb_status lb_run_average_write(const lb_average_named *a, const char *run, const lb_progress *progress,
                               lb_error *err)
{
    lb_average_options o;
    char *path = lb_path_join(run, LB_AVERAGED_NAME);
    lb_status st = path ? LB_OK : lb_fail(err, LB_ENOMEM, "training: no memory");
    if (st == LB_OK && lb_path_exists(path))
        st = lb_remove_directory(path, err);
    if (st == LB_OK) {
        lb_average_options_init(&o);
        lb_average_choose(a, &o);
        o.models = &run;
        o.model_count = 1;
        o.output = path;
        o.progress = *progress;
        st = lb_average(&o, NULL, err);
    }
    lb_free(path);
    return st;
}
