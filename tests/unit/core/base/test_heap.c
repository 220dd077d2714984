#include "core/base/heap.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#define COUNT 20000u

/* What the ids are ordered by, and where each is. */
static uint32_t keys[COUNT];
static uint32_t places[COUNT];
static struct heap heap;

static bool before(void *owner, uint32_t a, uint32_t b)
{
    (void)owner;
    return keys[a] != keys[b] ? keys[a] < keys[b] : a < b;
}

static void placed(void *owner, uint32_t id, uint32_t place)
{
    (void)owner;
    places[id] = place;
}

static const struct heap_ops ops = {before, placed};

static void push(uint32_t id, uint32_t key)
{
    keys[id] = key;
    ck_assert_int_eq(heap_reserve(&heap, heap.count + 1), 0);
    heap_push(&heap, id);
}

static uint32_t pop(void)
{
    uint32_t id = heap_top(&heap);

    heap_remove(&heap, 0);
    return id;
}

START_TEST(what_goes_in_comes_out_in_order)
{
    /* Also over several chunks, and with equal keys. */
    struct rand rand;
    uint32_t last_key = 0;
    uint32_t last_id = 0;

    rand_init(&rand, 1);
    heap_init(&heap, &ops, NULL);
    ck_assert_uint_eq(heap_top(&heap), HEAP_NONE);
    for (uint32_t i = 0; i < COUNT; i++) {
        push(i, (uint32_t)rand_below(&rand, COUNT / 2));
    }
    heap_check(&heap);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t id = pop();
        ck_assert(i == 0 || keys[id] > last_key || (keys[id] == last_key && id > last_id));
        ck_assert_uint_eq(places[id], HEAP_NONE);
        last_key = keys[id];
        last_id = id;
    }
    ck_assert_uint_eq(heap.count, 0);
    heap_fini(&heap);
}
END_TEST

START_TEST(any_id_can_be_taken_out)
{
    /* By the place it was told, at every time; the rest stays in order. */
    bool in[500] = {false};
    struct rand rand;
    uint32_t count = 0;

    rand_init(&rand, 2);
    heap_init(&heap, &ops, NULL);
    for (int step = 0; step < 20000; step++) {
        uint32_t id = (uint32_t)rand_below(&rand, 500);
        if (in[id]) {
            heap_remove(&heap, places[id]);
            ck_assert_uint_eq(places[id], HEAP_NONE);
            count--;
        } else {
            push(id, (uint32_t)rand_below(&rand, 100));
            count++;
        }
        in[id] = !in[id];
        ck_assert_uint_eq(heap.count, count);
        if (step % 64 == 0) {
            heap_check(&heap);
            for (uint32_t i = 0; i < 500; i++) {
                CHECK_IMPLIES(in[i], !before(NULL, i, heap_top(&heap)));
            }
        }
    }
    heap_fini(&heap);
}
END_TEST

START_TEST(memory_that_fails_changes_nothing_and_is_given_back)
{
    /* A reserve that fails leaves the heap usable; trimming leaves a chunk to spare. */
    size_t full;

    heap_init(&heap, &ops, NULL);
    push(0, 7);
    for (uint64_t n = 1;; n++) {
        mem_fault_at(n);
        int rc = heap_reserve(&heap, 3 * HEAP_CHUNK);
        if (mem_fault_fired() == 0) {
            mem_fault_at(0);
            ck_assert_int_eq(rc, 0);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
        ck_assert_uint_eq(heap_top(&heap), 0);
    }
    full = heap_bytes(&heap);
    heap_trim(&heap, 1);
    ck_assert_uint_eq(heap_bytes(&heap), full - HEAP_CHUNK * sizeof(uint32_t));
    ck_assert_uint_eq(pop(), 0);
    heap_fini(&heap);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/heap");
    TCase *tc = tcase_create("heap");

    tcase_add_test(tc, what_goes_in_comes_out_in_order);
    tcase_add_test(tc, any_id_can_be_taken_out);
    tcase_add_test(tc, memory_that_fails_changes_nothing_and_is_given_back);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
