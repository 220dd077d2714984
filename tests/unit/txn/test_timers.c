#include "txn/timers.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

#define START_MS INT64_C(1700000000000)

static struct timers *t;
static struct txn_now now;
static struct timers_update u;
static struct buf released; /* offsets that apply has shown, "8 16 24 " */

static void setup(void)
{
    struct timers_config config = {.held_max = 100000};

    now = (struct txn_now){.mono_ms = 5000, .wall_ms = START_MS};
    ck_assert_int_eq(timers_new(&config, 7, now, &t), 0);
    timers_recovered(t, now);
    timers_update_init(&u);
    buf_init(&released, 0);
}

static void teardown(void)
{
    timers_check(t);
    timers_free(t);
    timers_update_fini(&u);
    buf_fini(&released);
}

static void pass(int64_t ms)
{
    now.mono_ms += ms;
    now.wall_ms += ms;
}

static struct timer_info info_of(int64_t delay_ms, bool is_relative)
{
    return (struct timer_info){.topic = SLICE_LIT("orders"),
                               .queue = 3,
                               .size_bytes = 120,
                               .tag_hash = -5,
                               .store_ms = now.wall_ms,
                               .due_ms = now.wall_ms + delay_ms,
                               .is_relative = is_relative};
}

/* One message through append and apply. */
static void hold(uint64_t offset, const struct timer_info *info)
{
    ck_assert_int_eq(timers_accept(t, info), 0);
    timers_appended(t, info, offset, now);
    ck_assert_int_eq(timers_apply_message(t, info, offset, NULL), 0);
}

static void hold_for(uint64_t offset, int64_t delay_ms)
{
    struct timer_info info = info_of(delay_ms, true);

    hold(offset, &info);
}

static int on_release(void *arg, const struct release_entry *entry)
{
    (void)arg;
    buf_append_fmt(&released, "%llu ", (unsigned long long)entry->offset);
    return 0;
}

/* What goes out now, in order. */
static const char *due_now(void)
{
    static char text[4096];

    buf_clear(&released);
    do {
        ck_assert_int_eq(timers_tick(t, now, &u), 0);
        if (u.payload.len > 0) {
            timers_release_appended(t);
            ck_assert_int_eq(timers_apply_release(t, buf_slice(&u.payload), on_release, NULL, NULL),
                             0);
        }
    } while (u.more);
    return slice_to_cstr(buf_slice(&released), text, sizeof text);
}

START_TEST(a_message_goes_out_when_it_is_due_and_not_before)
{
    /* By the millisecond, at the time timers_next_ms names, once. */
    hold_for(8, 1000);
    ck_assert_int_eq(timers_next_ms(t, now), now.mono_ms + 1000);
    pass(999);
    ck_assert_str_eq(due_now(), "");
    pass(1);
    ck_assert_str_eq(due_now(), "8 ");
    ck_assert_str_eq(due_now(), "");
    ck_assert_int_eq(timers_next_ms(t, now), INT64_MAX);
    ck_assert_uint_eq(timers_reserve_bytes(t), 0);
    ck_assert_uint_eq(timers_counters(t)->held_released, 1);
}
END_TEST

START_TEST(equal_times_go_out_in_the_order_of_the_log)
{
    /* Messages of one queue with one delay keep their order; others come by their time. */
    hold_for(8, 1000);
    hold_for(16, 500);
    hold_for(24, 1000);
    hold_for(32, 0);
    hold_for(40, 1000);
    pass(2000);
    ck_assert_str_eq(due_now(), "32 16 8 24 40 ");
}
END_TEST

START_TEST(clocks_that_tick_apart_do_not_change_the_order)
{
    /*
     * Milliseconds of the two clocks begin at different moments: their difference flickers by one.
     */
    for (uint64_t i = 1; i <= 20; i++) {
        hold_for(i * 8, 1000);
        now.mono_ms += (int64_t)(i % 2);
        now.wall_ms += (int64_t)((i + 1) % 2);
    }
    pass(2000);
    ck_assert_str_eq(due_now(),
                     "8 16 24 32 40 48 56 64 72 80 88 96 104 112 120 128 136 144 152 160 ");
}
END_TEST

START_TEST(what_recovery_reads_is_due_by_the_wall_clock)
{
    /* And keeps its order, although the clocks run on while it reads. */
    struct timers_config config = {.held_max = 100};
    struct timer_info half = info_of(100, true);

    timers_free(t);
    ck_assert_int_eq(timers_new(&config, 7, now, &t), 0);
    for (uint64_t i = 1; i <= 5; i++) {
        struct timer_info info = {.topic = SLICE_LIT("orders"),
                                  .size_bytes = 120,
                                  .store_ms = START_MS,
                                  .due_ms = START_MS + 1000 - (int64_t)i,
                                  .is_relative = i % 2 == 0};
        ck_assert_int_eq(timers_apply_message(t, &info, i * 8, NULL), 0);
        now.mono_ms += 3;
        now.wall_ms += 3 + (int64_t)(i % 2);
    }
    half.is_half = true;
    ck_assert_int_eq(timers_apply_message(t, &half, 48, NULL), 0);
    ck_assert_int_eq(timers_apply_decided(t, 48, true, START_MS + 895, now, NULL), 0);
    timers_recovered(t, now);
    pass(START_MS + 994 - now.wall_ms);
    ck_assert_str_eq(due_now(), "");
    pass(10);
    ck_assert_str_eq(due_now(), "40 48 32 24 16 8 ");
}
END_TEST

START_TEST(many_overdue_messages_go_out_in_order_over_several_records)
{
    /* 1024 in a record; `more` says that the next one is due. */
    uint64_t last = 0;
    size_t rounds = 0;

    for (uint64_t i = 1; i <= 2500; i++) {
        hold_for(i * 8, (int64_t)(i / 100));
    }
    pass(100);
    do {
        struct release_head head;
        struct release_iter iter;
        struct release_entry entry;

        ck_assert_int_eq(timers_tick(t, now, &u), 0);
        ck_assert_int_eq(release_decode(buf_slice(&u.payload), &head, &iter), 0);
        ck_assert_uint_eq(u.count, head.count);
        ck_assert_uint_le(u.payload.len + ENVELOPE_SIZE, head.count * store_release_reserve(6));
        while (release_next(&iter, &entry)) {
            ck_assert_uint_eq(entry.offset, last + 8);
            last = entry.offset;
        }
        timers_release_appended(t);
        rounds++;
    } while (u.more);
    ck_assert_uint_eq(last, 2500 * 8);
    ck_assert_uint_eq(rounds, 3);
}
END_TEST

START_TEST(a_release_that_is_refused_is_proposed_again)
{
    /* Nothing has moved; and a proposal nobody settled counts as refused. */
    const char *want = "8 ";

    hold_for(8, 10);
    pass(10);
    ck_assert_int_eq(timers_tick(t, now, &u), 0);
    ck_assert_uint_eq(u.count, 1);
    timers_release_refused(t);
    timers_check(t);
    ck_assert_int_eq(timers_tick(t, now, &u), 0);
    ck_assert_uint_eq(u.count, 1);
    ck_assert_str_eq(due_now(), want);
}
END_TEST

START_TEST(a_release_in_flight_is_not_made_twice)
{
    /* Appended and not yet durable: no longer due, its room in the log is used. */
    hold_for(8, 10);
    pass(10);
    ck_assert_int_eq(timers_tick(t, now, &u), 0);
    timers_release_appended(t);
    ck_assert_uint_eq(timers_reserve_bytes(t), 0);
    ck_assert_str_eq(due_now(), "");
    ck_assert_int_eq(timers_recall(t, 8, SLICE_LIT("orders"), now, &u), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(a_delay_does_not_follow_the_wall_clock)
{
    /* The clock is set an hour back, then two forward: the delay is as long as it was. */
    hold_for(8, 10000);
    pass(1000);
    now.wall_ms -= 3600000;
    ck_assert_int_eq(timers_next_ms(t, now), now.mono_ms + 9000);
    hold_for(16, 1000);
    pass(1000);
    ck_assert_str_eq(due_now(), "16 ");
    now.wall_ms += 7200000;
    ck_assert_str_eq(due_now(), "");
    pass(7999);
    ck_assert_str_eq(due_now(), "");
    pass(1);
    ck_assert_str_eq(due_now(), "8 ");
}
END_TEST

START_TEST(a_time_of_day_follows_the_wall_clock)
{
    /* Set back: not before the clock says so. Set forward: seen within a second. */
    struct timer_info info = info_of(10000, false);

    hold(8, &info);
    now.wall_ms -= 5000;
    pass(14999);
    ck_assert_str_eq(due_now(), "");
    pass(1);
    ck_assert_str_eq(due_now(), "8 ");
    info = info_of(3600000, false);
    hold(16, &info);
    ck_assert_int_le(timers_next_ms(t, now), now.mono_ms + 1000);
    now.wall_ms += 3600000;
    ck_assert_str_eq(due_now(), "16 ");
}
END_TEST

START_TEST(the_delay_of_a_half_begins_with_its_commit)
{
    /* A time of day stays what it is; a rolled back half is forgotten. */
    struct timer_info delayed = info_of(1000, true);
    struct timer_info timed = info_of(1000, false);

    delayed.is_half = true;
    timed.is_half = true;
    hold(8, &delayed);
    hold(16, &timed);
    hold(24, &delayed);
    pass(5000);
    ck_assert_str_eq(due_now(), "");
    ck_assert_int_eq(timers_apply_decided(t, 8, true, now.wall_ms, now, NULL), 0);
    ck_assert_int_eq(timers_apply_decided(t, 16, true, now.wall_ms, now, NULL), 0);
    ck_assert_int_eq(timers_apply_decided(t, 24, false, now.wall_ms, now, NULL), 0);
    ck_assert_int_eq(timers_apply_decided(t, 24, true, now.wall_ms, now, NULL), ESCROW_ECORRUPT);
    ck_assert_str_eq(due_now(), "16 ");
    pass(999);
    ck_assert_str_eq(due_now(), "");
    pass(1);
    ck_assert_str_eq(due_now(), "8 ");
}
END_TEST

START_TEST(a_recalled_message_never_goes_out)
{
    /* Named by offset and topic; while it waits, and no longer. */
    hold_for(8, 1000);
    ck_assert_int_eq(timers_recall(t, 8, SLICE_LIT("other"), now, &u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(timers_recall(t, 16, SLICE_LIT("orders"), now, &u), ESCROW_ENOTFOUND);
    ck_assert_int_eq(timers_recall(t, 8, SLICE_LIT("orders"), now, &u), 0);
    ck_assert_uint_eq(u.count, 0);
    timers_release_appended(t);
    ck_assert_int_eq(timers_apply_release(t, buf_slice(&u.payload), on_release, NULL, NULL), 0);
    ck_assert_uint_eq(timers_counters(t)->held_recalled, 1);
    pass(5000);
    ck_assert_str_eq(due_now(), "");
}
END_TEST

START_TEST(too_many_are_refused_before_anything_is_written)
{
    /* The limit counts what is in flight; a refusal leaves no trace. */
    struct timers_config config = {.held_max = 2};
    struct timer_info info = info_of(10, true);
    struct timers *small;

    ck_assert_int_eq(timers_new(&config, 1, now, &small), 0);
    for (uint64_t i = 1; i <= 2; i++) {
        ck_assert_int_eq(timers_accept(small, &info), 0);
        timers_appended(small, &info, i * 8, now);
    }
    ck_assert_int_eq(timers_accept(small, &info), ESCROW_ELIMIT);
    ck_assert_uint_eq(timers_counters(small)->held_refused, 1);
    info.topic = SLICE_EMPTY;
    ck_assert_int_eq(timers_accept(small, &info), ESCROW_EINVAL);
    timers_check(small);
    timers_free(small);
}
END_TEST

START_TEST(a_release_that_contradicts_the_table_is_corrupt)
{
    /* Malformed, unknown, named twice, another size: nothing has changed. */
    struct release_head head = {.kind = RELEASE_DUE, .count = 2, .at_ms = 1};
    struct release_entry entry = {
        .offset = 8, .size_bytes = 120, .queue = 3, .topic = SLICE_LIT("orders")};
    struct err_ctx err = {.code = 0};
    struct buf b;

    hold_for(8, 1000);
    buf_init(&b, 0);
    release_encode_head(&b, &head);
    release_encode_entry(&b, RELEASE_DUE, &entry);
    release_encode_entry(&b, RELEASE_DUE, &entry);
    ck_assert_int_eq(timers_apply_release(t, buf_slice(&b), on_release, NULL, &err),
                     ESCROW_ECORRUPT);
    ck_assert_int_eq(timers_apply_release(t, slice_of(b.ptr, b.len - 1), on_release, NULL, &err),
                     ESCROW_ECORRUPT);
    head.count = 1;
    entry.size_bytes++;
    buf_clear(&b);
    release_encode_head(&b, &head);
    release_encode_entry(&b, RELEASE_DUE, &entry);
    ck_assert_int_eq(timers_apply_release(t, buf_slice(&b), on_release, NULL, &err),
                     ESCROW_ECORRUPT);
    buf_fini(&b);
    pass(1000);
    ck_assert_str_eq(due_now(), "8 ");
}
END_TEST

START_TEST(what_a_record_says_is_what_the_request_said)
{
    /* Topic, queue, tag, times; a delay is told from a time of day by its property. */
    static const struct {
        const char *name;
        bool is_relative;
    } cases[] = {{"TIMER_DELAY_SEC", true}, {"TIMER_DELIVER_MS", false}, {"KEYS", true}};
    static const uint8_t ip[4] = {127, 0, 0, 1};

    for (size_t i = 0; i < 3; i++) {
        uint8_t props[256];
        uint8_t record[1024];
        struct props_writer w;
        struct timer_info info;
        struct record_fields f = {.queue_id = 3,
                                  .store_ms = START_MS,
                                  .born_host = record_host_ipv4(ip, 1),
                                  .store_host = record_host_ipv4(ip, 2),
                                  .body = SLICE_LIT("b"),
                                  .topic = SLICE_LIT("orders")};
        size_t size;

        props_writer_init(&w, props, sizeof props);
        props_put(&w, slice_str(cases[i].name), SLICE_LIT("7"));
        f.properties = slice_of(w.ptr, w.len);
        size = record_encode(record, &f);
        ck_assert_int_eq(timer_info_decode(slice_of(record, size), false, &info), ESCROW_ENOTFOUND);
        props_put_i64(&w, SLICE_LIT("TIMER_OUT_MS"), START_MS + 7);
        f.properties = slice_of(w.ptr, w.len);
        size = record_encode(record, &f);
        ck_assert_int_eq(timer_info_decode(slice_of(record, size), true, &info), 0);
        ck_assert(slice_eq_str(info.topic, "orders") && info.queue == 3 && info.is_half);
        ck_assert_int_eq(info.due_ms, START_MS + 7);
        ck_assert_int_eq(info.is_relative, cases[i].is_relative);
        ck_assert_uint_eq(info.size_bytes, size);
        ck_assert_int_eq(timer_info_decode(slice_of(record, 20), true, &info), ESCROW_EPROTO);
    }
}
END_TEST

START_TEST(the_document_has_exactly_the_moves_of_the_table)
{
    /* STATES.md, "Held: moves", against HELD_STATES. */
    FILE *f = fopen(ESCROW_SOURCE_DIR "/txn/STATES.md", "r");
    uint64_t moves[HELD_STATE_COUNT] = {0};
    char line[1024];
    bool is_in_table = false;

    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f) != NULL) {
        if (strncmp(line, "## ", 3) == 0) {
            is_in_table = strncmp(line, "## Held: moves", 14) == 0;
        }
        for (int a = 0; is_in_table && a < HELD_STATE_COUNT; a++) {
            for (int b = 0; b < HELD_STATE_COUNT; b++) {
                char row[64];
                int len = snprintf(row, sizeof row, "| %s | %s |", sm_name(&held_sm, a),
                                   sm_name(&held_sm, b));
                if (strncmp(line, row, (size_t)len) == 0) {
                    moves[a] |= SM_BIT(b);
                }
            }
        }
    }
    ck_assert_int_eq(fclose(f), 0);
    for (int s = 0; s < HELD_STATE_COUNT; s++) {
        ck_assert_uint_eq(moves[s], held_sm.states[s].next);
    }
}
END_TEST

START_TEST(a_million_take_no_more_than_promised)
{
    /* timers.h: at most 64 bytes each, measured. */
    struct timers_config config = {.held_max = 2000000};
    struct timer_info info = info_of(10, true);
    struct timers_gauges gauges;
    struct timers *big;
    struct rand rand;

    rand_init(&rand, 1);
    ck_assert_int_eq(timers_new(&config, 1, now, &big), 0);
    for (uint64_t i = 1; i <= 1000000; i++) {
        info.due_ms = START_MS + (int64_t)rand_below(&rand, 1000000);
        CHECK(timers_accept(big, &info) == 0);
        timers_appended(big, &info, i * 8, now);
        CHECK(timers_apply_message(big, &info, i * 8, NULL) == 0);
    }
    timers_gauges(big, now, &gauges);
    ck_assert_uint_eq(gauges.held, 1000000);
    ck_assert_uint_eq(timers_oldest_from(big, 0), 8);
    ck_assert_msg(gauges.bytes <= 57 * UINT64_C(1000000), "%zu bytes", gauges.bytes);
    timers_free(big);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/timers");
    TCase *tc = tcase_create("timers");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_message_goes_out_when_it_is_due_and_not_before);
    tcase_add_test(tc, equal_times_go_out_in_the_order_of_the_log);
    tcase_add_test(tc, clocks_that_tick_apart_do_not_change_the_order);
    tcase_add_test(tc, what_recovery_reads_is_due_by_the_wall_clock);
    tcase_add_test(tc, many_overdue_messages_go_out_in_order_over_several_records);
    tcase_add_test(tc, a_release_that_is_refused_is_proposed_again);
    tcase_add_test(tc, a_release_in_flight_is_not_made_twice);
    tcase_add_test(tc, a_delay_does_not_follow_the_wall_clock);
    tcase_add_test(tc, a_time_of_day_follows_the_wall_clock);
    tcase_add_test(tc, the_delay_of_a_half_begins_with_its_commit);
    tcase_add_test(tc, a_recalled_message_never_goes_out);
    tcase_add_test(tc, too_many_are_refused_before_anything_is_written);
    tcase_add_test(tc, a_release_that_contradicts_the_table_is_corrupt);
    tcase_add_test(tc, what_a_record_says_is_what_the_request_said);
    tcase_add_test(tc, the_document_has_exactly_the_moves_of_the_table);
    tcase_add_test(tc, a_million_take_no_more_than_promised);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
