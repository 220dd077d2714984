#include "src/broker/offsets.h"

#include "core/base/limits.h"
#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static const struct hash_key key = {3, 4};

#define G SLICE_LIT("group")
#define T SLICE_LIT("topic")

static int64_t get(const struct offsets *o, struct slice group, struct slice topic, uint32_t queue)
{
    int64_t offset = -7;

    return offsets_find(o, group, topic, queue, &offset) ? offset : -1;
}

START_TEST(what_was_noted_is_found_and_nothing_else)
{
    /* By group, topic and queue; names that run together are different pairs. */
    struct offsets o;

    offsets_init(&o, key);
    ck_assert_int_eq(get(&o, G, T, 0), -1);
    ck_assert_int_eq(offsets_note(&o, G, T, 3, 42), 0);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("ab"), SLICE_LIT("c"), 0, 1), 0);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("a"), SLICE_LIT("bc"), 0, 2), 0);
    ck_assert_int_eq(get(&o, G, T, 3), 42);
    ck_assert_int_eq(get(&o, G, T, 2), -1);
    ck_assert_int_eq(get(&o, G, T, 4000000000u), -1);
    ck_assert_int_eq(get(&o, SLICE_LIT("ab"), SLICE_LIT("c"), 0), 1);
    ck_assert_int_eq(get(&o, SLICE_LIT("a"), SLICE_LIT("bc"), 0), 2);
    ck_assert_int_eq(offsets_note(&o, G, T, 3, 7), 0); /* going back is a reset: allowed */
    ck_assert_int_eq(get(&o, G, T, 3), 7);
    offsets_fini(&o);
}
END_TEST

START_TEST(a_group_is_forgotten_with_what_was_not_written_yet)
{
    /* Its topics, dirty or not; other groups keep theirs, and are still written. */
    struct offsets o;
    struct buf payload;
    size_t empty;

    offsets_init(&o, key);
    empty = o.bytes;
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 1), 0);
    buf_init(&payload, 0);
    ck_assert(!offsets_take_dirty(&o, &payload, 4096));
    buf_clear(&payload);
    ck_assert_int_eq(offsets_note(&o, G, SLICE_LIT("u"), 700, 2), 0);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("other"), T, 0, 3), 0);
    ck_assert_int_eq(offsets_note(&o, G, SLICE_LIT("v"), 0, 4), 0);
    ck_assert(offsets_has_pair(&o, G, T));
    offsets_remove_group(&o, G);
    ck_assert(!offsets_has_pair(&o, G, T));
    ck_assert_int_eq(get(&o, G, SLICE_LIT("u"), 700), -1);
    ck_assert_int_eq(get(&o, SLICE_LIT("other"), T, 0), 3);
    ck_assert_uint_eq(o.by_pair.count, 1);
    ck_assert(!offsets_take_dirty(&o, &payload, 4096));
    ck_assert_uint_eq(payload.len, 16 + 5 + 5); /* "other" alone */
    ck_assert(!offsets_is_dirty(&o));
    offsets_remove_group(&o, SLICE_LIT("other"));
    ck_assert_uint_eq(o.bytes, empty);
    buf_fini(&payload);
    offsets_fini(&o);
}
END_TEST

START_TEST(bad_names_and_numbers_are_refused)
{
    /* Nothing has changed after a refusal. */
    struct offsets o;
    char long_name[300];

    memset(long_name, 'x', sizeof long_name);
    offsets_init(&o, key);
    ck_assert_int_eq(offsets_note(&o, G, T, 0, -1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, G, T, QUEUES_PER_TOPIC_MAX, 1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, SLICE_EMPTY, T, 0, 1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, G, SLICE_EMPTY, 0, 1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, slice_of(long_name, 256), T, 0, 1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, G, slice_of(long_name, 256), 0, 1), ESCROW_EINVAL);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("a\1b"), T, 0, 1), ESCROW_EINVAL);
    ck_assert(!offsets_is_dirty(&o));
    ck_assert_uint_eq(o.by_pair.count, 0);
    offsets_fini(&o);
}
END_TEST

START_TEST(dirty_entries_are_taken_once_in_pieces_of_the_limit)
{
    /*
     * 500 entries through records of 200 bytes: each once, each record within the limit, replay
     * gives all.
     */
    struct offsets o;
    struct offsets replayed;
    struct buf payload;
    bool has_more = true;
    int records = 0;

    offsets_init(&o, key);
    offsets_init(&replayed, key);
    buf_init(&payload, 0);
    for (uint32_t i = 0; i < 500; i++) {
        char group[32];
        (void)snprintf(group, sizeof group, "g-%u", i % 50); /* fits */
        ck_assert_int_eq(offsets_note(&o, slice_str(group), T, i / 50, i), 0);
    }
    while (has_more) {
        buf_clear(&payload);
        has_more = offsets_take_dirty(&o, &payload, 200);
        ck_assert_uint_le(payload.len, 200);
        ck_assert_int_eq(offsets_apply(&replayed, buf_slice(&payload), NULL), 0);
        records++;
    }
    ck_assert_int_gt(records, 50);
    ck_assert(!offsets_is_dirty(&o));
    for (uint32_t i = 0; i < 500; i++) {
        char group[32];
        (void)snprintf(group, sizeof group, "g-%u", i % 50); /* fits */
        ck_assert_int_eq(get(&replayed, slice_str(group), T, i / 50), i);
    }
    ck_assert(!offsets_is_dirty(&replayed));
    buf_fini(&payload);
    offsets_fini(&o);
    offsets_fini(&replayed);
}
END_TEST

START_TEST(a_refused_record_is_dirty_again_with_its_newest_values)
{
    /* Taken, noted again, refused: the next record has the newer value. */
    struct offsets o;
    struct offsets replayed;
    struct buf payload;

    offsets_init(&o, key);
    offsets_init(&replayed, key);
    buf_init(&payload, 0);
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 1), 0);
    ck_assert_int_eq(offsets_note(&o, G, T, 70, 2), 0);
    ck_assert(!offsets_take_dirty(&o, &payload, 1000));
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 5), 0);
    offsets_redirty(&o, buf_slice(&payload));
    buf_clear(&payload);
    ck_assert(!offsets_take_dirty(&o, &payload, 1000));
    ck_assert_int_eq(offsets_apply(&replayed, buf_slice(&payload), NULL), 0);
    ck_assert_int_eq(get(&replayed, G, T, 0), 5);
    ck_assert_int_eq(get(&replayed, G, T, 70), 2);
    buf_fini(&payload);
    offsets_fini(&o);
    offsets_fini(&replayed);
}
END_TEST

START_TEST(an_unchanged_offset_is_not_written_again)
{
    /* Clients repeat themselves every five seconds: that costs no log. */
    struct offsets o;
    struct buf payload;

    offsets_init(&o, key);
    buf_init(&payload, 0);
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 1), 0);
    ck_assert(!offsets_take_dirty(&o, &payload, 1000));
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 1), 0);
    ck_assert(!offsets_is_dirty(&o));
    buf_fini(&payload);
    offsets_fini(&o);
}
END_TEST

static void count_one(void *arg, struct slice group, struct slice topic, uint32_t queue,
                      int64_t offset)
{
    int64_t *sum = arg;

    ck_assert(slice_eq(group, G));
    ck_assert(slice_eq(topic, T));
    *sum += offset * (queue + 1);
}

START_TEST(a_section_and_damaged_ones)
{
    /*
     * Saved and loaded; every prefix that ends inside an entry, and an offset above int64, is
     * corrupt.
     */
    struct offsets o;
    struct offsets loaded;
    struct buf section;
    int64_t sum = 0;
    size_t entry;

    offsets_init(&o, key);
    buf_init(&section, 0);
    ck_assert_int_eq(offsets_note(&o, G, T, 0, 10), 0);
    ck_assert_int_eq(offsets_note(&o, G, T, 9, 20), 0);
    offsets_save(&o, &section);
    entry = section.len / 2;
    for (size_t len = 0; len <= section.len; len++) {
        int rc;
        offsets_init(&loaded, key);
        rc = offsets_load(&loaded, slice_of(section.ptr, len), NULL);
        ck_assert_int_eq(rc, len % entry == 0 ? 0 : ESCROW_ECORRUPT);
        if (len == section.len) {
            offsets_visit(&loaded, count_one, &sum);
        }
        offsets_fini(&loaded);
    }
    ck_assert_int_eq(sum, 10 + 200);
    section.ptr[entry - 1] = 0x80;
    offsets_init(&loaded, key);
    ck_assert_int_eq(offsets_load(&loaded, buf_slice(&section), NULL), ESCROW_ECORRUPT);
    offsets_fini(&loaded);
    offsets_fini(&o);
    buf_fini(&section);
}
END_TEST

START_TEST(a_failed_allocation_changes_nothing)
{
    /* Each allocation of a note fails once; nothing is found or dirty then. */
    struct offsets o;
    int rc = ESCROW_ENOMEM;

    offsets_init(&o, key);
    for (uint64_t n = 1; rc != 0; n++) {
        mem_fault_at(n);
        rc = offsets_note(&o, G, T, 100, 1);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert_int_eq(get(&o, G, T, 100), rc == 0 ? 1 : -1);
        ck_assert(offsets_is_dirty(&o) == (rc == 0));
        ck_assert_uint_lt(n, 12);
    }
    offsets_fini(&o);
}
END_TEST

START_TEST(memory_of_all_offsets_is_limited)
{
    /*
     * The last queue of a wide topic, for one group after the other: little for each, refused in
     * the end. Who is known goes on, and what a log says is taken.
     */
    struct offsets o;
    struct offsets other;
    struct buf record;
    struct err_ctx err = {.code = 0};
    char name[32];
    size_t groups = 0;
    int rc = 0;

    offsets_init(&o, key);
    offsets_init(&other, key);
    buf_init(&record, 0);
    while (rc == 0) {
        (void)snprintf(name, sizeof name, "group-%zu", groups);
        rc = offsets_note(&o, slice_str(name), T, QUEUES_PER_TOPIC_MAX - 1, 5);
        groups++;
    }
    ck_assert_int_eq(rc, ESCROW_ELIMIT);
    ck_assert_uint_gt(groups, 50000);
    ck_assert_uint_lt(o.bytes, OFFSETS_BYTES_MAX + 4096);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("group-7"), T, QUEUES_PER_TOPIC_MAX - 1, 6), 0);
    ck_assert_int_eq(offsets_note(&o, SLICE_LIT("group-7"), T, 0, 6), ESCROW_ELIMIT);
    ck_assert_int_eq(offsets_note(&other, G, T, 9, 8), 0);
    ck_assert(!offsets_take_dirty(&other, &record, 1000));
    ck_assert_int_eq(offsets_apply(&o, buf_slice(&record), &err), 0);
    ck_assert_int_eq(get(&o, G, T, 9), 8);
    buf_fini(&record);
    offsets_fini(&other);
    offsets_fini(&o);
}
END_TEST

START_TEST(what_memory_is_too_short_to_write_stays_dirty)
{
    /* Each allocation of a take fails once: nothing is taken or cut; then every entry is. */
    struct offsets o;
    struct buf payload;
    bool has_failed;
    size_t entries = 0;

    offsets_init(&o, key);
    for (uint32_t q = 0; q < 60; q++) {
        ck_assert_int_eq(offsets_note(&o, G, T, q, q + 1), 0);
    }
    buf_init(&payload, 0);
    for (uint64_t n = 1;; n++) {
        mem_fault_at(n);
        (void)offsets_take_dirty(&o, &payload, 65536);
        mem_fault_at(0);
        has_failed = buf_failed(&payload);
        if (!has_failed) {
            break;
        }
        ck_assert_uint_eq(payload.len, 0);
        ck_assert(offsets_is_dirty(&o));
        offsets_redirty(&o, buf_slice(&payload));
        buf_clear(&payload);
        entries++;
    }
    ck_assert_uint_eq(entries, 1); /* one allocation, for all of it */
    ck_assert(!offsets_is_dirty(&o));
    ck_assert_uint_gt(payload.len, (size_t)60 * 16);
    buf_fini(&payload);
    offsets_fini(&o);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/offsets");
    TCase *tc = tcase_create("offsets");

    tcase_add_test(tc, what_was_noted_is_found_and_nothing_else);
    tcase_add_test(tc, a_group_is_forgotten_with_what_was_not_written_yet);
    tcase_add_test(tc, bad_names_and_numbers_are_refused);
    tcase_add_test(tc, dirty_entries_are_taken_once_in_pieces_of_the_limit);
    tcase_add_test(tc, a_refused_record_is_dirty_again_with_its_newest_values);
    tcase_add_test(tc, an_unchanged_offset_is_not_written_again);
    tcase_add_test(tc, a_section_and_damaged_ones);
    tcase_add_test(tc, a_failed_allocation_changes_nothing);
    tcase_add_test(tc, memory_of_all_offsets_is_limited);
    tcase_add_test(tc, what_memory_is_too_short_to_write_stays_dirty);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
