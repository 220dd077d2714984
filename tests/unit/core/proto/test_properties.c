/*
 * The property string: read as RocketMQ reads it, written without its separators in wrong places.
 */
#include "core/proto/properties.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#define SAMPLE SLICE_LIT("KEYS\001k1\002TAGS\001TagA\002")

static bool value_is(struct slice props, const char *name, const char *want)
{
    struct slice value;

    return props_find(props, slice_str(name), &value) && slice_eq_str(value, want);
}

START_TEST(the_sample_string_has_the_known_bytes)
{
    /* Shows: KEYS=k1, TAGS=TagA encode to the bytes a Java client sends. */
    static const uint8_t want[] = {0x4b, 0x45, 0x59, 0x53, 0x01, 0x6b, 0x31, 0x02, 0x54,
                                   0x41, 0x47, 0x53, 0x01, 0x54, 0x61, 0x67, 0x41, 0x02};
    uint8_t raw[64];
    struct props_writer w;

    props_writer_init(&w, raw, sizeof raw);
    props_put(&w, prop_name(PROP_KEYS), SLICE_LIT("k1"));
    props_put(&w, prop_name(PROP_TAGS), SLICE_LIT("TagA"));
    ck_assert_int_eq(w.error, 0);
    ck_assert_uint_eq(w.len, sizeof want);
    ck_assert_mem_eq(raw, want, sizeof want);
}
END_TEST

START_TEST(the_last_separator_may_be_missing)
{
    /* Shows: strings of old writers, which omit the last 0x02, have the same pairs. */
    struct slice open = slice_of(SAMPLE.ptr, SAMPLE.len - 1);

    ck_assert_uint_eq(props_count(SAMPLE), 2);
    ck_assert_uint_eq(props_count(open), 2);
    ck_assert(value_is(open, "TAGS", "TagA"));
    ck_assert(value_is(open, "KEYS", "k1"));
    ck_assert(!value_is(open, "TAG", "TagA"));
}
END_TEST

START_TEST(pairs_without_name_or_value_do_not_exist)
{
    /*
     * Shows: empty pieces, a name alone, an empty name and an empty value are passed over as in
     * Java.
     */
    struct slice odd = SLICE_LIT("\002\002a\002\001v\002b\001\002c\001d\002\001\002x");

    ck_assert_uint_eq(props_count(odd), 1);
    ck_assert(value_is(odd, "c", "d"));
    ck_assert_uint_eq(props_count(SLICE_EMPTY), 0);
}
END_TEST

START_TEST(of_two_equal_names_the_last_counts)
{
    /*
     * Shows: the same answer as Java's map, so that broker and consumer cannot be told different
     * things.
     */
    struct slice twice = SLICE_LIT("TRAN_MSG\001false\002A\001b\002TRAN_MSG\001true\002");
    struct props_known known;

    ck_assert(value_is(twice, "TRAN_MSG", "true"));
    ck_assert_uint_eq(props_scan(twice, &known), 3);
    ck_assert(slice_eq_str(known.tran_msg, "true"));
}
END_TEST

START_TEST(a_value_may_contain_the_name_separator)
{
    /* Shows: the first 0x01 ends the name, later ones belong to the value and survive copying. */
    struct slice in = SLICE_LIT("a\001b\001c\002d\001e\002");
    struct slice drop[] = {SLICE_LIT("d")};
    uint8_t raw[32];
    struct props_writer w;

    ck_assert(value_is(in, "a", "b\001c"));
    props_writer_init(&w, raw, sizeof raw);
    props_put_except(&w, in, drop, 1);
    ck_assert_int_eq(w.error, 0);
    ck_assert(slice_eq(slice_of(w.ptr, w.len), SLICE_LIT("a\001b\001c\002")));
}
END_TEST

START_TEST(one_scan_finds_all_known_names)
{
    /*
     * Shows: each field of struct props_known is filled from its own name, and absent ones are
     * empty.
     */
    uint8_t raw[4096];
    struct props_writer w;
    struct props_known known;
    size_t count = 0;

    props_writer_init(&w, raw, sizeof raw);
#define X(field, id)                                                                               \
    props_put(&w, prop_name(PROP_##id), SLICE_LIT(#field));                                        \
    count++;
    PROPS_KNOWN(X)
#undef X
    props_put(&w, SLICE_LIT("somethingElse"), SLICE_LIT("x"));
    ck_assert_int_eq(w.error, 0);
    ck_assert_uint_eq(props_scan(slice_of(w.ptr, w.len), &known), count + 1);
#define X(field, id) ck_assert(slice_eq_str(known.field, #field));
    PROPS_KNOWN(X)
#undef X
    ck_assert_uint_eq(props_scan(SAMPLE, &known), 2);
    ck_assert_uint_eq(known.pgroup.len, 0);
    ck_assert(slice_eq_str(known.tags, "TagA"));
}
END_TEST

START_TEST(numbers_are_found_or_the_fallback_is)
{
    /* Shows: decimal int64 values are read, anything else gives the fallback. */
    struct slice in = SLICE_LIT("a\00117\002b\001x\002c\001-9223372036854775808\002");

    ck_assert_int_eq(props_find_i64(in, SLICE_LIT("a"), 5), 17);
    ck_assert_int_eq(props_find_i64(in, SLICE_LIT("b"), 5), 5);
    ck_assert_int_eq(props_find_i64(in, SLICE_LIT("c"), 5), INT64_MIN);
    ck_assert_int_eq(props_find_i64(in, SLICE_LIT("d"), 5), 5);
}
END_TEST

START_TEST(a_string_is_rebuilt_with_removals_and_additions)
{
    /*
     * Shows: what the broker does to a send: WAIT and POP_CK go, its own pairs come behind, order
     * is kept.
     */
    struct slice in = SLICE_LIT("WAIT\001true\002a\0011\002POP_CK\001x\002b\0012");
    struct slice drop[] = {prop_name(PROP_WAIT), prop_name(PROP_POP_CK)};
    uint8_t raw[64];
    struct props_writer w;

    props_writer_init(&w, raw, sizeof raw);
    props_put_except(&w, in, drop, 2);
    props_put_i64(&w, SLICE_LIT("n"), INT64_MIN);
    ck_assert_int_eq(w.error, 0);
    ck_assert(slice_eq(slice_of(w.ptr, w.len),
                       SLICE_LIT("a\0011\002b\0012\002n\001-9223372036854775808\002")));
}
END_TEST

START_TEST(appending_closes_an_open_string)
{
    /* Shows: props_put_all adds the missing 0x02 once, and nothing to an empty or closed string. */
    uint8_t raw[64];
    struct props_writer w;

    props_writer_init(&w, raw, sizeof raw);
    props_put_all(&w, SLICE_EMPTY);
    ck_assert_uint_eq(w.len, 0);
    props_put_all(&w, SLICE_LIT("a\001b"));
    props_put_all(&w, SLICE_LIT("c\001d\002"));
    ck_assert_int_eq(w.error, 0);
    ck_assert(slice_eq(slice_of(w.ptr, w.len), SLICE_LIT("a\001b\002c\001d\002")));
}
END_TEST

START_TEST(separators_in_our_own_values_are_refused)
{
    /*
     * Shows: a value that would forge another pair stops the writer, and nothing of it was written.
     */
    static const struct slice bad[] = {{(const uint8_t *)"x\001y", 3},
                                       {(const uint8_t *)"x\002TRAN_MSG\001true", 15},
                                       {(const uint8_t *)"", 0}};
    uint8_t raw[64];
    struct props_writer w;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(props_check_text(bad[i]), ESCROW_EINVAL);
        props_writer_init(&w, raw, sizeof raw);
        props_put(&w, SLICE_LIT("name"), bad[i]);
        ck_assert_int_eq(w.error, ESCROW_EINVAL);
        props_put(&w, bad[i], SLICE_LIT("value"));
        props_put(&w, SLICE_LIT("later"), SLICE_LIT("value"));
        ck_assert_uint_eq(w.len, 0);
    }
    ck_assert_int_eq(props_check_text(SLICE_LIT("plain")), 0);
}
END_TEST

START_TEST(a_full_writer_keeps_its_bounds)
{
    /*
     * Shows: for every capacity the writer stops before its end, says so, and what is there are
     * whole pairs.
     */
    for (size_t cap = 0; cap <= SAMPLE.len; cap++) {
        uint8_t *raw = mem_alloc(cap);
        struct props_writer w;
        ck_assert_ptr_nonnull(raw);
        props_writer_init(&w, raw, cap);
        props_put_except(&w, SAMPLE, NULL, 0);
        ck_assert_int_eq(w.error, cap < SAMPLE.len ? ESCROW_ETOOBIG : 0);
        ck_assert_uint_eq(props_count(slice_of(raw, w.len)), cap < 8 ? 0 : cap < 18 ? 1 : 2);
        mem_free(raw);
    }
}
END_TEST

START_TEST(reserved_names_are_known)
{
    /* Shows: users cannot set what has a meaning, nor transient names; other names are theirs. */
    ck_assert(prop_is_reserved(SLICE_LIT("UNIQ_KEY")));
    ck_assert(prop_is_reserved(SLICE_LIT("__transactionId__")));
    ck_assert(prop_is_reserved(SLICE_LIT("__RMQ.TRANSIENT.x")));
    ck_assert(!prop_is_reserved(SLICE_LIT("colour")));
    ck_assert(!prop_is_reserved(SLICE_LIT("UNIQ_KE")));
    for (int i = 0; i < PROP_COUNT; i++) {
        ck_assert(prop_is_reserved(prop_name((enum prop_id)i)));
        ck_assert_int_eq(props_check_text(prop_name((enum prop_id)i)), 0);
    }
}
END_TEST

START_TEST(keys_are_separated_by_blanks)
{
    /* Shows: several blanks, leading and trailing ones make no empty key. */
    struct slice rest = SLICE_LIT("  k1 k2   k3 ");
    struct slice key;

    ck_assert(props_next_key(&rest, &key));
    ck_assert(slice_eq_str(key, "k1"));
    ck_assert(props_next_key(&rest, &key));
    ck_assert(slice_eq_str(key, "k2"));
    ck_assert(props_next_key(&rest, &key));
    ck_assert(slice_eq_str(key, "k3"));
    ck_assert(!props_next_key(&rest, &key));
    ck_assert(!props_next_key(&rest, &key));
}
END_TEST

START_TEST(every_truncation_stays_inside)
{
    /*
     * Shows: readers never look beyond a string, whatever byte it ends with (each prefix is its own
     * block).
     */
    struct slice in = SLICE_LIT("KEYS\001k1\002TAGS\001TagA\002\001\002x\001\002WAIT\001true");

    for (size_t n = 0; n <= in.len; n++) {
        uint8_t *part = mem_alloc(n);
        struct props_known known;
        struct slice rest;
        struct slice key;
        ck_assert_ptr_nonnull(part);
        memcpy(part, in.ptr, n);
        ck_assert_uint_eq(props_scan(slice_of(part, n), &known), props_count(slice_of(part, n)));
        rest = slice_of(part, n);
        while (props_next_key(&rest, &key)) {
            ck_assert_uint_gt(key.len, 0);
        }
        mem_free(part);
    }
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("properties");

    tcase_add_test(tc, the_sample_string_has_the_known_bytes);
    tcase_add_test(tc, the_last_separator_may_be_missing);
    tcase_add_test(tc, pairs_without_name_or_value_do_not_exist);
    tcase_add_test(tc, of_two_equal_names_the_last_counts);
    tcase_add_test(tc, a_value_may_contain_the_name_separator);
    tcase_add_test(tc, one_scan_finds_all_known_names);
    tcase_add_test(tc, numbers_are_found_or_the_fallback_is);
    tcase_add_test(tc, a_string_is_rebuilt_with_removals_and_additions);
    tcase_add_test(tc, appending_closes_an_open_string);
    tcase_add_test(tc, separators_in_our_own_values_are_refused);
    tcase_add_test(tc, a_full_writer_keeps_its_bounds);
    tcase_add_test(tc, reserved_names_are_known);
    tcase_add_test(tc, keys_are_separated_by_blanks);
    tcase_add_test(tc, every_truncation_stays_inside);
    return run_tests(tc, "core/proto/properties");
}
