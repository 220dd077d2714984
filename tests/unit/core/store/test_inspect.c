/*
 * The offline look: every record in order, every kind of damage found in one run, nothing changed.
 */
#include "core/store/inspect.h"

#include "core/base/mem.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SEGMENT_0 "log/00000000000000000000"

static struct disk *disk;
static struct test_store ts;
static uint64_t offsets[6];

/*
 * A message, two halves, one of them committed, the other rolled back, a group over two topics;
 * then a clean stop.
 */
static void setup(void)
{
    struct test_message m = {.topic = "A", .body = SLICE_LIT("half"), .tag = "x"};
    struct store_receipt r;

    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_int_eq(test_send(&ts, "A", 0, "one", &r), 0);
    offsets[0] = r.offset;
    ck_assert_int_eq(test_half(&ts, &m, &r), 0);
    offsets[1] = r.offset;
    ck_assert_int_eq(test_half(&ts, &m, &r), 0);
    offsets[2] = r.offset;
    ck_assert_int_eq(test_store_run(&ts), 0);
    ck_assert_int_eq(test_decide(&ts, true, &offsets[1], 1, &r), 0);
    ck_assert_int_eq(test_decide(&ts, false, &offsets[2], 1, &r), 0);
    store_group_begin(ts.st);
    ck_assert_int_eq(test_send(&ts, "A", 0, "two", &r), 0);
    offsets[3] = r.offset;
    ck_assert_int_eq(test_send(&ts, "B", 1, "three", &r), 0);
    offsets[4] = r.offset;
    ck_assert_int_eq(test_position(&ts, 1, &r), 0);
    offsets[5] = r.offset;
    store_group_end(ts.st);
    ck_assert_int_eq(test_store_stop(&ts), 0);
}

static void teardown(void)
{
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

static void flip(const char *path, uint64_t at)
{
    uint8_t byte;

    ck_assert(sim_disk_peek(disk, path, at, &byte, 1));
    byte ^= 1;
    ck_assert(sim_disk_poke(disk, path, at, &byte, 1));
}

struct findings {
    uint32_t count;
    char first[512];
    uint64_t done;
    uint64_t total;
};

static void note(void *arg, int code, const char *text)
{
    struct findings *f = arg;

    ck_assert_int_ne(code, 0);
    if (f->count++ == 0) {
        (void)snprintf(f->first, sizeof f->first, "%s", text);
    }
}

static void note_progress(void *arg, uint64_t done, uint64_t total)
{
    struct findings *f = arg;

    f->done = done;
    f->total = total;
}

static struct inspect_report verify(struct findings *f)
{
    struct inspect_verify how = {.finding = note, .progress = note_progress, .arg = f};
    struct disk *before = sim_disk_clone(disk);
    struct inspect_report report;
    struct inspect *in;
    struct err_ctx err;

    *f = (struct findings){.count = 0};
    ck_assert_msg(inspect_open(disk, &in, &err) == 0, "%s", err.text);
    ck_assert_int_eq(inspect_verify(in, &how, &report, &err), 0);
    inspect_close(&in);
    ck_assert_uint_eq(report.findings, f->count);
    ck_assert_uint_eq(f->done, f->total);
    ck_assert(sim_disk_equal(disk, before));
    disk_free(&before);
    return report;
}

START_TEST(records_are_listed_in_order)
{
    /* Types, places, groups; from the start and from any record on. */
    static const enum store_type want[] = {STORE_START,   STORE_MESSAGE,  STORE_HALF,
                                           STORE_HALF,    STORE_DECISION, STORE_DECISION,
                                           STORE_MESSAGE, STORE_MESSAGE,  STORE_POSITION};
    struct inspect_info info;
    struct store_record rec;
    struct inspect *in;
    uint64_t end = 0;
    size_t n = 0;

    ck_assert_int_eq(inspect_open(disk, &in, NULL), 0);
    inspect_info(in, &info);
    ck_assert_uint_eq(info.version, 1);
    ck_assert_uint_eq(info.first, 0);
    ck_assert_uint_eq(info.segments, info.allocated / info.segment_bytes);
    while (inspect_next(in, &rec, NULL) == 1) {
        ck_assert_uint_lt(n, sizeof want / sizeof want[0]);
        ck_assert_int_eq(rec.type, want[n]);
        ck_assert_uint_eq(rec.offset, end);
        ck_assert(rec.is_more == (n == 6 || n == 7));
        end = rec.end;
        n++;
    }
    ck_assert_uint_eq(n, sizeof want / sizeof want[0]);
    ck_assert_uint_eq(end, info.checkpoint);
    ck_assert_uint_eq(inspect_tail(in), 0);
    inspect_seek(in, offsets[4]);
    ck_assert_int_eq(inspect_next(in, &rec, NULL), 1);
    ck_assert(slice_eq_str(rec.topic, "B"));
    ck_assert_uint_eq(rec.queue_id, 1);
    inspect_close(&in);
}
END_TEST

START_TEST(what_lies_behind_the_log_is_its_end)
{
    /* Wherever somebody points to behind it: the end, and no crash. */
    static const uint64_t behind[] = {0, 1, 8, 4096, UINT64_C(99999999999999)};
    struct inspect_info info;
    struct store_record rec;
    struct inspect *in;

    ck_assert_int_eq(inspect_open(disk, &in, NULL), 0);
    inspect_info(in, &info);
    for (size_t i = 0; i < sizeof behind / sizeof behind[0]; i++) {
        inspect_seek(in, info.allocated + behind[i]);
        ck_assert_int_eq(inspect_next(in, &rec, NULL), 0);
        ck_assert_uint_eq(inspect_tail(in), 0);
    }
    inspect_seek(in, UINT64_MAX);
    ck_assert_int_eq(inspect_next(in, &rec, NULL), 0);
    inspect_seek(in, offsets[4]);
    ck_assert_int_eq(inspect_next(in, &rec, NULL), 1);
    inspect_close(&in);
}
END_TEST

START_TEST(a_sound_store_has_no_findings)
{
    /* Counts of everything. */
    struct findings f;
    struct inspect_report r = verify(&f);

    ck_assert_msg(r.findings == 0, "%s", f.first);
    ck_assert_uint_eq(r.records, 9);
    ck_assert_uint_eq(r.messages, 3);
    ck_assert_uint_eq(r.halves, 2);
    ck_assert_uint_eq(r.decisions, 2);
    ck_assert_uint_eq(r.queues, 2);
    ck_assert_uint_eq(r.queue_entries, 4);
    ck_assert_uint_eq(r.torn_bytes, 0);
}
END_TEST

START_TEST(damage_is_reported_and_walked_around)
{
    /* Two bad records far apart: both are found in one run, with their places. */
    struct findings f;
    struct inspect_report r;

    flip(SEGMENT_0, offsets[0] + 60);
    flip(SEGMENT_0, offsets[4] + 60);
    r = verify(&f);
    ck_assert_uint_ge(r.findings, 2);
    ck_assert_ptr_nonnull(strstr(f.first, SEGMENT_0 " at offset 56"));
    ck_assert_uint_ge(r.records, 6);
}
END_TEST

START_TEST(a_wrong_queue_entry_is_found)
{
    /* An entry that points to another record, with a check that is right: only the log can tell. */
    struct queue_entry_bytes {
        uint8_t bytes[20];
    } a, b;
    struct findings f;
    uint64_t size = 0;

    if (!sim_disk_file_size(disk, "queues/A/0/00000000000000000000", &size)) {
        /* Entries ride in the checkpoint until their queue is quiet: one more checkpoint. */
        ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
        ck_assert_int_eq(test_store_stop(&ts), 0);
    }
    ck_assert(sim_disk_file_size(disk, "queues/A/0/00000000000000000000", &size));
    ck_assert_uint_eq(size, 60);
    ck_assert(sim_disk_peek(disk, "queues/A/0/00000000000000000000", 0, a.bytes, 20));
    flip("queues/A/0/00000000000000000000", 7);
    (void)verify(&f);
    ck_assert_uint_ge(f.count, 1);
    ck_assert_ptr_nonnull(strstr(f.first, "queues/A/0/00000000000000000000: entry 0"));
    ck_assert(sim_disk_peek(disk, "queues/A/0/00000000000000000000", 40, b.bytes, 20));
    ck_assert(sim_disk_poke(disk, "queues/A/0/00000000000000000000", 0, b.bytes, 20));
    (void)verify(&f);
    ck_assert_uint_ge(f.count, 1);
}
END_TEST

START_TEST(a_torn_tail_is_no_finding)
{
    /* The next start will cut it: its size is told. */
    static const uint8_t garbage[100] = {1, 2, 3};
    struct findings f;
    struct inspect_report r = verify(&f);

    ck_assert(sim_disk_poke(disk, SEGMENT_0, r.bytes, garbage, sizeof garbage));
    r = verify(&f);
    ck_assert_msg(r.findings == 0, "%s", f.first);
    ck_assert_uint_eq(r.torn_bytes, 8); /* up to the last byte that is not zero, in words */
}
END_TEST

START_TEST(a_bad_checkpoint_and_index_are_findings)
{
    /* And do not keep the rest from being looked at. */
    struct findings f;
    struct inspect_report r;

    flip("checkpoint", 20);
    r = verify(&f);
    ck_assert_uint_eq(r.findings, 1);
    ck_assert_ptr_nonnull(strstr(f.first, "checkpoint"));
    ck_assert_uint_eq(r.records, 9);
}
END_TEST

/* A start is refused and changes nothing; the offline look says the same. */
static void refused(int code, const char *place)
{
    struct disk *before = sim_disk_clone(disk);
    struct findings f;

    ck_assert_int_eq(test_store_open(&ts, disk, NULL), code);
    ck_assert_msg(strstr(ts.err.text, place) != NULL, "\"%s\" does not say %s", ts.err.text, place);
    ck_assert(sim_disk_equal(disk, before));
    disk_free(&before);
    (void)verify(&f);
    ck_assert_uint_ge(f.count, 1);
    ck_assert_msg(strstr(f.first, place) != NULL, "\"%s\" does not say %s", f.first, place);
}

/* Two segments and a bit, stopped. */
static void three_segments(void)
{
    static char body[100001];

    memset(body, 'x', sizeof body - 1);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    while (store_watermarks(ts.st).appended < 2 * STORE_SEGMENT_BYTES_MIN + 200000) {
        ck_assert_int_eq(test_send(&ts, "A", 0, body, NULL), 0);
        ck_assert_int_eq(test_store_run(&ts), 0);
    }
    ck_assert_int_eq(test_store_stop(&ts), 0);
}

START_TEST(segments_that_a_start_misses_are_findings)
{
    /* The first one, with the checkpoint and without; all of them but for what came from them. */
    struct disk *whole;

    three_segments();
    whole = disk;
    disk = sim_disk_clone(whole);
    ck_assert(sim_disk_remove(disk, SEGMENT_0));
    refused(ESCROW_ECORRUPT, "segments are missing");
    ck_assert(sim_disk_remove(disk, "checkpoint"));
    refused(ESCROW_ECORRUPT, "its state cannot be rebuilt");
    for (uint64_t at = 1; at < 4; at++) {
        char path[64];
        (void)snprintf(path, sizeof path, "log/%020" PRIu64, at * STORE_SEGMENT_BYTES_MIN);
        (void)sim_disk_remove(disk, path);
    }
    refused(ESCROW_ECORRUPT, "log: every segment is missing, but queues was derived from some");
    disk_free(&disk);
    disk = whole;
}
END_TEST

START_TEST(a_store_that_was_only_made_is_sound)
{
    /* The power went before its first segment had a name: `format` and an empty folder. */
    struct disk *whole = disk;
    struct findings f;

    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    test_store_close(&ts);
    ck_assert(sim_disk_remove(disk, SEGMENT_0));
    (void)sim_disk_remove(disk, "log/00000000000001048576");
    (void)verify(&f);
    ck_assert_msg(f.count == 0, "%s", f.first);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert(ts.recovery.is_bare); /* told: somebody may have removed the log */
    test_store_close(&ts);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert(!ts.recovery.is_bare);
    test_store_close(&ts);
    disk_free(&disk);
    disk = whole;
}
END_TEST

START_TEST(a_checkpoint_of_another_store_is_a_finding)
{
    /* As valid as can be, but with another salt. */
    struct store_config cfg;
    struct disk *other = sim_disk_new();
    uint64_t size = 0;
    uint8_t *bytes;

    test_store_config(&cfg);
    cfg.random_seed = 99;
    ck_assert_int_eq(test_store_open(&ts, other, &cfg), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    ck_assert(sim_disk_file_size(other, "checkpoint", &size));
    bytes = mem_calloc(1, (size_t)size);
    ck_assert(sim_disk_peek(other, "checkpoint", 0, bytes, (size_t)size));
    ck_assert(sim_disk_cut(disk, "checkpoint", size));
    ck_assert(sim_disk_poke(disk, "checkpoint", 0, bytes, (size_t)size));
    refused(ESCROW_ECORRUPT, "checkpoint: belongs to another store");
    mem_free(bytes);
    disk_free(&other);
}
END_TEST

START_TEST(a_log_that_a_clean_stop_saw_longer_is_a_finding)
{
    /* The last record is zeros: nothing behind it says so, but the checkpoint does. */
    static const uint8_t zeros[64];
    struct findings f;
    struct inspect_report r = verify(&f);

    ck_assert(sim_disk_poke(disk, SEGMENT_0, r.bytes - sizeof zeros, zeros, sizeof zeros));
    ck_assert(sim_disk_poke(disk, SEGMENT_0, offsets[5], zeros, sizeof zeros));
    refused(ESCROW_ECORRUPT, "the checkpoint was written with the record that was here");
}
END_TEST

START_TEST(a_damaged_page_of_the_key_index_is_a_finding)
{
    /* Wherever it is: header, entries, slots. A start does not read them all. */
    char path[64];
    struct findings f;
    uint64_t size = 0;

    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    (void)test_fill_index(&ts, "A", path);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    (void)verify(&f);
    ck_assert_msg(f.count == 0, "%s", f.first);
    ck_assert(sim_disk_file_size(disk, path, &size));
    for (uint64_t at = 100; at < size; at += (size / 8192 + 1) * 4096) {
        char want[160];
        flip(path, at);
        (void)verify(&f);
        (void)snprintf(want, sizeof want, "%s: checksum of %s at byte %" PRIu64, path,
                       at < 4096 ? "the header does not match" : "a page does not match",
                       at - at % 4096);
        ck_assert_uint_eq(f.count, 1);
        ck_assert_msg(strstr(f.first, want) != NULL, "\"%s\", not %s", f.first, want);
        flip(path, at);
    }
}
END_TEST

START_TEST(a_folder_without_format_is_no_new_store)
{
    /* Whatever else of a store there is. */
    static const char *const files[] = {SEGMENT_0, "checkpoint"};
    struct disk *whole = disk;
    struct inspect *in;
    struct err_ctx err;

    for (size_t keep = 0; keep < 2; keep++) {
        disk = sim_disk_clone(whole);
        ck_assert(sim_disk_remove(disk, "format"));
        for (size_t i = 0; i < 2; i++) {
            ck_assert(i == keep || sim_disk_remove(disk, files[i]));
        }
        if (keep == 1) {
            (void)sim_disk_remove(disk, "log/00000000000001048576");
        }
        ck_assert_int_eq(inspect_open(disk, &in, &err), ESCROW_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(err.text, "format: file is missing, but there is "));
        ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ECORRUPT);
        ck_assert_str_eq(ts.err.text, err.text);
        disk_free(&disk);
    }
    disk = whole;
}
END_TEST

START_TEST(a_store_without_the_folder_of_its_log_is_corrupt)
{
    /* The folder is durable before `format` is: no crash leaves that. */
    uint8_t format[128];
    struct disk *whole = disk;
    struct inspect *in;
    struct err_ctx err;
    uint64_t size = 0;

    ck_assert(sim_disk_file_size(disk, "format", &size));
    ck_assert_uint_lt(size, sizeof format);
    ck_assert(sim_disk_peek(disk, "format", 0, format, (size_t)size));
    disk = sim_disk_new();
    ck_assert_int_eq(disk_replace(disk, "format", format, (size_t)size, NULL), 0);
    ck_assert_int_eq(inspect_open(disk, &in, &err), ESCROW_ECORRUPT);
    ck_assert_str_eq(err.text, "log: the folder is missing");
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ECORRUPT);
    ck_assert_str_eq(ts.err.text, "log: the folder is missing");
    disk_free(&disk);
    disk = whole;
}
END_TEST

START_TEST(a_folder_in_use_or_without_a_store_is_refused)
{
    /* Each with its line. */
    struct inspect *in;
    struct err_ctx err;
    struct disk *empty = sim_disk_new();

    ck_assert_int_eq(inspect_open(empty, &in, &err), ESCROW_ENOTFOUND);
    ck_assert_ptr_null(in);
    ck_assert_ptr_nonnull(strstr(err.text, "there is no store in this folder"));
    disk_free(&empty);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
    ck_assert_int_eq(inspect_open(disk, &in, &err), ESCROW_ELOCKED);
    ck_assert_ptr_nonnull(strstr(err.text, "a server has this data folder open"));
    test_store_close(&ts);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/inspect");
    TCase *tc = tcase_create("inspect");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, records_are_listed_in_order);
    tcase_add_test(tc, what_lies_behind_the_log_is_its_end);
    tcase_add_test(tc, a_sound_store_has_no_findings);
    tcase_add_test(tc, damage_is_reported_and_walked_around);
    tcase_add_test(tc, a_wrong_queue_entry_is_found);
    tcase_add_test(tc, a_torn_tail_is_no_finding);
    tcase_add_test(tc, a_bad_checkpoint_and_index_are_findings);
    tcase_add_test(tc, segments_that_a_start_misses_are_findings);
    tcase_add_test(tc, a_store_that_was_only_made_is_sound);
    tcase_add_test(tc, a_checkpoint_of_another_store_is_a_finding);
    tcase_add_test(tc, a_log_that_a_clean_stop_saw_longer_is_a_finding);
    tcase_add_test(tc, a_damaged_page_of_the_key_index_is_a_finding);
    tcase_add_test(tc, a_folder_without_format_is_no_new_store);
    tcase_add_test(tc, a_store_without_the_folder_of_its_log_is_corrupt);
    tcase_add_test(tc, a_folder_in_use_or_without_a_store_is_refused);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
