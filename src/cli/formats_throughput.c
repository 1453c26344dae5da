/* SPDX-License-Identifier: MIT */
#include "cli/formats_throughput.h"

#include <stdio.h>

/* Low precision at twice and at four times the rate of high precision, as matrix units of other machines have it. */
static const double ratios[] = {2.0, 4.0};
enum { RATIOS = sizeof ratios / sizeof *ratios };

static double measured_ratio(const lb_throughput *m)
{
    return m->w4a4 / m->w4a8;
}

void lb_print_throughput(const lb_throughput *m)
{
    const double here = measured_ratio(m);
    puts("\nThroughput of two precisions, S of them low and r times as fast, over all high (sqH/L-bB-sS)");
    printf("%-8s", "S");
    for (size_t k = 0; k < RATIOS; k++)
        printf("   r = %g: serial %10s", ratios[k], "parallel");
    printf("   here, r = %.2f: serial %10s\n", here, "measured");
    for (size_t i = 0; i < LB_THROUGHPUT_SHARES; i++) {
        const double s = lb_throughput_shares[i];
        printf("%-8g", s);
        for (size_t k = 0; k < RATIOS; k++)
            printf("   %13.2f %10.2f", lb_serial_speedup(s, ratios[k]), lb_parallel_speedup(s, ratios[k]));
        printf("   %21.2f %10.2f\n", lb_serial_speedup(s, here), m->mixed[i] / m->w4a8);
    }
    printf("Parallel units hide the high part from S = 1 - 1/r on: %g at r = 2, %g at r = 4.\n",
           lb_parallel_share(2.0), lb_parallel_share(4.0));
    printf("Here, in 10^9 products a second: W8A8 %.1f, W4A8 %.1f, W4A4 %.1f. Numbers of 4 bits are "
           "multiplied as\n"
           "8-bit ones, so r is what unpacking leaves of it; arXiv:2512.05409 reports 1.71 over W4A8 on a "
           "GPU, 89 %% "
           "of W4A4.\n",
           m->w8a8 / 1e9, m->w4a8 / 1e9, m->w4a4 / 1e9);
}

static json_t *row_json(double share, const lb_throughput *m, size_t i)
{
    const double here = measured_ratio(m);
    json_t *models = json_array();
    for (size_t k = 0; k < RATIOS; k++)
        json_array_append_new(models, json_pack("{s:f, s:f, s:f}", "ratio", ratios[k], "serial",
                                                lb_serial_speedup(share, ratios[k]), "parallel",
                                                lb_parallel_speedup(share, ratios[k])));
    return json_pack("{s:f, s:o, s:f, s:f}", "low_share", share, "models", models, "serial_here",
                     lb_serial_speedup(share, here), "measured", m->mixed[i] / m->w4a8);
}

json_t *lb_throughput_json(const lb_throughput *m)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < LB_THROUGHPUT_SHARES; i++)
        json_array_append_new(rows, row_json(lb_throughput_shares[i], m, i));
    return json_pack("{s:f, s:f, s:f, s:f, s:o}", "w8a8_products_per_s", m->w8a8, "w4a8_products_per_s",
                     m->w4a8, "w4a4_products_per_s", m->w4a4, "ratio", measured_ratio(m), "speedups", rows);
}
