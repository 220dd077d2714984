#include "src/tools/copy/position.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#define NAME SLICE_LIT("cluster\0broker\0topic\0")

static struct copy_place *add_all(struct copy_position *p, uint32_t queue, int64_t start,
                                  const int64_t *offsets, size_t count)
{
    struct copy_place *place = copy_position_add(p, queue, start);

    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(copy_place_add(place, offsets[i]), 0);
    }
    return place;
}

static void add_range(struct copy_place *place, int64_t first, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        ck_assert_int_eq(copy_place_add(place, first + i), 0);
    }
}

/* Two queues: one whole, one with a gap of ten behind its third message. */
static void fill(struct copy_position *p)
{
    static const int64_t offsets[] = {100, 101, 102, 113, 114};
    static const int64_t zero = 0;
    struct copy_place *place;

    *p = (struct copy_position){.base = 8};
    place = add_all(p, 5, 1000, offsets, 5);
    copy_place_look(place, 1005);
    place->last_ms = 1700000000123;
    (void)add_all(p, 2, 0, &zero, 1);
}

START_TEST(a_position_survives_the_round_trip)
{
    /* Base, queues in their order whatever the order they came in, what was looked at, and runs. */
    struct copy_position p;
    struct copy_position back = {.base = 0};
    const struct copy_place *place;
    struct buf out;

    fill(&p);
    buf_init(&out, 0);
    copy_position_encode(&out, NAME, &p);
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), NAME, &back), 0);
    ck_assert_uint_eq(back.base, 8);
    ck_assert_uint_eq(back.place_count, 2);
    ck_assert_uint_eq(back.places[0].queue, 2);
    ck_assert(!copy_place_is_sure(&back.places[0]));
    ck_assert_ptr_null(copy_position_find(&back, 3));
    place = copy_position_find(&back, 5);
    ck_assert_ptr_nonnull(place);
    ck_assert(copy_place_is_sure(place));
    ck_assert_int_eq(place->first, 100);
    ck_assert_int_eq(place->next, 115);
    ck_assert_int_eq(place->end, 1005);
    ck_assert_int_eq(place->last_ms, 1700000000123);
    ck_assert_uint_eq(place->run_count, 2);
    ck_assert_int_eq(place->runs[1].first, 113);
    ck_assert_int_eq(place->runs[1].at, 1003);
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), SLICE_LIT("other"), &back),
                     ESCROW_EFOREIGN);
    copy_position_fini(&back);
    copy_position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(an_old_offset_is_told_as_the_new_one_of_the_same_message)
{
    /*
     * Before the first, each of both runs, into the gap, and behind the last; never below `from`.
     */
    static const struct {
        int64_t old_offset;
        int64_t want;
    } cases[] = {{0, 1000},   {100, 1000}, {101, 1001}, {102, 1002}, {103, 1003},      {112, 1003},
                 {113, 1003}, {114, 1004}, {115, 1005}, {116, 1005}, {INT64_MAX, 1005}};
    struct copy_position p;
    const struct copy_place *place;

    fill(&p);
    place = copy_position_find(&p, 5);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(copy_place_find(place, 1000, cases[i].old_offset, false), cases[i].want);
        ck_assert_int_eq(copy_place_again(place, cases[i].old_offset, cases[i].want), 0);
        ck_assert_int_eq(copy_place_count(place, cases[i].old_offset, 0, INT64_MAX),
                         1005 - cases[i].want);
        ck_assert_int_eq(copy_place_find(place, 1004, cases[i].old_offset, false),
                         cases[i].want > 1004 ? cases[i].want : 1004);
        ck_assert_int_eq(copy_place_find(place, 2000, cases[i].old_offset, true), 2000);
    }
    copy_position_fini(&p);
}
END_TEST

START_TEST(messages_of_others_are_neither_passed_over_nor_taken_for_copied_ones)
{
    /* Others' at 0 to 4, ten of ours, others' at 15 and 16, ten of ours, one of others'. A group
     * goes on with the first that it has not consumed, and is told what comes again behind it. */
    static const struct {
        int64_t from, old_offset, want, again, skipping;
    } cases[] = {
        {0, 100, 0, 0, 5},     {0, 103, 0, 3, 8},    {5, 103, 8, 0, 8},   {5, 110, 15, 0, 17},
        {5, 113, 15, 3, 20},   {17, 113, 20, 0, 20}, {0, 120, 0, 20, 27}, {17, 120, 27, 0, 27},
        {16, 120, 16, 10, 27}, {5, 99, 5, 0, 5},     {9, 103, 9, 0, 9},   {28, 120, 28, 0, 28},
    };
    struct copy_position p = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 0, 5);

    add_range(place, 100, 10);
    copy_place_look(place, 15);
    copy_place_look(place, 17);
    add_range(place, 110, 10);
    copy_place_look(place, 27);
    ck_assert(copy_place_is_sure(place));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t at = copy_place_find(place, cases[i].from, cases[i].old_offset, false);
        ck_assert_int_eq(at, cases[i].want);
        ck_assert_int_eq(copy_place_again(place, cases[i].old_offset, at), cases[i].again);
        ck_assert_int_eq(copy_place_find(place, cases[i].from, cases[i].old_offset, true),
                         cases[i].skipping);
    }
    copy_position_fini(&p);
}
END_TEST

START_TEST(what_lies_between_others_is_forgotten)
{
    /* Six of ours, then five while others wrote two: where those five are is not known, so a group
     * that has not consumed all of them goes on where they may begin, also when it skips. */
    struct copy_position p = {.base = 0};
    struct copy_position back = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 0, 0);
    struct buf out;

    add_range(place, 0, 6);
    copy_place_look(place, 6);
    add_range(place, 6, 5);
    ck_assert(!copy_place_is_sure(place));
    copy_place_look(place, 13);
    add_range(place, 11, 2);
    copy_place_look(place, 15);
    buf_init(&out, 0);
    copy_position_encode(&out, NAME, &p);
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), NAME, &back), 0);
    place = &back.places[0];
    ck_assert_int_eq(copy_place_find(place, 0, 4, false), 4);
    ck_assert_int_eq(copy_place_find(place, 0, 8, false), 6);
    ck_assert_int_eq(copy_place_again(place, 8, 6), 2);
    ck_assert_int_eq(copy_place_find(place, 0, 8, true), 6);
    ck_assert_int_eq(copy_place_find(place, 0, 12, false), 6);
    ck_assert_int_eq(copy_place_again(place, 12, 6), 6);
    ck_assert_int_eq(copy_place_find(place, 0, 12, true), 14);
    ck_assert_int_eq(copy_place_find(place, 13, 12, false), 14);
    buf_fini(&out);
    copy_position_fini(&back);
    copy_position_fini(&p);
}
END_TEST

START_TEST(a_queue_that_ends_earlier_than_it_did_has_lost_what_was_behind)
{
    /*
     * The target was put back: what it does not have is not told by, and the next run begins there.
     */
    struct copy_position p = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 0, 0);

    add_range(place, 0, 6);
    copy_place_look(place, 6);
    copy_place_look(place, 4);
    ck_assert_int_eq(place->next, 6);
    ck_assert_int_eq(copy_place_count(place, 0, 0, INT64_MAX), 4);
    add_range(place, 6, 1);
    copy_place_look(place, 5);
    ck_assert_int_eq(copy_place_find(place, 0, 6, false), 4);
    copy_position_fini(&p);
}
END_TEST

START_TEST(any_number_of_gaps_fits)
{
    /* Every second offset is missing, 100,000 times: the position is shrunk whenever it is longer
     * than may be stored, offsets in the newer half are told exactly, older ones never too high. */
    enum { LIMIT = 4096, MESSAGES = 100000 };
    struct copy_position p = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 3, 7);
    struct buf out;
    int64_t exact = 0;

    buf_init(&out, 0);
    for (int64_t i = 0; i < MESSAGES; i++) {
        ck_assert_int_eq(copy_place_add(place, 2 * i), 0);
        if (i % 500 == 499) {
            copy_place_look(place, place->end);
            do {
                buf_clear(&out);
                copy_position_encode(&out, NAME, &p);
            } while (out.len > LIMIT && copy_position_shrink(&p));
            ck_assert_uint_le(out.len, LIMIT);
        }
    }
    ck_assert_int_eq(place->end, 7 + MESSAGES);
    ck_assert_int_eq(copy_place_count(place, 0, 0, INT64_MAX), MESSAGES);
    for (int64_t i = 0; i < MESSAGES; i += 7) {
        int64_t at = copy_place_find(place, 7, 2 * i, false);
        ck_assert_int_le(at, 7 + i);
        ck_assert_int_ge(copy_place_again(place, 2 * i, at), 7 + i - at);
        exact += at == 7 + i ? 1 : 0;
    }
    ck_assert_int_gt(exact, 20);
    ck_assert_int_eq(copy_place_find(place, 7, 2 * (MESSAGES - 1), false), 7 + MESSAGES - 1);
    ck_assert_int_eq(copy_place_find(place, 7, 2 * MESSAGES, false), 7 + MESSAGES);
    copy_position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(runs_between_others_are_dropped_when_there_are_too_many)
{
    /* They cannot become one: the older half is forgotten, and offsets in it are told as the first
     * new one that is not known. */
    struct copy_position p = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 0, 0);

    for (int64_t i = 0; i < 8; i++) {
        ck_assert_int_eq(copy_place_add(place, i), 0);
        copy_place_look(place, place->end);
        copy_place_look(place, place->end + 1);
    }
    ck_assert_uint_eq(place->run_count, 8);
    ck_assert(copy_position_shrink(&p));
    ck_assert_uint_eq(place->run_count, 4);
    ck_assert_int_eq(copy_place_find(place, 1, 3, true), 1);
    ck_assert_int_eq(copy_place_find(place, 1, 6, true), 12);
    while (copy_position_shrink(&p)) {
        ck_assert_uint_lt(place->run_count, 4);
    }
    ck_assert_uint_eq(place->run_count, 1);
    copy_position_fini(&p);
}
END_TEST

START_TEST(hostile_positions_are_refused)
{
    /* Every prefix, something behind the end, and bytes changed at random: an error or a position
     * that can be written again; never a leak. */
    struct copy_position p;
    struct copy_position back = {.base = 0};
    int64_t live;
    struct buf out;
    struct rand random;

    fill(&p);
    buf_init(&out, 0);
    copy_position_encode(&out, NAME, &p);
    live = mem_live_count();
    for (size_t len = 0; len < out.len; len++) {
        ck_assert_int_eq(copy_position_decode(slice_of(out.ptr, len), NAME, &back), ESCROW_EPROTO);
        ck_assert_int_eq(mem_live_count(), live);
    }
    rand_init(&random, 1);
    for (int i = 0; i < 20000; i++) {
        size_t at = (size_t)rand_below(&random, out.len);
        uint8_t was = out.ptr[at];
        out.ptr[at] = (uint8_t)rand_u64(&random);
        if (copy_position_decode(buf_slice(&out), NAME, &back) == 0) {
            struct buf again;
            buf_init(&again, 0);
            copy_position_encode(&again, NAME, &back);
            ck_assert(slice_eq(buf_slice(&again), buf_slice(&out)));
            buf_fini(&again);
            copy_position_fini(&back);
        }
        ck_assert_int_eq(mem_live_count(), live);
        out.ptr[at] = was;
    }
    buf_append_u8(&out, 0);
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), NAME, &back), ESCROW_EPROTO);
    out.ptr[0] = 1;
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), NAME, &back), ESCROW_EVERSION);
    copy_position_fini(&p);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/tools/copy/position");
    TCase *tc = tcase_create("copy_position");

    tcase_add_test(tc, a_position_survives_the_round_trip);
    tcase_add_test(tc, an_old_offset_is_told_as_the_new_one_of_the_same_message);
    tcase_add_test(tc, messages_of_others_are_neither_passed_over_nor_taken_for_copied_ones);
    tcase_add_test(tc, what_lies_between_others_is_forgotten);
    tcase_add_test(tc, a_queue_that_ends_earlier_than_it_did_has_lost_what_was_behind);
    tcase_add_test(tc, any_number_of_gaps_fits);
    tcase_add_test(tc, runs_between_others_are_dropped_when_there_are_too_many);
    tcase_add_test(tc, hostile_positions_are_refused);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
