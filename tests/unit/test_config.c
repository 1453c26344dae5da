/* SPDX-License-Identifier: MIT
 * config.json: the saved broken ones, every field's way into lb_config, and the rotary variants against
 * formulas written out once more. */
#include "broken_corpus.h"

#include <stdlib.h>

#include "base/json.h"
#include "model/config.h"
#include "model/rope.h"

static lb_status open_config(const char *path, lb_error *err)
{
    json_t *json;
    lb_config config;
    LB_TRY(lb_json_load(path, 1 << 20, &json, err));
    lb_status st = lb_config_read(json, path, &config, err);
    json_decref(json);
    return st;
}

static void broken_files_are_named(void **state)
{
    (void)state;
    assert_true(walk_corpus("config", open_config) >= 60);
}

/* A small Llama with `more`, the inside of a JSON object, laid over it. */
static lb_status read_with(const char *more, lb_config *out, lb_error *err)
{
    static const char base[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":64,\"intermediate_size\":96,"
        "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":288}";
    json_t *json, *patch;
    char text[1024];
    snprintf(text, sizeof text, "{%s}", more);
    assert_int_equal(lb_json_parse(base, strlen(base), "base", &json, err), LB_OK);
    assert_int_equal(lb_json_parse(text, strlen(text), "patch", &patch, err), LB_OK);
    json_object_update(json, patch);
    lb_status st = lb_config_read(json, "config.json", out, err);
    json_decref(json);
    json_decref(patch);
    return st;
}

static lb_config must_read(const char *more)
{
    lb_config c;
    lb_error err;
    if (read_with(more, &c, &err) != LB_OK)
        fail_msg("%s: %s", more, err.msg);
    return c;
}

static void what_is_not_said_has_a_default(void **state)
{
    (void)state;
    const lb_config c = must_read("");
    assert_string_equal(c.architecture, "LlamaForCausalLM");
    assert_int_equal(c.hidden, 64);
    assert_int_equal(c.ffn, 96);
    assert_int_equal(c.layers, 2);
    assert_int_equal(c.heads, 4);
    assert_int_equal(c.kv_heads, 4);
    assert_int_equal(c.head_dim, 16);
    assert_int_equal(c.vocab, 288);
    assert_int_equal(c.max_context, 2048);
    assert_int_equal(c.window, 0);
    assert_true(c.norm_eps == 1e-6 && c.rope_theta == 10000.0);
    assert_int_equal(c.rope_scaling, LB_ROPE_PLAIN);
    assert_false(c.tied_embeddings || c.qkv_bias || c.o_bias || c.mlp_bias || c.qk_norm);
}

static void every_field_arrives(void **state)
{
    (void)state;
    lb_config c = must_read("\"num_key_value_heads\":2,\"head_dim\":24,\"max_position_embeddings\":77,"
                            "\"rms_norm_eps\":0.001,\"rope_theta\":5e5,\"tie_word_embeddings\":true,"
                            "\"attention_bias\":true,\"mlp_bias\":true,\"hidden_act\":\"silu\"");
    assert_int_equal(c.kv_heads, 2);
    assert_int_equal(c.head_dim, 24);
    assert_int_equal(c.max_context, 77);
    assert_true(c.norm_eps == 0.001 && c.rope_theta == 5e5);
    assert_true(c.tied_embeddings && c.qkv_bias && c.o_bias && c.mlp_bias);
    c = must_read("\"architectures\":[\"Qwen2ForCausalLM\"],\"attention_bias\":false,\"mlp_bias\":true");
    assert_true(c.qkv_bias && !c.o_bias && !c.mlp_bias && !c.qk_norm); /* the class decides, not the flags */
    c = must_read("\"architectures\":[\"Qwen3ForCausalLM\"]");
    assert_true(c.qk_norm && !c.qkv_bias);
    c = must_read("\"architectures\":[\"MistralForCausalLM\"],\"sliding_window\":32");
    assert_int_equal(c.window, 32);
    c = must_read("\"sliding_window\":32"); /* no business of Llama's */
    assert_int_equal(c.window, 0);
    c = must_read(
        "\"architectures\":[\"Qwen2ForCausalLM\"],\"use_sliding_window\":true,\"max_window_layers\":2,"
        "\"sliding_window\":32"); /* from layer 2 on: there is none */
    assert_int_equal(c.window, 0);
}

static void outputs_are_unchanged_on_failure(void **state)
{
    (void)state;
    lb_config c;
    lb_error err;
    memset(&c, 7, sizeof c);
    const lb_config before = c;
    assert_int_equal(read_with("\"hidden_act\":\"relu\"", &c, &err), LB_EUNSUPPORTED);
    assert_memory_equal(&c, &before, sizeof c);
    assert_int_equal(read_with("\"hidden_act\":\"relu\"", &c, NULL), LB_EUNSUPPORTED);
}

/* ---- Rotary frequencies ------------------------------------------------------------------------------ */

static double plain_frequency(double theta, size_t i)
{
    return pow(theta, -(double)(2 * i) / 16.0);
}

static void rotary_variants(void **state)
{
    (void)state;
    double got[8], want[8];
    lb_config c = must_read("\"rope_scaling\":null,\"rope_theta\":500000");
    lb_rope_frequencies(&c, got);
    for (size_t i = 0; i < 8; i++)
        want[i] = plain_frequency(500000, i);
    near_array(got, want, 8, 1e-15);

    c = must_read("\"rope_scaling\":{\"type\":\"linear\",\"factor\":4}");
    lb_rope_frequencies(&c, got);
    for (size_t i = 0; i < 8; i++)
        want[i] = plain_frequency(10000, i) / 4;
    near_array(got, want, 8, 1e-15);

    c = must_read(
        "\"rope_parameters\":{\"rope_type\":\"linear\",\"factor\":2,\"rope_theta\":700},\"rope_theta\":9");
    lb_rope_frequencies(&c, got);
    for (size_t i = 0; i < 8; i++)
        want[i] = plain_frequency(700, i) / 2;
    near_array(got, want, 8, 1e-15);
    c = must_read("\"rope_parameters\":{\"rope_type\":\"default\"},\"rope_theta\":900");
    assert_true(c.rope_theta == 900.0);

    c = must_read("\"rope_scaling\":{\"type\":\"factors\",\"factors\":[1,1,1,2,2,4,8,8]}");
    static const double factors[8] = {1, 1, 1, 2, 2, 4, 8, 8};
    lb_rope_frequencies(&c, got);
    for (size_t i = 0; i < 8; i++)
        want[i] = plain_frequency(10000, i) / factors[i];
    near_array(got, want, 8, 1e-15);

    /* Llama 3.1: wavelengths over original/low are stretched by factor, those under original/high are
     * kept, and between the two the frequency is blended by where original / wavelength lies. */
    c = must_read("\"rope_theta\":500000,\"rope_scaling\":{\"rope_type\":\"llama3\",\"factor\":8,"
                  "\"low_freq_factor\":1,\"high_freq_factor\":4,\"original_max_position_embeddings\":512}");
    lb_rope_frequencies(&c, got);
    size_t kept = 0, stretched = 0, blended = 0;
    for (size_t i = 0; i < 8; i++) {
        const double f = plain_frequency(500000, i), length = 2 * acos(-1.0) / f;
        if (length < 512.0 / 4 && ++kept)
            want[i] = f;
        else if (length > 512.0 / 1 && ++stretched)
            want[i] = f / 8;
        else {
            const double smooth = (512.0 / length - 1) / (4 - 1);
            want[i] = (1 - smooth) * f / 8 + smooth * f;
            blended++;
        }
    }
    assert_true(kept > 0 && stretched > 0 && blended > 0);
    near_array(got, want, 8, 1e-15);
}

static void tables_hold_cosine_and_sine(void **state)
{
    (void)state;
    const lb_config c = must_read("");
    lb_rope rope;
    lb_error err;
    assert_int_equal(lb_rope_create(&c, 50, &rope, &err), LB_OK);
    for (size_t t = 0; t < 50; t++) {
        for (size_t i = 0; i < 8; i++) {
            const double angle = (double)t * plain_frequency(10000, i);
            assert_true(fabs((double)rope.cosine[t * 8 + i] - cos(angle)) <= U24);
            assert_true(fabs((double)rope.sine[t * 8 + i] - sin(angle)) <= U24);
        }
    }
    lb_rope_free(&rope);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_files_are_named), cmocka_unit_test(what_is_not_said_has_a_default),
        cmocka_unit_test(every_field_arrives),    cmocka_unit_test(outputs_are_unchanged_on_failure),
        cmocka_unit_test(rotary_variants),        cmocka_unit_test(tables_hold_cosine_and_sine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
