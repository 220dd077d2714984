#include "outbox/snapshot.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

static struct snapshot parsed(const char *text)
{
    struct snapshot s;

    snapshot_init(&s);
    ck_assert_int_eq(snapshot_parse(&s, slice_str(text)), 0);
    snapshot_check(&s);
    return s;
}

START_TEST(what_the_server_prints_is_read_and_printed_again)
{
    /* Normal form: xmin and xmax are as tight as can be. */
    static const char *const texts[][2] = {
        {"100:100:", "100:100:"},
        {"100:104:100,102", "100:104:100,102"},
        {"90:104:100", "100:104:100"},
        {"90:104:", "104:104:"},
        {"100:104:100,102,103", "100:102:100"},
        {"100:103:100,101,102", "100:100:"},
        {"9223372036854775805:9223372036854775807:9223372036854775805",
         "9223372036854775805:9223372036854775807:9223372036854775805"},
    };

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        struct snapshot s = parsed(texts[i][0]);
        struct buf out;
        buf_init(&out, 0);
        snapshot_format(&s, &out);
        ck_assert_msg(slice_eq_str(buf_slice(&out), texts[i][1]), "%.*s",
                      SLICE_ARGS(buf_slice(&out)));
        buf_fini(&out);
        snapshot_fini(&s);
    }
}
END_TEST

START_TEST(malformed_text_is_refused_and_changes_nothing)
{
    /* Every way a snapshot can be wrong. */
    static const char *const texts[] = {
        "",
        ":",
        "1",
        "1:2",
        "1:2:3",
        "2:1:",
        "0:1:",
        "1:5:4,3",
        "1:5:3,3",
        "1:5:0",
        "1:5:1,",
        "1:5:,1",
        "1:5: 1",
        "1:5:1 ",
        "-1:5:",
        "1:5:5",
        "a:5:",
        "1:18446744073709551616:",
        "1:9223372036854775808:",
        "5:9:4",
    };
    struct snapshot s = parsed("10:20:10,15");

    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        ck_assert_msg(snapshot_parse(&s, slice_str(texts[i])) == ESCROW_EPROTO, "%s", texts[i]);
        ck_assert_uint_eq(s.xmax, 20);
        ck_assert_uint_eq(s.xip_count, 2);
    }
    snapshot_fini(&s);
}
END_TEST

START_TEST(too_many_running_transactions_are_refused)
{
    /* One id over the limit. */
    struct snapshot s;
    struct buf text;

    snapshot_init(&s);
    for (int extra = 0; extra <= 1; extra++) {
        buf_init(&text, 0);
        buf_append_str(&text, "1:100000:");
        for (int i = 0; i < SNAPSHOT_XIP_MAX + extra; i++) {
            buf_append_fmt(&text, "%s%d", i == 0 ? "" : ",", i + 1);
        }
        ck_assert_int_eq(snapshot_parse(&s, buf_slice(&text)), extra == 0 ? 0 : ESCROW_ELIMIT);
        buf_fini(&text);
    }
    snapshot_fini(&s);
}
END_TEST

START_TEST(a_snapshot_sees_what_had_ended)
{
    /* Below xmin, between, running, from xmax on. */
    struct snapshot s = parsed("100:110:100,103,109");

    ck_assert(snapshot_sees(&s, 1));
    ck_assert(snapshot_sees(&s, 99));
    ck_assert(!snapshot_sees(&s, 100));
    ck_assert(snapshot_sees(&s, 101));
    ck_assert(!snapshot_sees(&s, 103));
    ck_assert(!snapshot_sees(&s, 109));
    ck_assert(!snapshot_sees(&s, 110));
    ck_assert(!snapshot_sees(&s, UINT64_MAX));
    snapshot_fini(&s);
}
END_TEST

START_TEST(later_snapshots_contain_earlier_ones)
{
    /* Compared with the definition, id by id, for all pairs of a set. */
    static const char *const texts[] = {
        "1:1:", "5:5:", "5:9:5", "5:9:5,7", "9:9:", "5:12:5,10", "10:12:10", "7:12:7,9", "12:12:",
    };
    size_t count = sizeof texts / sizeof texts[0];

    for (size_t i = 0; i < count; i++) {
        for (size_t j = 0; j < count; j++) {
            struct snapshot a = parsed(texts[i]);
            struct snapshot b = parsed(texts[j]);
            bool want = a.xmax >= b.xmax;
            for (uint64_t xid = 1; xid < 20; xid++) {
                want = want && (!snapshot_sees(&b, xid) || snapshot_sees(&a, xid));
            }
            ck_assert_msg(snapshot_contains(&a, &b) == want, "%s contains %s", texts[i], texts[j]);
            ck_assert_int_eq(snapshot_equal(&a, &b), i == j);
            snapshot_fini(&a);
            snapshot_fini(&b);
        }
    }
}
END_TEST

START_TEST(a_failed_allocation_changes_nothing)
{
    /* parse and copy under memory pressure. */
    struct snapshot s = parsed("10:20:10,15");
    struct snapshot t = parsed("30:40:30");

    mem_fault_at(1);
    ck_assert_int_eq(snapshot_parse(&s, slice_str("1:5:1,2")), ESCROW_ENOMEM);
    mem_fault_at(1);
    ck_assert_int_eq(snapshot_copy(&s, &t), ESCROW_ENOMEM);
    mem_fault_at(0);
    ck_assert_uint_eq(s.xmax, 20);
    snapshot_check(&s);
    ck_assert_int_eq(snapshot_copy(&s, &t), 0);
    ck_assert(snapshot_equal(&s, &t));
    snapshot_fini(&s);
    snapshot_fini(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/snapshot");
    TCase *tc = tcase_create("snapshot");

    tcase_add_test(tc, what_the_server_prints_is_read_and_printed_again);
    tcase_add_test(tc, malformed_text_is_refused_and_changes_nothing);
    tcase_add_test(tc, too_many_running_transactions_are_refused);
    tcase_add_test(tc, a_snapshot_sees_what_had_ended);
    tcase_add_test(tc, later_snapshots_contain_earlier_ones);
    tcase_add_test(tc, a_failed_allocation_changes_nothing);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
