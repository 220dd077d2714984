/*
 * One pull that could not be answered at once: it waits in hold.h, or reads from disk in the pool.
 *
 * Owns:    a copy of everything it needs of its request.
 * Thread:  loop; pull_read runs store_fetch_run in the pool.
 */
#ifndef SRC_BROKER_PULL_H
#define SRC_BROKER_PULL_H

#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/store/store.h"
#include "src/broker/fair.h"
#include "src/broker/pull_filter.h"
#include "src/broker/session.h"
#include "src/broker/waits.h"

#include <stdbool.h>
#include <stdint.h>

struct pull {
    struct broker *broker;
    struct deferred deferred;
    struct list by_session;
    struct wait_item waiter;   /* of hold.waits; or of hold.over */
    struct loop_timer timer;   /* while held */
    struct fair_item slot;     /* of pump.reads */
    struct store_fetch *fetch; /* while it has a slot */
    struct pool_job job;
    int64_t offset;
    int64_t wait_until_ms; /* monotonic; 0 = does not wait */
    uint32_t queue_id;
    uint32_t count_max;
    size_t bytes_max;
    struct filter *filter; /* a reference; NULL = every message */
    char topic[RETRY_TOPIC_LEN_MAX + 1];
    char group[GROUP_LEN_MAX + 1];
};

/* Run it: answer, read from disk, or wait. Takes the pull (frees it when it is answered). */
void pull_run(struct pull *pull);

/* Answer "nothing found", from where it has come to, and free. */
void pull_give_up(struct pull *pull);

/* The peer is gone: free without an answer. */
void pull_drop(struct pull *pull);

#endif
