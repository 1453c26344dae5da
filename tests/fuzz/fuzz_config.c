/* SPDX-License-Identifier: MIT
 * Any bytes as a config.json: what is accepted must be a shape that the rest can rely on. */
#include <stdint.h>
#include <stdlib.h>

#include "base/json.h"
#include "model/config.h"
#include "model/rope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int within(size_t value, size_t low, size_t high)
{
    return value >= low && value <= high;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    lb_error err;
    lb_config c;
    lb_rope rope;
    json_t *json;
    if (lb_json_parse((const char *)data, size, "fuzz.json", &json, &err) != LB_OK)
        return 0;
    if (lb_config_read(json, "fuzz.json", &c, &err) == LB_OK) {
        if (!within(c.hidden, 1, 1 << 20) || !within(c.ffn, 1, 1 << 20) || !within(c.layers, 1, 1024) ||
            !within(c.heads, 1, 4096) || !within(c.kv_heads, 1, c.heads) || c.heads % c.kv_heads != 0 ||
            !within(c.head_dim, 2, LB_MAX_HEAD_DIM) || c.head_dim % 2 != 0 || !within(c.vocab, 1, 1 << 20) ||
            !within(c.max_context, 1, 1 << 24) || !(c.norm_eps >= 0) || !(c.rope_theta >= 1))
            abort();
        if (lb_rope_create(&c, c.max_context < 4 ? c.max_context : 4, &rope, &err) == LB_OK) {
            for (size_t i = 0; i < rope.positions * rope.half; i++)
                if (!(rope.cosine[i] >= -1 && rope.cosine[i] <= 1 && rope.sine[i] >= -1 && rope.sine[i] <= 1))
                    abort();
            lb_rope_free(&rope);
        }
    }
    json_decref(json);
    return 0;
}
