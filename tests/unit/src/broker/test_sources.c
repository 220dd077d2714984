#include "src/broker/sources.h"

#include "core/base/mem.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

static const struct hash_key key = {5, 6};

#define NAME SLICE_LIT("orders-db")

/* Open as the broker does: propose, note, and apply the record that was written. */
static uint64_t open_source(struct sources *s, uint64_t system_id, uint32_t timeline, bool adopt)
{
    struct source_open open = {.name = NAME,
                               .owner = SLICE_LIT("relay"),
                               .system_id = system_id,
                               .timeline = timeline,
                               .adopt = adopt};
    struct source next;
    struct buf payload;

    ck_assert_int_eq(sources_open(s, &open, &next, NULL), 0);
    buf_init(&payload, 0);
    source_encode(&payload, &next);
    ck_assert_int_eq(sources_note(s, &next, 100), 0);
    ck_assert_int_eq(sources_apply(s, buf_slice(&payload), NULL), 0);
    buf_fini(&payload);
    return next.epoch;
}

static int advance(struct sources *s, uint64_t epoch, const char *prev, const char *to,
                   struct buf *payload)
{
    struct source next;
    int rc =
        sources_advance(sources_find(s, NAME, 0), epoch, slice_str(prev), slice_str(to), &next);

    if (rc == 0) {
        buf_clear(payload);
        source_encode(payload, &next);
        ck_assert_int_eq(sources_note(s, &next, 200), 0);
    }
    return rc;
}

static bool position_is(const struct sources *s, const char *text)
{
    const struct source *src = sources_find(s, NAME, 0);

    return src != NULL && slice_eq_str(buf_slice(&src->position), text);
}

START_TEST(each_opening_takes_the_next_epoch_and_fences_the_last)
{
    /* The old epoch cannot advance any more; the position goes on. */
    struct sources s;
    struct buf payload;

    sources_init(&s, key);
    buf_init(&payload, 0);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), ESCROW_EFENCED); /* never opened */
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), 0);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 2);
    ck_assert_int_eq(advance(&s, 1, "p1", "p2", &payload), ESCROW_EFENCED);
    ck_assert_int_eq(advance(&s, 3, "p1", "p2", &payload), ESCROW_EFENCED);
    ck_assert_int_eq(advance(&s, 2, "p1", "p2", &payload), 0);
    ck_assert(position_is(&s, "p2"));
    buf_fini(&payload);
    sources_fini(&s);
}
END_TEST

START_TEST(a_batch_is_taken_once_and_in_its_place)
{
    /* Repetition, a gap, nothing, too much. */
    static char large[SOURCE_POSITION_MAX + 2];
    struct sources s;
    struct buf payload;

    memset(large, 'x', sizeof large - 1);
    sources_init(&s, key);
    buf_init(&payload, 0);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), 0);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), ESCROW_EEXIST);
    ck_assert_int_eq(advance(&s, 1, "p0", "p2", &payload), ESCROW_ECONFLICT);
    ck_assert_int_eq(advance(&s, 1, "p1", "", &payload), ESCROW_EINVAL);
    ck_assert_int_eq(advance(&s, 1, "p1", large, &payload), ESCROW_ETOOBIG);
    ck_assert(position_is(&s, "p1"));
    buf_fini(&payload);
    sources_fini(&s);
}
END_TEST

START_TEST(another_database_is_refused_until_somebody_adopts_it)
{
    /*
     * Another system, an older timeline, and a newer one too: it is a failover if the old primary
     * is gone, which a person knows. The text names what is known in the form that --adopt takes.
     */
    struct err_ctx err = {.code = 0};
    struct sources s;
    struct source next;
    struct source_open open = {.name = NAME, .system_id = 8, .timeline = 5};

    sources_init(&s, key);
    ck_assert_uint_eq(open_source(&s, 7, 5, false), 1);
    ck_assert_int_eq(sources_open(&s, &open, &next, NULL), ESCROW_EFOREIGN);
    open.system_id = 7;
    open.timeline = 4;
    ck_assert_int_eq(sources_open(&s, &open, &next, NULL), ESCROW_EFOREIGN);
    open.timeline = 6;
    ck_assert_int_eq(sources_open(&s, &open, &next, &err), ESCROW_EFOREIGN);
    ck_assert_ptr_nonnull(strstr(err.text, "7/5 (system/timeline), this one is 7/6"));
    ck_assert_uint_eq(open_source(&s, 7, 6, true), 2);
    ck_assert_uint_eq(open_source(&s, 7, 6, false), 3);
    ck_assert_uint_eq(open_source(&s, 9, 1, true), 4);
    ck_assert_uint_eq(sources_find(&s, NAME, 0)->system_id, 9);
    ck_assert_ptr_null(sources_find(&s, NAME, 1)); /* another lane is another source */
    open.name = SLICE_LIT("a\1b");
    ck_assert_int_eq(sources_open(&s, &open, &next, NULL), ESCROW_EINVAL);
    open.name = SLICE_EMPTY;
    ck_assert_int_eq(sources_open(&s, &open, &next, NULL), ESCROW_EINVAL);
    sources_fini(&s);
}
END_TEST

START_TEST(a_checkpoint_holds_what_was_applied_not_what_was_noted)
{
    /* Noted but not durable: after a crash it is as if it had not been. Replay then brings it. */
    struct sources s;
    struct sources loaded;
    struct buf payload;
    struct buf section;

    sources_init(&s, key);
    sources_init(&loaded, key);
    buf_init(&payload, 0);
    buf_init(&section, 0);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), 0);
    sources_save(&s, &section);
    ck_assert_int_eq(sources_load(&loaded, buf_slice(&section), NULL), 0);
    ck_assert(position_is(&loaded, ""));
    ck_assert(position_is(&s, "p1"));
    ck_assert_int_eq(sources_apply(&loaded, buf_slice(&payload), NULL), 0);
    ck_assert(position_is(&loaded, "p1"));
    ck_assert_int_eq(sources_apply(&loaded, buf_slice(&payload), NULL), 0); /* again: nothing */
    ck_assert(position_is(&loaded, "p1"));
    buf_fini(&payload);
    buf_fini(&section);
    sources_fini(&s);
    sources_fini(&loaded);
}
END_TEST

START_TEST(an_older_record_does_not_set_a_newer_one_back)
{
    /* Live: p2 was noted when the record of p1 becomes durable. */
    struct sources s;
    struct buf first;
    struct buf second;

    sources_init(&s, key);
    buf_init(&first, 0);
    buf_init(&second, 0);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &first), 0);
    ck_assert_int_eq(advance(&s, 1, "p1", "p2", &second), 0);
    ck_assert_int_eq(sources_apply(&s, buf_slice(&first), NULL), 0);
    ck_assert(position_is(&s, "p2"));
    ck_assert_int_eq(sources_apply(&s, buf_slice(&second), NULL), 0);
    ck_assert(position_is(&s, "p2"));
    buf_fini(&first);
    buf_fini(&second);
    sources_fini(&s);
}
END_TEST

START_TEST(damaged_records_and_sections_are_corrupt)
{
    /* Every prefix, and a byte too many. */
    struct sources s;
    struct sources other;
    struct buf payload;
    struct buf section;

    sources_init(&s, key);
    buf_init(&payload, 0);
    buf_init(&section, 0);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(advance(&s, 1, "", "p1", &payload), 0);
    sources_save(&s, &section);
    sources_init(&other, key);
    for (size_t len = 0; len < payload.len; len++) {
        ck_assert_int_eq(sources_apply(&other, slice_of(payload.ptr, len), NULL), ESCROW_ECORRUPT);
    }
    for (size_t len = 1; len < section.len; len++) {
        ck_assert_int_eq(sources_load(&other, slice_of(section.ptr, len), NULL), ESCROW_ECORRUPT);
    }
    buf_append_u8(&payload, 0);
    ck_assert_int_eq(sources_apply(&other, buf_slice(&payload), NULL), ESCROW_ECORRUPT);
    ck_assert_uint_eq(other.by_name.count, 0);
    buf_fini(&payload);
    buf_fini(&section);
    sources_fini(&s);
    sources_fini(&other);
}
END_TEST

START_TEST(a_failed_allocation_leaves_the_old_position)
{
    /* Each allocation of a note fails once. */
    struct sources s;
    struct source next;
    int rc = ESCROW_ENOMEM;

    sources_init(&s, key);
    ck_assert_uint_eq(open_source(&s, 7, 1, false), 1);
    ck_assert_int_eq(
        sources_advance(sources_find(&s, NAME, 0), 1, SLICE_EMPTY, SLICE_LIT("p1"), &next), 0);
    for (uint64_t n = 1; rc != 0; n++) {
        mem_fault_at(n);
        rc = sources_note(&s, &next, 1);
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert(position_is(&s, rc == 0 ? "p1" : ""));
        ck_assert_uint_lt(n, 10);
    }
    sources_fini(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/sources");
    TCase *tc = tcase_create("sources");

    tcase_add_test(tc, each_opening_takes_the_next_epoch_and_fences_the_last);
    tcase_add_test(tc, a_batch_is_taken_once_and_in_its_place);
    tcase_add_test(tc, another_database_is_refused_until_somebody_adopts_it);
    tcase_add_test(tc, a_checkpoint_holds_what_was_applied_not_what_was_noted);
    tcase_add_test(tc, an_older_record_does_not_set_a_newer_one_back);
    tcase_add_test(tc, damaged_records_and_sections_are_corrupt);
    tcase_add_test(tc, a_failed_allocation_leaves_the_old_position);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
