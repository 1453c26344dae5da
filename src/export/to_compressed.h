/* SPDX-License-Identifier: MIT
 * See to_compressed.c. */
#ifndef LB_EXPORT_TO_COMPRESSED_H
#define LB_EXPORT_TO_COMPRESSED_H

#include "export/source.h"

lb_status lb_export_compressed(const lb_weights *weights, const lb_export_options *options,
                               lb_export_result *result, lb_error *err);

#endif
