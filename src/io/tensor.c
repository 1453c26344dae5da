/* SPDX-License-Identifier: MIT
 * Tensors as they lie in mapped files: sizes, lookup, and rows as floats. */
#include "io/tensor.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/half.h"
#include "base/thread.h"
#include "formats/element.h"
#include "io/tensor_blocks.h"

/* Both file formats are little-endian, and their plain numbers are read as they are. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "lowbit runs on little-endian machines");

static const struct {
    const char *name;
    size_t elems, bytes;
} dtypes[LB_DTYPE_COUNT] = {
    [LB_DTYPE_F32] = {"F32", 1, 4},       [LB_DTYPE_F16] = {"F16", 1, 2},
    [LB_DTYPE_BF16] = {"BF16", 1, 2},     [LB_DTYPE_F8_E4M3] = {"F8_E4M3", 1, 1},
    [LB_DTYPE_F8_E5M2] = {"F8_E5M2", 1, 1}, [LB_DTYPE_U8] = {"U8", 1, 1},
    [LB_DTYPE_I8] = {"I8", 1, 1},         [LB_DTYPE_I32] = {"I32", 1, 4},
    [LB_DTYPE_I64] = {"I64", 1, 8},       [LB_DTYPE_Q4_0] = {"Q4_0", 32, 18},
    [LB_DTYPE_Q4_1] = {"Q4_1", 32, 20},   [LB_DTYPE_Q5_0] = {"Q5_0", 32, 22},
    [LB_DTYPE_Q5_1] = {"Q5_1", 32, 24},   [LB_DTYPE_Q8_0] = {"Q8_0", 32, 34},
    [LB_DTYPE_Q2_K] = {"Q2_K", 256, 84},  [LB_DTYPE_Q3_K] = {"Q3_K", 256, 110},
    [LB_DTYPE_Q4_K] = {"Q4_K", 256, 144}, [LB_DTYPE_Q5_K] = {"Q5_K", 256, 176},
    [LB_DTYPE_Q6_K] = {"Q6_K", 256, 210}, [LB_DTYPE_MXFP4] = {"MXFP4", 32, 17},
    [LB_DTYPE_NVFP4] = {"NVFP4", 64, 36},
};

const char *lb_dtype_name(lb_dtype dtype)
{
    return dtypes[dtype].name;
}

size_t lb_dtype_block_elems(lb_dtype dtype)
{
    return dtypes[dtype].elems;
}

size_t lb_dtype_block_bytes(lb_dtype dtype)
{
    return dtypes[dtype].bytes;
}

lb_status lb_tensor_measure(lb_tensor *tensor, const char *where, lb_error *err)
{
    size_t block = lb_dtype_block_elems(tensor->dtype);
    size_t elems = 1, nonzero = 1, bytes;
    bool overflow = false;
    for (unsigned i = 0; i < tensor->rank; i++) {
        elems *= tensor->shape[i];
        /* Without the zeros, so that rows and columns alone never overflow either. */
        overflow |= __builtin_mul_overflow(nonzero, tensor->shape[i] ? tensor->shape[i] : 1, &nonzero);
    }
    overflow |= __builtin_mul_overflow(nonzero, sizeof(uint64_t), &bytes);
    if (overflow)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\": its dimensions multiply to more than memory",
                       where, tensor->name);
    if (lb_tensor_cols(tensor) % block != 0)
        return lb_fail(err, LB_EFORMAT,
                       "%s: tensor \"%.100s\": rows of %zu elements, not a multiple of %s's block of %zu",
                       where, tensor->name, lb_tensor_cols(tensor), lb_dtype_name(tensor->dtype), block);
    tensor->bytes = elems / block * lb_dtype_block_bytes(tensor->dtype);
    return LB_OK;
}

size_t lb_tensor_cols(const lb_tensor *tensor)
{
    return tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
}

size_t lb_tensor_rows(const lb_tensor *tensor)
{
    size_t rows = 1;
    for (unsigned i = 0; i + 1 < tensor->rank; i++)
        rows *= tensor->shape[i];
    return rows;
}

size_t lb_tensor_elems(const lb_tensor *tensor)
{
    return lb_tensor_rows(tensor) * lb_tensor_cols(tensor);
}

/* GGUF's llama architecture stores the rows of a head so that the two halves of a rotary pair are
 * neighbours: of HF's row half * pairs + pair it makes row 2 * pair + half. */
static size_t stored_index(size_t index, size_t head_rows)
{
    size_t head = index / head_rows, row = index % head_rows, pairs = head_rows / 2;
    return head * head_rows + 2 * (row % pairs) + row / pairs;
}

size_t lb_tensor_stored_row(const lb_tensor *tensor, size_t row)
{
    return tensor->interleaved_heads ? stored_index(row, lb_tensor_rows(tensor) / tensor->interleaved_heads) : row;
}

/* `count` elements of the tensor, stored from `from` on. */
static void to_floats(const lb_tensor *tensor, const uint8_t *from, size_t count, float *out)
{
    const lb_dtype dtype = tensor->dtype;
    uint16_t h;
    switch (dtype) {
    case LB_DTYPE_F32:
        memcpy(out, from, count * sizeof *out);
        break;
    case LB_DTYPE_F16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&h, from + 2 * i, 2); /* a file may place it at an odd address */
            out[i] = lb_f16_to_float(h);
        }
        break;
    case LB_DTYPE_BF16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&h, from + 2 * i, 2);
            out[i] = lb_bf16_to_float(h);
        }
        break;
    case LB_DTYPE_F8_E4M3:
    case LB_DTYPE_F8_E5M2:
        for (size_t i = 0; i < count; i++)
            out[i] = lb_element_decode(dtype == LB_DTYPE_F8_E4M3 ? &lb_e4m3 : &lb_e5m2, from[i]);
        break;
    default:
        lb_tensor_blocks_decode(dtype, from, count / lb_dtype_block_elems(dtype), out);
        break;
    }
    if (tensor->scale) {
        float scale;
        memcpy(&scale, tensor->scale, sizeof scale);
        for (size_t i = 0; i < count; i++)
            out[i] *= scale;
    }
}

typedef struct read_job {
    const lb_tensor *tensor;
    size_t first, cols, row_bytes;
    size_t head_rows; /* 0: rows are stored in order */
    float *out;
} read_job;

static void read_rows(void *arg, size_t begin, size_t end)
{
    const read_job *job = arg;
    for (size_t i = begin; i < end; i++) {
        size_t row = job->first + i;
        if (job->head_rows)
            row = stored_index(row, job->head_rows);
        to_floats(job->tensor, job->tensor->data + row * job->row_bytes, job->cols,
                  job->out + i * job->cols);
    }
}

/* A bias of interleaved heads: one row whose elements, not rows, are permuted. */
static lb_status read_interleaved_vector(const lb_tensor *tensor, float *out, lb_error *err)
{
    size_t cols = lb_tensor_cols(tensor), head_rows = cols / tensor->interleaved_heads;
    float *stored;
    LB_TRY(lb_alloc_array(&stored, cols, sizeof *stored, tensor->name, err));
    to_floats(tensor, tensor->data, cols, stored);
    for (size_t i = 0; i < cols; i++)
        out[i] = stored[stored_index(i, head_rows)];
    lb_free(stored);
    return LB_OK;
}

lb_status lb_tensor_read(const lb_tensor *tensor, size_t first, size_t count, float *out, lb_error *err)
{
    enum { CHUNK_ELEMS = 1 << 16 };
    size_t rows = lb_tensor_rows(tensor), cols = lb_tensor_cols(tensor);
    switch (tensor->dtype) {
    case LB_DTYPE_U8:
    case LB_DTYPE_I8:
    case LB_DTYPE_I32:
    case LB_DTYPE_I64:
        return lb_fail(err, LB_EUNSUPPORTED, "tensor \"%.100s\" holds %s, not floating-point numbers",
                       tensor->name, lb_dtype_name(tensor->dtype));
    default:
        break;
    }
    if (first > rows || count > rows - first)
        return lb_fail(err, LB_EINVAL, "tensor \"%.100s\": rows %zu and %zu more asked for, it has %zu",
                       tensor->name, first, count, rows);
    size_t units = tensor->rank > 1 ? rows : cols;
    if (tensor->interleaved_heads && units % (2 * tensor->interleaved_heads) != 0)
        return lb_fail(err, LB_EINVAL, "tensor \"%.100s\": %zu rows do not make %zu heads of rotary pairs",
                       tensor->name, units, tensor->interleaved_heads);
    if (count == 0 || cols == 0)
        return LB_OK;
    if (tensor->interleaved_heads && tensor->rank <= 1)
        return read_interleaved_vector(tensor, out, err);
    read_job job = {
        .tensor = tensor,
        .first = first,
        .cols = cols,
        .row_bytes = cols / lb_dtype_block_elems(tensor->dtype) * lb_dtype_block_bytes(tensor->dtype),
        .head_rows = tensor->interleaved_heads ? rows / tensor->interleaved_heads : 0,
        .out = out,
    };
    lb_parallel_for(count, cols < CHUNK_ELEMS ? CHUNK_ELEMS / cols : 1, read_rows, &job);
    return LB_OK;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const lb_tensor *)a)->name, ((const lb_tensor *)b)->name);
}

lb_status lb_tensors_sort(lb_tensor *tensors, size_t count, const char *where, lb_error *err)
{
    if (count)
        qsort(tensors, count, sizeof *tensors, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(tensors[i - 1].name, tensors[i].name) == 0)
            return lb_fail(err, LB_EFORMAT, "%s: two tensors are named \"%.100s\"", where, tensors[i].name);
    return LB_OK;
}

static int compare_key(const void *key, const void *element)
{
    return strcmp(key, ((const lb_tensor *)element)->name);
}

const lb_tensor *lb_tensor_find(const lb_tensor_set *set, const char *name)
{
    return set->count ? bsearch(name, set->tensors, set->count, sizeof *set->tensors, compare_key) : NULL;
}

void lb_tensor_forget(const lb_tensor_set *set, const lb_tensor *tensor)
{
    if (tensor->file >= set->file_count)
        return;
    const lb_mapping *file = &set->files[tensor->file];
    if (file->size)
        lb_map_forget(file, (size_t)(tensor->data - file->data), tensor->bytes);
}

void lb_tensor_set_free(lb_tensor_set *set)
{
    for (size_t i = 0; i < set->count; i++)
        lb_free(set->tensors[i].name);
    for (size_t i = 0; i < set->file_count; i++) {
        lb_map_close(&set->files[i]);
        lb_free(set->file_names[i]);
    }
    lb_free(set->tensors);
    lb_free(set->files);
    lb_free(set->file_names);
    *set = (lb_tensor_set){0};
}
