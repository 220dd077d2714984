#include "src/broker/queue_locks.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

#define EXPIRY_MS 60000

static struct queue_locks locks;

static void set_up(void)
{
    struct hash_key key = {1, 2};

    queue_locks_init(&locks, key, EXPIRY_MS);
}

static void tear_down(void)
{
    queue_locks_fini(&locks);
    ck_assert_int_eq(mem_live_count(), 0);
}

static struct queue_lock_key key_of(const char *group, const char *topic, int32_t queue,
                                    const char *client)
{
    return (struct queue_lock_key){.group = slice_str(group),
                                   .topic = slice_str(topic),
                                   .queue_id = queue,
                                   .client_id = slice_str(client)};
}

static int take(const char *group, const char *topic, int32_t queue, const char *client,
                int64_t now_ms)
{
    struct queue_lock_key key = key_of(group, topic, queue, client);

    return queue_locks_take(&locks, &key, now_ms);
}

static void give(const char *group, const char *topic, int32_t queue, const char *client)
{
    struct queue_lock_key key = key_of(group, topic, queue, client);

    queue_locks_give(&locks, &key);
}

START_TEST(a_queue_has_one_holder_in_each_group)
{
    /* The second client waits; other queues, topics and groups are not concerned. */
    set_up();
    ck_assert_int_eq(take("g", "T", 0, "a", 0), 0);
    ck_assert_int_eq(take("g", "T", 0, "b", 0), ESCROW_EBUSY);
    ck_assert_int_eq(take("g", "T", 1, "b", 0), 0);
    ck_assert_int_eq(take("g", "T2", 0, "b", 0), 0);
    ck_assert_int_eq(take("g2", "T", 0, "b", 0), 0);
    ck_assert_int_eq(take("g", "T", 0, "a", 1), 0);
    ck_assert_uint_eq(locks.by_queue.count, 4);
    tear_down();
}
END_TEST

START_TEST(only_its_holder_gives_a_lock_back)
{
    /* What another gives back stays locked; what the holder gives back is free at once. */
    set_up();
    ck_assert_int_eq(take("g", "T", 0, "a", 0), 0);
    give("g", "T", 0, "b");
    ck_assert_int_eq(take("g", "T", 0, "b", 0), ESCROW_EBUSY);
    give("g", "T", 0, "a");
    give("g", "T", 0, "a");
    ck_assert_int_eq(take("g", "T", 0, "b", 0), 0);
    tear_down();
}
END_TEST

START_TEST(a_lock_that_is_not_renewed_expires)
{
    /* Renewing counts from the last time. */
    set_up();
    ck_assert_int_eq(take("g", "T", 0, "a", 0), 0);
    ck_assert_int_eq(take("g", "T", 0, "a", 50000), 0);
    ck_assert_int_eq(take("g", "T", 0, "b", 50000 + EXPIRY_MS), ESCROW_EBUSY);
    ck_assert_int_eq(take("g", "T", 0, "b", 50001 + EXPIRY_MS), 0);
    ck_assert_int_eq(take("g", "T", 0, "a", 50001 + EXPIRY_MS), ESCROW_EBUSY);
    tear_down();
}
END_TEST

START_TEST(expired_locks_make_room)
{
    /* The table is bounded: full, it refuses; when its locks have expired, it does not. */
    char topic[16];

    set_up();
    for (int i = 0; i < QUEUE_LOCKS_MAX; i++) {
        (void)snprintf(topic, sizeof topic, "T%d", i);
        ck_assert_int_eq(take("g", topic, 0, "a", 0), 0);
    }
    ck_assert_int_eq(take("g", "one-more", 0, "a", 0), ESCROW_ELIMIT);
    ck_assert_int_eq(take("g", "T7", 0, "a", 30000), 0);
    ck_assert_int_eq(take("g", "one-more", 0, "a", EXPIRY_MS + 1), 0);
    ck_assert_uint_eq(locks.by_queue.count, 2);
    ck_assert_int_eq(take("g", "T7", 0, "b", EXPIRY_MS + 1), ESCROW_EBUSY);
    tear_down();
}
END_TEST

START_TEST(without_memory_nothing_is_locked)
{
    /* Each allocation fails once; then it works. */
    uint64_t n = 0;
    int rc;

    set_up();
    do {
        mem_fault_at(++n);
        rc = take("g", "T", 0, "a", 0);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert_uint_eq(locks.by_queue.count, rc == 0 ? 1 : 0);
    } while (rc != 0);
    ck_assert_uint_gt(n, 1);
    tear_down();
}
END_TEST

START_TEST(names_that_are_too_long_are_refused)
{
    /* The caller checks them; a mistake there does no harm. */
    static char name[400];

    set_up();
    for (size_t i = 0; i + 1 < sizeof name; i++) {
        name[i] = 'x';
    }
    ck_assert_int_eq(take(name, "T", 0, "a", 0), ESCROW_EINVAL);
    ck_assert_int_eq(take("g", name, 0, "a", 0), ESCROW_EINVAL);
    ck_assert_int_eq(take("g", "T", 0, name, 0), ESCROW_EINVAL);
    ck_assert_int_eq(take("g", "T", 0, "", 0), ESCROW_EINVAL);
    give("g", name, 0, "a");
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/queue_locks");
    TCase *tc = tcase_create("locks");

    tcase_add_test(tc, a_queue_has_one_holder_in_each_group);
    tcase_add_test(tc, only_its_holder_gives_a_lock_back);
    tcase_add_test(tc, a_lock_that_is_not_renewed_expires);
    tcase_add_test(tc, expired_locks_make_room);
    tcase_add_test(tc, without_memory_nothing_is_locked);
    tcase_add_test(tc, names_that_are_too_long_are_refused);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
