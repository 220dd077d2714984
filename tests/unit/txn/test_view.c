#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

static struct world w;

static void setup(void)
{
    struct txn_config config;

    world_config(&config);
    world_init(&w, &config, 1);
}

static void teardown(void)
{
    txn_check(w.t);
    world_fini(&w);
}

/* 100 halves: groups g0..g3, topics t0, t1, one second apart. */
static void populate(void)
{
    for (int i = 0; i < 100; i++) {
        char group[16];
        char topic[16];
        char id[16];
        (void)snprintf(group, sizeof group, "g%d", i % 4);
        (void)snprintf(topic, sizeof topic, "t%d", i % 2);
        (void)snprintf(id, sizeof id, "id%d", i);
        (void)world_half(&w, group, id, topic, NULL);
        world_pass(&w, 1000);
    }
    world_sync_some(&w, 90);
}

static size_t count_all(struct txn_filter filter, size_t page)
{
    struct txn_row rows[128];
    uint64_t cursor = 0;
    uint64_t last = 0;
    size_t n = 0;
    bool is_end = false;

    while (!is_end) {
        size_t got = txn_list(w.t, &filter, &cursor, rows, page, &is_end);
        for (size_t i = 0; i < got; i++) {
            ck_assert_uint_gt(rows[i].offset, last); /* oldest first, none twice */
            last = rows[i].offset;
        }
        n += got;
    }
    return n;
}

START_TEST(halves_are_listed_oldest_first_in_pages_of_any_size)
{
    /* Every half once. */
    populate();
    for (size_t page = 1; page <= 128; page += 9) {
        ck_assert_uint_eq(count_all((struct txn_filter){.states = 0}, page), 100);
    }
}
END_TEST

START_TEST(filters_narrow_the_list)
{
    /* Group, topic, state, age, and all of them together. */
    struct txn_filter f = {.states = 0};

    populate();
    f.group = SLICE_LIT("g2");
    ck_assert_uint_eq(count_all(f, 7), 25);
    f.topic = SLICE_LIT("t1");
    ck_assert_uint_eq(count_all(f, 7), 0); /* g2 sends to t0 only */
    f.topic = SLICE_LIT("t0");
    ck_assert_uint_eq(count_all(f, 7), 25);
    f = (struct txn_filter){.states = 1u << HALF_APPENDING};
    ck_assert_uint_eq(count_all(f, 7), 10);
    f.states = 1u << HALF_PREPARED | 1u << HALF_APPENDING;
    ck_assert_uint_eq(count_all(f, 7), 100);
    f = (struct txn_filter){.stored_before_ms = w.now.wall_ms - 50 * 1000};
    ck_assert_uint_eq(count_all(f, 7), 50);
    f.group = SLICE_LIT("nobody");
    ck_assert_uint_eq(count_all(f, 7), 0);
}
END_TEST

START_TEST(a_listing_goes_on_when_halves_are_decided_between_its_pages)
{
    /* Also the one at which the next page begins. */
    struct txn_filter all = {.states = 0};
    struct txn_row rows[10];
    uint64_t cursor = 0;
    size_t n = 0;
    bool is_end = false;

    populate();
    world_sync(&w);
    while (!is_end) {
        size_t got = txn_list(w.t, &all, &cursor, rows, 10, &is_end);
        n += got;
        if (!is_end) {
            (void)world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, cursor, NULL);
            world_sync(&w);
        }
    }
    ck_assert_uint_eq(n, 100 - 9);
}
END_TEST

START_TEST(one_call_looks_at_a_bounded_number_of_halves)
{
    /* A filter that nothing matches: several calls, each with an end. */
    struct txn_filter none = {.group = SLICE_LIT("nobody")};
    struct txn_half_info info = {.group = SLICE_LIT("g"),
                                 .topic = SLICE_LIT("x"),
                                 .immunity_ms = -1,
                                 .store_ms = w.now.wall_ms};
    struct txn_row row;
    uint64_t cursor = 0;
    size_t calls = 0;
    bool is_end = false;

    for (unsigned i = 0; i < 20000; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "%u", i);
        info.txn_id = slice_str(id);
        CHECK(txn_apply_half(w.t, &info, 4096 + 8 * i, w.now, NULL) == 0);
    }
    while (!is_end) {
        ck_assert_uint_eq(txn_list(w.t, &none, &cursor, &row, 1, &is_end), 0);
        calls++;
    }
    ck_assert_uint_ge(calls, 4);
    ck_assert_uint_le(calls, 20);
}
END_TEST

START_TEST(a_row_tells_what_is_known)
{
    /* State, names, queue, age, rounds, next check. */
    struct txn_row row;
    struct decided_fact fact;
    uint64_t offset = world_half(&w, "orders", "t", "paid", NULL);

    world_sync(&w);
    ck_assert(txn_find(w.t, offset, &row, &fact));
    ck_assert_uint_eq(row.offset, offset);
    ck_assert_uint_eq(row.size_bytes, 500);
    ck_assert_int_eq(row.state, HALF_PREPARED);
    ck_assert(slice_eq_str(row.group, "orders"));
    ck_assert(slice_eq_str(row.topic, "paid"));
    ck_assert_uint_eq(row.queue, offset / 1024 % 4);
    ck_assert_int_eq(row.store_ms, w.now.wall_ms);
    ck_assert_int_ge(row.next_check_ms, w.now.mono_ms + 6000);
    ck_assert_ptr_nonnull(world_next_ask(&w, 10000));
    ck_assert(txn_find(w.t, offset, &row, &fact));
    ck_assert_int_eq(row.state, HALF_CHECKING);
    ck_assert_int_eq(row.next_check_ms, 0);
    ck_assert(!txn_find(w.t, offset + 8, &row, &fact));
    ck_assert_int_eq(fact.kind, DECISION_NONE);
}
END_TEST

START_TEST(an_id_is_found_in_every_group_that_has_it)
{
    /* Undecided and decided, also when the group has nothing undecided any more. */
    struct txn_row rows[4];
    uint64_t a = world_half(&w, "ga", "same", "t", NULL);
    uint64_t b = world_half(&w, "gb", "same", "t", NULL);
    uint64_t c = world_half(&w, "gc", "same", "t", NULL);

    (void)world_half(&w, "gc", "other", "t", NULL);
    world_sync(&w);
    ck_assert_uint_eq(txn_find_id(w.t, SLICE_LIT("same"), rows, 4), 3);
    (void)world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "gb", b, NULL);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "gc", c, NULL);
    world_sync(&w);
    ck_assert_uint_eq(txn_find_id(w.t, SLICE_LIT("same"), rows, 4), 3);
    for (size_t i = 0; i < 3; i++) {
        bool is_a = slice_eq_str(rows[i].group, "ga");
        bool is_b = slice_eq_str(rows[i].group, "gb");
        ck_assert(is_a || is_b || slice_eq_str(rows[i].group, "gc"));
        ck_assert_uint_eq(rows[i].offset, is_a ? a : is_b ? b : c);
        ck_assert_int_eq(rows[i].state, is_a   ? HALF_PREPARED
                                        : is_b ? HALF_ROLLED_BACK
                                               : HALF_COMMITTED);
    }
    ck_assert_uint_eq(txn_find_id(w.t, SLICE_LIT("same"), rows, 2), 2);
    ck_assert_uint_eq(txn_find_id(w.t, SLICE_LIT("sam"), rows, 4), 0);
    ck_assert_uint_eq(txn_find_id(w.t, SLICE_EMPTY, rows, 4), 0);
}
END_TEST

START_TEST(the_horizon_is_the_oldest_undecided_half)
{
    /*
     * It moves when that one is decided; parked ones hold it (a person may still need the marker:
     * P10).
     */
    uint64_t a;
    uint64_t b;
    int64_t begin = w.now.wall_ms;

    ck_assert_int_eq(txn_horizon_ms(w.t, w.now), w.now.wall_ms);
    ck_assert_uint_eq(txn_oldest_offset(w.t), UINT64_MAX);
    a = world_half(&w, "g", "a", "x", NULL);
    world_pass(&w, 5000);
    b = world_half(&w, "g", "b", "x", NULL);
    world_pass(&w, 5000);
    ck_assert_int_eq(txn_horizon_ms(w.t, w.now), begin);
    ck_assert_uint_eq(txn_oldest_offset(w.t), a);
    world_sync(&w);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", a, "a");
    ck_assert_int_eq(txn_horizon_ms(w.t, w.now), begin); /* not durable yet */
    ck_assert_uint_eq(txn_oldest_offset(w.t), a);
    world_sync(&w);
    ck_assert_int_eq(txn_horizon_ms(w.t, w.now), begin + 5000);
    ck_assert_uint_eq(txn_oldest_offset(w.t), b);
    w.now.wall_ms -= 3600000; /* a clock that jumped back: the half is as old as it says */
    ck_assert_int_eq(txn_horizon_ms(w.t, w.now), begin + 5000);
}
END_TEST

START_TEST(gauges_and_counters_follow)
{
    /* By state, in all, per group; counters since the start. */
    struct txn_gauges g;

    populate();
    txn_gauges(w.t, &g);
    ck_assert_uint_eq(g.halves, 100);
    ck_assert_uint_eq(g.by_state[HALF_APPENDING], 10);
    ck_assert_uint_eq(g.by_state[HALF_PREPARED], 90);
    ck_assert_uint_eq(g.groups, 4);
    ck_assert_uint_eq(g.asking, 0);
    ck_assert_uint_gt(g.bytes_halves, 100 * 80);
    ck_assert_uint_gt(g.bytes_decided, 0);
    (void)world_end(&w, DECISION_ROLLBACK, DECISION_BY_OPERATOR, NULL, 4096, NULL);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, 4096, NULL);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, 4097, NULL);
    world_sync(&w);
    txn_gauges(w.t, &g);
    ck_assert_uint_eq(g.decided, 1);
    ck_assert_uint_eq(txn_counters(w.t)->halves_accepted, 100);
    ck_assert_uint_eq(txn_counters(w.t)->rolled_back, 1);
    ck_assert_uint_eq(txn_counters(w.t)->decisions_refused, 1);
    ck_assert_uint_eq(txn_counters(w.t)->decisions_not_found, 1);
    txn_counters_reset(w.t);
    ck_assert_uint_eq(txn_counters(w.t)->halves_accepted, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/view");
    TCase *tc = tcase_create("view");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, halves_are_listed_oldest_first_in_pages_of_any_size);
    tcase_add_test(tc, filters_narrow_the_list);
    tcase_add_test(tc, a_listing_goes_on_when_halves_are_decided_between_its_pages);
    tcase_add_test(tc, one_call_looks_at_a_bounded_number_of_halves);
    tcase_add_test(tc, a_row_tells_what_is_known);
    tcase_add_test(tc, an_id_is_found_in_every_group_that_has_it);
    tcase_add_test(tc, the_horizon_is_the_oldest_undecided_half);
    tcase_add_test(tc, gauges_and_counters_follow);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
