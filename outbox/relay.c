/*
 * Decides what happens next: which event belongs to which state, and the one way that all failures
 * take.
 *
 * Happy path: connect, open (relay_open.c), then round and round (relay_read.c). STATES.md draws
 * it. Failures: relay_fail() drops what was read, closes the database connection, waits until the
 * sink has given everything back (DRAINING) and tries again later (BACKOFF), or ends.
 */
#include "outbox/relay.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

#include <string.h>

#define TO(name) SM_BIT(RELAY_##name)

static const struct sm_state relay_states[RELAY_STATE_COUNT] = {
    [RELAY_STOPPED] = {"STOPPED", TO(CONNECTING), true},
    [RELAY_CONNECTING] = {"CONNECTING", TO(OPENING) | TO(DRAINING), false},
    [RELAY_OPENING] = {"OPENING",
                       TO(SNAPSHOT) | TO(ADOPTING) | TO(PARKING) | TO(REFUSING) | TO(DRAINING),
                       false},
    [RELAY_ADOPTING] = {"ADOPTING", TO(SNAPSHOT) | TO(DRAINING), false},
    [RELAY_PARKING] = {"PARKING", TO(SNAPSHOT) | TO(DRAINING), false},
    [RELAY_SNAPSHOT] = {"SNAPSHOT",
                        TO(SNAPSHOT) | TO(READING) | TO(REPLAYING) | TO(PUBLISHING) | TO(IDLE) |
                            TO(ADOPTING) | TO(REFUSING) | TO(DRAINING),
                        false},
    [RELAY_READING] = {"READING",
                       TO(READING) | TO(PUBLISHING) | TO(SNAPSHOT) | TO(MAINTAINING) | TO(IDLE) |
                           TO(DRAINING),
                       false},
    [RELAY_PUBLISHING] = {"PUBLISHING",
                          TO(READING) | TO(SNAPSHOT) | TO(MAINTAINING) | TO(IDLE) | TO(DRAINING),
                          false},
    [RELAY_REPLAYING] = {"REPLAYING", TO(SETTLING) | TO(MAINTAINING) | TO(DRAINING), false},
    [RELAY_SETTLING] = {"SETTLING", TO(MAINTAINING) | TO(DRAINING), false},
    [RELAY_MAINTAINING] = {"MAINTAINING", TO(SNAPSHOT) | TO(IDLE) | TO(DRAINING), false},
    [RELAY_IDLE] = {"IDLE", TO(SNAPSHOT) | TO(MAINTAINING) | TO(DRAINING), false},
    [RELAY_REFUSING] = {"REFUSING", TO(DRAINING), false},
    [RELAY_DRAINING] = {"DRAINING", TO(BACKOFF) | TO(STOPPED) | TO(FENCED) | TO(REFUSED), false},
    [RELAY_BACKOFF] = {"BACKOFF", TO(CONNECTING) | TO(STOPPED), false},
    [RELAY_FENCED] = {"FENCED", 0, true},
    [RELAY_REFUSED] = {"REFUSED", 0, true},
};

static const struct sm_table relay_table = {"relay", relay_states, RELAY_STATE_COUNT};

void relay_config_init(struct relay_config *cfg)
{
    *cfg = (struct relay_config){
        .batch_rows_max = 4096,
        .batch_bytes_max = (size_t)1 << 20,
        .sort_bytes_max = (size_t)16 << 20,
        .window_bytes = (size_t)8 << 20,
        .poll_min_ms = 3,
        .poll_max_ms = 100,
        .maintain_ms = 1000,
        .backoff_base_ms = 100,
        .backoff_max_ms = 10000,
        .topic_wait_ms = 10000,
        .db_timeout_ms = 30000,
        .foreign = RELAY_FOREIGN_REFUSE,
    };
}

struct relay *relay_new(const struct relay_config *cfg)
{
    struct relay *r = mem_calloc(1, sizeof *r);

    CHECK(cfg->source != NULL);
    CHECK(strlen(cfg->source) > 0);
    CHECK(strlen(cfg->source) <= RELAY_NAME_MAX);
    CHECK(cfg->owner != NULL);
    CHECK(cfg->poll_min_ms > 0);
    CHECK(cfg->poll_min_ms <= cfg->poll_max_ms);
    if (r == NULL) {
        return NULL;
    }
    r->cfg = *cfg;
    r->source = (struct sink_source){
        .name = slice_str(cfg->source), .owner = slice_str(cfg->owner), .lane = cfg->lane};
    r->state = RELAY_STOPPED;
    r->deadline_ms = RELAY_NEVER_MS;
    backoff_init(&r->backoff, cfg->backoff_base_ms, cfg->backoff_max_ms, cfg->seed);
    batcher_init(&r->batcher, cfg->batch_rows_max, cfg->batch_bytes_max);
    sorter_init(&r->sorter, cfg->sort_bytes_max);
    position_init(&r->cursor);
    position_init(&r->acked_position);
    position_init(&r->stored_position);
    snapshot_init(&r->db_stored);
    snapshot_init(&r->db_given_up);
    for (size_t i = 0; i < RELAY_STEPS_MAX; i++) {
        snapshot_init(&r->steps[i]);
    }
    list_init(&r->sealed);
    list_init(&r->flight);
    buf_init(&r->sent, 0);
    buf_init(&r->acked, 0);
    buf_init(&r->refused_at, 0);
    return r;
}

void relay_free(struct relay *r)
{
    if (r == NULL) {
        return;
    }
    CHECK(relay_is_drained(r));
    relay_unread(r);
    batcher_fini(&r->batcher);
    sorter_fini(&r->sorter);
    position_fini(&r->cursor);
    position_fini(&r->acked_position);
    position_fini(&r->stored_position);
    snapshot_fini(&r->db_stored);
    snapshot_fini(&r->db_given_up);
    for (size_t i = 0; i < RELAY_STEPS_MAX; i++) {
        snapshot_fini(&r->steps[i]);
    }
    buf_fini(&r->sent);
    buf_fini(&r->acked);
    buf_fini(&r->refused_at);
    mem_free(r);
}

void relay_move(struct relay *r, enum relay_state to, const char *event)
{
    sm_move(&relay_table, &r->state, (int)to, r->source.lane, event);
}

void relay_ask(struct relay *r, int64_t now_ms, enum relay_state state, enum relay_db_command cmd,
               struct relay_update *out, const char *event)
{
    relay_move(r, state, event);
    r->deadline_ms = now_ms + (int64_t)r->cfg.db_timeout_ms;
    out->db = cmd;
}

void relay_drained(struct relay *r, int64_t now_ms)
{
    uint32_t wait_ms;

    CHECK(relay_is_drained(r));
    relay_move(r, r->drain_to, "drained");
    r->deadline_ms = RELAY_NEVER_MS;
    if (r->state == RELAY_BACKOFF && r->is_big && r->sorts_here) {
        r->sorts_here = false;
        r->deadline_ms = now_ms;
    } else if (r->state == RELAY_BACKOFF && r->is_narrowing) {
        r->deadline_ms = now_ms;
    } else if (r->state == RELAY_BACKOFF) {
        wait_ms = r->needs_person ? backoff_next_slow(&r->backoff) : backoff_next(&r->backoff);
        if (r->is_waiting && now_ms + wait_ms > r->topic_due_ms && now_ms < r->topic_due_ms) {
            wait_ms = (uint32_t)(r->topic_due_ms - now_ms);
        }
        r->deadline_ms = now_ms + wait_ms;
    }
    r->needs_person = false;
    r->is_narrowing = false;
    r->is_waiting = false;
}

void relay_leave(struct relay *r, int64_t now_ms, enum relay_state to, struct relay_update *out)
{
    r->drain_to = (uint8_t)to;
    if (r->state == RELAY_DRAINING) {
        return;
    }
    relay_unread(r);
    r->step_count = 0;
    r->step_index = 0;
    r->is_woken = false;
    relay_move(r, RELAY_DRAINING, "leave");
    r->deadline_ms = RELAY_NEVER_MS;
    out->must_close_db = true;
    if (relay_is_drained(r)) {
        relay_drained(r, now_ms);
    }
}

void relay_refuse(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    CHECK(r->error.code != 0);
    r->has_news = true;
    if (r->state != RELAY_OPENING) {
        relay_leave(r, now_ms, RELAY_REFUSED, out);
        return;
    }
    relay_ask(r, now_ms, RELAY_REFUSING, RELAY_DB_REFUSE, out, "refuse");
}

/* The database knows, or could not be told: the log has it. */
static void on_told(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->state == RELAY_REFUSING) {
        relay_leave(r, now_ms, RELAY_REFUSED, out);
    }
}

void relay_fail(struct relay *r, int64_t now_ms, int code, const char *what, const char *text,
                struct relay_update *out)
{
    bool is_fenced = escrow_error_class(code) == ESCROW_CLASS_FENCED;
    bool is_auth = code == ESCROW_EAUTH;

    CHECK(code < 0);
    (void)err_set(&r->error, code, "%s: %s%s", what,
                  is_auth && text != NULL ? "not authenticated: " : "",
                  text != NULL ? text : escrow_strerror(code));
    r->stats.auth_failures += is_auth;
    r->has_news = true;
    r->stats.failures++;
    relay_leave(r, now_ms, is_fenced ? RELAY_FENCED : RELAY_BACKOFF, out);
}

static void on_start(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->state == RELAY_STOPPED) {
        relay_ask(r, now_ms, RELAY_CONNECTING, RELAY_DB_CONNECT, out, "start");
    }
}

static void on_stop(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (relay_is_final(r)) {
        return;
    }
    if (r->state == RELAY_BACKOFF) {
        relay_move(r, RELAY_STOPPED, "stop");
        r->deadline_ms = RELAY_NEVER_MS;
        return;
    }
    relay_leave(r, now_ms, RELAY_STOPPED, out);
}

static void on_tick(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (now_ms < r->deadline_ms) {
        return;
    }
    switch ((enum relay_state)r->state) {
    case RELAY_BACKOFF:
        relay_ask(r, now_ms, RELAY_CONNECTING, RELAY_DB_CONNECT, out, "again");
        return;
    case RELAY_IDLE:
        if (relay_is_report_due(r, now_ms)) {
            relay_report(r, now_ms, out);
        } else {
            relay_look(r, now_ms, out, "poll");
        }
        return;
    case RELAY_READING:
    case RELAY_REPLAYING:
        if (relay_has_progress(r)) {
            r->deadline_ms = now_ms + (int64_t)r->cfg.db_timeout_ms;
            return;
        }
        relay_fail(r, now_ms, ESCROW_ETIMEOUT, "database", "no row came for too long", out);
        return;
    case RELAY_REFUSING:
        on_told(r, now_ms, out);
        return;
    case RELAY_CONNECTING:
    case RELAY_ADOPTING:
    case RELAY_PARKING:
    case RELAY_SNAPSHOT:
    case RELAY_MAINTAINING:
        relay_fail(r, now_ms, ESCROW_ETIMEOUT, "database", "no answer for too long", out);
        return;
    case RELAY_STOPPED:
    case RELAY_OPENING:
    case RELAY_PUBLISHING:
    case RELAY_SETTLING:
    case RELAY_DRAINING:
    case RELAY_FENCED:
    case RELAY_REFUSED:
    case RELAY_STATE_COUNT:
        break;
    }
    UNREACHABLE("a deadline in a state that has none");
}

static void on_wake(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->state == RELAY_IDLE) {
        relay_look(r, now_ms, out, "wake-up");
    } else {
        r->is_woken = true;
    }
}

static void on_db_failed(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (relay_is_final(r) || r->state == RELAY_BACKOFF || r->state == RELAY_DRAINING) {
        return;
    }
    if (r->state == RELAY_REFUSING) {
        on_told(r, ev->now_ms, out);
        return;
    }
    if (ev->code == ESCROW_ELIMIT && r->state == RELAY_READING && r->sorts_here) {
        /*
         * No failure: the same again, sorted by the database. A COPY ends only with its connection.
         */
        r->is_big = true;
        r->big_xmax = r->cursor.new.xmax;
        relay_leave(r, ev->now_ms, RELAY_BACKOFF, out);
        return;
    }
    r->needs_person = ev->needs_person;
    relay_fail(r, ev->now_ms, ev->code < 0 ? ev->code : ESCROW_EDB, "database", ev->text, out);
}

static void finish(struct relay *r, struct relay_update *out)
{
    out->deadline_ms = r->deadline_ms;
    out->has_news = r->has_news;
    r->has_news = false;
#ifdef ESCROW_DCHECK
    relay_check(r);
#endif
}

void relay_step(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    *out = (struct relay_update){.deadline_ms = RELAY_NEVER_MS};
    switch (ev->type) {
    case RELAY_EV_START:
        on_start(r, ev->now_ms, out);
        break;
    case RELAY_EV_STOP:
        on_stop(r, ev->now_ms, out);
        break;
    case RELAY_EV_TICK:
        on_tick(r, ev->now_ms, out);
        break;
    case RELAY_EV_WAKE:
        on_wake(r, ev->now_ms, out);
        break;
    case RELAY_EV_DB_CONNECTED:
        relay_on_connected(r, ev, out);
        break;
    case RELAY_EV_DB_FAILED:
        on_db_failed(r, ev, out);
        break;
    case RELAY_EV_SNAPSHOT:
        relay_on_snapshot(r, ev, out);
        break;
    case RELAY_EV_READ_DONE:
        relay_on_read_done(r, ev, out);
        break;
    case RELAY_EV_MAINTAINED:
        relay_on_maintained(r, ev, out);
        break;
    case RELAY_EV_ADOPTED:
        relay_on_adopted(r, ev, out);
        break;
    case RELAY_EV_PARKED:
        relay_on_parked(r, ev, out);
        break;
    case RELAY_EV_TOLD:
        on_told(r, ev->now_ms, out);
        break;
    case RELAY_EV_OPENED:
        relay_on_opened(r, ev, out);
        break;
    }
    finish(r, out);
}

void relay_batch_done(struct relay *r, struct sink_batch *sink_batch, int64_t now_ms,
                      struct relay_update *out)
{
    struct batch *batch = (struct batch *)(void *)sink_batch; /* its first member */
    struct err_ctx why = {0};
    bool is_refused;
    int rc;

    *out = (struct relay_update){.deadline_ms = RELAY_NEVER_MS};
    if (sink_batch->code != 0) {
        (void)err_set(&why, sink_batch->code, "%s",
                      sink_batch->text != NULL ? sink_batch->text
                                               : escrow_strerror(sink_batch->code));
    }
    is_refused = why.code != 0 && relay_refused(r, batch, now_ms);
    rc = relay_settle(r, batch);
    if (r->state == RELAY_REFUSING) {
        /* it ends anyway, for the reason that it has */
    } else if (is_refused) {
        relay_leave(r, now_ms, RELAY_BACKOFF, out);
    } else if (rc != 0) {
        relay_fail(r, now_ms, rc, "publish", why.code != 0 ? why.text : NULL, out);
    } else if (r->state == RELAY_DRAINING) {
        if (relay_is_drained(r)) {
            relay_drained(r, now_ms);
        }
    } else {
        backoff_reset(&r->backoff);
        r->error.code = 0;
        if (r->state == RELAY_SETTLING && relay_is_settled(r)) {
            relay_report(r, now_ms, out);
        } else if (r->state == RELAY_PUBLISHING && relay_has_room(r)) {
            if (r->step_index < r->step_count) {
                relay_read_step(r, now_ms, out);
            } else {
                relay_after_round(r, now_ms, out);
            }
        }
    }
    finish(r, out);
}

enum relay_state relay_state(const struct relay *r)
{
    return (enum relay_state)r->state;
}

const char *relay_state_name(const struct relay *r)
{
    return sm_name(&relay_table, r->state);
}

bool relay_is_final(const struct relay *r)
{
    return sm_is_final(&relay_table, r->state);
}

const struct position *relay_cursor(const struct relay *r)
{
    return &r->cursor;
}

const struct position *relay_acked(const struct relay *r)
{
    return &r->acked_position;
}

const struct snapshot *relay_stored(const struct relay *r)
{
    return r->acked.len > 0 ? &r->stored_position.old : NULL;
}

const struct snapshot *relay_given_up(const struct relay *r)
{
    return &r->db_given_up;
}

uint64_t relay_epoch(const struct relay *r)
{
    return r->epoch;
}

const struct sink_source *relay_sink_source(const struct relay *r)
{
    return &r->source;
}

const char *relay_refusal(const struct relay *r)
{
    return r->refusal;
}

const struct err_ctx *relay_error(const struct relay *r)
{
    return &r->error;
}

const struct relay_stats *relay_stats(const struct relay *r)
{
    return &r->stats;
}
