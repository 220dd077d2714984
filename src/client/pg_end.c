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

#include "core/base/buf.h"
#include "src/client/client_private.h"
#include "src/client/pg_session.h"

#include <stdatomic.h>
#include <stdio.h>
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

#define STANDBY_WAIT "SyncRepWaitForLSN" /* the function of the server that gives the warning */

/* Who hears what the server says while COMMIT runs: receiver in front of libpq's, or a trace. */
struct listener {
    PQnoticeReceiver before; /* libpq's own; NULL: the application's, which stays, and a trace */
    bool is_standby_unsure;
    FILE *trace;
    struct buf traced; /* what it has written, once it is closed */
};

static void on_notice(void *arg, const PGresult *res)
{
    struct listener *l = arg;
    const char *from = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);

    l->is_standby_unsure =
        l->is_standby_unsure || (from != NULL && strcmp(from, STANDBY_WAIT) == 0);
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

static ssize_t on_traced(void *arg, const char *bytes, size_t len)
{
    buf_append(arg, bytes, len); /* what does not fit is known at the end */
    return (ssize_t)len;
}

/*
 * A receiver of ours goes only in front of libpq's own: the argument of another cannot be had, so
 * that one could neither be called nor put back. Beside another the connection is traced: that
 * shows every message of the server, whoever receives it. false: no memory.
 */
static bool listen_begin(PGconn *conn, struct listener *l)
{
    PQnoticeReceiver receiver = PQsetNoticeReceiver(conn, NULL, NULL);

    *l = (struct listener){.before = NULL};
    if (receiver != NULL && receiver == default_receiver()) {
        l->before = receiver;
        (void)PQsetNoticeReceiver(conn, on_notice, l);
        return true;
    }
    buf_init(&l->traced, 0);
    l->trace = fopencookie(&l->traced, "w", (cookie_io_functions_t){.write = on_traced});
    if (l->trace == NULL) {
        return false;
    }
    PQtrace(conn, l->trace);
    return true;
}

/*
 * Did the server say that the standby may not have it? Or can that not be known for want of memory?
 */
static bool listen_end(PGconn *conn, struct listener *l)
{
    bool is_closed;

    if (l->trace == NULL) {
        (void)PQsetNoticeReceiver(conn, l->before, NULL);
        return l->is_standby_unsure;
    }
    PQuntrace(conn);
    is_closed = fclose(l->trace) == 0; /* it is written now */
    l->is_standby_unsure = !is_closed || buf_failed(&l->traced) ||
                           (l->traced.len > 0 && memmem(l->traced.ptr, l->traced.len, STANDBY_WAIT,
                                                        sizeof STANDBY_WAIT - 1) != NULL);
    buf_fini(&l->traced);
    return l->is_standby_unsure;
}

/* ---- COMMIT ---- */

int pg_end_commit(PGconn *conn, const char *sql, bool has_statements)
{
    struct listener listener;
    bool is_standby_unsure;
    PGresult *res;
    int rc;

    if (!listen_begin(conn, &listener)) {
        return last_error_set(ESCROW_EROLLEDBACK, "commit: out of memory; rolled back");
    }
    res = PQexec(conn, sql);
    rc = commit_outcome(conn, res, has_statements);
    PQclear(res);
    is_standby_unsure = listen_end(conn, &listener);
    if (rc == 0 && is_standby_unsure) {
        rc = last_error_set(ESCROW_EDB,
                            "commit: committed, but the wait for the synchronous standby was "
                            "cancelled: a fail-over may lose it; its messages are left to "
                            "check-back, which waits for the standby");
    }
    return rc;
}
