/* core/tls: both ends in memory, and ends that are not what they say. */
#include "core/base/mem.h"
#include "core/tls/tls.h"
#include "tests/lib/test_certs.h"

#include <check.h>
#include <openssl/ssl.h>
#include <string.h>

/* One side: what it has written and the other has not read, and the plain bytes that it got. */
struct side {
    struct tls_session *tls;
    struct buf out;
    struct buf got;
    int rc; /* the first that was not 0 */
};

static struct test_cert authority, stranger, server_cert, client_cert, foreign_cert;

static void setup(void)
{
    test_authority(&authority, "tests");
    test_authority(&stranger, "strangers");
    test_certificate(&server_cert, &authority, "DNS:broker.example,DNS:*.many.example,IP:10.0.0.1",
                     NULL);
    test_certificate(&client_cert, &authority, NULL, NULL);
    test_certificate(&foreign_cert, &stranger, NULL, NULL);
}

static struct tls_config config_of(bool is_server, enum tls_check check,
                                   const struct test_cert *own, const struct test_cert *trusted)
{
    struct tls_config c = {.is_server = is_server, .check = check};

    if (own != NULL) {
        c.certificate = slice_str(own->certificate);
        c.key = slice_str(own->key);
    }
    if (trusted != NULL) {
        c.ca = slice_str(trusted->certificate);
    }
    return c;
}

static void side_init(struct side *s, const struct tls_config *config, const char *name,
                      int64_t now_s)
{
    struct tls_context *context;
    struct err_ctx err = {.code = 0};

    *s = (struct side){.rc = 0};
    buf_init(&s->out, 0);
    buf_init(&s->got, 0);
    ck_assert_msg(tls_context_new(config, &context, &err) == 0, "%s", err.text);
    ck_assert_int_eq(tls_session_new(context, name, now_s, &s->tls), 0);
    tls_context_free(&context); /* the session goes on without it */
}

static void side_fini(struct side *s)
{
    tls_session_free(&s->tls);
    buf_fini(&s->out);
    buf_fini(&s->got);
}

/* Give a side bytes; everything readable goes to `got`. */
static void side_take(struct side *s, struct slice bytes)
{
    uint8_t plain[1000];
    ssize_t n;

    if (s->rc != 0) {
        return;
    }
    tls_feed(s->tls, bytes);
    while ((n = tls_read(s->tls, plain, sizeof plain, &s->out)) > 0) {
        buf_append(&s->got, plain, (size_t)n);
    }
    s->rc = (int)n;
}

/* Let both talk, `step` bytes at a time, until neither has anything to say. */
static void talk(struct side *a, struct side *b, size_t step)
{
    while (a->out.len + b->out.len > 0) {
        struct side *from = a->out.len > 0 ? a : b;
        struct side *to = from == a ? b : a;
        uint8_t piece[65536];
        size_t n = from->out.len < step ? from->out.len : step;
        memcpy(piece, from->out.ptr, n);
        buf_consume(&from->out, n);
        side_take(to, slice_of(piece, n));
    }
}

struct pair {
    struct side client, server;
};

static void pair_init(struct pair *p, const struct tls_config *client,
                      const struct tls_config *server, const char *name)
{
    side_init(&p->client, client, name, CERTS_NOW_S);
    side_init(&p->server, server, NULL, CERTS_NOW_S);
    ck_assert_int_eq(tls_start(p->client.tls, &p->client.out), 0);
}

static void pair_fini(struct pair *p)
{
    side_fini(&p->client);
    side_fini(&p->server);
}

static void pair_default(struct pair *p)
{
    struct tls_config client = config_of(false, TLS_CHECK_REQUIRED, NULL, &authority);
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);

    pair_init(p, &client, &server, "broker.example");
}

/* What is written on one side is read on the other, whatever pieces the network makes of it. */
START_TEST(bytes_pass_both_ways_in_any_pieces)
{
    static const size_t steps[] = {1, 7, 1000, 65536};
    static uint8_t text[50000];
    struct pair p;

    for (size_t i = 0; i < sizeof text; i++) {
        text[i] = (uint8_t)(i * 31 + (i >> 8));
    }
    pair_default(&p);
    talk(&p.client, &p.server, steps[_i]);
    ck_assert(tls_is_established(p.client.tls) && tls_is_established(p.server.tls));
    ck_assert_str_eq(tls_version(p.client.tls), "TLSv1.3");
    ck_assert(!tls_has_peer_certificate(p.server.tls));
    ck_assert_int_eq(tls_write(p.client.tls, slice_of(text, sizeof text), &p.client.out), 0);
    ck_assert_uint_le(p.client.out.len, sizeof text + 4 * TLS_RECORD_OVERHEAD_MAX);
    ck_assert_int_eq(tls_write(p.server.tls, slice_of(text, 100), &p.server.out), 0);
    talk(&p.client, &p.server, steps[_i]);
    ck_assert_uint_eq(p.server.got.len, sizeof text);
    ck_assert_mem_eq(p.server.got.ptr, text, sizeof text);
    ck_assert_uint_eq(p.client.got.len, 100);
    ck_assert_int_eq(p.client.rc, 0);
    ck_assert_int_eq(p.server.rc, 0);
    pair_fini(&p);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* The end is said, and told apart from a connection that was cut. */
START_TEST(the_end_is_announced)
{
    struct pair p;

    pair_default(&p);
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(tls_close(p.client.tls, &p.client.out), 0);
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.server.rc, ESCROW_ECLOSED);
    pair_fini(&p);
}
END_TEST

/* Who the client wants to talk to, and whether the certificate is theirs. */
static const struct name_case {
    const char *name;
    const char *error; /* part of the client's line; NULL: fine */
} names[] = {
    {"broker.example", NULL},
    {"BROKER.example", NULL},
    {"a.many.example", NULL},
    {"10.0.0.1", NULL},
    {"a.b.many.example", "ostname mismatch"},
    {"other.example", "ostname mismatch"},
    {"common.example", "ostname mismatch"}, /* its common name */
    {"10.0.0.2", "IP address mismatch"},
    {"::1", "IP address mismatch"},
};

START_TEST(a_client_checks_the_name)
{
    struct tls_config client = config_of(false, TLS_CHECK_REQUIRED, NULL, &authority);
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    const struct name_case *c = &names[_i];
    struct pair p;

    pair_init(&p, &client, &server, c->name);
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.client.rc, c->error == NULL ? 0 : ESCROW_ETLS);
    ck_assert_msg(c->error == NULL || strstr(tls_error(p.client.tls), c->error) != NULL, "%s: %s",
                  c->name, tls_error(p.client.tls));
    ck_assert(tls_is_established(p.client.tls) == (c->error == NULL));
    pair_fini(&p);
}
END_TEST

/* A certificate without names is for nobody, whatever its common name is. */
START_TEST(a_common_name_is_no_name)
{
    struct tls_config client = config_of(false, TLS_CHECK_REQUIRED, NULL, &authority);
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &client_cert, NULL);
    struct pair p;

    pair_init(&p, &client, &server, "common.example");
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.client.rc, ESCROW_ETLS);
    pair_fini(&p);
}
END_TEST

/* An authority that the client does not know; with no check at all nothing is looked at. */
START_TEST(a_client_checks_the_authority)
{
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    struct tls_config wrong = config_of(false, TLS_CHECK_REQUIRED, NULL, &stranger);
    struct tls_config none = config_of(false, TLS_CHECK_NONE, NULL, NULL);
    struct pair p;

    pair_init(&p, &wrong, &server, "broker.example");
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.client.rc, ESCROW_ETLS);
    ck_assert_ptr_nonnull(strstr(tls_error(p.client.tls), "certificate verify failed: "));
    ck_assert_int_eq(p.server.rc, ESCROW_ETLS); /* the client has said why */
    ck_assert_ptr_nonnull(strstr(tls_error(p.server.tls), "unknown ca"));
    pair_fini(&p);
    pair_init(&p, &none, &server, "whoever");
    talk(&p.client, &p.server, 65536);
    ck_assert(tls_is_established(p.client.tls) && tls_is_established(p.server.tls));
    pair_fini(&p);
}
END_TEST

/* Certificates are judged by the time that is given. */
START_TEST(a_certificate_has_its_time)
{
    struct tls_config client = config_of(false, TLS_CHECK_REQUIRED, NULL, &authority);
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    static const struct {
        int64_t now_s;
        const char *error;
    } times[] = {{INT64_C(1500000000), "not yet valid"}, {INT64_C(4200000000), "has expired"}};
    struct pair p;

    side_init(&p.client, &client, "broker.example", times[_i].now_s);
    side_init(&p.server, &server, NULL, CERTS_NOW_S);
    ck_assert_int_eq(tls_start(p.client.tls, &p.client.out), 0);
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.client.rc, ESCROW_ETLS);
    ck_assert_msg(strstr(tls_error(p.client.tls), times[_i].error) != NULL, "%s",
                  tls_error(p.client.tls));
    pair_fini(&p);
}
END_TEST

/* What a server makes of the certificate that a client shows or does not show. */
static const struct client_case {
    enum tls_check check;
    int own; /* 0 none, 1 good, 2 of another authority */
    bool is_fine;
} clients[] = {
    {TLS_CHECK_NONE, 0, true},      {TLS_CHECK_NONE, 1, true},     {TLS_CHECK_NONE, 2, true},
    {TLS_CHECK_OPTIONAL, 0, true},  {TLS_CHECK_OPTIONAL, 1, true}, {TLS_CHECK_OPTIONAL, 2, false},
    {TLS_CHECK_REQUIRED, 0, false}, {TLS_CHECK_REQUIRED, 1, true}, {TLS_CHECK_REQUIRED, 2, false},
};

START_TEST(a_server_checks_client_certificates)
{
    const struct client_case *c = &clients[_i];
    const struct test_cert *own = c->own == 0 ? NULL : c->own == 1 ? &client_cert : &foreign_cert;
    struct tls_config client = config_of(false, TLS_CHECK_REQUIRED, own, &authority);
    struct tls_config server = config_of(true, c->check, &server_cert, &authority);
    struct pair p;

    pair_init(&p, &client, &server, "broker.example");
    talk(&p.client, &p.server, 65536);
    ck_assert_int_eq(p.server.rc, c->is_fine ? 0 : ESCROW_ETLS);
    ck_assert(tls_is_established(p.server.tls) == c->is_fine);
    ck_assert(tls_has_peer_certificate(p.server.tls) ==
              (c->is_fine && c->own == 1 && c->check != TLS_CHECK_NONE));
    ck_assert_int_eq(p.client.rc, c->is_fine ? 0 : ESCROW_ETLS); /* the server has said why */
    ck_assert(c->is_fine || tls_error(p.client.tls)[0] != '\0');
    pair_fini(&p);
}
END_TEST

/* Bytes that are no TLS: an error with a reason, at once or never, and no memory for them. */
START_TEST(what_is_not_tls_is_refused)
{
    static const char *const texts[] = {"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                        "\x16\x03\x01\xff\xff........................",
                                        "\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00........",
                                        "\x15\x03\x03\x00\x02\x02\x28........................",
                                        "\x17\x03\x03\x00\x10................................"};
    static const size_t sizes[] = {27, 29, 18, 31, 37};
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    struct side s;

    side_init(&s, &server, NULL, CERTS_NOW_S);
    side_take(&s, slice_of(texts[_i], sizes[_i]));
    ck_assert_int_eq(s.rc, ESCROW_ETLS);
    ck_assert_str_ne(tls_error(s.tls), "");
    ck_assert(!tls_is_established(s.tls));
    side_fini(&s);
}
END_TEST

/* A handshake that is cut anywhere waits for more, and can be thrown away there. */
START_TEST(a_handshake_may_end_anywhere)
{
    struct pair whole;
    struct buf hello;

    pair_default(&whole);
    buf_init(&hello, 0);
    buf_append_slice(&hello, buf_slice(&whole.client.out));
    for (size_t len = 0; len < hello.len; len++) {
        struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
        struct side s;
        side_init(&s, &server, NULL, CERTS_NOW_S);
        side_take(&s, slice_of(hello.ptr, len));
        ck_assert_int_eq(s.rc, 0);
        ck_assert_uint_eq(s.out.len, 0);
        ck_assert(!tls_is_established(s.tls));
        side_fini(&s);
    }
    buf_fini(&hello);
    pair_fini(&whole);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* A byte that changed on the way, anywhere in the handshake or after it, is never taken as good. */
START_TEST(changed_bytes_are_noticed)
{
    struct pair p;
    size_t at = (size_t)_i * 41;
    size_t done = 0;
    bool is_changed = false;

    pair_default(&p);
    while (!is_changed && p.client.out.len > 0 && p.client.rc == 0 && p.server.rc == 0) {
        if (at < done + p.client.out.len) {
            p.client.out.ptr[at - done] ^= 0x40;
            is_changed = true;
        }
        done += p.client.out.len;
        side_take(&p.server, buf_slice(&p.client.out));
        buf_clear(&p.client.out);
        side_take(&p.client, buf_slice(&p.server.out));
        buf_clear(&p.server.out);
        if (tls_is_established(p.server.tls) && done < 1000) {
            ck_assert_int_eq(tls_write(p.client.tls, SLICE_LIT("pay 10"), &p.client.out), 0);
        }
    }
    talk(&p.client, &p.server, 65536);
    ck_assert(!is_changed || !tls_is_established(p.client.tls) ||
              !tls_is_established(p.server.tls) || p.server.rc != 0 || p.server.got.len % 6 == 0);
    for (size_t i = 0; i + 6 <= p.server.got.len; i += 6) {
        ck_assert_mem_eq(p.server.got.ptr + i, "pay 10", 6);
    }
    pair_fini(&p);
}
END_TEST

/* Handshake records without end are cut off at the limit, not collected. */
START_TEST(a_handshake_is_bounded)
{
    static uint8_t record[5 + 16384];
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    struct side s;
    size_t sent = 0;

    /* A ClientHello of 128 KiB, which OpenSSL alone would collect, in records of 16 KiB. */
    memcpy(record, "\x16\x03\x01\x40\x00\x01\x01\xff\xff\x03\x03", 11);
    side_init(&s, &server, NULL, CERTS_NOW_S);
    while (s.rc == 0 && sent < 16 * TLS_HANDSHAKE_BYTES_MAX) {
        side_take(&s, slice_of(record, sizeof record));
        sent += sizeof record;
    }
    ck_assert_int_eq(s.rc, ESCROW_ETLS);
    ck_assert_uint_le(sent, TLS_HANDSHAKE_BYTES_MAX + sizeof record);
    ck_assert_str_eq(tls_error(s.tls), "handshake larger than 65536 bytes");
    side_fini(&s);
}
END_TEST

/* The limit counts the handshake only: what follows it in the same piece is not part of it. */
START_TEST(what_follows_the_handshake_is_not_bounded)
{
    static uint8_t text[4 * TLS_HANDSHAKE_BYTES_MAX];
    struct pair p;

    pair_default(&p);
    side_take(&p.server, buf_slice(&p.client.out));
    buf_clear(&p.client.out);
    side_take(&p.client, buf_slice(&p.server.out));
    buf_clear(&p.server.out);
    ck_assert(tls_is_established(p.client.tls));
    ck_assert(!tls_is_established(p.server.tls)); /* its last message is still in client.out */
    ck_assert_int_eq(tls_write(p.client.tls, slice_of(text, sizeof text), &p.client.out), 0);
    side_take(&p.server, buf_slice(&p.client.out));
    ck_assert_int_eq(p.server.rc, 0);
    ck_assert_uint_eq(p.server.got.len, sizeof text);
    pair_fini(&p);
}
END_TEST

/* A client that can only speak what is too old gets an alert, and the line says so. */
START_TEST(old_versions_are_refused)
{
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    SSL_CTX *old = SSL_CTX_new(TLS_client_method());
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    uint8_t hello[2048];
    struct side s;
    SSL *ssl;
    int n;

    ck_assert_ptr_nonnull(old);
    SSL_CTX_set_security_level(old, 0);
    ck_assert_int_eq(SSL_CTX_set_min_proto_version(old, TLS1_VERSION), 1);
    ck_assert_int_eq(SSL_CTX_set_max_proto_version(old, TLS1_1_VERSION), 1);
    ssl = SSL_new(old);
    SSL_set_connect_state(ssl);
    SSL_set_bio(ssl, in, out);
    ck_assert_int_lt(SSL_do_handshake(ssl), 1);
    n = BIO_read(out, hello, sizeof hello);
    ck_assert_int_gt(n, 0);
    side_init(&s, &server, NULL, CERTS_NOW_S);
    side_take(&s, slice_of(hello, (size_t)n));
    ck_assert_int_eq(s.rc, ESCROW_ETLS);
    ck_assert_msg(strstr(tls_error(s.tls), "unsupported protocol") != NULL, "%s", tls_error(s.tls));
    ck_assert_uint_ge(s.out.len, 7);
    ck_assert_uint_eq(s.out.ptr[0], 0x15); /* an alert */
    side_fini(&s);
    SSL_free(ssl);
    SSL_CTX_free(old);
}
END_TEST

/* TLS 1.2 works; its client may not renegotiate. */
START_TEST(nothing_is_renegotiated)
{
    struct tls_config server = config_of(true, TLS_CHECK_NONE, &server_cert, NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    BIO *in = BIO_new(BIO_s_mem());
    BIO *out = BIO_new(BIO_s_mem());
    uint8_t piece[16384];
    struct side s;
    SSL *ssl;
    int n;

    ck_assert_int_eq(SSL_CTX_set_max_proto_version(context, TLS1_2_VERSION), 1);
    ssl = SSL_new(context);
    SSL_set_connect_state(ssl);
    SSL_set_bio(ssl, in, out);
    side_init(&s, &server, NULL, CERTS_NOW_S);
    while (SSL_do_handshake(ssl) != 1) {
        n = BIO_read(out, piece, sizeof piece);
        ck_assert_int_gt(n, 0);
        side_take(&s, slice_of(piece, (size_t)n));
        ck_assert_int_eq(s.rc, 0);
        ck_assert_int_gt(BIO_write(in, s.out.ptr, (int)s.out.len), 0);
        buf_clear(&s.out);
    }
    ck_assert(tls_is_established(s.tls));
    ck_assert_str_eq(tls_version(s.tls), "TLSv1.2");
    ck_assert_int_eq(SSL_renegotiate(ssl), 1);
    ck_assert_int_lt(SSL_do_handshake(ssl), 1);
    n = BIO_read(out, piece, sizeof piece);
    ck_assert_int_gt(n, 0);
    side_take(&s, slice_of(piece, (size_t)n));
    ck_assert(tls_is_established(s.tls)); /* still the first one */
    ck_assert_uint_gt(s.out.len, 0);
    ck_assert_uint_lt(s.out.len, 100); /* an alert, no ServerHello */
    side_fini(&s);
    SSL_free(ssl);
    SSL_CTX_free(context);
}
END_TEST

/* Texts that cannot be used are refused when the context is made, with the one that is wrong. */
START_TEST(bad_texts_are_named)
{
    struct test_cert locked = client_cert;
    struct tls_config c[7];
    static const char *const parts[7] = {
        "key: does not belong",           "certificate: no certificate", "only one of the two",
        "authorities: client cert",       "authorities: no certificate", "key: no private key",
        "certificate: a server needs one"};
    struct err_ctx err = {.code = 0};
    struct tls_context *context;

    for (int i = 0; i < 7; i++) {
        c[i] = config_of(true, TLS_CHECK_REQUIRED, &server_cert, &authority);
    }
    test_key_locked(&locked);
    c[0].key = slice_str(client_cert.key);
    c[1].certificate = SLICE_LIT("what is this?\n");
    c[2].key = SLICE_EMPTY;
    c[3].ca = SLICE_EMPTY;
    c[4].ca = slice_str(server_cert.key);
    c[5].key = slice_str(locked.key);
    c[6].key = c[6].certificate = SLICE_EMPTY;
    ck_assert_int_eq(tls_context_new(&c[_i], &context, &err), ESCROW_ECONFIG);
    ck_assert_ptr_null(context);
    ck_assert_msg(strstr(err.text, parts[_i]) != NULL, "%s", err.text);
    ck_assert_int_eq(mem_live_count(), 0);
}
END_TEST

/* A buffer that may not grow ends the session; nothing is lost in silence. */
START_TEST(no_room_for_output_is_an_error)
{
    struct pair p;

    pair_default(&p);
    talk(&p.client, &p.server, 65536);
    buf_fini(&p.client.out);
    buf_init(&p.client.out, 20);
    ck_assert_int_eq(tls_write(p.client.tls, SLICE_LIT("hello"), &p.client.out), ESCROW_ENOMEM);
    pair_fini(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tls");
    TCase *tc = tcase_create("tls");
    SRunner *runner;
    int failed;

    tcase_add_unchecked_fixture(tc, setup, NULL);
    tcase_add_loop_test(tc, bytes_pass_both_ways_in_any_pieces, 0, 4);
    tcase_add_test(tc, the_end_is_announced);
    tcase_add_loop_test(tc, a_client_checks_the_name, 0, (int)(sizeof names / sizeof names[0]));
    tcase_add_test(tc, a_common_name_is_no_name);
    tcase_add_test(tc, a_client_checks_the_authority);
    tcase_add_loop_test(tc, a_certificate_has_its_time, 0, 2);
    tcase_add_loop_test(tc, a_server_checks_client_certificates, 0,
                        (int)(sizeof clients / sizeof clients[0]));
    tcase_add_loop_test(tc, what_is_not_tls_is_refused, 0, 5);
    tcase_add_test(tc, a_handshake_may_end_anywhere);
    tcase_add_loop_test(tc, changed_bytes_are_noticed, 0, 24);
    tcase_add_test(tc, a_handshake_is_bounded);
    tcase_add_test(tc, what_follows_the_handshake_is_not_bounded);
    tcase_add_test(tc, old_versions_are_refused);
    tcase_add_test(tc, nothing_is_renegotiated);
    tcase_add_loop_test(tc, bad_texts_are_named, 0, 7);
    tcase_add_test(tc, no_room_for_output_is_an_error);
    suite_add_tcase(suite, tc);
    runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
