#include "core/base/crc32c.h"

#include <stdatomic.h>
#include <string.h>

#define CRC32C_POLY UINT32_C(0x82F63B78)

static uint32_t crc_table[256];
static _Atomic int crc_table_ready;

/*
 * Filled by whoever comes first; two threads write the same values, and readers look only after
 * `ready`.
 */
static const uint32_t *table_get(void)
{
    if (!atomic_load_explicit(&crc_table_ready, memory_order_acquire)) {
        uint32_t fresh[256];
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;
            for (int k = 0; k < 8; k++) {
                c = (c & 1) != 0 ? (c >> 1) ^ CRC32C_POLY : c >> 1;
            }
            fresh[i] = c;
        }
        static _Atomic int claimed;
        if (atomic_exchange(&claimed, 1) == 0) {
            memcpy(crc_table, fresh, sizeof crc_table);
            atomic_store_explicit(&crc_table_ready, 1, memory_order_release);
        }
        while (!atomic_load_explicit(&crc_table_ready, memory_order_acquire)) {
        }
    }
    return crc_table;
}

uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len)
{
    const uint32_t *table = table_get();
    const uint8_t *p = data;
    uint32_t c = ~crc;

    for (size_t i = 0; i < len; i++) {
        c = table[(c ^ p[i]) & 0xFF] ^ (c >> 8);
    }
    return ~c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t len)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;

    for (; len >= 8; len -= 8, p += 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        c = __builtin_ia32_crc32di(c, word);
    }
    for (; len > 0; len--, p++) {
        c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    }
    return ~(uint32_t)c;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
    static _Atomic int has_sse42; /* 0 not asked yet, 1 yes, 2 no */
    int has = atomic_load_explicit(&has_sse42, memory_order_relaxed);
    if (has == 0) {
        has = __builtin_cpu_supports("sse4.2") ? 1 : 2;
        atomic_store_explicit(&has_sse42, has, memory_order_relaxed);
    }
    if (has == 1) {
        return crc32c_sse42(crc, data, len);
    }
#endif
    return crc32c_portable(crc, data, len);
}
