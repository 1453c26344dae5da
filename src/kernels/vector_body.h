/* SPDX-License-Identifier: MIT
 *
 * The element-wise loops of a transformer block, written once in plain C and compiled once per
 * instruction set (the includer defines LB_FILL_VECTOR, the name of the function that enters them into
 * a table). Sums run in LANES separate lanes that are
 * joined in a fixed order, so that every instruction set gives the same bits.
 */
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/vector.h"

enum { LANES = 16 };

typedef struct exp_range {
    float least, most;
} exp_range;

/* Read at run time: a compiler that knows these numbers computes what lies beyond them as a case of its own, for
 * every element, and its denormal results make the loop several times slower. */
static inline exp_range exp_limits(void)
{
    static const volatile float limits[2] = {-87.0f, 88.0f};
    return (exp_range){limits[0], limits[1]};
}

/* e^x to about 2 ulp, without branches so that loops over it vectorise; x is held to the range.
 * Range reduction by ln 2 in two parts, then a polynomial of degree 6 on [-ln2/2, ln2/2]. */
static inline float exp_within(exp_range range, float x)
{
    const float no_fraction = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    x = x < range.least ? range.least : x;
    x = x > range.most ? range.most : x;
    const float shifted = x * 1.44269504f + no_fraction;
    float n = shifted - no_fraction;
    float r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    float p = 1.0f / 5040.0f;
    p = p * r + 1.0f / 720.0f;
    p = p * r + 1.0f / 120.0f;
    p = p * r + 1.0f / 24.0f;
    p = p * r + 1.0f / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    uint32_t bits; /* n is in the low ones of shifted; to convert a NaN would be undefined */
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits - 0x4b400000u + 127u) << 23;
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
    const exp_range range = exp_limits();
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i] / (1.0f + exp_within(range, -gate[i])) * up[i];
}

/* e^(x factor - largest) in place, and their sum: softmax but for the last division. Each pass is a loop that compilers
 * vectorise; fused into one they do not. The factor comes after the maximum, since rounding keeps the order. */
static float exp_sum(float *x, size_t n, float factor, float *largest_out)
{
    const exp_range range = exp_limits();
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
    largest *= factor;
    for (i = 0; i < n; i++)
        x[i] = exp_within(range, x[i] * factor - largest);
    memset(lanes, 0, sizeof lanes);
    for (i = 0; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += x[i + k];
    for (; i < n; i++)
        lanes[i % LANES] += x[i];
    *largest_out = largest;
    return join(lanes);
}

static void softmax(float *x, size_t n)
{
    float largest;
    const float scale = 1.0f / exp_sum(x, n, 1.0f, &largest);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* Rounded as activation.h says, in loops that compilers vectorise. */
static void int8_encode(const float *x, size_t n, int8_t *codes, float *scale_out)
{
    const float no_fraction = 12582912.0f;
    float lanes[LANES] = {0}, largest = 0.0f;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        for (size_t k = 0; k < LANES; k++) {
            const float magnitude = fabsf(x[i + k]);
            lanes[k] = magnitude > lanes[k] ? magnitude : lanes[k]; /* false for NaN */
        }
    }
    for (; i < n; i++)
        largest = fabsf(x[i]) > largest ? fabsf(x[i]) : largest;
    for (size_t k = 0; k < LANES; k++)
        largest = lanes[k] > largest ? lanes[k] : largest;
    float scale = (largest < FLT_MAX ? largest : FLT_MAX) / 127.0f;
    scale = scale >= FLT_MIN ? scale : 0.0f;
    const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (i = 0; i < n; i++) {
        float scaled = x[i] * inverse;
        scaled = scaled == scaled ? scaled : 0.0f;
        scaled = scaled > 127.0f ? 127.0f : scaled;
        scaled = scaled < -127.0f ? -127.0f : scaled;
        const float shifted = scaled + no_fraction; /* the integer is in the low bits */
        int32_t bits;
        memcpy(&bits, &shifted, sizeof bits);
        codes[i] = (int8_t)(bits - 0x4b400000);
    }
    *scale_out = scale;
}

/* y_i = x_i s w_i with s = (mean x^2 + eps)^(-1/2), so dx_i = s (w_i d_i - x_i s^2 mean(x w d)). */
static void rms_norm_grad(const float *x, const float *weight, const float *d, size_t n, float eps,
                          const float *plus, float *dx, float *dweight)
{
    float squares[LANES] = {0}, products[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            squares[k] += x[i + k] * x[i + k];
    for (; i < n; i++)
        squares[i % LANES] += x[i] * x[i];
    for (i = 0; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            products[k] += x[i + k] * weight[i + k] * d[i + k];
    for (; i < n; i++)
        products[i % LANES] += x[i] * weight[i] * d[i];
    const float s = 1.0f / sqrtf(join(squares) / (float)n + eps);
    const float back = s * s * (join(products) / (float)n);
    for (i = 0; dweight && i < n; i++)
        dweight[i] += x[i] * s * d[i];
    if (plus)
        for (i = 0; i < n; i++)
            dx[i] = plus[i] + s * (weight[i] * d[i] - x[i] * back);
    else
        for (i = 0; i < n; i++)
            dx[i] = s * (weight[i] * d[i] - x[i] * back);
}

static void silu_mul_grad(const float *gate, const float *up, const float *d, size_t n, float *dgate,
                          float *dup)
{
    const exp_range range = exp_limits();
    for (size_t i = 0; i < n; i++) {
        const float g = gate[i], u = up[i], out = d[i];
        const float sigmoid = 1.0f / (1.0f + exp_within(range, -g));
        dgate[i] = out * u * (sigmoid * (1.0f + g * (1.0f - sigmoid)));
        dup[i] = out * (g * sigmoid);
    }
}

/* p_i = e^x_i / sum, so dx_i = p_i (d_i - sum_j p_j d_j). */
static void softmax_grad(const float *p, float *d, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += p[i + k] * d[i + k];
    for (; i < n; i++)
        lanes[i % LANES] += p[i] * d[i];
    const float mean = join(lanes);
    for (i = 0; i < n; i++)
        d[i] = p[i] * (d[i] - mean);
}

static float sum_squares(const float *x, size_t n)
{
    float lanes[LANES] = {0};
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            lanes[k] += x[i + k] * x[i + k];
    for (; i < n; i++)
        lanes[i % LANES] += x[i] * x[i];
    return join(lanes);
}

static void adamw(const lb_adamw_step *step, const float *restrict g, size_t n, float *restrict w,
                  float *restrict m, float *restrict v)
{
    const lb_adamw_step s = *step;
    const float new_m = 1.0f - s.beta1, new_v = 1.0f - s.beta2;
    for (size_t i = 0; i < n; i++) {
        const float d = g[i] * s.scale;
        m[i] = s.beta1 * m[i] + new_m * d;
        v[i] = s.beta2 * v[i] + new_v * (d * d);
        w[i] = s.keep * w[i] - s.rate * m[i] / (s.root * sqrtf(v[i]) + s.eps);
    }
}

void LB_FILL_VECTOR(lb_kernels *table)
{
    table->rms_norm = rms_norm;
    table->silu_mul = silu_mul;
    table->softmax = softmax;
    table->exp_sum = exp_sum;
    table->int8_encode = int8_encode;
    table->rms_norm_grad = rms_norm_grad;
    table->silu_mul_grad = silu_mul_grad;
    table->softmax_grad = softmax_grad;
    table->sum_squares = sum_squares;
    table->adamw = adamw;
}
