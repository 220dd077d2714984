/*
 * How far one topic of one old broker has been copied, and where its messages went: what the new
 * broker stores with every batch (core/proto/body_publish.h), so that a copy that was broken off
 * goes on exactly where it was, and a group's old offset can be told as a new one.
 *
 * The queues of an old broker get ids of their own in the new topic: old id + base. The messages of
 * one old queue lie in their new one in the order of their old offsets. Two things come between
 * them, so that they are kept as runs: old offsets that nothing was copied from (gaps), and, in the
 * new queue, messages of others. What was published is put at the end that the queue had, which is
 * known only when somebody looks (copy_place_look): if the queue has become longer than by our
 * messages, then others' lie somewhere between those, and where ours are is forgotten. A new offset
 * that no run holds may be anybody's.
 *
 * A position that becomes too long is shrunk: runs that lie together in the new queue become one,
 * whose gaps are forgotten. Nothing is lost by that: an old offset in it is told as the new offset
 * of its first message.
 *
 *   version u8 = 2, name length u16, name, base u32, places u16 (little-endian), and for each,
 *   ascending by queue, as integers of 7 bits a byte, the lowest first, the top bit set in all
 *   bytes but the last:
 *   queue, first, next - first, last ms, sure, end - sure, runs, and for each, ascending:
 *   first - the old offset behind the run before (the first: first), span - 1, span - count,
 *   at - the new offset behind the run before (the first: 0)
 *
 * Owns:    the places, and they their runs.
 * Thread:  any. Pure.
 * Holds:   first < next; sure <= end; runs ascend in old and new offsets, in [first, next) and
 *          [0, end).
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

struct copy_run {
    int64_t first; /* old offset */
    int64_t span;  /* old offsets; more than messages: there are gaps, and it is not known where */
    int64_t count; /* messages */
    int64_t at;    /* new offset of the first one; nothing lies between them */
};

struct copy_place {
    uint32_t queue;  /* old id */
    int64_t first;   /* old offset of the first message that was copied */
    int64_t next;    /* old offset behind the last one; == first: none yet, and it is not encoded */
    int64_t last_ms; /* when the old broker stored the last one: how it is known again */
    int64_t sure;    /* new offset up to which somebody has looked */
    int64_t end;     /* new offset that the next message gets if nobody else writes */
    struct copy_run *runs;
    size_t run_count;
    size_t run_cap;
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

/* Fewer runs, about half of those of the place that has most. false: no place has two. */
bool copy_position_shrink(struct copy_position *p);

/* The place of an old queue; NULL when nothing was copied from it so far. */
struct copy_place *copy_position_find(const struct copy_position *p, uint32_t queue);

/*
 * A new place, whose first message gets this new offset. The queue has none so far. NULL when out
 * of memory. Moves the other places.
 */
struct copy_place *copy_position_add(struct copy_position *p, uint32_t queue, int64_t start);

/* One more message, with an old offset that is not below place->next. ESCROW_ENOMEM. */
ESCROW_MUST_USE int copy_place_add(struct copy_place *place, int64_t old_offset);

/* The new queue ends there now. */
void copy_place_look(struct copy_place *place, int64_t max);

static inline bool copy_place_is_sure(const struct copy_place *place)
{
    return place->sure == place->end;
}

/*
 * Where a group goes on whose next message in the old queue is at old_offset, and which wants
 * nothing below `from` in the new one: the first message that is none of ours, or one of ours that
 * it has not consumed. skip_others: the first of ours that it has not consumed, as far as that is
 * known.
 */
int64_t copy_place_find(const struct copy_place *place, int64_t from, int64_t old_offset,
                        bool skip_others);

/* How many of ours with at least that old offset lie in [from, to) of the new queue. */
int64_t copy_place_count(const struct copy_place *place, int64_t old_offset, int64_t from,
                         int64_t to);

/* How many of ours with a lower old offset lie at `from` or behind it; at most so many. */
int64_t copy_place_again(const struct copy_place *place, int64_t old_offset, int64_t from);

#endif
