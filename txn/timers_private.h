/*
 * Inside of struct timers, shared by timers.c, timers_apply.c and timers_save.c.
 *
 * Owns:    everything in it.
 * Thread:  loop.
 * Holds:   timers_check().
 */
#ifndef TXN_TIMERS_PRIVATE_H
#define TXN_TIMERS_PRIVATE_H

#include "core/base/heap.h"
#include "core/base/slab.h"
#include "txn/hash_index.h"
#include "txn/routes.h"
#include "txn/timers.h"

/* Times beyond are taken as this one: sums of two stay in range. */
#define TIMERS_TIME_MAX (INT64_MAX / 4)

/* Which clock a message waits for: of the two heaps. */
enum timers_clock {
    TIMERS_WALL,  /* due_ms is a time of day */
    TIMERS_STEADY /* due_ms is on the steady clock: the wall clock of the start, then monotonic */
};

/*
 * A checkpoint section that is being written while records go on being applied (timers_save.c). In
 * it are the messages that were applied when it began: those that are, up to `until`.
 */
struct timers_save {
    bool is_open;
    struct txn_now now;
    size_t held_at;  /* in the checkpoint */
    uint8_t *bytes;  /* of the checkpoint, when is_open */
    size_t count;    /* messages in the section */
    size_t written;  /* of these */
    uint32_t cursor; /* of the walk through the slab */
    uint64_t until;  /* offset of the last one that was applied */
};

struct timers {
    struct timers_config config;
    struct slab slab;
    struct hash_index by_offset;
    struct heap heaps[2]; /* by enum timers_clock: messages in WAITING that are not picked */
    uint32_t by_clock[2]; /* messages of each kind, in whatever state: room in their heap */
    struct routes topics; /* all in the group "-" */
    bool is_live;         /* timers_recovered was called */
    struct txn_now start; /* where the steady clock begins */
    size_t by_state[HELD_STATE_COUNT];
    uint64_t reserve_bytes;
    uint64_t applied_to; /* offset of the last message that was applied */
    struct timers_save save;
    struct timers_counters counters;

    /* Between timers_accept and timers_appended; holds a reference to the route. */
    bool is_pending;
    uint32_t pending_route;

    /* Between timers_tick or timers_recall and its end. */
    uint32_t picked[RELEASE_COUNT_MAX];
    uint32_t picked_count;
    enum release_kind picked_kind;
};

static inline enum timers_clock timers_clock_of(const struct held *held)
{
    return (held->flags & HELD_F_RELATIVE) != 0 ? TIMERS_STEADY : TIMERS_WALL;
}

static inline struct held *timers_at(const struct timers *t, uint32_t slot)
{
    return slab_at(&t->slab, slot);
}

/* The steady clock, and how far the wall clock has left it. */
int64_t timers_steady_ms(const struct timers *t, struct txn_now now);
int64_t timers_shift_ms(const struct timers *t, struct txn_now now);

/* SLAB_NONE when there is none. */
uint32_t timers_find(const struct timers *t, uint64_t offset);

struct slice timers_topic(const struct timers *t, const struct held *held);

/* Room for one more message of this kind, and its route. Errors as timers_accept. */
ESCROW_MUST_USE int timers_reserve(struct timers *t, struct slice topic, enum timers_clock clock,
                                   uint32_t *route);

/* In APPENDING. After timers_reserve. */
uint32_t timers_insert(struct timers *t, const struct timer_info *info, uint64_t offset,
                       uint32_t route);

/* held_move, keeping by_state and the reserve. */
void timers_move(struct timers *t, struct held *held, enum held_state to, const char *event);

/* Its delay begins now: when it ends, on the clock of the message. */
int64_t timers_begin(const struct timers *t, const struct held *held, int64_t delay_ms,
                     struct txn_now now);

/* To WAITING, until due_ms on the clock of the message. */
void timers_arm(struct timers *t, uint32_t slot, int64_t due_ms, const char *event);

/* It is GONE: out of table and index. */
void timers_remove(struct timers *t, uint32_t slot);

/* Before a record changes it or takes it away: a section that is being written gets it as it is. */
void timers_save_keep(struct timers *t, uint32_t slot);

bool timers_info_is_valid(const struct timer_info *info);

/* In builds with ESCROW_DCHECK: everything must hold, as long as there is little of it. */
void timers_dcheck(const struct timers *t);

#endif
