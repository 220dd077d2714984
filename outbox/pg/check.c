/*
 * Happy path: a question waits in the list, a ready connection takes it, the answer goes back.
 * Failures: a connection that cannot be opened answers everything that waits with "nobody was
 * asked", so that the broker asks again later by its own schedule; a connection that is lost takes
 * down only the question it was working on.
 */
#include "outbox/pg/check.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/backoff.h"
#include "outbox/pg/conn.h"

#include <string.h>

#define TICK_MS        200
#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000

#define SETUP_SQL                                                                                  \
    "SET jit = off; SET statement_timeout = '5s'; SET search_path = pg_catalog; "                  \
    "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = "   \
    "off"

#define CHECK_SQL                                                                                  \
    "SELECT escrow.transaction_check($1::text, $2::text::xid8, $3::text, $4::text::integer, "      \
    "$5::text)"

struct check_conn {
    struct checker *checker;
    struct pg_conn pg;
    struct check_question *q; /* being answered */
    bool is_setup;
    bool has_answer;
    enum check_state state;
};

struct checker {
    struct loop *loop;
    const char *conninfo;
    struct list waiting;
    size_t waiting_count;
    struct list done; /* answered, cb not yet called */
    struct loop_deferred work;
    struct loop_timer tick;
    struct backoff backoff;
    int64_t retry_ms; /* no connection is opened before */
    bool is_failing;
    int conn_count;
    struct check_conn conns[CHECK_CONNECTIONS_MAX];
};

const char *check_state_name(enum check_state state)
{
    static const char *const names[] = {"commit", "rollback", "in_progress", "not_mine"};

    CHECK(state <= CHECK_STATE_NOT_MINE);
    return names[state];
}

/* Of transaction_check. It says "unknown" of transactions of no or of another database only. */
static bool state_from_sql(const char *name, enum check_state *out)
{
    static const char *const names[] = {"commit", "rollback", "in_progress", "unknown"};

    for (int i = CHECK_STATE_COMMIT; i <= CHECK_STATE_NOT_MINE; i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum check_state)i;
            return true;
        }
    }
    return false;
}

static void answer(struct checker *c, struct check_question *q, int code)
{
    q->code = code;
    list_push(&c->done, &q->node);
    loop_defer(c->loop, &c->work);
}

static void fail_waiting(struct checker *c, int code)
{
    while (!list_is_empty(&c->waiting)) {
        struct check_question *q = LIST_ENTRY(c->waiting.next, struct check_question, node);
        list_remove(&q->node);
        c->waiting_count--;
        answer(c, q, code);
    }
}

/* A ready connection takes the next question. */
static void take_next(struct check_conn *conn)
{
    struct checker *c = conn->checker;
    const char *values[5];
    struct check_question *q;

    if (list_is_empty(&c->waiting) || !pg_conn_is_ready(&conn->pg) || !conn->is_setup) {
        return;
    }
    q = LIST_ENTRY(c->waiting.next, struct check_question, node);
    list_remove(&q->node);
    c->waiting_count--;
    conn->q = q;
    conn->has_answer = false;
    values[0] = q->txn_id;
    values[1] = q->xid[0] == '\0' ? NULL : q->xid;
    values[2] = q->system_id[0] == '\0' ? NULL : q->system_id;
    values[3] = q->system_id[0] == '\0' ? NULL : q->timeline;
    values[4] = q->system_id[0] == '\0' ? NULL : q->database;
    pg_conn_query_params(&conn->pg, CHECK_SQL, 5, values);
}

static void on_connected(void *arg)
{
    struct check_conn *conn = arg;

    pg_conn_query(&conn->pg, SETUP_SQL);
}

static void on_result(void *arg, const PGresult *res)
{
    struct check_conn *conn = arg;

    if (conn->q != NULL && PQntuples(res) == 1 && PQnfields(res) == 1 && !PQgetisnull(res, 0, 0)) {
        conn->has_answer = state_from_sql(PQgetvalue(res, 0, 0), &conn->state);
    }
}

static void report(struct checker *c, const struct pg_error *err)
{
    if (!c->is_failing) {
        log_warn("outbox.check.failed", "%s", err->text);
    }
    c->is_failing = true;
}

static void on_done(void *arg, const struct pg_error *err)
{
    struct check_conn *conn = arg;
    struct checker *c = conn->checker;
    struct check_question *q = conn->q;

    conn->q = NULL;
    if (err != NULL) {
        report(c, err);
    } else if (c->is_failing) {
        c->is_failing = false;
        log_info("outbox.check.recovered", "PostgreSQL answers again");
    }
    if (q == NULL) {
        conn->is_setup = err == NULL;
        if (err != NULL) {
            pg_conn_close(&conn->pg);
            return;
        }
        backoff_reset(&c->backoff);
    } else {
        q->state = conn->state;
        answer(c, q, err != NULL ? ESCROW_EDB : conn->has_answer ? 0 : ESCROW_EPROTO);
    }
    take_next(conn);
}

static void on_lost(void *arg, int code, const struct pg_error *err)
{
    struct check_conn *conn = arg;
    struct checker *c = conn->checker;
    bool was_setup = conn->is_setup;

    conn->is_setup = false;
    report(c, err);
    if (conn->q != NULL) {
        struct check_question *q = conn->q;
        conn->q = NULL;
        answer(c, q, code < 0 ? code : ESCROW_EDB);
    }
    if (!was_setup) {
        c->retry_ms = loop_mono_ms(c->loop) + (err->needs_person ? backoff_next_slow(&c->backoff)
                                                                 : backoff_next(&c->backoff));
        fail_waiting(c, ESCROW_ECONN);
    } else {
        loop_defer(c->loop, &c->work);
    }
}

static const struct pg_conn_handlers handlers = {
    .connected = on_connected, .result = on_result, .done = on_done, .lost = on_lost};

/* Give work to ready connections; open another one when all that are open are busy. */
static void dispatch(struct checker *c)
{
    size_t opening = 0;

    for (int i = 0; i < c->conn_count; i++) {
        take_next(&c->conns[i]);
        opening += c->conns[i].pg.state != PG_CONN_CLOSED && !c->conns[i].is_setup;
    }
    for (int i = 0; i < c->conn_count && c->waiting_count > opening; i++) {
        if (c->conns[i].pg.state != PG_CONN_CLOSED) {
            continue;
        }
        if (loop_mono_ms(c->loop) < c->retry_ms) {
            if (opening == 0) {
                fail_waiting(c, ESCROW_ECONN);
            }
            return;
        }
        pg_conn_open(&c->conns[i].pg, c->conninfo);
        opening++;
    }
}

static void call_back(struct checker *c)
{
    struct list batch;

    list_init(&batch);
    while (!list_is_empty(&c->done)) {
        struct list *node = c->done.next;
        list_remove(node);
        list_push(&batch, node);
    }
    while (!list_is_empty(&batch)) {
        struct check_question *q = LIST_ENTRY(batch.next, struct check_question, node);
        list_remove(&q->node);
        q->cb(q);
    }
}

static void on_work(void *arg)
{
    struct checker *c = arg;

    dispatch(c);
    call_back(c);
}

/* Nobody waits longer than the limit, whatever a server or a network does. */
static void on_tick(void *arg)
{
    struct checker *c = arg;
    int64_t now_ms = loop_mono_ms(c->loop);

    for (int i = 0; i < c->conn_count; i++) {
        struct check_conn *conn = &c->conns[i];
        if (conn->q != NULL && now_ms >= conn->q->deadline_ms) {
            struct check_question *q = conn->q;
            conn->q = NULL;
            conn->is_setup = false;
            pg_conn_close(&conn->pg);
            answer(c, q, ESCROW_ETIMEOUT);
        }
    }
    while (!list_is_empty(&c->waiting)) {
        struct check_question *q = LIST_ENTRY(c->waiting.next, struct check_question, node);
        if (now_ms < q->deadline_ms) {
            break;
        }
        list_remove(&q->node);
        c->waiting_count--;
        answer(c, q, ESCROW_ETIMEOUT);
    }
}

void check_ask(struct checker *c, struct check_question *q)
{
    DCHECK_THREAD(c->loop);
    CHECK(q->cb != NULL);
    list_init(&q->node);
    q->state = CHECK_STATE_NOT_MINE;
    q->deadline_ms = loop_mono_ms(c->loop) + CHECK_TIMEOUT_MS;
    if (c->waiting_count >= CHECK_WAITING_MAX) {
        answer(c, q, ESCROW_ELIMIT);
        return;
    }
    list_push(&c->waiting, &q->node);
    c->waiting_count++;
    loop_defer(c->loop, &c->work);
}

struct checker *checker_new(struct loop *l, const char *conninfo, int connection_count)
{
    struct checker *c = mem_calloc(1, sizeof *c);

    CHECK(connection_count > 0);
    CHECK(connection_count <= CHECK_CONNECTIONS_MAX);
    if (c == NULL) {
        return NULL;
    }
    c->loop = l;
    c->conninfo = conninfo;
    c->conn_count = connection_count;
    list_init(&c->waiting);
    list_init(&c->done);
    loop_deferred_init(&c->work, on_work, c);
    backoff_init(&c->backoff, BACKOFF_MIN_MS, BACKOFF_MAX_MS, (uint64_t)loop_mono_ns(l));
    for (int i = 0; i < connection_count; i++) {
        c->conns[i].checker = c;
        pg_conn_init(&c->conns[i].pg, l, &handlers, &c->conns[i]);
    }
    loop_timer_start(l, &c->tick, TICK_MS, TICK_MS, on_tick, c);
    return c;
}

void checker_free(struct checker *c)
{
    if (c == NULL) {
        return;
    }
    for (int i = 0; i < c->conn_count; i++) {
        struct check_question *q = c->conns[i].q;
        pg_conn_close(&c->conns[i].pg);
        if (q != NULL) {
            answer(c, q, ESCROW_ESHUTDOWN);
        }
    }
    fail_waiting(c, ESCROW_ESHUTDOWN);
    call_back(c);
    loop_timer_stop(c->loop, &c->tick);
    loop_deferred_cancel(&c->work);
    mem_free(c);
}
