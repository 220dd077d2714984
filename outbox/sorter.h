/*
 * Puts the rows of one difference into the order in which they are published: by the highest id of
 * the row's transaction, then by id (README.md, "Order"). The database could do it, at three times
 * the cost of reading; it does when the difference is too big for this.
 *
 * Owns:    copies of the rows.
 * Thread:  the relay's. Pure.
 * Holds:   size_bytes <= bytes_max.
 */
#ifndef OUTBOX_SORTER_H
#define OUTBOX_SORTER_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "outbox/row.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sorter_entry;

struct sorter {
    size_t bytes_max;
    struct buf arena;
    struct sorter_entry *entries;
    size_t count;
    size_t cap;
    size_t next; /* to be handed out */
};

void sorter_init(struct sorter *s, size_t bytes_max);
void sorter_fini(struct sorter *s);

/*
 * Copy a row; its order_id is its transaction's id here. ESCROW_ELIMIT: no more fits.
 * ESCROW_ENOMEM. Nothing was added then.
 */
ESCROW_MUST_USE int sorter_put(struct sorter *s, const struct outbox_row *row);

/* All rows are there. sorter_next hands them out in order, each with its real order_id. */
void sorter_sort(struct sorter *s);
bool sorter_next(struct sorter *s, struct outbox_row *row);

/* Forget everything; memory beyond what a usual difference needs is given back. */
void sorter_clear(struct sorter *s);

static inline size_t sorter_size_bytes(const struct sorter *s)
{
    return s->arena.len;
}

#endif
