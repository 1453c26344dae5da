/* SPDX-License-Identifier: MIT
 * See to_gptq.c. */
#ifndef LB_EXPORT_TO_GPTQ_H
#define LB_EXPORT_TO_GPTQ_H

#include "export/source.h"

lb_status lb_export_gptq(const lb_weights *weights, const lb_export_options *options,
                         lb_export_result *result, lb_error *err);

#endif
