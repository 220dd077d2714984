#include "core/store/queues.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "core/store/queue_path.h"
#include "core/store/queues_private.h"
#include "tests/unit/core/base/unit_main.h"
#include "tests/unit/core/store/mem_disk.h"

#include <malloc.h>

#define FILE_ENTRIES QUEUE_FILE_ENTRIES

static struct disk *disk;
static struct queues *qs;
static struct buf section; /* of the last durable checkpoint */

static struct queues *new_set(struct disk *d)
{
    struct queues_options options = {.disk = d, .hash_key = {1, 2}, .files_open_max = 8};
    struct queues *set = NULL;

    ck_assert_int_eq(queues_new(&set, &options), 0);
    return set;
}

static void setup(void)
{
    disk = mem_disk_new();
    qs = new_set(disk);
    buf_init(&section, 0);
}

static void teardown(void)
{
    queues_check(qs);
    queues_free(&qs);
    disk_free(&disk);
    buf_fini(&section);
    ck_assert_int_eq(mem_live_count(), 0);
}

static struct queue *get(const char *topic, uint32_t id)
{
    struct queue *q = NULL;

    ck_assert_int_eq(queues_get(qs, slice_str(topic), id, &q), 0);
    return q;
}

/* What entry `n` of a queue holds depends on both. */
static struct queue_entry entry_of(const struct queue *q, uint64_t n)
{
    uint64_t mix = n * 1000003 + q->id * 17 + queue_topic(q).len;

    return (struct queue_entry){.offset = mix, .size_bytes = (uint32_t)n, .tag_hash = -(int64_t)n};
}

/* Check writes to a pipe at every ck_assert: in loops over entries there is one at the end. */
static void put_to(struct queues *set, struct queue *q, uint64_t count)
{
    bool is_right = true;

    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = 0;
        struct queue_entry entry;

        is_right = is_right && queue_reserve(q, &number) == 0;
        entry = entry_of(q, number);
        is_right = is_right && queues_put(set, q, &entry) == number;
    }
    ck_assert(is_right);
}

static void put(struct queue *q, uint64_t count)
{
    put_to(qs, q, count);
}

static void check_entries(const struct queue *q, uint64_t first, const struct queue_entry *entries,
                          uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct queue_entry want = entry_of(q, first + i);

        if (entries[i].offset != want.offset || entries[i].size_bytes != want.size_bytes ||
            entries[i].tag_hash != want.tag_hash) {
            ck_abort_msg("entry %llu is not what was put", (unsigned long long)(first + i));
        }
    }
}

static int read_cold(struct queues *set, const struct queue *q, uint64_t first, uint32_t count,
                     struct queue_entry *entries, uint32_t *got)
{
    struct queues_read read;
    int rc = queues_read_take(set, q, first, count, entries, &read);

    *got = 0;
    if (rc == 0) {
        rc = queues_read_run(&read, NULL);
        *got = rc == 0 ? read.got : 0;
        queues_read_done(&read);
    }
    return rc;
}

/* Read [first, end) as the store does: without waiting, and as a job where that is cold. */
static void check_range(struct queues *set, const struct queue *q, uint64_t first, uint64_t end)
{
    static struct queue_entry entries[1000];

    while (first < end) {
        uint32_t want = end - first < 1000 ? (uint32_t)(end - first) : 1000;
        uint32_t got = 0;
        int rc = queues_read_nowait(set, q, first, want, entries, &got);

        if (rc == ESCROW_EAGAIN) {
            rc = read_cold(set, q, first, want, entries, &got);
        }
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_gt(got, 0);
        ck_assert_uint_le(got, want);
        check_entries(q, first, entries, got);
        first += got;
    }
}

static void check_all(struct queues *set)
{
    struct queues_cursor cursor = {0};
    const struct queue *q;

    while ((q = queues_next(set, &cursor)) != NULL) {
        check_range(set, q, q->min, q->visible);
    }
    queues_check(set);
}

/* A whole checkpoint; the section is replaced when it succeeds. */
static int checkpoint(void)
{
    struct queues_flush *flush = NULL;
    struct buf b;
    int rc = queues_flush_take(qs, &flush);

    buf_init(&b, 0);
    if (rc == 0) {
        rc = queues_encode(qs, flush, &b);
    }
    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    if (rc == 0) {
        buf_clear(&section);
        buf_append_slice(&section, buf_slice(&b));
        (void)queues_flush_trim(flush);
    }
    queues_flush_done(&flush, rc);
    buf_fini(&b);
    queues_check(qs);
    return rc;
}

static int flush_only(void)
{
    struct queues_flush *flush = NULL;
    int rc = queues_flush_take(qs, &flush);

    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    queues_flush_done(&flush, rc);
    queues_check(qs);
    return rc;
}

static int open_set(struct queues *set, struct slice bytes, struct queues_open_report *report,
                    struct err_ctx *err)
{
    int rc = bytes.len == 0 ? 0 : queues_decode(set, bytes, err);

    if (rc == 0) {
        rc = queues_verify(set, report, err);
    }
    if (rc == 0) {
        rc = queues_cut(set, report, err);
    }
    return rc;
}

/* Stop, and start again from the last checkpoint. */
static struct queues_open_report reopen(void)
{
    struct queues_open_report report = {0};

    queues_free(&qs);
    qs = new_set(disk);
    ck_assert_int_eq(open_set(qs, buf_slice(&section), &report, NULL), 0);
    queues_check(qs);
    return report;
}

static uint64_t file_count(void)
{
    return mem_disk_counts(disk).files;
}

/* ------------------------------------------------------------------ map */

START_TEST(a_queue_is_found_by_topic_and_id)
{
    /* Many topics, ids with holes; the same queue each time, and none that was not made. */
    struct queues_cursor cursor = {0};
    uint32_t seen = 0;

    for (uint32_t i = 0; i < 500; i++) {
        char topic[32];
        struct queue *q;

        (void)snprintf(topic, sizeof topic, "topic-%u", i);
        q = get(topic, i * 2);
        ck_assert_ptr_eq(get(topic, i * 2), q);
        ck_assert_ptr_eq(queues_find(qs, slice_str(topic), i * 2), q);
        ck_assert_ptr_null(queues_find(qs, slice_str(topic), i * 2 + 1));
        ck_assert_ptr_ne(get(topic, 1023), q);
        ck_assert(slice_eq_str(queue_topic(q), topic));
    }
    ck_assert_ptr_null(queues_find(qs, slice_str("topic"), 0));
    while (queues_next(qs, &cursor) != NULL) {
        seen++;
    }
    ck_assert_uint_eq(seen, 1000);
}
END_TEST

START_TEST(names_and_ids_outside_the_limits_are_refused)
{
    /* Input of clients comes this far: an error, never a crash. */
    char longest[RETRY_TOPIC_LEN_MAX + 1];
    struct queue *q;

    memset(longest, 'x', sizeof longest);
    ck_assert_int_eq(queues_get(qs, SLICE_EMPTY, 0, &q), ESCROW_EINVAL);
    ck_assert_int_eq(queues_get(qs, slice_of(longest, sizeof longest), 0, &q), ESCROW_EINVAL);
    ck_assert_int_eq(queues_get(qs, slice_of(longest, sizeof longest - 1), 0, &q), 0);
    ck_assert_int_eq(queues_get(qs, slice_str("t"), QUEUES_PER_TOPIC_MAX, &q), ESCROW_EINVAL);
    ck_assert_int_eq(queues_get(qs, slice_str("t"), UINT32_MAX, &q), ESCROW_EINVAL);
    ck_assert_ptr_null(queues_find(qs, slice_str("t"), UINT32_MAX));
    ck_assert_int_eq(queues_get(qs, slice_str("t"), QUEUES_PER_TOPIC_MAX - 1, &q), 0);
}
END_TEST

START_TEST(an_idle_queue_costs_at_most_256_bytes)
{
    /* 10,000 topics of one queue, the worst case: map, name and allocator included. */
    const uint32_t count = 10000;
    size_t before;
    size_t used;

    before = mallinfo2().uordblks;
    for (uint32_t i = 0; i < count; i++) {
        char topic[32];

        (void)snprintf(topic, sizeof topic, "a-usual-topic-%05u", i);
        put(get(topic, 0), 3);
    }
    while (queues_pending_count(qs) > 0) {
        mem_disk_fail_at(disk, 0, 0);
        for (struct queue *q = qs->dirty; q != NULL; q = q->dirty_next) {
            queue_flushed(q,
                          q->visible); /* as if a flush had been there; the files do not matter */
            q->is_dirty = false;
        }
        qs->dirty = NULL;
        qs->dirty_count = 0;
        qs->pending_count = 0;
    }
    used = mallinfo2().uordblks - before;
    /* Under a sanitizer mallinfo counts nothing; the structs are bounded all the same. */
    ck_assert_uint_le(used / count, 256);
    ck_assert_uint_le(sizeof(struct queue) + sizeof(struct queue_topic) + 20, 160);
}
END_TEST

START_TEST(folder_names_are_safe_and_can_be_turned_back)
{
    /* Every byte, the dangerous names, and the longest: below queues/, no dot, no long part. */
    static const char *const names[] = {".", "..", "a/b", "%RETRY%group", "a|b", "+", "a+", "%2E"};
    uint8_t every[RETRY_TOPIC_LEN_MAX];
    struct queue_path path;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        uint8_t back[RETRY_TOPIC_LEN_MAX];
        size_t len = 0;

        queue_path_topic(&path, slice_str(names[i]));
        ck_assert_int_eq(memcmp(path.text, "queues/", 7), 0);
        ck_assert_ptr_null(strpbrk(path.text + 7, "./+|"));
        ck_assert(queue_path_topic_decode(slice_str(path.text + 7), back, &len));
        ck_assert(slice_eq_str(slice_of(back, len), names[i]));
    }
    for (size_t i = 0; i < sizeof every; i++) {
        every[i] = (uint8_t)(i + 1);
    }
    queue_path_file(&path, slice_of(every, sizeof every), 1023, UINT32_MAX);
    ck_assert_uint_lt(path.len, QUEUE_PATH_MAX);
    for (const char *part = strtok_r(path.text, "/", &(char *){NULL}); part != NULL; part = NULL) {
        ck_assert_uint_le(strlen(part), 255);
    }
    queue_path_file(&path, SLICE_LIT("orders"), 7, 2);
    ck_assert_str_eq(path.text, "queues/orders/7/00000000000012000000");
}
END_TEST

START_TEST(only_canonical_names_are_decoded)
{
    /* A folder that no encoding makes belongs to somebody else. */
    static const char *const bad[] = {"", "a.b", "%", "%4", "%41", "%2e", "%G0", "a b", "a+"};
    uint8_t dst[RETRY_TOPIC_LEN_MAX];
    size_t len;
    uint32_t n;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(!queue_path_topic_decode(slice_str(bad[i]), dst, &len), "%s", bad[i]);
    }
    ck_assert(!queue_path_id_decode(SLICE_LIT(""), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("01"), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("1024"), &n));
    ck_assert(!queue_path_id_decode(SLICE_LIT("-1"), &n));
    ck_assert(queue_path_id_decode(SLICE_LIT("0"), &n));
    ck_assert(queue_path_id_decode(SLICE_LIT("1023"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("6000000"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("00000000000006000001"), &n));
    ck_assert(!queue_path_file_decode(SLICE_LIT("99999999999999999999"), &n));
    ck_assert(queue_path_file_decode(SLICE_LIT("00000000000006000000"), &n));
    ck_assert_uint_eq(n, 1);
}
END_TEST

/* ------------------------------------------------------------------ reading and writing */

START_TEST(entries_are_the_same_in_memory_in_files_and_after_a_restart)
{
    /* More than two files of one queue, read across every boundary. */
    struct queue *q = get("orders", 1);

    put(q, 2 * FILE_ENTRIES + 10);
    check_range(qs, q, 0, q->visible);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(q->flushed, q->visible);
    ck_assert_ptr_null(q->chunk_head);
    ck_assert_uint_eq(file_count(), 3);
    ck_assert_uint_eq(mem_disk_counts(disk).unsynced, 0);
    check_range(qs, q, 0, q->visible);
    put(q, 50);
    check_range(qs, q, FILE_ENTRIES - 5, q->visible);
    (void)reopen();
    q = queues_find(qs, SLICE_LIT("orders"), 1);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_eq(q->visible, 2 * FILE_ENTRIES + 10);
    check_all(qs);
    put(q, 100);
    check_range(qs, q, 2 * FILE_ENTRIES - 1, q->visible);
}
END_TEST

START_TEST(reads_outside_the_queue_find_nothing)
{
    /* Below min, at and above visible, of an empty queue. */
    struct queue *q = get("t", 0);
    struct queue_entry entry;
    struct queues_read read;
    uint32_t got;

    ck_assert_int_eq(queues_read_nowait(qs, q, 0, 1, &entry, &got), ESCROW_ENOTFOUND);
    put(q, 10);
    queue_set_min(q, 4);
    ck_assert_int_eq(queues_read_nowait(qs, q, 3, 1, &entry, &got), ESCROW_ENOTFOUND);
    ck_assert_int_eq(queues_read_nowait(qs, q, 10, 1, &entry, &got), ESCROW_ENOTFOUND);
    ck_assert_int_eq(queues_read_nowait(qs, q, UINT64_MAX, 1, &entry, &got), ESCROW_ENOTFOUND);
    ck_assert_int_eq(queues_read_take(qs, q, 10, 1, &entry, &read), ESCROW_ENOTFOUND);
    ck_assert_int_eq(queues_read_nowait(qs, q, 4, 1, &entry, &got), 0);
    check_entries(q, 4, &entry, got);
}
END_TEST

START_TEST(what_is_cold_is_read_by_a_job)
{
    /* The loop never waits: EAGAIN first, then the job; memory needs no job. */
    struct queue *q = get("t", 0);
    struct queue_entry entries[3000];
    uint32_t got;

    put(q, 2000);
    ck_assert_int_eq(checkpoint(), 0);
    put(q, 5);
    mem_disk_set_cold(disk, true);
    ck_assert_int_eq(queues_read_nowait(qs, q, 10, 100, entries, &got), ESCROW_EAGAIN);
    ck_assert_int_eq(queues_read_nowait(qs, q, 2000, 100, entries, &got), 0);
    ck_assert_uint_eq(got, 5);
    ck_assert_int_eq(read_cold(qs, q, 2003, 100, entries, &got), 0);
    ck_assert_uint_eq(got, 2);
    ck_assert_int_eq(read_cold(qs, q, 10, 3000, entries, &got), 0);
    ck_assert_uint_eq(got, 1990);
    check_entries(q, 10, entries, got);
    /* Its handle stayed open: still cold, but then warm without another open. */
    ck_assert_int_eq(queues_read_nowait(qs, q, 10, 100, entries, &got), ESCROW_EAGAIN);
    mem_disk_set_cold(disk, false);
    ck_assert_int_eq(queues_read_nowait(qs, q, 1990, 100, entries, &got), 0);
    ck_assert_uint_eq(got, 15);
    check_entries(q, 1990, entries, got);
}
END_TEST

START_TEST(open_files_are_bounded)
{
    /* Fifty queues, eight handles; those in use by jobs stay open, and the rest of reads works. */
    struct queues_read reads[20];
    struct queue_entry entries[20];

    for (uint32_t id = 0; id < 50; id++) {
        put(get("t", id), QUEUES_TAIL_MAX + 1);
    }
    ck_assert_int_eq(checkpoint(), 0);
    for (uint32_t id = 0; id < 50; id++) {
        check_range(qs, get("t", id), 0, 100);
        ck_assert_uint_le(mem_disk_counts(disk).open_files, 8);
    }
    for (int round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 20; i++) {
            ck_assert_int_eq(queues_read_take(qs, get("t", i), i, 1, &entries[i], &reads[i]), 0);
        }
        for (uint32_t i = 0; i < 20; i++) {
            ck_assert_int_eq(queues_read_run(&reads[i], NULL), 0);
        }
        for (uint32_t i = 0; i < 20; i++) {
            ck_assert_uint_eq(reads[i].got, 1);
            check_entries(get("t", i), i, &entries[i], 1);
            queues_read_done(&reads[i]);
        }
        ck_assert_uint_le(mem_disk_counts(disk).open_files, 8);
    }
    queues_check(qs);
}
END_TEST

START_TEST(a_flush_under_way_disturbs_neither_reading_nor_putting)
{
    /* Between take and done everything stays readable, and what comes meanwhile stays pending. */
    struct queue *q = get("t", 0);
    struct queues_flush *flush = NULL;
    struct buf b;

    buf_init(&b, 0);
    put(q, 5000);
    ck_assert_int_eq(queues_flush_take(qs, &flush), 0);
    ck_assert_int_eq(queues_encode(qs, flush, &b), 0);
    put(q, 3000);
    check_range(qs, q, 0, 8000);
    ck_assert_int_eq(queues_flush_run(flush, NULL), 0);
    check_range(qs, q, 0, 8000);
    ck_assert_uint_eq(q->flushed, 0);
    queues_flush_done(&flush, 0);
    ck_assert_uint_eq(q->flushed, 5000);
    ck_assert_uint_eq(queues_pending_count(qs), 3000);
    check_all(qs);
    buf_fini(&b);
}
END_TEST

START_TEST(slow_queues_ride_in_the_checkpoint)
{
    /* Few entries: no file, no sync; many: a file. After a restart both are there. */
    for (uint32_t id = 0; id < 100; id++) {
        put(get("slow", id), 5);
    }
    put(get("busy", 0), 100000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    ck_assert_uint_eq(mem_disk_counts(disk).syncs, 1);
    (void)reopen();
    ck_assert_uint_eq(queues_pending_count(qs), 500);
    for (uint32_t id = 0; id < 100; id++) {
        ck_assert_uint_eq(get("slow", id)->visible, 5);
    }
    check_all(qs);
}
END_TEST

START_TEST(quiet_queues_end_without_memory)
{
    /* Nothing put since the last checkpoint: written, a bounded number each time. */
    for (uint32_t id = 0; id < 600; id++) {
        put(get("quiet", id), 5);
    }
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), QUEUES_QUIET_FLUSH_MAX);
    put(get("quiet", 599), 1);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(queues_pending_count(qs), 0);
    for (uint32_t id = 0; id < 600; id++) {
        ck_assert_ptr_null(get("quiet", id)->chunk_head);
    }
    check_all(qs);
}
END_TEST

START_TEST(without_a_checkpoint_a_flush_writes_only_when_memory_asks_for_it)
{
    /* The index may ask for a flush often; queues then cost nothing. */
    struct queue *q = get("t", 0);
    uint64_t n = 0;

    put(q, 5000);
    ck_assert_int_eq(flush_only(), 0);
    ck_assert_uint_eq(mem_disk_counts(disk).writes, 0);
    ck_assert_uint_eq(queues_pending_count(qs), 5000);
    while (!queues_flush_is_due(qs)) {
        put(q, 1000);
        n++;
    }
    ck_assert_uint_ge(n, 1000);
    ck_assert_int_eq(flush_only(), 0);
    ck_assert_uint_eq(queues_pending_count(qs), 0);
    check_range(qs, q, q->visible - 3000, q->visible);
    /* No checkpoint names these files: they are removed, and the log brings the entries back. */
    ck_assert_uint_ge(reopen().unlink_count, 6);
    ck_assert_ptr_null(queues_find(qs, SLICE_LIT("t"), 0));
    ck_assert_uint_eq(file_count(), 0);
}
END_TEST

START_TEST(a_queue_may_begin_in_the_middle_of_a_file)
{
    /* Its first file has a hole; size and content fit all the same. */
    struct queue *q = get("t", 0);

    queue_begin_at(q, FILE_ENTRIES + 77);
    put(q, 5000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    check_all(qs);
    ck_assert_uint_eq(reopen().file_count, 1);
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->min, FILE_ENTRIES + 77);
    check_all(qs);
}
END_TEST

struct times {
    int64_t step_ms;
    uint64_t cold; /* number of the entry whose record is cold; UINT64_MAX = none */
    const struct queue *queue;
};

static int store_ms(void *arg, const struct queue_entry *entry, int64_t *ms)
{
    const struct times *times = arg;

    if (entry->size_bytes == times->cold) {
        return ESCROW_EAGAIN;
    }
    *ms = (int64_t)entry->size_bytes * times->step_ms; /* size_bytes is the entry's number */
    return 0;
}

START_TEST(an_offset_is_found_by_time)
{
    /* Entries in files and in memory; a cold record is fetched by the caller and the search goes on. */
    struct queue *q = get("t", 0);
    struct times times = {.step_ms = 10, .cold = UINT64_MAX, .queue = q};
    struct queue_search s;

    put(q, 5000);
    ck_assert_int_eq(checkpoint(), 0);
    check_range(qs, q, 0, 1); /* opens the file */
    put(q, 100);
    for (int64_t ms = -5; ms < 51100; ms += 37) {
        queue_search_begin(&s, q, ms);
        ck_assert_int_eq(queues_search(qs, q, &s, store_ms, &times), 0);
        ck_assert_uint_eq(s.low, ms <= 0 ? 0 : ms > 50990 ? 5100 : (uint64_t)(ms + 9) / 10);
    }
    times.cold = 2550; /* the first one looked at */
    queue_search_begin(&s, q, 12345);
    ck_assert_int_eq(queues_search(qs, q, &s, store_ms, &times), ESCROW_EAGAIN);
    queue_search_feed(&s, 2550, 25500);
    ck_assert_int_eq(queues_search(qs, q, &s, store_ms, &times), 0);
    ck_assert_uint_eq(s.low, 1235);
}
END_TEST

/* ------------------------------------------------------------------ retention */

START_TEST(files_below_min_go_after_the_checkpoint_that_says_so)
{
    /* H9, H10: a stop between raising min and the durable checkpoint must find the files. */
    struct queue *q = get("t", 0);
    struct queues_flush *flush = NULL;
    struct buf b;

    put(q, 3 * FILE_ENTRIES);
    ck_assert_int_eq(checkpoint(), 0);
    queue_set_min(q, 2 * FILE_ENTRIES + 5);
    buf_init(&b, 0);
    ck_assert_int_eq(queues_flush_take(qs, &flush), 0);
    ck_assert_int_eq(queues_encode(qs, flush, &b), 0);
    ck_assert_int_eq(queues_flush_run(flush, NULL), 0);
    ck_assert_uint_eq(file_count(), 3);
    queues_flush_done(&flush, 0); /* the checkpoint was not written */
    buf_fini(&b);
    (void)reopen();
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->min, 0);
    check_range(qs, q, 0, 10);
    queue_set_min(q, 2 * FILE_ENTRIES + 5);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    ck_assert_uint_eq(q->first_file, 2);
    check_all(qs);
    (void)reopen();
    ck_assert_uint_eq(queues_find(qs, SLICE_LIT("t"), 0)->min, 2 * FILE_ENTRIES + 5);
    check_all(qs);
}
END_TEST

START_TEST(a_read_under_way_survives_the_removal_of_its_file)
{
    /* With the handle pinned, and with a job that opened it itself. */
    struct queue *q = get("t", 0);
    struct queue_entry entries[2];
    struct queues_read reads[2];

    put(q, FILE_ENTRIES + 10);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(queues_read_take(qs, q, 5, 1, &entries[0], &reads[0]), 0); /* opens */
    ck_assert_int_eq(queues_read_run(&reads[0], NULL), 0);
    check_range(qs, q, 0, 1); /* another handle, kept */
    ck_assert_int_eq(queues_read_take(qs, q, 6, 1, &entries[1], &reads[1]), 0); /* pinned */
    queue_set_min(q, FILE_ENTRIES);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    ck_assert_int_eq(queues_read_run(&reads[1], NULL), 0);
    check_entries(q, 5, &entries[0], 1);
    check_entries(q, 6, &entries[1], 1);
    queues_read_done(&reads[0]);
    queues_read_done(&reads[1]);
    ck_assert_uint_eq(mem_disk_counts(disk).open_files, 0);
    ck_assert_int_eq(queues_read_nowait(qs, q, 5, 1, entries, &(uint32_t){0}), ESCROW_ENOTFOUND);
}
END_TEST

START_TEST(entries_that_retention_took_before_they_were_written_are_not_written)
{
    /* min above flushed, even by files: nothing below min is needed, and what follows is right. */
    struct queue *q = get("t", 0);

    put(q, 100);
    ck_assert_int_eq(checkpoint(), 0);
    put(q, 2 * FILE_ENTRIES);
    queue_set_min(q, 2 * FILE_ENTRIES + 50);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 1);
    check_all(qs);
    queue_set_min(q, q->visible);
    put(q, 20);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(checkpoint(), 0);
    check_all(qs);
    (void)reopen();
    check_all(qs);
    ck_assert_uint_eq(queues_find(qs, SLICE_LIT("t"), 0)->visible, 2 * FILE_ENTRIES + 120);
}
END_TEST

/* ------------------------------------------------------------------ start */

START_TEST(entries_ahead_of_the_checkpoint_are_cut)
{
    /* H10: files ahead of the log, at a file boundary and across it; of a queue without a row too. */
    struct queue *q = get("t", 0);
    struct buf old;
    struct queues_open_report report;

    put(q, FILE_ENTRIES - 10);
    ck_assert_int_eq(checkpoint(), 0);
    buf_init(&old, 0);
    buf_append_slice(&old, buf_slice(&section));
    put(q, 2 * FILE_ENTRIES);
    put(get("new|%", 9), 5000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(file_count(), 4);
    buf_clear(&section);
    buf_append_slice(&section, buf_slice(&old));
    report = reopen();
    ck_assert_uint_eq(report.file_count, 1);
    ck_assert_uint_eq(report.cut_count, 1);
    ck_assert_uint_eq(report.cut_entries, 10);
    ck_assert_uint_eq(report.unlink_count, 3);
    ck_assert_uint_eq(file_count(), 1);
    q = queues_find(qs, SLICE_LIT("t"), 0);
    ck_assert_uint_eq(q->visible, FILE_ENTRIES - 10);
    put(q, 3000); /* the replay */
    check_all(qs);
    ck_assert_int_eq(checkpoint(), 0);
    check_all(qs);
    buf_fini(&old);
}
END_TEST

static void check_start_fails(const char *words)
{
    struct queues_open_report report;
    struct err_ctx err = {0};
    uint64_t writes = mem_disk_counts(disk).writes;

    queues_free(&qs);
    qs = new_set(disk);
    ck_assert_int_eq(open_set(qs, buf_slice(&section), &report, &err), ESCROW_ECORRUPT);
    ck_assert_msg(strstr(err.text, words) != NULL, "%s", err.text);
    ck_assert_uint_eq(mem_disk_counts(disk).writes, writes);
}

START_TEST(a_missing_file_stops_the_start_with_its_name)
{
    /* The first, or one in the middle: the checkpoint counts on it. */
    put(get("t", 0), 2 * FILE_ENTRIES + 5);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(disk_unlink(disk, "queues/t/0/00000000000006000000", NULL), 0);
    check_start_fails("queues/t/0/00000000000006000000: missing");
}
END_TEST

START_TEST(a_short_file_stops_the_start_with_its_name)
{
    /* Shorter by one byte than the entries the checkpoint counts. */
    struct disk_file *f = NULL;

    put(get("t", 0), FILE_ENTRIES + 2000);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_int_eq(disk_open(disk, "queues/t/0/00000000000006000000", DISK_WRITE, &f, NULL), 0);
    ck_assert_int_eq(disk_truncate(f, 2000 * QUEUE_ENTRY_SIZE - 1, NULL), 0);
    disk_close(&f);
    check_start_fails("queues/t/0/00000000000006000000: 39999 bytes");
}
END_TEST

START_TEST(a_file_that_shrinks_later_is_reported_when_it_is_read)
{
    /* Somebody cuts a file under a running server: an error with its name, not a wrong message. */
    struct queue *q = get("t", 0);
    struct queue_entry entries[10];
    struct disk_file *f = NULL;
    struct queues_read read;
    struct err_ctx err = {0};
    uint32_t got;

    put(q, 2000);
    ck_assert_int_eq(checkpoint(), 0);
    check_range(qs, q, 0, 10);
    ck_assert_int_eq(disk_open(disk, "queues/t/0/00000000000000000000", DISK_WRITE, &f, NULL), 0);
    ck_assert_int_eq(disk_truncate(f, 100, NULL), 0);
    disk_close(&f);
    ck_assert_int_eq(queues_read_nowait(qs, q, 3, 10, entries, &got), ESCROW_ECORRUPT);
    ck_assert_int_eq(queues_read_take(qs, q, 3, 10, entries, &read), 0);
    ck_assert_int_eq(queues_read_run(&read, &err), ESCROW_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "queues/t/0/00000000000000000000"));
    queues_read_done(&read);
}
END_TEST

START_TEST(things_of_others_are_left_alone)
{
    /* Names that no queue could have, also another split of a long name. */
    char deep[400] = "queues/";

    memset(deep + 7, 'x', 100);
    (void)snprintf(deep + 107, sizeof deep - 107, "+/y/0/00000000000000000000");
    mem_disk_put(disk, deep, "abc", 3);
    mem_disk_put(disk, "queues/README", "abc", 3);
    mem_disk_put(disk, "queues/a.b/0/00000000000000000000", "abc", 3);
    mem_disk_put(disk, "queues/t/x/00000000000000000000", "abc", 3);
    mem_disk_put(disk, "queues/t/0/notes", "abc", 3);
    mem_disk_put(disk, "queues/t/0/00000000000006000000", "abc", 3);
    ck_assert_uint_eq(reopen().unlink_count, 1);
    ck_assert_uint_eq(file_count(), 5);
}
END_TEST

START_TEST(long_and_odd_topics_survive_a_restart)
{
    /* Names whose folders are nested, and every byte a name may have. */
    char name[RETRY_TOPIC_LEN_MAX + 1] = {0};
    struct queue *q;

    for (size_t len = 70; len <= RETRY_TOPIC_LEN_MAX; len += 37) {
        memset(name, '%', len);
        put(get(name, 1), 1500);
        memset(name, 'x', len);
        put(get(name, 2), 1500);
    }
    put(get("%RETRY%a|b", 0), 1500);
    put(get("..", 0), 1500);
    ck_assert_int_eq(checkpoint(), 0);
    ck_assert_uint_eq(reopen().unlink_count, 0);
    q = queues_find(qs, SLICE_LIT(".."), 0);
    ck_assert_ptr_nonnull(q);
    ck_assert_uint_eq(q->visible, 1500);
    check_all(qs);
}
END_TEST

/* ------------------------------------------------------------------ section */

START_TEST(a_section_cut_anywhere_is_refused)
{
    /* Every prefix of a valid section, and one byte too many. */
    put(get("a", 0), 3);
    put(get("bb", 5), 2000);
    ck_assert_int_eq(checkpoint(), 0);
    for (size_t len = 0; len <= section.len + 1; len++) {
        uint8_t *copy = mem_alloc(len);
        struct queues *set = new_set(disk);
        int rc;

        ck_assert_ptr_nonnull(copy);
        memset(copy, 0, len);
        memcpy(copy, section.ptr, len < section.len ? len : section.len);
        rc = queues_decode(set, slice_of(copy, len), NULL);
        ck_assert_int_eq(rc, len == section.len ? 0 : ESCROW_ECORRUPT);
        queues_free(&set);
        mem_free(copy);
    }
}
END_TEST

START_TEST(a_section_with_any_bit_wrong_does_no_harm)
{
    /* It is refused, or taken and sound; never a crash, never memory beyond its own size. */
    put(get("a", 0), 3);
    put(get("a", 1), 1);
    ck_assert_int_eq(checkpoint(), 0);
    for (size_t bit = 0; bit < section.len * 8; bit++) {
        struct queues *set = new_set(disk);
        int rc;

        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        rc = queues_decode(set, buf_slice(&section), NULL);
        section.ptr[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        ck_assert(rc == 0 || rc == ESCROW_ECORRUPT);
        queues_check(set);
        queues_free(&set);
    }
}
END_TEST

START_TEST(a_queue_named_twice_is_refused)
{
    /* Two rows for one queue contradict each other. */
    struct buf b;
    struct queues *set = new_set(disk);

    put(get("a", 0), 3);
    ck_assert_int_eq(checkpoint(), 0);
    buf_init(&b, 0);
    buf_append_le32(&b, 2);
    buf_append(&b, section.ptr + 4, section.len - 4);
    buf_append(&b, section.ptr + 4, section.len - 4);
    ck_assert_int_eq(queues_decode(set, buf_slice(&b), NULL), ESCROW_ECORRUPT);
    queues_free(&set);
    buf_fini(&b);
}
END_TEST

/* ------------------------------------------------------------------ faults */

START_TEST(every_failing_disk_operation_leaves_the_set_whole)
{
    /* The n-th operation of a checkpoint fails, for every n: all readable, and the next succeeds. */
    uint64_t n = 0;
    bool fired = true;

    for (n = 1; fired; n++) {
        struct queues_open_report report;
        int rc;

        ck_assert_uint_lt(n, 500);
        teardown();
        setup();
        for (uint32_t id = 0; id < 4; id++) {
            put(get("topic", id), 1500);
            put(get("%RETRY%g", id), 2);
        }
        queue_set_min(get("topic", 2), 100);
        ck_assert_int_eq(checkpoint(), 0);
        put(get("topic", 0), 2000);
        put(get("other", 0), 2000);
        put(get("%RETRY%g", 0), 1);
        mem_disk_fail_at(disk, n, n % 2 == 0 ? ESCROW_ENOSPC : ESCROW_EIO);
        rc = checkpoint();
        fired = mem_disk_fault_fired(disk);
        mem_disk_fail_at(disk, 0, 0);
        ck_assert(fired == (rc != 0));
        check_all(qs);
        ck_assert_int_eq(checkpoint(), 0);
        ck_assert_uint_eq(mem_disk_counts(disk).unsynced, 0);
        check_all(qs);
        report = reopen();
        ck_assert_uint_eq(report.cut_count, 0);
        ck_assert_uint_eq(get("topic", 0)->visible, 3500);
        ck_assert_uint_eq(get("other", 0)->visible, 2000);
        ck_assert_uint_eq(get("%RETRY%g", 0)->visible, 3);
        check_all(qs);
    }
    ck_assert_uint_gt(n, 15);
}
END_TEST

START_TEST(a_start_after_any_failing_operation_finds_the_last_checkpoint)
{
    /* As above, but the process stops at the failure: the folder and the old section must fit. */
    uint64_t n = 0;
    bool fired = true;

    for (n = 1; fired; n++) {
        teardown();
        setup();
        queue_begin_at(get("topic", 0), FILE_ENTRIES - 1600);
        put(get("topic", 0), 1500);
        put(get("topic", 1), 2);
        ck_assert_int_eq(checkpoint(), 0);
        put(get("topic", 0), 2000);
        put(get("topic", 1), 2000);
        put(get("other", 0), 2000);
        mem_disk_fail_at(disk, n, ESCROW_EIO);
        (void)checkpoint();
        fired = mem_disk_fault_fired(disk);
        mem_disk_fail_at(disk, 0, 0);
        if (fired) {
            (void)reopen();
            ck_assert_uint_eq(get("topic", 0)->visible, FILE_ENTRIES - 100);
            ck_assert_uint_eq(get("topic", 1)->visible, 2);
            ck_assert_ptr_null(queues_find(qs, SLICE_LIT("other"), 0));
            put(get("topic", 0), 2000);
            check_all(qs);
        }
    }
    ck_assert_uint_gt(n, 15);
}
END_TEST

START_TEST(every_failing_operation_of_a_start_is_reported)
{
    /* verify and cut with the n-th operation failing: an error, and then a start that works. */
    bool fired = true;

    queue_begin_at(get("topic", 0), FILE_ENTRIES - 100);
    put(get("topic", 0), 1600);
    put(get("topic", 1), 2);
    ck_assert_int_eq(checkpoint(), 0);
    put(get("topic", 0), 2000);
    put(get("zz", 0), 2000);
    for (uint64_t n = 1; fired; n++) {
        struct queues_open_report report;
        struct err_ctx err = {0};
        struct disk *copy = mem_disk_copy(disk);
        struct queues *set = new_set(copy);
        int rc;

        mem_disk_fail_at(copy, n, ESCROW_EIO);
        rc = open_set(set, buf_slice(&section), &report, &err);
        fired = mem_disk_fault_fired(copy);
        ck_assert_int_eq(rc, fired ? ESCROW_EIO : 0);
        mem_disk_fail_at(copy, 0, 0);
        queues_free(&set);
        set = new_set(copy);
        ck_assert_int_eq(open_set(set, buf_slice(&section), &report, &err), 0);
        check_all(set);
        queues_free(&set);
        disk_free(&copy);
    }
}
END_TEST

/* Everything that allocates, once; stops at the first error. */
static int allocate_everything(struct disk *d, struct buf *b)
{
    struct queues_options options = {.disk = d, .hash_key = {1, 2}, .files_open_max = 8};
    struct queues *set = NULL;
    struct queues *back = NULL;
    struct queues_flush *flush = NULL;
    struct queues_open_report report;
    int rc = queues_new(&set, &options);

    for (uint32_t id = 0; rc == 0 && id < 20; id += 5) {
        struct queue *q = NULL;
        rc = queues_get(set, SLICE_LIT("t"), id, &q);
        for (int i = 0; rc == 0 && i < 1200; i++) {
            uint64_t number;
            rc = queue_reserve(q, &number);
            if (rc == 0) {
                struct queue_entry entry = entry_of(q, number);
                (void)queues_put(set, q, &entry);
            }
        }
    }
    if (rc == 0) {
        rc = queues_flush_take(set, &flush);
    }
    if (rc == 0) {
        rc = queues_encode(set, flush, b);
    }
    if (rc == 0) {
        rc = queues_flush_run(flush, NULL);
    }
    queues_flush_done(&flush, rc);
    if (rc == 0) {
        rc = queues_new(&back, &options);
    }
    if (rc == 0) {
        rc = open_set(back, buf_slice(b), &report, NULL);
    }
    if (set != NULL) {
        queues_check(set);
    }
    queues_free(&set);
    queues_free(&back);
    return rc;
}

START_TEST(every_failing_allocation_is_an_error_and_no_leak)
{
    /* The n-th allocation fails, until none does: ESCROW_ENOMEM, everything freed. */
    int fired = 1;
    int n = 0;

    for (n = 1; fired; n++) {
        struct disk *d = mem_disk_new();
        int64_t live = mem_live_count();
        struct buf b;
        int rc;

        buf_init(&b, 0);
        mem_fault_at((uint64_t)n);
        rc = allocate_everything(d, &b);
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        buf_fini(&b);
        disk_free(&d);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_int_gt(n, 30);
}
END_TEST

START_TEST(a_handle_that_cannot_be_kept_is_closed)
{
    /* Without memory for the table of handles a read still works. */
    struct queue *q = get("t", 0);
    struct queue_entry entry;
    uint32_t got;

    put(q, 2000);
    ck_assert_int_eq(checkpoint(), 0);
    mem_fault_at(1);
    ck_assert_int_eq(read_cold(qs, q, 3, 1, &entry, &got), 0);
    ck_assert(mem_fault_fired());
    mem_fault_at(0);
    check_entries(q, 3, &entry, 1);
    ck_assert_uint_eq(mem_disk_counts(disk).open_files, 0);
}
END_TEST

/* ------------------------------------------------------------------ everything at once */

#define MODEL_QUEUES 6

struct model {
    uint64_t visible[MODEL_QUEUES]; /* what the log would say */
    uint64_t durable[MODEL_QUEUES]; /* at the last checkpoint */
    uint64_t min[MODEL_QUEUES];
};

static const char *const model_topics[] = {"orders", "%RETRY%billing", "x|y"};

static struct queue *model_queue(uint32_t i)
{
    return get(model_topics[i % 3], i / 3 * 7);
}

static void model_checkpoint(struct model *m, struct rand *r)
{
    bool will_fail = rand_below(r, 3) == 0;
    int rc;

    if (will_fail) {
        mem_disk_fail_at(disk, 1 + rand_below(r, 40), ESCROW_EIO);
    }
    rc = checkpoint();
    mem_disk_fail_at(disk, 0, 0);
    for (uint32_t i = 0; rc == 0 && i < MODEL_QUEUES; i++) {
        m->durable[i] = m->visible[i];
    }
}

static void model_restart(struct model *m)
{
    (void)reopen();
    for (uint32_t i = 0; i < MODEL_QUEUES; i++) {
        struct queue *q = model_queue(i);
        ck_assert_uint_eq(q->visible, m->durable[i]);
        put(q, m->visible[i] - m->durable[i]); /* the replay */
        m->min[i] = q->min;
    }
}

START_TEST(any_run_with_faults_and_restarts_loses_no_entry)
{
    /* Random puts, flushes that fail, retention and restarts with replay, against plain counters. */
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct model m = {0};
        struct rand r;

        teardown();
        setup();
        rand_init(&r, seed);
        for (int step = 0; step < 120; step++) {
            uint32_t i = (uint32_t)rand_below(&r, MODEL_QUEUES);
            uint64_t what = rand_below(&r, 20);
            uint64_t count = rand_below(&r, 10) == 0 ? rand_below(&r, 20000) : rand_below(&r, 300);

            if (what < 12) {
                put(model_queue(i), count);
                m.visible[i] += count;
            } else if (what < 16) {
                model_checkpoint(&m, &r);
            } else if (what == 16) {
                m.min[i] += rand_below(&r, m.visible[i] - m.min[i] + 1);
                queue_set_min(model_queue(i), m.min[i]);
            } else if (what == 17) {
                ck_assert_int_eq(flush_only(), 0);
            } else {
                model_restart(&m);
            }
            for (uint32_t k = 0; k < MODEL_QUEUES; k++) {
                ck_assert_uint_eq(model_queue(k)->visible, m.visible[k]);
                ck_assert_uint_eq(model_queue(k)->min, m.min[k]);
            }
        }
        check_all(qs);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queues");
    TCase *t = tcase_create("queues");

    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_queue_is_found_by_topic_and_id);
    tcase_add_test(t, names_and_ids_outside_the_limits_are_refused);
    tcase_add_test(t, an_idle_queue_costs_at_most_256_bytes);
    tcase_add_test(t, folder_names_are_safe_and_can_be_turned_back);
    tcase_add_test(t, only_canonical_names_are_decoded);
    tcase_add_test(t, entries_are_the_same_in_memory_in_files_and_after_a_restart);
    tcase_add_test(t, reads_outside_the_queue_find_nothing);
    tcase_add_test(t, what_is_cold_is_read_by_a_job);
    tcase_add_test(t, open_files_are_bounded);
    tcase_add_test(t, a_flush_under_way_disturbs_neither_reading_nor_putting);
    tcase_add_test(t, slow_queues_ride_in_the_checkpoint);
    tcase_add_test(t, quiet_queues_end_without_memory);
    tcase_add_test(t, without_a_checkpoint_a_flush_writes_only_when_memory_asks_for_it);
    tcase_add_test(t, a_queue_may_begin_in_the_middle_of_a_file);
    tcase_add_test(t, an_offset_is_found_by_time);
    tcase_add_test(t, files_below_min_go_after_the_checkpoint_that_says_so);
    tcase_add_test(t, a_read_under_way_survives_the_removal_of_its_file);
    tcase_add_test(t, entries_that_retention_took_before_they_were_written_are_not_written);
    tcase_add_test(t, entries_ahead_of_the_checkpoint_are_cut);
    tcase_add_test(t, a_missing_file_stops_the_start_with_its_name);
    tcase_add_test(t, a_short_file_stops_the_start_with_its_name);
    tcase_add_test(t, a_file_that_shrinks_later_is_reported_when_it_is_read);
    tcase_add_test(t, things_of_others_are_left_alone);
    tcase_add_test(t, long_and_odd_topics_survive_a_restart);
    tcase_add_test(t, a_section_cut_anywhere_is_refused);
    tcase_add_test(t, a_section_with_any_bit_wrong_does_no_harm);
    tcase_add_test(t, a_queue_named_twice_is_refused);
    tcase_add_test(t, every_failing_disk_operation_leaves_the_set_whole);
    tcase_add_test(t, a_start_after_any_failing_operation_finds_the_last_checkpoint);
    tcase_add_test(t, every_failing_operation_of_a_start_is_reported);
    tcase_add_test(t, every_failing_allocation_is_an_error_and_no_leak);
    tcase_add_test(t, a_handle_that_cannot_be_kept_is_closed);
    tcase_add_test(t, any_run_with_faults_and_restarts_loses_no_entry);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
