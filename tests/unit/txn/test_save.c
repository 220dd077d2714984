#include "tests/unit/txn/world.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/check_back.h"

#include <stdio.h>
#include <string.h>

static struct world w;

static void setup(void)
{
    struct txn_config config;

    world_config(&config);
    config.checks_max = 1;
    world_init(&w, &config, 1);
}

static void teardown(void)
{
    txn_check(w.t);
    world_fini(&w);
}

/*
 * One half in each state that there is, several groups and topics; returns how many are undecided
 * and durable.
 */
static size_t populate(void)
{
    uint64_t a = world_half(&w, "g1", "expired", "t1", NULL);
    uint64_t b;
    uint64_t c;

    world_sync(&w);
    ck_assert_ptr_nonnull(world_next_ask(&w, 100000));
    ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
    ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
    world_sync(&w);
    (void)world_tick(&w);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, a), HALF_EXPIRED);
    b = world_half(&w, "g2", "checking", "t2", NULL);
    c = world_half(&w, "g1", "committed", "t1", NULL);
    world_sync(&w);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g1", c, "committed");
    world_sync(&w);
    ck_assert_ptr_nonnull(world_next_ask(&w, 100000));
    ck_assert_int_eq(world_state(&w, b), HALF_CHECKING);
    (void)world_half(&w, "g3", "prepared", "t2", NULL);
    c = world_half(&w, "g1", "rolling back", "t3", NULL);
    world_sync(&w);
    (void)world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "g1", c, NULL);
    (void)world_half(&w, "g4", "appending", "t4", NULL);
    c = world_half(&w, "g4", "committing before durable", "t4", NULL);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g4", c, NULL);
    return 4;
}

static int load(struct slice section, struct txn_now now, struct txn **out)
{
    struct err_ctx err = {0};
    int rc;

    ck_assert_int_eq(txn_new(&w.config, 99, now, out), 0);
    rc = txn_load(*out, section, now, &err);
    ck_assert_int_eq(err.code, rc);
    ck_assert_int_eq(err.text[0] != '\0', rc != 0);
    return rc;
}

START_TEST(a_checkpoint_holds_what_is_durable_and_nothing_that_is_in_flight)
{
    /* Loaded elsewhere: the same halves, decided ones remembered, -ING states undone. */
    size_t durable = populate();
    struct txn_filter all = {.states = 0};
    struct txn_row rows[10];
    struct decided_fact fact;
    struct txn *copy;
    uint64_t cursor = 0;
    bool is_end = false;

    world_checkpoint(&w);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), 0);
    txn_check(copy);
    ck_assert_uint_eq(txn_list(copy, &all, &cursor, rows, 10, &is_end), durable);
    ck_assert_int_eq(rows[0].state, HALF_EXPIRED);
    ck_assert_uint_eq(rows[0].checks, 1);
    ck_assert_int_eq(rows[1].state, HALF_PREPARED); /* was CHECKING */
    ck_assert_int_eq(rows[2].state, HALF_PREPARED);
    ck_assert_int_eq(rows[3].state, HALF_PREPARED); /* was ROLLING_BACK */
    ck_assert(slice_eq_str(rows[3].group, "g1"));
    ck_assert(slice_eq_str(rows[3].topic, "t3"));
    ck_assert(!txn_find(copy, 4096 + 4 * 1024, rows, &fact));
    ck_assert_int_eq(fact.kind, DECISION_COMMIT);
    txn_free(copy);
}
END_TEST

START_TEST(duplicates_are_recognised_after_a_restart_from_a_checkpoint)
{
    /* Ids are kept as keyed hashes: the key is in the checkpoint. */
    struct txn_prepare_result result;

    (void)populate();
    world_sync(&w);
    world_checkpoint(&w);
    world_crash(&w, 0, 1000);
    (void)world_half(&w, "g3", "prepared", "t2", &result);
    ck_assert_int_eq(result.verdict, TXN_DUPLICATE);
    (void)world_half(&w, "g1", "committed", "t1", &result);
    ck_assert_int_eq(result.verdict, TXN_DECIDED);
    (void)world_half(&w, "g1", "prepared", "t2", &result);
    ck_assert_int_eq(result.verdict, TXN_NEW);
}
END_TEST

START_TEST(a_wait_goes_on_where_the_checkpoint_left_it)
{
    /*
     * 20 s of 60 had passed, 10 more while the broker was down: 30 are left. A clock that jumped
     * back adds nothing.
     */
    static const int64_t down[] = {10000, -3600000, 3600000};
    static const int64_t left[] = {30000, 40000, 0};
    struct txn_half_info info = {.group = SLICE_LIT("g"),
                                 .txn_id = SLICE_LIT("t"),
                                 .topic = SLICE_LIT("x"),
                                 .store_ms = w.now.wall_ms,
                                 .immunity_ms = 60000};
    struct buf section;

    buf_init(&section, 0);
    ck_assert_int_eq(txn_apply_half(w.t, &info, 4096, w.now, NULL), 0);
    world_pass(&w, 20000);
    txn_save(w.t, w.now, &section);
    ck_assert_int_eq(txn_save_more(w.t, section.ptr, UINT32_MAX), 0);
    for (int i = 0; i < 3; i++) {
        struct txn_now now = {.mono_ms = 77, .wall_ms = w.now.wall_ms + down[i]};
        struct txn_row row;
        struct decided_fact fact;
        struct txn *copy;
        ck_assert_int_eq(load(buf_slice(&section), now, &copy), 0);
        ck_assert(txn_find(copy, 4096, &row, &fact));
        ck_assert_int_ge(row.next_check_ms, now.mono_ms + left[i]);
        ck_assert_int_le(row.next_check_ms, now.mono_ms + left[i] + 2 * CHECK_BACK_TICK_MS);
        txn_free(copy);
    }
    buf_fini(&section);
}
END_TEST

START_TEST(the_half_that_comes_next_may_go_and_its_slot_be_used_again)
{
    /* One is written; the one behind it is decided, and a new half takes its place in memory. */
    uint64_t second;

    (void)world_half(&w, "g", "1", "t", NULL);
    second = world_half(&w, "g", "2", "t", NULL);
    (void)world_half(&w, "g", "3", "t", NULL);
    world_sync(&w);
    ck_assert(!world_save_some(&w, 1));
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "g", second, "2");
    world_sync(&w);
    (void)world_half(&w, "g", "4", "t", NULL);
    world_sync(&w);
    ck_assert(world_save_some(&w, 10)); /* compares */
    world_crash(&w, 0, 1000);
    ck_assert_int_eq(world_state(&w, second), HALF_COMMITTED); /* read again */
}
END_TEST

START_TEST(an_empty_store_is_saved_and_loaded)
{
    /* The smallest section. */
    struct txn *copy;

    world_checkpoint(&w);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), 0);
    txn_check(copy);
    txn_free(copy);
}
END_TEST

START_TEST(every_shorter_or_longer_section_is_corrupt)
{
    /* Cut at each length, and one byte more. */
    struct txn *copy;

    (void)populate();
    world_checkpoint(&w);
    for (size_t len = 0; len < w.checkpoint.len; len++) {
        uint8_t *exact = mem_alloc(len);
        ck_assert_ptr_nonnull(exact);
        memcpy(exact, w.checkpoint.ptr, len);
        if (load(slice_of(exact, len), w.now, &copy) != ESCROW_ECORRUPT) {
            ck_abort_msg("cut at %zu of %zu was accepted", len, w.checkpoint.len);
        }
        txn_free(copy);
        mem_free(exact);
    }
    buf_append_u8(&w.checkpoint, 0);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), ESCROW_ECORRUPT);
    txn_free(copy);
}
END_TEST

START_TEST(a_half_that_is_open_and_decided_is_corrupt)
{
    /* The offset of an open half, written over that of a decided one. */
    uint64_t open = world_half(&w, "g", "open", "x", NULL);
    uint64_t done = world_half(&w, "g", "done", "x", NULL);
    struct txn *copy;
    unsigned changed = 0;

    world_sync(&w);
    (void)world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, done, NULL);
    world_sync(&w);
    world_checkpoint(&w);
    for (size_t i = 0; i + 8 <= w.checkpoint.len; i++) {
        if (get_le64(w.checkpoint.ptr + i) == done) {
            put_le64(w.checkpoint.ptr + i, open);
            changed++;
        }
    }
    ck_assert_uint_eq(changed, 1);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), ESCROW_ECORRUPT);
    txn_free(copy);
}
END_TEST

START_TEST(a_section_of_another_version_is_refused_as_such)
{
    /* Not as corruption: the operator is told what it is. */
    struct txn *copy;

    world_checkpoint(&w);
    put_le32(w.checkpoint.ptr, 4);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), ESCROW_EVERSION);
    txn_free(copy);
}
END_TEST

START_TEST(an_id_alone_is_found_after_a_restart_from_a_checkpoint)
{
    /* The group of a decided half is known by its name, which the checkpoint keeps since 3. */
    struct txn_row rows[4];
    struct txn *copy;

    (void)populate();
    world_checkpoint(&w);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), 0);
    ck_assert_uint_eq(txn_find_id(copy, SLICE_LIT("committed"), rows, 4), 1);
    ck_assert_int_eq(rows[0].state, HALF_COMMITTED);
    ck_assert(slice_eq_str(rows[0].group, "g1"));
    txn_free(copy);
}
END_TEST

START_TEST(a_section_of_version_2_is_loaded)
{
    /* It ends behind what was decided. */
    struct txn *copy;

    (void)populate();
    world_checkpoint(&w);
    put_le32(w.checkpoint.ptr, 2);
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), ESCROW_ECORRUPT);
    txn_free(copy);
    w.checkpoint.len -= 4 + 3; /* one name: g1 */
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), 0);
    txn_check(copy);
    txn_free(copy);
}
END_TEST

START_TEST(changed_bytes_are_refused_or_make_a_consistent_store)
{
    /*
     * The checkpoint has a checksum of its own; even without it nothing may crash or break an
     * invariant.
     */
    struct rand rand;
    struct buf section;
    unsigned refused = 0;

    rand_init(&rand, (uint64_t)_i);
    (void)populate();
    world_checkpoint(&w);
    buf_init(&section, 0);
    for (int i = 0; i < 1500; i++) {
        struct txn *copy;
        buf_clear(&section);
        buf_append_slice(&section, buf_slice(&w.checkpoint));
        for (uint64_t k = 1 + rand_below(&rand, 4); k > 0; k--) {
            section.ptr[rand_below(&rand, section.len)] = (uint8_t)rand_u64(&rand);
        }
        if (txn_new(&w.config, 5, w.now, &copy) != 0) {
            ck_abort_msg("out of memory");
        }
        if (txn_load(copy, buf_slice(&section), w.now, NULL) == 0) {
            txn_check(copy);
        } else {
            refused++;
        }
        txn_free(copy);
    }
    ck_assert_uint_gt(refused, 100);
    buf_fini(&section);
}
END_TEST

START_TEST(a_smaller_bound_than_the_section_needs_is_reported)
{
    /* The configuration was lowered below what is undecided: a clear error, not a silent loss. */
    struct txn *copy;

    (void)populate();
    world_checkpoint(&w);
    w.config.halves_max = 2;
    ck_assert_int_eq(load(buf_slice(&w.checkpoint), w.now, &copy), ESCROW_ELIMIT);
    txn_free(copy);
}
END_TEST

START_TEST(lowering_the_number_of_checks_expires_what_is_above_it)
{
    /* At its next time, not in the past. */
    struct txn_config config = w.config;
    uint64_t offset;

    teardown();
    config.checks_max = 5;
    world_init(&w, &config, 1);
    offset = world_half(&w, "g", "t", "x", NULL);
    world_sync(&w);
    for (int i = 0; i < 2; i++) {
        ck_assert_ptr_nonnull(world_next_ask(&w, 100000000));
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
        ck_assert_int_eq(world_answer(&w, world_last_ask(&w), TXN_ANSWER_UNKNOWN), 0);
        world_sync(&w);
    }
    world_checkpoint(&w);
    w.config.checks_max = 2;
    world_crash(&w, 0, 1000);
    ck_assert_ptr_null(world_next_ask(&w, 100000000));
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_EXPIRED);
}
END_TEST

START_TEST(every_failed_allocation_is_reported)
{
    /* Fail the 1st, 2nd, ... of save and of load until none fires: no leak. */
    struct buf section;
    int64_t live;
    uint64_t n = 0;
    bool fired = true;

    (void)populate();
    world_checkpoint(&w);
    buf_init(&section, 0);
    live = mem_live_count();
    while (fired) {
        struct txn *copy;
        int rc;

        ck_assert_int_eq(txn_new(&w.config, 5, w.now, &copy), 0);
        mem_fault_at(++n);
        rc = txn_load(copy, buf_slice(&w.checkpoint), w.now, NULL);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        txn_free(copy);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 10);
    fired = true;
    for (n = 1; fired; n++) {
        mem_fault_at(n);
        txn_save(w.t, w.now, &section);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(buf_failed(&section), fired);
        if (!fired) {
            ck_assert_int_eq(txn_save_more(w.t, section.ptr, UINT32_MAX), 0);
        }
        buf_fini(&section);
        buf_init(&section, 0);
    }
    ck_assert_int_eq(mem_live_count(), live);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/save");
    TCase *tc = tcase_create("save");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_checkpoint_holds_what_is_durable_and_nothing_that_is_in_flight);
    tcase_add_test(tc, duplicates_are_recognised_after_a_restart_from_a_checkpoint);
    tcase_add_test(tc, a_wait_goes_on_where_the_checkpoint_left_it);
    tcase_add_test(tc, the_half_that_comes_next_may_go_and_its_slot_be_used_again);
    tcase_add_test(tc, an_empty_store_is_saved_and_loaded);
    tcase_add_test(tc, every_shorter_or_longer_section_is_corrupt);
    tcase_add_test(tc, a_half_that_is_open_and_decided_is_corrupt);
    tcase_add_test(tc, a_section_of_another_version_is_refused_as_such);
    tcase_add_test(tc, an_id_alone_is_found_after_a_restart_from_a_checkpoint);
    tcase_add_test(tc, a_section_of_version_2_is_loaded);
    tcase_add_loop_test(tc, changed_bytes_are_refused_or_make_a_consistent_store, 0, 3);
    tcase_add_test(tc, a_smaller_bound_than_the_section_needs_is_reported);
    tcase_add_test(tc, lowering_the_number_of_checks_expires_what_is_above_it);
    tcase_add_test(tc, every_failed_allocation_is_reported);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
