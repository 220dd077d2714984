#include "core/base/slab.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

struct item {
    uint64_t value;
    uint64_t again;
};

#define COUNT (SLAB_CHUNK_SLOTS * 5)

static struct slab slab;

static uint32_t take(uint64_t value)
{
    uint32_t slot;
    struct item *item;

    ck_assert_int_eq(slab_reserve(&slab), 0);
    slot = slab_take(&slab);
    item = slab_at(&slab, slot);
    CHECK(item->value == 0 && item->again == 0);
    *item = (struct item){.value = value, .again = ~value};
    return slot;
}

START_TEST(objects_stay_where_they_are)
{
    /* Random coming and going: each keeps its bytes, the walk shows each in use once. */
    static uint32_t slots[COUNT];
    static bool in[COUNT];
    struct rand rand;
    size_t count = 0;

    rand_init(&rand, 3);
    slab_init(&slab, sizeof(struct item));
    for (int step = 0; step < 60000; step++) {
        uint32_t i = (uint32_t)rand_below(&rand, COUNT);
        if (in[i]) {
            const struct item *item = slab_at(&slab, slots[i]);
            CHECK(item->value == i + 1 && item->again == ~(uint64_t)(i + 1));
            slab_put(&slab, slots[i]);
            count--;
        } else {
            slots[i] = take(i + 1);
            count++;
        }
        in[i] = !in[i];
        if (step % 5000 == 0) {
            uint32_t cursor = 0;
            size_t seen = 0;
            slab_check(&slab);
            while (slab_next(&slab, &cursor) != SLAB_NONE) {
                seen++;
            }
            ck_assert_uint_eq(seen, count);
            ck_assert_uint_eq(slab.used, count);
        }
    }
    slab_fini(&slab);
}
END_TEST

START_TEST(empty_chunks_are_given_back_but_one)
{
    /* Memory follows use down, and a single object does not allocate again and again. */
    static uint32_t slots[COUNT];
    size_t one;
    size_t full;

    slab_init(&slab, sizeof(struct item));
    slots[0] = take(1);
    one = slab_bytes(&slab);
    for (uint32_t i = 1; i < COUNT; i++) {
        slots[i] = take(i + 1);
    }
    full = slab_bytes(&slab);
    ck_assert_uint_eq(slab.chunk_live, 5);
    for (uint32_t i = 0; i < COUNT; i++) {
        slab_put(&slab, slots[i]);
    }
    slab_check(&slab);
    ck_assert_uint_eq(slab.chunk_live, 1);
    ck_assert_uint_eq(slab_bytes(&slab), one);
    ck_assert_uint_gt(full, one);
    mem_fault_at(1); /* the spare one needs no memory */
    (void)take(1);
    mem_fault_at(0);
    slab_fini(&slab);
}
END_TEST

START_TEST(without_memory_nothing_changes)
{
    /* The n-th allocation fails, for every n. */
    slab_init(&slab, sizeof(struct item));
    for (uint64_t n = 1;; n++) {
        mem_fault_at(n);
        int rc = slab_reserve(&slab);
        if (mem_fault_fired() == 0) {
            mem_fault_at(0);
            ck_assert_int_eq(rc, 0);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
        slab_check(&slab);
    }
    slab_fini(&slab);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/slab");
    TCase *tc = tcase_create("slab");

    tcase_add_test(tc, objects_stay_where_they_are);
    tcase_add_test(tc, empty_chunks_are_given_back_but_one);
    tcase_add_test(tc, without_memory_nothing_changes);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
