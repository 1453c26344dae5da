/* SPDX-License-Identifier: MIT
 * See gguf_write.h. Layout (ggml's docs/gguf.md): magic, version, counts of tensors and of keys; keys;
 * tensors' names, shapes, types and offsets; zeros up to a multiple of 32; the tensors' bytes, each up to a
 * multiple of 32. */
#include "io/gguf_write.h"

#include <inttypes.h>
#include <string.h>

#include "base/half.h"
#include "io/gguf_internal.h"

enum { VERSION = 3, ALIGNMENT = 32 };

/* ---- Keys -------------------------------------------------------------------------------------------- */

static void put_number(lb_text *to, uint64_t value, size_t bytes)
{
    char le[8];
    for (size_t i = 0; i < bytes; i++)
        le[i] = (char)(value >> (8 * i) & 0xff);
    lb_text_add(to, le, bytes);
}

static void put_text(lb_text *to, const char *text, size_t length)
{
    put_number(to, length, 8);
    lb_text_add(to, text, length);
}

static void begin(lb_gguf_keys *keys, const char *key, gguf_type type)
{
    put_text(&keys->bytes, key, strlen(key));
    put_number(&keys->bytes, type, 4);
    keys->count++;
}

void lb_gguf_put_u32(lb_gguf_keys *keys, const char *key, uint32_t value)
{
    begin(keys, key, GGUF_U32);
    put_number(&keys->bytes, value, 4);
}

void lb_gguf_put_f32(lb_gguf_keys *keys, const char *key, float value)
{
    begin(keys, key, GGUF_F32);
    put_number(&keys->bytes, lb_float_bits(value), 4);
}

void lb_gguf_put_bool(lb_gguf_keys *keys, const char *key, bool value)
{
    begin(keys, key, GGUF_BOOL);
    put_number(&keys->bytes, value, 1);
}

void lb_gguf_put_string(lb_gguf_keys *keys, const char *key, const char *text, size_t length)
{
    begin(keys, key, GGUF_STRING);
    put_text(&keys->bytes, text, length);
}

static void begin_array(lb_gguf_keys *keys, const char *key, gguf_type type, size_t count)
{
    begin(keys, key, GGUF_ARRAY);
    put_number(&keys->bytes, type, 4);
    put_number(&keys->bytes, count, 8);
}

void lb_gguf_begin_strings(lb_gguf_keys *keys, const char *key, size_t count)
{
    begin_array(keys, key, GGUF_STRING, count);
}

void lb_gguf_begin_f32s(lb_gguf_keys *keys, const char *key, size_t count)
{
    begin_array(keys, key, GGUF_F32, count);
}

void lb_gguf_begin_i32s(lb_gguf_keys *keys, const char *key, size_t count)
{
    begin_array(keys, key, GGUF_I32, count);
}

void lb_gguf_add_string(lb_gguf_keys *keys, const char *text, size_t length)
{
    put_text(&keys->bytes, text, length);
}

void lb_gguf_add_f32(lb_gguf_keys *keys, float value)
{
    put_number(&keys->bytes, lb_float_bits(value), 4);
}

void lb_gguf_add_i32(lb_gguf_keys *keys, int32_t value)
{
    put_number(&keys->bytes, (uint32_t)value, 4);
}

void lb_gguf_keys_free(lb_gguf_keys *keys)
{
    lb_text_free(&keys->bytes);
    *keys = (lb_gguf_keys){0};
}

/* ---- The file ---------------------------------------------------------------------------------------- */

int lb_gguf_type_number(lb_dtype dtype)
{
    static const struct {
        lb_dtype dtype;
        int number;
    } types[] = {{LB_DTYPE_F32, 0},   {LB_DTYPE_F16, 1},   {LB_DTYPE_Q4_0, 2},   {LB_DTYPE_Q4_1, 3},
                 {LB_DTYPE_Q5_0, 6},  {LB_DTYPE_Q5_1, 7},  {LB_DTYPE_Q8_0, 8},   {LB_DTYPE_Q2_K, 10},
                 {LB_DTYPE_Q3_K, 11}, {LB_DTYPE_Q4_K, 12}, {LB_DTYPE_Q5_K, 13},  {LB_DTYPE_Q6_K, 14},
                 {LB_DTYPE_BF16, 30}, {LB_DTYPE_MXFP4, 39}, {LB_DTYPE_NVFP4, 40}};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        if (types[i].dtype == dtype)
            return types[i].number;
    }
    return -1;
}

static size_t padding(uint64_t size)
{
    return (size_t)((ALIGNMENT - size % ALIGNMENT) % ALIGNMENT);
}

/* Bytes of a tensor; its entry goes to `infos`. */
static lb_status put_info(const char *path, const lb_gguf_tensor_out *tensor, uint64_t offset, lb_text *infos,
                          uint64_t *bytes, lb_error *err)
{
    lb_tensor view = {
        .name = (char *)(uintptr_t)tensor->name, .dtype = tensor->dtype, .rank = tensor->rank};
    const int number = lb_gguf_type_number(tensor->dtype);
    if (number < 0 || tensor->rank > LB_TENSOR_MAX_RANK)
        return lb_fail(err, LB_EINVAL, "%s: tensor %s has a type or a rank that GGUF does not know", path,
                       tensor->name);
    memcpy(view.shape, tensor->shape, sizeof view.shape);
    LB_TRY(lb_tensor_measure(&view, path, err));
    put_text(infos, tensor->name, strlen(tensor->name));
    put_number(infos, tensor->rank, 4);
    for (unsigned i = tensor->rank; i-- > 0;)
        put_number(infos, tensor->shape[i], 8);
    put_number(infos, (uint64_t)number, 4);
    put_number(infos, offset, 8);
    *bytes = view.bytes;
    return LB_OK;
}

static lb_status put_zeros(lb_writer *writer, size_t count, lb_error *err)
{
    static const char zeros[ALIGNMENT];
    return lb_writer_put(writer, zeros, count, err);
}

static lb_status put_body(lb_writer *writer, const char *path, const lb_gguf_tensor_out *tensor, size_t index,
                          lb_gguf_body body, void *user, lb_error *err)
{
    lb_text unused = {0};
    uint64_t bytes;
    lb_status st = put_info(path, tensor, 0, &unused, &bytes, err);
    lb_text_free(&unused);
    LB_TRY(st);
    const uint64_t before = writer->written;
    LB_TRY(body(user, index, writer, err));
    if (writer->written - before != bytes)
        return lb_fail(err, LB_EINVAL, "%s: tensor %s comes with %" PRIu64 " bytes, its shape needs %" PRIu64,
                       path, tensor->name, writer->written - before, bytes);
    return put_zeros(writer, padding(bytes), err);
}

lb_status lb_gguf_write(const char *path, const lb_gguf_keys *keys, const lb_gguf_tensor_out *tensors,
                        size_t count, lb_gguf_body body, void *user, lb_error *err)
{
    lb_text head = {0};
    lb_writer writer = {.fd = -1};
    uint64_t offset = 0, bytes;
    lb_status st = LB_OK;
    lb_text_add(&head, "GGUF", 4);
    put_number(&head, VERSION, 4);
    put_number(&head, count, 8);
    put_number(&head, keys->count, 8);
    lb_text_add(&head, keys->bytes.data ? keys->bytes.data : "", keys->bytes.length);
    for (size_t i = 0; i < count; i++) {
        LB_GO(put_info(path, &tensors[i], offset, &head, &bytes, err));
        offset += bytes + padding(bytes);
    }
    if (head.failed || keys->bytes.failed)
        LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its header", path));
    LB_GO(lb_writer_open(path, &writer, err));
    LB_GO(lb_writer_put(&writer, head.data, head.length, err));
    LB_GO(put_zeros(&writer, padding(head.length), err));
    for (size_t i = 0; i < count; i++)
        LB_GO(put_body(&writer, path, &tensors[i], i, body, user, err));
    LB_GO(lb_writer_commit(&writer, err));
done:
    lb_writer_abandon(&writer);
    lb_text_free(&head);
    return st;
}
