/*
 * Which queue a message goes to. With an ordering key always the same one, as long as the topic's
 * queues are the same; else one after another, away from a broker that just failed if there is
 * another.
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 */
#ifndef SRC_CLIENT_PICK_H
#define SRC_CLIENT_PICK_H

#include "core/base/slice.h"
#include "src/client/router.h"

struct pick {
    const struct topic_route *route;
    uint32_t create_queues; /* of a topic that the send creates: how many it will have */
    struct slice key;       /* empty: any queue */
    const char *avoid;      /* name of a broker; NULL = none */
    uint32_t *turn;         /* moves on with each message without a key */
};

/* false: no queue can be written to; nothing has changed. */
bool pick_queue(const struct pick *p, struct route_target *target, int32_t *queue_id);

#endif
