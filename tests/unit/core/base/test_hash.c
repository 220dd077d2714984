#include "core/base/hash.h"

#include "tests/unit/core/base/unit_main.h"

static const struct {
    size_t len;
    uint64_t hash;
} vectors[] = {
    /* SipHash-1-3, key 00 01 .. 0f, data 00 01 .. : from the reference algorithm, the first as in
     * Rust's tests. */
    {0, UINT64_C(0xabac0158050fc4dc)},  {1, UINT64_C(0xc9f49bf37d57ca93)},
    {7, UINT64_C(0xd3927d989bb11140)},  {8, UINT64_C(0x369095118d299a8e)},
    {15, UINT64_C(0xd320d86d2a519956)}, {16, UINT64_C(0xcc4fdd1a7d908b66)},
    {63, UINT64_C(0x9d199062b7bbb3a8)},
};

START_TEST(published_vectors_match)
{
    /* Every way a length ends within a word. */
    struct hash_key key = {.k0 = UINT64_C(0x0706050403020100), .k1 = UINT64_C(0x0f0e0d0c0b0a0908)};
    uint8_t data[64];

    for (uint8_t i = 0; i < 64; i++) {
        data[i] = i;
    }
    ck_assert_uint_eq(hash64(&key, slice_of(data, vectors[_i].len)), vectors[_i].hash);
}
END_TEST

START_TEST(the_key_decides)
{
    /* Another key, another hash; and the halves of a wide hash are not the same. */
    struct hash_key a = {.k0 = 1, .k1 = 2};
    struct hash_key b = {.k0 = 1, .k1 = 3};
    struct hash128 wide = hash_wide(&a, SLICE_LIT("id"));

    ck_assert_uint_ne(hash64(&a, SLICE_LIT("id")), hash64(&b, SLICE_LIT("id")));
    ck_assert_uint_eq(wide.lo, hash64(&a, SLICE_LIT("id")));
    ck_assert_uint_ne(wide.lo, wide.hi);
}
END_TEST

START_TEST(integers_are_spread)
{
    /* Neighbours differ in their low bits, which is what tables use. */
    uint64_t seen = 0;

    for (uint64_t i = 0; i < 1000; i++) {
        seen |= UINT64_C(1) << (hash_u64(i << 20) & 63);
    }
    ck_assert_uint_eq(seen, UINT64_MAX);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("core/base/hash");
    TCase *tc = tcase_create("hash");

    tcase_add_loop_test(tc, published_vectors_match, 0, (int)(sizeof vectors / sizeof vectors[0]));
    tcase_add_test(tc, the_key_decides);
    tcase_add_test(tc, integers_are_spread);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
