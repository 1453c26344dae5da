/* SPDX-License-Identifier: MIT
 * lowbit bench: how fast a model runs on this machine, and how far that is from what memory allows. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "cli/args.h"
#include "cli/bench_draft.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "cli/sampling.h"
#include "infer/bench.h"
#include "kernels/bandwidth.h"

enum { MAX_FORMATS = 32, BANDWIDTH_REPEATS = 5 };

typedef struct bench_args {
    lb_common_args common;
    const char *model, *formats, *head, *kv;
    const char *draft;
    size_t prompt, generate, repeats, draft_tokens;
    double draft_confidence;
} bench_args;

static const lb_arg options[] = {
    {"MODEL", LB_ARG_OPERAND, offsetof(bench_args, model),
     .help = "a Hugging Face folder, a folder that lowbit wrote, or a GGUF file"},
    {"--prompt", LB_ARG_SIZE, offsetof(bench_args, prompt), .low = 1, .high = 1 << 20, .preset = "128",
     .help = "tokens in the prompt"},
    {"--gen", LB_ARG_SIZE, offsetof(bench_args, generate), .low = 1, .high = 1 << 20, .preset = "64",
     .help = "tokens to generate after it"},
    {"--repeat", LB_ARG_SIZE, offsetof(bench_args, repeats), .low = 1, .high = 1000, .preset = "3",
     .help = "how often; medians are reported"},
    LB_KV_OPTION(bench_args, kv),
    LB_DRAFT_OPTIONS(bench_args, draft),
    {"--formats", LB_ARG_STRING, offsetof(bench_args, formats), .value = "LIST",
     .preset = "int2-g64,int3-g64,int4-g64,int5-g64,int6-g64,int7-g64,int8-g64",
     .help = "round a float model's layers to these, too; \"none\" for the model alone"},
    {"--head", LB_ARG_STRING, offsetof(bench_args, head), .value = "FORMAT", .shown = "as stored",
     .help = "in those rows, round the head to this"},
};
static const lb_arg_spec spec = {
    "bench",
    "Measures how fast a model reads a prompt and generates, next to the speed of memory.",
    options,
    sizeof options / sizeof *options,
    sizeof(bench_args),
    "lowbit bench ./model --formats int4-g64,mxint4,nvfp4",
    "MB/token: weights that one generated token reads, the head included, the KV cache not.\n"
    "products: milliseconds of a generated token that go into matrix products; other: the rest.\n"
    "bits/w: as the layers lie in memory; mxfp6-e2m3 takes a bit more there than on disk, and mxfp8 and\n"
    "mxfp6-e3m2 are held as bf16.\n"
    "of memory: share of the read bandwidth of as many threads, measured over 512 MiB. Weights that fit\n"
    "into a cache can exceed 100%.\n"
    "q k v and the like: where a decoded token's time goes, normalizing and rounding of their inputs "
    "included;\n"
    "MB: all weights in memory.\n"
    "--draft: the model as it is, continuing a text with and without the draft in turn, at temperature 0.",
    NULL};

/* "a,b,c" -> formats [*count]. */
static lb_status parse_formats(const char *list, lb_format *formats, size_t *count, lb_error *err)
{
    *count = 0;
    if (strcmp(list, "none") == 0)
        return LB_OK;
    for (;;) {
        const size_t length = strcspn(list, ",");
        char name[LB_FORMAT_NAME_BYTES];
        if (*count == MAX_FORMATS)
            return lb_fail(err, LB_EINVAL, "--formats lists more than %d formats", MAX_FORMATS);
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), list);
        LB_TRY(lb_format_parse(name, &formats[*count], err));
        ++*count;
        if (list[length] == '\0')
            return LB_OK;
        list += length + 1;
    }
}

/* Everything that is printed. */
typedef struct report {
    lb_bench_row rows[1 + MAX_FORMATS];
    size_t count;
    double bandwidth; /* GB a second */
    double load_seconds;
    size_t rss, huge; /* when the model was loaded; of it in 2 MiB pages */
    const char *kv;
    lb_draft_report draft;
    const char *kernel;
    unsigned threads;
} report;

static double rate_of(const lb_bench_row *row)
{
    return (double)row->token_bytes * row->decode.median / 1e9;
}

/* Milliseconds of a token that are not products. The two are medians of different runs, and may cross. */
static double other_ms(const lb_bench_row *row)
{
    const double other = 1e3 * (1 / row->decode.median - row->products.median);
    return other > 0.0 ? other : 0.0;
}

/* The parts of a decoded token, in milliseconds. */
static json_t *times_json(const lb_bench_row *row)
{
    const lb_step_times *t = &row->times;
    return json_pack("{s:f, s:f, s:f, s:f, s:f, s:f, s:f}", "qkv", 1e3 * t->qkv, "attention",
                     1e3 * t->attention, "o", 1e3 * t->o, "gate_up", 1e3 * t->gate_up, "down", 1e3 * t->down,
                     "head", 1e3 * t->head, "rest", 1e3 * row->rest);
}

static void print_times(const report *r, int width)
{
    printf("\n%-*s %9s\n%-*s %9s %9s %9s %9s %9s %9s %9s %9s\n", width, "", "ms of a decoded token:", width,
           "format", "q k v", "attention", "o", "gate up", "down", "head", "rest", "MB");
    for (size_t i = 0; i < r->count; i++) {
        const lb_bench_row *row = &r->rows[i];
        const lb_step_times *t = &row->times;
        printf("%-*s %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.3f %9.1f\n", width, row->format, 1e3 * t->qkv,
               1e3 * t->attention, 1e3 * t->o, 1e3 * t->gate_up, 1e3 * t->down, 1e3 * t->head,
               1e3 * row->rest, (double)row->bytes / 1e6);
    }
    printf("\nloaded in %.2f s; %.0f MB resident then, %.0f of them in 2 MiB pages; keys and values in %s\n",
           r->load_seconds, (double)r->rss / 1e6, (double)r->huge / 1e6, r->kv);
}

static json_t *row_json(const report *r, const lb_bench_row *row)
{
    return json_pack("{s:f, s:f, s:I, s:f, s:i, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:o}",
                     "prompt_tokens_per_s", row->prompt.median, "decode_tokens_per_s", row->decode.median,
                     "bytes_per_token", (json_int_t)row->token_bytes, "bandwidth_share",
                     rate_of(row) / r->bandwidth, "threads", (int)r->threads, "kernel", r->kernel, "format",
                     row->format, "layer_bits_per_weight", row->layer_bits, "gb_per_s", rate_of(row),
                     "prompt_tokens_per_s_min", row->prompt.low, "prompt_tokens_per_s_max", row->prompt.high,
                     "decode_tokens_per_s_min", row->decode.low, "decode_tokens_per_s_max", row->decode.high,
                     "product_ms_per_token", 1e3 * row->products.median, "other_ms_per_token", other_ms(row),
                     "weight_bytes", (json_int_t)row->bytes, "ms_per_token", times_json(row));
}

static lb_status print_json(const report *r, const char *model, lb_error *err)
{
    json_t *object = row_json(r, &r->rows[0]), *list = json_array();
    int failed = json_object_set_new(object, "model", json_string(model));
    failed |= json_object_set_new(object, "read_bandwidth_gb_per_s", json_real(r->bandwidth));
    for (size_t i = 1; i < r->count; i++)
        failed |= json_array_append_new(list, row_json(r, &r->rows[i]));
    failed |= json_object_set_new(object, "formats", list);
    failed |= json_object_set_new(object, "load_seconds", json_real(r->load_seconds));
    failed |= json_object_set_new(object, "resident_bytes", json_integer((json_int_t)r->rss));
    failed |= json_object_set_new(object, "huge_page_bytes", json_integer((json_int_t)r->huge));
    failed |= json_object_set_new(object, "kv", json_string(r->kv));
    if (r->draft.passes > 0)
        failed |= json_object_set_new(object, "draft", lb_draft_json(&r->draft));
    if (failed) {
        json_decref(object);
        return lb_fail(err, LB_ENOMEM, "no memory for the JSON");
    }
    return lb_output_json(object, err);
}

static void print_table(const report *r)
{
    char prompt[64], decode[64];
    int width = (int)strlen("format");
    for (size_t i = 0; i < r->count; i++)
        width = (int)strlen(r->rows[i].format) > width ? (int)strlen(r->rows[i].format) : width;
    printf("%s, %u thread%s, %s kernels, reads memory at %.1f GB/s\n\n", lb_cpu_model(), r->threads,
           r->threads == 1 ? "" : "s", r->kernel, r->bandwidth);
    printf("%-*s %7s %25s %25s %9s %6s %9s %9s %7s\n", width, "", "layers:", "prompt", "decode", "", "", "",
           "products", "other");
    printf("%-*s %7s %25s %25s %9s %6s %9s %9s %7s\n", width, "format", "bits/w", "tokens/s (min-max)",
           "tokens/s (min-max)", "MB/token", "GB/s", "of memory", "ms/token", "ms");
    for (size_t i = 0; i < r->count; i++) {
        const lb_bench_row *row = &r->rows[i];
        snprintf(prompt, sizeof prompt, "%.1f (%.1f-%.1f)", row->prompt.median, row->prompt.low,
                 row->prompt.high);
        snprintf(decode, sizeof decode, "%.1f (%.1f-%.1f)", row->decode.median, row->decode.low,
                 row->decode.high);
        printf("%-*s %7.3f %25s %25s %9.2f %6.1f %8.0f%% %9.3f %7.3f\n", width, row->format, row->layer_bits,
               prompt, decode, (double)row->token_bytes / 1e6, rate_of(row),
               100 * rate_of(row) / r->bandwidth, 1e3 * row->products.median, other_ms(row));
    }
    print_times(r, width);
    if (r->draft.passes > 0)
        lb_draft_print(&r->draft);
}

/* What the flags --formats and --head name. */
typedef struct named_formats {
    lb_format layers[MAX_FORMATS], head;
    size_t count;
} named_formats;

static lb_status bench_model(const bench_args *args, const named_formats *formats,
                             const lb_progress *progress, report *r, lb_error *err)
{
    lb_resident model = {0};
    lb_bench_options o = {.prompt = args->prompt,
                          .generate = args->generate,
                          .repeats = args->repeats,
                          .level = args->common.level,
                          .seed = args->common.seed,
                          .formats = formats->layers,
                          .format_count = formats->count,
                          .head = args->head ? &formats->head : NULL,
                          .progress = *progress};
    const lb_kernels *kernels = lb_kernels_get(args->common.level);
    LB_TRY(lb_kv_type_parse(args->kv, &o.kv, err));
    const double begin = lb_now();
    LB_TRY(lb_resident_load(args->model, progress, &model, err));
    r->load_seconds = lb_now() - begin;
    r->rss = lb_rss_bytes(&r->huge);
    r->kv = args->kv;
    if (lb_resident_is_quantized(&model))
        o.format_count = 0;
    lb_status st = lb_bench_model(&model, &o, r->rows, err);
    lb_resident_free(&model);
    if (st == LB_OK)
        st = lb_read_bandwidth(kernels, LB_BANDWIDTH_BYTES, BANDWIDTH_REPEATS, &r->bandwidth, err);
    if (st == LB_OK && args->draft)
        st = lb_bench_draft(&(lb_draft_bench){.model = args->model,
                                              .draft = args->draft,
                                              .cpu = args->common.cpu,
                                              .kv = args->kv,
                                              .prompt = args->prompt,
                                              .generate = args->generate,
                                              .repeats = args->repeats,
                                              .draft_tokens = args->draft_tokens,
                                              .confidence = args->draft_confidence,
                                              .progress = *progress},
                            &r->draft, err);
    r->count = 1 + o.format_count;
    r->kernel = lb_cpu_level_name(kernels->level);
    r->threads = lb_thread_count();
    return st;
}

int cmd_bench(int argc, char **argv)
{
    bench_args args;
    lb_cli_progress progress;
    report r = {0};
    named_formats formats;
    lb_error err;
    int code;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    lb_status st = parse_formats(args.formats, formats.layers, &formats.count, &err);
    if (st == LB_OK && args.head)
        st = lb_format_parse(args.head, &formats.head, &err);
    if (st != LB_OK)
        return lb_cli_misused("bench", err.msg);
    const lb_progress tell = lb_cli_progress_begin(&progress, args.common.quiet || args.common.json);
    st = bench_model(&args, &formats, &tell, &r, &err);
    lb_cli_progress_end(&progress);
    if (st == LB_OK && args.common.json)
        st = print_json(&r, args.model, &err);
    else if (st == LB_OK)
        print_table(&r);
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("bench", &err, false);
}
