/* SPDX-License-Identifier: MIT
 * The safetensors file format (its description: the README of huggingface/safetensors). */
#include "io/safetensors.h"

#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

enum { PREFIX_BYTES = 8 };

static const lb_dtype dtypes[] = {
    LB_DTYPE_F32, LB_DTYPE_F16, LB_DTYPE_BF16, LB_DTYPE_F8_E4M3, LB_DTYPE_F8_E5M2,
    LB_DTYPE_U8,  LB_DTYPE_I8,  LB_DTYPE_I32,  LB_DTYPE_I64,
};

static bool find_dtype(const char *name, lb_dtype *out)
{
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++) {
        if (strcmp(name, lb_dtype_name(dtypes[i])) == 0) {
            *out = dtypes[i];
            return true;
        }
    }
    return false;
}

static lb_status read_dtype(const json_t *entry, const char *path, lb_tensor *tensor, lb_error *err)
{
    const char *name = json_string_value(json_object_get(entry, "dtype"));
    if (!name)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" has no \"dtype\"", path, tensor->name);
    if (!find_dtype(name, &tensor->dtype))
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: tensor \"%.100s\" is %.20s; lowbit reads F32, F16, BF16, F8_E4M3, F8_E5M2, U8, "
                       "I8, I32 and I64", path, tensor->name, name);
    return LB_OK;
}

static lb_status read_shape(const json_t *entry, const char *path, lb_tensor *tensor, lb_error *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    if (!json_is_array(shape))
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" has no \"shape\"", path, tensor->name);
    size_t rank = json_array_size(shape);
    if (rank > LB_TENSOR_MAX_RANK)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: tensor \"%.100s\" has %zu dimensions, lowbit reads up to "
                       "%d", path, tensor->name, rank, LB_TENSOR_MAX_RANK);
    for (size_t i = 0; i < rank; i++) {
        const json_t *dim = json_array_get(shape, i);
        if (!json_is_integer(dim) || json_integer_value(dim) < 0)
            return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\": dimension %zu of its shape is not a size",
                           path, tensor->name, i);
        tensor->shape[i] = (size_t)json_integer_value(dim);
    }
    tensor->rank = (unsigned)rank;
    return lb_tensor_measure(tensor, path, err);
}

/* Places the tensor in data [size], where its "data_offsets" say. */
static lb_status read_offsets(const json_t *entry, const uint8_t *data, size_t size, const char *path,
                              lb_tensor *tensor, lb_error *err)
{
    const json_t *offsets = json_object_get(entry, "data_offsets");
    const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
    if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second))
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\": \"data_offsets\" is not a pair of integers",
                       path, tensor->name);
    json_int_t begin = json_integer_value(first), end = json_integer_value(second);
    if (begin < 0 || end < begin || (uint64_t)end > size)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" lies at bytes %" JSON_INTEGER_FORMAT
                       " to %" JSON_INTEGER_FORMAT ", the file has %zu bytes of data: it is cut short or "
                       "damaged", path, tensor->name, begin, end, size);
    if ((uint64_t)(end - begin) != tensor->bytes)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%.100s\" has %" JSON_INTEGER_FORMAT
                       " bytes, its shape and dtype need %zu", path, tensor->name, end - begin,
                       tensor->bytes);
    tensor->data = data + begin;
    return LB_OK;
}

static int compare_data(const void *a, const void *b)
{
    const lb_tensor *s = a, *t = b;
    if (s->data != t->data)
        return s->data > t->data ? 1 : -1;
    return (s->bytes > t->bytes) - (s->bytes < t->bytes); /* an empty tensor before what begins there */
}

/* The tensors must cover the data section without overlap and without a hole. */
static lb_status check_cover(lb_tensor *tensors, size_t count, const uint8_t *data, size_t size,
                             const char *path, lb_error *err)
{
    const uint8_t *at = data;
    if (count)
        qsort(tensors, count, sizeof *tensors, compare_data);
    for (size_t i = 0; i < count; i++) {
        if (tensors[i].data < at)
            return lb_fail(err, LB_EFORMAT, "%s: tensors \"%.100s\" and \"%.100s\" overlap", path,
                           tensors[i - 1].name, tensors[i].name);
        if (tensors[i].data > at)
            return lb_fail(err, LB_EFORMAT, "%s: %zu bytes before tensor \"%.100s\" belong to no tensor",
                           path, (size_t)(tensors[i].data - at), tensors[i].name);
        at += tensors[i].bytes;
    }
    size_t rest = size - (size_t)(at - data);
    if (rest)
        return lb_fail(err, LB_EFORMAT, "%s: %zu bytes at its end belong to no tensor", path, rest);
    return LB_OK;
}

static lb_status check_metadata(const json_t *metadata, const char *path, lb_error *err)
{
    if (!json_is_object(metadata))
        return lb_fail(err, LB_EFORMAT, "%s: \"__metadata__\" is not an object", path);
    void *i = json_object_iter((json_t *)(uintptr_t)metadata);
    for (; i; i = json_object_iter_next((json_t *)(uintptr_t)metadata, i))
        if (!json_is_string(json_object_iter_value(i)))
            return lb_fail(err, LB_EFORMAT, "%s: \"%.100s\" in \"__metadata__\" is not a string", path,
                           json_object_iter_key(i));
    return LB_OK;
}

/* The header's entries as tensors [*count]; their names are in new memory. */
static lb_status read_entries(json_t *header, const uint8_t *data, size_t size, const char *path, size_t file,
                              lb_tensor *tensors, size_t *count, lb_error *err)
{
    for (void *i = json_object_iter(header); i; i = json_object_iter_next(header, i)) {
        const char *name = json_object_iter_key(i);
        const json_t *entry = json_object_iter_value(i);
        if (strcmp(name, "__metadata__") == 0) {
            LB_TRY(check_metadata(entry, path, err));
            continue;
        }
        if (!json_is_object(entry))
            return lb_fail(err, LB_EFORMAT, "%s: header entry \"%.100s\" is not an object", path, name);
        lb_tensor *tensor = &tensors[*count];
        *tensor = (lb_tensor){.name = lb_strdup(name), .file = file};
        if (!tensor->name)
            return lb_fail(err, LB_ENOMEM, "%s: no memory for a tensor's name", path);
        ++*count;
        LB_TRY(read_dtype(entry, path, tensor, err));
        LB_TRY(read_shape(entry, path, tensor, err));
        LB_TRY(read_offsets(entry, data, size, path, tensor, err));
    }
    return check_cover(tensors, *count, data, size, path, err);
}

static lb_status read_header(const uint8_t *data, size_t size, const char *path, json_t **header,
                             size_t *header_bytes, lb_error *err)
{
    uint64_t length = 0;
    if (size < PREFIX_BYTES)
        return lb_fail(err, LB_EFORMAT, "%s: not a safetensors file: %zu bytes, too short for a header", path,
                       size);
    const char *text = (const char *)data + PREFIX_BYTES;
    for (int i = 0; i < PREFIX_BYTES; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (length == 0 || (size > PREFIX_BYTES && text[0] != '{'))
        return lb_fail(err, LB_EFORMAT, "%s: not a safetensors file: its header does not begin with '{'",
                       path);
    if (length > LB_SAFETENSORS_MAX_HEADER_BYTES)
        return lb_fail(err, LB_EFORMAT,
                       "%s: not a safetensors file: a header of %" PRIu64 " bytes, the format allows %d",
                       path, length, LB_SAFETENSORS_MAX_HEADER_BYTES);
    if (length > size - PREFIX_BYTES)
        return lb_fail(err, LB_EFORMAT, "%s: the file ends inside its header of %" PRIu64 " bytes: there "
                       "are %zu", path, length, size - PREFIX_BYTES);
    LB_TRY(lb_json_parse(text, (size_t)length, path, header, err));
    *header_bytes = (size_t)length;
    return LB_OK;
}

lb_status lb_safetensors_parse(const uint8_t *data, size_t size, const char *path, size_t file,
                               lb_tensor_set *set, lb_error *err)
{
    json_t *header = NULL;
    lb_tensor *all = NULL, *added = NULL;
    size_t length, count = 0;
    lb_status st;
    LB_TRY(read_header(data, size, path, &header, &length, err));
    size_t entries = json_object_size(header), begin = PREFIX_BYTES + length;
    LB_GO(lb_alloc_array(&added, entries, sizeof *added, path, err));
    LB_GO(read_entries(header, data + begin, size - begin, path, file, added, &count, err));
    LB_GO(lb_alloc_array(&all, set->count + count, sizeof *all, path, err));
    if (set->count)
        memcpy(all, set->tensors, set->count * sizeof *all);
    memcpy(all + set->count, added, count * sizeof *all);
    LB_GO(lb_tensors_sort(all, set->count + count, path, err));
    lb_free(set->tensors);
    set->tensors = all;
    set->count += count;
    all = NULL;
    count = 0; /* the names are the set's now */
done:
    for (size_t i = 0; i < count; i++)
        lb_free(added[i].name);
    lb_free(added);
    lb_free(all);
    json_decref(header);
    return st;
}

lb_status lb_safetensors_open(const char *const *paths, size_t count, lb_tensor_set *out, lb_error *err)
{
    lb_tensor_set set = {0};
    lb_status st;
    LB_GO(lb_alloc_array(&set.files, count, sizeof *set.files, "the list of files", err));
    LB_GO(lb_alloc_array(&set.file_names, count, sizeof *set.file_names, "the list of files", err));
    for (size_t i = 0; i < count; i++) {
        char *name = lb_strdup(paths[i]);
        if (!name)
            LB_GO(lb_fail(err, LB_ENOMEM, "%s: no memory for its name", paths[i]));
        st = lb_map_open(paths[i], &set.files[i], err);
        if (st != LB_OK) {
            lb_free(name);
            goto done;
        }
        set.file_names[i] = name;
        set.file_count++;
        LB_GO(lb_safetensors_parse(set.files[i].data, set.files[i].size, paths[i], i, &set, err));
    }
    *out = set;
    return LB_OK;
done:
    lb_tensor_set_free(&set);
    return st;
}

/* The header's entry of a tensor whose data begin at *offset, which then moves past them. */
static lb_status pack_entry(const lb_tensor_out *tensor, const char *path, uint64_t *offset, json_t **out,
                            lb_error *err)
{
    lb_tensor view = {.name = (char *)(uintptr_t)tensor->name, .dtype = tensor->dtype, .rank = tensor->rank};
    lb_dtype same;
    if (tensor->dtype >= LB_DTYPE_COUNT || !find_dtype(lb_dtype_name(tensor->dtype), &same))
        return lb_fail(err, LB_EINVAL, "%s: tensor \"%.100s\" has a dtype that safetensors does not know",
                       path, tensor->name);
    if (tensor->rank > LB_TENSOR_MAX_RANK)
        return lb_fail(err, LB_EINVAL, "%s: tensor \"%.100s\" has %u dimensions, at most %d are allowed",
                       path, tensor->name, tensor->rank, LB_TENSOR_MAX_RANK);
    memcpy(view.shape, tensor->shape, sizeof view.shape);
    LB_TRY(lb_tensor_measure(&view, path, err));
    if (view.bytes != tensor->bytes)
        return lb_fail(err, LB_EINVAL, "%s: tensor \"%.100s\" comes with %zu bytes, its shape needs %zu",
                       path, tensor->name, tensor->bytes, view.bytes);
    json_t *shape = json_array();
    for (unsigned i = 0; i < tensor->rank; i++)
        json_array_append_new(shape, json_integer((json_int_t)tensor->shape[i]));
    if (json_array_size(shape) == tensor->rank)
        *out = json_pack("{s:s, s:o, s:[I, I]}", "dtype", lb_dtype_name(tensor->dtype), "shape", shape,
                         "data_offsets", (json_int_t)*offset, (json_int_t)(*offset + tensor->bytes));
    else
        json_decref(shape);
    if (!*out)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its header", path);
    *offset += tensor->bytes;
    return LB_OK;
}

static lb_status pack_header(const char *path, const json_t *metadata, const lb_tensor_out *tensors,
                             size_t count, json_t **out, lb_error *err)
{
    uint64_t offset = 0;
    lb_status st = LB_OK;
    json_t *header = metadata ? json_pack("{s:O}", "__metadata__", metadata)
                              : json_pack("{s:{s:s}}", "__metadata__", "format", "lowbit");
    if (!header)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its header", path);
    for (size_t i = 0; i < count; i++) {
        json_t *entry = NULL;
        if (json_object_get(header, tensors[i].name)) {
            st = lb_fail(err, LB_EINVAL, "%s: two tensors are named \"%.100s\", or that name is reserved",
                         path, tensors[i].name);
            goto done;
        }
        LB_GO(pack_entry(&tensors[i], path, &offset, &entry, err));
        if (json_object_set_new(header, tensors[i].name, entry) != 0)
            LB_GO(lb_fail(err, LB_EINVAL, "%s: the name of tensor %zu is not valid UTF-8", path, i));
    }
    *out = header;
    header = NULL;
done:
    json_decref(header);
    return st;
}

static int append(const char *bytes, size_t length, void *text)
{
    lb_text_add(text, bytes, length);
    return ((lb_text *)text)->failed ? -1 : 0;
}

/* 8 bytes of length, the JSON, and spaces up to a multiple of 8. */
static lb_status print_header(const char *path, const json_t *header, lb_text *text, lb_error *err)
{
    static const char zeros[PREFIX_BYTES];
    lb_text_add(text, zeros, PREFIX_BYTES);
    if (json_dump_callback(header, append, text, JSON_COMPACT) != 0 || text->failed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its header", path);
    while (text->length % 8 != 0 && !text->failed)
        lb_text_add(text, " ", 1);
    if (text->failed)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for its header", path);
    uint64_t length = text->length - PREFIX_BYTES;
    if (length > LB_SAFETENSORS_MAX_HEADER_BYTES)
        return lb_fail(err, LB_EINVAL, "%s: a header of %" PRIu64 " bytes, the format allows %d", path,
                       length, LB_SAFETENSORS_MAX_HEADER_BYTES);
    for (int i = 0; i < PREFIX_BYTES; i++)
        text->data[i] = (char)(length >> (8 * i) & 0xff);
    return LB_OK;
}

lb_status lb_safetensors_write(const char *path, const lb_tensor_out *tensors, size_t count, lb_error *err)
{
    return lb_safetensors_stream(path, tensors, count, NULL, NULL, err);
}

lb_status lb_safetensors_stream(const char *path, const lb_tensor_out *tensors, size_t count,
                                lb_tensor_source source, void *user, lb_error *err)
{
    return lb_safetensors_stream_with(path, NULL, tensors, count, source, user, err);
}

lb_status lb_safetensors_stream_with(const char *path, const json_t *metadata, const lb_tensor_out *tensors,
                                     size_t count, lb_tensor_source source, void *user, lb_error *err)
{
    json_t *header = NULL;
    lb_text text = {0};
    lb_writer writer = {.fd = -1};
    lb_status st;
    LB_GO(pack_header(path, metadata, tensors, count, &header, err));
    LB_GO(print_header(path, header, &text, err));
    LB_GO(lb_writer_open(path, &writer, err));
    LB_GO(lb_writer_put(&writer, text.data, text.length, err));
    for (size_t i = 0; i < count; i++) {
        const void *data = tensors[i].data;
        if (source)
            LB_GO(source(user, i, &data, err));
        LB_GO(lb_writer_put(&writer, data, tensors[i].bytes, err));
    }
    LB_GO(lb_writer_commit(&writer, err));
done:
    lb_writer_abandon(&writer);
    lb_text_free(&text);
    json_decref(header);
    return st;
}
