/* SPDX-License-Identifier: MIT
 * Any bytes as a training state of a small model, and as a file of tokens: what is accepted can be read to its end. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "train/token_file.h"
#include "train/train_state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FLOATS = 16 };
static const uint64_t fingerprint = 0x0123456789abcdef;

static void read_state(const uint8_t *data, size_t size)
{
    lb_error err;
    lb_train_position p;
    const uint8_t *arrays;
    float values[3 * FLOATS];
    if (lb_train_state_parse(data, size, "fuzz.bin", fingerprint, FLOATS, &p, &arrays, &err) != LB_OK)
        return;
    memcpy(values, arrays, sizeof values);
    if (arrays + sizeof values != data + size || p.loss_count > p.step || !isfinite(p.loss_sum))
        abort();
}

static void read_tokens(const uint8_t *data, size_t size)
{
    lb_error err;
    lb_token_view view;
    uint32_t id;
    if (lb_token_view_parse(data, size, "fuzz.tokens", &view, &err) != LB_OK)
        return;
    for (size_t i = 0; i < view.count; i++) {
        lb_token_view_read(&view, i, 1, &id);
        if (view.id_bytes == 2 && id > UINT16_MAX)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    read_state(data, size);
    read_tokens(data, size);
    return 0;
}
