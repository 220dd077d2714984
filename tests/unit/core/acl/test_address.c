/* Address patterns: which are understood, and what each matches. */
#include "core/acl/address.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <arpa/inet.h>

static bool matches(const char *pattern, const char *address)
{
    struct address_pattern p;
    uint8_t ip[16];
    bool is_v6 = strchr(address, ':') != NULL;

    ck_assert_msg(address_parse(slice_str(pattern), &p) == 0, "%s", pattern);
    ck_assert_int_eq(inet_pton(is_v6 ? AF_INET6 : AF_INET, address, ip), 1);
    return address_matches(&p, ip, is_v6 ? 16 : 4);
}

START_TEST(a_pattern_matches_what_it_says)
{
    /* Each kind, one address in it and one beside it. */
    static const struct {
        const char *pattern, *in, *beside;
    } rows[] = {
        {"10.1.2.3", "10.1.2.3", "10.1.2.4"},
        {"10.0.0.0/8", "10.255.0.1", "11.0.0.0"},
        {"192.168.4.0/22", "192.168.7.255", "192.168.8.0"},
        {"10.1.2.3/32", "10.1.2.3", "10.1.2.2"},
        {"0.0.0.0/0", "255.255.255.255", "::1"},
        {"192.168.1.*", "192.168.1.77", "192.168.2.77"},
        {"192.168.*.*", "192.168.9.9", "192.169.9.9"},
        {"192.168.1-10.5", "192.168.10.5", "192.168.11.5"},
        {"10.0.0.{1,7,99}", "10.0.0.7", "10.0.0.2"},
        {"fd00::1", "fd00::1", "fd00::2"},
        {"fd00::/12", "fd0f::1", "fd10::1"},
        {"::/0", "fe80::1", "127.0.0.1"},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(matches(rows[i].pattern, rows[i].in), "%s", rows[i].pattern);
        ck_assert_msg(!matches(rows[i].pattern, rows[i].beside), "%s", rows[i].pattern);
    }
    ck_assert(matches("*", "1.2.3.4"));
    ck_assert(matches("*", "::1"));
}
END_TEST

START_TEST(what_is_no_pattern_is_refused)
{
    /* Slips that would open more than was meant, among them. */
    static const char *const rows[] = {"",
                                       " ",
                                       "10.0.0",
                                       "10.0.0.256",
                                       "10.0.0.1.2",
                                       "10.0.0.1/33",
                                       "10.0.0.1/8",
                                       "10.*.0.0/16",
                                       "10.0.0.9-3",
                                       "10.{1,2}.0.0",
                                       "10.0.0.{}",
                                       "10.0.0.{1,2",
                                       "10.0.0.{1}x",
                                       "fd00::1/8",
                                       "fd00::/129",
                                       "fd00::/",
                                       ":",
                                       "localhost",
                                       "10.0.0.-1",
                                       "10.0.0.1/",
                                       "1.2.3.0001",
                                       "10.0.0.1 ",
                                       "**"};
    struct address_pattern p;

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_msg(address_parse(slice_str(rows[i]), &p) == ESCROW_EINVAL, "%s", rows[i]);
    }
}
END_TEST

START_TEST(an_unknown_address_matches_only_everything)
{
    /* A peer without an address is not let in by a network. */
    static const uint8_t none[16];
    struct address_pattern p;

    ck_assert_int_eq(address_parse(SLICE_LIT("0.0.0.0/0"), &p), 0);
    ck_assert(!address_matches(&p, none, 0));
    ck_assert_int_eq(address_parse(SLICE_LIT("::/0"), &p), 0);
    ck_assert(!address_matches(&p, none, 0));
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("address");

    tcase_add_test(tc, a_pattern_matches_what_it_says);
    tcase_add_test(tc, what_is_no_pattern_is_refused);
    tcase_add_test(tc, an_unknown_address_matches_only_everything);
    return run_tests(tc, "core/acl/address");
}
