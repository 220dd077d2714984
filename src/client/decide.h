/*
 * Decisions: commit or roll back halves that a broker has stored. Waited for (decide_wait), or left
 * to the loop, which gathers those of a moment (decide_later).
 *
 * Owns:    what decide_later was given, until it is confirmed or given up.
 * Thread:  decide_wait and decide_later any, as they say; everything else the client's loop.
 * Errors:  what a broker says of a half; class RETRY and UNKNOWN only when the time is up.
 */
#ifndef SRC_CLIENT_DECIDE_H
#define SRC_CLIENT_DECIDE_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/io_uv/loop.h"
#include "escrow/escrow.h"
#include "src/client/remote.h"

#include <stddef.h>
#include <stdint.h>

/* What an answer says of one half. */
enum decide_said {
    DECIDE_UNSAID = 0, /* nothing: no answer, or one-way */
    DECIDE_DONE,       /* decided so, now or before */
    DECIDE_REFUSED,    /* for a reason of its own */
    DECIDE_HELD_BACK   /* nothing against it, but another half of the request was refused */
};

/*
 * One decision about halves at one broker, all or none: confirmed at an escrowd, one-way at
 * anything else; repeated until deadline_ms. Caller-owned; set the first group, the rest is zero.
 * `done` is called on the loop exactly once, and may free it or start it anew after decide_fini.
 */
struct decide {
    struct escrow_producer *producer;
    const struct escrow_receipt *const *halves; /* the caller's, until done */
    uint8_t *said; /* enum decide_said of each half, zeroed by the caller; NULL: not wanted */
    size_t count;  /* 1 to END_TXN_HALVES_MAX */
    enum escrow_txn_state state;
    int64_t deadline_ms; /* monotonic, of the loop: no try is repeated later */
    void (*done)(struct decide *d);
    /*
     * Result: 0; ESCROW_ECONFLICT, ESCROW_EROLLEDBACK, ESCROW_ENOTFOUND, ESCROW_EPERM of the first
     * half that was refused; ESCROW_ETIMEOUT and the like: not known.
     */
    int error;
    /* Private. */
    uint32_t tries;
    struct remote_call call;
    struct loop_timer timer;
    struct buf body;
};

void decide_start(struct decide *d); /* loop */
void decide_fini(struct decide *d);

/* Decide and wait; returns the result. Not on the loop. */
ESCROW_MUST_USE int decide_wait(struct escrow_producer *p, enum escrow_txn_state state,
                                const struct escrow_receipt *const *halves, size_t count,
                                uint64_t timeout_ms);

/*
 * The same, but nobody waits: tried for the producer's send.timeout.ms, then left to check-back.
 * The halves are those of one transaction, all at one broker, and are decided all or none; what is
 * refused to other transactions does not keep them waiting. The receipts are copied. Any thread.
 * ESCROW_ENOMEM, ESCROW_ESHUTDOWN.
 */
ESCROW_MUST_USE int decide_later(struct escrow_producer *p, enum escrow_txn_state state,
                                 const struct escrow_receipt *const *halves, size_t count);

/* Where those meet; the client's. */
struct gather {
    struct list waiting; /* struct later */
    struct loop_timer timer;
};

void gather_init(struct gather *g);
void gather_fini(struct escrow_client *c); /* nothing may wait: every producer is freed */

#endif
