/* SPDX-License-Identifier: MIT
 * Whether a format's scales can follow a layer's weights. */
#ifndef LB_QUANTIZE_MAGNITUDE_H
#define LB_QUANTIZE_MAGNITUDE_H

#include "formats/format.h"

/* largest: the greatest magnitude of layer `name`. Scales of the integer formats and coefficients of bit planes are
 * 16-bit floats: a layer beyond their reach would come out saturated, or as zeros, and nothing else would say so.
 * LB_EINVAL then. (Block formats have scales with a float's range.) */
lb_status lb_check_magnitude(const lb_format *format, const char *name, float largest, lb_error *err);

#endif
