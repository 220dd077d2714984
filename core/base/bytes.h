/*
 * Fixed-width integers to and from bytes. Big-endian for RocketMQ's wire and records, little-endian
 * for our own files.
 */
#ifndef CORE_BASE_BYTES_H
#define CORE_BASE_BYTES_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define BYTES_DEFINE(bits, end)                                                                    \
    static inline void put_##end##bits(uint8_t *dst, uint##bits##_t v)                             \
    {                                                                                              \
        v = hto##end##bits(v);                                                                     \
        memcpy(dst, &v, sizeof v);                                                                 \
    }                                                                                              \
    static inline uint##bits##_t get_##end##bits(const uint8_t *src)                               \
    {                                                                                              \
        uint##bits##_t v;                                                                          \
        memcpy(&v, src, sizeof v);                                                                 \
        return end##bits##toh(v);                                                                  \
    }

BYTES_DEFINE(16, be)
BYTES_DEFINE(32, be)
BYTES_DEFINE(64, be)
BYTES_DEFINE(16, le)
BYTES_DEFINE(32, le)
BYTES_DEFINE(64, le)

#endif
