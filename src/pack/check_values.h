/* SPDX-License-Identifier: MIT
 * Every number of a model is looked at before work on it begins: a NaN in the last block is better found before hours
 * than after. */
#ifndef LB_PACK_CHECK_VALUES_H
#define LB_PACK_CHECK_VALUES_H

#include "model/weights.h"
#include "quantize/recipe.h"

/* LB_EFORMAT, with the tensor's name and place, where one is not finite; LB_EINVAL where a layer's weights are beyond
 * the scales of the format that it shall have, or of a candidate. (A rotation changes magnitudes: then that is left to
 * the pipeline.) */
lb_status lb_check_values(const lb_weights *weights, const lb_recipe *recipe, const lb_progress *progress,
                          lb_error *err);

#endif
