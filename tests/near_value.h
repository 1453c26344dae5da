/* SPDX-License-Identifier: MIT
 * near.h for one number. */
#ifndef LB_TESTS_NEAR_VALUE_H
#define LB_TESTS_NEAR_VALUE_H

#include "near.h"

/* |got - want| <= bound, or both the same infinity */
#define near_value(got, want, bound) \
    do { \
        const double near_got = (got), near_want = (want); \
        lb_near_check(&near_got, sizeof near_got, &near_want, sizeof near_want, 1, (bound), NULL, false, \
                      #got " near " #want, __FILE__, __LINE__); \
    } while (0)

#endif
