/*
 * The one door to time and to entropy. Pure code never asks for either: both come in with the
 * event.
 * Thread:  any.
 */
#ifndef CORE_IO_CLOCK_H
#define CORE_IO_CLOCK_H

#include <stdint.h>

struct clock {
    int64_t (*wall_ms)(struct clock *c); /* Unix time, milliseconds; may jump */
    int64_t (*mono_ns)(struct clock *c); /* monotonic, nanoseconds; for intervals and deadlines */
    /* How far local time is ahead of UTC at that wall time, seconds */
    int32_t (*utc_offset_s)(struct clock *c, int64_t wall_ms);
    uint64_t (*random_seed)(struct clock *c); /* 64 unpredictable bits */
};

static inline int64_t clock_wall_ms(struct clock *c)
{
    return c->wall_ms(c);
}

static inline int64_t clock_mono_ns(struct clock *c)
{
    return c->mono_ns(c);
}

static inline int64_t clock_mono_ms(struct clock *c)
{
    return c->mono_ns(c) / 1000000;
}

static inline int32_t clock_utc_offset_s(struct clock *c, int64_t wall_ms)
{
    return c->utc_offset_s(c, wall_ms);
}

static inline uint64_t clock_random_seed(struct clock *c)
{
    return c->random_seed(c);
}

#endif
