/* SPDX-License-Identifier: MIT */
#include "model/norm_grad.h"

#include <string.h>

#include "base/thread.h"

/* A chunk of rows has a sum of its own, so that the sum over all does not depend on who made which. */
enum { ROWS_PER_CHUNK = 128 };

typedef struct norm_job {
    const lb_kernels *kernels;
    const lb_norm_grad *g;
} norm_job;

static size_t chunks(size_t rows)
{
    return (rows + ROWS_PER_CHUNK - 1) / ROWS_PER_CHUNK;
}

size_t lb_norm_grad_partials(size_t rows, size_t n)
{
    return chunks(rows) * n;
}

static void norm_rows(void *arg, size_t begin, size_t end)
{
    const norm_job *j = arg;
    const lb_norm_grad *g = j->g;
    float *dweight = g->dweight ? g->partials + begin / ROWS_PER_CHUNK * g->n : NULL;
    if (dweight)
        memset(dweight, 0, g->n * sizeof *dweight);
    for (size_t row = begin; row < end; row++) {
        const size_t at = row * g->n;
        j->kernels->rms_norm_grad(g->x + at, g->weight, g->d + at, g->n, (float)g->eps,
                                  g->plus ? g->plus + at : NULL, g->dx + at, dweight);
    }
}

void lb_norm_grad_rows(const lb_kernels *kernels, const lb_norm_grad *g)
{
    norm_job j = {.kernels = kernels, .g = g};
    lb_parallel_for(g->rows, ROWS_PER_CHUNK, norm_rows, &j);
    for (size_t i = 0; g->dweight && i < g->n; i++) {
        double sum = (double)g->dweight[i];
        for (size_t chunk = 0; chunk < chunks(g->rows); chunk++)
            sum += (double)g->partials[chunk * g->n + i];
        g->dweight[i] = (float)sum;
    }
}
