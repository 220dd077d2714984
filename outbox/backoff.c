#include "outbox/backoff.h"

#include "core/base/check.h"

#define BACKOFF_SLOW_PART 5

void backoff_init(struct backoff *b, uint32_t base_ms, uint32_t max_ms, uint64_t seed)
{
    CHECK(base_ms > 0);
    CHECK(base_ms <= max_ms);
    *b = (struct backoff){.base_ms = base_ms, .max_ms = max_ms};
    rand_init(&b->rand, seed);
}

static uint32_t between(struct backoff *b, uint32_t low, uint32_t high)
{
    return low + (uint32_t)rand_below(&b->rand, (uint64_t)(high - low) + 1);
}

uint32_t backoff_next(struct backoff *b)
{
    uint64_t ceiling = b->base_ms;

    for (uint32_t i = 0; i <= b->attempt_count && ceiling < b->max_ms; i++) {
        ceiling *= 2;
    }
    if (b->attempt_count < UINT32_MAX) {
        b->attempt_count++;
    }
    return between(b, b->base_ms, ceiling < b->max_ms ? (uint32_t)ceiling : b->max_ms);
}

uint32_t backoff_next_slow(struct backoff *b)
{
    uint32_t wait_ms = backoff_next(b);
    uint32_t least = b->max_ms / BACKOFF_SLOW_PART;

    return wait_ms < least ? between(b, least, b->max_ms) : wait_ms;
}

void backoff_reset(struct backoff *b)
{
    b->attempt_count = 0;
}
