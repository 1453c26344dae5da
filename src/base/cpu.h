/* SPDX-License-Identifier: MIT
 * Which instruction sets this machine has, asked of the processor and of the operating system. */
#ifndef LB_BASE_CPU_H
#define LB_BASE_CPU_H

#include <stdbool.h>

/* The levels of the architecture that this is compiled for, each of which includes those before it: avx2 means AVX2,
 * FMA, F16C and BMI2; avx512 means F, BW, VL and DQ; avx512vnni adds VNNI; neon is what every aarch64 processor has.
 * LB_CPU_NAMES lists their names. */
typedef enum lb_cpu_level {
    LB_CPU_REF,
#if defined(__x86_64__) || defined(__i386__)
#define LB_CPU_NAMES "ref|avx2|avx512|avx512vnni"
    LB_CPU_AVX2,
    LB_CPU_AVX512,
    LB_CPU_AVX512VNNI,
    LB_CPU_BEST = LB_CPU_AVX512VNNI
#elif defined(__aarch64__)
#define LB_CPU_NAMES "ref|neon"
    LB_CPU_NEON,
    LB_CPU_BEST = LB_CPU_NEON
#else
#define LB_CPU_NAMES "ref"
    LB_CPU_BEST = LB_CPU_REF
#endif
} lb_cpu_level;

/* The best level of this machine (on x86 asked by cpuid and xgetbv, cached). */
lb_cpu_level lb_cpu_detect(void);
/* One of LB_CPU_NAMES. */
const char *lb_cpu_level_name(lb_cpu_level level);
/* The level of that name ("avx512" means the best AVX-512 there is); false when there is none. */
bool lb_cpu_level_parse(const char *name, lb_cpu_level *out);
/* The processor's own name ("AMD EPYC ..."), or "unknown". */
const char *lb_cpu_model(void);

#endif
