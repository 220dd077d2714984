/*
 * Contexts: PEM texts become an SSL_CTX. Whatever is wrong with them is said here, once, in words
 * that name the text; a session can then only fail for what its peer does.
 */
#include "core/tls/tls_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#define CERT_LIST_MAX (32L * 1024) /* the other side's chain */

/* Of TLS 1.2: forward secrecy and authenticated encryption only, as in 1.3. */
#define CIPHERS_1_2 "ECDHE+AESGCM:ECDHE+CHACHA20"

const char *tls_reason(void)
{
    const char *reason = ERR_reason_error_string(ERR_peek_last_error());

    ERR_clear_error();
    return reason == NULL ? "no reason given" : reason;
}

/* No passphrase: nobody is there to type one. */
static int no_passphrase(char *dst, int size, int for_writing, void *arg)
{
    (void)dst;
    (void)size;
    (void)for_writing;
    (void)arg;
    return -1;
}

/* The end of a PEM text is an error like any other to OpenSSL; this tells it apart. */
static bool is_end_of_pem(void)
{
    unsigned long e = ERR_peek_last_error();

    return ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
}

static int bad(struct err_ctx *err, const char *what)
{
    return err_set(err, ESCROW_ECONFIG, "%s: %s", what, tls_reason());
}

/* The next certificate: 1; 0 at the end of the text; or an error. */
static int next_certificate(BIO *text, const char *what, X509 **cert, struct err_ctx *err)
{
    *cert = PEM_read_bio_X509(text, NULL, no_passphrase, NULL);
    if (*cert != NULL) {
        return 1;
    }
    if (is_end_of_pem()) {
        ERR_clear_error();
        return 0;
    }
    return bad(err, what);
}

/* `take` owns what it was given. Returns how many there were. */
static int each_certificate(SSL_CTX *ssl, struct slice pem, const char *what,
                            int (*take)(SSL_CTX *ssl, X509 *cert, int index), struct err_ctx *err)
{
    BIO *text;
    X509 *cert;
    int count = 0;
    int rc;

    CHECK(pem.len <= TLS_PEM_MAX);
    text = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (text == NULL) {
        return err_set(err, ESCROW_ENOMEM, "%s: out of memory", what);
    }
    while ((rc = next_certificate(text, what, &cert, err)) == 1) {
        if (take(ssl, cert, count) != 1) {
            rc = bad(err, what);
            break;
        }
        count++;
    }
    BIO_free(text);
    if (rc == 0 && count == 0) {
        return err_set(err, ESCROW_ECONFIG, "%s: no certificate in it (PEM)", what);
    }
    return rc == 0 ? count : rc;
}

static int take_own(SSL_CTX *ssl, X509 *cert, int index)
{
    int ok;

    if (index == 0) {
        ok = SSL_CTX_use_certificate(ssl, cert);
        X509_free(cert);
        return ok;
    }
    ok = SSL_CTX_add0_chain_cert(ssl, cert) == 1 ? 1 : 0;
    if (ok != 1) {
        X509_free(cert);
    }
    return ok;
}

static int take_authority(SSL_CTX *ssl, X509 *cert, int index)
{
    int ok = X509_STORE_add_cert(SSL_CTX_get_cert_store(ssl), cert);

    (void)index;
    if (ok == 1) {
        ok = SSL_CTX_add_client_CA(ssl, cert); /* clients choose their certificate by this */
    }
    X509_free(cert);
    return ok;
}

static int use_key(SSL_CTX *ssl, struct slice pem, struct err_ctx *err)
{
    BIO *text;
    EVP_PKEY *key;
    int ok;

    CHECK(pem.len <= TLS_PEM_MAX);
    text = BIO_new_mem_buf(pem.ptr, (int)pem.len);
    if (text == NULL) {
        return err_set(err, ESCROW_ENOMEM, "key: out of memory");
    }
    key = PEM_read_bio_PrivateKey(text, NULL, no_passphrase, NULL);
    BIO_free(text);
    if (key == NULL) {
        return err_set(err, ESCROW_ECONFIG,
                       "key: no private key in it that can be read without a passphrase (PEM): %s",
                       tls_reason());
    }
    ok = SSL_CTX_use_PrivateKey(ssl, key);
    EVP_PKEY_free(key);
    if (ok != 1 || SSL_CTX_check_private_key(ssl) != 1) {
        return err_set(err, ESCROW_ECONFIG, "key: does not belong to the certificate: %s",
                       tls_reason());
    }
    return 0;
}

static int fill(SSL_CTX *ssl, const struct tls_config *config, struct err_ctx *err)
{
    int rc = 0;

    if ((config->certificate.len == 0) != (config->key.len == 0)) {
        return err_set(err, ESCROW_ECONFIG, "certificate and key: only one of the two is given");
    }
    if (config->is_server && config->certificate.len == 0) {
        return err_set(err, ESCROW_ECONFIG, "certificate: a server needs one, and its key");
    }
    if (config->is_server && config->check != TLS_CHECK_NONE && config->ca.len == 0) {
        return err_set(err, ESCROW_ECONFIG,
                       "authorities: client certificates are checked against them; none are given");
    }
    if (config->certificate.len > 0) {
        rc = each_certificate(ssl, config->certificate, "certificate", take_own, err);
    }
    if (rc >= 0 && config->key.len > 0) {
        rc = use_key(ssl, config->key, err);
    }
    if (rc >= 0 && config->ca.len > 0) {
        rc = each_certificate(ssl, config->ca, "authorities", take_authority, err);
    } else if (rc >= 0 && config->check != TLS_CHECK_NONE &&
               SSL_CTX_set_default_verify_paths(ssl) != 1) {
        rc = bad(err, "authorities of the system");
    }
    return rc < 0 ? rc : 0;
}

static int settings(SSL_CTX *ssl, enum tls_check check)
{
    int verify = check == TLS_CHECK_NONE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;

    if (check == TLS_CHECK_REQUIRED) {
        verify |= SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    }
    SSL_CTX_set_verify(ssl, verify, NULL);
    SSL_CTX_set_max_cert_list(ssl, CERT_LIST_MAX);
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    (void)SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    (void)SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS); /* an idle connection holds little */
    (void)SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                       SSL_OP_NO_TICKET | SSL_OP_CIPHER_SERVER_PREFERENCE);
    return SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION) == 1 &&
                   SSL_CTX_set_cipher_list(ssl, CIPHERS_1_2) == 1 &&
                   SSL_CTX_set_num_tickets(ssl, 0) == 1
               ? 0
               : ESCROW_ENOMEM;
}

int tls_context_new(const struct tls_config *config, struct tls_context **out, struct err_ctx *err)
{
    struct tls_context *c = mem_calloc(1, sizeof *c);
    int rc;

    CHECK(config->is_server || config->check != TLS_CHECK_OPTIONAL);
    *out = NULL;
    if (c == NULL) {
        return err_set(err, ESCROW_ENOMEM, "TLS: out of memory");
    }
    ERR_clear_error();
    c->is_server = config->is_server;
    c->check = config->check;
    c->ssl = SSL_CTX_new(config->is_server ? TLS_server_method() : TLS_client_method());
    rc = c->ssl == NULL ? ESCROW_ENOMEM : settings(c->ssl, c->check);
    if (rc != 0) {
        (void)err_set(err, rc, "TLS: %s", tls_reason());
    } else {
        rc = fill(c->ssl, config, err);
    }
    if (rc != 0) {
        tls_context_free(&c);
        return rc;
    }
    *out = c;
    return 0;
}

void tls_context_free(struct tls_context **context)
{
    struct tls_context *c = *context;

    *context = NULL;
    if (c != NULL) {
        SSL_CTX_free(c->ssl);
        mem_free(c);
    }
}
