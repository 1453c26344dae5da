/* SPDX-License-Identifier: MIT */
#include "analyze/weight_norms.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "analyze/crest.h"
#include "base/alloc.h"

enum { ROWS_AT_ONCE = 64 };

typedef struct sums {
    double squares;
    size_t count;
    lb_crest_mean crest;
} sums;

static lb_status add_layer(const lb_weight *w, size_t group, float *room, sums *s, lb_error *err)
{
    for (size_t first = 0; first < w->rows; first += ROWS_AT_ONCE) {
        const size_t rows = w->rows - first < ROWS_AT_ONCE ? w->rows - first : ROWS_AT_ONCE;
        LB_TRY(lb_weight_read(w, first, rows, room, err));
        for (size_t i = 0; i < rows * w->cols; i++)
            s->squares += (double)room[i] * room[i];
        s->count += rows * w->cols;
        LB_TRY(lb_crest_mean_add(&s->crest, group ? group : w->cols, room, rows, w->cols, err));
    }
    return LB_OK;
}

lb_status lb_weight_norms_measure(const lb_weights *weights, size_t group, lb_weight_norms *out,
                                  lb_error *err)
{
    char name[160];
    sums s = {0};
    float *room = NULL;
    lb_status st = LB_OK;
    for (size_t i = 0; i < weights->config.layers * LB_BLOCK_LINEARS; i++) {
        const unsigned which = (unsigned)(i % LB_BLOCK_LINEARS);
        size_t rows, cols;
        lb_weight w;
        lb_linear_shape(&weights->config, which, &rows, &cols);
        lb_linear_name(i / LB_BLOCK_LINEARS, which, name, sizeof name - sizeof ".weight");
        snprintf(name + strlen(name), sizeof ".weight", ".weight");
        LB_GO(lb_weights_find(weights, name, rows, cols, &w, err));
        lb_free(room);
        LB_GO(lb_alloc_array(&room, ROWS_AT_ONCE * cols, sizeof *room, "a layer's weights", err));
        LB_GO(add_layer(&w, group, room, &s, err));
    }
    *out = (lb_weight_norms){.norm = sqrt(s.squares),
                             .rms = s.count ? sqrt(s.squares / (double)s.count) : 0.0,
                             .crest = s.crest.blocks ? s.crest.sum / (double)s.crest.blocks : 0.0};
done:
    lb_free(room);
    return st;
}
