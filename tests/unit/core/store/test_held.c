/* Messages held for a time, through the facade: HELD, RELEASE, and what readers make of them. */
#include "core/store/store.h"

#include "core/base/mem.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/release.h"

static struct disk *disk;
static struct test_store ts;

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static int note_store_ms(void *arg, const struct record_view *view)
{
    int64_t *store_ms = arg;

    *store_ms = view->f.store_ms;
    ck_assert_int_eq(view->f.sys_flag & SYSFLAG_TXN_MASK, SYSFLAG_TXN_NONE);
    return 0;
}

static uint32_t found_by_key(const char *topic, const char *key)
{
    struct store_key_query query = {
        .topic = slice_str(topic), .key = slice_str(key), .end_ms = INT64_MAX, .max = 4};
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

START_TEST(a_held_message_is_invisible_until_its_release)
{
    /* Then in its queue, by key, stored when it was due; its place counts from the release on. */
    struct test_message m = {
        .topic = "T", .queue_id = 1, .body = SLICE_LIT("held"), .tag = "x", .uniq = "U1"};
    struct store_receipt r;
    uint64_t offsets[RELEASE_COUNT_MAX];
    uint64_t reserved;
    uint32_t count;

    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ck_assert_int_eq(test_hold(&ts, &m, 500, &r), 0);
    ck_assert_int_eq(r.queue_offset, -1);
    reserved = store_stats(ts.st).reserved_bytes;
    ck_assert_uint_eq(reserved, store_release_reserve(1));
    RUN();
    ck_assert_int_eq(test_send(&ts, "T", 1, "plain", NULL), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 1), "plain");
    ck_assert_uint_eq(found_by_key("T", "U1"), 0);
    for (int i = 0; i < 2; i++) { /* live, and after a restart that replays the HELD record */
        ck_assert_int_eq(test_release_due(&ts, offsets, &count, &r), 0);
        ck_assert_uint_eq(count, 0);
        test_store_close(&ts);
        ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
        ck_assert_uint_eq(store_stats(ts.st).reserved_bytes, reserved);
    }
    ts.now_ms += 700;
    ck_assert_int_eq(test_release_due(&ts, offsets, &count, &r), 0);
    ck_assert_uint_eq(count, 1);
    ck_assert_uint_eq(store_stats(ts.st).reserved_bytes, 0);
    ck_assert_int_eq(test_send(&ts, "T", 1, "behind", NULL), 0);
    RUN();
    ck_assert_str_eq(test_bodies(&ts, "T", 1), "plain,held,behind");
    ck_assert_uint_eq(found_by_key("T", "U1"), 1);
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ck_assert_str_eq(test_bodies(&ts, "T", 1), "plain,held,behind");
    test_txn_check(&ts);
    shut();
}
END_TEST

START_TEST(a_held_message_counts_as_stored_when_it_was_due)
{
    /* What a reader shows, and what a search by time finds. */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("held")};
    struct store_queue_ref queue = {SLICE_LIT("T"), 0};
    struct store_fetch *fetch;
    struct store_receipt r;
    uint64_t offsets[RELEASE_COUNT_MAX];
    uint32_t count;
    int64_t shown_ms = 0;
    int64_t offset = -1;
    int rc;

    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open_txn(&ts, disk, NULL), 0);
    ck_assert_int_eq(test_hold(&ts, &m, 500, &r), 0);
    RUN();
    ts.now_ms += 400;
    ck_assert_int_eq(test_send(&ts, "T", 0, "plain", NULL), 0);
    ts.now_ms += 100;
    ck_assert_int_eq(test_release_due(&ts, offsets, &count, &r), 0);
    ck_assert_uint_eq(count, 1);
    RUN();
    ck_assert_int_eq(test_pull(&ts, "T", 0, 1, note_store_ms, &shown_ms), 0);
    ck_assert_int_eq(shown_ms, 1500);
    fetch = store_fetch_new(ts.st);
    while ((rc = store_offset_by_time(ts.st, &queue, 1450, fetch, &offset, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_int_eq(offset, 1);
    store_fetch_free(&fetch);
    shut();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/held");
    TCase *tc = tcase_create("held");

    tcase_add_test(tc, a_held_message_is_invisible_until_its_release);
    tcase_add_test(tc, a_held_message_counts_as_stored_when_it_was_due);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
