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
    case ESCROW_ENOROUTE:
    case ESCROW_EPERM:
        return true;
    default:
        return false;
    }
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

/*
 * One row, alone in its batch. The first time it is only suspected, and offered once more after the
 * source was opened again: an open needs keys and the right to the source, so what the broker
 * refused for want of those does not come as far as a second time.
 */
static void refused_row(struct relay *r, const struct batch *batch)
{
    uint64_t row_id = batch->sink.messages[0].row_id;

    if (row_id == r->suspect_id) {
        buf_clear(&r->refused_at);
        buf_append_slice(&r->refused_at, batch->sink.prev);
        r->park_id = buf_failed(&r->refused_at) ? 0 : row_id; /* 0: when it is refused again */
        keep_refusal(r, &batch->sink, "parked, see escrow-relay status");
        return;
    }
    r->suspect_id = row_id;
    if (!relay_is_alone(r, RELAY_ALONE_ROW, batch->last_order_id, batch->last_id)) {
        r->alone[RELAY_ALONE_ROW].order_id = batch->last_order_id;
        r->alone[RELAY_ALONE_ROW].id = batch->last_id;
    }
    keep_refusal(r, &batch->sink, "tried once more before it is parked");
}

bool relay_refused(struct relay *r, const struct batch *batch)
{
    int what = relay_is_alone(r, RELAY_ALONE_TRANSACTION, batch->last_order_id, batch->last_id)
                   ? RELAY_ALONE_ROW
                   : RELAY_ALONE_TRANSACTION;

    if (r->state == RELAY_DRAINING || r->flight.next != &batch->node ||
        batch->sink.message_count == 0 || !is_about_messages(batch->sink.code)) {
        return false;
    }
    r->is_narrowing = true;
    if (batch->sink.message_count > 1) {
        r->alone[what].order_id = batch->last_order_id;
        r->alone[what].id = batch->last_id;
        return true;
    }
    refused_row(r, batch);
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
    r->skip_id = r->park_id;
    r->park_id = 0;
    r->stats.rows_parked++;
    relay_look(r, ev->now_ms, out, "parked");
}
