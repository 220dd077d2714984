#include "txn/decided.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#define STEP 4096u /* bytes of log between two halves: late by more than 512 of them is late */

static struct hash128 id_of(uint64_t n)
{
    return (struct hash128){.lo = hash_u64(n), .hi = n};
}

static struct decided_fact fact_of(uint64_t n)
{
    return (struct decided_fact){.offset = n * STEP,
                                 .kind = n % 2 == 0 ? DECISION_COMMIT : DECISION_ROLLBACK,
                                 .by = (enum decision_by)(1 + n % 3),
                                 .at_ms = 1700000000000 + (int64_t)n};
}

static void put(struct decided *d, uint64_t n)
{
    struct decided_fact fact = fact_of(n);

    decided_put(d, id_of(n), (uint16_t)n, &fact);
}

/* The i-th to be decided: in the log's order, but for one in a hundred, which comes much later. */
static uint64_t nth(uint64_t i)
{
    return 1 + (i % 100 != 7 ? i : i / 1000 % 2 == 0 ? i + 1000 : i - 1000);
}

static bool is_equal(void *arg, uint64_t offset)
{
    return *(uint64_t *)arg == offset;
}

static bool knows(const struct decided *d, uint64_t n)
{
    struct decided_fact want = fact_of(n);
    struct decided_fact by_id = {0};
    struct decided_fact by_offset = {0};
    uint64_t id_lo = 0;
    uint16_t tag = 0;
    bool is_known = decided_find_id(d, id_of(n), &by_id);

    CHECK(decided_find_offset(d, n * STEP, &by_offset, &id_lo, &tag) == is_known);
    CHECK(decided_any(d, is_equal, &want.offset) == is_known);
    if (is_known) {
        CHECK(by_id.offset == want.offset && by_offset.offset == want.offset);
        CHECK(by_id.kind == want.kind && by_id.by == want.by && by_id.at_ms == want.at_ms);
        CHECK(id_lo == id_of(n).lo && tag == (uint16_t)n);
    }
    return is_known;
}

START_TEST(what_was_decided_is_remembered_with_all_that_was_said)
{
    /* Kind, by whom, when, id and group, found by id and by offset. */
    struct decided d;

    ck_assert_int_eq(decided_init(&d, 100), 0);
    ck_assert(!knows(&d, 1));
    for (uint64_t n = 1; n <= 100; n++) {
        put(&d, n);
    }
    for (uint64_t n = 1; n <= 100; n++) {
        ck_assert(knows(&d, n));
    }
    decided_check(&d);
    decided_fini(&d);
}
END_TEST

START_TEST(the_oldest_are_forgotten_first)
{
    /* Bounds below, at and above a chunk: exactly the newest are known. */
    static const size_t bounds[] = {1, 2, 1023, 1024, 1025, 3000};

    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        struct decided d;
        uint64_t last = 2 * bounds[i] + 3;

        ck_assert_int_eq(decided_init(&d, bounds[i]), 0);
        for (uint64_t n = 1; n <= last; n++) {
            put(&d, n);
        }
        decided_check(&d);
        ck_assert_uint_eq(d.count, bounds[i]);
        for (uint64_t n = 1; n <= last; n++) {
            CHECK(knows(&d, n) == (n > last - bounds[i]));
        }
        decided_fini(&d);
    }
}
END_TEST

START_TEST(an_offset_is_found_wherever_it_was_decided)
{
    /*
     * In an order that has nothing to do with that of the log, and mostly in that order with some
     * that were decided late, over several turns of the ring, whose last chunk is a part of one.
     */
    struct decided d;
    uint32_t x = 1;

    for (int is_shuffled = 0; is_shuffled < 2; is_shuffled++) {
        static uint64_t order[10007];
        const uint64_t count = sizeof order / sizeof order[0];

        ck_assert_int_eq(decided_init(&d, 2500), 0);
        for (uint64_t i = 0; i < count; i++) {
            order[i] = i + 1;
        }
        for (uint64_t i = 0; i < count; i += is_shuffled ? 1 : 97) {
            uint64_t other = (x = x * 1664525 + 1013904223) % count;
            uint64_t was = order[i];
            order[i] = order[other];
            order[other] = was;
        }
        for (uint64_t i = 0; i < count; i++) {
            put(&d, order[i]);
            CHECK(knows(&d, order[i]));
        }
        decided_check(&d);
        for (uint64_t i = 0; i < count; i++) {
            CHECK(knows(&d, order[i]) == (i >= count - 2500));
        }
        decided_fini(&d);
    }
}
END_TEST

START_TEST(those_decided_late_leave_the_others_quickly_found)
{
    /* Whatever is decided late, few chunks have to be looked through for any offset. */
    struct decided d;

    ck_assert_int_eq(decided_init(&d, 30000), 0);
    for (uint64_t i = 0; i < 100000; i++) {
        put(&d, nth(i));
    }
    decided_check(&d);
    ck_assert_uint_gt(d.late.count, 100);
    for (uint64_t i = 0; i < 100000; i++) {
        uint64_t offset = nth(i) * STEP;
        size_t ranges = 0;
        for (size_t chunk = 0; chunk < d.chunk_count; chunk++) {
            ranges += offset >= d.ranges[chunk].min && offset <= d.ranges[chunk].max ? 1 : 0;
        }
        CHECK(ranges <= 4); /* its own, a neighbour's, and the one that is being filled */
        if (i % 97 == 0 || i % 1000 == 7) {
            CHECK(knows(&d, nth(i)) == (i >= 70000));
        }
    }
    decided_fini(&d);
}
END_TEST

START_TEST(without_memory_for_the_index_a_late_one_is_found_too)
{
    struct decided d;

    ck_assert_int_eq(decided_init(&d, 10000), 0);
    put(&d, 5000);
    mem_fault_at(1);
    put(&d, 1);
    ck_assert_int_ne(mem_fault_fired(), 0);
    mem_fault_at(0);
    ck_assert_uint_eq(d.late.count, 0);
    put(&d, 2);
    ck_assert_uint_eq(d.late.count, 1);
    decided_check(&d);
    ck_assert(knows(&d, 5000) && knows(&d, 1) && knows(&d, 2) && !knows(&d, 3));
    decided_fini(&d);
}
END_TEST

START_TEST(memory_grows_only_with_what_is_remembered)
{
    /* A bound of a million costs nothing until it is used; 40 bytes for each entry at most. */
    struct decided d;

    ck_assert_int_eq(decided_init(&d, 1000000), 0);
    ck_assert_uint_lt(decided_bytes(&d), (size_t)64 * 1024);
    for (uint64_t n = 1; n <= 100000; n++) {
        put(&d, n);
    }
    ck_assert_uint_lt(decided_bytes(&d), (size_t)100000 * 40);
    decided_fini(&d);
}
END_TEST

START_TEST(without_memory_the_oldest_makes_room)
{
    /*
     * No allocation succeeds after the first chunk: puts go on, the newest 1024 are known; then it
     * grows again.
     */
    struct decided d;

    ck_assert_int_eq(decided_init(&d, 100000), 0);
    for (uint64_t n = 1; n <= 3000; n++) {
        mem_fault_at(1);
        put(&d, n);
        mem_fault_at(0);
    }
    decided_check(&d);
    ck_assert_uint_eq(d.count, 1024);
    ck_assert(knows(&d, 3000) && knows(&d, 3000 - 1023) && !knows(&d, 3000 - 1024));
    for (uint64_t n = 3001; n <= 9000; n++) {
        put(&d, n);
    }
    decided_check(&d);
    ck_assert_uint_gt(d.count, 4000);
    ck_assert(knows(&d, 9000) && knows(&d, 9000 - d.count + 1));
    decided_fini(&d);
}
END_TEST

START_TEST(the_newest_entry_of_an_id_counts)
{
    /* An id that was forgotten elsewhere and decided again: the later offset is answered. */
    struct decided d;
    struct decided_fact fact = fact_of(2);
    struct decided_fact got = {0};

    ck_assert_int_eq(decided_init(&d, 10), 0);
    decided_put(&d, id_of(1), 1, &fact);
    fact.offset = 200 * STEP;
    fact.kind = DECISION_ROLLBACK;
    decided_put(&d, id_of(1), 1, &fact);
    fact.offset = 100 * STEP;
    decided_put(&d, id_of(9), 1, &fact);
    ck_assert(decided_find_id(&d, id_of(1), &got));
    ck_assert_uint_eq(got.offset, 200 * STEP);
    ck_assert_int_eq(got.kind, DECISION_ROLLBACK);
    decided_fini(&d);
}
END_TEST

START_TEST(saved_and_loaded_it_knows_the_same)
{
    /*
     * A ring that has wrapped, into a memory of the same size, of a smaller one, and of a larger
     * one.
     */
    static const size_t bounds[] = {1500, 100, 5000};
    struct decided d;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decided_init(&d, 1500), 0);
    for (uint64_t i = 0; i < 4000; i++) {
        put(&d, nth(i));
    }
    ck_assert_uint_gt(d.late.count, 0);
    decided_save(&d, &b);
    decided_save_start(&d, b.ptr);
    ck_assert(!decided_save_more(&d, UINT32_MAX));
    ck_assert(!buf_failed(&b));
    for (size_t i = 0; i < 3; i++) {
        struct decided copy;
        struct slice in = buf_slice(&b);
        size_t kept = bounds[i] < 1500 ? bounds[i] : 1500;

        ck_assert_int_eq(decided_init(&copy, bounds[i]), 0);
        ck_assert_int_eq(decided_load(&copy, &in), 0);
        ck_assert_uint_eq(in.len, 0);
        decided_check(&copy);
        for (uint64_t n = 0; n < 4000; n++) {
            CHECK(knows(&copy, nth(n)) == (n >= 4000 - kept));
        }
        decided_fini(&copy);
    }
    buf_fini(&b);
    decided_fini(&d);
}
END_TEST

START_TEST(what_is_forgotten_while_it_is_saved_is_in_the_section)
{
    /*
     * Saved in pieces, each followed by entries that push the oldest ones out or make the ring
     * grow:
     * every byte as if it had been saved at once.
     */
    for (uint64_t puts = 0; puts < 60; puts++) {
        struct decided d;
        struct buf whole;
        struct buf b;
        uint64_t n = 0;

        buf_init(&b, 0);
        buf_init(&whole, 0);
        ck_assert_int_eq(decided_init(&d, puts % 2 == 0 ? 1500 : 3000), 0);
        while (n < 1000 + puts * 50) { /* also a ring that begins in the middle */
            put(&d, ++n);
        }
        decided_save(&d, &whole);
        decided_save_start(&d, whole.ptr);
        ck_assert(!decided_save_more(&d, UINT32_MAX));
        decided_save(&d, &b);
        decided_save_start(&d, b.ptr);
        while (decided_save_more(&d, 50)) {
            for (uint64_t i = 0; i < puts * 5; i++) {
                put(&d, ++n);
            }
            decided_check(&d);
        }
        ck_assert(slice_eq(buf_slice(&b), buf_slice(&whole)));
        buf_fini(&b);
        buf_fini(&whole);
        decided_fini(&d);
    }
}
END_TEST

START_TEST(a_damaged_section_is_corrupt)
{
    /* Each length that is too short, and a fact that cannot be. */
    struct decided d;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decided_init(&d, 10), 0);
    put(&d, 1);
    put(&d, 2);
    decided_save(&d, &b);
    decided_save_start(&d, b.ptr);
    ck_assert(!decided_save_more(&d, UINT32_MAX));
    for (size_t len = 0; len < b.len; len++) {
        struct decided copy;
        struct slice in = slice_of(b.ptr, len);
        ck_assert_int_eq(decided_init(&copy, 10), 0);
        ck_assert_int_eq(decided_load(&copy, &in), ESCROW_ECORRUPT);
        decided_fini(&copy);
    }
    b.ptr[4 + 16] = 0x0F; /* kind 3, by 3 */
    {
        struct decided copy;
        struct slice in = buf_slice(&b);
        ck_assert_int_eq(decided_init(&copy, 10), 0);
        ck_assert_int_eq(decided_load(&copy, &in), ESCROW_ECORRUPT);
        decided_fini(&copy);
    }
    buf_fini(&b);
    decided_fini(&d);
}
END_TEST

START_TEST(a_refused_allocation_at_the_start_leaks_nothing)
{
    /* Fail the 1st, 2nd, ... until none fires. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct decided d;
        int rc;

        mem_fault_at(++n);
        rc = decided_init(&d, 10);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        if (rc == 0) {
            decided_fini(&d);
        }
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 4);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/decided");
    TCase *tc = tcase_create("decided");

    tcase_add_test(tc, what_was_decided_is_remembered_with_all_that_was_said);
    tcase_add_test(tc, the_oldest_are_forgotten_first);
    tcase_add_test(tc, an_offset_is_found_wherever_it_was_decided);
    tcase_add_test(tc, those_decided_late_leave_the_others_quickly_found);
    tcase_add_test(tc, without_memory_for_the_index_a_late_one_is_found_too);
    tcase_add_test(tc, memory_grows_only_with_what_is_remembered);
    tcase_add_test(tc, without_memory_the_oldest_makes_room);
    tcase_add_test(tc, the_newest_entry_of_an_id_counts);
    tcase_add_test(tc, saved_and_loaded_it_knows_the_same);
    tcase_add_test(tc, what_is_forgotten_while_it_is_saved_is_in_the_section);
    tcase_add_test(tc, a_damaged_section_is_corrupt);
    tcase_add_test(tc, a_refused_allocation_at_the_start_leaks_nothing);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
