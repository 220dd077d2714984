/*
 * JSON read into nodes, fastjson's dialect included; JSON written. jansson is the second opinion.
 */
#include "core/proto/json_tree.h"

#include "core/base/mem.h"
#include "core/proto/json_write.h"
#include "escrow/errors.h"
#include "tests/unit/core/proto/proto_test.h"

#include <jansson.h>
#include <math.h>

static int parse_once(const char *text, size_t len, struct json_limits limits)
{
    struct json_tree tree = {0};
    struct slice copy = copy_exact(slice_of(text, len));
    int error = json_tree_parse(&tree, copy, limits);

    free_copy(copy);
    json_tree_fini(&tree);
    return error;
}

/* Write the tree back as JSON, keys that are objects included. */
static void write_node(struct json_writer *w, const struct json_node *node)
{
    const struct json_node *child = NULL;

    switch (node->kind) {
    case JSON_NODE_NULL:
    case JSON_NODE_NUMBER:
    case JSON_NODE_FALSE:
    case JSON_NODE_TRUE:
        buf_append_str(w->out, w->needs_comma ? "," : "");
        buf_append_slice(w->out, json_node_text(node));
        w->needs_comma = true;
        return;
    case JSON_NODE_STRING:
        json_write_string(w, json_node_text(node));
        return;
    case JSON_NODE_ARRAY:
        json_write_array_begin(w);
        while ((child = json_node_next(node, child)) != NULL) {
            write_node(w, child);
        }
        json_write_array_end(w);
        return;
    case JSON_NODE_OBJECT:
        json_write_object_begin(w);
        while ((child = json_node_next(node, child)) != NULL) {
            write_node(w, child);
            json_write_object_key_end(w);
            child = json_node_next(node, child);
            write_node(w, child);
        }
        json_write_object_end(w);
        return;
    }
}

static void ck_reads_as(const char *in, const char *want)
{
    struct json_tree tree = {0};
    struct slice copy = copy_exact(slice_str(in));
    struct json_writer w;
    struct buf out;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    ck_assert_int_eq(json_tree_parse(&tree, copy, JSON_LIMITS_BODY), 0);
    free_copy(copy); /* the tree has its own */
    write_node(&w, json_tree_root(&tree));
    assert_slice(buf_slice(&out), want);
    json_tree_fini(&tree);
    buf_fini(&out);
}

START_TEST(standard_json_is_read)
{
    /* Shows: all kinds of values, blanks anywhere between them. */
    ck_reads_as("{}", "{}");
    ck_reads_as(" [ ] ", "[]");
    ck_reads_as("{\"a\" : [1, -2.5e+3 ,true,false,null,\"x \\\" \\\\ y\"],\n\t\"b\":{\"c\":{}}}",
                "{\"a\":[1,-2.5e+3,true,false,null,\"x \\\" \\\\ y\"],\"b\":{\"c\":{}}}");
    ck_reads_as("17", "17");
    ck_reads_as("[0,-0,0.5,1E9,12e-3]", "[0,-0,0.5,1E9,12e-3]");
}
END_TEST

START_TEST(bare_keys_are_strings)
{
    /* Shows: the legacy route text and names without quotes. */
    ck_reads_as("{0:\"1.2.3.4:10911\",1:\"b\"}", "{\"0\":\"1.2.3.4:10911\",\"1\":\"b\"}");
    ck_reads_as("{codeSet:[1],-1:{_x$:2}}", "{\"codeSet\":[1],\"-1\":{\"_x$\":2}}");
}
END_TEST

START_TEST(an_object_may_be_a_key)
{
    /* Shows: Map<MessageQueue, ...> of fastjson, at any depth. */
    ck_reads_as("{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"t\"}:5,{}:{{}:{}}}",
                "{{\"brokerName\":\"b\",\"queueId\":0,\"topic\":\"t\"}:5,{}:{{}:{}}}");
    ck_reads_as("{{{a:1}:2}:3}", "{{{\"a\":1}:2}:3}");
}
END_TEST

START_TEST(escapes_become_text)
{
    /* Shows: every escape, pairs of surrogates, and halves of pairs. */
    struct json_tree tree = {0};
    struct slice text;

    ck_assert_int_eq(
        json_tree_parse(&tree,
                        SLICE_LIT("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u0041\\u00e9\\u20AC\\ud83d\\ude00"
                                  "\\ud83d\\u0041\\udc00\\ud83dx\\u0000\""),
                        JSON_LIMITS_BODY),
        0);
    text = json_node_text(json_tree_root(&tree));
    assert_same(text, SLICE_LIT("\"\\/\b\f\n\r\tA\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"
                                "\xEF\xBF\xBD"
                                "A\xEF\xBF\xBD\xEF\xBF\xBDx\0"));
    json_tree_fini(&tree);
}
END_TEST

START_TEST(children_are_found_and_counted)
{
    /*
     * Shows: look-up by key, the last of equal keys, counts, and that nothing is found in what is
     * no object.
     */
    struct json_tree tree = {0};
    const struct json_node *root;

    ck_assert_int_eq(json_tree_parse(&tree,
                                     SLICE_LIT("{\"a\":{\"b\":[1,[2,3],4]},\"c\":1,\"c\":\"last\","
                                               "{\"c\":2}:3}"),
                                     JSON_LIMITS_BODY),
                     0);
    root = json_tree_root(&tree);
    ck_assert_uint_eq(json_node_count(root), 4);
    ck_assert_uint_eq(json_node_count(json_node_find(json_node_find(root, "a"), "b")), 3);
    assert_slice(json_node_text(json_node_find(root, "c")), "last");
    ck_assert_ptr_null(json_node_find(root, "b"));
    ck_assert_ptr_null(json_node_find(json_node_find(root, "c"), "c"));
    ck_assert_ptr_null(json_node_find(NULL, "c"));
    ck_assert_ptr_null(json_node_next(NULL, NULL));
    ck_assert_ptr_null(json_node_next(json_node_find(root, "c"), NULL));
    ck_assert_uint_eq(json_node_count(NULL), 0);
    ck_assert(!json_node_is(NULL, JSON_NODE_NULL));
    json_tree_fini(&tree);
    json_tree_fini(&tree); /* twice is fine */
}
END_TEST

START_TEST(malformed_text_is_refused)
{
    /* Shows: each kind of mistake. */
    static const char *const bad[] = {"",
                                      " ",
                                      "{",
                                      "[",
                                      "}",
                                      "]",
                                      "{]",
                                      "[}",
                                      "[1,]",
                                      "{,}",
                                      "{\"a\"}",
                                      "{\"a\":}",
                                      "[,1]",
                                      "{\"a\":1,}",
                                      "{\"a\" 1}",
                                      "[1 2]",
                                      "{}{}",
                                      "1 2",
                                      "[1:2]",
                                      "\"open",
                                      "\"open\\",
                                      "\"open\\\"",
                                      "{a",
                                      "{'a':1}",
                                      "[#]",
                                      "{{}",
                                      "{{}}",
                                      "{{}:}",
                                      "{[]:1}",
                                      "[tru]",
                                      "[nulls]",
                                      "[-]",
                                      "[1.]",
                                      "[.5]",
                                      "[1e]",
                                      "[1e+]",
                                      "[+1]",
                                      "[1x]",
                                      "[\"\\x\"]",
                                      "[\"\\u00\"]",
                                      "[\"\\u00g0\"]",
                                      "[\"\\ud83d\\u00\"]",
                                      "[name]",
                                      "{\"a\":b}"};

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(parse_once(bad[i], strlen(bad[i]), JSON_LIMITS_BODY) == ESCROW_EPROTO,
                      "accepted: %s", bad[i]);
    }
    ck_assert_int_eq(parse_once("[\"\\\0\"]", 6, JSON_LIMITS_BODY), ESCROW_EPROTO);
}
END_TEST

START_TEST(depth_is_bounded)
{
    /*
     * Shows: JSON_DEPTH_MAX containers inside each other pass, one more does not; the caller's
     * bound counts.
     */
    const size_t depth = JSON_DEPTH_MAX;
    char deep[2 * JSON_DEPTH_MAX + 2];

    memset(deep, '[', JSON_DEPTH_MAX + 1);
    memset(deep + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
    ck_assert_int_eq(parse_once(deep + 1, 2 * depth, JSON_LIMITS_BODY), 0);
    ck_assert_int_eq(parse_once(deep + 1, 2 * depth, (struct json_limits){100, JSON_DEPTH_MAX - 1}),
                     ESCROW_ELIMIT);
    ck_assert_int_eq(parse_once(deep, 2 * JSON_DEPTH_MAX + 2, JSON_LIMITS_BODY), ESCROW_ELIMIT);
}
END_TEST

START_TEST(elements_are_counted_over_the_whole_text)
{
    /* Shows: nesting does not get round the budget; keys count like values. */
    static const char text[] =
        "{\"a\":[1,2],\"b\":[3,{\"c\":4}]}"; /* 3 keys, 4 containers, 4 numbers */

    ck_assert_int_eq(parse_once(text, sizeof text - 1, (struct json_limits){11, 4}), 0);
    ck_assert_int_eq(parse_once(text, sizeof text - 1, (struct json_limits){10, 4}), ESCROW_ELIMIT);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    /* Shows: no prefix of an object is accepted, and none makes the parser read beyond its end. */
    static const char text[] =
        "{{\"t\":\"a\\\"\"}:[1,true],codes:{\"x\":\"y\\u0041\\ud83d\\ude00\"},3:-1.5e7,n:null}";

    for (size_t n = 0; n < sizeof text - 1; n++) {
        ck_assert_int_eq(parse_once(text, n, JSON_LIMITS_BODY), ESCROW_EPROTO);
    }
    ck_assert_int_eq(parse_once(text, sizeof text - 1, JSON_LIMITS_BODY), 0);
}
END_TEST

START_TEST(no_failing_allocation_leaks)
{
    /*
     * Shows: out of memory at any point, growth of the nodes included, is ESCROW_ENOMEM and leaves
     * nothing.
     */
    struct buf text;
    int64_t live;
    uint64_t n = 0;
    int fired;

    buf_init(&text, 0);
    buf_append_str(&text, "[0");
    for (int i = 0; i < 500; i++) {
        buf_append_fmt(&text, ",%d", i);
    }
    buf_append_str(&text, "]");
    live = mem_live_count();
    do {
        struct json_tree tree = {0};
        int error;
        mem_fault_at(++n);
        error = json_tree_parse(&tree, buf_slice(&text), JSON_LIMITS_BODY);
        fired = mem_fault_fired();
        mem_fault_at(0);
        ck_assert_int_eq(error, fired ? ESCROW_ENOMEM : 0);
        json_tree_fini(&tree);
        ck_assert_int_eq(mem_live_count(), live);
    } while (fired);
    ck_assert_uint_eq(n, 6); /* the text, and nodes for 64, 128, 256 and 512 */
    buf_fini(&text);
}
END_TEST

/* A random text that is mostly JSON. */
static void put_random(struct buf *out, struct rand *r, int depth)
{
    static const char *const scalars[] = {
        "0",    "-17",    "3.25",           "1e3",          "true",    "false", "null",
        "\"\"", "\"ab\"", "\"\\n\\u00e9\"", "\"\xc3\xa9\"", "\"\\\\\""};
    uint64_t pick = rand_below(r, depth == 0 ? 1 : 3);
    uint64_t n = rand_below(r, 4);

    if (pick == 0) {
        buf_append_str(out, scalars[rand_below(r, sizeof scalars / sizeof scalars[0])]);
        return;
    }
    buf_append_str(out, pick == 1 ? "[" : "{");
    for (uint64_t i = 0; i < n; i++) {
        buf_append_str(out, i == 0 ? "" : " ,");
        if (pick == 2) {
            buf_append_fmt(out, "\"k%d\": ", (int)i);
        }
        put_random(out, r, depth - 1);
    }
    buf_append_str(out, pick == 1 ? "]" : "}");
}

static bool same_value(const struct json_node *node, json_t *value)
{
    const struct json_node *child = NULL;
    size_t i = 0;

    switch (node->kind) {
    case JSON_NODE_NULL:
        return json_is_null(value);
    case JSON_NODE_FALSE:
        return json_is_false(value);
    case JSON_NODE_TRUE:
        return json_is_true(value);
    case JSON_NODE_NUMBER:
        return json_is_number(value);
    case JSON_NODE_STRING:
        return json_is_string(value) &&
               slice_eq(json_node_text(node),
                        slice_of(json_string_value(value), json_string_length(value)));
    case JSON_NODE_ARRAY:
        while ((child = json_node_next(node, child)) != NULL) {
            if (!same_value(child, json_array_get(value, i++))) {
                return false;
            }
        }
        return json_is_array(value) && json_array_size(value) == i;
    case JSON_NODE_OBJECT:
        while ((child = json_node_next(node, child)) != NULL) {
            char key[8];
            (void)slice_to_cstr(json_node_text(child), key, sizeof key); /* short by construction */
            child = json_node_next(node, child);
            if (!same_value(child, json_object_get(value, key))) {
                return false;
            }
            i++;
        }
        return json_is_object(value) && json_object_size(value) == i;
    }
    return false;
}

START_TEST(jansson_agrees_on_standard_json)
{
    /*
     * Shows: what jansson accepts we read to the same values; what one changed byte makes jansson
     * refuse may differ.
     */
    struct rand r;
    int compared = 0;

    rand_init(&r, 20260315);
    for (int round = 0; round < 5000; round++) {
        struct json_tree tree = {0};
        struct buf text;
        json_t *value;
        int error;
        buf_init(&text, 0);
        buf_append_str(&text, "[");
        put_random(&text, &r, 4);
        buf_append_str(&text, "]");
        if (round % 2 == 1) {
            text.ptr[rand_below(&r, text.len)] = (uint8_t)(0x20 + rand_below(&r, 0x5f));
        }
        value = json_loadb((const char *)text.ptr, text.len, JSON_REJECT_DUPLICATES, NULL);
        error = json_tree_parse(&tree, buf_slice(&text), JSON_LIMITS_BODY);
        if (value != NULL) {
            ck_assert_int_eq(error, 0);
            ck_assert(same_value(json_tree_root(&tree), value));
            compared++;
        }
        json_tree_fini(&tree);
        json_decref(value);
        buf_fini(&text);
    }
    ck_assert_int_gt(compared, 2500);
}
END_TEST

START_TEST(the_writer_places_commas_and_escapes)
{
    /*
     * Shows: nested containers, empty ones, an object as key, numbers and text that needs escaping.
     */
    struct buf out;
    struct json_writer w;

    buf_init(&out, 0);
    w = json_writer_to(&out);
    json_write_object_begin(&w);
    json_put_string(&w, "a", SLICE_LIT("q\"b\\n\n\x01\x7f\xc3\xa9"));
    json_put_i64(&w, "b", INT64_MIN);
    json_put_bool(&w, "c", true);
    json_write_key_slice(&w, SLICE_LIT("d\""));
    json_write_array_begin(&w);
    json_write_array_begin(&w);
    json_write_array_end(&w);
    json_write_i64(&w, 1);
    json_write_f64(&w, 0.5);
    json_write_f64(&w, NAN);
    json_write_array_end(&w);
    json_write_key(&w, "e");
    json_write_object_begin(&w);
    for (int i = 0; i < 2; i++) {
        json_write_object_begin(&w);
        json_put_i64(&w, "q", i);
        json_write_object_end(&w);
        json_write_object_key_end(&w);
        json_write_bool(&w, false);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
    assert_slice(buf_slice(&out), "{\"a\":\"q\\\"b\\\\n\\u000a\\u0001\x7f\xc3\xa9\","
                                  "\"b\":-9223372036854775808,\"c\":true,"
                                  "\"d\\\"\":[[],1,0.500,0.000],"
                                  "\"e\":{{\"q\":0}:false,{\"q\":1}:false}}");
    buf_fini(&out);
}
END_TEST

START_TEST(malformed_utf8_is_replaced_when_written)
{
    /*
     * Shows: every text that the writer makes is accepted by a strict parser, whatever bytes went
     * in.
     */
    struct buf out;
    struct rand r;

    buf_init(&out, 0);
    json_append_quoted(&out, SLICE_LIT("a\xff\xe8\xae"));
    assert_slice(buf_slice(&out), "\"a\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\"");
    rand_init(&r, 7);
    for (int round = 0; round < 2000; round++) {
        uint8_t raw[12];
        json_t *value;
        for (size_t i = 0; i < sizeof raw; i++) {
            raw[i] = (uint8_t)(rand_below(&r, 0x80) + (rand_below(&r, 2) == 0 ? 0x80 : 0));
        }
        buf_clear(&out);
        json_append_quoted(&out, slice_of(raw, rand_below(&r, sizeof raw + 1)));
        value = json_loadb((const char *)out.ptr, out.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        ck_assert_ptr_nonnull(value);
        json_decref(value);
    }
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("json_tree");

    tcase_add_test(tc, standard_json_is_read);
    tcase_add_test(tc, bare_keys_are_strings);
    tcase_add_test(tc, an_object_may_be_a_key);
    tcase_add_test(tc, escapes_become_text);
    tcase_add_test(tc, children_are_found_and_counted);
    tcase_add_test(tc, malformed_text_is_refused);
    tcase_add_test(tc, depth_is_bounded);
    tcase_add_test(tc, elements_are_counted_over_the_whole_text);
    tcase_add_test(tc, every_truncation_is_refused);
    tcase_add_test(tc, no_failing_allocation_leaks);
    tcase_add_test(tc, jansson_agrees_on_standard_json);
    tcase_add_test(tc, the_writer_places_commas_and_escapes);
    tcase_add_test(tc, malformed_utf8_is_replaced_when_written);
    return run_tests(tc, "core/proto/json_tree");
}
