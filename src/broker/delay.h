/*
 * When does a message want to be delivered? Delay levels, and the properties that speak of time
 * (PROTOCOL.md, "Delayed messages").
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 */
#ifndef SRC_BROKER_DELAY_H
#define SRC_BROKER_DELAY_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/proto/properties.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DELAY_LEVELS_MAX 64

struct delay_levels {
    int64_t ms[DELAY_LEVELS_MAX]; /* of level 1, 2, ... */
    size_t count;
};

/* "1s 5s 1m 2h 1d"; ms too. ESCROW_EINVAL: not of this form, more than a year, none or too many. */
ESCROW_MUST_USE int delay_levels_parse(struct slice text, struct delay_levels *out);

/* level >= 1; higher than the last is the last. */
int32_t delay_level_bound(const struct delay_levels *levels, int64_t level);

/* level >= 1; higher than the last counts as the last. */
int64_t delay_level_ms(const struct delay_levels *levels, int32_t level);

struct delay_rules {
    struct delay_levels levels;
    int64_t max_ms; /* a time further away than this is refused; levels are not bounded */
};

struct delay {
    bool is_held;     /* otherwise it is delivered at once */
    bool is_relative; /* so long after it came; otherwise at a time of day */
    int32_t level;    /* by DELAY: the level that counts, at most the last; otherwise 0 */
    int64_t due_ms;   /* wall clock */
};

/*
 * As RocketMQ reads them: DELAY > 0 counts before all others; a message with TIMER_OUT_MS has had
 * its time; TIMER_DELAY_SEC, TIMER_DELAY_MS, TIMER_DELIVER_MS in this order; a time that has passed
 * is none. 0; ESCROW_EINVAL: not a number; ESCROW_ETOOBIG: further away than max_ms.
 */
ESCROW_MUST_USE int delay_of(const struct delay_rules *rules, const struct props_known *props,
                             int64_t now_ms, struct delay *out);

#endif
