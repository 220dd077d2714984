/*
 * What the broker refuses: is it about a row, about which, and when it is parked.
 *
 * Happy path: a batch that is refused for what is in it goes out again in ever smaller ones
 * (relay_is_alone says where they end), until it is one row; that one, refused twice, is parked
 * after the source was opened again.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

#include <inttypes.h>

/*
 * Transactions: all up to there. Rows: those of that one transaction; others that were not visible
 * when it was refused may come before it now, and stay whole.
 */
bool relay_is_alone(const struct relay *r, int what, uint64_t order_id, uint64_t id)
{
    return (what == RELAY_ALONE_TRANSACTION && order_id < r->alone[what].order_id) ||
           (order_id == r->alone[what].order_id && id <= r->alone[what].id);
}

/*
 * About these messages, as far as the broker tells. Not about who asks (ESCROW_EAUTH), the broker
 * or the connection: those failures never park a row, however long they last.
 */
static bool is_about_messages(int code)
{
    switch (code) {
    case ESCROW_EINVAL:
    case ESCROW_EPROTO:
    case ESCROW_ETOOBIG:
        return true;
    default:
        return false;
    }
}

/* About the topic: the broker has it not, or it, or this relay, may not be written to. */
static bool is_about_topic(int code)
{
    return code == ESCROW_ENOROUTE || code == ESCROW_EPERM;
}

/* For a person, through the database and a terminal. what: what is done about it. */
static void keep_refusal(struct relay *r, const struct sink_batch *batch, const char *what)
{
    const struct sink_message *msg = &batch->messages[0];
    const char *text = batch->text != NULL ? batch->text : escrow_strerror(batch->code);
    size_t len = 0;

    while (text[len] != '\0' && len + 1 < sizeof r->refusal) {
        char c = text[len];
        r->refusal[len++] = c < ' ' || c > '~' || c == '\'' || c == '\\' ? '.' : c;
    }
    r->refusal[len] = '\0';
    (void)err_set(&r->error, batch->code, "row %" PRIu64 " for topic %.*s: %s; %s", msg->row_id,
                  SLICE_ARGS(msg->topic), r->refusal, what);
    r->has_news = true;
    r->stats.failures++;
}

/* Parked when the source is open again, if it is still the next one then. */
static void park(struct relay *r, const struct batch *batch)
{
    bool is_whole_topic = is_about_topic(batch->sink.code);

    buf_clear(&r->refused_at);
    buf_append_slice(&r->refused_at, batch->sink.prev);
    r->park_id = buf_failed(&r->refused_at) ? 0 : batch->sink.messages[0].row_id; /* 0: next time */
    r->is_whole_topic = is_whole_topic;
    keep_refusal(r, &batch->sink,
                 is_whole_topic
                     ? "parked with all that comes for the topic, see escrow-relay status"
                     : "parked, and what comes for its key; see escrow-relay status");
}

/*
 * One row, alone in its batch. The first time it is only suspected, and offered once more after the
 * source was opened again: an open needs keys and the right to the source, so what the broker
 * refused for want of those does not come as far as a second time. If its topic is what is refused,
 * everything waits for that a while: somebody may be about to mend it.
 */
static void refused_row(struct relay *r, const struct batch *batch, int64_t now_ms)
{
    uint64_t row_id = batch->sink.messages[0].row_id;
    bool is_topic = is_about_topic(batch->sink.code);
    bool is_first;

    if (row_id != r->suspect_id) {
        r->suspect_id = row_id;
        r->is_row_refused = false;
        r->is_topic_refused = false;
        if (!relay_is_alone(r, RELAY_ALONE_ROW, batch->last_order_id, batch->last_id)) {
            r->alone[RELAY_ALONE_ROW].order_id = batch->last_order_id;
            r->alone[RELAY_ALONE_ROW].id = batch->last_id;
        }
    }
    is_first = is_topic ? !r->is_topic_refused : !r->is_row_refused;
    r->is_narrowing = true;
    if (is_first && is_topic) {
        r->topic_due_ms = now_ms + (int64_t)r->cfg.topic_wait_ms;
    }
    r->is_topic_refused = r->is_topic_refused || is_topic;
    r->is_row_refused = r->is_row_refused || !is_topic;
    if (is_first) {
        keep_refusal(r, &batch->sink, "tried once more before it is parked");
    } else if (is_topic && now_ms < r->topic_due_ms) {
        r->is_narrowing = false;
        r->is_waiting = true;
        r->stats.topic_waits++;
        keep_refusal(r, &batch->sink,
                     "all topics wait for this one a while, then its rows are parked: make it "
                     "writable for the relay, or create it");
    } else {
        park(r, batch);
    }
}

/* The same for one that had been parked: it goes back there, for the next time. */
static void refused_again(struct relay *r, const struct batch *batch)
{
    r->is_narrowing = true;
    if (batch->sink.message_count > 1) {
        r->alone_replayed = batch->replay_no;
    } else {
        park(r, batch);
    }
}

bool relay_refused(struct relay *r, const struct batch *batch, int64_t now_ms)
{
    int what = relay_is_alone(r, RELAY_ALONE_TRANSACTION, batch->last_order_id, batch->last_id)
                   ? RELAY_ALONE_ROW
                   : RELAY_ALONE_TRANSACTION;

    if (r->state == RELAY_DRAINING || r->state == RELAY_REFUSING ||
        r->flight.next != &batch->node || batch->sink.message_count == 0 ||
        (!is_about_messages(batch->sink.code) && !is_about_topic(batch->sink.code))) {
        return false;
    }
    if (batch->replay_no > 0) {
        refused_again(r, batch);
    } else if (batch->sink.message_count > 1) {
        r->is_narrowing = true;
        r->alone[what].order_id = batch->last_order_id;
        r->alone[what].id = batch->last_id;
    } else {
        refused_row(r, batch, now_ms);
    }
    return true;
}

bool relay_must_park(struct relay *r, struct slice position)
{
    if (r->park_id != 0 && !slice_eq(position, buf_slice(&r->refused_at))) {
        r->park_id = 0;
        r->suspect_id = 0;
    }
    return r->park_id != 0;
}

void relay_on_parked(struct relay *r, const struct relay_event *ev, struct relay_update *out)
{
    if (r->state != RELAY_PARKING) {
        return;
    }
    r->park_id = 0;
    r->suspect_id = 0;
    r->stats.rows_parked++;
    relay_look(r, ev->now_ms, out, "parked");
}
