#include "src/tools/copy/position.h"

#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#define NAME SLICE_LIT("cluster\0broker\0topic\0")

/* Two queues: one whole, one with a gap of ten behind its third message. */
static void fill(struct copy_position *p)
{
    static const int64_t offsets[] = {100, 101, 102, 113, 114};
    struct copy_place *place;

    *p = (struct copy_position){.base = 8};
    place = copy_position_add(p, 5, 1000);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(copy_place_add(place, offsets[i]), 0);
    }
    place->state = COPY_MIXED;
    place->last_ms = 1700000000123;
    place = copy_position_add(p, 2, 0);
    ck_assert_int_eq(copy_place_add(place, 0), 0);
    place->state = COPY_CLEAN;
}

START_TEST(a_position_survives_the_round_trip)
{
    /* Base, queues in their order whatever the order they came in, state, start and runs. */
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
    ck_assert_ptr_null(copy_position_find(&back, 3));
    place = copy_position_find(&back, 5);
    ck_assert_ptr_nonnull(place);
    ck_assert_int_eq(place->state, COPY_MIXED);
    ck_assert_int_eq(place->start, 1000);
    ck_assert_int_eq(place->last_ms, 1700000000123);
    ck_assert_uint_eq(place->run_count, 2);
    ck_assert_int_eq(copy_place_total(place), 5);
    ck_assert_int_eq(copy_place_next(place), 115);
    ck_assert_int_eq(copy_position_decode(buf_slice(&out), SLICE_LIT("other"), &back),
                     ESCROW_EFOREIGN);
    copy_position_fini(&back);
    copy_position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(an_old_offset_is_told_as_the_new_one_of_the_same_message)
{
    /* Before the first, each of both runs, into the gap, and behind the last. */
    static const struct {
        int64_t old_offset;
        int64_t want;
    } cases[] = {{0, 1000},   {100, 1000}, {101, 1001}, {102, 1002}, {103, 1003},      {112, 1003},
                 {113, 1003}, {114, 1004}, {115, 1005}, {116, 1005}, {INT64_MAX, 1005}};
    struct copy_position p;

    fill(&p);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(copy_place_find(copy_position_find(&p, 5), cases[i].old_offset),
                         cases[i].want);
    }
    copy_position_fini(&p);
}
END_TEST

START_TEST(gaps_are_bounded)
{
    /* One run more than there may be is refused, and what was there still counts. */
    struct copy_position p = {.base = 0};
    struct copy_place *place = copy_position_add(&p, 0, 0);

    for (int64_t i = 0; i < COPY_RUNS_MAX; i++) {
        ck_assert_int_eq(copy_place_add(place, 2 * i), 0);
    }
    ck_assert_int_eq(copy_place_add(place, 1000), ESCROW_ELIMIT);
    ck_assert_int_eq(copy_place_add(place, 2 * COPY_RUNS_MAX - 1), 0);
    ck_assert_int_eq(copy_place_total(place), COPY_RUNS_MAX + 1);
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
    out.ptr[0] = 2;
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
    tcase_add_test(tc, gaps_are_bounded);
    tcase_add_test(tc, hostile_positions_are_refused);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
