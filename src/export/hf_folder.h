/* SPDX-License-Identifier: MIT
 * A Hugging Face folder in the making: what all kinds of export but GGUF have in common. A kind says which
 * tensors a layer becomes and makes their bytes; the rest is written as floats. */
#ifndef LB_EXPORT_HF_FOLDER_H
#define LB_EXPORT_HF_FOLDER_H

#include "export/int_layer.h"
#include "io/safetensors.h"

enum { LB_FOLDER_MAX_PARTS = 5, LB_FOLDER_NAME_BYTES = 200 };

typedef struct lb_folder lb_folder;

/* A kind of folder. */
typedef struct lb_folder_kind {
    const char *name; /* for messages: "GPTQ" */
    /* Whether a layer of codes can be held as it is, and as what: `parts` of it, whose name is the suffix after the
     * layer's name (".qweight"), without data. `data` of each is made by `fill`. The number of parts goes to *count. */
    lb_status (*plan)(lb_folder *folder, const lb_export_item *item, lb_tensor_out parts[LB_FOLDER_MAX_PARTS],
                      size_t *count, lb_error *err);
    /* Their bytes: parts[i] has room for as many as `plan` said. */
    lb_status (*fill)(lb_folder *folder, const lb_export_item *item, uint8_t *const *parts, lb_error *err);
    /* Floats of a weight, values [rows, cols]: NULL: lb_weight_read. */
    lb_status (*floats)(lb_folder *folder, const lb_export_item *item, float *values, lb_error *err);
    /* quantization_config; NULL: the kind has none. A new reference, *out NULL without memory. */
    lb_status (*config)(lb_folder *folder, json_t **out, lb_error *err);
    const char *torch_dtype; /* what config.json is to say; NULL: that of the embedding */
} lb_folder_kind;

struct lb_folder {
    const lb_weights *weights;
    const lb_export_options *options;
    const lb_folder_kind *kind;
    void *state; /* the kind's own */
    lb_export_list list;
    /* Filled in while tensors are planned: */
    lb_tensor_out *tensors;
    char (*names)[LB_FOLDER_NAME_BYTES];
    const lb_export_item **items; /* of each tensor */
    unsigned *part; /* which of its item's; floats have part 0 and an item that is not packed */
    bool *packed;
    size_t count;
    lb_export_tally tally;
    lb_export_result *result;
    /* The layer at hand: */
    const lb_export_item *made;
    uint8_t *parts[LB_FOLDER_MAX_PARTS];
};

/* Makes the folder: OUT.partial, then its name. */
lb_status lb_folder_export(const lb_weights *weights, const lb_folder_kind *kind, void *state,
                           const lb_export_options *options, lb_export_result *result, lb_error *err);

/* Items that have become packed layers, in order; for the kinds' configurations. NULL past the end. */
const lb_export_item *lb_folder_packed_item(const lb_folder *folder, size_t index);

/* "model.layers.0.self_attn.q_proj" of "model.layers.0.self_attn.q_proj.weight". */
void lb_folder_layer_name(const lb_export_item *item, char out[LB_FOLDER_NAME_BYTES]);

#endif
