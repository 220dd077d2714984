/*
 * CONSUMER_SEND_MSG_BACK 36: a consumer could not handle a message and wants it again later
 * (PROTOCOL.md, "Retry").
 *
 * A copy goes to %RETRY%<group>, or to %DLQ%<group> when its retries are used up. The copy keeps
 * body, properties and born data; it remembers where it came from. A retry is held: for the delay
 * of its level, which grows with the number of retries unless the consumer names one.
 *
 * An offset is all that says which message. One that a consumer kept from an earlier log (the data
 * folder was replaced) names another message, and nobody asked for a copy of that: so the id and
 * the topic that came with it are compared, and when both are of another message there is no copy.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/msgid.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"
#include "src/broker/retry_copy.h"
#include "src/broker/topic_create.h"

#include <strings.h>

struct send_back {
    struct slice group;
    struct slice origin_topic; /* empty: not given */
    struct slice origin_id;    /* empty: not given */
    int64_t offset;
    int32_t delay_level;
    int32_t retries_max;
};

static int send_back_decode(struct header *h, struct send_back *in)
{
    *in = (struct send_back){.retries_max = -1};
    if (header_get_str(h, "group", &in->group) != 0 || name_check_group(in->group) != 0 ||
        header_get_i64(h, "offset", &in->offset) != 0 || in->offset < 0 ||
        header_opt_i32(h, "delayLevel", &in->delay_level) != 0 ||
        header_opt_i32(h, "maxReconsumeTimes", &in->retries_max) != 0 ||
        header_opt_str(h, "originTopic", &in->origin_topic) != 0 ||
        in->origin_topic.len > RETRY_TOPIC_LEN_MAX ||
        header_opt_str(h, "originMsgId", &in->origin_id) != 0 ||
        in->origin_id.len > PROPERTIES_LEN_MAX) {
        return ESCROW_EINVAL;
    }
    return 0;
}

static int read_step(struct read_job *job, struct err_ctx *err)
{
    struct store_record rec;
    int rc = store_read_record(job->broker->store, job->offset, job->fetch, &job->body, &rec, err);

    if (rc == 0 && store_type_is_held(rec.type)) {
        /*
         * What was not released was never delivered: nobody can send it back, and no copy of it
         * may come to life.
         */
        int released = store_half_is_released(job->broker->store, job->offset, job->fetch, err);
        rc = released == 1 ? 0 : released == 0 ? ESCROW_ENOTFOUND : released;
    } else if (rc == 0 && rec.type != STORE_MESSAGE) {
        rc = ESCROW_ENOTFOUND;
    }
    if (rc == 0) {
        size_t skip = (size_t)(rec.payload.ptr - job->body.ptr);
        size_t len = rec.payload.len;
        buf_consume(&job->body, skip);
        job->body.len = len;
    }
    return rc == ESCROW_ENOTFOUND ? err_set(err, rc, "look message by offset failed, %llu",
                                            (unsigned long long)job->offset)
                                  : rc;
}

static void copy_answered(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

/* In job->key: the consumer's group, the id of the message it means, and the access key. */
static struct slice job_group(const struct read_job *job)
{
    return slice_of(job->key.ptr, job->count);
}

static struct slice job_origin_id(const struct read_job *job)
{
    return slice_of(job->key.ptr + job->count, job->queue_id);
}

static struct slice job_access_key(const struct read_job *job)
{
    size_t before = job->count + job->queue_id;

    return slice_of(job->key.ptr + before, job->key.len - before);
}

/*
 * Clients send what they know the message by: its UNIQ_KEY, or the id made of host and offset; of
 * a retry either of the message it is a copy of, or its own.
 */
static bool is_of_id(const struct record_view *view, struct slice id)
{
    char own[MSGID_TEXT_MAX + 1];
    struct slice value;

    if ((props_find(view->f.properties, prop_name(PROP_UNIQ_KEY), &value) && slice_eq(value, id)) ||
        (props_find(view->f.properties, prop_name(PROP_ORIGIN_MESSAGE_ID), &value) &&
         slice_eq(value, id))) {
        return true;
    }
    return id.len == msgid_encode(&view->f.store_host, view->f.physical_offset, own) &&
           strncasecmp((const char *)id.ptr, own, id.len) == 0;
}

static bool is_of_topic(const struct record_view *view, struct slice topic)
{
    struct slice origin;

    return name_is_same_topic(view->f.topic, topic) ||
           (props_find(view->f.properties, prop_name(PROP_RETRY_TOPIC), &origin) &&
            name_is_same_topic(origin, topic));
}

/* Is it the message that the consumer had? A client that gives no id is believed. */
static bool is_meant(const struct read_job *job, const struct record_view *view)
{
    struct slice id = job_origin_id(job);

    return id.len == 0 || is_of_id(view, id) || is_of_topic(view, slice_str(job->topic));
}

/*
 * With access control a request may only name an offset of the topic it was allowed for (when it
 * named none: of one that its user may read), or of its group's retry topic: it is no way to read
 * another topic.
 */
static bool may_copy(const struct read_job *job, struct slice topic)
{
    if (job->topic[0] == '\0') {
        return access_may_read(job->broker, job_access_key(job), topic);
    }
    return !access_is_on(&job->broker->access) || slice_eq_str(topic, job->topic) ||
           (name_topic_class(topic) == TOPIC_RETRY &&
            slice_eq(name_group_of_topic(topic), job_group(job)));
}

/*
 * number = retries allowed, number2 = delay level, topic = where it came from ("": not said),
 * count and queue_id = lengths in key
 */
static int copy_append(struct read_job *job, struct store_receipt *receipt, struct err_ctx *err)
{
    struct record_view view;
    struct retry_copy copy = {
        .group = job_group(job), .offset = job->offset, .delay_level = job->number2};

    if (record_decode(buf_slice(&job->body), &view) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "message at %llu cannot be read",
                       (unsigned long long)job->offset);
    }
    if (!may_copy(job, view.f.topic)) {
        return err_set(err, ESCROW_EPERM, "the message at this offset is not of the origin topic");
    }
    if (!is_meant(job, &view)) {
        return err_set(err, ESCROW_ENOTFOUND,
                       "look message by offset failed, %llu: the message there has neither the "
                       "originMsgId nor the originTopic of the one sent back",
                       (unsigned long long)job->offset);
    }
    copy.is_dead = job->number2 < 0 || view.f.reconsume_times >= job->number;
    return retry_copy_append(job->broker, &view, &copy, receipt, err);
}

static void read_done(struct read_job *job)
{
    struct broker *b = job->broker;
    struct store_receipt receipt;
    struct err_ctx err = {.code = 0};
    int rc = pump_reserve(&b->pump);

    if (rc == 0) {
        rc = copy_append(job, &receipt, &err);
    }
    if (rc != 0) {
        deferred_fail(&job->deferred, rc == ESCROW_ENOTFOUND ? RESPONSE_SYSTEM_ERROR : -1, rc,
                      err.text[0] != '\0' ? err.text : NULL);
        return;
    }
    (void)pump_wait(&b->pump, receipt.wait_for, true, copy_answered, job->deferred);
}

void handle_send_back(struct request *req)
{
    struct send_back in;
    struct read_job *job;

    if (send_back_decode(req->header, &in) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "send back: a field is missing or malformed");
        return;
    }
    if (groups_config(&req->broker->groups, in.group).retry_queue_count < 1) {
        request_ok(req); /* a group without retries: the message does not come again */
        return;
    }
    job = read_job_new(req, read_step, read_done);
    if (job == NULL) {
        return;
    }
    buf_append_slice(&job->key, in.group);
    buf_append_slice(&job->key, in.origin_id);
    buf_append_slice(&job->key, header_str(req->header, SIGN_FIELD_ACCESS_KEY));
    job->count = (uint32_t)in.group.len;
    job->queue_id = (uint32_t)in.origin_id.len;
    if (buf_failed(&job->key)) {
        read_job_end(job, ESCROW_ENOMEM, "");
        return;
    }
    (void)slice_to_cstr(in.origin_topic, job->topic, sizeof job->topic);
    job->offset = (uint64_t)in.offset;
    job->number = in.retries_max >= 0
                      ? in.retries_max
                      : groups_config(&req->broker->groups, in.group).retry_max_times;
    job->number2 = in.delay_level;
    job->not_found_code = RESPONSE_SYSTEM_ERROR;
    read_job_start(job);
}
