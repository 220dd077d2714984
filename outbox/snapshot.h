/*
 * PostgreSQL snapshots: which transactions had ended at one moment.
 *
 * The text form is pg_snapshot's "xmin:xmax:xip,xip,...": every id below xmin had ended, none from
 * xmax on had, and of those between the listed ones had not. Ids are top-level 64-bit transaction
 * ids (xid8).
 *
 * Owns:    the list of ids.
 * Thread:  the owner's. Pure.
 * Holds:   0 < xmin <= xmax; xip strictly ascending, each in [xmin, xmax); xip_count <=
 *          SNAPSHOT_XIP_MAX. Normal form: when the list is empty xmin == xmax, else xmin == xip[0];
 *          xmax - 1 is not in the list. So what sees the same is equal.
 */
#ifndef OUTBOX_SNAPSHOT_H
#define OUTBOX_SNAPSHOT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SNAPSHOT_XIP_MAX 4096 /* running writers; two of these lists fit into POSITION_LEN_MAX */

struct snapshot {
    uint64_t xmin;
    uint64_t xmax;
    uint64_t *xip;
    size_t xip_count;
};

/* Nothing had ended: the snapshot before the first transaction. */
void snapshot_init(struct snapshot *s);
void snapshot_fini(struct snapshot *s);

/*
 * `s` is initialised and is replaced. ESCROW_EPROTO: malformed. ESCROW_ELIMIT: more than
 * SNAPSHOT_XIP_MAX ids. ESCROW_ENOMEM. After an error *s is unchanged.
 */
ESCROW_MUST_USE int snapshot_parse(struct snapshot *s, struct slice text);

/*
 * As snapshot_parse, from ids that need not be in normal form but must be ascending and inside
 * [xmin, xmax).
 */
ESCROW_MUST_USE int snapshot_set(struct snapshot *s, uint64_t xmin, uint64_t xmax,
                                 const uint64_t *xip, size_t count);

ESCROW_MUST_USE int snapshot_copy(struct snapshot *dst, const struct snapshot *src);

/* Append the text form. */
void snapshot_format(const struct snapshot *s, struct buf *out);

/* Had the transaction ended? Then its rows are visible if it committed. */
bool snapshot_sees(const struct snapshot *s, uint64_t xid);

/*
 * Does `later` see everything that `earlier` sees? True for snapshots of one database in the order
 * they were taken.
 */
bool snapshot_contains(const struct snapshot *later, const struct snapshot *earlier);

bool snapshot_equal(const struct snapshot *a, const struct snapshot *b);

/* The normal form, for tests and debug builds. */
void snapshot_check(const struct snapshot *s);

#endif
