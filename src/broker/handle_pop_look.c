/*
 * PEEK_MESSAGE 200052, NOTIFICATION 200054, POLLING_INFO 200055 (PROTOCOL.md, "Popping").
 *
 * Happy path: a struct pop of its own kind, which pop_run runs: it looks (pop_look.c), and waits in
 * pops.c when it was asked to.
 */
#include "core/filter/filter.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/pops.h"
#include "src/broker/pull_filter.h"

/* What the three have. */
struct look_request {
    struct slice group;
    struct slice topic;
    int32_t queue_id;
};

/* false: answered. */
static bool look_decode(struct request *req, struct look_request *in)
{
    struct header *h = req->header;
    const char *field;

    *in = (struct look_request){.queue_id = -1};
    if (header_get_str(h, field = "consumerGroup", &in->group) != 0 ||
        header_get_str(h, field = "topic", &in->topic) != 0 ||
        header_get_i32(h, field = "queueId", &in->queue_id) != 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field %s is missing or malformed", field);
        return false;
    }
    return pop_check(req, in->group, in->topic, in->queue_id) != NULL;
}

void handle_pop_peek(struct request *req)
{
    struct look_request in;
    struct pop *pop;
    int32_t count_max = 0;

    if (!look_decode(req, &in)) {
        return;
    }
    if (header_get_i32(req->header, "maxMsgNums", &count_max) != 0 || count_max < 1 ||
        count_max > POP_MESSAGES_MAX) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field maxMsgNums is missing or not allowed");
        return;
    }
    pop = pop_new(req, in.group, in.topic, in.queue_id);
    if (pop != NULL) {
        pop->kind = POP_PEEK;
        pop->count_max = (uint32_t)count_max;
        pop_run(pop);
    }
}

/* ---- notification ---- */

void handle_pop_notify(struct request *req)
{
    struct look_request in;
    struct pull_subscription sub = {.type = SLICE_LIT("TAG"), .is_included = true};
    struct filter *filter = NULL;
    struct pop *pop;
    struct slice attempt_id = SLICE_EMPTY;
    int64_t poll_ms = 0;
    bool is_ordered = false;

    if (!look_decode(req, &in)) {
        return;
    }
    if (header_get_i64(req->header, "pollTime", &poll_ms) != 0 ||
        header_opt_bool(req->header, "order", &is_ordered) != 0 ||
        header_opt_str(req->header, "attemptId", &attempt_id) != 0 ||
        header_opt_str(req->header, "exp", &sub.expression) != 0 ||
        header_opt_str(req->header, "expType", &sub.type) != 0) {
        request_fail(req, RESPONSE_INVALID_PARAMETER, ESCROW_EINVAL,
                     "field pollTime, order, attemptId, exp or expType is missing or malformed");
        return;
    }
    sub.group = in.group;
    sub.topic = in.topic;
    if (!pull_filter_find(req, &sub, &filter)) {
        return;
    }
    pop = pop_new(req, in.group, in.topic, in.queue_id);
    if (pop == NULL) {
        filter_free(&filter);
        return;
    }
    pop->kind = POP_NOTIFY;
    pop->filter = filter;
    pop->is_ordered = is_ordered;
    pop->attempt = is_ordered ? pop_attempt(pop->broker, attempt_id) : 0;
    pop_wait_at_most(pop, poll_ms);
    pop_run(pop);
}

void pop_notify_answer(struct pop *pop, bool has_message, bool is_full)
{
    struct header_writer w;

    if (deferred_begin(&pop->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_bool(&w, "hasMsg", has_message);
        header_put_bool(&w, "pollingFull", is_full);
        header_end(&w);
        deferred_end(&pop->deferred, &w);
    }
    pop_free(pop);
}

/* ---- who waits ---- */

void handle_polling_info(struct request *req)
{
    struct look_request in;
    struct header_writer w;

    if (look_decode(req, &in) && request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_i64(&w, "pollingNum", pops_count(req->broker, in.group, in.topic, in.queue_id));
        header_end(&w);
        request_end(req, &w);
    }
}
