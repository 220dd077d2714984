/*
 * Happy path: COMMIT is answered with its own name. Anything else is looked at closely, since
 * PQexec may fail before the server was asked as well as after it answered: what the server says of
 * the transaction (PQtransactionStatus) decides, never what a statement was meant to do.
 */
#include "src/client/pg_end.h"

#include "src/client/client_private.h"
#include "src/client/pg_session.h"

#include <string.h>

int pg_end_not_known(const char *what)
{
    return last_error_set(ESCROW_EDB,
                          "%s: whether the database's transaction is over is not known: close the "
                          "connection; its messages are left to check-back",
                          what);
}

int pg_end_check_free(const PGconn *conn, const char *what, bool may_discard)
{
    if (PQstatus(conn) == CONNECTION_OK && PQpipelineStatus(conn) != PQ_PIPELINE_OFF) {
        return last_error_set(ESCROW_EBUSY,
                              "%s: the connection is in pipeline mode: leave it, then call again; "
                              "nothing has ended",
                              what);
    }
    if (!may_discard && PQtransactionStatus(conn) == PQTRANS_ACTIVE) {
        return last_error_set(ESCROW_EBUSY,
                              "%s: results are unread: call PQgetResult until it returns NULL, "
                              "then call again; nothing has ended",
                              what);
    }
    return 0;
}

bool pg_end_rollback(PGconn *conn)
{
    if (PQstatus(conn) == CONNECTION_OK && PQtransactionStatus(conn) != PQTRANS_IDLE) {
        PQclear(PQexec(conn, "ROLLBACK")); /* what became of it the status says */
    }
    return PQstatus(conn) != CONNECTION_OK || PQtransactionStatus(conn) == PQTRANS_IDLE;
}

/*
 * The server closed the connection, or will at once: whether COMMIT took effect before, nobody
 * knows.
 */
static bool is_lost(const PGconn *conn, const PGresult *res)
{
    const char *severity =
        res == NULL ? NULL : PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED);

    return PQstatus(conn) != CONNECTION_OK ||
           (severity != NULL && (strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0));
}

/* Did the server say this? If not, libpq failed, before it sent the statement or after. */
static bool has_answered(const PGresult *res)
{
    return res != NULL && (PQresultStatus(res) != PGRES_FATAL_ERROR ||
                           PQresultErrorField(res, PG_DIAG_SQLSTATE) != NULL);
}

static int commit_outcome(PGconn *conn, PGresult *res, bool has_statements)
{
    if (PQresultStatus(res) == PGRES_COMMAND_OK && strcmp(PQcmdStatus(res), "COMMIT") == 0) {
        return 0;
    }
    if (is_lost(conn, res)) {
        return last_error_set(
            ESCROW_ECLOSED,
            "commit: the connection was lost during COMMIT; database and messages will "
            "agree: ask the database which way");
    }
    if (PQtransactionStatus(conn) == PQTRANS_IDLE && !has_answered(res)) {
        return pg_end_not_known("commit"); /* COMMIT was answered, and libpq could not keep it */
    }
    (void)pg_session_error(conn, res, "commit"); /* for its text */
    if (has_statements && pg_session_is_lost(res)) {
        pg_session_lost(conn);
    }
    return ESCROW_EROLLEDBACK;
}

int pg_end_commit(PGconn *conn, const char *sql, bool has_statements)
{
    PGresult *res = PQexec(conn, sql);
    int rc = commit_outcome(conn, res, has_statements);

    PQclear(res);
    return rc;
}
