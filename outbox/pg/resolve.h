/*
 * Names of hosts in a connection string, looked up on libuv's pool: libpq would do it itself, and
 * block the loop as long as the name server takes.
 *
 * Looks at host, hostaddr and port of the string, else at PGHOST and so on. Unix sockets and
 * addresses need nothing. Hosts of a list that have no address are left out, unless none has one.
 *
 * Owns:    itself, until the callback or the cancel.
 * Thread:  the loop.
 * Holds:   the callback runs exactly once unless cancelled, never inside pg_resolve_start.
 */
#ifndef OUTBOX_PG_RESOLVE_H
#define OUTBOX_PG_RESOLVE_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/io_uv/loop.h"

struct pg_resolve;

/*
 * Can libpq read this connection string at all? No look at a host. The error quotes nothing that
 * may be a password. ESCROW_ECONFIG, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int pg_conninfo_check(const char *conninfo, struct err_ctx *err);

/*
 * What to say to libpq besides the string. NULL: leave it to libpq. Borrowed until return. error:
 * NULL, or one line.
 */
struct pg_hosts {
    const char *host;
    const char *hostaddr;
    const char *port;
    const char *error;
};

typedef void pg_resolved_fn(void *arg, const struct pg_hosts *hosts);

/* conninfo is borrowed for the call. NULL: out of memory. */
struct pg_resolve *pg_resolve_start(struct loop *l, const char *conninfo, pg_resolved_fn *fn,
                                    void *arg) ESCROW_MUST_USE;

/* fn will not be called. NULL is fine. */
void pg_resolve_cancel(struct pg_resolve *r);

#endif
