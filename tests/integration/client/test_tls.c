/* libescrow over TLS, against an escrowd that wants it, and against ones that it did not expect. */
#include "tests/integration/client/rig.h"
#include "tests/lib/broker_fixture.h"
#include "tests/lib/temp_folder.h"
#include "tests/lib/test_certs.h"

#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_SIZE 128

static struct test_cert authority, stranger, cert;
static char folder[TEMP_FOLDER_MAX];
static char ca[PATH_SIZE], foreign_ca[PATH_SIZE];
static char server_cert[PATH_SIZE], server_key[PATH_SIZE]; /* 127.0.0.1 */
static char named_cert[PATH_SIZE], named_key[PATH_SIZE];   /* broker.example */
static char old_cert[PATH_SIZE], old_key[PATH_SIZE];       /* expired */
static char client_cert[PATH_SIZE], client_key[PATH_SIZE];
static struct rig rig;
static struct bag bag;

static void save_pair(const char *name, char *cert_path, char *key_path)
{
    char file[32];

    (void)snprintf(file, sizeof file, "%s.pem", name); /* fits */
    test_cert_save(folder, file, cert.certificate, 0644, cert_path, PATH_SIZE);
    (void)snprintf(file, sizeof file, "%s.key", name); /* fits */
    test_cert_save(folder, file, cert.key, 0600, key_path, PATH_SIZE);
}

static void setup(void)
{
    ck_assert(temp_folder_make(folder, "tls"));
    test_authority(&authority, "tests");
    test_authority(&stranger, "strangers");
    test_cert_save(folder, "ca.pem", authority.certificate, 0644, ca, sizeof ca);
    test_cert_save(folder, "foreign.pem", stranger.certificate, 0644, foreign_ca,
                   sizeof foreign_ca);
    test_certificate(&cert, &authority, "IP:127.0.0.1", NULL);
    save_pair("server", server_cert, server_key);
    test_certificate(&cert, &authority, "DNS:broker.example", NULL);
    save_pair("named", named_cert, named_key);
    test_certificate(&cert, &authority, "IP:127.0.0.1", "20210101000000Z");
    save_pair("old", old_cert, old_key);
    test_certificate(&cert, &authority, NULL, NULL);
    save_pair("client", client_cert, client_key);
    bag_init(&bag);
}

static void teardown(void)
{
    const char *const files[] = {ca,        foreign_ca, server_cert, server_key,  named_cert,
                                 named_key, old_cert,   old_key,     client_cert, client_key};

    bag_fini(&bag);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        ck_assert_int_eq(unlink(files[i]), 0);
    }
    ck_assert_int_eq(rmdir(folder), 0);
}

static const char *args[RIG_ARGS_MAX];

/* With this certificate; `check` of clients. */
static void start(const char *mode, const char *own_cert, const char *own_key, const char *check)
{
    const char *const all[] = {"--tls.mode",
                               mode,
                               "--tls.cert.file",
                               own_cert,
                               "--tls.key.file",
                               own_key,
                               "--tls.ca.file",
                               ca,
                               "--tls.client.cert",
                               check,
                               "--txn.timeout.ms",
                               "100",
                               "--txn.check.interval.ms",
                               "100",
                               NULL};

    memcpy(args, all, sizeof all);
    rig_start(&rig, strcmp(mode, "disabled") == 0 ? NULL : args);
}

struct way {
    const char *tls;  /* option tls */
    const char *ca;   /* NULL: none given */
    const char *name; /* tls.server.name, or NULL */
    bool has_own;     /* shows a certificate */
    const char *header;
};

static struct escrow_client *client_at(const char *servers, const struct way *way)
{
    struct escrow_option options[8] = {{"tls", way->tls}};
    size_t n = 1;

    if (way->ca != NULL) {
        options[n++] = (struct escrow_option){"tls.ca.file", way->ca};
    }
    if (way->name != NULL) {
        options[n++] = (struct escrow_option){"tls.server.name", way->name};
    }
    if (way->has_own) {
        options[n++] = (struct escrow_option){"tls.cert.file", client_cert};
        options[n++] = (struct escrow_option){"tls.key.file", client_key};
    }
    if (way->header != NULL) {
        options[n++] = (struct escrow_option){"header", way->header};
    }
    options[n] = (struct escrow_option){NULL, NULL};
    return rig_client_with(servers, options);
}

/* What becomes of one send. */
static int send_at(const char *servers, const struct way *way, const char *text)
{
    static const struct escrow_option once[] = {{"retries", "0"}, {NULL, NULL}};
    struct escrow_client *c = client_at(servers, way);
    struct escrow_producer *p = NULL;
    int rc;

    OK(escrow_producer_new(c, "shop", once, &p));
    rc = rig_send(p, "Orders", text);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    return rc;
}

static int send_way(const struct way *way)
{
    return send_at(rig.name_server, way, "x");
}

static enum escrow_txn_state decides(const struct escrow_message *message, const char *id,
                                     void *arg)
{
    (void)message;
    (void)id;
    return *(const enum escrow_txn_state *)arg;
}

/* Says what `decides` said: on a slow machine a check-back comes first. */
static enum escrow_txn_state is_asked(const struct escrow_delivery *message, const char *id,
                                      void *arg)
{
    size_t len;
    const char *body = escrow_delivery_body(message, &len);

    (void)id;
    (void)arg;
    return len > 0 && body[0] == 'r' ? ESCROW_TXN_ROLLBACK : ESCROW_TXN_COMMIT;
}

static void run_txn(struct escrow_producer *p, const char *text, enum escrow_txn_state outcome)
{
    struct escrow_message *m = rig_message("Orders", text);
    struct escrow_receipt *r = NULL;
    enum escrow_txn_state state;

    OK(escrow_txn_send(p, m, decides, &outcome, &state, &r));
    escrow_receipt_free(&r);
    escrow_message_free(&m);
}

/* Sends, a commit, a rollback, a check-back and consuming, both sides with certificates. */
START_TEST(everything_works_over_tls)
{
    static const char *const headers[] = {"auto", "json", "rocketmq", "msgpack"};
    struct way way = {.tls = "on", .ca = ca, .has_own = true, .header = headers[_i]};
    struct escrow_producer *p = NULL;
    struct escrow_consumer *k;
    struct escrow_client *c;

    start("enforcing", server_cert, server_key, "required");
    c = client_at(rig.name_server, &way);
    OK(escrow_txn_producer_new(c, "shop", NULL, is_asked, NULL, &p));
    OK(rig_send(p, "Orders", "plain"));
    run_txn(p, "rolled back", ESCROW_TXN_ROLLBACK);
    run_txn(p, "committed", ESCROW_TXN_COMMIT);
    run_txn(p, "asked for", ESCROW_TXN_UNKNOWN);
    k = rig_consume(c, "readers", "Orders", "*", NULL, bag_handler, &bag);
    bag_wait_distinct(&bag, 3);
    ck_assert_uint_eq(bag_count_of(&bag, "rolled back"), 0);
    escrow_consumer_free(&k);
    escrow_producer_free(&p);
    escrow_client_free(&c);
    rig_stop(&rig);
}
END_TEST

/* A large message, in both directions: many records, read in many pieces. */
START_TEST(a_large_message_passes)
{
    struct way way = {.tls = "on", .ca = ca};
    static char text[1024 * 1024 + 1];
    struct escrow_consumer *k;
    struct escrow_client *c;

    for (size_t i = 0; i + 1 < sizeof text; i++) {
        text[i] = (char)('a' + (i * 7 + i / 1000) % 26);
    }
    start("permissive", server_cert, server_key, "none");
    ck_assert_int_eq(send_at(rig.name_server, &way, text), 0);
    c = client_at(rig.name_server, &way);
    k = rig_consume(c, "readers", "Orders", "*", NULL, bag_handler, &bag);
    bag_wait_for(&bag, text);
    escrow_consumer_free(&k);
    escrow_client_free(&c);
    rig_stop(&rig);
}
END_TEST

/* Servers and clients that do not fit: what the client is told. */
static const struct fit {
    const char *mode;
    char *cert, *key;
    const char *check;
    const char *tls;
    char *ca;
    const char *name;
    bool has_own;
    int want;
} fits[] = {
    /* the authority */
    {"enforcing", server_cert, server_key, "none", "on", ca, NULL, false, 0},
    {"enforcing", server_cert, server_key, "none", "on", foreign_ca, NULL, false, ESCROW_ETLS},
    {"enforcing", server_cert, server_key, "none", "on", NULL, NULL, false, ESCROW_ETLS},
    {"enforcing", server_cert, server_key, "none", "insecure", foreign_ca, NULL, false, 0},
    {"enforcing", server_cert, server_key, "none", "insecure", NULL, NULL, false, 0},
    /* the name */
    {"enforcing", named_cert, named_key, "none", "on", ca, NULL, false, ESCROW_ETLS},
    {"enforcing", named_cert, named_key, "none", "on", ca, "broker.example", false, 0},
    {"enforcing", server_cert, server_key, "none", "on", ca, "broker.example", false, ESCROW_ETLS},
    /* the time */
    {"enforcing", old_cert, old_key, "none", "on", ca, NULL, false, ESCROW_ETLS},
    {"enforcing", old_cert, old_key, "none", "insecure", NULL, NULL, false, 0},
    /* the client's certificate */
    {"enforcing", server_cert, server_key, "required", "on", ca, NULL, false, ESCROW_ETLS},
    {"enforcing", server_cert, server_key, "required", "insecure", NULL, NULL, false, ESCROW_ETLS},
    {"enforcing", server_cert, server_key, "required", "on", ca, NULL, true, 0},
    {"enforcing", server_cert, server_key, "optional", "on", ca, NULL, false, 0},
    /* one side speaks it */
    {"enforcing", server_cert, server_key, "none", "off", NULL, NULL, false, ESCROW_EAUTH},
    {"permissive", server_cert, server_key, "none", "off", NULL, NULL, false, 0},
    {"permissive", server_cert, server_key, "none", "on", ca, NULL, false, 0},
    {"disabled", server_cert, server_key, "none", "on", ca, NULL, false, ESCROW_ETLS},
};

START_TEST(what_does_not_fit_is_refused)
{
    const struct fit *f = &fits[_i];
    struct way way = {.tls = f->tls, .ca = f->ca, .name = f->name, .has_own = f->has_own};
    int rc;

    start(f->mode, f->cert, f->key, f->check);
    rc = send_way(&way);
    ck_assert_msg(rc == f->want, "%s, not %s: %s", escrow_error_name(rc),
                  escrow_error_name(f->want), escrow_last_error());
    rig_stop(&rig);
}
END_TEST

/* New certificates count from SIGHUP on; files that are no good change nothing. */
START_TEST(certificates_are_read_again)
{
    static struct broker_fixture f;
    static struct test_cert next;
    const char *const with[] = {"--tls.mode", "enforcing",      "--tls.cert.file",
                                server_cert,  "--tls.key.file", server_key,
                                NULL};
    struct way old_way = {.tls = "on", .ca = ca};
    struct way new_way = {.tls = "on", .ca = foreign_ca};
    char servers[64];

    broker_fixture_start(&f, with);
    (void)snprintf(servers, sizeof servers, "127.0.0.1:%u", f.name_port); /* fits */
    ck_assert_int_eq(send_at(servers, &old_way, "x"), 0);
    test_cert_save(folder, "server.pem", "nonsense", 0644, server_cert, PATH_SIZE);
    ck_assert_int_eq(kill(f.pid, SIGHUP), 0);
    broker_fixture_await(&f, "tls.reload.failed");
    broker_fixture_await(&f, "what was read before stays");
    ck_assert_int_eq(send_at(servers, &old_way, "x"), 0);
    test_certificate(&next, &stranger, "IP:127.0.0.1", NULL);
    test_cert_save(folder, "server.pem", next.certificate, 0644, server_cert, PATH_SIZE);
    test_cert_save(folder, "server.key", next.key, 0600, server_key, PATH_SIZE);
    ck_assert_int_eq(kill(f.pid, SIGHUP), 0);
    broker_fixture_await(&f, "were read again");
    ck_assert_int_eq(send_at(servers, &new_way, "x"), 0);
    ck_assert_int_eq(send_at(servers, &old_way, "x"), ESCROW_ETLS);
    broker_fixture_stop(&f);
}
END_TEST

/* Options that cannot work are refused when the client is made, in words. */
START_TEST(bad_options_are_refused)
{
    const struct {
        struct escrow_option options[4];
        const char *text;
    } rows[] = {
        {{{"tls", "maybe"}, {NULL, NULL}}, "expected off, on or insecure"},
        {{{"tls.ca.file", ca}, {NULL, NULL}}, "TLS is off"},
        {{{"tls", "on"}, {"tls.ca.file", "/nowhere"}, {NULL, NULL}}, "/nowhere: No such"},
        {{{"tls", "on"}, {"tls.ca.file", client_key}, {NULL, NULL}}, "no certificate"},
        {{{"tls", "on"}, {"tls.cert.file", client_cert}, {NULL, NULL}}, "only one of the two"},
        {{{"tls", "on"}, {"tls.cert.file", client_cert}, {"tls.key.file", client_key}},
         "others can get at the private key"},
    };
    struct escrow_client *c = NULL;

    ck_assert_int_eq(chmod(client_key, _i == 5 ? 0644 : 0600), 0);
    ck_assert_int_eq(escrow_client_new("127.0.0.1:1", rows[_i].options, &c), ESCROW_ECONFIG);
    ck_assert_ptr_null(c);
    ck_assert_msg(strstr(escrow_last_error(), rows[_i].text) != NULL, "%s", escrow_last_error());
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_loop_test(tc, everything_works_over_tls, 0, 4);
    tcase_add_test(tc, a_large_message_passes);
    tcase_add_loop_test(tc, what_does_not_fit_is_refused, 0, (int)(sizeof fits / sizeof fits[0]));
    tcase_add_test(tc, certificates_are_read_again);
    tcase_add_loop_test(tc, bad_options_are_refused, 0, 6);
}

int main(void)
{
    return broker_fixture_main("tls", 60, add_tests);
}
