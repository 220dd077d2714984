/*
 * The end of a transaction in PostgreSQL, and how sure one can be of it.
 *
 * A half may be decided only when the database's transaction cannot end the other way any more.
 * So every function here either knows, or says that it does not (ESCROW_ECLOSED, ESCROW_EDB): then
 * nobody decides, and check-back asks the database.
 *
 * Thread: the connection's. Errors set the last error; `what` begins its text.
 */
#ifndef SRC_CLIENT_PG_END_H
#define SRC_CLIENT_PG_END_H

#include "core/base/attr.h"
#include "escrow/errors.h"

#include <libpq-fe.h>

#include <stdbool.h>

/*
 * Can statements of ours run? ESCROW_EBUSY: not in pipeline mode, and not while results are unread,
 * unless they may be discarded. Changes nothing.
 */
ESCROW_MUST_USE int pg_end_check_free(const PGconn *conn, const char *what, bool may_discard);

/*
 * ROLLBACK; unread results are discarded. A session that is gone has rolled back, too. False:
 * nobody knows whether the transaction is over, for libpq could not ask or not listen.
 */
ESCROW_MUST_USE bool pg_end_rollback(PGconn *conn);

/*
 * Run `sql`, whose last statement is COMMIT. 0: it is committed. ESCROW_EROLLEDBACK: it is not, and
 * cannot be once pg_end_rollback has said so. ESCROW_ECLOSED, ESCROW_EDB: not known, or not on the
 * synchronous standby that it waited for.
 */
ESCROW_MUST_USE int pg_end_commit(PGconn *conn, const char *sql, bool has_statements);

/* ESCROW_EDB. */
int pg_end_not_known(const char *what);

#endif
