/*
 * Memory: one door for every allocation of ours, so that tests can fail the n-th one and count what
 * is left.
 *
 * Thread: any. The fault countdown and the counter are for single-threaded tests and are atomic
 * only so that sanitizer builds stay quiet.
 */
#ifndef CORE_BASE_MEM_H
#define CORE_BASE_MEM_H

#include "core/base/attr.h"

#include <stddef.h>
#include <stdint.h>

/* NULL when out of memory or when a fault fires. A size of 0 returns a unique pointer. */
void *mem_alloc(size_t size_bytes) ESCROW_MUST_USE;
void *mem_calloc(size_t count,
                 size_t size_bytes) ESCROW_MUST_USE; /* zeroed; NULL on overflow too */

/* NULL on failure, and then `ptr` is still valid and unchanged. */
void *mem_realloc(void *ptr, size_t size_bytes) ESCROW_MUST_USE;
char *mem_strdup(const char *text) ESCROW_MUST_USE;
void mem_free(void *ptr); /* NULL is fine */

/*
 * Give memory that is free inside this process back to the system. Takes milliseconds: for idle
 * moments.
 */
void mem_trim(void);

/*
 * For a server that runs for months: blocks of MEM_LARGE_BYTES and more get a mapping of their own
 * and go back to the system when freed, whichever thread used them. Otherwise the allocator of each
 * thread keeps what was freed there, a sort buffer of a flush for every thread of the pool. Call it
 * once, before other threads exist.
 */
void mem_map_large(void);

#define MEM_LARGE_BYTES ((size_t)1 << 20)

/* Fail the n-th allocation from now (1 = the next one), once. 0 switches faults off. */
void mem_fault_at(uint64_t n);

/* Did the fault of mem_fault_at fire? */
int mem_fault_fired(void);

/* Allocations not yet freed. */
int64_t mem_live_count(void);

#endif
