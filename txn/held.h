/*
 * One message that is held for a time, and the states it goes through (STATES.md, "Held for a
 * time").
 *
 * Owns:    nothing; lives in a slot of the table of struct timers.
 * Thread:  loop.
 * Holds:   held_check(): state, place and flags agree.
 */
#ifndef TXN_HELD_H
#define TXN_HELD_H

#include "core/base/sm.h"

#include <stdbool.h>
#include <stdint.h>

/* X(name, states reachable from it, final). The diagram is in STATES.md. */
#define HELD_STATES(X)                                                                             \
    X(APPENDING, SM_BIT(HELD_WAITING) | SM_BIT(HELD_UNDECIDED), false)                             \
    X(UNDECIDED, SM_BIT(HELD_WAITING) | SM_BIT(HELD_GONE), false)                                  \
    X(WAITING, SM_BIT(HELD_LEAVING), false)                                                        \
    X(LEAVING, SM_BIT(HELD_GONE), false)                                                           \
    X(GONE, 0, true)

enum held_state {
#define X(name, next, final) HELD_##name,
    HELD_STATES(X)
#undef X
        HELD_STATE_COUNT
};

enum held_flags {
    HELD_F_RELATIVE = 1, /* due so long after it came, not at a time of day */
    HELD_F_HALF = 2,     /* its record is a HALF: a decision comes first */
    HELD_F_PICKED = 4,   /* in the release that is being proposed, or being looked at */
    HELD_F_SAVED = 8,    /* in the section being written, ahead of the walk that writes it */
};

struct held {
    uint64_t offset;      /* physical offset of its record: its identity */
    int64_t due_ms;       /* see timers.c: which clock depends on state and HELD_F_RELATIVE */
    uint64_t store_queue; /* store time in ms << 16 | queue id */
    uint32_t size_bytes;  /* of the message record, as consume queues want it */
    int32_t tag_hash;
    uint32_t route;       /* interned topic */
    uint32_t place;       /* in its heap, HEAP_NONE */
    uint32_t offset_next; /* chain of the index */
    uint8_t state;        /* enum held_state */
    uint8_t flags;        /* enum held_flags */
    uint16_t topic_len;   /* of its topic: decides what it keeps reserved */
};

_Static_assert(sizeof(struct held) == 48, "timers.h promises so many bytes for each");

extern const struct sm_table held_sm;

/* The one door for a change of state: checks the table and traces the move. */
void held_move(struct held *held, enum held_state to, const char *event);

static inline int64_t held_store_ms(const struct held *held)
{
    return (int64_t)(held->store_queue >> 16);
}

static inline uint32_t held_queue(const struct held *held)
{
    return (uint32_t)(held->store_queue & 0xFFFF);
}

/* CHECKs that state, place and flags agree. */
void held_check(const struct held *held);

#endif
