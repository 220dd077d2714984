/*
 * The promise of the job table in core/store/README.md: a batch, a segment, a flush and fetches run
 * on other threads while the loop appends, applies and reads. On the kernel's files; the thread
 * sanitizer is the judge.
 */
#include "core/store/store.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/io_uv/disk_posix.h"
#include "tests/lib/temp_folder.h"
#include "tests/lib/test_store.h"
#include "tests/unit/core/base/unit_main.h"

#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>

/* A thread that runs one thing at a time. */
struct runner {
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    void (*fn)(void *arg);
    void *arg;
    bool is_busy;
    bool is_over;
};

static void *runner_main(void *arg)
{
    struct runner *r = arg;

    CHECK(pthread_mutex_lock(&r->mutex) == 0);
    while (!r->is_over) {
        if (r->fn == NULL) {
            CHECK(pthread_cond_wait(&r->cond, &r->mutex) == 0);
            continue;
        }
        CHECK(pthread_mutex_unlock(&r->mutex) == 0);
        r->fn(r->arg);
        CHECK(pthread_mutex_lock(&r->mutex) == 0);
        r->fn = NULL;
        r->is_busy = false;
    }
    CHECK(pthread_mutex_unlock(&r->mutex) == 0);
    return NULL;
}

static void runner_start(struct runner *r)
{
    *r = (struct runner){.fn = NULL};
    CHECK(pthread_mutex_init(&r->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&r->cond, NULL) == 0);
    CHECK(pthread_create(&r->thread, NULL, runner_main, r) == 0);
}

static void runner_give(struct runner *r, void (*fn)(void *arg), void *arg)
{
    CHECK(pthread_mutex_lock(&r->mutex) == 0);
    CHECK(!r->is_busy);
    r->fn = fn;
    r->arg = arg;
    r->is_busy = true;
    CHECK(pthread_cond_signal(&r->cond) == 0);
    CHECK(pthread_mutex_unlock(&r->mutex) == 0);
}

static bool runner_is_idle(struct runner *r)
{
    bool is_idle;

    CHECK(pthread_mutex_lock(&r->mutex) == 0);
    is_idle = !r->is_busy;
    CHECK(pthread_mutex_unlock(&r->mutex) == 0);
    return is_idle;
}

static void runner_stop(struct runner *r)
{
    CHECK(pthread_mutex_lock(&r->mutex) == 0);
    r->is_over = true;
    CHECK(pthread_cond_signal(&r->cond) == 0);
    CHECK(pthread_mutex_unlock(&r->mutex) == 0);
    CHECK(pthread_join(r->thread, NULL) == 0);
    CHECK(pthread_cond_destroy(&r->cond) == 0);
    CHECK(pthread_mutex_destroy(&r->mutex) == 0);
}

/* ------------------------------------------------------------------ a loop with four helpers */

struct rig {
    struct test_store ts;
    struct runner log;
    struct runner pool[3];
    struct log_batch *batch;
    struct segment_job *segment;
    struct flush_job *flush;
    struct store_fetch *fetch;
    bool is_fetching;
    atomic_bool has_begun; /* begin_fetch; orders nothing else */
    int64_t next;          /* of the consumer */
    uint64_t sent;
};

static void run_batch(void *arg)
{
    int rc = log_batch_run(arg, NULL);

    (void)rc; /* stays with the batch */
}

static void run_segment(void *arg)
{
    segment_job_run(arg);
}

static void run_flush(void *arg)
{
    flush_job_run(arg);
}

static void run_fetch(void *arg)
{
    store_fetch_run(arg);
}

static void begin_fetch(void *arg)
{
    struct rig *rig = arg;

    atomic_store_explicit(&rig->has_begun, true, memory_order_relaxed);
    store_fetch_run(rig->fetch);
}

static void complete(struct rig *rig)
{
    if (rig->batch != NULL && runner_is_idle(&rig->log)) {
        ck_assert_int_eq(store_batch_done(rig->ts.st, &rig->batch, NULL), 0);
    }
    if (rig->segment != NULL && runner_is_idle(&rig->pool[0])) {
        ck_assert_int_eq(store_prepare_done(rig->ts.st, &rig->segment, 1, NULL), 0);
    }
    if (rig->flush != NULL && runner_is_idle(&rig->pool[1])) {
        ck_assert_int_eq(store_flush_done(rig->ts.st, &rig->flush, NULL), 0);
    }
    if (rig->is_fetching && runner_is_idle(&rig->pool[2])) {
        rig->is_fetching = false;
    }
}

static void give(struct rig *rig, bool force)
{
    if (rig->batch == NULL) {
        rig->batch = store_batch_take(rig->ts.st);
        if (rig->batch != NULL) {
            runner_give(&rig->log, run_batch, rig->batch);
        }
    }
    if (rig->segment == NULL) {
        rig->segment = store_prepare_take(rig->ts.st, 1);
        if (rig->segment != NULL) {
            runner_give(&rig->pool[0], run_segment, rig->segment);
        }
    }
    if (rig->flush == NULL) {
        rig->flush = store_flush_take(rig->ts.st, force);
        if (rig->flush != NULL) {
            runner_give(&rig->pool[1], run_flush, rig->flush);
        }
    }
}

/*
 * The consumer reads what is visible; now and then it starts over, from what is old and perhaps
 * cold.
 */
static void consume(struct rig *rig)
{
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = rig->next, .count_max = 32, .bytes_max = 65536};
    struct store_pull_result res;
    struct record_walk walk;
    struct record_view view;
    struct buf body;
    int rc;

    if (rig->is_fetching) {
        return;
    }
    buf_init(&body, 0);
    rc = store_pull(rig->ts.st, &req, rig->fetch, &body, &res, NULL);
    if (rc == ESCROW_EAGAIN) {
        rig->is_fetching = true;
        runner_give(&rig->pool[2], run_fetch, rig->fetch);
    } else {
        ck_assert_int_eq(rc, 0);
        walk.rest = buf_slice(&body);
        while (record_walk_next(&walk, &view) == 1) {
            ck_assert_uint_eq(get_le64(view.f.body.ptr), (uint64_t)rig->next);
            rig->next++;
        }
        ck_assert_int_eq(rig->next, res.next_offset);
    }
    buf_fini(&body);
}

static void produce(struct rig *rig)
{
    uint8_t body[2000] = {0};
    struct test_message m = {
        .topic = "T", .body = slice_of(body, sizeof body), .uniq = "U", .keys = "k"};
    struct store_receipt r;

    for (int i = 0; i < 20; i++) {
        put_le64(body, rig->sent);
        if (test_append(&rig->ts, STORE_MESSAGE, &m, &r) != 0) {
            break; /* back-pressure */
        }
        rig->sent++;
    }
}

/* One pull from the front. */
static int read_first(struct rig *rig)
{
    struct store_pull_request req = {
        .topic = SLICE_LIT("T"), .offset = 0, .count_max = 1, .bytes_max = 65536};
    struct store_pull_result res;
    struct buf body;
    int rc;

    buf_init(&body, 0);
    rc = store_pull(rig->ts.st, &req, rig->fetch, &body, &res, &rig->ts.err);
    buf_fini(&body);
    return rc;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
    (void)st;
    (void)kind;
    (void)ftw;
    return remove(path);
}

START_TEST(jobs_run_beside_the_loop)
{
    /* Several segments and checkpoints; everything arrives in order, live and after a restart. */
    static struct rig rig;
    char folder[TEMP_FOLDER_MAX];
    struct store_config cfg;
    struct disk *disk;

    ck_assert(temp_folder_make(folder, "store-threads"));
    ck_assert_int_eq(disk_posix_new(folder, &disk, NULL), 0);
    test_store_config(&cfg);
    cfg.checkpoint_bytes = 300000;
    cfg.batch_bytes_max = 200000;
    ck_assert_int_eq(test_store_open(&rig.ts, disk, &cfg), 0);
    rig.fetch = store_fetch_new(rig.ts.st);
    runner_start(&rig.log);
    for (int i = 0; i < 3; i++) {
        runner_start(&rig.pool[i]);
    }
    while (rig.sent < 3000 || rig.next < (int64_t)rig.sent) {
        if (rig.sent < 3000) {
            produce(&rig);
        }
        give(&rig, false);
        consume(&rig);
        complete(&rig);
    }
    do {
        complete(&rig);
        give(&rig, true);
    } while (rig.batch != NULL || rig.segment != NULL || rig.flush != NULL || rig.is_fetching);
    runner_stop(&rig.log);
    for (int i = 0; i < 3; i++) {
        runner_stop(&rig.pool[i]);
    }
    store_check(rig.ts.st);
    ck_assert_uint_gt(store_watermarks(rig.ts.st).visible, 5 * STORE_SEGMENT_BYTES_MIN);
    store_fetch_free(&rig.fetch);
    test_store_close(&rig.ts);
    ck_assert_int_eq(test_store_open(&rig.ts, disk, NULL), 0);
    ck_assert_uint_eq(rig.ts.recovery.records, 0);
    ck_assert_uint_eq(rig.ts.owner.messages, rig.sent);
    test_store_close(&rig.ts);
    disk_free(&disk);
    ck_assert_int_eq(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(a_rebuild_is_stopped_by_the_loop)
{
    /* Wherever it is then: it has ended, or it has not begun to write. */
    static struct rig rig;
    char folder[TEMP_FOLDER_MAX];
    struct disk *disk;

    ck_assert(temp_folder_make(folder, "store-threads"));
    ck_assert_int_eq(disk_posix_new(folder, &disk, NULL), 0);
    ck_assert_int_eq(test_store_open(&rig.ts, disk, NULL), 0);
    for (int i = 0; i < 50; i++) {
        produce(&rig);
        ck_assert_int_eq(test_store_run(&rig.ts), 0);
    }
    for (int i = 0; i < 2; i++) { /* what was quiet between two of them goes to files */
        ck_assert_int_eq(test_position(&rig.ts, 1, &(struct store_receipt){0}), 0);
        ck_assert_int_eq(test_store_run(&rig.ts), 0);
        ck_assert_int_eq(test_store_checkpoint(&rig.ts, true), 0);
    }
    test_store_close(&rig.ts);
    runner_start(&rig.pool[2]);
    for (int round = 0; round < 4; round++) {
        int reads = 0;
        int rc;
        rc = disk_unlink(disk, "queues/T/0/00000000000000000000", NULL);
        ck_assert(rc == 0 || (round > 0 && rc == ESCROW_ENOTFOUND));
        ck_assert_int_eq(test_store_open(&rig.ts, disk, NULL), 0);
        rig.fetch = store_fetch_new(rig.ts.st);
        while ((rc = read_first(&rig)) == ESCROW_EAGAIN) {
            atomic_store_explicit(&rig.has_begun, false, memory_order_relaxed);
            runner_give(&rig.pool[2], begin_fetch, &rig);
            while (!atomic_load_explicit(&rig.has_begun, memory_order_relaxed)) {
            }
            if (++reads == 3 && round < 3) { /* two were in vain: it is the rebuild */
                store_stop_rebuilds(rig.ts.st);
            }
            while (!runner_is_idle(&rig.pool[2])) {
            }
        }
        ck_assert_int_ge(reads, 3);
        ck_assert(rc == 0 || (round < 3 && rc == ESCROW_ESHUTDOWN));
        ck_assert_uint_eq(store_stats(rig.ts.st).entries_rebuilt, rc == 0 ? rig.sent : 0);
        store_fetch_free(&rig.fetch);
        test_store_close(&rig.ts);
    }
    runner_stop(&rig.pool[2]);
    disk_free(&disk);
    ck_assert_int_eq(nftw(folder, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/store_threads");
    TCase *tc = tcase_create("store_threads");

    tcase_add_test(tc, jobs_run_beside_the_loop);
    tcase_add_test(tc, a_rebuild_is_stopped_by_the_loop);
    tcase_set_timeout(tc, 60);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
