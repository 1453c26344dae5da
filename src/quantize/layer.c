/* SPDX-License-Identifier: MIT */
#include "quantize/layer.h"

#include "base/alloc.h"
#include "base/thread.h"

size_t lb_layer_row_params(const lb_layer *l)
{
    return lb_format_groups(&l->format, l->cols) * l->format.params;
}

lb_status lb_layer_alloc(lb_layer *l, lb_error *err)
{
    LB_TRY(lb_alloc_array(&l->codes, l->rows, l->cols, l->name, err));
    return lb_alloc_array(&l->params, l->rows, lb_layer_row_params(l) * sizeof *l->params, l->name, err);
}

typedef struct decode_job {
    const lb_layer *layer;
    float *out;
} decode_job;

static void decode_rows(void *arg, size_t begin, size_t end)
{
    const decode_job *j = arg;
    const lb_layer *l = j->layer;
    const size_t params = lb_layer_row_params(l);
    for (size_t row = begin; row < end; row++)
        lb_format_decode_row(&l->format, l->codes + row * l->cols, l->params + row * params, l->cols,
                             j->out + row * l->cols);
}

void lb_layer_decode(const lb_layer *l, float *out)
{
    decode_job job = {l, out};
    lb_parallel_for(l->rows, 32, decode_rows, &job);
}
