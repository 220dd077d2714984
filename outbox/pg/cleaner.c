/*
 * Happy path: time -> horizons from the brokers -> connect -> settings -> delete in slices until a
 * slice was not full -> close. Failures: the round ends; the next one comes by itself. Markers of a
 * broker that does not answer stay.
 */
#include "outbox/pg/cleaner.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/pg/conn.h"

#include <inttypes.h>
#include <stdio.h>

#define SLICE_ROWS      20000
#define SLICE_ROWS_TEXT "20000"

/* Whatever the role or the database has as its defaults. */
#define SETUP_SQL                                                                                  \
    "SET jit = off; SET statement_timeout = 0; SET lock_timeout = '5s'; "                          \
    "SET search_path = pg_catalog; SET default_transaction_isolation = 'read committed'; "         \
    "SET default_transaction_read_only = off"

#define CLEAN_SQL                                                                                  \
    "SELECT escrow.transaction_clean($1::text[], $2::bigint[], $3::bigint[], $4::boolean, "        \
    "$5::interval, clock_timestamp() - $6::interval, " SLICE_ROWS_TEXT ")"

struct cleaner {
    struct loop *loop;
    struct sink *sink;
    struct cleaner_config cfg;
    struct pg_conn conn;
    struct loop_timer timer;
    struct sink_horizon horizon;
    bool is_asking;
    bool is_stopping;
    bool is_setup; /* the connection has its settings */
    int64_t last_removed;
    uint64_t removed;
    bool is_missing; /* some broker did not answer, and that was said */
    bool is_complete;
    struct buf names;   /* text[] */
    struct buf ages;    /* bigint[] */
    struct buf offsets; /* bigint[] */
    char keep[40];
    char tombstones[40];
};

static void on_connected(void *arg)
{
    struct cleaner *c = arg;

    c->is_setup = false;
    pg_conn_query(&c->conn, SETUP_SQL);
}

static void send_slice(struct cleaner *c)
{
    const char *const values[] = {(const char *)c->names.ptr,
                                  (const char *)c->ages.ptr,
                                  (const char *)c->offsets.ptr,
                                  c->is_complete ? "true" : "false",
                                  c->keep,
                                  c->tombstones};

    c->last_removed = 0;
    pg_conn_query_params(&c->conn, CLEAN_SQL, 6, values);
}

static void on_result(void *arg, const PGresult *res)
{
    struct cleaner *c = arg;

    if (PQntuples(res) == 1 && PQnfields(res) == 1) {
        (void)slice_to_i64(slice_str(PQgetvalue(res, 0, 0)), &c->last_removed); /* stays 0 */
    }
}

static void on_done(void *arg, const struct pg_error *err)
{
    struct cleaner *c = arg;

    if (err != NULL) {
        log_warn("outbox.markers.failed", "%s", err->text);
        pg_conn_close(&c->conn);
        return;
    }
    if (!c->is_setup) {
        c->is_setup = true;
        send_slice(c);
        return;
    }
    c->removed += (uint64_t)c->last_removed;
    if (c->last_removed >= SLICE_ROWS) {
        send_slice(c);
        return;
    }
    pg_conn_close(&c->conn);
}

static void on_lost(void *arg, int code, const struct pg_error *err)
{
    (void)arg;
    (void)code;
    log_debug("outbox.markers.failed", "%s",
              err->text); /* the relay's own connection says it louder */
}

static const struct pg_conn_handlers handlers = {
    .connected = on_connected, .result = on_result, .done = on_done, .lost = on_lost};

/* Three arrays of the same length: names, and until where and when their markers may go. */
static bool put_brokers(struct cleaner *c, const struct sink_horizon *horizon)
{
    buf_clear(&c->names);
    buf_clear(&c->ages);
    buf_clear(&c->offsets);
    for (size_t i = 0; i < horizon->broker_count; i++) {
        const struct sink_broker *b = &horizon->brokers[i];
        /* sink.h: nothing in a name needs escaping */
        buf_append_fmt(&c->names, "%c\"%s\"", i == 0 ? '{' : ',', b->name);
        buf_append_fmt(&c->ages, "%c%" PRId64, i == 0 ? '{' : ',', b->oldest_age_ms);
        buf_append_fmt(&c->offsets, "%c%" PRIu64, i == 0 ? '{' : ',',
                       b->oldest_offset <= INT64_MAX ? b->oldest_offset : 0);
    }
    buf_append(&c->names, "}", 2); /* and the NUL */
    buf_append(&c->ages, "}", 2);
    buf_append(&c->offsets, "}", 2);
    return !buf_failed(&c->names) && !buf_failed(&c->ages) && !buf_failed(&c->offsets);
}

static void say_missing(struct cleaner *c, const struct sink_horizon *horizon)
{
    if (horizon->missing != NULL && !c->is_missing) {
        log_warn("outbox.markers.held",
                 "%s does not answer: transaction markers that it may ask about stay",
                 horizon->missing);
    } else if (horizon->missing == NULL && c->is_missing) {
        log_info("outbox.markers.recovered", "every broker answers again");
    }
    c->is_missing = horizon->missing != NULL;
}

static void on_horizon(struct sink_horizon *horizon)
{
    struct cleaner *c = horizon->arg;

    c->is_asking = false;
    if (c->is_stopping) {
        return;
    }
    say_missing(c, horizon);
    if (horizon->broker_count == 0 || !put_brokers(c, horizon)) {
        return;
    }
    c->is_complete = horizon->is_complete;
    pg_conn_open(&c->conn, c->cfg.conninfo);
}

static void on_timer(void *arg)
{
    struct cleaner *c = arg;

    if (c->is_asking || c->conn.state != PG_CONN_CLOSED) {
        return;
    }
    c->is_asking = true;
    c->horizon = (struct sink_horizon){.cb = on_horizon, .arg = c};
    c->sink->horizon(c->sink, &c->horizon);
}

struct cleaner *cleaner_new(struct loop *l, struct sink *sink, const struct cleaner_config *cfg)
{
    struct cleaner *c = mem_calloc(1, sizeof *c);

    CHECK(sink->horizon != NULL);
    if (c == NULL) {
        return NULL;
    }
    c->loop = l;
    c->sink = sink;
    c->cfg = *cfg;
    buf_init(&c->names, 0);
    buf_init(&c->ages, 0);
    buf_init(&c->offsets, 0);
    (void)snprintf(c->keep, sizeof c->keep, "%" PRIu64 " milliseconds", cfg->keep_ms); /* fits */
    (void)snprintf(c->tombstones, sizeof c->tombstones, "%" PRIu64 " milliseconds",
                   cfg->keep_tombstone_ms); /* fits */
    pg_conn_init(&c->conn, l, &handlers, c);
    loop_timer_start(l, &c->timer, cfg->interval_ms, cfg->interval_ms, on_timer, c);
    return c;
}

void cleaner_free(struct cleaner *c)
{
    if (c == NULL) {
        return;
    }
    CHECK(!c->is_asking);
    loop_timer_stop(c->loop, &c->timer);
    pg_conn_close(&c->conn);
    buf_fini(&c->names);
    buf_fini(&c->ages);
    buf_fini(&c->offsets);
    mem_free(c);
}

void cleaner_stop(struct cleaner *c)
{
    c->is_stopping = true;
    loop_timer_stop(c->loop, &c->timer);
    pg_conn_close(&c->conn);
}

uint64_t cleaner_removed(const struct cleaner *c)
{
    return c->removed;
}
