/*
 * Topic registry: what topics exist and how many queues each has.
 *
 * Durable through TOPIC records of the commit log: a change is appended as a record and becomes
 * true in topics_apply, live and in recovery alike. The checkpoint keeps the whole table as one
 * section.
 *
 * Owns:    every struct topic in it; pointers stay valid until the topic is deleted or the table is
 *          freed.
 * Thread:  loop.
 * Pure:    no clock, no I/O.
 * Holds:   names passed name_check before they came in; 0 < queues <= QUEUES_PER_TOPIC_MAX; count
 *          <= TOPICS_MAX; none is created beyond REGISTER_TOPICS_MAX (older data may hold more).
 */
#ifndef SRC_BROKER_TOPICS_H
#define SRC_BROKER_TOPICS_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"
#include "core/proto/body_route.h" /* PERM_... */

#include <stdbool.h>
#include <stdint.h>

struct topic {
    char name[256];
    uint32_t read_queues;
    uint32_t write_queues;
    uint32_t perm;
    uint32_t sys_flag;
    uint32_t next_queue; /* round robin for sends without a queue; not durable */
    bool is_ordered;
    bool is_creating; /* its TOPIC record is appended but not yet applied: do not append another;
                         not durable */
    bool is_deleting; /* a record that deletes it is on its way: nothing more may enter it; not
                         durable */
};

struct topics {
    struct strmap by_name;
    uint64_t version; /* grows with every applied change; brokers register again when it moves */
};

void topics_init(struct topics *t, struct hash_key key);
void topics_fini(struct topics *t);

/* NULL when unknown. A topic whose creation is still on its way to disk is found, with is_creating
 * set. */
struct topic *topics_find(const struct topics *t, struct slice name);

/*
 * Enter a topic that is about to be appended as a TOPIC record: found from now on, with is_creating
 * set until topics_apply sees the record. ESCROW_EEXIST, ESCROW_ELIMIT (REGISTER_TOPICS_MAX),
 * ESCROW_ENOMEM, ESCROW_EINVAL; nothing has changed then.
 */
ESCROW_MUST_USE int topics_add(struct topics *t, const struct topic *topic, struct topic **out);

/* Take back topics_add when the append was refused. */
void topics_undo(struct topics *t, struct topic **topic);

/* Payload of a TOPIC record (core/store/FORMAT.md, "TOPIC"). */
void topic_encode(struct buf *out, const struct topic *topic, bool is_deleted);

/*
 * Apply a TOPIC record. *deleted is the topic that it deletes (borrowed from the payload), empty
 * when it does not. ESCROW_ECORRUPT when malformed, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int topics_apply(struct topics *t, struct slice payload, struct slice *deleted,
                                 struct err_ctx *err);

/* Checkpoint section "topics". Load expects an empty table. */
void topics_save(const struct topics *t, struct buf *out);
ESCROW_MUST_USE int topics_load(struct topics *t, struct slice section, struct err_ctx *err);

/* Iterate in no order; *cursor starts at 0. NULL at the end. */
const struct topic *topics_next(const struct topics *t, size_t *cursor);

#endif
