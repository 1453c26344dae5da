/* SPDX-License-Identifier: MIT
 * Any bytes as a GGUF file: parse, look up metadata of every kind, make a model of it, read rows. */
#include <stdlib.h>

#include "base/alloc.h"
#include "io/gguf.h"
#include "model/foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 16 }; /* elements that it is bearable to read */

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

/* The same rows as codes, where the blocks are those of one of lowbit's formats. */
static void read_codes(const lb_tensor *t)
{
    const size_t rows = lb_tensor_rows(t), cols = lb_tensor_cols(t);
    lb_weight w = {.name = "fuzz.weight", .rows = rows, .cols = cols, .tensor = t};
    if (rows == 0 || cols == 0 || lb_tensor_elems(t) > MOST || lb_foreign_from_gguf(&w, NULL) != LB_OK ||
        w.part_count == 0)
        return;
    uint8_t *codes = malloc(cols);
    float *params = malloc(lb_format_groups(&w.format, cols) * w.format.params * sizeof *params);
    if (codes && params) {
        (void)lb_weight_unpack_row(&w, 0, codes, params, NULL);
        (void)lb_weight_unpack_row(&w, rows - 1, codes, params, NULL);
    }
    free(codes);
    free(params);
}

/* The first and the last row of every tensor whose rows are of bearable size. */
static void read_rows(const lb_tensor_set *set)
{
    for (size_t i = 0; i < set->count; i++) {
        const lb_tensor *t = &set->tensors[i];
        if (lb_tensor_cols(t) > MOST)
            continue;
        float *row = malloc((lb_tensor_cols(t) ? lb_tensor_cols(t) : 1) * sizeof *row);
        if (row && lb_tensor_rows(t) > 0) {
            (void)lb_tensor_read(t, 0, 1, row, NULL);
            (void)lb_tensor_read(t, lb_tensor_rows(t) - 1, 1, row, NULL);
            read_codes(t);
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
