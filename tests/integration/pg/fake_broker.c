#include "tests/integration/pg/fake_broker.h"

#include "core/base/mem.h"
#include "escrow/errors.h"

#include <check.h>

static void work(void *arg);

static void enqueue(struct fake_broker *b, struct fake_request req)
{
    ck_assert_uint_lt(b->queue_count, FAKE_OUTSTANDING_MAX);
    b->queue[b->queue_count++] = req;
    loop_defer(b->loop, &b->work);
}

static void on_open(struct sink *s, struct sink_open *open)
{
    enqueue((struct fake_broker *)(void *)s, (struct fake_request){.open = open});
}

static void on_publish(struct sink *s, struct sink_batch *batch)
{
    enqueue((struct fake_broker *)(void *)s, (struct fake_request){.batch = batch});
}

static void on_horizon(struct sink *s, struct sink_horizon *horizon)
{
    struct fake_broker *b = (struct fake_broker *)(void *)s;

    ck_assert_ptr_null(b->horizon);
    b->horizon = horizon;
    loop_defer(b->loop, &b->work);
}

void fake_broker_init(struct fake_broker *b, struct loop *l, size_t log_cap)
{
    *b = (struct fake_broker){.loop = l, .log_cap = log_cap};
    b->sink.open = on_open;
    b->sink.publish = on_publish;
    b->sink.horizon = on_horizon;
    buf_init(&b->position, 0);
    loop_deferred_init(&b->work, work, b);
    if (log_cap > 0) {
        b->log = mem_calloc(log_cap, sizeof *b->log);
        ck_assert_ptr_nonnull(b->log);
    }
}

void fake_broker_fini(struct fake_broker *b)
{
    ck_assert_uint_eq(b->queue_count, 0);
    loop_deferred_cancel(&b->work);
    buf_fini(&b->position);
    mem_free(b->log);
}

static void log_message(struct fake_broker *b, const struct sink_message *msg)
{
    b->bytes += msg->body.len;
    if (b->log != NULL) {
        struct fake_message *m = &b->log[b->log_count];
        ck_assert_uint_lt(b->log_count, b->log_cap);
        *m = (struct fake_message){
            .row_id = msg->row_id, .batch = b->batch_count, .body_len = msg->body.len};
        (void)slice_to_cstr(msg->topic, m->topic, sizeof m->topic);
        (void)slice_to_cstr(msg->ordering_key, m->ordering_key, sizeof m->ordering_key);
        (void)slice_to_cstr(msg->body, m->body, sizeof m->body);
    }
    b->log_count++;
}

static int store(struct fake_broker *b, const struct sink_batch *batch)
{
    ck_assert_uint_gt(batch->next.len, 0);
    if (b->fail_code != 0) {
        int code = b->fail_code;
        b->fail_code = 0;
        return code;
    }
    if (batch->epoch != b->epoch) {
        return ESCROW_EFENCED;
    }
    if (slice_eq(batch->next, buf_slice(&b->position))) {
        return 0;
    }
    if (!slice_eq(batch->prev, buf_slice(&b->position))) {
        return ESCROW_ECONFLICT;
    }
    for (size_t i = 0; b->missing_topic != NULL && i < batch->message_count; i++) {
        if (slice_eq_str(batch->messages[i].topic, b->missing_topic)) {
            return ESCROW_ENOROUTE;
        }
    }
    for (size_t i = 0; b->bad_body != NULL && i < batch->message_count; i++) {
        if (slice_has_prefix(batch->messages[i].body, slice_str(b->bad_body))) {
            return ESCROW_EINVAL;
        }
    }
    for (size_t i = 0; i < batch->message_count; i++) {
        log_message(b, &batch->messages[i]);
    }
    b->batch_count++;
    buf_clear(&b->position);
    buf_append_slice(&b->position, batch->next);
    ck_assert(!buf_failed(&b->position));
    return 0;
}

static void answer_open(struct fake_broker *b, struct sink_open *open, int code)
{
    struct buf copy;

    buf_init(&copy, 0);
    buf_append_slice(&copy, buf_slice(&b->position));
    open->code = code;
    open->text = code == 0 ? NULL : "the broker is not there";
    open->epoch = b->epoch;
    open->position = buf_slice(&copy);
    open->cb(open);
    buf_fini(&copy);
}

static void answer_batch(struct sink_batch *batch, int code)
{
    batch->code = code;
    batch->text = code == 0                ? NULL
                  : code == ESCROW_ECLOSED ? "connection lost"
                                           : escrow_strerror(code);
    batch->cb(batch);
}

static struct fake_request dequeue(struct fake_broker *b)
{
    struct fake_request req = b->queue[0];

    b->queue_count--;
    for (size_t i = 0; i < b->queue_count; i++) {
        b->queue[i] = b->queue[i + 1];
    }
    return req;
}

void fake_broker_crash(struct fake_broker *b)
{
    size_t count = b->queue_count; /* what they send in answer is not lost */

    b->crash_count++;
    while (count-- > 0) {
        struct fake_request req = dequeue(b);
        if (req.open != NULL) {
            answer_open(b, req.open, ESCROW_ECLOSED);
        } else {
            answer_batch(req.batch, ESCROW_ECLOSED);
        }
    }
}

/* Is this the step to crash at? */
static bool is_crash(struct fake_broker *b)
{
    return ++b->step_count == b->crash_at;
}

static void work_one(struct fake_broker *b)
{
    struct fake_request *head = &b->queue[0];
    struct fake_request req;
    int code;

    if (b->is_down) {
        req = dequeue(b);
        code = b->down_code != 0 ? b->down_code : ESCROW_ECONN;
        if (req.open != NULL) {
            answer_open(b, req.open, code);
        } else {
            answer_batch(req.batch, code);
        }
        return;
    }
    if (is_crash(b)) {
        fake_broker_crash(b);
        return;
    }
    code = 0;
    if (head->open != NULL) {
        b->epoch += !head->open->is_peek;
    } else {
        code = store(b, head->batch);
    }
    if (is_crash(b)) {
        fake_broker_crash(b);
        return;
    }
    req = dequeue(b);
    if (req.open != NULL) {
        answer_open(b, req.open, 0);
    } else {
        answer_batch(req.batch, code);
    }
}

static void work(void *arg)
{
    struct fake_broker *b = arg;

    if (b->horizon != NULL) {
        struct sink_horizon *horizon = b->horizon;
        b->horizon = NULL;
        horizon->brokers = b->brokers;
        horizon->broker_count = b->broker_count;
        horizon->is_complete = b->is_complete;
        horizon->missing = NULL;
        horizon->cb(horizon);
    }
    if (b->queue_count == 0 || (b->holds_batches && b->queue[0].batch != NULL)) {
        return;
    }
    work_one(b);
    if (b->queue_count > 0) {
        loop_defer(b->loop, &b->work);
    }
}

void fake_broker_release(struct fake_broker *b)
{
    b->holds_batches = false;
    if (b->queue_count > 0) {
        loop_defer(b->loop, &b->work);
    }
}
