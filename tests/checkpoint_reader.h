/* SPDX-License-Identifier: MIT
 * A second reader of what lowbit writes, made from docs/checkpoint.md alone: it shares no code with the
 * library (JSON apart). Slow and obvious: weights come out as double, one bit after the other. */
#ifndef LB_TESTS_CHECKPOINT_READER_H
#define LB_TESTS_CHECKPOINT_READER_H

#include <jansson.h>
#include <math.h>

#include "scratch.h"

typedef struct reader_tensor {
    char name[160], type[8], file[96];
    size_t rank, shape[2], bytes;
    const unsigned char *data;
} reader_tensor;

enum { READER_FILES = 16, READER_TENSORS = 256 };

typedef struct reader {
    json_t *config, *index;
    char *files[READER_FILES];
    size_t file_count;
    reader_tensor tensors[READER_TENSORS];
    size_t count, bytes; /* bytes: of all tensors */
} reader;

static inline json_t *reader_json(const char *folder, const char *file)
{
    char path[SCRATCH_PATH_BYTES];
    json_error_t problem;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    json_t *json = json_load_file(path, JSON_REJECT_DUPLICATES, &problem);
    if (!json)
        fail_msg("%s: %s", path, problem.text);
    return json;
}

/* One safetensors file: 8 bytes of header length, the header, the data without holes. */
static inline void reader_add_file(reader *r, const char *folder, const char *file)
{
    char path[SCRATCH_PATH_BYTES];
    size_t size = 0, header = 0, end = 0;
    const char *name;
    json_t *entry;
    snprintf(path, sizeof path, "%s/%s", folder, file);
    char *data = scratch_read(path, &size);
    if (!data || size < 8 || r->file_count == READER_FILES)
        fail_msg("cannot read %s", path);
    r->files[r->file_count++] = data;
    for (int i = 7; i >= 0; i--)
        header = header << 8 | (unsigned char)data[i];
    assert_int_equal(header % 8, 0);
    assert_true(header <= size - 8);
    json_t *json = json_loadb(data + 8, header, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_object_foreach(json, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) {
            const char *format = json_string_value(json_object_get(entry, "format"));
            assert_true(format && (strcmp(format, "lowbit") == 0 || strcmp(format, "pt") == 0)); /* "pt": exports */
            continue;
        }
        assert_true(r->count < READER_TENSORS);
        reader_tensor *t = &r->tensors[r->count++];
        const json_t *shape = json_object_get(entry, "shape"),
                     *offsets = json_object_get(entry, "data_offsets");
        const size_t from = (size_t)json_integer_value(json_array_get(offsets, 0));
        const size_t to = (size_t)json_integer_value(json_array_get(offsets, 1));
        snprintf(t->name, sizeof t->name, "%s", name);
        snprintf(t->file, sizeof t->file, "%s", file);
        snprintf(t->type, sizeof t->type, "%s", json_string_value(json_object_get(entry, "dtype")));
        t->rank = json_array_size(shape);
        assert_in_range(t->rank, 1, 2);
        for (size_t i = 0; i < t->rank; i++)
            t->shape[i] = (size_t)json_integer_value(json_array_get(shape, i));
        assert_true(from <= to && to <= size - 8 - header);
        t->data = (unsigned char *)data + 8 + header + from;
        t->bytes = to - from;
        r->bytes += t->bytes;
        end = to > end ? to : end;
    }
    assert_int_equal(8 + header + end, size);
    json_decref(json);
}

static inline const reader_tensor *reader_find(const reader *r, const char *name)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->tensors[i].name, name) == 0)
            return &r->tensors[i];
    return NULL;
}

static inline const reader_tensor *reader_get(const reader *r, const char *name, const char *type)
{
    const reader_tensor *t = reader_find(r, name);
    if (!t || strcmp(t->type, type) != 0)
        fail_msg("there is no tensor %s of type %s", name, type);
    return t;
}

static inline reader *reader_open(const char *folder, size_t blocks)
{
    reader *r = calloc(1, sizeof *r);
    const char *name;
    json_t *value;
    assert_non_null(r);
    r->config = reader_json(folder, "config.json");
    r->index = reader_json(folder, "model.safetensors.index.json");
    for (size_t k = 1; k <= blocks + 1; k++) {
        char file[64];
        snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", k, blocks + 1);
        reader_add_file(r, folder, file);
    }
    json_t *map = json_object_get(r->index, "weight_map");
    assert_int_equal(json_object_size(map), r->count);
    json_object_foreach(map, name, value)
    {
        const reader_tensor *t = reader_find(r, name);
        assert_non_null(t);
        assert_string_equal(t->file, json_string_value(value));
    }
    const json_t *total = json_object_get(json_object_get(r->index, "metadata"), "total_size");
    assert_int_equal(json_integer_value(total), r->bytes);
    return r;
}

static inline void reader_close(reader *r)
{
    json_decref(r->config);
    json_decref(r->index);
    for (size_t i = 0; i < r->file_count; i++)
        free(r->files[i]);
    free(r);
}

static inline double reader_half(const unsigned char *at)
{
    const unsigned bits = (unsigned)at[0] | (unsigned)at[1] << 8;
    const unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double sign = bits >> 15 ? -1.0 : 1.0;
    if (exponent == 31)
        return fraction ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + fraction, (int)exponent - 25) : ldexp(fraction, -24));
}

/* Bits [i * width, (i + 1) * width) of a row, the lowest bit of a byte first. */
static inline unsigned reader_code(const unsigned char *row, size_t i, unsigned width)
{
    unsigned code = 0;
    for (unsigned b = 0; b < width; b++) {
        const size_t at = i * width + b;
        code |= ((unsigned)row[at / 8] >> at % 8 & 1u) << b;
    }
    return code;
}

/* The format of a layer in quantization_config.layers, taken apart; false when the layer is float. */
static inline bool reader_format(const reader *r, const char *layer, unsigned *width, size_t *group,
                                 bool *asymmetric)
{
    const json_t *q = json_object_get(r->config, "quantization_config");
    const char *name = json_string_value(json_object_get(json_object_get(q, "layers"), layer));
    char tail[16] = "";
    if (!name)
        return false;
    *group = 0;
    if (sscanf(name, "int%u-g%zu%15s", width, group, tail) < 2)
        assert_true(sscanf(name, "int%u-row%15s", width, tail) >= 1);
    *asymmetric = strcmp(tail, "-asym") == 0;
    assert_true(*asymmetric || tail[0] == '\0');
    return true;
}

/* The block formats: name without suffix, bits, columns in a block, exponent bits (0: two's complement), bias. */
static const struct reader_block_format {
    const char *name;
    unsigned width, block, exponent, bias;
} reader_block_formats[] = {{"mxfp8-e4m3", 8, 32, 4, 7}, {"mxfp8-e5m2", 8, 32, 5, 15},
                            {"mxfp6-e2m3", 6, 32, 2, 1}, {"mxfp6-e3m2", 6, 32, 3, 3},
                            {"mxfp4", 4, 32, 2, 1},      {"mxint8", 8, 32, 0, 0},
                            {"mxint6", 6, 32, 0, 0},     {"mxint4", 4, 32, 0, 0},
                            {"nvfp4", 4, 16, 2, 1},      {"nvint4", 4, 16, 0, 0}};

static inline const struct reader_block_format *reader_block_format(const reader *r, const char *layer,
                                                                    bool *exact)
{
    const json_t *q = json_object_get(r->config, "quantization_config");
    const char *name = json_string_value(json_object_get(json_object_get(q, "layers"), layer));
    for (size_t i = 0; name && i < sizeof reader_block_formats / sizeof *reader_block_formats; i++) {
        const size_t length = strlen(reader_block_formats[i].name);
        if (strncmp(name, reader_block_formats[i].name, length) == 0 &&
            (name[length] == '\0' || name[length] == '-')) {
            *exact = strstr(name + length, "-exact") != NULL;
            return &reader_block_formats[i];
        }
    }
    return NULL;
}

/* A float of `exponent` bits, a sign and the rest, or an integer where there are none. */
static inline double reader_element(unsigned code, unsigned width, unsigned exponent, unsigned bias)
{
    if (exponent == 0)
        return code >> (width - 1) ? (double)code - ldexp(1, (int)width) : (double)code;
    const unsigned fraction = width - 1 - exponent, m = code & ((1u << fraction) - 1u);
    const unsigned e = code >> fraction & ((1u << exponent) - 1u);
    const double magnitude = e ? ldexp(1 + ldexp(m, -(int)fraction), (int)e - (int)bias)
                               : ldexp(ldexp(m, -(int)fraction), 1 - (int)bias);
    return code >> (width - 1) ? -magnitude : magnitude;
}

static inline double reader_f32(const unsigned char *at)
{
    float value;
    memcpy(&value, at, 4);
    return (double)value;
}

/* Columns times scales as docs/checkpoint.md says; the product is rounded to float32 as readers have it. */
static inline double *reader_block_weight(const reader *r, const struct reader_block_format *f, bool exact,
                                          const char *layer, size_t rows, size_t cols)
{
    char name[192];
    const size_t blocks = (cols + f->block - 1) / f->block;
    double *out = malloc(rows * cols * sizeof *out), tensor = 1.0;
    assert_non_null(out);
    snprintf(name, sizeof name, "%s.weight.codes", layer);
    const reader_tensor *codes = reader_get(r, name, "U8");
    snprintf(name, sizeof name, "%s.weight.scales", layer);
    const reader_tensor *scales = reader_get(r, name, exact ? "F32" : "U8");
    snprintf(name, sizeof name, "%s.weight.tensor_scale", layer);
    const bool two_levels = f->block == 16 && !exact;
    if (two_levels)
        tensor = reader_f32(reader_get(r, name, "F32")->data);
    else
        assert_null(reader_find(r, name));
    assert_int_equal(codes->shape[1], (cols * f->width + 7) / 8);
    assert_int_equal(scales->shape[0], rows);
    assert_int_equal(scales->shape[1], blocks);
    for (size_t row = 0; row < rows; row++) {
        for (size_t c = 0; c < cols; c++) {
            const size_t at = row * blocks + c / f->block;
            const double scale = exact        ? reader_f32(scales->data + 4 * at)
                                 : two_levels ? reader_element(scales->data[at], 8, 4, 7)
                                              : ldexp(1, (int)scales->data[at] - 127);
            const unsigned code = reader_code(codes->data + row * codes->shape[1], c, f->width);
            out[row * cols + c] = (double)((float)(scale * tensor) *
                                           (float)reader_element(code, f->width, f->exponent, f->bias));
        }
    }
    return out;
}

/* A two's complement integer out of a row's bits. */
static inline int reader_integer(const unsigned char *row, size_t i, unsigned width)
{
    return (int)reader_element(reader_code(row, i, width), width, 0, 0);
}

/* SQ-format; NULL when the layer has another. */
static inline double *reader_sq_weight(const reader *r, const char *layer, size_t rows, size_t cols)
{
    const json_t *q = json_object_get(r->config, "quantization_config");
    const char *format = json_string_value(json_object_get(json_object_get(q, "layers"), layer));
    unsigned high_width, low_width;
    size_t bank;
    double fraction;
    char name[192];
    if (!format || sscanf(format, "sq%u/%u-b%zu-s%lf", &high_width, &low_width, &bank, &fraction) != 4)
        return NULL;
    const size_t high_count = (size_t)((1.0 - fraction) * (double)bank), banks = cols / bank;
    const bool masked = (1.0 - fraction) * low_width > 1.0;
    double *out = malloc(rows * cols * sizeof *out);
    assert_non_null(out);
    snprintf(name, sizeof name, "%s.weight.codes", layer);
    const reader_tensor *codes = reader_get(r, name, "U8"), *mask = NULL;
    snprintf(name, sizeof name, "%s.weight.high", layer);
    const reader_tensor *highs = reader_get(r, name, "U8");
    snprintf(name, sizeof name, "%s.weight.scales", layer);
    const reader_tensor *scales = reader_get(r, name, "F16");
    snprintf(name, sizeof name, "%s.weight.mask", layer);
    if (masked)
        mask = reader_get(r, name, "U8");
    else
        assert_null(reader_find(r, name));
    assert_int_equal(codes->shape[1], ((masked ? cols - banks * high_count : cols) * low_width + 7) / 8);
    assert_int_equal(highs->shape[1], (banks * high_count * high_width + 7) / 8);
    assert_int_equal(scales->shape[1], banks * 2);
    for (size_t row = 0; row < rows; row++) {
        size_t low_at = 0, high_at = 0;
        for (size_t c = 0; c < cols; c++) {
            const unsigned char *scale = scales->data + 2 * (row * banks + c / bank) * 2;
            int integer = 0;
            bool high = masked && reader_code(mask->data + row * mask->shape[1], c, 1);
            if (!high)
                integer = reader_integer(codes->data + row * codes->shape[1], low_at++, low_width);
            if (!masked)
                high = integer == -(1 << (low_width - 1));
            if (high)
                integer = reader_integer(highs->data + row * highs->shape[1], high_at++, high_width);
            out[row * cols + c] = reader_half(scale + (high ? 2 : 0)) * integer;
        }
        assert_int_equal(high_at, banks * high_count);
    }
    return out;
}

/* The weight LAYER.weight [rows, cols] in double: packed or float. */
static inline double *reader_weight(const reader *r, const char *layer, size_t rows, size_t cols)
{
    char name[192];
    unsigned width;
    size_t group;
    bool asymmetric, exact;
    const struct reader_block_format *blocks = reader_block_format(r, layer, &exact);
    if (blocks)
        return reader_block_weight(r, blocks, exact, layer, rows, cols);
    double *sq = reader_sq_weight(r, layer, rows, cols);
    if (sq)
        return sq;
    double *out = malloc(rows * cols * sizeof *out);
    assert_non_null(out);
    if (!reader_format(r, layer, &width, &group, &asymmetric)) {
        snprintf(name, sizeof name, "%s.weight", layer);
        const reader_tensor *t = reader_find(r, name);
        assert_non_null(t);
        assert_int_equal(t->shape[0], rows);
        for (size_t i = 0; i < rows * cols; i++) {
            float value;
            if (strcmp(t->type, "F16") == 0) {
                out[i] = reader_half(t->data + 2 * i);
                continue;
            }
            unsigned char bytes[4] = {0};
            const size_t wide = strcmp(t->type, "BF16") == 0 ? 2 : 4;
            memcpy(bytes + 4 - wide, t->data + wide * i, wide);
            memcpy(&value, bytes, 4);
            out[i] = (double)value;
        }
        return out;
    }
    group = group ? group : cols;
    const size_t groups = (cols + group - 1) / group;
    snprintf(name, sizeof name, "%s.weight.codes", layer);
    const reader_tensor *codes = reader_get(r, name, "U8");
    snprintf(name, sizeof name, "%s.weight.scales", layer);
    const reader_tensor *scales = reader_get(r, name, "F16"), *zeros = NULL;
    snprintf(name, sizeof name, "%s.weight.zeros", layer);
    if (asymmetric)
        zeros = reader_get(r, name, "U8");
    else
        assert_null(reader_find(r, name));
    assert_int_equal(codes->shape[0], rows);
    assert_int_equal(codes->shape[1], (cols * width + 7) / 8);
    assert_int_equal(scales->shape[1], groups);
    for (size_t row = 0; row < rows; row++) {
        for (size_t c = 0; c < cols; c++) {
            const size_t g = c / group;
            const unsigned code = reader_code(codes->data + row * codes->shape[1], c, width);
            const unsigned zero =
                zeros ? reader_code(zeros->data + row * zeros->shape[1], g, width) : 1u << (width - 1);
            out[row * cols + c] =
                reader_half(scales->data + 2 * (row * groups + g)) * ((double)code - (double)zero);
        }
    }
    return out;
}

#endif
