/*
 * Messages that commit with a PostgreSQL transaction, without callbacks.
 *
 *     escrow_pg_begin(producer, conn, &txn);        BEGIN; learns the transaction's id and the
 *                                                   database's identity
 *     PQexec(conn, "UPDATE account ...");           your own statements, any number
 *     escrow_pg_publish(txn, message);              a half message, durable in the broker
 *     escrow_pg_commit(&txn);                       marker row, COMMIT, then the decision for all
 *                                                   its messages at once
 *
 * Whatever dies in between, the fate of the messages is the fate of the transaction: the broker
 * asks escrow-relay, which looks for the marker row that committed with it (design: sql/README.md).
 * The schema of `escrow-relay migrate` must be installed.
 *
 * On a connection that is used more than twice libescrow prepares two statements of its own,
 * escrow_begin_1 and escrow_mark_1, and does without them where they are gone when a transaction
 * begins: a pooler in transaction mode, DISCARD ALL. Who says DEALLOCATE ALL between begin and
 * commit makes the commit roll back.
 *
 * Threads: as libpq: one transaction belongs to one thread at a time, and so does its connection.
 *          All functions block.
 */
#ifndef ESCROW_PG_H
#define ESCROW_PG_H

#include <escrow/escrow.h>

#ifdef __cplusplus
extern "C" {
#endif

struct pg_conn; /* libpq's PGconn */
struct escrow_pg_txn;

/*
 * Begin a transaction on an idle connection. The producer may come from escrow_producer_new or
 * escrow_txn_producer_new; its group is the one the broker's check-back configuration names
 * (callback.<group>). It cannot be freed before the transaction has ended.
 * Errors: ESCROW_EDB (text has PostgreSQL's message), ESCROW_EINVAL (connection busy, inside a
 * transaction or in pipeline mode), ESCROW_ENOTFOUND (schema escrow missing: run escrow-relay
 * migrate). After an error the connection is as idle as it was; when that is not certain the text
 * says so.
 */
ESCROW_API int escrow_pg_begin(struct escrow_producer *producer, struct pg_conn *conn,
                               struct escrow_pg_txn **out);

/*
 * A half message that will be delivered exactly if this transaction commits. It is sent at once and
 * not waited for: commit waits until all are stored, and reports what went wrong. The message is
 * copied. Errors: the message is refused (ABORT class), or ESCROW_ENOMEM, ESCROW_ELIMIT; the
 * transaction may go on without it or be rolled back, as the caller wants.
 */
ESCROW_API int escrow_pg_publish(struct escrow_pg_txn *txn, const struct escrow_message *message);

/*
 * Commit. Frees the transaction, also on error, but not with ESCROW_EBUSY.
 *
 *   0                     the database committed; the messages are being decided, by check-back if
 *                         the broker cannot be told
 *   ESCROW_EROLLEDBACK    nothing happened: the database has rolled back, and so do the messages
 *   ESCROW_EBUSY          (RETRY) not now: results of a statement of yours are unread (call
 *                         PQgetResult until it returns NULL; end a COPY), or the connection is in
 *                         pipeline mode (leave it). Nothing has ended, and *txn is still yours:
 *                         call again, or roll back. A pool must not have the connection meanwhile:
 *                         a COMMIT of its next user's would commit without the messages
 *   ESCROW_ECLOSED        (UNKNOWN) the connection was lost during COMMIT. Database and messages
 *                         will agree: ask the database which way
 *   ESCROW_EDB            (UNKNOWN) how the database's transaction ended, or whether, is not known:
 *                         out of memory in libpq, which sees to the answers. Close the connection;
 *                         database and messages will agree, as above. Also: it committed, but its
 *                         wait for the synchronous standby was cancelled, so that a fail-over may
 *                         lose it (escrow_last_error says so; the connection is good): messages
 *                         follow by check-back, whose answer waits for the standby. Receivers and
 *                         processors of notices stay as they are. On a connection with a receiver
 *                         of its own (PQsetNoticeReceiver) a trace of yours (PQtrace) ends here:
 *                         libpq has room for one, and it is needed to see that
 *   ESCROW_EINVAL         the transaction had been ended by other means (your own COMMIT or
 *                         ROLLBACK); its messages are rolled back, whichever it was
 *   any other             a message could not be stored; the database was rolled back
 */
ESCROW_API int escrow_pg_commit(struct escrow_pg_txn **txn);

/*
 * Roll back. Frees the transaction, but not with ESCROW_EBUSY (the connection is in pipeline mode:
 * nothing has ended; leave it and call again). Unread results are discarded. 0: the database has
 * rolled back; the halves are rolled back, or will be by check-back. ESCROW_EDB (UNKNOWN): as of
 * commit.
 */
ESCROW_API int escrow_pg_rollback(struct escrow_pg_txn **txn);

#ifdef __cplusplus
}
#endif

#endif
