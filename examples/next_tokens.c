/* SPDX-License-Identifier: MIT
 * What could come next, from the logits:   next_tokens MODEL TEXT [COUNT] */
#include <lowbit/lowbit.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double log_sum_exp(const float *logits, size_t n)
{
    double sum = 0, largest = logits[0];
    for (size_t i = 1; i < n; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    for (size_t i = 0; i < n; i++)
        sum += exp(logits[i] - largest);
    return largest + log(sum);
}

/* Prints the `count` likeliest of logits [n], which it changes. */
static int print_likeliest(const lb_tokenizer *tokenizer, float *logits, size_t n, size_t count, lb_error *err)
{
    lb_detokenizer *spelling;
    const double all = log_sum_exp(logits, n);
    if (lb_detokenizer_create(tokenizer, &spelling, err) != LB_OK)
        return 1;
    for (size_t k = 0; k < count && k < n; k++) {
        const char *bytes;
        size_t best = 0, length;
        for (size_t i = 1; i < n; i++)
            best = logits[i] > logits[best] ? i : best;
        if (lb_detokenizer_token(spelling, (uint32_t)best, &bytes, &length, err) != LB_OK)
            break;
        printf("%6.2f %%  %6zu  \"%.*s\"\n", 100 * exp(logits[best] - all), best, (int)length, bytes);
        logits[best] = -HUGE_VALF;
    }
    lb_detokenizer_destroy(spelling);
    return 0;
}

int main(int argc, char **argv)
{
    lb_generator *generator = NULL;
    lb_error err;
    uint32_t *ids = NULL;
    float *logits = NULL;
    size_t count;
    int failed = 1;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: next_tokens MODEL TEXT [COUNT]\n");
        return 2;
    }
    if (lb_generator_open(argv[1], NULL, &generator, &err) == LB_OK &&
        lb_tokenizer_encode(lb_generator_tokenizer(generator), argv[2], strlen(argv[2]),
                            LB_ENCODE_DEFAULT_BOS, &ids, &count, &err) == LB_OK) {
        const size_t vocab = lb_generator_vocab(generator);
        logits = malloc(vocab * sizeof *logits);
        if (logits && lb_generator_logits(generator, ids, count, count - 1, NULL, logits, &err) == LB_OK)
            failed = print_likeliest(lb_generator_tokenizer(generator), logits, vocab,
                                     argc > 3 ? strtoul(argv[3], NULL, 10) : 5, &err);
    }
    if (failed)
        fprintf(stderr, "%s\n", err.msg);
    free(logits);
    lb_ids_free(ids);
    lb_generator_close(generator);
    return failed;
}
