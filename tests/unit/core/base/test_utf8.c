#include "core/base/utf8.h"

#include "tests/unit/core/base/unit_main.h"

#include <string.h>

START_TEST(what_is_well_formed_passes_and_the_rest_is_replaced)
{
    /* One of each length; overlong, surrogate, too high, cut off, a continuation alone. */
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"", ""},
        {"plain", "plain"},
        {"\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", "\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80"},
        {"a\xFF"
         "b",
         "a?b"},
        {"\xC0\xAF", "??"},
        {"\xE0\x80\x80", "???"},
        {"\xED\xA0\x80", "???"},
        {"\xF4\x90\x80\x80", "????"},
        {"\xF8", "?"},
        {"\xE2\x82", "??"},
        {"\x80x", "?x"},
    };
    char text[64];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_str_eq(utf8_clean(rows[i].in, text, sizeof text), rows[i].out);
    }
}
END_TEST

START_TEST(a_cut_never_leaves_half_a_character)
{
    /* Every size, down to none. */
    char text[8];

    for (size_t size = 1; size < sizeof text; size++) {
        (void)utf8_clean("a\xE2\x82\xAC\xC3\xA9", text, size);
        ck_assert_uint_eq(strlen(text), size == 1 ? 0 : size < 5 ? 1 : size < 7 ? 4 : 6);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/utf8");
    TCase *tc = tcase_create("utf8");

    tcase_add_test(tc, what_is_well_formed_passes_and_the_rest_is_replaced);
    tcase_add_test(tc, a_cut_never_leaves_half_a_character);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
