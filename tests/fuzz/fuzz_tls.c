/*
 * What a stranger sends before anybody knows who it is: bytes that claim to be TLS, to a server and
 * to a client, in pieces. They end in an error or wait for more; they never complete a handshake,
 * whose secrets nobody could know in advance, and get little out of us.
 */
#include "core/base/check.h"
#include "core/tls/tls.h"
#include "escrow/errors.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stddef.h>
#include <stdint.h>

#define PEM_MAX 4096
#define OUT_MAX ((size_t)16 * 1024)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t take_text(BIO *from, char *dst)
{
    int len = BIO_read(from, dst, PEM_MAX);

    CHECK(len > 0 && len < PEM_MAX);
    BIO_free(from);
    return (size_t)len;
}

static void make_pair(char *cert_text, size_t *cert_len, char *key_text, size_t *key_len)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    BIO *text = BIO_new(BIO_s_mem());

    CHECK(key != NULL && cert != NULL && text != NULL);
    CHECK(ASN1_INTEGER_set(X509_get_serialNumber(cert), 1) == 1);
    CHECK(X509_gmtime_adj(X509_getm_notBefore(cert), 0) != NULL);
    CHECK(X509_gmtime_adj(X509_getm_notAfter(cert), 86400) != NULL);
    CHECK(X509_set_pubkey(cert, key) == 1 && X509_sign(cert, key, EVP_sha256()) > 0);
    CHECK(PEM_write_bio_X509(text, cert) == 1);
    *cert_len = take_text(text, cert_text);
    text = BIO_new(BIO_s_mem());
    CHECK(PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL) == 1);
    *key_len = take_text(text, key_text);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static struct tls_context *context(bool is_server)
{
    static struct tls_context *made[2];
    static char cert_text[PEM_MAX], key_text[PEM_MAX];
    size_t cert_len, key_len;
    struct tls_config config = {.is_server = is_server, .check = TLS_CHECK_REQUIRED};

    if (made[is_server] == NULL) {
        make_pair(cert_text, &cert_len, key_text, &key_len);
        config.certificate = slice_of(cert_text, cert_len);
        config.key = slice_of(key_text, key_len);
        config.ca = config.certificate;
        CHECK(tls_context_new(&config, &made[is_server], NULL) == 0);
    }
    return made[is_server];
}

static void feed(bool is_server, struct slice bytes, size_t step)
{
    struct tls_session *s;
    uint8_t plain[256];
    struct buf out;
    ssize_t rc = 0;

    buf_init(&out, 0);
    CHECK(tls_session_new(context(is_server), is_server ? NULL : "a.test", 1800000000, &s) == 0);
    if (!is_server) {
        CHECK(tls_start(s, &out) == 0);
    }
    while (rc == 0 && bytes.len > 0) {
        size_t n = bytes.len < step ? bytes.len : step;
        tls_feed(s, slice_of(bytes.ptr, n));
        bytes = slice_of(bytes.ptr + n, bytes.len - n);
        rc = tls_read(s, plain, sizeof plain, &out);
        CHECK(rc == 0 || rc == ESCROW_ETLS || rc == ESCROW_ECLOSED);
        CHECK_IMPLIES(rc == ESCROW_ETLS, tls_error(s)[0] != '\0');
        CHECK(!tls_is_established(s));
        CHECK(out.len <= OUT_MAX);
    }
    tls_session_free(&s);
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 0) {
        struct slice bytes = slice_of(data + 1, size - 1);
        size_t step = (data[0] & 0x7f) == 0 ? size : (size_t)(data[0] & 0x7f);
        feed((data[0] & 0x80) == 0, bytes, step);
    }
    return 0;
}
