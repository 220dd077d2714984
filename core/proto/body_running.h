/*
 * What a consumer answers when an administrator asks through a broker: GET_CONSUMER_RUNNING_INFO
 * 307, GET_CONSUMER_STATUS_FROM_CLIENT 221, CONSUME_MESSAGE_DIRECTLY 309. Written only: their
 * readers are mqadmin and tools like it.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_BODY_RUNNING_H
#define CORE_PROTO_BODY_RUNNING_H

#include "core/base/buf.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_queues.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Keys of the properties, as mqadmin reads them. */
#define RUNNING_NAME_SERVERS "PROP_NAMESERVER_ADDR"
#define RUNNING_THREADS      "PROP_THREADPOOL_CORE_SIZE"
#define RUNNING_ORDERLY      "PROP_CONSUMEORDERLY" /* "true" or "false" */
#define RUNNING_TYPE         "PROP_CONSUME_TYPE"   /* consume_type_name */
#define RUNNING_VERSION      "PROP_CLIENT_VERSION"
#define RUNNING_STARTED      "PROP_CONSUMER_START_TIMESTAMP" /* ms since 1970 */

struct running_queue {
    struct message_queue queue;
    int64_t commit_offset;
    int64_t first_offset; /* of the messages in hand; 0 when there is none */
    int64_t last_offset;
    int64_t count; /* of them */
    bool is_locked;
    bool is_dropped;
    int64_t locked_ms; /* ms since 1970; 0 = never */
    int64_t pulled_ms;
    int64_t consumed_ms;
};

struct running_topic {
    struct slice topic;
    double handler_ms; /* of one message */
    double ok_per_s;
    double failed_per_s;
    int64_t failed;
};

struct running_info {
    const struct kv_pair *properties;
    size_t property_count;
    const struct subscription *subscriptions;
    size_t subscription_count;
    const struct running_queue *queues;
    size_t queue_count;
    const struct running_topic *topics;
    size_t topic_count;
};

/* Body of 307. Errors: buf_failed. */
void running_info_encode(struct buf *out, const struct running_info *info);

/* Body of 221: the commit_offset of each queue. */
void running_offsets_encode(struct buf *out, const struct running_queue *queues, size_t count);

/* Body of 309. result: "CR_SUCCESS" or "CR_LATER". */
struct consume_directly {
    bool is_orderly;
    const char *result;
    int64_t spent_ms;
};
void consume_directly_encode(struct buf *out, const struct consume_directly *done);

#endif
