/* SPDX-License-Identifier: MIT
 * lowbit formats: how well number formats keep numbers, theory beside measurement; and what they cost in
 * hardware. */
#include <stdio.h>
#include <string.h>

#include "analyze/distribution.h"
#include "base/alloc.h"
#include "base/thread.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/formats_hardware.h"
#include "cli/formats_plot.h"
#include "cli/formats_rows.h"
#include "cli/formats_source.h"
#include "cli/formats_throughput.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "formats/block_format.h"

typedef struct formats_args {
    lb_common_args common;
    lb_arg_list formats;
    const char *rule, *dist, *tensor, *inputs, *text, *cells, *plot;
    size_t n, tokens;
    bool hadamard, hardware;
} formats_args;

static const lb_arg options[] = {
    {"--format", LB_ARG_LIST, offsetof(formats_args, formats), .value = "LIST",
     .shown = "the ten of arXiv:2510.25602", .help = "formats to measure, with commas (may be repeated)"},
    {"--rule", LB_ARG_CHOICE, offsetof(formats_args, rule), .choices = "ceil|ocp|even|round|floor|exact|all",
     .shown = "each format's own", .help = "how scales of blocks are rounded"},
    {"--dist", LB_ARG_STRING, offsetof(formats_args, dist), .value = "NAME[:PARAMETER]", .preset = "gaussian",
     .help = "numbers to measure on: gaussian, laplace, student-t:5, uniform, gaussian-crest:3"},
    {"--n", LB_ARG_SIZE, offsetof(formats_args, n), .low = 1, .high = 1099511627776.0, .preset = "1048576",
     .help = "how many of them; tensor i of 1048576 has the seed --seed + i"},
    {"--tensor", LB_ARG_STRING, offsetof(formats_args, tensor), .value = "MODEL:NAME",
     .help = "measure on a tensor of a model instead"},
    {"--inputs", LB_ARG_STRING, offsetof(formats_args, inputs), .value = "MODEL:LAYER",
     .help = "measure on what a linear layer is fed with --text instead"},
    {"--text", LB_ARG_STRING, offsetof(formats_args, text), .value = "FILE", .help = "the text of --inputs"},
    {"--tokens", LB_ARG_SIZE, offsetof(formats_args, tokens), .low = 1, .preset = "2048",
     .help = "how many of its first tokens"},
    {"--hadamard", LB_ARG_FLAG, offsetof(formats_args, hadamard),
     .help = "measure after a random Hadamard rotation of each block, too"},
    {"--plot", LB_ARG_STRING, offsetof(formats_args, plot), .value = "FILE.svg",
     .help = "draw QSNR against the crest factor (needs gnuplot)"},
    {"--hw", LB_ARG_FLAG, offsetof(formats_args, hardware),
     .help = "what multipliers of these formats cost, and what two precisions are worth in time, here and by "
             "model"},
    {"--cells", LB_ARG_STRING, offsetof(formats_args, cells), .value = "FILE",
     .help = "area and energy of cells for --hw"},
};

static const lb_arg_spec spec = {"formats",
                                 "Measures number formats: signal to noise, theory beside measurement.",
                                 options,
                                 sizeof options / sizeof *options,
                                 sizeof(formats_args),
                                 "lowbit formats --dist student-t:5 --hadamard",
                                 NULL,
                                 NULL};

enum { TENSOR_VALUES = 1 << 20, ROW_VALUES = 4096, WAVE_TENSORS = 4 };

/* All that the steps below share. */
typedef struct session {
    const formats_args *args;
    const lb_kernels *kernels;
    lb_progress progress;
    lb_format_list list;
    lb_formats_rows rows;
    json_t *hardware; /* NULL: not asked for */
    lb_throughput throughput; /* with hardware */
} session;

/* ---- Random numbers -------------------------------------------------------------------------------- */

typedef struct wave {
    const lb_distribution *distribution;
    size_t block, n; /* of all tensors together, the last may be short */
    uint64_t seed;
    float *x;
} wave;

static void fill_tensors(void *arg, size_t begin, size_t end)
{
    const wave *w = arg;
    for (size_t i = begin; i < end; i++) {
        const size_t at = i * TENSOR_VALUES, left = w->n - at;
        lb_distribution_fill(w->distribution, w->seed + i, w->block, w->x + at,
                             left < TENSOR_VALUES ? left : TENSOR_VALUES);
    }
}

/* A tensor that cannot be cut into whole rows is one row. */
static lb_status add_tensor(lb_qsnr_set *set, const float *x, size_t n, const char *name, lb_error *err)
{
    const size_t cols = n % ROW_VALUES ? n : ROW_VALUES;
    return lb_qsnr_set_add(set, x, n / cols, cols, name, err);
}

/* Tensors are made a few at a time, in parallel. */
static lb_status measure_tensors(session *s, const lb_distribution *d, size_t block, lb_qsnr_set *set,
                                 lb_error *err)
{
    const size_t n = s->args->n, tensors = n / TENSOR_VALUES + (n % TENSOR_VALUES != 0);
    const size_t at_once = tensors < WAVE_TENSORS ? tensors : WAVE_TENSORS;
    float *x;
    lb_status st = LB_OK;
    LB_TRY(lb_alloc_array(&x, at_once, TENSOR_VALUES * sizeof *x, d->name, err));
    for (size_t first = 0; first < tensors; first += at_once) {
        const size_t left = n - first * TENSOR_VALUES;
        const size_t wanted = at_once * TENSOR_VALUES, values = left < wanted ? left : wanted;
        wave w = {d, block, values, s->args->common.seed + first, x};
        lb_parallel_for(values / TENSOR_VALUES + (values % TENSOR_VALUES != 0), 1, fill_tensors, &w);
        for (size_t at = 0; at < values; at += TENSOR_VALUES) {
            const size_t count = values - at < TENSOR_VALUES ? values - at : TENSOR_VALUES;
            LB_GO(lb_progress_tell(&s->progress, "tensors", first + at / TENSOR_VALUES, tensors, err));
            LB_GO(add_tensor(set, x + at, count, d->name, err));
        }
    }
done:
    lb_free(x);
    return st;
}

/* What "block" means to a distribution: a row where a group is a row, and 32 where there are no groups. */
static size_t block_of(const lb_format *format)
{
    return lb_format_is_float(format) ? LB_MX_BLOCK : format->group ? format->group : ROW_VALUES;
}

/* Formats [begin, ...) of the list that have the blocks of the first of them, or (where the distribution does
 * not care) all of them. */
static lb_status measure_alike(session *s, const lb_distribution *d, const lb_format *formats, size_t count,
                               lb_qsnr_set **set, lb_error *err)
{
    LB_TRY(lb_distribution_check(d, block_of(&formats[0]), err));
    LB_TRY(lb_qsnr_set_create(s->kernels, formats, count, s->args->hadamard, s->args->common.seed, set, err));
    return measure_tensors(s, d, block_of(&formats[0]), *set, err);
}

static void append_rows(session *s, const lb_qsnr_set *set, size_t first, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        for (int rotated = 0; rotated <= (s->args->hadamard ? 1 : 0); rotated++)
            s->rows.items[s->rows.count++] = (lb_formats_row){&s->list.items[first + i], rotated != 0,
                                                              lb_qsnr_set_result(set, i, rotated != 0)};
    }
}

static lb_status measure_distribution(session *s, lb_error *err)
{
    lb_distribution d;
    LB_TRY(lb_distribution_parse(s->args->dist, &d, err));
    s->rows.dist = s->args->dist;
    for (size_t first = 0, count; first < s->list.count; first += count) {
        lb_qsnr_set *set = NULL;
        count = s->list.count - first;
        for (size_t i = 1; lb_distribution_has_blocks(&d) && i < count; i++)
            if (block_of(&s->list.items[first + i]) != block_of(&s->list.items[first]))
                count = i;
        lb_status st = measure_alike(s, &d, &s->list.items[first], count, &set, err);
        if (st == LB_OK)
            append_rows(s, set, first, count);
        lb_qsnr_set_destroy(set);
        LB_TRY(st);
    }
    return LB_OK;
}

/* ---- Numbers of a model ------------------------------------------------------------------------------ */

static lb_status measure_source(session *s, lb_error *err)
{
    const formats_args *a = s->args;
    lb_source_tensor t = {0};
    lb_qsnr_set *set = NULL;
    lb_status st = LB_OK;
    s->rows.dist = a->tensor ? a->tensor : a->inputs;
    LB_GO(a->tensor ? lb_source_weight(a->tensor, &t, err)
                    : lb_source_inputs(a->inputs, a->text, a->tokens, s->kernels, &s->progress, &t, err));
    LB_GO(
        lb_qsnr_set_create(s->kernels, s->list.items, s->list.count, a->hadamard, a->common.seed, &set, err));
    LB_GO(lb_qsnr_set_add(set, t.x, t.rows, t.cols, s->rows.dist, err));
    append_rows(s, set, 0, s->list.count);
done:
    lb_qsnr_set_destroy(set);
    lb_source_tensor_free(&t);
    return st;
}

/* ---- The command ----------------------------------------------------------------------------------- */

/* Flags that mean nothing beside others are refused rather than ignored. */
static lb_status check_flags(const formats_args *a, lb_error *err)
{
    const bool random = lb_args_given(&spec, a, "--dist") || lb_args_given(&spec, a, "--n");
    if ((a->tensor != NULL) + (a->inputs != NULL) + random > 1)
        return lb_fail(err, LB_EINVAL,
                       "--tensor, --inputs and random numbers (--dist, --n) cannot be measured together");
    if (a->inputs && !a->text)
        return lb_fail(err, LB_EINVAL, "--inputs needs --text FILE");
    if (!a->inputs && (a->text || lb_args_given(&spec, a, "--tokens")))
        return lb_fail(err, LB_EINVAL, "--text and --tokens belong to --inputs");
    if (a->cells && !a->hardware)
        return lb_fail(err, LB_EINVAL, "--cells belongs to --hw");
    return LB_OK;
}

static lb_status write_json(session *s, lb_error *err)
{
    json_t *json = json_pack("{s:o, s:o}", "rows", lb_formats_rows_json(&s->rows), "crossovers",
                             lb_crossovers_json(&s->list));
    if (s->hardware) {
        json_object_set(json, "hardware", s->hardware);
        json_object_set_new(json, "throughput", lb_throughput_json(&s->throughput));
    }
    return lb_output_json(json, err);
}

static lb_status write_out(session *s, lb_error *err)
{
    if (s->args->common.json)
        return write_json(s, err);
    lb_print_formats_rows(&s->rows);
    lb_print_crossovers(&s->list);
    if (s->hardware) {
        putchar('\n');
        LB_TRY(lb_print_hardware(s->args->cells, err));
        lb_print_throughput(&s->throughput);
    }
    return lb_output_flush(err);
}

static lb_status work(session *s, lb_error *err)
{
    const formats_args *a = s->args;
    if (a->hardware) { /* first, since its file may be wrong */
        s->hardware = lb_hardware_json(a->cells, err);
        if (!s->hardware)
            return err->status;
        LB_TRY(lb_throughput_measure(s->kernels, &s->throughput, err));
    }
    return a->tensor || a->inputs ? measure_source(s, err) : measure_distribution(s, err);
}

int cmd_formats(int argc, char **argv)
{
    static session s; /* long lists */
    formats_args args;
    lb_cli_progress bar;
    lb_error err;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    s = (session){.args = &args, .kernels = lb_kernels_get(args.common.level)};
    if (check_flags(&args, &err) != LB_OK ||
        lb_formats_select(&args.formats, args.rule, &s.list, &err) != LB_OK)
        return lb_cli_misused("formats", err.msg);
    s.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = work(&s, &err);
    lb_cli_progress_end(&bar);
    if (st == LB_OK)
        st = write_out(&s, &err);
    if (st == LB_OK && args.plot) /* last: what was measured is out, whatever becomes of the picture */
        st = lb_formats_plot(&s.list, s.kernels, args.common.seed, args.plot, &err);
    json_decref(s.hardware);
    if (st == LB_EINVAL)
        return lb_cli_misused("formats", err.msg);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("formats", &err, false);
}
