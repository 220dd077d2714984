#include "core/base/md5.h"

#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <string.h>

static void expect(struct slice data, const char *hex)
{
    uint8_t digest[MD5_SIZE];
    char text[2 * MD5_SIZE + 1];

    md5(data, digest);
    for (size_t i = 0; i < MD5_SIZE; i++) {
        (void)snprintf(text + 2 * i, 3, "%02x", digest[i]);
    }
    ck_assert_str_eq(text, hex);
}

/* The digests of RFC 1321, A.5. */
START_TEST(published_digests_match)
{
    expect(SLICE_EMPTY, "d41d8cd98f00b204e9800998ecf8427e");
    expect(slice_str("a"), "0cc175b9c0f1b6a831c399e269772661");
    expect(slice_str("abc"), "900150983cd24fb0d6963f7d28e17f72");
    expect(slice_str("message digest"), "f96b697d7cb7938d525a2f31aaf161d0");
    expect(slice_str("abcdefghijklmnopqrstuvwxyz"), "c3fcd3d76192e4007dfb496cca67e13b");
    expect(slice_str("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
           "d174ab98d277d9f5a5611c2c9f419d9f");
    expect(slice_str("1234567890123456789012345678901234567890"
                     "1234567890123456789012345678901234567890"),
           "57edf4a22be3c955ac49da2e2107b67a");
}
END_TEST

/* Where the length of the text just fits behind it, and where it takes another block. */
START_TEST(every_length_around_a_block_is_padded_right)
{
    static const struct {
        size_t len;
        const char *hex;
    } rows[] = {
        {55, "04364420e25c512fd958a70738aa8f72"},  {56, "668a72d5ba17f08e62dabcafad6db14b"},
        {63, "7dc2ca208106a2f703567bdff99d8981"},  {64, "c1bb4f81d892b2d57947682aeb252456"},
        {65, "1bc932052302d074bdec39795fe00cf6"},  {119, "ab347a5f68c8a443cfcddc633f12c24f"},
        {120, "fb98667f98096de92620b64f46e1c5b5"}, {128, "d69cb61a6ee87200676eb0d4b90edbcb"},
    };
    char text[130];

    memset(text, 'x', sizeof text);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        expect(slice_of(text, rows[i].len), rows[i].hex);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/md5");
    TCase *tests = tcase_create("all");

    tcase_add_test(tests, published_digests_match);
    tcase_add_test(tests, every_length_around_a_block_is_padded_right);
    suite_add_tcase(suite, tests);
    return unit_run(suite);
}
