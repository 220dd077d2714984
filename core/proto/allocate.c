#include "core/proto/allocate.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/md5.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <stdlib.h>

#define MEMBER_POINTS 10
#define NAME_MAX      700 /* of a place: longer than names of topic and broker together */

struct allocate_point {
    uint32_t place;
    uint32_t order; /* of two at one place RocketMQ keeps that which came last */
    size_t member;
};

struct allocation allocate_average(size_t queues, size_t members, size_t index)
{
    size_t rest = queues % members;
    size_t size;
    size_t first;

    CHECK(members > 0 && index < members);
    if (queues <= members) {
        size = 1;
    } else {
        size = queues / members + (index < rest ? 1 : 0);
    }
    first = index < rest || queues <= members ? index * size : index * size + rest;
    if (first >= queues) {
        return (struct allocation){queues, 0};
    }
    return (struct allocation){first, first + size > queues ? queues - first : size};
}

/* The place of a name: the first four bytes of its MD5. */
static uint32_t place_of(const char *name, size_t len)
{
    uint8_t digest[MD5_SIZE];

    md5(slice_of(name, len), digest);
    return get_be32(digest);
}

static int point_compare(const void *a, const void *b)
{
    const struct allocate_point *x = a;
    const struct allocate_point *y = b;

    if (x->place != y->place) {
        return x->place < y->place ? -1 : 1;
    }
    return (x->order < y->order) - (x->order > y->order); /* the last one first: it is found */
}

int allocate_ring_init(struct allocate_ring *ring, const struct slice *members, size_t count)
{
    CHECK(count > 0);
    ring->count = count * MEMBER_POINTS;
    ring->points = mem_calloc(ring->count, sizeof *ring->points);
    if (ring->points == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < ring->count; i++) {
        char name[NAME_MAX];
        struct slice member = members[i / MEMBER_POINTS];
        int len = snprintf(name, sizeof name, "%.*s-%zu", SLICE_ARGS(member), i % MEMBER_POINTS);
        size_t used = (size_t)len < sizeof name ? (size_t)len : sizeof name - 1;
        ring->points[i] = (struct allocate_point){
            .place = place_of(name, used), .order = (uint32_t)i, .member = i / MEMBER_POINTS};
    }
    qsort(ring->points, ring->count, sizeof *ring->points, point_compare);
    return 0;
}

void allocate_ring_fini(struct allocate_ring *ring)
{
    mem_free(ring->points);
    ring->points = NULL;
    ring->count = 0;
}

int allocate_ring_owner(const struct allocate_ring *ring, struct slice topic, struct slice broker,
                        uint32_t queue, size_t *member)
{
    char name[NAME_MAX];
    int len = snprintf(name, sizeof name, "MessageQueue [topic=%.*s, brokerName=%.*s, queueId=%u]",
                       SLICE_ARGS(topic), SLICE_ARGS(broker), queue);
    size_t low = 0;
    size_t high = ring->count;
    uint32_t place;

    if (len < 0 || (size_t)len >= sizeof name) {
        return ESCROW_ELIMIT;
    }
    place = place_of(name, (size_t)len);
    while (low < high) { /* the first point at the place or behind it */
        size_t middle = low + (high - low) / 2;
        if (ring->points[middle].place < place) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *member = ring->points[low == ring->count ? 0 : low].member;
    return 0;
}
