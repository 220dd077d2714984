#include "src/broker/config.h"

#include "core/base/mem.h"
#include "core/base/slice.h"
#include "tests/unit/core/base/unit_main.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct option {
    const char *key;
    const char *kind;
    const char *fallback;
    uint64_t min;
    uint64_t max;
};

static const struct option options[] = {
#define X(member, key, kind, fallback, min, max, help) {key, #kind, fallback, min, max},
    CONFIG_OPTIONS(X)
#undef X
};

#define OPTION_COUNT (sizeof options / sizeof options[0])

static void init(struct config *c)
{
    ck_assert_int_eq(config_init(c, NULL), 0);
}

START_TEST(every_option_takes_its_default_and_its_bounds)
{
    /*
     * Numbers: minimum and maximum pass, one beyond does not, nor text; the error names option,
     * place and bounds.
     */
    struct config c;

    init(&c);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *o = &options[i];
        bool is_number = strcmp(o->kind, "NUMBER") == 0 || strcmp(o->kind, "SIZE") == 0;
        char text[32];
        struct err_ctx err = {.code = 0};
        ck_assert_int_eq(config_set(&c, o->key, o->fallback, "here", NULL), 0);
        if (!is_number) {
            continue;
        }
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)o->min); /* fits */
        ck_assert_int_eq(config_set(&c, o->key, text, "here", NULL), 0);
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)o->max); /* fits */
        ck_assert_int_eq(config_set(&c, o->key, text, "here", NULL), 0);
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)o->max + 1); /* fits */
        ck_assert_int_eq(config_set(&c, o->key, text, "here", &err), ESCROW_ECONFIG);
        ck_assert_ptr_nonnull(strstr(err.text, o->key));
        ck_assert_ptr_nonnull(strstr(err.text, "here"));
        ck_assert_int_eq(config_set(&c, o->key, "-1", "here", NULL), ESCROW_ECONFIG);
        ck_assert_int_eq(config_set(&c, o->key, "", "here", NULL), ESCROW_ECONFIG);
        ck_assert_int_eq(config_set(&c, o->key, "1x", "here", NULL), ESCROW_ECONFIG);
        ck_assert_int_eq(config_set(&c, o->key, "99999999999999999999", "here", NULL),
                         ESCROW_ECONFIG);
        if (o->min > 0) {
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)o->min - 1); /* fits */
            ck_assert_int_eq(config_set(&c, o->key, text, "here", NULL), ESCROW_ECONFIG);
        }
    }
    config_fini(&c);
}
END_TEST

START_TEST(sizes_have_units_and_numbers_have_none)
{
    /* k, m, g in both cases; a product that overflows is refused. */
    struct config c;

    init(&c);
    ck_assert_int_eq(config_set(&c, "log.segment.bytes", "2M", "x", NULL), 0);
    ck_assert_uint_eq(c.segment_bytes, 2u << 20);
    ck_assert_int_eq(config_set(&c, "log.segment.bytes", "1g", "x", NULL), 0);
    ck_assert_uint_eq(c.segment_bytes, 1u << 30);
    ck_assert_int_eq(config_set(&c, "message.max.bytes", "64K", "x", NULL), 0);
    ck_assert_uint_eq(c.message_max_bytes, 65536);
    ck_assert_int_eq(config_set(&c, "memory.max.bytes", "9223372036854775807g", "x", NULL),
                     ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "memory.max.bytes", "k", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "broker.port", "1k", "x", NULL), ESCROW_ECONFIG);
    config_fini(&c);
}
END_TEST

START_TEST(texts_choices_and_truths)
{
    /* Length, control characters, words that are none of the choices. */
    struct config c;
    char long_text[2000];

    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    init(&c);
    ck_assert_int_eq(config_set(&c, "broker.name", "", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "broker.name", long_text, "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "broker.name", "a\tb", "x", NULL), ESCROW_ECONFIG);
    ck_assert_str_eq(c.broker_name, "escrow-a");
    ck_assert_int_eq(config_set(&c, "flush", "async", "x", NULL), 0);
    ck_assert_int_eq(config_set(&c, "flush", "asyn", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "flush", "sync|async", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "flush", "", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "topic.auto.create", "no", "x", NULL), 0);
    ck_assert(!c.topic_auto_create);
    ck_assert_int_eq(config_set(&c, "topic.auto.create", "maybe", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "topic.auto", "true", "x", NULL), ESCROW_ECONFIG);
    config_fini(&c);
}
END_TEST

START_TEST(callbacks_by_group_with_a_default)
{
    /* The group's own URL, else the default's, else none; the last one given counts. */
    struct config c;

    init(&c);
    ck_assert_ptr_null(config_callback_url(&c, "orders"));
    ck_assert_int_eq(config_set(&c, "callback.orders", "http://a/1", "x", NULL), 0);
    ck_assert_ptr_null(config_callback_url(&c, "billing"));
    ck_assert_int_eq(config_set(&c, "callback.default", "https://b/2", "x", NULL), 0);
    ck_assert_int_eq(config_set(&c, "callback.orders", "http://a/3", "x", NULL), 0);
    ck_assert_str_eq(config_callback_url(&c, "orders"), "http://a/3");
    ck_assert_str_eq(config_callback_url(&c, "billing"), "https://b/2");
    ck_assert_int_eq(config_set(&c, "callback.", "http://a", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "callback.x", "ftp://a", "x", NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "callback.x", "", "x", NULL), ESCROW_ECONFIG);
    ck_assert_uint_eq(c.callback_count, 2);
    config_fini(&c);
}
END_TEST

/* A file with this text; its name in path. */
static void write_temp(char *path, size_t size, const char *text)
{
    int fd;

    (void)snprintf(path, size, "/tmp/escrow-config-XXXXXX"); /* fits */
    fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(a_file_is_read_line_by_line)
{
    /*
     * Comments, blanks and '=' in values; errors name file and line; what stood before the bad line
     * counts.
     */
    static const struct {
        const char *text;
        const char *error; /* NULL = fine */
    } cases[] = {
        {"", NULL},
        {"# c\n; c\n\n  broker.port  =  1234  \ncallback.g=http://h/?a=b", NULL},
        {"broker.port = 1\nnonsense\n", ":2"},
        {"broker.port = x\n", ":1"},
        {"\n\nno.such = 1\n", ":3"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct config c;
        struct err_ctx err = {.code = 0};
        char path[64];
        init(&c);
        write_temp(path, sizeof path, cases[i].text);
        ck_assert_int_eq(config_read_file(&c, path, &err),
                         cases[i].error == NULL ? 0 : ESCROW_ECONFIG);
        if (cases[i].error != NULL) {
            ck_assert_ptr_nonnull(strstr(err.text, path));
            ck_assert_ptr_nonnull(strstr(err.text, cases[i].error));
        }
        if (i == 1) {
            ck_assert_uint_eq(c.broker_port, 1234);
            ck_assert_str_eq(config_callback_url(&c, "g"), "http://h/?a=b");
        }
        (void)unlink(path);
        ck_assert_int_ne(config_read_file(&c, path, &err), 0); /* it is gone */
        config_fini(&c);
    }
}
END_TEST

START_TEST(the_environment_wins_over_the_file_and_loses_to_the_command_line)
{
    /* ESCROW_BROKER_PORT is broker.port; variables that name no option are left alone. */
    static char vars[][40] = {"ESCROW_BROKER_PORT=2", "ESCROW_LOG_SEGMENT_BYTES=2m",
                              "ESCROW_TEST_SEED=1", "PATH=/bin", "ESCROW_"};
    static char none[] = "ESCROW_BROKER_PORT=none";
    char *environment[] = {vars[0], vars[1], vars[2], vars[3], vars[4], NULL};
    char *bad[] = {none, NULL};
    struct config c;
    struct err_ctx err = {.code = 0};

    init(&c);
    ck_assert_int_eq(config_set(&c, "broker.port", "1", "file", NULL), 0);
    ck_assert_int_eq(config_read_environment(&c, environment, NULL), 0);
    ck_assert_uint_eq(c.broker_port, 2);
    ck_assert_uint_eq(c.segment_bytes, 2u << 20);
    ck_assert_int_eq(config_set(&c, "broker.port", "3", "--broker.port", NULL), 0);
    ck_assert_uint_eq(c.broker_port, 3);
    ck_assert_int_eq(config_read_environment(&c, bad, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "ESCROW_BROKER_PORT"));
    config_fini(&c);
}
END_TEST

START_TEST(options_are_checked_against_each_other)
{
    /* And what follows from them is derived. */
    struct config c;

    init(&c);
    ck_assert_int_eq(config_set(&c, "data.dir", "/d", "x", NULL), 0);
    ck_assert_int_eq(config_finish(&c, NULL), 0);
    ck_assert(c.is_broker && c.is_namesrv && !c.flush_async);
    ck_assert_int_eq(config_set(&c, "role", "broker", "x", NULL), 0);
    ck_assert_int_eq(config_finish(&c, NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "namesrv.addrs", "h:1", "x", NULL), 0);
    ck_assert_int_eq(config_finish(&c, NULL), 0);
    ck_assert(c.is_broker && !c.is_namesrv);
    ck_assert_int_eq(config_set(&c, "log.segment.bytes", "1048577", "x", NULL), 0);
    ck_assert_int_eq(config_finish(&c, NULL), ESCROW_ECONFIG);
    ck_assert_int_eq(config_set(&c, "log.segment.bytes", "1m", "x", NULL), 0);
    ck_assert_int_eq(config_set(&c, "txn.check.interval.max.ms", "10", "x", NULL), 0);
    ck_assert_int_eq(config_finish(&c, NULL), ESCROW_ECONFIG);
    config_fini(&c);
}
END_TEST

/* "key = value" of a commented example line, or false. */
static bool example_line(char *line, char **key, char **value)
{
    char *equals = strstr(line, " =");

    if (line[0] != '#' || line[1] == ' ' || line[1] == '\0' || equals == NULL) {
        return false;
    }
    *equals = '\0';
    *key = line + 1;
    *value = equals + 2;
    while (**value == ' ') {
        (*value)++;
    }
    (*value)[strcspn(*value, "\n")] = '\0';
    return true;
}

START_TEST(the_packaged_example_has_every_option_with_its_default)
{
    /* src/packaging/escrowd.conf and --print-config say the same as the table. */
    for (int i = 0; i < 2; i++) {
        struct buf text;
        FILE *in;
        char line[512];
        bool seen[OPTION_COUNT] = {false};
        buf_init(&text, 0);
        config_print_example(&text);
        in = i == 0 ? fopen(ESCROW_SOURCE_DIR "/src/packaging/escrowd.conf", "re")
                    : fmemopen(text.ptr, text.len, "r");
        ck_assert_ptr_nonnull(in);
        while (fgets(line, sizeof line, in) != NULL) {
            char *key;
            char *value;
            bool is_known = false;
            if (!example_line(line, &key, &value) ||
                (strncmp(key, "callback.", 9) == 0 && strcmp(key, "callback.timeout.ms") != 0)) {
                continue;
            }
            for (size_t k = 0; k < OPTION_COUNT; k++) {
                if (strcmp(options[k].key, key) == 0) {
                    ck_assert_msg(strcmp(options[k].fallback, value) == 0, "%s = '%s'", key, value);
                    seen[k] = is_known = true;
                }
            }
            ck_assert_msg(is_known, "no option %s", key);
        }
        for (size_t k = 0; k < OPTION_COUNT; k++) {
            ck_assert_msg(seen[k], "%s is missing", options[k].key);
        }
        (void)fclose(in);
        buf_fini(&text);
    }
}
END_TEST

START_TEST(a_failed_allocation_is_an_error)
{
    /* Each allocation of init and of a callback fails once; nothing leaks. */
    int64_t before = mem_live_count();
    int rc = ESCROW_ENOMEM;

    for (uint64_t n = 1; rc != 0; n++) {
        struct config c;
        mem_fault_at(n);
        rc = config_init(&c, NULL);
        if (rc == 0) {
            rc = config_set(&c, "callback.g", "http://h", "x", NULL);
            config_fini(&c);
        }
        mem_fault_at(0);
        ck_assert(rc == 0 || rc == ESCROW_ENOMEM);
        ck_assert_int_eq(mem_live_count(), before);
        ck_assert_uint_lt(n, 100);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("src/broker/config");
    TCase *tc = tcase_create("config");

    tcase_add_test(tc, every_option_takes_its_default_and_its_bounds);
    tcase_add_test(tc, sizes_have_units_and_numbers_have_none);
    tcase_add_test(tc, texts_choices_and_truths);
    tcase_add_test(tc, callbacks_by_group_with_a_default);
    tcase_add_test(tc, a_file_is_read_line_by_line);
    tcase_add_test(tc, the_environment_wins_over_the_file_and_loses_to_the_command_line);
    tcase_add_test(tc, options_are_checked_against_each_other);
    tcase_add_test(tc, the_packaged_example_has_every_option_with_its_default);
    tcase_add_test(tc, a_failed_allocation_is_an_error);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
