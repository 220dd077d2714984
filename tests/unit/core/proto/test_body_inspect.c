/* 30004 to 30007: lists, counters, lag and horizon. */
#include "core/proto/body_inspect.h"

#include "core/base/limits.h"
#include "tests/unit/core/proto/pack_test.h"

static const struct list_txn_row txns[] = {{.transaction_id = {(const uint8_t *)"A", 1},
                                            .group = {(const uint8_t *)"g", 1},
                                            .topic = {(const uint8_t *)"T", 1},
                                            .state = {(const uint8_t *)"PREPARED", 8},
                                            .offset = 4096,
                                            .born_ms = 1700000000000,
                                            .next_check_ms = 1700000006000,
                                            .checks = 2,
                                            .is_not_mine = true,
                                            .database = {(const uint8_t *)"7/1/shop", 8}},
                                           {.transaction_id = {(const uint8_t *)"B", 1},
                                            .state = {(const uint8_t *)"EXPIRED", 7},
                                            .next_check_ms = INSPECT_NONE}};

static const struct metric_row metrics[] = {
    {{(const uint8_t *)"sends", 5},
     {(const uint8_t *)"messages accepted", 17},
     INT64_MAX,
     METRIC_COUNTER},
    {{(const uint8_t *)"half", 4}, {(const uint8_t *)"", 0}, -1, METRIC_GAUGE}};

static const struct group_row groups[] = {
    {{(const uint8_t *)"g", 1}, {(const uint8_t *)"T", 1}, 3, 2, -1, 100, 100},
    {{(const uint8_t *)"h", 1}, {(const uint8_t *)"T", 1}, 0, 0, 5, 5, 0}};

static int decode_txn_request(struct slice body)
{
    struct list_txn_request req;

    return list_txn_request_decode(body, &req);
}

static int decode_txns(struct slice body)
{
    struct list_reader r;
    struct list_txn_row row;
    int error = list_txn_decode(body, &r);

    while (error == 0 && list_txn_next(&r, &row)) {
        ck_assert_uint_le(r.index, r.count);
    }
    return error;
}

static int decode_status(struct slice body)
{
    struct list_reader r;
    struct metric_row row;
    int error = status_decode(body, &r);

    while (error == 0 && status_next(&r, &row)) {
        ck_assert_uint_le(r.index, r.count);
    }
    return error;
}

static int decode_groups(struct slice body)
{
    struct list_reader r;
    struct group_row row;
    int error = list_groups_decode(body, &r);

    while (error == 0 && list_groups_next(&r, &row)) {
        ck_assert_uint_le(r.index, r.count);
    }
    return error;
}

static int decode_groups_request(struct slice body)
{
    struct slice group;

    return list_groups_request_decode(body, &group);
}

static int decode_horizon(struct slice body)
{
    struct txn_horizon horizon;

    return txn_horizon_decode(body, &horizon);
}

static void put_txns(struct buf *out, bool has_more)
{
    struct list_writer w;

    list_txn_begin(&w, out);
    list_txn_put(&w, &txns[0]);
    list_txn_put(&w, &txns[1]);
    list_txn_end(&w, has_more, 12345);
}

static void put_status(struct buf *out)
{
    struct list_writer w;

    status_begin(&w, out);
    status_put(&w, &metrics[0]);
    status_put(&w, &metrics[1]);
    status_end(&w);
}

static void put_groups(struct buf *out)
{
    struct list_writer w;

    list_groups_begin(&w, out);
    list_groups_put(&w, &groups[0]);
    list_groups_put(&w, &groups[1]);
    list_groups_end(&w);
}

START_TEST(a_transaction_query_survives_the_round_trip)
{
    /* Shows: all filters, no filters, and that the limit is kept within a page. */
    struct list_txn_request req = {SLICE_LIT("EXPIRED"), SLICE_LIT("g"), 77, 10,
                                   UINT64_MAX - 1,       SLICE_LIT("tx")};
    struct list_txn_request back;
    struct buf out;

    buf_init(&out, 0);
    list_txn_request_encode(&out, &req);
    ck_assert_int_eq(list_txn_request_decode(buf_slice(&out), &back), 0);
    assert_slice(back.state, "EXPIRED");
    assert_slice(back.group, "g");
    ck_assert_int_eq(back.older_than_ms, 77);
    ck_assert_uint_eq(back.limit, 10);
    ck_assert_uint_eq(back.cursor, UINT64_MAX - 1);
    assert_slice(back.transaction_id, "tx");
    buf_clear(&out);
    req = (struct list_txn_request){.older_than_ms = INSPECT_NONE, .limit = LIST_ROWS_MAX + 1};
    list_txn_request_encode(&out, &req);
    ck_assert_int_eq(list_txn_request_decode(buf_slice(&out), &back), 0);
    ck_assert_uint_eq(back.state.len + back.group.len + back.transaction_id.len, 0);
    ck_assert_int_eq(back.older_than_ms, INSPECT_NONE);
    ck_assert_uint_eq(back.limit, LIST_ROWS_MAX);
    ck_assert_int_eq(list_txn_request_decode(SLICE_LIT("\x80"), &back), 0);
    ck_assert_uint_eq(back.limit, LIST_ROWS_MAX);
    buf_fini(&out);
}
END_TEST

START_TEST(a_page_of_transactions_survives_the_round_trip)
{
    /* Shows: rows in order, a time that is not there, and whether there is more. */
    for (int has_more = 0; has_more < 2; has_more++) {
        struct list_reader r;
        struct list_txn_row row;
        struct buf out;
        buf_init(&out, 0);
        put_txns(&out, has_more != 0);
        ck_assert_int_eq(list_txn_decode(buf_slice(&out), &r), 0);
        ck_assert_int_eq(r.has_more, has_more);
        ck_assert_uint_eq(r.cursor, has_more != 0 ? 12345 : 0);
        for (int i = 0; i < 2; i++) {
            ck_assert(list_txn_next(&r, &row));
            assert_same(row.transaction_id, txns[i].transaction_id);
            assert_same(row.group, txns[i].group);
            assert_same(row.topic, txns[i].topic);
            assert_same(row.state, txns[i].state);
            ck_assert_int_eq(row.offset, txns[i].offset);
            ck_assert_int_eq(row.born_ms, txns[i].born_ms);
            ck_assert_int_eq(row.next_check_ms, txns[i].next_check_ms);
            ck_assert_uint_eq(row.checks, txns[i].checks);
            ck_assert(row.is_not_mine == txns[i].is_not_mine);
            assert_same(row.database, txns[i].database);
        }
        ck_assert(!list_txn_next(&r, &row));
        buf_fini(&out);
    }
}
END_TEST

START_TEST(counters_survive_the_round_trip)
{
    /* Shows: name, kind, value, help; an empty list; a kind that does not exist is refused. */
    struct list_writer w;
    struct list_reader r;
    struct metric_row row;
    struct buf out;

    buf_init(&out, 0);
    put_status(&out);
    ck_assert_int_eq(status_decode(buf_slice(&out), &r), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert(status_next(&r, &row));
        assert_same(row.name, metrics[i].name);
        assert_same(row.help, metrics[i].help);
        ck_assert_int_eq(row.value, metrics[i].value);
        ck_assert_int_eq(row.kind, metrics[i].kind);
    }
    ck_assert(!status_next(&r, &row));
    buf_clear(&out);
    status_begin(&w, &out);
    status_end(&w);
    ck_assert_int_eq(status_decode(buf_slice(&out), &r), 0);
    ck_assert_uint_eq(r.count, 0);
    buf_clear(&out);
    put_hex(&out, "81 a76d657472696373 91 94 a16e 02 00 a0");
    ck_assert_int_eq(status_decode(buf_slice(&out), &r), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(group_lag_survives_the_round_trip)
{
    /* Shows: the filter and the rows, a group that never committed among them. */
    struct list_reader r;
    struct group_row row;
    struct slice group;
    struct buf out;

    buf_init(&out, 0);
    list_groups_request_encode(&out, SLICE_LIT("g"));
    ck_assert_int_eq(list_groups_request_decode(buf_slice(&out), &group), 0);
    assert_slice(group, "g");
    buf_clear(&out);
    list_groups_request_encode(&out, SLICE_EMPTY);
    ck_assert_int_eq(list_groups_request_decode(buf_slice(&out), &group), 0);
    ck_assert_uint_eq(group.len, 0);
    buf_clear(&out);
    put_groups(&out);
    ck_assert_int_eq(list_groups_decode(buf_slice(&out), &r), 0);
    for (int i = 0; i < 2; i++) {
        ck_assert(list_groups_next(&r, &row));
        assert_same(row.group, groups[i].group);
        assert_same(row.topic, groups[i].topic);
        ck_assert_int_eq(row.queue_id, groups[i].queue_id);
        ck_assert_int_eq(row.committed, groups[i].committed);
        ck_assert_int_eq(row.max, groups[i].max);
        ck_assert_int_eq(row.lag, groups[i].lag);
        ck_assert_uint_eq(row.members, groups[i].members);
    }
    ck_assert(!list_groups_next(&r, &row));
    buf_fini(&out);
}
END_TEST

START_TEST(the_horizon_survives_the_round_trip)
{
    /* Shows: with and without an undecided half. */
    struct txn_horizon horizon = {1700000000000, 1700000001000, 3, SLICE_LIT("a#0123abcd"), 77};
    struct txn_horizon back;
    struct buf out;

    buf_init(&out, 0);
    for (int i = 0; i < 2; i++) {
        buf_clear(&out);
        txn_horizon_encode(&out, &horizon);
        ck_assert_int_eq(txn_horizon_decode(buf_slice(&out), &back), 0);
        ck_assert_int_eq(back.born_ms, horizon.born_ms);
        ck_assert_int_eq(back.now_ms, horizon.now_ms);
        ck_assert_uint_eq(back.undecided, horizon.undecided);
        ck_assert(slice_eq(back.broker, horizon.broker));
        ck_assert_uint_eq(back.offset, horizon.offset);
        horizon = (struct txn_horizon){
            .born_ms = INSPECT_NONE, .now_ms = 5, .broker = SLICE_LIT("a#00000000")};
    }
    ck_assert_int_eq(txn_horizon_decode(SLICE_LIT("\x80"), &back), ESCROW_EPROTO);
    buf_fini(&out);
}
END_TEST

START_TEST(a_horizon_of_nobody_is_refused)
{
    /* Shows: an identity that is not fit for a database and a terminal, at each of its limits. */
    static const struct {
        const char *text;
        int result;
    } cases[] = {{"", ESCROW_EPROTO},         {"a", 0},
                 {"a b", ESCROW_EPROTO},      {"a\x1b", ESCROW_EPROTO},
                 {"a\"", ESCROW_EPROTO},      {"a\\", ESCROW_EPROTO},
                 {"\xc3\xa4", ESCROW_EPROTO}, {"!~", 0}};
    char text[BROKER_IDENTITY_MAX + 2];
    struct txn_horizon horizon = {.born_ms = 1, .now_ms = 2};
    struct txn_horizon back;
    struct buf out;

    buf_init(&out, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        buf_clear(&out);
        horizon.broker = slice_str(cases[i].text);
        txn_horizon_encode(&out, &horizon);
        ck_assert_int_eq(txn_horizon_decode(buf_slice(&out), &back), cases[i].result);
    }
    memset(text, 'x', sizeof text);
    for (size_t len = BROKER_IDENTITY_MAX; len <= sizeof text - 1; len++) {
        buf_clear(&out);
        horizon.broker = slice_of(text, len);
        txn_horizon_encode(&out, &horizon);
        ck_assert_int_eq(txn_horizon_decode(buf_slice(&out), &back),
                         len <= BROKER_IDENTITY_MAX ? 0 : ESCROW_EPROTO);
    }
    buf_fini(&out);
}
END_TEST

START_TEST(hostile_bytes_are_harmless)
{
    /*
     * Shows: every truncation, changed bytes, something behind the end, of all bodies.
     */
    struct list_txn_request req = {SLICE_LIT("EXPIRED"), SLICE_LIT("g"), 77, 10, 3,
                                   SLICE_LIT("tx")};
    struct txn_horizon horizon = {1, 2, 3, SLICE_LIT("a#0123abcd"), 4};
    struct buf out;

    buf_init(&out, 0);
    put_txns(&out, true);
    ck_hostile(decode_txns, &out);
    buf_clear(&out);
    put_status(&out);
    ck_hostile(decode_status, &out);
    buf_clear(&out);
    put_groups(&out);
    ck_hostile(decode_groups, &out);
    buf_clear(&out);
    list_txn_request_encode(&out, &req);
    ck_hostile(decode_txn_request, &out);
    buf_clear(&out);
    list_groups_request_encode(&out, SLICE_LIT("g"));
    ck_hostile(decode_groups_request, &out);
    buf_clear(&out);
    txn_horizon_encode(&out, &horizon);
    ck_hostile(decode_horizon, &out);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    TCase *tc = tcase_create("body_inspect");

    tcase_add_test(tc, a_transaction_query_survives_the_round_trip);
    tcase_add_test(tc, a_page_of_transactions_survives_the_round_trip);
    tcase_add_test(tc, counters_survive_the_round_trip);
    tcase_add_test(tc, group_lag_survives_the_round_trip);
    tcase_add_test(tc, the_horizon_survives_the_round_trip);
    tcase_add_test(tc, a_horizon_of_nobody_is_refused);
    tcase_add_test(tc, hostile_bytes_are_harmless);
    return run_tests(tc, "core/proto/body_inspect");
}
