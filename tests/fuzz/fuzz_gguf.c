/* SPDX-License-Identifier: MIT
 * Any bytes as a GGUF file: parse, look up metadata of every kind, make a model of it, read rows. */
#include <stdlib.h>

#include "base/alloc.h"
#include "io/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void read_metadata(const lb_gguf *gguf)
{
    static const char *const keys[] = {"general.architecture", "llama.block_count", "tokenizer.ggml.tokens",
                                       "tokenizer.ggml.scores", "x"};
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        size_t number, count;
        double real, *reals = NULL;
        bool flag;
        lb_span text, *texts = NULL;
        (void)lb_gguf_size(gguf, keys[i], 0, SIZE_MAX, 0, &number, NULL);
        (void)lb_gguf_double(gguf, keys[i], 0, &real, NULL);
        (void)lb_gguf_bool(gguf, keys[i], false, &flag, NULL);
        (void)lb_gguf_string(gguf, keys[i], (lb_span){0}, &text, NULL);
        (void)lb_gguf_strings(gguf, keys[i], &texts, &count, NULL);
        (void)lb_gguf_doubles(gguf, keys[i], &reals, &count, NULL);
        lb_free(texts);
        lb_free(reals);
    }
}

/* The first and the last row of every tensor whose rows are of bearable size. */
static void read_rows(const lb_tensor_set *set)
{
    enum { MOST = 1 << 16 };
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *t = &set->tensors[i];
        if (lb_tensor_cols(t) > MOST)
            continue;
        float *row = malloc((lb_tensor_cols(t) ? lb_tensor_cols(t) : 1) * sizeof *row);
        if (row && lb_tensor_rows(t) > 0) {
            (void)lb_tensor_read(t, 0, 1, row, NULL);
            (void)lb_tensor_read(t, lb_tensor_rows(t) - 1, 1, row, NULL);
        }
        free(row);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lb_error err;
    lb_gguf *gguf;
    lb_tensor_set set;
    json_t *config;
    if (lb_gguf_parse(data, size, "fuzz.gguf", &gguf, &err) != LB_OK)
        return 0;
    read_metadata(gguf);
    if (lb_gguf_to_hf(gguf, &set, &config, &err) == LB_OK) {
        read_rows(&set);
        lb_tensor_set_free(&set);
        json_decref(config);
    }
    lb_gguf_close(gguf);
    return 0;
}
