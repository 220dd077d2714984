/*
 * Certificates of a test's own authority: made in memory, with OpenSSL, in milliseconds.
 *
 * Errors:  end the test.
 */
#ifndef TESTS_LIB_TEST_CERTS_H
#define TESTS_LIB_TEST_CERTS_H

#include <stdint.h>

#define CERTS_TEXT_MAX 4096

/* PEM texts. */
struct test_cert {
    char certificate[CERTS_TEXT_MAX];
    char key[CERTS_TEXT_MAX];
};

/* Valid from 2020 to 2099; judged at this time by tests that give the time. */
#define CERTS_NOW_S INT64_C(1800000000)

/* An authority. */
void test_authority(struct test_cert *dst, const char *name);

/*
 * A certificate of `authority` for `names`, as OpenSSL writes them: "DNS:localhost,IP:127.0.0.1";
 * NULL: for no host. The common name is common.example; serial numbers count up. Valid until
 * `until`, "20990101000000Z", or NULL.
 */
void test_certificate(struct test_cert *dst, const struct test_cert *authority, const char *names,
                      const char *until);

/* A key with passphrase, for the one test that wants to see it refused. */
void test_key_locked(struct test_cert *cert);

/* Write a text to folder/name with a mode; path gets where. */
void test_cert_save(const char *folder, const char *name, const char *text, unsigned mode,
                    char *path, unsigned long size);

#endif
