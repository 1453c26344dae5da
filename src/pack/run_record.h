/* SPDX-License-Identifier: MIT
 * What an unfinished run is recognised by: a JSON object in its folder. */
#ifndef LB_PACK_RUN_RECORD_H
#define LB_PACK_RUN_RECORD_H

#include <jansson.h>

#include "base/error.h"

#define LB_RUN_RECORD_NAME "lowbit-run.json"

/* LB_EINVAL unless the folder's record is `record`, naming the first key that differs. */
lb_status lb_run_record_check(const char *folder, const json_t *record, lb_error *err);

#endif
