/*
 * Keyed hashes for tables whose keys come from outside: SipHash-1-3 (Aumasson, Bernstein: "SipHash:
 * a fast short-input PRF", 2012), so that nobody can choose keys that collide. Any thread.
 */
#ifndef CORE_BASE_HASH_H
#define CORE_BASE_HASH_H

#include "core/base/slice.h"

#include <stdint.h>

struct hash_key {
    uint64_t k0;
    uint64_t k1;
};

struct hash128 {
    uint64_t lo;
    uint64_t hi;
};

uint64_t hash64(const struct hash_key *key, struct slice data);

/* Two independent 64-bit hashes of the same data: wide enough to stand for an id. */
struct hash128 hash_wide(const struct hash_key *key, struct slice data);

/* Mixes an integer (finalizer of MurmurHash3); for tables keyed by our own numbers. */
static inline uint64_t hash_u64(uint64_t x)
{
    x ^= x >> 33;
    x *= UINT64_C(0xff51afd7ed558ccd);
    x ^= x >> 33;
    x *= UINT64_C(0xc4ceb9fe1a85ec53);
    x ^= x >> 33;
    return x;
}

#endif
