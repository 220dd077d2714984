#include "txn/hash_index.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>

struct entries {
    struct hash_index index;
    uint64_t *hashes;
    uint32_t *links;
    size_t count;
};

static uint64_t entry_hash(void *owner, uint32_t slot)
{
    struct entries *e = owner;

    CHECK(slot < e->count);
    return e->hashes[slot];
}

static uint32_t *entry_link(void *owner, uint32_t slot)
{
    struct entries *e = owner;

    CHECK(slot < e->count);
    return &e->links[slot];
}

static const struct hash_index_ops ops = {entry_hash, entry_link};

static void entries_init(struct entries *e, size_t count)
{
    e->hashes = mem_calloc(count, sizeof *e->hashes);
    e->links = mem_calloc(count, sizeof *e->links);
    ck_assert(e->hashes != NULL && e->links != NULL);
    e->count = count;
    for (size_t i = 0; i < count; i++) {
        e->hashes[i] = hash_u64(i + 1);
    }
    hash_index_init(&e->index, &ops, e);
}

static void entries_fini(struct entries *e)
{
    hash_index_fini(&e->index);
    mem_free(e->hashes);
    mem_free(e->links);
}

static bool contains(struct entries *e, uint32_t slot)
{
    uint32_t at = hash_index_head(&e->index, e->hashes[slot]);

    while (at != HASH_INDEX_NONE && at != slot) {
        at = e->links[at];
    }
    return at == slot;
}

START_TEST(an_empty_index_finds_nothing)
{
    /* Before the first reservation there is not even a bucket. */
    struct entries e;

    entries_init(&e, 1);
    ck_assert_uint_eq(hash_index_head(&e.index, 42), HASH_INDEX_NONE);
    ck_assert_uint_eq(hash_index_bytes(&e.index), 0);
    hash_index_check(&e.index);
    entries_fini(&e);
}
END_TEST

START_TEST(every_entry_is_found_while_the_index_grows_and_shrinks)
{
    /* 20,000 entries in, then out in another order; all that should be there is there. */
    struct entries e;
    const uint32_t n = 20000;
    uint32_t found = 0;

    entries_init(&e, n);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (uint32_t i = 0; i < n; i++) {
        hash_index_insert(&e.index, i);
    }
    for (uint32_t i = 0; i < n; i++) {
        found += contains(&e, i);
    }
    ck_assert_uint_eq(found, n);
    hash_index_check(&e.index);
    for (uint32_t i = 0; i < n; i += 2) {
        hash_index_remove(&e.index, i);
    }
    hash_index_check(&e.index);
    found = 0;
    for (uint32_t i = 0; i < n; i++) {
        found += contains(&e, i);
    }
    ck_assert_uint_eq(found, n / 2);
    for (uint32_t i = 1; i < n; i += 2) {
        hash_index_remove(&e.index, i);
    }
    hash_index_check(&e.index);
    ck_assert_uint_eq(e.index.count, 0);
    entries_fini(&e);
}
END_TEST

START_TEST(no_insertion_rehashes_more_than_a_few_entries)
{
    /* The longest single step while growing to 200,000 stays tiny: no stall, ever. */
    struct entries e;
    uint64_t worst = 0;

    entries_init(&e, 200000);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (uint32_t i = 0; i < e.count; i++) {
        uint64_t before = e.index.work;
        hash_index_insert(&e.index, i);
        worst = e.index.work - before > worst ? e.index.work - before : worst;
    }
    ck_assert_uint_le(worst, 32);
    ck_assert_uint_le(e.index.work, 3 * e.count);
    entries_fini(&e);
}
END_TEST

START_TEST(memory_is_about_four_bytes_per_entry_and_is_given_back)
{
    /* No doubling on the way up; after the last removal only the spare is left. */
    struct entries e;

    entries_init(&e, 300000);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (uint32_t i = 0; i < e.count; i++) {
        hash_index_insert(&e.index, i);
        if (i >= 100000 && i % 1000 == 0) {
            ck_assert_uint_le(hash_index_bytes(&e.index), (size_t)(i + 1) * 5);
        }
    }
    for (uint32_t i = 0; i < e.count; i++) {
        hash_index_remove(&e.index, i);
    }
    ck_assert_uint_le(hash_index_bytes(&e.index), 16384);
    entries_fini(&e);
}
END_TEST

START_TEST(entries_with_one_hash_share_a_chain)
{
    /* A thousand equal hashes: slower, but right. */
    struct entries e;

    entries_init(&e, 1000);
    for (size_t i = 0; i < e.count; i++) {
        e.hashes[i] = 7;
    }
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (uint32_t i = 0; i < e.count; i++) {
        hash_index_insert(&e.index, i);
    }
    hash_index_remove(&e.index, 500);
    ck_assert(!contains(&e, 500));
    ck_assert(contains(&e, 499) && contains(&e, 0) && contains(&e, 999));
    hash_index_check(&e.index);
    entries_fini(&e);
}
END_TEST

START_TEST(without_memory_chains_get_longer_and_nothing_fails)
{
    /* Every allocation after the reservation fails: all entries are still found. */
    struct entries e;

    entries_init(&e, 5000);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (uint32_t i = 0; i < e.count; i++) {
        mem_fault_at(1);
        hash_index_insert(&e.index, i);
        mem_fault_at(0);
    }
    hash_index_check(&e.index);
    for (uint32_t i = 0; i < e.count; i += 97) {
        ck_assert(contains(&e, i));
    }
    ck_assert_uint_eq(e.index.count, 5000);
    entries_fini(&e);
}
END_TEST

START_TEST(a_refused_reservation_can_be_repeated)
{
    /* Each of its allocations fails once; then it succeeds. */
    struct entries e;

    entries_init(&e, 1);
    for (uint64_t n = 1; n <= 2; n++) {
        mem_fault_at(n);
        ck_assert_int_ne(hash_index_reserve(&e.index), 0);
        mem_fault_at(0);
        hash_index_check(&e.index);
    }
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    hash_index_insert(&e.index, 0);
    ck_assert(contains(&e, 0));
    entries_fini(&e);
}
END_TEST

START_TEST(random_use_agrees_with_a_set)
{
    /* Inserts and removals in waves, against an array of booleans. */
    struct entries e;
    struct rand rand;
    bool is_in[3000] = {false};

    rand_init(&rand, (uint64_t)_i + 1);
    entries_init(&e, 3000);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    for (int step = 0; step < 60000; step++) {
        uint32_t slot = (uint32_t)rand_below(&rand, e.count);
        bool want = rand_below(&rand, 100) < (step / 10000 % 2 == 0 ? 70u : 20u);
        if (want != is_in[slot]) {
            if (want) {
                hash_index_insert(&e.index, slot);
            } else {
                hash_index_remove(&e.index, slot);
            }
            is_in[slot] = want;
        }
    }
    hash_index_check(&e.index);
    for (uint32_t i = 0; i < e.count; i++) {
        CHECK(contains(&e, i) == is_in[i]);
    }
    entries_fini(&e);
}
END_TEST

START_TEST(removing_what_is_not_there_aborts)
{
    /* A bug in the caller is found at once. */
    struct entries e;

    entries_init(&e, 2);
    ck_assert_int_eq(hash_index_reserve(&e.index), 0);
    hash_index_insert(&e.index, 0);
    hash_index_remove(&e.index, 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/hash_index");
    TCase *tc = tcase_create("hash_index");

    tcase_add_test(tc, an_empty_index_finds_nothing);
    tcase_add_test(tc, every_entry_is_found_while_the_index_grows_and_shrinks);
    tcase_add_test(tc, no_insertion_rehashes_more_than_a_few_entries);
    tcase_add_test(tc, memory_is_about_four_bytes_per_entry_and_is_given_back);
    tcase_add_test(tc, entries_with_one_hash_share_a_chain);
    tcase_add_test(tc, without_memory_chains_get_longer_and_nothing_fails);
    tcase_add_test(tc, a_refused_reservation_can_be_repeated);
    tcase_add_loop_test(tc, random_use_agrees_with_a_set, 0, 3);
    tcase_add_test_raise_signal(tc, removing_what_is_not_there_aborts, SIGABRT);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
