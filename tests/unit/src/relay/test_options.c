#include "src/relay/options.h"

#include "core/base/mem.h"
#include "escrow/errors.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

START_TEST(defaults_are_valid)
{
    /* Every option has its default, and the whole of them passes. */
    struct relay_options o;
    struct err_ctx err;

    ck_assert_int_eq(options_init(&o, &err), 0);
    ck_assert_int_eq(options_finish(&o, &err), 0);
    ck_assert_str_eq(o.broker, "127.0.0.1:10911");
    ck_assert_uint_eq(o.window_bytes, 8u << 20);
    ck_assert(o.has_endpoint);
    ck_assert_uint_eq(o.foreign_system, 0);
    options_fini(&o);
}
END_TEST

START_TEST(values_are_checked_where_they_come_from)
{
    /* The error names the place, the option and what it may be. */
    static const char *const bad[][2] = {
        {"batch.rows", "0"},  {"batch.rows", "32769"}, {"batch.rows", "1k"},
        {"batch.bytes", "x"}, {"window.bytes", "1g"},  {"source", ""},
        {"broker", "x\n"},    {"nonsense", "1"},       {"poll.min.ms", "-1"},
        {"keep", "1"},        {"db.timeout.ms", ""},
    };
    struct relay_options o;
    struct err_ctx err;

    ck_assert_int_eq(options_init(&o, &err), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_msg(options_set(&o, bad[i][0], bad[i][1], "somewhere", &err) == ESCROW_ECONFIG,
                      "%s=%s", bad[i][0], bad[i][1]);
        ck_assert_ptr_nonnull(strstr(err.text, "somewhere"));
        ck_assert_ptr_nonnull(strstr(err.text, bad[i][0]));
    }
    ck_assert_int_eq(options_set(&o, "window.bytes", "16M", "here", &err), 0);
    ck_assert_uint_eq(o.window_bytes, 16u << 20);
    options_fini(&o);
}
END_TEST

START_TEST(a_connection_string_is_read_before_it_is_used)
{
    /* What is wrong is named, what may be a password is not. */
    static const struct {
        const char *db;
        const char *says; /* NULL: it can be read */
    } cases[] = {
        {"", NULL},
        {"postgres", NULL},
        {"shop", NULL},
        {"host=/run/postgresql dbname=shop", NULL},
        {"postgresql://u:secret@h:5433,h2/shop?sslmode=require", NULL},
        {"postgres://u:secret@[::1]/shop", NULL},
        {"host=h sslmod=secret", "\"sslmod\""},
        {"postgres://h/shop?sslmod=secret", "\"sslmod\""},
        {"postgres://u:se%zzcret@h/shop", "keyword=value"},
        {"postgres://u:secret@[::1/shop", "keyword=value"},
        {"host=h password='secret", "keyword=value"},
        {"host=h password=sec ret", "keyword=value"},
    };
    struct relay_options o;
    struct err_ctx err;

    ck_assert_int_eq(options_init(&o, &err), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ck_assert_int_eq(options_set(&o, "db", cases[i].db, "test", &err), 0);
        if (cases[i].says == NULL) {
            ck_assert_msg(options_finish(&o, &err) == 0, "%s: %s", cases[i].db, err.text);
            continue;
        }
        ck_assert_msg(options_finish(&o, &err) == ESCROW_ECONFIG, "%s", cases[i].db);
        ck_assert_msg(strncmp(err.text, "db: ", 4) == 0 &&
                          strstr(err.text, cases[i].says) != NULL &&
                          strstr(err.text, "ret") == NULL && strchr(err.text, '\n') == NULL,
                      "%s: %s", cases[i].db, err.text);
    }
    options_fini(&o);
}
END_TEST

START_TEST(the_environment_is_read)
{
    /* ESCROW_RELAY_CHECK_LISTEN is check.listen; others' variables are left alone. */
    static char listen[] = "ESCROW_RELAY_CHECK_LISTEN=off";
    static char other[] = "ESCROW_BROKER_PORT=x";
    static char unknown[] = "ESCROW_RELAY_WHATEVER=x";
    static char bad[] = "ESCROW_RELAY_BATCH_ROWS=x";
    char *good_environment[] = {listen, other, unknown, NULL};
    char *bad_environment[] = {bad, NULL};
    struct relay_options o;
    struct err_ctx err;

    ck_assert_int_eq(options_init(&o, &err), 0);
    ck_assert_int_eq(options_read_environment(&o, good_environment, &err), 0);
    ck_assert_int_eq(options_finish(&o, &err), 0);
    ck_assert(!o.has_endpoint);
    ck_assert_int_eq(options_read_environment(&o, bad_environment, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "ESCROW_RELAY_BATCH_ROWS"));
    options_fini(&o);
}
END_TEST

START_TEST(what_contradicts_is_refused)
{
    /*
     * adopt and discard; malformed identities; addresses that are none; a source that could not be
     * a name; poll times the wrong way round.
     */
    static const char *const bad[][4] = {
        {"adopt", "1/1", "discard", "1/1"},
        {"adopt", "1", "db", ""},
        {"adopt", "x/1", "db", ""},
        {"discard", "1/x", "db", ""},
        {"adopt", "0/1", "db", ""},
        {"source", "a'b", "db", ""},
        {"poll.min.ms", "50", "poll.max.ms", "10"},
        {"broker", "nonsense", "db", ""},
        {"broker", "host:0", "db", ""},
        {"broker", "host:65536", "db", ""},
        {"brokers", "a:1,b", "db", ""},
        {"namesrv", "a:1;:2", "db", ""},
    };
    struct relay_options o;
    struct err_ctx err;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ck_assert_int_eq(options_init(&o, &err), 0);
        ck_assert_int_eq(options_set(&o, bad[i][0], bad[i][1], "here", &err), 0);
        ck_assert_int_eq(options_set(&o, bad[i][2], bad[i][3], "here", &err), 0);
        ck_assert_msg(options_finish(&o, &err) == ESCROW_ECONFIG, "%s=%s", bad[i][0], bad[i][1]);
        options_fini(&o);
    }
    ck_assert_int_eq(options_init(&o, &err), 0);
    ck_assert_int_eq(options_set(&o, "adopt", "7312345678901234567/3", "here", &err), 0);
    ck_assert_int_eq(options_finish(&o, &err), 0);
    ck_assert(o.is_adopt);
    ck_assert_uint_eq(o.foreign_system, UINT64_C(7312345678901234567));
    ck_assert_uint_eq(o.foreign_timeline, 3);
    options_fini(&o);
}
END_TEST

START_TEST(the_example_names_every_option)
{
    /* And so does the help. */
    static const char *const keys[] = {"db",    "broker",       "source",   "check.listen",
                                       "adopt", "window.bytes", "log.level"};
    struct buf example;
    struct buf help;

    buf_init(&example, 0);
    buf_init(&help, 0);
    options_print_example(&example);
    options_print_help(&help);
    buf_append_u8(&example, 0);
    buf_append_u8(&help, 0);
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        ck_assert_ptr_nonnull(strstr((char *)example.ptr, keys[i]));
        ck_assert_ptr_nonnull(strstr((char *)help.ptr, keys[i]));
    }
    buf_fini(&example);
    buf_fini(&help);
}
END_TEST

START_TEST(failed_allocations_leak_nothing)
{
    /* The n-th allocation of init fails. */
    struct relay_options o;
    struct err_ctx err;
    int64_t live = mem_live_count();
    uint64_t n = 1;

    for (;; n++) {
        int rc;
        mem_fault_at(n);
        rc = options_init(&o, &err);
        mem_fault_at(0);
        if (rc == 0) {
            break;
        }
        ck_assert_int_eq(rc, ESCROW_ENOMEM);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 5);
    options_fini(&o);
    ck_assert_int_eq(mem_live_count(), live);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/relay/options");
    TCase *tc = tcase_create("options");
    SRunner *runner;
    int failed;

    tcase_add_test(tc, defaults_are_valid);
    tcase_add_test(tc, values_are_checked_where_they_come_from);
    tcase_add_test(tc, a_connection_string_is_read_before_it_is_used);
    tcase_add_test(tc, the_environment_is_read);
    tcase_add_test(tc, what_contradicts_is_refused);
    tcase_add_test(tc, the_example_names_every_option);
    tcase_add_test(tc, failed_allocations_leak_nothing);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
