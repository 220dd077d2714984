#include "tests/integration/broker/pop_client.h"

#include "core/base/rand.h"
#include "core/proto/pop_info.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct broker_fixture f;
struct client c;
struct popped got[POP_MAX];
bool is_done[KILL_ROUNDS * KILL_MESSAGES];

void set_up(int32_t queues)
{
    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", queues);
}

void tear_down(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

void await_metric(const char *name, int64_t value)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;

    while (client_metric(&c, name) < value) {
        test_await(-1, deadline_ms, name);
    }
}

void await_fewer(const char *name, int64_t value)
{
    int64_t deadline_ms = test_now_ms() + CLIENT_WAIT_MS;

    while (client_metric(&c, name) > value) {
        test_await(-1, deadline_ms, name);
    }
}

void die_and_start(void)
{
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_JSON);
}

void send_one(int32_t queue, const char *body)
{
    struct test_message m = {
        .topic = "T", .properties = "TAGS=A", .queue = queue, .body = slice_str(body)};

    (void)client_send(&c, &m);
}

void send_many(int32_t queue, int count)
{
    char body[16];

    for (int i = 0; i < count; i++) {
        (void)snprintf(body, sizeof body, "m%d", i);
        send_one(queue, body);
    }
}

void put_pop(struct client *to, const struct test_pop *p)
{
    struct header_writer *w = client_begin(to, REQUEST_POP_MESSAGE, 0);

    header_put_str(w, "consumerGroup", slice_str(p->group == NULL ? "g" : p->group));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", p->queue);
    header_put_i64(w, "maxMsgNums", p->count);
    header_put_i64(w, "invisibleTime", p->invisible_ms);
    header_put_i64(w, "pollTime", p->poll_ms);
    header_put_i64(w, "bornTime", 1);
    header_put_i64(w, "initMode", p->init_mode);
    header_put_str(w, "expType", SLICE_LIT("TAG"));
    header_put_str(w, "exp", slice_str(p->expression == NULL ? "*" : p->expression));
    header_put_bool(w, "order", p->is_ordered);
    if (p->attempt_id != NULL) {
        header_put_str(w, "attemptId", slice_str(p->attempt_id));
    }
}

/* The words of "kind queue value;..." for a queue. */
static struct slice info_of(struct slice info, int32_t queue)
{
    char start[24];
    size_t len = (size_t)snprintf(start, sizeof start, "0 %d ", queue);

    while (info.len > 0) {
        const uint8_t *end = memchr(info.ptr, ';', info.len);
        size_t entry = end == NULL ? info.len : (size_t)(end - info.ptr);
        if (entry > len && memcmp(info.ptr, start, len) == 0) {
            return slice_of(info.ptr + len, entry - len);
        }
        entry += end == NULL ? 0 : 1;
        info = slice_of(info.ptr + entry, info.len - entry);
    }
    ck_abort_msg("no entry of queue %d", queue);
}

/* Is the offset named, and named in the order of the records? */
static void check_offset(struct slice list, int64_t offset, int index)
{
    char text[512];
    char *word;
    char *rest = NULL;

    (void)slice_to_cstr(list, text, sizeof text);
    word = strtok_r(text, ",", &rest);
    for (int i = 0; i < index && word != NULL; i++) {
        word = strtok_r(NULL, ",", &rest);
    }
    ck_assert_ptr_nonnull(word);
    ck_assert_int_eq(strtoll(word, NULL, 10), offset);
}

int read_popped(struct client *from)
{
    struct record_walk walk = {.rest = from->body};
    struct record_view view;
    struct slice starts = header_str(&from->header, "startOffsetInfo");
    struct slice offsets = header_str(&from->header, "msgOffsetInfo");
    int64_t pop_ms = 0;
    int64_t invisible_ms = 0;
    int32_t revive_queue = -1;
    int index[8] = {0};
    int count = 0;

    ck_assert_int_eq(header_get_i64(&from->header, "popTime", &pop_ms), 0);
    ck_assert_int_eq(header_get_i64(&from->header, "invisibleTime", &invisible_ms), 0);
    ck_assert_int_eq(header_get_i32(&from->header, "reviveQid", &revive_queue), 0);
    while (record_walk_next(&walk, &view) == 1) {
        struct popped *p = &got[count++];
        struct pop_handle handle = {.pop_ms = pop_ms,
                                    .invisible_ms = invisible_ms,
                                    .revive_queue = revive_queue,
                                    .broker_name = SLICE_LIT("escrow-a"),
                                    .queue_id = view.f.queue_id,
                                    .offset = view.f.queue_offset};
        struct buf text;
        ck_assert(view.f.queue_id < 8 && count <= POP_MAX);
        check_offset(info_of(offsets, view.f.queue_id), view.f.queue_offset,
                     index[view.f.queue_id]++);
        ck_assert(slice_to_i64(info_of(starts, view.f.queue_id), &handle.start_offset));
        ck_assert_int_le(handle.start_offset, view.f.queue_offset);
        buf_init(&text, 0);
        pop_handle_encode(&text, &handle);
        (void)slice_to_cstr(buf_slice(&text), p->handle, sizeof p->handle);
        buf_fini(&text);
        (void)slice_to_cstr(view.f.body, p->body, sizeof p->body);
        p->queue = view.f.queue_id;
        p->offset = view.f.queue_offset;
        p->retries = view.f.reconsume_times;
    }
    return count;
}

int pop(const struct test_pop *p)
{
    int32_t code;

    put_pop(&c, p);
    code = client_call(&c, SLICE_EMPTY);
    if (code == RESPONSE_SUCCESS) {
        return read_popped(&c);
    }
    ck_assert_msg(code == RESPONSE_POLLING_TIMEOUT || code == RESPONSE_PULL_NOT_FOUND, "code %d",
                  code);
    return 0;
}

int pop_queue(int32_t queue, int32_t count, int64_t invisible_ms)
{
    struct test_pop p = {.queue = queue, .count = count, .invisible_ms = invisible_ms};

    return pop(&p);
}

int pop_await(int32_t queue, int64_t invisible_ms)
{
    struct test_pop p = {
        .queue = queue, .count = POP_MAX, .invisible_ms = invisible_ms, .poll_ms = POLL_MS};

    return pop(&p);
}

struct header_writer *put_receipt(int32_t code, const struct popped *p)
{
    struct header_writer *w = client_begin(&c, code, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", p->queue);
    header_put_i64(w, "offset", p->offset);
    header_put_str(w, "extraInfo", slice_str(p->handle));
    return w;
}

int32_t ack(const struct popped *p)
{
    (void)put_receipt(REQUEST_ACK_MESSAGE, p);
    return client_call(&c, SLICE_EMPTY);
}

int32_t change(struct popped *p, int64_t invisible_ms)
{
    struct header_writer *w = put_receipt(REQUEST_CHANGE_MESSAGE_INVISIBLETIME, p);
    int64_t pop_ms = 0;
    int32_t revive_queue = -1;
    int32_t code;

    header_put_i64(w, "invisibleTime", invisible_ms);
    code = client_call(&c, SLICE_EMPTY);
    if (code == RESPONSE_SUCCESS) {
        ck_assert_int_eq(header_get_i64(&c.header, "popTime", &pop_ms), 0);
        ck_assert_int_eq(header_get_i64(&c.header, "invisibleTime", &invisible_ms), 0);
        ck_assert_int_eq(header_get_i32(&c.header, "reviveQid", &revive_queue), 0);
        (void)snprintf(p->handle, sizeof p->handle, "%lld %lld %lld %d 0 escrow-a %d %lld",
                       (long long)p->offset, (long long)pop_ms, (long long)invisible_ms,
                       revive_queue, p->queue, (long long)p->offset);
    }
    return code;
}

int64_t committed(int32_t queue)
{
    struct header_writer *w = client_begin(&c, REQUEST_QUERY_CONSUMER_OFFSET, 0);
    int64_t offset = -1;

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", queue);
    header_put_bool(w, "setZeroIfNotFound", false);
    if (client_call(&c, SLICE_EMPTY) == RESPONSE_SUCCESS) {
        ck_assert_int_eq(header_get_i64(&c.header, "offset", &offset), 0);
    }
    return offset;
}

void consume_over_kills(uint64_t seed, const struct kill_run *run)
{
    struct rand rnd;
    int count;

    rand_init(&rnd, seed);
    broker_fixture_start(&f, (const char *const[]){"--offsets.flush.ms", "10", NULL});
    client_open(&c, f.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    for (int round = 0; round < KILL_ROUNDS; round++) {
        send_many(0, KILL_MESSAGES);
        run->consume(&rnd);
        die_and_start();
        run->check();
    }
    while ((count = run->pop()) > 0) {
        for (int i = 0; i < count; i++) {
            is_done[got[i].offset] = true;
            ck_assert_int_eq(ack(&got[i]), RESPONSE_SUCCESS);
        }
    }
    run->check();
    ck_assert_int_eq(committed(0), KILL_ROUNDS * KILL_MESSAGES);
    tear_down();
}
