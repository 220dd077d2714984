/*
 * Rounds: look, read what is new, report, wait.
 *
 * Happy path: SNAPSHOT says up to where there is something; READING, one difference after the
 * other, as far as the window has room; MAINTAINING when a report is due; IDLE. Failures: relay.c.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

#define ROUND_IS_BACKLOG                                                                           \
    1000                  /* rows in one round: look again at once instead of after poll_min_ms */
#define QUIET_MAINTAIN 60 /* with nothing acknowledged: report after this many report times */

void relay_look(struct relay *r, int64_t now_ms, struct relay_update *out, const char *event)
{
    r->is_woken = false;
    r->round_rows = 0;
    out->hold_wake = r->empty_polls == 0;
    out->must_claim = r->must_claim;
    out->is_put_back = r->is_put_back;
    out->accepts_loss = r->accepts_loss;
    relay_ask(r, now_ms, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT, out, event);
}

void relay_read_step(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    CHECK(r->step_index < r->step_count);
    if (!relay_has_room(r)) {
        relay_move(r, RELAY_PUBLISHING, "window full");
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
    out->has_parked = r->has_parked;
    relay_ask(r, now_ms, RELAY_READING, RELAY_DB_READ, out, "read");
}

bool relay_is_report_due(const struct relay *r, int64_t now_ms)
{
    int64_t due_ms = r->maintain_due_ms;
    bool has_recovered = r->has_told && r->error.code == 0;

    if (r->stats.rows_acked == r->maintained_acked && !has_recovered && !r->must_report) {
        due_ms += (int64_t)(QUIET_MAINTAIN - 1) * r->cfg.maintain_ms;
    }
    return now_ms >= due_ms;
}

void relay_report(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    int rc = 0;

    if (r->acked.len > 0) {
        rc = position_decode(&r->stored_position, buf_slice(&r->acked));
    }
    if (rc == 0 && relay_is_settled(r) && !r->cursor.is_reading) {
        rc = position_copy(&r->acked_position,
                           &r->cursor); /* later than what the broker has, by nothing but time */
    } else if (rc == 0 && r->acked.len > 0) {
        rc = position_copy(&r->acked_position, &r->stored_position);
    }
    if (rc != 0) {
        relay_fail(r, now_ms, rc, "acknowledged position", NULL, out);
        return;
    }
    out->has_recovered = r->error.code == 0;
    r->has_told = r->has_told && !out->has_recovered;
    r->must_report = false;
    out->report_rows = r->stats.rows_acked - r->maintained_acked;
    r->maintained_acked = r->stats.rows_acked;
    out->has_parked = r->has_parked;
    relay_ask(r, now_ms, RELAY_MAINTAINING, RELAY_DB_MAINTAIN, out, "report time");
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
    relay_move(r, RELAY_IDLE, "nothing new");
    r->deadline_ms = now_ms + (int64_t)wait_ms;
    if (relay_is_settled(r)) {
        backoff_reset(&r->backoff);
        r->error.code = 0;
    }
}

void relay_after_round(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    r->empty_polls = 0;
    r->step_count = 0;
    r->step_index = 0;
    if (!relay_has_room(r)) {
        relay_move(r, RELAY_PUBLISHING, "window full");
        r->deadline_ms = RELAY_NEVER_MS;
    } else if (relay_is_report_due(r, now_ms)) {
        relay_report(r, now_ms, out);
    } else if (r->is_woken || r->round_rows >= ROUND_IS_BACKLOG) {
        relay_look(r, now_ms, out, "more");
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
        relay_fail(r, ev->now_ms, rc, "snapshot", NULL, out);
    } else if (r->is_woken) {
        relay_look(r, ev->now_ms, out, "woken");
    } else {
        go_idle(r, ev->now_ms);
    }
}

/*
 * Between two differences everything up to here is published or parked: what is parked of a key can
 * go out before what comes. Afterwards, when the broker has it, the database is told.
 */
static void replay(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    r->progress_rows = r->stats.rows_read;
    r->progress_acked = r->stats.batches_acked;
    r->seen_order_id = r->cursor.replayed;
    relay_ask(r, now_ms, RELAY_REPLAYING, RELAY_DB_REPLAY, out, "wanted");
}

static void on_replay_done(struct relay *r, int64_t now_ms, struct relay_update *out)
{
    int rc = relay_seal_replayed(r, true);

    if (rc != 0) {
        relay_fail(r, now_ms, rc, "replay", NULL, out);
    } else if (relay_is_settled(r)) {
        relay_report(r, now_ms, out);
    } else {
        relay_move(r, RELAY_SETTLING, "sent");
        r->deadline_ms = RELAY_NEVER_MS;
    }
}

void relay_on_snapshot(struct relay *r, const struct relay_event *ev, struct relay_update *out)
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
        relay_open_behind(r, ev->now_ms, &r->cursor.db, out);
        return;
    }
    r->must_claim = false;
    r->is_put_back = false;
    r->accepts_loss = false;
    r->has_parked = ev->has_parked;
    if (ev->wants_replay && !r->cursor.is_reading) {
        replay(r, ev->now_ms, out);
        return;
    }
    if (!ev->has_rows && !r->cursor.is_reading) {
        nothing_new(r, ev, out);
        return;
    }
    rc = take_steps(r, ev);
    if (rc != 0) {
        relay_fail(r, ev->now_ms, rc, "snapshot", NULL, out);
    } else if (r->step_count == 0) {
        nothing_new(r, ev, out);
    } else {
        relay_read_step(r, ev->now_ms, out);
    }
}

void relay_on_read_done(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    int rc;

    if (r->state == RELAY_REPLAYING) {
        on_replay_done(r, ev->now_ms, out);
        return;
    }
    if (r->state != RELAY_READING) {
        return;
    }
    rc = r->sorts_here ? relay_unsort(r) : 0;
    if (rc == 0) {
        rc = relay_seal(r, true);
    }
    if (rc != 0) {
        relay_fail(r, ev->now_ms, rc, "read", NULL, out);
        return;
    }
    if (r->cursor.old.xmax >= r->big_xmax && r->step_bytes <= r->cfg.sort_bytes_max / 2) {
        r->is_big = false;
    }
    r->stats.differences++;
    r->step_index++;
    if (r->step_index < r->step_count) {
        relay_read_step(r, ev->now_ms, out);
    } else {
        relay_after_round(r, ev->now_ms, out);
    }
}

void relay_on_maintained(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (r->state != RELAY_MAINTAINING) {
        return;
    }
    r->maintain_due_ms = ev->now_ms + (int64_t)r->cfg.maintain_ms;
    r->db_reports = ev->reports;
    r->cursor.reports = ev->reports;
    relay_look(r, ev->now_ms, out, "maintained");
}

bool relay_has_progress(struct relay *r)
{
    bool answer = !relay_wants_rows(r) || r->progress_rows != r->stats.rows_read ||
                  r->progress_acked != r->stats.batches_acked;

    r->progress_rows = r->stats.rows_read;
    r->progress_acked = r->stats.batches_acked;
    return answer;
}
