/*
 * A byte of a log file, or of a queue file, changes behind the checkpoint: what consumers,
 * producers and operators see, and what a SKIPPED record does. Every byte of a record is tested in
 * tests/unit/core/store/test_damage.c.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/mem.h"
#include "core/proto/body_inspect.h"
#include "escrow/errors.h"

#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEGMENT_BYTES 1048576

static const char *const args[] = {"--log.segment.bytes", "1m", NULL};

static struct broker_fixture f;
static struct client c;

static void open_client(void)
{
    client_open(&c, f.port, HEADER_MSGPACK);
}

static void relaunch(void)
{
    broker_fixture_launch(&f);
    open_client();
}

/* Ends cleanly, so that the checkpoint stands behind everything. */
static void stop(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

/* Change one byte of a body, in the first log file; a running broker sees it at once. */
static void flip(const char *body)
{
    char path[300];
    uint8_t *bytes;
    uint8_t *at;
    int fd;

    (void)snprintf(path, sizeof path, "%s/log/00000000000000000000", f.folder);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    bytes = mmap(NULL, SEGMENT_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    ck_assert_ptr_ne(bytes, MAP_FAILED);
    at = memmem(bytes, SEGMENT_BYTES, body, strlen(body));
    ck_assert_ptr_nonnull(at);
    *at ^= 1;
    ck_assert_int_eq(munmap(bytes, SEGMENT_BYTES), 0);
    ck_assert_int_eq(close(fd), 0);
}

static void send(const char *body)
{
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = slice_str(body)});
}

/* "m0,m1>2": bodies and where to go on; or the response code, "1". */
static const char *pull_at(int64_t offset)
{
    static char text[256];
    struct test_pull p = {"g", "T", 0, offset, 32, 0};
    int32_t code = client_pull(&c, &p);
    struct record_walk walk = {.rest = c.body};
    struct record_view view;
    int64_t next = -1;
    size_t len = 0;

    text[0] = '\0';
    while (code == RESPONSE_SUCCESS && record_walk_next(&walk, &view) == 1) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s,", SLICE_ARGS(view.f.body));
    }
    if (code == RESPONSE_SUCCESS || code == RESPONSE_PULL_RETRY_IMMEDIATELY) {
        ck_assert_int_eq(header_get_i64(&c.header, "nextBeginOffset", &next), 0);
        (void)snprintf(text + len, sizeof text - len, ">%lld", (long long)next);
    } else {
        (void)snprintf(text, sizeof text, "%d", code);
    }
    return text;
}

static bool remark_has(const char *text)
{
    return memmem(c.header.remark.ptr, c.header.remark.len, text, strlen(text)) != NULL;
}

/* The pull stops there: which message, which file, what can be done. */
static void check_stops_at(int64_t offset)
{
    char advice[64];

    (void)snprintf(advice, sizeof advice, "escrow skip-damaged T 0 %lld", (long long)offset);
    ck_assert_str_eq(pull_at(offset), "1");
    ck_assert_int_eq(client_error(&c), ESCROW_ECORRUPT);
    ck_assert(remark_has(advice));
    ck_assert(remark_has("log/00000000000000000000 at offset "));
}

static int32_t skip(int64_t first, int64_t last)
{
    struct header_writer *w = client_begin(&c, REQUEST_ESCROW_SKIP_DAMAGED, 0);

    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "offset", first);
    if (last >= 0) {
        header_put_i64(w, "lastOffset", last);
    }
    return client_call(&c, SLICE_EMPTY);
}

static int lines(const char *text)
{
    const char *at = broker_fixture_log(&f);
    int count = 0;

    while ((at = strstr(at, text)) != NULL) {
        count++;
        at += strlen(text);
    }
    return count;
}

static void check_metrics(int64_t damaged, int64_t stops, int64_t skips)
{
    ck_assert_int_eq(client_metric(&c, "log_damaged"), damaged);
    ck_assert_int_eq(client_metric(&c, "log_damaged_stops"), stops);
    ck_assert_int_eq(client_metric(&c, "log_skips"), skips);
}

/* Five messages, "plain-0" to "plain-4", behind the checkpoint of a broker that runs. */
static void start_with_five(void)
{
    broker_fixture_start(&f, args);
    open_client();
    client_topic(&c, "T", 1);
    for (int i = 0; i < 5; i++) {
        char body[24];
        (void)snprintf(body, sizeof body, "plain-%d", i);
        send(body);
    }
    stop();
}

/* Told once, answered always, skipped for good. */
static void check_plain(void)
{
    ck_assert_str_eq(pull_at(0), "plain-0,plain-1,>2");
    for (int i = 0; i < 3; i++) {
        check_stops_at(2);
    }
    broker_fixture_await(&f, "topic T queue 0 offset 2: log/00000000000000000000 at offset ");
    ck_assert_int_eq(lines("store.damaged"), 1);
    ck_assert_str_eq(pull_at(3), "plain-3,plain-4,>5");
    check_metrics(1, 1, 0);
    /* What reads well is not skipped, nor what is not there. */
    ck_assert_int_eq(skip(1, -1), RESPONSE_INVALID_PARAMETER);
    ck_assert(remark_has("not damaged"));
    ck_assert_int_ne(skip(5, -1), RESPONSE_SUCCESS);
    ck_assert_int_ne(skip(2, 5), RESPONSE_SUCCESS);
    ck_assert_int_ne(skip(2, 1), RESPONSE_SUCCESS);
    check_metrics(1, 1, 0);
    ck_assert_int_eq(skip(2, -1), RESPONSE_SUCCESS);
    check_metrics(1, 0, 1);
    ck_assert_str_eq(pull_at(0), "plain-0,plain-1,plain-3,plain-4,>5");
    ck_assert_str_eq(pull_at(2), "plain-3,plain-4,>5");
    client_close(&c);
    broker_fixture_kill(&f); /* acknowledged: it is in the log */
    relaunch();
    ck_assert_str_eq(pull_at(2), "plain-3,plain-4,>5");
    check_metrics(1, 0, 1);
    broker_fixture_await(&f, "passed over, as an operator allowed");
    stop();
    relaunch(); /* from the checkpoint */
    ck_assert_str_eq(pull_at(1), "plain-1,plain-3,plain-4,>5");
    flip("plain-1"); /* and damage elsewhere stops as ever */
    check_stops_at(1);
    check_metrics(2, 1, 1);
    stop();
}

START_TEST(a_message_that_is_damaged_while_the_broker_is_stopped)
{
    /* The start does not read it; the first pull does. */
    start_with_five();
    flip("plain-2");
    relaunch();
    check_plain();
}
END_TEST

START_TEST(a_message_that_is_damaged_while_the_broker_runs)
{
    /* The same, with a file that is open. */
    start_with_five();
    relaunch();
    ck_assert_str_eq(pull_at(0), "plain-0,plain-1,plain-2,plain-3,plain-4,>5");
    flip("plain-2");
    check_plain();
}
END_TEST

START_TEST(a_file_that_is_put_right_loses_nothing)
{
    /* The message is delivered again, also one that was skipped meanwhile. */
    start_with_five();
    relaunch();
    flip("plain-2");
    check_stops_at(2);
    ck_assert_int_eq(skip(2, -1), RESPONSE_SUCCESS);
    ck_assert_str_eq(pull_at(2), "plain-3,plain-4,>5");
    stop();
    flip("qlain-2"); /* the byte as it was: 'p' ^ 1 is 'q' */
    relaunch();
    ck_assert_str_eq(pull_at(2), "plain-2,plain-3,plain-4,>5");
    check_metrics(0, 0, 1);
    stop();
}
END_TEST

/* Response code. */
static int32_t pop_as(bool is_ordered, int64_t invisible_ms)
{
    struct header_writer *w = client_begin(&c, REQUEST_POP_MESSAGE, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("popping"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "maxMsgNums", 32);
    header_put_i64(w, "invisibleTime", invisible_ms);
    header_put_i64(w, "pollTime", 0);
    header_put_i64(w, "bornTime", 1);
    header_put_i64(w, "initMode", 0);
    header_put_str(w, "expType", SLICE_LIT("TAG"));
    header_put_str(w, "exp", SLICE_LIT("*"));
    header_put_bool(w, "order", is_ordered);
    return client_call(&c, SLICE_EMPTY);
}

static int32_t pop(void)
{
    return pop_as(false, 60000);
}

/* What the last pop, which was ordered, handed out. */
static void ack_popped(int64_t offset, int64_t pop_ms)
{
    struct header_writer *w = client_begin(&c, REQUEST_ACK_MESSAGE, 0);
    char handle[100];

    (void)snprintf(handle, sizeof handle, "0 %lld 1 999 0 b 0 %lld", (long long)pop_ms,
                   (long long)offset);
    header_put_str(w, "consumerGroup", SLICE_LIT("popping"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "offset", offset);
    header_put_str(w, "extraInfo", slice_str(handle));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
}

START_TEST(a_pop_stops_at_damage_too)
{
    /* Before it, at it, and behind it after the skip. */
    struct record_view view;

    start_with_five();
    flip("plain-2");
    relaunch();
    ck_assert_int_eq(pop(), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop(), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(client_error(&c), ESCROW_ECORRUPT);
    ck_assert(remark_has("escrow skip-damaged T 0 2"));
    ck_assert_int_eq(pop(), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(lines("store.damaged"), 1);
    ck_assert_int_eq(lines("store.read"), 0);
    ck_assert_int_eq(skip(2, -1), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop(), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(view.f.queue_offset, 3);
    stop();
}
END_TEST

START_TEST(an_ordered_pop_passes_no_damage)
{
    /* Of what comes again, too: up to the damaged message, and behind it only after the skip. */
    struct record_walk walk;
    struct record_view view;
    int64_t pop_ms = 0;

    start_with_five();
    relaunch();
    ck_assert_int_eq(pop_as(true, 1), RESPONSE_SUCCESS);
    while (client_metric(&c, "popped_due") < 5) {
    }
    flip("plain-2");
    ck_assert_int_eq(pop_as(true, 1), RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_i64(&c.header, "popTime", &pop_ms), 0);
    walk = (struct record_walk){.rest = c.body};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(record_walk_next(&walk, &view), 1);
        ck_assert_int_eq(view.f.queue_offset, i);
        ck_assert_int_eq(view.f.reconsume_times, 1);
    }
    ck_assert_int_eq(record_walk_next(&walk, &view), 0);
    ack_popped(0, pop_ms);
    ack_popped(1, pop_ms);
    ck_assert_int_eq(pop_as(true, 1), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(client_error(&c), ESCROW_ECORRUPT);
    ck_assert_int_eq(pop_as(true, 1), RESPONSE_SYSTEM_ERROR);
    ck_assert_int_eq(skip(2, -1), RESPONSE_SUCCESS);
    ck_assert_int_eq(pop_as(true, 1), RESPONSE_SUCCESS);
    ck_assert_int_eq(record_decode(c.body, &view), 0);
    ck_assert_int_eq(view.f.queue_offset, 3);
    stop();
}
END_TEST

/* Rows of 30004; the id and state of the first. */
static size_t transactions(char id[64], int64_t *offset)
{
    struct list_txn_request in = {.older_than_ms = INSPECT_NONE, .limit = 10};
    struct list_reader reader;
    struct list_txn_row row;
    struct buf body;
    size_t count = 0;

    buf_init(&body, 0);
    list_txn_request_encode(&body, &in);
    (void)client_begin(&c, REQUEST_ESCROW_LIST_TRANSACTIONS, 0);
    ck_assert_int_eq(client_call(&c, buf_slice(&body)), RESPONSE_SUCCESS);
    buf_fini(&body);
    ck_assert_int_eq(list_txn_decode(c.body, &reader), 0);
    while (list_txn_next(&reader, &row)) {
        if (count++ == 0) {
            (void)slice_to_cstr(row.transaction_id, id, 64);
            *offset = row.offset;
            ck_assert(slice_eq_str(row.group, "pg") && slice_eq_str(row.topic, "T"));
            ck_assert(slice_eq_str(row.state, "PREPARED") || slice_eq_str(row.state, "CHECKING"));
        }
    }
    return count;
}

START_TEST(a_half_that_is_damaged_can_be_seen_and_decided)
{
    /* Listed with its place; the line says that nobody can be asked; its commit stops its queue. */
    struct test_message half = {
        .topic = "T", .body = SLICE_LIT("half-body"), .properties = "UNIQ_KEY=H1", .is_half = true};
    char id[64] = "";
    int64_t offset = -1;
    int64_t sent;

    broker_fixture_start(&f, args);
    open_client();
    client_topic(&c, "T", 1);
    sent = client_send(&c, &half);
    stop();
    flip("half-body");
    relaunch();
    for (int i = 0; i < 2; i++) {
        ck_assert_uint_eq(transactions(id, &offset), 1);
        ck_assert_str_eq(id, "(damaged)");
        ck_assert_int_eq(offset, sent);
    }
    broker_fixture_await(&f, "escrow decide commit|rollback");
    ck_assert_int_eq(lines("store.damaged"), 1);
    check_metrics(1, 0, 0);
    ck_assert_int_eq(client_end(&c, "pg", sent, "", 8), RESPONSE_SUCCESS);
    broker_fixture_await(&f, "topic T queue 0 offset 0: log/00000000000000000000 at offset ");
    send("after");
    check_stops_at(0);
    ck_assert_int_eq(lines("store.damaged"), 2);
    check_metrics(1, 1, 0);
    ck_assert_int_eq(skip(0, -1), RESPONSE_SUCCESS);
    ck_assert_str_eq(pull_at(0), "after,>2");
    client_close(&c);
    broker_fixture_kill(&f);
    relaunch();
    ck_assert_str_eq(pull_at(0), "after,>2");
    stop();
}
END_TEST

START_TEST(a_delayed_message_that_is_damaged_is_released_and_stops_its_queue)
{
    /* It is due without being read; the first consumer is told. */
    struct test_message m = {
        .topic = "T", .body = SLICE_LIT("delayed-body"), .properties = "TIMER_DELAY_MS=1500"};
    int64_t deadline_ms;

    broker_fixture_start(&f, args);
    open_client();
    client_topic(&c, "T", 1);
    (void)client_send(&c, &m);
    stop();
    flip("delayed-body");
    relaunch();
    deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    while (client_metric(&c, "held_now") > 0 || client_max_offset(&c, "T", 0) == 0) {
        test_await(-1, deadline_ms, "the message to be due");
    }
    send("after");
    check_stops_at(0);
    check_stops_at(0);
    ck_assert_int_eq(lines("store.damaged"), 1);
    check_metrics(1, 1, 0);
    ck_assert_int_eq(skip(0, -1), RESPONSE_SUCCESS);
    ck_assert_str_eq(pull_at(0), "after,>2");
    stop();
}
END_TEST

/* The only file of the key index, as soon as there is one. */
static void await_index(char path[400])
{
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    char folder[300];
    glob_t found;

    (void)snprintf(folder, sizeof folder, "%s/index/*[0-9]", f.folder);
    while (glob(folder, 0, NULL, &found) != 0) {
        globfree(&found);
        ck_assert_int_lt(test_now_ms(), deadline_ms);
        (void)client_metric(&c, "log_end");
    }
    (void)snprintf(path, 400, "%s", found.gl_pathv[0]);
    globfree(&found);
}

/* Every page from this one on. */
static void damage_pages(const char *path, off_t first)
{
    int fd = open(path, O_RDWR);
    off_t size = lseek(fd, 0, SEEK_END);

    ck_assert_int_ge(fd, 0);
    for (off_t at = first * 4096; at < size; at += 4096) {
        ck_assert_int_eq(pwrite(fd, "damage", 6, at), 6);
    }
    ck_assert_int_eq(close(fd), 0);
}

static int32_t query(const char *key)
{
    struct header_writer *w = client_begin(&c, REQUEST_QUERY_MESSAGE, 0);

    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_str(w, "key", slice_str(key));
    header_put_i64(w, "maxNum", 8);
    header_put_i64(w, "beginTimestamp", 0);
    header_put_i64(w, "endTimestamp", INT64_MAX);
    return client_call(&c, SLICE_EMPTY);
}

START_TEST(a_damaged_file_of_the_key_index_is_told_and_counted)
{
    /*
     * Its keys are not found until the next start builds it again; everybody is told once, and the
     * gauge says so.
     */
    char properties[1800];
    struct test_message m = {.topic = "T", .body = SLICE_LIT("x"), .properties = properties};
    char path[400];
    uint32_t words = 0;
    int64_t deadline_ms;
    int32_t code;

    broker_fixture_start(&f, args);
    open_client();
    client_topic(&c, "T", 1);
    while (words < 132 * 1024) { /* one file has 128 Ki entries */
        size_t len = (size_t)snprintf(properties, sizeof properties, "KEYS=");
        while (len < sizeof properties - 16) {
            len += (size_t)snprintf(properties + len, sizeof properties - len, "%x ", words++);
        }
        (void)client_send(&c, &m);
    }
    await_index(path);
    deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    ck_assert_int_eq(query("77"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_metric(&c, "index_files_lost"), 0);
    damage_pages(path, 1);
    while ((code = query("77")) ==
           RESPONSE_SUCCESS) { /* until memory forgets what is in the file */
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    }
    ck_assert_int_eq(code, RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(query("77"), RESPONSE_QUERY_NOT_FOUND);
    ck_assert_int_eq(client_metric(&c, "index_files_lost"), 1);
    broker_fixture_await(&f, "checksum of a page does not match at byte ");
    ck_assert_int_eq(lines("store.index.lost"), 1);
    stop();
    relaunch();
    ck_assert_int_eq(query("77"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_metric(&c, "index_files_lost"), 0);
    stop();
    await_index(path);
    damage_pages(path, 0);
    relaunch(); /* which reads the first page of each */
    broker_fixture_await(&f, "store.recovery.index");
    ck_assert_int_eq(query("77"), RESPONSE_SUCCESS);
    stop();
}
END_TEST

/* Where the entries of T/0 are. */
static void queue_path(char path[300])
{
    (void)snprintf(path, 300, "%s/queues/T/0/00000000000000000000", f.folder);
}

/* The broker has written the entries of the queue to its file. */
static void start_with_a_queue_file(void)
{
    char path[300];

    start_with_five();
    for (int i = 0; i < 4; i++) { /* a clean stop writes those of a queue that was quiet */
        relaunch();
        stop();
    }
    queue_path(path);
    ck_assert_int_eq(access(path, R_OK | W_OK), 0);
}

static void check_rebuilt(int64_t entries)
{
    ck_assert_str_eq(pull_at(2), "plain-2,plain-3,plain-4,>5");
    ck_assert_str_eq(pull_at(0), "plain-0,plain-1,plain-2,plain-3,plain-4,>5");
    ck_assert_int_eq(client_metric(&c, "queue_entries_rebuilt"), entries);
    check_metrics(0, 0, 0);
    ck_assert_int_eq(lines("store.damaged"), 0);
}

START_TEST(a_byte_of_a_queue_file_is_put_right_while_the_broker_runs)
{
    /* The pull that meets it is answered; one line says which file and where. */
    char path[300];
    uint8_t byte;
    int fd;

    start_with_a_queue_file();
    queue_path(path);
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (off_t at = 40; at < 60; at++) {
        relaunch();
        if (at % 2 == 0) {
            ck_assert_str_eq(pull_at(2), "plain-2,plain-3,plain-4,>5"); /* the file is open */
        }
        ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
        byte ^= 0x40;
        ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
        ck_assert_int_eq(skip(2, -1), RESPONSE_INVALID_PARAMETER); /* it is not damaged */
        check_rebuilt(1);
        broker_fixture_await(&f, "queues/T/0/00000000000000000000: entry 2 at byte 40: damaged");
        stop();
    }
    ck_assert_int_eq(close(fd), 0);
}
END_TEST

START_TEST(a_queue_file_that_is_gone_is_rebuilt)
{
    /* The broker starts, says so, and the first pull has it. */
    char path[300];

    start_with_a_queue_file();
    queue_path(path);
    ck_assert_int_eq(unlink(path), 0);
    relaunch();
    broker_fixture_await(&f, "queues/T/0/00000000000000000000: missing");
    check_rebuilt(5);
    ck_assert_int_eq(lines("store.queue.rebuilt"), 1);
    ck_assert_int_eq(lines("store.queue.damaged"), 0);
    ck_assert_int_eq(access(path, R_OK | W_OK), 0);
    stop();
    relaunch();
    ck_assert_int_eq(lines("store.queue"), 0); /* nothing more to say */
    check_rebuilt(0);
    stop();
}
END_TEST

START_TEST(a_stop_does_not_wait_for_a_rebuild)
{
    /* Nor does it begin one: the pull is told, and the next start has it rebuilt. */
    struct test_pull p = {"g", "T", 0, 0, 32, 0};
    pid_t threads[BROKER_POOL_MAX];
    char path[300];
    size_t count;

    start_with_a_queue_file();
    queue_path(path);
    ck_assert_int_eq(unlink(path), 0);
    relaunch();
    ck_assert_int_eq(query("77"), RESPONSE_QUERY_NOT_FOUND); /* the pool has threads now */
    count = broker_fixture_hold_pool(&f, threads);
    client_put_pull(&c, &p);
    ck_assert_int_eq(client_flush(&c), 0);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 5); /* it has come, and is with the pool */
    broker_fixture_terminate(&f);
    broker_fixture_await(&f, "signal received");
    broker_fixture_release_pool(threads, count);
    ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
    ck_assert_int_eq(c.header.code, RESPONSE_SERVICE_NOT_AVAILABLE);
    ck_assert_int_eq(client_error(&c), ESCROW_ESHUTDOWN);
    ck_assert(remark_has("queues/T/0/00000000000000000000: entry 0 at byte 0 is damaged"));
    client_close(&c);
    ck_assert_int_eq(broker_fixture_wait(&f), 0);
    ck_assert_int_eq(lines("store.queue.lost"), 1);
    ck_assert_int_eq(lines("store.queue"), 1);
    relaunch();
    ck_assert_int_eq(lines("store.queue.lost"), 1);
    check_rebuilt(5);
    stop();
}
END_TEST

START_TEST(a_pop_is_told_to_ask_again_where_a_pull_is)
{
    /*
     * The queue file is gone and cannot be made: a folder is in its place. Busy, not an error, and
     * with the folder gone the next start has the file rebuilt.
     */
    char path[300];

    start_with_a_queue_file();
    queue_path(path);
    ck_assert_int_eq(unlink(path), 0);
    relaunch();
    ck_assert_int_eq(mkdir(path, 0700), 0);
    ck_assert_int_eq(pop(), RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(client_error(&c), ESCROW_ELIMIT);
    ck_assert(remark_has("queues/T/0/00000000000000000000: entry 0 at byte 0 is damaged"));
    ck_assert_str_eq(pull_at(0), "2");
    ck_assert_int_eq(client_error(&c), ESCROW_ELIMIT);
    ck_assert_int_eq(pop(), RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(lines("store.read"), 0);
    ck_assert_int_eq(rmdir(path), 0);
    stop();
    relaunch();
    ck_assert_int_eq(pop(), RESPONSE_SUCCESS);
    check_rebuilt(5);
    stop();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, a_message_that_is_damaged_while_the_broker_is_stopped);
    tcase_add_test(tc, a_message_that_is_damaged_while_the_broker_runs);
    tcase_add_test(tc, a_file_that_is_put_right_loses_nothing);
    tcase_add_test(tc, a_pop_stops_at_damage_too);
    tcase_add_test(tc, an_ordered_pop_passes_no_damage);
    tcase_add_test(tc, a_byte_of_a_queue_file_is_put_right_while_the_broker_runs);
    tcase_add_test(tc, a_queue_file_that_is_gone_is_rebuilt);
    tcase_add_test(tc, a_stop_does_not_wait_for_a_rebuild);
    tcase_add_test(tc, a_pop_is_told_to_ask_again_where_a_pull_is);
    tcase_add_test(tc, a_half_that_is_damaged_can_be_seen_and_decided);
    tcase_add_test(tc, a_delayed_message_that_is_damaged_is_released_and_stops_its_queue);
    tcase_add_test(tc, a_damaged_file_of_the_key_index_is_told_and_counted);
}

int main(void)
{
    return broker_fixture_main("damage", 120, add_tests);
}
