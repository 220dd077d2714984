/*
 * Access control of a running escrowd: who is let in, who may do what, and the users file changing.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "escrow/errors.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char users[] = "[user root]\n"
                            "access_key = root-key\n"
                            "secret_key = root-secret\n"
                            "admin = true\n"
                            "[user orders]\n"
                            "access_key = orders-key\n"
                            "secret_key = orders-secret\n"
                            "topics = orders=PUB\n"
                            "groups = pg=PUB\n"
                            "[user billing]\n"
                            "access_key = billing-key\n"
                            "secret_key = billing-secret\n"
                            "topics = orders=SUB\n"
                            "groups = billing=SUB\n"
                            "[user far]\n"
                            "access_key = far-key\n"
                            "secret_key = far-secret\n"
                            "admin = true\n"
                            "ip = 10.0.0.0/8\n"
                            "[user reader]\n"
                            "access_key = reader-key\n"
                            "secret_key = reader-secret\n"
                            "topics = secret=DENY\n"
                            "default.topic = SUB\n"
                            "groups = readers=SUB\n"
                            "[user clerk]\n"
                            "access_key = clerk-key\n"
                            "secret_key = clerk-secret\n"
                            "topics = TRANS_CHECK_MAX_TIME_TOPIC=SUB\n"
                            "groups = readers=SUB\n";

static struct broker_fixture f;
static char file[300];
static struct signer *signer;

/* A new file in the place of the old one, as editors do it. */
static void write_users(const char *text, mode_t mode)
{
    char part[320];
    FILE *out;

    (void)snprintf(part, sizeof part, "%s.new", file); /* fits */
    out = fopen(part, "we");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_int_eq(chmod(part, mode), 0);
    ck_assert_int_eq(rename(part, file), 0);
}

static const char *const args[] = {"--acl.file", file, "--acl.reload.ms", "50", NULL};

static void make_file(void)
{
    char folder[200];

    test_folder(folder, sizeof folder);
    (void)snprintf(file, sizeof file, "%s/users.conf", folder); /* fits */
    write_users(users, 0600);
}

static void start(void)
{
    make_file();
    broker_fixture_start(&f, args);
}

static void open_as(struct client *c, uint16_t port, enum header_type type, const char *who)
{
    static char key[64];
    char secret[64];

    client_open(c, port, type);
    if (who != NULL) {
        signer_free(&signer);
        (void)snprintf(key, sizeof key, "%s-key", who);          /* fits */
        (void)snprintf(secret, sizeof secret, "%s-secret", who); /* fits */
        ck_assert_int_eq(signer_new(slice_str(secret), &signer), 0);
        c->signer = signer;
        c->access_key = key;
    }
}

static void refusal_has(struct client *c, const char *text, int error)
{
    char remark[600];

    (void)slice_to_cstr(c->header.remark, remark, sizeof remark);
    ck_assert_msg(strstr(remark, text) != NULL, "'%s' is not in: %s", text, remark);
    ck_assert_int_eq(client_error(c), error);
}

/* A known user asked for what it may not. */
static void remark_has(struct client *c, const char *text)
{
    refusal_has(c, text, ESCROW_EPERM);
}

/* It is not known who asked: nothing is said about the request. */
static void not_known(struct client *c, const char *text)
{
    refusal_has(c, text, ESCROW_EAUTH);
}

static void make_topic(void)
{
    struct client c;

    open_as(&c, f.port, HEADER_JSON, "root");
    client_topic(&c, "orders", 1);
    client_topic(&c, "secret", 1);
    client_close(&c);
}

static const struct test_message order = {.topic = "orders", .body = {(const uint8_t *)"paid", 4}};
static const struct test_message hidden = {.topic = "secret", .body = {(const uint8_t *)"hush", 4}};

START_TEST(the_right_key_is_let_in_with_every_encoding)
{
    /* Sends and pulls with each header type, signed; the message arrives. */
    start();
    make_topic();
    for (int type = 0; type < HEADER_TYPE_COUNT; type++) {
        struct client c;
        struct test_pull pull = {.group = "billing", .topic = "orders", .offset = type, .count = 1};
        open_as(&c, f.port, (enum header_type)type, "orders");
        ck_assert_int_eq(client_send(&c, &order), type);
        client_close(&c);
        open_as(&c, f.port, (enum header_type)type, "billing");
        ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
        ck_assert_ptr_nonnull(memmem(c.body.ptr, c.body.len, "paid", 4));
        client_close(&c);
    }
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_wrong_or_missing_key_is_refused_everywhere)
{
    /* Broker and name server; unsigned, unknown key, wrong secret; one answer for the last two. */
    struct client c;
    uint16_t ports[2];

    start();
    make_topic();
    ports[0] = f.port;
    ports[1] = f.name_port;
    for (size_t i = 0; i < 2; i++) {
        open_as(&c, ports[i], HEADER_JSON, NULL);
        header_put_str(client_begin(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0), "topic",
                       SLICE_LIT("orders"));
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
        not_known(&c, "not signed");
        (void)client_begin(&c, 4711, 0); /* not even which codes there are */
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
        client_close(&c);
        open_as(&c, ports[i], HEADER_MSGPACK, "nobody");
        (void)client_begin(&c, REQUEST_ESCROW_TXN_HORIZON, 0);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
        not_known(&c, "unknown access key, or the signature");
        c.access_key = "root-key"; /* signed with another secret */
        (void)client_begin(&c, REQUEST_ESCROW_TXN_HORIZON, 0);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
        not_known(&c, "unknown access key, or the signature");
        client_close(&c);
    }
    open_as(&c, f.port, HEADER_JSON, "far");
    (void)client_begin(&c, REQUEST_ESCROW_STATUS, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
    not_known(&c, "user far may not come from 127.0.0.1");
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "root");
    ck_assert_int_eq(client_metric(&c, "access_unsigned"), 4);
    ck_assert_int_eq(client_metric(&c, "access_refused"), 5);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

/* A body that names topic and group, as three requests have it. */
static int32_t call_named(struct client *c, int32_t code, const char *topic, const char *group)
{
    char body[256];

    (void)snprintf(body, sizeof body,
                   code == REQUEST_BATCH_ACK_MESSAGE
                       ? "{\"acks\":[{\"t\":\"%s\",\"c\":\"%s\",\"r\":\"0\",\"so\":0,\"q\":0,"
                         "\"pt\":1,\"b\":\"\"}]}"
                       : "{\"topic\":\"%s\",\"consumerGroup\":\"%s\",\"mode\":\"POP\"}",
                   topic, group); /* fits */
    (void)client_begin(c, code, 0);
    return client_call(c, slice_str(body));
}

START_TEST(popping_needs_topic_and_group)
{
    /* Also of what stands in a body; how a group asks is an admin's business. */
    static const struct {
        int32_t code;
        int32_t answer;
    } asks[] = {{REQUEST_POP_MESSAGE, RESPONSE_POLLING_TIMEOUT},
                {REQUEST_PEEK_MESSAGE, RESPONSE_PULL_NOT_FOUND},
                {REQUEST_NOTIFICATION, RESPONSE_SUCCESS},
                {REQUEST_POLLING_INFO, RESPONSE_SUCCESS}};
    struct header_writer *w;
    struct client c;

    start();
    make_topic();
    open_as(&c, f.port, HEADER_JSON, "billing");
    for (int i = 0; i < 12; i++) {
        w = client_begin(&c, asks[i / 3].code, 0);
        header_put_str(w, "consumerGroup", slice_str(i % 3 == 1 ? "payroll" : "billing"));
        header_put_str(w, "topic", slice_str(i % 3 == 2 ? "secret" : "orders"));
        header_put_i64(w, "queueId", 0);
        header_put_i64(w, "maxMsgNums", 1);
        header_put_i64(w, "invisibleTime", 1000);
        header_put_i64(w, "pollTime", 0);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY),
                         i % 3 == 0 ? asks[i / 3].answer : RESPONSE_NO_PERMISSION);
    }
    remark_has(&c, "SUB on topic secret");
    ck_assert_int_eq(call_named(&c, REQUEST_BATCH_ACK_MESSAGE, "orders", "billing"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(call_named(&c, REQUEST_BATCH_ACK_MESSAGE, "orders", "payroll"),
                     RESPONSE_NO_PERMISSION);
    remark_has(&c, "SUB on consumer group payroll");
    ck_assert_int_eq(call_named(&c, REQUEST_QUERY_ASSIGNMENT, "orders", "billing"),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(call_named(&c, REQUEST_QUERY_ASSIGNMENT, "secret", "billing"),
                     RESPONSE_NO_PERMISSION);
    remark_has(&c, "SUB on topic secret");
    ck_assert_int_eq(call_named(&c, REQUEST_SET_MESSAGE_REQUEST_MODE, "orders", "billing"),
                     RESPONSE_NO_PERMISSION);
    remark_has(&c, "admin");
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_user_may_what_its_lines_say)
{
    /* Another topic, another group, another way, an admin's request: refused by name. */
    struct test_pull pull = {.group = "billing", .topic = "secret", .count = 1};
    struct test_message half = {.topic = "orders", .body = SLICE_LIT("x"), .is_half = true};
    struct client c;

    start();
    make_topic();
    open_as(&c, f.port, HEADER_ROCKETMQ, "orders");
    ck_assert_int_eq(client_try_send(&c, &hidden), RESPONSE_NO_PERMISSION);
    remark_has(&c, "user orders has no PUB on topic secret");
    pull.topic = "orders";
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_NO_PERMISSION);
    remark_has(&c, "user orders has no SUB on topic orders");
    (void)client_begin(&c, REQUEST_ESCROW_STATUS, 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_NO_PERMISSION);
    remark_has(&c, "user orders has no admin for this request (ESCROW_STATUS)");
    ck_assert_int_eq(client_heartbeat(&c, "id", "pg", NULL, NULL), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_heartbeat(&c, "id", "other", NULL, NULL), RESPONSE_NO_PERMISSION);
    remark_has(&c, "PUB on producer group other");
    ck_assert_int_eq(client_end(&c, "other", 0, "x", 8), RESPONSE_NO_PERMISSION);
    half.properties = "UNIQ_KEY=t1;PGROUP=other"; /* nobody is asked in another's name */
    ck_assert_int_eq(client_try_send(&c, &half), RESPONSE_NO_PERMISSION);
    remark_has(&c, "PUB on producer group other");
    half.properties = "UNIQ_KEY=t2;PGROUP=pg";
    ck_assert_int_eq(client_try_send(&c, &half), RESPONSE_SUCCESS);
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "billing");
    ck_assert_int_eq(client_heartbeat(&c, "id", NULL, "billing", "orders"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_heartbeat(&c, "id", NULL, "billing", "secret"), RESPONSE_NO_PERMISSION);
    remark_has(&c, "SUB on topic secret");
    ck_assert_int_eq(client_heartbeat(&c, "id", NULL, "payroll", "orders"), RESPONSE_NO_PERMISSION);
    remark_has(&c, "SUB on consumer group payroll");
    for (size_t i = 0; i < 2; i++) { /* its own group's queues, and another's */
        static const char *const groups[] = {"billing", "payroll"};
        char body[128];
        (void)snprintf(body, sizeof body,
                       "{\"consumerGroup\":\"%s\",\"clientId\":\"id\",\"mqSet\":[]}",
                       groups[i]); /* fits */
        (void)client_begin(&c, REQUEST_LOCK_BATCH_MQ, 0);
        ck_assert_int_eq(client_call(&c, slice_str(body)),
                         i == 0 ? RESPONSE_SUCCESS : RESPONSE_NO_PERMISSION);
    }
    remark_has(&c, "SUB on consumer group payroll (LOCK_BATCH_MQ)");
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static int32_t send_back(struct client *c, const char *topic, int64_t offset)
{
    struct header_writer *w = client_begin(c, REQUEST_CONSUMER_SEND_MSG_BACK, 0);

    header_put_str(w, "group", SLICE_LIT("billing"));
    if (topic != NULL) { /* the C++ client does not say it */
        header_put_str(w, "originTopic", slice_str(topic));
    }
    header_put_i64(w, "offset", offset);
    header_put_i64(w, "delayLevel", 0);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(who_may_read_a_topic_need_not_name_it)
{
    /* The C++ client sends a message back without saying of which topic it is. */
    struct client c;
    struct record_view view;
    struct test_pull pull = {.group = "billing", .topic = "orders", .count = 1};

    start();
    make_topic();
    open_as(&c, f.port, HEADER_JSON, "root");
    (void)client_send(&c, &(struct test_message){.topic = "orders", .body = SLICE_LIT("x")});
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "billing");
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(send_back(&c, NULL, view.f.physical_offset), RESPONSE_SUCCESS);
    ck_assert_int_eq(send_back(&c, "orders", view.f.physical_offset), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(an_offset_is_no_way_to_another_topic)
{
    /* Sending back what was never delivered to the group would make a copy that it may read. */
    struct client c;
    struct record_view view;
    struct test_pull pull = {.group = "x", .topic = "secret", .count = 1};
    int64_t offset;

    start();
    make_topic();
    open_as(&c, f.port, HEADER_JSON, "root");
    (void)client_send(&c, &hidden);
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    offset = view.f.physical_offset;
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "billing");
    ck_assert_int_eq(send_back(&c, "secret", offset), RESPONSE_NO_PERMISSION);
    ck_assert_int_eq(send_back(&c, "orders", offset), RESPONSE_NO_PERMISSION);
    remark_has(&c, "not of the origin topic");
    ck_assert_int_eq(send_back(&c, NULL, offset), RESPONSE_NO_PERMISSION);
    remark_has(&c, "not of the origin topic");
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "root");
    ck_assert_int_eq(send_back(&c, NULL, offset), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(expired_halves_are_read_by_name_only)
{
    /* They are of every topic, also of those that a reader of "all topics" is denied. */
    static const struct {
        const char *who;
        int32_t want;
    } rows[] = {
        {"reader", RESPONSE_NO_PERMISSION},
        {"billing", RESPONSE_NO_PERMISSION},
        {"clerk", RESPONSE_PULL_NOT_FOUND},
        {"root", RESPONSE_PULL_NOT_FOUND},
    };
    struct test_pull pull = {.group = "readers", .topic = "TRANS_CHECK_MAX_TIME_TOPIC"};
    struct client c;

    start();
    make_topic();
    pull.count = 1;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        open_as(&c, f.port, HEADER_JSON, rows[i].who);
        ck_assert_int_eq(client_pull(&c, &pull), rows[i].want);
        if (rows[i].want == RESPONSE_NO_PERMISSION) {
            remark_has(&c, "SUB on topic TRANS_CHECK_MAX_TIME_TOPIC");
        }
        client_close(&c);
    }
    pull.topic = "orders"; /* what the default is for */
    open_as(&c, f.port, HEADER_JSON, "reader");
    ck_assert_int_eq(client_pull(&c, &pull), RESPONSE_PULL_NOT_FOUND);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

/* 30002 with one row of each topic. Returns the response code. */
static int32_t publish(struct client *c, const char *source, uint64_t epoch,
                       const char *const topics[2])
{
    struct publish_head head = {
        .source = slice_str(source), .timeline = 1, .system_id = 7, .epoch = epoch};
    struct publish_writer pub;
    struct buf body;
    int32_t code;

    buf_init(&body, 0);
    publish_begin(&pub, &body, &head);
    for (size_t i = 0; i < 2; i++) {
        struct publish_row row = {
            .topic = slice_str(topics[i]), .body = SLICE_LIT("x"), .queue_id = PUBLISH_QUEUE_ANY};
        publish_put(&pub, &row);
    }
    (void)publish_end(&pub, SLICE_LIT("p")); /* two rows */
    (void)client_begin(c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    code = client_call(c, buf_slice(&body));
    buf_fini(&body);
    return code;
}

START_TEST(bodies_are_looked_into)
{
    /* A relay's batch: source and every topic. A decision: its group; by hand: an admin. */
    static const char *const may[2] = {"orders", "orders"};
    static const char *const may_not[2] = {"orders", "secret"};
    struct source_open_answer answer;
    struct end_txn_request end = {.producer_group = SLICE_LIT("other"), .decision = TXN_COMMIT};
    struct end_txn_half half = {.transaction_id = SLICE_LIT("t"), .offset = END_TXN_OFFSET_NONE};
    struct end_txn_result result;
    struct client c;

    start();
    make_topic();
    open_as(&c, f.port, HEADER_MSGPACK, "orders");
    ck_assert_int_eq(client_source_open(&c, "outbox", 0, &answer), RESPONSE_NO_PERMISSION);
    remark_has(&c, "PUB on producer group outbox");
    ck_assert_int_eq(client_source_open(&c, "pg", 0, &answer), RESPONSE_SUCCESS);
    ck_assert_int_eq(publish(&c, "outbox", 1, may), RESPONSE_NO_PERMISSION);
    ck_assert_int_eq(publish(&c, "pg", answer.epoch, may_not), RESPONSE_NO_PERMISSION);
    remark_has(&c, "PUB on topic secret");
    ck_assert_int_eq(publish(&c, "pg", answer.epoch, may), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_decide(&c, &end, &half, 1, &result), RESPONSE_NO_PERMISSION);
    remark_has(&c, "PUB on producer group other");
    end = (struct end_txn_request){.decision = TXN_COMMIT, .is_operator = true};
    ck_assert_int_eq(client_decide(&c, &end, &half, 1, &result), RESPONSE_NO_PERMISSION);
    remark_has(&c, "no admin");
    end = (struct end_txn_request){.producer_group = SLICE_LIT("pg"), .decision = TXN_COMMIT};
    ck_assert_int_eq(client_decide(&c, &end, &half, 1, &result), RESPONSE_SUCCESS);
    (void)client_begin(&c, REQUEST_ESCROW_PUBLISH_BATCH, 0);
    ck_assert_int_eq(client_call(&c, SLICE_LIT("nonsense")), RESPONSE_NO_PERMISSION);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static int32_t horizon(struct client *c)
{
    (void)client_begin(c, REQUEST_ESCROW_TXN_HORIZON, 0);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(the_file_is_read_again)
{
    /* By itself and at SIGHUP; connections that are open notice too; a bad file changes nothing. */
    struct client c;

    start();
    open_as(&c, f.port, HEADER_JSON, "orders");
    ck_assert_int_eq(horizon(&c), RESPONSE_SUCCESS);
    write_users("[user root]\naccess_key = root-key\nsecret_key = short\n", 0600);
    broker_fixture_await(&f, "users.conf:3: secret_key: expected 7 to 256 characters; the users");
    ck_assert_int_eq(horizon(&c), RESPONSE_SUCCESS);
    write_users("[user root]\naccess_key = root-key\nsecret_key = root-secret\n", 0644);
    broker_fixture_await(&f, "users.conf: 1 users");
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "mode 0644: it holds secrets"));
    ck_assert_int_eq(horizon(&c), RESPONSE_NO_PERMISSION);
    ck_assert_int_eq(unlink(file), 0);
    broker_fixture_await(&f, "users.conf: No such file or directory; the users read before stay");
    client_close(&c);
    open_as(&c, f.port, HEADER_JSON, "root");
    ck_assert_int_eq(horizon(&c), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(sighup_reads_the_file_at_once)
{
    /* With an hour between two looks. */
    static const char *const slow[] = {"--acl.file", file, "--acl.reload.ms", "3600000", NULL};
    struct client c;
    char folder[200];

    test_folder(folder, sizeof folder);
    (void)snprintf(file, sizeof file, "%s/users.conf", folder); /* fits */
    write_users(users, 0600);
    broker_fixture_start(&f, slow);
    write_users("[user new]\naccess_key = new-key\nsecret_key = new-secret\n", 0600);
    ck_assert_int_eq(kill(f.pid, SIGHUP), 0);
    broker_fixture_await(&f, "users.conf: 1 users");
    open_as(&c, f.port, HEADER_MSGPACK, "new");
    ck_assert_int_eq(horizon(&c), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(other_addresses_need_access_control)
{
    /* Refused without it, by name; let through with a users file, or when told to. */
    static const char *const bare[] = {"--listen.host", "0.0.0.0", "--broker.ip", "127.0.0.1",
                                       NULL};
    static const char *const told[] = {"--listen.host",     "0.0.0.0", "--broker.ip", "127.0.0.1",
                                       "--listen.insecure", "true",    NULL};
    static const char *const guarded[] = {"--listen.host", "0.0.0.0", "--broker.ip", "127.0.0.1",
                                          "--acl.file",    file,      NULL};
    static const char *const missing[] = {"--acl.file", "/nowhere/users.conf", NULL};

    broker_fixture_init(&f, bare);
    ck_assert_int_eq(broker_fixture_run(&f), 2);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "set acl.file"));
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "listen.insecure = true"));
    broker_fixture_start(&f, told);
    broker_fixture_stop(&f);
    start();
    broker_fixture_stop(&f);
    broker_fixture_start(&f, guarded);
    broker_fixture_stop(&f);
    broker_fixture_init(&f, missing);
    ck_assert_int_eq(broker_fixture_run(&f), 2);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "acl.file: /nowhere/users.conf: No such"));
}
END_TEST

START_TEST(a_broker_registers_at_a_guarded_name_server)
{
    /* Two processes: the one that is only a broker signs as an admin, and its route is known. */
    static char addr[64];
    static char secret[340];
    static const char *const names[] = {"--role", "namesrv", "--acl.file", file, NULL};
    static const char *const brokers[] = {"--role",
                                          "broker",
                                          "--namesrv.addrs",
                                          addr,
                                          "--access.key",
                                          "root-key",
                                          "--secret.key.file",
                                          secret,
                                          NULL};
    static const char *const half[] = {"--access.key", "root-key", NULL};
    struct broker_fixture b;
    struct client c;
    int64_t deadline_ms;
    FILE *out;

    broker_fixture_init(&b, half);
    ck_assert_int_eq(broker_fixture_run(&b), 2);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&b), "belong together"));
    make_file();
    (void)snprintf(secret, sizeof secret, "%s.secret", file); /* fits */
    out = fopen(secret, "we");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs("root-secret\n", out), 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_int_eq(chmod(secret, 0600), 0);
    broker_fixture_start(&f, names);
    (void)snprintf(addr, sizeof addr, "127.0.0.1:%u", f.name_port); /* fits */
    broker_fixture_start(&b, brokers);
    open_as(&c, b.port, HEADER_JSON, NULL);
    client_topic(&c, "orders", 1);
    client_close(&c);
    deadline_ms = test_now_ms() + CLIENT_WAIT_MS;
    open_as(&c, f.name_port, HEADER_JSON, "orders");
    for (;;) {
        header_put_str(client_begin(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0), "topic",
                       SLICE_LIT("orders"));
        if (client_call(&c, SLICE_EMPTY) == RESPONSE_SUCCESS) {
            break;
        }
        ck_assert_int_eq(c.header.code, RESPONSE_TOPIC_NOT_EXIST);
        test_await(-1, deadline_ms, "the route");
    }
    client_close(&c);
    broker_fixture_stop(&b);
    broker_fixture_stop(&f);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_right_key_is_let_in_with_every_encoding);
    tcase_add_test(tc, a_wrong_or_missing_key_is_refused_everywhere);
    tcase_add_test(tc, popping_needs_topic_and_group);
    tcase_add_test(tc, a_user_may_what_its_lines_say);
    tcase_add_test(tc, who_may_read_a_topic_need_not_name_it);
    tcase_add_test(tc, an_offset_is_no_way_to_another_topic);
    tcase_add_test(tc, expired_halves_are_read_by_name_only);
    tcase_add_test(tc, bodies_are_looked_into);
    tcase_add_test(tc, the_file_is_read_again);
    tcase_add_test(tc, sighup_reads_the_file_at_once);
    tcase_add_test(tc, a_broker_registers_at_a_guarded_name_server);
    tcase_add_test(tc, other_addresses_need_access_control);
}

int main(void)
{
    return broker_fixture_main("access", 60, add_tests);
}
