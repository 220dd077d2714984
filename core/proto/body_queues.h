/*
 * Bodies keyed by message queue: queue locks (41, 42), topic statistics (202), consume statistics
 * (208), offset tables (220). A queue as a map key is written as fastjson writes it, a raw object:
 * {{"brokerName":"b","queueId":0,"topic":"t"}:5}. That is what Java, Go and C++ read; see
 * json_text.h for reading it back.
 *
 * Owns:    what was decoded owns its array and the parsed text; *_fini frees both.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_QUEUES_H
#define CORE_PROTO_BODY_QUEUES_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_tree.h"
#include "core/proto/json_write.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_writer;

struct message_queue {
    struct slice topic;
    struct slice broker_name;
    int32_t queue_id;
};

/* The queue as a JSON object. */
void message_queue_write(struct json_writer *w, const struct message_queue *queue);

/* LOCK_BATCH_MQ 41 and UNLOCK_BATCH_MQ 42: {consumerGroup, clientId, mqSet:[...]} */
struct queue_lock {
    struct slice group;
    struct slice client_id;
    bool is_only_this_broker;
    struct message_queue *queues;
    size_t queue_count;
    struct body_tree tree; /* private */
};

void queue_lock_encode(struct buf *out, const struct queue_lock *lock);
ESCROW_MUST_USE int queue_lock_decode(struct slice body, struct queue_lock *lock);
void queue_lock_fini(struct queue_lock *lock);

/* Answer to 41: {"lockOKMQSet":[...]}. Decoded with queue_set_decode. */
void queue_set_encode(struct buf *out, const struct message_queue *queues, size_t count);

struct queue_set {
    struct message_queue *queues;
    size_t count;
    struct body_tree tree; /* private */
};
ESCROW_MUST_USE int queue_set_decode(struct slice body, struct queue_set *set);
void queue_set_fini(struct queue_set *set);

/* One row of any of the three tables; the members that a table does not have are 0. */
struct queue_stats {
    struct message_queue queue;
    int64_t min_offset;      /* 202 */
    int64_t max_offset;      /* 202; in 208 brokerOffset */
    int64_t consumer_offset; /* 208; in 220 and 221 the offset */
    int64_t pull_offset;     /* 208 */
    int64_t last_ms;         /* 202 lastUpdateTimestamp, 208 lastTimestamp */
};

enum queue_table_kind {
    QUEUE_TABLE_TOPIC,   /* 202 {"offsetTable":{{mq}:{...}},"topicPutTps":0.0} */
    QUEUE_TABLE_CONSUME, /* 208 {"consumeTps":0.0,"offsetTable":{{mq}:{...}}} */
    QUEUE_TABLE_OFFSETS, /* 220 {"offsetTable":{{mq}:5}} */
    QUEUE_TABLE_MEMBER   /* a member's answer to 221 {"messageQueueTable":{{mq}:5}} */
};

struct queue_table {
    struct queue_stats *rows;
    size_t count;
    double tps;            /* topicPutTps or consumeTps */
    struct body_tree tree; /* private */
};

void queue_table_encode(struct buf *out, enum queue_table_kind kind,
                        const struct queue_table *table);
void queue_table_write(struct json_writer *w, enum queue_table_kind kind,
                       const struct queue_table *table);

/* {{mq}:5}: the map alone, of the offsets of 220. */
void queue_offsets_write(struct json_writer *w, const struct queue_table *table);

/* ESCROW_EPROTO, ESCROW_ELIMIT, ESCROW_ENOMEM. */
ESCROW_MUST_USE int queue_table_decode(struct slice body, enum queue_table_kind kind,
                                       struct queue_table *table);
void queue_table_fini(struct queue_table *table);

#endif
