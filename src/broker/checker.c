/*
 * Life of a question: by HTTP it first waits for a slot (fair.h), so that an endpoint that hangs
 * holds few of them and no memory for the rest. Then the half is read, from the page cache or by a
 * fetch in the pool (another slot), then it goes out by the way that the scanner named, then it is
 * settled: reported to txn, obeyed, freed.
 *
 * What is our own fault (memory, a half that cannot be read) counts as "no answer": the half waits
 * for its next round, and the rest of its group does not pause for it. A question whose deadline
 * passed while it waited for a slot was given up by the scanner: it is dropped.
 */
#include "src/broker/checker.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_callback.h"
#include "core/proto/properties.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/transactions.h"

#include <inttypes.h>

#define GROUP_NAME_MAX 256

/*
 * HTTP requests of one producer group at a time: more with each answer, one when there is none in
 * time.
 */
#define LANE_CALLBACKS_FIRST 4u
#define LANE_CALLBACKS_MAX   64u

/* A producer group that questions of are under way. */
struct checker_lane {
    struct fair_lane callbacks;
    struct fair_lane reads;
    size_t questions; /* the last one takes the lane with it */
};

struct question {
    struct list node; /* checker.questions or checker.settled */
    struct broker *broker;
    struct checker_lane *lane;
    struct fair_item callback;
    struct fair_item read;
    struct txn_ask ask; /* group points into group_name, topic is not used */
    struct store_fetch *fetch;
    struct pool_job job;
    struct webhook_request http;
    struct buf record;   /* the half */
    struct slice txn_id; /* in record */
    bool is_answered;    /* settled by an answer; otherwise by `failure` */
    bool is_in_pool;     /* its half is being read */
    bool is_abandoned;   /* the broker stops: free it when the pool gives it back */
    enum txn_answer answer;
    enum txn_ask_failure failure;
    char group_name[GROUP_NAME_MAX];
};

/* ---- lanes ---- */

/* The question's lane, made if this is the first question of its group. ESCROW_ENOMEM. */
static int lane_join(struct question *q)
{
    struct checker *c = &q->broker->checker;
    struct checker_lane *lane = strmap_find(&c->lanes, q->ask.group);

    if (lane == NULL) {
        lane = mem_calloc(1, sizeof *lane);
        if (lane == NULL) {
            return ESCROW_ENOMEM;
        }
        if (strmap_put(&c->lanes, q->ask.group, lane) != 0) {
            mem_free(lane);
            return ESCROW_ENOMEM;
        }
        fair_lane_init(&lane->callbacks, LANE_CALLBACKS_FIRST);
        fair_lane_init(&lane->reads, FAIR_NO_LIMIT);
    }
    lane->questions++;
    q->lane = lane;
    return 0;
}

static void lane_leave(struct question *q)
{
    struct checker *c = &q->broker->checker;
    struct checker_lane *lane = q->lane;

    fair_leave(&c->callbacks, &q->callback);
    fair_leave(&c->reads, &q->read);
    if (--lane->questions == 0) {
        CHECK(strmap_take(&c->lanes, q->ask.group) == lane);
        mem_free(lane);
    }
}

/* How the endpoint of a group does says how much of it is asked at a time. */
static void lane_learn(struct question *q, int result)
{
    struct fair_lane *lane = &q->lane->callbacks;
    uint32_t limit = result == ESCROW_ETIMEOUT                         ? 1
                     : result == 0 && lane->limit < LANE_CALLBACKS_MAX ? lane->limit + 1
                                                                       : lane->limit;

    fair_set_limit(&q->broker->checker.callbacks, lane, limit);
}

/* ---- the end of a question ---- */

static void question_free(struct question *q)
{
    list_remove(&q->node);
    store_fetch_free(&q->fetch);
    buf_fini(&q->record);
    lane_leave(q);
    mem_free(q);
}

static bool question_is_overdue(const struct question *q)
{
    return loop_mono_ms(q->broker->loop) >= q->ask.deadline_ms;
}

static void question_settle(struct question *q)
{
    struct checker *c = &q->broker->checker;

    list_remove(&q->node);
    list_push(&c->settled, &q->node);
    loop_defer(q->broker->loop, &c->report);
}

static void question_fail(struct question *q, enum txn_ask_failure why)
{
    q->is_answered = false;
    q->failure = why;
    question_settle(q);
}

/* Report everything that was settled. */
static void checker_report(void *arg)
{
    struct broker *b = arg;
    struct checker *c = &b->checker;

    while (!list_is_empty(&c->settled)) {
        struct question *q = LIST_ENTRY(c->settled.next, struct question, node);
        struct txn_now now = broker_txn_now(b);
        int rc = q->is_answered ? txn_check_answered(b->txn, q->ask.offset, q->ask.nonce, q->answer,
                                                     now, &b->update)
                                : txn_ask_failed(b->txn, q->ask.offset, q->ask.nonce, q->failure,
                                                 now, &b->update);
        question_free(q);
        if (rc == 0) {
            transactions_obey(b, &b->update);
        } else if (rc != ESCROW_ENOTFOUND) {
            log_peer_warn("txn.check.lost", "an answer could not be used: %s", escrow_strerror(rc));
        }
    }
    transactions_reschedule(b);
}

/* ---- live ---- */

/*
 * The half as RocketMQ's broker shows it to a producer that is asked: with the number of the
 * question and the id of the transaction among its properties, and without the bits of a half. What
 * has no room for them goes as it is.
 */
static void append_half(struct buf *out, const struct question *q, const struct record_view *view)
{
    static uint8_t properties[PROPERTIES_LEN_MAX]; /* loop thread only */
    const struct slice drop[] = {prop_name(PROP_TRANSACTION_CHECK_TIMES),
                                 prop_name(PROP_TRANSACTION_ID)};
    struct record_fields f = view->f;
    struct props_writer w;
    uint8_t *dst;

    props_writer_init(&w, properties, sizeof properties);
    props_put_except(&w, f.properties, drop, sizeof drop / sizeof drop[0]);
    props_put_i64(&w, prop_name(PROP_TRANSACTION_CHECK_TIMES), (int64_t)q->ask.checks + 1);
    if (q->txn_id.len > 0) {
        props_put(&w, prop_name(PROP_TRANSACTION_ID), q->txn_id);
    }
    if (w.error == 0) {
        f.properties = slice_of(w.ptr, w.len);
    }
    f.sys_flag &= ~SYSFLAG_TXN_MASK;
    dst = buf_reserve(out, record_size(&f));
    if (dst != NULL) {
        buf_commit(out, record_encode(dst, &f));
    }
}

static int write_check(struct session *s, struct buf *out, void *arg)
{
    const struct question *q = arg;
    struct record_view view;
    struct header_writer w;
    struct header_out head = {.code = REQUEST_CHECK_TRANSACTION_STATE,
                              .opaque = session_next_opaque(s),
                              .flag = HEADER_FLAG_ONEWAY};
    char offset_id[MSGID_TEXT_MAX + 1];
    size_t id_len = msgid_encode(&q->broker->store_host, (int64_t)q->ask.offset, offset_id);
    int rc = record_decode(buf_slice(&q->record), &view);

    if (rc != 0) {
        return rc;
    }
    header_begin(&w, out, (enum header_type)s->push_type, &head);
    header_put_str(&w, "topic", view.f.topic);
    header_put_i64(&w, "commitLogOffset", (int64_t)q->ask.offset);
    header_put_i64(&w, "tranStateTableOffset", (int64_t)q->ask.offset);
    header_put_str(&w, "msgId", q->txn_id);
    header_put_str(&w, "transactionId", q->txn_id);
    header_put_str(&w, "offsetMsgId", slice_of(offset_id, id_len));
    header_end(&w);
    append_half(w.buf, q, &view);
    return header_frame_end(&w, 0);
}

static void question_ask_live(struct question *q)
{
    struct session *s = clients_pick_producer(q->broker, q->ask.group);

    if (s == NULL || session_push(s, write_check, q) != 0) {
        question_fail(q, TXN_ASK_UNDELIVERABLE);
    } else {
        question_free(q); /* the answer is an END_TRANSACTION, or the scanner's deadline */
    }
}

/* ---- HTTP ---- */

static void http_done(struct webhook_request *http, const struct webhook_result *result)
{
    struct question *q = LIST_ENTRY(http, struct question, http);
    enum callback_state state;

    if (result->result == ESCROW_ESHUTDOWN) {
        question_free(q);
        return;
    }
    fair_leave(&q->broker->checker.callbacks, &q->callback);
    lane_learn(q, result->result);
    if (result->result == ESCROW_ECONN) {
        q->broker->metrics.callbacks_failed++;
        log_peer_warn("txn.callback.down", "group %s: %s", q->group_name, result->error);
        question_fail(q, TXN_ASK_UNDELIVERABLE);
        return;
    }
    if (result->result != 0) {
        q->broker->metrics.callbacks_failed++;
        log_peer_warn("txn.callback.failed", "group %s: %s", q->group_name, result->error);
        question_fail(q, TXN_ASK_UNANSWERED);
        return;
    }
    q->is_answered = true;
    if (result->status != 200 ||
        callback_answer_decode(result->body, q->txn_id, q->ask.nonce, &state) != 0) {
        q->broker->metrics.callbacks_failed++;
        log_peer_warn("txn.callback.invalid", "group %s: status %d, not an answer to this question",
                      q->group_name, result->status);
        q->answer = TXN_ANSWER_INVALID;
    } else {
        static const enum txn_answer answers[] = {[CALLBACK_COMMIT] = TXN_ANSWER_COMMIT,
                                                  [CALLBACK_ROLLBACK] = TXN_ANSWER_ROLLBACK,
                                                  [CALLBACK_IN_PROGRESS] = TXN_ANSWER_IN_PROGRESS,
                                                  [CALLBACK_UNKNOWN] = TXN_ANSWER_UNKNOWN,
                                                  [CALLBACK_NOT_MINE] = TXN_ANSWER_NOT_MINE};
        q->answer = answers[state];
    }
    question_settle(q);
}

static void question_ask_http(struct question *q)
{
    struct broker *b = q->broker;
    const char *url = config_callback_url(b->config, q->group_name);
    struct record_view view;
    struct props_known props;
    struct callback_request body;
    struct buf text;
    int64_t timeline = 0;
    int rc = record_decode(buf_slice(&q->record), &view);

    buf_init(&text, 0);
    if (rc == 0) {
        (void)props_scan(view.f.properties, &props); /* the count does not matter */
        if (props.db_timeline.len > 0 && !slice_to_i64(props.db_timeline, &timeline)) {
            timeline = 0;
        }
        body = (struct callback_request){.transaction_id = q->txn_id,
                                         .group = q->ask.group,
                                         .topic = view.f.topic,
                                         .db_system = props.db_system,
                                         .db_name = props.db_name,
                                         .xid = props.xid,
                                         .db_timeline = timeline,
                                         .store_ms = view.f.store_ms,
                                         .nonce = q->ask.nonce,
                                         .checks = q->ask.checks};
        callback_request_encode(&text, &body);
        rc = buf_failed(&text) ? ESCROW_ENOMEM
                               : webhook_post(b->checker.webhook, &q->http, url, buf_slice(&text),
                                              b->config->callback_timeout_ms, http_done);
    }
    buf_fini(&text);
    if (rc != 0) {
        question_fail(q, TXN_ASK_UNANSWERED);
    } else {
        b->metrics.callbacks_sent++;
    }
}

/* ---- reading the half ---- */

static void question_go(struct question *q);

static void half_fetch_run(struct pool_job *job)
{
    store_fetch_run(LIST_ENTRY(job, struct question, job)->fetch);
}

static void half_fetch_done(struct pool_job *job)
{
    struct question *q = LIST_ENTRY(job, struct question, job);

    q->is_in_pool = false;
    if (q->is_abandoned) {
        question_free(q);
    } else {
        question_go(q);
    }
}

static void read_turn(struct fair_item *item)
{
    struct question *q = LIST_ENTRY(item, struct question, read);

    if (question_is_overdue(q)) {
        question_free(q);
        return;
    }
    q->fetch = store_fetch_new(q->broker->store);
    if (q->fetch == NULL) {
        question_fail(q, TXN_ASK_UNANSWERED);
    } else {
        question_go(q); /* ask again, so that the fetch notes what is missing */
    }
}

/* Not in memory: to the pool, if it has a slot; else it waits for one. */
static void question_fetch(struct question *q)
{
    struct checker *c = &q->broker->checker;

    if (q->read.state == FAIR_OUT) {
        fair_enter(&c->reads, &q->lane->reads, &q->read, read_turn);
        return;
    }
    q->job.run = half_fetch_run;
    q->job.done = half_fetch_done;
    CHECK(pool_submit(&c->pool, &q->job) == 0); /* as many jobs as slots */
    q->is_in_pool = true;
}

/* Read the half's record into q->record; ESCROW_EAGAIN: it needs a fetch. */
static int question_read(struct question *q)
{
    struct broker *b = q->broker;
    struct store_record rec;
    struct err_ctx err = {.code = 0};
    struct txn_half_info info;
    int rc =
        store_read_known(b->store, carry_where(b, q->ask.offset), q->fetch, &q->record, &rec, &err);

    if (rc == ESCROW_EAGAIN) {
        return rc;
    }
    if (rc == 0) {
        rc = txn_half_info_decode(rec.payload, &info);
    }
    if (rc == 0) {
        /* Keep the payload alone: it is what goes out, and what txn_id points into. */
        q->txn_id = info.txn_id;
        size_t skip = (size_t)(rec.payload.ptr - q->record.ptr);
        buf_consume(&q->record, skip);
        q->record.len = rec.payload.len;
        q->txn_id.ptr -= skip;
    } else if (!damage_is_error(rc)) {
        log_peer_error("txn.check.read", "half at %" PRIu64 ": %s", q->ask.offset,
                       err.text[0] != '\0' ? err.text : escrow_strerror(rc));
    }
    return rc;
}

static void question_go(struct question *q)
{
    int rc = question_read(q);

    if (rc == ESCROW_EAGAIN) {
        question_fetch(q); /* it may be gone now */
        return;
    }
    store_fetch_free(&q->fetch);
    fair_leave(&q->broker->checker.reads, &q->read);
    if (rc != 0) {
        question_fail(q, TXN_ASK_UNANSWERED);
        return;
    }
    switch (q->ask.way) {
    case TXN_WAY_LIVE:
        question_ask_live(q);
        return;
    case TXN_WAY_HTTP:
        question_ask_http(q);
        return;
    case TXN_WAY_COUNT:
        break;
    }
    UNREACHABLE("every way is handled");
}

static void callback_turn(struct fair_item *item)
{
    struct question *q = LIST_ENTRY(item, struct question, callback);

    if (question_is_overdue(q)) {
        question_free(q);
    } else {
        question_go(q);
    }
}

static void question_begin(struct question *q)
{
    struct checker *c = &q->broker->checker;

    if (q->ask.way == TXN_WAY_LIVE) {
        question_go(q);
    } else if (c->webhook == NULL ||
               config_callback_url(q->broker->config, q->group_name) == NULL) {
        question_fail(q, TXN_ASK_UNDELIVERABLE);
    } else {
        fair_enter(&c->callbacks, &q->lane->callbacks, &q->callback, callback_turn);
    }
}

void checker_ask(struct broker *b, const struct txn_ask *ask)
{
    struct question *q = mem_calloc(1, sizeof *q);

    if (q == NULL) {
        log_warn("txn.check.memory", "a check-back was put off: out of memory");
        return; /* the scanner's deadline passes, and it asks again */
    }
    q->broker = b;
    q->ask = *ask;
    q->ask.topic = SLICE_EMPTY;
    q->ask.group = slice_str(slice_to_cstr(ask->group, q->group_name, sizeof q->group_name));
    if (lane_join(q) != 0) {
        log_warn("txn.check.memory", "a check-back was put off: out of memory");
        mem_free(q);
        return;
    }
    buf_init(&q->record, 0);
    list_push(&b->checker.questions, &q->node);
    question_begin(q);
}

int checker_start(struct broker *b)
{
    struct checker *c = &b->checker;

    list_init(&c->questions);
    list_init(&c->settled);
    loop_deferred_init(&c->report, checker_report, b);
    strmap_init(&c->lanes, b->hash_key);
    fair_init(&c->callbacks, CHECKER_CALLBACKS_MAX);
    fair_init(&c->reads, CHECKER_READS_MAX);
    pool_init(&c->pool, b->loop, CHECKER_READS_MAX);
    c->webhook = NULL;
    return b->config->callback_count == 0
               ? 0
               : webhook_new(b->loop, CHECKER_CALLBACKS_MAX, &c->webhook);
}

void checker_stop(struct broker *b)
{
    struct checker *c = &b->checker;
    struct list *pos;
    struct list *tmp;

    fair_close(&c->callbacks);
    fair_close(&c->reads);
    webhook_free(c->webhook); /* frees the questions that are out by HTTP */
    c->webhook = NULL;
    loop_deferred_cancel(&c->report);
    while (!list_is_empty(&c->settled)) {
        question_free(LIST_ENTRY(c->settled.next, struct question, node));
    }
    LIST_FOREACH(pos, tmp, &c->questions) {
        struct question *q = LIST_ENTRY(pos, struct question, node);
        q->is_abandoned = true;
        if (!q->is_in_pool) {
            question_free(q);
        }
    }
    while (pool_in_flight(&c->pool) > 0) {
        loop_run_once(b->loop, true);
    }
    pool_fini(&c->pool);
    CHECK(c->lanes.count == 0);
    strmap_fini(&c->lanes);
}
