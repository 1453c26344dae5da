/* SPDX-License-Identifier: MIT
 * Folders for other tools, taken apart one bit after the other as those tools' sources do it, against the
 * checkpoint that they were made from, which is read by a reader of its own: the same numbers, to the bit. */
#define _GNU_SOURCE
#include "export_case.h"

/* Compares value(r, k) of every layer with the checkpoint's weight. */
typedef double (*value_at)(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                           size_t col);

static void check_layer(const reader *original, const reader *made, value_at value, size_t block,
                        size_t linear)
{
    const size_t rows = export_linears[linear].rows, cols = export_linears[linear].cols;
    double *want = reader_weight(original, export_layer(block, linear), rows, cols);
    for (size_t i = 0; i < rows * cols; i++) {
        const double got = value(made, export_layer(block, linear), rows, cols, i / cols, i % cols);
        if (got != want[i])
            fail_msg("%s, row %zu, column %zu: %.9g, wanted %.9g", export_layer(block, linear), i / cols,
                     i % cols, got, want[i]);
    }
    free(want);
}

static void check_all(const char *model, const char *folder, value_at value)
{
    reader *original = reader_open(model, EXPORT_LAYERS), *made = export_open(folder);
    for (size_t block = 0; block < EXPORT_LAYERS; block++)
        for (size_t linear = 0; linear < EXPORT_LINEARS; linear++)
            check_layer(original, made, value, block, linear);
    reader_close(original);
    reader_close(made);
}

/* What the slow readers know beforehand, as a tool knows it from config.json. */
static struct {
    unsigned bits;
    size_t group; /* 0: a row */
    int zero_offset;
    bool asymmetric;
} known;

static size_t group_of(size_t cols, size_t col)
{
    return known.group ? col / known.group : 0 * cols;
}

static size_t groups_in(size_t cols)
{
    return known.group ? (cols + known.group - 1) / known.group : 1;
}

/* Bits of a code in a stream of words that lie `stride` apart. */
static unsigned stream(const unsigned char *words, size_t first, size_t stride, size_t index)
{
    unsigned code = 0;
    for (unsigned b = 0; b < known.bits; b++) {
        const size_t bit = index * known.bits + b;
        code |= export_bit(words, first + bit / 32 * stride, bit % 32) << b;
    }
    return code;
}

/* ---- GPTQ and AutoRound ------------------------------------------------------------------------------ */

static double gptq_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row, size_t col)
{
    const size_t g = group_of(cols, col), groups = groups_in(cols), b = known.bits;
    const unsigned char *q = export_part(r, layer, ".qweight", "I32", cols * b / 32, rows);
    const unsigned char *z = export_part(r, layer, ".qzeros", "I32", groups, rows * b / 32);
    const unsigned char *s = export_part(r, layer, ".scales", "F16", groups, rows);
    const int code = (int)stream(q, row, rows, col);
    const int zero = (int)stream(z, g * (rows * b / 32), 1, row) + known.zero_offset;
    return reader_half(s + 2 * (g * rows + row)) * (code - zero);
}

static void gptq_codes(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        unsigned bits;
        size_t group;
        bool v2;
    } cases[] = {
        {"int2-g32", 2, 32, false},     {"int3-g64", 3, 64, false},     {"int4-g32", 4, 32, false},
        {"int8-g128", 8, 128, false},   {"int4-row", 4, 0, false},      {"int6-g32", 8, 32, false},
        {"mxint8", 8, 32, false},       {"int4-g32-asym", 4, 32, true}, {"int3-row-asym", 3, 0, true},
        {"int2-g64-asym", 2, 64, true}, {"int8-g32-asym", 8, 32, true}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), "gptq");
        o.zeros_v2 = cases[i].v2;
        const lb_export_result r = must_export(&o);
        assert_int_equal(r.layers, EXPORT_LAYERS * EXPORT_LINEARS);
        known.bits = cases[i].bits;
        known.group = cases[i].group;
        known.zero_offset = cases[i].v2 ? 0 : 1;
        check_all(o.model, o.output, gptq_value);
        config_says(o.output, "quant_method", "\"gptq\"");
        config_says(o.output, "checkpoint_format", cases[i].v2 ? "\"gptq_v2\"" : "\"gptq\"");
        config_says(o.output, "sym", strstr(cases[i].format, "asym") ? "false" : "true");
    }
    config_says(in_work("exported"), "bits", "8");
    config_says(in_work("exported"), "group_size", "32");
}

static void gptq_groups_of_columns(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "gptq");
    must_export(&o);
    reader *r = export_open(o.output);
    const unsigned char *order = export_part(r, export_layer(1, 6), ".g_idx", "I32", 128, 0);
    for (size_t k = 0; k < 128; k++)
        assert_int_equal((size_t)order[4 * k] | (size_t)order[4 * k + 1] << 8, k / 32);
    reader_close(r);
}

static void a_mixed_folder_lists_its_layers(void **state)
{
    (void)state;
    static const char *const rules[] = {"*.up_proj=int8-g64", "model.layers.1.*.o_proj=bf16"};
    const char *model = export_quantized("int4-g32", rules, 2);
    lb_export_options o = export_options(model, "gptq");
    const lb_export_result r = must_export(&o);
    assert_int_equal(r.layers, EXPORT_LAYERS * EXPORT_LINEARS - 1);
    config_says(
        o.output, "dynamic",
        "{\"+:^model\\\\.layers\\\\.0\\\\.mlp\\\\.up_proj$\":{\"bits\":8,\"group_size\":64,\"sym\":true},"
        "\"+:^model\\\\.layers\\\\.1\\\\.mlp\\\\.up_proj$\":{\"bits\":8,\"group_size\":64,\"sym\":true},"
        "\"-:^model\\\\.layers\\\\.1\\\\.self_attn\\\\.o_proj$\":{}}");
    o = export_options(model, "auto-round");
    must_export(&o);
    config_says(o.output, "extra_config",
                "{\"model.layers.0.mlp.up_proj\":{\"bits\":8,\"group_size\":64,\"sym\":true},"
                "\"model.layers.1.mlp.up_proj\":{\"bits\":8,\"group_size\":64,\"sym\":true},"
                "\"model.layers.1.self_attn.o_proj\":{\"bits\":16,\"data_type\":\"float\"}}");
    o = export_options(model, "compressed-tensors");
    must_export(&o);
    config_says(o.output, "format", "\"pack-quantized\"");
    config_says(o.output, "ignore", "[\"model.layers.1.self_attn.o_proj\",\"lm_head\"]");
    o = export_options(model, "awq");
    must_not_export(&o, LB_EUNSUPPORTED, "up_proj.weight is int8-g64, and AWQ has 4 bits");
}

static void auto_round_codes(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "auto-round");
    must_export(&o);
    known.bits = 4;
    known.group = 32;
    known.zero_offset = 1;
    check_all(o.model, o.output, gptq_value);
    config_says(o.output, "packing_format", "\"auto_round:auto_gptq\"");
    o = export_options(export_quantized("int6-g32-asym", NULL, 0), "auto-round");
    must_export(&o);
    known.bits = 6;
    known.zero_offset = 0;
    check_all(o.model, o.output, gptq_value);
    config_says(o.output, "packing_format", "\"auto_round\"");
}

/* ---- AWQ --------------------------------------------------------------------------------------------- */

static unsigned awq_code(const unsigned char *words, size_t line, size_t rows, size_t row)
{
    static const unsigned reverse_order[8] = {0, 4, 1, 5, 2, 6, 3, 7}; /* AutoAWQ's */
    unsigned code = 0;
    for (unsigned b = 0; b < 4; b++)
        code |= export_bit(words, line * (rows / 8) + row / 8, 4 * reverse_order[row % 8] + b) << b;
    return code;
}

static double awq_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row, size_t col)
{
    const size_t g = group_of(cols, col), groups = groups_in(cols);
    const unsigned char *q = export_part(r, layer, ".qweight", "I32", cols, rows / 8);
    const unsigned char *z = export_part(r, layer, ".qzeros", "I32", groups, rows / 8);
    const unsigned char *s = export_part(r, layer, ".scales", "F16", groups, rows);
    const int code = (int)awq_code(q, col, rows, row), zero = (int)awq_code(z, g, rows, row);
    return reader_half(s + 2 * (g * rows + row)) * (code - zero);
}

static void awq_codes(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        size_t group;
    } cases[] = {{"int4-g32", 32}, {"int4-g64-asym", 64}, {"int3-g32", 32}, {"int2-row-asym", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), "awq");
        must_export(&o);
        known.bits = 4;
        known.group = cases[i].group;
        check_all(o.model, o.output, awq_value);
        config_says(o.output, "zero_point", strstr(cases[i].format, "asym") ? "true" : "false");
    }
}

/* ---- compressed-tensors ------------------------------------------------------------------------------ */

static double packed_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                           size_t col)
{
    const size_t g = group_of(cols, col), groups = groups_in(cols), words = (cols * known.bits + 31) / 32;
    const unsigned char *q = export_part(r, layer, ".weight_packed", "I32", rows, words);
    const unsigned char *s = export_part(r, layer, ".weight_scale", "F16", rows, groups);
    const unsigned char *shape = export_part(r, layer, ".weight_shape", "I64", 2, 0);
    int zero = 1 << (known.bits - 1);
    assert_int_equal(shape[0] | shape[1] << 8, rows);
    assert_int_equal(shape[8] | shape[9] << 8, cols);
    if (known.asymmetric)
        zero = (int)stream(
            export_part(r, layer, ".weight_zero_point", "I32", (rows * known.bits + 31) / 32, groups), g,
            groups, row);
    return reader_half(s + 2 * (row * groups + g)) * ((int)stream(q, row * words, 1, col) - zero);
}

static double naive_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                          size_t col)
{
    const size_t g = group_of(cols, col), groups = groups_in(cols);
    const signed char *q = (const signed char *)export_part(r, layer, ".weight", "I8", rows, cols);
    const unsigned char *s = export_part(r, layer, ".weight_scale", "F16", rows, groups);
    int zero = 0;
    if (known.asymmetric)
        zero = ((const signed char *)export_part(r, layer, ".weight_zero_point", "I8", rows,
                                                 groups))[row * groups + g];
    return reader_half(s + 2 * (row * groups + g)) * (q[row * cols + col] - zero);
}

static void packed_integers(void **state)
{
    (void)state;
    for (unsigned bits = 2; bits <= 8; bits++)
        for (int asymmetric = 0; asymmetric < 2; asymmetric++) {
            char format[32];
            snprintf(format, sizeof format, "int%u-g64%s", bits, asymmetric ? "-asym" : "");
            lb_export_options o = export_options(export_quantized(format, NULL, 0), "compressed-tensors");
            must_export(&o);
            known.bits = bits;
            known.group = 64;
            known.asymmetric = asymmetric;
            check_all(o.model, o.output, packed_value);
            config_says(o.output, "format", "\"pack-quantized\"");
            if (bits != 8)
                continue;
            o = export_options(o.model, "compressed-tensors");
            o.naive = true;
            must_export(&o);
            check_all(o.model, o.output, naive_value);
            config_says(o.output, "format", "\"naive-quantized\"");
        }
}

static double e2m1(unsigned code)
{
    static const double values[8] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    return code & 8 ? -values[code & 7] : values[code & 7];
}

static double e4m3(unsigned code)
{
    const unsigned e = code >> 3 & 15, m = code & 7;
    const double value = e ? ldexp(8 + m, (int)e - 10) : ldexp(m, -9);
    return code & 128 ? -value : value;
}

static double mxfp4_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                          size_t col)
{
    const unsigned char *q = export_part(r, layer, ".weight_packed", "U8", rows, cols / 2);
    const unsigned char *s = export_part(r, layer, ".weight_scale", "U8", rows, cols / 32);
    const unsigned byte = q[row * (cols / 2) + col / 2];
    return ldexp(e2m1(col % 2 ? byte >> 4 : byte & 15), s[row * (cols / 32) + col / 32] - 127);
}

static double mxfp8_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                          size_t col)
{
    const unsigned char *q = export_part(r, layer, ".weight", "F8_E4M3", rows, cols);
    const unsigned char *s = export_part(r, layer, ".weight_scale", "U8", rows, cols / 32);
    return ldexp(e4m3(q[row * cols + col]), s[row * (cols / 32) + col / 32] - 127);
}

static void small_floats(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("mxfp4", NULL, 0), "compressed-tensors");
    must_export(&o);
    check_all(o.model, o.output, mxfp4_value);
    config_says(o.output, "format", "\"mxfp4-pack-quantized\"");
    o = export_options(export_quantized("mxfp8-e4m3", NULL, 0), "compressed-tensors");
    must_export(&o);
    check_all(o.model, o.output, mxfp8_value);
    config_says(o.output, "format", "\"mxfp8-quantized\"");
}

/* NVFP4 divides by the global scale; that is exact only up to the rounding of an inverse. */
static void two_levels_of_scales(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("nvfp4", NULL, 0), "compressed-tensors");
    must_export(&o);
    reader *original = reader_open(o.model, EXPORT_LAYERS), *made = export_open(o.output);
    for (size_t linear = 0; linear < EXPORT_LINEARS; linear++) {
        const size_t rows = export_linears[linear].rows, cols = export_linears[linear].cols;
        const char *layer = export_layer(1, linear);
        double *want = reader_weight(original, layer, rows, cols);
        const unsigned char *q = export_part(made, layer, ".weight_packed", "U8", rows, cols / 2);
        const unsigned char *s = export_part(made, layer, ".weight_scale", "F8_E4M3", rows, cols / 16);
        float global;
        memcpy(&global, export_part(made, layer, ".weight_global_scale", "F32", 1, 0), 4);
        for (size_t i = 0; i < rows * cols; i++) {
            const unsigned byte = q[i / 2];
            const double got = e2m1(i % 2 ? byte >> 4 : byte & 15) * e4m3(s[i / 16]) / (double)global;
            assert_true(fabs(got - want[i]) <=
                        0x1p-22 * fabs(want[i])); /* inverse and product, half an ulp each, twice */
        }
        free(want);
    }
    config_says(o.output, "format", "\"nvfp4-pack-quantized\"");
    reader_close(original);
    reader_close(made);
}

/* ---- Floats ------------------------------------------------------------------------------------------ */

static double float_value(const reader *r, const char *layer, size_t rows, size_t cols, size_t row,
                          size_t col)
{
    float value;
    memcpy(&value, export_part(r, layer, ".weight", "F32", rows, cols) + 4 * (row * cols + col), 4);
    return (double)value;
}

static void codes_become_floats(void **state)
{
    (void)state;
    static const char *const formats[] = {"int3-g32-asym", "bp2-g64", "sq8/4-b32-s0.875", "mxfp6-e2m3",
                                          "nvint4"};
    for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
        lb_export_options o = export_options(export_quantized(formats[i], NULL, 0), "safetensors");
        o.dtype = "f32";
        const lb_export_result r = must_export(&o);
        assert_int_equal(r.dequantized, EXPORT_LAYERS * EXPORT_LINEARS);
        if (strncmp(formats[i], "bp", 2) != 0) /* the slow reader does not know planes */
            check_all(o.model, o.output, float_value);
        json_t *config = reader_json(o.output, "config.json");
        assert_null(json_object_get(config, "quantization_config"));
        assert_string_equal(json_string_value(json_object_get(config, "torch_dtype")), "float32");
        json_decref(config);
    }
}

/* A checkpoint whose layers are rotated is, exported, near the model that it was made from. */
static void rotations_are_undone(void **state)
{
    (void)state;
    const char *model = in_work("rotated");
    lb_quantize_options q = small_options(tiny_in_work("tiny", &export_tiny), model);
    lb_quantize_result result;
    q.method = "rtn";
    q.format = "int8-g32";
    q.transform = "hadamard";
    must_quantize(&q, &result);
    lb_quantize_result_free(&result);
    lb_export_options o = export_options(model, "gptq");
    must_not_export(&o, LB_EUNSUPPORTED, "rotated at run time, which gptq cannot say");
    o = export_options(model, "safetensors");
    o.dtype = "f32";
    must_export(&o);
    reader *original = export_open(in_work("tiny")), *made = export_open(o.output);
    for (size_t linear = 0; linear < EXPORT_LINEARS; linear++) {
        const size_t n = export_linears[linear].rows * export_linears[linear].cols;
        char name[128];
        snprintf(name, sizeof name, "%s.weight", export_layer(0, linear));
        const unsigned char *a = reader_get(original, name, "BF16")->data,
                            *b = reader_get(made, name, "F32")->data;
        double error = 0, energy = 0;
        for (size_t i = 0; i < n; i++) {
            float x, y;
            const unsigned char wide[4] = {0, 0, a[2 * i], a[2 * i + 1]};
            memcpy(&x, wide, 4);
            memcpy(&y, b + 4 * i, 4);
            error += (double)(x - y) * (double)(x - y);
            energy += (double)x * (double)x;
        }
        assert_true(error < 1e-3 * energy && error > 0); /* of 8 bits; not rotated back it would be 2 */
    }
    reader_close(original);
    reader_close(made);
}

static void what_cannot_be_held_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *format, *kind, *words;
    } cases[] = {
        {"mxfp4", "gptq", "is mxfp4, and GPTQ holds integers"},
        {"bp2-g64", "compressed-tensors", "which compressed-tensors has no format for"},
        {"sq8/4-b32-s0.875", "awq", "AWQ holds integers"},
        {"int8-g32-asym", "awq", "AWQ has 4 bits; --to gptq"},
        {"nvint4", "gptq", "is no f16"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lb_export_options o = export_options(export_quantized(cases[i].format, NULL, 0), cases[i].kind);
        must_not_export(&o, LB_EUNSUPPORTED, cases[i].words);
    }
    lb_export_options o = export_options(export_quantized("mxfp4", NULL, 0), "nothing");
    must_not_export(&o, LB_EINVAL, "kind \"nothing\" is not known: there are gguf|");
    o.kind = "safetensors";
    o.dtype = "q8_0";
    must_not_export(&o, LB_EINVAL, "q8_0 is a type of GGUF");
    o.dtype = "f8";
    must_not_export(&o, LB_EINVAL, "dtype \"f8\" is not known");
    o = export_options(tiny_in_work("tiny", &export_tiny), "gptq");
    must_not_export(&o, LB_EINVAL, "none of its layers has codes");
    scratch_write(o.output, "x", 1);
    lb_export_result r;
    lb_error err;
    assert_int_equal(lb_export(&o, &r, &err), LB_EEXIST);
    scratch_remove(o.output);
}

static void the_tokenizer_comes_along(void **state)
{
    (void)state;
    lb_export_options o = export_options(export_quantized("int4-g32", NULL, 0), "awq");
    must_export(&o);
    json_t *a = reader_json(o.model, "tokenizer.json"), *b = reader_json(o.output, "tokenizer.json");
    assert_true(json_equal(a, b));
    json_decref(a);
    json_decref(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gptq_codes),
        cmocka_unit_test(gptq_groups_of_columns),
        cmocka_unit_test(a_mixed_folder_lists_its_layers),
        cmocka_unit_test(auto_round_codes),
        cmocka_unit_test(awq_codes),
        cmocka_unit_test(packed_integers),
        cmocka_unit_test(small_floats),
        cmocka_unit_test(two_levels_of_scales),
        cmocka_unit_test(codes_become_floats),
        cmocka_unit_test(rotations_are_undone),
        cmocka_unit_test(what_cannot_be_held_is_refused),
        cmocka_unit_test(the_tokenizer_comes_along),
    };
    return cmocka_run_group_tests(tests, make_work, drop_work);
}
