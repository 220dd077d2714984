/*
 * Subscription group configurations as JSON: UPDATE_AND_CREATE_SUBSCRIPTIONGROUP 200,
 * GET_SUBSCRIPTIONGROUP_CONFIG 352, GET_ALL_SUBSCRIPTIONGROUP_CONFIG 201.
 *
 * Attributes, retry policy and subscriptions are JSON texts, written anew from what was read: they
 * are compact, and have the members of RocketMQ's classes and no others.
 *
 * Owns:    what was decoded owns its arrays, texts and the parsed text its slices point into;
 *          body_tree_fini and group_table_fini free them.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode there is nothing to free; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_GROUP_H
#define CORE_PROTO_BODY_GROUP_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/proto/body_topic.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GROUP_TEXT_MAX       8192 /* each of the three texts: a subscription is about 100 bytes */
#define GROUP_ATTRIBUTES_MAX 64   /* RocketMQ knows eight */

struct group_config {
    struct slice name;
    bool is_consume_enabled;
    bool is_consume_from_min_enabled;
    bool is_broadcast_enabled;
    bool is_orderly;
    bool is_notify_enabled; /* notifyConsumerIdsChangedEnable */
    int32_t retry_queue_count;
    int32_t retry_max_times;
    int32_t slow_broker_id; /* whichBrokerWhenConsumeSlowly */
    int32_t consume_timeout_min;
    int64_t broker_id;
    int32_t sys_flag;
    struct slice attributes;    /* object of strings; empty: none */
    struct slice retry_policy;  /* groupRetryPolicy; empty: RocketMQ's default */
    struct slice subscriptions; /* subscriptionDataSet, an array; empty: none */
};

/* RocketMQ's defaults for a group of that name. */
void group_config_init(struct group_config *group, struct slice name);

/* Append one SubscriptionGroupConfig object, the body of 200 and 352. Errors: buf_failed. */
void group_config_encode(struct buf *out, const struct group_config *group);

/*
 * Read the body of 200 into an empty tree, in which its texts live; absent fields keep their
 * defaults, unknown ones are passed over. ESCROW_EPROTO (also: the name is absent, empty or longer
 * than GROUP_LEN_MAX; one of the three texts is not what RocketMQ's class has), ESCROW_ELIMIT (a
 * text is longer than GROUP_TEXT_MAX), ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int group_config_decode(struct slice body, struct group_config *group,
                                        struct body_tree *tree);

/*
 * Change attributes as RocketMQ does, into an empty buffer: "+name" sets one, "-name" takes away
 * one that is there; a name alone, as attributes are shown, sets it too. What is not named stays.
 * ESCROW_EINVAL (none to take away, no name, a name twice), ESCROW_ELIMIT (more than
 * GROUP_ATTRIBUTES_MAX, or a text longer than GROUP_TEXT_MAX), ESCROW_ENOMEM; *err has the text.
 */
ESCROW_MUST_USE int group_attributes_change(struct slice current, struct slice changes,
                                            struct buf *out, struct err_ctx *err);

struct group_table {
    struct group_config *groups;
    size_t group_count;
    struct data_version version;
    struct body_tree tree; /* private */
};

/* Body of 201: {"dataVersion":{...},"subscriptionGroupTable":{name:{...}}}. */
void group_table_encode(struct buf *out, const struct group_table *table);
ESCROW_MUST_USE int group_table_decode(struct slice body, struct group_table *table);
void group_table_fini(struct group_table *table);

#endif
