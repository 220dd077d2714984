/*
 * Hierarchical timing wheel over small integers: schedule and cancel in constant time, work per
 * call proportional to what is due (Varghese, Lauck 1987), twelve bytes per timer.
 *
 * Objects are named by 32-bit ids; the owner finds the struct wheel_node of an id. Six levels of 64
 * slots cover every 32-bit tick, so nothing is ever clamped or kept in an overflow list. An id
 * moves down at most five times before it is due.
 *
 * Owns:    its slots. The nodes live in the owner's objects.
 * Thread:  whoever owns the struct.
 * Pure:    no clock; time comes in, in the owner's unit (milliseconds by convention), and never
 *          runs backwards here: an earlier time is taken as the latest one seen.
 * Holds:   a node is in at most one slot; bit s of level_used[l] is set iff that slot is not empty;
 *          count is their number.
 */
#ifndef CORE_BASE_WHEEL_H
#define CORE_BASE_WHEEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WHEEL_LEVELS 6
#define WHEEL_SLOTS  64

#define WHEEL_NONE   UINT32_MAX           /* no id */
#define WHEEL_ID_MAX UINT32_C(0xFFFFEFFF) /* ids above name the wheel's own slots */
#define WHEEL_NEVER  INT64_MAX

struct wheel_node {
    uint32_t prev; /* id, or a slot when first in it */
    uint32_t next; /* id, WHEEL_NONE when last */
    uint32_t due;  /* tick */
};

/* Node of an id; must be stable while the id is scheduled. */
typedef struct wheel_node *wheel_node_fn(void *owner, uint32_t id); /* allow(typedef): function */

struct wheel {
    uint32_t heads[WHEEL_LEVELS * WHEEL_SLOTS];
    uint64_t level_used[WHEEL_LEVELS];
    wheel_node_fn *node;
    void *owner;
    int64_t base_ms; /* time of tick 0 */
    int64_t tick_ms;
    uint32_t now;  /* tick up to which everything was handed out, or is about to be */
    size_t count;  /* scheduled ids */
    uint64_t work; /* nodes touched by wheel_pop since the start: the measure of its cost */
};

/*
 * tick_ms > 0 is the resolution: an id is handed out at its time or less than one tick later,
 * never earlier.
 */
void wheel_init(struct wheel *w, int64_t now_ms, int64_t tick_ms, wheel_node_fn *node, void *owner);

/* The id must not be scheduled. A time in the past is due at once. */
void wheel_add(struct wheel *w, uint32_t id, int64_t due_ms);

/* The id must be scheduled. */
void wheel_remove(struct wheel *w, uint32_t id);

/* Time at which a scheduled id is due, rounded up to the tick. */
int64_t wheel_due_ms(const struct wheel *w, const struct wheel_node *node);

/*
 * Take one id that is due at now_ms, unscheduling it; WHEEL_NONE when there is none, or when
 * *budget ran out. Each node touched (handed out, or moved down a level) takes one from *budget, so
 * that a caller bounds the work of one call; with budget left, WHEEL_NONE means that nothing more
 * is due.
 */
uint32_t wheel_pop(struct wheel *w, int64_t now_ms, size_t *budget);

/*
 * When to call wheel_pop next: not later than the earliest due time; WHEEL_NEVER when nothing is
 * scheduled.
 */
int64_t wheel_next_ms(const struct wheel *w);

/* CHECKs what Holds says; for tests. */
void wheel_check(const struct wheel *w);

#endif
