/* SPDX-License-Identifier: MIT
 * base/cpu: names, and what the operating system says about the same processor. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/cpu.h"

static void names_go_both_ways(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        lb_cpu_level level, parsed;
    } rows[] = {
        {"ref", LB_CPU_REF, LB_CPU_REF},
#if defined(__x86_64__) || defined(__i386__)
        {"avx2", LB_CPU_AVX2, LB_CPU_AVX2},
        {"avx512", LB_CPU_AVX512, LB_CPU_AVX512VNNI}, /* the best AVX-512 there is */
        {"avx512vnni", LB_CPU_AVX512VNNI, LB_CPU_AVX512VNNI},
#elif defined(__aarch64__)
        {"neon", LB_CPU_NEON, LB_CPU_NEON},
#endif
    };
    char names[64] = "";
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lb_cpu_level level = LB_CPU_REF;
        assert_string_equal(lb_cpu_level_name(rows[i].level), rows[i].name);
        assert_true(lb_cpu_level_parse(rows[i].name, &level));
        assert_int_equal(level, rows[i].parsed);
        snprintf(names + strlen(names), sizeof names - strlen(names), "%s%s", i ? "|" : "", rows[i].name);
    }
    assert_string_equal(names, LB_CPU_NAMES);
}

static void other_names_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",     "AVX2",    "avx",  "avx2 ", "avx512vnn",
                                        "best", "unknown", "NEON", "neo",
#ifdef __aarch64__
                                        "avx2"}; /* another architecture's */
#else
                                        "neon"};
#endif
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        lb_cpu_level level = LB_CPU_BEST;
        assert_false(lb_cpu_level_parse(wrong[i], &level));
        assert_int_equal(level, LB_CPU_BEST);
    }
}

#if defined(__x86_64__) || defined(__i386__)

/* The value of the first line of /proc/cpuinfo that begins with `key`, blanks at both ends kept, so that
 * whole words can be searched for. */
static int cpuinfo(const char *key, char *value, size_t size)
{
    FILE *f = fopen("/proc/cpuinfo", "r");
    char line[8192];
    int found = 0;
    while (f && !found && fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (!colon || strncmp(line, key, strlen(key)) != 0)
            continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(value, size, "%s ", colon + 1);
        found = 1;
    }
    if (f)
        fclose(f);
    return found;
}

static int has_flags(const char *flags, const char *const *names)
{
    for (; *names; names++) {
        char word[32];
        snprintf(word, sizeof word, " %s ", *names);
        if (!strstr(flags, word))
            return 0;
    }
    return 1;
}

#endif

static void the_level_is_what_the_kernel_says(void **state)
{
    (void)state;
    lb_cpu_level want = LB_CPU_BEST;
#if defined(__x86_64__) || defined(__i386__)
    static const char *const avx2[] = {"avx2", "fma", "f16c", "bmi2", NULL};
    static const char *const avx512[] = {"avx512f", "avx512bw", "avx512vl", "avx512dq", NULL};
    static const char *const vnni[] = {"avx512_vnni", NULL};
    char flags[8192];
    if (!cpuinfo("flags", flags, sizeof flags)) {
        print_message("no flags in /proc/cpuinfo\n");
        skip();
    }
    want = has_flags(flags, avx2) ? LB_CPU_AVX2 : LB_CPU_REF;
    if (want == LB_CPU_AVX2 && has_flags(flags, avx512))
        want = has_flags(flags, vnni) ? LB_CPU_AVX512VNNI : LB_CPU_AVX512;
#endif
    assert_int_equal(lb_cpu_detect(), want);
    assert_int_equal(lb_cpu_detect(), want); /* the cached answer */
}

static void the_model_has_a_name(void **state)
{
    (void)state;
    const char *model = lb_cpu_model();
    size_t length = strlen(model);
    assert_in_range(length, 1, 48);
    assert_true(model[0] != ' ' && model[length - 1] != ' ');
#if defined(__x86_64__) || defined(__i386__)
    char name[8192];
    if (cpuinfo("model name", name, sizeof name))
        assert_non_null(strstr(name, model));
#endif
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_both_ways),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(the_level_is_what_the_kernel_says),
        cmocka_unit_test(the_model_has_a_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
