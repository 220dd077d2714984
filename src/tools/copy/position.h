/*
 * How far one topic of one old broker has been copied, and where its messages went: what the new
 * broker stores with every batch (core/proto/body_publish.h), so that a copy that was broken off
 * goes on exactly where it was, and a group's old offset can be told as a new one.
 *
 * The queues of an old broker get ids of their own in the new topic: old id + base. The messages of
 * one old queue lie in their new one without anything between them, from `start` on, in the order
 * of their old offsets; old offsets may have gaps (what the old broker had deleted when the copy
 * came to it), so that they are kept as runs. Whether something else lies between them is what the
 * state says.
 *
 *   version u8 = 1, name length u16, name, base u32, places u16, and for each, ascending by queue:
 *   queue u32, state u8, start i64, last i64, runs u16, and for each, ascending: first i64, count
 *   i64 (little-endian)
 *
 * Owns:    the places.
 * Thread:  any. Pure.
 * Holds:   a place has at least one run; runs do not touch; counts are at least 1.
 */
#ifndef SRC_TOOLS_COPY_POSITION_H
#define SRC_TOOLS_COPY_POSITION_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define COPY_RUNS_MAX 64

enum copy_state {
    COPY_CLEAN, /* looked at when the queue had been copied: nothing lies between its messages */
    COPY_OPEN,  /* copying was under way, nobody has looked */
    COPY_MIXED  /* something else lies, or may lie, between them or before them */
};

struct copy_run {
    int64_t first; /* old offset */
    int64_t count;
};

struct copy_place {
    uint32_t queue; /* old id */
    enum copy_state state;
    int64_t start;   /* new offset of the first */
    int64_t last_ms; /* when the old broker stored the last one: how it is known again */
    size_t run_count;
    struct copy_run runs[COPY_RUNS_MAX];
};

struct copy_position {
    uint32_t base;
    size_t place_count;
    size_t place_cap;
    struct copy_place *places;
};

void copy_position_fini(struct copy_position *p); /* all zeros is fine, and twice */

/* Append it. Errors: buf_failed. */
void copy_position_encode(struct buf *out, struct slice name, const struct copy_position *p);

/*
 * Read it into an all-zero struct. ESCROW_EPROTO, ESCROW_EVERSION, ESCROW_EFOREIGN (it has another
 * name), ESCROW_ENOMEM; then the struct is empty.
 */
ESCROW_MUST_USE int copy_position_decode(struct slice in, struct slice name,
                                         struct copy_position *p);

/* The place of an old queue; NULL when nothing was copied from it so far. */
struct copy_place *copy_position_find(const struct copy_position *p, uint32_t queue);

/*
 * A new place, which has no run yet and gets one before it is encoded. The queue has none so far.
 * NULL when out of memory. Moves the other places.
 */
struct copy_place *copy_position_add(struct copy_position *p, uint32_t queue, int64_t start);

/*
 * One more message, with an old offset that is not below copy_place_next. ESCROW_ELIMIT: too many
 * gaps.
 */
ESCROW_MUST_USE int copy_place_add(struct copy_place *place, int64_t old_offset);

int64_t copy_place_next(const struct copy_place *place);  /* old offset behind the last; 0: none */
int64_t copy_place_total(const struct copy_place *place); /* messages */

/* New offset of the first message that is not below an old offset; that behind the last. */
int64_t copy_place_find(const struct copy_place *place, int64_t old_offset);

#endif
