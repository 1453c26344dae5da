/* SPDX-License-Identifier: MIT
 *
 * The main job: a checkpoint in, a quantized checkpoint out.
 *
 * A run checks first everything that can be checked (output path, disk, memory, tensor shapes,
 * tokenizer), then quantizes block by block; each finished block is durable. Interrupted runs resume
 * and give the bytes that an unbroken run gives. The same options and seed give the same bytes at any
 * thread count.
 */
#ifndef LOWBIT_QUANTIZE_H
#define LOWBIT_QUANTIZE_H

#include <stdbool.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_quantize_options {
    size_t struct_size; /* sizeof(lb_quantize_options), so that fields can be added */
    const char *model; /* Hugging Face folder or GGUF file */
    const char *output; /* folder to make; must not exist. NULL with dry_run: not checked */
    const char *format; /* "int4-g128", ... */
    const char *act; /* round the inputs of linear layers to this format, here and whenever the result runs;
                      * NULL: leave them */
    const char *transform; /* rewrite layers first, without changing what they compute: "none", "hadamard"
                            * (rotations of the format's group size), "hadamard-N", "hadamard-full"; "smooth"
                            * (SmoothQuant), "awq": channels rescaled, which wants calibration; "smooth+hadamard" */
    const char *method; /* "rtn", "gptq", "signround", "bpdq" */
    const char *fit; /* "search" (importance-weighted) or "range" (extremes only) */
    const char *order; /* GPTQ's column order: "group", "act", "none" */
    const char *saliency; /* what makes a weight of sqH/L-bB-sS high: "obs", "paper", "chol", "magnitude" */
    double damp; /* added to the Hessian's diagonal, as a share of its mean; 0..10 */
    double compensate; /* GPTQ: how much of the error of earlier layers each layer is asked to undo, 0..1 */
    const char *calibration; /* text file; NULL: the built-in text for methods that need one, and no
                              * calibration for the others */
    size_t samples, seqlen; /* calibration windows and tokens in each */
    uint64_t seed;
    const char *const *layer_rules; /* "PATTERN=FORMAT"; the last that matches wins */
    size_t layer_rule_count;
    bool resume;
    bool dry_run; /* everything up to the first minute of work, then stop */
    const char *cpu; /* cap of the instruction sets: "ref", "avx2", "avx512", "neon"; NULL: the best */
    lb_progress progress;
    /* signround. With fit "range", and neither multiplier nor filter: SignRound V1; the defaults: V2. */
    size_t iters; /* steps of learning for each block */
    size_t batch; /* samples a step */
    double lr; /* of the first step; 0: 1 / iters, and at 3 bits and less 2 / iters from 1000 iters on */
    bool multiplier; /* learn a multiplier of the fitted scale rather than how to clip the range */
    bool filter; /* leave the largest thousandth of errors out below 4 bits */
    const char *best; /* choose the best iterate on samples "held-aside", on each "batch", or the "last" */
    /* bpdq */
    size_t alternations; /* of codes and coefficients */
    const char *init; /* they begin with: "search", "range", "bits" */
    bool faithful; /* choose as the released code of arXiv:2602.04163 does */
    /* Bits where they matter: instead of `format`, one of the candidates for every layer that no rule decides on. */
    double
        target_bits; /* that those layers average per weight, parameters of groups included; 0: no allocation */
    const char *candidates; /* formats, separated by commas */
    const char *allocate; /* "fisher" and "deltaloss": the least loss by measured sensitivities; "head" and
                           * "tail": the most bits for the first, or the last, blocks */
    bool untied; /* q k v, and gate up, may get different formats */
    size_t sensitivity_samples, sensitivity_seqlen; /* windows of the calibration text, and tokens in each */
    double
        smooth; /* transform "smooth": how much of the difficulty moves from activations to weights, 0..1 */
    bool
        clip; /* transform "awq" with fit "range": also search for the best clipping of each group's weights */
    const char *
        act_mask; /* act "sqH/L-bB-sS": what calibration chooses high channels by: "norm" (mean magnitude times
                           * the norm of the weights), "absolute" (magnitude), "signed" (arXiv:2512.05409's) */
    size_t
        refine; /* GPTQ and bpdq: sweeps over a layer's chosen codes, each as if it were the last to be chosen */
    /* When all codes are chosen: scales and coefficients of the whole model, trained to bring its predictions closer to
     * the original's on the calibration windows. Formats int and bp; costs about three passes over polish_batch windows
     * a step. */
    size_t polish_steps; /* 0: none */
    size_t polish_batch; /* windows a step */
    double polish_lr; /* of the first step; the share of its size that a scale moves at most */
} lb_quantize_options;

/* int4-g128 by GPTQ with the scale search and 128 windows of 512 tokens. */
LB_API void lb_quantize_options_init_sized(lb_quantize_options *options, size_t size);
#define lb_quantize_options_init(options) lb_quantize_options_init_sized((options), sizeof *(options))

typedef struct lb_quantize_layer {
    char name[128];
    char format[32];
    double bits_per_weight;
    double relative_error; /* output energy of the rounding error over the layer's own, on calibration
                            * inputs; of the weights alone where there is no calibration; NaN in a dry run */
    size_t reserved[4]; /* 0 */
} lb_quantize_layer;

typedef struct lb_quantize_candidate {
    char name[32];
} lb_quantize_candidate;

typedef struct lb_quantize_result {
    char *recipe; /* JSON object, as it is in the result's config.json */
    lb_quantize_layer *layers; /* every linear layer of every block, in order */
    size_t layer_count;
    double *block_errors; /* [block_count]: energy of the difference between the quantized and
                                  * the original activations after the block; NaN without calibration */
    size_t block_count;
    uint64_t weights, quantized_weights;
    uint64_t bytes, quantized_bytes; /* of tensor data */
    uint64_t file_bytes; /* of all files; 0 in a dry run */
    double bits_per_weight; /* 8 * bytes / weights: embeddings and norms included */
    double quantized_bits_per_weight; /* the same of quantized layers alone */
    size_t samples, seqlen; /* calibration windows really used */
    size_t resumed_blocks; /* taken over from an interrupted run */
    double seconds_load, seconds_capture, seconds_hessian, seconds_solve, seconds_tune, seconds_polish,
        seconds_write, seconds;
    /* mean divergence from the original on calibration windows that polishing held aside, nats per token; NaN: there
     * was none, or an interrupted run had done it */
    double kl_before_polish, kl_after_polish;
    lb_quantize_candidate *candidates; /* [candidate_count] of an allocation; NULL: there was none */
    size_t candidate_count;
    /* [candidate_count, layer_count] what each layer is thought to lose, in nats per token; NaN where a rule decides;
     * NULL where the allocation needs none */
    double *sensitivities;
    double allocated_bits_per_weight; /* of the layers that it decided on, whatever their formats */
    double seconds_allocate;
    size_t memory_bytes; /* estimate made beforehand, without the mapped model */
    size_t disk_free_bytes;
    size_t peak_rss_bytes;
    size_t reserved[8]; /* 0 */
} lb_quantize_result;

/* Runs the job. LB_ECANCELED when the progress callback asks to stop: what is finished is kept in
 * OUTPUT.partial, and the same options with resume = true go on. *result is valid on success only;
 * release it with lb_quantize_result_free. */
LB_API lb_status lb_quantize(const lb_quantize_options *options, lb_quantize_result *result, lb_error *err);
LB_API void lb_quantize_result_free(lb_quantize_result *result);

#ifdef __cplusplus
}
#endif
#endif
