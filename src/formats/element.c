/* SPDX-License-Identifier: MIT
 * The elements there are. */
#include "formats/element.h"

#define DEFINE(symbol, ...) const lb_element lb_##symbol = {#symbol, __VA_ARGS__};
LB_ELEMENTS(DEFINE)
