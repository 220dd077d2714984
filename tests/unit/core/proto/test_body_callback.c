/* Check-backs over HTTP: the question, and the one answer that is believed. */
#include "core/proto/body_callback.h"

#include "core/proto/json_tree.h"
#include "tests/unit/core/proto/body_test.h"

#include <stdio.h>

#define ID     "7F0000010001"
#define NONCE  UINT64_C(0xab)
#define ANSWER "{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\",\"state\":\"commit\"}"

static int decode(struct slice body)
{
    enum callback_state state;

    return callback_answer_decode(body, SLICE_LIT(ID), NONCE, &state);
}

static void refused(const char *text)
{
    enum callback_state state = CALLBACK_UNKNOWN;
    struct slice body = copy_exact(slice_str(text));

    ck_assert_msg(callback_answer_decode(body, SLICE_LIT(ID), NONCE, &state) == ESCROW_EPROTO,
                  "accepted: %.200s", text);
    ck_assert_int_eq(state, CALLBACK_UNKNOWN); /* nothing leaks out of what is refused */
    free_copy(body);
}

START_TEST(a_question_has_this_text)
{
    /* Shows: byte for byte, with and without the database; the nonce has always 16 digits. */
    struct callback_request req = {.transaction_id = SLICE_LIT(ID),
                                   .group = SLICE_LIT("g"),
                                   .topic = SLICE_LIT("T"),
                                   .checks = 2,
                                   .store_ms = 1700000000000,
                                   .nonce = NONCE};
    struct buf out;

    buf_init(&out, 0);
    callback_request_encode(&out, &req);
    assert_slice(
        buf_slice(&out),
        "{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\","
        "\"producerGroup\":\"g\",\"topic\":\"T\",\"checks\":2,\"storedAt\":1700000000000}");
    ck_is_standard(buf_slice(&out));
    buf_clear(&out);
    req.nonce = UINT64_MAX;
    req.xid = SLICE_LIT("18446744073709551615");
    req.db_system = SLICE_LIT("7000000000000000001");
    req.db_timeline = 3;
    req.db_name = SLICE_LIT("bank");
    callback_request_encode(&out, &req);
    assert_slice(buf_slice(&out),
                 "{\"transactionId\":\"" ID "\",\"nonce\":\"ffffffffffffffff\","
                 "\"producerGroup\":\"g\",\"topic\":\"T\",\"checks\":2,\"storedAt\":1700000000000,"
                 "\"xid\":\"18446744073709551615\",\"database\":{\"systemIdentifier\":"
                 "\"7000000000000000001\",\"timeline\":3,\"name\":\"bank\"}}");
    ck_is_standard(buf_slice(&out));
    buf_fini(&out);
}
END_TEST

START_TEST(a_question_carries_any_text)
{
    /* Shows: quotes, control characters and long names come out of a parser as they went in. */
    static char name[100000];
    struct callback_request req = {.transaction_id = SLICE_LIT("\"\\\x01\n\xc3\xa9"),
                                   .group = SLICE_LIT("}"),
                                   .db_system = SLICE_LIT("1")};
    struct json_tree tree = {0};
    const struct json_node *root;
    struct buf out;

    memset(name, '"', sizeof name);
    req.db_name = slice_of(name, sizeof name);
    buf_init(&out, 0);
    callback_request_encode(&out, &req);
    ck_is_standard(buf_slice(&out));
    ck_assert_int_eq(json_tree_parse(&tree, buf_slice(&out), JSON_LIMITS_BODY), 0);
    root = json_tree_root(&tree);
    assert_same(json_node_text(json_node_find(root, "transactionId")), req.transaction_id);
    assert_same(json_node_text(json_node_find(root, "producerGroup")), req.group);
    assert_same(json_node_text(json_node_find(json_node_find(root, "database"), "name")),
                req.db_name);
    json_tree_fini(&tree);
    buf_fini(&out);
}
END_TEST

START_TEST(an_answer_that_echoes_both_ids_is_believed)
{
    /* Shows: the four states; order, blanks and further members do not matter. */
    static const struct {
        const char *name;
        enum callback_state state;
    } states[] = {{"commit", CALLBACK_COMMIT},
                  {"rollback", CALLBACK_ROLLBACK},
                  {"in_progress", CALLBACK_IN_PROGRESS},
                  {"unknown", CALLBACK_UNKNOWN},
                  {"not_mine", CALLBACK_NOT_MINE}};
    enum callback_state state;
    char text[256];

    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        (void)snprintf(text, sizeof text,
                       " {\"why\" : [1, {\"state\":\"x\"}],\"state\":\"%s\" , \"nonce\":"
                       "\"00000000000000ab\", \"transactionId\":\"" ID "\"}\n",
                       states[i].name);
        state = CALLBACK_IN_PROGRESS;
        ck_assert_int_eq(callback_answer_decode(slice_str(text), SLICE_LIT(ID), NONCE, &state), 0);
        ck_assert_int_eq(state, states[i].state);
    }
}
END_TEST

START_TEST(an_answer_to_something_else_is_none)
{
    /* Shows: an id or nonce that is missing, another one, longer, shorter or written otherwise. */
    refused("{\"transactionId\":\"" ID "\",\"state\":\"commit\"}");
    refused("{\"nonce\":\"00000000000000ab\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ac\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000AB\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"ab\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab0\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "0\",\"nonce\":\"00000000000000ab\",\"state\":\"commit\"}");
    refused("{\"transactionId\":\"7f0000010001\",\"nonce\":\"00000000000000ab\","
            "\"state\":\"commit\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\",\"state\":\"COMMIT\"}");
    refused("{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\",\"state\":\"\"}");
    refused("{\"transactionId\":\"" ID "\\u0000\",\"nonce\":\"00000000000000ab\","
            "\"state\":\"commit\"}");
    refused("{\"x\":" ANSWER "}");
    refused("[" ANSWER "]");
}
END_TEST

START_TEST(members_of_other_kinds_are_refused)
{
    /* Shows: null, numbers, booleans, lists, objects where a text has to be; no object at all. */
    static const char *const others[] = {
        "null", "171", "true", "[]", "{}", "[\"" ID "\"]", "{\"a\":\"" ID "\"}"};
    char text[256];

    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        (void)snprintf(text, sizeof text,
                       "{\"transactionId\":%s,\"nonce\":\"00000000000000ab\","
                       "\"state\":\"commit\"}",
                       others[i]);
        refused(text);
        (void)snprintf(text, sizeof text,
                       "{\"transactionId\":\"" ID "\",\"nonce\":%s,\"state\":\"commit\"}",
                       others[i]);
        refused(text);
        (void)snprintf(text, sizeof text,
                       "{\"transactionId\":\"" ID "\",\"nonce\":\"00000000000000ab\","
                       "\"state\":%s}",
                       others[i]);
        refused(text);
        refused(others[i]);
    }
    refused("");
    refused("commit");
    refused("\"commit\"");
    refused(ANSWER "x");
    refused(ANSWER ANSWER);
}
END_TEST

/* The answer with a member x in front whose value is `count` times `open`, a 1, and the ends. */
static void answer_with(struct buf *out, const char *open, const char *close, size_t count)
{
    buf_append_str(out, "{\"x\":");
    for (size_t i = 0; i < count; i++) {
        buf_append_str(out, open);
    }
    buf_append_str(out, "1");
    for (size_t i = 0; i < count; i++) {
        buf_append_str(out, close);
    }
    buf_append_u8(out, ',');
    buf_append_str(out, &ANSWER[1]);
    buf_append_u8(out, '\0');
    ck_assert(!buf_failed(out));
}

START_TEST(depth_and_number_of_elements_are_bounded)
{
    /* Shows: just within the bounds it is read, beyond them refused, however far. */
    static const size_t depths[] = {(size_t)JSON_DEPTH_MAX, 1000, 1000000};
    struct buf text;

    buf_init(&text, 0);
    answer_with(&text, "[", "]", JSON_DEPTH_MAX - 1);
    ck_assert_int_eq(decode(slice_str((const char *)text.ptr)), 0);
    for (size_t i = 0; i < sizeof depths / sizeof depths[0]; i++) {
        buf_clear(&text);
        answer_with(&text, "[", "]", depths[i]);
        refused((const char *)text.ptr);
        buf_clear(&text);
        answer_with(&text, "{\"x\":", "}", depths[i]);
        refused((const char *)text.ptr);
    }
    buf_clear(&text);
    answer_with(&text, "1,\"x\":", "", 100);
    ck_assert_int_eq(decode(slice_str((const char *)text.ptr)), 0);
    buf_clear(&text);
    answer_with(&text, "1,\"x\":", "", 300);
    refused((const char *)text.ptr);
    buf_fini(&text);
}
END_TEST

START_TEST(long_values_cost_only_their_bytes)
{
    /* Shows: a megabyte in a member we skip is skipped; in one of ours it is no answer. */
    static char digits[1 << 20];
    struct buf text;

    memset(digits, 'a', sizeof digits - 1);
    buf_init(&text, 0);
    buf_append_fmt(&text, "{\"x\":\"");
    buf_append_str(&text, digits);
    buf_append_str(&text, "\",");
    buf_append_str(&text, &ANSWER[1]);
    ck_assert_int_eq(decode(buf_slice(&text)), 0);
    buf_clear(&text);
    buf_append_str(&text, "{\"transactionId\":\"" ID "\",\"state\":\"commit\",\"nonce\":\"");
    buf_append_str(&text, digits);
    buf_append_str(&text, "\"}");
    ck_assert_int_eq(decode(buf_slice(&text)), ESCROW_EPROTO);
    buf_fini(&text);
}
END_TEST

START_TEST(truncations_and_failing_allocations_are_harmless)
{
    /* Shows: no prefix is believed, no allocation that fails is answered as anything but that. */
    ck_every_truncation(decode, ANSWER);
    ck_every_failing_allocation(decode, ANSWER);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_callback");

    tcase_add_test(tc, a_question_has_this_text);
    tcase_add_test(tc, a_question_carries_any_text);
    tcase_add_test(tc, an_answer_that_echoes_both_ids_is_believed);
    tcase_add_test(tc, an_answer_to_something_else_is_none);
    tcase_add_test(tc, members_of_other_kinds_are_refused);
    tcase_add_test(tc, depth_and_number_of_elements_are_bounded);
    tcase_add_test(tc, long_values_cost_only_their_bytes);
    tcase_add_test(tc, truncations_and_failing_allocations_are_harmless);
    return run_tests(tc, "core/proto/body_callback");
}
