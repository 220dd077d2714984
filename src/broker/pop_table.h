/*
 * What is known of popped messages: handed out, not acknowledged yet (README.md, "Life of a popped
 * message").
 *
 * A queue of a consumer group begins at its committed offset. What lies below `next` was handed
 * out, or skipped by a filter; what of it is not in this table is done. The committed offset is the
 * lowest one that is not done, so that a crash, which forgets this table, loses nothing: everything
 * from there on is handed out again.
 *
 * Every call names the queue and the offset that is committed for it (`committed`, in and out).
 * When somebody else has moved that (an operator, consumers that pull), what was known of the queue
 * is forgotten, and it begins there. When the call has moved it, the caller notes the new one.
 *
 * An ordered pop has a queue alone: `pop_table_order` says whether it may have it, and what it
 * gets.
 *
 * Memory: 104 bytes for a message with heap and index. A queue that has nothing handed out is not
 * in the table at all.
 *
 * Owns:    its table.
 * Thread:  loop.
 * Pure:    no clock, no I/O. Times are the caller's: due_ms on its monotonic clock, pop_ms a number
 *          that tells one delivery of a message from the next.
 * Errors:  each function says; after an error nothing has changed, except that queues which nobody
 *          has in hand may have been forgotten.
 * Holds:   pop_table_check().
 */
#ifndef SRC_BROKER_POP_TABLE_H
#define SRC_BROKER_POP_TABLE_H

#include "core/base/attr.h"
#include "core/base/hash.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct pop_table;

struct pop_limits {
    uint32_t queue_max; /* messages of one queue of one group */
    uint32_t total_max; /* all of them */
};

struct pop_key {
    struct slice group; /* 1..GROUP_LEN_MAX bytes, without 0x01 */
    struct slice topic; /* 1..RETRY_TOPIC_LEN_MAX bytes */
    uint32_t queue;
};

ESCROW_MUST_USE int pop_table_new(const struct pop_limits *limits, struct hash_key key,
                                  struct pop_table **out);
void pop_table_free(struct pop_table *t); /* NULL is fine */

/* ---- handing out ----------------------------------------------------------------------------- */

/* Where a pop finds a queue. */
struct pop_look {
    int64_t next;  /* the first offset that was never handed out */
    uint32_t room; /* new messages that may be handed out */
    uint32_t due;  /* messages whose time is over: pop_table_due */
};

void pop_table_look(struct pop_table *t, const struct pop_key *key, int64_t committed,
                    struct pop_look *out);

/*
 * What an ordered pop finds. A pop is told from others by a number that its client repeats when it
 * asks again because no answer came (0: it has none, and is never asked for again).
 */
enum pop_order {
    POP_ORDER_NEW,    /* nothing of the queue is handed out: new messages */
    POP_ORDER_AGAIN,  /* what is not done comes first: pop_table_first */
    POP_ORDER_BLOCKED /* something is in hand of somebody else: nothing */
};

enum pop_order pop_table_order(struct pop_table *t, const struct pop_key *key, int64_t committed,
                               uint64_t attempt);

/* A delivery: until when it is invisible, and what the receipt handle says of it. */
struct pop_delivery {
    int64_t pop_ms;
    int64_t due_ms;
    uint64_t attempt; /* of an ordered pop; 0: none */
};

/* What a pop read of a queue, from look.next up to next_offset. */
struct pop_taken {
    const int64_t *offsets; /* that are handed out, rising; the others were filtered */
    uint32_t count;         /* 0 is fine */
    int64_t next_offset;
};

/*
 * ESCROW_ELIMIT: more than there is room for; ESCROW_EINVAL: offsets that do not lie between
 * look.next and next_offset; ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int pop_table_take(struct pop_table *t, const struct pop_key *key,
                                   int64_t *committed, const struct pop_taken *taken,
                                   struct pop_delivery delivery);

/* A message that was handed out, and is to be again. */
struct pop_due {
    int64_t offset;
    uint32_t deliveries; /* so far, >= 1; for the attempt that has it, without this one */
};

/* The first `max` of them, the one that is due longest first. Returns how many. */
uint32_t pop_table_due(struct pop_table *t, const struct pop_key *key, int64_t committed,
                       struct pop_due *due, uint32_t max);

/*
 * The first `max` messages that are handed out and not done, by offset. Due, or in hand: for the
 * attempt that pop_table_order said may have them.
 */
uint32_t pop_table_first(struct pop_table *t, const struct pop_key *key, int64_t committed,
                         uint64_t attempt, struct pop_due *due, uint32_t max);

/*
 * Hand a message out again that is due, or that this attempt has: the latter is no delivery more.
 * ESCROW_ENOTFOUND: it is neither (any more).
 */
ESCROW_MUST_USE int pop_table_retake(struct pop_table *t, const struct pop_key *key,
                                     int64_t committed, int64_t offset,
                                     struct pop_delivery delivery);

/* ---- what consumers say ---------------------------------------------------------------------- */

enum pop_outcome {
    POP_DONE,    /* it was handed out by this delivery, and now is what was asked for */
    POP_ALREADY, /* it was done before */
    POP_STALE    /* this delivery is over: handed out again, forgotten, or never made */
};

/* What an acknowledgement opened. */
struct pop_opening {
    bool has_room; /* the queue had no room before */
    bool is_free;  /* nothing of it is in hand any more, and something was: ordered pops may */
};

/*
 * The message is done; *opening (may be NULL). A message that is due and was not handed out again
 * is still the last one's who had it.
 */
enum pop_outcome pop_table_ack(struct pop_table *t, const struct pop_key *key, int64_t *committed,
                               int64_t offset, int64_t pop_ms, struct pop_opening *opening);

/* The message is invisible until another time, under delivery.pop_ms; it stays its attempt's. */
enum pop_outcome pop_table_change(struct pop_table *t, const struct pop_key *key, int64_t committed,
                                  int64_t offset, int64_t pop_ms, struct pop_delivery delivery);

/* ---- time ------------------------------------------------------------------------------------ */

/* A queue has messages that became due. The key is good for the call; nothing may be called. */
typedef void pop_due_fn(void *arg, const struct pop_key *key);

/* Times that are over, at most `max` of them: fn once for each message that became due. */
void pop_table_tick(struct pop_table *t, int64_t now_ms, uint32_t max, pop_due_fn *fn, void *arg);

/* When pop_table_tick wants to be called; INT64_MAX = not before another event. */
int64_t pop_table_next_ms(const struct pop_table *t);

/* ---- looking at it --------------------------------------------------------------------------- */

struct pop_gauges {
    uint32_t in_flight; /* handed out and not done, due ones among them */
    uint32_t due;
    uint32_t queues;
    uint64_t forgotten; /* messages of queues that gave way because the table was full, ever */
    size_t bytes;
};

void pop_table_gauges(const struct pop_table *t, struct pop_gauges *gauges);

/* CHECK everything that must hold; for tests. */
void pop_table_check(const struct pop_table *t);

#endif
