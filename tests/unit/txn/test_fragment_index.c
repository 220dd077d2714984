#include "txn/fragment_index.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

struct entries {
    struct fragment_index index;
    uint64_t *hashes;
    size_t count;
};

static uint64_t entry_hash(void *owner, uint32_t slot)
{
    const struct entries *e = owner;

    CHECK(slot < e->count);
    return e->hashes[slot];
}

static void entries_init(struct entries *e, size_t count)
{
    e->hashes = mem_calloc(count, sizeof *e->hashes);
    ck_assert_ptr_nonnull(e->hashes);
    e->count = count;
    for (size_t i = 0; i < count; i++) {
        e->hashes[i] = hash_u64(i + 1);
    }
    fragment_index_init(&e->index, entry_hash, e);
    ck_assert_int_eq(fragment_index_reserve(&e->index), 0);
}

static void entries_fini(struct entries *e)
{
    fragment_index_fini(&e->index);
    mem_free(e->hashes);
}

static int insert(struct entries *e, uint32_t slot)
{
    return fragment_index_insert(&e->index, e->hashes[slot], slot);
}

static void take_out(struct entries *e, uint32_t slot)
{
    fragment_index_remove(&e->index, e->hashes[slot], slot);
}

/* How often a slot is among those that may belong to its hash; *others counts the rest of them. */
static size_t times_found(const struct entries *e, uint32_t slot, size_t *others)
{
    struct fragment_cursor at = fragment_index_find(&e->index, e->hashes[slot]);
    size_t times = 0;
    uint32_t found;

    while ((found = fragment_index_next(&e->index, e->hashes[slot], &at)) != FRAGMENT_NONE) {
        times += found == slot;
        *others += found != slot;
    }
    return times;
}

START_TEST(every_entry_is_found_while_the_index_grows)
{
    /* 50,000 entries: each is found once, few others are offered, and memory follows the count. */
    const uint32_t n = 50000;
    struct entries e;
    size_t others = 0;

    entries_init(&e, n);
    for (uint32_t i = 0; i < n; i++) {
        ck_assert_int_eq(insert(&e, i), 0);
        if (i % 5000 == 0) {
            fragment_index_check(&e.index);
        }
        CHECK(times_found(&e, i / 2, &others) == 1);
    }
    for (uint32_t i = 0; i < n; i++) {
        CHECK(times_found(&e, i, &others) == 1);
    }
    ck_assert_uint_lt(others, n / 8);
    ck_assert_uint_lt(fragment_index_bytes(&e.index), n * (size_t)18);
    ck_assert_uint_eq(e.index.count, n);
    fragment_index_check(&e.index);
    entries_fini(&e);
}
END_TEST

START_TEST(first_in_first_out_for_ever_needs_no_more_memory)
{
    /* 20,000 at a time, 400,000 in all: what is chained to full buckets is given back. */
    const uint32_t live = 20000;
    struct entries e;
    size_t bytes = 0;
    size_t others = 0;

    entries_init(&e, 20 * (size_t)live);
    for (uint32_t i = 0; i < 20 * live; i++) {
        ck_assert_int_eq(insert(&e, i), 0);
        if (i >= live) {
            take_out(&e, i - live);
            CHECK(times_found(&e, i - live, &others) == 0);
        }
        if (i == 2 * live) {
            bytes = fragment_index_bytes(&e.index);
        }
    }
    ck_assert_uint_le(fragment_index_bytes(&e.index), bytes + bytes / 4);
    fragment_index_check(&e.index);
    entries_fini(&e);
}
END_TEST

START_TEST(equal_hashes_are_all_offered)
{
    /* 100 entries of one hash, more than any bucket holds, and the fragment that stands for "0". */
    struct entries e;
    size_t others = 0;

    entries_init(&e, 200);
    for (uint32_t i = 0; i < 200; i++) {
        e.hashes[i] = i < 100 ? UINT64_C(0x00000000deadbeef) : UINT64_C(0x01000000deadbeef);
        ck_assert_int_eq(insert(&e, i), 0);
    }
    for (uint32_t i = 0; i < 200; i += 2) {
        take_out(&e, i);
    }
    fragment_index_check(&e.index);
    for (uint32_t i = 0; i < 200; i++) {
        ck_assert_uint_eq(times_found(&e, i, &others), i % 2);
    }
    for (uint32_t i = 1; i < 200; i += 2) {
        take_out(&e, i);
    }
    ck_assert_uint_eq(e.index.count, 0);
    fragment_index_check(&e.index);
    entries_fini(&e);
}
END_TEST

START_TEST(random_use_agrees_with_an_array)
{
    /* In and out in any order, with hashes that collide in address and fragment. */
    struct entries e;
    bool is_in[6000] = {false};
    struct rand rand;
    size_t others = 0;

    rand_init(&rand, 7);
    entries_init(&e, 6000);
    for (size_t i = 0; i < 6000; i++) {
        e.hashes[i] &= UINT64_C(0x0300000000000fff);
    }
    for (int step = 0; step < 60000; step++) {
        uint32_t slot = (uint32_t)rand_below(&rand, 6000);
        if (is_in[slot]) {
            take_out(&e, slot);
        } else {
            ck_assert_int_eq(insert(&e, slot), 0);
        }
        is_in[slot] = !is_in[slot];
    }
    fragment_index_check(&e.index);
    for (uint32_t i = 0; i < 6000; i++) {
        CHECK(times_found(&e, i, &others) == is_in[i]);
    }
    entries_fini(&e);
}
END_TEST

START_TEST(without_memory_only_a_full_bucket_refuses)
{
    /*
     * The first allocation of every insertion fails: what was taken is found, what was refused
     * changed nothing.
     */
    struct entries e;
    uint32_t refused = 0;
    size_t others = 0;
    int64_t live = mem_live_count();

    entries_init(&e, 5000);
    for (uint32_t i = 0; i < 5000; i++) {
        int rc;

        mem_fault_at(1);
        rc = insert(&e, i);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        refused += rc != 0;
        CHECK(times_found(&e, i, &others) == (rc == 0));
    }
    ck_assert_uint_gt(refused, 50);
    ck_assert_uint_eq(e.index.count, 5000 - refused);
    fragment_index_check(&e.index);
    entries_fini(&e);
    ck_assert_int_eq(mem_live_count(), live);
}
END_TEST

START_TEST(removing_what_is_not_there_is_a_bug)
{
    /* A CHECK, not a silent return. */
    struct entries e;

    entries_init(&e, 2);
    (void)insert(&e, 0);
    take_out(&e, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/fragment_index");
    TCase *tc = tcase_create("fragment_index");

    tcase_add_test(tc, every_entry_is_found_while_the_index_grows);
    tcase_add_test(tc, first_in_first_out_for_ever_needs_no_more_memory);
    tcase_add_test(tc, equal_hashes_are_all_offered);
    tcase_add_test(tc, random_use_agrees_with_an_array);
    tcase_add_test(tc, without_memory_only_a_full_bucket_refuses);
    tcase_add_test_raise_signal(tc, removing_what_is_not_there_is_a_bug, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
