/* SPDX-License-Identifier: MIT
 * See to_safetensors.c. */
#ifndef LB_EXPORT_TO_SAFETENSORS_H
#define LB_EXPORT_TO_SAFETENSORS_H

#include "export/source.h"

lb_status lb_export_safetensors(const lb_weights *weights, const lb_export_options *options,
                                lb_export_result *result, lb_error *err);

#endif
