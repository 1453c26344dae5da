/* SPDX-License-Identifier: MIT
 * See foreign.h: which tensors a packed layer consists of, and which format that makes. */
#include "model/foreign.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/half.h"
#include "base/json.h"
#include "formats/int.h"
#include "model/foreign_rows.h"
#include "model/foreign_scheme.h"

/* ---- quantization_config ----------------------------------------------------------------------------- */

static lb_status read_group(lb_weights *weights, const json_t *config, lb_error *err)
{
    const json_t *group = json_object_get(config, "group_size");
    const char *path = weights->checkpoint.path;
    weights->foreign_group = 0;
    if (!group || json_is_null(group) || (json_is_integer(group) && json_integer_value(group) == -1))
        return LB_OK;
    return lb_json_size(config, "group_size", 1, 1 << 20, 0, path, &weights->foreign_group, err);
}

/* compressed-tensors has groups of layers, each with its own size; that of a layer follows from its scales, but for
 * whether a group as wide as a row is called a row. */
static lb_status read_first_group(lb_weights *weights, const json_t *config, lb_error *err)
{
    json_t *groups = json_object_get(config, "config_groups"), *group;
    const char *name;
    json_object_foreach(groups, name, group)
    {
        return read_group(weights, json_object_get(group, "weights"), err);
    }
    return LB_OK;
}

/* AutoRound writes the layouts of three others. */
static lb_status read_auto_round(lb_weights *weights, const json_t *config, lb_error *err)
{
    const char *format;
    LB_TRY(lb_json_string(config, "packing_format", "auto_round", weights->checkpoint.path, &format, err));
    if (strstr(format, "llm_compressor"))
        weights->foreign = LB_FOREIGN_COMPRESSED;
    else
        weights->foreign = strstr(format, "awq") ? LB_FOREIGN_AWQ : LB_FOREIGN_GPTQ;
    weights->foreign_zeros_less_one = strstr(format, "auto_gptq") != NULL;
    return LB_OK;
}

lb_status lb_foreign_open(lb_weights *weights, const json_t *config, const char *method, lb_error *err)
{
    const char *path = weights->checkpoint.path, *version;
    if (strcmp(method, "compressed-tensors") == 0) {
        weights->foreign = LB_FOREIGN_COMPRESSED;
        return read_first_group(weights, config, err);
    }
    if (strcmp(method, "auto-round") == 0 || strcmp(method, "intel/auto-round") == 0) {
        LB_TRY(read_auto_round(weights, config, err));
    } else if (strcmp(method, "awq") == 0) {
        LB_TRY(lb_json_string(config, "version", "gemm", path, &version, err));
        if (strcmp(version, "gemm") != 0 && strcmp(version, "GEMM") != 0)
            return lb_fail(err, LB_EUNSUPPORTED, "%s: AWQ's layout \"%.40s\"; lowbit reads gemm", path,
                           version);
        weights->foreign = LB_FOREIGN_AWQ;
    } else if (strcmp(method, "gptq") == 0) {
        LB_TRY(lb_json_string(config, "checkpoint_format", "gptq", path, &version, err));
        if (strcmp(version, "gptq") != 0 && strcmp(version, "gptq_v2") != 0)
            return lb_fail(err, LB_EUNSUPPORTED,
                           "%s: GPTQ's checkpoint_format \"%.40s\"; lowbit reads gptq and gptq_v2", path,
                           version);
        weights->foreign = LB_FOREIGN_GPTQ;
        weights->foreign_zeros_less_one = strcmp(version, "gptq") == 0;
    } else {
        return lb_fail(
            err, LB_EUNSUPPORTED,
            "%s: its weights were quantized by %.40s; lowbit reads float checkpoints, GGUF files, its own "
            "checkpoints, and those of gptq, awq, auto-round and compressed-tensors",
            path, method);
    }
    return read_group(weights, config, err);
}

/* ---- Tensors of a layer ------------------------------------------------------------------------------ */

/* Tensor STEM + suffix of the layer whose weight is `name`; NULL: there is none. */
static const lb_tensor *sibling(const lb_weights *weights, const char *name, const char *suffix)
{
    char full[256];
    const size_t length = strlen(name), cut = strlen(".weight");
    if (length <= cut || strcmp(name + length - cut, ".weight") != 0)
        return NULL;
    snprintf(full, sizeof full, "%.*s%s", (int)(length - cut), name, suffix);
    return lb_tensor_find(&weights->checkpoint.tensors, full);
}

bool lb_foreign_has(const lb_weights *weights, const char *name)
{
    switch (weights->foreign) {
    case LB_FOREIGN_GPTQ:
    case LB_FOREIGN_AWQ:
        return sibling(weights, name, ".qweight") != NULL;
    case LB_FOREIGN_COMPRESSED:
        return sibling(weights, name, ".weight_packed") || sibling(weights, name, ".weight_scale");
    default:
        return false;
    }
}

static lb_status fail_at(const lb_weights *weights, const lb_tensor *t, const char *wanted, lb_error *err)
{
    return lb_fail(err, LB_EFORMAT, "%s: tensor %s is %s %zu x %zu, want %s", weights->checkpoint.path,
                   t->name, lb_dtype_name(t->dtype), lb_tensor_rows(t), lb_tensor_cols(t), wanted);
}

/* A tensor of the layer, which must be [rows, cols] of that type (COUNT: f16, bf16 or f32). */
static lb_status take(const lb_weights *weights, lb_weight *w, const char *suffix, lb_dtype dtype,
                      size_t rows, size_t cols, const lb_tensor **out, lb_error *err)
{
    char wanted[96];
    const lb_tensor *t = sibling(weights, w->name, suffix);
    if (!t)
        return lb_fail(err, LB_EFORMAT, "%s: %s has no tensor \"%s\" beside it", weights->checkpoint.path,
                       w->name, suffix);
    const bool number = t->dtype == LB_DTYPE_F16 || t->dtype == LB_DTYPE_BF16 || t->dtype == LB_DTYPE_F32;
    snprintf(wanted, sizeof wanted, "%s %zu x %zu",
             dtype == LB_DTYPE_COUNT ? "16- or 32-bit floats" : lb_dtype_name(dtype), rows, cols);
    if ((dtype == LB_DTYPE_COUNT ? !number : t->dtype != dtype) || t->rank > 2 || lb_tensor_rows(t) != rows ||
        lb_tensor_cols(t) != cols)
        return fail_at(weights, t, wanted, err);
    w->parts[w->part_count++] = t;
    *out = t;
    return LB_OK;
}

/* Which is there for the sake of other tools, and is not looked at. */
static void take_unread(const lb_weights *weights, lb_weight *w, const char *suffix)
{
    const lb_tensor *t = sibling(weights, w->name, suffix);
    if (t && w->part_count < LB_FORMAT_MAX_PARTS + 1)
        w->parts[w->part_count++] = t;
}

/* Columns of a group, from the number of groups where the configuration says otherwise. */
static lb_status set_group(const lb_weights *weights, lb_weight *w, size_t groups, lb_error *err)
{
    lb_foreign_layer *f = &w->foreign;
    const size_t asked = weights->foreign_group ? weights->foreign_group : w->cols;
    f->groups = groups;
    f->group = asked;
    if (groups > 0 && (w->cols + asked - 1) / asked == groups)
        return LB_OK;
    if (groups == 0 || w->cols % groups != 0)
        return lb_fail(err, LB_EFORMAT, "%s: %s has %zu groups for %zu columns", weights->checkpoint.path,
                       w->name, groups, w->cols);
    f->group = w->cols / groups;
    return LB_OK;
}

static size_t words_for(size_t count, unsigned bits)
{
    return (count * bits + 31) / 32;
}

/* The bits of codes, `count` of which are packed into `words` words of 32 bits: what the configuration says, which must
 * fit; where it says nothing, the one number from 2 to 8 that fits. *bits is 0 where none does. */
static lb_status find_bits(const lb_weights *weights, const lb_weight *w, size_t words, size_t count,
                           unsigned *bits, lb_error *err)
{
    unsigned declared, fitting = 0;
    *bits = 0;
    LB_TRY(lb_foreign_declared_bits(weights, w->name, &declared, err));
    for (unsigned b = 2; b <= 8; b++) {
        if (words_for(count, b) != words)
            continue;
        fitting++;
        *bits = !declared || b == declared ? b : *bits;
    }
    if (fitting > 0 && declared && *bits == 0)
        return lb_fail(err, LB_EFORMAT,
                       "%s: the codes of %s take %zu words for %zu numbers, which %u bits, as the "
                       "configuration has it, do not",
                       weights->checkpoint.path, w->name, words, count, declared);
    if (fitting > 1 && !declared)
        return lb_fail(err, LB_EFORMAT,
                       "%s: the codes of %s take %zu words for %zu numbers, and which of %u numbers of "
                       "bits that is the configuration does not say",
                       weights->checkpoint.path, w->name, words, count, fitting);
    return LB_OK;
}

static lb_status find_gptq(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    lb_foreign_layer *f = &w->foreign;
    const lb_tensor *qweight = sibling(weights, w->name, ".qweight"),
                    *scales = sibling(weights, w->name, ".scales");
    f->kind = LB_PACKED_GPTQ;
    if (w->cols % 32 == 0)
        LB_TRY(find_bits(weights, w, lb_tensor_rows(qweight), w->cols, &f->bits, err));
    if (f->bits == 0 || !scales)
        return fail_at(weights, qweight, "codes of 2 to 8 bits for all columns, and scales beside them", err);
    LB_TRY(set_group(weights, w, lb_tensor_rows(scales), err));
    LB_TRY(take(weights, w, ".qweight", LB_DTYPE_I32, w->cols * f->bits / 32, w->rows, &f->codes, err));
    LB_TRY(take(weights, w, ".qzeros", LB_DTYPE_I32, f->groups, words_for(w->rows, f->bits), &f->zeros, err));
    LB_TRY(take(weights, w, ".scales", LB_DTYPE_COUNT, f->groups, w->rows, &f->scales, err));
    f->zero_offset = weights->foreign_zeros_less_one;
    if (sibling(weights, w->name, ".g_idx"))
        LB_TRY(take(weights, w, ".g_idx", LB_DTYPE_I32, 1, w->cols, &f->order, err));
    return LB_OK;
}

static lb_status find_awq(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    lb_foreign_layer *f = &w->foreign;
    const lb_tensor *qweight = sibling(weights, w->name, ".qweight"),
                    *scales = sibling(weights, w->name, ".scales");
    unsigned declared;
    LB_TRY(lb_foreign_declared_bits(weights, w->name, &declared, err));
    if (declared && declared != 4)
        return lb_fail(err, LB_EUNSUPPORTED, "%s: AWQ with %u bits; lowbit reads 4", weights->checkpoint.path,
                       declared);
    f->kind = LB_PACKED_AWQ;
    f->bits = 4;
    if (w->rows % 8 != 0 || !scales)
        return fail_at(weights, qweight, "outputs in eights, and scales beside them", err);
    LB_TRY(set_group(weights, w, lb_tensor_rows(scales), err));
    LB_TRY(take(weights, w, ".qweight", LB_DTYPE_I32, w->cols, w->rows / 8, &f->codes, err));
    LB_TRY(take(weights, w, ".qzeros", LB_DTYPE_I32, f->groups, w->rows / 8, &f->zeros, err));
    return take(weights, w, ".scales", LB_DTYPE_COUNT, f->groups, w->rows, &f->scales, err);
}

/* The shape that is noted beside packed codes. */
static lb_status take_shape(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    const lb_tensor *t = sibling(weights, w->name, ".weight_shape");
    const size_t wanted[2] = {w->rows, w->cols};
    if (!t)
        return LB_OK;
    const size_t bytes = t->dtype == LB_DTYPE_I64 ? 8 : 4;
    if ((t->dtype != LB_DTYPE_I64 && t->dtype != LB_DTYPE_I32) || lb_tensor_elems(t) != 2)
        return fail_at(weights, t, "two whole numbers", err);
    for (size_t i = 0; i < 2; i++) {
        int64_t wide = 0;
        int32_t narrow;
        memcpy(bytes == 8 ? (void *)&wide : (void *)&narrow, t->data + i * bytes, bytes);
        const int64_t value = bytes == 8 ? wide : narrow;
        if (value < 0 || (uint64_t)value != wanted[i])
            return lb_fail(err, LB_EFORMAT, "%s: %s says %lld where %s is %zu x %zu",
                           weights->checkpoint.path, t->name, (long long)value, w->name, w->rows, w->cols);
    }
    take_unread(weights, w, ".weight_shape");
    return LB_OK;
}

static lb_status find_integers(const lb_weights *weights, lb_weight *w, const lb_tensor *packed,
                               lb_error *err)
{
    lb_foreign_layer *f = &w->foreign;
    const lb_tensor *scale = sibling(weights, w->name, ".weight_scale");
    f->kind = packed ? LB_PACKED_STREAM : LB_PACKED_BYTES;
    if (packed) {
        LB_TRY(find_bits(weights, w, lb_tensor_cols(packed), w->cols, &f->bits, err));
    } else {
        LB_TRY(lb_foreign_declared_bits(weights, w->name, &f->bits, err));
        if (f->bits && f->bits != 8)
            return lb_fail(err, LB_EFORMAT,
                           "%s: %s has a byte for each code, and %u bits by the configuration",
                           weights->checkpoint.path, w->name, f->bits);
        f->bits = 8;
    }
    if (f->bits == 0 || !scale)
        return lb_fail(err, LB_EFORMAT, "%s: %s is not packed in 2 to 8 bits, or has no scales",
                       weights->checkpoint.path, w->name);
    LB_TRY(set_group(weights, w, lb_tensor_cols(scale), err));
    const size_t words = words_for(w->cols, f->bits);
    if (packed)
        LB_TRY(take(weights, w, ".weight_packed", LB_DTYPE_I32, w->rows, words, &f->codes, err));
    else
        LB_TRY(take(weights, w, ".weight", LB_DTYPE_I8, w->rows, w->cols, &f->codes, err));
    LB_TRY(take(weights, w, ".weight_scale", LB_DTYPE_COUNT, w->rows, f->groups, &f->scales, err));
    if (sibling(weights, w->name, ".weight_zero_point"))
        LB_TRY(packed
                   ? take(weights, w, ".weight_zero_point", LB_DTYPE_I32, words_for(w->rows, f->bits),
                          f->groups, &f->zeros, err)
                   : take(weights, w, ".weight_zero_point", LB_DTYPE_I8, w->rows, f->groups, &f->zeros, err));
    if (sibling(weights, w->name, ".weight_g_idx"))
        LB_TRY(take(weights, w, ".weight_g_idx", LB_DTYPE_I32, 1, w->cols, &f->order, err));
    return take_shape(weights, w, err);
}

/* The parts of block formats lie as lowbit's own do; only the scale of the tensor is its inverse. */
static lb_status find_blocks(const lb_weights *weights, lb_weight *w, const char *format, const char *codes,
                             lb_dtype code_type, lb_dtype scale_type, lb_error *err)
{
    const lb_tensor *global, *unused;
    LB_TRY(lb_format_parse(format, &w->format, err));
    const size_t groups = lb_format_groups(&w->format, w->cols), per_byte = 8 / w->format.bits;
    LB_TRY(take(weights, w, codes, code_type, w->rows, w->cols / per_byte, &unused, err));
    LB_TRY(take(weights, w, ".weight_scale", scale_type, w->rows, groups, &unused, err));
    if (!lb_format_has_tensor_scale(&w->format))
        return LB_OK;
    LB_TRY(take(weights, w, ".weight_global_scale", LB_DTYPE_F32, 1, 1, &global, err));
    float inverse, scale;
    memcpy(&inverse, global->data, sizeof inverse);
    scale = 1.0f / inverse;
    if (!isfinite(scale) || !(scale > 0.0f))
        return lb_fail(err, LB_EFORMAT, "%s: %s is %g, want a finite number above 0",
                       weights->checkpoint.path, global->name, (double)inverse);
    w->format.tensor_scale = lb_foreign_exact_scale(weights, w->name, scale);
    take_unread(weights, w, ".input_global_scale");
    return LB_OK;
}

/* ---- The format -------------------------------------------------------------------------------------- */

typedef struct survey {
    bool scales_fit, not_negative, symmetric, zeros_fit;
} survey;

static lb_status look(const lb_weights *weights, const lb_weight *w, survey *out, lb_error *err)
{
    const lb_foreign_layer *f = &w->foreign;
    const int half = 1 << (f->bits - 1), top = (1 << f->bits) - 1;
    *out = (survey){true, true, true, true};
    for (size_t r = 0; r < w->rows; r++) {
        for (size_t g = 0; g < f->groups; g++) {
            const float scale = lb_foreign_scale(w, r, g);
            const int zero = lb_foreign_zero(w, r, g);
            if (!isfinite(scale))
                return lb_fail(err, LB_EFORMAT,
                               "%s: %s: the scale of row %zu, group %zu is %g, not a finite number",
                               weights->checkpoint.path, w->name, r, g, (double)scale);
            out->scales_fit = out->scales_fit && lb_f16_to_float(lb_f16_from_float(scale)) == scale;
            out->not_negative = out->not_negative && !signbit(scale);
            out->symmetric = out->symmetric && zero == half;
            out->zeros_fit = out->zeros_fit && zero >= 0 && zero <= top;
        }
    }
    return LB_OK;
}

/* Drops an order that is none. */
static lb_status check_order(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    lb_foreign_layer *f = &w->foreign;
    bool plain = true;
    for (size_t k = 0; f->order && k < w->cols; k++) {
        int32_t group;
        memcpy(&group, f->order->data + 4 * k, sizeof group);
        if (group < 0 || (size_t)group >= f->groups)
            return lb_fail(err, LB_EFORMAT, "%s: %s: column %zu is of group %d, there are %zu",
                           weights->checkpoint.path, f->order->name, k, (int)group, f->groups);
        plain = plain && (size_t)group == k / f->group;
    }
    if (plain)
        f->order = NULL;
    return LB_OK;
}

static lb_status choose_format(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    const lb_foreign_layer *f = &w->foreign;
    char name[LB_FORMAT_NAME_BYTES], size[24] = "row";
    survey s;
    LB_TRY(check_order(weights, w, err));
    LB_TRY(look(weights, w, &s, err));
    if (f->group < w->cols || f->group == weights->foreign_group)
        snprintf(size, sizeof size, "g%zu", f->group);
    snprintf(name, sizeof name, "int%u-%s%s", f->bits, size, s.symmetric ? "" : "-asym");
    const bool fits = s.scales_fit && !f->order && (s.symmetric || (s.zeros_fit && s.not_negative));
    if (fits && lb_format_parse(name, &w->format, NULL) == LB_OK)
        return LB_OK;
    return lb_format_parse("f32", &w->format, err);
}

lb_status lb_foreign_find(const lb_weights *weights, lb_weight *w, lb_error *err)
{
    const lb_tensor *packed = sibling(weights, w->name, ".weight_packed");
    const lb_tensor *plain = sibling(weights, w->name, ".weight");
    if (weights->foreign == LB_FOREIGN_GPTQ) {
        LB_TRY(find_gptq(weights, w, err));
    } else if (weights->foreign == LB_FOREIGN_AWQ) {
        LB_TRY(find_awq(weights, w, err));
    } else if (packed && packed->dtype == LB_DTYPE_U8) {
        return sibling(weights, w->name, ".weight_global_scale")
                   ? find_blocks(weights, w, "nvfp4", ".weight_packed", LB_DTYPE_U8, LB_DTYPE_F8_E4M3, err)
                   : find_blocks(weights, w, "mxfp4", ".weight_packed", LB_DTYPE_U8, LB_DTYPE_U8, err);
    } else if (!packed && plain && plain->dtype == LB_DTYPE_F8_E4M3) {
        return find_blocks(weights, w, "mxfp8-e4m3", ".weight", LB_DTYPE_F8_E4M3, LB_DTYPE_U8, err);
    } else {
        LB_TRY(find_integers(weights, w, packed, err));
    }
    return choose_format(weights, w, err);
}

bool lb_foreign_is_empty_bias(const lb_weights *weights, const lb_tensor *tensor)
{
    const size_t length = strlen(tensor->name);
    if (weights->foreign == LB_FOREIGN_NONE || length < 5 || strcmp(tensor->name + length - 5, ".bias") != 0)
        return false;
    for (size_t i = 0; i < tensor->bytes; i++) {
        if (tensor->data[i] != 0)
            return false;
    }
    return true;
}

const char *lb_foreign_name(const lb_weight *w)
{
    static const char *const names[] = {"f32", "gptq", "awq", "packed ints", "int8", "gguf"};
    return names[w->foreign.kind];
}
