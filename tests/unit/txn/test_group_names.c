#include "txn/group_names.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static struct group_names names;

static void setup(void)
{
    group_names_init(&names, (struct hash_key){1, 2});
}

static void teardown(void)
{
    group_names_check(&names);
    group_names_fini(&names);
}

START_TEST(a_name_is_kept_once)
{
    /* In the order of their coming; any bytes. */
    group_names_note(&names, SLICE_LIT("b"));
    group_names_note(&names, SLICE_LIT("a\0c"));
    group_names_note(&names, SLICE_LIT("b"));
    ck_assert_uint_eq(names.count, 2);
    ck_assert(slice_eq_str(group_names_at(&names, 0), "b"));
    ck_assert(slice_eq(group_names_at(&names, 1), SLICE_LIT("a\0c")));
}
END_TEST

START_TEST(the_oldest_name_makes_room)
{
    /* Memory is bounded, whatever producers call themselves. */
    char text[16];

    for (unsigned i = 0; i < GROUP_NAMES_MAX + 10; i++) {
        (void)snprintf(text, sizeof text, "g%u", i); /* fits */
        group_names_note(&names, slice_str(text));
    }
    ck_assert_uint_eq(names.count, GROUP_NAMES_MAX);
    ck_assert(slice_eq_str(group_names_at(&names, 0), "g10"));
    ck_assert(slice_eq_str(group_names_at(&names, GROUP_NAMES_MAX - 1), text));
}
END_TEST

START_TEST(names_are_saved_and_loaded)
{
    /* What is cut off, empty or there twice is corrupt; what follows is left to the caller. */
    static const uint8_t twice[] = {2, 0, 0, 0, 1, 'a', 1, 'a'};
    static const uint8_t empty[] = {1, 0, 0, 0, 0};
    struct group_names copy;
    struct slice in;
    struct buf out;

    group_names_note(&names, SLICE_LIT("first"));
    group_names_note(&names, SLICE_LIT("second"));
    buf_init(&out, 0);
    group_names_save(&names, &out);
    buf_append_u8(&out, 7); /* of what follows */
    for (size_t len = 0; len <= out.len; len++) {
        bool is_whole = len + 1 >= out.len;
        group_names_init(&copy, (struct hash_key){3, 4});
        in = slice_of(out.ptr, len);
        ck_assert_int_eq(group_names_load(&copy, &in), is_whole ? 0 : ESCROW_ECORRUPT);
        if (is_whole) {
            ck_assert_uint_eq(in.len, len + 1 - out.len);
            ck_assert_uint_eq(copy.count, 2);
            ck_assert(slice_eq_str(group_names_at(&copy, 1), "second"));
        }
        group_names_fini(&copy);
    }
    buf_fini(&out);
    group_names_init(&copy, (struct hash_key){3, 4});
    in = slice_of(empty, sizeof empty);
    ck_assert_int_eq(group_names_load(&copy, &in), ESCROW_ECORRUPT);
    in = slice_of(twice, sizeof twice);
    ck_assert_int_eq(group_names_load(&copy, &in), ESCROW_ECORRUPT);
    group_names_fini(&copy);
}
END_TEST

START_TEST(without_memory_a_name_is_not_kept)
{
    /* Nothing else happens: the others stay. */
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        group_names_fini(&names);
        setup();
        mem_fault_at(++n);
        group_names_note(&names, SLICE_LIT("one"));
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_uint_eq(names.count, fired ? 0 : 1);
        group_names_check(&names);
    }
    ck_assert_uint_gt(n, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/group_names");
    TCase *tc = tcase_create("group_names");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, a_name_is_kept_once);
    tcase_add_test(tc, the_oldest_name_makes_room);
    tcase_add_test(tc, names_are_saved_and_loaded);
    tcase_add_test(tc, without_memory_a_name_is_not_kept);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
