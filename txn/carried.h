/*
 * Held messages that were carried forward: a copy stands nearer to the end of the log, so that the
 * segment of the first record can go. The offset of the first record stays the message's identity:
 * clients end transactions with it, decisions and releases name it. This table says where to read.
 *
 * How the broker obeys:
 *
 *   retention wants a segment that holds something
 *                       append copies (store_append_copy) of what is held in it, oldest first.
 *   copy durable        in log order, live and in recovery alike: carried_put, if the message is
 *                       still held. Otherwise the copy is nothing.
 *   reading, releasing  at carried_where(id).
 *
 * A message that is held no more is forgotten when somebody who looks for the oldest place meets
 * it: an entry too many does no harm, and neither decisions nor releases pay for the table.
 *
 * Owns:    the table. 48 bytes for a message.
 * Thread:  loop.
 * Pure:    no clock, no I/O. Allocates through mem.h.
 * Errors:  each function says; after an error nothing has changed.
 * Holds:   places rise in the order in which they were put; ids are below `upto`; carried_check().
 */
#ifndef TXN_CARRIED_H
#define TXN_CARRIED_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/base/slice.h"
#include "txn/hash_index.h"

#include <stdint.h>

struct carried_item {
    struct list order; /* by place */
    uint64_t id;       /* physical offset of the first record */
    uint64_t at;       /* of the newest copy */
    uint32_t size_bytes;
    uint32_t next; /* chain of the index */
};

struct carried {
    struct slab slab;
    struct hash_index by_id;
    struct list order; /* oldest place first */
    uint64_t upto;     /* what is held and was first stored below it is in the table */
};

void carried_init(struct carried *c);
void carried_fini(struct carried *c);

/* Where the message with this id is to be read: its newest copy, or the id itself. */
uint64_t carried_where(const struct carried *c, uint64_t id);

/*
 * A copy is durable at `at`, behind all that were put before. Messages that were never carried are
 * put in the order of their ids. ESCROW_ENOMEM; ESCROW_ECORRUPT: not behind the others, or a first
 * copy of what others have passed: fatal.
 */
ESCROW_MUST_USE int carried_put(struct carried *c, uint64_t id, uint64_t at, uint32_t size_bytes);

/* The message whose copy stands first in the log; NULL = none. Good until the next call. */
const struct carried_item *carried_first(const struct carried *c);
const struct carried_item *carried_after(const struct carried *c, const struct carried_item *item);

/* carried_first is held no more. */
void carried_drop_first(struct carried *c);

/*
 * Append the section "carried": version u32 = 1, zero u32, upto u64, count u64, and for each in the
 * order of their places: id u64, place u64, size u32, zero u32. Little-endian.
 */
void carried_save(const struct carried *c, struct buf *out);

/* Into an empty one. ESCROW_ECORRUPT, ESCROW_EVERSION, ESCROW_ENOMEM: fatal. */
ESCROW_MUST_USE int carried_load(struct carried *c, struct slice section, struct err_ctx *err);

/* CHECK everything that must hold; for tests. */
void carried_check(const struct carried *c);

#endif
