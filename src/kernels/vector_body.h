/* SPDX-License-Identifier: MIT
 *
 * The element-wise loops of a transformer block, written once in plain C and compiled once per
 * instruction set (the includer defines LB_FILL_VECTOR, the name of the function that enters them into
 * a table). Sums run in LANES separate lanes that are
 * joined in a fixed order, so that every instruction set gives the same bits.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/vector.h"

enum { LANES = 16 };

/* e^x to about 2 ulp, without branches so that loops over it vectorise; x is held to [-87, 88].
 * Range reduction by ln 2 in two parts, then a polynomial of degree 6 on [-ln2/2, ln2/2]. */
static inline float exp_within(float x)
{
    const float no_fraction = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < -87.0f ? -87.0f : x;
    x = x > 88.0f ? 88.0f : x;
    float n = (x * 1.44269504f + no_fraction) - no_fraction;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    int32_t bits = ((int32_t)n + 127) * (1 << 23);
    float power;
    memcpy(&power, &bits, sizeof power);
    return p * power;
}

static float join(const float *lanes)
{
    float halves[LANES / 2];
    for (size_t k = 0; k < LANES / 2; k++)
        halves[k] = lanes[k] + lanes[k + LANES / 2];
    for (size_t width = LANES / 4; width > 0; width /= 2)
        for (size_t k = 0; k < width; k++)
            halves[k] += halves[k + width];
    return halves[0];
}

static void rms_norm(const float *x, const float *weight, size_t n, float eps, float *out)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += x[i + k] * x[i + k];
    for (; i < n; i++)
        lanes[i % LANES] += x[i] * x[i];
    const float scale = 1.0f / sqrtf(join(lanes) / (float)n + eps);
    for (i = 0; i < n; i++)
        out[i] = x[i] * scale * weight[i];
}

static void silu_mul(const float *gate, const float *up, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + exp_within(-gate[i])) * up[i];
}

/* Each pass is a loop that compilers vectorise; fused into one they do not. */
static void softmax(float *x, size_t n)
{
    float lanes[LANES], largest = x[0];
    for (size_t k = 0; k < LANES; k++)
        lanes[k] = x[0];
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] = x[i + k] > lanes[k] ? x[i + k] : lanes[k];
    for (; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (size_t k = 0; k < LANES; k++)
        largest = lanes[k] > largest ? lanes[k] : largest;
    for (i = 0; i < n; i++)
        x[i] = exp_within(x[i] - largest);
    memset(lanes, 0, sizeof lanes);
    for (i = 0; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += x[i + k];
    for (; i < n; i++)
        lanes[i % LANES] += x[i];
    const float scale = 1.0f / join(lanes);
    for (i = 0; i < n; i++)
        x[i] *= scale;
}

void LB_FILL_VECTOR(lb_kernels *table)
{
    table->rms_norm = rms_norm;
    table->silu_mul = silu_mul;
    table->softmax = softmax;
}
