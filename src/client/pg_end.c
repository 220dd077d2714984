/*
 * Happy path: COMMIT is answered with its own name. Anything else is looked at closely, since
 * PQexec may fail before the server was asked as well as after it answered: what the server says of
 * the transaction (PQtransactionStatus) decides, never what a statement was meant to do.
 *
 * Where commits wait for a synchronous standby that wait can be cancelled: the server warns, and
 * answers COMMIT as if nothing were. The standby may not have it, and a fail-over would lose it
 * behind the back of a message that was delivered. So warnings are listened to while COMMIT runs.
 * The warning has no SQLSTATE of its own and its text is translated; the server function that it
 * comes from is told with it and is its own. Check-back answers once the standby has what it says.
 */
#include "src/client/pg_end.h"

#include "src/client/client_private.h"
#include "src/client/pg_session.h"

#include <stdatomic.h>
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

/* ---- notices ---- */

struct listener {
    PQnoticeReceiver before;
    bool is_standby_unsure;
};

static void on_notice(void *arg, const PGresult *res)
{
    struct listener *l = arg;
    const char *from = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);

    l->is_standby_unsure =
        l->is_standby_unsure || (from != NULL && strcmp(from, "SyncRepWaitForLSN") == 0);
    l->before(NULL, res);
}

/* libpq's own receiver of notices; the application's processor is behind it. NULL: no memory. */
static PQnoticeReceiver default_receiver(void)
{
    static _Atomic(PQnoticeReceiver) known;
    PQnoticeReceiver receiver = atomic_load(&known);

    if (receiver == NULL) {
        PGconn *none = PQconnectStart("="); /* not well-formed: it connects to nothing */
        receiver = PQsetNoticeReceiver(none, NULL, NULL);
        PQfinish(none);
        atomic_store(&known, receiver);
    }
    return receiver;
}

/*
 * Only in front of libpq's own: the argument of another receiver cannot be had, so it could neither
 * be called nor put back.
 */
static bool listen_begin(PGconn *conn, struct listener *l)
{
    l->before = PQsetNoticeReceiver(conn, NULL, NULL);
    if (l->before == NULL || l->before != default_receiver()) {
        return false;
    }
    (void)PQsetNoticeReceiver(conn, on_notice, l);
    return true;
}

/* ---- COMMIT ---- */

int pg_end_commit(PGconn *conn, const char *sql, bool has_statements)
{
    struct listener listener = {.is_standby_unsure = false};
    bool is_listening = listen_begin(conn, &listener);
    PGresult *res = PQexec(conn, sql);
    int rc = commit_outcome(conn, res, has_statements);

    if (is_listening) {
        (void)PQsetNoticeReceiver(conn, listener.before, NULL);
    }
    PQclear(res);
    if (rc == 0 && listener.is_standby_unsure) {
        rc = last_error_set(ESCROW_EDB,
                            "commit: committed, but the wait for the synchronous standby was "
                            "cancelled: a fail-over may lose it; its messages are left to "
                            "check-back, which waits for the standby");
    }
    return rc;
}
