#include "tests/integration/pg/rig.h"

#include "core/base/mem.h"
#include "escrow/errors.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GUARD_MS 120000

static void on_ended(void *arg, enum relay_state final, const struct err_ctx *why)
{
    struct rig *r = arg;

    r->has_ended = true;
    r->final = final;
    r->why = *why;
}

void rig_init(struct rig *r, struct pg_fixture *f, const char *name, size_t log_cap)
{
    char conninfo[sizeof r->conninfo];

    pg_fixture_database(f, name, conninfo, sizeof conninfo);
    rig_attach(r, conninfo, log_cap);
}

void rig_attach(struct rig *r, const char *conninfo, size_t log_cap)
{
    *r = (struct rig){.has_ended = true};
    ck_assert_int_eq(loop_init(&r->loop), 0);
    fake_broker_init(&r->broker, &r->loop, log_cap);
    (void)snprintf(r->conninfo, sizeof r->conninfo, "%s", conninfo);
    r->pg = pg_test_connect(r->conninfo);
    relay_loop_config_init(&r->cfg);
    r->cfg.relay.source = "test";
    r->cfg.relay.owner = "rig";
    r->cfg.relay.seed = 1;
    r->cfg.relay.backoff_base_ms = 5;
    r->cfg.relay.backoff_max_ms = 50;
    r->cfg.relay.maintain_ms = 20;
    r->cfg.relay.topic_wait_ms = 20;
    r->cfg.conninfo = r->conninfo;
    r->cfg.ended = on_ended;
    r->cfg.arg = r;
}

void rig_fini(struct rig *r)
{
    rig_stop(r);
    PQfinish(r->pg);
    fake_broker_fini(&r->broker);
    loop_fini(&r->loop);
}

void rig_start(struct rig *r)
{
    ck_assert_ptr_null(r->relay);
    r->relay = relay_loop_new(&r->loop, &r->broker.sink, &r->cfg);
    ck_assert_ptr_nonnull(r->relay);
    r->has_ended = false;
    relay_loop_start(r->relay);
}

static bool has_ended(void *arg)
{
    return ((struct rig *)arg)->has_ended;
}

void rig_stop(struct rig *r)
{
    if (r->relay == NULL) {
        return;
    }
    relay_loop_stop(r->relay);
    fake_broker_release(&r->broker);
    rig_until(r, has_ended, r, "end of the relay");
    relay_loop_free(r->relay);
    r->relay = NULL;
}

struct guard {
    struct rig *rig;
    int64_t end_ms;
    bool is_over;
};

/* Also ends the sleep of an iteration whose deferred calls made the condition true. */
static void on_guard(void *arg)
{
    struct guard *g = arg;

    g->is_over = loop_mono_ms(&g->rig->loop) >= g->end_ms;
}

void rig_until(struct rig *r, bool (*is_true)(void *arg), void *arg, const char *what)
{
    struct loop_timer timer = {0};
    struct guard guard = {.rig = r};

    loop_time_forget(&r->loop); /* the test may have been elsewhere for long */
    guard.end_ms = loop_mono_ms(&r->loop) + GUARD_MS;
    loop_timer_start(&r->loop, &timer, 2, 2, on_guard, &guard);
    while (!is_true(arg)) {
        ck_assert_msg(!guard.is_over,
                      "waited too long for %s; relay: %s, %zu messages, last error: %s", what,
                      r->relay == NULL ? "none" : relay_state_name(relay_loop_relay(r->relay)),
                      r->broker.log_count,
                      r->relay == NULL ? "" : relay_error(relay_loop_relay(r->relay))->text);
        loop_run_once(&r->loop, true);
    }
    loop_timer_stop(&r->loop, &timer);
}

void rig_run_ms(struct rig *r, int64_t ms)
{
    struct loop_timer timer = {0};
    struct guard guard = {.rig = r, .end_ms = loop_mono_ms(&r->loop) + ms};

    loop_timer_start(&r->loop, &timer, 2, 2, on_guard, &guard);
    while (!guard.is_over) {
        loop_run_once(&r->loop, true);
    }
    loop_timer_stop(&r->loop, &timer);
}

struct count_arg {
    struct rig *rig;
    size_t count;
};

static bool has_count(void *arg)
{
    struct count_arg *a = arg;

    return a->rig->broker.log_count >= a->count;
}

static bool is_idle(void *arg)
{
    struct rig *r = arg;
    const struct relay *relay = relay_loop_relay(r->relay);

    return relay_state(relay) == RELAY_IDLE && r->broker.queue_count == 0;
}

void rig_until_idle(struct rig *r)
{
    rig_until(r, is_idle, r, "an idle relay");
}

void rig_until_some(struct rig *r, size_t count)
{
    struct count_arg arg = {r, count};

    rig_until(r, has_count, &arg, "messages");
}

void rig_until_count(struct rig *r, size_t count)
{
    rig_until_some(r, count);
    rig_until_idle(r);
    ck_assert_uint_eq(r->broker.log_count, count);
}

void rig_until_ended(struct rig *r, enum relay_state final)
{
    rig_until(r, has_ended, r, "end");
    ck_assert_int_eq(r->final, final);
}

struct error_arg {
    struct rig *rig;
    const char *text;
};

static bool has_error(void *arg)
{
    struct error_arg *a = arg;
    const struct err_ctx *err = relay_error(relay_loop_relay(a->rig->relay));

    return err->code != 0 && strstr(err->text, a->text) != NULL;
}

void rig_until_error(struct rig *r, const char *text)
{
    struct error_arg arg = {r, text};

    rig_until(r, has_error, &arg, text);
}

void rig_check_books(struct rig *r)
{
    PGresult *res = PQexec(r->pg, "SELECT id FROM escrow.outbox ORDER BY id");
    size_t rows;

    ck_assert_int_eq(PQresultStatus(res), PGRES_TUPLES_OK);
    rows = (size_t)PQntuples(res);
    ck_assert_uint_eq(r->broker.log_count, rows);
    for (size_t row = 0; row < rows; row++) {
        int64_t id = 0;
        size_t found = 0;
        ck_assert(slice_to_i64(slice_str(PQgetvalue(res, (int)row, 0)), &id));
        for (size_t i = 0; i < r->broker.log_count; i++) {
            found += r->broker.log[i].row_id == (uint64_t)id;
        }
        ck_assert_msg(found == 1, "row %" PRId64 " is in the log %zu times", id, found);
    }
    PQclear(res);
}

const char *rig_bodies(struct rig *r)
{
    static char text[16384];
    size_t len = 0;

    text[0] = '\0';
    for (size_t i = 0; i < r->broker.log_count && len + 64 < sizeof text; i++) {
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i == 0 ? "" : " ",
                                r->broker.log[i].body);
    }
    return text;
}
