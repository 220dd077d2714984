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
    /* Never stored, or decided so long ago that it is forgotten: refused, and nothing is written. */
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
    /* No room in the log's buffer: the half is still open, and a later decision, even the other one, counts. */
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
    ck_assert_uint_eq(world_half(&w, "orders", "t1", "elsewhere", &again), offset);
    ck_assert_int_eq(again.verdict, TXN_DUPLICATE);
    ck_assert(!again.wait);
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
    /* The crash took the half; its offset is used again; the late commit names the old transaction (H32). */
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
    /* All or none: each reason for refusal in turn; what is decided already does not stand in the way. */
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
    /* Found by random use: the last half of the same names is decided between the refusal and the next half. */
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

/* ---- records that contradict ----------------------------------------------------------------- */

static int no_release(void *arg, const struct txn_release *release)
{
    (void)arg;
    (void)release;
    return 0;
}

static int apply_fake(enum decision_kind kind, enum decision_by by, uint64_t offset,
                      uint64_t second)
{
    struct decision_head head = {.kind = kind, .by = by, .count = second == 0 ? 1 : 2, .at_ms = 1};
    struct decision_entry entry = {.offset = offset, .topic = SLICE_LIT("paid")};
    struct err_ctx err = {0};
    struct buf b;
    int rc;

    buf_init(&b, 0);
    decision_encode_head(&b, &head);
    decision_encode_entry(&b, kind, &entry);
    if (second != 0) {
        entry.offset = second;
        decision_encode_entry(&b, kind, &entry);
    }
    rc = txn_apply_decision(w.t, buf_slice(&b), no_release, NULL, &err);
    buf_fini(&b);
    if (rc != 0) {
        ck_assert_int_eq(err.code, rc);
        ck_assert(err.text[0] != '\0');
    }
    txn_check(w.t);
    return rc;
}

START_TEST(a_log_that_contradicts_the_table_is_reported_and_changes_nothing)
{
    /* Decisions for halves that do not wait for them: corruption, found before anything has moved. */
    uint64_t open = durable_half("open");
    uint64_t done = durable_half("done");
    uint64_t fresh;

    (void)commit(done);
    world_sync(&w);
    fresh = half("fresh"); /* appended, not durable */
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, 4711, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, done, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_ROLLBACK, DECISION_BY_CHECK, fresh, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, open), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, done), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_BROKER, open, 0), ESCROW_ECORRUPT);
    (void)rollback(open);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(world_state(&w, open), HALF_ROLLING_BACK);
    ck_assert_int_eq(txn_apply_decision(w.t, SLICE_LIT("?"), no_release, NULL, NULL),
                     ESCROW_ECORRUPT);
    ck_assert_int_eq(txn_apply_check(w.t, SLICE_LIT("?"), w.now, NULL), ESCROW_ECORRUPT);
}
END_TEST

START_TEST(a_half_record_that_contradicts_the_table_is_reported)
{
    /* Applied twice, an id that is undecided elsewhere, an offset that goes back, no name. */
    uint64_t offset = durable_half("t1");
    struct txn_half_info info = {.group = SLICE_LIT("orders"),
                                 .txn_id = SLICE_LIT("t1"),
                                 .topic = SLICE_LIT("paid"),
                                 .immunity_ms = -1};

    ck_assert_int_eq(txn_apply_half(w.t, &info, offset, w.now, NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset + 8, w.now, NULL), ESCROW_ECORRUPT);
    info.txn_id = SLICE_LIT("t2");
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset - 8, w.now, NULL), ESCROW_ECORRUPT);
    info.group = SLICE_EMPTY;
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset + 16, w.now, NULL), ESCROW_ECORRUPT);
}
END_TEST

/* ---- facts from records ---------------------------------------------------------------------- */

static int decode(const char *props, struct txn_half_info *info, struct buf *b)
{
    const uint8_t ip[4] = {127, 0, 0, 1};
    struct record_fields f = {.queue_id = 3,
                              .sys_flag = SYSFLAG_TXN_PREPARED,
                              .born_ms = 1,
                              .store_ms = 1700000000000,
                              .born_host = record_host_ipv4(ip, 1),
                              .store_host = record_host_ipv4(ip, 2),
                              .body = SLICE_LIT("body"),
                              .topic = SLICE_LIT("paid"),
                              .properties = slice_str(props)};

    buf_clear(b);
    ck_assert_ptr_nonnull(buf_reserve(b, record_size(&f)));
    buf_commit(b, record_encode(b->ptr, &f));
    return txn_half_info_decode(buf_slice(b), info);
}

START_TEST(the_facts_of_a_half_are_read_from_its_record)
{
    /* Names, queue, size, tag, the broker's store time and never the client's born time. */
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decode("PGROUP\001orders\002UNIQ_KEY\0010A\002TAGS\001TagA\002"
                            "CHECK_IMMUNITY_TIME_IN_SECONDS\00160\002",
                            &info, &b),
                     0);
    ck_assert(slice_eq_str(info.group, "orders"));
    ck_assert(slice_eq_str(info.txn_id, "0A"));
    ck_assert(slice_eq_str(info.topic, "paid"));
    ck_assert_uint_eq(info.queue, 3);
    ck_assert_uint_eq(info.size_bytes, b.len);
    ck_assert_int_eq(info.tag_hash, 2598919);
    ck_assert_int_eq(info.store_ms, 1700000000000);
    ck_assert_int_eq(info.immunity_ms, 60000);
    ck_assert_int_eq(decode("PGROUP\001g\002UNIQ_KEY\001x\002", &info, &b), 0);
    ck_assert_int_eq(info.immunity_ms, -1);
    ck_assert_int_eq(info.tag_hash, 0);
    buf_fini(&b);
}
END_TEST

START_TEST(an_immunity_that_is_no_number_is_none)
{
    /* Garbage, negative, too large for milliseconds: never a crash, never an early check by mistake. */
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {{"abc", -1},
                 {"-5", -1},
                 {"0", 0},
                 {"9223372036854775807", INT64_MAX},
                 {"99999999999999999999", -1},
                 {"6.5", -1}};
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char props[128];
        (void)snprintf(props, sizeof props,
                       "PGROUP\001g\002UNIQ_KEY\001x\002CHECK_IMMUNITY_TIME_IN_SECONDS\001%s\002",
                       cases[i].text);
        ck_assert_int_eq(decode(props, &info, &b), 0);
        ck_assert_int_eq(info.immunity_ms, cases[i].want);
    }
    buf_fini(&b);
}
END_TEST

START_TEST(a_record_without_group_or_id_is_no_half)
{
    /* Nobody could be asked about it. */
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decode("UNIQ_KEY\0010A\002", &info, &b), ESCROW_EINVAL);
    ck_assert_int_eq(decode("PGROUP\001g\002", &info, &b), ESCROW_EINVAL);
    ck_assert_int_eq(txn_half_info_decode(SLICE_LIT("no record"), &info), ESCROW_EPROTO);
    buf_fini(&b);
}
END_TEST

/* ---- configuration and memory ---------------------------------------------------------------- */

START_TEST(a_configuration_out_of_bounds_is_named)
{
    /* The option's name is in the error; the defaults are fine. */
    struct txn_config config;
    struct err_ctx err = {0};

    txn_config_default(&config);
    ck_assert_int_eq(txn_config_check(&config, &err), 0);
    config.checks_max = 256;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "checks_max"));
    txn_config_default(&config);
    config.interval_ms = config.interval_max_ms + 1;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "interval_ms"));
    txn_config_default(&config);
    config.ways = 0;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_str_eq(txn_way_name(TXN_WAY_LIVE), "live");
    ck_assert_str_eq(txn_way_name(TXN_WAY_HTTP), "http");
}
END_TEST

/* A short life of two halves, in which any call may be out of memory; repeats what was refused. */
static int scenario(struct world *sw)
{
    struct txn_half_info info = {.group = SLICE_LIT("g"),
                                 .txn_id = SLICE_LIT("a"),
                                 .topic = SLICE_LIT("t"),
                                 .store_ms = 1700000000000,
                                 .size_bytes = 500,
                                 .immunity_ms = 0};
    struct txn_end_item item = {.offset = 4096};
    struct txn_end end = {
        .kind = DECISION_COMMIT, .by = DECISION_BY_OPERATOR, .items = &item, .count = 1};
    struct txn_end_result result;
    struct txn_prepare_result prep;
    struct buf section;
    int rc = txn_prepare(sw->t, &info, &prep);

    if (rc != 0) {
        return rc;
    }
    txn_half_appended(sw->t, &info, 4096);
    rc = txn_apply_half(sw->t, &info, 4096, sw->now, NULL);
    CHECK(rc == 0); /* cannot fail live */
    rc = txn_tick(sw->t, sw->now, &sw->u);
    if (rc != 0) {
        return rc;
    }
    CHECK(sw->u.ask_count == 1);
    rc = txn_check_answered(sw->t, 4096, sw->u.asks[0].nonce, TXN_ANSWER_COMMIT, sw->now, &sw->u);
    if (rc != 0) {
        return rc;
    }
    rc = txn_end(sw->t, &end, sw->now, &result, &sw->u);
    if (rc != 0) {
        CHECK(world_state(sw, 4096) == HALF_CHECKING);
        return rc;
    }
    txn_decision_appended(sw->t, buf_slice(&sw->u.decision));
    rc = txn_apply_decision(sw->t, buf_slice(&sw->u.decision), no_release, NULL, NULL);
    CHECK(rc == 0); /* cannot fail live */
    buf_init(&section, 0);
    txn_save(sw->t, sw->now, &section);
    rc = buf_failed(&section) ? ESCROW_ENOMEM : 0;
    buf_fini(&section);
    return rc;
}

START_TEST(every_failed_allocation_is_reported_and_leaves_everything_in_order)
{
    /* Fail the 1st, 2nd, ... allocation of a life until none fires: no leak, no broken invariant. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct world sw;
        int rc;

        world_init(&sw, &w.config, 3);
        mem_fault_at(++n);
        rc = scenario(&sw);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        if (rc != 0) {
            ck_assert_int_eq(rc, ESCROW_ENOMEM);
            ck_assert(fired);
        }
        txn_check(sw.t);
        world_fini(&sw);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 10);
}
END_TEST

START_TEST(every_failed_allocation_of_the_start_is_reported)
{
    /* Fail the 1st, 2nd, ... of txn_new. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct txn *t = NULL;
        int rc;

        mem_fault_at(++n);
        rc = txn_new(&w.config, 1, w.now, &t);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        txn_free(rc == 0 ? t : NULL);
        ck_assert_int_eq(mem_live_count(), live);
    }
}
END_TEST

START_TEST(appending_what_was_not_prepared_aborts)
{
    /* A broker that breaks the order of calls is stopped at once. */
    struct txn_half_info info = {
        .group = SLICE_LIT("g"), .txn_id = SLICE_LIT("a"), .topic = SLICE_LIT("t")};

    txn_half_appended(w.t, &info, 4096);
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
    tcase_add_test(tc, a_log_that_contradicts_the_table_is_reported_and_changes_nothing);
    tcase_add_test(tc, a_half_record_that_contradicts_the_table_is_reported);
    suite_add_tcase(suite, tc);
}

static void add_rest(Suite *suite)
{
    TCase *tc = tcase_create("records, configuration, memory");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_facts_of_a_half_are_read_from_its_record);
    tcase_add_test(tc, an_immunity_that_is_no_number_is_none);
    tcase_add_test(tc, a_record_without_group_or_id_is_no_half);
    tcase_add_test(tc, a_configuration_out_of_bounds_is_named);
    tcase_add_test(tc, every_failed_allocation_is_reported_and_leaves_everything_in_order);
    tcase_add_test(tc, every_failed_allocation_of_the_start_is_reported);
    tcase_add_test_raise_signal(tc, appending_what_was_not_prepared_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("txn/txn");

    add_decisions(suite);
    add_halves(suite);
    add_rest(suite);
    return unit_run(suite);
}
