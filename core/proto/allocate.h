/*
 * Which queues of a topic a member of a consumer group takes, by the strategies of RocketMQ's
 * clients. All members see the same sorted lists and so come to disjoint shares. Pure.
 */
#ifndef CORE_PROTO_ALLOCATE_H
#define CORE_PROTO_ALLOCATE_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct allocation {
    size_t first;
    size_t count;
};

/*
 * Share of member `index` (< members, members > 0) of `queues` queues: a contiguous run of the
 * sorted queue list (RocketMQ: AVG, the default).
 */
struct allocation allocate_average(size_t queues, size_t members, size_t index);

/* Is this queue of the sorted list that of member `index`? They go round (AVG_BY_CIRCLE). */
static inline bool allocate_circle(size_t queue, size_t members, size_t index)
{
    return queue % members == index;
}

/*
 * Consistent hashing (CONSISTENT_HASH): every member is at ten places of a ring, a queue goes to
 * the next one, so that few queues change hands when a member comes or goes. Shares may differ
 * much, and may be empty.
 *
 * Owns:    the ring its points.
 */
struct allocate_point;

struct allocate_ring {
    struct allocate_point *points; /* by place */
    size_t count;
};

/* count > 0. ESCROW_ENOMEM, and then there is nothing to end. */
ESCROW_MUST_USE int allocate_ring_init(struct allocate_ring *ring, const struct slice *members,
                                       size_t count);
void allocate_ring_fini(struct allocate_ring *ring);

/* Which member has the queue: its index. ESCROW_ELIMIT: a name too long for a queue. */
ESCROW_MUST_USE int allocate_ring_owner(const struct allocate_ring *ring, struct slice topic,
                                        struct slice broker, uint32_t queue, size_t *member);

#endif
