/*
 * Slab: many small objects of one size, named by 32-bit slots. They lie in chunks that never move,
 * so that a slot and a pointer are good as long as the object is there; a chunk that becomes empty
 * is given back, except for one, so that an object that comes and goes does not allocate each time.
 *
 * Owns:    the memory of the objects.
 * Thread:  whoever owns the struct.
 * Errors:  slab_reserve alone can fail.
 * Holds:   used counts the slots in use; a chunk with a free slot is in the list of partial chunks.
 */
#ifndef CORE_BASE_SLAB_H
#define CORE_BASE_SLAB_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SLAB_CHUNK_SLOTS 512u
#define SLAB_NONE        UINT32_MAX

struct slab_chunk;

struct slab {
    size_t item_bytes;
    struct slab_chunk **chunks; /* NULL where a chunk was given back */
    size_t chunk_count;
    size_t chunk_cap;
    size_t chunk_live; /* allocated */
    uint32_t partial;  /* first chunk with a free slot, SLAB_NONE */
    uint32_t spare;    /* the one empty chunk that is kept, SLAB_NONE */
    size_t used;
};

/* item_bytes: a multiple of 8. */
void slab_init(struct slab *s, size_t item_bytes);
void slab_fini(struct slab *s);

/* Make the next slab_take certain. ESCROW_ENOMEM; nothing has changed. */
ESCROW_MUST_USE int slab_reserve(struct slab *s);

/* A slot whose bytes are zero. After a successful slab_reserve. */
uint32_t slab_take(struct slab *s);
void slab_put(struct slab *s, uint32_t slot); /* the slot must be in use */

void *slab_at(const struct slab *s, uint32_t slot);

/*
 * Every slot in use, in no order that means anything. *cursor starts at 0; SLAB_NONE at the end.
 * What is taken or put in between may be met or not; what is there all the time is met once.
 */
uint32_t slab_next(const struct slab *s, uint32_t *cursor);

/* Bytes allocated. */
size_t slab_bytes(const struct slab *s);

/* CHECKs what Holds says; for tests. */
void slab_check(const struct slab *s);

#endif
