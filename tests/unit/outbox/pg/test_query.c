#include "outbox/pg/query.h"

#include "tests/unit/outbox/outbox_main.h"

#include <string.h>

static void parse(struct snapshot *s, const char *text)
{
    ck_assert_int_eq(snapshot_parse(s, slice_str(text)), 0);
}

static const char *text_of(struct buf *out)
{
    buf_append_u8(out, 0);
    ck_assert(!buf_failed(out));
    return (const char *)out->ptr;
}

START_TEST(a_read_asks_for_exactly_the_difference)
{
    /*
     * Those that ran then and have ended; those that began since, without those that still run;
     * after the last row.
     */
    struct position p;
    struct buf out;
    const char *sql;

    position_init(&p);
    parse(&p.old, "100:120:100,105,110");
    parse(&p.new, "105:150:105,130");
    p.is_reading = true;
    p.last_order_id = 77;
    p.last_id = 75;
    buf_init(&out, 0);
    query_read(&out, &p, QUERY_READ_SORTED, NULL);
    sql = text_of(&out);
    ck_assert_ptr_nonnull(strstr(sql, "xid = ANY ('{100,110}'::xid8[]) UNION ALL"));
    ck_assert_ptr_nonnull(strstr(sql, "xid >= '120'::xid8 AND xid < '150'::xid8"));
    ck_assert_ptr_nonnull(
        strstr(sql, "pg_visible_in_snapshot(xid, '105:150:105,130'::pg_snapshot)"));
    ck_assert_ptr_nonnull(strstr(sql, "(w.order_id, w.id) > (77, 75)"));
    position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(a_read_without_running_transactions_is_simple)
{
    /* No list, no visibility function, no resume. */
    struct position p;
    struct buf out;
    const char *sql;

    position_init(&p);
    parse(&p.old, "100:100:");
    parse(&p.new, "150:150:");
    p.is_reading = true;
    buf_init(&out, 0);
    query_read(&out, &p, QUERY_READ_LONG, NULL);
    sql = text_of(&out);
    ck_assert_ptr_null(strstr(sql, "ORDER BY"));
    ck_assert_ptr_null(strstr(sql, "ANY"));
    ck_assert_ptr_null(strstr(sql, "pg_visible"));
    ck_assert_ptr_null(strstr(sql, "order_id, w.id) >"));
    position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(a_short_read_goes_through_the_function)
{
    /* The same numbers as parameters. */
    struct position p;
    struct buf out;

    position_init(&p);
    parse(&p.old, "100:120:100,105,110");
    parse(&p.new, "105:150:105,130");
    p.is_reading = true;
    buf_init(&out, 0);
    query_read(&out, &p, QUERY_READ_SHORT, NULL);
    ck_assert_str_eq(text_of(&out),
                     "COPY (SELECT * FROM escrow.outbox_read('{100,110}'::xid8[], '120', '150', "
                     "'105:150:105,130'::pg_snapshot)) TO STDOUT (FORMAT binary)");
    position_fini(&p);
    buf_fini(&out);
}
END_TEST

START_TEST(names_are_quoted)
{
    /* Options allow no quote in a source's name; should that change, it is still a literal. */
    struct buf out;

    buf_init(&out, 0);
    query_setup(&out, "o'clock", 3, NULL);
    ck_assert_ptr_nonnull(strstr(text_of(&out), "escrow.reader_register('o''clock', 3); "));
    buf_fini(&out);
}
END_TEST

START_TEST(what_others_said_goes_into_a_statement_as_text)
{
    /*
     * An error has a broker's words in it: no quote, backslash, control or foreign byte gets
     * through.
     */
    struct buf out;

    buf_init(&out, 0);
    query_setup(&out, "s", 0, "no'); DROP \\ \x1b[2J \xc3\xa4 {ok~}");
    ck_assert_ptr_nonnull(
        strstr(text_of(&out), "escrow.reader_says('s', 0, 'no.); DROP . .[2J .. {ok~}'); "));
    buf_clear(&out);
    query_refuse(&out, "s", 1, "no'\n");
    ck_assert_str_eq(text_of(&out), "SELECT escrow.reader_refuses('s', 1, 'no..')");
    buf_clear(&out);
    query_recovered(&out, "s", 2);
    ck_assert_str_eq(text_of(&out), "SELECT escrow.reader_says('s', 2, NULL); ");
    buf_fini(&out);
}
END_TEST

START_TEST(the_wake_lock_is_asked_for_as_told)
{
    /* Given back before looking; taken while looking; left alone. */
    struct position at;
    struct buf out;

    position_init(&at);
    at.replayed = 9;
    buf_init(&out, 0);
    query_snapshot(&out, "s", 3, &at, QUERY_WAKE_KEEP);
    ck_assert_str_eq(text_of(&out), "EXECUTE escrow_look ('1', '{}'::xid8[], false, 's', 3, 9)");
    buf_clear(&out);
    query_snapshot(&out, "s", 3, &at, QUERY_WAKE_HOLD);
    ck_assert_ptr_nonnull(strstr(text_of(&out), ", true, "));
    buf_clear(&out);
    query_snapshot(&out, "s", 3, &at, QUERY_WAKE_RELEASE);
    ck_assert_ptr_eq(strstr(text_of(&out), "SELECT pg_advisory_unlock(1702060914, 1); "),
                     (const char *)out.ptr);
    buf_fini(&out);
    position_fini(&at);
}
END_TEST

START_TEST(a_read_beside_parked_rows_parks_the_held_ones_first)
{
    /* Durably, before the COPY; parked rows count for the order, and come without their topic. */
    static const struct query_owner owner = {.source = "s", .lane = 3, .epoch = 8};
    struct position p;
    struct buf out;
    const char *aside;
    const char *copy;

    position_init(&p);
    parse(&p.old, "100:120:100,105,110");
    parse(&p.new, "105:150:105,130");
    p.is_reading = true;
    p.last_order_id = 77;
    p.last_id = 75;
    buf_init(&out, 0);
    query_set_aside(&out, &owner, &p);
    query_read(&out, &p, QUERY_READ_SORTED_PARKED, &owner);
    aside = strstr(text_of(&out),
                   "BEGIN; SELECT escrow.outbox_set_aside('s', 3, 8, '{100,110}'::xid8[], '120', "
                   "'150', '105:150:105,130'::pg_snapshot, 77, 75) AS is_owner; COMMIT; COPY (");
    ck_assert_ptr_nonnull(aside);
    copy = strstr(aside, "COPY (");
    ck_assert_ptr_nonnull(strstr(copy, "max(o.id) OVER (PARTITION BY o.xid) AS order_id FROM ("));
    ck_assert_ptr_nonnull(strstr(copy, "CASE WHEN p.id IS NULL THEN w.topic ELSE '' END"));
    ck_assert_ptr_nonnull(strstr(copy, "p.source = 's' AND p.lane = 3 AND p.id = w.id"));
    ck_assert_ptr_nonnull(strstr(copy, "WHERE (w.order_id, w.id) > (77, 75)"));
    position_fini(&p);
    buf_fini(&out);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/pg/query");
    TCase *tc = tcase_create("query");

    tcase_add_test(tc, a_read_asks_for_exactly_the_difference);
    tcase_add_test(tc, a_read_without_running_transactions_is_simple);
    tcase_add_test(tc, a_short_read_goes_through_the_function);
    tcase_add_test(tc, a_read_beside_parked_rows_parks_the_held_ones_first);
    tcase_add_test(tc, names_are_quoted);
    tcase_add_test(tc, what_others_said_goes_into_a_statement_as_text);
    tcase_add_test(tc, the_wake_lock_is_asked_for_as_told);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
