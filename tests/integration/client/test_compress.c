/* Bodies that are compressed on their way, and what becomes of those that cannot be read. */
#include "core/proto/codes.h"
#include "core/proto/record.h"
#include "core/proto/send_request.h"
#include "escrow/pg.h"
#include "tests/integration/client/rig.h"
#include "tests/lib/pg_fixture.h"

#include <stdio.h>
#include <string.h>

#define LONG_LEN 100000

static struct pg_fixture pg;
static struct rig rig;
static struct bag bag;
static char text[LONG_LEN + 1];

static void setup(void)
{
    static const char *const args[] = {"--txn.timeout.ms", "100", NULL};

    rig_start(&rig, args);
    bag_init(&bag);
    for (size_t i = 0; i < LONG_LEN; i++) {
        text[i] = "a line of text, and again. "[i % 27];
    }
}

static void teardown(void)
{
    bag_fini(&bag);
    rig_stop(&rig);
}

/* "BODY-LENGTH COMPRESSION", or "text COMPRESSION" when it is our text. */
static enum escrow_consume_result describes(const struct escrow_delivery *message, void *arg)
{
    char line[64];
    size_t len;
    const char *body = escrow_delivery_body(message, &len);
    const char *how = escrow_delivery_compression(message);

    if (len == LONG_LEN && memcmp(body, text, len) == 0) {
        (void)snprintf(line, sizeof line, "text %s", how == NULL ? "-" : how);
    } else {
        (void)snprintf(line, sizeof line, "%zu %s", len, how == NULL ? "-" : how);
    }
    bag_add(arg, line, strlen(line));
    return ESCROW_CONSUME_OK;
}

/* The stored record at the beginning of a queue: its flags and how long its body is. */
static void check_stored(const char *topic, int32_t flags, bool is_short)
{
    struct header_out head = {.code = REQUEST_PULL_MESSAGE, .opaque = 1};
    struct record_view view;
    struct rig_question q;
    struct header_writer w;

    rig_question_init(&q);
    header_begin(&w, &q.frame, HEADER_JSON, &head);
    header_put_str(&w, "consumerGroup", SLICE_LIT("looker"));
    header_put_str(&w, "topic", slice_str(topic));
    header_put_i64(&w, "queueId", 0);
    header_put_i64(&w, "queueOffset", 0);
    header_put_i64(&w, "maxMsgNums", 1);
    header_put_i64(&w, "sysFlag", 4); /* the subscription is in here */
    header_put_i64(&w, "commitOffset", 0);
    header_put_i64(&w, "suspendTimeoutMillis", 0);
    header_put_str(&w, "subscription", SLICE_LIT("*"));
    header_put_i64(&w, "subVersion", 1);
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    rig_ask(&rig, &q);
    ck_assert_int_eq(record_decode(q.body, &view), 0);
    ck_assert_int_eq(view.f.sys_flag & (SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_MASK), flags);
    ck_assert_int_eq(view.f.body.len < LONG_LEN / 10, is_short);
    rig_question_fini(&q);
}

/* A message as some other client would send it. */
static void send_with_flags(const char *topic, const char *body, int32_t flags)
{
    struct header_out head = {.code = REQUEST_SEND_MESSAGE_V2, .opaque = 1};
    struct send_request req;
    struct rig_question q;
    struct header_writer w;

    send_request_init(&req);
    req.producer_group = SLICE_LIT("others");
    req.topic = slice_str(topic);
    req.default_topic = SLICE_LIT("TBW102");
    req.default_queue_count = 1;
    req.sys_flag = flags;
    rig_question_init(&q);
    header_begin(&w, &q.frame, HEADER_JSON, &head);
    send_request_encode(&w, &req, true);
    header_end(&w);
    buf_append_str(&q.frame, body);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    rig_ask(&rig, &q);
    rig_question_fini(&q);
}

/*
 * By default a long body is stored compressed, and arrives as it was sent: plain, asynchronous, of
 * a transaction.
 */
START_TEST(a_long_body_is_stored_compressed)
{
    const struct escrow_option one[] = {{"queues", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    OK(escrow_producer_new(c, "shop", one, &p));
    OK(rig_send(p, "Long", text));
    check_stored("Long", SYSFLAG_COMPRESSED, true);
    OK(rig_send(p, "Long", "short"));
    k = rig_consume(c, "readers", "Long", "*", NULL, describes, &bag);
    bag_wait_for(&bag, "text -");
    bag_wait_for(&bag, "5 -");
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* The way that was chosen: stored so, and it arrives as it was sent. Others are refused by name. */
START_TEST(the_way_can_be_chosen)
{
    static const struct {
        const char *type;
        int32_t flags;
    } rows[] = {{"zlib", SYSFLAG_COMPRESSED},
                {"lz4", SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_LZ4},
                {"zstd", SYSFLAG_COMPRESSED | SYSFLAG_COMPRESS_ZSTD}};
    static const char *const none[] = {"none", "unknown", "snappy", ""};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    size_t came = 0;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct escrow_option how[] = {
            {"compress.type", rows[i].type}, {"queues", "1"}, {NULL, NULL}};
        int rc = escrow_producer_new(c, "shop", how, &p);
        if (rc == ESCROW_ENOTSUP && i > 0) {
            continue; /* built without its library */
        }
        ck_assert_int_eq(rc, 0);
        OK(rig_send(p, rows[i].type, text));
        check_stored(rows[i].type, rows[i].flags, true);
        escrow_producer_free(&p);
        k = rig_consume(c, "readers", rows[i].type, "*", NULL, describes, &bag);
        bag_wait(&bag, ++came);
        ck_assert_uint_eq(bag_count_of(&bag, "text -"), came);
        escrow_consumer_free(&k);
    }
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        const struct escrow_option how[] = {{"compress.type", none[i]}, {NULL, NULL}};
        ck_assert_int_eq(escrow_producer_new(c, "shop", how, &p), ESCROW_ECONFIG);
        ck_assert_ptr_nonnull(strstr(escrow_last_error(), "zlib, lz4 or zstd"));
    }
    escrow_client_free(&c);
}
END_TEST

/* Switched off, or when it would not help, a body is stored as it is. */
START_TEST(it_can_be_switched_off)
{
    const struct escrow_option off[] = {
        {"compress.over.bytes", "0"}, {"queues", "1"}, {NULL, NULL}};
    const struct escrow_option on[] = {{"compress.level", "9"}, {"queues", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_message *m;
    unsigned state = 1;

    OK(escrow_producer_new(c, "shop", off, &p));
    OK(rig_send(p, "Off", text));
    check_stored("Off", 0, false);
    escrow_producer_free(&p);
    for (size_t i = 0; i < LONG_LEN; i++) { /* no pattern */
        state = state * 1664525u + 1013904223u;
        text[i] = (char)(state >> 24);
    }
    OK(escrow_producer_new(c, "shop", on, &p));
    m = escrow_message_new("Noise", text, LONG_LEN);
    OK(escrow_send(p, m, NULL));
    escrow_message_free(&m);
    check_stored("Noise", 0, false);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void on_sent(int error, const struct escrow_receipt *receipt, void *arg)
{
    (void)receipt;
    ck_assert_int_eq(error, 0);
    bag_add(arg, "sent", 4);
}

static enum escrow_txn_state cannot_say(const struct escrow_message *message, const char *id,
                                        void *arg)
{
    (void)message;
    (void)id;
    (void)arg;
    return ESCROW_TXN_UNKNOWN;
}

static enum escrow_txn_state checks(const struct escrow_delivery *message, const char *id,
                                    void *arg)
{
    (void)id;
    (void)describes(message, arg);
    return ESCROW_TXN_COMMIT;
}

/* Asynchronous sends and halves are compressed too; a check-back and a poll see the text. */
START_TEST(every_way_to_send_and_to_receive)
{
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_message *m = rig_message("Ways", text);
    struct escrow_delivery *d[1];
    size_t count = 0;

    OK(escrow_txn_producer_new(c, "shop", NULL, checks, &bag, &p));
    OK(escrow_send_async(p, m, on_sent, &bag));
    bag_wait_for(&bag, "sent");
    OK(escrow_txn_send(p, m, cannot_say, NULL, NULL, NULL));
    bag_wait_for(&bag, "text -"); /* the check-back */
    k = rig_consume(c, "pollers", "Ways", "*", NULL, NULL, NULL);
    for (int i = 0; i < 2; i++) {
        OK(escrow_consumer_poll(k, RIG_WAIT_MS, d, 1, &count));
        ck_assert_uint_eq(count, 1);
        (void)describes(d[0], &bag);
        escrow_delivery_free(&d[0]);
    }
    ck_assert_uint_eq(bag_count_of(&bag, "text -"), 3);
    escrow_message_free(&m);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

/* So are messages of a PostgreSQL transaction; what is short, or does not get shorter, is not. */
START_TEST(messages_of_a_database_transaction_are_compressed_too)
{
    const struct escrow_option one[] = {{"queues", "1"}, {NULL, NULL}};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_pg_txn *txn = NULL;
    char conninfo[160];
    PGconn *conn;
    static const char *const topics[] = {"Paid", "Brief"};

    pg_fixture_database(&pg, "compress", conninfo, sizeof conninfo);
    conn = pg_test_connect(conninfo);
    OK(escrow_producer_new(c, "shop", one, &p));
    OK(escrow_pg_begin(p, conn, &txn));
    for (size_t i = 0; i < 2; i++) {
        struct escrow_message *m = rig_message(topics[i], i == 0 ? text : "short");
        OK(escrow_pg_publish(txn, m));
        escrow_message_free(&m);
    }
    OK(escrow_pg_commit(&txn));
    PQfinish(conn);
    k = rig_consume(c, "readers", "Paid", "*", NULL, describes, &bag);
    bag_wait_for(&bag, "text -");
    check_stored("Paid", SYSFLAG_COMPRESSED, true);
    escrow_consumer_free(&k);
    k = rig_consume(c, "readers", "Brief", "*", NULL, describes, &bag);
    bag_wait_for(&bag, "5 -");
    check_stored("Brief", 0, true);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void start_pg(void)
{
    pg_fixture_start(&pg, NULL);
}

static void stop_pg(void)
{
    pg_fixture_stop(&pg);
}

/* One that says it is compressed and is not arrives as it is, and those behind it arrive too. */
START_TEST(a_damaged_body_is_handed_over_as_it_is)
{
    static const int32_t flags[] = {SYSFLAG_COMPRESSED, SYSFLAG_COMPRESSED | 0x500};
    struct escrow_client *c = rig_client(&rig);
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;

    for (size_t i = 0; i < 2; i++) {
        send_with_flags("Odd", "no stream", flags[i]);
    }
    OK(escrow_producer_new(c, "shop", NULL, &p));
    OK(rig_send(p, "Odd", text));
    k = rig_consume(c, "readers", "Odd", "*", NULL, describes, &bag);
    bag_wait(&bag, 3);
    ck_assert_uint_eq(bag_count_of(&bag, "9 zlib"), 1);
    ck_assert_uint_eq(bag_count_of(&bag, "9 unknown"), 1);
    ck_assert_uint_eq(bag_count_of(&bag, "text -"), 1);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_unchecked_fixture(tc, start_pg, stop_pg);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_long_body_is_stored_compressed);
    tcase_add_test(tc, messages_of_a_database_transaction_are_compressed_too);
    tcase_add_test(tc, the_way_can_be_chosen);
    tcase_add_test(tc, it_can_be_switched_off);
    tcase_add_test(tc, every_way_to_send_and_to_receive);
    tcase_add_test(tc, a_damaged_body_is_handed_over_as_it_is);
}

int main(void)
{
    return rig_main("client_compress", add);
}
