/*
 * Giving up the front of the log: FORMAT.md, "Deletion". The crash explorer cuts the power in it.
 */
#include "core/store/store.h"

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/store/queue.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/release.h"
#include "txn/timers.h"
#include "txn/txn.h"

#include <stdio.h>

#define SEGMENT STORE_SEGMENT_BYTES_MIN
#define BODY    100000 /* ten to a segment */

static struct disk *disk;
static struct test_store ts;

static void begin(void)
{
    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
}

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

static void reopen(void)
{
    int64_t now_ms = ts.now_ms;

    test_store_close(&ts);
    ck_assert_msg(test_store_open_txn(&ts, disk, NULL) == 0, "%s", ts.err.text);
    ts.now_ms = now_ms;
}

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static const uint8_t *body_of(uint32_t number)
{
    static uint8_t body[BODY];

    put_le32(body, number);
    return body;
}

/* Messages of queue T/0, ten a segment, 10 ms after each other; body and key say which. */
static void fill(uint32_t from, uint32_t count)
{
    for (uint32_t i = from; i < from + count; i++) {
        char key[16];
        struct test_message m = {.topic = "T", .body = slice_of(body_of(i), BODY), .uniq = key};
        struct store_receipt r;

        (void)snprintf(key, sizeof key, "K%u", i);
        ts.now_ms += 10;
        ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
        RUN();
    }
}

static void give_up(uint64_t first)
{
    ck_assert_msg(test_store_retain(&ts, first) == 0, "%s", ts.err.text);
    ck_assert_uint_eq(store_watermarks(ts.st).first, first);
    store_check(ts.st);
}

static bool has_segment(uint64_t first)
{
    char path[64];
    uint64_t size;

    (void)snprintf(path, sizeof path, "log/%020llu", (unsigned long long)first);
    return sim_disk_file_size(disk, path, &size);
}

static void range_is(const char *topic, int64_t min, int64_t max)
{
    struct store_queue_ref queue = {.topic = slice_str(topic)};
    int64_t got_min;
    int64_t got_max;

    ck_assert(store_queue_range(ts.st, &queue, &got_min, &got_max));
    ck_assert_int_eq(got_min, min);
    ck_assert_int_eq(got_max, max);
}

struct numbers {
    uint32_t count;
    uint32_t first;
    uint32_t last;
};

static int note_number(void *arg, const struct record_view *view)
{
    struct numbers *n = arg;

    n->last = get_le32(view->f.body.ptr);
    n->first = n->count++ == 0 ? n->last : n->first;
    return 0;
}

static struct numbers pull_all(const char *topic)
{
    struct numbers n = {.count = 0};

    ck_assert_msg(test_pull(&ts, topic, 0, 0, note_number, &n) == 0, "%s", ts.err.text);
    return n;
}

static int64_t offset_at(const char *topic, int64_t ms)
{
    struct store_queue_ref queue = {.topic = slice_str(topic)};
    struct store_fetch *fetch = store_fetch_new(ts.st);
    int64_t offset = -1;
    int rc;

    while ((rc = store_offset_by_time(ts.st, &queue, ms, fetch, &offset, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    store_fetch_free(&fetch);
    ck_assert_msg(rc == 0, "%s", ts.err.text);
    return offset;
}

static uint32_t found_by_key(const char *key)
{
    struct store_key_query query = {
        .topic = SLICE_LIT("T"), .key = slice_str(key), .end_ms = INT64_MAX, .max = 4};
    struct store_fetch *fetch = store_fetch_new(ts.st);
    uint64_t offsets[4];
    uint32_t count = 0;
    int rc;

    while ((rc = store_query_key(ts.st, &query, fetch, offsets, &count, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    store_fetch_free(&fetch);
    ck_assert_int_eq(rc, 0);
    return count;
}

static void three_segments_are_gone(void)
{
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = 3, .count_max = 8, .bytes_max = 1 << 20};
    struct store_entry_ref entry = {.topic = SLICE_LIT("T"), .offset = 29};
    struct store_pull_result res;
    struct store_record rec;
    struct buf body;
    int64_t min;
    int64_t max;
    struct numbers n = pull_all("T");

    ck_assert(
        store_queue_range(ts.st, &(struct store_queue_ref){.topic = SLICE_LIT("T")}, &min, &max));
    ck_assert_int_eq(max, 60);
    ck_assert_uint_eq(n.first, (uint32_t)min);
    ck_assert_uint_eq(n.last, 59);
    ck_assert_uint_eq(n.count, 60 - (uint32_t)min);
    ck_assert_int_ge(min, 30);
    ck_assert_int_lt(min, 32);
    buf_init(&body, 0);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_BEFORE_FIRST);
    ck_assert_int_eq(res.next_offset, min);
    ck_assert_int_eq(res.min_offset, min);
    ck_assert_int_eq(store_read_entry(ts.st, &entry, NULL, &body, &rec, &ts.err), ESCROW_ENOTFOUND);
    ck_assert_int_eq(store_read_record(ts.st, SEGMENT, NULL, &body, &rec, &ts.err),
                     ESCROW_ENOTFOUND);
    buf_fini(&body);
    ck_assert_int_eq(offset_at("T", 0), min);
    ck_assert_int_eq(offset_at("T", 1000 + 10 * 41), 40);
    ck_assert_uint_eq(found_by_key("K7"), 0);
    ck_assert_uint_eq(found_by_key("K45"), 1);
    for (uint64_t at = 0; at < 3 * SEGMENT; at += SEGMENT) {
        ck_assert(!has_segment(at));
    }
    ck_assert(has_segment(3 * SEGMENT));
}

START_TEST(what_is_given_up_is_gone_for_every_reader)
{
    /*
     * Pull from below, by offset, by place, by time, by key; at once, after a restart, and after
     * one that replays.
     */
    struct store_stats stats;

    begin();
    fill(0, 60);
    give_up(3 * SEGMENT);
    stats = store_stats(ts.st);
    ck_assert_uint_eq(stats.segments_deleted, 3);
    ck_assert_int_ge(stats.oldest_ms, 1000 + 10 * 30);
    ck_assert_int_le(stats.oldest_ms, 1000 + 10 * 33);
    three_segments_are_gone();
    reopen();
    ck_assert_uint_eq(ts.recovery.segments_removed, 0);
    three_segments_are_gone();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    reopen();
    three_segments_are_gone();
    shut();
}
END_TEST

START_TEST(the_last_record_stays)
{
    /* All but the segment that is written can go; an empty queue has its numbers still. */
    struct store_segment rows[16];
    uint32_t count;
    struct store_receipt r;

    begin();
    ck_assert_uint_eq(store_segments(ts.st, rows, 16), 0);
    ck_assert_int_eq(test_send(&ts, "old", 0, "x", NULL), 0);
    fill(0, 35);
    count = store_segments(ts.st, rows, 16);
    ck_assert_uint_eq(count, 3);
    ck_assert_uint_eq(rows[0].first, 0);
    ck_assert_int_eq(rows[0].begin_ms, 1000);
    ck_assert_int_ge(rows[0].used_ms, 1090);
    ck_assert_uint_eq(rows[2].first, 2 * SEGMENT);
    ck_assert_uint_eq(store_segments(ts.st, rows, 2), 2);
    give_up(3 * SEGMENT);
    ck_assert_uint_eq(store_segments(ts.st, rows, 16), 0);
    range_is("old", 1, 1);
    reopen();
    range_is("old", 1, 1);
    ck_assert_int_eq(offset_at("old", 0), 1);
    ck_assert_int_eq(test_send(&ts, "old", 0, "y", &r), 0);
    ck_assert_int_eq(r.queue_offset, 1);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "old", 0), "y");
    shut();
}
END_TEST

START_TEST(a_half_can_be_committed_long_after_its_neighbours_are_gone)
{
    /*
     * The owner keeps what is undecided: the log goes up to the half's segment and no further. Its
     * commit makes the segment of use again, at the time of the commit.
     */
    struct test_message m = {.topic = "H", .body = SLICE_LIT("0123"), .uniq = "U"};
    struct store_segment rows[16];
    struct store_receipt half;
    struct store_receipt r;

    begin();
    fill(0, 15);
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    RUN();
    fill(15, 45);
    ck_assert_uint_eq(txn_oldest_offset(ts.txn), half.offset);
    give_up(half.offset - half.offset % SEGMENT);
    reopen();
    ck_assert_uint_eq(txn_oldest_offset(ts.txn), half.offset);
    ck_assert_uint_eq(store_segments(ts.st, rows, 1), 1);
    ck_assert_int_lt(rows[0].used_ms, 1300);
    ts.now_ms = 5000;
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "H", 0), "0123");
    for (int i = 0; i < 3; i++) { /* live, replayed, from the checkpoint */
        ck_assert_uint_eq(store_segments(ts.st, rows, 2), 2);
        ck_assert_int_ge(rows[0].used_ms, 5000);
        ck_assert_int_lt(rows[1].used_ms, 1400);
        ck_assert_int_eq(test_store_checkpoint(&ts, i == 1), 0);
        reopen();
        ck_assert_str_eq(test_bodies(&ts, "H", 0), "0123");
    }
    shut();
}
END_TEST

START_TEST(a_half_goes_on_to_the_end_and_its_segment_goes)
{
    /*
     * Its copy is read, found by key and delivered; it keeps its offset for the decision. Copies
     * fit while messages are refused, keep no room for a second decision, and one that comes after
     * the decision changes nothing.
     */
    struct test_message m = {.topic = "H", .body = SLICE_LIT("0123"), .uniq = "U"};
    struct store_receipt half;
    struct store_receipt copy;
    struct store_receipt r;
    uint64_t reserved;
    struct buf scratch;
    struct store_record rec;

    begin();
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    RUN();
    fill(0, 45);
    reserved = store_stats(ts.st).reserved_bytes;
    store_refuse(ts.st, true);
    ck_assert_int_eq(test_carry(&ts, half.offset, &copy), 0);
    ck_assert_int_eq(copy.queue_offset, -1);
    store_refuse(ts.st, false);
    RUN();
    ck_assert_uint_eq(store_stats(ts.st).reserved_bytes, reserved);
    ck_assert_uint_eq(carried_where(&ts.carried, half.offset), copy.offset);
    give_up(copy.offset - copy.offset % SEGMENT);
    for (int i = 0; i < 3; i++) { /* live, replayed, from the checkpoint */
        buf_init(&scratch, 0);
        ck_assert_int_eq(store_read_record(ts.st, copy.offset, NULL, &scratch, &rec, &ts.err), 0);
        ck_assert_int_eq(rec.type, STORE_HALF);
        ck_assert_uint_eq(rec.first, half.offset);
        buf_fini(&scratch);
        ck_assert_uint_eq(txn_oldest_offset(ts.txn), half.offset);
        ck_assert_uint_eq(carried_where(&ts.carried, half.offset), copy.offset);
        ck_assert_int_eq(test_store_checkpoint(&ts, i == 1), 0);
        reopen();
    }
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ck_assert_int_eq(test_carry(&ts, half.offset, &r), 0);
    RUN();
    ck_assert_uint_eq(carried_where(&ts.carried, half.offset), copy.offset);
    ck_assert_str_eq(test_bodies(&ts, "H", 0), "0123");
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "H", 0), "0123");
    shut();
}
END_TEST

/* 20 messages in M/0; those of odd numbers are halves from the first segment, committed late. */
static void mixed_queue(void)
{
    uint64_t halves[10];
    struct store_receipt r;

    for (uint32_t i = 0; i < 10; i++) {
        const char uniq[] = {'u', (char)('0' + i), '\0'};
        struct test_message m = {.topic = "M", .body = SLICE_LIT("late"), .uniq = uniq};
        ck_assert_int_eq(test_half(&ts, &m, &r), 0);
        halves[i] = r.offset;
    }
    RUN();
    fill(0, 25);
    for (uint32_t i = 0; i < 10; i++) {
        ts.now_ms += 100;
        ck_assert_int_eq(test_send(&ts, "M", 0, "soon", NULL), 0);
        RUN();
        ck_assert_int_eq(test_decide(&ts, true, &halves[i], 1, &r), 0);
        RUN();
    }
}

START_TEST(a_message_released_late_leaves_a_hole)
{
    /*
     * Its record goes with its segment, its neighbours stay: pulls go on behind it, and a search by
     * time finds no later place than the right one.
     */
    struct store_entry_ref hole = {.topic = SLICE_LIT("M"), .offset = 5};
    struct store_record rec;
    struct buf scratch;
    int64_t first_ms;

    begin();
    mixed_queue();
    first_ms = ts.now_ms - 900;
    range_is("M", 0, 20);
    give_up(2 * SEGMENT);
    for (int i = 0; i < 2; i++) {
        range_is("M", 0, 20);
        ck_assert_str_eq(test_bodies(&ts, "M", 0),
                         "soon,soon,soon,soon,soon,soon,soon,soon,soon,soon");
        buf_init(&scratch, 0);
        ck_assert_int_eq(store_read_entry(ts.st, &hole, NULL, &scratch, &rec, &ts.err),
                         ESCROW_ENOTFOUND);
        buf_fini(&scratch);
        for (int64_t n = 0; n < 10; n++) {
            int64_t at = offset_at("M", first_ms + 100 * n);
            ck_assert_int_le(at, 2 * n);
            ck_assert_int_ge(at, 2 * n - 2);
        }
        ck_assert_int_le(offset_at("M", first_ms + 5000), 20);
        reopen();
    }
    shut();
}
END_TEST

static void drop_segments(uint64_t from, uint64_t to)
{
    for (uint64_t at = from; at < to; at += SEGMENT) {
        char path[64];
        (void)snprintf(path, sizeof path, "log/%020llu", (unsigned long long)at);
        ck_assert(sim_disk_remove(disk, path));
    }
}

START_TEST(leftovers_of_a_deletion_go_at_the_next_start)
{
    /* Whichever a crash has left; a segment that the checkpoint counts on stops the start. */
    struct disk *before;
    struct disk *after;

    begin();
    fill(0, 60);
    before = sim_disk_clone(disk);
    give_up(3 * SEGMENT);
    test_store_close(&ts);
    after = disk;
    for (uint64_t i = 0; i < 2; i++) { /* the first, then one in the middle of those given up */
        char path[64];
        static uint8_t bytes[SEGMENT];
        struct disk_file *f;
        struct iovec iov = {.iov_base = bytes, .iov_len = sizeof bytes};

        (void)snprintf(path, sizeof path, "log/%020llu", (unsigned long long)i * SEGMENT);
        ck_assert(sim_disk_peek(before, path, 0, bytes, sizeof bytes));
        ck_assert_int_eq(disk_open(after, path, DISK_WRITE | DISK_CREATE, &f, NULL), 0);
        ck_assert_int_eq(disk_pwritev(f, &iov, 1, 0, NULL), 0);
        disk_close(&f);
        ck_assert_int_eq(test_store_open_txn(&ts, after, NULL), 0);
        ck_assert_uint_eq(ts.recovery.segments_removed, 1);
        three_segments_are_gone();
        test_store_close(&ts);
    }
    for (uint64_t at = 3 * SEGMENT; at < 5 * SEGMENT; at += SEGMENT) {
        disk = sim_disk_clone(after);
        drop_segments(at, at + SEGMENT);
        ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), ESCROW_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(ts.err.text, "missing"));
        disk_free(&disk);
    }
    disk_free(&before);
    disk = after;
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    shut();
}
END_TEST

START_TEST(a_read_under_way_survives_the_deletion)
{
    /*
     * Its block is of a segment that goes meanwhile: with a handle of its own the file stays until
     * it is done, without one it finds none; asked again, the reader is told where the queue
     * begins.
     */
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = 3, .count_max = 8, .bytes_max = 1 << 20};
    struct store_pull_result res;
    struct store_fetch *fetch;
    struct buf body;

    for (int is_open = 0; is_open < 2; is_open++) {
        begin();
        fill(0, 60);
        ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
        reopen();
        if (is_open != 0) {
            (void)pull_all("T"); /* leaves handles of all segments */
        }
        sim_disk_set_cold(disk, true);
        fetch = store_fetch_new(ts.st);
        buf_init(&body, 0);
        ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EAGAIN);
        ck_assert_int_eq(test_store_retain(&ts, 3 * SEGMENT), 0);
        ck_assert(has_segment(0) == (is_open != 0));
        store_fetch_run(fetch);
        ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), 0);
        ck_assert_int_eq(res.status, STORE_PULL_BEFORE_FIRST);
        store_fetch_free(&fetch);
        buf_fini(&body);
        ck_assert_int_eq(test_store_retain(&ts, 3 * SEGMENT), 0); /* the rest */
        ck_assert(!has_segment(0));
        ck_assert(!has_segment(2 * SEGMENT));
        ck_assert_uint_eq(store_stats(ts.st).segments_deleted, 3);
        sim_disk_set_cold(disk, false);
        three_segments_are_gone();
        shut();
    }
}
END_TEST

START_TEST(an_error_of_the_disk_loses_nothing)
{
    /*
     * EIO, ENOSPC and half a write at the n-th operation, EIO at the n-th read: what was promised
     * is there after a restart, and the log begins at the old place or at the new one.
     */
    static const enum sim_fault faults[] = {SIM_FAULT_EIO, SIM_FAULT_ENOSPC, SIM_FAULT_SHORT};
    struct disk *whole;
    bool has_fired = true;

    begin();
    fill(0, 60);
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    test_store_close(&ts);
    whole = disk;
    for (uint64_t n = 1; has_fired; n++) {
        has_fired = false;
        for (size_t kind = 0; kind < 4; kind++) {
            uint64_t first;
            int rc;

            disk = sim_disk_clone(whole);
            ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
            if (kind == 3) {
                sim_disk_read_fault_at(disk, n);
            } else {
                sim_disk_fault_at(disk, n, faults[kind]);
            }
            rc = test_store_retain(&ts, 3 * SEGMENT);
            has_fired = has_fired || sim_disk_fault_fired(disk);
            ck_assert(rc == 0 || rc == ESCROW_EIO || rc == ESCROW_ENOSPC);
            test_store_close(&ts);
            sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
            sim_disk_read_fault_at(disk, 0);
            ck_assert_msg(test_store_open_txn(&ts, disk, NULL) == 0, "%s", ts.err.text);
            first = store_watermarks(ts.st).first;
            ck_assert(first == 3 * SEGMENT || (first == 0 && rc != 0));
            give_up(3 * SEGMENT); /* nothing to do, or now it works */
            three_segments_are_gone();
            test_store_close(&ts);
            disk_free(&disk);
        }
    }
    disk = whole;
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    shut();
}
END_TEST

static void count_queue_file(void *arg, const char *path, uint64_t size_bytes)
{
    uint32_t *count = arg;

    (void)size_bytes;
    *count += strncmp(path, "queues/", 7) == 0 ? 1 : 0;
}

static uint32_t queue_files(void)
{
    uint32_t count = 0;

    sim_disk_visit(disk, count_queue_file, &count);
    return count;
}

static int any_name(void *arg, const char *name, bool is_dir)
{
    (void)arg;
    (void)name;
    (void)is_dir;
    return 1;
}

START_TEST(a_deleted_topic_leaves_no_file)
{
    /*
     * Files and folders go with the next checkpoint, or with the next start; numbers go on where
     * they were when the topic comes back.
     */
    struct store_receipt r;

    begin();
    for (uint32_t i = 0; i < 3000; i++) { /* more than ride in a checkpoint */
        ck_assert_int_eq(test_send(&ts, "gone", i % 2, "x", NULL), 0);
    }
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    ck_assert_uint_eq(queue_files(), 2);
    ck_assert_int_eq(store_append_raw(ts.st, STORE_TOPIC, SLICE_LIT("gone"), NULL, &r), 0);
    RUN();
    range_is("gone", 1500, 1500);
    ck_assert_str_eq(test_bodies(&ts, "gone", 0), "");
    reopen(); /* the record is replayed */
    range_is("gone", 1500, 1500);
    ck_assert_int_eq(test_store_checkpoint(&ts, false), 0);
    ck_assert_uint_eq(queue_files(), 0);
    ck_assert_int_eq(disk_list(disk, "queues", any_name, NULL, NULL), 0);
    reopen();
    range_is("gone", 1500, 1500);
    for (uint32_t i = 0; i < 1500; i++) {
        ck_assert_int_eq(test_send(&ts, "gone", 0, "y", &r), 0);
    }
    ck_assert_int_eq(r.queue_offset, 2999);
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    ck_assert_uint_eq(queue_files(), 1);
    reopen();
    range_is("gone", 1500, 3000);
    ck_assert_int_eq(store_append_raw(ts.st, STORE_TOPIC, SLICE_LIT("gone"), NULL, &r), 0);
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, false), 0);
    ck_assert_uint_eq(queue_files(), 0);
    shut();
}
END_TEST

START_TEST(refusing_keeps_messages_out_and_lets_decisions_in)
{
    /*
     * Messages, halves and held ones get ESCROW_ENOSPC; what ends them, offsets and positions fit.
     */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("x"), .uniq = "U"};
    struct store_receipt half;
    struct store_receipt r;
    uint64_t offsets[RELEASE_COUNT_MAX];
    uint32_t count;

    begin();
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    m.uniq = "V";
    ck_assert_int_eq(test_hold(&ts, &m, 10, &r), 0);
    RUN();
    store_refuse(ts.st, true);
    ck_assert(store_stats(ts.st).is_refusing);
    m.uniq = "W";
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), ESCROW_ENOSPC);
    ck_assert_int_eq(test_half(&ts, &m, &r), ESCROW_ENOSPC);
    ck_assert_int_eq(test_hold(&ts, &m, 10, &r), ESCROW_ENOSPC);
    ck_assert_int_eq(test_position(&ts, 1, &r), 0);
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ts.now_ms += 20;
    ck_assert_int_eq(test_release_due(&ts, offsets, &count, &r), 0);
    ck_assert_uint_eq(count, 1);
    RUN();
    range_is("T", 0, 2);
    store_refuse(ts.st, false);
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    RUN();
    range_is("T", 0, 3);
    shut();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/retain");
    TCase *tc = tcase_create("retain");

    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, what_is_given_up_is_gone_for_every_reader);
    tcase_add_test(tc, the_last_record_stays);
    tcase_add_test(tc, a_half_can_be_committed_long_after_its_neighbours_are_gone);
    tcase_add_test(tc, a_half_goes_on_to_the_end_and_its_segment_goes);
    tcase_add_test(tc, a_message_released_late_leaves_a_hole);
    tcase_add_test(tc, leftovers_of_a_deletion_go_at_the_next_start);
    tcase_add_test(tc, a_read_under_way_survives_the_deletion);
    tcase_add_test(tc, an_error_of_the_disk_loses_nothing);
    tcase_add_test(tc, a_deleted_topic_leaves_no_file);
    tcase_add_test(tc, refusing_keeps_messages_out_and_lets_decisions_in);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
