/*
 * Consumer groups that an operator configured. A group needs no configuration to consume; without
 * one it has the defaults of group_config_init.
 *
 * Durable through GROUP records of the commit log: a change is appended as a record and becomes
 * true in groups_apply, live and in recovery alike. The checkpoint keeps the table as one section.
 *
 * Owns:    its entries; pointers stay valid until the next apply.
 * Thread:  loop.
 * Pure:    no clock, no I/O.
 * Holds:   names passed name_check_group; retry queues <= QUEUES_PER_TOPIC_MAX; none is added
 *          beyond GROUPS_MAX. As with RocketMQ, retry queues and retries may be below 1: none.
 */
#ifndef SRC_BROKER_GROUPS_H
#define SRC_BROKER_GROUPS_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"
#include "core/proto/body_group.h"

#include <stdbool.h>
#include <stdint.h>

#define GROUPS_MAX            32768
#define GROUPS_TEXT_BYTES_MAX ((size_t)16 * 1024 * 1024) /* 512 for each of the most groups */

struct groups {
    struct strmap by_name; /* group -> struct group_config, its name behind it */
    uint64_t version;      /* grows with every applied change */
    size_t text_bytes;     /* of attributes, policies and subscriptions: a checkpoint has them */
};

/* What a GROUP record does. */
enum group_change {
    GROUP_SET,
    GROUP_DELETE,            /* forget the configuration */
    GROUP_DELETE_AND_OFFSETS /* and what the group has consumed */
};

void groups_init(struct groups *g, struct hash_key key);
void groups_fini(struct groups *g);

/* NULL when it was not configured. */
const struct group_config *groups_find(const struct groups *g, struct slice name);

/* As configured, or the defaults; its name is borrowed from `name` or from the table. */
struct group_config groups_config(const struct groups *g, struct slice name);

/* Enter a copy, without a record: for tables that live no longer than a request. ESCROW_ENOMEM. */
ESCROW_MUST_USE int groups_add_scratch(struct groups *g, const struct group_config *group);

/*
 * May it be appended? ESCROW_EINVAL (a number that cannot be), ESCROW_ELIMIT (GROUPS_MAX,
 * GROUPS_TEXT_BYTES_MAX); *err has the text.
 */
ESCROW_MUST_USE int groups_check(const struct groups *g, const struct group_config *group,
                                 struct err_ctx *err);

/* Payload of a GROUP record (core/store/FORMAT.md, "GROUP"). */
void group_encode(struct buf *out, const struct group_config *group, enum group_change change);

/* Apply one. ESCROW_ECORRUPT when malformed, ESCROW_ENOMEM. */
struct group_applied {
    enum group_change change;
    struct slice name; /* borrowed from the payload */
};
ESCROW_MUST_USE int groups_apply(struct groups *g, struct slice payload,
                                 struct group_applied *applied, struct err_ctx *err);

/* Checkpoint section "groups". Load expects an empty table. */
void groups_save(const struct groups *g, struct buf *out);
ESCROW_MUST_USE int groups_load(struct groups *g, struct slice section, struct err_ctx *err);

/* Iterate in no order; *cursor starts at 0. NULL at the end. */
const struct group_config *groups_next(const struct groups *g, size_t *cursor);

#endif
