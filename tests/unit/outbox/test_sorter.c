#include "outbox/sorter.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

static struct outbox_row row_of(uint64_t xid, uint64_t id)
{
    return (struct outbox_row){.order_id = xid,
                               .id = id,
                               .created_ms = (int64_t)id * 10,
                               .topic = SLICE_LIT("topic"),
                               .keys = SLICE_LIT("key"),
                               .body = SLICE_LIT("body")};
}

static void put(struct sorter *s, uint64_t xid, uint64_t id)
{
    struct outbox_row row = row_of(xid, id);

    ck_assert_int_eq(sorter_put(s, &row), 0);
}

START_TEST(transactions_come_in_the_order_of_their_last_rows)
{
    /* 99 began first and ended last; its rows stay together, and every field comes back. */
    static const uint64_t want[][2] = {{3, 3}, {4, 1}, {4, 4}, {6, 2}, {6, 5}, {6, 6}};
    struct outbox_row row;
    struct sorter s;

    sorter_init(&s, 10000);
    for (int round = 0; round < 2; round++) {
        put(&s, 99, 2);
        put(&s, 99, 5);
        put(&s, 99, 6);
        put(&s, 101, 3);
        put(&s, 100, 4);
        put(&s, 100, 1);
        sorter_sort(&s);
        for (size_t i = 0; i < 6; i++) {
            ck_assert(sorter_next(&s, &row));
            ck_assert_uint_eq(row.order_id, want[i][0]);
            ck_assert_uint_eq(row.id, want[i][1]);
            ck_assert_int_eq(row.created_ms, (int64_t)row.id * 10);
            ck_assert(slice_eq_str(row.topic, "topic"));
            ck_assert_uint_eq(row.tag.len, 0);
            ck_assert(slice_eq_str(row.keys, "key"));
            ck_assert(slice_eq_str(row.body, "body"));
        }
        ck_assert(!sorter_next(&s, &row));
        sorter_clear(&s);
    }
    sorter_fini(&s);
}
END_TEST

START_TEST(the_limit_is_exact)
{
    /*
     * Twelve bytes a row: two fit into twenty-four, a third does not, and nothing changes by
     * trying.
     */
    struct outbox_row row = row_of(1, 3);
    struct sorter s;

    sorter_init(&s, 24);
    put(&s, 1, 1);
    put(&s, 1, 2);
    ck_assert_int_eq(sorter_put(&s, &row), ESCROW_ELIMIT);
    ck_assert_uint_eq(sorter_size_bytes(&s), 24);
    sorter_sort(&s);
    ck_assert(sorter_next(&s, &row));
    ck_assert_uint_eq(row.id, 1);
    sorter_fini(&s);
}
END_TEST

START_TEST(any_order_of_arrival_gives_the_same_result)
{
    /* Random transactions, shuffled: ascending order ids, ascending ids inside, nothing lost. */
    struct rand r;

    rand_init(&r, 3);
    for (int round = 0; round < 300; round++) {
        uint64_t xids[64];
        uint64_t ids[64];
        uint64_t last_order = 0;
        uint64_t last_id = 0;
        size_t count = 1 + (size_t)rand_below(&r, 64);
        size_t seen = 0;
        struct outbox_row row;
        struct sorter s;
        for (size_t i = 0; i < count; i++) {
            size_t at = (size_t)rand_below(&r, i + 1);
            ids[i] = ids[at];
            xids[i] = xids[at];
            ids[at] = i + 1;
            xids[at] = 100 + rand_below(&r, 10);
        }
        sorter_init(&s, 100000);
        for (size_t i = 0; i < count; i++) {
            put(&s, xids[i], ids[i]);
        }
        sorter_sort(&s);
        for (; sorter_next(&s, &row); seen++) {
            ck_assert(row.order_id > last_order ||
                      (row.order_id == last_order && row.id > last_id));
            ck_assert_uint_ge(row.order_id, row.id);
            last_order = row.order_id;
            last_id = row.id;
        }
        ck_assert_uint_eq(seen, count);
        sorter_fini(&s);
    }
}
END_TEST

START_TEST(failed_allocations_leak_nothing)
{
    /* The n-th allocation fails while rows are put in. */
    int64_t live = mem_live_count();

    for (uint64_t n = 1;; n++) {
        struct sorter s;
        int rc = 0;
        sorter_init(&s, 1000000);
        mem_fault_at(n);
        for (uint64_t id = 1; id <= 1000 && rc == 0; id++) {
            struct outbox_row row = row_of(5, id);
            rc = sorter_put(&s, &row);
        }
        mem_fault_at(0);
        sorter_clear(&s);
        sorter_fini(&s);
        ck_assert_int_eq(mem_live_count(), live);
        if (rc == 0) {
            ck_assert_uint_gt(n, 4);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/sorter");
    TCase *tc = tcase_create("sorter");

    tcase_add_test(tc, transactions_come_in_the_order_of_their_last_rows);
    tcase_add_test(tc, the_limit_is_exact);
    tcase_add_test(tc, any_order_of_arrival_gives_the_same_result);
    tcase_add_test(tc, failed_allocations_leak_nothing);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
