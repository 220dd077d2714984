/*
 * The undecided halves: a slab of slots, found by id and by physical offset in constant time, and
 * walked in log order.
 *
 * Owns:    every struct half in it, the routes they refer to, both indexes. Slots lie in chunks
 *          that never move, so that a slot number and a pointer are good as long as the half is
 *          there.
 * Thread:  loop.
 * Errors:  half_table_reserve alone can fail; what follows it cannot.
 * Holds:   each half is in both indexes and once in the order list, whose offsets rise;
 *          half_table_check() asserts it.
 */
#ifndef TXN_HALF_TABLE_H
#define TXN_HALF_TABLE_H

#include "core/base/attr.h"
#include "txn/half.h"
#include "txn/hash_index.h"
#include "txn/routes.h"

#include <stddef.h>
#include <stdint.h>

#define HALF_CHUNK_SLOTS 512u /* 36 KiB */
#define HALF_NONE        UINT32_MAX

_Static_assert(ROUTES_MAX - 1 <= UINT16_MAX, "a half has 16 bits for its route");

struct half_chunk;

struct half_table {
    struct half_chunk **chunks; /* NULL where a chunk was given back */
    size_t chunk_count;
    size_t chunk_cap;
    size_t chunk_live; /* chunks that are allocated */
    uint32_t partial;  /* first chunk with a free slot, HALF_NONE */
    uint32_t spare;    /* the one empty chunk that is kept, HALF_NONE */
    struct hash_index by_id;
    struct hash_index by_offset;
    struct routes routes;
    uint32_t oldest; /* log order */
    uint32_t newest;
    size_t count;
    size_t count_max;
    size_t by_state[HALF_STATE_COUNT];
};

void half_table_init(struct half_table *t, struct hash_key name_key, size_t count_max);
void half_table_fini(struct half_table *t);

/*
 * Make the next insertion certain. ESCROW_ELIMIT (count_max), ESCROW_ENOMEM; nothing has
 * changed.
 */
ESCROW_MUST_USE int half_table_reserve(struct half_table *t);

/*
 * Insert after a successful half_table_reserve, at the end of the order: offset is larger than
 * every other. The route gets a reference. State APPENDING, all else 0: the caller fills in the
 * message's facts.
 */
struct half *half_table_insert(struct half_table *t, struct hash128 id, uint64_t offset,
                               uint32_t route);

/* half_move, keeping by_state. */
void half_table_move(struct half_table *t, struct half *half, enum half_state to,
                     const char *event);

/* Remove; the half is in no wheel and no ready list. Drops its route. */
void half_table_remove(struct half_table *t, struct half *half);

struct half *half_table_find_id(const struct half_table *t, struct hash128 id);
struct half *half_table_find_offset(const struct half_table *t, uint64_t offset);

/* Oldest (smallest offset) half, and the one after; NULL at the end. */
struct half *half_table_oldest(const struct half_table *t);
struct half *half_table_next(const struct half_table *t, const struct half *half);

/* Slot number of a half, and back. The slot must be in use. */
uint32_t half_table_slot(const struct half_table *t, const struct half *half);
struct half *half_table_at(const struct half_table *t, uint32_t slot);

struct route *half_table_route(const struct half_table *t, const struct half *half);

/* Bytes allocated for slots, indexes and routes. */
size_t half_table_bytes(const struct half_table *t);

void half_table_check(const struct half_table *t);

#endif
