/* SPDX-License-Identifier: MIT
 * Reproducible random numbers: the same seed gives the same numbers on every machine. */
#ifndef LB_BASE_RNG_H
#define LB_BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

/* xoshiro256** (Blackman & Vigna 2018), seeded through splitmix64. */
typedef struct lb_rng {
    uint64_t state[4];
} lb_rng;

void lb_rng_seed(lb_rng *rng, uint64_t seed);
uint64_t lb_rng_u64(lb_rng *rng);

/* Uniform in [0, 1), with 53 random bits. */
double lb_rng_uniform(lb_rng *rng);

/* Uniform in [0, n), without bias; n > 0. */
uint64_t lb_rng_below(lb_rng *rng, uint64_t n);

/* items [count] into an order that is drawn (Fisher & Yates). */
void lb_rng_shuffle(lb_rng *rng, size_t *items, size_t count);

/* Standard normal (Box-Muller; one value a call). */
double lb_rng_normal(lb_rng *rng);

#endif
