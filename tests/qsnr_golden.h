/* SPDX-License-Identifier: MIT
 * The rows of tests/golden/qsnr/qsnr_public.csv, under lowbit's names of formats. */
#ifndef LB_TESTS_QSNR_GOLDEN_H
#define LB_TESTS_QSNR_GOLDEN_H

#include "near.h"

#include <ctype.h>
#include <stdlib.h>

typedef struct qsnr_row {
    char format[32];
    char distribution[32]; /* lowbit's name: "gaussian", "gaussian-crest:3" */
    double crest; /* 0: gaussian */
    bool rotated;
    double db;
} qsnr_row;

enum { QSNR_ROWS = 173 };

/* "MXFP8_E4M3", "ocp" -> "mxfp8-e4m3-ocp" */
static inline void qsnr_format_name(const char *format, const char *rule, char *out, size_t bytes)
{
    char name[32];
    size_t n = 0;
    for (; format[n] && n < sizeof name - 1; n++)
        name[n] = format[n] == '_' ? '-' : (char)tolower((unsigned char)format[n]);
    name[n] = '\0';
    if (strcmp(name, "mxfp4-e2m1") == 0)
        name[5] = '\0';
    const bool own = strcmp(rule, "ceil") == 0 || strcmp(rule, "e4m3_fp32") == 0;
    snprintf(out, bytes, "%s%s%s", name, own ? "" : "-", own ? "" : rule);
}

static inline const qsnr_row *qsnr_rows(void)
{
    static qsnr_row rows[QSNR_ROWS];
    char line[256], format[64], rule[64], distribution[64];
    size_t count = 0;
    double n;
    FILE *f = fopen("tests/golden/qsnr/qsnr_public.csv", "r");
    assert_non_null(f);
    assert_non_null(fgets(line, sizeof line, f)); /* the header */
    while (fgets(line, sizeof line, f)) {
        assert_true(count < QSNR_ROWS);
        qsnr_row *r = &rows[count++];
        assert_int_equal(
            sscanf(line, "%63[^,],%63[^,],%63[^,],%lf,%lf", format, rule, distribution, &n, &r->db), 5);
        qsnr_format_name(format, rule, r->format, sizeof r->format);
        r->crest = strncmp(distribution, "gauss_crest_", 12) == 0 ? strtod(distribution + 12, NULL) : 0.0;
        r->rotated = strcmp(distribution, "gauss_sigma1_rht") == 0;
        assert_true(r->crest > 0.0 || r->rotated || strcmp(distribution, "gauss_sigma1") == 0);
        if (r->crest > 0.0)
            snprintf(r->distribution, sizeof r->distribution, "gaussian-crest:%g", r->crest);
        else
            snprintf(r->distribution, sizeof r->distribution, "gaussian");
    }
    fclose(f);
    assert_int_equal(count, QSNR_ROWS);
    return rows;
}

#endif
