/* The body of SEND_BATCH_MESSAGE. */
#include "core/proto/batch.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

static const uint8_t vector[34] = {0,   0,   0,   0x22, 0, 0,   0,   0,   0,   0,   0, 0,
                                   0,   0,   0,   0,    0, 0,   0,   2,   'h', 'i', 0, 0x0a,
                                   'T', 'A', 'G', 'S',  1, 'T', 'a', 'g', 'A', 2};

static const struct batch_item hi = {
    0, {(const uint8_t *)"hi", 2}, {(const uint8_t *)"TAGS\001TagA\002", 10}};

START_TEST(an_item_has_the_known_bytes)
{
    /* Shows: the item that a Java client encodes, byte for byte. */
    struct buf body;

    buf_init(&body, 0);
    ck_assert_uint_eq(batch_item_size(&hi), sizeof vector);
    ck_assert_int_eq(batch_append(&body, &hi), 0);
    ck_assert_uint_eq(body.len, sizeof vector);
    ck_assert_mem_eq(body.ptr, vector, sizeof vector);
    buf_fini(&body);
}
END_TEST

START_TEST(items_come_back_in_order)
{
    /* Shows: the round trip of several items, empty parts and a negative flag included. */
    const struct batch_item items[] = {
        hi, {-1, SLICE_EMPTY, SLICE_EMPTY}, {7, SLICE_LIT("body"), SLICE_EMPTY}};
    struct batch_iter iter;
    struct batch_item item;
    struct buf body;
    uint32_t count;

    buf_init(&body, 0);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(batch_append(&body, &items[i]), 0);
    }
    ck_assert_int_eq(batch_check(buf_slice(&body), &count), 0);
    ck_assert_uint_eq(count, 3);
    iter = batch_begin(buf_slice(&body));
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(batch_next(&iter, &item), 1);
        ck_assert_int_eq(item.flag, items[i].flag);
        ck_assert(slice_eq(item.body, items[i].body));
        ck_assert(slice_eq(item.properties, items[i].properties));
    }
    ck_assert_int_eq(batch_next(&iter, &item), 0);
    buf_fini(&body);
}
END_TEST

START_TEST(an_empty_body_is_no_batch)
{
    /* Shows: a batch has at least one item. */
    uint32_t count = 9;

    ck_assert_int_eq(batch_check(SLICE_EMPTY, &count), ESCROW_EPROTO);
    ck_assert_uint_eq(count, 9);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    /*
     * Shows: a cut batch is malformed unless the cut lies between items; nothing is read behind the
     * cut.
     */
    uint8_t two[2 * sizeof vector];

    memcpy(two, vector, sizeof vector);
    memcpy(two + sizeof vector, vector, sizeof vector);
    for (size_t n = 1; n < sizeof two; n++) {
        uint8_t *part = mem_alloc(n);
        uint32_t count;
        ck_assert_ptr_nonnull(part);
        memcpy(part, two, n);
        ck_assert_int_eq(batch_check(slice_of(part, n), &count),
                         n == sizeof vector ? 0 : ESCROW_EPROTO);
        mem_free(part);
    }
}
END_TEST

START_TEST(lengths_that_do_not_add_up_are_refused)
{
    /* Shows: each of the three lengths, one too large, one too small, huge, negative. */
    static const struct {
        size_t at;
        uint32_t value;
    } changes[] = {{0, 33}, {0, 35}, {0, 21},  {0, 0},   {0, UINT32_MAX},  {0, 1u << 31},
                   {16, 1}, {16, 3}, {16, 12}, {16, 13}, {16, UINT32_MAX}, {16, 1u << 31}};
    uint8_t raw[sizeof vector];
    uint32_t count;

    for (size_t i = 0; i < sizeof changes / sizeof changes[0]; i++) {
        memcpy(raw, vector, sizeof raw);
        put_be32(raw + changes[i].at, changes[i].value);
        ck_assert_int_eq(batch_check(slice_of(raw, sizeof raw), &count), ESCROW_EPROTO);
    }
    memcpy(raw, vector, sizeof raw);
    put_be16(raw + 22, 0xFFFF);
    ck_assert_int_eq(batch_check(slice_of(raw, sizeof raw), &count), ESCROW_EPROTO);
}
END_TEST

START_TEST(more_items_than_the_limit_are_refused)
{
    /* Shows: exactly BATCH_ITEMS_MAX pass, one more does not. */
    const struct batch_item item = {0, SLICE_LIT("x"), SLICE_EMPTY};
    struct buf body;
    uint32_t count;

    buf_init(&body, 0);
    for (unsigned i = 0; i < BATCH_ITEMS_MAX; i++) {
        ck_assert_int_eq(batch_append(&body, &item), 0);
    }
    ck_assert_int_eq(batch_check(buf_slice(&body), &count), 0);
    ck_assert_uint_eq(count, BATCH_ITEMS_MAX);
    ck_assert_int_eq(batch_append(&body, &item), 0);
    ck_assert_int_eq(batch_check(buf_slice(&body), &count), ESCROW_ETOOBIG);
    buf_fini(&body);
}
END_TEST

START_TEST(an_item_over_the_limits_is_not_written)
{
    /*
     * Shows: too much body, too many properties, no memory: an error, and the batch is as it was.
     */
    struct batch_item big = hi;
    struct buf body;

    buf_init(&body, sizeof vector + 5);
    ck_assert_int_eq(batch_append(&body, &hi), 0);
    big.body.len = MESSAGE_BODY_MAX + 1;
    ck_assert_int_eq(batch_append(&body, &big), ESCROW_ETOOBIG);
    big = hi;
    big.properties.len = PROPERTIES_LEN_MAX + 1;
    ck_assert_int_eq(batch_append(&body, &big), ESCROW_ETOOBIG);
    ck_assert(!buf_failed(&body));
    ck_assert_int_eq(batch_append(&body, &hi), ESCROW_ENOMEM);
    ck_assert_uint_eq(body.len, sizeof vector);
    buf_fini(&body);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("batch");

    tcase_add_test(tc, an_item_has_the_known_bytes);
    tcase_add_test(tc, items_come_back_in_order);
    tcase_add_test(tc, an_empty_body_is_no_batch);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, lengths_that_do_not_add_up_are_refused);
    tcase_add_test(tc, more_items_than_the_limit_are_refused);
    tcase_add_test(tc, an_item_over_the_limits_is_not_written);
    return run_tests(tc, "core/proto/batch");
}
