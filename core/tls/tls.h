/*
 * TLS 1.2 and 1.3 as arithmetic: bytes from the network in, bytes for the network out.
 *
 * A context holds what a role presents and trusts: certificate, key, authorities. A session is one
 * connection. It never touches a socket, a file or a clock: the caller feeds what it received,
 * reads what came of it, and sends what every call appends to `out`.
 *
 * Off in every context: renegotiation, compression, resumption (tickets and caches), so that what a
 * context says is checked at every connection.
 *
 * Owns:    its own state. A session keeps what it needs of its context, which may be freed first.
 * Thread:  a context is made and freed on any thread, one at a time; a session belongs to one.
 * Pure:    yes; `now_s` is the time that certificates are judged by.
 * Errors:  ESCROW_ETLS, with tls_error; ESCROW_ENOMEM. After an error only tls_error and
 *          tls_session_free may follow; `out` may hold an alert that is worth sending.
 * Holds:   at most TLS_HANDSHAKE_BYTES_MAX bytes are taken before the handshake is complete.
 */
#ifndef CORE_TLS_TLS_H
#define CORE_TLS_TLS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define TLS_FIRST_BYTE          0x16            /* of every TLS connection: a handshake record */
#define TLS_RECORD_MAX          ((size_t)16384) /* plain bytes in one record */
#define TLS_RECORD_OVERHEAD_MAX 64 /* what encryption adds to a record that we write, at most */
#define TLS_HANDSHAKE_BYTES_MAX ((size_t)64 * 1024)
#define TLS_PEM_MAX             ((size_t)1 << 20) /* of certificate, key and authorities, each */
#define TLS_ERROR_MAX           200

struct tls_context;
struct tls_session;

/* Must the other side show a certificate of an authority in `ca`? */
enum tls_check {
    TLS_CHECK_NONE,     /* a client that checks nothing: encrypted, to whomever */
    TLS_CHECK_OPTIONAL, /* servers only: none is fine, a bad one is not */
    TLS_CHECK_REQUIRED
};

/* PEM texts, borrowed for the call. */
struct tls_config {
    bool is_server;
    enum tls_check check;
    struct slice certificate; /* and the chain behind it; clients may have none */
    struct slice key;         /* of the certificate; not encrypted */
    struct slice ca;          /* empty: what the system trusts (clients only) */
};

/*
 * ESCROW_ECONFIG with what is wrong with which of them ("key: does not belong to the certificate");
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int tls_context_new(const struct tls_config *config, struct tls_context **out,
                                    struct err_ctx *err);
void tls_context_free(struct tls_context **context); /* NULL is fine; sets it NULL */

/*
 * `name`: what a client wants in the server's certificate, a host name or a numeric address; also
 * what it tells the server (SNI). NULL: servers. Not looked at with TLS_CHECK_NONE, but still told.
 */
ESCROW_MUST_USE int tls_session_new(const struct tls_context *context, const char *name,
                                    int64_t now_s, struct tls_session **out);
void tls_session_free(struct tls_session **session); /* NULL is fine; sets it NULL */

/* A client's first message. Servers wait for it. */
ESCROW_MUST_USE int tls_start(struct tls_session *s, struct buf *out);

/*
 * Bytes from the network: borrowed, and used by the tls_read calls that follow, which must go on
 * until one returns 0 or an error.
 */
void tls_feed(struct tls_session *s, struct slice bytes);

/*
 * Read up to `size` plain bytes. Returns their number; 0: everything fed was used, more is needed;
 * ESCROW_ECLOSED: the other side has said that it ends.
 */
ESCROW_MUST_USE ssize_t tls_read(struct tls_session *s, uint8_t *dst, size_t size, struct buf *out);

/* Encrypt all of it. Only when established; `out` grows by TLS_RECORD_OVERHEAD_MAX per record. */
ESCROW_MUST_USE int tls_write(struct tls_session *s, struct slice plain, struct buf *out);

/* Say that nothing follows. Nothing may be written after. */
ESCROW_MUST_USE int tls_close(struct tls_session *s, struct buf *out);

/* The handshake is complete, and the other side's certificate was as wanted. */
bool tls_is_established(const struct tls_session *s);

/* "TLSv1.3"; static storage. */
const char *tls_version(const struct tls_session *s);

/* The other side showed a certificate, and it is good. */
bool tls_has_peer_certificate(const struct tls_session *s);

/* One line about the failure, "certificate verify failed: certificate has expired"; "" before. */
const char *tls_error(const struct tls_session *s);

#endif
