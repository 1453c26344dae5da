/* SPDX-License-Identifier: MIT */
#include "base/rng.h"

#include <math.h>

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

void lb_rng_seed(lb_rng *rng, uint64_t seed)
{
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t z = seed;
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        rng->state[i] = z ^ (z >> 31);
    }
}

uint64_t lb_rng_u64(lb_rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double lb_rng_uniform(lb_rng *rng)
{
    return (double)(lb_rng_u64(rng) >> 11) * 0x1p-53;
}

uint64_t lb_rng_below(lb_rng *rng, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n; /* values at or above it would favour small results */
    uint64_t x;
    do {
        x = lb_rng_u64(rng);
    } while (x >= limit);
    return x % n;
}

void lb_rng_shuffle(lb_rng *rng, size_t *items, size_t count)
{
    for (size_t i = count; i > 1; i--) {
        const size_t k = (size_t)lb_rng_below(rng, i), item = items[k];
        items[k] = items[i - 1];
        items[i - 1] = item;
    }
}

double lb_rng_normal(lb_rng *rng)
{
    double u = 1.0 - lb_rng_uniform(rng); /* in (0, 1]: the logarithm is finite */
    double v = lb_rng_uniform(rng);
    return sqrt(-2.0 * log(u)) * cos(6.283185307179586 * v);
}
