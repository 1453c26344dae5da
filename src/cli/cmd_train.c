/* SPDX-License-Identifier: MIT
 * lowbit train: a small model from text. */
#include "lowbit/train.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "train/average_named.h"
#include "cli/command.h"
#include "cli/output.h"
#include "cli/progress.h"
#include "train/run_folder.h"

typedef struct train_args {
    lb_common_args common;
    const char *output, *valid, *data, *tokenizer, *config, *schedule, *decay_shape, *dtype, *from, *low_bit,
        *average;
    lb_arg_list texts;
    size_t hidden, layers, heads, kv_heads, ffn, vocab, length, batch, micro, warmup, save_every, log_every,
        valid_every, valid_tokens, sample_bytes, tokens;
    double decay, final, lr, weight_decay, beta1, beta2, eps, clip, z_loss, init_std;
    bool resume, untied, decay_all, keep_states;
} train_args;

/* `shown` is what the library does where nothing is given (lowbit/train.h). */
static const lb_arg options[] = {
    {"--text", LB_ARG_LIST, offsetof(train_args, texts), .value = "FILE",
     .help = "training text (may be repeated); <|endoftext|> in it ends a document"},
    {"--output", LB_ARG_STRING, offsetof(train_args, output), .letter = 'o', .value = "RUN", .required = true,
     .help = "the run's folder: checkpoints, log.csv, run.json"},
    {"--tokens", LB_ARG_SIZE, offsetof(train_args, tokens), .low = 1, .high = 9e15, .shown = "the run's own",
     .help = "how many to see in all; of a resumed run it may be another number, as long as no learning rate "
             "of the past changes"},
    {"--resume", LB_ARG_FLAG, offsetof(train_args, resume),
     .help = "go on with the run in RUN, from its last checkpoint; nothing else need be given"},
    {"--from", LB_ARG_STRING, offsetof(train_args, from), .value = "CHECKPOINT",
     .help = "a new run that begins with this checkpoint's weights, moments and step: a branch; what is not "
             "given is as in the checkpoint's run"},
    {"--valid", LB_ARG_STRING, offsetof(train_args, valid), .value = "FILE", .help = "held-out text"},
    {"--data", LB_ARG_STRING, offsetof(train_args, data), .value = "FOLDER", .shown = "RUN/data",
     .help = "where the tokens are, or will be; runs may share it"},
    {"--tokenizer", LB_ARG_STRING, offsetof(train_args, tokenizer), .value = "MODEL",
     .shown = "one is trained on the text", .help = "take this model's tokenizer"},
    {"--tokenizer-bytes", LB_ARG_SIZE, offsetof(train_args, sample_bytes), .low = 1, .shown = "33554432",
     .help = "how much text the tokenizer is trained on, taken evenly from all of it"},
    {"--config", LB_ARG_STRING, offsetof(train_args, config), .value = "FILE",
     .help = "the model's config.json; the numbers below win over it"},
    {"--hidden", LB_ARG_SIZE, offsetof(train_args, hidden), .low = 2, .high = 1 << 20, .shown = "256",
     .help = "width of the stream"},
    {"--layers", LB_ARG_SIZE, offsetof(train_args, layers), .low = 1, .high = 1024, .shown = "6",
     .help = "blocks"},
    {"--heads", LB_ARG_SIZE, offsetof(train_args, heads), .low = 1, .high = 4096, .shown = "hidden / 64",
     .help = "attention heads"},
    {"--kv-heads", LB_ARG_SIZE, offsetof(train_args, kv_heads), .low = 1, .high = 4096, .shown = "as --heads",
     .help = "key-value heads"},
    {"--ffn", LB_ARG_SIZE, offsetof(train_args, ffn), .low = 1, .high = 1 << 20, .shown = "8/3 hidden",
     .help = "width of the feed-forward half"},
    {"--vocab", LB_ARG_SIZE, offsetof(train_args, vocab), .low = 257, .high = 1 << 20, .shown = "4096",
     .help = "tokens; 257 are the bytes and <|endoftext|>"},
    {"--untied", LB_ARG_FLAG, offsetof(train_args, untied),
     .help = "a head of its own, instead of the embedding"},
    {"--ctx", LB_ARG_SIZE, offsetof(train_args, length), .low = 2, .high = 1 << 20, .shown = "256",
     .help = "tokens of a sequence"},
    {"--batch", LB_ARG_SIZE, offsetof(train_args, batch), .low = 2, .high = 1 << 30, .shown = "8192",
     .help = "tokens of a step"},
    {"--micro", LB_ARG_SIZE, offsetof(train_args, micro), .low = 2, .high = 1 << 30, .shown = "4096",
     .help = "tokens that go through the model at once; gradients of a step's parts are added up"},
    {"--schedule", LB_ARG_STRING, offsetof(train_args, schedule), .value = "NAME", .shown = "wsd",
     .help = "wsd (warm-up, stable, decay), cosine, or constant"},
    {"--decay", LB_ARG_DOUBLE, offsetof(train_args, decay), .low = 0, .high = 1, .shown = "0.2",
     .help = "wsd: the share of the steps at the end in which the learning rate falls"},
    {"--decay-shape", LB_ARG_STRING, offsetof(train_args, decay_shape), .value = "NAME", .shown = "linear",
     .help = "wsd: linear, or sqrt (1 - sqrt)"},
    {"--final", LB_ARG_DOUBLE, offsetof(train_args, final), .low = 0, .high = 1, .shown = "0",
     .help = "the last learning rate as a share of --lr"},
    {"--warmup", LB_ARG_SIZE, offsetof(train_args, warmup), .low = 1, .shown = "1 %, at least 200 or a tenth",
     .help = "steps in which the learning rate rises"},
    {"--lr", LB_ARG_DOUBLE, offsetof(train_args, lr), .low = 0, .high = 1e3, .shown = "0.003",
     .help = "learning rate"},
    {"--weight-decay", LB_ARG_DOUBLE, offsetof(train_args, weight_decay), .low = 0, .high = 1e3,
     .shown = "0.1", .help = "decoupled, of matrices"},
    {"--decay-all", LB_ARG_FLAG, offsetof(train_args, decay_all),
     .help = "weight decay of norms, biases and embeddings too"},
    {"--beta1", LB_ARG_DOUBLE, offsetof(train_args, beta1), .low = 0, .high = 0.999999, .shown = "0.9",
     .help = "AdamW's average of gradients"},
    {"--beta2", LB_ARG_DOUBLE, offsetof(train_args, beta2), .low = 0, .high = 0.999999, .shown = "0.95",
     .help = "AdamW's average of their squares"},
    {"--eps", LB_ARG_DOUBLE, offsetof(train_args, eps), .low = 1e-30, .high = 1, .shown = "1e-8",
     .help = "AdamW's eps"},
    {"--clip", LB_ARG_DOUBLE, offsetof(train_args, clip), .low = 0, .high = 1e30, .shown = "1",
     .help = "longest gradient; 0: any"},
    {"--z-loss", LB_ARG_DOUBLE, offsetof(train_args, z_loss), .low = 0, .high = 1e3, .shown = "0",
     .help = "weight of the squared log-sum-exp of the logits"},
    {"--init-std", LB_ARG_DOUBLE, offsetof(train_args, init_std), .low = 0, .high = 10, .shown = "0.02",
     .help = "of the first weights"},
    {"--lowbit", LB_ARG_STRING, offsetof(train_args, low_bit), .value = "FORMAT",
     .help =
         "round all operands of the layers' products to this format, forward and backward: mxint8, mxfp8, "
         "mxint6, mxfp6, ...; -ocp and -asym choose scales and clipping as elsewhere"},
    {"--save-every", LB_ARG_SIZE, offsetof(train_args, save_every), .low = 1, .shown = "a tenth of the run",
     .help = "steps between checkpoints"},
    {"--keep-states", LB_ARG_FLAG, offsetof(train_args, keep_states),
     .help = "keep the training state of every checkpoint, to branch from, not only of the last"},
    {"--log-every", LB_ARG_SIZE, offsetof(train_args, log_every), .low = 1, .shown = "10",
     .help = "steps between rows of log.csv"},
    {"--valid-every", LB_ARG_SIZE, offsetof(train_args, valid_every), .low = 1, .shown = "as --save-every",
     .help = "steps between looks at the held-out text"},
    {"--valid-tokens", LB_ARG_SIZE, offsetof(train_args, valid_tokens), .low = 2, .shown = "65536",
     .help = "how much of it is looked at"},
    {"--average", LB_ARG_STRING, offsetof(train_args, average), .value = "KIND:N",
     .help = "at the end also write RUN/averaged, the mean of the run's checkpoints: latest:K, "
             "latest:K:STEPS between them, or ema:KEEP"},
    {"--dtype", LB_ARG_CHOICE, offsetof(train_args, dtype), .choices = "bf16|f32", .shown = "bf16",
     .help = "of the weights in checkpoints"},
};

static const lb_arg_spec spec = {
    "train",
    "Trains a small Llama-style model from text.",
    options,
    sizeof options / sizeof *options,
    sizeof(train_args),
    "lowbit train --text books.txt --valid other.txt -o run --hidden 256 --layers 6 --tokens 20000000",
    NULL,
    NULL};

/* A flag that was not typed leaves the field as lb_train_options_init has it. */
static void copy_double(const train_args *args, const char *flag, double typed, double *field)
{
    if (lb_args_given(&spec, args, flag))
        *field = typed;
}

static void fill_options(const train_args *a, lb_train_options *o)
{
    lb_train_options_init(o);
    o->output = a->output;
    o->resume = a->resume;
    o->from = a->from;
    o->texts = a->texts.items;
    o->text_count = a->texts.count;
    o->valid = a->valid;
    o->data = a->data;
    o->tokenizer = a->tokenizer;
    o->sample_bytes = a->sample_bytes;
    o->config = a->config;
    o->hidden = a->hidden;
    o->layers = a->layers;
    o->heads = a->heads;
    o->kv_heads = a->kv_heads;
    o->ffn = a->ffn;
    o->vocab = a->vocab;
    o->length = a->length;
    o->untied = a->untied;
    o->tokens = a->tokens;
    o->batch_tokens = a->batch;
    o->micro_tokens = a->micro;
    o->schedule = a->schedule;
    o->decay_shape = a->decay_shape;
    o->warmup = a->warmup;
    o->decay_all = a->decay_all;
    o->seed = lb_args_given(&spec, a, "--seed") ? a->common.seed : 0;
    o->save_every = a->save_every;
    o->log_every = a->log_every;
    o->valid_every = a->valid_every;
    o->valid_tokens = a->valid_tokens;
    o->dtype = a->dtype;
    o->low_bit = a->low_bit;
    o->keep_states = a->keep_states;
    o->average = a->average;
    o->cpu = a->common.cpu;
    copy_double(a, "--decay", a->decay, &o->decay);
    copy_double(a, "--final", a->final, &o->final);
    copy_double(a, "--lr", a->lr, &o->lr);
    copy_double(a, "--weight-decay", a->weight_decay, &o->weight_decay);
    copy_double(a, "--beta1", a->beta1, &o->beta1);
    copy_double(a, "--beta2", a->beta2, &o->beta2);
    copy_double(a, "--eps", a->eps, &o->eps);
    copy_double(a, "--clip", a->clip, &o->clip);
    copy_double(a, "--z-loss", a->z_loss, &o->z_loss);
    copy_double(a, "--init-std", a->init_std, &o->init_std);
}

/* A line for each row of the log; a terminal's bar is wiped first, and painted again by the next step. */
static void print_row(void *user, const lb_train_row *row)
{
    const lb_cli_progress *bar = user;
    char left[32], valid[32] = "";
    if (bar->quiet)
        return;
    if (!isnan(row->valid_loss))
        snprintf(valid, sizeof valid, "  held-out %.4f", row->valid_loss);
    fprintf(bar->out, "%sstep %" PRIu64 "/%" PRIu64 "  loss %.4f%s  lr %.3g  %.0f tokens/s  %s left\n",
            bar->terminal ? "\r\x1b[K" : "", row->step, row->steps, row->loss, valid, row->rate,
            row->tokens_per_second, lb_duration_text(row->seconds_left, left));
    fflush(bar->out);
}

static lb_status print_json(const train_args *args, const lb_train_result *r, lb_error *err)
{
    json_t *json = json_object();
    json_object_set_new(json, "run", lb_json_text(args->output));
    json_object_set_new(json, "checkpoint", lb_json_text(r->checkpoint));
    json_object_set_new(json, "step", json_integer((json_int_t)r->step));
    json_object_set_new(json, "tokens", json_integer((json_int_t)r->tokens));
    json_object_set_new(json, "parameters", json_integer((json_int_t)r->parameters));
    json_object_set_new(json, "loss", lb_json_number(r->loss));
    json_object_set_new(json, "valid_loss", lb_json_number(r->valid_loss));
    json_object_set_new(json, "seconds", lb_json_number(r->seconds));
    json_object_set_new(json, "peak_rss_bytes", json_integer((json_int_t)r->peak_rss_bytes));
    return lb_output_json(json, err);
}

static void print_result(const train_args *args, const lb_train_result *r)
{
    char parameters[32], tokens[32], seconds[32];
    printf("%s/%s: %s parameters after %s tokens", args->output, r->checkpoint,
           lb_count_text(r->parameters, parameters), lb_count_text((size_t)r->tokens, tokens));
    if (!isnan(r->loss))
        printf(", loss %.4f", r->loss);
    if (!isnan(r->valid_loss))
        printf(", on held-out text %.4f", r->valid_loss);
    printf("; %s, peak memory %.0f MB\n", lb_duration_text(r->seconds, seconds),
           (double)r->peak_rss_bytes / 1e6);
}

int cmd_train(int argc, char **argv)
{
    train_args args;
    int code;
    lb_error err;
    lb_cli_progress bar;
    lb_train_options o;
    lb_train_result r;
    lb_average_named average;
    if (!lb_args_parse(&spec, argc, argv, &args, &code))
        return code;
    fill_options(&args, &o);
    if (!args.resume && !args.from && args.tokens == 0)
        return lb_cli_misused("train", "how long? give --tokens N");
    if (!args.resume && !args.from && args.texts.count == 0 && !args.data)
        return lb_cli_misused("train", "on what? give --text FILE, or --data FOLDER with tokens");
    if (args.resume && args.from)
        return lb_cli_misused("train", "--resume goes on with a run, --from begins one: give one of the two");
    if (args.average && lb_average_parse(args.average, &average, &err) != LB_OK)
        return lb_cli_misused("train", err.msg);
    o.progress = lb_cli_progress_begin(&bar, args.common.quiet);
    o.on_row = print_row;
    o.on_row_user = &bar;
    lb_status st = lb_train(&o, &r, &err);
    lb_cli_progress_end(&bar);
    if (st != LB_OK) /* there is a run to go on with when its tokens are made */
        return lb_cli_failed("train", &err, lb_run_exists(args.output));
    if (args.common.json) {
        st = print_json(&args, &r, &err);
    } else {
        print_result(&args, &r);
        st = lb_output_flush(&err);
    }
    return st == LB_OK ? LB_EXIT_DONE : lb_cli_failed("train", &err, false);
}
