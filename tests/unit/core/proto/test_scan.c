#include "core/proto/scan.h"

#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <msgpack.h>

static struct buf bytes;

static void set_up(void)
{
    buf_init(&bytes, 0);
}

static void tear_down(void)
{
    buf_fini(&bytes);
}

/* scan_check over a copy of exact size. */
static int check_exact(struct slice in, struct scan_limits limits)
{
    struct slice copy = copy_exact(in);
    int rc = scan_check(copy, limits);

    free_copy(copy);
    return rc;
}

static int check_hex(const char *text)
{
    buf_clear(&bytes);
    put_hex(&bytes, text);
    return check_exact(buf_slice(&bytes), SCAN_LIMITS_BODY);
}

static int append_packed(void *data, const char *raw, size_t len)
{
    buf_append(data, raw, len);
    return 0;
}

/* A random valid object, containers at most `depth` deep. */
static void pack_random(msgpack_packer *pk, struct rand *r, int depth)
{
    static const char filler[70000];
    static const size_t lens[] = {0, 1, 31, 32, 255, 256, 65535, 65536};
    uint64_t kind = rand_below(r, depth > 0 ? 12 : 10);
    size_t len = rand_below(r, 8) == 0 ? lens[rand_below(r, 8)] : rand_below(r, 40);
    size_t count = rand_below(r, 20);
    size_t i;

    switch (kind) {
    case 0:
        msgpack_pack_nil(pk);
        break;
    case 1:
        msgpack_pack_true(pk);
        break;
    case 2:
        msgpack_pack_false(pk);
        break;
    case 3:
        msgpack_pack_int64(pk, (int64_t)(rand_u64(r) >> rand_below(r, 64)));
        break;
    case 4:
        msgpack_pack_int64(pk, -(int64_t)(rand_u64(r) >> (1 + rand_below(r, 63))));
        break;
    case 5:
        msgpack_pack_uint64(pk, rand_u64(r));
        break;
    case 6:
        msgpack_pack_float(pk, 1.5F);
        msgpack_pack_double(pk, 2.5);
        break;
    case 7:
        msgpack_pack_str(pk, len);
        msgpack_pack_str_body(pk, filler, len);
        break;
    case 8:
        msgpack_pack_bin(pk, len);
        msgpack_pack_bin_body(pk, filler, len);
        break;
    case 9:
        msgpack_pack_ext(pk, len, 5);
        msgpack_pack_ext_body(pk, filler, len);
        break;
    case 10:
        msgpack_pack_array(pk, count);
        for (i = 0; i < count; i++) {
            msgpack_packer inner = *pk;
            struct buf item;
            buf_init(&item, 0);
            inner.data = &item;
            do { /* one element exactly: case 6 packs two */
                buf_clear(&item);
                pack_random(&inner, r, depth - 1);
            } while (scan_check(buf_slice(&item), SCAN_LIMITS_BODY) != 0);
            append_packed(pk->data, (const char *)item.ptr, item.len);
            buf_fini(&item);
        }
        break;
    default:
        msgpack_pack_map(pk, count);
        for (i = 0; i < count * 2; i++) {
            msgpack_pack_int64(pk, (int64_t)rand_u64(r));
        }
        break;
    }
}

START_TEST(what_msgpack_packs_is_walked_to_its_last_byte)
{
    /* Random objects: skip ends exactly where msgpack-c ends, for every object in the stream. */
    struct rand r;
    int round;

    rand_init(&r, 1);
    for (round = 0; round < 1500; round++) {
        msgpack_packer pk;
        struct scan s;
        size_t at = 0;

        buf_clear(&bytes);
        msgpack_packer_init(&pk, &bytes, append_packed);
        pack_random(&pk, &r, 4);
        scan_init(&s, buf_slice(&bytes));
        while (at < bytes.len) {
            msgpack_unpacked result;
            msgpack_unpacked_init(&result);
            ck_assert_int_eq(msgpack_unpack_next(&result, (const char *)bytes.ptr, bytes.len, &at),
                             MSGPACK_UNPACK_SUCCESS);
            ck_assert_int_eq(scan_skip(&s, SCAN_LIMITS_BODY), 0);
            ck_assert_ptr_eq(s.ptr, bytes.ptr + at);
            msgpack_unpacked_destroy(&result);
        }
        ck_assert_uint_eq(scan_left(&s), 0);
    }
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    /*
     * All prefixes of an object with every kind in it: an error, and no byte behind the end is
     * read.
     */
    size_t len;

    put_hex(&bytes, "8a a161 c0 a162 c2 a163 c3 a164 cc80 a165 d2ffffff00 a166 cb3ff8000000000000"
                    "a167 d903616263 a168 c4020102 a169 93010203 a16a c702050405");
    ck_assert_int_eq(check_exact(buf_slice(&bytes), SCAN_LIMITS_BODY), 0);
    for (len = 0; len < bytes.len; len++) {
        ck_assert_int_eq(check_exact(slice_of(bytes.ptr, len), SCAN_LIMITS_BODY), ESCROW_EPROTO);
    }
    buf_append_u8(&bytes, 0xc0);
    ck_assert_int_eq(check_exact(buf_slice(&bytes), SCAN_LIMITS_BODY), ESCROW_EPROTO);
}
END_TEST

START_TEST(counts_above_the_bytes_left_are_refused)
{
    /* The five bytes that make msgpack_unpack ask for 2 GiB, and their relatives. */
    ck_assert_int_eq(check_hex("dd 04000000"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("dd ffffffff"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("df ffffffff c0c0"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("df 80000000 c0c0"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("dc ffff c0"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("db ffffffff 61"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("c6 ffffffff 61"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("c9 ffffffff 01 61"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("82 a161 01 a162"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("c1"), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex(""), ESCROW_EPROTO);
    ck_assert_int_eq(check_hex("91 c1"), ESCROW_EPROTO);
}
END_TEST

START_TEST(a_count_is_refused_before_its_elements_are_looked_at)
{
    /* Callers size arrays by it: a map of two pairs with three bytes left fails at its head. */
    struct scan s;
    uint32_t count = 0;

    put_hex(&bytes, "82 01 02 03");
    scan_init(&s, buf_slice(&bytes));
    ck_assert_int_eq(scan_map(&s, &count), ESCROW_EPROTO);
    buf_clear(&bytes);
    put_hex(&bytes, "94 01 02 03");
    scan_init(&s, buf_slice(&bytes));
    ck_assert_int_eq(scan_array(&s, &count), ESCROW_EPROTO);
    ck_assert_uint_eq(count, 0);
}
END_TEST

START_TEST(nesting_ends_at_the_limit)
{
    /* Eight containers inside each other pass, nine do not; maps count like arrays. */
    ck_assert_int_eq(check_hex("91 91 91 91 91 91 91 91 c0"), 0);
    ck_assert_int_eq(check_hex("91 91 91 91 91 91 91 91 91 c0"), ESCROW_ELIMIT);
    ck_assert_int_eq(check_hex("81 01 81 01 81 01 81 01 81 01 81 01 81 01 81 01 90"),
                     ESCROW_ELIMIT);
    ck_assert_int_eq(check_hex("91 91 91 91 91 91 91 90"), 0);
}
END_TEST

START_TEST(deep_nesting_costs_nothing)
{
    /* A megabyte of opening brackets is refused at the ninth. */
    size_t i;

    for (i = 0; i < 1024 * 1024; i++) {
        buf_append_u8(&bytes, 0x91);
    }
    ck_assert_int_eq(check_exact(buf_slice(&bytes), SCAN_LIMITS_BODY), ESCROW_ELIMIT);
}
END_TEST

START_TEST(elements_are_counted_over_the_whole_object)
{
    /*
     * Small arrays inside an array: each is within the bytes left, their sum is above the budget.
     */
    static const struct scan_limits few = {.elements_max = 10, .depth_max = 8};

    put_hex(&bytes, "93 92 0102 92 0102 92 0102");
    ck_assert_int_eq(check_exact(buf_slice(&bytes), few), 0); /* 1 + 3 + 6 */
    buf_clear(&bytes);
    put_hex(&bytes, "93 92 0102 92 0102 93 010203");
    ck_assert_int_eq(check_exact(buf_slice(&bytes), few), ESCROW_ELIMIT);
    buf_clear(&bytes);
    put_hex(&bytes, "9b 0102030405060708090a0b");
    ck_assert_int_eq(check_exact(buf_slice(&bytes), few), ESCROW_ELIMIT);
}
END_TEST

START_TEST(integers_are_read_in_every_format)
{
    /* The edges of each format, signed and unsigned, and what does not fit. */
    static const struct {
        const char *hex;
        int64_t value;
    } rows[] = {
        {"00", 0},
        {"7f", 127},
        {"ff", -1},
        {"e0", -32},
        {"cc ff", 255},
        {"cd ffff", 65535},
        {"ce ffffffff", 4294967295},
        {"cf 7fffffffffffffff", INT64_MAX},
        {"d0 80", -128},
        {"d1 8000", -32768},
        {"d2 80000000", INT32_MIN},
        {"d3 8000000000000000", INT64_MIN},
        {"d3 7fffffffffffffff", INT64_MAX},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct scan s;
        int64_t wide = 1;
        int32_t narrow = 1;
        bool fits = rows[i].value >= INT32_MIN && rows[i].value <= INT32_MAX;

        buf_clear(&bytes);
        put_hex(&bytes, rows[i].hex);
        scan_init(&s, buf_slice(&bytes));
        ck_assert_int_eq(scan_peek(&s), SCAN_INT);
        ck_assert_int_eq(scan_i64(&s, &wide), 0);
        ck_assert_int_eq(wide, rows[i].value);
        ck_assert_uint_eq(scan_left(&s), 0);
        scan_init(&s, buf_slice(&bytes));
        ck_assert_int_eq(scan_i32(&s, &narrow), fits ? 0 : ESCROW_EPROTO);
        ck_assert_int_eq(narrow, fits ? (int32_t)rows[i].value : 1);
        ck_assert_uint_eq(scan_left(&s), fits ? 0 : bytes.len);
    }
}
END_TEST

START_TEST(unsigned_readers_refuse_what_is_negative_or_too_large)
{
    /* The upper half of uint64 is for scan_u64 alone; negative numbers are for neither. */
    struct scan s;
    int64_t i64 = 1;
    uint64_t u64 = 1;
    uint32_t u32 = 1;

    put_hex(&bytes, "cf ffffffffffffffff");
    scan_init(&s, buf_slice(&bytes));
    ck_assert_int_eq(scan_i64(&s, &i64), ESCROW_EPROTO);
    ck_assert_int_eq(scan_u32(&s, &u32), ESCROW_EPROTO);
    ck_assert_int_eq(scan_u64(&s, &u64), 0);
    ck_assert_uint_eq(u64, UINT64_MAX);
    buf_clear(&bytes);
    put_hex(&bytes, "ff ce ffffffff");
    scan_init(&s, buf_slice(&bytes));
    ck_assert_int_eq(scan_u64(&s, &u64), ESCROW_EPROTO);
    ck_assert_int_eq(scan_u32(&s, &u32), ESCROW_EPROTO);
    ck_assert_int_eq(scan_i64(&s, &i64), 0);
    ck_assert_int_eq(scan_u32(&s, &u32), 0);
    ck_assert_uint_eq(u32, UINT32_MAX);
}
END_TEST

START_TEST(a_reader_of_the_wrong_kind_stays_where_it_is)
{
    /* Each reader over each kind: it succeeds on its own only, and otherwise moves nothing. */
    static const struct {
        const char *hex;
        enum scan_kind kind;
    } rows[] = {
        {"c0", SCAN_NIL},     {"c3", SCAN_BOOL},
        {"05", SCAN_INT},     {"ca 00000000", SCAN_FLOAT},
        {"a161", SCAN_STR},   {"c40161", SCAN_BIN},
        {"9101", SCAN_ARRAY}, {"810102", SCAN_MAP},
        {"d40161", SCAN_EXT}, {"", SCAN_END},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        enum scan_kind kind = rows[i].kind;
        struct scan s;
        struct slice text;
        uint32_t count;
        int64_t number;
        bool truth;

        buf_clear(&bytes);
        put_hex(&bytes, rows[i].hex);
#define STARTS_AGAIN (scan_init(&s, buf_slice(&bytes)), &s)
#define EXPECT(call, is_mine)                                                                      \
    ck_assert_int_eq((call), (is_mine) ? 0 : ESCROW_EPROTO);                                       \
    ck_assert_int_eq(s.ptr != bytes.ptr, (is_mine))
        ck_assert_int_eq(scan_peek(STARTS_AGAIN), kind);
        EXPECT(scan_nil(STARTS_AGAIN), kind == SCAN_NIL);
        EXPECT(scan_bool(STARTS_AGAIN, &truth), kind == SCAN_BOOL);
        EXPECT(scan_i64(STARTS_AGAIN, &number), kind == SCAN_INT);
        EXPECT(scan_str(STARTS_AGAIN, &text), kind == SCAN_STR);
        EXPECT(scan_bin(STARTS_AGAIN, &text), kind == SCAN_BIN);
        EXPECT(scan_bytes(STARTS_AGAIN, &text), kind == SCAN_STR || kind == SCAN_BIN);
        EXPECT(scan_array(STARTS_AGAIN, &count), kind == SCAN_ARRAY);
        EXPECT(scan_map(STARTS_AGAIN, &count), kind == SCAN_MAP);
        EXPECT(scan_skip(STARTS_AGAIN, SCAN_LIMITS_BODY), kind != SCAN_END);
#undef EXPECT
#undef STARTS_AGAIN
    }
}
END_TEST

START_TEST(damaged_objects_never_pass_as_something_else)
{
    /* Flip bytes: what scan_check accepts, msgpack-c unpacks to its last byte. */
    struct rand r;
    int accepted = 0;
    int round;

    rand_init(&r, 2);
    for (round = 0; round < 20000; round++) {
        msgpack_unpacked result;
        size_t at = 0;
        uint64_t flips = 1 + rand_below(&r, 3);

        buf_clear(&bytes);
        put_hex(&bytes, "97 69 00 07 cd0199 00 c0 83 a5746f706963 a154 a171 d2ffff0000 a166 c3");
        while (flips-- > 0) {
            bytes.ptr[rand_below(&r, bytes.len)] = (uint8_t)rand_u64(&r);
        }
        if (check_exact(buf_slice(&bytes), SCAN_LIMITS_BODY) != 0) {
            continue;
        }
        accepted++;
        msgpack_unpacked_init(&result);
        ck_assert_int_eq(msgpack_unpack_next(&result, (const char *)bytes.ptr, bytes.len, &at),
                         MSGPACK_UNPACK_SUCCESS);
        ck_assert_uint_eq(at, bytes.len);
        msgpack_unpacked_destroy(&result);
    }
    ck_assert_int_gt(accepted, 1000);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("scan");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, what_msgpack_packs_is_walked_to_its_last_byte);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, counts_above_the_bytes_left_are_refused);
    tcase_add_test(tests, a_count_is_refused_before_its_elements_are_looked_at);
    tcase_add_test(tests, nesting_ends_at_the_limit);
    tcase_add_test(tests, deep_nesting_costs_nothing);
    tcase_add_test(tests, elements_are_counted_over_the_whole_object);
    tcase_add_test(tests, integers_are_read_in_every_format);
    tcase_add_test(tests, unsigned_readers_refuse_what_is_negative_or_too_large);
    tcase_add_test(tests, a_reader_of_the_wrong_kind_stays_where_it_is);
    tcase_add_test(tests, damaged_objects_never_pass_as_something_else);
    return run_tests(tests, "core/proto/scan");
}
