#include "core/base/crc32c.h"

#include "core/base/rand.h"
#include "tests/unit/core/base/unit_main.h"

#include <string.h>

START_TEST(published_vectors_match)
{
    /* RFC 3720, B.4: zeros, ones, rising, falling; and the usual "123456789". */
    uint8_t data[32];

    memset(data, 0, sizeof data);
    ck_assert_uint_eq(crc32c(0, data, 32), 0x8A9136AA);
    memset(data, 0xFF, sizeof data);
    ck_assert_uint_eq(crc32c(0, data, 32), 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = i;
    }
    ck_assert_uint_eq(crc32c(0, data, 32), 0x46DD794E);
    for (uint8_t i = 0; i < 32; i++) {
        data[i] = (uint8_t)(31 - i);
    }
    ck_assert_uint_eq(crc32c(0, data, 32), 0x113FDB5C);
    ck_assert_uint_eq(crc32c(0, "123456789", 9), 0xE3069283);
    ck_assert_uint_eq(crc32c_portable(0, "123456789", 9), 0xE3069283);
    ck_assert_uint_eq(crc32c(0, "", 0), 0);
}
END_TEST

START_TEST(the_instruction_and_the_table_agree)
{
    /*
     * Every length up to a few rounds of three lanes (384 bytes each), at every alignment, and cut
     * in two somewhere.
     */
    uint8_t data[1300];
    struct rand r;

    rand_init(&r, 1);
    for (size_t i = 0; i < sizeof data; i++) {
        data[i] = (uint8_t)rand_u64(&r);
    }
    for (size_t start = 0; start < 8; start++) {
        for (size_t len = 0; len <= 1290; len++) {
            uint32_t whole = crc32c(0, data + start, len);
            size_t cut = rand_below(&r, len + 1);

            ck_assert_uint_eq(whole, crc32c_portable(0, data + start, len));
            ck_assert_uint_eq(whole,
                              crc32c(crc32c(0, data + start, cut), data + start + cut, len - cut));
        }
    }
}
END_TEST

START_TEST(every_flipped_bit_is_noticed)
{
    /* One bit anywhere in a record. */
    uint8_t data[100] = "a record of the log";
    uint32_t whole = crc32c(0, data, sizeof data);

    for (size_t bit = 0; bit < 8 * sizeof data; bit++) {
        data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        ck_assert_uint_ne(crc32c(0, data, sizeof data), whole);
        data[bit / 8] ^= (uint8_t)(1U << (bit % 8));
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/crc32c");
    TCase *tc = tcase_create("crc32c");

    tcase_add_test(tc, published_vectors_match);
    tcase_add_test(tc, the_instruction_and_the_table_agree);
    tcase_add_test(tc, every_flipped_bit_is_noticed);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
