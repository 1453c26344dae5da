/* SPDX-License-Identifier: MIT
 * Writes a tiny random model (tiny_model.h) into a folder, for the tests of the command:
 *     make_tiny_model FOLDER [key=value ...]
 * Keys: seed, architecture, hidden, ffn, layers, heads, kv_heads, head_dim, vocab, context, window,
 * tied (0, 1), dtype (F32, F16, BF16), tokenizer (none, bytes, bpe), chat (0, 1). */
#include "tiny_model.h"

static bool set_size(tiny_model_options *o, const char *key, const char *value)
{
    const struct {
        const char *key;
        size_t *field;
    } sizes[] = {{"hidden", &o->hidden}, {"ffn", &o->ffn},           {"layers", &o->layers},
                 {"heads", &o->heads},   {"kv_heads", &o->kv_heads}, {"head_dim", &o->head_dim},
                 {"vocab", &o->vocab},   {"context", &o->context},   {"window", &o->window}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        if (strcmp(key, sizes[i].key) == 0) {
            *sizes[i].field = strtoul(value, NULL, 10);
            return true;
        }
    }
    return false;
}

static bool set_word(tiny_model_options *o, const char *key, const char *value)
{
    static const char *const dtypes[] = {"F32", "F16", "BF16"}, *const tokenizers[] = {"none", "bytes",
                                                                                       "bpe"};
    if (strcmp(key, "seed") == 0)
        o->seed = strtoull(value, NULL, 10);
    else if (strcmp(key, "architecture") == 0)
        o->architecture = value;
    else if (strcmp(key, "tied") == 0)
        o->tied = value[0] == '1';
    else if (strcmp(key, "chat") == 0)
        o->no_chat_template = value[0] == '0';
    else if (strcmp(key, "dtype") != 0 && strcmp(key, "tokenizer") != 0)
        return false;
    for (int i = 0; i < 3; i++) {
        if (strcmp(key, "dtype") == 0 && strcmp(value, dtypes[i]) == 0)
            o->dtype = (lb_dtype)i;
        if (strcmp(key, "tokenizer") == 0 && strcmp(value, tokenizers[i]) == 0)
            o->tokenizer = (tiny_tokenizer)i;
    }
    return true;
}

int main(int argc, char **argv)
{
    tiny_model_options options = {.seed = 1, .tokenizer = TINY_BYTES};
    if (argc < 2) {
        fprintf(stderr, "usage: make_tiny_model FOLDER [key=value ...]\n");
        return 2;
    }
    for (int i = 2; i < argc; i++) {
        char *value = strchr(argv[i], '=');
        if (value)
            *value++ = '\0';
        if (!value || (!set_size(&options, argv[i], value) && !set_word(&options, argv[i], value))) {
            fprintf(stderr, "make_tiny_model: \"%s\" is no key=value that is known\n", argv[i]);
            return 2;
        }
    }
    return tiny_model_write(argv[1], &options) == 0 ? 0 : 1;
}
