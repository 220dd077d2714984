#include "src/client/progress.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/src/client/client_main.h"

#include <string.h>

#define SPAN 5000

/* The stored offset is the first one not finished, in whatever order handlers are done. */
START_TEST(the_first_unfinished_offset_is_stored)
{
    struct progress p;

    progress_init(&p, 10);
    for (int64_t o = 10; o < 14; o++) {
        ck_assert_int_eq(progress_begin(&p, o), 0);
    }
    ck_assert(progress_finish(&p, 11));
    ck_assert(progress_finish(&p, 13));
    ck_assert_int_eq(p.first, 10);
    ck_assert(progress_finish(&p, 10));
    ck_assert_int_eq(p.first, 12);
    ck_assert(!progress_finish(&p, 10));
    ck_assert(!progress_finish(&p, 13));
    ck_assert(!progress_finish(&p, 14));
    ck_assert(progress_finish(&p, 12));
    ck_assert_int_eq(p.first, 14);
    ck_assert(progress_is_idle(&p));
    progress_fini(&p);
}
END_TEST

/* What was filtered out counts as finished, but does not overtake what is still at work. */
START_TEST(gaps_wait_for_what_is_before_them)
{
    struct progress p;

    progress_init(&p, 0);
    ck_assert_int_eq(progress_skip_to(&p, 1000000), 0);
    ck_assert_int_eq(p.first, 1000000);
    ck_assert_int_eq(progress_begin(&p, 1000005), 0);
    ck_assert_int_eq(p.first, 1000005);
    ck_assert_int_eq(progress_skip_to(&p, 1001000), 0);
    ck_assert_int_eq(progress_skip_to(&p, 5), 0);
    ck_assert_int_eq(p.first, 1000005);
    ck_assert_int_eq(progress_begin(&p, 1001500), 0);
    ck_assert(progress_finish(&p, 1000005));
    ck_assert_int_eq(p.first, 1001500);
    ck_assert(progress_finish(&p, 1001500));
    ck_assert_int_eq(p.first, 1001501);
    progress_fini(&p);
}
END_TEST

/* Against a plain array: any order of begins, gaps and finishes, windows that grow and wander. */
START_TEST(it_agrees_with_a_plain_array)
{
    for (uint64_t seed = 1; seed <= 5; seed++) {
        static uint8_t finished[SPAN];
        struct progress p;
        struct rand r;
        int64_t next = 0;
        int64_t first = 0;
        rand_init(&r, seed);
        memset(finished, 0, sizeof finished);
        progress_init(&p, 0);
        for (int i = 0; i < 5000; i++) {
            uint64_t what = rand_below(&r, 100);
            if (what < 45 && next + 80 < SPAN) {
                int64_t offset = next + (int64_t)(what < 5 ? rand_below(&r, 70) : 0);
                ck_assert_int_eq(progress_begin(&p, offset), 0);
                memset(finished + next, 1, (size_t)(offset - next));
                next = offset + 1;
            } else if (what < 50 && next + 80 < SPAN) {
                int64_t offset = next + (int64_t)rand_below(&r, 70);
                ck_assert_int_eq(progress_skip_to(&p, offset), 0);
                memset(finished + next, 1, (size_t)(offset - next));
                next = offset;
            } else if (next > first) {
                int64_t window = what < 90 ? 8 : next - first;
                int64_t offset = first + (int64_t)rand_below(&r, (uint64_t)window);
                bool is_new = offset < next && finished[offset] == 0;
                ck_assert(progress_finish(&p, offset) == is_new);
                if (is_new) {
                    finished[offset] = 1;
                }
            }
            while (first < next && finished[first] != 0) {
                first++;
            }
            if (p.first != first || p.next != next) { /* a ck_assert each time takes too long */
                ck_abort_msg("seed %d, step %d", (int)seed, i);
            }
            progress_check(&p);
        }
        progress_fini(&p);
    }
}
END_TEST

/* A steady stream through a small window needs no more memory than the window. */
START_TEST(memory_follows_the_window)
{
    struct progress p;

    progress_init(&p, 0);
    for (int64_t o = 0; o < 10000; o++) {
        ck_assert_int_eq(progress_begin(&p, o), 0);
        if (o >= 100) {
            ck_assert(progress_finish(&p, o - 100));
        }
    }
    ck_assert_uint_le(p.cap, 512);
    progress_fini(&p);
}
END_TEST

/* An allocation that fails changes nothing, and the next attempt succeeds. */
START_TEST(a_failed_allocation_changes_nothing)
{
    struct progress p;

    progress_init(&p, 7);
    mem_fault_at(1);
    ck_assert_int_eq(progress_begin(&p, 9), ESCROW_ENOMEM);
    mem_fault_at(0);
    ck_assert_int_eq(p.first, 7);
    ck_assert_int_eq(p.next, 7);
    ck_assert_int_eq(progress_begin(&p, 9), 0);
    ck_assert_int_eq(p.first, 9);
    mem_fault_at(1);
    ck_assert_int_eq(progress_skip_to(&p, 100000), ESCROW_ENOMEM);
    mem_fault_at(0);
    ck_assert_int_eq(p.next, 10);
    ck_assert(progress_finish(&p, 9));
    ck_assert_int_eq(p.first, 10);
    progress_fini(&p);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {the_first_unfinished_offset_is_stored,
                                  gaps_wait_for_what_is_before_them, it_agrees_with_a_plain_array,
                                  memory_follows_the_window, a_failed_allocation_changes_nothing};

    return client_main("client_progress", tests, sizeof tests / sizeof tests[0]);
}
