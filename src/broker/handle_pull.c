/*
 * PULL_MESSAGE 11 and LITE_PULL_MESSAGE 361 (PROTOCOL.md, "Pull").
 *
 * Happy path: what the page cache holds is read on the loop and answered at once, without an
 * allocation. Nothing new and the client may wait: hold.h. Not in memory: a fetch in the pool, then
 * again.
 *
 * Failures: a record that does not match its checksum is never sent: the pull that begins with it
 * gets an error, the first of them a line in the log (damage.h), and every other queue goes on.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/offsets_flush.h"
#include "src/broker/pull.h"

#include <string.h>

#define PULL_SYS_COMMIT       1
#define PULL_SYS_SUSPEND      2
#define PULL_SYS_SUBSCRIPTION 4

#define PULL_BYTES_DEFAULT  262144 /* 256 KiB: RocketMQ's limit for messages in memory */
#define PULL_BYTES_MAX      1048576
#define PULL_SUSPEND_MAX_MS 60000

struct pull_request {
    struct slice group;
    struct slice topic;
    struct slice subscription;
    struct slice expression_type;
    int64_t offset;
    int64_t commit_offset;
    int64_t suspend_ms;
    int64_t sub_version;
    int32_t queue_id;
    int32_t count_max;
    int32_t sys_flag;
    int32_t bytes_max;
};

static int pull_decode(struct header *h, struct pull_request *in, const char **field)
{
    *in = (struct pull_request){.expression_type = SLICE_LIT("TAG")}; /* 3.x sends none */
    if (header_get_str(h, *field = "consumerGroup", &in->group) != 0 ||
        header_get_str(h, *field = "topic", &in->topic) != 0 ||
        header_get_i32(h, *field = "queueId", &in->queue_id) != 0 ||
        header_get_i64(h, *field = "queueOffset", &in->offset) != 0 ||
        header_get_i32(h, *field = "maxMsgNums", &in->count_max) != 0 ||
        header_get_i32(h, *field = "sysFlag", &in->sys_flag) != 0 ||
        header_opt_i64(h, *field = "commitOffset", &in->commit_offset) != 0 ||
        header_opt_i64(h, *field = "suspendTimeoutMillis", &in->suspend_ms) != 0 ||
        header_opt_str(h, *field = "subscription", &in->subscription) != 0 ||
        header_opt_i64(h, *field = "subVersion", &in->sub_version) != 0 ||
        header_opt_str(h, *field = "expressionType", &in->expression_type) != 0 ||
        header_opt_i32(h, *field = "maxMsgBytes", &in->bytes_max) != 0) {
        return ESCROW_EINVAL;
    }
    if (in->queue_id < 0 || in->count_max <= 0) {
        *field = in->queue_id < 0 ? "queueId" : "maxMsgNums";
        return ESCROW_EINVAL;
    }
    return 0;
}

/* ---- answers ---- */

struct pull_reply {
    int32_t code;
    int64_t next_offset;
    const char *remark;
};

/* Who pulls what. */
struct pull_place {
    struct slice group;
    struct slice topic;
    uint32_t queue_id;
    int64_t offset;
};

/*
 * The consumer is ahead of its queue: the broker was put back to an older copy of its data, or is
 * another. What the group had consumed as of that copy is where it loses nothing; RocketMQ's
 * answer, the end of the queue, would skip what was sent since, and is given to who has no offset
 * here.
 */
static int64_t pull_back(struct broker *b, const struct pull_place *at,
                         const struct store_pull_result *res)
{
    int64_t next = res->max_offset;
    int64_t committed;

    if (offsets_find(&b->offsets, at->group, at->topic, at->queue_id, &committed) &&
        committed < next) {
        next = committed < res->min_offset ? res->min_offset : committed;
    }
    b->metrics.pulls_beyond_end++;
    log_peer_warn("pull.beyond_end",
                  "group %.*s is ahead of topic %.*s queue %u: it asks for offset %lld, the queue "
                  "ends at %lld (was the broker put back to an older state?); it is sent back to "
                  "%lld",
                  SLICE_ARGS(at->group), SLICE_ARGS(at->topic), at->queue_id, (long long)at->offset,
                  (long long)res->max_offset, (long long)next);
    return next;
}

static struct pull_reply pull_reply_of(struct broker *b, const struct pull_place *at,
                                       const struct store_pull_result *res)
{
    int64_t offset = at->offset;

    switch (res->status) {
    case STORE_PULL_FOUND:
        return (struct pull_reply){RESPONSE_SUCCESS, res->next_offset, "FOUND"};
    case STORE_PULL_NO_MATCH:
        return (struct pull_reply){RESPONSE_PULL_RETRY_IMMEDIATELY, res->next_offset,
                                   "NO_MATCHED_MESSAGE"};
    case STORE_PULL_NO_QUEUE:
        if (offset == 0) {
            return (struct pull_reply){RESPONSE_PULL_NOT_FOUND, 0, "NO_MESSAGE_IN_QUEUE"};
        }
        return (struct pull_reply){RESPONSE_PULL_OFFSET_MOVED, 0, "NO_MESSAGE_IN_QUEUE"};
    case STORE_PULL_AT_END:
        return (struct pull_reply){RESPONSE_PULL_NOT_FOUND, offset, "OFFSET_OVERFLOW_ONE"};
    case STORE_PULL_BEYOND_END:
        return (struct pull_reply){RESPONSE_PULL_OFFSET_MOVED, pull_back(b, at, res),
                                   "OFFSET_OVERFLOW_BADLY"};
    case STORE_PULL_BEFORE_FIRST:
        return (struct pull_reply){RESPONSE_PULL_OFFSET_MOVED, res->min_offset, "OFFSET_TOO_SMALL"};
    }
    UNREACHABLE("every status is handled");
}

static void pull_write(struct header_writer *w, const struct pull_reply *reply,
                       const struct store_pull_result *res, struct slice body)
{
    header_put_i64(w, "suggestWhichBrokerId", 0);
    header_put_i64(w, "nextBeginOffset", reply->next_offset);
    header_put_i64(w, "minOffset", res->min_offset);
    header_put_i64(w, "maxOffset", res->max_offset);
    header_end(w);
    buf_append_slice(w->buf, body);
}

static void count_out(struct broker *b, struct slice topic, struct slice group, uint32_t count)
{
    b->metrics.messages_out += count;
    traffic_get(&b->traffic, topic, group, count, broker_traffic_now(b));
}

/* Nothing there, and something may come: worth waiting for. */
static bool pull_may_wait(const struct store_pull_result *res, int64_t offset)
{
    return res->status == STORE_PULL_AT_END || (res->status == STORE_PULL_NO_QUEUE && offset == 0);
}

/* ---- pulls that are not answered at once ---- */

static void pull_free(struct pull *pull)
{
    CHECK(pull->deferred.session == NULL);
    store_fetch_free(&pull->fetch);
    pump_read_leave(&pull->broker->pump, &pull->slot);
    filter_free(&pull->filter);
    mem_free(pull);
}

void pull_drop(struct pull *pull)
{
    deferred_cancel(&pull->deferred);
    pull_free(pull);
}

static void pull_answer(struct pull *pull, const struct store_pull_result *res, struct slice body)
{
    const struct pull_place at = {.group = slice_str(pull->group),
                                  .topic = slice_str(pull->topic),
                                  .queue_id = pull->queue_id,
                                  .offset = pull->offset};
    struct pull_reply reply = pull_reply_of(pull->broker, &at, res);
    struct header_writer w;

    count_out(pull->broker, slice_str(pull->topic), slice_str(pull->group), res->count);
    if (deferred_begin(&pull->deferred, &w, reply.code, slice_str(reply.remark))) {
        pull_write(&w, &reply, res, body);
        deferred_end(&pull->deferred, &w);
    }
    pull_free(pull);
}

void pull_give_up(struct pull *pull)
{
    struct store_pull_result res = {.status = STORE_PULL_AT_END};
    struct store_queue_ref ref = {.topic = slice_str(pull->topic), .queue_id = pull->queue_id};

    if (!store_queue_range(pull->broker->store, &ref, &res.min_offset, &res.max_offset)) {
        res.min_offset = res.max_offset = 0;
    }
    pull_answer(pull, &res, SLICE_EMPTY);
}

/*
 * No room to wait. Busy, not "nothing found": clients ask again at once after that, and many of
 * them would keep the broker busy with nothing else; after an error they wait (Java's 3 s).
 */
static void pull_refuse(struct pull *pull, int error)
{
    deferred_fail(&pull->deferred, RESPONSE_SYSTEM_BUSY, error,
                  "too many pulls wait here: ask again later");
    pull_free(pull);
}

static void pull_fail(struct pull *pull, int error, struct err_ctx *err)
{
    struct store_entry_ref entry = {
        .topic = slice_str(pull->topic), .queue_id = pull->queue_id, .offset = pull->offset};

    if (error == ESCROW_ELIMIT || error == ESCROW_ESHUTDOWN) {
        /* A damaged entry waits to be rebuilt; in the end not before the next start. */
        deferred_fail(&pull->deferred, -1, error, err->text);
        pull_free(pull);
        return;
    }
    if (damage_is_error(error)) {
        damage_advise(err, &entry);
    } else {
        log_peer_error("store.read", "topic %s queue %u offset %lld: %s", pull->topic,
                       pull->queue_id, (long long)pull->offset, err->text);
    }
    deferred_fail(&pull->deferred, RESPONSE_SYSTEM_ERROR, error, err->text);
    pull_free(pull);
}

static void pull_job_run(struct pool_job *job)
{
    store_fetch_run(LIST_ENTRY(job, struct pull, job)->fetch);
}

static void pull_job_done(struct pool_job *job)
{
    pull_run(LIST_ENTRY(job, struct pull, job));
}

static void pull_turn(struct fair_item *slot)
{
    struct pull *pull = LIST_ENTRY(slot, struct pull, slot);

    if (pull->deferred.session->is_closed) {
        pull_drop(pull);
        return;
    }
    pull->fetch = store_fetch_new(pull->broker->store);
    if (pull->fetch == NULL) {
        deferred_fail(&pull->deferred, RESPONSE_SYSTEM_BUSY, ESCROW_ENOMEM, NULL);
        pull_free(pull);
    } else {
        pull_run(pull); /* ask again, so that the fetch notes what is missing */
    }
}

/* Into the pool, if the pull has a slot; else it waits for one, and may be gone after this. */
static void pull_read(struct pull *pull)
{
    if (pull->slot.state == FAIR_OUT) {
        pump_read_enter(&pull->broker->pump, pull->deferred.session, &pull->slot, pull_turn);
        return;
    }
    pull->job.run = pull_job_run;
    pull->job.done = pull_job_done;
    pump_read(&pull->broker->pump, &pull->job);
}

void pull_run(struct pull *pull)
{
    struct broker *b = pull->broker;
    struct store_pull_request req = {.topic = slice_str(pull->topic),
                                     .queue_id = pull->queue_id,
                                     .offset = pull->offset,
                                     .count_max = pull->count_max,
                                     .bytes_max = pull->bytes_max};
    struct pull_scan scan;
    struct store_pull_result res = {.status = STORE_PULL_AT_END};
    struct err_ctx err = {.code = 0};
    int64_t now_ms = loop_mono_ms(b->loop);
    int rc;

    if (session_is_gone(pull->deferred.session)) {
        pull_drop(pull);
        return;
    }
    pull_scan_begin(&scan, pull->filter, &req);
    buf_clear(&b->scratch);
    rc = store_pull(b->store, &req, pull->fetch, &b->scratch, &res, &err);
    if (rc == ESCROW_EAGAIN) {
        pull_read(pull);
    } else if (rc != 0) {
        pull_fail(pull, rc, &err);
    } else if (pull_may_wait(&res, pull->offset) && pull->wait_until_ms > now_ms &&
               !b->is_draining) {
        /* A pull that was woken for nothing waits for the rest of its time, without its slot. */
        store_fetch_free(&pull->fetch);
        pump_read_leave(&b->pump, &pull->slot);
        rc = hold_add(b, pull, (uint64_t)(pull->wait_until_ms - now_ms));
        if (rc != 0) {
            pull_refuse(pull, rc);
        }
    } else {
        pull_answer(pull, &res, buf_slice(&b->scratch));
    }
}

/* ---- the request ---- */

static bool pull_check_topic(struct request *req, const struct pull_request *in)
{
    const struct topic *topic = topics_find(&req->broker->topics, in->topic);

    if (name_check_group(in->group) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "consumerGroup is not a valid name");
        return false;
    }
    if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE,
                     "topic[%.*s] not exist, apply first please!",
                     (int)(in->topic.len > 255 ? 255 : in->topic.len), (const char *)in->topic.ptr);
        return false;
    }
    if ((topic->perm & PERM_READ) == 0) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM, "the topic[%s] is not readable",
                     topic->name);
        return false;
    }
    if ((uint32_t)in->queue_id >= topic->read_queues) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "queueId[%d] is illegal, topic[%s] has %u queues", in->queue_id, topic->name,
                     topic->read_queues);
        return false;
    }
    return true;
}

/* What an operator configured for the group. */
static bool pull_check_group(struct request *req, const struct pull_request *in)
{
    const struct group_config *config = groups_find(&req->broker->groups, in->group);
    const struct client_group *group;

    if (ESCROW_LIKELY(config == NULL)) {
        return true;
    }
    if (!config->is_consume_enabled) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM,
                     "subscription group no permission, %.*s", SLICE_ARGS(in->group));
        return false;
    }
    group = config->is_broadcast_enabled ? NULL : clients_find_consumers(req->broker, in->group);
    if (group != NULL && group->model == MODEL_BROADCASTING) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM,
                     "the consumer group[%.*s] can not consume by broadcast way",
                     SLICE_ARGS(in->group));
        return false;
    }
    return true;
}

/* Move the request into a struct pull and let it wait or read. Takes the filter. */
static void pull_later(struct request *req, const struct pull_request *in,
                       const struct store_pull_request *query, struct filter **filter)
{
    struct pull *pull = mem_calloc(1, sizeof *pull);
    int64_t suspend_ms =
        in->suspend_ms > PULL_SUSPEND_MAX_MS ? PULL_SUSPEND_MAX_MS : in->suspend_ms;

    if (pull == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    pull->broker = req->broker;
    list_init(&pull->by_session);
    list_init(&pull->waiter.node);
    pull->offset = in->offset;
    pull->queue_id = query->queue_id;
    pull->count_max = query->count_max;
    pull->bytes_max = query->bytes_max;
    if ((in->sys_flag & PULL_SYS_SUSPEND) != 0 && suspend_ms > 0) {
        pull->wait_until_ms = loop_mono_ms(req->broker->loop) + suspend_ms;
    }
    pull->filter = *filter;
    *filter = NULL;
    (void)slice_to_cstr(in->topic, pull->topic, sizeof pull->topic);
    (void)slice_to_cstr(in->group, pull->group, sizeof pull->group);
    pull->deferred = request_defer(req);
    pull_run(pull);
}

/* Answer, or leave it to pull_later, which then has the filter. */
static void pull_now(struct request *req, const struct pull_request *in, struct filter **filter)
{
    struct broker *b = req->broker;
    struct store_pull_request query = {
        .topic = in->topic,
        .queue_id = (uint32_t)in->queue_id,
        .offset = in->offset,
        .count_max =
            in->count_max > PULL_MESSAGES_MAX ? PULL_MESSAGES_MAX : (uint32_t)in->count_max,
        .bytes_max = in->bytes_max <= 0               ? PULL_BYTES_DEFAULT
                     : in->bytes_max > PULL_BYTES_MAX ? PULL_BYTES_MAX
                                                      : (size_t)in->bytes_max};
    struct store_pull_result res = {.status = STORE_PULL_AT_END};
    struct pull_scan scan;
    struct pull_reply reply;
    struct header_writer w;
    int rc;

    pull_scan_begin(&scan, *filter, &query);
    buf_clear(&b->scratch);
    rc = store_pull(b->store, &query, NULL, &b->scratch, &res, NULL);
    if (rc != 0 || (pull_may_wait(&res, in->offset) && (in->sys_flag & PULL_SYS_SUSPEND) != 0)) {
        pull_later(req, in, &query, filter); /* errors come again there, with their text */
        return;
    }
    count_out(b, in->topic, in->group, res.count);
    reply = pull_reply_of(b,
                          &(struct pull_place){.group = in->group,
                                               .topic = in->topic,
                                               .queue_id = query.queue_id,
                                               .offset = in->offset},
                          &res);
    if (request_begin(req, &w, reply.code, slice_str(reply.remark))) {
        pull_write(&w, &reply, &res, buf_slice(&b->scratch));
        request_end(req, &w);
    }
}

void handle_pull(struct request *req)
{
    struct pull_request in;
    struct pull_subscription sub;
    struct filter *filter;
    const char *field = "";
    int rc = pull_decode(req->header, &in, &field);

    if (rc != 0) {
        request_fail(req, -1, rc, "pull: field %s is missing or malformed", field);
        return;
    }
    sub = (struct pull_subscription){.group = in.group,
                                     .topic = in.topic,
                                     .expression = in.subscription,
                                     .type = in.expression_type,
                                     .version = in.sub_version,
                                     .is_included = (in.sys_flag & PULL_SYS_SUBSCRIPTION) != 0};
    if (!pull_check_topic(req, &in) || !pull_check_group(req, &in) ||
        !pull_filter_find(req, &sub, &filter)) {
        return;
    }
    if ((in.sys_flag & PULL_SYS_COMMIT) != 0 && in.commit_offset > 0 &&
        offset_is_taken(
            req->broker, in.group,
            &(struct store_queue_ref){.topic = in.topic, .queue_id = (uint32_t)in.queue_id},
            in.commit_offset)) {
        rc = offsets_note(&req->broker->offsets, in.group, in.topic, (uint32_t)in.queue_id,
                          in.commit_offset);
        if (rc != 0) {
            log_debug("pull.commit", "commit offset not kept: %s", escrow_strerror(rc));
        }
    }
    pull_now(req, &in, &filter);
    filter_free(&filter);
}
