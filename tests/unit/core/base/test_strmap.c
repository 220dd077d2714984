#include "core/base/strmap.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define KEYS 500

static const struct hash_key test_key = {.k0 = 1, .k1 = 2};
static int values[KEYS];

static struct slice key_of(size_t i, char *text, size_t size)
{
    (void)snprintf(text, size, "key-%zu", i);
    return slice_str(text);
}

static void *find(const struct strmap *m, size_t i)
{
    char text[32];

    return strmap_find(m, key_of(i, text, sizeof text));
}

static int put(struct strmap *m, size_t i)
{
    char text[32];

    return strmap_put(m, key_of(i, text, sizeof text), &values[i]);
}

static void *take(struct strmap *m, size_t i)
{
    char text[32];

    return strmap_take(m, key_of(i, text, sizeof text));
}

START_TEST(an_empty_map_finds_nothing)
{
    /* Before the first put there is no memory behind it. */
    struct strmap m;
    size_t cursor = 0;

    strmap_init(&m, test_key);
    ck_assert_ptr_null(strmap_find(&m, SLICE_LIT("a")));
    ck_assert_ptr_null(strmap_take(&m, SLICE_LIT("a")));
    ck_assert_ptr_null(strmap_next(&m, &cursor));
    strmap_fini(&m);
}
END_TEST

START_TEST(put_replaces_and_keys_are_copies)
{
    /* The caller's bytes may go; keys may hold any byte, and none. */
    struct strmap m;
    char key[3] = {'a', '\0', 'b'};

    strmap_init(&m, test_key);
    ck_assert_int_eq(strmap_put(&m, slice_of(key, 3), &values[0]), 0);
    ck_assert_int_eq(strmap_put(&m, SLICE_EMPTY, &values[1]), 0);
    key[2] = 'c';
    ck_assert_ptr_null(strmap_find(&m, slice_of(key, 3)));
    ck_assert_ptr_eq(strmap_find(&m, SLICE_LIT("a\0b")), &values[0]);
    ck_assert_int_eq(strmap_put(&m, SLICE_LIT("a\0b"), &values[2]), 0);
    ck_assert_ptr_eq(strmap_find(&m, SLICE_LIT("a\0b")), &values[2]);
    ck_assert_ptr_eq(strmap_find(&m, SLICE_EMPTY), &values[1]);
    ck_assert_uint_eq(m.count, 2);
    strmap_fini(&m);
}
END_TEST

/* The map agrees with the plain array of what should be in it. */
static void compare(const struct strmap *m, const bool *is_in)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;
    size_t count = 0;
    size_t seen = 0;

    for (size_t i = 0; i < KEYS; i++) {
        ck_assert_ptr_eq(find(m, i), is_in[i] ? (void *)&values[i] : NULL);
        count += is_in[i] ? 1 : 0;
    }
    while ((slot = strmap_next(m, &cursor)) != NULL) {
        size_t i = (size_t)((int *)slot->value - values);

        ck_assert(is_in[i]);
        seen++;
    }
    ck_assert_uint_eq(m->count, count);
    ck_assert_uint_eq(seen, count);
    ck_assert_uint_le(4 * m->count, 3 * m->cap);
}

START_TEST(it_behaves_like_an_array_of_flags)
{
    /* 20,000 random puts and takes against a model: removals close their gaps. */
    bool is_in[KEYS] = {false};
    struct strmap m;
    struct rand r;

    strmap_init(&m, test_key);
    rand_init(&r, 7);
    for (int step = 0; step < 20000; step++) {
        size_t i = rand_below(&r, KEYS);

        if (rand_below(&r, 2) == 0) {
            ck_assert_int_eq(put(&m, i), 0);
            is_in[i] = true;
        } else {
            ck_assert_ptr_eq(take(&m, i), is_in[i] ? (void *)&values[i] : NULL);
            is_in[i] = false;
        }
        if (step % 1000 == 0) {
            compare(&m, is_in);
        }
    }
    compare(&m, is_in);
    strmap_fini(&m);
}
END_TEST

START_TEST(a_failed_put_changes_nothing)
{
    /* The n-th allocation fails, for every n: that key is not in, all others are; nothing leaks. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct strmap m;
        size_t lost = KEYS;

        strmap_init(&m, test_key);
        mem_fault_at(++n);
        for (size_t i = 0; i < 100; i++) {
            int rc = put(&m, i);

            ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
            lost = rc == 0 ? lost : i;
        }
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(fired, lost != KEYS);
        for (size_t i = 0; i < 100; i++) {
            ck_assert_ptr_eq(find(&m, i), i == lost ? NULL : (void *)&values[i]);
        }
        ck_assert_int_eq(fired ? put(&m, lost) : 0, 0);
        ck_assert_uint_eq(m.count, 100);
        strmap_fini(&m);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 100);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/strmap");
    TCase *tc = tcase_create("strmap");

    tcase_add_test(tc, an_empty_map_finds_nothing);
    tcase_add_test(tc, put_replaces_and_keys_are_copies);
    tcase_add_test(tc, it_behaves_like_an_array_of_flags);
    tcase_add_test(tc, a_failed_put_changes_nothing);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
