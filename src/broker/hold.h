/*
 * Held pulls: long polling. A pull that found nothing new waits here until a message comes that it
 * may want, its time is up, its connection goes, or the broker drains; then it runs again or is
 * answered "nothing found". What its filter does not want moves it on without waking it.
 *
 * Owns:    every struct pull in it (pull.h) and one entry per queue that somebody waits for.
 * Thread:  loop.
 * Holds:   a held pull is in the list of its session and of its queue, and its timer runs. count <=
 *          config pulls.held.max.
 */
#ifndef SRC_BROKER_HOLD_H
#define SRC_BROKER_HOLD_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/slice.h"
#include "core/base/strmap.h"
#include "core/io_uv/loop.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct session;
struct pull;

struct hold {
    struct strmap queues; /* topic, 0x01, queue id -> struct hold_queue */
    struct list woken;    /* queues with pulls that are to run in this iteration */
    struct loop_deferred wake;
    size_t count;
};

void hold_init(struct broker *b, struct hash_key key);
void hold_fini(struct broker *b); /* nothing is held any more */

/* Wait. Takes the pull on success. ESCROW_ELIMIT, ESCROW_ENOMEM: it still is the caller's. */
ESCROW_MUST_USE int hold_add(struct broker *b, struct pull *pull, uint64_t wait_ms);

/* A message that became visible in its queue. */
struct hold_arrival {
    struct slice topic;
    uint32_t queue_id;
    int64_t queue_offset;
    int64_t tag_code;
    bool has_properties; /* false: they are not at hand */
    struct slice properties;
};

/*
 * Wake who may want it. Cheap: called for every message; HOLD_SCAN_MAX bounds what filters may
 * cost, and those who are not asked any more are woken.
 */
#define HOLD_SCAN_MAX ((uint64_t)1 << 20)
void hold_notify(struct broker *b, const struct hold_arrival *arrival);

/* The session is gone: its pulls with it. */
void hold_on_close(struct broker *b, struct session *s);

/* Answer every held pull "nothing found": the broker drains. */
void hold_release_all(struct broker *b);

#endif
