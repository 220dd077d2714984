/*
 * Which queues of a topic a member of a consumer group takes: RocketMQ's averaging strategy. All
 * members see the same sorted lists and so come to disjoint shares. Pure.
 */
#ifndef CORE_PROTO_ALLOCATE_H
#define CORE_PROTO_ALLOCATE_H

#include <stddef.h>

struct allocation {
    size_t first;
    size_t count;
};

/*
 * Share of member `index` (< members, members > 0) of `queues` queues: a contiguous run of the
 * sorted queue list.
 */
struct allocation allocate_average(size_t queues, size_t members, size_t index);

#endif
