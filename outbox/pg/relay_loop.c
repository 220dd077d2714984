/*
 * Happy path: relay_step says which statement; its result becomes the next event. Rows go straight
 * from libpq's buffer into the relay; whenever a batch is complete it goes to the sink. Failures:
 * the connection reports lost(), the statement done(err): both become DB_FAILED, and the relay
 * decides.
 */
#include "outbox/pg/relay_loop.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "outbox/pg/conn.h"
#include "outbox/pg/query.h"
#include "outbox/pg/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define STEPS_MAX (QUERY_MILESTONES_MAX + 1)
#define SETUP_MAX                                                                                  \
    ((size_t)8192 + 3 * (2 * (size_t)RELAY_NAME_MAX) + ERR_TEXT_MAX) /* text of query_setup */

struct relay_loop {
    struct loop *loop;
    struct sink *sink;
    struct relay_loop_config cfg;
    struct relay *relay;
    struct pg_conn conn;
    struct loop_timer timer;
    struct loop_deferred ending;
    struct sink_open open;
    struct buf sql;
    bool was_failing;
    bool has_ended;
    bool is_started;
    /* The running statement. */
    enum relay_db_command asked;
    bool holds_wake; /* this session has the wake lock */
    bool asks_wake;
    bool has_row; /* the result that counts came */
    bool is_claiming;
    bool is_overtaken; /* the database knows of another relay that came later */
    struct db_identity identity;
    struct db_identity said; /* in the log, is_identity_said */
    bool is_identity_said;
    int schema_version;
    uint64_t reports;
    uint64_t rows_published;
    struct snapshot stored; /* sees nothing: not told */
    struct snapshot given_up;
    uint64_t cleared;
    bool knows_error; /* it was told one, and not that it is over */
    bool is_put_back; /* the database is being told that the broker was put back */
    bool accepts_loss;
    struct snapshot steps[STEPS_MAX];
    size_t step_count;
    bool is_cut;
    bool has_rows;
    bool has_parked;
    bool wants_replay;
    struct row_decoder decoder;
};

static void obey(struct relay_loop *rl, const struct relay_update *up);

static void feed(struct relay_loop *rl, struct relay_event ev)
{
    struct relay_update up;

    ev.now_ms = loop_mono_ms(rl->loop);
    relay_step(rl->relay, &ev, &up);
    obey(rl, &up);
}

static void feed_db_failed(struct relay_loop *rl, int code, const char *text, bool needs_person)
{
    rl->asked = RELAY_DB_NONE;
    feed(rl,
         (struct relay_event){
             .type = RELAY_EV_DB_FAILED, .code = code, .text = text, .needs_person = needs_person});
}

/* ---- The database's answers ---- */

static bool field_u64(const PGresult *res, int column, uint64_t *out)
{
    int64_t v;

    if (PQgetisnull(res, 0, column) || !slice_to_i64(slice_str(PQgetvalue(res, 0, column)), &v) ||
        v < 0) {
        return false;
    }
    *out = (uint64_t)v;
    return true;
}

static bool field_bool(const PGresult *res, int column)
{
    return !PQgetisnull(res, 0, column) && strcmp(PQgetvalue(res, 0, column), "t") == 0;
}

/* NULL: one that sees nothing. */
static bool field_snapshot(const PGresult *res, int column, struct snapshot *out)
{
    if (PQgetisnull(res, 0, column)) {
        snapshot_fini(out);
        snapshot_init(out);
        return true;
    }
    return snapshot_parse(out, slice_str(PQgetvalue(res, 0, column))) == 0;
}

static bool take_identity(struct relay_loop *rl, const PGresult *res)
{
    uint64_t timeline;
    uint64_t oid;
    uint64_t version = 0; /* stays when there is no row: setup_done says so */

    if (!field_u64(res, 0, &rl->identity.system_id) || !field_u64(res, 1, &timeline) ||
        !field_u64(res, 2, &oid) || (!PQgetisnull(res, 0, 4) && !field_u64(res, 4, &version)) ||
        !field_u64(res, 5, &rl->reports) || !field_u64(res, 6, &rl->rows_published) ||
        !field_snapshot(res, 7, &rl->stored) || !field_snapshot(res, 8, &rl->given_up)) {
        return false;
    }
    rl->cleared = 0;
    if (!PQgetisnull(res, 0, 9) && !field_u64(res, 9, &rl->cleared)) {
        return false;
    }
    rl->knows_error = field_bool(res, 10);
    rl->identity.timeline = (uint32_t)timeline;
    rl->identity.db_oid = (uint32_t)oid;
    rl->schema_version = (int)version;
    return true;
}

/* Milestones are separated by blanks and come before the present. */
static bool take_snapshots(struct relay_loop *rl, const PGresult *res)
{
    struct slice left = PQgetisnull(res, 0, 2) ? SLICE_EMPTY : slice_str(PQgetvalue(res, 0, 2));
    uint64_t count;

    rl->step_count = 0;
    while (left.len > 0 && rl->step_count < QUERY_MILESTONES_MAX) {
        const uint8_t *blank = memchr(left.ptr, ' ', left.len);
        size_t len = blank == NULL ? left.len : (size_t)(blank - left.ptr);
        if (snapshot_parse(&rl->steps[rl->step_count], slice_of(left.ptr, len)) != 0) {
            return false;
        }
        rl->step_count++;
        left = blank == NULL ? SLICE_EMPTY : slice_of(blank + 1, left.len - len - 1);
    }
    if (PQgetisnull(res, 0, 0) || !field_u64(res, 3, &count) ||
        snapshot_parse(&rl->steps[rl->step_count], slice_str(PQgetvalue(res, 0, 0))) != 0) {
        return false;
    }
    rl->step_count++;
    rl->is_cut = count >= QUERY_MILESTONES_MAX;
    rl->has_rows = field_bool(res, 1);
    rl->has_parked = field_bool(res, 6);
    rl->wants_replay = field_bool(res, 7);
    if (rl->asks_wake) {
        rl->holds_wake = field_bool(res, 4);
    }
    return true;
}

static bool take_maintained(struct relay_loop *rl, const PGresult *res)
{
    uint64_t emptied = 0;

    if (!field_u64(res, 0, &rl->reports) || !field_u64(res, 1, &emptied)) {
        return false;
    }
    if (emptied > 0 || field_bool(res, 2)) {
        log_debug("outbox.rotation", "%" PRIu64 " partitions emptied, %s", emptied,
                  field_bool(res, 2) ? "the next one is being filled" : "same partition");
    }
    return true;
}

static void on_result(void *arg, const PGresult *res)
{
    struct relay_loop *rl = arg;
    int columns = PQnfields(res);

    if (PQntuples(res) != 1) {
        return;
    }
    if (columns == 1 && strcmp(PQfname(res, 0), QUERY_OWNER_COLUMN) == 0) {
        rl->is_overtaken = rl->is_overtaken || !field_bool(res, 0);
        return;
    }
    switch (rl->asked) {
    case RELAY_DB_CONNECT:
        rl->has_row = rl->has_row || (columns == QUERY_SETUP_COLUMNS && take_identity(rl, res));
        break;
    case RELAY_DB_SNAPSHOT:
        rl->has_row = rl->has_row || (columns == QUERY_SNAPSHOT_COLUMNS && take_snapshots(rl, res));
        break;
    case RELAY_DB_MAINTAIN:
        rl->has_row =
            rl->has_row || (columns == QUERY_MAINTAIN_COLUMNS && take_maintained(rl, res));
        break;
    case RELAY_DB_ADOPT:
        rl->has_row = columns == QUERY_ADOPT_COLUMNS && !PQgetisnull(res, 0, 0) &&
                      snapshot_parse(&rl->steps[0], slice_str(PQgetvalue(res, 0, 0))) == 0;
        break;
    case RELAY_DB_NONE:
    case RELAY_DB_CLOSE:
    case RELAY_DB_READ:
    case RELAY_DB_PARK: /* done says it */
    case RELAY_DB_REFUSE:
    case RELAY_DB_REPLAY:
        break;
    }
}

static void setup_done(struct relay_loop *rl)
{
    char text[128];

    if (rl->schema_version == 0) {
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_EVERSION, SCHEMA_UNRECORDED, true);
        return;
    }
    if (rl->schema_version < SCHEMA_VERSION) {
        (void)snprintf(text, sizeof text,
                       "the schema has version %d, this program needs %d: run escrow-relay migrate",
                       rl->schema_version, SCHEMA_VERSION);
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_EVERSION, text, true);
        return;
    }
    if (rl->schema_version > SCHEMA_VERSION) {
        (void)snprintf(
            text, sizeof text,
            "the schema has version %d, this program knows only %d: use a newer escrow-relay",
            rl->schema_version, SCHEMA_VERSION);
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_EVERSION, text, true);
        return;
    }
    if (!rl->is_identity_said || !db_identity_equal(&rl->said, &rl->identity)) {
        rl->is_identity_said = true; /* once: not again with each attempt to reach the broker */
        rl->said = rl->identity;
        log_info("outbox.db.connected",
                 "system %" PRIu64 ", timeline %" PRIu32 ", database oid %" PRIu32,
                 rl->identity.system_id, rl->identity.timeline, rl->identity.db_oid);
    }
    feed(rl, (struct relay_event){.type = RELAY_EV_DB_CONNECTED,
                                  .db = rl->identity,
                                  .reports = rl->reports,
                                  .rows_published = rl->rows_published,
                                  .stored = &rl->stored,
                                  .given_up = &rl->given_up,
                                  .cleared = rl->cleared,
                                  .knows_error = rl->knows_error});
}

/*
 * Somebody has opened the source later. Who had claimed it before is fenced. Who was late with the
 * claim tries again: perhaps it is the broker that was put back, and counts from there.
 */
static void overtaken(struct relay_loop *rl, bool was_claiming)
{
    pg_conn_close(&rl->conn);
    rl->holds_wake = false;
    feed_db_failed(rl, was_claiming ? ESCROW_EBUSY : ESCROW_EFENCED,
                   "another relay of this source has opened it later, says the database", false);
}

/* The database was told so. */
static void say_put_back(const struct relay_loop *rl)
{
    if (rl->is_put_back) {
        log_warn("outbox.relay.put_back",
                 "the broker was put back to an older state: what was published after transaction "
                 "%" PRIu64 " is published again, as far as it is in the outbox: %s",
                 relay_cursor(rl->relay)->old.xmin - 1,
                 rl->accepts_loss ? "not all of it is, as a person was told" : "all of it is");
    }
}

static void on_done(void *arg, const struct pg_error *err)
{
    struct relay_loop *rl = arg;
    enum relay_db_command asked = rl->asked;
    bool needs_row = asked == RELAY_DB_CONNECT || asked == RELAY_DB_SNAPSHOT ||
                     asked == RELAY_DB_MAINTAIN || asked == RELAY_DB_ADOPT;

    rl->asked = RELAY_DB_NONE;
    if (err == NULL && rl->is_overtaken) {
        overtaken(rl, rl->is_claiming);
        return;
    }
    if (err != NULL) {
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_EDB, err->text, err->needs_person);
        return;
    }
    if (needs_row && !rl->has_row) {
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_EPROTO, "an answer of the database was not as expected", false);
        return;
    }
    switch (asked) {
    case RELAY_DB_CONNECT:
        setup_done(rl);
        return;
    case RELAY_DB_SNAPSHOT:
        say_put_back(rl);
        feed(rl, (struct relay_event){.type = RELAY_EV_SNAPSHOT,
                                      .snapshots = rl->steps,
                                      .snapshot_count = rl->step_count,
                                      .is_cut = rl->is_cut,
                                      .has_rows = rl->has_rows,
                                      .has_parked = rl->has_parked,
                                      .wants_replay = rl->wants_replay});
        return;
    case RELAY_DB_READ:
    case RELAY_DB_REPLAY:
        if (!rl->decoder.is_done) {
            pg_conn_close(&rl->conn);
            feed_db_failed(rl, ESCROW_EPROTO, "the stream of rows ended early", false);
            return;
        }
        feed(rl, (struct relay_event){.type = RELAY_EV_READ_DONE});
        return;
    case RELAY_DB_MAINTAIN:
        feed(rl, (struct relay_event){.type = RELAY_EV_MAINTAINED, .reports = rl->reports});
        return;
    case RELAY_DB_ADOPT:
        log_warn("outbox.relay.adopted", "the database was taken over under its new identity");
        feed(rl, (struct relay_event){
                     .type = RELAY_EV_ADOPTED, .snapshots = rl->steps, .snapshot_count = 1});
        return;
    case RELAY_DB_PARK:
        feed(rl, (struct relay_event){.type = RELAY_EV_PARKED});
        return;
    case RELAY_DB_REFUSE:
        feed(rl, (struct relay_event){.type = RELAY_EV_TOLD});
        return;
    case RELAY_DB_NONE:
    case RELAY_DB_CLOSE:
        break;
    }
    UNREACHABLE("a statement ended that was not asked for");
}

static void take_batches(struct relay_loop *rl);

static int on_copy_data(void *arg, struct slice bytes)
{
    struct relay_loop *rl = arg;
    struct outbox_row row;
    int rc;

    if (rl->asked != RELAY_DB_READ && rl->asked != RELAY_DB_REPLAY) {
        return ESCROW_EPROTO;
    }
    if (rl->is_overtaken) {
        return 0; /* said when the statement is done */
    }
    rc = row_decode(&rl->decoder, bytes, &row);
    if (rc <= 0) {
        return rc;
    }
    rc = relay_row(rl->relay, &row);
    if (rc != 0) {
        return rc;
    }
    take_batches(rl);
    if (!relay_wants_rows(rl->relay)) {
        pg_conn_pause(&rl->conn, true);
    }
    return 0;
}

static void send_setup(void *arg)
{
    struct relay_loop *rl = arg;
    const struct err_ctx *err = relay_error(rl->relay);

    buf_clear(&rl->sql);
    query_setup(&rl->sql, rl->cfg.relay.source, rl->cfg.relay.lane,
                err->code != 0 ? err->text : NULL);
    buf_append_u8(&rl->sql, 0);
    CHECK(!buf_failed(&rl->sql)); /* reserved by relay_loop_new */
    pg_conn_query(&rl->conn, (const char *)rl->sql.ptr);
}

static void on_notified(void *arg)
{
    feed(arg, (struct relay_event){.type = RELAY_EV_WAKE});
}

static void on_lost(void *arg, int code, const struct pg_error *err)
{
    struct relay_loop *rl = arg;

    rl->holds_wake = false;
    feed_db_failed(rl, code, err->text, err->needs_person);
}

static const struct pg_conn_handlers conn_handlers = {
    .connected = send_setup,
    .result = on_result,
    .copy_data = on_copy_data,
    .done = on_done,
    .notified = on_notified,
    .lost = on_lost,
};

/* ---- The sink's answers ---- */

static void on_opened(struct sink_open *open)
{
    struct relay_loop *rl = open->arg;

    feed(rl, (struct relay_event){.type = RELAY_EV_OPENED,
                                  .code = open->code,
                                  .text = open->text,
                                  .epoch = open->epoch,
                                  .position = open->position});
}

static void on_batch(struct sink_batch *batch)
{
    struct relay_loop *rl = batch->arg;
    struct relay_update up;

    relay_batch_done(rl->relay, batch, loop_mono_ms(rl->loop), &up);
    obey(rl, &up);
    if ((rl->asked == RELAY_DB_READ || rl->asked == RELAY_DB_REPLAY) &&
        relay_wants_rows(rl->relay)) {
        pg_conn_pause(&rl->conn, false);
    }
}

static void take_batches(struct relay_loop *rl)
{
    struct sink_batch *batch;

    while ((batch = relay_take_batch(rl->relay)) != NULL) {
        batch->cb = on_batch;
        batch->arg = rl;
        rl->sink->publish(rl->sink, batch);
    }
}

/* ---- Commands ---- */

static void build_read(struct relay_loop *rl, const struct relay_update *up,
                       const struct query_owner *owner)
{
    const struct position *at = relay_cursor(rl->relay);

    rl->decoder = (struct row_decoder){.has_header = false};
    if (up->has_parked) {
        query_set_aside(&rl->sql, owner, at);
        query_read(&rl->sql, at, up->is_sorted ? QUERY_READ_SORTED_PARKED : QUERY_READ_LONG_PARKED,
                   owner);
    } else {
        query_read(&rl->sql, at,
                   up->is_sorted  ? QUERY_READ_SORTED
                   : up->is_short ? QUERY_READ_SHORT
                                  : QUERY_READ_LONG,
                   owner);
    }
}

static void build_maintain(struct relay_loop *rl, const struct relay_update *up,
                           const struct query_owner *owner)
{
    const struct position *acked = relay_acked(rl->relay);

    if (up->has_recovered) {
        query_recovered(&rl->sql, owner->source, owner->lane);
    }
    if (up->has_parked) {
        query_clear(&rl->sql, owner, acked);
    }
    query_maintain(&rl->sql, owner->source, owner->lane,
                   &(struct query_report){.passed = &acked->old,
                                          .stored = relay_stored(rl->relay),
                                          .rows = up->report_rows},
                   rl->cfg.switch_bytes);
}

static void build_sql(struct relay_loop *rl, const struct relay_update *up)
{
    const struct relay_config *cfg = &rl->cfg.relay;
    const struct query_owner owner = {
        .source = cfg->source, .lane = cfg->lane, .epoch = relay_epoch(rl->relay)};
    enum query_wake wake = up->hold_wake == rl->holds_wake ? QUERY_WAKE_KEEP
                           : up->hold_wake                 ? QUERY_WAKE_HOLD
                                                           : QUERY_WAKE_RELEASE;

    buf_clear(&rl->sql);
    rl->asks_wake = false;
    rl->is_claiming = up->must_claim;
    if (up->must_claim) {
        query_claim(&rl->sql, &owner);
    }
    rl->is_put_back = up->is_put_back;
    rl->accepts_loss = up->accepts_loss;
    if (up->is_put_back) {
        query_put_back(&rl->sql, &owner, relay_cursor(rl->relay), relay_given_up(rl->relay),
                       up->accepts_loss);
    }
    switch (up->db) {
    case RELAY_DB_SNAPSHOT:
        query_snapshot(&rl->sql, cfg->source, cfg->lane, relay_cursor(rl->relay), wake);
        rl->asks_wake = wake == QUERY_WAKE_HOLD;
        rl->holds_wake = rl->holds_wake && wake != QUERY_WAKE_RELEASE;
        break;
    case RELAY_DB_READ:
        build_read(rl, up, &owner);
        break;
    case RELAY_DB_REPLAY:
        query_replay(&rl->sql, &owner, relay_cursor(rl->relay)->replayed);
        rl->decoder = (struct row_decoder){.has_header = false};
        break;
    case RELAY_DB_MAINTAIN:
        build_maintain(rl, up, &owner);
        break;
    case RELAY_DB_ADOPT:
        query_adopt(&rl->sql, cfg->source, cfg->lane, up->keep_rows);
        break;
    case RELAY_DB_PARK:
        query_park(&rl->sql, &owner, up->park_id, up->is_whole_topic, relay_refusal(rl->relay));
        break;
    case RELAY_DB_REFUSE:
        query_refuse(&rl->sql, cfg->source, cfg->lane, relay_error(rl->relay)->text);
        break;
    case RELAY_DB_NONE:
    case RELAY_DB_CONNECT:
    case RELAY_DB_CLOSE:
        UNREACHABLE("no statement");
    }
    buf_append_u8(&rl->sql, 0);
}

static void run_command(struct relay_loop *rl, const struct relay_update *up)
{
    CHECK(rl->asked == RELAY_DB_NONE);
    rl->asked = up->db;
    rl->has_row = false;
    rl->is_overtaken = false;
    if (up->db == RELAY_DB_CONNECT) {
        pg_conn_open(&rl->conn, rl->cfg.conninfo);
        return;
    }
    build_sql(rl, up);
    if (buf_failed(&rl->sql)) {
        pg_conn_close(&rl->conn);
        feed_db_failed(rl, ESCROW_ENOMEM, NULL, false);
        return;
    }
    pg_conn_query(&rl->conn, (const char *)rl->sql.ptr);
}

static void open_sink(struct relay_loop *rl, const struct relay_update *up)
{
    rl->open = (struct sink_open){
        .source = *relay_sink_source(rl->relay),
        .may_adopt = up->may_adopt,
        .is_peek = up->is_peek,
        .cb = on_opened,
        .arg = rl,
    };
    rl->sink->open(rl->sink, &rl->open);
}

static void on_timer(void *arg)
{
    feed(arg, (struct relay_event){.type = RELAY_EV_TICK});
}

static void log_news(struct relay_loop *rl, const struct relay_update *up)
{
    const struct err_ctx *err = relay_error(rl->relay);

    if (up->has_news) {
        enum relay_state state = relay_state(rl->relay);
        int64_t wait_ms = up->deadline_ms - loop_mono_ms(rl->loop);
        rl->was_failing = true;
        if (state == RELAY_BACKOFF && wait_ms > 0) {
            log_warn("outbox.relay.failed", "%s (trying again in %" PRId64 " ms)", err->text,
                     wait_ms);
        } else {
            log_warn("outbox.relay.failed", "%s", err->text);
        }
    } else if (rl->was_failing && err->code == 0 &&
               (relay_state(rl->relay) == RELAY_IDLE || relay_state(rl->relay) == RELAY_READING)) {
        rl->was_failing = false;
        log_info("outbox.relay.recovered", "reading again");
    }
}

static void obey(struct relay_loop *rl, const struct relay_update *up)
{
    if (up->must_close_db) {
        pg_conn_close(&rl->conn);
        rl->asked = RELAY_DB_NONE;
        rl->holds_wake = false;
    }
    log_news(rl, up);
    if (up->deadline_ms == RELAY_NEVER_MS) {
        loop_timer_stop(rl->loop, &rl->timer);
    } else {
        int64_t delay_ms = up->deadline_ms - loop_mono_ms(rl->loop);
        loop_timer_start(rl->loop, &rl->timer, delay_ms > 0 ? (uint64_t)delay_ms : 0, 0, on_timer,
                         rl);
    }
    take_batches(rl);
    if (up->must_open_sink) {
        open_sink(rl, up);
    }
    if (up->db != RELAY_DB_NONE) {
        run_command(rl, up);
    }
    if (relay_is_final(rl->relay) && !rl->has_ended) {
        rl->has_ended = true;
        loop_defer(rl->loop, &rl->ending);
    }
}

/* ---- Life ---- */

static void on_ending(void *arg)
{
    struct relay_loop *rl = arg;

    rl->is_started = false;
    rl->cfg.ended(rl->cfg.arg, relay_state(rl->relay), relay_error(rl->relay));
}

void relay_loop_config_init(struct relay_loop_config *cfg)
{
    *cfg = (struct relay_loop_config){.switch_bytes = (uint64_t)256 << 20};
    relay_config_init(&cfg->relay);
}

struct relay_loop *relay_loop_new(struct loop *l, struct sink *sink,
                                  const struct relay_loop_config *cfg)
{
    struct relay_loop *rl = mem_calloc(1, sizeof *rl);

    if (rl == NULL) {
        return NULL;
    }
    rl->loop = l;
    rl->sink = sink;
    rl->cfg = *cfg;
    rl->relay = relay_new(&cfg->relay);
    buf_init(&rl->sql, 0);
    if (rl->relay == NULL || buf_reserve(&rl->sql, SETUP_MAX) == NULL) {
        relay_free(rl->relay);
        mem_free(rl);
        return NULL;
    }
    for (size_t i = 0; i < STEPS_MAX; i++) {
        snapshot_init(&rl->steps[i]);
    }
    snapshot_init(&rl->stored);
    snapshot_init(&rl->given_up);
    pg_conn_init(&rl->conn, l, &conn_handlers, rl);
    loop_deferred_init(&rl->ending, on_ending, rl);
    return rl;
}

void relay_loop_start(struct relay_loop *rl)
{
    DCHECK_THREAD(rl->loop);
    CHECK(!rl->is_started);
    rl->is_started = true;
    rl->has_ended = false;
    feed(rl, (struct relay_event){.type = RELAY_EV_START});
}

void relay_loop_stop(struct relay_loop *rl)
{
    DCHECK_THREAD(rl->loop);
    if (rl->is_started) {
        feed(rl, (struct relay_event){.type = RELAY_EV_STOP});
    }
}

void relay_loop_free(struct relay_loop *rl)
{
    if (rl == NULL) {
        return;
    }
    CHECK(!rl->is_started || relay_is_final(rl->relay)); /* ended may not have been called yet */
    pg_conn_close(&rl->conn);
    loop_timer_stop(rl->loop, &rl->timer);
    loop_deferred_cancel(&rl->ending);
    relay_free(rl->relay);
    for (size_t i = 0; i < STEPS_MAX; i++) {
        snapshot_fini(&rl->steps[i]);
    }
    snapshot_fini(&rl->stored);
    snapshot_fini(&rl->given_up);
    buf_fini(&rl->sql);
    mem_free(rl);
}

const struct relay *relay_loop_relay(const struct relay_loop *rl)
{
    return rl->relay;
}
