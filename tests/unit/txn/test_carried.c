/* Held messages that were carried forward: found by their first offset, listed by their place. */
#include "txn/carried.h"

#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

static struct carried c;

static void begin(void)
{
    carried_init(&c);
}

static void end(void)
{
    carried_check(&c);
    carried_fini(&c);
    ck_assert_int_eq(mem_live_count(), 0);
}

START_TEST(what_was_never_carried_is_where_it_was)
{
    /* Also beside others, and in a table without memory. */
    ck_assert_uint_eq(carried_where(&c, 80), 80);
    ck_assert_ptr_null(carried_first(&c));
    ck_assert_int_eq(carried_put(&c, 40, 1000, 200), 0);
    ck_assert_uint_eq(carried_where(&c, 80), 80);
    ck_assert_uint_eq(carried_where(&c, 1000), 1000);
    ck_assert_uint_eq(carried_where(&c, 40), 1000);
    ck_assert_uint_eq(c.upto, 41);
}
END_TEST

START_TEST(the_newest_copy_counts_and_goes_to_the_end)
{
    const struct carried_item *item;

    ck_assert_int_eq(carried_put(&c, 40, 1000, 200), 0);
    ck_assert_int_eq(carried_put(&c, 80, 1200, 300), 0);
    ck_assert_int_eq(carried_put(&c, 40, 2000, 200), 0);
    item = carried_first(&c);
    ck_assert_uint_eq(item->id, 80);
    ck_assert_uint_eq(item->at, 1200);
    ck_assert_uint_eq(item->size_bytes, 300);
    item = carried_after(&c, item);
    ck_assert_uint_eq(item->id, 40);
    ck_assert_uint_eq(item->at, 2000);
    ck_assert_ptr_null(carried_after(&c, item));
    carried_drop_first(&c);
    ck_assert_uint_eq(carried_where(&c, 80), 80);
    ck_assert_uint_eq(carried_first(&c)->id, 40);
}
END_TEST

START_TEST(what_contradicts_the_table_is_refused_and_changes_nothing)
{
    ck_assert_int_eq(carried_put(&c, 80, 1000, 200), 0);
    ck_assert_int_eq(carried_put(&c, 80, 1000, 200), ESCROW_ECORRUPT);   /* not behind the last */
    ck_assert_int_eq(carried_put(&c, 96, 900, 200), ESCROW_ECORRUPT);    /* before it */
    ck_assert_int_eq(carried_put(&c, 2000, 2000, 200), ESCROW_ECORRUPT); /* its own copy */
    ck_assert_int_eq(carried_put(&c, 40, 2000, 200), ESCROW_ECORRUPT);   /* was passed over */
    ck_assert_uint_eq(carried_where(&c, 80), 1000);
    ck_assert_uint_eq(c.upto, 81);
    ck_assert_uint_eq(c.slab.used, 1);
}
END_TEST

static void load_fails(struct slice section, int rc)
{
    struct carried other;

    carried_init(&other);
    ck_assert_int_eq(carried_load(&other, section, NULL), rc);
    carried_fini(&other);
}

START_TEST(a_section_brings_back_what_was_saved)
{
    /* In the order of places, which is not the order of ids; damage in any field is seen. */
    struct carried other;
    struct buf out;
    struct buf again;

    buf_init(&out, 0);
    buf_init(&again, 0);
    carried_init(&other);
    ck_assert_int_eq(carried_put(&c, 40, 1000, 200), 0);
    ck_assert_int_eq(carried_put(&c, 80, 1200, 300), 0);
    ck_assert_int_eq(carried_put(&c, 40, 2000, 200), 0);
    carried_save(&c, &out);
    ck_assert_int_eq(carried_load(&other, buf_slice(&out), NULL), 0);
    carried_check(&other);
    carried_save(&other, &again);
    ck_assert(slice_eq(buf_slice(&out), buf_slice(&again)));
    ck_assert_int_eq(carried_put(&other, 60, 3000, 1), ESCROW_ECORRUPT); /* upto came along */
    carried_fini(&other);

    for (size_t len = 0; len < out.len; len++) {
        load_fails(slice_of(out.ptr, len), ESCROW_ECORRUPT);
    }
    out.ptr[0] = 2;
    load_fails(buf_slice(&out), ESCROW_EVERSION);
    out.ptr[0] = 1;
    put_le64(out.ptr + 8, 80); /* upto: not above the greatest id */
    load_fails(buf_slice(&out), ESCROW_ECORRUPT);
    put_le64(out.ptr + 8, 81);
    put_le64(out.ptr + 24, 40); /* an id twice */
    load_fails(buf_slice(&out), ESCROW_ECORRUPT);
    put_le64(out.ptr + 24, 80);
    put_le64(out.ptr + 32, 2001); /* places that go down */
    load_fails(buf_slice(&out), ESCROW_ECORRUPT);
    buf_fini(&out);
    buf_fini(&again);
}
END_TEST

START_TEST(without_memory_nothing_changes)
{
    int rc = ESCROW_ENOMEM;

    for (uint64_t n = 1; rc == ESCROW_ENOMEM; n++) {
        mem_fault_at(n);
        rc = carried_put(&c, 40, 1000, 200);
        mem_fault_at(0);
        ck_assert(rc == 0 || (rc == ESCROW_ENOMEM && carried_where(&c, 40) == 40 && c.upto == 0));
        carried_check(&c);
    }
    ck_assert_uint_eq(carried_where(&c, 40), 1000);
}
END_TEST

START_TEST(many_come_and_go)
{
    /* Against a plain list: the message number i was last put at place[i]; 0 = dropped or never. */
    static uint64_t place[4096];
    struct rand rand;
    uint64_t at = 1000000;
    uint64_t fresh = 0;

    rand_init(&rand, 7);
    for (int round = 0; round < 20000; round++) {
        uint64_t dice = rand_below(&rand, 10);
        const struct carried_item *first = carried_first(&c);
        if (dice < 4 && fresh < 4096) {
            at += 8 + 8 * rand_below(&rand, 50);
            ck_assert_int_eq(carried_put(&c, fresh * 8, at, 1), 0);
            place[fresh++] = at;
        } else if (dice < 7 && first != NULL) {
            uint64_t id = first->id;
            at += 8;
            ck_assert_int_eq(carried_put(&c, id, at, 1), 0);
            place[id / 8] = at;
        } else if (first != NULL) {
            ck_assert_uint_eq(place[first->id / 8], first->at);
            place[first->id / 8] = 0;
            carried_drop_first(&c);
        }
    }
    carried_check(&c);
    for (uint64_t i = 0; i < fresh; i++) {
        ck_assert_uint_eq(carried_where(&c, i * 8), place[i] == 0 ? i * 8 : place[i]);
    }
    ck_assert_uint_gt(fresh, 1000);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/carried");
    TCase *tc = tcase_create("carried");

    tcase_add_checked_fixture(tc, begin, end);
    tcase_add_test(tc, what_was_never_carried_is_where_it_was);
    tcase_add_test(tc, the_newest_copy_counts_and_goes_to_the_end);
    tcase_add_test(tc, what_contradicts_the_table_is_refused_and_changes_nothing);
    tcase_add_test(tc, a_section_brings_back_what_was_saved);
    tcase_add_test(tc, without_memory_nothing_changes);
    tcase_add_test(tc, many_come_and_go);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
