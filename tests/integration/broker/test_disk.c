/*
 * A disk that is full, read-only or slow, under the real process. The disk is a small tmpfs in a
 * mount namespace of the test's own, which needs root, or the right of everybody to make user
 * namespaces; the tests fail where neither is there.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/base/mem.h"
#include "escrow/errors.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define BODY_BYTES 16384
#define HALVES     20

static void write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);

    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    (void)close(fd);
}

/* Mounts of this process are its own from here on. */
static void own_mounts(void)
{
    unsigned uid = geteuid();
    unsigned gid = getegid();
    char map[64];

    if (unshare(CLONE_NEWNS) != 0) {
        ck_assert_msg(unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0,
                      "no mount namespace of our own: run as root (%s)", strerror(errno));
        write_text("/proc/self/setgroups", "deny");
        (void)snprintf(map, sizeof map, "0 %u 1", uid); /* fits */
        write_text("/proc/self/uid_map", map);
        (void)snprintf(map, sizeof map, "0 %u 1", gid); /* fits */
        write_text("/proc/self/gid_map", map);
    }
    ck_assert_msg(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "private mounts: %s",
                  strerror(errno));
}

static void mount_small(const char *folder, const char *size)
{
    own_mounts();
    ck_assert_msg(mount("escrow-test", folder, "tmpfs", 0, size) == 0, "tmpfs: %s",
                  strerror(errno));
}

static void remount(const char *folder, unsigned long flags, const char *size)
{
    ck_assert_msg(mount("escrow-test", folder, "tmpfs", MS_REMOUNT | flags, size) == 0,
                  "remount: %s", strerror(errno));
}

static void start_small(struct broker_fixture *f, struct client *c)
{
    broker_fixture_init(f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    mount_small(f->folder, "size=6m");
    broker_fixture_launch(f);
    client_open(c, f->port, HEADER_MSGPACK);
    client_topic(c, "T", 1);
    client_topic(c, "H", 1);
}

/* Send until the disk is full; returns how many got in. */
static int64_t fill_disk(struct client *c, const uint8_t *body)
{
    struct test_message m = {.topic = "T", .body = slice_of(body, BODY_BYTES)};
    int64_t stored = client_max_offset(c, "T", 0);
    int64_t deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    int32_t code;

    do {
        code = client_try_send(c, &m);
        stored += code == RESPONSE_SUCCESS;
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    } while (code == RESPONSE_SUCCESS || code == RESPONSE_SYSTEM_BUSY);
    ck_assert_int_eq(code, RESPONSE_SERVICE_NOT_AVAILABLE);
    ck_assert_int_eq(client_error(c), ESCROW_ENOSPC);
    ck_assert_int_eq(client_max_offset(c, "T", 0), stored);
    return stored;
}

static void send_halves(struct client *c, int64_t *offsets, char ids[][32])
{
    for (int i = 0; i < HALVES; i++) {
        char properties[64];
        (void)snprintf(ids[i], sizeof ids[i], "half-%d", i);                  /* fits */
        (void)snprintf(properties, sizeof properties, "UNIQ_KEY=%s", ids[i]); /* fits */
        offsets[i] = client_send(c, &(struct test_message){.topic = "H",
                                                           .properties = properties,
                                                           .body = slice_str(ids[i]),
                                                           .is_half = true});
    }
}

static int32_t try_offset(struct client *c, int64_t offset)
{
    struct header_writer *w = client_begin(c, REQUEST_UPDATE_CONSUMER_OFFSET, 0);

    header_put_str(w, "consumerGroup", SLICE_LIT("g"));
    header_put_str(w, "topic", SLICE_LIT("T"));
    header_put_i64(w, "queueId", 0);
    header_put_i64(w, "commitOffset", offset);
    return client_call(c, SLICE_EMPTY);
}

START_TEST(a_full_disk_refuses_messages_and_takes_decisions)
{
    /*
     * New messages and halves are refused with 14 and ESCROW_ENOSPC; all halves can be decided;
     * what is there can be pulled; when there is space again sends succeed, without a restart.
     */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    int64_t offsets[HALVES];
    char ids[HALVES][32];
    int64_t stored;
    int64_t deadline_ms;

    start_small(&f, &c);
    send_halves(&c, offsets, ids);
    stored = fill_disk(&c, body);
    ck_assert_int_gt(stored, 50);
    ck_assert_int_eq(client_try_send(&c, &(struct test_message){.topic = "T",
                                                                .properties = "UNIQ_KEY=late",
                                                                .body = slice_of(body, BODY_BYTES),
                                                                .is_half = true}),
                     RESPONSE_SERVICE_NOT_AVAILABLE);
    for (int i = 0; i < HALVES; i++) {
        ck_assert_int_eq(client_end(&c, "pg", offsets[i], ids[i], i % 2 == 0 ? 8 : 12),
                         RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(client_max_offset(&c, "H", 0), HALVES / 2);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, stored - 1, 1, 0}),
                     RESPONSE_SUCCESS);
    (void)fill_disk(
        &c, body); /* what the decisions left of their room is not for messages of this size */
    ck_assert_int_eq(client_metric(&c, "disk_full"), 1);
    broker_fixture_await(&f, "store.full");
    remount(f.folder, 0, "size=24m");
    deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    while (client_try_send(
               &c, &(struct test_message){.topic = "T", .body = slice_of(body, BODY_BYTES)}) !=
           RESPONSE_SUCCESS) {
        test_await(-1, deadline_ms, "sends succeed when there is space");
    }
    broker_fixture_await(&f, "store.full.over");
    ck_assert_int_eq(try_offset(&c, 3), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(above_the_warning_ratio_messages_are_refused)
{
    /*
     * RocketMQ's code and remark, long before the disk is full; halves can be ended, messages
     * pulled and offsets stored; when there is space again sends succeed.
     */
    static const char *const args[] = {"--log.segment.bytes",
                                       "1m",
                                       "--disk.warning.ratio",
                                       "60",
                                       "--retention.interval.ms",
                                       "20",
                                       NULL};
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    int64_t offsets[HALVES];
    char ids[HALVES][32];
    int64_t stored;
    int64_t deadline_ms;

    broker_fixture_init(&f, args);
    mount_small(f.folder, "size=16m");
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    client_topic(&c, "H", 1);
    send_halves(&c, offsets, ids);
    stored = fill_disk(&c, body);
    ck_assert_int_eq(
        client_try_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("small")}),
        RESPONSE_SERVICE_NOT_AVAILABLE);
    ck_assert_ptr_nonnull(
        memmem(c.header.remark.ptr, c.header.remark.len, "the broker's disk is full [CL:  0.", 34));
    ck_assert_ptr_nonnull(
        memmem(c.header.remark.ptr, c.header.remark.len, "disk.warning.ratio is 60%", 25));
    ck_assert_int_eq(client_metric(&c, "disk_full"), 1);
    ck_assert_int_gt(client_metric(&c, "disk_used_percent"), 60);
    ck_assert_int_lt(client_metric(&c, "disk_used_percent"), 100);
    broker_fixture_await(&f, "retention.full");
    for (int i = 0; i < HALVES; i++) {
        ck_assert_int_eq(client_end(&c, "pg", offsets[i], ids[i], i % 2 == 0 ? 8 : 12),
                         RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(client_max_offset(&c, "H", 0), HALVES / 2);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, stored - 1, 1, 0}),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(try_offset(&c, 3), RESPONSE_SUCCESS);
    remount(f.folder, 0, "size=64m");
    deadline_ms = test_now_ms() + BROKER_WAIT_MS;
    while (client_try_send(
               &c, &(struct test_message){.topic = "T", .body = slice_of(body, BODY_BYTES)}) !=
           RESPONSE_SUCCESS) {
        test_await(-1, deadline_ms, "sends succeed when there is space");
    }
    broker_fixture_await(&f, "retention.full.over");
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(above_the_force_ratio_the_oldest_go)
{
    /*
     * Three times what the disk holds goes through it: nothing is old, the oldest go all the same,
     * the newest can be pulled, and the log file of an undecided half is kept.
     */
    static const char *const args[] = {"--log.segment.bytes",
                                       "1m",
                                       "--disk.clean.forcibly.ratio",
                                       "50",
                                       "--retention.interval.ms",
                                       "10",
                                       NULL};
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    struct test_message m = {.topic = "T", .body = slice_of(body, BODY_BYTES)};
    int64_t deadline_ms = test_now_ms() + 2 * BROKER_WAIT_MS;
    int64_t half = 0;
    int64_t stored = 0;

    broker_fixture_init(&f, args);
    mount_small(f.folder, "size=16m");
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    client_topic(&c, "H", 1);
    while (stored < 3 * 1024) {
        int32_t code;
        if (stored == 2900 && half == 0) {
            half = client_send(&c, &(struct test_message){.topic = "H",
                                                          .properties = "UNIQ_KEY=half",
                                                          .body = SLICE_LIT("half"),
                                                          .is_half = true});
        }
        code = client_try_send(&c, &m);
        stored += code == RESPONSE_SUCCESS ? 1 : 0;
        ck_assert(code == RESPONSE_SUCCESS || code == RESPONSE_SYSTEM_BUSY ||
                  code == RESPONSE_SERVICE_NOT_AVAILABLE);
        ck_assert_int_lt(test_now_ms(), deadline_ms);
    }
    ck_assert_int_eq(client_max_offset(&c, "T", 0), stored);
    ck_assert_int_gt(client_metric(&c, "log_files_deleted"), 20);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, 0, 1, 0}),
                     RESPONSE_PULL_OFFSET_MOVED);
    ck_assert_int_eq(client_pull(&c, &(struct test_pull){"g", "T", 0, stored - 1, 1, 0}),
                     RESPONSE_SUCCESS);
    ck_assert_int_eq(client_end(&c, "pg", half, "half", 8), RESPONSE_SUCCESS);
    client_close(&c);
    broker_fixture_stop(&f);
    mem_free(body);
}
END_TEST

START_TEST(a_full_disk_survives_sigkill_and_restarts)
{
    /*
     * Killed and restarted five times while full: everything is there, and all halves can still be
     * decided.
     */
    struct broker_fixture f;
    struct client c;
    uint8_t *body = mem_calloc(1, BODY_BYTES);
    int64_t offsets[HALVES];
    char ids[HALVES][32];
    int64_t stored;

    start_small(&f, &c);
    send_halves(&c, offsets, ids);
    stored = fill_disk(&c, body);
    for (int i = 0; i < 5; i++) {
        client_close(&c);
        broker_fixture_kill(&f);
        broker_fixture_launch(&f);
        client_open(&c, f.port, HEADER_MSGPACK);
        ck_assert_int_eq(client_max_offset(&c, "T", 0), stored);
        ck_assert_int_eq(client_metric(&c, "txn_undecided"), HALVES - i);
        ck_assert_int_eq(client_end(&c, "pg", offsets[i], ids[i], 8), RESPONSE_SUCCESS);
        ck_assert_int_eq(client_max_offset(&c, "H", 0), i + 1);
        stored = fill_disk(&c, body);
    }
    for (int i = 5; i < HALVES; i++) {
        ck_assert_int_eq(client_end(&c, "pg", offsets[i], ids[i], 8), RESPONSE_SUCCESS);
    }
    ck_assert_int_eq(client_max_offset(&c, "H", 0), HALVES);
    client_close(&c);
    broker_fixture_stop(&f); /* no room for a checkpoint, maybe: it stops cleanly all the same */
    mem_free(body);
}
END_TEST

START_TEST(a_read_only_disk_stops_the_start)
{
    /* One line, status 1, nothing changed; writable again, everything is there. */
    struct broker_fixture f;
    struct client c;
    uint64_t before;
    const char *log;

    start_small(&f, &c);
    (void)client_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("x")});
    client_close(&c);
    broker_fixture_kill(&f);
    before = folder_sum(f.folder);
    remount(f.folder, MS_RDONLY, "size=6m");
    ck_assert_int_eq(broker_fixture_run(&f), 1);
    log = broker_fixture_log(&f);
    ck_assert_msg(strstr(log, " error start ") != NULL, "%s", log);
    ck_assert_msg(strcasestr(log, "read-only file system") != NULL, "%s", log);
    ck_assert_msg(strstr(log, f.folder) != NULL, "%s", log);
    ck_assert_uint_eq(folder_sum(f.folder), before);
    remount(f.folder, 0, "size=6m");
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_MSGPACK);
    ck_assert_int_eq(client_max_offset(&c, "T", 0), 1);
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

START_TEST(no_space_for_a_new_folder_stops_the_start)
{
    /*
     * Not even the first segment fits: one line with the reason, status 1, and a second try on a
     * larger disk works.
     */
    struct broker_fixture f;
    const char *log;

    broker_fixture_init(&f, (const char *const[]){"--log.segment.bytes", "4m", NULL});
    mount_small(f.folder, "size=1m");
    ck_assert_int_eq(broker_fixture_run(&f), 1);
    log = broker_fixture_log(&f);
    ck_assert_msg(strstr(log, "o space left on device") != NULL, "%s", log);
    ck_assert_msg(strstr(log, f.folder) != NULL, "%s", log);
    remount(f.folder, 0, "size=20m");
    broker_fixture_launch(&f);
    broker_fixture_stop(&f);
}
END_TEST

#define SLOW_SENDS 1000 /* many more than are synced on the loop */

START_TEST(nothing_is_answered_or_visible_before_it_is_on_disk)
{
    /*
     * The log thread is held (ptrace): a disk that takes for ever. What was handed to it is neither
     * answered nor visible, the loop goes on serving others; let go, everything is answered.
     */
    struct broker_fixture f;
    struct client c;
    struct client other;
    pid_t thread;
    int answered = 0;

    broker_fixture_start(&f, NULL);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_open(&other, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    thread = broker_fixture_hold_log(&f);
    for (int i = 0; i < SLOW_SENDS; i++) {
        client_put_send(&c, &(struct test_message){.topic = "T", .body = SLICE_LIT("slow")}, 0);
    }
    ck_assert_int_eq(client_flush(&c), 0);
    while (client_receive(&c, 300) == 0) {
        answered++; /* a few that came alone were synced on the loop */
    }
    ck_assert_int_lt(answered, SLOW_SENDS / 2);
    ck_assert_int_eq(client_max_offset(&other, "T", 0), answered);
    ck_assert_int_gt(client_metric(&other, "log_end"), client_metric(&other, "log_visible"));
    broker_fixture_release_log(thread);
    while (answered < SLOW_SENDS) {
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
        answered++;
    }
    ck_assert_int_eq(client_max_offset(&other, "T", 0), SLOW_SENDS);
    client_close(&c);
    client_close(&other);
    broker_fixture_stop(&f);
}
END_TEST

#define COLD_PULLS 400

START_TEST(many_reads_from_disk_wait_and_are_not_refused)
{
    /*
     * 400 pulls at once by one connection, and as many of one that closes, on a file system that
     * cannot tell what is in memory, so that all go to the pool: each is answered with its message.
     */
    struct broker_fixture f;
    struct client c;
    struct client gone;
    const struct test_message m = {.topic = "T", .body = SLICE_LIT("cold")};

    broker_fixture_init(&f, (const char *const[]){"--log.segment.bytes", "1m", NULL});
    mount_small(f.folder, "size=16m");
    broker_fixture_launch(&f);
    client_open(&c, f.port, HEADER_MSGPACK);
    client_open(&gone, f.port, HEADER_MSGPACK);
    client_topic(&c, "T", 1);
    for (int i = 0; i < COLD_PULLS; i++) {
        (void)client_send(&c, &m);
    }
    for (int i = 0; i < COLD_PULLS; i++) {
        struct test_pull pull = {"g", "T", 0, i, 1, 0};
        client_put_pull(&c, &pull);
        client_put_pull(&gone, &pull);
    }
    ck_assert_int_eq(client_flush(&gone), 0);
    ck_assert_int_eq(client_flush(&c), 0);
    client_close(&gone);
    for (int i = 0; i < COLD_PULLS; i++) {
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
        ck_assert_uint_gt(c.body.len, 0);
    }
    client_close(&c);
    broker_fixture_stop(&f);
}
END_TEST

static void add(TCase *tc)
{
    tcase_add_test(tc, a_full_disk_refuses_messages_and_takes_decisions);
    tcase_add_test(tc, above_the_warning_ratio_messages_are_refused);
    tcase_add_test(tc, above_the_force_ratio_the_oldest_go);
    tcase_add_test(tc, a_full_disk_survives_sigkill_and_restarts);
    tcase_add_test(tc, a_read_only_disk_stops_the_start);
    tcase_add_test(tc, no_space_for_a_new_folder_stops_the_start);
    tcase_add_test(tc, many_reads_from_disk_wait_and_are_not_refused);
    tcase_add_test(tc, nothing_is_answered_or_visible_before_it_is_on_disk);
}

int main(void)
{
    return broker_fixture_main("disk", 120, add);
}
