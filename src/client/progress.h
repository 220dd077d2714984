/*
 * How far a queue has been consumed: messages finish in any order, the stored offset is the first one not finished.
 *
 * Owns:    one bit per message in progress.
 * Thread:  whoever owns the struct.
 * Holds:   first <= next; bit i tells whether offset first + i is finished; bit 0 is never set.
 */
#ifndef SRC_CLIENT_PROGRESS_H
#define SRC_CLIENT_PROGRESS_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    int64_t first; /* smallest offset not finished: what is stored */
    int64_t next;  /* smallest offset not begun */
    uint64_t *bits;
    size_t cap; /* bits; multiple of 64 */
};

void progress_init(struct progress *p, int64_t offset);
void progress_fini(struct progress *p);

/* Offsets [next, offset) hold nothing for us (filtered, or gone): they count as finished. `offset` is begun. ESCROW_ENOMEM. */
ESCROW_MUST_USE int progress_begin(struct progress *p, int64_t offset);

/* An offset begun before is finished; false when it is not in progress (the queue was given away and taken again). */
bool progress_finish(struct progress *p, int64_t offset);

/* Everything below `offset` has been seen, and nothing at or above begun: moves both ends when nothing is in progress. */
ESCROW_MUST_USE int progress_skip_to(struct progress *p, int64_t offset);

static inline bool progress_is_idle(const struct progress *p)
{
    return p->first == p->next;
}

#endif
