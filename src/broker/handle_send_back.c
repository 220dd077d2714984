/*
 * CONSUMER_SEND_MSG_BACK 36: a consumer could not handle a message and wants it again later
 * (PROTOCOL.md, "Retry").
 *
 * A copy goes to %RETRY%<group>, or to %DLQ%<group> when its retries are used up. The copy keeps
 * body, properties and born data; it remembers where it came from. A retry is held: for the delay
 * of its level, which grows with the number of retries unless the consumer names one.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"
#include "src/broker/retry_copy.h"
#include "src/broker/topic_create.h"

struct send_back {
    struct slice group;
    struct slice origin_topic; /* empty: not given */
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
        in->origin_topic.len > RETRY_TOPIC_LEN_MAX) {
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

/*
 * With access control a request may only name an offset of the topic it was allowed for, or of its
 * group's retry topic: it is no way to read another topic.
 */
static bool may_copy(const struct read_job *job, struct slice topic)
{
    return !access_is_on(&job->broker->access) || slice_eq_str(topic, job->topic) ||
           (name_topic_class(topic) == TOPIC_RETRY &&
            slice_eq(name_group_of_topic(topic), buf_slice(&job->key)));
}

/* number = retries allowed, number2 = delay level, key = group, topic = where it came from */
static int copy_append(struct read_job *job, struct store_receipt *receipt, struct err_ctx *err)
{
    struct record_view view;
    struct retry_copy copy = {
        .group = buf_slice(&job->key), .offset = job->offset, .delay_level = job->number2};

    if (record_decode(buf_slice(&job->body), &view) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "message at %llu cannot be read",
                       (unsigned long long)job->offset);
    }
    if (!may_copy(job, view.f.topic)) {
        return err_set(err, ESCROW_EPERM, "the message at this offset is not of the origin topic");
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
        deferred_fail(&job->deferred, -1, rc, err.text[0] != '\0' ? err.text : NULL);
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
    job = read_job_new(req, read_step, read_done);
    if (job == NULL) {
        return;
    }
    buf_append_slice(&job->key, in.group);
    (void)slice_to_cstr(in.origin_topic, job->topic, sizeof job->topic);
    job->offset = (uint64_t)in.offset;
    job->number = in.retries_max >= 0
                      ? in.retries_max
                      : groups_config(&req->broker->groups, in.group).retry_max_times;
    job->number2 = in.delay_level;
    job->not_found_code = RESPONSE_SYSTEM_ERROR;
    read_job_start(job);
}
