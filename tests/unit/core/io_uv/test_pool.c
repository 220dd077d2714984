#include "core/io_uv/pool.h"

#include "escrow/errors.h"
#include "tests/unit/core/io_uv/uv_test.h"

#include <pthread.h>
#include <stdatomic.h>

#define JOBS 100

static struct loop loop;
static struct pool pool;
static struct pool_job jobs[JOBS];
static _Atomic int run_count;
static int done_count;
static pthread_t loop_thread;

static void setup(void)
{
    ck_assert_int_eq(loop_init(&loop), 0);
    pool_init(&pool, &loop, JOBS);
    loop_thread = pthread_self();
}

static void teardown(void)
{
    pool_fini(&pool);
    loop_fini(&loop);
}

static void run_elsewhere(struct pool_job *job)
{
    (void)job;
    ck_assert_int_eq(pthread_equal(pthread_self(), loop_thread), 0);
    atomic_fetch_add(&run_count, 1);
}

static void done_here(struct pool_job *job)
{
    (void)job;
    ck_assert(loop_is_mine(&loop));
    done_count++;
}

static int submit(int i)
{
    jobs[i].run = run_elsewhere;
    jobs[i].done = done_here;
    return pool_submit(&pool, &jobs[i]);
}

static bool are_done(void *arg)
{
    return done_count == *(int *)arg;
}

static void run_to_done(int count)
{
    run_until(&loop, are_done, &count);
}

START_TEST(jobs_run_elsewhere_and_are_done_here)
{
    /* Each once; the count in flight goes up with submit and down with done. */
    for (int i = 0; i < JOBS; i++) {
        ck_assert_int_eq(submit(i), 0);
        ck_assert_uint_eq(pool_in_flight(&pool), (size_t)i + 1);
    }
    ck_assert_int_eq(done_count, 0);
    run_to_done(JOBS);
    ck_assert_int_eq(atomic_load(&run_count), JOBS);
    ck_assert_uint_eq(pool_in_flight(&pool), 0);
}
END_TEST

START_TEST(a_full_pool_refuses)
{
    /* The job stays the caller's, and fits later. */
    struct pool_job extra = {.run = run_elsewhere, .done = done_here};

    for (int i = 0; i < JOBS; i++) {
        ck_assert_int_eq(submit(i), 0);
    }
    ck_assert_int_eq(pool_submit(&pool, &extra), ESCROW_ELIMIT);
    run_to_done(JOBS);
    ck_assert_int_eq(pool_submit(&pool, &extra), 0);
    run_to_done(JOBS + 1);
}
END_TEST

static void done_again(struct pool_job *job)
{
    done_count++;
    if (done_count < 10) {
        ck_assert_int_eq(pool_submit(&pool, job), 0);
    }
}

START_TEST(done_may_submit_the_same_job_again)
{
    /* It is the owner's from the moment done is called. */
    struct pool_job job = {.run = run_elsewhere, .done = done_again};

    ck_assert_int_eq(pool_submit(&pool, &job), 0);
    run_to_done(10);
}
END_TEST

static pthread_barrier_t barrier;

static void meet(struct pool_job *job)
{
    (void)job;
    (void)pthread_barrier_wait(&barrier); /* its result says who was last */
}

START_TEST(jobs_run_side_by_side)
{
    /* Two jobs that wait for each other come to an end. */
    ck_assert_int_eq(pthread_barrier_init(&barrier, NULL, 2), 0);
    for (int i = 0; i < 2; i++) {
        jobs[i].run = meet;
        jobs[i].done = done_here;
        ck_assert_int_eq(pool_submit(&pool, &jobs[i]), 0);
    }
    run_to_done(2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/io_uv/pool");
    TCase *tc = tcase_create("pool");

    tcase_set_timeout(tc, 30);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, jobs_run_elsewhere_and_are_done_here);
    tcase_add_test(tc, a_full_pool_refuses);
    tcase_add_test(tc, done_may_submit_the_same_job_again);
    tcase_add_test(tc, jobs_run_side_by_side);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
