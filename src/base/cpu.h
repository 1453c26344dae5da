/* SPDX-License-Identifier: MIT
 * Which instruction sets this machine has, asked of the processor and of the operating system. */
#ifndef LB_BASE_CPU_H
#define LB_BASE_CPU_H

#include <stdbool.h>

/* Each level includes those above it in its own column: avx2 means AVX2, FMA, F16C and BMI2; avx512
 * means F, BW, VL and DQ; avx512vnni adds VNNI. */
typedef enum lb_cpu_level {
    LB_CPU_REF,
    LB_CPU_AVX2,
    LB_CPU_AVX512,
    LB_CPU_AVX512VNNI,
    LB_CPU_BEST = LB_CPU_AVX512VNNI
} lb_cpu_level;

/* The best level of this machine (cpuid and xgetbv, cached). */
lb_cpu_level lb_cpu_detect(void);
/* "ref", "avx2", "avx512", "avx512vnni". */
const char *lb_cpu_level_name(lb_cpu_level level);
/* The level of that name ("avx512" means the best AVX-512 there is); false when there is none. */
bool lb_cpu_level_parse(const char *name, lb_cpu_level *out);
/* The processor's own name ("AMD EPYC ..."), or "unknown". */
const char *lb_cpu_model(void);

#endif
