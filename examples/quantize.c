/* SPDX-License-Identifier: MIT
 * Quantizes a model:   quantize MODEL OUTPUT [FORMAT]
 * Ctrl-C stops it; the same command with what is in OUTPUT.partial goes on where it was. */
#include <lowbit/lowbit.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    interrupted = 1;
}

/* Called as blocks are finished, and between them; not 0 asks the library to stop. */
static int on_progress(void *user, const char *stage, size_t done, size_t total)
{
    (void)user;
    if (total > 0)
        fprintf(stderr, "\r%-20s %zu of %zu ", stage, done, total);
    return interrupted;
}

int main(int argc, char **argv)
{
    lb_quantize_options options;
    lb_quantize_result result;
    lb_error err;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: quantize MODEL OUTPUT [FORMAT]\n");
        return 2;
    }
    signal(SIGINT, on_interrupt);
    lb_quantize_options_init(&options);
    options.model = argv[1];
    options.output = argv[2];
    options.format = argc > 3 ? argv[3] : "int4-g128";
    options.method = "rtn"; /* "gptq" needs some minutes, and is better */
    options.progress.fn = on_progress;
    options.resume = true; /* where there is nothing to go on with, it begins */
    const lb_status status = lb_quantize(&options, &result, &err);
    fputc('\n', stderr);
    if (status != LB_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return status == LB_ECANCELED ? 130 : 1;
    }
    printf("%s: %.3f bits per weight in %zu layers, %.3f with embeddings and norms\n", argv[2],
           result.quantized_bits_per_weight, result.layer_count, result.bits_per_weight);
    lb_quantize_result_free(&result);
    return 0;
}
