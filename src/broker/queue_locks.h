/*
 * Queue locks: which client of a group consumes a queue in order (LOCK_BATCH_MQ).
 *
 * A client renews its locks every 20 seconds; one that was not renewed for expiry_ms may
 * be taken by another. A closed connection releases nothing: the client behind it may still be
 * consuming. Nothing here is durable: after a restart the first to ask gets the lock, as in
 * RocketMQ.
 *
 * Owns:    the locks.
 * Thread:  loop.
 * Pure:    time comes in with the call.
 * Holds:   at most QUEUE_LOCKS_MAX locks; one lock for each (group, topic, queue).
 */
#ifndef SRC_BROKER_QUEUE_LOCKS_H
#define SRC_BROKER_QUEUE_LOCKS_H

#include "core/base/strmap.h"

#include <stdbool.h>
#include <stdint.h>

#define QUEUE_LOCKS_MAX 200000 /* about 400 bytes each */

struct queue_locks {
    struct strmap by_queue; /* "group@topic@queue" -> struct queue_lock_entry */
    int64_t expiry_ms;
    size_t sweep_at; /* expired locks are looked for when there are so many */
};

/* What is locked, and by whom. Names are checked by the caller. */
struct queue_lock_key {
    struct slice group;
    struct slice topic;
    int32_t queue_id;
    struct slice client_id;
};

void queue_locks_init(struct queue_locks *locks, struct hash_key key, int64_t expiry_ms);
void queue_locks_fini(struct queue_locks *locks);

/*
 * Take or renew. 0: it is the client's; ESCROW_EBUSY: another client holds it; ESCROW_ELIMIT,
 * ESCROW_ENOMEM. ESCROW_EINVAL: a name is too long.
 */
ESCROW_MUST_USE int queue_locks_take(struct queue_locks *locks, const struct queue_lock_key *key,
                                     int64_t now_ms);

/* Give back; nothing happens when another client, or nobody, holds it. */
void queue_locks_give(struct queue_locks *locks, const struct queue_lock_key *key);

#endif
