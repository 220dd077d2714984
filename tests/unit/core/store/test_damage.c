/*
 * Damage behind the checkpoint: who meets it, who is told, how often, and what a SKIPPED record
 * lets readers pass over.
 */
#include "core/store/damage.h"

#include "core/base/mem.h"
#include "core/store/store.h"
#include "tests/lib/sim_disk.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define SEGMENT "log/00000000000000000000"

static struct disk *disk;
static struct test_store ts;

static void shut(void)
{
    test_store_close(&ts);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

#define RUN() ck_assert_msg(test_store_run(&ts) == 0, "%s", ts.err.text)

static void open_new(void)
{
    disk = sim_disk_new();
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
}

static void open_again(void)
{
    test_store_close(&ts);
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
}

static void checkpoint(void)
{
    RUN();
    ck_assert_int_eq(test_store_checkpoint(&ts, true), 0);
}

static void flip(const char *path, uint64_t at)
{
    uint8_t byte;

    ck_assert(sim_disk_peek(disk, path, at, &byte, 1));
    byte ^= 0x10;
    ck_assert(sim_disk_poke(disk, path, at, &byte, 1));
}

/* Five messages, "m0" to "m4", of one queue behind a checkpoint; their records. */
static void make_five(struct store_receipt r[5])
{
    open_new();
    for (int i = 0; i < 5; i++) {
        char body[16];
        (void)snprintf(body, sizeof body, "m%d", i);
        ck_assert_int_eq(test_send(&ts, "T", 0, body, &r[i]), 0);
    }
    checkpoint();
}

/* One pull with a fetch; the body's messages as text, "m0,m1" with where it goes on. */
static const char *pull_at(int64_t offset, int *rc)
{
    static char text[256];
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = offset, .count_max = 32, .bytes_max = 65536};
    struct store_pull_result res;
    struct store_fetch *fetch = store_fetch_new(ts.st);
    struct record_walk walk;
    struct record_view view;
    struct buf body;
    size_t len = 0;

    buf_init(&body, 0);
    while ((*rc = store_pull(ts.st, &req, fetch, &body, &res, &ts.err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    walk = (struct record_walk){.rest = buf_slice(&body)};
    while (*rc == 0 && record_walk_next(&walk, &view) == 1) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%.*s ", SLICE_ARGS(view.f.body));
    }
    (void)snprintf(text + len, sizeof text - len, "-> %lld", (long long)res.next_offset);
    store_fetch_free(&fetch);
    buf_fini(&body);
    return text;
}

static void skip(const char *topic, int64_t first, int64_t end)
{
    struct store_skip s = {.topic = slice_str(topic), .first = first, .end = end};
    struct store_receipt r;

    ck_assert_int_eq(store_append_skip(ts.st, &s, &r), 0);
    RUN();
}

START_TEST(a_pull_stops_at_damage_and_says_so_once)
{
    /* What is before it is delivered; the first reader is noted, all of them get the error. */
    struct store_receipt r[5];
    struct store_stats stats;
    int rc;

    make_five(r);
    flip(SEGMENT, r[2].offset + 60);
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 -> 2");
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_uint_eq(ts.damage_offset, r[2].offset);
    ck_assert_int_eq(ts.damage_queue_offset, 2);
    ck_assert_ptr_nonnull(strstr(ts.damage_text, SEGMENT " at offset "));
    for (int i = 0; i < 3; i++) {
        ck_assert_str_eq(pull_at(2, &rc), "-> 2");
        ck_assert_int_eq(rc, ESCROW_ECORRUPT);
        ck_assert_ptr_nonnull(strstr(ts.err.text, SEGMENT " at offset "));
    }
    ck_assert_str_eq(pull_at(3, &rc), "m3 m4 -> 5"); /* behind it everything is as before */
    ck_assert_uint_eq(ts.damage_count, 1);
    stats = store_stats(ts.st);
    ck_assert_uint_eq(stats.damaged, 1);
    ck_assert_uint_eq(stats.damaged_stops, 1);
    ck_assert(store_is_damaged(ts.st, r[2].offset));
    ck_assert(!store_is_damaged(ts.st, r[1].offset));
    shut();
}
END_TEST

START_TEST(every_byte_of_a_record_stops_a_pull_until_it_is_skipped)
{
    /* Envelope, payload, padding: nothing of the record is delivered, all others are. */
    struct store_receipt r[5];
    int rc;

    make_five(r);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    for (uint64_t at = r[2].offset; at < r[3].offset; at++) {
        for (int is_skipped = 0; is_skipped < 2; is_skipped++) {
            struct disk *whole = disk;
            disk = sim_disk_clone(whole);
            flip(SEGMENT, at);
            ck_assert_int_eq(test_store_open(&ts, disk, NULL), 0);
            if (is_skipped == 1) {
                skip("T", 2, 3);
                ck_assert_str_eq(pull_at(0, &rc), "m0 m1 m3 m4 -> 5");
                ck_assert_str_eq(pull_at(2, &rc), "m3 m4 -> 5");
            } else {
                ck_assert_str_eq(pull_at(0, &rc), "m0 m1 -> 2");
            }
            ck_assert_int_eq(rc, 0);
            ck_assert_uint_eq(ts.damage_count, 1);
            test_store_close(&ts);
            disk_free(&disk);
            disk = whole;
        }
    }
    shut();
}
END_TEST

START_TEST(a_skip_outlives_restarts_and_checkpoints)
{
    /* From the log's tail, from a checkpoint, and after both again. */
    struct store_receipt r[5];
    int rc;

    make_five(r);
    flip(SEGMENT, r[2].offset + 60);
    (void)pull_at(2, &rc);
    ck_assert_int_eq(rc, ESCROW_ECORRUPT);
    skip("T", 2, 3);
    ck_assert_uint_eq(store_stats(ts.st).damaged_stops, 0);
    ck_assert_uint_eq(store_stats(ts.st).skips, 1);
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 m3 m4 -> 5");
    open_again(); /* killed: the record is replayed */
    ck_assert_str_eq(pull_at(1, &rc), "m1 m3 m4 -> 5");
    checkpoint();
    open_again(); /* from the checkpoint */
    ck_assert_uint_eq(store_stats(ts.st).skips, 1);
    ck_assert_str_eq(pull_at(2, &rc), "m3 m4 -> 5");
    ck_assert_uint_eq(ts.damage_count, 1); /* a new process tells it again */
    shut();
}
END_TEST

START_TEST(the_last_record_before_the_checkpoint_may_be_damaged_too)
{
    /* The start knows it by its checksum, which it still says; without that the log is another. */
    struct store_receipt r;
    int rc;

    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "last", &r), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip(SEGMENT, r.offset + 60);
    ck_assert_msg(test_store_open(&ts, disk, NULL) == 0, "%s", ts.err.text);
    (void)pull_at(0, &rc);
    ck_assert_int_eq(rc, ESCROW_ECORRUPT);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip(SEGMENT, r.offset + 60);
    open_again(); /* a checkpoint of its own */
    ck_assert_str_eq(pull_at(0, &rc), "last -> 1");
    test_store_close(&ts);
    disk_free(&disk);
    open_new();
    ck_assert_int_eq(test_send(&ts, "T", 0, "last", &r), 0);
    ck_assert_int_eq(test_store_stop(&ts), 0);
    flip(SEGMENT, r.offset + 32);
    ck_assert_int_eq(test_store_open(&ts, disk, NULL), ESCROW_ECORRUPT);
    shut();
}
END_TEST

START_TEST(what_reads_well_inside_of_a_skip_is_delivered)
{
    /* A skip is a permission: when the file is put right nothing is lost by it. */
    struct store_receipt r[5];
    int rc;

    make_five(r);
    flip(SEGMENT, r[1].offset + 60);
    flip(SEGMENT, r[3].offset + 60);
    skip("T", 1, 4);
    ck_assert_str_eq(pull_at(0, &rc), "m0 m2 m4 -> 5");
    flip(SEGMENT, r[1].offset + 60);
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 m2 m4 -> 5");
    shut();
}
END_TEST

START_TEST(a_queue_that_ends_in_skipped_damage_is_read_to_its_end)
{
    /* Nothing to deliver is an answer that goes on, not an error. */
    struct store_receipt r[5];
    int rc;

    make_five(r);
    flip(SEGMENT, r[3].offset + 60);
    flip(SEGMENT, r[4].offset + 60);
    skip("T", 3, 5);
    ck_assert_str_eq(pull_at(3, &rc), "-> 5");
    ck_assert_int_eq(rc, 0);
    ck_assert_str_eq(pull_at(5, &rc), "-> 5");
    ck_assert_int_eq(rc, 0);
    shut();
}
END_TEST

START_TEST(an_entry_that_the_log_cannot_give_is_told_and_skipped_like_a_record)
{
    /* The queue's file is damaged, and the log where it could be rebuilt from. */
    struct store_receipt r[5];
    char path[64] = "queues/T/0/00000000000000000000";
    int rc;

    make_five(r);
    ck_assert_int_eq(test_send(&ts, "U", 0, "x", &r[0]), 0);
    checkpoint(); /* the queue was quiet: its entries go to its file */
    open_again();
    flip(path, 2 * 20 + 3);
    flip(SEGMENT, r[2].offset + 60);
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 -> 2");
    ck_assert_str_eq(pull_at(2, &rc), "-> 2");
    ck_assert_int_eq(rc, ESCROW_ECORRUPT);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_uint_eq(ts.damage_offset, UINT64_MAX);
    ck_assert_int_eq(ts.damage_queue_offset, 2);
    skip("T", 2, 3);
    ck_assert_str_eq(pull_at(2, &rc), "m3 m4 -> 5");
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 m3 m4 -> 5");
    shut();
}
END_TEST

START_TEST(a_piece_that_cannot_be_read_costs_one_message_and_not_its_neighbours)
{
    /* The device fails somewhere in what is read ahead: the record that cannot be read is found. */
    struct store_receipt r[5];
    struct store_pull_request req = {.topic = SLICE_LIT("T"), .count_max = 32, .bytes_max = 65536};
    struct store_pull_result res;
    struct store_fetch *fetch;
    struct buf body;
    int rc;

    make_five(r);
    sim_disk_set_cold(disk, true);
    fetch = store_fetch_new(ts.st);
    buf_init(&body, 0);
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EAGAIN);
    sim_disk_read_fault_at(disk, 1); /* all five at once */
    store_fetch_run(fetch);
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EAGAIN);
    store_fetch_run(fetch); /* the first one alone can be read */
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), 0);
    ck_assert_uint_eq(res.count, 1);
    ck_assert_int_eq(res.next_offset, 1);
    ck_assert_uint_eq(ts.damage_count, 0);
    buf_clear(&body);
    req.offset = 1;
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EAGAIN);
    sim_disk_read_fault_at(disk, 1); /* the second one alone cannot */
    store_fetch_run(fetch);
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EIO);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_uint_eq(ts.damage_offset, r[1].offset);
    sim_disk_set_cold(disk, false);
    skip("T", 1, 2);
    sim_disk_set_cold(disk, true);
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), ESCROW_EAGAIN);
    sim_disk_read_fault_at(disk, 1);
    store_fetch_run(fetch);
    ck_assert_int_eq(store_pull(ts.st, &req, fetch, &body, &res, &ts.err), 0);
    ck_assert_int_eq(res.status, STORE_PULL_NO_MATCH);
    ck_assert_int_eq(res.next_offset, 2);
    store_fetch_free(&fetch);
    buf_fini(&body);
    sim_disk_set_cold(disk, false);
    ck_assert_str_eq(pull_at(1, &rc), "m1 m2 m3 m4 -> 5"); /* it was the device, for a moment */
    shut();
}
END_TEST

START_TEST(a_segment_that_was_cut_short_stops_a_pull_at_its_end)
{
    /* Somebody truncated the file of a running store: what is left of it is delivered. */
    struct store_receipt r[5];
    int rc;

    make_five(r);
    ck_assert(sim_disk_cut(disk, SEGMENT, r[3].offset + 8));
    ck_assert_str_eq(pull_at(0, &rc), "m0 m1 m2 -> 3");
    ck_assert_str_eq(pull_at(3, &rc), "-> 3");
    ck_assert_int_eq(rc, ESCROW_ECORRUPT);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_uint_eq(ts.damage_offset, r[3].offset);
    shut();
}
END_TEST

START_TEST(a_half_that_is_damaged_is_told_when_it_is_read_and_when_it_is_committed)
{
    /* First by its place, then, when its commit gives it one, by its place in a queue. */
    struct test_message m = {.topic = "T", .body = SLICE_LIT("half"), .uniq = "H"};
    struct store_record rec;
    struct store_receipt half;
    struct store_receipt r;
    struct buf scratch;
    int rc;

    open_new();
    buf_init(&scratch, 0);
    ck_assert_int_eq(test_half(&ts, &m, &half), 0);
    checkpoint();
    flip(SEGMENT, half.offset); /* the magic: no record begins there */
    ck_assert_int_eq(store_read_record(ts.st, half.offset, NULL, &scratch, &rec, &ts.err),
                     ESCROW_ENOTFOUND); /* who names any offset is not believed */
    ck_assert_uint_eq(ts.damage_count, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(store_read_known(ts.st, half.offset, NULL, &scratch, &rec, &ts.err),
                         ESCROW_ECORRUPT);
        ck_assert_uint_eq(ts.damage_count, 1);
    }
    ck_assert_int_eq(ts.damage_queue_offset, -1);
    ck_assert_uint_eq(store_stats(ts.st).damaged_stops, 0);
    ck_assert_int_eq(test_decide(&ts, true, &half.offset, 1, &r), 0);
    RUN();
    ck_assert_uint_eq(ts.damage_count, 2);
    ck_assert_int_eq(ts.damage_queue_offset, 0);
    ck_assert_ptr_nonnull(strstr(ts.damage_text, SEGMENT));
    ck_assert_uint_eq(store_stats(ts.st).damaged, 1);
    ck_assert_uint_eq(store_stats(ts.st).damaged_stops, 1);
    (void)pull_at(0, &rc);
    ck_assert_int_eq(rc, ESCROW_ECORRUPT);
    ck_assert_uint_eq(ts.damage_count, 2);
    buf_fini(&scratch);
    shut();
}
END_TEST

START_TEST(look_ups_go_on_around_damage)
{
    /* By key the others are found; by time the search goes by the neighbours. */
    struct store_key_query query = {
        .topic = SLICE_LIT("T"), .key = SLICE_LIT("k"), .end_ms = INT64_MAX, .max = 8};
    struct test_message m = {.topic = "T", .body = SLICE_LIT("x"), .keys = "k"};
    struct store_queue_ref ref = {.topic = SLICE_LIT("T")};
    struct store_receipt r[3];
    struct store_fetch *fetch;
    uint64_t offsets[8];
    uint32_t count = 0;
    int64_t offset = -1;
    int rc;

    open_new();
    for (int i = 0; i < 3; i++) {
        ts.now_ms = 1000 + 100 * i;
        ck_assert_int_eq(test_append(&ts, STORE_MESSAGE, &m, &r[i]), 0);
    }
    checkpoint();
    flip(SEGMENT, r[1].offset + 60);
    fetch = store_fetch_new(ts.st);
    while ((rc = store_query_key(ts.st, &query, fetch, offsets, &count, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, 0);
    ck_assert_uint_eq(count, 2);
    ck_assert_uint_eq(offsets[0], r[2].offset);
    ck_assert_uint_eq(offsets[1], r[0].offset);
    ck_assert_uint_eq(ts.damage_count, 1);
    ck_assert_int_eq(store_offset_by_time(ts.st, &ref, 1200, fetch, &offset, &ts.err), 0);
    ck_assert_int_ge(offset, 1);
    ck_assert_int_le(offset, 2);
    store_fetch_free(&fetch);
    shut();
}
END_TEST

START_TEST(a_skip_needs_a_queue_that_has_the_entries)
{
    /* And there are so many ranges at most; neighbours become one. */
    struct store_receipt r[5];
    struct store_skip s = {.topic = SLICE_LIT("T"), .first = 0, .end = 6};
    uint64_t cursor = 0;

    make_five(r);
    ck_assert_int_eq(store_append_skip(ts.st, &s, &r[0]), ESCROW_ENOTFOUND);
    s.end = 0;
    ck_assert_int_eq(store_append_skip(ts.st, &s, &r[0]), ESCROW_ENOTFOUND);
    s = (struct store_skip){.topic = SLICE_LIT("U"), .end = 1};
    ck_assert_int_eq(store_append_skip(ts.st, &s, &r[0]), ESCROW_ENOTFOUND);
    s = (struct store_skip){.topic = SLICE_LIT("T"), .first = -1, .end = 1};
    ck_assert_int_eq(store_append_skip(ts.st, &s, &r[0]), ESCROW_ENOTFOUND);
    skip("T", 0, 1);
    skip("T", 3, 4);
    ck_assert_uint_eq(store_stats(ts.st).skips, 2);
    skip("T", 1, 3);
    ck_assert_uint_eq(store_stats(ts.st).skips, 1);
    ck_assert(store_skips_next(ts.st, &cursor, &s));
    ck_assert_int_eq(s.first, 0);
    ck_assert_int_eq(s.end, 4);
    ck_assert(!store_skips_next(ts.st, &cursor, &s));
    for (uint32_t i = 0; i < 2 * DAMAGE_SKIPS_MAX + 1; i++) {
        ck_assert_int_eq(test_send(&ts, "T", 1, "x", NULL), 0);
    }
    RUN();
    for (uint32_t i = 0; i < DAMAGE_SKIPS_MAX; i++) {
        int rc;
        s = (struct store_skip){
            .topic = SLICE_LIT("T"), .queue_id = 1, .first = 2 * i, .end = 2 * i + 1};
        rc = store_append_skip(ts.st, &s, &r[0]);
        ck_assert_int_eq(rc, i + 1 < DAMAGE_SKIPS_MAX ? 0 : ESCROW_ELIMIT);
    }
    RUN();
    checkpoint();
    open_again();
    ck_assert_uint_eq(store_stats(ts.st).skips, DAMAGE_SKIPS_MAX);
    shut();
}
END_TEST

START_TEST(places_and_skips_go_with_what_they_speak_of)
{
    /* Retention takes the messages: nothing stops there any more. */
    struct store_receipt r[5];
    struct store_segment row;
    int rc;

    make_five(r);
    flip(SEGMENT, r[2].offset + 60);
    flip(SEGMENT, r[3].offset + 60);
    (void)pull_at(0, &rc);
    skip("T", 3, 4);
    while (store_segments(ts.st, &row, 1) == 0) {
        static char big[60000];
        ck_assert_int_eq(test_send(&ts, "U", 0, memset(big, 'x', sizeof big - 1), NULL), 0);
        RUN();
    }
    ck_assert_uint_eq(store_stats(ts.st).damaged_stops, 1);
    ck_assert_int_eq(test_store_retain(&ts, STORE_SEGMENT_BYTES_MIN), 0);
    ck_assert_uint_eq(store_stats(ts.st).damaged_stops, 0);
    ck_assert_uint_eq(store_stats(ts.st).skips, 0);
    open_again();
    ck_assert_uint_eq(store_stats(ts.st).skips, 0);
    shut();
}
END_TEST

START_TEST(a_damaged_entry_keeps_its_queue_from_being_given_up_until_it_is_skipped)
{
    /* Nobody knows where it leads: it stays the first one of its queue. */
    struct store_queue_ref ref = {.topic = SLICE_LIT("T")};
    struct store_receipt r[5];
    struct store_segment row;
    int64_t min;
    int64_t max;

    for (int is_skipped = 0; is_skipped < 2; is_skipped++) {
        make_five(r);
        ck_assert_int_eq(test_send(&ts, "U", 0, "x", &r[0]), 0);
        checkpoint();
        flip("queues/T/0/00000000000000000000", 2 * 20 + 3);
        if (is_skipped == 1) {
            skip("T", 2, 3);
        }
        while (store_segments(ts.st, &row, 1) == 0) {
            static char big[60000];
            ck_assert_int_eq(test_send(&ts, "U", 0, memset(big, 'x', sizeof big - 1), NULL), 0);
            RUN();
        }
        ck_assert_int_eq(test_store_retain(&ts, STORE_SEGMENT_BYTES_MIN), 0);
        (void)store_queue_range(ts.st, &ref, &min, &max);
        ck_assert_int_eq(min, is_skipped == 1 ? 5 : 2);
        shut();
    }
}
END_TEST

START_TEST(only_so_many_places_are_remembered)
{
    /* A disk that is damaged all over does not fill the memory, nor the operator's log. */
    struct damage d = {.count = 0};
    struct damage_place place = {.error = ESCROW_ECORRUPT};

    for (uint32_t i = 0; i < DAMAGE_PLACES_MAX + 5; i++) {
        place.offset = 8 * i;
        ck_assert((damage_note(&d, &place, "text") != NULL) == (i < DAMAGE_PLACES_MAX));
    }
    ck_assert_uint_eq(d.met, DAMAGE_PLACES_MAX);
    damage_prune(&d, 8 * DAMAGE_PLACES_MAX - 8);
    ck_assert_uint_eq(d.count, 1);
    damage_fini(&d);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_skip_that_makes_no_sense_is_refused)
{
    /* Every shortening of the payload, and every field out of range. */
    struct skip_payload in = {.topic = SLICE_LIT("T"), .queue_id = 3, .first = 7, .end = 9};
    struct skip_payload out;
    struct slice rest;
    struct buf b;

    buf_init(&b, 0);
    skip_encode(&b, &in);
    rest = buf_slice(&b);
    ck_assert_int_eq(skip_decode(&rest, &out), 0);
    ck_assert_uint_eq(rest.len, 0);
    ck_assert(slice_eq_str(out.topic, "T") && out.queue_id == 3 && out.first == 7 && out.end == 9);
    for (size_t len = 0; len < b.len; len++) {
        rest = slice_of(b.ptr, len);
        ck_assert_int_eq(skip_decode(&rest, &out), ESCROW_ECORRUPT);
    }
    for (int i = 0; i < 4; i++) {
        struct skip_payload bad = in;
        bad.queue_id = i == 0 ? 1024 : 3;
        bad.end = i == 1 ? 7 : i == 2 ? QUEUE_NUMBER_MAX + 1 : 9;
        bad.topic = i == 3 ? SLICE_EMPTY : in.topic;
        buf_clear(&b);
        skip_encode(&b, &bad);
        rest = buf_slice(&b);
        ck_assert_int_eq(skip_decode(&rest, &out), ESCROW_ECORRUPT);
    }
    buf_fini(&b);
}
END_TEST

/* How many messages of T have this key. */
static uint32_t look_up(const char *key)
{
    struct store_key_query query = {.topic = SLICE_LIT("T"),
                                    .key = slice_str(key),
                                    .begin_ms = 0,
                                    .end_ms = INT64_MAX,
                                    .max = 8};
    struct store_fetch *fetch = store_fetch_new(ts.st);
    uint64_t offsets[8];
    uint32_t count = 0;
    int rc;

    while ((rc = store_query_key(ts.st, &query, fetch, offsets, &count, &ts.err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    ck_assert_int_eq(rc, 0);
    store_fetch_free(&fetch);
    return count;
}

START_TEST(a_damaged_page_of_the_key_index_is_told_and_built_again)
{
    /*
     * The first look-up that meets it is told, and counted: its file is given up, whose keys nobody
     * finds until the next start, which reads the log again. The memory's keys are found all along.
     */
    char path[64];
    char newest[16];
    uint64_t size = 0;
    uint32_t count;

    open_new();
    count = test_fill_index(&ts, "T", path);
    (void)snprintf(newest, sizeof newest, "%x", count - 1);
    ck_assert_uint_eq(look_up("77"), 1);
    ck_assert(sim_disk_file_size(disk, path, &size));
    for (uint64_t at = 4096; at < size; at += 4096) {
        flip(path, at);
    }
    ck_assert_uint_eq(ts.index_lost_count, 0);
    ck_assert_uint_eq(look_up("77"), 0);
    ck_assert_uint_eq(ts.index_lost_count, 1);
    ck_assert_msg(strstr(ts.index_lost_text, path) != NULL, "%s", ts.index_lost_text);
    ck_assert_ptr_nonnull(strstr(ts.index_lost_text, "checksum of a page does not match at byte"));
    ck_assert_uint_eq(look_up("78"), 0);
    ck_assert_uint_eq(look_up(newest), 1);
    ck_assert_uint_eq(ts.index_lost_count, 1);
    ck_assert_uint_eq(store_stats(ts.st).index_lost, 1);
    ck_assert_int_eq(test_store_checkpoint(&ts, false), 0); /* due: there is a file to unlink */
    ck_assert(!sim_disk_file_size(disk, path, &size));
    open_again();
    ck_assert_uint_eq(look_up("77"), 1);
    ck_assert_uint_eq(look_up("78"), 1);
    ck_assert_uint_eq(store_stats(ts.st).index_lost, 0);
    shut();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/damage");
    TCase *tc = tcase_create("damage");

    tcase_add_test(tc, a_pull_stops_at_damage_and_says_so_once);
    tcase_add_test(tc, a_damaged_page_of_the_key_index_is_told_and_built_again);
    tcase_add_test(tc, every_byte_of_a_record_stops_a_pull_until_it_is_skipped);
    tcase_add_test(tc, a_skip_outlives_restarts_and_checkpoints);
    tcase_add_test(tc, the_last_record_before_the_checkpoint_may_be_damaged_too);
    tcase_add_test(tc, what_reads_well_inside_of_a_skip_is_delivered);
    tcase_add_test(tc, a_queue_that_ends_in_skipped_damage_is_read_to_its_end);
    tcase_add_test(tc, an_entry_that_the_log_cannot_give_is_told_and_skipped_like_a_record);
    tcase_add_test(tc, a_piece_that_cannot_be_read_costs_one_message_and_not_its_neighbours);
    tcase_add_test(tc, a_segment_that_was_cut_short_stops_a_pull_at_its_end);
    tcase_add_test(tc, a_half_that_is_damaged_is_told_when_it_is_read_and_when_it_is_committed);
    tcase_add_test(tc, look_ups_go_on_around_damage);
    tcase_add_test(tc, a_skip_needs_a_queue_that_has_the_entries);
    tcase_add_test(tc, places_and_skips_go_with_what_they_speak_of);
    tcase_add_test(tc, a_damaged_entry_keeps_its_queue_from_being_given_up_until_it_is_skipped);
    tcase_add_test(tc, only_so_many_places_are_remembered);
    tcase_add_test(tc, a_skip_that_makes_no_sense_is_refused);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
