#include "src/broker/groups.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>

static struct groups groups;

static void set_up(void)
{
    struct hash_key key = {1, 2};

    groups_init(&groups, key);
}

static void tear_down(void)
{
    groups_fini(&groups);
    ck_assert_int_eq(mem_live_count(), 0);
}

static struct group_config group_of(const char *name, int32_t retries)
{
    struct group_config group;

    group_config_init(&group, slice_str(name));
    group.retry_max_times = retries;
    group.is_consume_enabled = false;
    group.is_orderly = true;
    group.broker_id = INT64_C(-5);
    group.consume_timeout_min = 7;
    return group;
}

static enum group_change apply(const struct group_config *group, enum group_change change)
{
    struct group_applied applied = {.change = GROUP_SET};
    struct buf payload;

    buf_init(&payload, 0);
    group_encode(&payload, group, change);
    ck_assert_int_eq(groups_apply(&groups, buf_slice(&payload), &applied, NULL), 0);
    ck_assert(slice_eq(applied.name, group->name));
    buf_fini(&payload);
    return applied.change;
}

START_TEST(a_group_is_set_changed_and_deleted)
{
    /* Through records, as live and recovery do it; without one there are defaults. */
    struct group_config group = group_of("g", 3);
    const struct group_config *found;

    set_up();
    ck_assert_int_eq(groups_config(&groups, SLICE_LIT("g")).retry_max_times, 16);
    ck_assert_int_eq(apply(&group, GROUP_SET), GROUP_SET);
    found = groups_find(&groups, SLICE_LIT("g"));
    ck_assert_ptr_nonnull(found);
    ck_assert(slice_eq_str(found->name, "g"));
    ck_assert_int_eq(found->retry_max_times, 3);
    ck_assert(!found->is_consume_enabled);
    ck_assert(found->is_orderly);
    ck_assert(found->is_notify_enabled);
    ck_assert_int_eq(found->broker_id, -5);
    ck_assert_int_eq(found->consume_timeout_min, 7);
    group.retry_max_times = 4;
    (void)apply(&group, GROUP_SET);
    ck_assert_int_eq(groups_config(&groups, SLICE_LIT("g")).retry_max_times, 4);
    ck_assert_uint_eq(groups.by_name.count, 1);
    ck_assert_int_eq(apply(&group, GROUP_DELETE_AND_OFFSETS), GROUP_DELETE_AND_OFFSETS);
    ck_assert_ptr_null(groups_find(&groups, SLICE_LIT("g")));
    (void)apply(&group, GROUP_DELETE);
    ck_assert_uint_eq(groups.version, 4);
    tear_down();
}
END_TEST

START_TEST(a_checkpoint_brings_the_table_back)
{
    /* Every group of it, and its version. */
    struct group_config g = group_of("g", 3);
    struct group_config h = group_of("h", 5);
    struct buf section;

    set_up();
    (void)apply(&g, GROUP_SET);
    (void)apply(&h, GROUP_SET);
    buf_init(&section, 0);
    groups_save(&groups, &section);
    groups_fini(&groups);
    set_up();
    ck_assert_int_eq(groups_load(&groups, buf_slice(&section), NULL), 0);
    ck_assert_uint_eq(groups.by_name.count, 2);
    ck_assert_uint_eq(groups.version, 2);
    ck_assert_int_eq(groups_config(&groups, SLICE_LIT("h")).retry_max_times, 5);
    buf_fini(&section);
    tear_down();
}
END_TEST

static void assert_texts(const struct group_config *group)
{
    ck_assert(slice_eq_str(group->attributes, "{\"a\":\"1\"}"));
    ck_assert(slice_eq_str(group->retry_policy, "{\"type\":\"EXPONENTIAL\"}"));
    ck_assert(slice_eq_str(group->subscriptions, "[{\"version\":0}]"));
}

START_TEST(what_is_only_kept_for_others_is_kept)
{
    /* Attributes, policy and subscriptions, beside a group without; every truncation is corrupt. */
    struct group_config g = group_of("g", 3);
    struct group_config h = group_of("h", 5);
    struct group_applied applied;
    struct buf bytes;

    set_up();
    g.attributes = SLICE_LIT("{\"a\":\"1\"}");
    g.retry_policy = SLICE_LIT("{\"type\":\"EXPONENTIAL\"}");
    g.subscriptions = SLICE_LIT("[{\"version\":0}]");
    for (int i = 0; i < 2; i++) { /* set, then set again: counted once */
        (void)apply(&g, GROUP_SET);
        (void)apply(&h, GROUP_SET);
        assert_texts(groups_find(&groups, SLICE_LIT("g")));
        ck_assert_uint_eq(groups_find(&groups, SLICE_LIT("h"))->attributes.len, 0);
        ck_assert_uint_eq(groups.text_bytes, 9 + 22 + 15);
    }
    buf_init(&bytes, 0);
    groups_save(&groups, &bytes);
    groups_fini(&groups);
    set_up();
    ck_assert_int_eq(groups_load(&groups, buf_slice(&bytes), NULL), 0);
    assert_texts(groups_find(&groups, SLICE_LIT("g")));
    ck_assert_uint_eq(groups.text_bytes, 9 + 22 + 15);
    buf_clear(&bytes);
    group_encode(&bytes, &g, GROUP_SET);
    for (size_t len = 0; len < bytes.len; len++) {
        ck_assert_int_eq(groups_apply(&groups, slice_of(bytes.ptr, len), &applied, NULL),
                         ESCROW_ECORRUPT);
    }
    buf_fini(&bytes);
    (void)apply(&g, GROUP_DELETE);
    ck_assert_uint_eq(groups.text_bytes, 0);
    tear_down();
}
END_TEST

START_TEST(texts_of_all_groups_have_a_limit)
{
    /* A group that is there may be made shorter, and may stay as long as it is. */
    static uint8_t text[GROUP_TEXT_MAX];
    char name[32];
    struct group_config group;
    struct err_ctx err = {.code = 0};

    set_up();
    for (size_t i = 0; i < GROUPS_TEXT_BYTES_MAX / GROUP_TEXT_MAX; i++) {
        (void)snprintf(name, sizeof name, "g%zu", i);
        group_config_init(&group, slice_str(name));
        group.subscriptions = slice_of(text, sizeof text);
        ck_assert_int_eq(groups_check(&groups, &group, NULL), 0);
        ck_assert_int_eq(groups_add_scratch(&groups, &group), 0);
    }
    ck_assert_int_eq(groups_check(&groups, &group, NULL), 0);
    group.name = SLICE_LIT("fresh");
    group.subscriptions.len = 1;
    ck_assert_int_eq(groups_check(&groups, &group, &err), ESCROW_ELIMIT);
    ck_assert_uint_gt(strlen(err.text), 0);
    group.name = SLICE_LIT("g0");
    ck_assert_int_eq(groups_check(&groups, &group, NULL), 0);
    tear_down();
}
END_TEST

START_TEST(malformed_records_and_sections_are_corruption)
{
    /* Every truncation, bytes behind the end, a change and numbers that cannot be. */
    struct group_config g = group_of("g", 3);
    struct group_applied applied;
    struct buf payload;

    set_up();
    buf_init(&payload, 0);
    group_encode(&payload, &g, GROUP_SET);
    for (size_t len = 0; len < payload.len; len++) {
        ck_assert_int_eq(groups_apply(&groups, slice_of(payload.ptr, len), &applied, NULL),
                         ESCROW_ECORRUPT);
    }
    payload.ptr[3] = 9; /* the change */
    ck_assert_int_eq(groups_apply(&groups, buf_slice(&payload), &applied, NULL), ESCROW_ECORRUPT);
    payload.ptr[3] = 0;
    buf_append_u8(&payload, 0);
    ck_assert_int_eq(groups_apply(&groups, buf_slice(&payload), &applied, NULL), ESCROW_ECORRUPT);
    buf_clear(&payload);
    g.retry_queue_count = QUEUES_PER_TOPIC_MAX + 1;
    group_encode(&payload, &g, GROUP_SET);
    ck_assert_int_eq(groups_apply(&groups, buf_slice(&payload), &applied, NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(groups_load(&groups, SLICE_LIT("short"), NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(groups_check(&groups, &g, NULL), ESCROW_EINVAL);
    ck_assert_uint_eq(groups.by_name.count, 0);
    buf_fini(&payload);
    tear_down();
}
END_TEST

START_TEST(there_are_not_more_groups_than_the_limit)
{
    /* Those that are there can still be changed. */
    char name[32];

    set_up();
    for (int i = 0; i < GROUPS_MAX; i++) {
        struct group_config group;
        (void)snprintf(name, sizeof name, "g%d", i);
        group_config_init(&group, slice_str(name));
        ck_assert_int_eq(groups_check(&groups, &group, NULL), 0);
        ck_assert_int_eq(groups_add_scratch(&groups, &group), 0);
    }
    {
        struct group_config known = group_of("g7", 1);
        struct group_config fresh = group_of("fresh", 1);
        ck_assert_int_eq(groups_check(&groups, &known, NULL), 0);
        ck_assert_int_eq(groups_check(&groups, &fresh, NULL), ESCROW_ELIMIT);
    }
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/groups");
    TCase *tc = tcase_create("groups");

    tcase_add_test(tc, a_group_is_set_changed_and_deleted);
    tcase_add_test(tc, a_checkpoint_brings_the_table_back);
    tcase_add_test(tc, what_is_only_kept_for_others_is_kept);
    tcase_add_test(tc, texts_of_all_groups_have_a_limit);
    tcase_add_test(tc, malformed_records_and_sections_are_corruption);
    tcase_add_test(tc, there_are_not_more_groups_than_the_limit);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
