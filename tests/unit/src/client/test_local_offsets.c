#include "src/client/local_offsets.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/src/client/client_main.h"

#include <stdio.h>
#include <string.h>

static const struct hash_key key = {1, 2};

static void table_init(struct local_offsets *o)
{
    *o = (struct local_offsets){.is_dirty = false};
    strmap_init(&o->rows, key);
}

static int64_t offset_of(const struct local_offsets *o, const char *topic, const char *broker,
                         uint32_t queue_id)
{
    struct local_queue queue = {topic, broker, queue_id};
    int64_t offset = -1;

    return local_offsets_find(o, &queue, &offset) ? offset : -1;
}

/* What was set is found, also after it was written and read; the last value of a queue counts. */
START_TEST(a_table_is_what_its_text_says)
{
    struct local_offsets o;
    struct local_offsets copy;
    struct buf text;

    table_init(&o);
    table_init(&copy);
    buf_init(&text, 0);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b \"1\"", 0}, 5), 0);
    ck_assert(o.is_dirty);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b \"1\"", 1}, 6), 0);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"%RETRY%g", "b", 0}, INT64_MAX),
                     0);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b \"1\"", 0}, 7), 0);
    local_offsets_encode(&o, &text);
    ck_assert(!buf_failed(&text));
    ck_assert_int_eq(local_offsets_decode(&copy, buf_slice(&text)), 0);
    ck_assert(!copy.is_dirty);
    ck_assert_int_eq(offset_of(&copy, "T", "b \"1\"", 0), 7);
    ck_assert_int_eq(offset_of(&copy, "T", "b \"1\"", 1), 6);
    ck_assert_int_eq(offset_of(&copy, "%RETRY%g", "b", 0), INT64_MAX);
    ck_assert_int_eq(offset_of(&copy, "T", "b", 0), -1);
    ck_assert_uint_eq(copy.rows.count, 3);
    buf_fini(&text);
    local_offsets_close(&copy);
    local_offsets_close(&o);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* A value that has not changed is no reason to write. */
START_TEST(the_same_value_changes_nothing)
{
    struct local_offsets o;

    table_init(&o);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b", 0}, 5), 0);
    o.is_dirty = false;
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b", 0}, 5), 0);
    ck_assert(!o.is_dirty);
    local_offsets_close(&o);
}
END_TEST

/* The table has a limit; queues that are in it can still move on. */
START_TEST(too_many_queues_are_refused)
{
    struct local_offsets o;

    table_init(&o);
    for (uint32_t i = 0; i < LOCAL_OFFSETS_MAX; i++) {
        ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b", i}, 1), 0);
    }
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"U", "b", 0}, 1), ESCROW_ELIMIT);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "b", 9}, 2), 0);
    ck_assert_int_eq(offset_of(&o, "T", "b", 9), 2);
    local_offsets_close(&o);
}
END_TEST

/* Names that would come back as others, or not at all, do not get into the table. */
START_TEST(names_have_to_come_back_as_they_were)
{
    static char longest[257];
    struct local_offsets o;

    memset(longest, 'n', 256);
    table_init(&o);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T\xff", "b", 0}, 1),
                     ESCROW_EINVAL);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", "", 0}, 1), ESCROW_EINVAL);
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", longest, 0}, 1),
                     ESCROW_EINVAL);
    longest[255] = '\0';
    ck_assert_int_eq(local_offsets_set(&o, &(struct local_queue){"T", longest, 0}, 1), 0);
    ck_assert_uint_eq(o.rows.count, 1);
    local_offsets_close(&o);
}
END_TEST

/* A full table can be read again. */
START_TEST(a_full_table_can_be_read_again)
{
    struct local_offsets o;
    struct local_offsets copy;
    struct buf text;

    table_init(&o);
    table_init(&copy);
    buf_init(&text, LOCAL_OFFSETS_BYTES_MAX);
    for (uint32_t i = 0; i < LOCAL_OFFSETS_MAX; i++) {
        ck_assert_int_eq(
            local_offsets_set(&o, &(struct local_queue){"a-topic-with-a-long-name", "b", i}, 1), 0);
    }
    local_offsets_encode(&o, &text);
    ck_assert(!buf_failed(&text));
    ck_assert_int_eq(local_offsets_decode(&copy, buf_slice(&text)), 0);
    ck_assert_uint_eq(copy.rows.count, LOCAL_OFFSETS_MAX);
    buf_fini(&text);
    local_offsets_close(&copy);
    local_offsets_close(&o);
}
END_TEST

/* A file is input: what is no table, or says impossible things, is refused. */
START_TEST(what_is_no_table_is_refused)
{
    static const char *const texts[] = {
        "",
        "[]",
        "{\"offsetTable\":",
        "{\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\"}:-1}}",
        "{\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":-1,\"topic\":\"T\"}:1}}",
        "{\"offsetTable\":{{\"brokerName\":\"\",\"queueId\":0,\"topic\":\"T\"}:1}}",
        "{\"offsetTable\":{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"T\\u0000\"}:1}}",
        "{\"offsetTable\":{\"T\":1}}"};

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct local_offsets o;
        table_init(&o);
        ck_assert_msg(local_offsets_decode(&o, slice_str(texts[i])) == ESCROW_ECORRUPT, "%s",
                      texts[i]);
        local_offsets_close(&o);
    }
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {
        a_table_is_what_its_text_says,  the_same_value_changes_nothing,
        too_many_queues_are_refused,    names_have_to_come_back_as_they_were,
        a_full_table_can_be_read_again, what_is_no_table_is_refused};

    return client_main("client_local_offsets", tests, sizeof tests / sizeof tests[0]);
}
