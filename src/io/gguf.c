/* SPDX-License-Identifier: MIT
 * Reading GGUF, versions 2 and 3 (the format's description: ggml's docs/gguf.md).
 *
 *   "GGUF" | version u32 | tensor count u64 | key count u64
 *   keys:    name | type u32 | value           strings are length u64 | bytes,
 *                                              arrays are type u32 | count u64 | elements
 *   tensors: name | rank u32 | dims u64 each, innermost first | type u32 | offset u64
 *   padding to general.alignment (32), then the tensors' bytes, each at an aligned offset from here
 *
 * Everything is little-endian. No count is trusted: memory grows only as entries are really found in
 * the file, and every length is compared with what is left of it before it is used. */
#include "io/gguf.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "io/gguf_internal.h"

enum { MAX_KEY_BYTES = 65535, MAX_NAME_BYTES = 64, DEFAULT_ALIGNMENT = 32 };

/* A key of one byte with a value of one byte; a tensor with a name of one byte and no dimensions. */
enum { LEAST_ENTRY_BYTES = 8 + 1 + 4 + 1, LEAST_TENSOR_BYTES = 8 + 1 + 4 + 4 + 8 };

static const struct {
    const char *name;
    size_t bytes; /* 0: not of one size */
} value_types[GGUF_TYPE_COUNT] = {
    [GGUF_U8] = {"uint8", 1},     [GGUF_I8] = {"int8", 1},      [GGUF_U16] = {"uint16", 2},
    [GGUF_I16] = {"int16", 2},    [GGUF_U32] = {"uint32", 4},   [GGUF_I32] = {"int32", 4},
    [GGUF_F32] = {"float32", 4},  [GGUF_BOOL] = {"bool", 1},    [GGUF_STRING] = {"string", 0},
    [GGUF_ARRAY] = {"array", 0},  [GGUF_U64] = {"uint64", 8},   [GGUF_I64] = {"int64", 8},
    [GGUF_F64] = {"float64", 8},
};

/* Tensor types by number; those without a dtype are only known by name. */
static const struct {
    const char *name;
    int dtype; /* -1: not read by lowbit */
} tensor_types[] = {
    [0] = {"F32", LB_DTYPE_F32},    [1] = {"F16", LB_DTYPE_F16},    [2] = {"Q4_0", LB_DTYPE_Q4_0},
    [3] = {"Q4_1", LB_DTYPE_Q4_1},  [4] = {"Q4_2", -1},             [5] = {"Q4_3", -1},
    [6] = {"Q5_0", LB_DTYPE_Q5_0},  [7] = {"Q5_1", LB_DTYPE_Q5_1},  [8] = {"Q8_0", LB_DTYPE_Q8_0},
    [9] = {"Q8_1", -1},             [10] = {"Q2_K", LB_DTYPE_Q2_K}, [11] = {"Q3_K", LB_DTYPE_Q3_K},
    [12] = {"Q4_K", LB_DTYPE_Q4_K}, [13] = {"Q5_K", LB_DTYPE_Q5_K}, [14] = {"Q6_K", LB_DTYPE_Q6_K},
    [15] = {"Q8_K", -1},            [16] = {"IQ2_XXS", -1},         [17] = {"IQ2_XS", -1},
    [18] = {"IQ3_XXS", -1},         [19] = {"IQ1_S", -1},           [20] = {"IQ4_NL", -1},
    [21] = {"IQ3_S", -1},           [22] = {"IQ2_S", -1},           [23] = {"IQ4_XS", -1},
    [24] = {"I8", LB_DTYPE_I8},     [25] = {"I16", -1},             [26] = {"I32", LB_DTYPE_I32},
    [27] = {"I64", LB_DTYPE_I64},   [28] = {"F64", -1},             [29] = {"IQ1_M", -1},
    [30] = {"BF16", LB_DTYPE_BF16}, [34] = {"TQ1_0", -1},           [35] = {"TQ2_0", -1},
    [39] = {"MXFP4", LB_DTYPE_MXFP4}, [40] = {"NVFP4", LB_DTYPE_NVFP4},
};

/* What is left to read, and the file's name for messages. */
typedef struct cursor {
    const uint8_t *at, *end;
    const char *path;
} cursor;

static size_t left(const cursor *c)
{
    return (size_t)(c->end - c->at);
}

static lb_status fail_short(const cursor *c, const char *what, lb_error *err)
{
    return lb_fail(err, LB_EFORMAT, "%s: the file ends inside %s", c->path, what);
}

static uint64_t load(const uint8_t *p, size_t bytes)
{
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)p[i] << (8 * i);
    return value;
}

static lb_status take(cursor *c, size_t bytes, const char *what, uint64_t *out, lb_error *err)
{
    if (left(c) < bytes)
        return fail_short(c, what, err);
    *out = load(c->at, bytes);
    c->at += bytes;
    return LB_OK;
}

static lb_status take_string(cursor *c, const char *what, lb_span *out, lb_error *err)
{
    uint64_t length;
    LB_TRY(take(c, 8, what, &length, err));
    if (length > left(c))
        return lb_fail(err, LB_EFORMAT, "%s: %s claims %" PRIu64 " bytes, the file has %zu left", c->path,
                       what, length, left(c));
    *out = (lb_span){.data = (const char *)c->at, .length = (size_t)length};
    c->at += length;
    return LB_OK;
}

const char *lb_gguf_show(lb_span span, char shown[LB_GGUF_SHOWN_BYTES])
{
    size_t length = span.length < LB_GGUF_SHOWN_BYTES ? span.length : LB_GGUF_SHOWN_BYTES - 1;
    for (size_t i = 0; i < length; i++)
        shown[i] = span.data[i] >= 0x20 && span.data[i] < 0x7f ? span.data[i] : '?';
    shown[length] = '\0';
    return shown;
}

/* A key or a tensor's name: 1 to `most` bytes without NUL. */
static lb_status check_name(const cursor *c, lb_span name, size_t most, const char *what, lb_error *err)
{
    char shown[LB_GGUF_SHOWN_BYTES];
    if (name.length == 0 || name.length > most)
        return lb_fail(err, LB_EFORMAT, "%s: %s \"%s\" has %zu bytes, the format allows 1 to %zu", c->path,
                       what, lb_gguf_show(name, shown), name.length, most);
    if (memchr(name.data, 0, name.length))
        return lb_fail(err, LB_EFORMAT, "%s: %s \"%s\" contains a zero byte", c->path, what,
                       lb_gguf_show(name, shown));
    return LB_OK;
}

/* Steps over the elements of a value, so that everything inside it is known to lie in the file. */
static lb_status skip_elements(cursor *c, const gguf_entry *entry, lb_error *err)
{
    char shown[LB_GGUF_SHOWN_BYTES];
    size_t least = entry->type == GGUF_STRING ? 8 : value_types[entry->type].bytes;
    if (entry->count > left(c) / least)
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" claims %" PRIu64 " %s, the file has %zu bytes left",
                       c->path, lb_gguf_show(entry->key, shown), entry->count,
                       value_types[entry->type].name, left(c));
    if (entry->type != GGUF_STRING) {
        c->at += (size_t)entry->count * least;
        return LB_OK;
    }
    for (uint64_t i = 0; i < entry->count; i++) {
        lb_span text;
        LB_TRY(take_string(c, "a metadata string", &text, err));
    }
    return LB_OK;
}

static lb_status take_entry(cursor *c, gguf_entry *out, lb_error *err)
{
    char shown[LB_GGUF_SHOWN_BYTES];
    gguf_entry entry = {.count = 1};
    uint64_t type;
    LB_TRY(take_string(c, "a metadata key", &entry.key, err));
    LB_TRY(check_name(c, entry.key, MAX_KEY_BYTES, "key", err));
    LB_TRY(take(c, 4, "a metadata value", &type, err));
    if (type == GGUF_ARRAY) {
        entry.is_array = true;
        LB_TRY(take(c, 4, "a metadata array", &type, err));
        LB_TRY(take(c, 8, "a metadata array", &entry.count, err));
        if (type == GGUF_ARRAY)
            return lb_fail(err, LB_EUNSUPPORTED, "%s: key \"%s\" is an array of arrays, which lowbit does "
                           "not read", c->path, lb_gguf_show(entry.key, shown));
    }
    if (type >= GGUF_TYPE_COUNT)
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" has value type %" PRIu64 ", which GGUF does not "
                       "define", c->path, lb_gguf_show(entry.key, shown), type);
    entry.type = (gguf_type)type;
    entry.data = c->at;
    LB_TRY(skip_elements(c, &entry, err));
    *out = entry;
    return LB_OK;
}

static int compare_spans(lb_span a, lb_span b)
{
    int order = memcmp(a.data, b.data, a.length < b.length ? a.length : b.length);
    return order ? order : (a.length > b.length) - (a.length < b.length);
}

static int compare_entries(const void *a, const void *b)
{
    return compare_spans(((const gguf_entry *)a)->key, ((const gguf_entry *)b)->key);
}

/* Makes room for one more element in an array that grows as elements are really found. */
static lb_status reserve(void *array_pointer, size_t count, size_t *capacity, size_t size, const char *path,
                         lb_error *err)
{
    if (count < *capacity)
        return LB_OK;
    size_t more = *capacity ? 2 * *capacity : 64;
    void *array;
    memcpy(&array, array_pointer, sizeof array);
    array = lb_grow(array, count, more, size);
    if (!array)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for %zu entries of its header", path, more);
    memcpy(array_pointer, &array, sizeof array);
    *capacity = more;
    return LB_OK;
}

/* Every one of `count` things takes at least `least` bytes of what is left. */
static lb_status check_count(const cursor *c, uint64_t count, size_t least, const char *what,
                             lb_error *err)
{
    if (count > left(c) / least)
        return lb_fail(err, LB_EFORMAT, "%s: claims %" PRIu64 " %s, the file has only %zu bytes left",
                       c->path, count, what, left(c));
    return LB_OK;
}

static lb_status take_entries(cursor *c, uint64_t count, lb_gguf *gguf, lb_error *err)
{
    size_t capacity = 0;
    LB_TRY(check_count(c, count, LEAST_ENTRY_BYTES, "keys", err));
    for (uint64_t i = 0; i < count; i++) {
        gguf_entry entry;
        LB_TRY(take_entry(c, &entry, err));
        LB_TRY(reserve(&gguf->entries, gguf->entry_count, &capacity, sizeof entry, c->path, err));
        gguf->entries[gguf->entry_count++] = entry;
    }
    if (gguf->entry_count)
        qsort(gguf->entries, gguf->entry_count, sizeof *gguf->entries, compare_entries);
    for (size_t i = 1; i < gguf->entry_count; i++) {
        char shown[LB_GGUF_SHOWN_BYTES];
        if (compare_entries(&gguf->entries[i - 1], &gguf->entries[i]) == 0)
            return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is given twice", c->path,
                           lb_gguf_show(gguf->entries[i].key, shown));
    }
    return LB_OK;
}

static lb_status set_type(lb_tensor *tensor, uint64_t type, const char *path, lb_error *err)
{
    enum { KNOWN = sizeof tensor_types / sizeof *tensor_types };
    if (type >= KNOWN || !tensor_types[type].name)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: tensor \"%.64s\" has type %" PRIu64 ", which lowbit does "
                       "not know", path, tensor->name, type);
    if (tensor_types[type].dtype < 0)
        return lb_fail(err, LB_EUNSUPPORTED,
                       "%s: tensor \"%.64s\" is %s (type %" PRIu64 "); lowbit reads F32, F16, BF16, Q4_0, "
                       "Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, MXFP4 and NVFP4", path, tensor->name,
                       tensor_types[type].name, type);
    tensor->dtype = (lb_dtype)tensor_types[type].dtype;
    return LB_OK;
}

/* Reads one tensor's entry; *offset is relative to the data section, which is not known yet. */
static lb_status take_tensor(cursor *c, lb_tensor *tensor, uint64_t *offset, lb_error *err)
{
    char shown[LB_GGUF_SHOWN_BYTES];
    lb_span name;
    uint64_t rank, dim, type;
    LB_TRY(take_string(c, "a tensor's name", &name, err));
    LB_TRY(check_name(c, name, MAX_NAME_BYTES, "tensor name", err));
    LB_TRY(take(c, 4, "a tensor's entry", &rank, err));
    if (rank > LB_TENSOR_MAX_RANK)
        return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" has %" PRIu64 " dimensions, at most %d can be",
                       c->path, lb_gguf_show(name, shown), rank, LB_TENSOR_MAX_RANK);
    for (uint64_t i = 0; i < rank; i++) {
        LB_TRY(take(c, 8, "a tensor's entry", &dim, err));
        if (dim == 0)
            return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" has a dimension of 0", c->path,
                           lb_gguf_show(name, shown));
        tensor->shape[rank - 1 - i] = (size_t)dim;
    }
    tensor->rank = (unsigned)rank;
    LB_TRY(take(c, 4, "a tensor's entry", &type, err));
    LB_TRY(take(c, 8, "a tensor's entry", offset, err));
    tensor->name = lb_strndup(name.data, name.length);
    if (!tensor->name)
        return lb_fail(err, LB_ENOMEM, "%s: no memory for a tensor's name", c->path);
    lb_status st = set_type(tensor, type, c->path, err);
    if (st == LB_OK)
        st = lb_tensor_measure(tensor, c->path, err);
    if (st != LB_OK)
        lb_free(tensor->name);
    return st;
}

/* Where each tensor's bytes lie goes into *offsets [tensor_count], in the order of the tensors. */
static lb_status take_tensors(cursor *c, uint64_t count, lb_gguf *gguf, uint64_t **offsets, lb_error *err)
{
    size_t capacity = 0, offset_capacity = 0;
    LB_TRY(check_count(c, count, LEAST_TENSOR_BYTES, "tensors", err));
    for (uint64_t i = 0; i < count; i++) {
        lb_tensor tensor = {0};
        uint64_t offset;
        LB_TRY(reserve(&gguf->tensors, gguf->tensor_count, &capacity, sizeof tensor, c->path, err));
        LB_TRY(reserve(offsets, gguf->tensor_count, &offset_capacity, sizeof offset, c->path, err));
        LB_TRY(take_tensor(c, &tensor, &offset, err));
        (*offsets)[gguf->tensor_count] = offset;
        gguf->tensors[gguf->tensor_count++] = tensor;
    }
    return LB_OK;
}

static int compare_data(const void *a, const void *b)
{
    const uint8_t *p = ((const lb_tensor *)a)->data, *q = ((const lb_tensor *)b)->data;
    return (p > q) - (p < q);
}

/* Gives every tensor its bytes: aligned, inside the file, and no byte to two tensors. */
static lb_status place_tensors(const cursor *c, lb_gguf *gguf, const uint64_t *offsets, lb_error *err)
{
    size_t alignment;
    LB_TRY(lb_gguf_size(gguf, "general.alignment", 0, UINT32_MAX, DEFAULT_ALIGNMENT, &alignment, err));
    if (alignment == 0 || (alignment & (alignment - 1)) != 0)
        return lb_fail(err, LB_EFORMAT, "%s: general.alignment is %zu, not a power of two", c->path,
                       alignment);
    if (gguf->tensor_count == 0)
        return LB_OK;
    size_t used = (size_t)(c->at - gguf->data);
    size_t padding = (alignment - used % alignment) % alignment;
    if (padding > left(c))
        return fail_short(c, "the padding after its header", err);
    const uint8_t *base = c->at + padding;
    size_t room = left(c) - padding;
    for (size_t i = 0; i < gguf->tensor_count; i++) {
        lb_tensor *t = &gguf->tensors[i];
        if (offsets[i] % alignment != 0)
            return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" begins at offset %" PRIu64
                           ", not a multiple of the alignment %zu", c->path, t->name, offsets[i], alignment);
        if (offsets[i] > room || t->bytes > room - (size_t)offsets[i])
            return lb_fail(err, LB_EFORMAT, "%s: tensor \"%s\" needs %zu bytes at offset %" PRIu64
                           ", the file has %zu bytes of data: it is cut short or damaged", c->path, t->name,
                           t->bytes, offsets[i], room);
        t->data = base + offsets[i];
    }
    qsort(gguf->tensors, gguf->tensor_count, sizeof *gguf->tensors, compare_data);
    for (size_t i = 1; i < gguf->tensor_count; i++) {
        const lb_tensor *a = &gguf->tensors[i - 1], *b = &gguf->tensors[i];
        if ((size_t)(b->data - a->data) < a->bytes)
            return lb_fail(err, LB_EFORMAT, "%s: tensors \"%s\" and \"%s\" overlap", c->path, a->name,
                           b->name);
    }
    return lb_tensors_sort(gguf->tensors, gguf->tensor_count, c->path, err);
}

static lb_status fail_big_endian(const cursor *c, lb_error *err)
{
    return lb_fail(err, LB_EUNSUPPORTED, "%s: a big-endian GGUF file; lowbit reads little-endian ones",
                   c->path);
}

static lb_status take_version(cursor *c, lb_error *err)
{
    uint64_t version;
    if (left(c) < 4 || memcmp(c->at, "GGUF", 4) != 0) {
        if (left(c) >= 4 && memcmp(c->at, "FUGG", 4) == 0)
            return fail_big_endian(c, err);
        return lb_fail(err, LB_EFORMAT, "%s: not a GGUF file (it does not begin with \"GGUF\")", c->path);
    }
    c->at += 4;
    LB_TRY(take(c, 4, "its header", &version, err));
    if (version == 2 || version == 3)
        return LB_OK;
    if (version != 0 && (version & 0xffff) == 0)
        return fail_big_endian(c, err);
    return lb_fail(err, LB_EUNSUPPORTED, "%s: GGUF version %" PRIu64 "; lowbit reads 2 and 3", c->path,
                   version);
}

static lb_status parse(lb_gguf *gguf, lb_error *err)
{
    cursor c = {.at = gguf->data, .end = gguf->data + gguf->size, .path = gguf->path};
    uint64_t tensor_count, entry_count, *offsets = NULL;
    LB_TRY(take_version(&c, err));
    LB_TRY(take(&c, 8, "its header", &tensor_count, err));
    LB_TRY(take(&c, 8, "its header", &entry_count, err));
    LB_TRY(take_entries(&c, entry_count, gguf, err));
    lb_status st = take_tensors(&c, tensor_count, gguf, &offsets, err);
    if (st == LB_OK)
        st = place_tensors(&c, gguf, offsets, err);
    lb_free(offsets);
    return st;
}

lb_status lb_gguf_parse(const uint8_t *data, size_t size, const char *path, lb_gguf **out, lb_error *err)
{
    lb_gguf *gguf = lb_alloc_zero(1, sizeof *gguf);
    char *name = lb_strdup(path);
    if (!gguf || !name) {
        lb_free(gguf);
        lb_free(name);
        return lb_fail(err, LB_ENOMEM, "%s: no memory to read it", path);
    }
    gguf->data = data;
    gguf->size = size;
    gguf->path = name;
    lb_status st = parse(gguf, err);
    if (st != LB_OK) {
        lb_gguf_close(gguf);
        return st;
    }
    *out = gguf;
    return LB_OK;
}

lb_status lb_gguf_open(const char *path, lb_gguf **out, lb_error *err)
{
    lb_mapping mapping;
    LB_TRY(lb_map_open(path, &mapping, err));
    lb_gguf *gguf;
    lb_status st = lb_gguf_parse(mapping.data, mapping.size, path, &gguf, err);
    if (st != LB_OK) {
        lb_map_close(&mapping);
        return st;
    }
    gguf->mapping = mapping;
    *out = gguf;
    return LB_OK;
}

void lb_gguf_close(lb_gguf *gguf)
{
    if (!gguf)
        return;
    for (size_t i = 0; i < gguf->tensor_count; i++)
        lb_free(gguf->tensors[i].name);
    lb_free(gguf->tensors);
    lb_free(gguf->entries);
    lb_free(gguf->path);
    lb_map_close(&gguf->mapping);
    lb_free(gguf);
}

static int compare_to_key(const void *key, const void *entry)
{
    const char *text = key;
    return compare_spans((lb_span){text, strlen(text)}, ((const gguf_entry *)entry)->key);
}

const gguf_entry *lb_gguf_find(const lb_gguf *gguf, const char *key)
{
    if (gguf->entry_count == 0)
        return NULL;
    return bsearch(key, gguf->entries, gguf->entry_count, sizeof *gguf->entries, compare_to_key);
}

const lb_tensor *lb_gguf_tensor(const lb_gguf *gguf, const char *name)
{
    lb_tensor_set view = {.tensors = gguf->tensors, .count = gguf->tensor_count};
    return lb_tensor_find(&view, name);
}

bool lb_gguf_has(const lb_gguf *gguf, const char *key)
{
    return lb_gguf_find(gguf, key) != NULL;
}

static lb_status fail_type(const lb_gguf *gguf, const gguf_entry *entry, const char *wanted, lb_error *err)
{
    char shown[LB_GGUF_SHOWN_BYTES];
    return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is %s%s, not %s", gguf->path,
                   lb_gguf_show(entry->key, shown), entry->is_array ? "an array of " : "a ",
                   value_types[entry->type].name, wanted);
}

/* The integer at p, when the type is one: its magnitude and its sign. */
static bool load_integer(gguf_type type, const uint8_t *p, uint64_t *magnitude, bool *negative)
{
    bool is_signed = type == GGUF_I8 || type == GGUF_I16 || type == GGUF_I32 || type == GGUF_I64;
    if (!is_signed && type != GGUF_U8 && type != GGUF_U16 && type != GGUF_U32 && type != GGUF_U64)
        return false;
    size_t bytes = value_types[type].bytes;
    uint64_t value = load(p, bytes);
    *negative = is_signed && value >> (8 * bytes - 1);
    uint64_t wrap = bytes == 8 ? 0 : (uint64_t)1 << (8 * bytes);
    *magnitude = *negative ? wrap - value : value;
    return true;
}

static bool load_double(gguf_type type, const uint8_t *p, double *out)
{
    uint64_t magnitude;
    bool negative;
    if (type == GGUF_F32) {
        float value;
        memcpy(&value, p, sizeof value);
        *out = (double)value;
        return true;
    }
    if (type == GGUF_F64) {
        memcpy(out, p, sizeof *out);
        return true;
    }
    if (!load_integer(type, p, &magnitude, &negative))
        return false;
    *out = negative ? -(double)magnitude : (double)magnitude;
    return true;
}

lb_status lb_gguf_size(const lb_gguf *gguf, const char *key, size_t low, size_t high, size_t fallback,
                       size_t *out, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    uint64_t value;
    bool negative;
    if (!entry) {
        *out = fallback;
        return LB_OK;
    }
    if (entry->is_array || !load_integer(entry->type, entry->data, &value, &negative))
        return fail_type(gguf, entry, "an integer", err);
    if (negative || value < low || value > high)
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is %s%" PRIu64 ", outside %zu to %zu", gguf->path,
                       key, negative ? "-" : "", value, low, high);
    *out = (size_t)value;
    return LB_OK;
}

lb_status lb_gguf_double(const lb_gguf *gguf, const char *key, double fallback, double *out, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    double value = fallback;
    if (entry && (entry->is_array || !load_double(entry->type, entry->data, &value)))
        return fail_type(gguf, entry, "a number", err);
    if (entry && !isfinite(value))
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is not a finite number", gguf->path, key);
    *out = value;
    return LB_OK;
}

lb_status lb_gguf_bool(const lb_gguf *gguf, const char *key, bool fallback, bool *out, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    if (entry && (entry->is_array || entry->type != GGUF_BOOL))
        return fail_type(gguf, entry, "a bool", err);
    if (entry && *entry->data > 1)
        return lb_fail(err, LB_EFORMAT, "%s: key \"%s\" is a bool of value %u", gguf->path, key,
                       *entry->data);
    *out = entry ? *entry->data == 1 : fallback;
    return LB_OK;
}

/* The string whose length field is at p; it was checked when the file was parsed. */
static lb_span span_at(const uint8_t *p)
{
    return (lb_span){.data = (const char *)p + 8, .length = (size_t)load(p, 8)};
}

lb_status lb_gguf_string(const lb_gguf *gguf, const char *key, lb_span fallback, lb_span *out, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    if (entry && (entry->is_array || entry->type != GGUF_STRING))
        return fail_type(gguf, entry, "a string", err);
    *out = entry ? span_at(entry->data) : fallback;
    return LB_OK;
}

lb_status lb_gguf_strings(const lb_gguf *gguf, const char *key, lb_span **out, size_t *count, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    size_t n = entry ? (size_t)entry->count : 0;
    if (entry && (!entry->is_array || entry->type != GGUF_STRING))
        return fail_type(gguf, entry, "an array of strings", err);
    lb_span *spans;
    LB_TRY(lb_alloc_array(&spans, n, sizeof *spans, key, err));
    const uint8_t *p = entry ? entry->data : NULL;
    for (size_t i = 0; i < n; i++) {
        spans[i] = span_at(p);
        p += 8 + spans[i].length;
    }
    *out = spans;
    *count = n;
    return LB_OK;
}

lb_status lb_gguf_doubles(const lb_gguf *gguf, const char *key, double **out, size_t *count, lb_error *err)
{
    const gguf_entry *entry = lb_gguf_find(gguf, key);
    size_t n = entry ? (size_t)entry->count : 0;
    if (entry && (!entry->is_array || entry->type == GGUF_STRING || entry->type == GGUF_BOOL))
        return fail_type(gguf, entry, "an array of numbers", err);
    double *values;
    LB_TRY(lb_alloc_array(&values, n, sizeof *values, key, err));
    for (size_t i = 0; i < n; i++)
        (void)load_double(entry->type, entry->data + i * value_types[entry->type].bytes, &values[i]);
    *out = values;
    *count = n;
    return LB_OK;
}
