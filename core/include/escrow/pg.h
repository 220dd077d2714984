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
 * (callback.<group>).
 * Errors: ESCROW_EDB (text has PostgreSQL's message), ESCROW_EINVAL (connection busy or inside a
 * transaction), ESCROW_ENOTFOUND (schema escrow missing: run escrow-relay migrate). After an error
 * the connection is outside a transaction.
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
 * Commit; frees the transaction (also on error). 0: the database committed; the messages are being
 * decided, by check-back if the broker cannot be told. ESCROW_EROLLEDBACK: nothing happened, the
 * halves are rolled back. ESCROW_ECLOSED (UNKNOWN): the connection was lost during COMMIT; database
 * and messages will agree, ask the database which. Any other error is that of a message that could
 * not be stored: the database was rolled back.
 */
ESCROW_API int escrow_pg_commit(struct escrow_pg_txn **txn);

/* Roll back; frees the transaction. The halves are rolled back, or will be by check-back. */
ESCROW_API int escrow_pg_rollback(struct escrow_pg_txn **txn);

#ifdef __cplusplus
}
#endif

#endif
