/* SPDX-License-Identifier: MIT
 * See to_auto_round.c. */
#ifndef LB_EXPORT_TO_AUTO_ROUND_H
#define LB_EXPORT_TO_AUTO_ROUND_H

#include "export/source.h"

lb_status lb_export_auto_round(const lb_weights *weights, const lb_export_options *options,
                               lb_export_result *result, lb_error *err);

#endif
