/*
 * How a consumer group asks for the messages of a topic when the broker assigns its queues: by
 * pulling, unless SET_MESSAGE_REQUEST_MODE said by popping.
 *
 * Durable through MODE records: a change is appended and becomes true in request_modes_apply, live
 * and in recovery alike. The checkpoint keeps the table as one section.
 *
 * Owns:    its table.
 * Thread:  loop.
 * Pure:    no clock, no I/O.
 * Holds:   what is not in it pulls; nothing that pulls is in it.
 */
#ifndef SRC_BROKER_REQUEST_MODES_H
#define SRC_BROKER_REQUEST_MODES_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"
#include "core/proto/body_pop.h"

#include <stdbool.h>
#include <stdint.h>

#define REQUEST_MODES_MAX 20000 /* (group, topic) pairs that pop; more are refused */

struct request_modes {
    struct strmap by_pair; /* group_topic.h */
};

void request_modes_init(struct request_modes *m, struct hash_key key);
void request_modes_fini(struct request_modes *m);

/* *share_queues: how many other members' queues a member shares; <= 0 = all share all. */
enum request_mode request_modes_find(const struct request_modes *m, struct slice group,
                                     struct slice topic, int32_t *share_queues);

/* Is there room for a pair that is not in it yet? */
bool request_modes_is_full(const struct request_modes *m);

/* Payload of a MODE record (core/store/FORMAT.md, "MODE"). */
void request_mode_encode(struct buf *out, const struct mode_request *mode);

/* Apply a MODE record. ESCROW_ECORRUPT when malformed, ESCROW_ENOMEM. */
ESCROW_MUST_USE int request_modes_apply(struct request_modes *m, struct slice payload,
                                        struct err_ctx *err);

/* The group, or the topic, is gone: so is what was said of it (the other one is empty). */
void request_modes_remove(struct request_modes *m, struct slice group, struct slice topic);

/* Checkpoint section "modes": MODE payloads. Load expects an empty table. */
void request_modes_save(const struct request_modes *m, struct buf *out);
ESCROW_MUST_USE int request_modes_load(struct request_modes *m, struct slice section,
                                       struct err_ctx *err);

#endif
