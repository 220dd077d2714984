/*
 * Happy path: pointers to the fields, sorted by name; each value and then the body into the HMAC;
 * Base64. A signed frame is made by writing its header once to a scratch buffer, reading that back
 * (so that what is signed is what the other end will read), and writing it again with the result.
 *
 * Failures: OpenSSL refusing is an allocation that failed; verification then says no.
 */
#include "core/acl/sign.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>

#include <stdlib.h>
#include <string.h>

#define SHA1_BYTES 20

_Static_assert(SIGN_TEXT_LEN == (SHA1_BYTES + 2) / 3 * 4, "Base64 with padding");

struct signer {
    EVP_MAC_CTX *ctx; /* keyed; starting it again keeps the key */
};

void sign_wipe(void *secret, size_t len)
{
    OPENSSL_cleanse(secret, len);
}

int signer_new(struct slice secret, struct signer **out)
{
    char digest[] = "SHA1";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string("digest", digest, 0),
                           OSSL_PARAM_construct_end()};
    struct signer *signer;
    EVP_MAC *mac;
    int ok;

    *out = NULL;
    if (secret.len == 0) {
        return ESCROW_EINVAL;
    }
    signer = mem_calloc(1, sizeof *signer);
    mac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    if (signer != NULL && mac != NULL) {
        signer->ctx = EVP_MAC_CTX_new(mac);
    }
    EVP_MAC_free(mac); /* the context holds its own reference */
    ok = signer != NULL && signer->ctx != NULL &&
         EVP_MAC_init(signer->ctx, secret.ptr, secret.len, params) == 1;
    if (!ok) {
        signer_free(&signer);
        return ESCROW_ENOMEM;
    }
    *out = signer;
    return 0;
}

void signer_free(struct signer **signer)
{
    if (*signer != NULL) {
        EVP_MAC_CTX_free((*signer)->ctx); /* wipes the key */
        mem_free(*signer);
        *signer = NULL;
    }
}

/* ---- what is signed ---- */

static int compare_keys(const void *a, const void *b)
{
    const struct header_field *x = *(const struct header_field *const *)a;
    const struct header_field *y = *(const struct header_field *const *)b;
    size_t len = x->key.len < y->key.len ? x->key.len : y->key.len;
    int order = len == 0 ? 0 : memcmp(x->key.ptr, y->key.ptr, len);

    return order != 0 ? order : (x->key.len > y->key.len) - (x->key.len < y->key.len);
}

/* The signature with a field left out (NULL: none). */
static int sign_without(struct signer *signer, struct header *h, struct slice body,
                        const char *left_out, char out[SIGN_TEXT_LEN + 1])
{
    const struct header_field *fields[HEADER_FIELDS_MAX];
    uint8_t digest[SHA1_BYTES];
    size_t len = 0;
    size_t count = 0;
    int ok;

    CHECK(h->field_count <= HEADER_FIELDS_MAX);
    for (uint32_t i = 0; i < h->field_count; i++) {
        const struct header_field *f = header_field_at(h, i);
        if (!slice_eq_str(f->key, SIGN_FIELD_SIGNATURE) &&
            (left_out == NULL || !slice_eq_str(f->key, left_out))) {
            fields[count++] = f;
        }
    }
    qsort(fields, count, sizeof fields[0], compare_keys);
    ok = EVP_MAC_init(signer->ctx, NULL, 0, NULL) == 1;
    for (size_t i = 0; ok && i < count; i++) {
        struct slice value = fields[i]->value;
        ok = value.len == 0 || EVP_MAC_update(signer->ctx, value.ptr, value.len) == 1;
    }
    ok = ok && (body.len == 0 || EVP_MAC_update(signer->ctx, body.ptr, body.len) == 1);
    ok = ok && EVP_MAC_final(signer->ctx, digest, &len, sizeof digest) == 1;
    if (!ok) {
        return ESCROW_ENOMEM;
    }
    CHECK(len == sizeof digest);
    len = (size_t)EVP_EncodeBlock((unsigned char *)out, digest, (int)sizeof digest);
    CHECK(len == SIGN_TEXT_LEN);
    return 0;
}

int signer_sign(struct signer *signer, struct header *h, struct slice body,
                char out[SIGN_TEXT_LEN + 1])
{
    return sign_without(signer, h, body, NULL, out);
}

bool signer_verify(struct signer *signer, struct header *h, struct slice body)
{
    static const char *const left_out[] = {NULL, SIGN_FIELD_SECURITY_TOKEN, "_UNIQUE_KEY_QUERY"};
    struct slice given = header_str(h, SIGN_FIELD_SIGNATURE);
    char made[SIGN_TEXT_LEN + 1];
    bool is_right = false;

    if (given.len != SIGN_TEXT_LEN) {
        return false;
    }
    for (size_t i = 0; !is_right && i < sizeof left_out / sizeof left_out[0]; i++) {
        if (left_out[i] == NULL || header_find(h, slice_str(left_out[i])) != NULL) {
            is_right = sign_without(signer, h, body, left_out[i], made) == 0 &&
                       CRYPTO_memcmp(made, given.ptr, SIGN_TEXT_LEN) == 0;
        }
    }
    return is_right;
}

/* ---- signed frames ---- */

static void begin_fields(struct header_writer *w, struct buf *out, enum header_type type,
                         const struct header_out *head, const struct sign_request *req)
{
    header_begin(w, out, type, head);
    if (req->fields != NULL) {
        req->fields(w, req->fields_arg);
    }
    if (req->signer != NULL) {
        header_put_str(w, SIGN_FIELD_ACCESS_KEY, req->access_key);
    }
}

static int frame_signature(enum header_type type, const struct header_out *head,
                           const struct sign_request *req, char out[SIGN_TEXT_LEN + 1])
{
    struct header_writer w;
    struct frame frame;
    struct header *h = mem_alloc(sizeof *h);
    struct buf scratch;
    int rc;

    if (h == NULL) {
        return ESCROW_ENOMEM;
    }
    header_init(h);
    buf_init(&scratch, FRAME_SIZE_MAX);
    begin_fields(&w, &scratch, type, head, req);
    header_end(&w);
    rc = header_frame_end(&w, 0);
    if (rc == 0) {
        rc = frame_decode(buf_slice(&scratch), &frame);
    }
    if (rc == 0) {
        rc = header_decode(h, type, frame.header);
    }
    if (rc == 0) {
        rc = signer_sign(req->signer, h, req->body, out);
    }
    buf_fini(&scratch);
    header_fini(h);
    mem_free(h);
    return rc;
}

int sign_frame(struct buf *out, enum header_type type, const struct header_out *head,
               const struct sign_request *req)
{
    struct header_writer w;
    char signature[SIGN_TEXT_LEN + 1];
    int rc = req->signer == NULL ? 0 : frame_signature(type, head, req, signature);

    if (rc != 0) {
        return rc;
    }
    begin_fields(&w, out, type, head, req);
    if (req->signer != NULL) {
        header_put_str(&w, SIGN_FIELD_SIGNATURE, slice_str(signature));
    }
    header_end(&w);
    buf_append_slice(out, req->body);
    return header_frame_end(&w, 0);
}
