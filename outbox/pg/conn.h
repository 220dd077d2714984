/*
 * One connection to PostgreSQL on the loop: libpq without ever waiting.
 *
 * One statement at a time. Text results, and COPY ... TO STDOUT as a stream that can be paused:
 * then nothing more is read from the socket and the server waits.
 *
 * Owns:    the libpq connection and its poll handle.
 * Thread:  the loop.
 * Holds:   no handler is called inside pg_conn_open, pg_conn_query or pg_conn_pause, and none after
 *          pg_conn_close.
 * Waits:   never; names of hosts are looked up by resolve.h.
 */
#ifndef OUTBOX_PG_CONN_H
#define OUTBOX_PG_CONN_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/io_uv/loop.h"

#include <stdbool.h>

#include <libpq-fe.h>

/* What the server, or libpq, said. */
struct pg_error {
    char sqlstate[6];  /* "" when there is none: connection errors */
    bool needs_person; /* trying again soon cannot help: password, rights, missing schema */
    char text[ERR_TEXT_MAX];
};

struct pg_conn_handlers {
    /* Connected: the first statement may be sent. */
    void (*connected)(void *arg);
    /* A result with rows; borrowed until return. */
    void (*result)(void *arg, const PGresult *res);
    /*
     * One CopyData message. Not 0: the connection is closed and lost with that code. May be NULL.
     */
    int (*copy_data)(void *arg, struct slice bytes);
    /*
     * The statement is over: its effects are committed if err is NULL, on a synchronous standby
     * too. The next one may be sent.
     */
    void (*done)(void *arg, const struct pg_error *err);
    /* A notification came in. May be NULL. */
    void (*notified)(void *arg);
    /* The connection is gone, and closed. */
    void (*lost)(void *arg, int code, const struct pg_error *err);
};

struct pg_poll;
struct pg_resolve;

enum pg_conn_state {
    PG_CONN_CLOSED,
    PG_CONN_CONNECTING,
    PG_CONN_READY,
    PG_CONN_BUSY,
    PG_CONN_COPYING
};

struct pg_conn {
    struct loop *loop;
    const struct pg_conn_handlers *handlers;
    void *arg;
    PGconn *pg;
    struct pg_poll *poll;
    struct pg_resolve *resolve; /* while names are looked up */
    const char *conninfo;       /* the caller's, until it is used */
    enum pg_conn_state state;
    unsigned generation; /* counts closes, to see one inside a callback */
    bool is_paused;
    bool must_flush;
    bool has_error; /* of the running statement: the first one */
    struct pg_error error;
    struct loop_deferred work; /* what must not happen inside the caller's call */
};

/* Append text of the database for a terminal: what one could obey becomes \xNN. */
void pg_put_text(struct buf *out, const char *text);

/* handlers: static storage. */
void pg_conn_init(struct pg_conn *c, struct loop *l, const struct pg_conn_handlers *handlers,
                  void *arg);

/* Connect; CLOSED only. conninfo: as psql takes it; borrowed until connected or lost. */
void pg_conn_open(struct pg_conn *c, const char *conninfo);

/* Send one or more statements as one message (one transaction). READY only. */
void pg_conn_query(struct pg_conn *c, const char *sql);

/* One statement with text parameters; NULL is NULL. */
void pg_conn_query_params(struct pg_conn *c, const char *sql, int count, const char *const *values);

/* Stop or go on reading rows of a COPY. */
void pg_conn_pause(struct pg_conn *c, bool is_paused);

/* At once; also when closed already. What was running is dropped by the server. */
void pg_conn_close(struct pg_conn *c);

static inline bool pg_conn_is_ready(const struct pg_conn *c)
{
    return c->state == PG_CONN_READY;
}

/* Fill *err from a failed result, or from the connection when res is NULL. */
void pg_error_set(struct pg_error *err, const PGconn *pg, const PGresult *res);

#endif
