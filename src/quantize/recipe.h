/* SPDX-License-Identifier: MIT
 * A recipe: one choice on each axis, and the numbers that go with it. Everything that determines the
 * output's bytes, besides the model and the calibration text, is in here. */
#ifndef LB_QUANTIZE_RECIPE_H
#define LB_QUANTIZE_RECIPE_H

#include <jansson.h>

#include "formats/format.h"
#include "model/inputs.h"

typedef struct lb_method lb_method;

/* In which order GPTQ visits the columns of a layer. */
typedef enum lb_order {
    LB_ORDER_GROUP, /* largest Hessian diagonal first, inside each group and among groups */
    LB_ORDER_ACT, /* largest first over all columns; groups' parameters fixed beforehand */
    LB_ORDER_NONE /* as stored */
} lb_order;

/* By what the weights of high width are chosen (saliency.h). */
typedef enum lb_saliency {
    LB_SALIENCY_OBS,
    LB_SALIENCY_PAPER,
    LB_SALIENCY_CHOL,
    LB_SALIENCY_MAGNITUDE
} lb_saliency;

/* On what the best iterate of learned rounding is chosen. */
typedef enum lb_best {
    LB_BEST_HELD_ASIDE, /* samples that are not trained on, every few steps */
    LB_BEST_BATCH, /* each step's batch, as arXiv:2309.05516's code does */
    LB_BEST_LAST /* not at all: the last iterate */
} lb_best;

/* How rounding is learned (signround.c). With lb_recipe.fit it makes SignRound V1 (range, no multiplier, no
 * filter) or V2 (search, multiplier, filter), or what lies between. */
typedef struct lb_tuning {
    size_t iters; /* steps for each block; 0: none, which is rounding to nearest */
    size_t batch; /* samples a step */
    double
        lr; /* of the first step, falling to 0; 0: 1 / iters, and at 3 bits and less 2 / iters from 1000 on */
    bool multiplier; /* train a multiplier of the fitted scale; false: train clipping of the range, or, on a
                      * searched scale, nothing but the rounding */
    bool filter; /* ignore the largest thousandth of errors below 4 bits */
    lb_best best;
} lb_tuning;

/* What alternation between codes and coefficients begins with (bpdq.c). */
typedef enum lb_init {
    LB_INIT_SEARCH, /* the format's own fit, weighed by what errors cost */
    LB_INIT_RANGE, /* a uniform grid over the group's range */
    LB_INIT_BITS /* the highest bits of 8-bit codes, as arXiv:2602.04163's code does */
} lb_init;

typedef struct lb_alternation {
    size_t iters; /* sweeps, with a refit after each; 0: one sweep and none */
    lb_init init;
    bool
        faithful; /* the released code's choices: an absolute ridge, one best iterate for all rows of a layer */
} lb_alternation;

/* Training of scales and coefficients end to end, when all codes are chosen (polish.h). */
typedef struct lb_polish_recipe {
    size_t steps; /* 0: none */
    size_t batch; /* samples a step */
    double lr; /* share of its values that a coefficient moves in a step, at most */
} lb_polish_recipe;
/* By what calibration chooses channels of activations (act_masks.h). */
typedef enum lb_mask_score { LB_MASK_NORM, LB_MASK_ABSOLUTE, LB_MASK_SIGNED } lb_mask_score;

/* "--layer PATTERN=FORMAT": layers whose name matches the shell pattern get this format. */
typedef struct lb_layer_rule {
    char pattern[96];
    lb_format format;
} lb_layer_rule;

enum { LB_RECIPE_MAX_RULES = 64, LB_MAX_CANDIDATES = 16 };

/* How layers that no rule decides on get their formats. */
typedef enum lb_allocate {
    LB_ALLOCATE_NONE, /* all the same */
    LB_ALLOCATE_FISHER, /* the least loss by sensitivities (sensitivity.h) */
    LB_ALLOCATE_DELTALOSS,
    LB_ALLOCATE_HEAD, /* the most bits for the first blocks, the fewest for the others: a baseline */
    LB_ALLOCATE_TAIL /* for the last blocks */
} lb_allocate;

/* Bits under a budget (allocate.h). */
typedef struct lb_allocation {
    lb_allocate how;
    lb_format candidates[LB_MAX_CANDIDATES];
    size_t candidate_count;
    double target_bits; /* a weight, on average over those layers, parameters of groups included */
    bool untied; /* layers that share an input may get different formats */
    size_t samples, seqlen; /* that sensitivities are measured on */
} lb_allocation;

typedef struct lb_recipe {
    lb_format format; /* of every linear layer of every block, unless there is an allocation */
    lb_allocation allocation;
    const lb_format
        *plan; /* [layers, LB_BLOCK_LINEARS] what was allocated; NULL: nothing yet, or one for all */
    lb_act act; /* that inputs of those layers are rounded to; f32: they are not */
    lb_mask_score mask_score; /* where act is of banks that calibration chooses from */
    lb_transform transform; /* resolved */
    const lb_method *method;
    lb_fit fit;
    lb_order order;
    lb_saliency saliency; /* of formats with kinds */
    double damp; /* added to H's diagonal, as a share of its mean */
    double compensate; /* how much of the drift of a layer's inputs it is asked to undo, 0..1 */
    size_t refine; /* sweeps over a layer's chosen codes (refine.h), of methods that need a Hessian */
    lb_tuning tuning; /* of methods that reconstruct blocks */
    lb_alternation alternation; /* of methods that alternate */
    lb_polish_recipe polish;
    size_t samples, seqlen; /* calibration; samples = 0: none */
    uint64_t seed;
    lb_layer_rule rules[LB_RECIPE_MAX_RULES]; /* the last that matches wins */
    size_t rule_count;
} lb_recipe;

/* int4-g128 by GPTQ with the scale search: what `lowbit quantize` does when nothing else is said. */
void lb_recipe_default(lb_recipe *out);

/* Adds "PATTERN=FORMAT". */
lb_status lb_recipe_add_rule(lb_recipe *recipe, const char *text, lb_error *err);

/* The format of the layer (without ".weight") whose format is `otherwise` unless a rule says so;
 * *rule (may be NULL) is the index of the rule that decided, or SIZE_MAX. */
const lb_format *lb_recipe_format(const lb_recipe *recipe, const char *layer, const lb_format *otherwise,
                                  size_t *rule);

/* Whether it may ask for a format with elements of two kinds (formats/kinds.h). */
bool lb_recipe_has_kinds(const lb_recipe *recipe);

/* The format of a layer of a block: the last rule's that matches, or the plan's, or the one for all. */
const lb_format *lb_recipe_layer(const lb_recipe *recipe, size_t block, unsigned which);

/* What goes into the checkpoint's quantization_config, and identifies an interrupted run. NULL when there
 * is no memory, or a rule's pattern is not UTF-8. */
json_t *lb_recipe_json(const lb_recipe *recipe);

lb_status lb_order_parse(const char *name, lb_order *out, lb_error *err);
/* "obs", "paper", "chol", "magnitude". */
lb_status lb_saliency_parse(const char *name, lb_saliency *out, lb_error *err);
/* "fisher", "deltaloss", "head", "tail". */
lb_status lb_allocate_parse(const char *name, lb_allocate *out, lb_error *err);
/* Names of formats, separated by commas, into the allocation's candidates. */
lb_status lb_candidates_parse(const char *names, lb_allocation *out, lb_error *err);
/* "search", "range", "bits". */
lb_status lb_init_parse(const char *name, lb_init *out, lb_error *err);
/* "norm", "absolute", "signed". */
lb_status lb_mask_score_parse(const char *name, lb_mask_score *out, lb_error *err);
/* "held-aside", "batch", "last". */
lb_status lb_best_parse(const char *name, lb_best *out, lb_error *err);

#endif
