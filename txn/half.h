/*
 * One undecided half message, and the states it goes through (STATES.md).
 *
 * A half is 72 bytes because a million of them may wait at once; everything that can be read from
 * its log record (the transaction id, the body, the properties) is not here. Fields are packed by
 * the accessors below.
 *
 * Owns:    nothing; lives in a slot of the half table, which owns it.
 * Thread:  loop.
 * Holds:   half_check(): flags, place and state agree.
 */
#ifndef TXN_HALF_H
#define TXN_HALF_H

#include "core/base/hash.h"
#include "core/base/sm.h"
#include "core/base/wheel.h"

#include <stdbool.h>
#include <stdint.h>

#define HALF_UNDECIDED_NEXT SM_BIT(HALF_COMMITTING) | SM_BIT(HALF_ROLLING_BACK)

/* X(name, states reachable from it, final). The diagram is in STATES.md. */
#define HALF_STATES(X)                                                                             \
    X(APPENDING, SM_BIT(HALF_PREPARED) | HALF_UNDECIDED_NEXT, false)                               \
    X(PREPARED, SM_BIT(HALF_CHECKING) | SM_BIT(HALF_EXPIRING) | HALF_UNDECIDED_NEXT, false)        \
    X(CHECKING, SM_BIT(HALF_PREPARED) | HALF_UNDECIDED_NEXT, false)                                \
    X(EXPIRING, SM_BIT(HALF_EXPIRED) | HALF_UNDECIDED_NEXT, false)                                 \
    X(EXPIRED, HALF_UNDECIDED_NEXT, false)                                                         \
    X(COMMITTING, SM_BIT(HALF_COMMITTED), false)                                                   \
    X(ROLLING_BACK, SM_BIT(HALF_ROLLED_BACK), false)                                               \
    X(COMMITTED, 0, true)                                                                          \
    X(ROLLED_BACK, 0, true)

enum half_state {
#define X(name, next, final) HALF_##name,
    HALF_STATES(X)
#undef X
        HALF_STATE_COUNT
};

#define HALF_NOT_MINE 0x8u /* its last round ended with "not mine", and nobody knew it */
#define HALF_WAY_MASK 0x7u

#define HALF_QUEUE_HELD 0x8000u /* has a time: its commit does not show it (STATES.md) */

enum half_flags {
    HALF_F_APPLIED = 1,        /* its own record is durable and applied */
    HALF_F_EXPIRED = 2,        /* an EXPIRE record is durable and applied */
    HALF_F_IN_WHEEL = 4,       /* scheduled in the check-back wheel */
    HALF_F_IN_READY = 8,       /* waits in the ready or away list of its group */
    HALF_F_ROUND_UNKNOWN = 16, /* a way of the present round answered "unknown" */
    HALF_F_ROUND_REACHED = 32, /* a way of the present round could be used */
    HALF_F_PICKED = 64,        /* named by the request being looked at; set only inside one call */
    HALF_F_USED = 128,         /* the slot holds a half */
};

struct half {
    uint64_t id_lo;       /* keyed hash of (producer group, transaction id): 96 bits of it */
    uint64_t offset;      /* physical offset of the HALF record: its identity */
    uint64_t store_queue; /* store time in ms << 16 | HALF_QUEUE_HELD | queue id */
    uint32_t id_hi;
    uint32_t size_bytes; /* of the message record, as consume queues want it */
    int32_t tag_hash;
    struct wheel_node
        timer;        /* wheel or ready list, as the flags say; prev/next also chain free slots */
    uint32_t id_next; /* chains of the two indexes */
    uint32_t offset_next;
    uint32_t order_prev; /* log order of all halves in the table */
    uint32_t order_next;
    uint16_t route;   /* interned (producer group, topic), see routes.h */
    uint16_t ask_seq; /* questions asked so far, modulo 65536; makes the nonce */
    uint8_t state;    /* enum half_state */
    uint8_t flags;    /* enum half_flags */
    uint8_t checks;   /* rounds counted: durable CHECK records */
    uint8_t step_way; /* back-off step << 4 | HALF_NOT_MINE | way being asked */
};

_Static_assert(sizeof(struct half) == 72, "a half has to stay within its share of 96 bytes");

extern const struct sm_table half_sm;

/*
 * The one door for a change of state: checks the table and traces "half <offset>: FROM -> TO
 * (event)".
 */
void half_move(struct half *half, enum half_state to, const char *event);

static inline bool half_can(const struct half *half, enum half_state to)
{
    return sm_can(&half_sm, half->state, (int)to);
}

/* Is a decision record for it in the log's buffer? */
static inline bool half_is_deciding(const struct half *half)
{
    return half->state == HALF_COMMITTING || half->state == HALF_ROLLING_BACK;
}

/* Is it the half of this id? The upper 32 bits of `hi` are not kept. */
static inline bool half_has_id(const struct half *half, struct hash128 id)
{
    return half->id_lo == id.lo && half->id_hi == (uint32_t)id.hi;
}

/* Its id as far as it is kept. */
static inline struct hash128 half_id(const struct half *half)
{
    return (struct hash128){.lo = half->id_lo, .hi = half->id_hi};
}

static inline int64_t half_store_ms(const struct half *half)
{
    return (int64_t)(half->store_queue >> 16);
}

static inline uint32_t half_queue(const struct half *half)
{
    return (uint32_t)(half->store_queue & (0xFFFF & ~HALF_QUEUE_HELD));
}

static inline bool half_is_held(const struct half *half)
{
    return (half->store_queue & HALF_QUEUE_HELD) != 0;
}

static inline unsigned half_step(const struct half *half)
{
    return half->step_way >> 4;
}

static inline unsigned half_way(const struct half *half)
{
    return half->step_way & HALF_WAY_MASK;
}

static inline void half_set_step(struct half *half, unsigned step)
{
    half->step_way = (uint8_t)((step > 15 ? 15 : step) << 4 | (half->step_way & 0xFu));
}

static inline void half_set_way(struct half *half, unsigned way)
{
    half->step_way = (uint8_t)((half->step_way & ~HALF_WAY_MASK) | (way & HALF_WAY_MASK));
}

static inline bool half_is_not_mine(const struct half *half)
{
    return (half->step_way & HALF_NOT_MINE) != 0;
}

static inline void half_set_not_mine(struct half *half, bool is_not_mine)
{
    half->step_way =
        (uint8_t)((half->step_way & ~HALF_NOT_MINE) | (is_not_mine ? HALF_NOT_MINE : 0));
}

/* Store time as 48 bits: negative times become 0, times after the year 10889 the last one. */
uint64_t half_pack_store(int64_t store_ms, uint32_t queue);

/* The state a crash would leave: PREPARED or EXPIRED. The half must be applied. */
enum half_state half_durable_state(const struct half *half);

/* CHECKs that flags, place and state agree. */
void half_check(const struct half *half);

#endif
