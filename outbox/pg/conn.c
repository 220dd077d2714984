/*
 * Happy path: PQconnectStart, PQconnectPoll until OK; PQsendQuery; readable -> PQconsumeInput ->
 * results, copy data, end. Failures: anything libpq reports about the connection ends in lost(),
 * which closes first. An error of a statement is kept until the statement is over and handed to
 * done(). While connecting libpq may change its socket at every step, so each step has a poll
 * handle of its own.
 */
#include "outbox/pg/conn.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/pg/resolve.h"

#include <stdio.h>
#include <string.h>

/* A handle outlives the connection until libuv has closed it. */
struct pg_poll {
    uv_poll_t uv;
    struct pg_conn *conn;
};

static void conn_work(void *arg);

void pg_conn_init(struct pg_conn *c, struct loop *l, const struct pg_conn_handlers *handlers,
                  void *arg)
{
    *c = (struct pg_conn){.loop = l, .handlers = handlers, .arg = arg, .state = PG_CONN_CLOSED};
    loop_deferred_init(&c->work, conn_work, c);
}

static void poll_closed(uv_handle_t *handle)
{
    mem_free(handle->data);
}

static void poll_drop(struct pg_conn *c)
{
    if (c->poll != NULL) {
        c->poll->conn = NULL;
        (void)uv_poll_stop(&c->poll->uv); /* always 0 */
        uv_close((uv_handle_t *)&c->poll->uv, poll_closed);
        c->poll = NULL;
    }
}

void pg_conn_close(struct pg_conn *c)
{
    DCHECK_THREAD(c->loop);
    poll_drop(c);
    loop_deferred_cancel(&c->work);
    pg_resolve_cancel(c->resolve);
    c->resolve = NULL;
    if (c->pg != NULL) {
        PQfinish(c->pg);
        c->pg = NULL;
    }
    c->state = PG_CONN_CLOSED;
    c->is_paused = false;
    c->must_flush = false;
    c->has_error = false;
    c->generation++;
}

/*
 * Could a terminal obey the byte at p? C0, DEL, and C1 in one byte or, with its lead byte, in two.
 */
static bool is_control(const char *start, const char *p)
{
    unsigned char c = (unsigned char)p[0];
    unsigned char before = p == start ? 0 : (unsigned char)p[-1];

    if (c < 0x20 || c == 0x7F) {
        return true;
    }
    if (c == 0xC2) {
        return (unsigned char)p[1] >= 0x80 && (unsigned char)p[1] < 0xA0;
    }
    return c >= 0x80 && c < 0xA0 && (before < 0x80 || before == 0xC2);
}

void pg_put_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p != '\0'; p++) {
        if (is_control(text, p)) {
            buf_append_fmt(out, "\\x%02x", (unsigned)(unsigned char)*p);
        } else {
            buf_append(out, p, 1);
        }
    }
}

/* One line: what libpq says ends with a newline and may have several lines. */
static void copy_line(char *dst, size_t size, const char *src)
{
    size_t len = 0;

    for (const char *p = src; *p != '\0' && len + 1 < size; p++) {
        bool is_space = *p == '\n' || *p == '\r' || *p == '\t';
        dst[len++] = is_space ? ' ' : is_control(src, p) ? '?' : *p;
    }
    while (len > 0 && dst[len - 1] == ' ') {
        len--;
    }
    dst[len] = '\0';
}

static bool is_state(const struct pg_error *err, const char *state)
{
    return strcmp(err->sqlstate, state) == 0;
}

static void explain(struct pg_error *err)
{
    /*
     * Undefined schema, table, function or column: not installed, or installed by an older version.
     */
    bool is_missing = is_state(err, "3F000") || is_state(err, "42P01") || is_state(err, "42883") ||
                      is_state(err, "42703");
    bool is_right = is_state(err, "42501");
    size_t len = strlen(err->text);

    if (is_missing) {
        (void)snprintf(
            err->text + len, sizeof err->text - len,
            "; the schema is missing or older than this program: run escrow-relay migrate");
    } else if (is_right) {
        (void)snprintf(err->text + len, sizeof err->text - len,
                       "; sql/roles.sql grants what is needed");
    }
    err->needs_person = err->needs_person || is_missing || is_right || is_state(err, "28P01") ||
                        is_state(err, "28000") || is_state(err, "3D000");
}

void pg_error_set(struct pg_error *err, const PGconn *pg, const PGresult *res)
{
    const char *state = res == NULL ? NULL : PQresultErrorField(res, PG_DIAG_SQLSTATE);
    const char *text = res == NULL ? NULL : PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);

    *err = (struct pg_error){0};
    if (state != NULL) {
        (void)snprintf(err->sqlstate, sizeof err->sqlstate, "%s", state);
    }
    if (text == NULL) {
        text = res != NULL  ? PQresultErrorMessage(res)
               : pg != NULL ? PQerrorMessage(pg)
                            : "out of memory";
    }
    copy_line(err->text, sizeof err->text, text);
    explain(err);
}

static void lose(struct pg_conn *c, int code, const struct pg_error *err)
{
    struct pg_error copy = *err;

    pg_conn_close(c);
    c->handlers->lost(c->arg, code, &copy);
}

static void lose_by_libpq(struct pg_conn *c, int code)
{
    struct pg_error err;

    pg_error_set(&err, c->pg, NULL);
    /*
     * libpq has no error codes here: a server that asked for a password and then refused did not
     * like it.
     */
    if (c->pg != NULL && c->state == PG_CONN_CONNECTING &&
        (PQconnectionNeedsPassword(c->pg) || PQconnectionUsedPassword(c->pg))) {
        err.needs_person = true;
    }
    lose(c, code, &err);
}

static void on_poll(uv_poll_t *handle, int status, int events);

/* Watch the socket for `events`. false: it cannot be; the caller loses the connection. */
static bool watch(struct pg_conn *c, int events)
{
    if (c->poll == NULL) {
        struct pg_poll *poll = mem_calloc(1, sizeof *poll);
        if (poll == NULL) {
            return false;
        }
        if (uv_poll_init(&c->loop->uv, &poll->uv, PQsocket(c->pg)) != 0) {
            mem_free(poll);
            return false;
        }
        poll->uv.data = poll;
        poll->conn = c;
        c->poll = poll;
    }
    return uv_poll_start(&c->poll->uv, events, on_poll) == 0;
}

static bool watch_connected(struct pg_conn *c)
{
    bool wants_input = !(c->state == PG_CONN_COPYING && c->is_paused);
    int events = (wants_input ? UV_READABLE : 0) | (c->must_flush ? UV_WRITABLE : 0);

    if (events == 0) {
        return c->poll == NULL || uv_poll_stop(&c->poll->uv) == 0;
    }
    return watch(c, events);
}

static void connect_step(struct pg_conn *c, PostgresPollingStatusType step)
{
    poll_drop(c);
    switch (step) {
    case PGRES_POLLING_OK:
        if (PQsetnonblocking(c->pg, 1) != 0) {
            lose_by_libpq(c, ESCROW_ECONN);
            return;
        }
        c->state = PG_CONN_READY;
        if (!watch_connected(c)) {
            lose_by_libpq(c, ESCROW_ENOMEM);
            return;
        }
        c->handlers->connected(c->arg);
        return;
    case PGRES_POLLING_READING:
    case PGRES_POLLING_WRITING:
        if (!watch(c, step == PGRES_POLLING_READING ? UV_READABLE : UV_WRITABLE)) {
            lose_by_libpq(c, ESCROW_ENOMEM);
        }
        return;
    case PGRES_POLLING_FAILED:
    case PGRES_POLLING_ACTIVE:
        lose_by_libpq(c, ESCROW_ECONN);
        return;
    }
}

/*
 * Notices, and what the server says to an idle connection before it ends it. One of them is an
 * error: the end of a statement waited for a synchronous standby, and somebody has cancelled that.
 * PostgreSQL goes on as if the standby had it, and nobody here may. Its text is translated, the
 * function of the server that it comes from is its own.
 */
static void on_notice(void *arg, const PGresult *res)
{
    struct pg_conn *c = arg;
    const char *from = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION);
    char line[ERR_TEXT_MAX];

    copy_line(line, sizeof line, PQresultErrorMessage(res));
    log_debug("outbox.db.notice", "%s", line);
    if (from != NULL && strcmp(from, "SyncRepWaitForLSN") == 0 && !c->has_error) {
        c->has_error = true;
        c->error = (struct pg_error){.needs_person = false};
        (void)snprintf(c->error.text, sizeof c->error.text,
                       "the wait for the synchronous standby was cancelled: it may not have what "
                       "is asked about");
    }
}

/* Names are addresses now: connect. */
static void on_resolved(void *arg, const struct pg_hosts *hosts)
{
    struct pg_conn *c = arg;
    const char *keywords[7] = {"dbname", "fallback_application_name", "client_encoding"};
    const char *values[7] = {c->conninfo, "escrow-relay", "UTF8"};
    size_t count = 3;

    c->resolve = NULL;
    if (hosts->error != NULL) {
        struct pg_error err = {.needs_person = false};
        (void)snprintf(err.text, sizeof err.text, "%s", hosts->error);
        lose(c, ESCROW_ECONN, &err);
        return;
    }
    if (hosts->hostaddr != NULL && hosts->host != NULL) {
        keywords[count] = "host";
        values[count++] = hosts->host;
        keywords[count] = "hostaddr";
        values[count++] = hosts->hostaddr;
        if (hosts->port != NULL) {
            keywords[count] = "port";
            values[count++] = hosts->port;
        }
    }
    c->pg = PQconnectStartParams(keywords, values, 1);
    if (c->pg == NULL || PQstatus(c->pg) == CONNECTION_BAD) {
        lose_by_libpq(c, ESCROW_ECONN);
        return;
    }
    (void)PQsetNoticeReceiver(c->pg, on_notice, c); /* returns the one before */
    connect_step(c, PGRES_POLLING_WRITING);         /* libpq's rule: behave as if it had said so */
}

void pg_conn_open(struct pg_conn *c, const char *conninfo)
{
    DCHECK_THREAD(c->loop);
    CHECK(c->state == PG_CONN_CLOSED);
    CHECK(c->pg == NULL);
    c->state = PG_CONN_CONNECTING;
    c->conninfo = conninfo;
    c->resolve = pg_resolve_start(c->loop, conninfo, on_resolved, c);
    if (c->resolve == NULL) {
        loop_defer(c->loop, &c->work); /* out of memory: lost, but not here */
    }
}

/* Hand over what has arrived. Stops when a handler closed or paused the connection. */
static void process(struct pg_conn *c);

static void conn_work(void *arg)
{
    struct pg_conn *c = arg;

    if (c->state == PG_CONN_CONNECTING) {
        lose_by_libpq(c, ESCROW_ENOMEM); /* pg_conn_open could not say so itself */
    } else if (c->has_error && c->state == PG_CONN_BUSY) {
        lose(c, ESCROW_ECONN, &c->error); /* sending failed */
    } else {
        process(c);
    }
}

static void sent(struct pg_conn *c, int ok)
{
    int rc = ok == 1 ? PQflush(c->pg) : -1;

    c->state = PG_CONN_BUSY;
    c->has_error = false;
    c->must_flush = rc == 1;
    if (rc < 0 || !watch_connected(c)) {
        pg_error_set(&c->error, c->pg, NULL);
        c->has_error = true;
        loop_defer(c->loop, &c->work);
    }
}

void pg_conn_query(struct pg_conn *c, const char *sql)
{
    DCHECK_THREAD(c->loop);
    CHECK(c->state == PG_CONN_READY);
    sent(c, PQsendQuery(c->pg, sql));
}

void pg_conn_query_params(struct pg_conn *c, const char *sql, int count, const char *const *values)
{
    DCHECK_THREAD(c->loop);
    CHECK(c->state == PG_CONN_READY);
    sent(c, PQsendQueryParams(c->pg, sql, count, NULL, values, NULL, NULL, 0));
}

void pg_conn_pause(struct pg_conn *c, bool is_paused)
{
    DCHECK_THREAD(c->loop);
    if (c->is_paused == is_paused) {
        return;
    }
    c->is_paused = is_paused;
    if (c->state == PG_CONN_COPYING) {
        if (!watch_connected(c)) {
            return; /* only when it is stopped, which cannot fail */
        }
        if (!is_paused) {
            loop_defer(c->loop, &c->work); /* rows that libpq has already */
        }
    }
}

/* false: nothing more to do now. */
static bool process_copy(struct pg_conn *c)
{
    unsigned generation = c->generation;

    while (!c->is_paused) {
        char *row = NULL;
        int n = PQgetCopyData(c->pg, &row, 1);
        int rc;
        if (n == 0) {
            return false;
        }
        if (n < 0) {
            c->state = PG_CONN_BUSY; /* its end, or an error: the next result says which */
            return true;
        }
        rc = c->handlers->copy_data == NULL
                 ? ESCROW_EPROTO
                 : c->handlers->copy_data(c->arg, slice_of(row, (size_t)n));
        PQfreemem(row);
        if (generation != c->generation) {
            return false;
        }
        if (rc != 0) {
            struct pg_error err = {0};
            (void)snprintf(err.text, sizeof err.text, "rows: %s", escrow_strerror(rc));
            lose(c, rc, &err);
            return false;
        }
    }
    return false;
}

static void finish_statement(struct pg_conn *c)
{
    bool has_error = c->has_error;
    struct pg_error err = c->error;

    c->state = PG_CONN_READY;
    c->has_error = false;
    c->is_paused = false;
    if (PQstatus(c->pg) == CONNECTION_BAD) {
        if (has_error) {
            lose(c, ESCROW_ECLOSED,
                 &err); /* says more than libpq: "terminating connection due to ..." */
        } else {
            lose_by_libpq(c, ESCROW_ECLOSED);
        }
        return;
    }
    c->handlers->done(c->arg, has_error ? &err : NULL);
}

/* false: nothing more to do now. */
static bool process_result(struct pg_conn *c)
{
    unsigned generation = c->generation;
    PGresult *res;

    if (PQisBusy(c->pg)) {
        return false;
    }
    res = PQgetResult(c->pg);
    if (res == NULL) {
        finish_statement(c);
        return false;
    }
    switch (PQresultStatus(res)) {
    case PGRES_TUPLES_OK:
        c->handlers->result(c->arg, res);
        break;
    case PGRES_COPY_OUT:
        c->state = PG_CONN_COPYING;
        break;
    case PGRES_COMMAND_OK:
    case PGRES_EMPTY_QUERY:
    case PGRES_NONFATAL_ERROR:
        break;
    case PGRES_FATAL_ERROR:
    case PGRES_BAD_RESPONSE:
    case PGRES_COPY_IN:
    case PGRES_COPY_BOTH:
    case PGRES_SINGLE_TUPLE:
    case PGRES_PIPELINE_SYNC:
    case PGRES_PIPELINE_ABORTED:
        if (!c->has_error) {
            pg_error_set(&c->error, c->pg, res);
            c->has_error = true;
        }
        break;
    }
    PQclear(res);
    return generation == c->generation;
}

static void process_notifies(struct pg_conn *c)
{
    PGnotify *note;
    bool any = false;

    while ((note = PQnotifies(c->pg)) != NULL) {
        PQfreemem(note);
        any = true;
    }
    if (any && c->handlers->notified != NULL) {
        c->handlers->notified(c->arg);
    }
}

static void process(struct pg_conn *c)
{
    unsigned generation = c->generation;

    for (bool more = true; more;) {
        more = c->state == PG_CONN_COPYING ? process_copy(c)
               : c->state == PG_CONN_BUSY  ? process_result(c)
                                           : false;
        if (generation != c->generation) {
            return;
        }
    }
    process_notifies(c);
    if (generation == c->generation && c->state != PG_CONN_CLOSED && !watch_connected(c)) {
        lose_by_libpq(c, ESCROW_ENOMEM);
    }
}

static void on_poll(uv_poll_t *handle, int status, int events)
{
    struct pg_poll *poll = handle->data;
    struct pg_conn *c = poll->conn;

    if (c == NULL) {
        return;
    }
    if (c->state == PG_CONN_CONNECTING) {
        connect_step(c, PQconnectPoll(c->pg));
        return;
    }
    if ((status < 0 || (events & UV_READABLE) != 0) && PQconsumeInput(c->pg) == 0) {
        /* Say what the server said last, if it said something. */
        if (c->state == PG_CONN_BUSY || c->state == PG_CONN_COPYING) {
            c->state = PG_CONN_BUSY;
            process(c);
            return;
        }
        lose_by_libpq(c, ESCROW_ECLOSED);
        return;
    }
    if (c->must_flush) {
        int rc = PQflush(c->pg);
        if (rc < 0) {
            lose_by_libpq(c, ESCROW_ECLOSED);
            return;
        }
        c->must_flush = rc == 1;
    }
    process(c);
}
