/* Starting, refusing to start, stopping, dying: what the process says and what its folder keeps. */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "escrow/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* It ended with this status and one line of class error, which contains every one of the texts. */
static void expect_refusal(struct broker_fixture *f, int status, const char *const *texts)
{
    int got = broker_fixture_run(f);
    const char *log = broker_fixture_log(f);
    const char *first = strstr(log, " error ");

    if (status == 2 && first == NULL) {
        first = strstr(log, "escrowd: "); /* before there is a log */
    }
    ck_assert_msg(got == status, "status %d: %s", got, log);
    ck_assert_msg(first != NULL, "no error line: %s", log);
    ck_assert_msg(strstr(first + 1, " error ") == NULL, "more than one line: %s", log);
    for (; *texts != NULL; texts++) {
        ck_assert_msg(strstr(first, *texts) != NULL, "'%s' is not in: %s", *texts, log);
    }
}

#define REFUSAL(f, status, ...)                                                                    \
    expect_refusal((f), (status), (const char *const[]){__VA_ARGS__, NULL})

START_TEST(a_port_in_use_stops_the_start)
{
    /* The second process names the address and ends with 1; the first goes on. */
    struct broker_fixture a;
    struct broker_fixture b;
    struct client c;
    int64_t start_ms;

    broker_fixture_start(&a, NULL);
    broker_fixture_init(&b, (const char *const[]){"--drain.timeout.ms", "600000", NULL});
    b.port = a.port;
    start_ms = test_now_ms();
    REFUSAL(&b, 1, "127.0.0.1", "in use");
    ck_assert_int_lt(test_now_ms() - start_ms, 30000); /* nothing is waited for */
    b.port = 0;
    b.name_port = a.name_port;
    REFUSAL(&b, 1, "127.0.0.1", "in use");
    client_open(&c, a.port, HEADER_JSON);
    client_topic(&c, "T", 1);
    client_close(&c);
    broker_fixture_stop(&a);
}
END_TEST

START_TEST(a_data_folder_in_use_stops_the_start)
{
    /* Two processes never share a folder, and the second changes nothing in it. */
    struct broker_fixture a;
    struct broker_fixture b;
    char folder[200];

    broker_fixture_start(&a, NULL);
    broker_fixture_init(&b, NULL);
    memcpy(folder, b.folder, sizeof folder);
    memcpy(b.folder, a.folder, sizeof b.folder);
    REFUSAL(&b, 1, a.folder, "another process");
    memcpy(b.folder, folder, sizeof folder);
    broker_fixture_launch(&b);
    broker_fixture_stop(&b);
    broker_fixture_stop(&a);
}
END_TEST

START_TEST(bad_options_are_named)
{
    /* Configuration errors end with 2 and say which option, whichever way it came. */
    static const struct {
        const char *option;
        const char *value;
        const char *text;
    } cases[] = {
        {"--namesrv.addrs", "nowhere", "namesrv.addrs"},
        {"--namesrv.addrs", "a:99999", "namesrv.addrs"},
        {"--listen.host", "localhost", "localhost"},
        {"--listen.host", "0.0.0.0", "listen.insecure"},
        {"--broker.ip", "example.org", "broker.ip"},
        {"--role", "boss", "both|broker|namesrv"},
        {"--broker.name", "a/b", "letters, digits and . _ -"},
        {"--broker.name", "a#b", "letters, digits and . _ -"},
        {"--role", "broker", "namesrv.addrs"},
        {"--log.segment.bytes", "1000", "log.segment.bytes"},
        {"--log.segment.bytes", "1048577", "4096"},
        {"--txn.check.interval.ms", "700000", "txn.check.interval"},
        {"--delete.when", "04;24", "delete.when"},
        {"--disk.warning.ratio", "101", "disk.warning.ratio"},
        {"--callback", "orders", "GROUP=URL"},
        {"--callback", "orders=ftp://x", "http://"},
        {"--no.such.option", "1", "no.such.option"},
        {"--config", "/nonexistent/escrowd.conf", "/nonexistent/escrowd.conf"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *const args[] = {cases[i].option, cases[i].value, NULL};
        struct broker_fixture f;
        broker_fixture_init(&f, args);
        REFUSAL(&f, 2, cases[i].text);
        ck_assert_uint_eq(folder_sum(f.folder), 17); /* nothing was begun */
    }
}
END_TEST

START_TEST(a_folder_without_permission_stops_the_start)
{
    /* The line says which folder and why. (CAP_DAC_OVERRIDE is dropped, so this works as root.) */
    struct broker_fixture f;
    char parent[200];

    broker_fixture_init(&f, NULL);
    memcpy(parent, f.folder, sizeof parent);
    ck_assert_int_eq(chmod(parent, 0500), 0);
    (void)snprintf(f.folder, sizeof f.folder, "%.180s/data", parent); /* fits */
    f.without_override = true;
    REFUSAL(&f, 1, f.folder, "ermission denied");
    (void)snprintf(f.folder, sizeof f.folder, "%.180s", parent); /* fits */
    REFUSAL(&f, 1, f.folder, "ermission denied");
    ck_assert_int_eq(chmod(parent, 0700), 0);
}
END_TEST

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "we");

    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
}

START_TEST(file_environment_and_command_line_in_this_order)
{
    /* Each later source wins: seen in the broker's name, which routes carry. */
    struct broker_fixture f;
    char folder[200];
    char path[300];
    const char *args[] = {"--config", path, NULL, NULL, NULL};
    static const char *const expect[] = {"from-file", "from-environment", "from-line"};

    test_folder(folder, sizeof folder);
    (void)snprintf(path, sizeof path, "%s/escrowd.conf", folder); /* fits */
    write_file(path, "# a comment\n broker.name = from-file \n\nlog.level=debug\n");
    for (int i = 0; i < 3; i++) {
        struct client c;
        struct header_writer *w;
        if (i == 1) {
            ck_assert_int_eq(setenv("ESCROW_BROKER_NAME", "from-environment", 1), 0);
        }
        if (i == 2) {
            args[2] = "--broker.name=from-line";
        }
        broker_fixture_start(&f, args);
        client_open(&c, f.name_port, HEADER_JSON);
        w = client_begin(&c, REQUEST_GET_BROKER_CLUSTER_INFO, 0);
        ck_assert_ptr_nonnull(w);
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
        ck_assert_ptr_nonnull(memmem(c.body.ptr, c.body.len, expect[i], strlen(expect[i])));
        client_close(&c);
        broker_fixture_stop(&f);
    }
    ck_assert_int_eq(unsetenv("ESCROW_BROKER_NAME"), 0);
    write_file(path, "broker.port = 70000\n");
    args[2] = NULL;
    broker_fixture_init(&f, args);
    REFUSAL(&f, 2, "escrowd.conf:1", "broker.port", "65535");
}
END_TEST

/* ---- the folder ---- */

static void fill(struct broker_fixture *f, int count)
{
    struct client c;
    char body[1000];

    memset(body, 'x', sizeof body);
    client_open(&c, f->port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 0; i < count; i++) {
        ck_assert_int_eq(
            client_send(&c,
                        &(struct test_message){.topic = "T", .body = slice_of(body, sizeof body)}),
            i);
    }
    client_close(&c);
}

static void flip_byte(const char *path, off_t at)
{
    uint8_t byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(a_damaged_byte_in_the_middle_of_the_log_stops_the_start)
{
    /*
     * One line with file and offset, status 1, nothing in the folder has changed; repaired, it
     * starts.
     */
    struct broker_fixture f;
    char log_folder[300];
    char path[512];
    uint64_t before;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    fill(&f, 100);
    broker_fixture_kill(&f);
    (void)snprintf(log_folder, sizeof log_folder, "%s/log", f.folder); /* fits */
    folder_first(log_folder, path, sizeof path);
    flip_byte(path, 50000);
    before = folder_sum(f.folder);
    REFUSAL(&f, 1, "log/00000000000000000000", "offset", f.folder);
    ck_assert_uint_eq(folder_sum(f.folder), before);
    flip_byte(path, 50000);
    broker_fixture_launch(&f);
    {
        struct client c;
        client_open(&c, f.port, HEADER_JSON);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), 100);
        client_close(&c);
    }
    broker_fixture_stop(&f);
}
END_TEST

static void remove_file(const struct broker_fixture *f, const char *name)
{
    char path[300];

    (void)snprintf(path, sizeof path, "%s/%s", f->folder, name); /* fits */
    ck_assert(unlink(path) == 0 || errno == ENOENT);
}

START_TEST(a_store_whose_log_was_removed_says_so)
{
    /* It may have been made a moment ago and never used, so it starts; but not without a word. */
    struct broker_fixture f;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    ck_assert_ptr_null(strstr(broker_fixture_log(&f), "store.recovery.empty"));
    broker_fixture_stop(&f);
    remove_file(&f, "log/00000000000000000000");
    remove_file(&f, "log/00000000000001048576");
    remove_file(&f, "checkpoint");
    broker_fixture_launch(&f);
    broker_fixture_await(&f, "store.recovery.empty");
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_format_from_the_future_stops_the_start)
{
    /* The version is named; the folder stays as it was. */
    struct broker_fixture f;
    char path[300];
    uint64_t before;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    fill(&f, 3);
    broker_fixture_kill(&f);
    (void)snprintf(path, sizeof path, "%s/format", f.folder); /* fits */
    write_file(path, "escrow-store version=99 segment_bytes=1048576 salt=00000000 id=00000000 "
                     "crc32c=00000000\n");
    before = folder_sum(f.folder);
    REFUSAL(&f, 1, f.folder, "format", "99");
    ck_assert_uint_eq(folder_sum(f.folder), before);
}
END_TEST

/* ---- stopping ---- */

START_TEST(a_signal_that_comes_during_the_start_is_not_lost)
{
    /* Somewhere between opening the store and being ready, in each round: it ends, cleanly. */
    for (int round = 0; round < 10; round++) {
        struct broker_fixture f;

        broker_fixture_init(&f, NULL);
        broker_fixture_spawn(&f);
        broker_fixture_await(&f, "store.open");
        broker_fixture_stop(&f);
        ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "stopped cleanly"));
    }
}
END_TEST

#define LOAD_CONNECTIONS 8

START_TEST(sigterm_under_load_answers_what_it_took_and_loses_nothing)
{
    /*
     * Eight connections with 50 sends each under way: every send is answered, with success or
     * "shutting down", and exactly the successes are there after a restart.
     */
    struct broker_fixture f;
    struct client c[LOAD_CONNECTIONS];
    int64_t stored = 0;
    int sent = 0;
    int answered = 0;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    for (int i = 0; i < LOAD_CONNECTIONS; i++) {
        client_open(&c[i], f.port, (enum header_type)(i % 3));
    }
    client_topic(&c[0], "T", LOAD_CONNECTIONS);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < LOAD_CONNECTIONS; i++) {
            client_put_send(
                &c[i], &(struct test_message){.topic = "T", .body = SLICE_LIT("load"), .queue = i},
                0);
            sent += client_flush(&c[i]) == 0;
        }
        if (round == 25) {
            broker_fixture_terminate(&f);
        }
    }
    for (int i = 0; i < LOAD_CONNECTIONS; i++) {
        while (client_receive(&c[i], CLIENT_WAIT_MS) == 0) {
            answered++;
            stored += c[i].header.code == RESPONSE_SUCCESS;
            ck_assert(c[i].header.code == RESPONSE_SUCCESS ||
                      client_error(&c[i]) == ESCROW_ESHUTDOWN);
        }
        client_close(&c[i]);
    }
    ck_assert_int_ge(sent, answered);
    ck_assert_int_ge(stored, 25 * LOAD_CONNECTIONS / 2);
    ck_assert_int_eq(broker_fixture_wait(&f), 0);
    broker_fixture_launch(&f);
    ck_assert_ptr_null(strstr(broker_fixture_log(&f), "cut at"));
    client_open(&c[0], f.port, HEADER_JSON);
    for (int i = 0; i < LOAD_CONNECTIONS; i++) {
        stored -= client_max_offset(&c[0], "T", i);
    }
    ck_assert_int_eq(stored, 0);
    client_close(&c[0]);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_new_broker_has_its_template_topic_as_soon_as_it_is_ready)
{
    /* A client whose topic has no route asks for that of TBW102, and gives up without it. */
    for (int i = 0; i < 5; i++) {
        struct broker_fixture f;
        struct client c;

        broker_fixture_start(&f, NULL);
        client_open(&c, f.name_port, HEADER_JSON);
        header_put_str(client_begin(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0), "topic",
                       SLICE_LIT("TBW102"));
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
        client_close(&c);
        broker_fixture_stop(&f);
    }
}
END_TEST

START_TEST(sigterm_answers_pulls_that_wait)
{
    /* A long poll is answered "nothing found" at once, and the stop does not wait for its time. */
    struct broker_fixture f;
    struct client c;
    int64_t start_ms;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_ROCKETMQ);
    client_topic(&c, "T", 1);
    client_put_pull(&c, &(struct test_pull){"g", "T", 0, 0, 10, 300000});
    ck_assert_int_eq(client_flush(&c), 0);
    while (client_metric(&c, "pulls_held") == 0) {
    }
    start_ms = test_now_ms();
    broker_fixture_terminate(&f);
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_PULL_NOT_FOUND);
    client_expect_closed(&c);
    client_close(&c);
    ck_assert_int_eq(broker_fixture_wait(&f), 0);
    ck_assert_int_lt(test_now_ms() - start_ms, 30000);
}
END_TEST

START_TEST(after_sigkill_everything_acknowledged_is_there)
{
    /*
     * Messages, topics, confirmed offsets and undecided halves; the log line says what was
     * replayed.
     */
    struct broker_fixture f;
    struct client c;
    struct header_writer *w;
    int64_t half;
    int64_t offset = 0;

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    fill(&f, 5);
    client_open(&c, f.port, HEADER_JSON);
    half = client_send(&c, &(struct test_message){.topic = "T",
                                                  .properties = "UNIQ_KEY=half-1",
                                                  .body = SLICE_LIT("half"),
                                                  .is_half = true});
    w = client_begin(&c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", 3);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_kill(&f);
    broker_fixture_launch(&f);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "epoch 2"));
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 5);
    w = client_begin(&c, REQUEST_QUERY_CONSUMER_OFFSET, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c.header, "offset", &offset), 0);
    ck_assert_int_eq(offset, 3);
    ck_assert_int_eq(client_end(&c, "pg", half, "half-1", 8), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 6);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(a_clean_stop_leaves_nothing_to_replay)
{
    /*
     * Topics, queues, consumer offsets, an outbox position, undecided and decided halves: all come
     * from the checkpoint, without one record of the log.
     */
    struct broker_fixture f;
    struct client c;
    struct source_open_answer open;
    struct header_writer *w;
    int64_t halves[2];

    broker_fixture_start(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    fill(&f, 5);
    client_open(&c, f.port, HEADER_JSON);
    for (int i = 0; i < 2; i++) {
        halves[i] = client_send(
            &c, &(struct test_message){.topic = "T",
                                       .properties = i == 0 ? "UNIQ_KEY=h0" : "UNIQ_KEY=h1",
                                       .body = SLICE_LIT("half"),
                                       .is_half = true});
    }
    ck_assert_int_eq(client_end(&c, "pg", halves[0], "h0", 12), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_uint_eq(open.epoch, 1);
    w = client_begin(&c, REQUEST_UPDATE_CONSUMER_OFFSET, HEADER_FLAG_ONEWAY);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", 4);
    client_submit(&c, SLICE_EMPTY);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 5);
    client_close(&c);
    broker_fixture_stop(&f);
    broker_fixture_launch(&f);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "replayed 0 records"));
    client_open(&c, f.port, HEADER_JSON);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 5);
    w = client_begin(&c, REQUEST_QUERY_CONSUMER_OFFSET, 0);
    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert(slice_eq_str(header_str(&c.header, "offset"), "4"));
    ck_assert_int_eq(client_end(&c, "pg", halves[0], "h0", 8), RESPONSE_TRANSACTION_FAILED);
    ck_assert_int_eq(client_end(&c, "pg", halves[1], "h1", 8), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 6);
    ck_assert_int_eq(client_source_open(&c, "db", 0, &open), RESPONSE_SUCCESS);
    ck_assert_uint_eq(open.epoch, 2);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_port_in_use_stops_the_start);
    tcase_add_test(tc, a_data_folder_in_use_stops_the_start);
    tcase_add_test(tc, bad_options_are_named);
    tcase_add_test(tc, a_folder_without_permission_stops_the_start);
    tcase_add_test(tc, file_environment_and_command_line_in_this_order);
    tcase_add_test(tc, a_damaged_byte_in_the_middle_of_the_log_stops_the_start);
    tcase_add_test(tc, a_store_whose_log_was_removed_says_so);
    tcase_add_test(tc, a_format_from_the_future_stops_the_start);
    tcase_add_test(tc, a_signal_that_comes_during_the_start_is_not_lost);
    tcase_add_test(tc, sigterm_under_load_answers_what_it_took_and_loses_nothing);
    tcase_add_test(tc, a_new_broker_has_its_template_topic_as_soon_as_it_is_ready);
    tcase_add_test(tc, sigterm_answers_pulls_that_wait);
    tcase_add_test(tc, after_sigkill_everything_acknowledged_is_there);
    tcase_add_test(tc, a_clean_stop_leaves_nothing_to_replay);
}

int main(void)
{
    return broker_fixture_main("start", 60, add);
}
