/* SPDX-License-Identifier: MIT
 * A tensor as it lies in a checkpoint file, and sets of them. Views only: nothing is copied until
 * lb_tensor_read turns rows into floats. */
#ifndef LB_IO_TENSOR_H
#define LB_IO_TENSOR_H

#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/file.h"

/* How elements are stored. From Q4_0 on they are GGUF's block formats: 32 elements a block for the _0 and
 * _1 types and MXFP4, 64 for NVFP4, 256 for the _K types; they are only ever read. */
typedef enum lb_dtype {
    LB_DTYPE_F32,
    LB_DTYPE_F16,
    LB_DTYPE_BF16,
    LB_DTYPE_F8_E4M3,
    LB_DTYPE_F8_E5M2,
    LB_DTYPE_U8, /* lowbit's own packed codes and parameters */
    LB_DTYPE_I8,
    LB_DTYPE_I32,
    LB_DTYPE_I64,
    LB_DTYPE_Q4_0,
    LB_DTYPE_Q4_1,
    LB_DTYPE_Q5_0,
    LB_DTYPE_Q5_1,
    LB_DTYPE_Q8_0,
    LB_DTYPE_Q2_K,
    LB_DTYPE_Q3_K,
    LB_DTYPE_Q4_K,
    LB_DTYPE_Q5_K,
    LB_DTYPE_Q6_K,
    LB_DTYPE_MXFP4,
    LB_DTYPE_NVFP4,
    LB_DTYPE_COUNT
} lb_dtype;

/* "F32", "BF16", "Q4_K", ...: the name that the file formats themselves use. */
const char *lb_dtype_name(lb_dtype dtype);
/* Elements in one storage block (1 for the plain types), and the bytes that one block takes. */
size_t lb_dtype_block_elems(lb_dtype dtype);
size_t lb_dtype_block_bytes(lb_dtype dtype);

enum { LB_TENSOR_MAX_RANK = 4 };

typedef struct lb_tensor {
    char *name;      /* owned by the set */
    lb_dtype dtype;
    unsigned rank;   /* 0 is a scalar */
    size_t shape[LB_TENSOR_MAX_RANK]; /* outermost first; the last dimension is contiguous */
    const uint8_t *data; /* inside a mapped file */
    size_t bytes;        /* what shape and dtype imply; checked against the file by the reader */
    /* Heads whose rows GGUF stores in interleaved rotary order; lb_tensor_read undoes it, so that
     * callers always see Hugging Face's order. 0: rows are stored as they are. */
    size_t interleaved_heads;
    /* Where NVFP4's float of the whole tensor lies (an f32, little-endian); lb_tensor_read multiplies by
     * it. NULL: there is none. */
    const uint8_t *scale;
    size_t file;         /* index of the mapped file in its set */
} lb_tensor;

/* For readers: fills in tensor->bytes from shape and dtype. Fails where a product overflows, or where a
 * row is not a whole number of blocks. `where` (the file) and the tensor's name go into the message. */
lb_status lb_tensor_measure(lb_tensor *tensor, const char *where, lb_error *err);

size_t lb_tensor_elems(const lb_tensor *tensor);
/* All dimensions but the last, multiplied (1 for rank 0 and 1), and the last one. */
size_t lb_tensor_rows(const lb_tensor *tensor);
size_t lb_tensor_cols(const lb_tensor *tensor);

/* Rows [first, first + count) as floats into out [count, cols]. U8/I8/I32/I64 tensors are refused
 * (LB_EUNSUPPORTED). Values are not judged: NaN and infinities come through. */
lb_status lb_tensor_read(const lb_tensor *tensor, size_t first, size_t count, float *out, lb_error *err);

/* Where row `row` of a matrix lies in the file: elsewhere only where heads are interleaved. */
size_t lb_tensor_stored_row(const lb_tensor *tensor, size_t row);

/* The tensors of a checkpoint, sorted by name, with the files that hold their bytes. */
typedef struct lb_tensor_set {
    lb_tensor *tensors;
    size_t count;
    lb_mapping *files;
    char **file_names;
    size_t file_count;
} lb_tensor_set;

/* For readers: sorts tensors [count] by name; two of one name are LB_EFORMAT, naming `where`. */
lb_status lb_tensors_sort(lb_tensor *tensors, size_t count, const char *where, lb_error *err);

/* NULL when there is none of that name. */
const lb_tensor *lb_tensor_find(const lb_tensor_set *set, const char *name);
/* Tells the kernel that this tensor's pages will not be read again soon: bounds resident memory. */
void lb_tensor_forget(const lb_tensor_set *set, const lb_tensor *tensor);
void lb_tensor_set_free(lb_tensor_set *set);

#endif
