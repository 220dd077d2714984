#include "core/io_uv/loop.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <pthread.h>
#include <signal.h>

static struct loop loop;
static char trace[64]; /* one letter per callback */
static size_t trace_len;

static void setup(void)
{
    ck_assert_int_eq(loop_init(&loop), 0);
    trace_len = 0;
}

static void teardown(void)
{
    loop_fini(&loop);
}

static void mark(void *arg)
{
    ck_assert_uint_lt(trace_len, sizeof trace - 1);
    trace[trace_len++] = *(const char *)arg;
    trace[trace_len] = '\0';
}

static bool has_marks(void *arg)
{
    return trace_len >= *(size_t *)arg;
}

static void run_to(size_t marks)
{
    run_until(&loop, has_marks, &marks);
}

static char a[] = "a";
static char b[] = "b";
static char c[] = "c";
static char d[] = "d";

/* ---- timers ---- */

START_TEST(timers_fire_in_order_of_their_time)
{
    /* Not of their start; at the same time, of their start. None fires inside the call. */
    struct loop_timer timers[4] = {0};

    loop_timer_start(&loop, &timers[3], 30, 0, mark, d);
    loop_timer_start(&loop, &timers[1], 10, 0, mark, b);
    loop_timer_start(&loop, &timers[2], 10, 0, mark, c);
    loop_timer_start(&loop, &timers[0], 0, 0, mark, a);
    ck_assert_uint_eq(trace_len, 0);
    run_to(4);
    ck_assert_str_eq(trace, "abcd");
    for (int i = 0; i < 4; i++) {
        ck_assert(!loop_timer_is_active(&timers[i]));
    }
}
END_TEST

START_TEST(a_timer_never_fires_early)
{
    /* By the clock, not by the iteration's cached time. */
    struct loop_timer t = {0};
    int64_t start_ns;

    loop_time_forget(&loop);
    start_ns = clock_mono_ns(clock_system());
    loop_timer_start(&loop, &t, 15, 0, mark, a);
    run_to(1);
    ck_assert_int_ge(clock_mono_ns(clock_system()) - start_ns, 15 * 1000000);
}
END_TEST

START_TEST(a_stopped_timer_may_be_freed_at_once)
{
    /* Stopping twice is fine; what was started before and after still fires. */
    struct loop_timer before = {0};
    struct loop_timer after = {0};
    struct loop_timer *gone = mem_calloc(1, sizeof *gone);

    loop_timer_start(&loop, &before, 1, 0, mark, a);
    loop_timer_start(&loop, gone, 2, 0, mark, b);
    loop_timer_start(&loop, &after, 3, 0, mark, c);
    loop_timer_stop(&loop, gone);
    loop_timer_stop(&loop, gone);
    mem_free(gone);
    run_to(2);
    ck_assert_str_eq(trace, "ac");
}
END_TEST

START_TEST(starting_again_moves_a_timer)
{
    /* It fires once, at the new time, with the new argument. */
    struct loop_timer t = {0};
    struct loop_timer other = {0};

    loop_timer_start(&loop, &t, 1, 0, mark, a);
    loop_timer_start(&loop, &other, 10, 0, mark, c);
    loop_timer_start(&loop, &t, 20, 0, mark, b);
    run_to(2);
    ck_assert_str_eq(trace, "cb");
}
END_TEST

START_TEST(a_repeating_timer_repeats_until_stopped)
{
    /* And once stopped it stays so. */
    struct loop_timer t = {0};

    loop_timer_start(&loop, &t, 0, 1, mark, a);
    run_to(3);
    ck_assert(loop_timer_is_active(&t));
    loop_timer_stop(&loop, &t);
    trace_len = 0;
    run_for(&loop, 20);
    ck_assert_uint_eq(trace_len, 0);
}
END_TEST

static struct loop_timer eager;

static void restart_at_once(void *arg)
{
    mark(arg);
    loop_timer_start(&loop, &eager, 0, 0, restart_at_once, arg);
}

START_TEST(a_timer_that_restarts_itself_lets_others_live)
{
    /* Once per iteration, so that poll and the other timers have their turn. */
    struct loop_timer other = {0};

    loop_timer_start(&loop, &eager, 0, 0, restart_at_once, a);
    loop_timer_start(&loop, &other, 0, 0, mark, b);
    loop_run_once(&loop, false);
    loop_run_once(&loop, false);
    ck_assert_ptr_nonnull(strchr(trace, 'b'));
    ck_assert_uint_le(trace_len, 4);
    loop_timer_stop(&loop, &eager);
}
END_TEST

START_TEST(a_delay_beyond_the_end_of_time_never_fires)
{
    /* The largest delay does not wrap around to the past. */
    struct loop_timer t = {0};

    loop_timer_start(&loop, &t, UINT64_MAX, 0, mark, a);
    run_for(&loop, 5);
    ck_assert_uint_eq(trace_len, 0);
    loop_timer_stop(&loop, &t);
}
END_TEST

#define MODEL_TIMERS 3000

struct model_timer {
    struct loop_timer timer;
    int fired;
    bool is_stopped;
};

static struct model_timer model[MODEL_TIMERS];
static size_t model_left;
static int64_t model_last_due_ns;

static void model_fire(void *arg)
{
    struct model_timer *t = arg;

    ck_assert(!t->is_stopped);
    ck_assert_int_ge(t->timer.due_ns, model_last_due_ns);
    model_last_due_ns = t->timer.due_ns;
    t->fired++;
    model_left--;
}

static bool model_is_done(void *arg)
{
    (void)arg;
    return model_left == 0;
}

START_TEST(thousands_of_timers_keep_their_order)
{
    /* Random times; a third stopped again, from the middle of the heap; the rest fires in order. */
    struct rand r;

    rand_init(&r, 11);
    model_left = MODEL_TIMERS;
    for (size_t i = 0; i < MODEL_TIMERS; i++) {
        loop_timer_start(&loop, &model[i].timer, 5 + rand_below(&r, 50), 0, model_fire, &model[i]);
    }
    for (size_t i = 0; i < MODEL_TIMERS; i++) {
        if (rand_below(&r, 3) == 0) {
            loop_timer_stop(&loop, &model[i].timer);
            model[i].is_stopped = true;
            model_left--;
        }
    }
    run_until(&loop, model_is_done, NULL);
    for (size_t i = 0; i < MODEL_TIMERS; i++) {
        ck_assert_int_eq(model[i].fired, model[i].is_stopped ? 0 : 1);
    }
}
END_TEST

/* ---- deferred calls and hooks ---- */

START_TEST(a_deferred_call_comes_once_and_later)
{
    /* Deferring twice is once; cancelling works; order is kept. */
    struct loop_deferred first;
    struct loop_deferred second;
    struct loop_deferred third;

    loop_deferred_init(&first, mark, a);
    loop_deferred_init(&second, mark, b);
    loop_deferred_init(&third, mark, c);
    loop_defer(&loop, &first);
    loop_defer(&loop, &second);
    loop_defer(&loop, &third);
    loop_defer(&loop, &first);
    loop_deferred_cancel(&second);
    loop_deferred_cancel(&second);
    ck_assert_uint_eq(trace_len, 0);
    loop_run_once(&loop, false);
    loop_run_once(&loop, false);
    ck_assert_str_eq(trace, "ac");
}
END_TEST

static struct loop_deferred again;

static void defer_again(void *arg)
{
    mark(arg);
    if (trace_len < 5) {
        loop_defer(&loop, &again);
    }
}

START_TEST(deferring_again_runs_once_per_iteration_without_sleeping)
{
    /* Without anything else that could wake the loop. */
    loop_deferred_init(&again, defer_again, a);
    loop_defer(&loop, &again);
    loop_run_once(&loop, true);
    ck_assert_uint_eq(trace_len, 1);
    for (int i = 0; i < 4; i++) {
        loop_run_once(&loop, true);
    }
    ck_assert_uint_eq(trace_len, 5);
}
END_TEST

START_TEST(phases_come_in_order)
{
    /* The next poll's hooks, timers, deferred calls, before sleep, flush. */
    struct loop_hook after = {0};
    struct loop_hook before = {0};
    struct loop_hook flush = {0};
    struct loop_deferred deferred;

    loop_hook_start(&loop, LOOP_FLUSH, &flush, mark, d);
    loop_hook_start(&loop, LOOP_BEFORE_SLEEP, &before, mark, c);
    loop_hook_start(&loop, LOOP_AFTER_POLL, &after, mark, a);
    loop_deferred_init(&deferred, mark, b);
    loop_defer(&loop, &deferred);
    loop_run_once(&loop, false);
    loop_hook_stop(&loop, &after);
    loop_hook_stop(&loop, &before);
    loop_hook_stop(&loop, &flush);
    ck_assert_str_eq(trace, "bcda");
    trace_len = 0;
    loop_run_once(&loop, false);
    ck_assert_uint_eq(trace_len, 0);
}
END_TEST

static struct loop_hook hooks[3];

static void stop_neighbours(void *arg)
{
    mark(arg);
    for (int i = 0; i < 3; i++) {
        loop_hook_stop(&loop, &hooks[i]);
    }
}

START_TEST(hooks_may_stop_themselves_and_the_next_one)
{
    /* What was stopped is not called any more, not even in this round. */
    loop_hook_start(&loop, LOOP_FLUSH, &hooks[0], mark, a);
    loop_hook_start(&loop, LOOP_FLUSH, &hooks[1], stop_neighbours, b);
    loop_hook_start(&loop, LOOP_FLUSH, &hooks[2], mark, c);
    loop_run_once(&loop, false);
    loop_run_once(&loop, false);
    ck_assert_str_eq(trace, "ab");
}
END_TEST

/* ---- time, threads, signals ---- */

static int64_t seen_ns[2];

static void see_time_twice(void *arg)
{
    struct clock *clock = clock_system();
    int64_t start_ns = clock_mono_ns(clock);

    mark(arg);
    seen_ns[0] = loop_mono_ns(&loop);
    while (clock_mono_ns(clock) < start_ns + 2000000) {
    }
    seen_ns[1] = loop_mono_ns(&loop);
}

START_TEST(time_stands_still_within_an_iteration)
{
    /* And moves on with the next, or when asked to. */
    struct loop_timer t = {0};

    loop_timer_start(&loop, &t, 0, 0, see_time_twice, a);
    run_to(1);
    ck_assert_int_eq(seen_ns[0], seen_ns[1]);
    ck_assert_int_gt(loop_mono_ns(&loop), seen_ns[1]);
    seen_ns[0] = loop_mono_ns(&loop);
    loop_time_forget(&loop);
    ck_assert_int_gt(loop_mono_ns(&loop), seen_ns[0]);
    ck_assert_int_le(loop_wall_ms(&loop), clock_wall_ms(clock_system()));
}
END_TEST

static void block_the_loop(void *arg)
{
    struct clock *clock = clock_system();
    int64_t end_ms = clock_mono_ms(clock) + LOOP_SLOW_MS + 10;

    mark(arg);
    while (clock_mono_ms(clock) < end_ms) {
    }
}

START_TEST(a_slow_iteration_is_counted)
{
    /* Waiting for events is not slow, however long it takes. */
    struct loop_timer t = {0};
    uint64_t slow;

    loop_timer_start(&loop, &t, LOOP_SLOW_MS + 20, 0, mark, a);
    run_to(1);
    slow = loop.stats.slow_iterations;
    loop_timer_start(&loop, &t, 1, 0, block_the_loop, b);
    run_to(2);
    loop_run_once(&loop, false);
    ck_assert_uint_ge(loop.stats.slow_iterations, slow + 1);
    ck_assert_uint_ge(loop.stats.longest_ms, LOOP_SLOW_MS);
}
END_TEST

static void *wake_from_thread(void *arg)
{
    ck_assert(!loop_is_mine(&loop));
    loop_wake(&loop);
    return arg;
}

START_TEST(another_thread_wakes_the_loop)
{
    /* It runs the WAKE hooks, and knows that it is not the owner. */
    struct loop_hook hook = {0};
    pthread_t thread;

    loop_hook_start(&loop, LOOP_WAKE, &hook, mark, a);
    ck_assert(loop_is_mine(&loop));
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_from_thread, NULL), 0);
    run_to(1);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    loop_hook_stop(&loop, &hook);
}
END_TEST

static void *use_from_thread(void *arg)
{
    struct loop_timer t = {0};

    loop_timer_start(&loop, &t, 0, 0, mark, arg);
    return NULL;
}

START_TEST(what_has_arrived_can_be_seen_before_it_is_taken)
{
    /* A wake-up is an event until the loop has taken it. */
    struct loop_hook hook;

    loop_hook_start(&loop, LOOP_WAKE, &hook, mark, a);
    loop_run_once(&loop, false);
    ck_assert(!loop_has_events(&loop));
    loop_wake(&loop);
    ck_assert(loop_has_events(&loop));
    ck_assert(loop_has_events(&loop)); /* seeing takes nothing */
    ck_assert_uint_eq(trace_len, 0);
    run_to(1);
    ck_assert(!loop_has_events(&loop));
    loop_hook_stop(&loop, &hook);
}
END_TEST

START_TEST(another_thread_may_not_touch_the_loop)
{
    /* DCHECK_THREAD, in the builds that have it. */
#ifdef ESCROW_DCHECK
    pthread_t thread;

    ck_assert_int_eq(pthread_create(&thread, NULL, use_from_thread, a), 0);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
#else
    (void)use_from_thread;
    abort();
#endif
}
END_TEST

static void stop_loop(void *arg)
{
    mark(arg);
    loop_stop(&loop);
}

START_TEST(run_ends_with_stop_and_can_be_called_again)
{
    /* Nothing but stop ends it, not even having nothing to do. */
    struct loop_timer t = {0};

    loop_timer_start(&loop, &t, 1, 0, stop_loop, a);
    loop_run(&loop);
    loop_timer_start(&loop, &t, 1, 0, stop_loop, b);
    loop_run(&loop);
    ck_assert_str_eq(trace, "ab");
}
END_TEST

START_TEST(signals_are_delivered_on_the_loop)
{
    /* As a callback, not in a handler. There is room for LOOP_SIGNALS_MAX. */
    ck_assert_int_eq(loop_on_signal(&loop, SIGTERM, mark, a), 0);
    ck_assert_int_eq(loop_on_signal(&loop, SIGINT, mark, b), 0);
    ck_assert_int_eq(raise(SIGTERM), 0);
    ck_assert_uint_eq(trace_len, 0);
    run_to(1);
    ck_assert_int_eq(raise(SIGINT), 0);
    run_to(2);
    ck_assert_str_eq(trace, "ab");
    ck_assert_int_eq(loop_on_signal(&loop, 0, mark, c), ESCROW_EINVAL);
    ck_assert_int_eq(loop_on_signal(&loop, SIGUSR1, mark, c), 0);
    ck_assert_int_eq(loop_on_signal(&loop, SIGUSR2, mark, c), ESCROW_ELIMIT);
}
END_TEST

START_TEST(a_broken_pipe_is_no_signal)
{
    /* Writing to a peer that is gone gives an error on the thread of the loop. */
    int ends[2];

    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(close(ends[0]), 0);
    ck_assert_int_eq((int)write(ends[1], "x", 1), -1);
    ck_assert_int_eq(close(ends[1]), 0);
}
END_TEST

START_TEST(a_timer_left_behind_aborts_fini)
{
    /* It would point into freed memory. */
    static struct loop_timer t;

    loop_timer_start(&loop, &t, 1000, 0, mark, a);
    loop_fini(&loop);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/loop");
    TCase *tc = tcase_create("loop");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, timers_fire_in_order_of_their_time);
    tcase_add_test(tc, a_timer_never_fires_early);
    tcase_add_test(tc, a_stopped_timer_may_be_freed_at_once);
    tcase_add_test(tc, starting_again_moves_a_timer);
    tcase_add_test(tc, a_repeating_timer_repeats_until_stopped);
    tcase_add_test(tc, a_timer_that_restarts_itself_lets_others_live);
    tcase_add_test(tc, a_delay_beyond_the_end_of_time_never_fires);
    tcase_add_test(tc, thousands_of_timers_keep_their_order);
    tcase_add_test(tc, a_deferred_call_comes_once_and_later);
    tcase_add_test(tc, deferring_again_runs_once_per_iteration_without_sleeping);
    tcase_add_test(tc, phases_come_in_order);
    tcase_add_test(tc, hooks_may_stop_themselves_and_the_next_one);
    tcase_add_test(tc, time_stands_still_within_an_iteration);
    tcase_add_test(tc, a_slow_iteration_is_counted);
    tcase_add_test(tc, another_thread_wakes_the_loop);
    tcase_add_test(tc, what_has_arrived_can_be_seen_before_it_is_taken);
    tcase_add_test_raise_signal(tc, another_thread_may_not_touch_the_loop, SIGABRT);
    tcase_add_test(tc, run_ends_with_stop_and_can_be_called_again);
    tcase_add_test(tc, signals_are_delivered_on_the_loop);
    tcase_add_test(tc, a_broken_pipe_is_no_signal);
    tcase_add_test_raise_signal(tc, a_timer_left_behind_aborts_fini, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
