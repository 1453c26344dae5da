/* SPDX-License-Identifier: MIT
 * Continues a text, word by word:   generate MODEL PROMPT [TOKENS] */
#include <lowbit/lowbit.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int on_text(void *user, const char *text, size_t length)
{
    FILE *to = user;
    return fwrite(text, 1, length, to) != length || fflush(to) != 0; /* nobody reads any more: stop */
}

int main(int argc, char **argv)
{
    lb_generator *generator;
    lb_generate_options options;
    lb_generate_result result;
    lb_error err;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: generate MODEL PROMPT [TOKENS]\n");
        return 2;
    }
    if (lb_generator_open(argv[1], NULL, &generator, &err) != LB_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    lb_generate_options_init(&options);
    options.max_tokens = argc > 3 ? strtoul(argv[3], NULL, 10) : 64;
    options.temperature = 0; /* always the likeliest token */
    options.on_text = on_text;
    options.user = stdout;
    const lb_status status = lb_generate_text(generator, argv[2], strlen(argv[2]), &options, &result, &err);
    printf("\n");
    if (status == LB_OK)
        fprintf(stderr, "%zu tokens read, %zu written, %.1f a second\n", result.prompt_tokens,
                result.generated_tokens, (double)result.generated_tokens / result.decode_seconds);
    else
        fprintf(stderr, "%s\n", err.msg);
    lb_generator_close(generator);
    return status == LB_OK ? 0 : 1;
}
