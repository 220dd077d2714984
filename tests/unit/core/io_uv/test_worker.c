#include "core/io_uv/worker.h"

#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <semaphore.h>
#include <signal.h>

#define JOBS 1000

struct numbered_job {
    struct job job;
    int number;
    pthread_t ran_on;
};

static struct loop loop;
static struct worker worker;
static struct numbered_job jobs[JOBS];
static int run_count; /* the thread's, until the loop hears of it */
static int done_count;
static sem_t gate; /* holds the thread inside a job */

static void setup(void)
{
    ck_assert_int_eq(loop_init(&loop), 0);
    ck_assert_int_eq(sem_init(&gate, 0, 0), 0);
    ck_assert_int_eq(worker_start(&worker, &loop, "test-worker", JOBS), 0);
}

static void teardown(void)
{
    worker_stop(&worker);
    loop_fini(&loop);
}

static void run_in_order(struct job *job)
{
    struct numbered_job *mine = LIST_ENTRY(job, struct numbered_job, job);

    ck_assert_int_eq(mine->number, run_count);
    run_count++;
    mine->ran_on = pthread_self();
}

static void done_in_order(struct job *job)
{
    struct numbered_job *mine = LIST_ENTRY(job, struct numbered_job, job);

    ck_assert(loop_is_mine(&loop));
    ck_assert_int_eq(mine->number, done_count);
    done_count++;
}

static void wait_at_gate(struct job *job)
{
    while (sem_wait(&gate) != 0) {
    }
    run_in_order(job);
}

static struct job *job_at(int number)
{
    jobs[number].number = number;
    jobs[number].job = (struct job){.run = run_in_order, .done = done_in_order};
    return &jobs[number].job;
}

static bool are_done(void *arg)
{
    return done_count == *(int *)arg;
}

static void run_to_done(int count)
{
    run_until(&loop, are_done, &count);
}

START_TEST(jobs_run_and_finish_in_order_on_their_threads)
{
    /* run on the worker's thread, done on the loop's, never inside submit. */
    for (int i = 0; i < JOBS; i++) {
        ck_assert_int_eq(worker_submit(&worker, job_at(i)), 0);
    }
    ck_assert_int_eq(done_count, 0);
    run_to_done(JOBS);
    ck_assert_int_eq(pthread_equal(jobs[0].ran_on, pthread_self()), 0);
    ck_assert_int_ne(pthread_equal(jobs[0].ran_on, jobs[JOBS - 1].ran_on), 0);
    ck_assert(worker_is_idle(&worker));
}
END_TEST

START_TEST(an_idle_workers_job_runs_here_and_now)
{
    /* run and done both, on this thread; and the job before it is never overtaken. */
    ck_assert(worker_try_inline(&worker, job_at(0)));
    ck_assert_int_eq(done_count, 1);
    ck_assert_int_ne(pthread_equal(jobs[0].ran_on, pthread_self()), 0);
    ck_assert_int_eq(worker_submit(&worker, job_at(1)), 0);
    run_to_done(2);
    ck_assert(worker_try_inline(&worker, job_at(2)));
    ck_assert_int_eq(done_count, 3);
}
END_TEST

START_TEST(a_busy_workers_job_does_not_run_inline)
{
    /* Neither while one runs, nor before its done was called. */
    job_at(0)->run = wait_at_gate;
    ck_assert_int_eq(worker_submit(&worker, &jobs[0].job), 0);
    ck_assert(!worker_try_inline(&worker, job_at(1)));
    ck_assert_int_eq(sem_post(&gate), 0);
    ck_assert(!worker_try_inline(&worker, job_at(1)));
    run_to_done(1);
    ck_assert(worker_try_inline(&worker, job_at(1)));
}
END_TEST

static void done_then_next(struct job *job)
{
    done_in_order(job);
    if (done_count < 10) {
        struct job *next = job_at(done_count);

        next->done = done_then_next;
        ck_assert(!worker_try_inline(&worker, next)); /* it would recurse */
        ck_assert_int_eq(worker_submit(&worker, next), 0);
    }
}

START_TEST(done_may_submit_the_next_job)
{
    /* But not run it inline, however idle the worker is. */
    job_at(0)->done = done_then_next;
    ck_assert(worker_try_inline(&worker, &jobs[0].job));
    ck_assert_int_eq(done_count, 1);
    run_to_done(10);
}
END_TEST

START_TEST(a_full_worker_refuses)
{
    /* At most jobs_max between submit and done; the job stays the caller's. */
    job_at(0)->run = wait_at_gate;
    ck_assert_int_eq(worker_submit(&worker, &jobs[0].job), 0);
    for (int i = 1; i < JOBS; i++) {
        ck_assert_int_eq(worker_submit(&worker, job_at(i)), 0);
    }
    {
        struct numbered_job extra = {.number = JOBS,
                                     .job = {.run = run_in_order, .done = done_in_order}};

        ck_assert_int_eq(worker_submit(&worker, &extra.job), ESCROW_ELIMIT);
        ck_assert_int_eq(sem_post(&gate), 0);
        run_to_done(JOBS);
        ck_assert_int_eq(worker_submit(&worker, &extra.job), 0);
        run_to_done(JOBS + 1);
    }
}
END_TEST

START_TEST(stop_runs_what_was_submitted)
{
    /* All of it, done included, before it returns; nothing can be submitted after it. */
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(worker_submit(&worker, job_at(i)), 0);
    }
    worker_stop(&worker);
    ck_assert_int_eq(done_count, 100);
    ck_assert_int_eq(worker_submit(&worker, job_at(100)), ESCROW_ESHUTDOWN);
    ck_assert(!worker_try_inline(&worker, job_at(100)));
    worker_stop(&worker);
}
END_TEST

static void done_then_refused(struct job *job)
{
    done_in_order(job);
    ck_assert_int_eq(worker_submit(&worker, job_at(500)), ESCROW_ESHUTDOWN);
}

START_TEST(stop_refuses_jobs_of_the_last_done)
{
    /* Or it would never end. */
    job_at(0)->done = done_then_refused;
    ck_assert_int_eq(worker_submit(&worker, &jobs[0].job), 0);
    worker_stop(&worker);
    ck_assert_int_eq(done_count, 1);
}
END_TEST

static int blocked_in_job;

static void look_at_signals(struct job *job)
{
    sigset_t set;

    (void)job;
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &set), 0);
    blocked_in_job = sigismember(&set, SIGTERM) == 1 && sigismember(&set, SIGINT) == 1;
}

START_TEST(signals_are_left_to_the_loop)
{
    /* The thread has them blocked; the thread that started it keeps its mask. */
    sigset_t set;

    job_at(0)->run = look_at_signals;
    ck_assert_int_eq(worker_submit(&worker, &jobs[0].job), 0);
    run_to_done(1);
    ck_assert_int_eq(blocked_in_job, 1);
    ck_assert_int_eq(pthread_sigmask(SIG_SETMASK, NULL, &set), 0);
    ck_assert_int_eq(sigismember(&set, SIGTERM), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/worker");
    TCase *tc = tcase_create("worker");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, jobs_run_and_finish_in_order_on_their_threads);
    tcase_add_test(tc, an_idle_workers_job_runs_here_and_now);
    tcase_add_test(tc, a_busy_workers_job_does_not_run_inline);
    tcase_add_test(tc, done_may_submit_the_next_job);
    tcase_add_test(tc, a_full_worker_refuses);
    tcase_add_test(tc, stop_runs_what_was_submitted);
    tcase_add_test(tc, stop_refuses_jobs_of_the_last_done);
    tcase_add_test(tc, signals_are_left_to_the_loop);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
