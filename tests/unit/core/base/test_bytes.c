#include "core/base/bytes.h"

#include "tests/unit/core/base/unit_main.h"

START_TEST(bytes_are_in_the_named_order)
{
    /* Known bytes, written and read at an odd address. */
    uint8_t raw[9];

    put_be16(raw + 1, 0x1234);
    ck_assert_mem_eq(raw + 1, "\x12\x34", 2);
    ck_assert_uint_eq(get_be16(raw + 1), 0x1234);
    put_le16(raw + 1, 0x1234);
    ck_assert_mem_eq(raw + 1, "\x34\x12", 2);
    ck_assert_uint_eq(get_le16(raw + 1), 0x1234);
    put_be32(raw + 1, 0xDAA320A7);
    ck_assert_mem_eq(raw + 1, "\xDA\xA3\x20\xA7", 4);
    ck_assert_uint_eq(get_be32(raw + 1), 0xDAA320A7);
    put_le32(raw + 1, 0xDAA320A7);
    ck_assert_mem_eq(raw + 1, "\xA7\x20\xA3\xDA", 4);
    ck_assert_uint_eq(get_le32(raw + 1), 0xDAA320A7);
    put_be64(raw + 1, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(raw + 1, "\1\2\3\4\5\6\7\10", 8);
    ck_assert_uint_eq(get_be64(raw + 1), UINT64_C(0x0102030405060708));
    put_le64(raw + 1, UINT64_C(0x0102030405060708));
    ck_assert_mem_eq(raw + 1, "\10\7\6\5\4\3\2\1", 8);
    ck_assert_uint_eq(get_le64(raw + 1), UINT64_C(0x0102030405060708));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/bytes");
    TCase *tc = tcase_create("bytes");

    tcase_add_test(tc, bytes_are_in_the_named_order);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
