#include "outbox/batcher.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/copy_bytes.h"
#include "tests/unit/outbox/outbox_main.h"

static struct outbox_row row_of(uint64_t order_id, uint64_t id, const char *body)
{
    return (struct outbox_row){.order_id = order_id,
                               .id = id,
                               .created_ms = (int64_t)id,
                               .topic = SLICE_LIT("t"),
                               .body = slice_str(body)};
}

static void put(struct batcher *b, uint64_t order_id, uint64_t id)
{
    struct outbox_row row = row_of(order_id, id, "body");

    ck_assert_int_eq(batcher_put(b, &row), 0);
}

/* Takes a batch and compares the ids in it; a 0 ends the list. */
static void expect(struct batcher *b, const uint64_t *ids)
{
    struct batch *batch = batcher_take(b);
    size_t n = 0;

    ck_assert_ptr_nonnull(batch);
    while (ids[n] != 0) {
        ck_assert_uint_lt(n, batch->sink.message_count);
        ck_assert_uint_eq(batch->sink.messages[n].row_id, ids[n]);
        ck_assert(slice_eq_str(batch->sink.messages[n].body, "body"));
        n++;
    }
    ck_assert_uint_eq(batch->sink.message_count, n);
    ck_assert_uint_eq(batch->sink.size_bytes, n * 5);
    ck_assert_uint_eq(batch->last_id, ids[n - 1]);
    batch_free(batch);
}

#define EXPECT(b, ...) expect((b), (const uint64_t[]){__VA_ARGS__, 0})

START_TEST(a_full_batch_ends_where_a_transaction_ends)
{
    /* Limit 4: transactions of 3 and 3 rows give batches of 3 and 3, not 4 and 2. */
    struct batcher b;

    batcher_init(&b, 4, 1000);
    put(&b, 3, 1);
    put(&b, 3, 2);
    put(&b, 3, 3);
    put(&b, 6, 4);
    ck_assert(list_is_empty(&b.ready));
    put(&b, 6, 5);
    put(&b, 6, 6);
    EXPECT(&b, 1, 2, 3);
    ck_assert_ptr_null(batcher_take(&b));
    batcher_finish(&b);
    EXPECT(&b, 4, 5, 6);
    ck_assert_uint_eq(b.size_bytes, 0);
    batcher_fini(&b);
}
END_TEST

START_TEST(a_batch_that_ends_with_its_transaction_moves_nothing)
{
    /* Exactly full at the border. */
    struct batcher b;

    batcher_init(&b, 2, 1000);
    put(&b, 2, 1);
    put(&b, 2, 2);
    put(&b, 3, 3);
    EXPECT(&b, 1, 2);
    batcher_finish(&b);
    EXPECT(&b, 3);
    batcher_fini(&b);
}
END_TEST

START_TEST(a_transaction_bigger_than_a_batch_is_cut)
{
    /* Seven rows of one transaction, limit 3; the small one before it goes out alone. */
    struct batcher b;

    batcher_init(&b, 3, 1000);
    put(&b, 1, 1);
    for (uint64_t id = 2; id <= 8; id++) {
        put(&b, 8, id);
    }
    put(&b, 9, 9);
    EXPECT(&b, 1);
    EXPECT(&b, 2, 3, 4);
    EXPECT(&b, 5, 6, 7);
    batcher_finish(&b);
    EXPECT(&b, 8, 9);
    ck_assert_ptr_null(batcher_take(&b));
    batcher_fini(&b);
}
END_TEST

START_TEST(bytes_limit_a_batch_too)
{
    /* 5 bytes a row, 12 allowed: two rows each; a row above the limit is a batch of its own. */
    struct batcher b;
    struct outbox_row big = row_of(6, 6, "a body that is longer than a whole batch may be");

    batcher_init(&b, 100, 12);
    for (uint64_t id = 1; id <= 5; id++) {
        put(&b, id, id);
    }
    ck_assert_int_eq(batcher_put(&b, &big), 0);
    put(&b, 7, 7);
    EXPECT(&b, 1, 2);
    EXPECT(&b, 3, 4);
    EXPECT(&b, 5);
    batch_free(batcher_take(&b));
    batcher_finish(&b);
    EXPECT(&b, 7);
    batcher_fini(&b);
}
END_TEST

/* The next batch has so many messages, and ends at this row. */
static void expect_end(struct batcher *b, size_t count, uint64_t order_id, uint64_t id)
{
    struct batch *batch = batcher_take(b);

    ck_assert_ptr_nonnull(batch);
    ck_assert_uint_eq(batch->sink.message_count, count);
    ck_assert_uint_eq(batch->last_order_id, order_id);
    ck_assert_uint_eq(batch->last_id, id);
    batch_free(batch);
}

static void pass(struct batcher *b, uint64_t order_id, uint64_t id)
{
    struct outbox_row row = row_of(order_id, id, "");

    ck_assert_int_eq(batcher_pass(b, &row), 0);
}

START_TEST(a_row_that_is_passed_counts_where_it_stands)
{
    /*
     * Alone; last of a transaction whose end is where a full batch is cut; first of one that goes
     * on in the next batch. Each batch ends at its last row, published or not.
     */
    struct batcher b;

    batcher_init(&b, 3, 1000);
    pass(&b, 1, 1);
    batcher_finish(&b);
    expect_end(&b, 0, 1, 1);
    put(&b, 3, 2);
    pass(&b, 3, 3);
    pass(&b, 6, 4);
    put(&b, 6, 5);
    put(&b, 6, 6);
    put(&b, 9, 7);
    expect_end(&b, 3, 6, 6);
    pass(&b, 9, 8);
    put(&b, 9, 9);
    put(&b, 12, 10);
    put(&b, 12, 11);
    expect_end(&b, 2, 9, 9);
    pass(&b, 12, 12);
    put(&b, 15, 13);
    put(&b, 15, 14);
    expect_end(&b, 2, 12, 12);
    batcher_finish(&b);
    expect_end(&b, 2, 15, 14);
    ck_assert_ptr_null(batcher_take(&b));
    ck_assert_uint_eq(b.size_bytes, 0);
    batcher_fini(&b);
}
END_TEST

START_TEST(every_field_arrives_in_the_message)
{
    /* Also after the message was moved to the next batch. */
    static const char *const items[] = {"a", "1"};
    struct batcher b;
    struct buf field;
    struct outbox_row row = {.order_id = 3,
                             .id = 2,
                             .created_ms = 77,
                             .topic = SLICE_LIT("topic"),
                             .tag = SLICE_LIT("tag"),
                             .keys = SLICE_LIT("k1 k2"),
                             .ordering_key = SLICE_LIT("order"),
                             .body = SLICE_LIT("body")};
    struct outbox_row last = row_of(3, 3, "last");
    struct batch *batch;
    const struct sink_message *msg;

    buf_init(&field, 0);
    copy_array(&field, items, 2);
    row.properties = slice_of(field.ptr + 4, field.len - 4);
    batcher_init(&b, 2, 1000);
    put(&b, 1, 1);
    ck_assert_int_eq(batcher_put(&b, &row), 0);
    ck_assert_int_eq(batcher_put(&b, &last), 0);
    batch_free(batcher_take(&b));
    batcher_finish(&b);
    batch = batcher_take(&b);
    ck_assert_uint_eq(batch->sink.message_count, 2);
    msg = &batch->sink.messages[0];
    ck_assert(slice_eq_str(msg->topic, "topic"));
    ck_assert(slice_eq_str(msg->tag, "tag"));
    ck_assert(slice_eq_str(msg->keys, "k1 k2"));
    ck_assert(slice_eq_str(msg->ordering_key, "order"));
    ck_assert(slice_eq_str(msg->properties, "a\0011\002"));
    ck_assert(slice_eq_str(msg->body, "body"));
    ck_assert_int_eq(msg->born_ms, 77);
    ck_assert_uint_eq(msg->row_id, 2);
    ck_assert_ptr_null(batch->sink.messages[1].tag.ptr);
    batch_free(batch);
    batcher_fini(&b);
    buf_fini(&field);
}
END_TEST

START_TEST(batches_are_a_partition_of_the_rows)
{
    /*
     * Random transactions, sizes and limits: nothing lost, nothing twice, no transaction cut that
     * fits.
     */
    struct rand r;

    rand_init(&r, 42);
    for (int round = 0; round < 500; round++) {
        size_t rows_max = 1 + (size_t)rand_below(&r, 8);
        struct batcher b;
        struct batch *batch;
        uint64_t id = 1;
        uint64_t expected = 1;
        uint64_t ends[200] = {0};
        batcher_init(&b, rows_max, 10000);
        while (id < 100) {
            uint64_t size = 1 + rand_below(&r, 10);
            uint64_t end = id + size - 1;
            for (; id <= end; id++) {
                ends[id] = size <= rows_max ? end : 0;
                put(&b, end, id);
            }
        }
        batcher_finish(&b);
        while ((batch = batcher_take(&b)) != NULL) {
            ck_assert_uint_le(batch->sink.message_count, rows_max);
            for (size_t i = 0; i < batch->sink.message_count; i++) {
                ck_assert_uint_eq(batch->sink.messages[i].row_id, expected++);
            }
            ck_assert_msg(ends[batch->last_id] == 0 || ends[batch->last_id] == batch->last_id,
                          "a transaction was cut");
            batch_free(batch);
        }
        ck_assert_uint_eq(expected, id);
        batcher_fini(&b);
    }
}
END_TEST

START_TEST(failed_allocations_leak_nothing)
{
    /* The n-th allocation fails while transactions are cut and moved. */
    int64_t live = mem_live_count();

    for (uint64_t n = 1;; n++) {
        struct batcher b;
        int rc = 0;
        batcher_init(&b, 20, 1000);
        mem_fault_at(n);
        for (uint64_t id = 1; id <= 50 && rc == 0; id++) {
            struct outbox_row row = row_of((id + 8) / 9 * 9, id, "body");
            rc = batcher_put(&b, &row);
        }
        mem_fault_at(0);
        batcher_clear(&b);
        batcher_fini(&b);
        ck_assert_int_eq(mem_live_count(), live);
        if (rc == 0) {
            ck_assert_uint_gt(n, 6);
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/batcher");
    TCase *tc = tcase_create("batcher");

    tcase_add_test(tc, a_full_batch_ends_where_a_transaction_ends);
    tcase_add_test(tc, a_batch_that_ends_with_its_transaction_moves_nothing);
    tcase_add_test(tc, a_transaction_bigger_than_a_batch_is_cut);
    tcase_add_test(tc, bytes_limit_a_batch_too);
    tcase_add_test(tc, a_row_that_is_passed_counts_where_it_stands);
    tcase_add_test(tc, every_field_arrives_in_the_message);
    tcase_add_test(tc, batches_are_a_partition_of_the_rows);
    tcase_add_test(tc, failed_allocations_leak_nothing);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
