/* What is stored of a send, besides its body. */
#include "core/proto/tags.h"
#include "src/broker/send.h"

#include <strings.h>

/* Does the client's string pass as it is? */
static bool properties_pass(const struct send *s)
{
    const struct props_known *p = &s->props;

    return s->req->to.type == HEADER_MSGPACK && p->reply_to_client.len == 0 &&
           p->uniq_key.len > 0 && p->wait.len == 0 && p->pop_ck.len == 0 && p->delay.len == 0 &&
           p->timer_out_ms.len == 0 && !s->delay.is_held;
}

/*
 * What RocketMQ's broker adds. Its clients need it: a 5.x consumer sends no trace of a message
 * without a region, and whoever replies to a request takes the topic of replies from CLUSTER. Ours
 * do not, and their messages are spared it, unless somebody is to reply.
 */
static void put_broker_properties(struct send *s, struct props_writer *w)
{
    bool is_ours = s->req->to.type == HEADER_MSGPACK;

    if (!is_ours) {
        props_put(w, SLICE_LIT("MSG_REGION"), SLICE_LIT(REGION_DEFAULT));
        props_put(w, SLICE_LIT("TRACE_ON"), SLICE_LIT("true"));
    }
    if (!is_ours || s->props.reply_to_client.len > 0) {
        props_put(w, SLICE_LIT("CLUSTER"), slice_str(s->broker->config->cluster_name));
    }
}

/*
 * What RocketMQ's broker leaves in a message that it delayed: its level, and topic and queue, which
 * were others meanwhile. Programs of its clients may look at them; here they say nothing new.
 */
static void put_delay_properties(struct send *s, struct props_writer *w)
{
    props_put_i64(w, prop_name(PROP_TIMER_OUT_MS), s->delay.due_ms);
    if (s->req->to.type == HEADER_MSGPACK || send_is_marked(s)) {
        return;
    }
    if (s->delay.level > 0) {
        props_put_i64(w, prop_name(PROP_DELAY), s->delay.level);
    }
    props_put(w, prop_name(PROP_REAL_TOPIC), slice_str(s->topic->name));
    props_put_i64(w, prop_name(PROP_REAL_QID), s->in.queue_id);
}

int send_properties(struct send *s, struct slice in, struct slice *out)
{
    const struct slice drop[] = {prop_name(PROP_WAIT),           prop_name(PROP_DELAY),
                                 prop_name(PROP_POP_CK),         prop_name(PROP_TIMER_OUT_MS),
                                 prop_name(PROP_MSG_REGION),     prop_name(PROP_TRACE_ON),
                                 prop_name(PROP_CLUSTER),        prop_name(PROP_TIMER_DELAY_SEC),
                                 prop_name(PROP_TIMER_DELAY_MS), prop_name(PROP_TIMER_DELIVER_MS)};
    struct props_writer w;
    int rc = 0;

    (void)props_scan(in, &s->props); /* the count does not matter here */
    s->delay = (struct delay){.is_held = false};
    if (!s->is_dead) {
        rc = delay_of(&s->broker->config->delay, &s->props, loop_wall_ms(s->broker->loop),
                      &s->delay);
    }
    if (rc != 0) {
        return rc;
    }
    if (properties_pass(s)) {
        *out = in;
        return 0;
    }
    props_writer_init(&w, s->properties, sizeof s->properties);
    props_put_except(&w, in, drop, s->delay.level > 0 || s->is_dead ? 10 : 7);
    if (s->delay.is_held) {
        put_delay_properties(s, &w);
    }
    put_broker_properties(s, &w);
    if (s->props.uniq_key.len == 0) {
        size_t len = uniq_key_next(&s->broker->ids, loop_wall_ms(s->broker->loop), s->made_id);
        s->props.uniq_key = slice_of(s->made_id, len);
        props_put(&w, SLICE_LIT("UNIQ_KEY"), s->props.uniq_key);
    }
    *out = slice_of(w.ptr, w.len);
    return w.error;
}

bool send_is_marked(const struct send *s)
{
    const struct slice mark = s->props.tran_msg;

    return mark.len == 4 && strncasecmp((const char *)mark.ptr, "true", 4) == 0;
}

struct record_fields send_fields(const struct send *s, struct slice body, struct slice properties)
{
    return (struct record_fields){
        .queue_id = s->in.queue_id,
        .flag = s->in.flag,
        .sys_flag = s->in.sys_flag & ~SYSFLAG_TXN_MASK,
        .reconsume_times = s->in.reconsume_times,
        .born_ms = s->in.born_ms,
        .store_ms = loop_wall_ms(s->broker->loop),
        .born_host = s->req->session->born_host,
        .store_host = s->broker->store_host,
        .body = body,
        .topic = slice_str(s->topic->name),
        .properties = properties,
    };
}
