/* SPDX-License-Identifier: MIT
 * How well a model predicts a text, and how far it is from another one:   perplexity MODEL TEXT [REFERENCE] */
#include <lowbit/lowbit.h>

#include <stdio.h>

int main(int argc, char **argv)
{
    lb_eval_options options;
    lb_eval_result result;
    lb_error err;
    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: perplexity MODEL TEXT [REFERENCE]\n");
        return 2;
    }
    lb_eval_options_init(&options);
    options.model = argv[1];
    options.text = argv[2];
    options.against = argc > 3 ? argv[3] : NULL;
    if (lb_evaluate(&options, &result, &err) != LB_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("perplexity %.4f +- %.4f over %zu tokens\n", result.model.perplexity,
           result.model.perplexity_stderr, result.tokens);
    if (result.compares)
        printf("of the reference %.4f; divergence from it %.5f +- %.5f nats, the same first choice in %.2f %%\n",
               result.reference.perplexity, result.kl_mean, result.kl_stderr, result.top1_agreement);
    return 0;
}
