#include "core/base/wheel.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <string.h>

#define TICK 100

struct table {
    struct wheel wheel;
    struct wheel_node *nodes;
    int64_t *due_ms; /* -1 = not scheduled */
    size_t count;
};

static struct wheel_node *node_of(void *owner, uint32_t id)
{
    struct table *t = owner;

    CHECK(id < t->count); /* ck_assert would write to a pipe each time */
    return &t->nodes[id];
}

static void table_init(struct table *t, size_t count, int64_t now_ms)
{
    t->nodes = mem_calloc(count, sizeof *t->nodes);
    t->due_ms = mem_alloc(count * sizeof *t->due_ms);
    ck_assert(t->nodes != NULL && t->due_ms != NULL);
    t->count = count;
    for (size_t i = 0; i < count; i++) {
        t->due_ms[i] = -1;
    }
    wheel_init(&t->wheel, now_ms, TICK, node_of, t);
}

static void table_fini(struct table *t)
{
    mem_free(t->nodes);
    mem_free(t->due_ms);
}

static void add(struct table *t, uint32_t id, int64_t due_ms)
{
    wheel_add(&t->wheel, id, due_ms);
    t->due_ms[id] = due_ms;
}

/* Everything that is due now, with as much budget as it takes. */
static size_t pop_all(struct table *t, int64_t now_ms)
{
    size_t popped = 0;
    size_t budget = SIZE_MAX;
    uint32_t id;

    while ((id = wheel_pop(&t->wheel, now_ms, &budget)) != WHEEL_NONE) {
        ck_assert_int_ge(now_ms, t->due_ms[id]);
        t->due_ms[id] = -1;
        popped++;
    }
    return popped;
}

START_TEST(an_id_is_handed_out_at_its_time_and_never_earlier)
{
    /*
     * From less than a tick to months: nothing one millisecond before, the id within one tick
     * after.
     */
    static const int64_t delays[] = {1,      99,      100,       101,         6399,
                                     6400,   6401,    409600,    26214400,    1677721600,
                                     409601, 6553600, 107374182, 10737418240, 107374182400};
    struct table t;

    for (size_t i = 0; i < sizeof delays / sizeof delays[0]; i++) {
        table_init(&t, 1, 1000);
        add(&t, 0, 1000 + delays[i]);
        ck_assert_int_ge(wheel_next_ms(&t.wheel), 1000);
        ck_assert_uint_eq(pop_all(&t, 1000 + delays[i] - 1), 0);
        ck_assert_uint_eq(pop_all(&t, 1000 + delays[i] + TICK), 1);
        ck_assert_int_eq(wheel_next_ms(&t.wheel), WHEEL_NEVER);
        table_fini(&t);
    }
}
END_TEST

START_TEST(what_is_due_in_the_past_is_handed_out_at_once)
{
    /* Also when the time given is before the wheel's beginning. */
    struct table t;

    table_init(&t, 3, 5000);
    add(&t, 0, 0);
    add(&t, 1, INT64_MIN);
    add(&t, 2, 5000);
    ck_assert_uint_eq(pop_all(&t, 5000), 3);
    ck_assert_uint_eq(pop_all(&t, 9999), 0);
    add(&t, 1, 300);
    ck_assert_uint_eq(pop_all(&t, 9999), 1);
    table_fini(&t);
}
END_TEST

START_TEST(a_removed_id_is_never_handed_out)
{
    /* First, middle and last of one slot. */
    struct table t;

    for (uint32_t gone = 0; gone < 3; gone++) {
        table_init(&t, 3, 0);
        for (uint32_t id = 0; id < 3; id++) {
            add(&t, id, 777);
        }
        wheel_remove(&t.wheel, gone);
        wheel_check(&t.wheel);
        t.due_ms[gone] = INT64_MAX;
        ck_assert_uint_eq(pop_all(&t, 100000), 2);
        ck_assert_uint_eq(t.wheel.count, 0);
        table_fini(&t);
    }
}
END_TEST

START_TEST(time_that_runs_backwards_changes_nothing)
{
    /* A call with an earlier time hands out what the latest time allows, and nothing more. */
    struct table t;

    table_init(&t, 2, 0);
    add(&t, 0, 5000);
    add(&t, 1, 9000);
    ck_assert_uint_eq(pop_all(&t, 6000), 1);
    ck_assert_uint_eq(pop_all(&t, 1000), 0);
    wheel_add(&t.wheel, 0, 2000);
    t.due_ms[0] = 0;
    ck_assert_uint_eq(pop_all(&t, 1500), 1);
    ck_assert_uint_eq(pop_all(&t, 9000), 1);
    table_fini(&t);
}
END_TEST

START_TEST(empty_time_costs_nothing)
{
    /* A thousand ids in a far future: ten thousand calls before that touch none of them. */
    struct table t;

    table_init(&t, 1000, 0);
    for (uint32_t id = 0; id < 1000; id++) {
        add(&t, id, INT64_C(100000000) + id);
    }
    for (int64_t now = 0; now < 10000; now++) {
        ck_assert_uint_eq(pop_all(&t, now), 0);
    }
    ck_assert_uint_eq(t.wheel.work, 0);
    ck_assert_uint_eq(pop_all(&t, INT64_C(100002000)), 1000);
    ck_assert_uint_le(t.wheel.work, 1000 * WHEEL_LEVELS);
    table_fini(&t);
}
END_TEST

START_TEST(a_call_never_touches_more_than_its_budget)
{
    /*
     * 10,000 ids are due at once: each call takes as many as allowed, in the end all, none twice.
     */
    struct table t;
    size_t popped = 0;
    size_t calls = 0;

    table_init(&t, 10000, 0);
    for (uint32_t id = 0; id < 10000; id++) {
        add(&t, id, 500000 + id % 70 * 100);
    }
    while (popped < 10000) {
        size_t budget = 64;
        uint64_t before = t.wheel.work;
        uint32_t id;
        while ((id = wheel_pop(&t.wheel, 600000, &budget)) != WHEEL_NONE) {
            ck_assert_int_ne(t.due_ms[id], -1);
            t.due_ms[id] = -1;
            popped++;
        }
        ck_assert_uint_le(t.wheel.work - before, 64);
        wheel_check(&t.wheel);
        ck_assert_uint_lt(++calls, 10000);
    }
    table_fini(&t);
}
END_TEST

START_TEST(an_uptime_longer_than_the_ticks_last_hands_everything_out)
{
    /* Beyond 2^32 ticks times saturate: due at once rather than never. */
    struct table t;
    int64_t end = (int64_t)UINT32_MAX * TICK;

    table_init(&t, 2, 0);
    add(&t, 0, end * 3);
    ck_assert_uint_eq(pop_all(&t, end / 2), 0);
    t.due_ms[0] = 0;
    ck_assert_uint_eq(pop_all(&t, end * 2), 1);
    add(&t, 1, end * 2 + 1);
    t.due_ms[1] = 0;
    ck_assert_uint_eq(pop_all(&t, end * 2), 1);
    table_fini(&t);
}
END_TEST

/* Every scheduled id is either not yet due, or was handed out; and next_ms is not too late. */
static void check_against_reference(struct table *t, int64_t now, bool is_drained)
{
    int64_t earliest = INT64_MAX;

    for (size_t i = 0; i < t->count; i++) {
        if (t->due_ms[i] != -1 && t->due_ms[i] < earliest) {
            earliest = t->due_ms[i];
        }
    }
    if (is_drained && earliest != INT64_MAX) {
        ck_assert_int_gt(earliest + TICK, now);
    }
    if (earliest == INT64_MAX) {
        ck_assert_int_eq(wheel_next_ms(&t->wheel), WHEEL_NEVER);
    } else {
        ck_assert_int_le(wheel_next_ms(&t->wheel), (earliest > now ? earliest : now) + 2 * TICK);
    }
    wheel_check(&t->wheel);
}

START_TEST(random_use_agrees_with_a_list)
{
    /* Adds, removals, small and huge steps of time, small budgets, against plain due times. */
    struct rand rand;
    struct table t;
    int64_t now = 12345;

    rand_init(&rand, (uint64_t)_i);
    table_init(&t, 200, now);
    for (int step = 0; step < 5000; step++) {
        uint32_t id = (uint32_t)rand_below(&rand, t.count);
        size_t budget = rand_below(&rand, 4) == 0 ? rand_below(&rand, 20) : SIZE_MAX;
        uint32_t got;

        if (t.due_ms[id] != -1) {
            wheel_remove(&t.wheel, id);
            t.due_ms[id] = -1;
        }
        if (rand_below(&rand, 3) != 0) {
            add(&t, id, now + (int64_t)(rand_u64(&rand) >> (20 + rand_below(&rand, 44))));
        }
        now +=
            (int64_t)(rand_below(&rand, 10) == 0 ? rand_u64(&rand) >> 40 : rand_below(&rand, 300));
        while ((got = wheel_pop(&t.wheel, now, &budget)) != WHEEL_NONE) {
            ck_assert_int_ne(t.due_ms[got], -1);
            ck_assert_int_le(t.due_ms[got], now);
            t.due_ms[got] = -1;
        }
        check_against_reference(&t, now, budget > 0);
    }
    table_fini(&t);
}
END_TEST

START_TEST(removing_an_id_from_an_empty_wheel_aborts)
{
    /* A bug in the caller is found at once. */
    struct table t;

    table_init(&t, 1, 0);
    wheel_remove(&t.wheel, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/wheel");
    TCase *tc = tcase_create("wheel");

    tcase_add_test(tc, an_id_is_handed_out_at_its_time_and_never_earlier);
    tcase_add_test(tc, what_is_due_in_the_past_is_handed_out_at_once);
    tcase_add_test(tc, a_removed_id_is_never_handed_out);
    tcase_add_test(tc, time_that_runs_backwards_changes_nothing);
    tcase_add_test(tc, empty_time_costs_nothing);
    tcase_add_test(tc, a_call_never_touches_more_than_its_budget);
    tcase_add_test(tc, an_uptime_longer_than_the_ticks_last_hands_everything_out);
    tcase_add_loop_test(tc, random_use_agrees_with_a_list, 0, 20);
    tcase_add_test_raise_signal(tc, removing_an_id_from_an_empty_wheel_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
