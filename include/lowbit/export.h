/* SPDX-License-Identifier: MIT
 *
 * Models as other tools' files. Codes, scales and zeros are carried over as they are: nothing is quantized
 * anew, and what the target cannot hold exactly is refused with the reason.
 */
#ifndef LOWBIT_EXPORT_H
#define LOWBIT_EXPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "lowbit/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct lb_export_options {
    size_t struct_size; /* sizeof(lb_export_options) */
    const char *model;
    const char *output; /* gguf: a file; all others: a folder; neither may be there */
    const char *kind; /* one of lb_export_kinds() */
    const char
        *dtype; /* of tensors without codes: "f32", "f16", "bf16", for gguf also "q8_0"; NULL: as stored */
    bool dequantize; /* layers that the kind cannot hold exactly are written as floats instead of refused */
    bool
        zeros_v2; /* gptq: checkpoint_format "gptq_v2", whose zero points are stored as they are, not less one */
    bool naive; /* compressed-tensors: 8-bit layers one integer a byte, not packed */
    lb_progress progress;
} lb_export_options;

typedef struct lb_export_result {
    size_t layers; /* matrices whose codes were carried over */
    size_t dequantized; /* matrices that had codes, and were written as floats */
    size_t tensors;
    uint64_t bytes; /* of all files written */
    char types[200]; /* "35 x Q4_0, 1 x F16, 11 x F32" */
    size_t without_tokenizer; /* 1: gguf, of a model that has no tokenizer, which most readers want */
    size_t reserved[7]; /* 0 */
} lb_export_result;

LB_API void lb_export_options_init_sized(lb_export_options *options, size_t size);
#define lb_export_options_init(options) lb_export_options_init_sized((options), sizeof *(options))
LB_API lb_status lb_export(const lb_export_options *options, lb_export_result *result, lb_error *err);

/* "gguf|gptq|...": what `kind` may be. */
LB_API const char *lb_export_kinds(void);

#ifdef __cplusplus
}
#endif
#endif
