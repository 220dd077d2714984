/*
 * Waiting times between attempts: exponential, with full jitter, so that many relays that lost one
 * broker do not come back in step.
 *
 * Owns:    nothing.
 * Thread:  the owner's. Pure: chance comes from the struct rand.
 * Holds:   0 < base_ms <= max_ms; every answer is in [base_ms, max_ms].
 */
#ifndef OUTBOX_BACKOFF_H
#define OUTBOX_BACKOFF_H

#include "core/base/rand.h"

#include <stdint.h>

struct backoff {
    struct rand rand;
    uint32_t base_ms;
    uint32_t max_ms;
    uint32_t attempt_count; /* failures in a row */
};

void backoff_init(struct backoff *b, uint32_t base_ms, uint32_t max_ms, uint64_t seed);

/* Another failure: how long to wait. Uniform in [base, min(max, base * 2^attempts)]. */
uint32_t backoff_next(struct backoff *b);

/*
 * Something that a person has to mend (wrong password, missing schema): at least a fifth of the
 * maximum from the start.
 */
uint32_t backoff_next_slow(struct backoff *b);

/* It works again. */
void backoff_reset(struct backoff *b);

#endif
