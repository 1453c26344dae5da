/* SPDX-License-Identifier: MIT
 * Builds one table per level: the portable kernels first, then each instruction set's on top. */
#define _GNU_SOURCE
#include "kernels/kernels.h"

#include <pthread.h>

#include "kernels/block_codec.h"
#include "kernels/ref.h"
#include "kernels/vector.h"
#if defined(LB_REF_ONLY)
#elif defined(__x86_64__)
#define LB_X86_KERNELS 1
#include "kernels/x86/x86.h"
#elif defined(__aarch64__)
#define LB_ARM_KERNELS 1
#include "kernels/arm/arm.h"
#endif

static pthread_once_t built = PTHREAD_ONCE_INIT;
static lb_kernels tables[LB_CPU_BEST + 1];
static lb_cpu_level best = LB_CPU_REF;

static void build(void)
{
    lb_kernels table;
    lb_fill_ref(&table);
    lb_fill_vector_ref(&table);
    lb_fill_block_codec_ref(&table);
    lb_fill_hadamard_ref(&table);
    lb_fill_planes_ref(&table);
    lb_fill_high_ref(&table);
    lb_fill_rows_ref(&table);
    tables[LB_CPU_REF] = table;
#ifdef LB_X86_KERNELS
    best = lb_cpu_detect();
    lb_fill_qmat_avx2(&table);
    lb_fill_dense_avx2(&table);
    lb_fill_vector_avx2(&table);
    lb_fill_block_codec_avx2(&table);
    lb_fill_hadamard_avx2(&table);
    lb_fill_planes_avx2(&table);
    lb_fill_high_avx2(&table);
    lb_fill_rows_avx2(&table);
    table.level = LB_CPU_AVX2;
    tables[LB_CPU_AVX2] = table;
    lb_fill_qmat_avx512(&table);
    lb_fill_rows_avx512(&table);
    lb_fill_block_codec_avx512(&table);
    lb_fill_hadamard_avx512(&table);
    lb_fill_planes_avx512(&table);
    lb_fill_high_avx512(&table);
    table.level = LB_CPU_AVX512;
    tables[LB_CPU_AVX512] = table;
    lb_fill_qmat_avx512vnni(&table);
    lb_fill_high_avx512vnni(&table);
    table.level = LB_CPU_AVX512VNNI;
    tables[LB_CPU_AVX512VNNI] = table;
#elif defined(LB_ARM_KERNELS)
    best = lb_cpu_detect();
    lb_fill_planes_neon(&table);
    table.level = LB_CPU_NEON;
    tables[LB_CPU_NEON] = table;
#endif
}

const lb_kernels *lb_kernels_get(lb_cpu_level cap)
{
    (void)pthread_once(&built, build);
    return &tables[cap < best ? cap : best];
}

lb_status lb_kernels_choose(const char *cap, const lb_kernels **out, lb_error *err)
{
    lb_cpu_level level = LB_CPU_BEST;
    if (cap && !lb_cpu_level_parse(cap, &level))
        return lb_fail(err, LB_EINVAL, "there are no kernels called \"%.40s\" here: there are " LB_CPU_NAMES,
                       cap);
    *out = lb_kernels_get(level);
    return LB_OK;
}
