/* Where records go, what fits, what is kept free. */
#include "core/store/commit_log.h"

#include "core/base/mem.h"
#include "core/store/log_job.h"
#include "escrow/errors.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

#define SEGMENT STORE_SEGMENT_BYTES_MIN
/* That a lone small batch takes beyond its own, when it writes zeros ahead. */
#define ZERO_WRITES (LOG_ZERO_BYTES_MIN / LOG_CHUNK_BYTES - 1)

static struct disk *disk;
static struct segments segs;
static struct commit_log the_log;

static void add_segment(void)
{
    struct disk_file *f;

    ck_assert_int_eq(segment_create(disk, segs.allocated, SEGMENT, &f, NULL), 0);
    ck_assert_int_eq(segments_append(&segs, &f), 0);
}

static void setup(void)
{
    struct commit_log_options options = {.seed = 1,
                                         .epoch = 3,
                                         .batch_bytes_max = STORE_BATCH_BYTES_MAX,
                                         .ahead_bytes = SEGMENT / 2};

    disk = sim_disk_new();
    ck_assert_int_eq(disk_mkdir(disk, "log", NULL), 0);
    segments_init(&segs, disk, SEGMENT);
    add_segment();
    commit_log_init(&the_log, &segs, &options, 0);
}

static void teardown(void)
{
    commit_log_fini(&the_log);
    segments_fini(&segs);
    disk_free(&disk);
    ck_assert_int_eq(mem_live_count(), 0);
}

static int append(enum store_type type, size_t length)
{
    struct log_slot slot;
    int rc = commit_log_place(&the_log, type, length, 0, &slot);

    if (rc == 0) {
        memset(slot.dst + ENVELOPE_SIZE, 'p', length - ENVELOPE_SIZE);
        (void)commit_log_put(&the_log, &slot);
        commit_log_check(&the_log);
    }
    return rc;
}

static void run(void)
{
    struct log_batch *b = commit_log_take(&the_log);

    ck_assert_ptr_nonnull(b);
    ck_assert_int_eq(log_batch_run(b, NULL), 0);
    commit_log_synced(&the_log, b);
    commit_log_recycle(&the_log, b);
    commit_log_check(&the_log);
}

START_TEST(records_follow_each_other)
{
    /*
     * Padded to 8; a batch is one write and one sync, its records name where it began. The first
     * has zeros behind it.
     */
    uint8_t head[ENVELOPE_SIZE];
    uint64_t ops;

    ck_assert_int_eq(append(STORE_CHECK, 41), 0);
    ck_assert_uint_eq(the_log.appended, 48);
    ck_assert_int_eq(append(STORE_CHECK, 48), 0);
    ck_assert_uint_eq(the_log.appended, 96);
    ops = sim_disk_op_count(disk);
    run();
    ck_assert_uint_eq(sim_disk_op_count(disk), ops + 2 + ZERO_WRITES);
    ck_assert_uint_eq(the_log.durable, 96);
    ck_assert_int_eq(append(STORE_CHECK, 48), 0);
    ck_assert_int_eq(append(STORE_CHECK, 48), 0);
    ops = sim_disk_op_count(disk);
    run();
    ck_assert_uint_eq(sim_disk_op_count(disk), ops + 2);
    ck_assert(sim_disk_peek(disk, "log/00000000000000000000", 144, head, sizeof head));
    ck_assert_uint_eq(head[16], 96); /* synced */
    ck_assert_uint_eq(head[24], 3);  /* epoch */
}
END_TEST

/* Fill the segment so that exactly `left` bytes remain. */
static void fill_to(uint64_t left)
{
    uint64_t used = SEGMENT - left;

    while (used - the_log.appended > 40000) {
        ck_assert_int_eq(append(STORE_DECISION, 32000), 0);
    }
    ck_assert_int_eq(append(STORE_DECISION, (size_t)(used - the_log.appended)), 0);
}

START_TEST(a_record_that_does_not_fit_begins_the_next_segment)
{
    /*
     * A filler of 40 bytes in what is left; the record at the next segment's first byte; two
     * writes, two syncs; no zeros behind, so soon after a large batch.
     */
    uint8_t head[ENVELOPE_SIZE];
    uint64_t ops;

    add_segment();
    fill_to(80);
    run();
    ck_assert_int_eq(append(STORE_DECISION, 88), 0);
    ck_assert_uint_eq(the_log.appended, SEGMENT + 88);
    ops = sim_disk_op_count(disk);
    run();
    ck_assert_uint_eq(sim_disk_op_count(disk), ops + 4);
    ck_assert(sim_disk_peek(disk, "log/00000000000000000000", SEGMENT - 80, head, sizeof head));
    ck_assert_uint_eq(head[28], STORE_FILLER);
    ck_assert(sim_disk_peek(disk, "log/00000000000001048576", 0, head, sizeof head));
    ck_assert_uint_eq(head[28], STORE_DECISION);
}
END_TEST

START_TEST(less_than_an_envelope_at_the_end_is_skipped)
{
    /* 32 bytes cannot hold a filler: the log goes on by itself. 40 exactly can. 0 needs none. */
    static const uint64_t lefts[] = {0, 8, 32, 40};

    for (size_t i = 0; i < sizeof lefts / sizeof lefts[0]; i++) {
        add_segment();
        if (i > 0) {
            teardown();
            setup();
            add_segment();
        }
        fill_to(lefts[i]);
        ck_assert_uint_eq(the_log.appended,
                          lefts[i] < ENVELOPE_SIZE ? SEGMENT : SEGMENT - lefts[i]);
        ck_assert_int_eq(append(STORE_DECISION, 48), 0);
        ck_assert_uint_eq(the_log.appended, SEGMENT + 48);
        run();
    }
}
END_TEST

START_TEST(only_allocated_space_is_handed_out)
{
    /*
     * ESCROW_ELIMIT while the next segment is on its way, ESCROW_ENOSPC when it cannot come;
     * nothing moves.
     */
    int rc;
    uint64_t end;

    while ((rc = append(STORE_CHECK, 30000)) == 0) {
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert(commit_log_wants_segment(&the_log));
    end = the_log.appended;
    the_log.is_disk_full = true;
    ck_assert_int_eq(append(STORE_CHECK, 30000), ESCROW_ENOSPC);
    ck_assert_uint_eq(the_log.appended, end);
    the_log.is_disk_full = false;
    add_segment();
    ck_assert_int_eq(append(STORE_CHECK, 30000), 0);
}
END_TEST

START_TEST(reserved_decisions_fit_wherever_segments_end)
{
    /*
     * New work stops while everything reserved still fits, one by one or as the longest record
     * there is.
     */
    for (int round = 0; round < 2; round++) {
        uint64_t halves = 2000;
        int rc;

        if (round > 0) {
            teardown();
            setup();
        }
        add_segment();
        the_log.reserved = halves * STORE_DECISION_RESERVE;
        while ((rc = append(STORE_CHECK, 777)) == 0) {
        }
        ck_assert_int_eq(rc, ESCROW_ELIMIT);
        while ((rc = append(STORE_OFFSETS, 48)) == 0) {
        }
        ck_assert_int_eq(rc, ESCROW_ELIMIT);
        while (halves > 0) {
            uint64_t count = round == 0 ? 1 : (halves < 1024 ? halves : 1024);
            ck_assert_int_eq(append(STORE_DECISION, (size_t)(count * STORE_DECISION_RESERVE)), 0);
            the_log.reserved -= count * STORE_DECISION_RESERVE;
            halves -= count;
        }
        for (int starts = 0; starts < 1000; starts++) {
            ck_assert_int_eq(append(STORE_START, 56), 0);
        }
        run();
    }
}
END_TEST

START_TEST(an_append_that_is_given_up_leaves_no_trace)
{
    /* place without put, again and again, also across a segment's end. */
    struct log_slot slot;
    size_t memory;

    add_segment();
    fill_to(80);
    ck_assert_int_eq(commit_log_place(&the_log, STORE_CHECK, 100, 0, &slot), 0);
    memory = the_log.memory_bytes;
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(commit_log_place(&the_log, STORE_CHECK, 100, 0, &slot), 0);
        ck_assert_int_eq(commit_log_place(&the_log, STORE_CHECK, 48, 0, &slot), 0);
    }
    ck_assert_uint_eq(the_log.memory_bytes, memory);
    ck_assert_int_eq(append(STORE_CHECK, 48), 0);
    ck_assert_uint_eq(the_log.appended, SEGMENT); /* 32 bytes are left: skipped */
    run();
}
END_TEST

START_TEST(a_group_is_marked_and_can_be_taken_back)
{
    /* MORE on all but the last; abort restores every byte and count, fillers too. */
    struct log_batch *b;
    uint64_t records;

    add_segment();
    fill_to(80);
    records = the_log.records;
    commit_log_group_begin(&the_log);
    ck_assert_int_eq(append(STORE_CHECK, 100), 0);
    ck_assert_int_eq(append(STORE_CHECK, 100), 0);
    ck_assert_ptr_null(commit_log_take(&the_log));
    commit_log_group_abort(&the_log);
    commit_log_check(&the_log);
    ck_assert_uint_eq(the_log.appended, SEGMENT - 80);
    ck_assert_uint_eq(the_log.records, records);
    commit_log_group_begin(&the_log);
    ck_assert_int_eq(append(STORE_CHECK, 100), 0);
    ck_assert_int_eq(append(STORE_CHECK, 100), 0);
    commit_log_group_end(&the_log);
    b = the_log.filling;
    ck_assert_uint_eq(b->descs[b->desc_count - 2].flags, ENVELOPE_MORE);
    ck_assert_uint_eq(b->descs[b->desc_count - 1].flags, 0);
    run();
}
END_TEST

START_TEST(a_batch_has_a_longest_size)
{
    /* 32 MiB: part of the format. What is alone and still too long will never fit. */
    int rc = 0;

    for (int i = 0; i < 34; i++) {
        add_segment();
    }
    while ((rc = append(STORE_CHECK, 900000)) == 0) {
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert_uint_le(the_log.appended, STORE_BATCH_BYTES_MAX);
    run();
    commit_log_group_begin(&the_log);
    for (int i = 0; i < 34; i++) {
        add_segment();
    }
    while ((rc = append(STORE_CHECK, 900000)) == 0) {
    }
    ck_assert_int_eq(rc, ESCROW_ETOOBIG);
    commit_log_group_abort(&the_log);
}
END_TEST

/* Run the next batch. Returns how many bytes of zeros were written behind it. */
static uint64_t zeros_written(void)
{
    struct log_batch *b = commit_log_take(&the_log);
    const struct log_piece *last;
    uint64_t bytes = 0;

    ck_assert_ptr_nonnull(b);
    last = &b->pieces[b->piece_count - 1];
    for (int i = (int)b->chunk_count; i < last->iov_first + last->iov_count; i++) {
        bytes += b->iovs[i].iov_len;
    }
    ck_assert_int_eq(log_batch_run(b, NULL), 0);
    commit_log_synced(&the_log, b);
    commit_log_recycle(&the_log, b);
    commit_log_check(&the_log);
    return bytes;
}

START_TEST(zeros_go_ahead_of_small_batches)
{
    /*
     * A batch that reaches space which was only allocated is written with zeros behind it, up to a
     * boundary of pages; the batches that follow into them are written alone.
     */
    uint8_t bytes[1024];

    ck_assert_int_eq(append(STORE_CHECK, 1000), 0);
    ck_assert_uint_eq(zeros_written(), LOG_ZERO_BYTES_MIN - 1000);
    ck_assert_int_eq(append(STORE_CHECK, 200000), 0);
    ck_assert_uint_eq(zeros_written(), 0);
    ck_assert(sim_disk_peek(disk, "log/00000000000000000000", 201000, bytes, sizeof bytes));
    for (size_t i = 0; i < sizeof bytes; i++) {
        ck_assert_uint_eq(bytes[i], 0);
    }
}
END_TEST

START_TEST(zeros_are_written_in_small_pieces)
{
    /*
     * The batch's own write goes up to the next multiple of a chunk; every one behind it begins
     * where the last one ended, and at such a multiple. Together they are one run of zeros.
     */
    struct log_batch *b;
    uint64_t at = 0;

    ck_assert_int_eq(append(STORE_CHECK, 1000), 0);
    b = commit_log_take(&the_log);
    ck_assert_ptr_nonnull(b);
    ck_assert_uint_eq(b->piece_count, LOG_ZERO_BYTES_MIN / LOG_CHUNK_BYTES);
    for (size_t i = 0; i < b->piece_count; i++) {
        const struct log_piece *piece = &b->pieces[i];
        uint64_t bytes = 0;

        for (int k = 0; k < piece->iov_count; k++) {
            bytes += b->iovs[piece->iov_first + k].iov_len;
        }
        ck_assert_ptr_eq(piece->file, b->pieces[0].file);
        ck_assert_uint_eq(piece->file_offset, at);
        ck_assert_uint_eq(bytes, LOG_CHUNK_BYTES);
        at += bytes;
    }
    ck_assert_uint_eq(at, LOG_ZERO_BYTES_MIN);
    ck_assert_int_eq(log_batch_run(b, NULL), 0);
    commit_log_synced(&the_log, b);
    commit_log_recycle(&the_log, b);
    commit_log_check(&the_log);
}
END_TEST

START_TEST(the_size_of_a_batch_says_how_far_zeros_go)
{
    /* More zeros behind a larger one, until the segment ends. */
    ck_assert_int_eq(append(STORE_CHECK, 90000), 0);
    ck_assert_uint_eq(zeros_written(), SEGMENT - 90000);
    ck_assert_int_eq(append(STORE_CHECK, 90000), 0);
    ck_assert_uint_eq(zeros_written(), 0);
}
END_TEST

/* Small batches until zeros go behind one. Returns how many got none. */
static int small_batches_without_zeros(void)
{
    int count = 0;

    for (;; count++) {
        ck_assert_int_eq(append(STORE_CHECK, 48), 0);
        if (zeros_written() > 0) {
            return count;
        }
    }
}

START_TEST(nothing_goes_ahead_of_a_large_batch)
{
    /* Its own bytes are many already. */
    ck_assert_int_eq(append(STORE_CHECK, LOG_ZERO_BATCH_MAX + 8), 0);
    ck_assert_uint_eq(zeros_written(), 0);
    ck_assert_int_eq(small_batches_without_zeros(), 0); /* its size has faded below the bound */
}
END_TEST

START_TEST(nothing_goes_ahead_of_a_small_batch_among_large_ones)
{
    /* The next large one would write over the zeros; when no more come, zeros go ahead again. */
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(append(STORE_CHECK, 2 * LOG_ZERO_BATCH_MAX), 0);
        ck_assert_uint_eq(zeros_written(), 0);
        ck_assert_int_eq(append(STORE_CHECK, 48), 0);
        ck_assert_uint_eq(zeros_written(), 0);
    }
    ck_assert_int_eq(small_batches_without_zeros(), 1); /* 3/4 of 3/4 of 3/4 of twice the bound */
}
END_TEST

START_TEST(zeros_end_with_the_segment)
{
    /*
     * Not beyond it: a batch that ends a segment needs none, one that begins the next starts anew.
     */
    add_segment();
    fill_to(8000);
    run();
    (void)small_batches_without_zeros();
    fill_to(80);
    ck_assert_uint_eq(zeros_written(), 0);
    ck_assert_int_eq(append(STORE_DECISION, 80), 0);
    ck_assert_uint_eq(zeros_written(), 0);
    ck_assert_int_eq(append(STORE_DECISION, 80), 0);
    ck_assert_uint_eq(zeros_written(), LOG_ZERO_BYTES_MIN - 80);
}
END_TEST

START_TEST(idle_memory_goes_back)
{
    /* Chunks are kept while busy, and given back when asked. */
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(append(STORE_DECISION, 40000), 0);
    }
    run();
    ck_assert_uint_gt(the_log.memory_bytes, 10 * LOG_CHUNK_BYTES);
    commit_log_trim(&the_log);
    ck_assert_uint_eq(the_log.memory_bytes, 0);
    ck_assert_int_eq(append(STORE_CHECK, 48), 0);
    commit_log_trim(&the_log); /* not while something waits */
    run();
}
END_TEST

int main(void)
{
    Suite *s = suite_create("core/store/commit_log");
    TCase *tc = tcase_create("commit_log");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, records_follow_each_other);
    tcase_add_test(tc, a_record_that_does_not_fit_begins_the_next_segment);
    tcase_add_test(tc, less_than_an_envelope_at_the_end_is_skipped);
    tcase_add_test(tc, only_allocated_space_is_handed_out);
    tcase_add_test(tc, reserved_decisions_fit_wherever_segments_end);
    tcase_add_test(tc, an_append_that_is_given_up_leaves_no_trace);
    tcase_add_test(tc, a_group_is_marked_and_can_be_taken_back);
    tcase_add_test(tc, a_batch_has_a_longest_size);
    tcase_add_test(tc, zeros_go_ahead_of_small_batches);
    tcase_add_test(tc, zeros_are_written_in_small_pieces);
    tcase_add_test(tc, nothing_goes_ahead_of_a_large_batch);
    tcase_add_test(tc, nothing_goes_ahead_of_a_small_batch_among_large_ones);
    tcase_add_test(tc, the_size_of_a_batch_says_how_far_zeros_go);
    tcase_add_test(tc, zeros_end_with_the_segment);
    tcase_add_test(tc, idle_memory_goes_back);
    tcase_set_timeout(tc, 30);
    suite_add_tcase(s, tc);
    return unit_run(s);
}
