/* SPDX-License-Identifier: MIT
 * How fast a model runs here, next to the same model rounded to other formats, and next to what the
 * machine's memory could give. */
#ifndef LB_INFER_BENCH_H
#define LB_INFER_BENCH_H

#include "infer/resident.h"
#include "infer/runner.h"
#include "kernels/kv.h"

typedef struct lb_bench_options {
    size_t prompt, generate; /* tokens; both > 0 */
    size_t repeats; /* > 0 */
    lb_cpu_level level;
    lb_kv_type kv;
    uint64_t seed; /* of the prompt's ids */
    const lb_format *formats; /* [format_count] to round the blocks' linear layers to */
    size_t format_count;
    const lb_format *head; /* to round the head to in those rows; NULL: left as it is */
    lb_progress progress;
} lb_bench_options;

/* Over the repeats. */
typedef struct lb_bench_spread {
    double median, low, high;
} lb_bench_spread;

/* Sorts values [n], n > 0. */
lb_bench_spread lb_bench_spread_of(double *values, size_t n);

typedef struct lb_bench_row {
    char format[LB_FORMAT_NAME_BYTES];
    double layer_bits; /* bits per weight of the blocks' linear layers */
    size_t token_bytes; /* weights that one decoded token reads, head included, KV cache not */
    lb_bench_spread prompt; /* tokens a second */
    lb_bench_spread decode;
    lb_bench_spread products; /* seconds a token, the matrix products of decoding alone */
    lb_step_times times; /* of a decoded token, in seconds, over all repeats; decode has the whole */
    double rest; /* of a token's time */
    size_t bytes; /* of the weights in memory */
} lb_bench_row;

/* rows [1 + format_count]: the model as it is, then one a format. Repeats go round the formats (A, B,
 * C, A, B, C), so that a busy minute of the machine hits all of them. */
lb_status lb_bench_model(const lb_resident *model, const lb_bench_options *options, lb_bench_row *rows,
                         lb_error *err);

#endif
