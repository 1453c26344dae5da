/* SPDX-License-Identifier: MIT
 *
 * The quantized checkpoint on disk, while it is being made. docs/checkpoint.md describes the result
 * byte for byte.
 *
 * Blocks are collected in "OUT.partial", a file each, complete and synced or absent. When all are
 * there the folder gets its index, configuration and tokenizer, and only then its final name. A run
 * that was killed leaves OUT.partial with a record of its recipe; resuming checks the record and
 * hands finished blocks back.
 */
#ifndef LB_PACK_QUANTIZED_DIR_H
#define LB_PACK_QUANTIZED_DIR_H

#include "model/weights.h"
#include "quantize/pipeline.h"

typedef struct lb_quantized_dir lb_quantized_dir;

/* What the finished checkpoint will weigh, or weighs. */
typedef struct lb_checkpoint_size {
    uint64_t quantized_weights, quantized_bytes; /* layers whose format is not a float one */
    uint64_t all_weights, all_bytes; /* every tensor: embeddings, norms, biases too */
} lb_checkpoint_size;

/* The size follows from the configuration and the recipe alone. Also refuses what a recipe cannot ask
 * for: a rule that matches no layer, an override of a tied head. */
lb_status lb_quantized_size(const lb_weights *weights, const lb_recipe *recipe, lb_checkpoint_size *out,
                            lb_error *err);

/* Makes OUT.partial, or with `resume` opens the one that is there. `record` identifies the run: a
 * folder whose record differs is refused, naming the first key that differs. `tokens` may be NULL. */
lb_status lb_quantized_dir_open(const char *out_path, const lb_weights *weights, const lb_recipe *recipe,
                                const json_t *record, bool resume, lb_quantized_dir **out, lb_error *err);
/* Leaves OUT.partial as it is, to be resumed, unless nothing was finished or kept in it. */
void lb_quantized_dir_close(lb_quantized_dir *dir);

/* The pipeline's sink. */
lb_sink lb_quantized_dir_sink(lb_quantized_dir *dir);
/* How many blocks are finished. */
size_t lb_quantized_dir_done(const lb_quantized_dir *dir);

/* Something that the run would not like to compute again, kept with its unfinished blocks. */
lb_status lb_quantized_dir_keep(lb_quantized_dir *dir, const json_t *notes, lb_error *err);
/* What was kept; NULL when there is nothing, or nothing that can be read. */
json_t *lb_quantized_dir_kept(const lb_quantized_dir *dir);

/* Everything that is not a block, then the final name. *file_bytes is what the whole folder takes.
 * `dir` can only be closed afterwards. */
lb_status lb_quantized_dir_finish(lb_quantized_dir *dir, uint64_t *file_bytes, lb_error *err);

#endif
