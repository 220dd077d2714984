/*
 * Pseudo-random numbers: xoshiro256** (Blackman, Vigna 2018), seeded through splitmix64. Not for
 * secrets. The seed comes from outside (struct clock's random_seed in production, the test's seed
 * in a simulation): code that needs chance takes a struct rand, never a global.
 */
#ifndef CORE_BASE_RAND_H
#define CORE_BASE_RAND_H

#include <stdint.h>

struct rand {
    uint64_t s[4];
};

void rand_init(struct rand *r, uint64_t seed);
uint64_t rand_u64(struct rand *r);
uint64_t rand_below(struct rand *r, uint64_t bound); /* uniform in [0, bound); bound > 0 */

#endif
