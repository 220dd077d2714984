#include "core/proto/body_running.h"

#include "core/proto/json_write.h"

static void put_queue(struct json_writer *w, const struct running_queue *q)
{
    message_queue_write(w, &q->queue);
    json_write_object_key_end(w);
    json_write_object_begin(w);
    json_put_i64(w, "cachedMsgCount", q->count);
    json_put_i64(w, "cachedMsgMaxOffset", q->last_offset);
    json_put_i64(w, "cachedMsgMinOffset", q->first_offset);
    json_put_i64(w, "commitOffset", q->commit_offset);
    json_put_bool(w, "droped", q->is_dropped); /* as 4.9 spells it */
    json_put_bool(w, "dropped", q->is_dropped);
    json_put_i64(w, "lastConsumeTimestamp", q->consumed_ms);
    json_put_i64(w, "lastLockTimestamp", q->locked_ms);
    json_put_i64(w, "lastPullTimestamp", q->pulled_ms);
    json_put_bool(w, "locked", q->is_locked);
    json_write_object_end(w);
}

static void put_topic(struct json_writer *w, const struct running_topic *t)
{
    json_write_key_slice(w, t->topic);
    json_write_object_begin(w);
    json_put_i64(w, "consumeFailedMsgs", t->failed);
    json_write_key(w, "consumeFailedTPS");
    json_write_f64(w, t->failed_per_s);
    json_write_key(w, "consumeOKTPS");
    json_write_f64(w, t->ok_per_s);
    json_write_key(w, "consumeRT");
    json_write_f64(w, t->handler_ms);
    json_write_key(w, "pullRT");
    json_write_f64(w, 0);
    json_write_key(w, "pullTPS");
    json_write_f64(w, 0);
    json_write_object_end(w);
}

void running_info_encode(struct buf *out, const struct running_info *info)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "mqTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < info->queue_count; i++) {
        put_queue(&w, &info->queues[i]);
    }
    json_write_object_end(&w);
    json_write_key(&w, "properties");
    json_write_object_begin(&w);
    for (size_t i = 0; i < info->property_count; i++) {
        json_write_key_slice(&w, info->properties[i].key);
        json_write_string(&w, info->properties[i].value);
    }
    json_write_object_end(&w);
    json_write_key(&w, "statusTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < info->topic_count; i++) {
        put_topic(&w, &info->topics[i]);
    }
    json_write_object_end(&w);
    json_write_key(&w, "subscriptionSet");
    json_write_array_begin(&w);
    for (size_t i = 0; i < info->subscription_count; i++) {
        subscription_encode(&w, &info->subscriptions[i]);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

void running_offsets_encode(struct buf *out, const struct running_queue *queues, size_t count)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "consumerTable");
    json_write_object_begin(&w);
    json_write_object_end(&w);
    json_write_key(&w, "messageQueueTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < count; i++) {
        message_queue_write(&w, &queues[i].queue);
        json_write_object_key_end(&w);
        json_write_i64(&w, queues[i].commit_offset);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

void consume_directly_encode(struct buf *out, const struct consume_directly *done)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_put_bool(&w, "autoCommit", true);
    json_put_string(&w, "consumeResult", slice_str(done->result));
    json_put_bool(&w, "order", done->is_orderly);
    json_put_i64(&w, "spentTimeMills", done->spent_ms);
    json_write_object_end(&w);
}
