#include "src/broker/request_modes.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

static struct request_modes modes;
static const struct hash_key hash_key = {1, 2};

static void set_up(void)
{
    request_modes_init(&modes, hash_key);
}

static void tear_down(void)
{
    request_modes_fini(&modes);
    ck_assert_int_eq(mem_live_count(), 0);
}

static int apply(const char *group, const char *topic, enum request_mode mode, int32_t share)
{
    struct mode_request req = {
        .group = slice_str(group), .topic = slice_str(topic), .mode = mode, .share_queues = share};
    struct buf payload;
    int rc;

    buf_init(&payload, 0);
    request_mode_encode(&payload, &req);
    rc = request_modes_apply(&modes, buf_slice(&payload), NULL);
    buf_fini(&payload);
    return rc;
}

/* "PULL" or the number of members that share. */
static void expect(const struct request_modes *m, const char *group, const char *topic,
                   enum request_mode mode, int32_t share)
{
    int32_t got = -1;

    ck_assert_int_eq(request_modes_find(m, slice_str(group), slice_str(topic), &got), mode);
    ck_assert_int_eq(got, share);
}

START_TEST(a_group_pulls_until_told_otherwise)
{
    /* For each topic apart; the last word counts, and pulling again leaves nothing behind. */
    set_up();
    expect(&modes, "g", "T", REQUEST_MODE_PULL, 0);
    ck_assert_int_eq(apply("g", "T", REQUEST_MODE_POP, 2), 0);
    expect(&modes, "g", "T", REQUEST_MODE_POP, 2);
    expect(&modes, "g", "T2", REQUEST_MODE_PULL, 0);
    expect(&modes, "gT", "", REQUEST_MODE_PULL, 0);
    ck_assert_int_eq(apply("g", "T", REQUEST_MODE_POP, 3), 0);
    expect(&modes, "g", "T", REQUEST_MODE_POP, 3);
    ck_assert_int_eq(apply("g", "T", REQUEST_MODE_PULL, 0), 0);
    expect(&modes, "g", "T", REQUEST_MODE_PULL, 0);
    ck_assert_uint_eq(modes.by_pair.count, 0);
    tear_down();
}
END_TEST

START_TEST(what_is_gone_takes_its_modes_along)
{
    /* All of a group, or of a topic; nothing else. */
    static const char *const groups[] = {"g", "h"};
    static const char *const topics[] = {"T", "U", "g"};

    set_up();
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(apply(groups[i / 3], topics[i % 3], REQUEST_MODE_POP, 1), 0);
    }
    request_modes_remove(&modes, SLICE_LIT("g"), SLICE_EMPTY);
    ck_assert_uint_eq(modes.by_pair.count, 3);
    expect(&modes, "g", "T", REQUEST_MODE_PULL, 0);
    expect(&modes, "h", "g", REQUEST_MODE_POP, 1);
    request_modes_remove(&modes, SLICE_EMPTY, SLICE_LIT("T"));
    ck_assert_uint_eq(modes.by_pair.count, 2);
    expect(&modes, "h", "T", REQUEST_MODE_PULL, 0);
    expect(&modes, "h", "U", REQUEST_MODE_POP, 1);
    tear_down();
}
END_TEST

START_TEST(a_section_has_all_of_them)
{
    /* Saved and loaded; every truncation is corruption, or ends between two entries. */
    struct request_modes back;
    struct buf section;

    set_up();
    buf_init(&section, 0);
    ck_assert_int_eq(apply("g", "T", REQUEST_MODE_POP, 2), 0);
    ck_assert_int_eq(apply("h", "T", REQUEST_MODE_POP, 2), 0);
    request_modes_save(&modes, &section);
    for (size_t n = 0; n <= section.len; n++) {
        request_modes_init(&back, hash_key);
        if (n % (section.len / 2) == 0) {
            ck_assert_int_eq(request_modes_load(&back, slice_of(section.ptr, n), NULL), 0);
            ck_assert_uint_eq(back.by_pair.count, n / (section.len / 2));
        } else {
            ck_assert_int_eq(request_modes_load(&back, slice_of(section.ptr, n), NULL),
                             ESCROW_ECORRUPT);
        }
        if (n == section.len) {
            expect(&back, "g", "T", REQUEST_MODE_POP, 2);
            expect(&back, "h", "T", REQUEST_MODE_POP, 2);
        }
        request_modes_fini(&back);
    }
    buf_fini(&section);
    tear_down();
}
END_TEST

START_TEST(a_record_that_makes_no_sense_is_corruption)
{
    /* Names that are none, a mode that is none, more than one entry. */
    set_up();
    ck_assert_int_eq(apply("", "T", REQUEST_MODE_POP, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply("g", "", REQUEST_MODE_POP, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply("g\001", "T", REQUEST_MODE_POP, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(request_modes_apply(&modes, slice_of("\1\0g\1\0T\2\0\0\0\0", 11), NULL),
                     ESCROW_ECORRUPT);
    ck_assert_int_eq(request_modes_apply(&modes, slice_of("\1\0g\1\0T\1\0\0\0\0\0", 12), NULL),
                     ESCROW_ECORRUPT);
    ck_assert_int_eq(request_modes_apply(&modes, SLICE_EMPTY, NULL), ESCROW_ECORRUPT);
    ck_assert_uint_eq(modes.by_pair.count, 0);
    tear_down();
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/request_modes");
    TCase *tc = tcase_create("modes");

    tcase_add_test(tc, a_group_pulls_until_told_otherwise);
    tcase_add_test(tc, what_is_gone_takes_its_modes_along);
    tcase_add_test(tc, a_section_has_all_of_them);
    tcase_add_test(tc, a_record_that_makes_no_sense_is_corruption);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
