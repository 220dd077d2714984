/*
 * Happy path: the first transactions of a connection call functions; the third one looks whether
 * the session has the statements (another client of the pooler may have prepared them) and
 * prepares them if not; from then on BEGIN executes one of them.
 *
 * When that one is missing the transaction has only begun: it is rolled back and begun again, in
 * one more round trip, and the server has logged an error. A connection on which this comes soon
 * after preparing does without, twice as long each time. The other statement is prepared together
 * with it, so who has one has both.
 */
#include "src/client/pg_session.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "src/client/client_private.h"

#include <libpq-events.h>

#include <inttypes.h>
#include <string.h>

#define PREPARE_AFTER 2      /* transactions: a connection that is used once pays for nothing */
#define PAUSE_MIN     100    /* transactions without statements after they were missing ... */
#define PAUSE_MAX     100000 /* ... doubled each time, up to this */
#define PROVEN        100    /* transactions after which they were worth preparing */

/* The number is part of the names: another version of the statements has another. */
#define BEGIN_NAME "escrow_begin_1"
#define MARK_NAME  "escrow_mark_1"

#define BEGIN_PREPARED "BEGIN; EXECUTE " BEGIN_NAME
#define BEGIN_PLAIN    "BEGIN; SELECT escrow.transaction_begin()"
#define BEGIN_AND_LOOK                                                                             \
    BEGIN_PLAIN                                                                                    \
    ", (SELECT pg_catalog.count(*) FROM pg_catalog.pg_prepared_statements AS p WHERE p.name "      \
    "OPERATOR(pg_catalog.=) ANY ('{" BEGIN_NAME "," MARK_NAME "}'::pg_catalog.text[])), "          \
    "pg_catalog.has_table_privilege(pg_catalog.to_regclass('escrow.marking')::pg_catalog.oid, "    \
    "'INSERT')"
#define PREPARE                                                                                    \
    "PREPARE " BEGIN_NAME " AS SELECT pg_catalog.pg_current_xact_id(), "                           \
    "pg_catalog.current_setting('escrow.identity', true); "                                        \
    "PREPARE " MARK_NAME " (pg_catalog.text, pg_catalog.text, pg_catalog.int8) AS "                \
    "INSERT INTO escrow.marking (txn_id, broker, half_offset) VALUES ($1, $2, $3)"

/* What is remembered about a connection. */
struct pg_session {
    bool has_statements;
    uint32_t used;       /* transactions with them since they were prepared */
    uint32_t plain_left; /* transactions before they are looked for */
    uint32_t pause;
};

/* ---- errors ---- */

static bool has_state(const PGresult *res, const char *state)
{
    const char *text = res == NULL ? NULL : PQresultErrorField(res, PG_DIAG_SQLSTATE);

    return text != NULL && strcmp(text, state) == 0;
}

/* A marker with this id is there already: ids are new, so a check-back wrote it. */
static bool is_too_late(const PGresult *res)
{
    const char *name = res == NULL ? NULL : PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);

    return has_state(res, "23505") && name != NULL && strcmp(name, "transaction_marker_pkey") == 0;
}

int pg_session_error(PGconn *conn, const PGresult *res, const char *what)
{
    const char *text = res != NULL ? PQresultErrorMessage(res) : PQerrorMessage(conn);
    int len = (int)strcspn(text == NULL ? "" : text, "\n");

    if (has_state(res, "3F000") || has_state(res, "42883") || has_state(res, "42P01")) {
        return last_error_set(ESCROW_ENOTFOUND,
                              "%s: %.*s; the schema escrow is missing: run escrow-relay migrate",
                              what, len, text);
    }
    return last_error_set(ESCROW_EDB, "%s: %.*s%s", what, len, text == NULL ? "" : text,
                          is_too_late(res) ? "; a check-back rolled the message back: it came too "
                                             "late"
                                           : "");
}

bool pg_session_is_lost(const PGresult *res)
{
    return has_state(res, "26000");
}

/* ---- what is remembered ---- */

static void session_init(struct pg_session *s)
{
    *s = (struct pg_session){.plain_left = PREPARE_AFTER, .pause = PAUSE_MIN};
}

/* libpq tells what becomes of the connection. */
static int on_event(PGEventId id, void *info, void *arg)
{
    (void)arg;
    if (id == PGEVT_CONNRESET) {
        const PGEventConnReset *event = info;
        struct pg_session *s = PQinstanceData(event->conn, on_event);
        if (s != NULL) {
            session_init(s); /* another session */
        }
    } else if (id == PGEVT_CONNDESTROY) {
        const PGEventConnDestroy *event = info;
        mem_free(PQinstanceData(event->conn, on_event));
    }
    return 1;
}

/* NULL: no memory for it. */
static struct pg_session *session_of(PGconn *conn)
{
    struct pg_session *s = PQinstanceData(conn, on_event);

    if (s != NULL) {
        return s;
    }
    s = mem_alloc(sizeof *s);
    if (s == NULL) {
        return NULL;
    }
    session_init(s);
    /* It may be registered already, from an attempt that failed below. */
    (void)PQregisterEventProc(conn, on_event, "escrow", NULL);
    if (PQsetInstanceData(conn, on_event, s) == 0) {
        mem_free(s);
        return NULL;
    }
    return s;
}

static void session_lost(struct pg_session *s)
{
    if (s->used >= PROVEN) {
        s->pause = PAUSE_MIN;
        s->plain_left = 0;
    } else {
        s->plain_left = s->pause;
        s->pause = s->pause < PAUSE_MAX / 2 ? s->pause * 2 : PAUSE_MAX;
    }
    s->has_statements = false;
    s->used = 0;
}

void pg_session_lost(PGconn *conn)
{
    struct pg_session *s = PQinstanceData(conn, on_event);

    if (s != NULL) {
        session_lost(s);
    }
}

/* ---- BEGIN ---- */

static bool is_row(const PGresult *res, int fields)
{
    return PQresultStatus(res) == PGRES_TUPLES_OK && PQntuples(res) == 1 &&
           PQnfields(res) == fields;
}

static int who_end(struct buf *who)
{
    buf_append_u8(who, '\0');
    return buf_failed(who) ? last_error_set(ESCROW_ENOMEM, "begin: out of memory") : 0;
}

/* The functions; `sql` is one of the strings above with or without ROLLBACK before it. */
static int begin_plain(PGconn *conn, const char *sql, struct buf *who)
{
    PGresult *res = PQexec(conn, sql);
    int rc;

    if (is_row(res, 1)) {
        buf_append_str(who, PQgetvalue(res, 0, 0));
        rc = who_end(who);
    } else {
        rc = pg_session_error(conn, res, "begin");
    }
    PQclear(res);
    return rc;
}

/* false: the statement is not there, and the transaction is broken. */
static bool begin_prepared(PGconn *conn, struct buf *who, int *rc)
{
    PGresult *res = PQexec(conn, BEGIN_PREPARED);
    bool is_there = !pg_session_is_lost(res);

    if (is_row(res, 2) && PQgetlength(res, 0, 1) > 0) {
        buf_append_str(who, PQgetvalue(res, 0, 0));
        buf_append_u8(who, '/');
        buf_append_str(who, PQgetvalue(res, 0, 1));
        *rc = who_end(who);
    } else if (is_row(res, 2)) {
        *rc = begin_plain(conn, "SELECT escrow.transaction_begin()", who); /* it was RESET */
    } else if (is_there) {
        *rc = pg_session_error(conn, res, "begin");
    }
    PQclear(res);
    return is_there;
}

/* BEGIN, and prepare the statements unless they are there. Without them it is a plain one. */
static int begin_and_look(PGconn *conn, struct pg_session *s, bool is_broken, struct buf *who)
{
    PGresult *res = PQexec(conn, is_broken ? "ROLLBACK; " BEGIN_AND_LOOK : BEGIN_AND_LOOK);
    const char *count;

    if (!is_row(res, 3)) {
        int rc = pg_session_error(conn, res, "begin");
        PQclear(res);
        return rc;
    }
    count = PQgetvalue(res, 0, 1);
    s->has_statements = strcmp(PQgetvalue(res, 0, 2), "t") == 0 && strcmp(count, "1") != 0;
    if (s->has_statements && strcmp(count, "0") == 0) {
        PGresult *prepared = PQexec(conn, PREPARE);
        s->has_statements = PQresultStatus(prepared) == PGRES_COMMAND_OK;
        PQclear(prepared);
    }
    if (!s->has_statements) {
        session_lost(s);
    }
    buf_append_str(who, PQgetvalue(res, 0, 0));
    PQclear(res);
    if (PQtransactionStatus(conn) == PQTRANS_INERROR) {
        buf_clear(who);
        return begin_plain(conn, "ROLLBACK; " BEGIN_PLAIN, who);
    }
    return who_end(who);
}

int pg_session_begin(PGconn *conn, struct buf *who, bool *has_statements)
{
    struct pg_session *s = session_of(conn);
    bool is_broken = false;
    int rc = 0;

    *has_statements = false;
    if (s != NULL && s->has_statements) {
        if (begin_prepared(conn, who, &rc)) {
            s->used += s->used < PROVEN;
            *has_statements = true;
            return rc;
        }
        session_lost(s);
        is_broken = true;
    }
    if (s == NULL || s->plain_left > 0) {
        if (s != NULL) {
            s->plain_left--;
        }
        return begin_plain(conn, is_broken ? "ROLLBACK; " BEGIN_PLAIN : BEGIN_PLAIN, who);
    }
    rc = begin_and_look(conn, s, is_broken, who);
    *has_statements = s->has_statements;
    return rc;
}

/* ---- marks ---- */

/*
 * The marker names the broker that has the half: only when that one has decided it can the marker
 * go. Without the name it stays until every broker has. The id is hexadecimal: nothing in it needs
 * quoting.
 */
bool pg_session_put_mark(struct buf *sql, PGconn *conn, bool has_statements,
                         const struct pg_mark *mark)
{
    char *quoted;

    buf_append_str(sql,
                   has_statements ? "EXECUTE " MARK_NAME "('" : "SELECT escrow.transaction_mark('");
    buf_append_str(sql, mark->txn_id);
    if (mark->broker[0] == '\0') {
        buf_append_str(sql, "', NULL, NULL);");
        return true;
    }
    quoted = PQescapeLiteral(conn, mark->broker, strlen(mark->broker));
    if (quoted == NULL) {
        return false;
    }
    buf_append_fmt(sql, "', %s, %" PRId64 ");", quoted, mark->offset);
    PQfreemem(quoted);
    return true;
}
