/*
 * A damaged entry of a queue file, or a file that is missing, short or unreadable, is rebuilt from
 * the log: nothing is lost, and the file is again what it was.
 */
#include "core/base/bytes.h"
#include "core/base/crc32c.h"
#include "tests/unit/core/store/queue_rebuild_test.h"
#include "txn/release.h"

#include <stdlib.h>

/* Ten messages "m0" to "m9" of T/0, in the file; the file as it is. */
static void make_ten(struct store_receipt r[10], uint8_t file[200])
{
    begin();
    for (int i = 0; i < 10; i++) {
        char body[16];
        (void)snprintf(body, sizeof body, "m%d", i);
        ck_assert_int_eq(test_send(&ts, "T", 0, body, &r[i]), 0);
        ck_assert_int_eq(test_send(&ts, "other", 0, body, NULL), 0);
    }
    RUN();
    into_files();
    ck_assert(sim_disk_peek(disk, FILE_T, 0, file, 200));
}

static bool is_as_before(const uint8_t file[200])
{
    uint8_t now[200];
    uint64_t size = 0;

    return sim_disk_file_size(disk, FILE_T, &size) && size == 200 &&
           sim_disk_peek(disk, FILE_T, 0, now, 200) && memcmp(now, file, 200) == 0;
}

START_TEST(every_byte_of_an_entry_is_rebuilt)
{
    /* The reader gets all messages, nobody is told of damage, once of the rebuilt entry. */
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    for (uint32_t at = 0; at < 200; at++) {
        char text[64];
        ts.rebuilt_count = 0;
        flip(FILE_T, at);
        ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
        ck_assert_uint_eq(ts.rebuilt_count, 1);
        (void)snprintf(text, sizeof text, FILE_T ": entry %u at byte %u: ", at / 20, at / 20 * 20);
        ck_assert_str_eq(ts.rebuilt_text, text);
        ck_assert(is_as_before(file));
    }
    ck_assert_uint_eq(ts.damage_count, 0);
    ck_assert_uint_eq(store_stats(ts.st).entries_rebuilt, 200);
    ck_assert_uint_eq(store_stats(ts.st).damaged, 0);
    shut();
}
END_TEST

START_TEST(a_file_that_is_missing_or_short_is_rebuilt)
{
    /* The start says which, goes on, and the first reader has all of it rebuilt. */
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    for (uint64_t size = 0; size <= 200; size += 40) {
        test_store_close(&ts);
        if (size == 0) {
            ck_assert(sim_disk_remove(disk, FILE_T));
        } else {
            ck_assert(sim_disk_cut(disk, FILE_T, size - 13));
        }
        ck_assert_msg(test_store_open_txn(&ts, disk, NULL) == 0, "%s", ts.err.text);
        ck_assert_uint_eq(ts.recovery.queue_files_lost, 1);
        ck_assert_ptr_nonnull(strstr(ts.recovery.queues_lost, FILE_T ": "));
        ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
        ck_assert_uint_eq(ts.rebuilt_count, 10 - (size == 0 ? 0 : (size - 13) / 20));
        ck_assert_str_eq(ts.rebuilt_text + strlen(ts.rebuilt_text) - 2, ": "); /* none is left */
        ck_assert(is_as_before(file));
    }
    ck_assert_uint_eq(ts.damage_count, 0);
    shut();
}
END_TEST

START_TEST(a_file_that_goes_on_while_it_is_missing_is_rebuilt)
{
    /* What is flushed behind the hole is kept, and what is before comes from the log. */
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, FILE_T));
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ck_assert_int_eq(test_send(&ts, "T", 0, "m10", NULL), 0);
    RUN();
    into_files();
    reopen();
    ck_assert_uint_eq(ts.recovery.queue_files_lost, 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN ",m10");
    ck_assert_uint_eq(ts.rebuilt_count, 10);
    shut();
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_rebuilt)
{
    /* The disk says EIO, to the reader and to the job. */
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    reopen(); /* nothing is open: reads go through a job */
    sim_disk_set_cold(disk, true);
    sim_disk_read_fault_at(disk, 1);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    ck_assert(is_as_before(file));
    ck_assert_uint_eq(ts.damage_count, 0);
    shut();
}
END_TEST

/* One pull without waiting for anything but the fetch's job. */
static int pull_once(struct store_fetch *fetch, int64_t offset)
{
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = offset, .count_max = 32, .bytes_max = 65536};
    struct store_pull_result res;
    struct buf body;
    int rc;

    buf_init(&body, 0);
    rc = store_pull(ts.st, &req, fetch, &body, &res, &ts.err);
    buf_fini(&body);
    return rc;
}

START_TEST(one_file_is_rebuilt_at_a_time)
{
    /* Others are asked to come again; a reader that goes away leaves nothing behind. */
    struct store_receipt r[10];
    struct store_fetch *one = NULL;
    struct store_fetch *two = NULL;
    uint8_t file[200];

    make_ten(r, file);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN); /* the file is open */
    flip(FILE_T, 81);
    one = store_fetch_new(ts.st);
    two = store_fetch_new(ts.st);
    ck_assert_int_eq(pull_once(NULL, 4), ESCROW_EAGAIN);
    ck_assert_int_eq(pull_once(one, 4), ESCROW_EAGAIN);
    ck_assert_int_eq(pull_once(two, 4), ESCROW_ELIMIT);
    ck_assert_ptr_nonnull(strstr(ts.err.text, FILE_T ": entry 4 at byte 80 is damaged and will"));
    ck_assert_int_eq(pull_once(NULL, 4), ESCROW_ELIMIT);
    store_fetch_free(&one); /* it never ran */
    ck_assert_int_eq(pull_once(two, 4), ESCROW_EAGAIN);
    store_fetch_run(two);
    store_fetch_free(&two); /* nobody waits any more, but the work was done */
    ck_assert_uint_eq(ts.rebuilt_count, 1);
    ck_assert(is_as_before(file));
    shut();
}
END_TEST

START_TEST(what_the_log_cannot_give_is_damage)
{
    /* Entry and record are damaged: the line names both; the rest is rebuilt; a skip passes. */
    struct store_skip skip = {.topic = SLICE_LIT("T"), .first = 3, .end = 4};
    struct store_receipt r[10];
    struct store_fetch *fetch;
    uint8_t file[200];

    make_ten(r, file);
    flip(FILE_T, 61);
    flip(FILE_T, 140);
    flip(SEGMENT, r[3].offset + 60);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ECORRUPT");
    ck_assert_ptr_nonnull(strstr(ts.err.text, FILE_T ": entry 3 at byte 60 is damaged"));
    ck_assert_ptr_nonnull(strstr(ts.err.text, SEGMENT " at offset "));
    ck_assert_uint_eq(ts.rebuilt_count, 1);
    ck_assert_uint_eq(ts.left_count, 1);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ECORRUPT");
    ck_assert_uint_eq(ts.left_count, 1); /* not tried again, nor told again */
    ck_assert_uint_eq(ts.damage_count, 1);
    fetch = store_fetch_new(ts.st);
    ck_assert_int_eq(pull_once(fetch, 4), 0);
    store_fetch_free(&fetch);
    ck_assert_int_eq(store_append_skip(ts.st, &skip, &r[0]), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "m0,m1,m2,m4,m5,m6,m7,m8,m9");
    flip(SEGMENT, r[3].offset + 60); /* the file of the log is put right */
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    ck_assert(is_as_before(file));
    shut();
}
END_TEST

START_TEST(a_sound_message_is_not_skipped_for_its_entry)
{
    /* The permission is there, the entry is damaged: it is rebuilt all the same. */
    struct store_skip skip = {.topic = SLICE_LIT("T"), .first = 0, .end = 10};
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    ck_assert_int_eq(store_append_skip(ts.st, &skip, &r[0]), 0);
    RUN();
    flip(FILE_T, 100);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    shut();
}
END_TEST

START_TEST(a_full_disk_delays_it)
{
    /* Nothing is lost, nothing can be skipped; the next checkpoint lets it be tried again. */
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, FILE_T));
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    sim_disk_set_capacity(disk, sim_disk_used(disk));
    for (int i = 0; i < 2; i++) {
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ELIMIT");
        ck_assert_ptr_nonnull(strstr(ts.err.text, "not yet rebuilt"));
    }
    ck_assert_uint_eq(ts.left_count, 10);
    sim_disk_set_capacity(disk, UINT64_MAX);
    ck_assert_int_eq(test_position(&ts, 2, &r[0]), 0);
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    ck_assert(is_as_before(file));
    ck_assert_uint_eq(ts.damage_count, 0);
    shut();
}
END_TEST

START_TEST(what_failed_is_not_taken_for_done)
{
    /* The disk has room again before the same reader has looked at the file once more. */
    struct store_fetch *fetch;
    struct store_receipt r[10];
    uint8_t file[200];
    int rc;

    make_ten(r, file);
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, FILE_T));
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    sim_disk_set_capacity(disk, sim_disk_used(disk));
    fetch = store_fetch_new(ts.st);
    while ((rc = pull_once(fetch, 0)) == ESCROW_EAGAIN && ts.left_count == 0) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, ESCROW_EAGAIN); /* it could not be written, and is read again */
    sim_disk_set_capacity(disk, UINT64_MAX);
    ck_assert_int_eq(test_position(&ts, 2, &r[0]), 0);
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    do {
        store_fetch_run(fetch);
    } while ((rc = pull_once(fetch, 0)) == ESCROW_EAGAIN);
    store_fetch_free(&fetch);
    ck_assert_msg(rc == 0, "%s", ts.err.text);
    ck_assert(is_as_before(file));
    ck_assert_uint_eq(ts.damage_count, 0);
    shut();
}
END_TEST

/* Ten halves of T/0, each committed by a DECISION of its own; the queue's file is gone. */
static void make_ten_released(uint8_t file[200])
{
    begin();
    for (int i = 0; i < 10; i++) {
        send_released(i);
    }
    into_files();
    ck_assert(sim_disk_peek(disk, FILE_T, 0, file, 200));
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, FILE_T));
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ts.list_count = 0;
}

START_TEST(a_stop_ends_it_before_the_next_record)
{
    /*
     * Also one that has not begun; nothing is told, written or remembered but for the next start.
     */
    uint8_t file[200];

    make_ten_released(file);
    for (uint32_t stop = 0; stop <= 13; stop += stop == 0 ? 3 : 10) { /* 13: the second pass */
        struct store_fetch *fetch = store_fetch_new(ts.st);
        uint64_t size;
        int rc;
        ts.list_stop = stop;
        for (int i = 0; (rc = pull_once(fetch, 0)) == ESCROW_EAGAIN; i++) {
            if (stop == 0 && i == 2) { /* after two reads in vain: it is wished for, not yet run */
                store_stop_rebuilds(ts.st);
            }
            store_fetch_run(fetch);
        }
        ck_assert_int_eq(rc, ESCROW_ESHUTDOWN);
        ck_assert_ptr_nonnull(strstr(ts.err.text, FILE_T ": entry 0 at byte 0 is damaged"));
        ck_assert_uint_eq(ts.list_count, stop);
        store_fetch_free(&fetch);
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "ESCROW_ESHUTDOWN");
        ck_assert_uint_eq(ts.list_count, stop);
        ck_assert_uint_eq(ts.rebuilt_count + ts.left_count + ts.damage_count, 0);
        ck_assert_str_eq(ts.rebuilt_text, "");
        ck_assert(!sim_disk_file_size(disk, FILE_T, &size));
        reopen();
        ck_assert_uint_eq(ts.recovery.queue_files_lost, 1);
        ts.list_count = 0;
    }
    ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN);
    ck_assert(is_as_before(file));
    shut();
}
END_TEST

START_TEST(without_memory_it_is_tried_again)
{
    /* Every allocation of the reader and of the job fails once. */
    struct store_receipt r[10];
    uint8_t file[200];
    const char *bodies = "";

    make_ten(r, file);
    for (uint64_t n = 1; strcmp(bodies, ALL_TEN) != 0; n++) {
        struct store_fetch *fetch = store_fetch_new(ts.st);
        int rc;
        flip(FILE_T, 61);
        mem_fault_at(n);
        while ((rc = pull_once(fetch, 3)) == ESCROW_EAGAIN) {
            store_fetch_run(fetch);
        }
        mem_fault_at(0);
        store_fetch_free(&fetch);
        ck_assert_uint_le(n, 100);
        if (rc != 0) {
            ck_assert(rc == ESCROW_ENOMEM || rc == ESCROW_ELIMIT);
            flip(FILE_T, 61);
            ck_assert(is_as_before(file));
            ck_assert_int_eq(test_position(&ts, 2, &r[0]), 0);
            RUN();
            ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
            continue;
        }
        bodies = test_bodies(&ts, "T", 0);
    }
    ck_assert(is_as_before(file));
    shut();
}
END_TEST

struct cuts {
    uint64_t count;
};

/* The power is cut before each operation of a rebuild: nothing is lost, and it works again. */
static void on_op(void *arg, const struct sim_op *op)
{
    struct cuts *cuts = arg;

    (void)op;
    cuts->count++;
    for (int how = 0; how < SIM_CRASH_COUNT; how++) {
        static struct test_store other;
        struct disk *after = sim_disk_crash(disk, (enum sim_crash)how, cuts->count);
        const char *bodies;
        ck_assert_int_eq(test_store_open_txn(&other, after, NULL), 0);
        bodies = test_bodies(&other, "T", 0);
        ck_assert_msg(strcmp(bodies, ALL_TEN) == 0, "%s before operation %d: %s",
                      sim_crash_name((enum sim_crash)how), (int)cuts->count, bodies);
        ck_assert_uint_eq(other.damage_count, 0);
        test_store_close(&other);
        disk_free(&after);
    }
}

START_TEST(a_power_cut_at_any_moment_loses_nothing)
{
    /* Of a file in which entries are damaged, and of one that is missing, with its folders. */
    struct store_receipt r[10];
    uint8_t file[200];
    struct cuts cuts = {.count = 0};

    make_ten(r, file);
    for (int round = 0; round < 2; round++) {
        struct store_fetch *fetch;
        int rc;
        if (round == 0) {
            flip(FILE_T, 61);
            flip(FILE_T, 190);
        } else {
            test_store_close(&ts);
            ck_assert(sim_disk_remove(disk, FILE_T));
            ck_assert_int_eq(disk_rmdir(disk, "queues/T/0", NULL), 0);
            ck_assert_int_eq(disk_rmdir(disk, "queues/T", NULL), 0);
            ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
        }
        fetch = store_fetch_new(ts.st);
        sim_disk_set_hook(disk, on_op, &cuts);
        while ((rc = pull_once(fetch, 3)) == ESCROW_EAGAIN) {
            store_fetch_run(fetch);
        }
        on_op(&cuts, NULL);
        sim_disk_set_hook(disk, NULL, NULL);
        store_fetch_free(&fetch);
        ck_assert_int_eq(rc, 0);
        ck_assert(is_as_before(file));
    }
    ck_assert_uint_ge(cuts.count, 8);
    shut();
}
END_TEST

START_TEST(a_copy_that_came_too_late_is_not_where_a_message_is)
{
    /* It was on its way when its message was decided: the entry leads to the first record. */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("half"), .uniq = "K"};
    struct store_receipt half;
    struct store_receipt r;
    uint8_t file[QUEUE_ENTRY_SIZE];

    begin();
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    RUN();
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ck_assert_int_eq(test_carry(&ts, half.offset, &r), 0);
    RUN();
    into_files();
    ck_assert(sim_disk_peek(disk, FILE_T, 0, file, sizeof file));
    ck_assert_uint_eq(get_be64(file), half.offset);
    flip(FILE_T, 3);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "half");
    ck_assert(sim_disk_peek(disk, FILE_T, 0, file, sizeof file));
    ck_assert_uint_eq(get_be64(file), half.offset);
    shut();
}
END_TEST

START_TEST(a_damaged_entry_that_retention_stood_before_leads_nowhere)
{
    /* The log lost the record in the meantime: readers go on behind it. */
    static uint8_t body[100000];
    struct test_message big = {.topic = "other", .body = slice_of(body, sizeof body)};
    struct store_receipt r[10];
    uint8_t file[200];

    make_ten(r, file);
    for (int i = 0; i < 25; i++) {
        ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &big, &r[0]), 0);
        RUN();
    }
    ck_assert_int_eq(test_send(&ts, "T", 0, "m10", NULL), 0);
    RUN();
    into_files();
    flip(FILE_T, 61);
    ck_assert_int_eq(test_store_retain(&ts, 2 * STORE_SEGMENT_BYTES_MIN), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "m10");
    ck_assert_uint_eq(ts.rebuilt_count, 1);
    ck_assert_uint_eq(ts.damage_count, 0);
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "m10");
    shut();
}
END_TEST

START_TEST(a_log_that_loses_its_front_meanwhile_is_asked_again)
{
    /* Files are gone, or what was looked for is: that is no damage, and the next reader gets on. */
    static uint8_t body[100000];
    struct test_message big = {.topic = "other", .body = slice_of(body, sizeof body)};

    for (int is_gone = 0; is_gone < 2; is_gone++) {
        const uint64_t first = 2 * STORE_SEGMENT_BYTES_MIN;
        struct store_fetch *fetch;
        struct store_receipt r[10];
        uint8_t file[200];
        int rc;

        make_ten(r, file);
        for (int i = 0; i < 25; i++) {
            ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &big, &r[0]), 0);
            RUN();
        }
        into_files();
        ck_assert_str_eq(test_bodies(&ts, "T", 0), ALL_TEN); /* the file is open */
        flip(FILE_T, 61);
        flip(FILE_T, 140);
        flip(SEGMENT, r[3].offset + 60);
        fetch = store_fetch_new(ts.st);
        ck_assert_int_eq(pull_once(fetch, 3), ESCROW_EAGAIN);
        rc = is_gone ? test_store_retain(&ts, first) : test_store_give_up(&ts, first);
        ck_assert_int_eq(rc, 0);
        store_fetch_run(fetch);
        while ((rc = pull_once(fetch, 3)) == ESCROW_EAGAIN) {
            store_fetch_run(fetch);
        }
        ck_assert_int_eq(rc, ESCROW_ELIMIT);
        ck_assert_ptr_nonnull(strstr(ts.err.text, "the log lost its front"));
        store_fetch_free(&fetch);
        ck_assert_uint_eq(ts.damage_count, 0);
        ck_assert_uint_eq(ts.left_count, 0);
        ck_assert_uint_eq(ts.rebuilt_count, is_gone ? 0 : 1); /* entry 7 */
        ck_assert_str_eq(test_bodies(&ts, "T", 0), "");
        ck_assert_uint_eq(ts.rebuilt_count, 2);
        ck_assert_uint_eq(ts.damage_count + ts.left_count, 0);
        shut();
    }
}
END_TEST

/* The pull at `offset` finds the message there, rebuilding what it takes. */
static void check_found(int64_t offset)
{
    struct store_fetch *fetch = store_fetch_new(ts.st);
    int rc;

    while ((rc = pull_once(fetch, offset)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    store_fetch_free(&fetch);
    ck_assert_msg(rc == 0, "%s", ts.err.text);
}

static uint32_t crc_of(const char *path, uint64_t size)
{
    uint8_t *bytes = mem_alloc(size);
    uint32_t crc;

    ck_assert(sim_disk_peek(disk, path, 0, bytes, size));
    crc = crc32c(0, bytes, size);
    mem_free(bytes);
    return crc;
}

START_TEST(a_queue_of_two_files_is_rebuilt)
{
    /* Each file alone, both together; the first entry of the second, numbered by the first file. */
    const char *second = "queues/T/0/00000000000006000000";
    const uint64_t tail = 2000;
    uint32_t crc[2];

    begin();
    for (uint64_t i = 0; i < QUEUE_FILE_ENTRIES + tail; i++) {
        ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
        if (i % 1000 == 0) {
            RUN();
        }
    }
    RUN();
    into_files();
    crc[0] = crc_of(FILE_T, QUEUE_FILE_SIZE);
    crc[1] = crc_of(second, tail * QUEUE_ENTRY_SIZE);
    flip(second, 7);
    check_found(QUEUE_FILE_ENTRIES);
    ck_assert_uint_eq(ts.rebuilt_count, 1);
    for (int which = 1; which < 4; which++) {
        test_store_close(&ts);
        ck_assert((which & 1) == 0 || sim_disk_remove(disk, FILE_T));
        ck_assert((which & 2) == 0 || sim_disk_remove(disk, second));
        ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
        check_found(QUEUE_FILE_ENTRIES + 3);
        check_found(17);
        ck_assert_uint_eq(ts.rebuilt_count, ((which & 1) != 0 ? QUEUE_FILE_ENTRIES : 0) +
                                                ((which & 2) != 0 ? tail : 0));
        ck_assert_uint_eq(crc_of(FILE_T, QUEUE_FILE_SIZE), crc[0]);
        ck_assert_uint_eq(crc_of(second, tail * QUEUE_ENTRY_SIZE), crc[1]);
    }
    shut();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queue_rebuild");
    TCase *tc = tcase_create("queue_rebuild");

    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, every_byte_of_an_entry_is_rebuilt);
    tcase_add_test(tc, a_file_that_is_missing_or_short_is_rebuilt);
    tcase_add_test(tc, a_file_that_goes_on_while_it_is_missing_is_rebuilt);
    tcase_add_test(tc, a_file_that_cannot_be_read_is_rebuilt);
    tcase_add_test(tc, one_file_is_rebuilt_at_a_time);
    tcase_add_test(tc, what_the_log_cannot_give_is_damage);
    tcase_add_test(tc, a_sound_message_is_not_skipped_for_its_entry);
    tcase_add_test(tc, a_full_disk_delays_it);
    tcase_add_test(tc, what_failed_is_not_taken_for_done);
    tcase_add_test(tc, a_stop_ends_it_before_the_next_record);
    tcase_add_test(tc, without_memory_it_is_tried_again);
    tcase_add_test(tc, a_power_cut_at_any_moment_loses_nothing);
    tcase_add_test(tc, a_copy_that_came_too_late_is_not_where_a_message_is);
    tcase_add_test(tc, a_damaged_entry_that_retention_stood_before_leads_nowhere);
    tcase_add_test(tc, a_log_that_loses_its_front_meanwhile_is_asked_again);
    tcase_add_test(tc, a_queue_of_two_files_is_rebuilt);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
