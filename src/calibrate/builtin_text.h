/* SPDX-License-Identifier: MIT
 * The calibration text inside the library: examples/text/calibration.txt, turned into an array at
 * build time by cmake/embed.cmake. UTF-8, not NUL-terminated. */
#ifndef LB_CALIBRATE_BUILTIN_TEXT_H
#define LB_CALIBRATE_BUILTIN_TEXT_H

#include <stddef.h>

extern const unsigned char lb_builtin_calibration[];
extern const size_t lb_builtin_calibration_size;

#endif
