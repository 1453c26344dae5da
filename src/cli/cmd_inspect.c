/* SPDX-License-Identifier: MIT
 * lowbit inspect: what a model on disk holds, without reading its weights. */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/cpu.h"
#include "base/thread.h"
#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "io/checkpoint.h"

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
static const lb_arg_spec spec = {
    "inspect", "Shows what a model holds: architecture, tensors, size and bits per weight.", options,
    sizeof options / sizeof *options, sizeof(inspect_args), "lowbit inspect ./model --tensors", NULL};

static const char *architecture(const lb_checkpoint *checkpoint)
{
    const json_t *names = json_object_get(checkpoint->config, "architectures");
    const char *name = json_string_value(json_array_get(names, 0));
    if (!name)
        name = json_string_value(json_object_get(checkpoint->config, "model_type"));
    return name ? name : "unknown";
}

/* Sums over all tensors. */
typedef struct totals {
    size_t elems, bytes;
    size_t count_of[LB_DTYPE_COUNT], bytes_of[LB_DTYPE_COUNT];
} totals;

static totals add_up(const lb_tensor_set *set)
{
    totals sum = {0};
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *tensor = &set->tensors[i];
        sum.elems += lb_tensor_elems(tensor);
        sum.bytes += tensor->bytes;
        sum.count_of[tensor->dtype]++;
        sum.bytes_of[tensor->dtype] += tensor->bytes;
    }
    return sum;
}

static double bits_per_weight(const totals *sum)
{
    return sum->elems ? 8.0 * (double)sum->bytes / (double)sum->elems : 0;
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

static void print_summary(const lb_checkpoint *checkpoint, const totals *sum)
{
    char count[32], bytes[32];
    printf("%-16s %s\n", "model", checkpoint->path);
    printf("%-16s %s (%s)\n", "architecture", architecture(checkpoint), checkpoint->kind);
    printf("%-16s %s\n", "parameters", lb_count_text(sum->elems, count));
    printf("%-16s %zu, %s\n", "tensors", checkpoint->tensors.count, lb_bytes_text((double)sum->bytes, bytes));
    printf("%-16s %.3f\n", "bits per weight", bits_per_weight(sum));
    for (int d = 0; d < LB_DTYPE_COUNT; d++) {
        if (sum->count_of[d])
            printf("  %-14s %zu, %s\n", lb_dtype_name((lb_dtype)d), sum->count_of[d],
                   lb_bytes_text((double)sum->bytes_of[d], bytes));
    }
    printf("%-16s %s\n", "tokenizer", checkpoint->tokenizer ? "yes" : "none");
}

static json_t *tensor_json(const lb_tensor *tensor)
{
    json_t *shape = json_array();
    for (unsigned d = 0; d < tensor->rank; d++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[d]));
    return json_pack("{s:s, s:s, s:o, s:I}", "name", tensor->name, "dtype", lb_dtype_name(tensor->dtype),
                     "shape", shape, "bytes", (json_int_t)tensor->bytes);
}

static lb_status print_json(const lb_checkpoint *checkpoint, const totals *sum, lb_error *err)
{
    json_t *list = json_array();
    for (size_t i = 0; i < checkpoint->tensors.count; i++) {
        if (json_array_append_new(list, tensor_json(&checkpoint->tensors.tensors[i])) != 0) {
            json_decref(list);
            return lb_fail(err, LB_EFORMAT, "%s: tensor %zu has a name that is not UTF-8", checkpoint->path, i);
        }
    }
    json_t *object = json_pack("{s:s, s:I, s:f, s:I, s:b, s:o}", "architecture", architecture(checkpoint),
                               "parameters", (json_int_t)sum->elems, "bits_per_weight", bits_per_weight(sum),
                               "bytes", (json_int_t)sum->bytes, "tokenizer", checkpoint->tokenizer != NULL,
                               "tensors", list);
    if (!object)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for the JSON", checkpoint->path);
    return lb_output_json(object, err);
}

static lb_status inspect_model(const inspect_args *args, lb_error *err)
{
    lb_checkpoint checkpoint;
    lb_status st = LB_OK;
    LB_TRY(lb_checkpoint_open(args->model, &checkpoint, err));
    totals sum = add_up(&checkpoint.tensors);
    if (args->common.json) {
        st = print_json(&checkpoint, &sum, err);
    } else {
        print_summary(&checkpoint, &sum);
        if (args->tensors)
            print_tensors(&checkpoint.tensors);
    }
    lb_checkpoint_close(&checkpoint);
    return st;
}

static lb_status inspect_cpu(const lb_common_args *common, lb_error *err)
{
    lb_cpu_level best = lb_cpu_detect();
    lb_cpu_level used = common->level < best ? common->level : best;
    if (common->json)
        return lb_output_json(json_pack("{s:s, s:s, s:s, s:i}", "cpu", lb_cpu_model(), "best",
                                        lb_cpu_level_name(best), "used", lb_cpu_level_name(used), "threads",
                                        (int)lb_thread_count()), err);
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
