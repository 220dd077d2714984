#include "src/broker/retention.h"

#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

START_TEST(hours_are_read_as_rocketmq_writes_them)
{
    /* One, several, with or without a leading zero; or any. */
    static const struct {
        const char *text;
        uint32_t hours;
    } cases[] = {
        {"04", 1u << 4},         {"4", 1u << 4},
        {"0;23", 1u | 1u << 23}, {"04;04;16", 1u << 4 | 1u << 16},
        {"any", 0xffffff},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t hours = 0;
        ck_assert_int_eq(retention_hours_parse(slice_str(cases[i].text), &hours), 0);
        ck_assert_uint_eq(hours, cases[i].hours);
    }
}
END_TEST

START_TEST(what_is_no_hour_is_refused)
{
    /* Out of range, too long, empty, other words and signs. */
    static const char *const bad[] = {"",   "24",  "99", "004", ";",    "4;",    ";4",
                                      "-1", "4 5", "4,", "all", "any;", "04:00", " 4"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t hours;
        ck_assert_msg(retention_hours_parse(slice_str(bad[i]), &hours) == ESCROW_EINVAL, "%s",
                      bad[i]);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/retention");
    TCase *tc = tcase_create("retention");

    tcase_add_test(tc, hours_are_read_as_rocketmq_writes_them);
    tcase_add_test(tc, what_is_no_hour_is_refused);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
