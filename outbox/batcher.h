/*
 * Cuts the stream of rows into batches, at the borders of transactions.
 *
 * All rows of one transaction go into one batch, which the broker makes visible at once, as long as
 * they fit (rows_max and bytes_max); only a transaction that is bigger than a whole batch is cut
 * inside.
 *
 * Owns:    the batch being filled; a batch that was taken is the taker's, freed with batch_free.
 * Thread:  the relay's. Pure.
 * Holds:   message_count <= rows_max; size_bytes <= bytes_max, or one message alone.
 */
#ifndef OUTBOX_BATCHER_H
#define OUTBOX_BATCHER_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/list.h"
#include "outbox/row.h"
#include "outbox/sink.h"

/* A batch in memory: what the sink needs plus what the relay keeps about it. */
struct batch {
    struct sink_batch sink; /* first: a sink's callback gets it back */
    struct list node;       /* in the relay's list of batches in flight */
    struct buf arena;       /* the bytes of all messages */
    struct sink_message *messages;
    size_t message_cap;
    uint64_t last_order_id; /* of the last row, published or passed */
    uint64_t last_id;
    uint64_t replay_no; /* of its last message, when that was parked before; else 0 */
    struct buf prev;    /* encoded positions */
    struct buf next;
};

void batch_free(struct batch *batch); /* NULL is fine */

struct batcher {
    size_t rows_max;
    size_t bytes_max;
    struct batch *filling; /* NULL: nothing yet */
    bool has_border;       /* one of its rows is the last of a transaction: that with border_id */
    size_t border_count;   /* messages up to there */
    uint64_t border_id;
    size_t size_bytes; /* of filling and all in ready */
    struct list ready; /* struct batch: complete */
};

void batcher_init(struct batcher *b, size_t rows_max, size_t bytes_max);
void batcher_fini(struct batcher *b);

/*
 * Add a row, which follows the last one put or passed (row_follows; in a replay each row is a
 * transaction of its own, order_id == id); copies it. May complete batches. ESCROW_ENOMEM,
 * ESCROW_EPROTO (malformed properties):
 * the batcher is to be cleared.
 */
ESCROW_MUST_USE int batcher_put(struct batcher *b, const struct outbox_row *row);

/*
 * A row that is passed without being published: the batch it falls into counts it, be it without a
 * message. ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int batcher_pass(struct batcher *b, const struct outbox_row *row);

/* The difference ended: what is left is complete. */
void batcher_finish(struct batcher *b);

/* Oldest complete batch, the caller's now; NULL when there is none. */
struct batch *batcher_take(struct batcher *b);

/* Forget what was read and not taken. */
void batcher_clear(struct batcher *b);

/* An empty batch, to move the position only. NULL: out of memory. */
struct batch *batch_new(void) ESCROW_MUST_USE;

#endif
