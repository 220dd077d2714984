/*
 * Key-value configuration of the name server (PROTOCOL.md, "PUT_KV_CONFIG"): what was answered is
 * there after a kill, in a process that is broker and name server, and in one that is a name server
 * alone. Every power cut: tests/unit/src/namesrv/test_kv_file.c.
 */
#include "tests/lib/broker_client.h"
#include "tests/lib/broker_fixture.h"

#include "core/proto/body_route.h"
#include "escrow/errors.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *const alone[] = {"--role", "namesrv", NULL};

static struct broker_fixture f;
static struct client c;

static void open_client(void)
{
    client_open(&c, f.name_port, HEADER_JSON);
}

static void start(const char *const *args)
{
    broker_fixture_start(&f, args);
    open_client();
}

static void stop(void)
{
    client_close(&c);
    broker_fixture_stop(&f);
}

static void restart_after_kill(void)
{
    broker_fixture_kill(&f);
    client_close(&c);
    broker_fixture_launch(&f);
    open_client();
}

/* A request in c.out; value: NULL for none. */
static void ask(int32_t code, const char *ns, const char *key, const char *value)
{
    struct header_writer *w = client_begin(&c, code, 0);

    header_put_str(w, "namespace", slice_str(ns));
    header_put_str(w, "key", slice_str(key));
    if (value != NULL) {
        header_put_str(w, "value", slice_str(value));
    }
}

static int32_t put(const char *ns, const char *key, const char *value)
{
    ask(REQUEST_PUT_KV_CONFIG, ns, key, value);
    return client_call(&c, SLICE_EMPTY);
}

static int32_t take_away(const char *ns, const char *key)
{
    ask(REQUEST_DELETE_KV_CONFIG, ns, key, NULL);
    return client_call(&c, SLICE_EMPTY);
}

/* NULL: there is none. */
static const char *get(const char *ns, const char *key)
{
    static char text[256];
    struct slice value = SLICE_EMPTY;

    ask(REQUEST_GET_KV_CONFIG, ns, key, NULL);
    if (client_call(&c, SLICE_EMPTY) == RESPONSE_QUERY_NOT_FOUND) {
        return NULL;
    }
    ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    ck_assert_int_eq(header_get_str(&c.header, "value", &value), 0);
    return slice_to_cstr(value, text, sizeof text);
}

static void kills(const char *const *args)
{
    start(args);
    ck_assert_int_eq(put("n", "k", "1"), RESPONSE_SUCCESS);
    restart_after_kill();
    ck_assert_str_eq(get("n", "k"), "1");
    ck_assert_int_eq(put("n", "k", "\"2\" \xc3\xa4"), RESPONSE_SUCCESS);
    ck_assert_int_eq(put("n", "gone", "x"), RESPONSE_SUCCESS);
    ck_assert_int_eq(take_away("n", "gone"), RESPONSE_SUCCESS);
    restart_after_kill();
    ck_assert_str_eq(get("n", "k"), "\"2\" \xc3\xa4");
    ck_assert_ptr_null(get("n", "gone"));
    ck_assert_int_eq(take_away("n", "gone"), RESPONSE_SUCCESS); /* as with RocketMQ */
    ck_assert_int_eq(put("n", "k", "3"), RESPONSE_SUCCESS);
    stop();
    broker_fixture_launch(&f);
    open_client();
    ck_assert_str_eq(get("n", "k"), "3");
    stop();
}

START_TEST(what_was_answered_is_there_after_a_kill)
{
    /* Broker and name server in one process. */
    kills(NULL);
}
END_TEST

START_TEST(a_name_server_alone_keeps_it_too)
{
    /* In the data folder, of which it uses nothing else. */
    kills(alone);
}
END_TEST

START_TEST(an_ordered_topic_is_still_one_after_a_kill)
{
    /* ORDER_TOPIC_CONFIG: the route says so. */
    start(NULL);
    for (int i = 0; i < 2; i++) {
        struct header_writer *w;
        struct route route;
        if (i == 0) {
            ck_assert_int_eq(put("ORDER_TOPIC_CONFIG", "TBW102", "escrow-a:4"), RESPONSE_SUCCESS);
        }
        w = client_begin(&c, REQUEST_GET_ROUTEINFO_BY_TOPIC, 0);
        header_put_str(w, "topic", SLICE_LIT("TBW102"));
        ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
        ck_assert_int_eq(route_decode(c.body, &route), 0);
        ck_assert(slice_eq_str(route.order_topic_conf, "escrow-a:4"));
        route_fini(&route);
        if (i == 0) {
            restart_after_kill();
        }
    }
    stop();
}
END_TEST

START_TEST(requests_in_a_row_are_obeyed_in_their_order)
{
    /* 200 on their way at once; each is answered; the last word counts, also after a kill. */
    struct buf all;
    char value[16];

    start(NULL);
    buf_init(&all, 0);
    for (int i = 0; i < 200; i++) {
        (void)snprintf(value, sizeof value, "%d", i);
        ask(i % 10 == 5 ? REQUEST_DELETE_KV_CONFIG : REQUEST_PUT_KV_CONFIG, "n", "k",
            i % 10 == 5 ? NULL : value);
        client_finish(&c, SLICE_EMPTY);
        buf_append_slice(&all, buf_slice(&c.out));
        buf_clear(&c.out);
    }
    ck_assert_int_eq(client_raw(&c, all.ptr, all.len), 0);
    buf_fini(&all);
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(client_receive(&c, CLIENT_WAIT_MS), 0);
        ck_assert_int_eq(c.header.code, RESPONSE_SUCCESS);
    }
    ck_assert_str_eq(get("n", "k"), "199");
    restart_after_kill();
    ck_assert_str_eq(get("n", "k"), "199");
    stop();
}
END_TEST

static void path_of(char *path, size_t size, const char *name)
{
    (void)snprintf(path, size, "%s/%s", f.folder, name);
}

START_TEST(a_damaged_file_stops_the_start_with_one_line)
{
    /* It says which file, what is wrong, and what to do; with the file as it was all is well. */
    char path[300];
    char byte = 0;
    int fd;

    start(NULL);
    ck_assert_int_eq(put("n", "k", "v"), RESPONSE_SUCCESS);
    stop();
    path_of(path, sizeof path, "namesrv/kv");
    fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pread(fd, &byte, 1, 30), 1);
        byte ^= 1;
        ck_assert_int_eq(pwrite(fd, &byte, 1, 30), 1);
        if (i == 0) {
            ck_assert_int_ne(broker_fixture_run(&f), 0);
            ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), f.folder));
            ck_assert_ptr_nonnull(
                strstr(broker_fixture_log(&f), "namesrv/kv: the checksum does not match"));
            ck_assert_ptr_nonnull(strstr(broker_fixture_log(&f), "put a copy of the file"));
        }
    }
    ck_assert_int_eq(close(fd), 0);
    broker_fixture_launch(&f);
    open_client();
    ck_assert_str_eq(get("n", "k"), "v");
    stop();
}
END_TEST

START_TEST(what_cannot_be_written_is_refused_and_not_true)
{
    /* The folder may not be written; then it may again, and the next change is taken. */
    char path[300];

    broker_fixture_init(&f, NULL);
    f.without_override = true;
    broker_fixture_launch(&f);
    open_client();
    ck_assert_int_eq(put("n", "k", "1"), RESPONSE_SUCCESS);
    path_of(path, sizeof path, "namesrv");
    ck_assert_int_eq(chmod(path, 0500), 0);
    ck_assert_int_ne(put("n", "k", "2"), RESPONSE_SUCCESS);
    ck_assert_int_eq(client_error(&c), ESCROW_EPERM);
    ck_assert_ptr_nonnull(memmem(c.header.remark.ptr, c.header.remark.len, "namesrv/kv", 10));
    ck_assert_str_eq(get("n", "k"), "1");
    ck_assert_int_ne(take_away("n", "k"), RESPONSE_SUCCESS);
    ck_assert_str_eq(get("n", "k"), "1");
    ck_assert_int_eq(chmod(path, 0700), 0);
    ck_assert_int_eq(put("n", "k", "3"), RESPONSE_SUCCESS);
    restart_after_kill();
    ck_assert_str_eq(get("n", "k"), "3");
    stop();
}
END_TEST

START_TEST(there_are_limits_and_the_refusal_says_which)
{
    /* Of a value, of a name, of all of them; what is there can be changed and taken away. */
    static char value[65536 + 2];
    struct header_writer *w;

    start(NULL);
    for (size_t len = 65536; len <= 65537; len++) {
        memset(value, 'x', len);
        value[len] = '\0';
        ck_assert_int_eq(put("n", "long", value),
                         len == 65536 ? RESPONSE_SUCCESS : RESPONSE_INVALID_PARAMETER);
    }
    ck_assert_ptr_nonnull(memmem(c.header.remark.ptr, c.header.remark.len, "65536", 5));
    ck_assert_int_eq(put("", "k", "v"), RESPONSE_INVALID_PARAMETER);
    value[65536] = '\0';
    for (int i = 0; i < 256; i++) { /* 16 MiB, or nearly */
        char name[16];
        (void)snprintf(name, sizeof name, "k%d", i);
        if (put("n", name, value) != RESPONSE_SUCCESS) {
            ck_assert_int_eq(client_error(&c), ESCROW_ELIMIT);
            ck_assert_ptr_nonnull(memmem(c.header.remark.ptr, c.header.remark.len, "16 MiB", 6));
            ck_assert_int_gt(i, 250);
            break;
        }
        ck_assert_int_lt(i, 255);
    }
    ck_assert_int_eq(put("n", "long", "short"), RESPONSE_SUCCESS);
    ck_assert_int_eq(take_away("n", "k0"), RESPONSE_SUCCESS);
    restart_after_kill();
    ck_assert_str_eq(get("n", "long"), "short");
    w = client_begin(&c, REQUEST_GET_KVLIST_BY_NAMESPACE, 0);
    header_put_str(w, "namespace", SLICE_LIT("n"));
    ck_assert_int_eq(client_call(&c, SLICE_EMPTY), RESPONSE_SUCCESS);
    ck_assert_uint_gt(c.body.len, 15u << 20);
    stop();
}
END_TEST

START_TEST(two_name_servers_do_not_share_a_folder)
{
    /* The second one does not start when there is something; its line says why. */
    static struct broker_fixture other;

    start(alone);
    ck_assert_int_eq(put("n", "k", "v"), RESPONSE_SUCCESS);
    broker_fixture_init(&other, alone);
    (void)snprintf(other.folder, sizeof other.folder, "%s", f.folder);
    ck_assert_int_ne(broker_fixture_run(&other), 0);
    ck_assert_ptr_nonnull(strstr(broker_fixture_log(&other), "another name server"));
    stop();
}
END_TEST

START_TEST(a_name_server_without_entries_makes_no_files)
{
    /* It asks nothing of the disk that it needs not. */
    char path[300];
    struct stat st;

    start(alone);
    ck_assert_ptr_null(get("n", "k"));
    ck_assert_int_eq(take_away("n", "k"), RESPONSE_SUCCESS);
    path_of(path, sizeof path, "namesrv");
    ck_assert_int_ne(stat(path, &st), 0);
    stop();
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, what_was_answered_is_there_after_a_kill);
    tcase_add_test(tc, a_name_server_alone_keeps_it_too);
    tcase_add_test(tc, an_ordered_topic_is_still_one_after_a_kill);
    tcase_add_test(tc, requests_in_a_row_are_obeyed_in_their_order);
    tcase_add_test(tc, a_damaged_file_stops_the_start_with_one_line);
    tcase_add_test(tc, what_cannot_be_written_is_refused_and_not_true);
    tcase_add_test(tc, there_are_limits_and_the_refusal_says_which);
    tcase_add_test(tc, two_name_servers_do_not_share_a_folder);
    tcase_add_test(tc, a_name_server_without_entries_makes_no_files);
}

int main(void)
{
    return broker_fixture_main("kv", 120, add_tests);
}
