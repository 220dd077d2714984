/*
 * Signatures of requests, as RocketMQ's ACL client hook makes them: Base64 of HMAC-SHA1 over the
 * values of all header fields except Signature, in ascending byte order of their names, and then
 * the body. Nothing stands between two values.
 *
 * The fields are those of the frame as it arrived, with their text as it arrived: custom header
 * fields, one-letter names of SEND_MESSAGE_V2 and OnsChannel alike; the header encoding plays no
 * part. What some clients leave out of what they sign is said at signer_verify.
 *
 * Owns:    a signer owns a keyed context of OpenSSL, wiped when it is freed.
 * Thread:  one signer belongs to one thread.
 */
#ifndef CORE_ACL_SIGN_H
#define CORE_ACL_SIGN_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/proto/header.h"

#include <stdbool.h>

#define SIGN_FIELD_ACCESS_KEY     "AccessKey"
#define SIGN_FIELD_SIGNATURE      "Signature"
#define SIGN_FIELD_SECURITY_TOKEN "SecurityToken"

#define SIGN_TEXT_LEN 28 /* Base64 of 20 bytes */

struct signer;

/* ESCROW_EINVAL (empty secret), ESCROW_ENOMEM; *out is then NULL. The secret is not kept. */
ESCROW_MUST_USE int signer_new(struct slice secret, struct signer **out);
void signer_free(struct signer **signer); /* NULL is fine; sets it NULL */

/* The signature of a decoded header and its body, NUL-terminated. ESCROW_ENOMEM. */
ESCROW_MUST_USE int signer_sign(struct signer *signer, struct header *h, struct slice body,
                                char out[SIGN_TEXT_LEN + 1]);

/*
 * Does the field Signature hold the request's signature? Compared in constant time. Tried in turn,
 * where such fields are there: everything; without SecurityToken (which the Go client sends
 * unsigned); without _UNIQUE_KEY_QUERY (which RocketMQ's older tools add after signing). Neither
 * field widens what a request may do.
 */
bool signer_verify(struct signer *signer, struct header *h, struct slice body);

/* ---- the other end: signed requests ---- */

/* Write the request's fields; called twice with the same arg, and must write the same. */
typedef void sign_fields_fn(struct header_writer *w, void *arg);

struct sign_request {
    struct slice access_key;
    struct signer *signer;  /* NULL: the frame is not signed and has neither field */
    sign_fields_fn *fields; /* may be NULL */
    void *fields_arg;
    struct slice body;
};

/* Append a whole frame. Errors as header_frame_end; the buf is then as it was before. */
ESCROW_MUST_USE int sign_frame(struct buf *out, enum header_type type,
                               const struct header_out *head, const struct sign_request *req);

/*
 * Overwrite a secret in memory so that the compiler does not leave it out.
 */
void sign_wipe(void *secret, size_t len);

#endif
