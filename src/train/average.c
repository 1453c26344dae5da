/* SPDX-License-Identifier: MIT
 *
 * Means of checkpoints: of the latest of a run with a constant learning rate (LAWA: Kaddour 2022, arXiv:2209.14981),
 * exponential moving averages, and soups of runs (Wortsman et al. 2022, arXiv:2203.05482). All of them are sums with
 * shares that add up to 1. One tensor is in memory at a time; sums are in double.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/json.h"
#include "base/options.h"
#include "base/partial.h"
#include "base/thread.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "lowbit/train.h"
#include "pack/copy_beside.h"
#include "train/run_folder.h"

enum { GRAIN = 1 << 14 };

typedef struct average {
    lb_average_options o;
    char **paths; /* of the checkpoints, [count] */
    size_t count, capacity;
    lb_checkpoint *opened; /* [count] */
    size_t opened_count;
    double *shares; /* [count] */
    lb_tensor_out *tensors; /* of the output, as the last checkpoint lists them */
    double *sum; /* of the largest tensor */
    float *values;
    void *out;
    size_t done;
} average;

static lb_status no_memory(lb_error *err)
{
    return lb_fail(err, LB_ENOMEM, "averaging: no memory");
}

void lb_average_options_init_sized(lb_average_options *options, size_t size)
{
    const lb_average_options defaults = {.struct_size = sizeof defaults};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

static void average_free(average *a)
{
    for (size_t i = 0; i < a->opened_count; i++)
        lb_checkpoint_close(&a->opened[i]);
    for (size_t i = 0; i < a->count; i++)
        lb_free(a->paths[i]);
    lb_free(a->paths);
    lb_free(a->opened);
    lb_free(a->shares);
    lb_free(a->tensors);
    lb_free(a->sum);
    lb_free(a->values);
    lb_free(a->out);
}

/* ---- Which checkpoints, and how much of each ------------------------------------------------------------- */

/* Takes over `path`. */
static lb_status add_path(average *a, char *path, lb_error *err)
{
    if (path && a->count == a->capacity) {
        const size_t capacity = a->capacity ? 2 * a->capacity : 16;
        char **paths = lb_grow(a->paths, a->capacity, capacity, sizeof *paths);
        if (paths) {
            a->paths = paths;
            a->capacity = capacity;
        }
    }
    if (!path || a->count == a->capacity) {
        lb_free(path);
        return no_memory(err);
    }
    a->paths[a->count++] = path;
    return LB_OK;
}

/* The checkpoints of a run that are asked for, in the order of their steps. */
static lb_status add_run(average *a, const char *run, lb_error *err)
{
    lb_run_steps list;
    char name[LB_STEP_NAME_BYTES];
    uint64_t last = 0;
    const size_t before = a->count;
    lb_status st = LB_OK;
    LB_TRY(lb_run_steps_list(run, false, &list, err));
    for (size_t i = 0; i < list.count; i++)
        if (a->o.until == 0 || list.steps[i] <= a->o.until)
            last = list.steps[i];
    for (size_t i = 0; i < list.count && list.steps[i] <= last; i++) {
        if (a->o.spacing > 0 && (last - list.steps[i]) % a->o.spacing != 0)
            continue;
        lb_step_name(list.steps[i], name);
        LB_GO(add_path(a, lb_path_join(run, name), err));
    }
    if (a->count == before)
        st = lb_fail(err, LB_EINVAL, "%s: a run without a checkpoint that is asked for", run);
done:
    lb_run_steps_free(&list);
    return st;
}

static lb_status list_checkpoints(average *a, lb_error *err)
{
    for (size_t i = 0; i < a->o.model_count; i++) {
        LB_TRY(lb_run_exists(a->o.models[i]) ? add_run(a, a->o.models[i], err)
                                             : add_path(a, lb_strdup(a->o.models[i]), err));
    }
    const size_t dropped = a->o.latest > 0 && a->o.latest < a->count ? a->count - a->o.latest : 0;
    if (a->o.latest > a->count)
        return lb_fail(err, LB_EINVAL, "averaging: the latest %zu of %zu checkpoints", a->o.latest, a->count);
    for (size_t i = 0; i < dropped; i++)
        lb_free(a->paths[i]);
    a->count -= dropped;
    if (dropped > 0)
        memmove(a->paths, a->paths + dropped, a->count * sizeof *a->paths);
    return a->count > 0 ? LB_OK : lb_fail(err, LB_EINVAL, "averaging: of no checkpoint");
}

static lb_status find_shares(average *a, lb_error *err)
{
    double total = 0.0;
    LB_TRY(lb_alloc_array(&a->shares, a->count, sizeof *a->shares, "averaging", err));
    if (a->o.kind == LB_AVERAGE_EMA && !(a->o.decay >= 0.0 && a->o.decay < 1.0))
        return lb_fail(err, LB_EINVAL, "averaging: an EMA that keeps %g, want 0 to less than 1", a->o.decay);
    if (a->o.shares && a->o.share_count != a->count)
        return lb_fail(err, LB_EINVAL, "averaging: %zu weights for %zu checkpoints", a->o.share_count,
                       a->count);
    for (size_t i = 0; i < a->count; i++) {
        const double later = pow(a->o.decay, (double)(a->count - 1 - i));
        a->shares[i] = a->o.kind == LB_AVERAGE_EMA ? (i > 0 ? 1.0 - a->o.decay : 1.0) * later
                       : a->o.shares               ? a->o.shares[i]
                                                   : 1.0;
        total += a->shares[i];
    }
    if (!(isfinite(total) && fabs(total) > 1e-12))
        return lb_fail(err, LB_EINVAL, "averaging: weights whose sum is %g", total);
    for (size_t i = 0; i < a->count; i++)
        a->shares[i] /= total;
    return LB_OK;
}

/* ---- Tensors --------------------------------------------------------------------------------------------- */

static bool is_plain_float(lb_dtype dtype)
{
    return dtype == LB_DTYPE_F32 || dtype == LB_DTYPE_F16 || dtype == LB_DTYPE_BF16;
}

/* Every checkpoint must have the last one's tensors and no others. */
static lb_status compare(const average *a, size_t index, lb_error *err)
{
    const lb_tensor_set *last = &a->opened[a->count - 1].tensors, *set = &a->opened[index].tensors;
    for (size_t i = 0; i < last->count; i++) {
        const lb_tensor *want = &last->tensors[i], *got = lb_tensor_find(set, want->name);
        if (!is_plain_float(want->dtype))
            return lb_fail(err, LB_EUNSUPPORTED, "%s: tensor %.100s is %s; averages are of f32, f16 and bf16",
                           a->paths[a->count - 1], want->name, lb_dtype_name(want->dtype));
        if (!got || !is_plain_float(got->dtype) || got->rank != want->rank ||
            memcmp(got->shape, want->shape, want->rank * sizeof *want->shape) != 0)
            return lb_fail(err, LB_EINVAL, "%s: its tensor %.100s is not that of %s: the models differ",
                           a->paths[index], want->name, a->paths[a->count - 1]);
    }
    if (set->count != last->count)
        return lb_fail(err, LB_EINVAL, "%s: has %zu tensors, %s has %zu: the models differ", a->paths[index],
                       set->count, a->paths[a->count - 1], last->count);
    return LB_OK;
}

/* Of a configuration what the weights are the weights of: not how they are stored, or by whom. */
static json_t *architecture(const json_t *config)
{
    static const char *const others[] = {"torch_dtype", "dtype", "transformers_version", "_name_or_path",
                                         "use_cache"};
    json_t *copy = json_copy((json_t *)(uintptr_t)config);
    for (size_t i = 0; copy && i < sizeof others / sizeof *others; i++)
        (void)json_object_del(copy, others[i]);
    return copy;
}

static lb_status compare_configs(const average *a, size_t index, lb_error *err)
{
    json_t *last = architecture(a->opened[a->count - 1].config), *one = architecture(a->opened[index].config);
    const char *key;
    json_t *value;
    lb_status st = last && one ? LB_OK : no_memory(err);
    json_object_foreach(last, key, value)
    {
        if (st == LB_OK && !json_equal(value, json_object_get(one, key)))
            st = lb_fail(err, LB_EINVAL,
                         "%s: \"%.60s\" of its configuration is not that of %s: the models differ",
                         a->paths[index], key, a->paths[a->count - 1]);
    }
    json_decref(last);
    json_decref(one);
    return st;
}

static lb_status open_all(average *a, lb_error *err)
{
    size_t largest = 0;
    LB_TRY(lb_alloc_array(&a->opened, a->count, sizeof *a->opened, "averaging", err));
    for (; a->opened_count < a->count; a->opened_count++)
        LB_TRY(lb_checkpoint_open(a->paths[a->opened_count], &a->opened[a->opened_count], err));
    for (size_t i = 0; i < a->count; i++) {
        LB_TRY(compare(a, i, err));
        LB_TRY(compare_configs(a, i, err));
    }
    const lb_tensor_set *last = &a->opened[a->count - 1].tensors;
    LB_TRY(lb_alloc_array(&a->tensors, last->count, sizeof *a->tensors, "averaging", err));
    for (size_t i = 0; i < last->count; i++) {
        const lb_tensor *t = &last->tensors[i];
        const lb_dtype dtype = !a->o.dtype                      ? t->dtype
                               : strcmp(a->o.dtype, "f32") == 0 ? LB_DTYPE_F32
                                                                : LB_DTYPE_BF16;
        const size_t n = lb_tensor_elems(t);
        a->tensors[i] = (lb_tensor_out){
            .name = t->name, .dtype = dtype, .rank = t->rank, .bytes = n * lb_dtype_block_bytes(dtype)};
        memcpy(a->tensors[i].shape, t->shape, sizeof t->shape);
        largest = n > largest ? n : largest;
    }
    LB_TRY(lb_alloc_array(&a->sum, largest, sizeof *a->sum, "averaging", err));
    LB_TRY(lb_alloc_array(&a->values, largest, sizeof *a->values, "averaging", err));
    return lb_alloc_array(&a->out, largest, sizeof(float), "averaging", err);
}

typedef struct add_job {
    double *sum, share;
    const float *values;
    lb_dtype dtype;
    void *out; /* NULL: add; else store the sum */
} add_job;

static void add_or_store(void *arg, size_t begin, size_t end)
{
    const add_job *j = arg;
    for (size_t i = begin; i < end; i++) {
        if (!j->out)
            j->sum[i] += j->share * (double)j->values[i];
        else if (j->dtype == LB_DTYPE_F32)
            ((float *)j->out)[i] = (float)j->sum[i];
        else
            ((uint16_t *)j->out)[i] = j->dtype == LB_DTYPE_F16 ? lb_f16_from_float((float)j->sum[i])
                                                               : lb_bf16_from_float((float)j->sum[i]);
    }
}

/* One tensor's mean: what the writer asks for. */
static lb_status next_tensor(void *user, size_t index, const void **data, lb_error *err)
{
    average *a = user;
    const lb_tensor_out *t = &a->tensors[index];
    const size_t total = a->opened[a->count - 1].tensors.count;
    add_job j = {.sum = a->sum, .values = a->values, .dtype = t->dtype};
    size_t n = 1;
    for (unsigned i = 0; i < t->rank; i++)
        n *= t->shape[i];
    memset(a->sum, 0, n * sizeof *a->sum);
    for (size_t i = 0; i < a->count; i++) {
        const lb_tensor *from = lb_tensor_find(&a->opened[i].tensors, t->name);
        LB_TRY(lb_tensor_read(from, 0, lb_tensor_rows(from), a->values, err));
        j.share = a->shares[i];
        lb_parallel_for(n, GRAIN, add_or_store, &j);
        lb_tensor_forget(&a->opened[i].tensors, from);
    }
    for (size_t i = 0; i < n; i++)
        if (!isfinite(a->sum[i]))
            return lb_fail(err, LB_EFORMAT, "averaging: number %zu of %.100s is %g, not a finite number", i,
                           t->name, a->sum[i]);
    j.out = a->out;
    lb_parallel_for(n, GRAIN, add_or_store, &j);
    *data = a->out;
    return lb_progress_tell(&a->o.progress, "averaging", ++a->done, total, err);
}

/* ---- The folder ------------------------------------------------------------------------------------------ */

static lb_status write_config(const average *a, const char *folder, lb_error *err)
{
    json_t *config = json_deep_copy(a->opened[a->count - 1].config);
    char *path = lb_path_join(folder, "config.json");
    lb_status st = config && path ? LB_OK : no_memory(err);
    if (st == LB_OK && a->o.dtype &&
        json_object_set_new(config, "torch_dtype",
                            json_string(strcmp(a->o.dtype, "f32") == 0 ? "float32" : "bfloat16")) != 0)
        st = no_memory(err);
    if (st == LB_OK)
        st = lb_json_save(path, config, err);
    lb_free(path);
    json_decref(config);
    return st;
}

static lb_status write_folder(average *a, const char *folder, lb_error *err)
{
    char *path = lb_path_join(folder, "model.safetensors");
    if (!path)
        return no_memory(err);
    const lb_status st =
        lb_safetensors_stream(path, a->tensors, a->opened[a->count - 1].tensors.count, next_tensor, a, err);
    lb_free(path);
    LB_TRY(st);
    LB_TRY(lb_copy_beside(a->paths[a->count - 1], folder, err));
    return write_config(a, folder, err);
}

/* The folder appears under its name when all of it is there. */
static lb_status write_output(average *a, lb_error *err)
{
    lb_partial partial;
    LB_TRY(lb_partial_begin(a->o.output, &partial, err));
    lb_status st = write_folder(a, partial.path, err);
    if (st == LB_OK)
        st = lb_partial_commit(&partial, err);
    lb_partial_abandon(&partial);
    return st;
}

lb_status lb_average(const lb_average_options *options, size_t *count, lb_error *err)
{
    average a = {0};
    lb_status st = LB_OK;
    lb_average_options_init(&a.o);
    LB_TRY(lb_options_adopt(&a.o, sizeof a.o, options, "lb_average_options", err));
    if (a.o.dtype && strcmp(a.o.dtype, "f32") != 0 && strcmp(a.o.dtype, "bf16") != 0)
        return lb_fail(err, LB_EINVAL, "averaging: a result of %.20s; there are bf16 and f32", a.o.dtype);
    LB_GO(list_checkpoints(&a, err));
    LB_GO(find_shares(&a, err));
    LB_GO(open_all(&a, err));
    LB_GO(write_output(&a, err));
    if (count)
        *count = a.count;
done:
    average_free(&a);
    return st;
}
