/*
 * CRC-32C (Castagnoli), reflected polynomial 0x82F63B78, initial value and final xor 0xFFFFFFFF
 * (RFC 3720, appendix B.4). Uses the SSE4.2 instruction where the processor has it (chosen once, at
 * the first call). Any thread.
 */
#ifndef CORE_BASE_CRC32C_H
#define CORE_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/*
 * CRC of `len` bytes, continuing from `crc` (0 to begin). crc32c(crc32c(0, a), b) == crc32c(0, a
 * then b).
 */
uint32_t crc32c(uint32_t crc, const void *data, size_t len);

/* The table version, for the test that compares the two. */
uint32_t crc32c_portable(uint32_t crc, const void *data, size_t len);

#endif
