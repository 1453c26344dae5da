/* SPDX-License-Identifier: MIT
 * How large the weights of a model's linear layers are, and how unevenly: what rounding meets. */
#ifndef LB_ANALYZE_WEIGHT_NORMS_H
#define LB_ANALYZE_WEIGHT_NORMS_H

#include "model/weights.h"

typedef struct lb_weight_norms {
    double
        norm; /* of all weights of the linear layers of all blocks together: sqrt of their sum of squares */
    double rms;
    double crest; /* max |w| / rms of a group, mean over all groups */
} lb_weight_norms;

/* Groups of `group` weights along rows, the last of a row may be short; 0: whole rows. */
lb_status lb_weight_norms_measure(const lb_weights *weights, size_t group, lb_weight_norms *out,
                                  lb_error *err);

#endif
