/*
 * SIGKILL under load, again and again: plain sends, halves and decisions, outbox batches and pulls
 * are under way when escrowd dies at a moment that chance picks; after each restart the log is
 * compared with what was acknowledged.
 *
 * What must hold (design: the six sentences): no acknowledged message is lost; no half that is
 * undecided or rolled back is visible; a committed one is, exactly once; the order in a queue is
 * the order of the log; an outbox batch is stored exactly once and its position with it; what a
 * consumer has seen never changes.
 *
 * ESCROW_TEST_SEED=N repeats a run (its choices, not its timing).
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/proto/send_request.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define KILLS       32
#define TIME_MAX_MS 60000 /* then it ends early, but not before KILLS_MIN */
#define KILLS_MIN   30
#define QUEUES      4
#define TOPICS      3 /* of halves: H0, H1, H2 */
#define WINDOW      48
#define ITEMS_MAX   2000000
#define ITEMS_LEFT  100000 /* for the bursts before the kills still to come */
#define BATCH_ROWS  7

enum fate { FATE_NONE, FATE_SENT, FATE_STORED, FATE_DECIDING, FATE_DECIDED };

struct item {
    int64_t offset; /* plain: of its queue; half: physical */
    uint8_t fate;
    uint8_t kind; /* of the decision: enum txn_decision */
    uint8_t seen; /* times found in a queue */
};

struct run {
    struct broker_fixture f;
    struct rand rand;
    struct client plain;
    struct client halves;
    struct client outbox;
    struct client puller;
    struct item *plains;
    uint32_t plain_count;
    uint32_t plain_answered; /* this connection's answers so far */
    uint32_t plain_first;    /* first item of this connection */
    struct item *half;
    uint32_t half_count;
    uint32_t half_answered;
    uint32_t half_first;
    uint32_t decide_first; /* halves before this one were asked about */
    uint64_t epoch;
    uint32_t batch_sent;  /* batches sent in all, 1 = first */
    uint32_t batch_acked; /* highest acknowledged */
    bool is_batch_out;
    int64_t pull_next[QUEUES];
    uint64_t pull_sum[QUEUES]; /* over what was pulled while running */
    uint64_t pulled;
};

static uint64_t mix(uint64_t sum, const struct record_view *view)
{
    const uint8_t *p = view->f.body.ptr;

    for (size_t i = 0; i < view->f.body.len; i++) {
        sum = (sum ^ p[i]) * UINT64_C(1099511628211);
    }
    return (sum ^ (uint64_t)view->f.physical_offset) * UINT64_C(1099511628211);
}

/* ---- load ---- */

static void connect_all(struct run *r)
{
    struct source_open_answer open;
    char position[32] = "";

    client_open(&r->plain, r->f.port, HEADER_MSGPACK);
    client_open(&r->halves, r->f.port, HEADER_ROCKETMQ);
    client_open(&r->outbox, r->f.port, HEADER_MSGPACK);
    client_open(&r->puller, r->f.port, HEADER_JSON);
    r->plain_first = r->plain_answered = r->plain_count;
    r->half_first = r->half_answered = r->half_count;
    ck_assert_int_eq(client_source_open(&r->outbox, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_uint_gt(open.epoch, r->epoch);
    r->epoch = open.epoch;
    if (open.has_position) {
        ck_assert_uint_lt(open.position.len, sizeof position);
        memcpy(position, open.position.ptr, open.position.len);
    }
    /*
     * The last batch is in or it is not; nothing acknowledged is missing, nothing unsent is there.
     */
    ck_assert_uint_ge(strtoul(position, NULL, 10), r->batch_acked);
    ck_assert_uint_le(strtoul(position, NULL, 10), r->batch_sent);
    r->batch_acked = r->batch_sent = (uint32_t)strtoul(position, NULL, 10);
    r->is_batch_out = false;
}

static void close_all(struct run *r)
{
    client_close(&r->plain);
    client_close(&r->halves);
    client_close(&r->outbox);
    client_close(&r->puller);
}

static void put_plain(struct run *r)
{
    uint8_t body[300];
    uint32_t i = r->plain_count;
    size_t len = 8 + rand_below(&r->rand, sizeof body - 8);

    ck_assert_uint_lt(i, ITEMS_MAX);
    memset(body, (int)(i & 0xFF), sizeof body);
    put_be32(body, i);
    put_be32(body + 4, (uint32_t)len);
    r->plains[i] = (struct item){.fate = FATE_SENT, .offset = -1};
    r->plain_count++;
    client_put_send(&r->plain,
                    &(struct test_message){
                        .topic = "P", .queue = (int32_t)(i % QUEUES), .body = slice_of(body, len)},
                    0);
}

static void half_name(uint32_t i, char *dst, size_t size)
{
    (void)snprintf(dst, size, "h-%u", i); /* fits */
}

static void put_half(struct run *r)
{
    uint32_t i = r->half_count;
    char topic[4] = {'H', (char)('0' + i % TOPICS), '\0'};
    char name[32];
    char properties[64];
    uint8_t body[4];

    ck_assert_uint_lt(i, ITEMS_MAX);
    half_name(i, name, sizeof name);
    (void)snprintf(properties, sizeof properties, "UNIQ_KEY=%s", name); /* fits */
    put_be32(body, i);
    r->half[i] = (struct item){.fate = FATE_SENT, .offset = -1};
    r->half_count++;
    client_put_send(
        &r->halves,
        &(struct test_message){
            .topic = topic, .properties = properties, .body = slice_of(body, 4), .is_half = true},
        0);
}

static void put_batch(struct run *r)
{
    struct publish_writer pub;
    struct buf body;
    char prev[32] = "";
    char next[32];
    struct publish_head head = {
        .source = SLICE_LIT("db"), .epoch = r->epoch, .system_id = 7, .timeline = 1};

    if (r->batch_sent > 0) {
        (void)snprintf(prev, sizeof prev, "%u", r->batch_sent); /* fits */
    }
    head.prev = slice_str(prev);
    (void)snprintf(next, sizeof next, "%u", ++r->batch_sent); /* fits */
    buf_init(&body, 0);
    publish_begin(&pub, &body, &head);
    for (uint32_t i = 0; i < BATCH_ROWS; i++) {
        uint8_t text[8];
        struct publish_row row = {
            .topic = SLICE_LIT("O"), .body = slice_of(text, 8), .born_ms = 1, .queue_id = 0};
        put_be32(text, r->batch_sent);
        put_be32(text + 4, i);
        publish_put(&pub, &row);
    }
    ck_assert_uint_eq(publish_end(&pub, slice_str(next)), BATCH_ROWS);
    (void)client_begin(&r->outbox, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    client_finish(&r->outbox, buf_slice(&body));
    buf_fini(&body);
    r->is_batch_out = true;
}

/* ---- answers: in the order of the requests, because all of one connection are of one kind ---- */

static void take_plains(struct run *r, uint32_t count, int64_t wait_ms)
{
    struct send_answer answer;

    while (count-- > 0 && r->plain_answered < r->plain_count &&
           client_receive(&r->plain, wait_ms) == 0) {
        struct item *item = &r->plains[r->plain_answered++];
        if (r->plain.header.code == RESPONSE_SUCCESS) {
            ck_assert_int_eq(send_answer_decode(&r->plain.header, &answer), 0);
            item->fate = FATE_STORED;
            item->offset = answer.queue_offset;
        } else {
            ck_assert_int_eq(r->plain.header.code, RESPONSE_SYSTEM_BUSY);
            item->fate = FATE_NONE;
        }
    }
}

static void take_halves(struct run *r, int64_t wait_ms)
{
    struct send_answer answer;

    while (r->half_answered < r->half_count && client_receive(&r->halves, wait_ms) == 0) {
        struct item *item = &r->half[r->half_answered++];
        if (r->halves.header.code == RESPONSE_SUCCESS) {
            ck_assert_int_eq(send_answer_decode(&r->halves.header, &answer), 0);
            item->fate = FATE_STORED;
            item->offset = answer.queue_offset;
        } else {
            ck_assert_int_eq(r->halves.header.code, RESPONSE_SYSTEM_BUSY);
            item->fate = FATE_NONE;
        }
    }
}

static void take_batch(struct run *r, int64_t wait_ms)
{
    struct publish_answer answer;

    if (!r->is_batch_out || client_receive(&r->outbox, wait_ms) != 0) {
        return;
    }
    r->is_batch_out = false;
    if (r->outbox.header.code == RESPONSE_SUCCESS) {
        ck_assert_int_eq(publish_answer_decode(r->outbox.body, &answer), 0);
        ck_assert_uint_eq(answer.count, BATCH_ROWS);
        r->batch_acked = r->batch_sent;
    } else { /* refused, nothing stored: the same batch goes out again */
        ck_assert_int_eq(r->outbox.header.code, RESPONSE_SYSTEM_BUSY);
        r->batch_sent--;
    }
}

/* Decide some stored halves by one request; some stay undecided for ever. */
static void decide_some(struct run *r, bool waits)
{
    uint32_t picked[8];
    char names[8][32];
    struct end_txn_half halves[8];
    struct end_txn_result results[8];
    uint32_t want = 1 + (uint32_t)rand_below(&r->rand, 8);
    uint32_t count = 0;
    struct end_txn_request req = {.producer_group = SLICE_LIT("pg"),
                                  .decision =
                                      rand_below(&r->rand, 3) == 0 ? TXN_ROLLBACK : TXN_COMMIT};
    struct buf body;

    while (count < want && r->decide_first < r->half_answered) {
        uint32_t i = r->decide_first++;
        if (r->half[i].fate == FATE_STORED && rand_below(&r->rand, 10) > 0) {
            half_name(i, names[count], sizeof names[count]);
            halves[count] = (struct end_txn_half){.transaction_id = slice_str(names[count]),
                                                  .offset = r->half[i].offset};
            r->half[i].fate = FATE_DECIDING;
            r->half[i].kind = (uint8_t)req.decision;
            picked[count++] = i;
        }
    }
    if (count == 0) {
        return;
    }
    if (!waits) { /* the kill comes before the answer */
        buf_init(&body, 0);
        end_txn_request_encode(&body, &req, halves, count);
        (void)client_begin(&r->halves, REQUEST_ESCROW_END_TRANSACTION, 0);
        client_finish(&r->halves, buf_slice(&body));
        ck_assert_int_eq(client_flush(&r->halves), 0);
        buf_fini(&body);
    } else if (client_decide(&r->halves, &req, halves, count, results) == RESPONSE_SUCCESS) {
        for (uint32_t i = 0; i < count; i++) {
            ck_assert_int_eq(results[i].error, 0);
            r->half[picked[i]].fate = FATE_DECIDED;
        }
    }
}

/* A consumer reads on; what it has seen goes into a sum that must come out again at the end. */
static void pull_some(struct run *r)
{
    int32_t queue = (int32_t)rand_below(&r->rand, QUEUES);
    struct test_pull p = {"g", "P", queue, r->pull_next[queue], 64, 0};
    struct record_walk walk;
    struct record_view view;

    if (client_pull(&r->puller, &p) != RESPONSE_SUCCESS) {
        return;
    }
    walk.rest = r->puller.body;
    while (record_walk_next(&walk, &view) == 1) {
        ck_assert_int_eq(view.f.queue_offset, r->pull_next[queue]++);
        r->pull_sum[queue] = mix(r->pull_sum[queue], &view);
        r->pulled++;
    }
}

/* Everything under way at once, until the time is up; then SIGKILL in the middle of it. */
static void load_and_kill(struct run *r, int64_t duration_ms)
{
    int64_t end_ms = test_now_ms() + duration_ms;

    do {
        while (r->plain_count - r->plain_answered < WINDOW) {
            put_plain(r);
        }
        while (r->half_count - r->half_answered < WINDOW / 2) {
            put_half(r);
        }
        if (!r->is_batch_out) {
            put_batch(r);
        }
        ck_assert_int_eq(client_flush(&r->plain), 0);
        ck_assert_int_eq(client_flush(&r->halves), 0);
        ck_assert_int_eq(client_flush(&r->outbox), 0);
        pull_some(r);
        take_plains(r, WINDOW, 0);
        take_batch(r, 0);
        if (rand_below(&r->rand, 2) == 0) {
            take_halves(r, CLIENT_WAIT_MS);
            decide_some(r, true);
        }
    } while (test_now_ms() < end_ms && r->plain_count < ITEMS_MAX - ITEMS_LEFT);
    take_halves(r, CLIENT_WAIT_MS);
    take_plains(r, WINDOW, CLIENT_WAIT_MS);
    decide_some(r, false);
    /*
     * A burst in small writes, and the kill with the n-th answer: an answer that went out before
     * its record was written would be caught.
     */
    for (int i = 0; i < WINDOW; i++) {
        put_plain(r);
        ck_assert_int_eq(client_flush(&r->plain), 0);
    }
    take_plains(r, (uint32_t)rand_below(&r->rand, WINDOW), CLIENT_WAIT_MS);
    broker_fixture_kill(&r->f);
    take_plains(r, WINDOW, 0); /* answers that were on their way count */
    take_batch(r, 0);
}

/* ---- checks ---- */

typedef void visit_fn(struct run *r, int32_t queue, const struct record_view *view);

static void walk_queue(struct run *r, struct client *c, const char *topic, int32_t queue,
                       visit_fn *visit)
{
    int64_t max = client_max_offset(c, topic, queue);
    int64_t next = 0;
    int64_t physical = -1;

    while (next < max) {
        struct test_pull p = {"check", topic, queue, next, 1000, 0};
        struct record_walk walk;
        struct record_view view;
        int rc;
        ck_assert_int_eq(client_pull(c, &p), RESPONSE_SUCCESS);
        walk.rest = c->body;
        while ((rc = record_walk_next(&walk, &view)) == 1) {
            ck_assert_int_eq(view.f.queue_offset, next++);
            ck_assert_uint_eq(view.body_crc, record_body_crc(view.f.body));
            if (topic[0] != 'H') { /* halves come in the order of their decisions */
                ck_assert_int_gt(view.f.physical_offset, physical);
            }
            physical = view.f.physical_offset;
            visit(r, queue, &view);
        }
        ck_assert_int_eq(rc, 0);
    }
}

static void visit_plain(struct run *r, int32_t queue, const struct record_view *view)
{
    uint32_t i = get_be32(view->f.body.ptr);

    ck_assert_uint_lt(i, r->plain_count);
    ck_assert_int_eq((int32_t)(i % QUEUES), queue);
    ck_assert_uint_eq(get_be32(view->f.body.ptr + 4), view->f.body.len);
    ck_assert_int_ne(r->plains[i].fate, FATE_NONE);
    if (r->plains[i].fate == FATE_STORED) {
        ck_assert_int_eq(r->plains[i].offset, view->f.queue_offset);
    }
    ck_assert_uint_eq(++r->plains[i].seen, 1);
}

static void visit_half(struct run *r, int32_t queue, const struct record_view *view)
{
    uint32_t i = get_be32(view->f.body.ptr);
    const struct item *half = &r->half[i];

    (void)queue;
    ck_assert_uint_lt(i, r->half_count);
    ck_assert_msg(half->fate == FATE_DECIDED || half->fate == FATE_DECIDING,
                  "half %u is visible and was never decided", i);
    ck_assert_msg(half->kind == TXN_COMMIT, "half %u is visible and was rolled back", i);
    ck_assert_uint_eq(++r->half[i].seen, 1);
}

static uint32_t outbox_next; /* row expected next */

static void visit_outbox(struct run *r, int32_t queue, const struct record_view *view)
{
    (void)r;
    (void)queue;
    ck_assert_uint_eq(get_be32(view->f.body.ptr), outbox_next / BATCH_ROWS + 1);
    ck_assert_uint_eq(get_be32(view->f.body.ptr + 4), outbox_next % BATCH_ROWS);
    outbox_next++;
}

static uint64_t pulled_sum[QUEUES];

static void visit_again(struct run *r, int32_t queue, const struct record_view *view)
{
    if (view->f.queue_offset < r->pull_next[queue]) {
        pulled_sum[queue] = mix(pulled_sum[queue], view);
    }
}

static void check_everything(struct run *r)
{
    struct client c;
    uint32_t lost = 0;

    client_open(&c, r->f.port, HEADER_MSGPACK);
    for (int32_t q = 0; q < QUEUES; q++) {
        walk_queue(r, &c, "P", q, visit_plain);
    }
    for (uint32_t i = 0; i < r->plain_count; i++) {
        lost += r->plains[i].fate == FATE_STORED && r->plains[i].seen == 0;
        r->plains[i].seen = 0;
    }
    ck_assert_msg(lost == 0, "%u acknowledged messages are lost", lost);
    walk_queue(r, &c, "H0", 0, visit_half);
    walk_queue(r, &c, "H1", 0, visit_half);
    walk_queue(r, &c, "H2", 0, visit_half);
    for (uint32_t i = 0; i < r->half_count; i++) {
        const struct item *half = &r->half[i];
        lost += half->fate == FATE_DECIDED && half->kind == TXN_COMMIT && half->seen == 0;
        r->half[i].seen = 0;
    }
    ck_assert_msg(lost == 0, "%u committed halves are not visible", lost);
    outbox_next = 0;
    walk_queue(r, &c, "O", 0, visit_outbox);
    ck_assert_uint_eq(outbox_next % BATCH_ROWS, 0);
    ck_assert_uint_eq(outbox_next / BATCH_ROWS, r->batch_sent); /* = the position: connect_all */
    client_close(&c);
}

/* What was decided without an answer is asked for again: success, and visible once in the end. */
static void settle(struct run *r)
{
    for (uint32_t i = 0; i < r->half_count; i++) {
        if (r->half[i].fate == FATE_DECIDING) {
            struct end_txn_request req = {.producer_group = SLICE_LIT("pg"),
                                          .decision = (enum txn_decision)r->half[i].kind};
            struct end_txn_half half = {.offset = r->half[i].offset};
            struct end_txn_result result;
            char name[32];
            half_name(i, name, sizeof name);
            half.transaction_id = slice_str(name);
            ck_assert_int_eq(client_decide(&r->halves, &req, &half, 1, &result), RESPONSE_SUCCESS);
            ck_assert_int_eq(result.error, 0);
            r->half[i].fate = FATE_DECIDED;
        }
    }
}

START_TEST(sigkill_under_load_loses_nothing_and_repeats_nothing)
{
    /* See the head of this file. */
    static struct run r;
    const char *text = getenv("ESCROW_TEST_SEED");
    uint64_t seed = text != NULL ? strtoull(text, NULL, 10) : (uint64_t)test_now_ms();
    int64_t end_ms = test_now_ms() + TIME_MAX_MS;
    uint64_t undecided = 0;
    int kills = 0;

    (void)fprintf(stderr, "seed %llu (ESCROW_TEST_SEED)\n", (unsigned long long)seed);
    rand_init(&r.rand, seed);
    r.plains = mem_calloc(ITEMS_MAX, sizeof *r.plains);
    r.half = mem_calloc(ITEMS_MAX, sizeof *r.half);
    /*
     * Small segments and checkpoints, so that kills meet them too; check-backs are out of the way.
     */
    broker_fixture_start(&r.f, (const char *const[]){"--log.segment.bytes", "1m",
                                                     "--log.checkpoint.bytes", "1m",
                                                     "--txn.timeout.ms", "3600000", NULL});
    client_open(&r.plain, r.f.port, HEADER_MSGPACK);
    client_topic(&r.plain, "P", QUEUES);
    client_topic(&r.plain, "O", 1);
    client_topic(&r.plain, "H0", 1);
    client_topic(&r.plain, "H1", 1);
    client_topic(&r.plain, "H2", 1);
    client_close(&r.plain);
    connect_all(&r);
    while (kills < KILLS && (kills < KILLS_MIN || test_now_ms() < end_ms)) {
        load_and_kill(&r, 20 + (int64_t)rand_below(&r.rand, 300));
        kills++;
        close_all(&r);
        r.decide_first = r.half_count; /* the rest of before stays undecided */
        broker_fixture_launch(&r.f);
        connect_all(&r);
        if (kills % 4 == 0 || kills == KILLS_MIN) {
            check_everything(&r);
        }
        settle(&r);
    }
    check_everything(&r);
    for (int32_t q = 0; q < QUEUES; q++) {
        walk_queue(&r, &r.puller, "P", q, visit_again);
        ck_assert_uint_eq(pulled_sum[q], r.pull_sum[q]);
    }
    for (uint32_t i = 0; i < r.half_count; i++) {
        undecided += r.half[i].fate == FATE_STORED;
    }
    ck_assert_int_ge(client_metric(&r.plain, "txn_undecided"), (int64_t)undecided);
    (void)fprintf(stderr, "%d kills: %u sends, %u halves, %u outbox batches, %llu pulled\n", kills,
                  r.plain_count, r.half_count, r.batch_acked, (unsigned long long)r.pulled);
    ck_assert_uint_gt(r.plain_count, 1000);
    ck_assert_uint_gt(r.batch_acked, 30);
    ck_assert_uint_gt(r.pulled, 100);
    close_all(&r);
    mem_free(r.plains);
    mem_free(r.half);
    broker_fixture_stop(&r.f);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, sigkill_under_load_loses_nothing_and_repeats_nothing);
}

int main(void)
{
    return broker_fixture_main("kill", 200, add);
}
