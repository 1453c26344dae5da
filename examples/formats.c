/* SPDX-License-Identifier: MIT
 * What number formats make of a bell curve:   formats [FORMAT ...]
 * Bits per weight, and how far the noise of rounding lies below the signal. */
#include <lowbit/lowbit.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROWS = 64, COLS = 1024 };

/* The sum of twelve uniform numbers is close to normal. */
static void fill(float *values, size_t count)
{
    srand(1);
    for (size_t i = 0; i < count; i++) {
        double sum = -6;
        for (int k = 0; k < 12; k++)
            sum += rand() / (double)RAND_MAX;
        values[i] = (float)sum;
    }
}

static int measure(const char *format, const float *values, float *rounded)
{
    lb_packed *packed;
    lb_error err;
    double signal = 0, noise = 0;
    if (lb_pack(format, values, ROWS, COLS, NULL, &packed, &err) != LB_OK ||
        lb_unpack(packed, rounded, &err) != LB_OK) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    for (size_t i = 0; i < (size_t)ROWS * COLS; i++) {
        signal += (double)values[i] * values[i];
        noise += pow((double)rounded[i] - values[i], 2);
    }
    printf("%-18s %7.3f bits", lb_packed_format(packed), lb_packed_bits_per_weight(packed));
    if (noise > 0)
        printf(" %7.2f dB", 10 * log10(signal / noise));
    printf("\n");
    lb_packed_free(packed);
    return 0;
}

int main(int argc, char **argv)
{
    static float values[ROWS * COLS], rounded[ROWS * COLS];
    int failures = 0;
    fill(values, (size_t)ROWS * COLS);
    for (int i = 1; i < argc; i++)
        failures += measure(argv[i], values, rounded);
    for (size_t i = 0; argc == 1 && lb_format_listed(i); i++)
        failures += measure(lb_format_listed(i), values, rounded);
    return failures > 0;
}
