/* SPDX-License-Identifier: MIT
 *
 * Asks cpuid what the processor can do and xgetbv which registers the operating system saves: an
 * instruction set counts only when both agree. Bit numbers: Intel SDM vol. 2A, CPUID. */
#define _GNU_SOURCE
#include "base/cpu.h"

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) || defined(__i386__)
#define HAVE_CPUID 1
#include <cpuid.h>
#endif

static const struct {
    const char *name;
    lb_cpu_level meant; /* by that name */
} levels[LB_CPU_BEST + 1] = {
    {"ref", LB_CPU_REF},
#if defined(HAVE_CPUID)
    {"avx2", LB_CPU_AVX2},
    {"avx512", LB_CPU_AVX512VNNI},
    {"avx512vnni", LB_CPU_AVX512VNNI},
#elif defined(__aarch64__)
    {"neon", LB_CPU_NEON},
#endif
};

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static lb_cpu_level level_found = LB_CPU_REF;
static char model_found[3 * 16 + 1] = "unknown";

#ifdef HAVE_CPUID

#define BIT(n) (UINT32_C(1) << (n))

static const uint32_t LEAF1_ECX_AVX2 = BIT(12) | BIT(27) | BIT(28) | BIT(29); /* FMA OSXSAVE AVX F16C */
static const uint32_t LEAF7_EBX_AVX2 = BIT(5) | BIT(8); /* AVX2 BMI2 */
static const uint32_t LEAF7_EBX_AVX512 = BIT(16) | BIT(17) | BIT(30) | BIT(31); /* F DQ BW VL */
static const uint32_t LEAF7_ECX_VNNI = BIT(11);
static const uint32_t SAVED_YMM = BIT(1) | BIT(2);
static const uint32_t SAVED_ZMM = BIT(1) | BIT(2) | BIT(5) | BIT(6) | BIT(7);

static bool has_all(uint32_t word, uint32_t wanted)
{
    return (word & wanted) == wanted;
}

static uint32_t saved_registers(void)
{
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static lb_cpu_level find_level(void)
{
    uint32_t eax, ebx, ecx, edx;
    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx) || !has_all(ecx, LEAF1_ECX_AVX2))
        return LB_CPU_REF;
    uint32_t saved = saved_registers(); /* only legal where OSXSAVE is set */
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return LB_CPU_REF;
    if (!has_all(ebx, LEAF7_EBX_AVX2) || !has_all(saved, SAVED_YMM))
        return LB_CPU_REF;
    if (!has_all(ebx, LEAF7_EBX_AVX512) || !has_all(saved, SAVED_ZMM))
        return LB_CPU_AVX2;
    return has_all(ecx, LEAF7_ECX_VNNI) ? LB_CPU_AVX512VNNI : LB_CPU_AVX512;
}

/* The brand string: leaves 0x80000002 to 4, padded with blanks at either end. */
static void find_model(void)
{
    uint32_t words[12];
    for (unsigned leaf = 0; leaf < 3; leaf++) {
        uint32_t *w = words + 4 * (size_t)leaf;
        if (!__get_cpuid(0x80000002u + leaf, &w[0], &w[1], &w[2], &w[3]))
            return;
    }
    char text[sizeof words + 1];
    memcpy(text, words, sizeof words);
    text[sizeof words] = '\0';
    size_t begin = strspn(text, " "), end = strlen(text);
    while (end > begin && text[end - 1] == ' ')
        end--;
    if (end == begin)
        return;
    memcpy(model_found, text + begin, end - begin);
    model_found[end - begin] = '\0';
}

#else

/* Nothing here but what all processors of the architecture have. */
static lb_cpu_level find_level(void)
{
    return LB_CPU_BEST;
}

static void find_model(void)
{
}

#endif

static void look(void)
{
    level_found = find_level();
    find_model();
}

lb_cpu_level lb_cpu_detect(void)
{
    (void)pthread_once(&looked, look);
    return level_found;
}

const char *lb_cpu_model(void)
{
    (void)pthread_once(&looked, look);
    return model_found;
}

const char *lb_cpu_level_name(lb_cpu_level level)
{
    return (unsigned)level <= LB_CPU_BEST ? levels[level].name : "unknown";
}

bool lb_cpu_level_parse(const char *name, lb_cpu_level *out)
{
    for (unsigned level = LB_CPU_REF; level <= LB_CPU_BEST; level++) {
        if (strcmp(name, levels[level].name) == 0) {
            *out = levels[level].meant;
            return true;
        }
    }
    return false;
}
