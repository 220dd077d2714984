/*
 * The jobs of queues and key index on another thread, on a real disk, while the loop goes on: worth
 * most under ThreadSanitizer.
 */
#include "core/base/mem.h"
#include "core/io_uv/disk_posix.h"
#include "core/store/key_index.h"
#include "core/store/queues.h"
#include "tests/lib/temp_folder.h"
#include "tests/unit/core/base/unit_main.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct jobs {
    struct queues_flush *queues;
    struct key_index_flush *index;
    struct key_index_find *find;
    struct queues_read *read;
    int rc;
};

static char folder[TEMP_FOLDER_MAX];
static struct disk *disk;
static struct queues *qs;
static struct key_index *ix;
static struct queue *queue;
static uint64_t log_end;

static void setup(void)
{
    struct queues_options queue_options = {.files_open_max = 4};
    struct key_index_options index_options = {.file_entries = 500, .merge_files = 3};
    struct key_index_report report;

    ck_assert(temp_folder_make(folder, "derived"));
    ck_assert_int_eq(disk_posix_new(folder, &disk, NULL), 0);
    queue_options.disk = disk;
    index_options.disk = disk;
    ck_assert_int_eq(queues_new(&qs, &queue_options), 0);
    ck_assert_int_eq(key_index_open(&ix, &index_options, SLICE_EMPTY, &report, NULL), 0);
    ck_assert_int_eq(queues_get(qs, SLICE_LIT("t"), 0, &queue), 0);
}

static int remove_name(void *arg, const char *name, bool is_dir)
{
    char path[256];

    (void)is_dir;
    (void)snprintf(path, sizeof path, "%s/%s", (const char *)arg, name);
    ck_assert_int_eq(disk_unlink(disk, path, NULL), 0);
    return 0;
}

static void teardown(void)
{
    queues_check(qs);
    queues_free(&qs);
    key_index_free(&ix);
    ck_assert_int_eq(disk_list(disk, "index", remove_name, (void *)(uintptr_t) "index", NULL), 0);
    ck_assert_int_eq(
        disk_list(disk, "queues/t/0", remove_name, (void *)(uintptr_t) "queues/t/0", NULL), 0);
    ck_assert_int_eq(disk_rmdir(disk, "index", NULL), 0);
    ck_assert_int_eq(disk_rmdir(disk, "queues/t/0", NULL), 0);
    ck_assert_int_eq(disk_rmdir(disk, "queues/t", NULL), 0);
    ck_assert_int_eq(disk_rmdir(disk, "queues", NULL), 0);
    disk_free(&disk);
    ck_assert_int_eq(rmdir(folder), 0);
    ck_assert_int_eq(mem_live_count(), 0);
}

static void put(uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct queue_entry entry = {.offset = log_end, .size_bytes = 1};
        uint64_t number = 0;
        char key[32];

        if (queue_reserve(queue, &number) != 0) {
            ck_abort_msg("no memory");
        }
        (void)queues_put(qs, queue, &entry);
        (void)snprintf(key, sizeof key, "%u", (unsigned)(number % 50));
        key_index_put(ix, log_end, log_end, (int64_t)number, SLICE_LIT("t"), slice_str(key));
        log_end += 8;
    }
}

static void read_all(void)
{
    struct queue_entry entries[256];
    uint32_t got;

    for (uint64_t n = 0; n < queue->visible; n += got) {
        int rc = queues_read_nowait(qs, queue, n, 256, entries, &got);
        if (rc == ESCROW_EAGAIN) {
            got = 256; /* its file is not open: the job's business */
            continue;
        }
        if (rc != 0 || entries[0].offset != n * 8) {
            ck_abort_msg("entry %llu: %d", (unsigned long long)n, rc);
        }
    }
}

static void *run(void *arg)
{
    struct jobs *jobs = arg;

    jobs->rc = queues_flush_run(jobs->queues, NULL);
    jobs->rc = jobs->rc != 0 ? jobs->rc : key_index_flush_run(jobs->index, NULL);
    return NULL;
}

static void *look(void *arg)
{
    struct jobs *jobs = arg;

    jobs->rc = key_index_find_run(jobs->find, NULL);
    if (jobs->rc == 0 && jobs->read != NULL) {
        jobs->rc = queues_read_run(jobs->read, NULL);
    }
    return NULL;
}

START_TEST(jobs_run_beside_the_loop)
{
    /* A flush and a look-up, each on its thread; puts and reads here; the same answers as ever. */
    for (int round = 0; round < 25; round++) {
        struct jobs flush = {0};
        struct jobs find = {0};
        struct queues_read read;
        struct queue_entry entries[64];
        struct key_index_query q = {.topic = SLICE_LIT("t"),
                                    .key = SLICE_LIT("7"),
                                    .end_ms = INT64_MAX,
                                    .count_max = KEY_INDEX_HITS_MAX};
        const struct key_index_hit *hits;
        pthread_t flusher;
        pthread_t finder;
        struct buf b;
        uint32_t count;

        put(2000);
        buf_init(&b, 0);
        ck_assert_int_eq(queues_flush_take(qs, &flush.queues), 0);
        ck_assert_int_eq(queues_encode(qs, flush.queues, &b), 0);
        ck_assert_int_eq(key_index_flush_take(ix, &flush.index), 0);
        ck_assert_int_eq(key_index_find_take(ix, &q, &find.find), 0);
        if (queue->flushed > 0) {
            ck_assert_int_eq(queues_read_take(qs, queue, 5, 64, entries, &read), 0);
            find.read = &read;
        }
        ck_assert_int_eq(pthread_create(&flusher, NULL, run, &flush), 0);
        ck_assert_int_eq(pthread_create(&finder, NULL, look, &find), 0);
        put(1500);
        read_all();
        ck_assert_int_eq(pthread_join(finder, NULL), 0);
        ck_assert_int_eq(find.rc, 0);
        hits = key_index_find_hits(find.find, &count);
        ck_assert_uint_eq(count, (uint32_t)(round * 3500 + 2000) / 50 < KEY_INDEX_HITS_MAX
                                     ? (uint32_t)(round * 3500 + 2000) / 50
                                     : KEY_INDEX_HITS_MAX);
        ck_assert_uint_eq(hits[0].offset / 8 % 50, 7);
        key_index_find_done(&find.find);
        if (find.read != NULL) {
            ck_assert_uint_eq(entries[0].offset, 5 * 8);
            queues_read_done(&read);
        }
        ck_assert_int_eq(pthread_join(flusher, NULL), 0);
        ck_assert_int_eq(flush.rc, 0);
        queues_flush_done(&flush.queues, 0);
        key_index_flush_done(&flush.index, 0);
        read_all();
        key_index_check(ix);
        buf_fini(&b);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/derived_jobs");
    TCase *t = tcase_create("derived_jobs");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, jobs_run_beside_the_loop);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
