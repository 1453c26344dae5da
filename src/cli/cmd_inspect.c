/* SPDX-License-Identifier: MIT
 * lowbit inspect: what a model on disk holds, and whether it is whole. The structure of every model that
 * lowbit knows is checked; of a folder that lowbit wrote every number is read too. */
#define _GNU_SOURCE
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/kinds_text.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "model/inputs.h"
#include "pack/verify.h"

typedef struct inspect_args {
    lb_common_args common;
    const char *model;
    bool tensors, cpu_info;
} inspect_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(inspect_args, model), .optional = true,
     .help = "a Hugging Face folder, a folder that lowbit wrote, or a GGUF file"},
    {"--tensors", LB_ARG_FLAG, offsetof(inspect_args, tensors), .help = "list every tensor"},
    {"--cpu-info", LB_ARG_FLAG, offsetof(inspect_args, cpu_info), .help = "what this machine can run"},
};
static const lb_arg_spec spec = {"inspect",
                                 "Shows what a model holds: architecture, tensors, size and bits per weight.",
                                 options,
                                 sizeof options / sizeof *options,
                                 sizeof(inspect_args),
                                 "lowbit inspect ./model --tensors",
                                 NULL,
                                 NULL};

static const char *architecture(const lb_checkpoint *checkpoint)
{
    const json_t *names = json_object_get(checkpoint->config, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    if (!name)
        name = json_string_value(json_object_get(checkpoint->config, "model_type"));
    return name ? name : "unknown";
}

/* A model as far as it could be opened. */
typedef struct inspection {
    const lb_checkpoint *checkpoint; /* of weights, or `bare` */
    lb_checkpoint bare;
    lb_weights *weights; /* NULL: an architecture that lowbit does not know */
    lb_error unsupported; /* why */
    lb_stored_model stored;
    size_t elems, bytes; /* over all tensors in the files */
    size_t count_of[LB_DTYPE_COUNT], bytes_of[LB_DTYPE_COUNT];
} inspection;

static bool is_quantized(const inspection *i)
{
    return i->weights && lb_weights_quantized(i->weights);
}

static void add_up(inspection *in)
{
    const lb_tensor_set *set = &in->checkpoint->tensors;
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *tensor = &set->tensors[i];
        in->elems += lb_tensor_elems(tensor);
        in->bytes += tensor->bytes;
        in->count_of[tensor->dtype]++;
        in->bytes_of[tensor->dtype] += tensor->bytes;
    }
}

static double ratio_bits(uint64_t bytes, uint64_t weights)
{
    return weights ? 8.0 * (double)bytes / (double)weights : 0;
}

/* In a quantized folder the bytes of codes are no weights: there only the list of layers can count. */
static uint64_t parameters(const inspection *in)
{
    return is_quantized(in) ? in->stored.size.all_weights : in->elems;
}

static double bits_per_weight(const inspection *in)
{
    return is_quantized(in) ? ratio_bits(in->stored.size.all_bytes, in->stored.size.all_weights)
                            : ratio_bits(in->bytes, in->elems);
}

static void print_tensors(const lb_tensor_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *tensor = &set->tensors[i];
        char bytes[32];
        printf("  %-56s %-5s %10s ", tensor->name, lb_dtype_name(tensor->dtype),
               lb_bytes_text((double)tensor->bytes, bytes));
        for (unsigned d = 0; d < tensor->rank; d++)
            printf("%s%zu", d ? " x " : " ", tensor->shape[d]);
        putchar('\n');
    }
}

static const char *short_name(const lb_stored_layer *layer)
{
    const char *dot = strrchr(layer->name, '.');
    return dot ? dot + 1 : layer->name;
}

/* One line for each kind of layer in each format: "q_proj  int4-g128  30  4.125". */
static void print_formats(const lb_stored_model *m)
{
    printf("\n%-14s %-16s %7s %12s\n", "layers", "format", "count", "bits/weight");
    for (size_t i = 0; i < m->count; i++) {
        const lb_stored_layer *l = &m->layers[i];
        size_t count = 0;
        uint64_t bytes = 0, elems = 0;
        bool seen = false;
        for (size_t k = 0; k < m->count; k++) {
            const lb_stored_layer *other = &m->layers[k];
            if (strcmp(short_name(other), short_name(l)) != 0 ||
                strcmp(other->format.name, l->format.name) != 0)
                continue;
            seen = seen || k < i;
            count++;
            bytes += other->bytes;
            elems += (uint64_t)other->rows * other->cols;
        }
        if (!seen)
            printf("%-14s %-16s %7zu %12.3f\n", short_name(l), l->format.name, count,
                   ratio_bits(bytes, elems));
    }
    for (size_t i = 0; i < m->count; i++) {
        bool seen = false;
        for (size_t k = 0; k < i; k++)
            seen = seen || strcmp(m->layers[k].format.name, m->layers[i].format.name) == 0;
        if (!seen)
            lb_print_kinds(&m->layers[i].format);
    }
}

static void print_layers(const lb_stored_model *m)
{
    printf("\n%-40s %-16s %12s  %s\n", "layer", "format", "bits/weight", "shape");
    for (size_t i = 0; i < m->count; i++) {
        const lb_stored_layer *l = &m->layers[i];
        printf("%-40s %-16s %12.3f  %zu x %zu\n", l->name, l->format.name,
               ratio_bits(l->bytes, (uint64_t)l->rows * l->cols), l->rows, l->cols);
    }
}

static void print_recipe(const inspection *in)
{
    const json_t *q = json_object_get(in->checkpoint->config, "quantization_config");
    printf("%-16s ", "recipe");
    json_dumpf(json_object_get(q, "recipe"), stdout, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
    putchar('\n');
}

/* What the layers see of their inputs, where it is not simply the inputs. */
static void print_inputs(const lb_weights *weights)
{
    char transform[LB_TRANSFORM_NAME_BYTES];
    const bool rotated = weights->transform.kind != LB_TRANSFORM_NONE;
    const bool rounded = !lb_act_keeps(&weights->act);
    if (!rotated && !rounded)
        return;
    lb_transform_name(&weights->transform, transform);
    printf("%-16s %s%s%s%s%s\n", "layer inputs", rotated ? "rotated by " : "", rotated ? transform : "",
           rotated && rounded ? ", " : "", rounded ? "rounded to " : "", rounded ? weights->act.name : "");
}

static void print_summary(const inspection *in)
{
    const lb_checkpoint *checkpoint = in->checkpoint;
    const lb_checkpoint_size *size = &in->stored.size;
    char count[32], bytes[32];
    printf("%-16s %s\n", "model", checkpoint->path);
    printf("%-16s %s (%s)\n", "architecture", architecture(checkpoint),
           is_quantized(in) ? "quantized by lowbit" : checkpoint->kind);
    printf("%-16s %s\n", "parameters", lb_count_text((size_t)parameters(in), count));
    printf("%-16s %zu, %s\n", "tensors", checkpoint->tensors.count, lb_bytes_text((double)in->bytes, bytes));
    for (int d = 0; d < LB_DTYPE_COUNT; d++) {
        if (in->count_of[d])
            printf("  %-14s %zu, %s\n", lb_dtype_name((lb_dtype)d), in->count_of[d],
                   lb_bytes_text((double)in->bytes_of[d], bytes));
    }
    if (is_quantized(in))
        printf("%-16s %.3f in quantized layers (%.1f %% of all weights), %.3f over the whole model\n",
               "bits per weight", ratio_bits(size->quantized_bytes, size->quantized_weights),
               100.0 * (double)size->quantized_weights / (double)size->all_weights, bits_per_weight(in));
    else
        printf("%-16s %.3f\n", "bits per weight", bits_per_weight(in));
    if (is_quantized(in)) {
        print_recipe(in);
        print_inputs(in->weights);
    }
    printf("%-16s %s\n", "tokenizer", checkpoint->tokenizer ? "yes" : "none");
    if (is_quantized(in))
        printf("%-16s every tensor is there, and every scale and value is a number\n", "verified");
    else if (in->weights)
        printf("%-16s every tensor is there\n", "verified");
    else
        printf("%-16s no: %s\n", "verified", in->unsupported.msg);
}

static json_t *tensor_json(const lb_tensor *tensor)
{
    json_t *shape = json_array();
    for (unsigned d = 0; d < tensor->rank; d++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[d]));
    return json_pack("{s:s, s:s, s:o, s:I}", "name", tensor->name, "dtype", lb_dtype_name(tensor->dtype),
                     "shape", shape, "bytes", (json_int_t)tensor->bytes);
}

static json_t *layers_json(const lb_stored_model *m)
{
    json_t *list = json_array();
    for (size_t i = 0; i < m->count; i++) {
        const lb_stored_layer *l = &m->layers[i];
        json_t *layer =
            json_pack("{s:s, s:s, s:I, s:I, s:I, s:f}", "name", l->name, "format", l->format.name, "rows",
                      (json_int_t)l->rows, "cols", (json_int_t)l->cols, "bytes", (json_int_t)l->bytes,
                      "bits_per_weight", ratio_bits(l->bytes, (uint64_t)l->rows * l->cols));
        json_array_append_new(list, lb_kinds_add_json(&l->format, layer));
    }
    return list;
}

static lb_status print_json(const inspection *in, lb_error *err)
{
    const lb_checkpoint *checkpoint = in->checkpoint;
    json_t *list = json_array();
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        if (json_array_append_new(list, tensor_json(&checkpoint->tensors.tensors[i])) != 0) {
            json_decref(list);
            return lb_fail(err, LB_EFORMAT, "%s: tensor %zu has a name that is not UTF-8", checkpoint->path,
                           i);
        }
    }
    json_t *object = json_pack(
        "{s:s, s:I, s:f, s:I, s:b, s:b, s:o}", "architecture", architecture(checkpoint), "parameters",
        (json_int_t)parameters(in), "bits_per_weight", bits_per_weight(in), "bytes", (json_int_t)in->bytes,
        "tokenizer", checkpoint->tokenizer != NULL, "supported", in->weights != NULL, "tensors", list);
    if (!object)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for the JSON", checkpoint->path);
    if (in->weights)
        json_object_set_new(object, "layers", layers_json(&in->stored));
    if (is_quantized(in)) {
        const json_t *q = json_object_get(checkpoint->config, "quantization_config");
        json_object_set_new(
            object, "quantized_bits_per_weight",
            json_real(ratio_bits(in->stored.size.quantized_bytes, in->stored.size.quantized_weights)));
        json_object_set_new(object, "recipe", json_deep_copy(json_object_get(q, "recipe")));
        json_object_set_new(object, "inputs",
                            json_object_get(q, "inputs") ? json_deep_copy(json_object_get(q, "inputs"))
                                                         : json_object());
    }
    return lb_output_json(object, err);
}

/* Of an architecture that is not supported the tensors can still be shown; anything else that is wrong
 * with a model is a failure. */
static lb_status open_inspection(const char *path, inspection *in, lb_error *err)
{
    lb_status st = lb_weights_open(path, &in->weights, err);
    if (st == LB_EUNSUPPORTED) {
        in->unsupported = *err;
        LB_TRY(lb_checkpoint_open(path, &in->bare, err));
        in->checkpoint = &in->bare;
    } else {
        LB_TRY(st);
        in->checkpoint = &in->weights->checkpoint;
        LB_TRY(lb_stored_model_list(in->weights, &in->stored, err));
    }
    add_up(in);
    return LB_OK;
}

static void close_inspection(inspection *in)
{
    lb_stored_model_free(&in->stored);
    lb_weights_close(in->weights);
    if (in->checkpoint == &in->bare)
        lb_checkpoint_close(&in->bare);
}

static lb_status inspect_model(const inspect_args *args, lb_error *err)
{
    inspection in = {0};
    lb_cli_progress bar;
    lb_status st = open_inspection(args->model, &in, err);
    if (st == LB_OK && is_quantized(&in)) {
        const lb_progress progress =
            lb_cli_progress_begin(&bar, args->common.quiet || !isatty(STDERR_FILENO));
        st = lb_verify_values(in.weights, &progress, err);
        lb_cli_progress_end(&bar);
    }
    if (st == LB_OK && args->common.json)
        st = print_json(&in, err);
    else if (st == LB_OK) {
        print_summary(&in);
        if (is_quantized(&in) && args->tensors)
            print_layers(&in.stored);
        else if (is_quantized(&in))
            print_formats(&in.stored);
        if (args->tensors)
            print_tensors(&in.checkpoint->tensors);
    }
    close_inspection(&in);
    return st;
}

static lb_status inspect_cpu(const lb_common_args *common, lb_error *err)
{
    lb_cpu_level best = lb_cpu_detect();
    lb_cpu_level used = common->level < best ? common->level : best;
    if (common->json)
        return lb_output_json(json_pack("{s:s, s:s, s:s, s:i}", "cpu", lb_cpu_model(), "best",
                                        lb_cpu_level_name(best), "used", lb_cpu_level_name(used), "threads",
                                        (int)lb_thread_count()),
                              err);
    printf("%-16s %s\n", "processor", lb_cpu_model());
    printf("%-16s %s\n", "kernels", lb_cpu_level_name(used));
    if (used != best)
        printf("%-16s %s\n", "  it could run", lb_cpu_level_name(best));
    printf("%-16s %u\n", "threads", lb_thread_count());
    return LB_OK;
}

int cmd_inspect(int argc, char **argv)
{
    inspect_args args;
    lb_error err;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    if (!args.model && !args.cpu_info)
        return lb_cli_misused("inspect", "MODEL is missing: name a model, or ask for --cpu-info");
    if (args.model && args.cpu_info)
        return lb_cli_misused("inspect", "--cpu-info is about this machine and takes no MODEL");
    lb_status st = args.cpu_info ? inspect_cpu(&args.common, &err) : inspect_model(&args, &err);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("inspect", &err, false);
}
