/*
 * ACK_MESSAGE 200051, BATCH_ACK_MESSAGE 200151, CHANGE_MESSAGE_INVISIBLETIME 200053 (PROTOCOL.md,
 * "Popping").
 *
 * They are answered at once: an acknowledgement is written with the consumer offsets every few
 * seconds, and after a crash its message may come again.
 */
#include "core/proto/body_pop.h"
#include "core/proto/names.h"
#include "core/proto/pop_info.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/pops.h"

#define STALE_TEXT "this delivery of the message is over, or was never made"

struct receipt {
    struct slice group;
    struct slice topic;
    struct slice text; /* of the handle */
    int64_t offset;
    int32_t queue_id;
    struct pop_handle handle;
    int64_t invisible_ms;
};

/* The fields of 200051 and 200053. */
static int receipt_decode(struct header *h, struct receipt *in, const char **field)
{
    *in = (struct receipt){.group = SLICE_EMPTY};
    if (header_get_str(h, *field = "consumerGroup", &in->group) != 0 ||
        name_check_group(in->group) != 0 || header_get_str(h, *field = "topic", &in->topic) != 0 ||
        header_get_i32(h, *field = "queueId", &in->queue_id) != 0 ||
        header_get_i64(h, *field = "offset", &in->offset) != 0 ||
        header_get_str(h, *field = "extraInfo", &in->text) != 0) {
        return ESCROW_EINVAL;
    }
    return 0;
}

/* The handle says the same as the fields do, or it is another's. */
static int receipt_handle(struct receipt *in)
{
    return pop_handle_decode(in->text, &in->handle) != 0 || in->handle.kind != POP_KIND_TOPIC ||
                   in->handle.queue_id != in->queue_id || in->handle.offset != in->offset
               ? ESCROW_EINVAL
               : 0;
}

/* A topic that exists, and a queue that it has; otherwise the request was answered. */
static bool queue_check(struct request *req, struct slice name, int32_t queue_id)
{
    const struct topic *topic = topics_find(&req->broker->topics, name);

    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     (int)(name.len > 255 ? 255 : name.len), (const char *)name.ptr);
        return false;
    }
    if (queue_id < 0 || (uint32_t)queue_id >= topic->read_queues) {
        request_fail(req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EINVAL,
                     "queueId[%d] is illegal, topic[%s] has %u queues", queue_id, topic->name,
                     topic->read_queues);
        return false;
    }
    return true;
}

/* What was never in the queue was never delivered. */
static bool offset_check(struct request *req, const struct receipt *in)
{
    struct store_queue_ref ref = {.topic = in->topic, .queue_id = (uint32_t)in->queue_id};
    int64_t min_offset;
    int64_t max_offset;

    (void)store_queue_range(req->broker->store, &ref, &min_offset, &max_offset);
    if (in->offset < 0 || in->offset > max_offset) {
        request_fail(req, RESPONSE_NO_MESSAGE, ESCROW_ENOTFOUND,
                     "offset %lld is not in queue %d, which ends at %lld", (long long)in->offset,
                     in->queue_id, (long long)max_offset);
        return false;
    }
    return true;
}

/* In the order in which RocketMQ's broker looks. */
static bool receipt_read(struct request *req, struct receipt *in)
{
    const char *field = "";

    if (receipt_decode(req->header, in, &field) != 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field %s is missing or malformed", field);
        return false;
    }
    if (!queue_check(req, in->topic, in->queue_id) || !offset_check(req, in)) {
        return false;
    }
    if (receipt_handle(in) != 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field extraInfo is malformed, or of another queue or offset");
        return false;
    }
    return true;
}

/* ---- acknowledge ---- */

void handle_pop_ack(struct request *req)
{
    struct receipt in;
    struct pop_key key;

    if (!receipt_read(req, &in)) {
        return;
    }
    key = (struct pop_key){in.group, in.topic, (uint32_t)in.handle.queue_id};
    if (pops_acknowledge(req->broker, &key, in.handle.offset, in.handle.pop_ms) == POP_STALE) {
        request_fail(req, RESPONSE_NO_MESSAGE, ESCROW_ENOTFOUND, STALE_TEXT);
    } else {
        request_ok(req);
    }
}

/* Returns how many deliveries were over. */
static size_t batch_acknowledge(struct broker *b, const struct batch_ack *ack)
{
    const struct topic *topic = topics_find(&b->topics, ack->topic);
    struct pop_key key = {ack->group, ack->topic, (uint32_t)ack->queue_id};
    size_t stale = 0;

    if (topic == NULL || (uint32_t)ack->queue_id >= topic->read_queues ||
        name_check_group(ack->group) != 0 || !slice_eq_str(ack->kind, "0")) {
        return 1;
    }
    for (size_t bit = 0; bit < ack->bits.len * 8; bit++) {
        if (batch_ack_has(ack, bit) &&
            pops_acknowledge(b, &key, ack->start_offset + (int64_t)bit, ack->pop_ms) == POP_STALE) {
            stale++;
        }
    }
    return stale;
}

void handle_pop_batch_ack(struct request *req)
{
    struct batch_acks acks;
    size_t stale = 0;
    int rc = batch_acks_decode(req->body, &acks);

    if (rc != 0) {
        request_fail(req, rc == ESCROW_ENOMEM ? -1 : RESPONSE_INVALID_PARAMETER, rc,
                     "batch of acknowledgements: %s", escrow_strerror(rc));
        return;
    }
    for (size_t i = 0; i < acks.count; i++) {
        stale += batch_acknowledge(req->broker, &acks.acks[i]);
    }
    if (acks.count == 0) {
        request_fail(req, RESPONSE_NO_MESSAGE, ESCROW_ENOTFOUND, "the batch is empty");
    } else if (stale > 0) {
        request_fail(req, RESPONSE_NO_MESSAGE, ESCROW_ENOTFOUND, "%zu of the batch: %s", stale,
                     STALE_TEXT);
    } else {
        request_ok(req);
    }
    batch_acks_fini(&acks);
}

/* ---- change ---- */

void handle_pop_change(struct request *req)
{
    struct broker *b = req->broker;
    struct receipt in;
    struct pop_key key;
    struct pop_delivery delivery;
    struct header_writer w;
    int64_t committed = 0;
    int64_t now_ms = pops_now(b);
    bool is_ordered;

    if (!receipt_read(req, &in)) {
        return;
    }
    is_ordered = in.handle.revive_queue == POP_REVIVE_ORDERED;
    if (header_get_i64(req->header, "invisibleTime", &in.invisible_ms) != 0 ||
        in.invisible_ms < 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field invisibleTime is missing or malformed");
        return;
    }
    in.invisible_ms = in.invisible_ms > POP_INVISIBLE_MAX ? POP_INVISIBLE_MAX : in.invisible_ms;
    key = (struct pop_key){in.group, in.topic, (uint32_t)in.handle.queue_id};
    /* What an ordered pop handed out keeps its popTime, and the handle counts on. */
    delivery = (struct pop_delivery){.pop_ms = is_ordered ? in.handle.pop_ms : now_ms,
                                     .due_ms = loop_mono_ms(b->loop) + in.invisible_ms};
    (void)offsets_find(&b->offsets, key.group, key.topic, key.queue, &committed);
    if (pop_table_change(b->pops.table, &key, committed, in.handle.offset, in.handle.pop_ms,
                         delivery) != POP_DONE) {
        request_fail(req, RESPONSE_NO_MESSAGE, ESCROW_ENOTFOUND, STALE_TEXT);
        return;
    }
    pops_arm(b);
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, "popTime", delivery.pop_ms);
        header_put_i64(&w, "invisibleTime", now_ms - delivery.pop_ms + in.invisible_ms);
        header_put_i64(&w, "reviveQid", is_ordered ? POP_REVIVE_ORDERED : 0);
        header_end(&w);
        request_end(req, &w);
    }
}
