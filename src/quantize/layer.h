/* SPDX-License-Identifier: MIT
 * The codes and params of one linear layer on its way (method.h): room for them, and what they stand for. */
#ifndef LB_QUANTIZE_LAYER_H
#define LB_QUANTIZE_LAYER_H

#include "quantize/method.h"

/* Params of a row: groups * format.params. */
size_t lb_layer_row_params(const lb_layer *layer);

/* Room for both; freed by the caller, also after an error. */
lb_status lb_layer_alloc(lb_layer *layer, lb_error *err);

/* out [rows, cols] = the values of the codes. */
void lb_layer_decode(const lb_layer *layer, float *out);

#endif
