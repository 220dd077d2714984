/*
 * Bodies that only administration tools read: times of a group's queues (QUERY_CONSUME_TIME_SPAN
 * 303), traffic (VIEW_BROKER_STATS_DATA 315), consume statistics of all groups
 * (GET_BROKER_CONSUME_STATS 317), entries of a consume queue (QUERY_CONSUME_QUEUE 321), what a
 * group subscribes to (QUERY_SUBSCRIPTION_BY_CONSUMER 345). Written only.
 *
 * Owns:    nothing.
 * Thread:  any.
 * Errors:  buf_failed.
 */
#ifndef CORE_PROTO_BODY_ADMIN_H
#define CORE_PROTO_BODY_ADMIN_H

#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_queues.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* 303: {"consumeTimeSpanSet":[{"consumeTimeStamp":1,...}]} */
struct time_span {
    struct message_queue queue;
    int64_t min_ms; /* store time of the first message; -1: none */
    int64_t max_ms; /* of the last one */
    int64_t consumed_ms;
    int64_t delay_ms;
};
void time_spans_encode(struct buf *out, const struct time_span *spans, size_t count);

/* 345; sub NULL: there is none */
void group_subscription_encode(struct buf *out, struct slice group, struct slice topic,
                               const struct subscription *sub);

/* 315: {"statsDay":{"sum":9,"tps":0.1},"statsHour":{...},"statsMinute":{...}} */
struct traffic_span {
    uint64_t sum;
    double per_second;
};
void traffic_encode(struct buf *out, const struct traffic_span *minute,
                    const struct traffic_span *hour, const struct traffic_span *day);

/* 317: one element per group and topic; they share the group's name. */
struct group_stats {
    struct slice group;
    struct queue_table table; /* QUEUE_TABLE_CONSUME */
};
void group_stats_encode(struct buf *out, struct slice broker_addr, const struct group_stats *groups,
                        size_t count);

/* 321 */
struct queue_slot {
    int64_t physical_offset;
    int32_t size_bytes;
    int64_t tag_code;
    bool matches; /* the group's filter wants it */
};
struct queue_view {
    const struct queue_slot *slots;
    size_t count;
    int64_t min_offset;
    int64_t max_offset;
    const struct subscription *subscription; /* NULL: not asked for, or the group has none */
};
void queue_view_encode(struct buf *out, const struct queue_view *view);

#endif
