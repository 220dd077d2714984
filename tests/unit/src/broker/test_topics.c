#include "src/broker/topics.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static const struct hash_key key = {1, 2};
static struct slice gone; /* what the last record deleted */

static struct topic make(const char *name, uint32_t queues)
{
    struct topic topic = {.read_queues = queues, .write_queues = queues, .perm = 6};

    (void)snprintf(topic.name, sizeof topic.name, "%s", name); /* fits */
    return topic;
}

/* Enter a topic and let its record come true, as the broker does. */
static void create(struct topics *t, const struct topic *topic)
{
    struct topic *out = NULL;
    struct buf payload;

    buf_init(&payload, 0);
    ck_assert_int_eq(topics_add(t, topic, &out), 0);
    topic_encode(&payload, out, false);
    ck_assert_int_eq(topics_apply(t, buf_slice(&payload), &gone, NULL), 0);
    buf_fini(&payload);
}

START_TEST(a_topic_is_found_while_it_is_created_and_saved_only_afterwards)
{
    /* A checkpoint holds what is durable: a topic whose record is in flight is not in it. */
    struct topics t;
    struct topics loaded;
    struct topic topic = make("T", 4);
    struct topic *out = NULL;
    struct buf section;

    topics_init(&t, key);
    topics_init(&loaded, key);
    buf_init(&section, 0);
    ck_assert_int_eq(topics_add(&t, &topic, &out), 0);
    ck_assert(out->is_creating);
    ck_assert_ptr_eq(topics_find(&t, SLICE_LIT("T")), out);
    ck_assert_int_eq(topics_add(&t, &topic, &out), ESCROW_EEXIST);
    topics_save(&t, &section);
    ck_assert_int_eq(topics_load(&loaded, buf_slice(&section), NULL), 0);
    ck_assert_ptr_null(topics_find(&loaded, SLICE_LIT("T")));
    out = topics_find(&t, SLICE_LIT("T"));
    topics_undo(&t, &out);
    ck_assert_ptr_null(topics_find(&t, SLICE_LIT("T")));
    buf_fini(&section);
    topics_fini(&t);
    topics_fini(&loaded);
}
END_TEST

START_TEST(what_is_saved_is_loaded)
{
    /* All fields of many topics, and the version. */
    struct topics t;
    struct topics loaded;
    struct buf section;

    topics_init(&t, key);
    topics_init(&loaded, key);
    buf_init(&section, 0);
    for (uint32_t i = 1; i <= 200; i++) {
        char name[32];
        struct topic topic;
        (void)snprintf(name, sizeof name, "topic-%u", i); /* fits */
        topic = make(name, i);
        topic.write_queues = 1 + i % 7;
        topic.perm = i % 8;
        topic.sys_flag = i * 3;
        topic.is_ordered = i % 2 == 0;
        create(&t, &topic);
    }
    topics_save(&t, &section);
    ck_assert_int_eq(topics_load(&loaded, buf_slice(&section), NULL), 0);
    ck_assert_uint_eq(loaded.version, t.version);
    ck_assert_uint_eq(loaded.by_name.count, 200);
    for (size_t cursor = 0;;) {
        const struct topic *a = topics_next(&t, &cursor);
        const struct topic *b = a == NULL ? NULL : topics_find(&loaded, slice_str(a->name));
        if (a == NULL) {
            break;
        }
        ck_assert_ptr_nonnull(b);
        ck_assert_uint_eq(a->read_queues, b->read_queues);
        ck_assert_uint_eq(a->write_queues, b->write_queues);
        ck_assert_uint_eq(a->perm, b->perm);
        ck_assert_uint_eq(a->sys_flag, b->sys_flag);
        ck_assert(a->is_ordered == b->is_ordered);
    }
    buf_fini(&section);
    topics_fini(&t);
    topics_fini(&loaded);
}
END_TEST

START_TEST(a_later_record_changes_and_a_deletion_removes)
{
    /*
     * Pointers stay valid over a change; the round robin counter survives it; each change is a
     * version.
     */
    struct topics t;
    struct topic topic = make("T", 4);
    struct topic *found;
    struct buf payload;
    uint64_t version;

    topics_init(&t, key);
    create(&t, &topic);
    found = topics_find(&t, SLICE_LIT("T"));
    found->next_queue = 3;
    version = t.version;
    topic.read_queues = 8;
    buf_init(&payload, 0);
    topic_encode(&payload, &topic, false);
    ck_assert_int_eq(topics_apply(&t, buf_slice(&payload), &gone, NULL), 0);
    ck_assert_ptr_eq(topics_find(&t, SLICE_LIT("T")), found);
    ck_assert_uint_eq(found->read_queues, 8);
    ck_assert_uint_eq(found->next_queue, 3);
    ck_assert_uint_eq(t.version, version + 1);
    buf_clear(&payload);
    topic_encode(&payload, &topic, true);
    ck_assert_int_eq(topics_apply(&t, buf_slice(&payload), &gone, NULL), 0);
    ck_assert_ptr_null(topics_find(&t, SLICE_LIT("T")));
    ck_assert(slice_eq_str(gone, "T"));
    ck_assert_int_eq(topics_apply(&t, buf_slice(&payload), &gone, NULL), 0); /* deleting again */
    buf_fini(&payload);
    topics_fini(&t);
}
END_TEST

START_TEST(a_record_that_makes_no_sense_is_corrupt)
{
    /* Every prefix, every byte too many, and impossible numbers. */
    struct topics t;
    struct topic bad[] = {make("T", 0), make("T", QUEUES_PER_TOPIC_MAX + 1), make("T", 4),
                          make("", 4)};
    struct topic good = make("Topic", 4);
    struct topic *out = NULL;
    struct buf payload;

    bad[2].perm = 16;
    topics_init(&t, key);
    buf_init(&payload, 0);
    topic_encode(&payload, &good, false);
    for (size_t len = 0; len < payload.len; len++) {
        ck_assert_int_eq(topics_apply(&t, slice_of(payload.ptr, len), &gone, NULL),
                         ESCROW_ECORRUPT);
    }
    buf_append_u8(&payload, 0);
    ck_assert_int_eq(topics_apply(&t, buf_slice(&payload), &gone, NULL), ESCROW_ECORRUPT);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(topics_add(&t, &bad[i], &out), ESCROW_EINVAL);
        buf_clear(&payload);
        topic_encode(&payload, &bad[i], false);
        ck_assert_int_eq(topics_apply(&t, buf_slice(&payload), &gone, NULL), ESCROW_ECORRUPT);
    }
    ck_assert_int_eq(topics_load(&t, SLICE_LIT("1234567"), NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(topics_load(&t, SLICE_LIT("12345678x"), NULL), ESCROW_ECORRUPT);
    ck_assert_uint_eq(t.by_name.count, 0);
    buf_fini(&payload);
    topics_fini(&t);
}
END_TEST

START_TEST(a_failed_allocation_changes_nothing)
{
    /* Each allocation of an add fails once; then it succeeds. */
    struct topics t;
    struct topic topic = make("T", 4);
    struct topic *out = NULL;
    int rc = ESCROW_ENOMEM;

    topics_init(&t, key);
    for (uint64_t n = 1; rc != 0; n++) {
        mem_fault_at(n);
        rc = topics_add(&t, &topic, &out);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert_uint_eq(t.by_name.count, rc == 0 ? 1 : 0);
        ck_assert_uint_lt(n, 10);
    }
    topics_fini(&t);
}
END_TEST

START_TEST(no_more_topics_than_a_registration_can_name)
{
    /* One more is refused when it is created; one that goes makes room. */
    struct topics t;
    struct topic topic = make("T", 1);
    struct topic *out = NULL;
    struct topic *more = NULL;

    topics_init(&t, key);
    for (int i = 0; i < REGISTER_TOPICS_MAX; i++) {
        (void)snprintf(topic.name, sizeof topic.name, "T%d", i); /* fits */
        ck_assert_int_eq(topics_add(&t, &topic, &out), 0);
    }
    (void)snprintf(topic.name, sizeof topic.name, "more"); /* fits */
    ck_assert_int_eq(topics_add(&t, &topic, &more), ESCROW_ELIMIT);
    topics_undo(&t, &out);
    ck_assert_int_eq(topics_add(&t, &topic, &more), 0);
    topics_fini(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/topics");
    TCase *tc = tcase_create("topics");

    tcase_add_test(tc, a_topic_is_found_while_it_is_created_and_saved_only_afterwards);
    tcase_add_test(tc, what_is_saved_is_loaded);
    tcase_add_test(tc, a_later_record_changes_and_a_deletion_removes);
    tcase_add_test(tc, a_record_that_makes_no_sense_is_corrupt);
    tcase_add_test(tc, a_failed_allocation_changes_nothing);
    tcase_add_test(tc, no_more_topics_than_a_registration_can_name);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
