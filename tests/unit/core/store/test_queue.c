#include "core/store/queue.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

static struct queue_entry entry_of(uint64_t number)
{
    return (struct queue_entry){.offset = number * 8 + 4096,
                                .size_bytes = (uint32_t)(100 + number % 50),
                                .tag_hash = -(int64_t)(number % 7)};
}

/* Check writes to a pipe at every ck_assert: there is none on the good path of these. */
static void reserve(struct queue *q, uint64_t want)
{
    uint64_t number = 0;

    if (queue_reserve(q, &number) != 0 || number != want) {
        ck_abort_msg("number %llu is not handed out", (unsigned long long)want);
    }
}

static void put(struct queue *q, uint64_t want)
{
    struct queue_entry entry = entry_of(want);

    if (queue_put(q, &entry) != want) {
        ck_abort_msg("entry %llu is put elsewhere", (unsigned long long)want);
    }
}

/* Everything from `first` on that is visible is in memory and is what was put. */
static void check_memory(const struct queue *q, uint64_t first)
{
    uint64_t n = first;

    while (n < q->visible) {
        const uint8_t *bytes = NULL;
        uint32_t count = queue_memory(q, n, UINT32_MAX, &bytes);

        ck_assert_uint_gt(count, 0);
        for (uint32_t i = 0; i < count; i++) {
            struct queue_entry got;
            struct queue_entry want = entry_of(n + i);

            ck_assert(queue_entry_decode(bytes + (size_t)i * QUEUE_ENTRY_SIZE, n + i, &got));
            ck_assert_uint_eq(got.offset, want.offset);
            ck_assert_uint_eq(got.size_bytes, want.size_bytes);
            ck_assert_int_eq(got.tag_hash, want.tag_hash);
        }
        n += count;
    }
}

START_TEST(an_entry_has_the_bytes_of_the_table)
{
    /* FORMAT.md, "Consume queues": big-endian offset, size, check, tag hash. */
    static const uint8_t want[QUEUE_ENTRY_SIZE] = {0, 1, 2, 3, 4, 5, 6,    7,    0,    0,
                                                   1, 2, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFE};
    struct queue_entry entry = {
        .offset = UINT64_C(0x0001020304050607), .size_bytes = 0x102, .tag_hash = -2};
    struct queue_entry back;
    uint8_t bytes[QUEUE_ENTRY_SIZE];

    queue_entry_encode(&entry, 7, bytes);
    ck_assert_mem_eq(bytes, want, 12);
    ck_assert_mem_eq(bytes + 16, want + 16, 4);
    ck_assert(queue_entry_decode(bytes, 7, &back));
    ck_assert_uint_eq(back.offset, entry.offset);
    ck_assert_uint_eq(back.size_bytes, entry.size_bytes);
    ck_assert_int_eq(back.tag_hash, entry.tag_hash);
}
END_TEST

START_TEST(a_damaged_entry_is_noticed)
{
    /* Every bit of it, and an entry at another one's place. */
    struct queue_entry entry = {.offset = 4096, .size_bytes = 1000, .tag_hash = 77};
    struct queue_entry back;
    uint8_t bytes[QUEUE_ENTRY_SIZE];

    queue_entry_encode(&entry, 7, bytes);
    for (unsigned bit = 0; bit < QUEUE_ENTRY_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        ck_assert(!queue_entry_decode(bytes, 7, &back));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    ck_assert(queue_entry_decode(bytes, 7, &back));
    ck_assert(!queue_entry_decode(bytes, 8, &back));
    memset(bytes, 0, sizeof bytes);
    ck_assert(!queue_entry_decode(bytes, 0, &back));
}
END_TEST

START_TEST(entries_become_visible_in_the_order_of_their_numbers)
{
    /* Numbers run ahead of entries; readers see entries only once they are put. */
    struct queue q;
    const uint8_t *bytes;

    queue_init(&q, NULL, 3);
    for (uint64_t n = 0; n < 100; n++) {
        reserve(&q, n);
    }
    ck_assert_uint_eq(q.visible, 0);
    ck_assert_uint_eq(queue_memory(&q, 0, 1, &bytes), 0);
    for (uint64_t n = 0; n < 60; n++) {
        put(&q, n);
        queue_check(&q);
    }
    ck_assert_uint_eq(queue_pending_count(&q), 60);
    check_memory(&q, 0);
    ck_assert_uint_eq(queue_memory(&q, 60, 1, &bytes), 0);
    ck_assert_uint_eq(queue_memory(&q, 59, 5, &bytes), 1);
    queue_fini(&q);
}
END_TEST

START_TEST(flushed_entries_leave_memory_and_the_rest_stays)
{
    /* A flush in the middle of a chunk, with numbers still handed out; then one of everything. */
    struct queue q;

    queue_init(&q, NULL, 0);
    for (uint64_t n = 0; n < 1000; n++) {
        reserve(&q, n);
    }
    for (uint64_t n = 0; n < 900; n++) {
        put(&q, n);
    }
    queue_flushed(&q, 500);
    queue_check(&q);
    check_memory(&q, 500);
    queue_flushed(&q, 900);
    ck_assert_ptr_nonnull(q.chunk_put);
    for (uint64_t n = 900; n < 1000; n++) {
        put(&q, n);
    }
    check_memory(&q, 900);
    queue_flushed(&q, 1000);
    ck_assert_ptr_null(q.chunk_head);
    ck_assert_int_eq(mem_live_count(), 0);
    reserve(&q, 1000);
    put(&q, 1000);
    check_memory(&q, 1000);
    queue_fini(&q);
}
END_TEST

START_TEST(a_number_that_is_taken_back_is_handed_out_again)
{
    /* Also across the boundary of a chunk, which then must not stay behind empty. */
    struct queue q;
    const uint64_t count = QUEUE_CHUNK_ENTRIES_MIN + 3;

    queue_init(&q, NULL, 0);
    for (int round = 0; round < 3; round++) {
        for (uint64_t n = 0; n < count; n++) {
            reserve(&q, n);
        }
        for (uint64_t n = count; n > 0; n--) {
            queue_unreserve(&q, n - 1);
            queue_check(&q);
        }
    }
    for (uint64_t n = 0; n < count; n++) {
        reserve(&q, n);
        put(&q, n);
    }
    reserve(&q, count);
    queue_unreserve(&q, count);
    queue_flushed(&q, count);
    queue_check(&q);
    ck_assert_ptr_null(q.chunk_head);
    reserve(&q, count);
    put(&q, count);
    check_memory(&q, count);
    queue_fini(&q);
}
END_TEST

START_TEST(any_order_of_steps_keeps_the_invariants)
{
    /* Random reserve, put, take back, flush, min: against three counters. */
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct queue q;
        struct rand r;
        uint64_t next = 0;
        uint64_t visible = 0;

        rand_init(&r, seed);
        queue_init(&q, NULL, 0);
        for (int step = 0; step < 3000; step++) {
            uint64_t what = rand_below(&r, 100);

            if (what < 45) {
                reserve(&q, next++);
            } else if (what < 85 && visible < next) {
                put(&q, visible++);
            } else if (what < 92 && visible < next) {
                queue_unreserve(&q, --next);
            } else if (what < 97) {
                queue_flushed(&q, q.flushed + rand_below(&r, visible - q.flushed + 1));
            } else if (what == 97) {
                queue_set_min(&q, rand_below(&r, visible + 1));
            }
            queue_check(&q);
            if (q.append_next != next || q.visible != visible) {
                ck_abort_msg("seed %llu, step %d", (unsigned long long)seed, step);
            }
        }
        check_memory(&q, q.flushed);
        queue_fini(&q);
    }
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

START_TEST(without_memory_no_number_is_handed_out)
{
    /* Each allocation fails once; the second attempt succeeds and nothing was lost. */
    struct queue q;
    int fired = 0;

    queue_init(&q, NULL, 0);
    for (uint64_t n = 0; n < 200; n++) {
        uint64_t number = UINT64_MAX;
        int rc;

        mem_fault_at(1);
        rc = queue_reserve(&q, &number);
        if (mem_fault_fired()) {
            fired++;
            ck_assert_int_eq(rc, ESCROW_ENOMEM);
            queue_check(&q);
            rc = queue_reserve(&q, &number);
        }
        mem_fault_at(0);
        ck_assert_int_eq(rc, 0);
        ck_assert_uint_eq(number, n);
        put(&q, n);
    }
    ck_assert_int_eq(fired, 5); /* 8 + 16 + 32 + 64 + 128 entries */
    check_memory(&q, 0);
    queue_fini(&q);
}
END_TEST

START_TEST(a_queue_may_begin_at_any_number)
{
    /* The log no longer has what was before: neither has the queue. */
    struct queue q;

    queue_init(&q, NULL, 0);
    queue_begin_at(&q, 700001);
    ck_assert_uint_eq(q.min, 700001);
    ck_assert_uint_eq(q.first_file, 2);
    reserve(&q, 700001);
    put(&q, 700001);
    check_memory(&q, 700001);
    queue_fini(&q);
    queue_init(&q, NULL, 0);
    queue_begin_at(&q, QUEUE_NUMBER_MAX);
    ck_assert_int_eq(queue_reserve(&q, &(uint64_t){0}), ESCROW_ELIMIT);
    queue_fini(&q);
}
END_TEST

START_TEST(an_entry_nobody_reserved_is_a_bug)
{
    /* queue_put without a number aborts. */
    struct queue q;

    queue_init(&q, NULL, 0);
    put(&q, 0);
}
END_TEST

START_TEST(min_never_goes_down)
{
    /* A retention that comes late changes nothing. */
    struct queue q;

    queue_init(&q, NULL, 0);
    for (uint64_t n = 0; n < 10; n++) {
        reserve(&q, n);
        put(&q, n);
    }
    queue_set_min(&q, 7);
    queue_set_min(&q, 3);
    ck_assert_uint_eq(q.min, 7);
    queue_fini(&q);
}
END_TEST

/* Search among entries whose store times are times[]. */
static uint64_t search(const int64_t *times, uint64_t count, int64_t ms)
{
    struct queue_search s = {.low = 0, .high = count, .ms = ms};
    uint64_t number;
    int steps = 0;

    while (queue_search_next(&s, &number)) {
        ck_assert_uint_lt(number, count);
        queue_search_feed(&s, number, times[number]);
        ck_assert_int_lt(++steps, 64);
    }
    return s.low;
}

START_TEST(search_by_time_finds_the_first_entry_not_earlier)
{
    /*
     * Every time around every entry, with equal times and an empty queue, against a linear search.
     */
    static const int64_t times[] = {5, 5, 7, 9, 9, 9, 12, 20};
    const uint64_t count = sizeof times / sizeof times[0];

    for (int64_t ms = 0; ms < 25; ms++) {
        for (uint64_t n = 0; n <= count; n++) {
            uint64_t want = 0;

            while (want < n && times[want] < ms) {
                want++;
            }
            ck_assert_uint_eq(search(times, n, ms), want);
        }
    }
}
END_TEST

START_TEST(search_ends_also_when_times_jump)
{
    /* A clock that went back: the answer is an entry of the queue or its end. */
    static const int64_t times[] = {50, 60, 10, 20, 55, 5, 70};
    const uint64_t count = sizeof times / sizeof times[0];

    for (int64_t ms = 0; ms < 80; ms++) {
        ck_assert_uint_le(search(times, count, ms), count);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/store/queue");
    TCase *t = tcase_create("queue");

    tcase_add_test(t, an_entry_has_the_bytes_of_the_table);
    tcase_add_test(t, a_damaged_entry_is_noticed);
    tcase_add_test(t, entries_become_visible_in_the_order_of_their_numbers);
    tcase_add_test(t, flushed_entries_leave_memory_and_the_rest_stays);
    tcase_add_test(t, a_number_that_is_taken_back_is_handed_out_again);
    tcase_add_test(t, any_order_of_steps_keeps_the_invariants);
    tcase_add_test(t, without_memory_no_number_is_handed_out);
    tcase_add_test(t, a_queue_may_begin_at_any_number);
    tcase_add_test_raise_signal(t, an_entry_nobody_reserved_is_a_bug, SIGABRT);
    tcase_add_test(t, min_never_goes_down);
    tcase_add_test(t, search_by_time_finds_the_first_entry_not_earlier);
    tcase_add_test(t, search_ends_also_when_times_jump);
    suite_add_tcase(suite, t);
    return unit_run(suite);
}
