/*
 * Which question to ask next.
 *
 * Happy path: connect, open, then round and round: SNAPSHOT says up to where there is something;
 * READING, one difference after the other; and again. STATES.md draws it. Failures all take one
 * way: fail() drops what was read, closes the database connection, waits until the sink has given
 * everything back (DRAINING) and tries again later (BACKOFF), or ends.
 */
#include "outbox/relay.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROUND_IS_BACKLOG                                                                           \
    1000                  /* rows in one round: look again at once instead of after poll_min_ms */
#define QUIET_MAINTAIN 60 /* with nothing acknowledged: report after this many report times */

/* Why a database with the right identity is refused: it was put back to an earlier state. */
#define BEHIND                                                                                     \
    "the stored position is ahead of this database: transactions that were published are not in "  \
    "it"

#define TO(name) SM_BIT(RELAY_##name)

static const struct sm_state relay_states[RELAY_STATE_COUNT] = {
    [RELAY_STOPPED] = {"STOPPED", TO(CONNECTING), true},
    [RELAY_CONNECTING] = {"CONNECTING", TO(OPENING) | TO(DRAINING), false},
    [RELAY_OPENING] = {"OPENING", TO(SNAPSHOT) | TO(ADOPTING) | TO(PARKING) | TO(DRAINING), false},
    [RELAY_ADOPTING] = {"ADOPTING", TO(SNAPSHOT) | TO(DRAINING), false},
    [RELAY_PARKING] = {"PARKING", TO(SNAPSHOT) | TO(DRAINING), false},
    [RELAY_SNAPSHOT] = {"SNAPSHOT",
                        TO(SNAPSHOT) | TO(READING) | TO(PUBLISHING) | TO(IDLE) | TO(ADOPTING) |
                            TO(DRAINING),
                        false},
    [RELAY_READING] = {"READING",
                       TO(READING) | TO(PUBLISHING) | TO(SNAPSHOT) | TO(MAINTAINING) | TO(IDLE) |
                           TO(DRAINING),
                       false},
    [RELAY_PUBLISHING] = {"PUBLISHING",
                          TO(READING) | TO(SNAPSHOT) | TO(MAINTAINING) | TO(IDLE) | TO(DRAINING),
                          false},
    [RELAY_MAINTAINING] = {"MAINTAINING", TO(SNAPSHOT) | TO(IDLE) | TO(DRAINING), false},
    [RELAY_IDLE] = {"IDLE", TO(SNAPSHOT) | TO(MAINTAINING) | TO(DRAINING), false},
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
    for (size_t i = 0; i < RELAY_STEPS_MAX; i++) {
        snapshot_fini(&r->steps[i]);
    }
    buf_fini(&r->sent);
    buf_fini(&r->acked);
    buf_fini(&r->refused_at);
    mem_free(r);
}

static void move(struct relay *r, enum relay_state to, const char *event)
{
    sm_move(&relay_table, &r->state, (int)to, r->source.lane, event);
}

/* Ask the database; its answer is awaited until the deadline. */
static void ask(struct relay *r, int64_t now_ms, enum relay_state state, enum relay_db_command cmd,
                struct relay_update *out, const char *event)
{
    move(r, state, event);
    r->deadline_ms = now_ms + (int64_t)r->cfg.db_timeout_ms;
    out->db = cmd;
}

static void drained(struct relay *r, int64_t now_ms)
{
    uint32_t wait_ms;

    CHECK(relay_is_drained(r));
    move(r, r->drain_to, "drained");
    r->deadline_ms = RELAY_NEVER_MS;
    if (r->state == RELAY_BACKOFF && r->is_big && r->sorts_here) {
        r->sorts_here = false;
        r->deadline_ms = now_ms;
    } else if (r->state == RELAY_BACKOFF && r->is_narrowing) {
        r->deadline_ms = now_ms;
    } else if (r->state == RELAY_BACKOFF) {
        wait_ms = r->needs_person ? backoff_next_slow(&r->backoff) : backoff_next(&r->backoff);
        r->deadline_ms = now_ms + wait_ms;
    }
    r->needs_person = false;
    r->is_narrowing = false;
}

/* Leave: drop what was read, close the database, wait for the sink, then go to `to`. */
static void leave(struct relay *r, int64_t now_ms, enum relay_state to, struct relay_update *out)
{
    r->drain_to = (uint8_t)to;
    if (r->state == RELAY_DRAINING) {
        return;
    }
    relay_unread(r);
    r->step_count = 0;
    r->step_index = 0;
    r->is_woken = false;
    move(r, RELAY_DRAINING, "leave");
    r->deadline_ms = RELAY_NEVER_MS;
    out->must_close_db = true;
    if (relay_is_drained(r)) {
        drained(r, now_ms);
    }
}

static void fail(struct relay *r, int64_t now_ms, int code, const char *what, const char *text,
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
    leave(r, now_ms, is_fenced ? RELAY_FENCED : RELAY_BACKOFF, out);
}

/* A person has to say what this database is. */
static void refuse(struct relay *r, int64_t now_ms, const struct db_identity *theirs,
                   const char *why, struct relay_update *out)
{
    char mine[DB_IDENTITY_TEXT_MAX];

    (void)err_set(&r->error, ESCROW_EFOREIGN,
                  "%s; this database is %s. If it continues that one (restored, promoted, "
                  "upgraded) start once with "
                  "--adopt=%" PRIu64 "/%" PRIu32
                  ", if what it holds must not be published with --discard=%" PRIu64 "/%" PRIu32,
                  why, db_identity_format(&r->cursor.db, mine), theirs->system_id, theirs->timeline,
                  theirs->system_id, theirs->timeline);
    r->has_news = true;
    leave(r, now_ms, RELAY_REFUSED, out);
}

/* A broker that knows nothing of what the database was told to be published: another, or wiped. */
static void refuse_no_position(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    const struct db_identity *here = &r->cursor.db;

    (void)err_set(
        &r->error, ESCROW_EFOREIGN,
        "the broker has no position of source %s, the database says that %" PRIu64
        " rows were published. Start with the --broker that has it; or, to go on with this "
        "one behind what the database knows to be published, once with --adopt=%" PRIu64 "/%" PRIu32
        ", with what comes from now on, with --discard=%" PRIu64 "/%" PRIu32,
        r->cfg.source, r->db_rows, here->system_id, here->timeline, here->system_id,
        here->timeline);
    r->has_news = true;
    leave(r, now_ms, RELAY_REFUSED, out);
}

/* Has a person spoken of this identity? */
static bool is_named(const struct relay *r, const struct db_identity *db)
{
    return r->cfg.foreign != RELAY_FOREIGN_REFUSE && r->cfg.foreign_db.system_id == db->system_id &&
           r->cfg.foreign_db.timeline == db->timeline;
}

static void open_sink(struct relay *r, bool is_peek, struct relay_update *out)
{
    r->is_opening = true;
    r->is_peeking = is_peek;
    out->must_open_sink = true;
    out->is_peek = is_peek;
    out->may_adopt = r->cfg.foreign != RELAY_FOREIGN_REFUSE;
}

static void take_over(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->is_peeking) {
        open_sink(r, false, out);
        return;
    }
    out->keep_rows = r->cfg.foreign == RELAY_FOREIGN_ADOPT;
    ask(r, now_ms, RELAY_ADOPTING, RELAY_DB_ADOPT, out, "foreign");
}

/* The position is of another database, or of a future of this one. */
static void foreign(struct relay *r, int64_t now_ms, const struct db_identity *theirs,
                    const char *why, struct relay_update *out)
{
    if (is_named(r, theirs)) {
        take_over(r, now_ms, out);
    } else {
        refuse(r, now_ms, theirs, why, out);
    }
}

/* The broker has no position: right as long as the database was not told of anything published. */
static void no_position(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (is_named(r, &r->cursor.db)) {
        take_over(r, now_ms, out);
    } else {
        refuse_no_position(r, now_ms, out);
    }
}

static void ask_snapshot(struct relay *r, int64_t now_ms, struct relay_update *out,
                         const char *event)
{
    r->is_woken = false;
    r->round_rows = 0;
    out->hold_wake = r->empty_polls == 0;
    ask(r, now_ms, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT, out, event);
}

static void on_start(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->state == RELAY_STOPPED) {
        ask(r, now_ms, RELAY_CONNECTING, RELAY_DB_CONNECT, out, "start");
    }
}

static void on_stop(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (relay_is_final(r)) {
        return;
    }
    if (r->state == RELAY_BACKOFF) {
        move(r, RELAY_STOPPED, "stop");
        r->deadline_ms = RELAY_NEVER_MS;
        return;
    }
    leave(r, now_ms, RELAY_STOPPED, out);
}

static void on_db_connected(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (r->state != RELAY_CONNECTING) {
        return;
    }
    r->cursor.db = ev->db;
    r->db_reports = ev->reports;
    r->db_rows = ev->rows_published;
    r->skip_id = ev->parked_id; /* perhaps by one that died before the position passed it */
    r->has_told = r->error.code != 0;
    r->source.system_id = ev->db.system_id;
    r->source.timeline = ev->db.timeline;
    r->empty_polls = 1;
    r->maintain_due_ms = ev->now_ms + (int64_t)r->cfg.maintain_ms;
    move(r, RELAY_OPENING, "connected");
    r->deadline_ms = RELAY_NEVER_MS; /* the sink keeps its own time */
    open_sink(r, true, out);
}

/* The position that the broker gave is the one to go on from. */
static int take_position(struct relay *r, struct slice bytes, struct position *stored)
{
    int rc = 0;

    buf_clear(&r->sent);
    buf_append_slice(&r->sent, bytes);
    buf_clear(&r->acked);
    buf_append_slice(&r->acked, bytes);
    if (buf_failed(&r->sent) || buf_failed(&r->acked)) {
        return ESCROW_ENOMEM;
    }
    stored->db = r->cursor.db;
    if (bytes.len > 0) {
        rc = position_decode(stored, bytes);
    }
    return rc;
}

/*
 * Is the row that was refused still the next one? If the position has moved since, somebody else
 * has published or parked it: what is read from here on says it.
 */
static bool must_park(struct relay *r, struct slice position)
{
    if (r->park_id != 0 && !slice_eq(position, buf_slice(&r->refused_at))) {
        r->park_id = 0;
        r->suspect_id = 0;
    }
    return r->park_id != 0;
}

/*
 * Twice: what the peek told, and, if that is something to go on from, what was opened. In between
 * the position may have moved.
 */
static void opened(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    struct position stored;
    char theirs[DB_IDENTITY_TEXT_MAX];
    char why[DB_IDENTITY_TEXT_MAX + 64];
    int rc;

    position_init(&stored);
    rc = take_position(r, ev->position, &stored);
    if (rc == ESCROW_ENOMEM) {
        fail(r, ev->now_ms, rc, "open", NULL, out);
    } else if (rc != 0) {
        (void)err_set(&r->error, rc,
                      "the position stored by the broker for source %s cannot be read: %s",
                      r->cfg.source, escrow_strerror(rc));
        r->has_news = true;
        leave(r, ev->now_ms, RELAY_REFUSED, out);
    } else if (ev->position.len == 0 && r->db_rows > 0) {
        no_position(r, ev->now_ms, out);
    } else if (!db_identity_equal(&stored.db, &r->cursor.db)) {
        (void)snprintf(why, sizeof why, "the stored position is of %s",
                       db_identity_format(&stored.db, theirs));
        foreign(r, ev->now_ms, &stored.db, why, out);
    } else if (stored.reports > r->db_reports) {
        foreign(r, ev->now_ms, &stored.db, BEHIND, out);
    } else if (r->is_peeking) {
        open_sink(r, false, out);
    } else {
        position_fini(&r->cursor);
        r->cursor = stored;
        r->cursor.reports = r->db_reports;
        position_init(&stored);
        if (must_park(r, ev->position)) {
            out->park_id = r->park_id;
            ask(r, ev->now_ms, RELAY_PARKING, RELAY_DB_PARK, out, "refused");
        } else {
            ask_snapshot(r, ev->now_ms, out, "opened");
        }
    }
    position_fini(&stored);
}

static void on_opened(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    CHECK(r->is_opening);
    r->is_opening = false;
    if (r->state == RELAY_DRAINING) {
        if (relay_is_drained(r)) {
            drained(r, ev->now_ms);
        }
        return;
    }
    CHECK(r->state == RELAY_OPENING);
    if (ev->code == ESCROW_EFOREIGN) {
        (void)err_set(&r->error, ev->code,
                      "the broker refused: %s. If this database continues that one (restored, "
                      "promoted, upgraded), "
                      "start once with --adopt=SYSTEM/TIMELINE, naming that one; if what it holds "
                      "must not be "
                      "published, with --discard=SYSTEM/TIMELINE",
                      ev->text != NULL ? ev->text : "position of another database");
        r->has_news = true;
        leave(r, ev->now_ms, RELAY_REFUSED, out);
    } else if (ev->code != 0) {
        fail(r, ev->now_ms, ev->code, "open source at the broker", ev->text, out);
    } else {
        r->epoch = ev->epoch;
        opened(r, ev, out);
    }
}

static void on_parked(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (r->state != RELAY_PARKING) {
        return;
    }
    r->skip_id = r->park_id;
    r->park_id = 0;
    r->stats.rows_parked++;
    ask_snapshot(r, ev->now_ms, out, "parked");
}

static void on_adopted(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    struct position here;
    int rc;

    if (r->state != RELAY_ADOPTING) {
        return;
    }
    CHECK(ev->snapshot_count == 1);
    position_init(&here);
    here.db = r->cursor.db;
    here.reports = r->db_reports;
    rc = snapshot_copy(&here.old, &ev->snapshots[0]);
    if (rc == 0) {
        position_fini(&r->cursor);
        r->cursor = here;
        rc = relay_seal_empty(r);
    }
    if (rc != 0) {
        fail(r, ev->now_ms, rc, "adopt", NULL, out);
        return;
    }
    ask_snapshot(r, ev->now_ms, out, "adopted");
}

/* Start the COPY of the current step, or wait for room. */
static void read_step(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    CHECK(r->step_index < r->step_count);
    if (!relay_has_room(r)) {
        move(r, RELAY_PUBLISHING, "window full");
        r->deadline_ms = RELAY_NEVER_MS;
        return;
    }
    if (!r->cursor.is_reading) {
        struct snapshot old_new = r->cursor.new;
        r->cursor.new = r->steps[r->step_index];
        r->steps[r->step_index] = old_new;
        r->cursor.is_reading = true;
        r->cursor.last_order_id = 0;
        r->cursor.last_id = 0;
    }
    r->seen_order_id = r->cursor.last_order_id;
    r->seen_id = r->cursor.last_id;
    r->progress_rows = r->stats.rows_read;
    r->progress_acked = r->stats.batches_acked;
    r->step_bytes = 0;
    r->sorts_here = !r->is_big;
    out->is_sorted = r->is_big;
    out->is_short = r->step_count == 1 && !r->is_big;
    ask(r, now_ms, RELAY_READING, RELAY_DB_READ, out, "read");
}

static bool is_maintain_due(const struct relay *r, int64_t now_ms)
{
    int64_t due_ms = r->maintain_due_ms;
    bool has_recovered = r->has_told && r->error.code == 0;

    if (r->stats.rows_acked == r->maintained_acked && !has_recovered) {
        due_ms += (int64_t)(QUIET_MAINTAIN - 1) * r->cfg.maintain_ms;
    }
    return now_ms >= due_ms;
}

static void ask_maintain(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    bool is_all_acked = list_is_empty(&r->flight) && list_is_empty(&r->sealed);
    int rc = 0;

    if (is_all_acked && !r->cursor.is_reading) {
        rc = position_copy(&r->acked_position,
                           &r->cursor); /* later than what the broker has, by nothing but time */
    } else if (r->acked.len > 0) {
        rc = position_decode(&r->acked_position, buf_slice(&r->acked));
    }
    if (rc != 0) {
        fail(r, now_ms, rc, "acknowledged position", NULL, out);
        return;
    }
    out->has_recovered = r->has_told && r->error.code == 0;
    r->has_told = r->has_told && !out->has_recovered;
    out->report_rows = r->stats.rows_acked - r->maintained_acked;
    r->maintained_acked = r->stats.rows_acked;
    ask(r, now_ms, RELAY_MAINTAINING, RELAY_DB_MAINTAIN, out, "report time");
}

/* Nothing to read at present: when to look again. */
static void go_idle(struct relay *r, int64_t now_ms)
{
    uint64_t wait_ms = r->cfg.poll_min_ms;

    for (uint32_t i = 0; i < r->empty_polls && wait_ms < r->cfg.poll_max_ms; i++) {
        wait_ms *= 2;
    }
    if (wait_ms > r->cfg.poll_max_ms) {
        wait_ms = r->cfg.poll_max_ms;
    }
    move(r, RELAY_IDLE, "nothing new");
    r->deadline_ms = now_ms + (int64_t)wait_ms;
    if (list_is_empty(&r->flight) && list_is_empty(&r->sealed)) {
        backoff_reset(&r->backoff);
        r->error.code = 0;
    }
}

/* All steps are read. */
static void after_round(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    r->empty_polls = 0;
    r->step_count = 0;
    r->step_index = 0;
    if (!relay_has_room(r)) {
        move(r, RELAY_PUBLISHING, "window full");
        r->deadline_ms = RELAY_NEVER_MS;
    } else if (is_maintain_due(r, now_ms)) {
        ask_maintain(r, now_ms, out);
    } else if (r->is_woken || r->round_rows >= ROUND_IS_BACKLOG) {
        ask_snapshot(r, now_ms, out, "more");
    } else {
        go_idle(r, now_ms);
    }
}

/*
 * Keep the snapshots that are really steps: each sees what the one before saw, the last is the
 * present.
 */
static int take_steps(struct relay *r, const struct relay_event *ev)
{
    const struct snapshot *before = r->cursor.is_reading ? &r->cursor.new : &r->cursor.old;
    const struct snapshot *present = &ev->snapshots[ev->snapshot_count - 1];

    r->step_index = 0;
    r->step_count = 0;
    if (r->cursor.is_reading) { /* found so at the broker: the rest of that difference first */
        int rc = snapshot_copy(&r->steps[r->step_count++], &r->cursor.new);
        if (rc != 0) {
            return rc;
        }
    }
    for (size_t i = 0; i < ev->snapshot_count && r->step_count < RELAY_STEPS_MAX; i++) {
        bool is_present = i + 1 == ev->snapshot_count;
        if (is_present && ev->is_cut && r->step_count > 0) {
            break; /* it would be a step of everything that is left */
        }
        struct snapshot *step = &ev->snapshots[i];
        struct snapshot unused = r->steps[r->step_count];
        if (!snapshot_contains(step, before) || !snapshot_contains(present, step) ||
            snapshot_equal(step, before)) {
            continue;
        }
        r->steps[r->step_count] = *step;
        *step = unused;
        before = &r->steps[r->step_count++];
    }
    return 0;
}

static void nothing_new(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    int rc = snapshot_copy(&r->cursor.old, &ev->snapshots[ev->snapshot_count - 1]);

    if (r->empty_polls < UINT32_MAX) {
        r->empty_polls++;
    }
    if (rc != 0) {
        fail(r, ev->now_ms, rc, "snapshot", NULL, out);
    } else if (r->is_woken) {
        ask_snapshot(r, ev->now_ms, out, "woken");
    } else {
        go_idle(r, ev->now_ms);
    }
}

static void on_snapshot(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    const struct snapshot *passed = r->cursor.is_reading ? &r->cursor.new : &r->cursor.old;
    const struct snapshot *present;
    int rc;

    if (r->state != RELAY_SNAPSHOT) {
        return;
    }
    CHECK(ev->snapshot_count > 0);
    present = &ev->snapshots[ev->snapshot_count - 1];
    if (!snapshot_contains(present, passed)) {
        foreign(r, ev->now_ms, &r->cursor.db, BEHIND, out);
        return;
    }
    if (!ev->has_rows && !r->cursor.is_reading) {
        nothing_new(r, ev, out);
        return;
    }
    rc = take_steps(r, ev);
    if (rc != 0) {
        fail(r, ev->now_ms, rc, "snapshot", NULL, out);
    } else if (r->step_count == 0) {
        nothing_new(r, ev, out);
    } else {
        read_step(r, ev->now_ms, out);
    }
}

static void on_read_done(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    int rc;

    if (r->state != RELAY_READING) {
        return;
    }
    rc = r->sorts_here ? relay_unsort(r) : 0;
    if (rc == 0) {
        rc = relay_seal(r, true);
    }
    if (rc != 0) {
        fail(r, ev->now_ms, rc, "read", NULL, out);
        return;
    }
    if (r->cursor.old.xmax >= r->big_xmax && r->step_bytes <= r->cfg.sort_bytes_max / 2) {
        r->is_big = false;
    }
    r->stats.differences++;
    r->step_index++;
    if (r->step_index < r->step_count) {
        read_step(r, ev->now_ms, out);
    } else {
        after_round(r, ev->now_ms, out);
    }
}

static void on_maintained(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (r->state != RELAY_MAINTAINING) {
        return;
    }
    r->maintain_due_ms = ev->now_ms + (int64_t)r->cfg.maintain_ms;
    r->db_reports = ev->reports;
    r->cursor.reports = ev->reports;
    ask_snapshot(r, ev->now_ms, out, "maintained");
}

/* READING makes progress as long as rows or answers come. */
static bool has_progress(struct relay *r)
{
    bool answer = !relay_wants_rows(r) || r->progress_rows != r->stats.rows_read ||
                  r->progress_acked != r->stats.batches_acked;

    r->progress_rows = r->stats.rows_read;
    r->progress_acked = r->stats.batches_acked;
    return answer;
}

static void on_tick(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (now_ms < r->deadline_ms) {
        return;
    }
    switch ((enum relay_state)r->state) {
    case RELAY_BACKOFF:
        ask(r, now_ms, RELAY_CONNECTING, RELAY_DB_CONNECT, out, "again");
        return;
    case RELAY_IDLE:
        if (is_maintain_due(r, now_ms)) {
            ask_maintain(r, now_ms, out);
        } else {
            ask_snapshot(r, now_ms, out, "poll");
        }
        return;
    case RELAY_READING:
        if (has_progress(r)) {
            r->deadline_ms = now_ms + (int64_t)r->cfg.db_timeout_ms;
            return;
        }
        fail(r, now_ms, ESCROW_ETIMEOUT, "database", "no row came for too long", out);
        return;
    case RELAY_CONNECTING:
    case RELAY_ADOPTING:
    case RELAY_PARKING:
    case RELAY_SNAPSHOT:
    case RELAY_MAINTAINING:
        fail(r, now_ms, ESCROW_ETIMEOUT, "database", "no answer for too long", out);
        return;
    case RELAY_STOPPED:
    case RELAY_OPENING:
    case RELAY_PUBLISHING:
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
        ask_snapshot(r, now_ms, out, "wake-up");
    } else {
        r->is_woken = true;
    }
}

static void on_db_failed(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (relay_is_final(r) || r->state == RELAY_BACKOFF || r->state == RELAY_DRAINING) {
        return;
    }
    if (ev->code == ESCROW_ELIMIT && r->state == RELAY_READING && r->sorts_here) {
        /*
         * No failure: the same again, sorted by the database. A COPY ends only with its connection.
         */
        r->is_big = true;
        r->big_xmax = r->cursor.new.xmax;
        leave(r, ev->now_ms, RELAY_BACKOFF, out);
        return;
    }
    r->needs_person = ev->needs_person;
    fail(r, ev->now_ms, ev->code < 0 ? ev->code : ESCROW_EDB, "database", ev->text, out);
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
        on_db_connected(r, ev, out);
        break;
    case RELAY_EV_DB_FAILED:
        on_db_failed(r, ev, out);
        break;
    case RELAY_EV_SNAPSHOT:
        on_snapshot(r, ev, out);
        break;
    case RELAY_EV_READ_DONE:
        on_read_done(r, ev, out);
        break;
    case RELAY_EV_MAINTAINED:
        on_maintained(r, ev, out);
        break;
    case RELAY_EV_ADOPTED:
        on_adopted(r, ev, out);
        break;
    case RELAY_EV_PARKED:
        on_parked(r, ev, out);
        break;
    case RELAY_EV_OPENED:
        on_opened(r, ev, out);
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
    is_refused = why.code != 0 && relay_refused(r, batch);
    rc = relay_settle(r, batch);
    if (is_refused) {
        leave(r, now_ms, RELAY_BACKOFF, out);
    } else if (rc != 0) {
        fail(r, now_ms, rc, "publish", why.code != 0 ? why.text : NULL, out);
    } else if (r->state == RELAY_DRAINING) {
        if (relay_is_drained(r)) {
            drained(r, now_ms);
        }
    } else {
        backoff_reset(&r->backoff);
        r->error.code = 0;
        if (r->state == RELAY_PUBLISHING && relay_has_room(r)) {
            if (r->step_index < r->step_count) {
                read_step(r, now_ms, out);
            } else {
                after_round(r, now_ms, out);
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
