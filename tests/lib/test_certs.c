#include "tests/lib/test_certs.h"

#include <check.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void take_text(BIO *from, char *dst)
{
    int len = BIO_read(from, dst, CERTS_TEXT_MAX - 1);

    ck_assert_int_gt(len, 0);
    dst[len] = '\0';
    BIO_free(from);
}

static EVP_PKEY *key_of(const struct test_cert *c)
{
    BIO *text = BIO_new_mem_buf(c->key, -1);
    EVP_PKEY *key = PEM_read_bio_PrivateKey(text, NULL, NULL, NULL);

    BIO_free(text);
    ck_assert_ptr_nonnull(key);
    return key;
}

static X509 *certificate_of(const struct test_cert *c)
{
    BIO *text = BIO_new_mem_buf(c->certificate, -1);
    X509 *cert = PEM_read_bio_X509(text, NULL, NULL, NULL);

    BIO_free(text);
    ck_assert_ptr_nonnull(cert);
    return cert;
}

static void extend(X509 *cert, int what, const char *value)
{
    X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, what, value);

    ck_assert_ptr_nonnull(ext);
    ck_assert_int_eq(X509_add_ext(cert, ext, -1), 1);
    X509_EXTENSION_free(ext);
}

static X509 *begin(EVP_PKEY *key, const char *name, const char *until)
{
    static long serial = 1;
    X509 *cert = X509_new();
    X509_NAME *subject;

    ck_assert_ptr_nonnull(cert);
    subject = X509_get_subject_name(cert);
    ck_assert_int_eq(X509_set_version(cert, 2), 1);
    ck_assert_int_eq(ASN1_INTEGER_set(X509_get_serialNumber(cert), serial++), 1);
    ck_assert_int_eq(ASN1_TIME_set_string(X509_getm_notBefore(cert), "20200101000000Z"), 1);
    ck_assert_int_eq(
        ASN1_TIME_set_string(X509_getm_notAfter(cert), until == NULL ? "20990101000000Z" : until),
        1);
    ck_assert_int_eq(X509_set_pubkey(cert, key), 1);
    ck_assert_int_eq(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                                (const unsigned char *)name, -1, -1, 0),
                     1);
    return cert;
}

static void finish(struct test_cert *dst, X509 *cert, EVP_PKEY *key)
{
    BIO *text = BIO_new(BIO_s_mem());

    ck_assert_int_eq(PEM_write_bio_X509(text, cert), 1);
    take_text(text, dst->certificate);
    text = BIO_new(BIO_s_mem());
    ck_assert_int_eq(PEM_write_bio_PrivateKey(text, key, NULL, NULL, 0, NULL, NULL), 1);
    take_text(text, dst->key);
    X509_free(cert);
    EVP_PKEY_free(key);
}

void test_authority(struct test_cert *dst, const char *name)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert;

    ck_assert_ptr_nonnull(key);
    cert = begin(key, name, NULL);
    ck_assert_int_eq(X509_set_issuer_name(cert, X509_get_subject_name(cert)), 1);
    extend(cert, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(cert, key, EVP_sha256()), 0);
    finish(dst, cert, key);
}

void test_certificate(struct test_cert *dst, const struct test_cert *authority, const char *names,
                      const char *until)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    EVP_PKEY *signer = key_of(authority);
    X509 *issuer = certificate_of(authority);
    X509 *cert;

    ck_assert_ptr_nonnull(key);
    cert = begin(key, "common.example", until);
    ck_assert_int_eq(X509_set_issuer_name(cert, X509_get_subject_name(issuer)), 1);
    extend(cert, NID_basic_constraints, "critical,CA:FALSE");
    if (names != NULL) {
        extend(cert, NID_subject_alt_name, names);
    }
    ck_assert_int_gt(X509_sign(cert, signer, EVP_sha256()), 0);
    finish(dst, cert, key);
    X509_free(issuer);
    EVP_PKEY_free(signer);
}

void test_key_locked(struct test_cert *cert)
{
    EVP_PKEY *key = key_of(cert);
    BIO *text = BIO_new(BIO_s_mem());

    ck_assert_int_eq(PEM_write_bio_PrivateKey(text, key, EVP_aes_256_cbc(),
                                              (const unsigned char *)"secret", 6, NULL, NULL),
                     1);
    take_text(text, cert->key);
    EVP_PKEY_free(key);
}

void test_cert_save(const char *folder, const char *name, const char *text, unsigned mode,
                    char *path, unsigned long size)
{
    FILE *out;

    (void)snprintf(path, size, "%s/%s", folder, name); /* fits: the caller's array */
    out = fopen(path, "we");
    ck_assert_ptr_nonnull(out);
    ck_assert_int_ge(fputs(text, out), 0);
    ck_assert_int_eq(fclose(out), 0);
    ck_assert_int_eq(chmod(path, mode), 0);
}
