/* SPDX-License-Identifier: MIT
 * random_model: a Llama-shaped model of random weights, for measuring speed. Without flags it is the shape of
 * TinyLlama-1.1B: 22 layers, 2048 wide, 32 heads of which 4 for keys and values, FFN 5632, vocabulary 32,000, bfloat16.
 *
 *   random_model OUT [--layers N] [--hidden N] [--heads N] [--kv-heads N] [--ffn N] [--vocab N] [--context N]
 *                    [--tied] [--seed N]
 *
 * Weights are close to normal with deviation 0.02, and the same for the same flags; norms are ones. They are written as
 * they are drawn, so that memory stays small. The tokenizer is that of bytes: ids beyond it have no text. */
#define _GNU_SOURCE
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/file.h"
#include "base/half.h"
#include "base/rng.h"
#include "base/text.h"

enum { BYTE_TOKENS = 256, SPECIALS = 3, PIECE = 1 << 16, BF16_BYTES = 2 };

static const char *const specials[SPECIALS] = {"<|endoftext|>", "<|im_start|>", "<|im_end|>"};

typedef struct shape {
    const char *out;
    size_t layers, hidden, heads, kv_heads, ffn, vocab, context, seed;
    bool tied;
} shape;

/* Every tensor there is, in the order of the file: told its name and size. */
typedef lb_status (*tensor_fn)(void *user, const char *name, size_t rows, size_t cols, lb_error *err);

static lb_status each_tensor(const shape *s, tensor_fn fn, void *user, lb_error *err)
{
    const size_t kv = s->hidden / s->heads * s->kv_heads;
    const struct {
        const char *name;
        size_t rows, cols; /* rows 0: a vector of ones */
    } parts[] = {{"input_layernorm", 0, s->hidden},          {"self_attn.q_proj", s->hidden, s->hidden},
                 {"self_attn.k_proj", kv, s->hidden},        {"self_attn.v_proj", kv, s->hidden},
                 {"self_attn.o_proj", s->hidden, s->hidden}, {"post_attention_layernorm", 0, s->hidden},
                 {"mlp.gate_proj", s->ffn, s->hidden},       {"mlp.up_proj", s->ffn, s->hidden},
                 {"mlp.down_proj", s->hidden, s->ffn}};
    char name[96];
    LB_TRY(fn(user, "model.embed_tokens.weight", s->vocab, s->hidden, err));
    for (size_t layer = 0; layer < s->layers; layer++) {
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, parts[i].name);
            LB_TRY(fn(user, name, parts[i].rows, parts[i].cols, err));
        }
    }
    LB_TRY(fn(user, "model.norm.weight", 0, s->hidden, err));
    return s->tied ? LB_OK : fn(user, "lm_head.weight", s->vocab, s->hidden, err);
}

/* ---- model.safetensors ------------------------------------------------------------------------------- */

typedef struct header {
    json_t *tensors;
    uint64_t at;
} header;

static lb_status describe(void *user, const char *name, size_t rows, size_t cols, lb_error *err)
{
    header *h = user;
    const uint64_t begin = h->at;
    h->at += (uint64_t)(rows ? rows : 1) * cols * BF16_BYTES;
    json_t *dims =
        rows ? json_pack("[I, I]", (json_int_t)rows, (json_int_t)cols) : json_pack("[I]", (json_int_t)cols);
    json_t *tensor = json_pack("{s:s, s:o, s:[I, I]}", "dtype", "BF16", "shape", dims, "data_offsets",
                               (json_int_t)begin, (json_int_t)h->at);
    return json_object_set_new(h->tensors, name, tensor) ? lb_fail(err, LB_ENOMEM, "no memory for the header")
                                                         : LB_OK;
}

typedef struct drawing {
    lb_writer *writer;
    lb_rng rng;
    uint16_t *piece; /* [PIECE] */
} drawing;

/* The sum of four uniform numbers: mean 0 and variance 1 when scaled so, and near enough to normal for its purpose. */
static uint16_t draw(lb_rng *rng)
{
    const uint64_t bits = lb_rng_u64(rng);
    const double sum = (double)(bits & 0xffff) + (double)(bits >> 16 & 0xffff) +
                       (double)(bits >> 32 & 0xffff) + (double)(bits >> 48);
    return lb_bf16_from_float((float)((sum - 2 * 65535.0) * (0.02 * 1.7320508 / 65536)));
}

static lb_status write_tensor(void *user, const char *name, size_t rows, size_t cols, lb_error *err)
{
    drawing *d = user;
    (void)name;
    for (uint64_t left = (uint64_t)(rows ? rows : 1) * cols; left > 0;) {
        const size_t n = left < PIECE ? (size_t)left : PIECE;
        for (size_t i = 0; i < n; i++)
            d->piece[i] = rows ? draw(&d->rng) : 0x3f80;
        LB_TRY(lb_writer_put(d->writer, d->piece, n * sizeof *d->piece, err));
        left -= n;
    }
    return LB_OK;
}

static lb_status write_weights(const shape *s, const char *path, lb_error *err)
{
    header h = {.tensors = json_object()};
    lb_writer writer = {.fd = -1};
    drawing d = {.writer = &writer, .piece = lb_alloc(PIECE, sizeof *d.piece)};
    lb_status st = h.tensors && d.piece ? LB_OK : lb_fail(err, LB_ENOMEM, "%s: no memory", path);
    char *text = NULL;
    uint64_t free_bytes;
    LB_GO(st);
    lb_rng_seed(&d.rng, s->seed);
    LB_GO(each_tensor(s, describe, &h, err));
    LB_GO(lb_free_space(s->out, &free_bytes, err));
    if (free_bytes < h.at + (64 << 20)) {
        st =
            lb_fail(err, LB_EIO, "%s: the model takes %" PRIu64 " MB, but there are only %" PRIu64 " MB left",
                    s->out, h.at >> 20, free_bytes >> 20);
        goto done;
    }
    text = json_dumps(h.tensors, JSON_COMPACT);
    const size_t length = text ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
    uint8_t size[8];
    for (unsigned i = 0; i < 8; i++)
        size[i] = (uint8_t)((uint64_t)padded >> (8 * i));
    LB_GO(lb_writer_open(path, &writer, err));
    LB_GO(lb_writer_put(&writer, size, sizeof size, err));
    LB_GO(lb_writer_put(&writer, text, length, err));
    LB_GO(lb_writer_put(&writer, "       ", padded - length, err));
    LB_GO(each_tensor(s, write_tensor, &d, err));
    LB_GO(lb_writer_commit(&writer, err));
done:
    if (writer.fd >= 0)
        lb_writer_abandon(&writer);
    free(text);
    json_decref(h.tensors);
    lb_free(d.piece);
    return st;
}

/* ---- The small files ----------------------------------------------------------------------------------- */

static lb_status write_json(const char *folder, const char *name, json_t *object, lb_error *err)
{
    char *path = lb_path_join(folder, name), *text = object ? json_dumps(object, JSON_INDENT(1)) : NULL;
    lb_status st = path && text ? lb_file_replace(path, text, strlen(text), err)
                                : lb_fail(err, LB_ENOMEM, "%s: no memory for %s", folder, name);
    lb_free(path);
    free(text);
    json_decref(object);
    return st;
}

static lb_status write_config(const shape *s, lb_error *err)
{
    return write_json(
        s->out, "config.json",
        json_pack("{s:[s], s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:s, s:b, s:s}", "architectures",
                  "LlamaForCausalLM", "model_type", "llama", "hidden_size", (json_int_t)s->hidden,
                  "intermediate_size", (json_int_t)s->ffn, "num_hidden_layers", (json_int_t)s->layers,
                  "num_attention_heads", (json_int_t)s->heads, "num_key_value_heads", (json_int_t)s->kv_heads,
                  "vocab_size", (json_int_t)s->vocab, "max_position_embeddings", (json_int_t)s->context,
                  "rms_norm_eps", 1e-5, "rope_theta", 10000.0, "hidden_act", "silu", "tie_word_embeddings",
                  (int)s->tied, "torch_dtype", "bfloat16"),
        err);
}

/* The character that stands for a byte in byte-level vocabularies: itself where it is printable, otherwise the next
 * of those from U+0100 on. */
static void byte_name(unsigned byte, char out[3])
{
    unsigned unprintable = 0, code = byte;
    for (unsigned b = 0; b <= byte; b++) {
        const bool printable = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (b == byte && !printable)
            code = 256 + unprintable;
        unprintable += !printable;
    }
    memset(out, 0, 3);
    if (code < 128) {
        out[0] = (char)code;
    } else {
        out[0] = (char)(0xc0 | code >> 6);
        out[1] = (char)(0x80 | (code & 63));
    }
}

static lb_status write_tokenizer(const shape *s, lb_error *err)
{
    json_t *vocab = json_object(), *added = json_array();
    char name[3];
    for (unsigned byte = 0; byte < BYTE_TOKENS; byte++) {
        byte_name(byte, name);
        json_object_set_new(vocab, name, json_integer((json_int_t)byte));
    }
    for (unsigned i = 0; i < SPECIALS; i++)
        json_array_append_new(added, json_pack("{s:i, s:s, s:b, s:b, s:b, s:b, s:b}", "id",
                                               (int)(BYTE_TOKENS + i), "content", specials[i], "single_word",
                                               0, "lstrip", 0, "rstrip", 0, "normalized", 0, "special", 1));
    json_t *level = json_pack("{s:s, s:b, s:b, s:b}", "type", "ByteLevel", "add_prefix_space", 0,
                              "trim_offsets", 1, "use_regex", 1);
    LB_TRY(write_json(s->out, "tokenizer.json",
                      json_pack("{s:s, s:n, s:n, s:o, s:n, s:O, s:n, s:o, s:{s:s, s:o, s:[]}}", "version",
                                "1.0", "truncation", "padding", "added_tokens", added, "normalizer",
                                "pre_tokenizer", level, "post_processor", "decoder", level, "model", "type",
                                "BPE", "vocab", vocab, "merges"),
                      err));
    return write_json(s->out, "tokenizer_config.json",
                      json_pack("{s:s, s:s}", "tokenizer_class", "GPT2Tokenizer", "eos_token", specials[0]),
                      err);
}

/* ---- Flags --------------------------------------------------------------------------------------------- */

static int misused(const char *what)
{
    fprintf(stderr,
            "random_model: %s\nusage: random_model OUT [--layers N] [--hidden N] [--heads N] [--kv-heads N] "
            "[--ffn N]\n"
            "                    [--vocab N] [--context N] [--tied] [--seed N]\n",
            what);
    return 2;
}

/* 0, or what is wrong with the flags. */
static const char *parse(int argc, char **argv, shape *s)
{
    const struct {
        const char *flag;
        size_t *value, least;
    } numbers[] = {{"--layers", &s->layers, 1}, {"--hidden", &s->hidden, 1},
                   {"--heads", &s->heads, 1},   {"--kv-heads", &s->kv_heads, 1},
                   {"--ffn", &s->ffn, 1},       {"--context", &s->context, 1},
                   {"--seed", &s->seed, 0},     {"--vocab", &s->vocab, BYTE_TOKENS + SPECIALS}};
    enum { COUNT = sizeof numbers / sizeof *numbers };
    for (int i = 1; i < argc; i++) {
        size_t which = 0;
        while (which < COUNT && strcmp(argv[i], numbers[which].flag) != 0)
            which++;
        if (which < COUNT) {
            char *end = NULL;
            errno = 0;
            const unsigned long long value =
                i + 1 < argc && argv[i + 1][0] != '-' ? strtoull(argv[i + 1], &end, 10) : 0;
            if (!end || *end || end == argv[i + 1] || errno || value < numbers[which].least ||
                value > UINT32_MAX)
                return "a number is missing, too small or too large";
            *numbers[which].value = (size_t)value;
            i++;
        } else if (strcmp(argv[i], "--tied") == 0) {
            s->tied = true;
        } else if (argv[i][0] == '-' || s->out) {
            return "unknown flag, or a second folder";
        } else {
            s->out = argv[i];
        }
    }
    if (!s->out)
        return "say where to";
    if (s->hidden % s->heads || s->heads % s->kv_heads || s->hidden / s->heads % 2)
        return "the width must be an even multiple of the heads, and these one of the key-value heads";
    return NULL;
}

int main(int argc, char **argv)
{
    shape s = {.layers = 22,
               .hidden = 2048,
               .heads = 32,
               .kv_heads = 4,
               .ffn = 5632,
               .vocab = 32000,
               .context = 2048,
               .seed = 42};
    lb_error err = {0};
    const char *wrong = parse(argc, argv, &s);
    if (wrong)
        return misused(wrong);
    char *weights = lb_path_join(s.out, "model.safetensors");
    lb_status st = weights ? lb_make_directory(s.out, &err) : lb_fail(&err, LB_ENOMEM, "no memory");
    if (st == LB_OK)
        st = write_config(&s, &err);
    if (st == LB_OK)
        st = write_tokenizer(&s, &err);
    if (st == LB_OK)
        st = write_weights(&s, weights, &err);
    lb_free(weights);
    if (st != LB_OK)
        fprintf(stderr, "random_model: %s\n", err.msg);
    return st == LB_OK ? 0 : 1;
}
