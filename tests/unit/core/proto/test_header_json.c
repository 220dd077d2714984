#include "core/proto/header_json.h"

#include "core/proto/codes.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <jansson.h>
#include <stdio.h>

#define ROUTE_REQUEST                                                                              \
    "{\"code\":105,\"extFields\":{\"topic\":\"T\"},\"flag\":0,\"language\":\"JAVA\",\"opaque\":7," \
    "\"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}"

static struct buf bytes;
static struct header h;
static struct slice text_copy; /* what h points into */

static void set_up(void)
{
    buf_init(&bytes, 0);
    header_init(&h);
    text_copy = SLICE_EMPTY;
}

static void tear_down(void)
{
    header_fini(&h);
    buf_fini(&bytes);
    free_copy(text_copy);
}

static int decode(const char *text)
{
    free_copy(text_copy);
    text_copy = copy_exact(slice_str(text));
    return header_decode(&h, HEADER_JSON, text_copy);
}

/* Decode {"code":1,"extFields":{"v":<value>}}. */
static int decode_value(const char *value)
{
    char text[512];

    (void)snprintf(text, sizeof text, "{\"code\":1,\"extFields\":{\"v\":%s}}", value);
    return decode(text);
}

START_TEST(the_published_vector_is_read)
{
    /* GET_ROUTEINFO_BY_TOPIC from a Java client. */
    ck_assert_int_eq(decode(ROUTE_REQUEST), 0);
    ck_assert_int_eq(h.code, REQUEST_GET_ROUTEINFO_BY_TOPIC);
    ck_assert_int_eq(h.language, LANGUAGE_JAVA);
    ck_assert_int_eq(h.version, 409);
    ck_assert_int_eq(h.opaque, 7);
    ck_assert_int_eq(h.flag, 0);
    ck_assert_ptr_null(h.remark.ptr);
    ck_assert_uint_eq(h.field_count, 1);
    assert_slice(header_str(&h, "topic"), "T");
}
END_TEST

START_TEST(the_published_vector_is_written)
{
    /* Byte for byte, the frame around it included. */
    struct header_writer w;
    struct buf want;

    header_begin(&w, &bytes, HEADER_JSON, &(struct header_out){.code = 105, .opaque = 7});
    header_put_str(&w, "topic", SLICE_LIT("T"));
    header_end(&w);
    ck_assert_int_eq(header_frame_end(&w, 0), 0);
    buf_init(&want, 0);
    put_hex(&want, "0000007f 0000007b");
    buf_append_str(&want, ROUTE_REQUEST);
    assert_same(buf_slice(&bytes), buf_slice(&want));
    buf_fini(&want);
}
END_TEST

START_TEST(a_response_always_has_the_fields_object)
{
    /* Java clients dereference it without looking; the remark sits where the alphabet puts it. */
    ck_assert_int_eq(header_encode(&bytes, HEADER_JSON,
                                   &(struct header_out){.code = 0,
                                                        .opaque = 3,
                                                        .flag = HEADER_FLAG_RESPONSE,
                                                        .remark = SLICE_LIT("ok")},
                                   SLICE_EMPTY),
                     0);
    assert_slice(slice_of(bytes.ptr + 8, bytes.len - 8),
                 "{\"code\":0,\"extFields\":{},\"flag\":1,\"language\":\"JAVA\",\"opaque\":3,"
                 "\"remark\":\"ok\",\"serializeTypeCurrentRPC\":\"JSON\",\"version\":409}");
}
END_TEST

START_TEST(raw_numbers_and_booleans_are_fields_too)
{
    /* ali-ons and parts of the C++ client send them so; the text is the literal. */
    int64_t number = 0;
    bool truth = false;

    ck_assert_int_eq(decode("{\"code\":310,\"extFields\":{\"d\":4,\"g\":1700000000000,\"h\":-1,"
                            "\"k\":false,\"m\":true,\"j\":null,\"x\":1.5e3}}"),
                     0);
    ck_assert_uint_eq(h.field_count, 6);
    ck_assert_int_eq(header_get_i64(&h, "g", &number), 0);
    ck_assert_int_eq(number, INT64_C(1700000000000));
    ck_assert_int_eq(header_get_i64(&h, "h", &number), 0);
    ck_assert_int_eq(number, -1);
    ck_assert_int_eq(header_get_bool(&h, "m", &truth), 0);
    ck_assert(truth);
    ck_assert_int_eq(header_get_bool(&h, "k", &truth), 0);
    ck_assert(!truth);
    ck_assert_int_eq(header_get_i64(&h, "j", &number), ESCROW_ENOTFOUND);
    assert_slice(header_str(&h, "x"), "1.5e3");
    ck_assert_int_eq(header_get_i64(&h, "x", &number), ESCROW_EINVAL);
}
END_TEST

START_TEST(blanks_order_and_unknown_keys_do_not_matter)
{
    /* White space everywhere, members in reverse, members of later versions with nested values. */
    ck_assert_int_eq(
        decode(" {\r\n\t\"version\" : 317 , \"new\" : {\"a\":[1,{\"b\":null}],\"c\":\"\\\"\"} ,"
               "\"opaque\":9, \"language\":\"GO\" ,\"flag\": 2 ,"
               "\"extFields\" : { \"topic\" : \"T\" , \"n\" : 1 } , \"code\" : 11 } \n"),
        0);
    ck_assert_int_eq(h.code, 11);
    ck_assert_int_eq(h.version, 317);
    ck_assert_int_eq(h.opaque, 9);
    ck_assert_int_eq(h.language, LANGUAGE_GO);
    ck_assert(header_is_oneway(&h));
    ck_assert_uint_eq(h.field_count, 2);
}
END_TEST

START_TEST(members_may_be_null_or_quoted)
{
    /* null is absent, a quoted number is a number, a language may be its number or unheard of. */
    ck_assert_int_eq(decode("{\"code\":\"34\",\"opaque\":\"12\",\"flag\":null,\"remark\":null,"
                            "\"extFields\":null,\"language\":null,\"version\":null}"),
                     0);
    ck_assert_int_eq(h.code, 34);
    ck_assert_int_eq(h.opaque, 12);
    ck_assert_int_eq(h.flag, 0);
    ck_assert_ptr_null(h.remark.ptr);
    ck_assert_int_eq(h.language, LANGUAGE_OTHER);
    ck_assert_int_eq(decode("{\"code\":34,\"language\":\"COBOL\"}"), 0);
    ck_assert_int_eq(h.language, LANGUAGE_OTHER);
    ck_assert_int_eq(decode("{\"code\":34,\"language\":12}"), 0);
    ck_assert_int_eq(h.language, LANGUAGE_RUST);
    ck_assert_int_eq(decode("{\"code\":34,\"remark\":\"\"}"), 0);
    ck_assert_ptr_nonnull(h.remark.ptr);
    ck_assert_uint_eq(h.remark.len, 0);
}
END_TEST

START_TEST(escapes_become_the_bytes_they_mean)
{
    /* Short escapes, control characters, one to four bytes of UTF-8, pairs and halves of pairs. */
    static const struct {
        const char *json;
        const char *want;
        size_t len;
    } rows[] = {
        {"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t", 8},
        {"\"KEYS\\u0001k\\u0002\"", "KEYS\x01k\x02", 7},
        {"\"a\\u0000b\"", "a\0b", 3},
        {"\"\\u0041\\u00e9\\u8BA2\"", "A\xc3\xa9\xe8\xae\xa2", 6},
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80", 4},
        {"\"\\ud83d\"", "\xef\xbf\xbd", 3},
        {"\"\\ude00\\ud83d\"", "\xef\xbf\xbd\xef\xbf\xbd", 6},
        {"\"\\ud83d\\u0041\"",
         "\xef\xbf\xbd"
         "A",
         4},
        {"\"\\ud83dxxxxxx\"",
         "\xef\xbf\xbd"
         "xxxxxx",
         9},
        {"\"0123456\\n0123456789\\\\\"", "0123456\n0123456789\\", 19},
        {"\"\xe8\xae\xa2\x7f\"", "\xe8\xae\xa2\x7f", 4},
        {"\"\x01\t\"", "\x01\t", 2},
        {"\"\"", "", 0},
    };
    size_t i;

    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ck_assert_int_eq(decode_value(rows[i].json), 0);
        assert_same(header_str(&h, "v"), slice_of(rows[i].want, rows[i].len));
    }
    ck_assert_int_eq(
        decode("{\"code\":1,\"extFields\":{\"\\u0061\":\"x\"},\"r\\u0065mark\":\"y\"}"), 0);
    assert_slice(header_str(&h, "a"), "x");
    assert_slice(h.remark, "y");
}
END_TEST

START_TEST(nested_values_keep_their_text)
{
    /* Java makes text of them as well; they go as deep as the limit allows. */
    ck_assert_int_eq(decode_value("{\"a\":[1,2,{}],\"b\":\"}\"}"), 0);
    assert_slice(header_str(&h, "v"), "{\"a\":[1,2,{}],\"b\":\"}\"}");
    ck_assert_int_eq(decode_value("[[[[[[]]]]]]"), 0); /* 2 + 6 = 8 containers */
    ck_assert_int_eq(decode_value("[[[[[[[]]]]]]]"), ESCROW_EPROTO);
    ck_assert_int_eq(decode("{\"code\":1,\"x\":[[[[[[[]]]]]]]}"), 0); /* 1 + 7 */
    ck_assert_int_eq(decode("{\"code\":1,\"x\":[[[[[[[[]]]]]]]]}"), ESCROW_EPROTO);
}
END_TEST

START_TEST(deep_nesting_costs_nothing)
{
    /* 100 KiB of opening brackets, in a field and in an unknown member. */
    static char text[100 * 1024 + 64];
    static const char *const starts[] = {"{\"code\":1,\"extFields\":{\"v\":", "{\"code\":1,\"x\":",
                                         "{\"code\":1,\"extFields\":", ""};
    size_t i;

    for (i = 0; i < 4; i++) {
        size_t len = strlen(starts[i]);
        memcpy(text, starts[i], len);
        memset(text + len, i % 2 == 0 ? '[' : '{', sizeof text - len - 1);
        ck_assert_int_eq(decode(text), ESCROW_EPROTO);
    }
}
END_TEST

START_TEST(malformed_values_are_refused)
{
    /* Numbers, words, strings and brackets that are not JSON. */
    static const char *const values[] = {
        "",        "-",         "+1",          "01",
        "-01",     "1.",        ".5",          "1e",
        "1e+",     "0x10",      "1 2",         "tru",
        "truex",   "nul",       "fals",        "undefined",
        "'a'",     "\"a",       "\"\\",        "\"\\\"",
        "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\u\"",
        "[1,]",    "[,1]",      "[1 2]",       "{1:2}",
        "{\"a\"}", "{\"a\":}",  "{\"a\":1,}",  "[}",
        "{]",      "[",         "{",           "\"a\" \"b\"",
        "NaN",     "--1",       "1-",          "\"\\ud83d\\u12\"",
    };
    size_t i;

    for (i = 0; i < sizeof values / sizeof values[0]; i++) {
        ck_assert_msg(decode_value(values[i]) == ESCROW_EPROTO, "accepted: %s", values[i]);
    }
}
END_TEST

START_TEST(malformed_headers_are_refused)
{
    /*
     * No object, no code, numbers out of range, commas and colons missing or too many, bytes
     * behind.
     */
    static const char *const headers[] = {
        "",
        " ",
        "null",
        "[]",
        "1",
        "\"code\"",
        "{}",
        "{",
        "}",
        "{\"flag\":0}",
        "{\"code\":null}",
        "{\"code\":2147483648}",
        "{\"code\":-2147483649}",
        "{\"code\":1.0}",
        "{\"code\":true}",
        "{\"code\":\"x\"}",
        "{\"code\":{}}",
        "{\"code\":1,\"opaque\":4294967296}",
        "{\"code\":1,\"opaque\":99999999999999999999999}",
        "{\"code\":1}x",
        "{\"code\":1}{}",
        "{\"code\":1,}",
        "{,\"code\":1}",
        "{\"code\" 1}",
        "{\"code\":1 \"flag\":0}",
        "{code:1}",
        "{\"code\":1,\"extFields\":[]}",
        "{\"code\":1,\"extFields\":\"x\"}",
        "{\"code\":1,\"extFields\":{\"a\":1,}}",
        "{\"code\":1,\"extFields\":{a:1}}",
        "{\"code\":1,\"extFields\":{\"a\" 1}}",
        "{\"code\":1,\"extFields\":nul}",
        "{\"code\":1,\"x\":}",
        "{\"code\":1,\"x\"}",
        "{\"code\":1",
        "{\"code\":1,\"remark\":\"a}",
        "{\"code\":1,\"flag\":\"0 \"}",
    };
    size_t i;

    for (i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        ck_assert_msg(decode(headers[i]) == ESCROW_EPROTO, "accepted: %s", headers[i]);
    }
    ck_assert_int_eq(decode("{\"code\":2147483647,\"opaque\":-2147483648}"), 0);
}
END_TEST

START_TEST(of_two_equal_keys_the_last_wins)
{
    /* In the fields, and in the header itself; null does not undo a value. */
    ck_assert_int_eq(decode("{\"code\":1,\"extFields\":{\"a\":\"1\",\"topic\":\"x\",\"a\":\"2\","
                            "\"topic\":\"y\",\"topic\":null},\"code\":2,\"extFields\":{\"b\":3}}"),
                     0);
    ck_assert_int_eq(h.code, 2);
    ck_assert_uint_eq(h.field_count, 3);
    assert_slice(header_str(&h, "a"), "2");
    assert_slice(header_str(&h, "topic"), "y");
    assert_slice(header_str(&h, "b"), "3");
}
END_TEST

START_TEST(more_fields_than_the_table_holds_are_refused)
{
    /* 257 different keys. */
    int i;

    buf_append_str(&bytes, "{\"code\":1,\"extFields\":{");
    for (i = 0; i < 257; i++) {
        buf_append_fmt(&bytes, "%s\"key%d\":\"%d\"", i == 0 ? "" : ",", i, i);
    }
    buf_append_str(&bytes, "}}");
    ck_assert_int_eq(header_decode(&h, HEADER_JSON, buf_slice(&bytes)), ESCROW_ETOOBIG);
}
END_TEST

START_TEST(escaped_text_of_any_length_fits)
{
    /* More than the inline scratch, in one string and in many; each piece stays where it is. */
    char key[16];
    int count;
    int i;

    for (count = 1; count <= 200; count += 199) {
        buf_clear(&bytes);
        buf_append_str(&bytes, "{\"code\":1,\"extFields\":{");
        for (i = 0; i < count; i++) {
            int k;
            buf_append_fmt(&bytes, "%s\"key%d\":\"", i == 0 ? "" : ",", i);
            for (k = 0; k < 4000 / count; k++) {
                buf_append_str(&bytes, "\\n");
            }
            buf_append_str(&bytes, "\"");
        }
        buf_append_str(&bytes, "}}");
        ck_assert_int_eq(header_decode(&h, HEADER_JSON, buf_slice(&bytes)), 0);
        for (i = 0; i < count; i++) {
            struct slice value;
            (void)snprintf(key, sizeof key, "key%d", i);
            value = header_str(&h, key);
            ck_assert_uint_eq(value.len, (size_t)(4000 / count));
            ck_assert_int_eq(value.ptr[0], '\n');
            ck_assert_int_eq(value.ptr[value.len - 1], '\n');
        }
    }
}
END_TEST

START_TEST(a_quote_is_found_at_every_distance)
{
    /* The end of a string is looked for eight bytes at a time: every length, every neighbour. */
    static const char specials[] = {'"', '\\'};
    size_t len;
    size_t at;

    for (len = 0; len < 40; len++) {
        for (at = 0; at <= len; at++) {
            struct slice copy;
            buf_clear(&bytes);
            buf_append_str(&bytes, "{\"code\":1,\"extFields\":{\"v\":\"");
            memset(buf_reserve(&bytes, len), "\x21\x23\xa2\xdc\x5b\x5d\xff"[len % 7], len);
            buf_commit(&bytes, len);
            if (at < len) {
                bytes.ptr[bytes.len - len + at] = '\\';
                buf_append_u8(&bytes, 0);
                memmove(bytes.ptr + bytes.len - len + at, bytes.ptr + bytes.len - 1 - len + at,
                        len - at);
                bytes.ptr[bytes.len - len + at] = (uint8_t)specials[at % 2];
            }
            buf_append_str(&bytes, "\"}}");
            copy = copy_exact(buf_slice(&bytes));
            ck_assert_int_eq(header_decode(&h, HEADER_JSON, copy), 0);
            ck_assert_uint_eq(header_str(&h, "v").len, len);
            free_copy(copy);
        }
    }
}
END_TEST

START_TEST(what_we_write_is_json_for_others_too)
{
    /* Every single byte below 0x80, at every place modulo eight, as jansson reads it. */
    int c;

    for (c = 1; c < 128; c++) {
        char value[24];
        struct header_writer w;
        json_t *doc;
        const char *got;

        memset(value, 'x', sizeof value);
        value[c % 20] = (char)c;
        buf_clear(&bytes);
        header_begin(&w, &bytes, HEADER_JSON,
                     &(struct header_out){.code = 1, .remark = slice_of(value, 21)});
        header_put_str(&w, "v", slice_of(value, 20));
        header_end(&w);
        ck_assert_int_eq(header_frame_end(&w, 0), 0);
        doc = json_loadb((const char *)bytes.ptr + 8, bytes.len - 8, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_ptr_nonnull(doc);
        got = json_string_value(json_object_get(json_object_get(doc, "extFields"), "v"));
        ck_assert_uint_eq(strlen(got), 20);
        ck_assert_mem_eq(got, value, 20);
        got = json_string_value(json_object_get(doc, "remark"));
        ck_assert_mem_eq(got, value, 21);
        ck_assert_int_eq(header_decode(&h, HEADER_JSON, slice_of(bytes.ptr + 8, bytes.len - 8)), 0);
        assert_same(header_str(&h, "v"), slice_of(value, 20));
        json_decref(doc);
    }
}
END_TEST

/* Random JSON-like text, mostly broken. */
static void put_random_json(struct rand *r)
{
    static const char *const pieces[] = {
        "{",           "}",       "[",          "]",
        ",",           ":",       "\"code\":1", "\"extFields\":{",
        "\"a\"",       "\"\\n\"", "1",          "-2.5e1",
        "true",        "null",    " ",          "\"opaque\"",
        "\"\\u0041\"", "\\",      "\"",         "0",
        "{}",          "\"x\":[", "\"flag\":3", "\"\xc3\xa9\"",
    };
    uint64_t count = rand_below(r, 12);

    buf_clear(&bytes);
    buf_append_str(&bytes, "{\"code\":1,\"extFields\":{\"v\":");
    while (count-- > 0) {
        buf_append_str(&bytes, pieces[rand_below(r, sizeof pieces / sizeof pieces[0])]);
    }
    buf_append_str(&bytes, rand_below(r, 2) == 0 ? "}}" : "");
}

START_TEST(what_is_accepted_is_json)
{
    /*
     * Random text: whatever our parser takes as a header, jansson takes as an object with the same
     * code.
     */
    struct rand r;
    int accepted = 0;
    int round;

    rand_init(&r, 6);
    for (round = 0; round < 60000; round++) {
        json_t *doc;

        put_random_json(&r);
        if (header_decode(&h, HEADER_JSON, buf_slice(&bytes)) != 0) {
            continue;
        }
        accepted++;
        doc = json_loadb((const char *)bytes.ptr, bytes.len, 0, NULL);
        ck_assert_msg(doc != NULL, "not JSON: %.*s", SLICE_ARGS(buf_slice(&bytes)));
        json_decref(doc);
    }
    ck_assert_int_gt(accepted, 1000);
}
END_TEST

int main(void)
{
    TCase *tests = tcase_create("header_json");

    tcase_add_checked_fixture(tests, set_up, tear_down);
    tcase_set_timeout(tests, 30);
    tcase_add_test(tests, the_published_vector_is_read);
    tcase_add_test(tests, the_published_vector_is_written);
    tcase_add_test(tests, a_response_always_has_the_fields_object);
    tcase_add_test(tests, raw_numbers_and_booleans_are_fields_too);
    tcase_add_test(tests, blanks_order_and_unknown_keys_do_not_matter);
    tcase_add_test(tests, members_may_be_null_or_quoted);
    tcase_add_test(tests, escapes_become_the_bytes_they_mean);
    tcase_add_test(tests, nested_values_keep_their_text);
    tcase_add_test(tests, deep_nesting_costs_nothing);
    tcase_add_test(tests, malformed_values_are_refused);
    tcase_add_test(tests, malformed_headers_are_refused);
    tcase_add_test(tests, of_two_equal_keys_the_last_wins);
    tcase_add_test(tests, more_fields_than_the_table_holds_are_refused);
    tcase_add_test(tests, escaped_text_of_any_length_fits);
    tcase_add_test(tests, a_quote_is_found_at_every_distance);
    tcase_add_test(tests, what_we_write_is_json_for_others_too);
    tcase_add_test(tests, what_is_accepted_is_json);
    return run_tests(tests, "core/proto/header_json");
}
