/*
 * TLS from files: certificates and keys by path become contexts of core/tls.
 *
 * A private key that others can read, or that others than its owner can write, is refused: it is
 * not private. The group may read it, so that a service can share a group with what renews
 * certificates.
 *
 * Owns:    nothing; the caller frees contexts.
 * Thread:  any but a running loop (it waits for the disk): a pool thread, or before the loop runs.
 * Errors:  ESCROW_ECONFIG and a line that names the file; ESCROW_ENOMEM.
 */
#ifndef CORE_IO_UV_TLS_FILES_H
#define CORE_IO_UV_TLS_FILES_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/io_uv/tcp.h"
#include "core/tls/tls.h"

/* Paths; NULL and "" mean none. */
struct tls_files {
    const char *certificate; /* with its chain */
    const char *key;
    const char *ca;
};

ESCROW_MUST_USE int tls_files_load(const struct tls_files *files, bool is_server,
                                   enum tls_check check, struct tls_context **out,
                                   struct err_ctx *err);

/*
 * What a client is told by options: `word` is "off" (or NULL, ""), "on" (the certificate and the
 * name are checked) or "insecure" (nothing is: encrypted, to whomever). `name` is borrowed for as
 * long as the policy; NULL and "" mean the host's own. Fills *policy; its context is the caller's.
 */
ESCROW_MUST_USE int tls_files_client(const char *word, const struct tls_files *files,
                                     const char *name, struct tcp_tls_policy *policy,
                                     struct err_ctx *err);

#endif
