/*
 * Sessions: an SSL between two ends of memory. Its BIO reads from what was fed and writes to the
 * buffer of the call that runs; nothing is copied in between, and nothing that was fed is left when
 * tls_read returns 0 (an incomplete record waits inside OpenSSL, at most 16 KiB).
 *
 * Failures: the first is remembered in words. A session that failed stays failed.
 */
#include "core/tls/tls_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>

#define TLS_NAME_SIZE 256

struct tls_session {
    SSL *ssl;
    struct slice fed; /* not yet taken by OpenSSL */
    struct buf *out;  /* of the call that runs, else NULL */
    size_t taken;     /* bytes of the handshake */
    bool is_too_long; /* the handshake */
    bool is_refused;  /* an append to `out` failed */
    bool has_failed;
    char error[TLS_ERROR_MAX];
};

/* ---- the wire: a BIO over `fed` and `out` ---- */

static int wire_read(BIO *bio, char *dst, int size)
{
    struct tls_session *s = BIO_get_data(bio);
    size_t n = s->fed.len < (size_t)size ? s->fed.len : (size_t)size;

    BIO_clear_retry_flags(bio);
    if (n == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    if (!SSL_is_init_finished(s->ssl)) {
        s->taken += n;
        if (s->taken > TLS_HANDSHAKE_BYTES_MAX) {
            s->is_too_long = true;
            return -1;
        }
    }
    memcpy(dst, s->fed.ptr, n);
    s->fed = slice_of(s->fed.ptr + n, s->fed.len - n);
    return (int)n;
}

static int wire_write(BIO *bio, const char *src, int len)
{
    struct tls_session *s = BIO_get_data(bio);

    BIO_clear_retry_flags(bio);
    CHECK(s->out != NULL);
    buf_append(s->out, src, (size_t)len);
    if (buf_failed(s->out)) {
        s->is_refused = true;
        return -1;
    }
    return len;
}

static long wire_ctrl(BIO *bio, int command, long number, void *arg)
{
    (void)bio;
    (void)number;
    (void)arg;
    return command == BIO_CTRL_FLUSH ? 1 : 0; /* written is sent */
}

static int wire_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *wire_method; /* made once, never freed: BIOs point to it */

static void wire_method_make(void)
{
    BIO_METHOD *m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "escrow wire");

    if (m != NULL && BIO_meth_set_read(m, wire_read) == 1 &&
        BIO_meth_set_write(m, wire_write) == 1 && BIO_meth_set_ctrl(m, wire_ctrl) == 1 &&
        BIO_meth_set_create(m, wire_create) == 1) {
        wire_method = m;
    } else {
        BIO_meth_free(m);
    }
}

static BIO *wire_new(struct tls_session *s)
{
    static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
    BIO *bio;

    if (CRYPTO_THREAD_run_once(&once, wire_method_make) != 1 || wire_method == NULL) {
        return NULL;
    }
    bio = BIO_new(wire_method);
    if (bio != NULL) {
        BIO_set_data(bio, s);
    }
    return bio;
}

/* ---- failures ---- */

static int fail(struct tls_session *s)
{
    bool is_verify = ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_CERTIFICATE_VERIFY_FAILED;
    const char *reason = tls_reason();

    s->has_failed = true;
    if (s->error[0] != '\0') {
        return ESCROW_ETLS; /* the first one counts */
    }
    if (s->is_refused) {
        (void)snprintf(s->error, sizeof s->error, "out of memory"); /* fits */
        return ESCROW_ENOMEM;
    }
    if (s->is_too_long) {
        (void)snprintf(s->error, sizeof s->error, "handshake larger than %zu bytes",
                       TLS_HANDSHAKE_BYTES_MAX); /* fits */
    } else if (is_verify) {
        (void)snprintf(
            s->error, sizeof s->error, "%s: %s", reason,
            X509_verify_cert_error_string(SSL_get_verify_result(s->ssl))); /* cut is fine */
    } else {
        (void)snprintf(s->error, sizeof s->error, "%s", reason); /* cut is fine */
    }
    return ESCROW_ETLS;
}

/* What a call that did not succeed means. */
static int result_of(struct tls_session *s, int returned)
{
    switch (SSL_get_error(s->ssl, returned)) {
    case SSL_ERROR_WANT_READ:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return ESCROW_ECLOSED;
    default:
        return fail(s);
    }
}

/* ---- life ---- */

/* What a client wants to see in the certificate. */
static int want_name(struct tls_session *s, const char *name, bool is_checked)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
    ASN1_OCTET_STRING *ip = a2i_IPADDRESS(name);
    bool is_number = ip != NULL;
    bool ok = strlen(name) < TLS_NAME_SIZE;
    char told[TLS_NAME_SIZE]; /* OpenSSL's macro takes no constant, and changes none */

    ASN1_OCTET_STRING_free(ip);
    if (ok && !is_number) {                            /* names only, says the RFC */
        (void)snprintf(told, sizeof told, "%s", name); /* fits */
        ok = SSL_set_tlsext_host_name(s->ssl, told) == 1;
    }
    if (ok && is_checked) {
        X509_VERIFY_PARAM_set_hostflags(param, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS |
                                                   X509_CHECK_FLAG_NEVER_CHECK_SUBJECT);
        ok = is_number ? X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1
                       : X509_VERIFY_PARAM_set1_host(param, name, 0) == 1;
    }
    ERR_clear_error();
    return ok ? 0 : ESCROW_ENOMEM;
}

static int session_fill(struct tls_session *s, const struct tls_context *context, const char *name,
                        int64_t now_s)
{
    BIO *wire;

    s->ssl = SSL_new(context->ssl);
    wire = s->ssl == NULL ? NULL : wire_new(s);
    if (wire == NULL) {
        return ESCROW_ENOMEM;
    }
    SSL_set_bio(s->ssl, wire, wire);
    X509_VERIFY_PARAM_set_time(SSL_get0_param(s->ssl), (time_t)now_s);
    if (context->is_server) {
        SSL_set_accept_state(s->ssl);
        return 0;
    }
    SSL_set_connect_state(s->ssl);
    return want_name(s, name, context->check != TLS_CHECK_NONE);
}

int tls_session_new(const struct tls_context *context, const char *name, int64_t now_s,
                    struct tls_session **out)
{
    struct tls_session *s = mem_calloc(1, sizeof *s);
    int rc;

    CHECK(context->is_server == (name == NULL));
    *out = NULL;
    if (s == NULL) {
        return ESCROW_ENOMEM;
    }
    ERR_clear_error();
    rc = session_fill(s, context, name, now_s);
    if (rc != 0) {
        tls_session_free(&s);
        return rc;
    }
    *out = s;
    return 0;
}

void tls_session_free(struct tls_session **session)
{
    struct tls_session *s = *session;

    *session = NULL;
    if (s != NULL) {
        SSL_free(s->ssl); /* and its BIO */
        mem_free(s);
    }
}

/* ---- work ---- */

int tls_start(struct tls_session *s, struct buf *out)
{
    int returned;
    int rc = 0;

    CHECK(!s->has_failed);
    ERR_clear_error();
    s->out = out;
    returned = SSL_do_handshake(s->ssl);
    if (returned != 1) {
        rc = result_of(s, returned);
    }
    s->out = NULL;
    return rc;
}

void tls_feed(struct tls_session *s, struct slice bytes)
{
    CHECK(s->fed.len == 0);
    s->fed = bytes;
}

ssize_t tls_read(struct tls_session *s, uint8_t *dst, size_t size, struct buf *out)
{
    size_t got = 0;
    ssize_t rc;
    int returned;

    CHECK(!s->has_failed);
    CHECK(size > 0);
    ERR_clear_error();
    s->out = out;
    returned = SSL_read_ex(s->ssl, dst, size, &got);
    rc = returned == 1 ? (ssize_t)got : result_of(s, returned);
    s->out = NULL;
    if (rc <= 0) {
        s->fed = SLICE_EMPTY; /* borrowed until now */
    }
    return rc;
}

int tls_write(struct tls_session *s, struct slice plain, struct buf *out)
{
    size_t written = 0;
    int rc = 0;

    CHECK(!s->has_failed);
    CHECK(tls_is_established(s));
    if (plain.len == 0) {
        return 0;
    }
    ERR_clear_error();
    s->out = out;
    if (SSL_write_ex(s->ssl, plain.ptr, plain.len, &written) != 1 || written != plain.len) {
        rc = fail(s);
    }
    s->out = NULL;
    return rc;
}

int tls_close(struct tls_session *s, struct buf *out)
{
    int rc = 0;

    CHECK(!s->has_failed);
    if (!tls_is_established(s)) {
        return 0;
    }
    ERR_clear_error();
    s->out = out;
    if (SSL_shutdown(s->ssl) < 0) {
        rc = fail(s);
    }
    s->out = NULL;
    return rc;
}

bool tls_is_established(const struct tls_session *s)
{
    return SSL_is_init_finished(s->ssl) == 1 && !s->has_failed;
}

const char *tls_version(const struct tls_session *s)
{
    return SSL_get_version(s->ssl);
}

bool tls_has_peer_certificate(const struct tls_session *s)
{
    return SSL_get0_peer_certificate(s->ssl) != NULL && SSL_get_verify_result(s->ssl) == X509_V_OK;
}

const char *tls_error(const struct tls_session *s)
{
    return s->error;
}
