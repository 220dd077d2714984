/*
 * POP_MESSAGE 200050 (PROTOCOL.md, "Popping"), and running it and those who only look
 * (handle_pop_look.c).
 *
 * Happy path: pop_collect.c hands out what there is, and the answer says where each message is
 * from. Nothing there and the client may wait: pops.h. Not in memory: a fetch in the pool, then
 * again.
 */
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/filter/filter.h"
#include "core/proto/names.h"
#include "core/proto/pop_info.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/pops.h"
#include "src/broker/pull_filter.h"

#define POP_INIT_MAX 1 /* initMode: begin with the next message */

struct pop_request {
    struct slice group;
    struct slice topic;
    struct slice expression;
    struct slice expression_type;
    struct slice attempt_id;
    int64_t invisible_ms;
    int64_t poll_ms;
    int32_t queue_id;
    int32_t count_max;
    int32_t init_mode;
    bool is_ordered;
};

static int pop_decode(struct header *h, struct pop_request *in, const char **field)
{
    *in = (struct pop_request){.expression_type = SLICE_LIT("TAG")};
    if (header_get_str(h, *field = "consumerGroup", &in->group) != 0 ||
        header_get_str(h, *field = "topic", &in->topic) != 0 ||
        header_get_i32(h, *field = "queueId", &in->queue_id) != 0 ||
        header_get_i32(h, *field = "maxMsgNums", &in->count_max) != 0 ||
        header_get_i64(h, *field = "invisibleTime", &in->invisible_ms) != 0 ||
        header_get_i64(h, *field = "pollTime", &in->poll_ms) != 0 ||
        header_opt_i32(h, *field = "initMode", &in->init_mode) != 0 ||
        header_opt_str(h, *field = "exp", &in->expression) != 0 ||
        header_opt_str(h, *field = "expType", &in->expression_type) != 0 ||
        header_opt_bool(h, *field = "order", &in->is_ordered) != 0 ||
        header_opt_str(h, *field = "attemptId", &in->attempt_id) != 0) {
        return ESCROW_EINVAL;
    }
    if (in->count_max < 1 || in->count_max > POP_MESSAGES_MAX) {
        *field = "maxMsgNums";
        return ESCROW_EINVAL;
    }
    *field = "invisibleTime";
    return in->invisible_ms < 1 ? ESCROW_EINVAL : 0;
}

/* ---- answers ---- */

void pop_free(struct pop *pop)
{
    CHECK(pop->deferred.session == NULL && pop->waiter.class == NULL);
    store_fetch_free(&pop->fetch);
    pump_read_leave(&pop->broker->pump, &pop->slot);
    filter_free(&pop->filter);
    mem_free(pop);
}

void pop_drop(struct pop *pop)
{
    deferred_cancel(&pop->deferred);
    pop_free(pop);
}

static void pop_fail(struct pop *pop, int32_t code, int error, const char *text)
{
    deferred_fail(&pop->deferred, code, error, text);
    pop_free(pop);
}

/* Where the messages of the answer are from. */
static void put_info(struct header_writer *w, const struct pop *pop)
{
    const struct pops *p = &pop->broker->pops;

    header_put_str(w, "startOffsetInfo", buf_slice(&p->start_info));
    header_put_str(w, "msgOffsetInfo", buf_slice(&p->offset_info));
    if (pop->is_ordered) {
        header_put_str(w, "orderCountInfo", buf_slice(&p->count_info));
    }
}

/* Every answer has the fields, or Java's client does not read it. */
static void pop_answer(struct pop *pop, int32_t code, const char *remark,
                       const struct pop_found *found)
{
    struct broker *b = pop->broker;
    bool is_taken = pop->kind == POP_TAKE && found->count > 0;
    struct header_writer w;

    if (is_taken) {
        b->metrics.messages_out += found->count;
        traffic_get(&b->traffic, slice_str(pop->topic), slice_str(pop->group), found->count,
                    broker_traffic_now(b));
    }
    if (deferred_begin(&pop->deferred, &w, code, slice_str(remark))) {
        header_put_i64(&w, "popTime", found->pop_ms);
        header_put_i64(&w, "invisibleTime", pop->invisible_ms);
        header_put_i64(&w, "reviveQid", pop->is_ordered ? POP_REVIVE_ORDERED : 0);
        header_put_i64(&w, "restNum", found->rest);
        if (is_taken) {
            put_info(&w, pop);
        }
        header_end(&w);
        if (found->count > 0) {
            buf_append_slice(w.buf, buf_slice(&b->pops.body));
        }
        deferred_end(&pop->deferred, &w);
    }
    pop_free(pop);
}

void pop_give_up(struct pop *pop)
{
    struct pop_found none = {.pop_ms = pop->kind == POP_TAKE ? pops_now(pop->broker) : 0};

    switch (pop->kind) {
    case POP_TAKE:
        pop_answer(pop, RESPONSE_POLLING_TIMEOUT, "NO_MESSAGE_IN_QUEUE", &none);
        break;
    case POP_PEEK:
        pop_answer(pop, RESPONSE_PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE", &none);
        break;
    case POP_NOTIFY:
        pop_notify_answer(pop, false, false);
        break;
    }
}

/* ---- from the disk ---- */

static void pop_job_run(struct pool_job *job)
{
    store_fetch_run(LIST_ENTRY(job, struct pop, job)->fetch);
}

static void pop_go_on(struct pop *pop)
{
    if (session_is_gone(pop->deferred.session)) {
        pops_pass_on(pop);
    } else {
        pop_run(pop);
    }
}

static void pop_job_done(struct pool_job *job)
{
    pop_go_on(LIST_ENTRY(job, struct pop, job));
}

static void pop_turn(struct fair_item *slot)
{
    struct pop *pop = LIST_ENTRY(slot, struct pop, slot);

    pop->fetch = store_fetch_new(pop->broker->store);
    if (pop->fetch == NULL && !session_is_gone(pop->deferred.session)) {
        pop_fail(pop, RESPONSE_SYSTEM_BUSY, ESCROW_ENOMEM, NULL);
    } else {
        pop_go_on(pop); /* ask again, so that the fetch notes what is missing */
    }
}

/* Into the pool, if the pop has a slot; else it waits for one, and may be gone after this. */
static void pop_read(struct pop *pop)
{
    if (pop->slot.state == FAIR_OUT) {
        pump_read_enter(&pop->broker->pump, pop->deferred.session, &pop->slot, pop_turn);
        return;
    }
    pop->job.run = pop_job_run;
    pop->job.done = pop_job_done;
    pump_read(&pop->broker->pump, &pop->job);
}

/* ---- running ---- */

static void pop_begun(struct broker *b, struct pending *p, int error)
{
    struct pop *pop = p->arg.ptr;

    pop->deferred = p->deferred;
    if (error != 0) {
        pop_fail(pop, -1, error, NULL);
    } else {
        pops_run_soon(b, pop);
    }
}

/* Nothing was found: wait for the rest of its time, without its slot. */
static void pop_wait(struct pop *pop, const struct pop_found *found)
{
    struct broker *b = pop->broker;
    int64_t left_ms = pop->wait_until_ms - loop_mono_ms(b->loop);

    if (left_ms <= 0) {
        pop_give_up(pop);
        return;
    }
    store_fetch_free(&pop->fetch);
    pump_read_leave(&b->pump, &pop->slot);
    if (pops_wait(b, pop, (uint64_t)left_ms) == 0) {
        return;
    }
    if (pop->kind == POP_NOTIFY) {
        pop_notify_answer(pop, false, true);
    } else {
        pop_answer(pop, RESPONSE_POLLING_FULL, "too many requests wait", found);
    }
}

/* A damaged entry of the queue file waits to be rebuilt: ask again, as a pull does. */
static bool is_for_now(int error)
{
    return error == ESCROW_ELIMIT || error == ESCROW_ESHUTDOWN;
}

static void pop_finish(struct pop *pop, const struct pop_found *found)
{
    if (found->count > 0) {
        if (found->rest > 0 && pop->kind == POP_TAKE) {
            pops_wake(pop->broker, slice_str(pop->group), slice_str(pop->topic), pop->queue_id);
        }
        pop_answer(pop, RESPONSE_SUCCESS, "FOUND", found);
    } else if (found->must_read) {
        pop_read(pop);
    } else if (found->has_skipped) {
        pop_answer(pop, RESPONSE_PULL_NOT_FOUND, "NO_MATCHED_MESSAGE", found);
    } else if (found->error != 0) {
        pop_fail(pop, is_for_now(found->error) ? -1 : RESPONSE_SYSTEM_ERROR, found->error,
                 found->err.text);
    } else if (found->is_full) {
        pop_answer(pop, RESPONSE_POLLING_FULL, "too many messages are not acknowledged", found);
    } else {
        pop_wait(pop, found);
    }
}

/* Those who only look. */
static void pop_look(struct pop *pop, uint32_t queues)
{
    struct pop_found found = {.count = 0};

    if (pop->kind == POP_PEEK) {
        pop_peek(pop, queues, &found);
        if (found.count == 0 && !found.must_read && found.error == 0) {
            pop_answer(pop, RESPONSE_PULL_NOT_FOUND, "NO_MESSAGE_IN_QUEUE", &found);
        } else {
            pop_finish(pop, &found);
        }
    } else if (pop_has_message(pop, queues, &found)) {
        pop_notify_answer(pop, true, false);
    } else if (found.must_read) {
        pop_read(pop);
    } else {
        pop_wait(pop, &found);
    }
}

void pop_run(struct pop *pop)
{
    struct broker *b = pop->broker;
    const struct topic *topic = topics_find(&b->topics, slice_str(pop->topic));
    struct pop_found found;
    int rc;

    if (session_is_gone(pop->deferred.session)) {
        pop_drop(pop);
        return;
    }
    if (b->is_draining) {
        pop_give_up(pop);
        return;
    }
    if (topic == NULL) {
        pop_fail(pop, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "the topic is gone");
        return;
    }
    if (pop->kind != POP_TAKE) {
        pop_look(pop, topic->read_queues);
        return;
    }
    rc = pop_begin_queues(pop, topic->read_queues);
    if (rc < 0) {
        pop_fail(pop, -1, rc, NULL);
    } else if (rc > 0) {
        struct deferred deferred = pop->deferred;
        pop->deferred.session = NULL;
        pump_wait(&b->pump, pump_tail(&b->pump), false, pop_begun, deferred)->arg.ptr = pop;
    } else {
        pop_collect(pop, topic->read_queues, &found);
        pop_finish(pop, &found);
    }
}

/* ---- the request ---- */

const struct topic *pop_check(struct request *req, struct slice group, struct slice name,
                              int32_t queue_id)
{
    const struct topic *topic = topics_find(&req->broker->topics, name);
    const struct group_config *config = groups_find(&req->broker->groups, group);

    if (name_check_group(group) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "consumerGroup is not a valid name");
    } else if (req->to.is_oneway) {
        request_fail(req, -1, ESCROW_EINVAL, "pop: nobody reads the answer");
    } else if (config != NULL && !config->is_consume_enabled) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM,
                     "subscription group no permission, %.*s", SLICE_ARGS(group));
    } else if (topic == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE,
                     "topic[%.*s] not exist, apply first please!",
                     (int)(name.len > 255 ? 255 : name.len), (const char *)name.ptr);
    } else if ((topic->perm & PERM_READ) == 0) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM, "the topic[%s] is not readable",
                     topic->name);
    } else if (queue_id >= 0 && (uint32_t)queue_id >= topic->read_queues) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "queueId[%d] is illegal, topic[%s] has %u queues", queue_id, topic->name,
                     topic->read_queues);
    } else {
        return topic;
    }
    return NULL;
}

static int64_t at_most(int64_t value, int64_t max)
{
    return value > max ? max : value;
}

/* The hash stands for the text: of two pops of one queue, and nothing is lost if it lied. */
uint64_t pop_attempt(const struct broker *b, struct slice attempt_id)
{
    return attempt_id.len == 0 ? 0 : hash64(&b->hash_key, attempt_id) | 1;
}

struct pop *pop_new(struct request *req, struct slice group, struct slice topic, int32_t queue_id)
{
    struct broker *b = req->broker;
    struct pop *pop = mem_calloc(1, sizeof *pop);

    if (pop == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return NULL;
    }
    pop->broker = b;
    list_init(&pop->by_session);
    list_init(&pop->waiter.node);
    pop->queue_id = queue_id < 0 ? -1 : queue_id;
    pop->turn = b->pops.turn++;
    (void)slice_to_cstr(group, pop->group, sizeof pop->group);
    (void)slice_to_cstr(topic, pop->topic, sizeof pop->topic);
    pop->deferred = request_defer(req);
    return pop;
}

void pop_wait_at_most(struct pop *pop, int64_t poll_ms)
{
    if (poll_ms > 0) {
        pop->wait_until_ms = loop_mono_ms(pop->broker->loop) + at_most(poll_ms, POP_WAIT_MAX_MS);
    }
}

/* Takes the filter. */
static void pop_start(struct request *req, const struct pop_request *in, struct filter *filter)
{
    struct pop *pop = pop_new(req, in->group, in->topic, in->queue_id);

    if (pop == NULL) {
        filter_free(&filter);
        return;
    }
    pop->filter = filter;
    pop->count_max = (uint32_t)in->count_max;
    pop->begins_at_end = in->init_mode == POP_INIT_MAX;
    pop->invisible_ms = at_most(in->invisible_ms, POP_INVISIBLE_MAX);
    pop->is_ordered = in->is_ordered;
    pop->attempt = in->is_ordered ? pop_attempt(pop->broker, in->attempt_id) : 0;
    pop_wait_at_most(pop, in->poll_ms);
    pop_run(pop);
}

void handle_pop(struct request *req)
{
    struct pop_request in;
    struct pull_subscription sub;
    struct filter *filter = NULL;
    const char *field = "";
    int rc = pop_decode(req->header, &in, &field);

    if (rc != 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, rc, "pop: field %s is missing or not allowed",
                     field);
        return;
    }
    sub = (struct pull_subscription){.group = in.group,
                                     .topic = in.topic,
                                     .expression = in.expression,
                                     .type = in.expression_type,
                                     .is_included = true};
    if (pop_check(req, in.group, in.topic, in.queue_id) != NULL &&
        pull_filter_find(req, &sub, &filter)) {
        pop_start(req, &in, filter);
    }
}
