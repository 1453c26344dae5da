/* SPDX-License-Identifier: MIT */
#include "train/train_settings.h"

#include <math.h>
#include <string.h>

#include "base/json.h"
#include "base/options.h"

typedef enum kind { SIZE, U64, SHARE, FLAG, NAME } kind;

/* FIXED: a resumed run must agree. FREE: it may change. OWN: it may change, and a branch does not take it over. */
typedef enum lasting { FIXED, FREE, OWN } lasting;

/* One field of the options that run.json keeps. */
typedef struct field {
    const char *key;
    kind kind;
    size_t offset;
    double preset; /* of numbers */
    const char *name; /* of names */
    double low, high; /* of numbers */
    lasting lasts;
} field;

#define AT(member) offsetof(lb_train_options, member)

static const field fields[] = {
    {"tokens", U64, AT(tokens), 0, NULL, 1, 9e15, FREE},
    {"length", SIZE, AT(length), 256, NULL, 2, 1 << 20, FIXED},
    {"batch_tokens", SIZE, AT(batch_tokens), 8192, NULL, 2, 1 << 30, FIXED},
    {"micro_tokens", SIZE, AT(micro_tokens), 4096, NULL, 2, 1 << 30, FIXED},
    {"schedule", NAME, AT(schedule), 0, "wsd", 0, 0, FREE},
    {"decay_shape", NAME, AT(decay_shape), 0, "linear", 0, 0, FREE},
    {"decay", SHARE, AT(decay), 0.2, NULL, 0, 1, FREE},
    {"final", SHARE, AT(final), 0, NULL, 0, 1, FREE},
    {"warmup", SIZE, AT(warmup), 0, NULL, 0, 9e15, FIXED},
    {"lr", SHARE, AT(lr), 3e-3, NULL, 0, 1e3, FIXED},
    {"weight_decay", SHARE, AT(weight_decay), 0.1, NULL, 0, 1e3, FIXED},
    {"beta1", SHARE, AT(beta1), 0.9, NULL, 0, 0.999999, FIXED},
    {"beta2", SHARE, AT(beta2), 0.95, NULL, 0, 0.999999, FIXED},
    {"eps", SHARE, AT(eps), 1e-8, NULL, 1e-30, 1, FIXED},
    {"decay_all", FLAG, AT(decay_all), 0, NULL, 0, 0, FIXED},
    {"clip", SHARE, AT(clip), 1, NULL, 0, 1e30, FIXED},
    {"z_loss", SHARE, AT(z_loss), 0, NULL, 0, 1e3, FIXED},
    {"init_std", SHARE, AT(init_std), 0.02, NULL, 0, 10, FIXED},
    {"low_bit", NAME, AT(low_bit), 0, NULL, 0, 0, FIXED},
    {"seed", U64, AT(seed), 42, NULL, 0, 0, FIXED},
    {"dtype", NAME, AT(dtype), 0, "bf16", 0, 0, FIXED},
    /* What the bits do not depend on, but a resumed run would want as it was: */
    {"data", NAME, AT(data), 0, NULL, 0, 0, FREE},
    {"from", NAME, AT(from), 0, NULL, 0, 0, OWN},
    {"save_every", SIZE, AT(save_every), 0, NULL, 0, 0, FREE},
    {"log_every", SIZE, AT(log_every), 10, NULL, 1, 9e15, FREE},
    {"valid_every", SIZE, AT(valid_every), 0, NULL, 0, 0, FREE},
    {"valid_tokens", SIZE, AT(valid_tokens), 1 << 16, NULL, 1, 9e15, FREE},
    {"average", NAME, AT(average), 0, NULL, 0, 0, OWN},
    {"keep_states", FLAG, AT(keep_states), 0, NULL, 0, 0, OWN},
};
enum { FIELDS = sizeof fields / sizeof *fields, LEAST_WARMUP = 200 };

void lb_train_options_init_sized(lb_train_options *options, size_t size)
{
    const lb_train_options defaults = {.struct_size = sizeof defaults,
                                       .decay = -1,
                                       .final = -1,
                                       .lr = -1,
                                       .weight_decay = -1,
                                       .beta1 = -1,
                                       .beta2 = -1,
                                       .eps = -1,
                                       .clip = -1,
                                       .z_loss = -1,
                                       .init_std = -1};
    lb_options_fill(options, size, &defaults, sizeof defaults);
}

/* NULL where the field is not given, or without memory. */
static json_t *value_of(const lb_train_options *o, const field *f)
{
    const char *at = (const char *)o + f->offset;
    switch (f->kind) {
    case SIZE:
        return *(const size_t *)at > 0 ? json_integer((json_int_t) * (const size_t *)at) : NULL;
    case U64:
        return *(const uint64_t *)at > 0 ? json_integer((json_int_t) * (const uint64_t *)at) : NULL;
    case SHARE:
        return *(const double *)at >= 0 ? json_real(*(const double *)at) : NULL;
    case FLAG:
        return *(const bool *)at ? json_true() : NULL;
    default:
        return *(const char *const *)at ? json_string(*(const char *const *)at) : NULL;
    }
}

json_t *lb_train_settings_json(const lb_train_options *o)
{
    json_t *object = json_object();
    for (size_t i = 0; i < FIELDS; i++) {
        json_t *value = value_of(o, &fields[i]);
        if (value && json_object_set_new(object, fields[i].key, value) != 0) {
            json_decref(object);
            return NULL;
        }
    }
    return object;
}

static lb_status set(lb_train_options *o, const field *f, const json_t *value, lb_error *err)
{
    char *at = (char *)o + f->offset;
    if (f->kind == NAME   ? !json_is_string(value)
        : f->kind == FLAG ? !json_is_boolean(value)
                          : !json_is_number(value))
        return lb_fail(err, LB_EFORMAT, "run.json: \"%s\" is of the wrong kind", f->key);
    if ((f->kind == SIZE || f->kind == U64) && !(json_is_integer(value) && json_integer_value(value) >= 0))
        return lb_fail(err, LB_EFORMAT, "run.json: \"%s\" is %g, want a whole number", f->key,
                       json_number_value(value));
    if (f->kind == SIZE)
        *(size_t *)at = (size_t)json_integer_value(value);
    else if (f->kind == U64)
        *(uint64_t *)at = (uint64_t)json_integer_value(value);
    else if (f->kind == SHARE)
        *(double *)at = json_number_value(value);
    else if (f->kind == FLAG)
        *(bool *)at = json_is_true(value);
    else
        *(const char **)at = json_string_value(value);
    return LB_OK;
}

static void set_default(lb_train_options *o, const field *f)
{
    char *at = (char *)o + f->offset;
    if (f->kind == SIZE)
        *(size_t *)at = (size_t)f->preset;
    else if (f->kind == U64)
        *(uint64_t *)at = (uint64_t)f->preset;
    else if (f->kind == SHARE)
        *(double *)at = f->preset;
    else if (f->kind == NAME)
        *(const char **)at = f->name;
}

static lb_status check_range(const lb_train_options *o, const field *f, lb_error *err)
{
    const char *at = (const char *)o + f->offset;
    const double value = f->kind == SIZE    ? (double)*(const size_t *)at
                         : f->kind == U64   ? (double)*(const uint64_t *)at
                         : f->kind == SHARE ? *(const double *)at
                                            : 0.0;
    if (f->high > 0 && !(value >= f->low && value <= f->high))
        return lb_fail(err, LB_EINVAL, "training: %s is %g, want %g to %g", f->key, value, f->low, f->high);
    return LB_OK;
}

lb_status lb_train_settings_inherit(lb_train_options *o, const json_t *parent, lb_error *err)
{
    for (size_t i = 0; i < FIELDS; i++) {
        const json_t *value = json_object_get(parent, fields[i].key);
        json_t *given = value_of(o, &fields[i]);
        const bool is_given = given != NULL;
        json_decref(given);
        if (value && !is_given && fields[i].lasts != OWN)
            LB_TRY(set(o, &fields[i], value, err));
    }
    return LB_OK;
}

lb_status lb_train_settings_resolve(lb_train_options *o, const json_t *record, lb_error *err)
{
    for (size_t i = 0; i < FIELDS; i++) {
        const field *f = &fields[i];
        const json_t *before = json_object_get(record, f->key);
        json_t *given = value_of(o, f);
        const bool same = given && before && json_equal(given, before);
        const bool is_given = given != NULL;
        json_decref(given);
        if (is_given && record && !same && f->lasts == FIXED)
            return lb_fail(err, LB_EINVAL,
                           "cannot resume %s with another %s; leave it out, or begin another run", o->output,
                           f->key);
        if (is_given)
            continue;
        if (before)
            LB_TRY(set(o, f, before, err));
        else
            set_default(o, f);
    }
    if (o->tokens == 0)
        return lb_fail(err, LB_EINVAL, "training: how many tokens is not said");
    for (size_t i = 0; i < FIELDS; i++)
        LB_TRY(check_range(o, &fields[i], err));
    if (o->batch_tokens < o->length || o->batch_tokens % o->length != 0)
        return lb_fail(err, LB_EINVAL,
                       "training: a step of %zu tokens is no whole number of sequences of %zu",
                       o->batch_tokens, o->length);
    if (o->micro_tokens > o->batch_tokens)
        o->micro_tokens = o->batch_tokens;
    if (o->micro_tokens < o->length)
        o->micro_tokens = o->length;
    if (o->warmup == 0) {
        /* Second moments need their time, however short the run: a hasty warm-up costs more than it saves. */
        const uint64_t steps = o->tokens / o->batch_tokens, tenth = steps / 10 + 1;
        const uint64_t least = tenth < LEAST_WARMUP ? tenth : LEAST_WARMUP;
        o->warmup = (size_t)(steps / 100 > least ? steps / 100 : least);
    }
    if (strcmp(o->dtype, "bf16") != 0 && strcmp(o->dtype, "f32") != 0)
        return lb_fail(err, LB_EINVAL, "training: checkpoints of %.20s; there are bf16 and f32", o->dtype);
    return LB_OK;
}

lb_status lb_train_schedule(const lb_train_options *o, lb_schedule *out, lb_error *err)
{
    lb_schedule s = {.peak = o->lr, .final = o->lr * o->final, .warmup = o->warmup};
    LB_TRY(lb_schedule_parse(o->schedule, o->decay_shape, &s, err));
    s.steps = o->tokens / o->batch_tokens;
    if (s.steps == 0)
        return lb_fail(err, LB_EINVAL, "training: %llu tokens are less than a step of %zu",
                       (unsigned long long)o->tokens, o->batch_tokens);
    s.decay = (uint64_t)((double)s.steps * o->decay + 0.5);
    *out = s;
    return LB_OK;
}

/* ---- The model ------------------------------------------------------------------------------------------ */

static int set_size(json_t *config, const char *key, size_t given, size_t preset)
{
    if (given > 0)
        return json_object_set_new(config, key, json_integer((json_int_t)given));
    if (!json_object_get(config, key))
        return json_object_set_new(config, key, json_integer((json_int_t)preset));
    return 0;
}

static size_t size_of(const json_t *config, const char *key)
{
    const json_int_t value = json_integer_value(json_object_get(config, key));
    return value > 0 ? (size_t)value : 1;
}

/* SwiGLU has three matrices where plain layers have two of 4 hidden: 8/3 hidden has as many weights. Up to a multiple
 * of 64, which groups of quantized weights divide. */
static size_t default_ffn(size_t hidden)
{
    return (hidden * 8 / 3 + 63) / 64 * 64;
}

static int fill_in(json_t *c, const lb_train_options *o)
{
    int failed = set_size(c, "hidden_size", o->hidden, 256);
    failed |= set_size(c, "num_hidden_layers", o->layers, 6);
    failed |= set_size(c, "num_attention_heads", o->heads, (size_of(c, "hidden_size") + 63) / 64);
    failed |= set_size(c, "num_key_value_heads", o->kv_heads, size_of(c, "num_attention_heads"));
    failed |= set_size(c, "intermediate_size", o->ffn, default_ffn(size_of(c, "hidden_size")));
    failed |= set_size(c, "vocab_size", o->vocab, 4096);
    failed |= set_size(c, "max_position_embeddings", 0, o->length);
    if (!json_object_get(c, "architectures"))
        failed |= json_object_set_new(c, "architectures", json_pack("[s]", "LlamaForCausalLM")) |
                  json_object_set_new(c, "model_type", json_string("llama"));
    if (!json_object_get(c, "tie_word_embeddings") || o->untied)
        failed |= json_object_set_new(c, "tie_word_embeddings", json_boolean(!o->untied));
    if (!json_object_get(c, "rms_norm_eps"))
        failed |= json_object_set_new(c, "rms_norm_eps", json_real(1e-5));
    if (!json_object_get(c, "hidden_act"))
        failed |= json_object_set_new(c, "hidden_act", json_string("silu"));
    if (!json_object_get(c, "rope_theta") && !json_object_get(c, "rope_parameters"))
        failed |= json_object_set_new(c, "rope_theta", json_real(10000.0));
    return failed | json_object_set_new(c, "torch_dtype",
                                        json_string(strcmp(o->dtype, "f32") == 0 ? "float32" : "bfloat16"));
}

lb_status lb_train_config(const lb_train_options *o, json_t **out, lb_config *config, lb_error *err)
{
    enum { MAX_CONFIG_BYTES = 16 << 20 };
    json_t *c = NULL;
    if (o->config)
        LB_TRY(lb_json_load(o->config, MAX_CONFIG_BYTES, &c, err));
    else
        c = json_object();
    lb_status st = c && fill_in(c, o) == 0 ? LB_OK : lb_fail(err, LB_ENOMEM, "training: no memory");
    if (st == LB_OK)
        st = lb_config_read(c, o->config ? o->config : "the model to train", config, err);
    if (st == LB_OK && config->max_context < o->length)
        st = lb_fail(err, LB_EINVAL,
                     "training: sequences of %zu tokens for a model of max_position_embeddings %zu",
                     o->length, config->max_context);
    if (st == LB_OK)
        *out = c;
    else
        json_decref(c);
    return st;
}
