/* SPDX-License-Identifier: MIT
 * How a GGUF file stretches its rotary frequencies, as config.json's "rope_scaling". */
#ifndef LB_IO_GGUF_ROPE_H
#define LB_IO_GGUF_ROPE_H

#include <jansson.h>

#include "io/gguf.h"

/* `arch` is the prefix of the keys ("llama"). *out (json_decref) is null where nothing is stretched,
 * {"rope_type": "linear" | "yarn", ...} from the keys, and from a rope_freqs tensor {"rope_type":
 * "llama3", ...} where its factors are those of Llama 3's rule, else {"rope_type": "factors",
 * "factors": [head_dim / 2 numbers]}: frequency i is divided by factor i. */
lb_status lb_gguf_rope_scaling(const lb_gguf *gguf, const char *arch, double theta, size_t head_dim,
                               json_t **out, lb_error *err);

#endif
