#include "src/broker/retry_copy.h"

#include "core/base/limits.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "src/broker/broker.h"
#include "src/broker/delays.h"
#include "src/broker/topic_create.h"

#define RETRY_LEVEL_FIRST 3 /* delay level of the first retry: 10 s */

/*
 * Properties of the copy: where it came from, and nothing that would make it a half or delay it
 * again, but for its own time. Its level is there for consumers, as from RocketMQ's broker (0: a
 * dead letter): nobody reads it once the copy is stored.
 */
static int copy_properties(const struct record_view *view, struct broker *b, uint64_t offset,
                           const struct delay *delay, struct props_writer *w)
{
    const struct slice drop[] = {prop_name(PROP_DELAY),
                                 prop_name(PROP_TRAN_MSG),
                                 prop_name(PROP_RETRY_TOPIC),
                                 prop_name(PROP_ORIGIN_MESSAGE_ID),
                                 prop_name(PROP_TIMER_OUT_MS),
                                 prop_name(PROP_TIMER_DELAY_SEC),
                                 prop_name(PROP_TIMER_DELAY_MS),
                                 prop_name(PROP_TIMER_DELIVER_MS),
                                 prop_name(PROP_DLQ_ORIGIN_TOPIC),
                                 prop_name(PROP_DLQ_ORIGIN_MESSAGE_ID)};
    char id[MSGID_TEXT_MAX + 1];
    struct slice topic = view->f.topic;
    struct slice origin;

    if (!props_find(view->f.properties, prop_name(PROP_RETRY_TOPIC), &topic)) {
        topic = view->f.topic;
    }
    if (!props_find(view->f.properties, prop_name(PROP_ORIGIN_MESSAGE_ID), &origin)) {
        origin = slice_of(id, msgid_encode(&b->store_host, (int64_t)offset, id));
    }
    props_put_except(w, view->f.properties, drop, sizeof drop / sizeof drop[0]);
    props_put(w, prop_name(PROP_RETRY_TOPIC), topic);
    props_put(w, prop_name(PROP_ORIGIN_MESSAGE_ID), origin);
    props_put_i64(w, prop_name(PROP_DELAY), delay->level);
    if (delay->is_held) {
        props_put_i64(w, prop_name(PROP_TIMER_OUT_MS), delay->due_ms);
    } else {
        props_put(w, prop_name(PROP_DLQ_ORIGIN_TOPIC), topic);
        props_put(w, prop_name(PROP_DLQ_ORIGIN_MESSAGE_ID), origin);
    }
    return w->error;
}

/* How long a copy is held: the level the consumer named, or one that grows with each retry. */
static struct delay copy_delay(struct broker *b, int64_t level, int32_t reconsume_times)
{
    const struct delay_levels *levels = &b->config->delay.levels;
    int64_t wanted = level > 0 ? level : RETRY_LEVEL_FIRST + (int64_t)reconsume_times;
    int32_t bounded = delay_level_bound(levels, wanted < 1 ? 1 : wanted);
    int64_t now_ms = loop_wall_ms(b->loop);

    return (struct delay){.is_held = true,
                          .is_relative = true,
                          .level = bounded,
                          .due_ms = now_ms + delay_level_ms(levels, bounded)};
}

static int copy_store(struct broker *b, const struct record_fields *f, const struct delay *delay,
                      struct store_receipt *receipt)
{
    struct slice tags = SLICE_EMPTY;
    struct timer_info info;

    if (!delay->is_held) {
        return store_append_message(b->store, STORE_MESSAGE, f, NULL, receipt);
    }
    (void)props_find(f->properties, prop_name(PROP_TAGS), &tags); /* none: code 0 */
    info = delays_info(f, tags, delay);
    return delays_append(b, f, &info, receipt);
}

/* A queue that consumers know, as RocketMQ picks one: any. Dead letters have one queue. */
static int32_t copy_queue(struct broker *b, const struct topic *topic, bool is_dead)
{
    uint32_t queues =
        topic->write_queues < topic->read_queues ? topic->write_queues : topic->read_queues;

    return is_dead || queues < 2 ? 0 : (int32_t)rand_below(&b->rand, queues);
}

int retry_copy_append(struct broker *b, const struct record_view *view,
                      const struct retry_copy *copy, struct store_receipt *receipt,
                      struct err_ctx *err)
{
    static uint8_t properties[PROPERTIES_LEN_MAX]; /* loop thread only */
    struct props_writer w;
    struct record_fields f = view->f;
    struct name_buf name;
    struct topic *topic;
    struct delay delay = {.is_held = false};
    int rc =
        copy->is_dead ? name_dlq_topic(copy->group, &name) : name_retry_topic(copy->group, &name);

    if (rc == 0) {
        rc = topic_find_or_create(b, slice_str(name.text), SLICE_EMPTY, 1, &topic, err);
    }
    if (rc == 0) {
        props_writer_init(&w, properties, sizeof properties);
        if (!copy->is_dead) {
            delay = copy_delay(b, copy->delay_level, f.reconsume_times);
        }
        rc = copy_properties(view, b, copy->offset, &delay, &w);
    }
    if (rc != 0) {
        return rc;
    }
    f.topic = slice_str(topic->name);
    f.properties = slice_of(w.ptr, w.len);
    f.queue_id = copy_queue(b, topic, copy->is_dead);
    f.sys_flag &= ~SYSFLAG_TXN_MASK;
    f.prepared_offset = 0;
    f.reconsume_times++;
    f.store_ms = loop_wall_ms(b->loop);
    f.store_host = b->store_host;
    return copy_store(b, &f, &delay, receipt);
}
