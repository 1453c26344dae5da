/* SPDX-License-Identifier: MIT
 * The flags that make a recipe, of all commands that quantize. */
#ifndef LB_CLI_RECIPE_ARGS_H
#define LB_CLI_RECIPE_ARGS_H

#include "cli/args.h"
#include "lowbit/quantize.h"

/* The first member of such a command's values. */
typedef struct lb_recipe_args {
    lb_common_args common;
    const char *format, *act, *transform, *method, *recipe, *fit, *order, *saliency, *calibration, *signround,
        *best, *candidates, *act_mask, *allocate, *init;
    size_t samples, seqlen, iters, batch, sensitivity_samples, sensitivity_seqlen, polish, polish_batch,
        refine;
    double damp, compensate, lr, target_bits, polish_lr, smooth;
    lb_arg_list layers;
    bool no_multiplier, no_filter, untie, faithful, no_clip;
} lb_recipe_args;

extern const lb_arg_group lb_recipe_flags;

/* Refuses names that the command line itself can judge: misuse, exit 2. */
lb_status lb_recipe_args_check(const lb_arg_spec *spec, const lb_recipe_args *args, lb_error *err);

/* A flag that does nothing is likely a mistake, if a harmless one: says so on stderr. */
void lb_recipe_args_warn(const lb_arg_spec *spec, const lb_recipe_args *args);

/* Everything in `options` that follows from these flags. Strings stay argv's. */
void lb_recipe_args_apply(const lb_arg_spec *spec, const lb_recipe_args *args, lb_quantize_options *options);

#endif
