/* SPDX-License-Identifier: MIT
 * Everything that lowbit offers. */
#ifndef LOWBIT_LOWBIT_H
#define LOWBIT_LOWBIT_H

#include "lowbit/engine.h"
#include "lowbit/eval.h"
#include "lowbit/export.h"
#include "lowbit/formats.h"
#include "lowbit/generate.h"
#include "lowbit/quantize.h"
#include "lowbit/serve.h"
#include "lowbit/status.h"
#include "lowbit/tasks.h"
#include "lowbit/tokenizer.h"
#include "lowbit/train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* "0.1.0". */
LB_API const char *lb_version(void);

/* How many threads the library may use, process-wide; 0 (the default): the cores that this process may
 * use. Results do not depend on it. */
LB_API void lb_set_threads(unsigned count);

#ifdef __cplusplus
}
#endif
#endif
