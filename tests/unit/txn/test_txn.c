#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "core/store/store.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

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

static struct txn_end_result commit(uint64_t offset)
{
    return world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "orders", offset, NULL);
}

static struct txn_end_result rollback(uint64_t offset)
{
    return world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "orders", offset, NULL);
}

static uint64_t half(const char *id)
{
    return world_half(&w, "orders", id, "paid", NULL);
}

static uint64_t durable_half(const char *id)
{
    uint64_t offset = half(id);

    world_sync(&w);
    return offset;
}

/* ---- one half, one decision ------------------------------------------------------------------ */

START_TEST(a_committed_half_is_released_when_its_decision_is_durable_and_not_before)
{
    /* The happy path: invisible until then, exactly once afterwards, in its own topic. */
    uint64_t offset = durable_half("t1");

    ck_assert_int_eq(world_state(&w, offset), HALF_PREPARED);
    ck_assert_int_eq(commit(offset).code, TXN_END_PERSIST);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTING);
    ck_assert_uint_eq(w.release_count, 0);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTED);
    ck_assert_uint_eq(w.release_count, 1);
    ck_assert_uint_eq(world_released(&w, offset, DECISION_COMMIT), 1);
    ck_assert_str_eq(w.releases[0].topic, "paid");
}
END_TEST

START_TEST(a_rolled_back_half_is_never_released)
{
    /* Not by its decision, and by nothing that comes later. */
    uint64_t offset = durable_half("t1");

    ck_assert_int_eq(rollback(offset).code, TXN_END_PERSIST);
    world_sync(&w);
    (void)commit(offset); /* refused, see below */
    world_pass(&w, 1000000);
    (void)world_tick(&w);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_ROLLED_BACK);
    ck_assert_uint_eq(w.release_count, 0);
    ck_assert_uint_eq(w.ask_count, 0);
}
END_TEST

START_TEST(a_decision_says_who_made_it_and_when)
{
    /* And it is remembered with that. */
    uint64_t offset = durable_half("t1");
    struct txn_row row;
    struct decided_fact fact;

    world_pass(&w, 1234);
    (void)world_end(&w, DECISION_ROLLBACK, DECISION_BY_OPERATOR, NULL, offset, NULL);
    world_sync(&w);
    ck_assert(!txn_find(w.t, offset, &row, &fact));
    ck_assert_int_eq(fact.kind, DECISION_ROLLBACK);
    ck_assert_int_eq(fact.by, DECISION_BY_OPERATOR);
    ck_assert_int_eq(fact.at_ms, w.now.wall_ms);
    ck_assert_uint_eq(fact.offset, offset);
}
END_TEST

START_TEST(a_repeated_commit_is_success_and_releases_nothing_twice)
{
    /* Twice before it is durable, twice after, and once after a restart (P6, H24). */
    uint64_t offset = durable_half("t1");
    struct txn_end_result result;

    (void)commit(offset); /* the first */
    result = commit(offset);
    ck_assert_int_eq(result.code, TXN_END_PENDING);
    ck_assert_int_eq(txn_end_error(&result), 0);
    ck_assert(w.u.wait);
    ck_assert_uint_eq(w.u.decision.len, 0);
    world_sync(&w);
    result = commit(offset);
    ck_assert_int_eq(result.code, TXN_END_SAME);
    ck_assert(!w.u.wait);
    world_sync(&w);
    world_crash(&w, 0, 0);
    ck_assert_int_eq(commit(offset).code, TXN_END_SAME);
    world_sync(&w);
    ck_assert_uint_eq(w.release_count, 1);
}
END_TEST

START_TEST(the_first_decision_wins_and_the_other_is_told_what_it_was)
{
    /* Both orders, while the first is in flight and after it is durable (H25). */
    uint64_t a = durable_half("a");
    uint64_t b = durable_half("b");
    struct txn_end_result result;

    (void)commit(a);
    (void)rollback(b);
    result = rollback(a);
    ck_assert_int_eq(result.code, TXN_END_CONFLICT);
    ck_assert_int_eq(result.fact.kind, DECISION_COMMIT);
    ck_assert(w.u.wait); /* not a fact yet */
    ck_assert_int_eq(txn_end_error(&result), ESCROW_ECONFLICT);
    result = commit(b);
    ck_assert_int_eq(txn_end_error(&result), ESCROW_EROLLEDBACK);
    world_sync(&w);
    world_pass(&w, 5);
    result = rollback(a);
    ck_assert_int_eq(result.code, TXN_END_CONFLICT);
    ck_assert_int_eq(result.fact.kind, DECISION_COMMIT);
    ck_assert_int_eq(result.fact.by, DECISION_BY_PRODUCER);
    ck_assert_int_eq(result.fact.at_ms, w.now.wall_ms - 5);
    ck_assert(!w.u.wait);
    result = commit(b);
    ck_assert_int_eq(txn_end_error(&result), ESCROW_EROLLEDBACK);
    world_sync(&w);
    ck_assert_uint_eq(world_released(&w, a, DECISION_COMMIT), 1);
    ck_assert_uint_eq(world_released(&w, b, DECISION_COMMIT), 0);
}
END_TEST

START_TEST(a_half_that_nobody_knows_cannot_be_decided)
{
    /*
     * Never stored, or decided so long ago that it is forgotten: refused, and nothing is written.
     */
    struct txn_end_result result = commit(123456);

    ck_assert_int_eq(result.code, TXN_END_NOTFOUND);
    ck_assert_int_eq(txn_end_error(&result), ESCROW_ENOTFOUND);
    ck_assert_uint_eq(w.log_count, 0);
}
END_TEST

START_TEST(a_forgotten_decision_cannot_be_made_again)
{
    /* Safety does not depend on the memory: when it is gone, the half is NOTFOUND, not open. */
    struct txn_config config = w.config;
    uint64_t offset;

    world_fini(&w);
    config.decided_max = 2;
    world_init(&w, &config, 1);
    offset = durable_half("old");
    (void)rollback(offset);
    world_sync(&w);
    for (int i = 0; i < 3; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "n%d", i);
        (void)commit(durable_half(id));
        world_sync(&w);
    }
    ck_assert_int_eq(commit(offset).code, TXN_END_NOTFOUND);
    world_sync(&w);
    ck_assert_uint_eq(world_released(&w, offset, DECISION_COMMIT), 0);
}
END_TEST

START_TEST(another_group_or_another_id_cannot_decide_a_half)
{
    /* Undecided and decided alike; what was decided is not told to a stranger (H32). */
    uint64_t offset = durable_half("t1");

    for (int round = 0; round < 2; round++) {
        struct txn_end_result r =
            world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "bank", offset, "t1");
        ck_assert_int_eq(r.code, TXN_END_WRONG_GROUP);
        ck_assert_int_eq(txn_end_error(&r), ESCROW_EPERM);
        ck_assert_int_eq(r.fact.kind, DECISION_NONE);
        r = world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "orders", offset, "t2");
        ck_assert_int_eq(r.code, TXN_END_WRONG_ID);
        ck_assert_int_eq(txn_end_error(&r), ESCROW_ENOTFOUND);
        r = world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "orders", offset, "t1");
        ck_assert_int_eq(txn_end_error(&r), 0);
        world_sync(&w);
    }
    ck_assert_uint_eq(w.release_count, 1);
}
END_TEST

START_TEST(an_operator_decides_by_offset_alone)
{
    /* From the command line nobody has to know group and id. */
    uint64_t offset = durable_half("t1");

    ck_assert_int_eq(world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, offset, NULL).code,
                     TXN_END_PERSIST);
    world_sync(&w);
    ck_assert_int_eq(world_end(&w, DECISION_COMMIT, DECISION_BY_OPERATOR, NULL, offset, NULL).code,
                     TXN_END_SAME);
    ck_assert_int_eq(
        world_end(&w, DECISION_ROLLBACK, DECISION_BY_OPERATOR, NULL, offset, NULL).code,
        TXN_END_CONFLICT);
}
END_TEST

START_TEST(a_producer_without_a_group_is_refused)
{
    /* Bad input from outside: an error, nothing else. */
    struct txn_end_item item = {.offset = durable_half("t1")};
    struct txn_end_result result;
    struct txn_end end = {
        .kind = DECISION_COMMIT, .by = DECISION_BY_PRODUCER, .items = &item, .count = 1};

    ck_assert_int_eq(txn_end(w.t, &end, w.now, &result, &w.u), ESCROW_EINVAL);
    end.group = SLICE_LIT("orders");
    end.count = 0;
    ck_assert_int_eq(txn_end(w.t, &end, w.now, &result, &w.u), ESCROW_EINVAL);
    end.count = END_TXN_HALVES_MAX + 1;
    ck_assert_int_eq(txn_end(w.t, &end, w.now, &result, &w.u), ESCROW_EINVAL);
    end.count = 1;
    end.kind = DECISION_EXPIRE;
    ck_assert_int_eq(txn_end(w.t, &end, w.now, &result, &w.u), ESCROW_EINVAL);
    end.kind = DECISION_COMMIT;
    end.by = DECISION_BY_BROKER;
    ck_assert_int_eq(txn_end(w.t, &end, w.now, &result, &w.u), ESCROW_EINVAL);
    ck_assert_uint_eq(w.log_count, 1);
}
END_TEST

START_TEST(a_refused_append_leaves_the_half_as_it_was)
{
    /*
     * No room in the log's buffer: the half is still open, and a later decision, even the other
     * one, counts.
     */
    uint64_t offset = durable_half("t1");

    w.refuses_decisions = true;
    (void)commit(offset); /* lost */
    ck_assert_int_eq(world_state(&w, offset), HALF_PREPARED);
    w.refuses_decisions = false;
    ck_assert_int_eq(rollback(offset).code, TXN_END_PERSIST);
    world_sync(&w);
    ck_assert_int_eq(world_state(&w, offset), HALF_ROLLED_BACK);
}
END_TEST

/* ---- the same half again --------------------------------------------------------------------- */

START_TEST(the_same_half_again_is_the_first_one)
{
    /* Before it is durable, while it waits, while it is decided: one record, one offset (H23). */
    struct txn_prepare_result again;
    uint64_t offset = half("t1");

    ck_assert_uint_eq(world_half(&w, "orders", "t1", "paid", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DUPLICATE);
    ck_assert(again.wait); /* not durable yet */
    world_sync(&w);
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "paid", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DUPLICATE);
    ck_assert(!again.wait);
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "elsewhere", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_OTHER); /* its answer would have said that it is stored */
    (void)commit(offset);
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "paid", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DUPLICATE);
    ck_assert_uint_eq(w.log_count, 2);
    ck_assert_uint_eq(txn_counters(w.t)->halves_accepted, 1);
    ck_assert_uint_eq(txn_counters(w.t)->halves_duplicate, 3);
}
END_TEST

START_TEST(a_half_whose_transaction_was_decided_is_not_taken_again)
{
    /* A retry that arrives after the decision must not become a second message. */
    struct txn_prepare_result again;
    uint64_t offset = durable_half("t1");

    (void)rollback(offset);
    world_sync(&w);
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "paid", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DECIDED);
    ck_assert_int_eq(again.fact.kind, DECISION_ROLLBACK);
    ck_assert_uint_eq(w.log_count, 2);
    world_crash(&w, 0, 1000);
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "paid", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DECIDED);
}
END_TEST

START_TEST(the_same_id_of_another_group_is_another_half)
{
    /* Ids are unique per producer group, and names that run together do not meet. */
    uint64_t a = world_half(&w, "ab", "c", "paid", NULL);
    uint64_t b = world_half(&w, "a", "bc", "paid", NULL);
    uint64_t c = world_half(&w, "orders", "c", "paid", NULL);

    ck_assert_uint_ne(a, b);
    ck_assert_uint_ne(a, c);
    ck_assert_uint_eq(w.log_count, 3);
}
END_TEST

START_TEST(halves_out_of_bounds_are_refused)
{
    /* Empty and overlong names, a queue that cannot be. */
    struct txn_half_info good = {.group = SLICE_LIT("g"),
                                 .txn_id = SLICE_LIT("t"),
                                 .topic = SLICE_LIT("x"),
                                 .immunity_ms = -1};
    uint8_t text[300] = {0};
    struct txn_prepare_result result;

    for (int i = 0; i < 7; i++) {
        struct txn_half_info bad = good;
        switch (i) {
        case 0:
            bad.group = SLICE_EMPTY;
            break;
        case 1:
            bad.group = slice_of(text, GROUP_LEN_MAX + 1);
            break;
        case 2:
            bad.txn_id = SLICE_EMPTY;
            break;
        case 3:
            bad.txn_id = slice_of(text, TXN_ID_LEN_MAX + 1);
            break;
        case 4:
            bad.topic = SLICE_EMPTY;
            break;
        case 5:
            bad.topic = slice_of(text, TOPIC_LEN_MAX + 1);
            break;
        default:
            bad.queue = QUEUES_PER_TOPIC_MAX;
            break;
        }
        ck_assert_int_eq(txn_prepare(w.t, &bad, &result), ESCROW_EINVAL);
    }
    ck_assert_int_eq(txn_prepare(w.t, &good, &result), 0);
    ck_assert_int_eq(result.verdict, TXN_NEW);
}
END_TEST

START_TEST(a_full_table_refuses_halves_and_still_decides)
{
    /* The bound on undecided halves: ESCROW_ELIMIT until one is decided (H36). */
    struct txn_half_info info = {.group = SLICE_LIT("orders"),
                                 .txn_id = SLICE_LIT("more"),
                                 .topic = SLICE_LIT("x"),
                                 .immunity_ms = -1};
    struct txn_config config = w.config;
    struct txn_prepare_result result;
    uint64_t a;

    world_fini(&w);
    config.halves_max = 2;
    world_init(&w, &config, 1);
    a = durable_half("a");
    (void)durable_half("b");
    ck_assert_int_eq(txn_prepare(w.t, &info, &result), ESCROW_ELIMIT);
    (void)commit(a);
    world_sync(&w);
    ck_assert_int_eq(txn_prepare(w.t, &info, &result), 0);
}
END_TEST

/* ---- before the half is durable -------------------------------------------------------------- */

START_TEST(a_commit_before_the_half_is_durable_is_taken)
{
    /* Asynchronous flush: the producer is faster than the disk. Log order makes it safe. */
    uint64_t offset = half("t1");

    ck_assert_int_eq(commit(offset).code, TXN_END_PERSIST);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTING);
    world_sync_some(&w, 1);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTING);
    ck_assert_uint_eq(w.release_count, 0);
    world_sync_some(&w, 1);
    ck_assert_int_eq(world_state(&w, offset), HALF_COMMITTED);
    ck_assert_uint_eq(w.release_count, 1);
}
END_TEST

START_TEST(a_crash_keeps_the_half_the_decision_or_neither_but_never_the_decision_alone)
{
    /* Every prefix of half, commit: gone, undecided, committed. */
    static const int want[] = {-1, HALF_PREPARED, HALF_COMMITTED};
    uint64_t offset = half("t1");

    (void)commit(offset);
    world_crash(&w, (size_t)_i, 1000);
    ck_assert_int_eq(world_state(&w, offset), want[_i]);
    ck_assert_uint_eq(w.release_count, _i == 2 ? 1 : 0);
}
END_TEST

START_TEST(a_decision_for_a_lost_half_never_decides_the_one_that_took_its_place)
{
    /*
     * The crash took the half; its offset is used again; the late commit names the old transaction
     * (H32).
     */
    uint64_t lost = half("lost");
    uint64_t next;

    world_crash(&w, 0, 1000);
    next = durable_half("next");
    ck_assert_uint_eq(next, lost);
    ck_assert_int_eq(
        world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "orders", lost, "lost").code,
        TXN_END_WRONG_ID);
    ck_assert_int_eq(world_state(&w, next), HALF_PREPARED);
}
END_TEST

/* ---- several halves at once ------------------------------------------------------------------ */

START_TEST(several_halves_are_decided_by_one_record)
{
    /* Different topics, one log record, all released together in the order of the request. */
    struct txn_end_item items[3];
    struct txn_end_result results[3];
    struct txn_end end = {.kind = DECISION_COMMIT,
                          .by = DECISION_BY_PRODUCER,
                          .group = SLICE_LIT("orders"),
                          .items = items,
                          .count = 3};

    items[0] = (struct txn_end_item){.offset = world_half(&w, "orders", "a", "ta", NULL),
                                     .txn_id = SLICE_LIT("a")};
    items[1] = (struct txn_end_item){.offset = world_half(&w, "orders", "b", "tb", NULL)};
    items[2] = (struct txn_end_item){.offset = world_half(&w, "orders", "c", "tc", NULL)};
    world_sync(&w);
    world_end_many(&w, &end, results);
    ck_assert_uint_eq(w.log_count, 4);
    world_sync(&w);
    ck_assert_uint_eq(w.release_count, 3);
    ck_assert_str_eq(w.releases[0].topic, "ta");
    ck_assert_str_eq(w.releases[2].topic, "tc");
    world_end_many(&w, &end, results);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(results[i].code, TXN_END_SAME);
    }
    ck_assert_uint_eq(w.log_count, 4);
}
END_TEST

START_TEST(one_half_that_cannot_be_decided_holds_the_others_back)
{
    /*
     * All or none: each reason for refusal in turn; what is decided already does not stand in the
     * way.
     */
    uint64_t open = durable_half("open");
    uint64_t committed = durable_half("committed");
    uint64_t rolled_back = durable_half("rolled back");
    uint64_t foreign = world_half(&w, "bank", "x", "paid", NULL);
    const struct {
        uint64_t offset;
        const char *id;
        enum txn_end_code code;
    } bad[] = {{rolled_back, "rolled back", TXN_END_CONFLICT},
               {4711, NULL, TXN_END_NOTFOUND},
               {foreign, NULL, TXN_END_WRONG_GROUP},
               {open, "closed", TXN_END_WRONG_ID}};

    (void)commit(committed);
    (void)rollback(rolled_back);
    world_sync(&w);
    for (size_t i = 0; i < 4; i++) {
        struct txn_end_item items[3] = {{.offset = open},
                                        {.offset = bad[i].offset, .txn_id = slice_str(bad[i].id)},
                                        {.offset = committed}};
        struct txn_end end = {.kind = DECISION_COMMIT,
                              .by = DECISION_BY_PRODUCER,
                              .group = SLICE_LIT("orders"),
                              .items = items,
                              .count = 3};
        struct txn_end_result results[3];
        size_t before = w.log_count;

        world_end_many(&w, &end, results);
        ck_assert_int_eq(results[0].code, TXN_END_HELD_BACK);
        ck_assert_int_eq(txn_end_error(&results[0]), ESCROW_ECONFLICT);
        ck_assert_int_eq(results[1].code, bad[i].code);
        ck_assert_int_eq(results[2].code, TXN_END_SAME);
        ck_assert_uint_eq(w.log_count, before);
        ck_assert_int_eq(world_state(&w, open), HALF_PREPARED);
    }
    {
        struct txn_end_item items[2] = {{.offset = open}, {.offset = committed}};
        struct txn_end end = {.kind = DECISION_COMMIT,
                              .by = DECISION_BY_PRODUCER,
                              .group = SLICE_LIT("orders"),
                              .items = items,
                              .count = 2};
        struct txn_end_result results[2];
        world_end_many(&w, &end, results);
        ck_assert_int_eq(results[0].code, TXN_END_PERSIST);
        ck_assert_int_eq(results[1].code, TXN_END_SAME);
    }
}
END_TEST

START_TEST(a_half_named_twice_is_decided_once)
{
    /* In one request. */
    uint64_t offset = durable_half("t1");
    struct txn_end_item items[2] = {{.offset = offset}, {.offset = offset}};
    struct txn_end end = {.kind = DECISION_COMMIT,
                          .by = DECISION_BY_PRODUCER,
                          .group = SLICE_LIT("orders"),
                          .items = items,
                          .count = 2};
    struct txn_end_result results[2];

    world_end_many(&w, &end, results);
    ck_assert_int_eq(results[0].code, TXN_END_PERSIST);
    ck_assert_int_eq(results[1].code, TXN_END_PERSIST);
    world_sync(&w);
    ck_assert_uint_eq(w.release_count, 1);
}
END_TEST

START_TEST(the_largest_request_decides_1024_halves)
{
    /* One record, all or none after a crash. */
    static struct txn_end_item items[END_TXN_HALVES_MAX];
    static struct txn_end_result results[END_TXN_HALVES_MAX];
    struct txn_end end = {.kind = DECISION_COMMIT,
                          .by = DECISION_BY_PRODUCER,
                          .group = SLICE_LIT("orders"),
                          .items = items,
                          .count = END_TXN_HALVES_MAX};

    for (size_t i = 0; i < END_TXN_HALVES_MAX; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%zu", i);
        items[i].offset = half(id);
    }
    world_sync(&w);
    world_checkpoint(&w);
    world_end_many(&w, &end, results);
    ck_assert_uint_eq(w.log_count, END_TXN_HALVES_MAX + 1);
    world_crash(&w, 0, 0);
    ck_assert_uint_eq(w.release_count, 0);
    world_end_many(&w, &end, results);
    world_crash(&w, 1, 0);
    ck_assert_uint_eq(w.release_count, END_TXN_HALVES_MAX);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
}
END_TEST

/* ---- room for decisions ---------------------------------------------------------------------- */

START_TEST(each_undecided_half_keeps_room_for_its_decision)
{
    /* Taken when it is appended, given back when its decision is; kept across a restart. */
    uint64_t a;
    uint64_t b;

    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
    a = half("a");
    b = half("b");
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 2 * STORE_DECISION_RESERVE);
    world_sync(&w);
    (void)commit(a);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), STORE_DECISION_RESERVE);
    world_crash(&w, 0, 0);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 2 * STORE_DECISION_RESERVE);
    (void)commit(a);
    (void)rollback(b);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
    world_sync(&w);
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
}
END_TEST

START_TEST(a_half_that_was_not_appended_leaves_nothing_behind)
{
    /* The log refused it: no half, no name, no reserve; it can come again. */
    w.refuses_halves = true;
    (void)half("t1");
    w.refuses_halves = false;
    ck_assert_uint_eq(txn_reserve_bytes(w.t), 0);
    ck_assert_int_eq(commit(4096).code, TXN_END_NOTFOUND);
    (void)world_half(&w, "other", "t2", "else", NULL);
    (void)half("t1");
    world_sync(&w);
    ck_assert_uint_eq(w.log_count, 2);
}
END_TEST

START_TEST(a_half_that_was_refused_has_no_claim_on_names_that_leave)
{
    /*
     * Found by random use: the last half of the same names is decided between the refusal and the
     * next half.
     */
    uint64_t offset = durable_half("t1");

    w.refuses_halves = true;
    (void)half("t2");
    w.refuses_halves = false;
    (void)commit(offset);
    world_sync(&w);
    (void)world_half(&w, "bank", "t3", "else", NULL);
    world_sync(&w);
    ck_assert_uint_eq(w.release_count, 1);
}
END_TEST

static void add_decisions(Suite *suite)
{
    TCase *tc = tcase_create("decisions");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_committed_half_is_released_when_its_decision_is_durable_and_not_before);
    tcase_add_test(tc, a_rolled_back_half_is_never_released);
    tcase_add_test(tc, a_decision_says_who_made_it_and_when);
    tcase_add_test(tc, a_repeated_commit_is_success_and_releases_nothing_twice);
    tcase_add_test(tc, the_first_decision_wins_and_the_other_is_told_what_it_was);
    tcase_add_test(tc, a_half_that_nobody_knows_cannot_be_decided);
    tcase_add_test(tc, a_forgotten_decision_cannot_be_made_again);
    tcase_add_test(tc, another_group_or_another_id_cannot_decide_a_half);
    tcase_add_test(tc, an_operator_decides_by_offset_alone);
    tcase_add_test(tc, a_producer_without_a_group_is_refused);
    tcase_add_test(tc, a_refused_append_leaves_the_half_as_it_was);
    tcase_add_test(tc, several_halves_are_decided_by_one_record);
    tcase_add_test(tc, one_half_that_cannot_be_decided_holds_the_others_back);
    tcase_add_test(tc, a_half_named_twice_is_decided_once);
    tcase_add_test(tc, the_largest_request_decides_1024_halves);
    suite_add_tcase(suite, tc);
}

static void add_halves(Suite *suite)
{
    TCase *tc = tcase_create("halves");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_same_half_again_is_the_first_one);
    tcase_add_test(tc, a_half_whose_transaction_was_decided_is_not_taken_again);
    tcase_add_test(tc, the_same_id_of_another_group_is_another_half);
    tcase_add_test(tc, halves_out_of_bounds_are_refused);
    tcase_add_test(tc, a_full_table_refuses_halves_and_still_decides);
    tcase_add_test(tc, a_commit_before_the_half_is_durable_is_taken);
    tcase_add_loop_test(
        tc, a_crash_keeps_the_half_the_decision_or_neither_but_never_the_decision_alone, 0, 3);
    tcase_add_test(tc, a_decision_for_a_lost_half_never_decides_the_one_that_took_its_place);
    tcase_add_test(tc, each_undecided_half_keeps_room_for_its_decision);
    tcase_add_test(tc, a_half_that_was_not_appended_leaves_nothing_behind);
    tcase_add_test(tc, a_half_that_was_refused_has_no_claim_on_names_that_leave);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("txn/txn");

    add_decisions(suite);
    add_halves(suite);
    return unit_run(suite);
}
