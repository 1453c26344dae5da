/* SPDX-License-Identifier: MIT
 * What concerns the library as a whole. */
#include "lowbit/lowbit.h"

#include "base/thread.h"

const char *lb_version(void)
{
    return LB_VERSION;
}

void lb_set_threads(unsigned count)
{
    lb_thread_set_count(count);
}
