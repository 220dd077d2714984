/*
 * Position of a relay in an outbox, as the broker stores it with every batch.
 *
 *   {database identity, old snapshot}                               everything that `old` sees is
 *                                                                   published, nothing else
 *   {database identity, old snapshot, new snapshot, last row}       and, of the rows that `new`
 *                                                                   sees and `old` does not, all up
 *                                                                   to and including `last`, in the
 *                                                                   order of the read
 *
 * Order of the read inside one difference: (order_id, id), where order_id is the highest id of the
 * row's transaction. Why not by transaction id: outbox/README.md, "Order".
 *
 * Bytes, little-endian, "v" = unsigned LEB128 of at most 10 bytes:
 *    0  u8  version, 1
 *    1  u8  flags: 1 = a difference is being read, `new` and `last` follow
 *           2 = parked rows were published, `replayed` follows
 *    2  u64 system identifier
 *   10  u32 timeline
 *   14  u32 oid of the database
 *   18  v reports
 *       old: v xmax, v xmax - xmin, v count, count times v distance to the id before (the first: to
 *       xmin)
 *       new: v xmax - old.xmax, then as old                                               (flag 1)
 *       v order_id of the last row, v order_id - id                                       (flag 1)
 *       v replayed, not 0                                                                 (flag 2)
 * Nothing follows. Every position has exactly one encoding: the broker compares bytes.
 *
 * Owns:    its snapshots.
 * Thread:  the owner's. Pure.
 * Holds:   is_reading implies snapshot_contains(new, old) and last_id <= last_order_id.
 */
#ifndef OUTBOX_POSITION_H
#define OUTBOX_POSITION_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "outbox/snapshot.h"

#include <stdbool.h>
#include <stdint.h>

#define POSITION_VERSION 1

/* Which database: a position of one means nothing in another. */
struct db_identity {
    uint64_t system_id; /* made by initdb; copies keep it */
    uint32_t timeline;  /* counts promotions and point-in-time recoveries */
    uint32_t db_oid;    /* tells databases of one cluster apart (CREATE DATABASE ... TEMPLATE) */
};

struct position {
    struct db_identity db;
    uint64_t reports; /* that this source had made to the database: a restored one knows of fewer */
    bool is_reading;
    struct snapshot old;
    struct snapshot new;    /* is_reading */
    uint64_t last_order_id; /* is_reading */
    /* is_reading; 0 with last_order_id 0: nothing of the difference is published yet */
    uint64_t last_id;
    /* of the parked rows that were to be published again, those up to this number are. 0: none */
    uint64_t replayed;
};

void position_init(struct position *p); /* nothing published, identity zero */
void position_fini(struct position *p);
ESCROW_MUST_USE int position_copy(struct position *dst, const struct position *src);

/* Appends. Errors: buf_failed. */
void position_encode(const struct position *p, struct buf *out);

/*
 * Hostile-safe. ESCROW_EPROTO (malformed, or not the one encoding), ESCROW_EVERSION, ESCROW_ELIMIT,
 * ESCROW_ENOMEM. *p is initialised and is replaced; unchanged after an error.
 */
ESCROW_MUST_USE int position_decode(struct position *p, struct slice bytes);

bool db_identity_equal(const struct db_identity *a, const struct db_identity *b);

/* "system 7312…, timeline 1, database oid 16384"; returns out. */
#define DB_IDENTITY_TEXT_MAX 80
char *db_identity_format(const struct db_identity *db, char out[DB_IDENTITY_TEXT_MAX]);

#endif
