/* SPDX-License-Identifier: MIT
 * Any bytes as the tensors of a layer that another tool packed: six bytes that say which tool, its settings,
 * the layer's shape and the length (in fours) of a quantization_config, which follows; then a safetensors file
 * with the tensors of the layer "m". What is accepted can be read, row by row. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "io/safetensors.h"
#include "model/foreign.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 6, MOST_ROWS = 64, MOST_COLS = 128 };

static void read_rows(const lb_weight *w)
{
    float *row = malloc(w->cols * sizeof *row), *params = malloc(w->cols * 2 * sizeof *params);
    uint8_t *codes = malloc(w->cols);
    lb_error err;
    for (size_t i = 0; row && params && codes && i < w->rows; i++) {
        const bool read = lb_weight_read(w, i, 1, row, &err) == LB_OK;
        for (size_t k = 0; read && k < w->cols; k++)
            if (!isfinite(row[k]))
                abort();
        if (lb_format_is_float(&w->format) || lb_weight_unpack_row(w, i, codes, params, &err) != LB_OK)
            continue;
        for (size_t k = 0; k < w->cols; k++)
            if (codes[k] >> (w->format.bits - 1) > 1)
                abort();
    }
    free(row);
    free(params);
    free(codes);
}

/* The first bytes as the configuration, which may also say which tool it was. */
static void take_config(const uint8_t *text, size_t bytes, lb_weights *weights)
{
    json_t *config = NULL;
    lb_error err;
    const lb_weights before = *weights;
    if (bytes == 0 || lb_json_parse((const char *)text, bytes, "fuzz.json", &config, &err) != LB_OK)
        return;
    const char *method = json_string_value(json_object_get(config, "quant_method"));
    if (method && lb_foreign_open(weights, config, method, &err) != LB_OK)
        *weights = before;
    weights->checkpoint.config = json_pack("{s:o}", "quantization_config", config);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lb_weights weights = {.checkpoint = {.path = (char[]){"fuzz"}}};
    lb_weight w = {.name = "m.weight"};
    lb_error err;
    if (size < HEAD)
        return 0;
    weights.foreign = (lb_foreign_tool)(LB_FOREIGN_GPTQ + data[0] % 3);
    weights.foreign_zeros_less_one = data[1] & 1;
    weights.foreign_group = (size_t)data[2] * 16;
    w.rows = 1 + data[3] % MOST_ROWS;
    w.cols = 1 + data[4] % MOST_COLS;
    size_t config = 4 * (size_t)data[5];
    config = config < size - HEAD ? config : size - HEAD;
    take_config(data + HEAD, config, &weights);
    const bool parsed = lb_safetensors_parse(data + HEAD + config, size - HEAD - config, "fuzz.safetensors",
                                             0, &weights.checkpoint.tensors, &err) == LB_OK;
    if (parsed && lb_foreign_has(&weights, w.name) && lb_foreign_find(&weights, &w, &err) == LB_OK)
        read_rows(&w);
    if (parsed)
        lb_tensor_set_free(&weights.checkpoint.tensors);
    json_decref(weights.checkpoint.config);
    return 0;
}
