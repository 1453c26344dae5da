/* SPDX-License-Identifier: MIT
 * What the two simde_high programs share: the emulated kernels (lb_fill_emulated) through shapes and extremes. */
#include "kernels/sq_cases.h"

#include "kernels/block_codec.h"
#include "kernels/ref.h"

static lb_kernels emulated;
static const lb_kernels *const table = &emulated;

static void shapes(void **state)
{
    (void)state;
    lb_rng rng;
    lb_rng_seed(&rng, 11);
    check_sq_shapes(&rng, &table, 1, table, true);
}

int main(void)
{
    lb_fill_ref(&emulated);
    lb_fill_block_codec_ref(&emulated);
    lb_fill_emulated(&emulated);
    const struct CMUnitTest tests[] = {cmocka_unit_test(shapes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
