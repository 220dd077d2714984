#include "outbox/pg/check_json.h"

#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

#include <string.h>

static int decode(const char *text, struct check_question *q, char *nonce)
{
    *q = (struct check_question){.txn_id = ""};
    return check_json_decode(slice_str(text), q, nonce);
}

START_TEST(a_question_is_read)
{
    /* All fields; unknown ones are skipped; numbers as texts or as integers. */
    struct check_question q;
    char nonce[CHECK_NONCE_MAX + 1];

    ck_assert_int_eq(decode("{\"transactionId\":\"t1\",\"nonce\":\"00ff\",\"producerGroup\":\"g\","
                            "\"x\":[1],\"xid\":\"12\","
                            "\"database\":{\"systemIdentifier\":\"7312345678901234567\","
                            "\"timeline\":2,\"name\":\"shop\"}}",
                            &q, nonce),
                     0);
    ck_assert_str_eq(q.txn_id, "t1");
    ck_assert_str_eq(nonce, "00ff");
    ck_assert_str_eq(q.xid, "12");
    ck_assert_str_eq(q.system_id, "7312345678901234567");
    ck_assert_str_eq(q.timeline, "2");
    ck_assert_str_eq(q.database, "shop");
    ck_assert_int_eq(
        decode("{\"transactionId\":\"t1\",\"nonce\":\"1\",\"xid\":12,\"database\":null}", &q,
               nonce),
        0);
    ck_assert_str_eq(q.xid, "12");
    ck_assert_str_eq(q.system_id, "");
    ck_assert_int_eq(decode("{\"transactionId\":\"t1\",\"nonce\":\"1\"}", &q, nonce), 0);
    ck_assert_str_eq(q.xid, "");
}
END_TEST

START_TEST(what_is_not_a_question_is_refused)
{
    /* Missing, empty, too long, of another type, named in part, twice. */
    static const char *const bad[] = {
        "",
        "{",
        "[]",
        "null",
        "{\"transactionId\":\"t\"}",
        "{\"nonce\":\"1\"}",
        "{\"transactionId\":\"\",\"nonce\":\"1\"}",
        "{\"transactionId\":5,\"nonce\":\"1\"}",
        "{\"transactionId\":\"a\\u0000b\",\"nonce\":\"1\"}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"xid\":-1}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"xid\":\"1x\"}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"xid\":\"99999999999999999999\"}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"database\":\"shop\"}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"database\":{\"name\":\"shop\"}}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\",\"nonce\":\"2\"}",
        "{\"transactionId\":\"t\",\"nonce\":\"1\"} x",
    };
    struct check_question q;
    char nonce[CHECK_NONCE_MAX + 1];
    char big[400];

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(decode(bad[i], &q, nonce) == ESCROW_EPROTO, "%s", bad[i]);
    }
    memset(big, 'x', sizeof big);
    memcpy(big, "{\"nonce\":\"1\",\"transactionId\":\"", 30);
    memcpy(big + 30 + TXN_ID_LEN_MAX + 1, "\"}", 3);
    ck_assert_int_eq(decode(big, &q, nonce), ESCROW_EPROTO);
    memcpy(big + 30 + TXN_ID_LEN_MAX, "\"}", 3);
    ck_assert_int_eq(decode(big, &q, nonce), 0);
}
END_TEST

START_TEST(an_answer_echoes_exactly)
{
    /* Whatever is in the ids comes back; all four states. */
    struct buf out;

    buf_init(&out, 0);
    check_json_encode(&out, "a\"b\\c\x01", "n", CHECK_STATE_IN_PROGRESS);
    ck_assert(slice_eq_str(
        buf_slice(&out),
        "{\"transactionId\":\"a\\\"b\\\\c\\u0001\",\"nonce\":\"n\",\"state\":\"in_progress\"}"));
    buf_fini(&out);
    ck_assert_str_eq(check_state_name(CHECK_STATE_COMMIT), "commit");
    ck_assert_str_eq(check_state_name(CHECK_STATE_ROLLBACK), "rollback");
    ck_assert_str_eq(check_state_name(CHECK_STATE_NOT_MINE), "not_mine");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/pg/check_json");
    TCase *tc = tcase_create("check_json");

    tcase_add_test(tc, a_question_is_read);
    tcase_add_test(tc, what_is_not_a_question_is_refused);
    tcase_add_test(tc, an_answer_echoes_exactly);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
