#include "core/store/queues.h"

#include "core/base/rand.h"
#include "tests/unit/core/store/queues_test.h"

#include <malloc.h>

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
    ck_assert(!sim_disk_has_pending(disk));
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
    sim_disk_set_cold(disk, true);
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
    sim_disk_set_cold(disk, false);
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
        ck_assert_uint_le(qs->files.count, 8);
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
        ck_assert_uint_le(qs->files.count, 8);
    }
    queues_check(qs);
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
    /*
     * Entries in files and in memory; a cold record is fetched by the caller and the search goes
     * on.
     */
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
    ck_assert_uint_eq(qs->files.count, 0);
    ck_assert_int_eq(queues_read_nowait(qs, q, 5, 1, entries, &(uint32_t){0}), ESCROW_ENOTFOUND);
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
    ck_assert_int_eq(queues_read_nowait(qs, q, 3, 10, entries, &got), 0);
    ck_assert_uint_eq(got, 2); /* what is left of them */
    ck_assert_int_eq(queues_read_nowait(qs, q, 5, 10, entries, &got), ESCROW_ECORRUPT);
    ck_assert_int_eq(queues_read_take(qs, q, 5, 10, entries, &read), 0);
    ck_assert_int_eq(queues_read_run(&read, &err), ESCROW_ECORRUPT);
    ck_assert_ptr_nonnull(strstr(err.text, "queues/t/0/00000000000000000000"));
    queues_read_done(&read);
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
    ck_assert_uint_eq(qs->files.count, 0);
}
END_TEST

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
        sim_disk_fault_at(disk, 1 + rand_below(r, 40), SIM_FAULT_SHORT);
    }
    rc = checkpoint();
    sim_disk_fault_at(disk, 0, SIM_FAULT_EIO);
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
    /*
     * Random puts, flushes that fail, retention and restarts with replay, against plain counters.
     */
    for (uint64_t seed = 1; seed <= 6; seed++) {
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
    tcase_add_test(t, entries_are_the_same_in_memory_in_files_and_after_a_restart);
    tcase_add_test(t, reads_outside_the_queue_find_nothing);
    tcase_add_test(t, what_is_cold_is_read_by_a_job);
    tcase_add_test(t, open_files_are_bounded);
    tcase_add_test(t, an_offset_is_found_by_time);
    tcase_add_test(t, a_read_under_way_survives_the_removal_of_its_file);
    tcase_add_test(t, a_file_that_shrinks_later_is_reported_when_it_is_read);
    tcase_add_test(t, a_handle_that_cannot_be_kept_is_closed);
    tcase_add_test(t, any_run_with_faults_and_restarts_loses_no_entry);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
