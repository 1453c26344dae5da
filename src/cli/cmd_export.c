/* SPDX-License-Identifier: MIT
 * lowbit export: a model as other tools' files. */
#include <stdio.h>
#include <string.h>

#include "cli/args.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "lowbit/export.h"

typedef struct export_args {
    lb_common_args common;
    const char *model, *to, *output, *dtype, *zeros;
    bool dequantize, naive;
} export_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(export_args, model), .help = "the model to export"},
    {"--to", LB_ARG_CHOICE, offsetof(export_args, to),
     .choices = "gguf|safetensors|gptq|awq|auto-round|compressed-tensors", .required = true,
     .help = "what to write"},
    {"--output", LB_ARG_STRING, offsetof(export_args, output), .letter = 'o', .value = "OUT",
     .required = true, .help = "the file (gguf) or folder to make"},
    {"--dtype", LB_ARG_CHOICE, offsetof(export_args, dtype), .choices = "f32|f16|bf16|q8_0",
     .shown = "as stored", .help = "of matrices without codes; q8_0 (gguf) rounds them to 8 bits"},
    {"--dequantize", LB_ARG_FLAG, offsetof(export_args, dequantize),
     .help = "write layers that the target cannot hold code for code as floats, instead of refusing"},
    {"--zeros", LB_ARG_CHOICE, offsetof(export_args, zeros), .choices = "v1|v2", .preset = "v1",
     .help = "gptq: zero points stored less one, which most tools read, or as they are (checkpoint_format "
             "gptq_v2)"},
    {"--naive", LB_ARG_FLAG, offsetof(export_args, naive),
     .help = "compressed-tensors: 8-bit layers as one integer a byte, not packed"},
};

static const lb_arg_spec spec = {
    "export",
    "Writes a model as other tools' files, codes and scales carried over as they are.",
    options,
    sizeof options / sizeof *options,
    sizeof(export_args),
    "lowbit export ./model-int4 --to gguf -o model.gguf",
    NULL,
    NULL};

static json_t *result_json(const export_args *args, const lb_export_result *r)
{
    json_t *json = json_object();
    json_object_set_new(json, "model", lb_json_text(args->model));
    json_object_set_new(json, "output", lb_json_text(args->output));
    json_object_set_new(json, "kind", json_string(args->to));
    json_object_set_new(json, "tensors", json_integer((json_int_t)r->tensors));
    json_object_set_new(json, "packed_layers", json_integer((json_int_t)r->layers));
    json_object_set_new(json, "dequantized_layers", json_integer((json_int_t)r->dequantized));
    json_object_set_new(json, "types", json_string(r->types));
    json_object_set_new(json, "without_tokenizer", json_boolean(r->without_tokenizer));
    json_object_set_new(json, "bytes", json_integer((json_int_t)r->bytes));
    return json;
}

int cmd_export(int argc, char **argv)
{
    export_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_export_options o;
    lb_export_result r;
    char bytes[32];
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    lb_export_options_init(&o);
    o.model = args.model;
    o.output = args.output;
    o.kind = args.to;
    o.dtype = args.dtype;
    o.dequantize = args.dequantize;
    o.zeros_v2 = strcmp(args.zeros, "v2") == 0;
    o.naive = args.naive;
    if (o.zeros_v2 && strcmp(args.to, "gptq") != 0)
        return lb_cli_misused("export", "--zeros belongs to --to gptq");
    if (o.naive && strcmp(args.to, "compressed-tensors") != 0)
        return lb_cli_misused("export", "--naive belongs to --to compressed-tensors");
    if (args.dtype && strcmp(args.dtype, "q8_0") == 0 && strcmp(args.to, "gguf") != 0)
        return lb_cli_misused("export", "--dtype q8_0 belongs to --to gguf");
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    lb_status st = lb_export(&o, &r, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK)
        return lb_cli_failed("export", &err, false);
    if (args.common.json) {
        st = lb_output_json(result_json(&args, &r), &err);
    } else {
        printf("%s: %zu tensors (%s), %s\n", args.output, r.tensors, r.types,
               lb_bytes_text((double)r.bytes, bytes));
        if (r.dequantized)
            printf("%zu layer%s that had codes %s floats now\n", r.dequantized, r.dequantized == 1 ? "" : "s",
                   r.dequantized == 1 ? "is" : "are");
        if (r.without_tokenizer)
            printf(
                "the model has no tokenizer, and neither has the file, which llama.cpp will not open so\n");
        st = lb_output_flush(&err);
    }
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("export", &err, false);
}
