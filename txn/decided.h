/*
 * Memory of decided halves: the newest ones, first in first out, so that a late duplicate is
 * answered as success and a contradiction with what was decided, when and by whom.
 *
 * Only answers depend on it, never safety: a half that is neither in the half table nor here gets
 * ESCROW_ENOTFOUND, and nothing can be decided twice.
 *
 * Every half that is prepared and every one that is decided comes by here: the index by id answers
 * from one cache line (fragment_index.h). A look-up by offset is rare, and what it needs costs
 * almost nothing to keep: halves are decided about in the order of the log, so that the range of
 * offsets of each chunk leaves few chunks to look through; only those that are decided much later
 * than their neighbours are in an index.
 *
 * Owns:    its entries, 24 bytes each plus about 10 for the index (20 for a late one); grown chunk
 *          by chunk up to count_max.
 * Thread:  loop.
 * Errors:  none: when memory is short the oldest entry makes room, or the new one is not kept.
 * Holds:   at most count_max entries, each in the index by id, and late and in that index or within
 *          the range of its chunk.
 */
#ifndef TXN_DECIDED_H
#define TXN_DECIDED_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/hash.h"
#include "txn/decision.h"
#include "txn/fragment_index.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DECIDED_CHUNK      1024u
#define DECIDED_LATE_BYTES (UINT64_C(2) << 20) /* of log: what is decided at once lies closer */

struct decided_entry {
    uint64_t id;     /* low half of the id's hash */
    uint64_t offset; /* of the HALF record */
    uint64_t fact;   /* late << 63 | at_ms << 20 | group tag << 4 | by << 2 | kind: decided.c */
};

struct decided_chunk {
    struct decided_entry entries[DECIDED_CHUNK];
};

/* Offsets of a chunk's entries but the late; those forgotten since it was full are included. */
struct decided_range {
    uint64_t min;
    uint64_t max;
};

/* What is known of a decided half. */
struct decided_fact {
    uint64_t offset;
    enum decision_kind kind; /* COMMIT or ROLLBACK */
    enum decision_by by;
    int64_t at_ms;
};

struct decided {
    struct decided_chunk **chunks;
    struct decided_range *ranges; /* of each chunk; close together, because a look-up reads all */
    size_t chunk_count;           /* allocated */
    size_t chunk_cap;
    uint32_t first; /* slot of the oldest entry */
    uint32_t count;
    uint32_t ring; /* slots in use as a ring: chunk_count * DECIDED_CHUNK, or count_max when full */
    uint32_t count_max;
    struct fragment_index by_id;
    struct fragment_index late; /* by offset: entries that were late */
    uint64_t furthest;          /* highest offset of those that were not */
    uint8_t *save_to;           /* where the next entry goes of a section that is being written */
    uint32_t save_next;         /* its slot */
    uint32_t save_left;         /* entries that were not written yet */
    bool may_grow;              /* false once memory was refused; tried again after a full turn */
};

/* Allocates the first chunk: ESCROW_ENOMEM. count_max >= 1. */
ESCROW_MUST_USE int decided_init(struct decided *d, size_t count_max);
void decided_fini(struct decided *d);

/*
 * Remember; the oldest is forgotten when there is no room. group_tag is any 16-bit hash of the
 * producer group.
 */
void decided_put(struct decided *d, struct hash128 id, uint16_t group_tag,
                 const struct decided_fact *fact);

/* Have what a call about this id needs brought near. */
void decided_prefetch(const struct decided *d, struct hash128 id);

/* Newest entry for the id; false when not remembered. */
bool decided_find_id(const struct decided *d, struct hash128 id, struct decided_fact *fact);

/*
 * By physical offset. A microsecond for each chunk whose range holds it: one, and one for every
 * DECIDED_CHUNK halves within DECIDED_LATE_BYTES of it in the log (two at 1 KiB each, thirty at the
 * very least a half can have). *id_lo and *group_tag as they were put (each may be NULL).
 */
bool decided_find_offset(const struct decided *d, uint64_t offset, struct decided_fact *fact,
                         uint64_t *id_lo, uint16_t *group_tag);

/* Does `match` say yes to the offset of any entry? Looks at all of them. */
typedef bool decided_match_fn(void *arg, uint64_t offset); /* allow(typedef): function */
bool decided_any(const struct decided *d, decided_match_fn *match, void *arg);

size_t decided_bytes(const struct decided *d);

/*
 * For the checkpoint: a count, and 24 bytes for each entry, oldest first. decided_save appends the
 * count and leaves room; decided_save_start, before anything is put, says where that is now;
 * decided_save_more writes at most `max` entries, and is true while there are more. Entries that
 * are forgotten in between are written before. decided_save_stop gives up.
 */
void decided_save(const struct decided *d, struct buf *out);
void decided_save_start(struct decided *d, uint8_t *bytes);
bool decided_save_more(struct decided *d, uint32_t max);
void decided_save_stop(struct decided *d);

/* Read them back into an empty one. ESCROW_ECORRUPT. */
ESCROW_MUST_USE int decided_load(struct decided *d, struct slice *in);

void decided_check(const struct decided *d);

#endif
