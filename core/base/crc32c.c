/*
 * The instruction takes eight bytes every cycle, but its result is there three cycles later. So
 * long data is done in three lanes side by side, and their registers are put together: what a
 * register becomes after a lane of zeros is linear in its bits, hence the sum of four looks into a
 * table.
 */
#include "core/base/crc32c.h"

#include <stdatomic.h>
#include <stdbool.h>
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
#define LANE_BYTES 128

static uint32_t lane_table[4][256]; /* of byte k of a register: its share after a lane of zeros */

__attribute__((target("sse4.2"))) static uint32_t lane_of_zeros(uint32_t c)
{
    uint64_t wide = c;

    for (size_t i = 0; i < LANE_BYTES; i += 8) {
        wide = __builtin_ia32_crc32di(wide, 0);
    }
    return (uint32_t)wide;
}

static void lane_table_fill(void)
{
    for (uint32_t k = 0; k < 4; k++) {
        for (uint32_t byte = 0; byte < 256; byte++) {
            lane_table[k][byte] = lane_of_zeros(byte << (8 * k));
        }
    }
}

static uint32_t lane_shift(uint64_t c)
{
    return lane_table[0][c & 0xFF] ^ lane_table[1][c >> 8 & 0xFF] ^ lane_table[2][c >> 16 & 0xFF] ^
           lane_table[3][c >> 24 & 0xFF];
}

static uint64_t word_at(const uint8_t *p)
{
    uint64_t word;

    memcpy(&word, p, sizeof word);
    return word;
}

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *data,
                                                               size_t len)
{
    const uint8_t *p = data;
    uint64_t c = (uint32_t)~crc;

    for (; len >= (size_t)3 * LANE_BYTES; len -= (size_t)3 * LANE_BYTES) {
        uint64_t second = 0;
        uint64_t third = 0;
        for (const uint8_t *end = p + LANE_BYTES; p < end; p += 8) {
            c = __builtin_ia32_crc32di(c, word_at(p));
            second = __builtin_ia32_crc32di(second, word_at(p + LANE_BYTES));
            third = __builtin_ia32_crc32di(third, word_at(p + (size_t)2 * LANE_BYTES));
        }
        c = lane_shift(lane_shift(c) ^ second) ^ third;
        p += (size_t)2 * LANE_BYTES;
    }
    for (; len >= 8; len -= 8, p += 8) {
        c = __builtin_ia32_crc32di(c, word_at(p));
    }
    for (; len > 0; len--, p++) {
        c = __builtin_ia32_crc32qi((uint32_t)c, *p);
    }
    return ~(uint32_t)c;
}

/* Has the processor the instruction? Whoever asks first fills the table; others wait for it. */
static bool has_sse42(void)
{
    static _Atomic int state; /* 0 not asked yet, 1 yes, 2 no */
    static _Atomic int claimed;
    int now = atomic_load_explicit(&state, memory_order_acquire);

    if (now == 0 && atomic_exchange(&claimed, 1) == 0) {
        now = __builtin_cpu_supports("sse4.2") ? 1 : 2;
        if (now == 1) {
            lane_table_fill();
        }
        atomic_store_explicit(&state, now, memory_order_release);
    }
    while (now == 0) {
        now = atomic_load_explicit(&state, memory_order_acquire);
    }
    return now == 1;
}
#endif

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
#if defined(__x86_64__)
    if (has_sse42()) {
        return crc32c_sse42(crc, data, len);
    }
#endif
    return crc32c_portable(crc, data, len);
}
