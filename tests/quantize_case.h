/* SPDX-License-Identifier: MIT
 * What the tests of quantization share: a scratch folder with tiny models in it, and lb_quantize with
 * small options that must succeed, or must fail with a sentence and leave no output. */
#ifndef LB_TESTS_QUANTIZE_CASE_H
#define LB_TESTS_QUANTIZE_CASE_H

#include "checkpoint_reader.h"
#include "tiny_model.h"

#include "lowbit/quantize.h"

static char *work_folder;

static inline int make_work(void **state)
{
    (void)state;
    work_folder = scratch_make("lb_quantize");
    return 0;
}

static inline int drop_work(void **state)
{
    (void)state;
    scratch_remove(work_folder);
    free(work_folder);
    return 0;
}

/* work_folder/name: valid until the program ends. */
static inline const char *in_work(const char *name)
{
    enum { MOST = 160 };
    static char paths[MOST][SCRATCH_PATH_BYTES];
    char path[SCRATCH_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", work_folder, name);
    for (size_t i = 0; i < MOST; i++) {
        if (!paths[i][0])
            memcpy(paths[i], path, sizeof path);
        if (strcmp(paths[i], path) == 0)
            return paths[i];
    }
    fail_msg("more than %d names", MOST);
    return NULL;
}

/* Writes the model once, whoever asks first. */
static inline const char *tiny_in_work(const char *name, const tiny_model_options *options)
{
    const char *path = in_work(name);
    if (!scratch_exists(path))
        assert_int_equal(tiny_model_write(path, options), 0);
    return path;
}

static inline lb_quantize_options small_options(const char *model, const char *output)
{
    lb_quantize_options o;
    lb_quantize_options_init(&o);
    o.model = model;
    o.output = output;
    o.format = "int4-g32";
    o.samples = 6;
    o.seqlen = 32;
    return o;
}

static inline void must_quantize(const lb_quantize_options *options, lb_quantize_result *result)
{
    lb_error err;
    if (lb_quantize(options, result, &err) != LB_OK)
        fail_msg("%s, %s by %s: %s", options->model, options->format, options->method, err.msg);
}

/* Fails with this status and a sentence that holds `words`; nothing has the output's name. */
static inline void must_refuse(const lb_quantize_options *options, lb_status wanted, const char *words)
{
    lb_error err = {LB_OK, ""};
    lb_quantize_result result;
    const bool there = options->output && *options->output && scratch_exists(options->output);
    const lb_status st = lb_quantize(options, &result, &err);
    if (st != wanted || err.status != wanted || !strstr(err.msg, words))
        fail_msg("status %d, \"%s\"; wanted %d, \"%s\"", (int)st, err.msg, (int)wanted, words);
    assert_null(strchr(err.msg, '\n'));
    if (options->output && *options->output)
        assert_true(scratch_exists(options->output) == there);
}

#endif
