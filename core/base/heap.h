/*
 * Heap of small integers: the smallest first, by an order that the owner knows. Four children per
 * node, and the numbers lie in chunks: it grows to millions without ever copying itself, and gives
 * memory back when it shrinks.
 *
 * Objects are named by 32-bit ids; each is told its place whenever that changes, so that it can be
 * taken out from the middle.
 *
 * Owns:    the array of ids. The objects are the owner's.
 * Thread:  whoever owns the struct.
 * Errors:  heap_reserve alone can fail.
 * Holds:   no id comes before its parent; ops->placed was last called with each id's place.
 */
#ifndef CORE_BASE_HEAP_H
#define CORE_BASE_HEAP_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HEAP_CHUNK 4096u      /* ids: 16 KiB */
#define HEAP_NONE  UINT32_MAX /* no place */

struct heap_ops {
    bool (*before)(void *owner, uint32_t a, uint32_t b); /* a strict order */
    void (*placed)(void *owner, uint32_t id, uint32_t place);
};

struct heap {
    const struct heap_ops *ops;
    void *owner;
    uint32_t **chunks;
    size_t chunk_count; /* allocated */
    size_t chunk_cap;
    uint32_t count;
};

void heap_init(struct heap *h, const struct heap_ops *ops, void *owner);
void heap_fini(struct heap *h);

/* Room for `count` ids in all. ESCROW_ENOMEM; nothing has changed. */
ESCROW_MUST_USE int heap_reserve(struct heap *h, uint32_t count);

/* There has to be room. */
void heap_push(struct heap *h, uint32_t id);

/* The first id, or HEAP_NONE when empty. */
uint32_t heap_top(const struct heap *h);

/* Take out the id at `place`; it is told HEAP_NONE. */
void heap_remove(struct heap *h, uint32_t place);

/* Give back memory beyond what `count` ids need; one chunk more is kept. */
void heap_trim(struct heap *h, uint32_t count);

/* Bytes allocated. */
size_t heap_bytes(const struct heap *h);

/* CHECKs the order; for tests. */
void heap_check(const struct heap *h);

#endif
