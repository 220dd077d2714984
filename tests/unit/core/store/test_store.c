/* The facade: what goes in comes out, live and after a restart. */
#include "core/store/store.h"

#include "core/base/mem.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

static struct disk *disk;
static struct test_store ts;

static void open_new(void)
{
    disk = sim_disk_new();
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

/* As after kill -9. */
static void reopen(void)
{
    test_store_close(&ts);
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

START_TEST(a_new_folder_becomes_a_store)
{
    /* Opening creates format, lock and a first segment; the log begins with a START record. */
    struct store_watermarks w;
    uint64_t size;

    open_new();
    ck_assert(ts.recovery.is_new);
    ck_assert_uint_eq(ts.recovery.epoch, 1);
    ck_assert(sim_disk_file_size(disk, "format", &size));
    ck_assert(sim_disk_file_size(disk, "lock", &size));
    ck_assert(sim_disk_file_size(disk, "log/00000000000000000000", &size));
    ck_assert_uint_eq(size, STORE_SEGMENT_BYTES_MIN);
    w = store_watermarks(ts.st);
    ck_assert_uint_eq(w.durable, 56);
    ck_assert_uint_eq(w.visible, w.appended);
    shut();
}
END_TEST

START_TEST(a_message_is_visible_when_it_is_durable)
{
    /* Appended: a receipt, nothing to read. Written and synced: it can be pulled. */
    struct store_receipt r;
    struct log_batch *batch;
    int64_t min;
    int64_t max;
    struct store_queue_ref q = {SLICE_LIT("T"), 0};

    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "hello", &r), 0);
    ck_assert_int_eq(r.queue_offset, 0);
    ck_assert(!store_queue_range(ts.st, &q, &min, &max));
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "");
    batch = store_batch_take(ts.st);
    ck_assert_ptr_nonnull(batch);
    ck_assert_ptr_null(store_batch_take(ts.st));
    ck_assert_int_eq(log_batch_write(batch, &ts.err), 0);
    store_batch_written(ts.st);
    ck_assert_uint_ge(store_watermarks(ts.st).written, r.wait_for);
    ck_assert_uint_lt(store_watermarks(ts.st).durable, r.wait_for);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "");
    ck_assert_int_eq(log_batch_sync(batch, &ts.err), 0);
    ck_assert_int_eq(store_batch_done(ts.st, &batch, &ts.err), 0);
    ck_assert_uint_ge(store_watermarks(ts.st).visible, r.wait_for);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "hello");
    ck_assert(store_queue_range(ts.st, &q, &min, &max));
    ck_assert_int_eq(max, 1);
    shut();
}
END_TEST

START_TEST(a_batch_fills_while_another_is_out)
{
    /*
     * Group commit without a timer: what comes during a sync goes with the next one, numbers in
     * order.
     */
    struct store_receipt r;
    struct log_batch *batch;

    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "a", NULL), 0);
    batch = store_batch_take(ts.st);
    ck_assert_int_eq(test_send(&ts, "T", 0, "b", NULL), 0);
    ck_assert_int_eq(test_send(&ts, "T", 0, "c", &r), 0);
    ck_assert_int_eq(r.queue_offset, 2);
    ck_assert_int_eq(log_batch_run(batch, &ts.err), 0);
    ck_assert_int_eq(store_batch_done(ts.st, &batch, &ts.err), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a");
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b,c");
    shut();
}
END_TEST

START_TEST(everything_is_there_after_a_restart)
{
    /* kill -9 without a checkpoint: all of it comes back from the log. */
    struct store_receipt r;

    open_new();
    for (int i = 0; i < 10; i++) {
        char body[16];
        (void)snprintf(body, sizeof body, "%d", i);
        ck_assert_int_eq(test_send(&ts, i % 2 == 0 ? "even" : "odd", (uint32_t)i % 4, body, NULL),
                         0);
    }
    ck_assert_int_eq(test_position(&ts, 77, &r), 0);
    RUN();
    reopen();
    ck_assert_uint_eq(ts.recovery.records, 12); /* and the first START */
    ck_assert_uint_eq(ts.recovery.cut_bytes, 0);
    ck_assert_uint_eq(ts.recovery.epoch, 2);
    ck_assert_uint_eq(ts.owner.position, 77);
    ck_assert_str_eq(test_bodies(&ts, "even", 0), "0,4,8");
    ck_assert_str_eq(test_bodies(&ts, "even", 2), "2,6");
    ck_assert_str_eq(test_bodies(&ts, "odd", 3), "3,7");
    ck_assert_int_eq(test_send(&ts, "even", 0, "12", &r), 0);
    ck_assert_int_eq(r.queue_offset, 3);
    RUN();
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "even", 0), "0,4,8,12");
    shut();
}
END_TEST

START_TEST(a_checkpoint_shortens_the_replay)
{
    /* After a clean stop nothing is replayed, and nothing is missing. */
    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "a", NULL), 0);
    ck_assert_int_eq(test_send(&ts, "T", 1, "b", NULL), 0);
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    ck_assert_int_eq(test_send(&ts, "T", 0, "c", NULL), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_uint_eq(ts.recovery.records, 0);
    ck_assert_uint_eq(ts.recovery.checkpoint, ts.recovery.end);
    ck_assert_uint_eq(ts.owner.messages, 3);
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,c");
    ck_assert_str_eq(test_bodies(&ts, "T", 1), "b");
    shut();
}
END_TEST

START_TEST(a_half_is_delivered_by_reference_when_committed)
{
    /*
     * Invisible until the decision is durable; then in the queue, patched, at the number reserved
     * for it.
     */
    struct test_message m = {.topic = "T", .queue_id = 2, .body = SLICE_LIT("half"), .uniq = "TX1"};
    struct store_receipt half;
    struct store_receipt r;
    struct store_record rec;
    struct store_entry_ref q = {SLICE_LIT("T"), 2, 1};
    struct buf scratch;

    open_new();
    buf_init(&scratch, 0);
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    ck_assert_int_eq(half.queue_offset, -1);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 2), "");
    ck_assert_int_eq(test_send(&ts, "T", 2, "before", NULL), 0);
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ck_assert_int_eq(test_send(&ts, "T", 2, "after", NULL), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 2), "before,half,after");
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(store_read_entry(ts.st, &q, NULL, &scratch, &rec, &ts.err), 0);
        ck_assert_int_eq(rec.type, STORE_HALF);
        ck_assert_int_eq(record_peek_queue_offset(rec.payload.ptr), 1);
        ck_assert_int_eq(record_peek_sys_flag(rec.payload.ptr) & SYSFLAG_TXN_MASK,
                         SYSFLAG_TXN_COMMIT);
        ck_assert_int_eq(record_peek_prepared_offset(rec.payload.ptr), (int64_t)half.offset);
        ck_assert_int_eq(record_peek_physical_offset(rec.payload.ptr), (int64_t)half.offset);
        reopen();
        ck_assert_str_eq(test_bodies(&ts, "T", 2), "before,half,after");
    }
    buf_fini(&scratch);
    shut();
}
END_TEST

START_TEST(one_decision_releases_several_halves)
{
    /* In several topics, all at once; a rollback releases none. */
    struct test_message m = {.topic = "A", .body = SLICE_LIT("a1")};
    struct store_receipt r[4];
    uint64_t offsets[3];
    struct store_receipt d;

    open_new();
    ck_assert_int_eq(test_half(&ts, &m, &r[0]), 0);
    m.body = SLICE_LIT("a2");
    ck_assert_int_eq(test_half(&ts, &m, &r[1]), 0);
    m.topic = "B";
    m.body = SLICE_LIT("b1");
    ck_assert_int_eq(test_half(&ts, &m, &r[2]), 0);
    m.body = SLICE_LIT("never");
    ck_assert_int_eq(test_half(&ts, &m, &r[3]), 0);
    RUN();
    offsets[0] = r[1].offset;
    offsets[1] = r[2].offset;
    offsets[2] = r[0].offset;
    ck_assert_int_eq(test_decide(&ts, true, offsets, 3, &d), 0);
    ck_assert_int_eq(test_decide(&ts, false, &r[3].offset, 1, &d), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "A", 0), "a2,a1");
    ck_assert_str_eq(test_bodies(&ts, "B", 0), "b1");
    ck_assert_uint_eq(store_stats(ts.st).reserved_bytes, 0);
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "A", 0), "a2,a1");
    ck_assert_str_eq(test_bodies(&ts, "B", 0), "b1");
    shut();
}
END_TEST

START_TEST(an_aborted_group_was_never_there)
{
    /* Numbers, space and memory are as before; what is appended next takes their place. */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("h")};
    struct store_watermarks before;
    struct store_receipt half;
    struct store_receipt r;

    open_new();
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    RUN();
    ck_assert_int_eq(test_send(&ts, "T", 0, "a", NULL), 0);
    before = store_watermarks(ts.st);
    store_group_begin(ts.st);
    ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    ck_assert_int_eq(test_send(&ts, "U", 0, "y", NULL), 0);
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ck_assert_int_eq(test_position(&ts, 5, &r), 0);
    ck_assert_ptr_null(store_batch_take(ts.st));
    store_reserve_add(ts.st, STORE_DECISION_RESERVE); /* the decision is taken back */
    store_group_abort(ts.st);
    store_check(ts.st);
    ck_assert_uint_eq(store_watermarks(ts.st).appended, before.appended);
    ck_assert_int_eq(test_send(&ts, "T", 0, "b", &r), 0);
    ck_assert_int_eq(r.queue_offset, 1);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b");
    ck_assert_str_eq(test_bodies(&ts, "U", 0), "");
    ck_assert_uint_eq(ts.owner.position, 0);
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "a,b");
    shut();
}
END_TEST

START_TEST(a_group_survives_a_restart_as_a_whole)
{
    /* Messages and the position they were read at. */
    struct store_receipt r;

    open_new();
    store_group_begin(ts.st);
    ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    ck_assert_int_eq(test_send(&ts, "U", 0, "y", NULL), 0);
    ck_assert_int_eq(test_position(&ts, 5, &r), 0);
    store_group_end(ts.st);
    store_group_begin(ts.st);
    store_group_end(ts.st);
    RUN();
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "x");
    ck_assert_str_eq(test_bodies(&ts, "U", 0), "y");
    ck_assert_uint_eq(ts.owner.position, 5);
    shut();
}
END_TEST

static int send_big(const char *topic, size_t size, char fill)
{
    char *body = mem_alloc(size + 1);
    int rc;

    memset(body, fill, size);
    body[size] = '\0';
    rc = test_send(&ts, topic, 0, body, NULL);
    mem_free(body);
    return rc;
}

static int count_message(void *arg, const struct record_view *view)
{
    uint64_t *sum = arg;

    *sum += view->f.body.len;
    return 0;
}

START_TEST(the_log_goes_on_in_the_next_segment)
{
    /* Records of many sizes over several segments; all of them before and after a restart. */
    uint64_t want = 0;
    uint64_t sum = 0;
    struct store_watermarks w;

    open_new();
    for (size_t i = 0; i < 60; i++) {
        size_t size = 1 + (i * 7919) % 200000;
        int rc = send_big("T", size, (char)('a' + i % 26));
        if (rc == ESCROW_ELIMIT) {
            RUN();
            rc = send_big("T", size, (char)('a' + i % 26));
        }
        ck_assert_int_eq(rc, 0);
        want += size;
        if (i % 5 == 0) {
            RUN();
        }
    }
    RUN();
    w = store_watermarks(ts.st);
    ck_assert_uint_gt(w.visible, 5 * STORE_SEGMENT_BYTES_MIN);
    ck_assert_int_eq(test_pull(&ts, "T", 0, 0, count_message, &sum), 0);
    ck_assert_uint_eq(sum, want);
    reopen();
    sum = 0;
    ck_assert_int_eq(test_pull(&ts, "T", 0, 0, count_message, &sum), 0);
    ck_assert_uint_eq(sum, want);
    ck_assert_int_eq(send_big("T", 10, 'z'), 0);
    RUN();
    shut();
}
END_TEST

START_TEST(a_record_of_any_size_gets_its_segment)
{
    /*
     * More is allocated than is kept ahead, and still the record does not fit: refused once, then
     * the segment it needs is there.
     */
    open_new();
    ck_assert_int_eq(send_big("T", 400000, 'a'), 0);
    RUN();
    ck_assert_uint_gt(store_stats(ts.st).allocated_bytes, STORE_SEGMENT_BYTES_MIN / 2 + 65536);
    ck_assert_int_eq(send_big("T", 700000, 'b'), ESCROW_ELIMIT);
    RUN();
    ck_assert_int_eq(send_big("T", 700000, 'b'), 0);
    RUN();
    shut();
}
END_TEST

START_TEST(a_record_bigger_than_a_segment_is_refused)
{
    /* ESCROW_ETOOBIG, and nothing has changed. */
    struct store_watermarks before;

    open_new();
    before = store_watermarks(ts.st);
    ck_assert_int_eq(send_big("T", STORE_SEGMENT_BYTES_MIN, 'x'), ESCROW_ETOOBIG);
    ck_assert_uint_eq(store_watermarks(ts.st).appended, before.appended);
    shut();
}
END_TEST

START_TEST(everything_can_be_read_cold)
{
    /* Nothing in the page cache: every read goes through fetches, and finds the same. */
    struct store_queue_ref q = {SLICE_LIT("T"), 0};
    struct store_entry_ref entry = {SLICE_LIT("T"), 0, 0};
    struct store_fetch *fetch;
    struct store_record rec;
    struct buf scratch;
    uint64_t sum = 0;
    int64_t offset = -1;
    int rc;

    open_new();
    for (size_t i = 0; i < 200; i++) {
        ts.now_ms = 1000 + (int64_t)i * 10;
        ck_assert_int_eq(send_big("T", 5000, 'x'), 0);
        RUN();
    }
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    sim_disk_set_cold(disk, true);
    reopen();
    ck_assert_int_eq(test_pull(&ts, "T", 0, 0, count_message, &sum), 0);
    ck_assert_uint_eq(sum, 200 * 5000);
    fetch = store_fetch_new(ts.st);
    while ((rc = store_offset_by_time(ts.st, &q, 1995, fetch, &offset, &ts.err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(offset, 100);
    entry.offset = offset;
    buf_init(&scratch, 0);
    while ((rc = store_read_entry(ts.st, &entry, fetch, &scratch, &rec, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(rec.store_ms, 2000);
    entry.offset = 7;
    ck_assert_int_eq(store_read_entry(ts.st, &entry, NULL, &scratch, &rec, &ts.err), ESCROW_EAGAIN);
    buf_fini(&scratch);
    store_fetch_free(&fetch);
    shut();
}
END_TEST

static uint32_t query(const char *topic, const char *key, uint64_t *offsets)
{
    struct store_key_query q = {.topic = slice_str(topic),
                                .key = slice_str(key),
                                .begin_ms = 0,
                                .end_ms = INT64_MAX,
                                .max = 10};
    struct store_fetch *fetch = store_fetch_new(ts.st);
    uint32_t count = 99;
    int rc;

    while ((rc = store_query_key(ts.st, &q, fetch, offsets, &count, &ts.err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_msg(rc == 0, "%s", ts.err.text);
    store_fetch_free(&fetch);
    return count;
}

START_TEST(messages_are_found_by_key)
{
    /* UNIQ_KEY and every word of KEYS, newest first; a half only once it is released. */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("1"), .uniq = "U1", .keys = "k1 k2"};
    struct store_receipt r1;
    struct store_receipt r2;
    struct store_receipt half;
    struct store_receipt gone;
    struct store_receipt d;
    uint64_t offsets[10];

    open_new();
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r1), 0);
    m.uniq = "U2";
    m.keys = "k2";
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r2), 0);
    m.uniq = "U3";
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    m.uniq = "U4";
    ck_assert_int_eq(test_half(&ts, &m, &gone), 0);
    RUN();
    for (int round = 0; round < 3; round++) {
        ck_assert_uint_eq(query("T", "U1", offsets), 1);
        ck_assert_uint_eq(offsets[0], r1.offset);
        ck_assert_uint_eq(query("T", "k2", offsets), 2);
        ck_assert_uint_eq(offsets[0], r2.offset);
        ck_assert_uint_eq(query("T", "U3", offsets), 0);
        ck_assert_uint_eq(query("T", "none", offsets), 0);
        ck_assert_uint_eq(query("other", "U1", offsets), 0);
        if (round == 1) {
            ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
        }
        reopen();
    }
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &d), 0);
    ck_assert_int_eq(test_decide(&ts, false, &gone.offset, 1, &d), 0);
    RUN();
    for (int round = 0; round < 2; round++) {
        ck_assert_uint_eq(query("T", "U3", offsets), 1);
        ck_assert_uint_eq(offsets[0], half.offset);
        ck_assert_uint_eq(query("T", "U4", offsets), 0);
        ck_assert_uint_eq(query("T", "k2", offsets), 3);
        reopen();
    }
    shut();
}
END_TEST

static void find_index(void *arg, const char *path, uint64_t size)
{
    char *found = arg;

    (void)size;
    if (strncmp(path, "index/", 6) == 0 && found[0] == '\0') {
        (void)snprintf(found, 128, "%s", path);
    }
}

/*
 * Damaged or deleted: told, and every message and released half is found by key as before; a half
 * that was rolled back is not.
 */
static void lose_index_files(int (*open)(struct test_store *, struct disk *,
                                         const struct store_config *))
{
    struct test_message m = {.topic = "T", .body = SLICE_LIT("b"), .uniq = "HALF", .keys = "k"};
    struct store_receipt half;
    struct store_receipt other;
    struct store_receipt r;
    uint64_t offsets[10];
    char path[128] = "";
    char uniq[16];
    char keys[16];
    uint8_t byte = 0;

    disk = sim_disk_new();
    ck_assert_msg(open(&ts, disk, NULL) == 0, "%s", ts.err.text);
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    m.uniq = "GONE";
    ck_assert_int_eq(test_half(&ts, &m, &other), 0);
    RUN();
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    ck_assert_int_eq(test_decide(&ts, false, &other.offset, 1, &r), 0);
    for (int i = 0; i < 70000; i++) {
        (void)snprintf(uniq, sizeof uniq, "U%d", i);
        (void)snprintf(keys, sizeof keys, "K%d", i);
        m.uniq = uniq;
        m.keys = keys;
        if (test_append(&ts, STORE_MESSAGE, &m, &r) != 0) {
            RUN();
            ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
        }
    }
    ck_assert_int_eq(test_store_stop(&ts), 0);
    sim_disk_visit(disk, find_index, path);
    ck_assert_str_ne(path, "");
    for (int round = 0; round < 2; round++) {
        if (round == 0) {
            ck_assert(sim_disk_peek(disk, path, 9, &byte, 1));
            byte ^= 1;
            ck_assert(sim_disk_poke(disk, path, 9, &byte, 1));
        } else {
            ck_assert(sim_disk_remove(disk, path));
        }
        ck_assert_msg(open(&ts, disk, NULL) == 0, "%s", ts.err.text);
        ck_assert((round == 0) == (strstr(ts.recovery.index_lost, path) != NULL));
        ck_assert_uint_eq(query("T", "U0", offsets), 1);
        ck_assert_uint_eq(query("T", "K40000", offsets), 1);
        ck_assert_uint_eq(query("T", "U69999", offsets), 1);
        ck_assert_uint_eq(query("T", "HALF", offsets), 1);
        ck_assert_uint_eq(offsets[0], half.offset);
        ck_assert_uint_eq(query("T", "GONE", offsets), 0);
        ck_assert_int_eq(test_send(&ts, "T", 0, "more", NULL), 0);
        ck_assert_int_eq(test_store_stop(&ts), 0);
        path[0] = '\0';
        sim_disk_visit(disk, find_index, path);
        ck_assert_str_ne(path, "");
    }
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(a_lost_file_of_the_key_index_is_built_again)
{
    /* With the plainest owner there is. */
    lose_index_files(test_store_open);
}
END_TEST

START_TEST(halves_released_by_real_decisions_are_found_after_the_index_was_lost)
{
    /* The same with DECISION payloads of txn/, listed by decision_each_shown. */
    lose_index_files(test_store_open_txn);
}
END_TEST

static bool only_even(void *arg, int64_t tag)
{
    (void)arg;
    return tag % 2 == 0;
}

START_TEST(a_filter_skips_by_tag)
{
    /* Entries that are not wanted move next_offset and are not read. */
    struct test_message m = {.topic = "T"};
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .count_max = 10, .bytes_max = 1000, .filter = only_even};
    struct store_pull_result res;
    struct store_receipt r;
    struct buf body;

    open_new();
    buf_init(&body, 0);
    m.tag = "a"; /* 97 */
    m.body = SLICE_LIT("odd");
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    m.tag = "b";
    m.body = SLICE_LIT("even");
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    m.tag = "c";
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), 0);
    RUN();
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_FOUND);
    ck_assert_uint_eq(res.count, 1);
    ck_assert_int_eq(res.next_offset, 3);
    req.offset = 2;
    buf_clear(&body);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_NO_MATCH);
    ck_assert_int_eq(res.next_offset, 3);
    ck_assert_uint_eq(body.len, 0);
    buf_fini(&body);
    shut();
}
END_TEST

/* Wants bodies that begin with 'y'; stops when it has been asked `stop_after` times. */
static uint32_t stop_after;

static enum store_match only_y(void *arg, const struct store_record *rec)
{
    uint32_t *asked = arg;
    struct slice body = rec->payload;

    if (*asked == stop_after) {
        return STORE_STOP;
    }
    (*asked)++;
    return memmem(body.ptr, body.len, "yes", 3) != NULL ? STORE_TAKE : STORE_SKIP;
}

START_TEST(a_match_skips_by_message_and_ends_a_pull)
{
    /* What it does not want is passed over, in the middle of a run too; a stop is gone on from. */
    static const char *const bodies[] = {"no 0", "yes 1", "no 2", "yes 3", "yes 4", "no 5"};
    uint32_t asked = 0;
    struct store_pull_request req = {.topic = SLICE_LIT("T"),
                                     .count_max = 10,
                                     .bytes_max = 100000,
                                     .match = only_y,
                                     .filter_arg = &asked};
    struct store_pull_result res;
    struct record_walk walk;
    struct record_view view;
    struct buf body;

    open_new();
    buf_init(&body, 0);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(test_send(&ts, "T", 0, bodies[i], NULL), 0);
    }
    RUN();
    stop_after = UINT32_MAX;
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_FOUND);
    ck_assert_uint_eq(res.count, 3);
    ck_assert_int_eq(res.next_offset, 6);
    ck_assert_uint_eq(asked, 6);
    walk = (struct record_walk){.rest = buf_slice(&body)};
    for (size_t i = 0; i < 3; i++) {
        static const int64_t want[] = {1, 3, 4};
        ck_assert_int_eq(record_walk_next(&walk, &view), 1);
        ck_assert_int_eq(view.f.queue_offset, want[i]);
    }
    ck_assert_int_eq(record_walk_next(&walk, &view), 0);
    /* Three at a time: 0..2, 3..5. */
    asked = 0;
    stop_after = 3;
    buf_clear(&body);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_uint_eq(res.count, 1);
    ck_assert_int_eq(res.next_offset, 3);
    asked = 0;
    stop_after = 1;
    req.offset = 5;
    buf_clear(&body);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_NO_MATCH);
    ck_assert_int_eq(res.next_offset, 6);
    ck_assert_uint_eq(body.len, 0);
    req.offset = 2; /* stopped at without a match so far */
    asked = 0;
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_NO_MATCH);
    ck_assert_int_eq(res.next_offset, 3);
    buf_fini(&body);
    shut();
}
END_TEST

START_TEST(a_pull_says_where_the_queue_begins_and_ends)
{
    /* Every status of a pull. */
    struct store_pull_request req = {.topic = SLICE_LIT("T"), .count_max = 2, .bytes_max = 1000};
    struct store_pull_result res;
    struct buf body;

    open_new();
    buf_init(&body, 0);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_NO_QUEUE);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    }
    RUN();
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_FOUND);
    ck_assert_uint_eq(res.count, 2);
    ck_assert_int_eq(res.next_offset, 2);
    ck_assert_int_eq(res.max_offset, 3);
    req.offset = 3;
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_AT_END);
    req.offset = 4;
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_BEYOND_END);
    ck_assert_int_eq(res.next_offset, 3);
    req.offset = -1;
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_BEFORE_FIRST);
    /* The first message always fits, the second only within the limit. */
    req.offset = 0;
    req.bytes_max = 1;
    buf_clear(&body);
    ck_assert_int_eq(store_pull(ts.st, &req, NULL, &body, &res, &ts.err), 0);
    ck_assert_uint_eq(res.count, 1);
    buf_fini(&body);
    shut();
}
END_TEST

START_TEST(an_offset_that_is_no_record_is_not_found)
{
    /* Offsets come from clients: the middle of a record, behind the end, unaligned. */
    struct store_receipt r;
    struct store_record rec;
    struct buf scratch;

    open_new();
    buf_init(&scratch, 0);
    ck_assert_int_eq(test_send(&ts, "T", 0, "hello", &r), 0);
    ck_assert_int_eq(store_read_record(ts.st, r.offset, NULL, &scratch, &rec, NULL),
                     ESCROW_ENOTFOUND); /* not visible yet */
    RUN();
    ck_assert_int_eq(store_read_record(ts.st, r.offset, NULL, &scratch, &rec, NULL), 0);
    ck_assert(slice_eq_str(rec.topic, "T"));
    for (uint64_t at = 0; at < r.wait_for + 4096; at++) {
        if (at != r.offset && at != 0) {
            ck_assert_int_eq(store_read_record(ts.st, at, NULL, &scratch, &rec, NULL),
                             ESCROW_ENOTFOUND);
        }
    }
    ck_assert_int_eq(store_read_record(ts.st, UINT64_MAX - 7, NULL, &scratch, &rec, NULL),
                     ESCROW_ENOTFOUND);
    buf_fini(&scratch);
    shut();
}
END_TEST

START_TEST(two_stores_on_one_folder_are_refused)
{
    /* The second open says so in one line, and the first goes on. */
    struct test_store other;

    open_new();
    ck_assert_int_eq(test_store_open(&other, disk, NULL), ESCROW_ELOCKED);
    ck_assert_str_eq(other.err.text, "lock: another process has this data folder open");
    ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    RUN();
    shut();
}
END_TEST

START_TEST(a_failed_sync_is_final)
{
    /* No watermark rises, the error is FATAL, and nothing more can be appended. */
    struct store_watermarks before;

    open_new();
    before = store_watermarks(ts.st);
    ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    sim_disk_fault_at(disk, 2, SIM_FAULT_EIO); /* 1 is the write */
    ck_assert_int_eq(test_store_run(&ts), ESCROW_EIO);
    ck_assert_int_eq(escrow_error_class(ts.err.code), ESCROW_CLASS_FATAL);
    ck_assert_uint_eq(store_watermarks(ts.st).durable, before.durable);
    ck_assert_int_eq(test_send(&ts, "T", 0, "y", NULL), ESCROW_EIO);
    ck_assert_ptr_null(store_batch_take(ts.st));
    shut();
}
END_TEST

START_TEST(an_owner_that_fails_stops_the_store)
{
    /* What is durable but could not be applied is applied by the next start. */
    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
    ts.owner.fails = true;
    ck_assert_int_eq(test_store_run(&ts), ESCROW_ENOMEM);
    ck_assert_int_eq(test_send(&ts, "T", 0, "y", NULL), ESCROW_EIO);
    reopen();
    ck_assert_str_eq(test_bodies(&ts, "T", 0), "x");
    shut();
}
END_TEST

START_TEST(a_full_disk_still_takes_decisions)
{
    /*
     * New work is refused; every half accepted before can be decided, one by one; space makes it go
     * on.
     */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("half")};
    uint64_t offsets[300];
    uint32_t count = 0;
    struct store_receipt r;
    int rc;

    open_new();
    sim_disk_set_capacity(disk, 2 * STORE_SEGMENT_BYTES_MIN + 100000);
    RUN();
    while (count < 300) {
        ck_assert_int_eq(test_half(&ts, &m, &r), 0);
        offsets[count++] = r.offset;
    }
    RUN();
    while ((rc = send_big("T", 1000, 'x')) == 0 || rc == ESCROW_ELIMIT) {
        RUN();
    }
    ck_assert_int_eq(rc, ESCROW_ENOSPC);
    ck_assert(store_stats(ts.st).is_disk_full);
    while ((rc = test_send(&ts, "T", 0, "", NULL)) == 0) {
    }
    ck_assert_int_eq(rc, ESCROW_ENOSPC);
    ck_assert_int_eq(test_half(&ts, &m, &r), ESCROW_ENOSPC);
    ck_assert_int_eq(test_position(&ts, 1, &r), ESCROW_ENOSPC);
    for (uint32_t i = 0; i < count; i++) {
        ck_assert_int_eq(test_decide(&ts, i % 3 != 0, &offsets[i], 1, &r), 0);
        if (i % 7 == 0) {
            RUN();
        }
    }
    RUN();
    ck_assert_uint_eq(store_stats(ts.st).reserved_bytes, 0);
    reopen(); /* START has room too */
    sim_disk_set_capacity(disk, UINT64_MAX);
    ts.now_ms += 5000;
    RUN();
    ck_assert_int_eq(send_big("T", 100000, 'x'), 0);
    RUN();
    shut();
}
END_TEST

START_TEST(back_pressure_is_an_answer)
{
    /* More than the batch may hold: ESCROW_ELIMIT, then room again after the batch. */
    struct store_config cfg;
    int sent = 0;
    int rc;

    disk = sim_disk_new();
    test_store_config(&cfg);
    cfg.batch_bytes_max = 10000;
    ck_assert_int_eq(test_store_open(&ts, disk, &cfg), 0);
    while ((rc = test_send(&ts, "T", 0, "0123456789", NULL)) == 0) {
        sent++;
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert_int_gt(sent, 10);
    RUN();
    ck_assert_int_eq(test_send(&ts, "T", 0, "again", NULL), 0);
    /* A record bigger than the limit goes alone. */
    ck_assert_int_eq(send_big("T", 20000, 'x'), ESCROW_ELIMIT);
    RUN();
    ck_assert_int_eq(send_big("T", 20000, 'x'), 0);
    RUN();
    store_trim(ts.st);
    ck_assert_uint_eq(store_stats(ts.st).batch_memory_bytes, 0);
    shut();
}
END_TEST

START_TEST(bad_fields_are_refused)
{
    /* Input never trips a check: queue id, topic, sizes. */
    struct test_message m = {.topic = "T", .queue_id = 1024, .body = SLICE_LIT("x")};
    struct store_receipt r;

    open_new();
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), ESCROW_EINVAL);
    m.queue_id = UINT32_MAX;
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), ESCROW_EINVAL);
    m.queue_id = 1;
    m.topic = "";
    ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r), ESCROW_EINVAL);
    shut();
}
END_TEST

START_TEST(any_allocation_may_fail)
{
    /*
     * The n-th allocation of open, append, run, checkpoint and pull fails, for every n: an error,
     * no leak, and the second attempt succeeds.
     */
    for (uint64_t n = 1;; n++) {
        struct test_message m = {.topic = "T", .body = SLICE_LIT("body"), .uniq = "U", .keys = "k"};
        struct store_receipt r;
        bool fired;

        disk = sim_disk_new();
        mem_fault_at(n);
        if (test_store_open(&ts, disk, NULL) == 0) {
            store_group_begin(ts.st);
            if (test_append(&ts, STORE_MESSAGE, &m, &r) == 0 && test_half(&ts, &m, &r) == 0) {
                store_group_end(ts.st);
                if (test_store_run(&ts) == 0 && test_decide(&ts, true, &r.offset, 1, &r) == 0 &&
                    test_store_run(&ts) == 0) {
                    int rc = test_store_checkpoint(&ts, true);
                    ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
                }
            } else {
                store_group_abort(ts.st);
            }
        }
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        test_store_close(&ts);
        ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "n %u: %s", (unsigned)n, ts.err.text);
        ck_assert_int_eq(test_send(&ts, "T", 0, "x", NULL), 0);
        RUN();
        shut();
        if (!fired) {
            ck_assert_uint_gt(n, 20);
            break;
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/store");
    TCase *tc = tcase_create("store");

    tcase_add_test(tc, a_new_folder_becomes_a_store);
    tcase_add_test(tc, a_message_is_visible_when_it_is_durable);
    tcase_add_test(tc, a_batch_fills_while_another_is_out);
    tcase_add_test(tc, everything_is_there_after_a_restart);
    tcase_add_test(tc, a_checkpoint_shortens_the_replay);
    tcase_add_test(tc, a_half_is_delivered_by_reference_when_committed);
    tcase_add_test(tc, one_decision_releases_several_halves);
    tcase_add_test(tc, an_aborted_group_was_never_there);
    tcase_add_test(tc, a_group_survives_a_restart_as_a_whole);
    tcase_add_test(tc, the_log_goes_on_in_the_next_segment);
    tcase_add_test(tc, a_record_of_any_size_gets_its_segment);
    tcase_add_test(tc, a_record_bigger_than_a_segment_is_refused);
    tcase_add_test(tc, everything_can_be_read_cold);
    tcase_add_test(tc, messages_are_found_by_key);
    tcase_add_test(tc, a_lost_file_of_the_key_index_is_built_again);
    tcase_add_test(tc, halves_released_by_real_decisions_are_found_after_the_index_was_lost);
    tcase_add_test(tc, a_filter_skips_by_tag);
    tcase_add_test(tc, a_match_skips_by_message_and_ends_a_pull);
    tcase_add_test(tc, a_pull_says_where_the_queue_begins_and_ends);
    tcase_add_test(tc, an_offset_that_is_no_record_is_not_found);
    tcase_add_test(tc, two_stores_on_one_folder_are_refused);
    tcase_add_test(tc, a_failed_sync_is_final);
    tcase_add_test(tc, an_owner_that_fails_stops_the_store);
    tcase_add_test(tc, a_full_disk_still_takes_decisions);
    tcase_add_test(tc, back_pressure_is_an_answer);
    tcase_add_test(tc, bad_fields_are_refused);
    tcase_add_test(tc, any_allocation_may_fail);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
