/* SPDX-License-Identifier: MIT
 * See to_awq.c. */
#ifndef LB_EXPORT_TO_AWQ_H
#define LB_EXPORT_TO_AWQ_H

#include "export/source.h"

lb_status lb_export_awq(const lb_weights *weights, const lb_export_options *options, lb_export_result *result,
                        lb_error *err);

#endif
