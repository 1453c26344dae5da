/* SPDX-License-Identifier: MIT
 *
 * The loop over decoder blocks, written once for every method.
 *
 * Two streams of activations run through it: one as the original model computes them, and one as the
 * already quantized blocks do, which is what the layers to come will really see. For each block the
 * loop walks through the stages that share an input (q k v | o | gate up | down), collects the
 * Hessian that the method asks for from the quantized stream, lets the method choose codes, puts the
 * rounded weights in place, and goes on. A method that reconstructs whole blocks is called once a block
 * instead, before the quantized stream goes through it. A finished block goes to the sink, which makes it
 * durable, and its memory is given back: memory is that of one block plus the activations. When all are finished
 * the recipe may want their params polished (polish.h); they are then committed once more.
 *
 * Everything is a function of the recipe, the weights and the samples, in a fixed order: the same
 * bytes come out at any thread count, and a run that restores finished blocks from its sink continues
 * exactly as if it had computed them.
 */
#ifndef LB_QUANTIZE_PIPELINE_H
#define LB_QUANTIZE_PIPELINE_H

#include <stdint.h>

#include "calibrate/samples.h"
#include "kernels/kernels.h"
#include "model/weights.h"
#include "quantize/method.h"

/* Where finished blocks go, and where those of an interrupted run come from. */
typedef struct lb_sink {
    void *self;
    /* Whether `layer` is finished already. */
    bool (*has)(void *self, size_t layer);
    /* Fills codes and params (allocated by the caller) and relative_error of the layers of a block; and of `block`,
     * unless that is NULL, norms, biases and the weights of layers that stay float, as they were made durable. */
    lb_status (*restore)(void *self, size_t layer, lb_layer *layers, size_t count, lb_block *block,
                         lb_error *err);
    /* Makes a block durable: its layers, and of `block` norms and biases, which a transform may have changed. */
    lb_status (*commit)(void *self, size_t layer, const lb_layer *layers, size_t count, const lb_block *block,
                        lb_error *err);
    /* The same of params that were learned when all blocks were finished (polish.h), of the layers that have them
     * allocated. They lie beside their block, which stays as it was committed, until all are there. */
    bool (*has_learned)(void *self, size_t layer);
    lb_status (*restore_learned)(void *self, size_t layer, lb_layer *layers, size_t count, lb_error *err);
    lb_status (*save_learned)(void *self, size_t layer, const lb_layer *layers, size_t count, lb_error *err);
} lb_sink;

typedef struct lb_stage_times {
    double load, capture, hessian, solve, tune, polish, write; /* seconds */
} lb_stage_times;

/* What polishing has done, on the samples that it held aside: mean divergences, nats per token. NaN without it, and
 * where an earlier run has done it. */
typedef struct lb_polish_report {
    double before, after;
} lb_polish_report;

typedef struct lb_pipeline {
    const lb_weights *weights;
    const lb_recipe *recipe;
    const lb_samples *samples; /* count 0: no calibration */
    const lb_kernels *kernels;
    lb_sink sink;
    lb_progress progress;
} lb_pipeline;

/* What is known of a block afterwards. */
typedef struct lb_block_report {
    double output_error; /* energy of the difference of the two streams after the block over the energy
                          * of the original one; NaN without calibration */
} lb_block_report;

/* layers [config.layers * LB_BLOCK_LINEARS]: names, formats and errors are filled in (w, codes and
 * params are NULL afterwards); those that a rule leaves in float have a float format. blocks
 * [config.layers]. LB_ECANCELED when the progress callback asks to stop: finished blocks are kept. */
lb_status lb_pipeline_run(const lb_pipeline *pipeline, lb_layer *layers, lb_block_report *blocks,
                          lb_polish_report *polished, lb_stage_times *times, lb_error *err);

/* Bytes that lb_pipeline_run needs besides the mapped model, to within a few per cent. */
size_t lb_pipeline_memory(const lb_config *config, const lb_recipe *recipe, size_t samples, size_t seqlen);

#endif
