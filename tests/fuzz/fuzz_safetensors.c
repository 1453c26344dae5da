/* SPDX-License-Identifier: MIT
 * Any bytes as a safetensors file: parse, read the first and last row of every tensor. */
#include <stdlib.h>

#include "io/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = 1 << 16 };
    lb_error err;
    lb_tensor_set set = {0};
    if (lb_safetensors_parse(data, size, "fuzz.safetensors", 0, &set, &err) != LB_OK)
        return 0;
    for (size_t i = 0; i < set.count; i++) {
        const lb_tensor *t = &set.tensors[i];
        if (lb_tensor_find(&set, t->name) != t)
            abort(); /* sorted, and every name once */
        if (lb_tensor_cols(t) > MOST || lb_tensor_rows(t) == 0)
            continue;
        float *row = malloc((lb_tensor_cols(t) + 1) * sizeof *row);
        if (row) {
            (void)lb_tensor_read(t, 0, 1, row, &err);
            (void)lb_tensor_read(t, lb_tensor_rows(t) - 1, 1, row, &err);
        }
        free(row);
    }
    lb_tensor_set_free(&set);
    return 0;
}
