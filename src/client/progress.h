/*
 * How far a queue has been consumed: messages finish in any order, the stored offset is the first
 * one not finished.
 *
 * Owns:    one bit per message in progress.
 * Thread:  whoever owns the struct.
 * Holds:   base <= first <= next; bit i tells whether offset base + i is finished; that of `first`
 *          is not set, those below it are, those from `next` on are not. progress_check asserts it.
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
    int64_t base;  /* offset of bit 0 */
    uint64_t *bits;
    size_t cap; /* bits; multiple of 64 */
};

void progress_init(struct progress *p, int64_t offset);
void progress_fini(struct progress *p);

/*
 * `offset` (>= next) is begun; what lies between holds nothing for us (filtered, or gone) and
 * counts as finished. ESCROW_ENOMEM, and then nothing has changed.
 */
ESCROW_MUST_USE int progress_begin(struct progress *p, int64_t offset);

/* An offset begun before is finished; false when it is not in progress. */
bool progress_finish(struct progress *p, int64_t offset);

/*
 * Everything below `offset` has been seen; a smaller one than `next` changes nothing.
 * ESCROW_ENOMEM, nothing has changed.
 */
ESCROW_MUST_USE int progress_skip_to(struct progress *p, int64_t offset);

static inline bool progress_is_idle(const struct progress *p)
{
    return p->first == p->next;
}

void progress_check(const struct progress *p);

#endif
