/*
 * Held pulls: long polling. A pull that found nothing new waits here until a message comes that it
 * may want, its time is up, its connection goes, or the broker drains; then it runs again or is
 * answered "nothing found". What its filter does not want moves it on without waking it.
 *
 * A message asks each filter of its queue once, however many pulls have it (waits.h). What is
 * woken, or has waited long enough, runs in the next turns of the loop, HOLD_RUNS_MAX in each.
 *
 * Owns:    every struct pull in it (pull.h).
 * Thread:  loop.
 * Holds:   a held pull is in the list of its session and in waits, and its timer runs.
 *          waits.count <= config pulls.held.max.
 */
#ifndef SRC_BROKER_HOLD_H
#define SRC_BROKER_HOLD_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/slice.h"
#include "core/io_uv/loop.h"
#include "src/broker/waits.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct session;
struct pull;

#define HOLD_RUNS_MAX 128 /* of one turn */

struct hold {
    struct waits waits; /* "topics": topic, 0x01, queue id */
    struct list over;   /* pulls that waited long enough, to be answered */
    struct loop_deferred wake;
    uint64_t scan_left; /* of this turn */
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
 * Wake who may want it. Cheap: called for every message; HOLD_SCAN_MAX bounds what filters may cost
 * in one turn, and those who are not asked any more are woken.
 */
#define HOLD_SCAN_MAX ((uint64_t)1 << 20)
void hold_notify(struct broker *b, const struct hold_arrival *arrival);

/* The session is gone: its pulls with it. */
void hold_on_close(struct broker *b, struct session *s);

/* Answer every held pull "nothing found": the broker drains. */
void hold_release_all(struct broker *b);

#endif
