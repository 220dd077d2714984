#include "core/proto/body_admin.h"

#include "core/proto/json_write.h"

/* ---- one group ---- */

void time_spans_encode(struct buf *out, const struct time_span *spans, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "consumeTimeSpanSet");
    json_write_array_begin(&w);
    for (size_t i = 0; i < count; i++) {
        json_write_object_begin(&w);
        json_put_i64(&w, "consumeTimeStamp", spans[i].consumed_ms);
        json_put_i64(&w, "delayTime", spans[i].delay_ms);
        json_put_i64(&w, "maxTimeStamp", spans[i].max_ms);
        json_write_key(&w, "messageQueue");
        message_queue_write(&w, &spans[i].queue);
        json_put_i64(&w, "minTimeStamp", spans[i].min_ms);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

void group_subscription_encode(struct buf *out, struct slice group, struct slice topic,
                               const struct subscription *sub)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_string(&w, "group", group);
    if (sub != NULL) {
        json_write_key(&w, "subscriptionData");
        subscription_encode(&w, sub);
    }
    json_put_string(&w, "topic", topic);
    json_write_object_end(&w);
}

/* ---- traffic ---- */

static void put_span(struct json_writer *w, const char *key, const struct traffic_span *span)
{
    json_write_key(w, key);
    json_write_object_begin(w);
    json_put_i64(w, "sum", span->sum > INT64_MAX ? INT64_MAX : (int64_t)span->sum);
    json_write_key(w, "tps");
    json_write_f64(w, span->per_second);
    json_write_object_end(w);
}

void traffic_encode(struct buf *out, const struct traffic_span *minute,
                    const struct traffic_span *hour, const struct traffic_span *day)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    put_span(&w, "statsDay", day);
    put_span(&w, "statsHour", hour);
    put_span(&w, "statsMinute", minute);
    json_write_object_end(&w);
}

/* ---- groups ---- */

static int64_t total_diff(const struct group_stats *groups, size_t count, bool is_in_flight)
{
    int64_t sum = 0;

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < groups[i].table.count; j++) {
            const struct queue_stats *row = &groups[i].table.rows[j];
            sum += (is_in_flight ? row->pull_offset : row->max_offset) - row->consumer_offset;
        }
    }
    return sum;
}

void group_stats_encode(struct buf *out, struct slice broker_addr, const struct group_stats *groups,
                        size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_string(&w, "brokerAddr", broker_addr);
    json_write_key(&w, "consumeStatsList");
    json_write_array_begin(&w);
    for (size_t i = 0; i < count; i++) {
        json_write_object_begin(&w);
        json_write_key_slice(&w, groups[i].group);
        json_write_array_begin(&w);
        queue_table_write(&w, QUEUE_TABLE_CONSUME, &groups[i].table);
        json_write_array_end(&w);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    json_put_i64(&w, "totalDiff", total_diff(groups, count, false));
    json_put_i64(&w, "totalInflightDiff", total_diff(groups, count, true));
    json_write_object_end(&w);
}

/* ---- entries of a queue ---- */

void queue_view_encode(struct buf *out, const struct queue_view *view)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_i64(&w, "maxQueueIndex", view->max_offset);
    json_put_i64(&w, "minQueueIndex", view->min_offset);
    json_write_key(&w, "queueData");
    json_write_array_begin(&w);
    for (size_t i = 0; i < view->count; i++) {
        json_write_object_begin(&w);
        json_put_bool(&w, "eval", view->slots[i].matches);
        json_put_i64(&w, "physicOffset", view->slots[i].physical_offset);
        json_put_i64(&w, "physicSize", view->slots[i].size_bytes);
        json_put_i64(&w, "tagsCode", view->slots[i].tag_code);
        json_write_object_end(&w);
    }
    json_write_array_end(&w);
    if (view->subscription != NULL) {
        json_write_key(&w, "subscriptionData");
        subscription_encode(&w, view->subscription);
    }
    json_write_object_end(&w);
}
