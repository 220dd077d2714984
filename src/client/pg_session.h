/*
 * The session behind a connection to PostgreSQL: two statements that libescrow prepares there, so
 * that the database need not parse and plan them in every transaction.
 *
 *     escrow_begin_1   the transaction's id and the session's identity
 *     escrow_mark_1    the marker row of one half (sql/README.md, escrow.marking)
 *
 * They are an economy and nothing else: whoever cannot have them (an older schema, no right to the
 * view, a connection that is used once, a pooler that empties its sessions) does with the functions
 * escrow.transaction_begin and escrow.transaction_mark. Behind a pooler in transaction mode the
 * session may be another one in every transaction; begin notices, and the session is the same until
 * the transaction ends.
 *
 * Owns:   what it remembers about a connection, kept with it as libpq's instance data.
 * Thread: the connection's.
 * Holds:  the server's session has both statements after a begin that said so, until the
 *         transaction ends (unless the caller deallocates them: then the commit fails, and the
 *         transaction is rolled back).
 */
#ifndef SRC_CLIENT_PG_SESSION_H
#define SRC_CLIENT_PG_SESSION_H

#include "core/base/buf.h"
#include "escrow/errors.h"

#include <libpq-fe.h>

#include <stdbool.h>
#include <stdint.h>

/*
 * BEGIN, on an idle connection. `who` receives "xid/system/timeline/name" and a NUL;
 * *has_statements whether pg_session_put_mark may use the prepared one. ESCROW_EDB,
 * ESCROW_ENOTFOUND (schema missing), ESCROW_ENOMEM, with the last error set; the connection may be
 * inside a transaction then.
 */
ESCROW_MUST_USE int pg_session_begin(PGconn *conn, struct buf *who, bool *has_statements);

/* What became of a half that is to be marked. */
struct pg_mark {
    const char *txn_id; /* hexadecimal */
    const char *broker; /* identity; "" = not known, and no offset then */
    int64_t offset;
};

/*
 * Append the statement that marks a half, and a semicolon. False when out of memory or when the
 * broker's name is not text in the connection's encoding.
 */
ESCROW_MUST_USE bool pg_session_put_mark(struct buf *sql, PGconn *conn, bool has_statements,
                                         const struct pg_mark *mark);

/* The statements were not there: do without for a while. */
void pg_session_lost(PGconn *conn);

/* Is this the error of a statement that is not prepared? */
bool pg_session_is_lost(const PGresult *res);

/*
 * Set the last error to what the server (res) or libpq (res NULL) says; ESCROW_EDB or _ENOTFOUND.
 */
int pg_session_error(PGconn *conn, const PGresult *res, const char *what);

#endif
