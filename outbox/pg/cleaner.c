/*
 * Happy path: time -> horizon from the broker -> connect -> delete in slices until a slice was not
 * full -> close. Failures: the round ends; the next one comes by itself. A broker that does not
 * answer means that nothing is deleted.
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

#define SLICE_ROWS 20000

struct cleaner {
    struct loop *loop;
    struct sink *sink;
    struct cleaner_config cfg;
    struct pg_conn conn;
    struct loop_timer timer;
    struct sink_horizon horizon;
    bool is_asking;
    int64_t last_removed;
    uint64_t removed;
    char sql[512];
};

static void send_slice(void *arg)
{
    struct cleaner *c = arg;

    c->last_removed = 0;
    pg_conn_query(&c->conn, c->sql);
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
    .connected = send_slice, .result = on_result, .done = on_done, .lost = on_lost};

static void on_horizon(struct sink_horizon *horizon)
{
    struct cleaner *c = horizon->arg;
    int64_t before_ms;

    c->is_asking = false;
    if (horizon->code != 0) {
        return;
    }
    before_ms = horizon->oldest_born_ms - (int64_t)c->cfg.keep_ms;
    (void)snprintf(c->sql, sizeof c->sql,
                   "SELECT escrow.transaction_clean(to_timestamp(%" PRId64 " / 1000.0), "
                   "clock_timestamp() - interval '%" PRIu64 " milliseconds', %d)",
                   before_ms, c->cfg.keep_tombstone_ms, SLICE_ROWS);
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
    mem_free(c);
}

uint64_t cleaner_removed(const struct cleaner *c)
{
    return c->removed;
}
