#include "core/base/slice.h"
#include "src/client/client_private.h"
#include "tests/unit/src/client/client_main.h"

#include <string.h>

static uint64_t number;
static char text[8];

static int read_one(const char *key, const char *value)
{
    const struct escrow_option options[] = {{key, value}, {NULL, NULL}};
    const struct option_spec specs[] = {
        {.key = "number", .number = &number, .min = 1, .max = 100},
        {.key = "text", .text = text, .text_size = sizeof text},
    };

    return options_read(options, specs, 2);
}

/* No options at all are fine, and leave the defaults. */
START_TEST(none_means_defaults)
{
    const struct escrow_option empty[] = {{NULL, NULL}};

    number = 5;
    ck_assert_int_eq(options_read(NULL, NULL, 0), 0);
    ck_assert_int_eq(options_read(empty, NULL, 0), 0);
    ck_assert_uint_eq(number, 5);
}
END_TEST

/* Numbers within their bounds and texts that fit are taken. */
START_TEST(values_in_bounds_are_taken)
{
    ck_assert_int_eq(read_one("number", "1"), 0);
    ck_assert_uint_eq(number, 1);
    ck_assert_int_eq(read_one("number", "100"), 0);
    ck_assert_uint_eq(number, 100);
    ck_assert_int_eq(read_one("text", "1234567"), 0);
    ck_assert_str_eq(text, "1234567");
}
END_TEST

/* Everything else is refused with a text that names the key, and changes nothing. */
START_TEST(what_is_wrong_is_named)
{
    static const char *const bad[][2] = {{"number", "0"},      {"number", "101"}, {"number", "-1"},
                                         {"number", ""},       {"number", "1x"},  {"number", " 1"},
                                         {"text", "12345678"}, {"number", NULL},  {"nombre", "1"}};

    number = 7;
    (void)slice_to_cstr(SLICE_LIT("old"), text, sizeof text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(read_one(bad[i][0], bad[i][1]), ESCROW_ECONFIG);
        ck_assert_msg(strstr(escrow_last_error(), bad[i][0]) != NULL, "%s", escrow_last_error());
    }
    ck_assert_uint_eq(number, 7);
    ck_assert_str_eq(text, "old");
}
END_TEST

int main(void)
{
    const TTest *const tests[] = {none_means_defaults, values_in_bounds_are_taken,
                                  what_is_wrong_is_named};

    return client_main("client_options", tests, sizeof tests / sizeof tests[0]);
}
