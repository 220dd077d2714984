/*
 * Opening the source, and refusing to: is this the database that the broker's position is of?
 *
 * Happy path: the database says which it is; the broker's position is looked at (is_peek), and if
 * it can be gone on from, the epoch is taken. Else: a person's word (--adopt, --discard) takes the
 * database over; without one the relay ends in REFUSED, and has fenced nobody.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

#include <inttypes.h>
#include <stdio.h>

/* Why a database with the right identity is refused: it was put back to an earlier state. */
#define BEHIND                                                                                     \
    "the stored position is ahead of this database: transactions that were published are not in "  \
    "it"

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
    relay_refuse(r, now_ms, out);
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
    relay_refuse(r, now_ms, out);
}

/*
 * The broker was put back to an older state, or is a copy of one: what it took after its position
 * is missing there, and not all of it is in the outbox any more.
 */
static void refuse_put_back(struct relay *r, int64_t now_ms, const struct position *stored,
                            struct relay_update *out)
{
    const struct db_identity *here = &r->cursor.db;
    char what[120];

    if (snapshot_contains(&stored->old, &r->db_given_up)) {
        (void)snprintf(what, sizeof what, "replayed rows %" PRIu64 " to %" PRIu64,
                       stored->replayed + 1, r->db_cleared);
    } else {
        (void)snprintf(what, sizeof what, "rows of transactions %" PRIu64 " to %" PRIu64,
                       stored->old.xmin, r->db_given_up.xmax - 1);
    }
    (void)err_set(
        &r->error, ESCROW_EFOREIGN,
        "the broker was put back to an older state (or is a copy of one): its position of "
        "source %s is before %s, which it had, and not all of them are in the outbox any "
        "more. Put its newest data back; or start once with --adopt=%" PRIu64 "/%" PRIu32
        " to publish again what the outbox still has (the rest stays missing), or with "
        "--discard=%" PRIu64 "/%" PRIu32 " to go on with what comes from now on",
        r->cfg.source, what, here->system_id, here->timeline, here->system_id, here->timeline);
    relay_refuse(r, now_ms, out);
}

/* Is something gone that the broker does not have? */
static bool is_given_up(const struct relay *r, const struct position *stored)
{
    return !snapshot_contains(&stored->old, &r->db_given_up) || stored->replayed < r->db_cleared;
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
    /* Looking takes nothing over, and whose position it is has to be named to who decides. */
    out->may_adopt = is_peek || r->cfg.foreign != RELAY_FOREIGN_REFUSE;
}

static void take_over(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    if (r->is_peeking) {
        open_sink(r, false, out);
        return;
    }
    out->keep_rows = r->cfg.foreign == RELAY_FOREIGN_ADOPT;
    relay_ask(r, now_ms, RELAY_ADOPTING, RELAY_DB_ADOPT, out, "foreign");
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

void relay_open_behind(struct relay *r, int64_t now_ms, const struct db_identity *theirs,
                       struct relay_update *out)
{
    foreign(r, now_ms, theirs, BEHIND, out);
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

/* NULL: one that sees nothing. */
static int take_snapshot(struct snapshot *dst, const struct snapshot *src)
{
    if (src == NULL) {
        snapshot_fini(dst);
        snapshot_init(dst);
        return 0;
    }
    return snapshot_copy(dst, src);
}

void relay_on_connected(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    int rc;

    if (r->state != RELAY_CONNECTING) {
        return;
    }
    r->cursor.db = ev->db;
    r->db_reports = ev->reports;
    r->db_rows = ev->rows_published;
    r->db_cleared = ev->cleared;
    r->is_put_back = false;
    r->accepts_loss = false;
    rc = take_snapshot(&r->db_stored, ev->stored);
    if (rc == 0) {
        rc = take_snapshot(&r->db_given_up, ev->given_up);
    }
    if (rc != 0) {
        relay_fail(r, ev->now_ms, rc, "connect", NULL, out);
        return;
    }
    r->has_told = r->error.code != 0 || ev->knows_error;
    r->source.system_id = ev->db.system_id;
    r->source.timeline = ev->db.timeline;
    r->empty_polls = 1;
    r->maintain_due_ms = ev->now_ms + (int64_t)r->cfg.maintain_ms;
    relay_move(r, RELAY_OPENING, "connected");
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
 * The position is one to go on from. If it is before what the broker had, everything behind it is
 * still in the outbox, or a person has said that the rest stays missing: it is published again, and
 * the database is told, so that it keeps what is behind the position.
 */
static void go_on(struct relay *r, const struct relay_event *ev, struct position *stored,
                  struct relay_update *out)
{
    r->accepts_loss = is_given_up(r, stored);
    r->is_put_back = r->accepts_loss || !snapshot_contains(&stored->old, &r->db_stored);
    position_fini(&r->cursor);
    r->cursor = *stored;
    r->cursor.reports = r->db_reports;
    position_init(stored);
    r->must_claim = true;
    r->must_report = ev->position.len > 0 && r->db_stored.xmax <= 1;
    if (relay_must_park(r, ev->position)) {
        out->park_id = r->park_id;
        out->is_whole_topic = r->is_whole_topic;
        out->must_claim = true;
        relay_ask(r, ev->now_ms, RELAY_PARKING, RELAY_DB_PARK, out, "refused");
    } else {
        relay_look(r, ev->now_ms, out, "opened");
    }
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
        relay_fail(r, ev->now_ms, rc, "open", NULL, out);
    } else if (rc != 0) {
        (void)err_set(&r->error, rc,
                      "the position stored by the broker for source %s cannot be read: %s",
                      r->cfg.source, escrow_strerror(rc));
        relay_refuse(r, ev->now_ms, out);
    } else if (ev->position.len == 0 && r->db_rows > 0) {
        no_position(r, ev->now_ms, out);
    } else if (!db_identity_equal(&stored.db, &r->cursor.db)) {
        (void)snprintf(why, sizeof why, "the stored position is of %s",
                       db_identity_format(&stored.db, theirs));
        foreign(r, ev->now_ms, &stored.db, why, out);
    } else if (stored.reports > r->db_reports) {
        relay_open_behind(r, ev->now_ms, &stored.db, out);
    } else if (is_given_up(r, &stored) && !is_named(r, &stored.db)) {
        refuse_put_back(r, ev->now_ms, &stored, out);
    } else if (is_given_up(r, &stored) && r->cfg.foreign == RELAY_FOREIGN_DISCARD) {
        take_over(r, ev->now_ms, out);
    } else if (r->is_peeking) {
        open_sink(r, false, out);
    } else {
        go_on(r, ev, &stored, out);
    }
    position_fini(&stored);
}

void relay_on_opened(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    CHECK(r->is_opening);
    r->is_opening = false;
    if (r->state == RELAY_DRAINING) {
        if (relay_is_drained(r)) {
            relay_drained(r, ev->now_ms);
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
        relay_refuse(r, ev->now_ms, out);
    } else if (ev->code != 0) {
        relay_fail(r, ev->now_ms, ev->code, "open source at the broker", ev->text, out);
    } else {
        r->epoch = ev->epoch;
        opened(r, ev, out);
    }
}

void relay_on_adopted(struct relay *r, const struct relay_event *ev, struct relay_update *out)
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
        relay_fail(r, ev->now_ms, rc, "adopt", NULL, out);
        return;
    }
    r->must_claim = true;
    relay_look(r, ev->now_ms, out, "adopted");
}
