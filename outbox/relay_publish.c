/*
 * Rows to batches to the sink, and back.
 *
 * Happy path: relay_row feeds the batcher; a complete batch gets its positions (relay_seal), goes
 * to the sink (relay_take_batch), comes back in order and moves the acknowledged position
 * (relay_settle). Failure: one batch that comes back with an error. The broker has stored a prefix
 * of what was sent, perhaps including this one; which, only it knows. Everything read is dropped,
 * and the relay opens again.
 */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "escrow/errors.h"
#include "outbox/relay_private.h"

static struct batch *first(const struct list *l)
{
    return list_is_empty(l) ? NULL : LIST_ENTRY(l->next, struct batch, node);
}

bool relay_is_settled(const struct relay *r)
{
    return list_is_empty(&r->flight) && list_is_empty(&r->sealed);
}

bool relay_has_room(const struct relay *r)
{
    return relay_is_settled(r) || r->flight_bytes + r->batcher.size_bytes < r->cfg.window_bytes;
}

bool relay_is_drained(const struct relay *r)
{
    return list_is_empty(&r->flight) && !r->is_opening;
}

/* Positions of a batch that ends where the cursor is. */
static int seal_at_cursor(struct relay *r, struct batch *batch)
{
    buf_append_slice(&batch->prev, buf_slice(&r->sent));
    position_encode(&r->cursor, &batch->next);
    if (buf_failed(&batch->prev) || buf_failed(&batch->next)) {
        return ESCROW_ENOMEM;
    }
    if (batch->next.len > POSITION_LEN_MAX) {
        return ESCROW_ELIMIT;
    }
    CHECK(!slice_eq(buf_slice(&batch->prev), buf_slice(&batch->next)));
    buf_clear(&r->sent);
    buf_append_slice(&r->sent, buf_slice(&batch->next));
    if (buf_failed(&r->sent)) {
        return ESCROW_ENOMEM;
    }
    batch->sink.source = &r->source;
    batch->sink.epoch = r->epoch;
    batch->sink.prev = buf_slice(&batch->prev);
    batch->sink.next = buf_slice(&batch->next);
    list_push(&r->sealed, &batch->node);
    r->flight_bytes += batch->sink.size_bytes;
    return 0;
}

/* The difference is read: what `new` sees is what is passed. */
static void cursor_complete(struct relay *r)
{
    struct snapshot passed = r->cursor.old;

    r->cursor.old = r->cursor.new;
    r->cursor.new = passed;
    r->cursor.is_reading = false;
    r->cursor.last_order_id = 0;
    r->cursor.last_id = 0;
}

int relay_seal(struct relay *r, bool is_end)
{
    struct batch *batch;

    if (is_end) {
        batcher_finish(&r->batcher);
    }
    while ((batch = batcher_take(&r->batcher)) != NULL) {
        bool is_last = is_end && batch->last_id == r->seen_id && list_is_empty(&r->batcher.ready);
        int rc;
        if (is_last) {
            cursor_complete(r);
        } else {
            r->cursor.last_order_id = batch->last_order_id;
            r->cursor.last_id = batch->last_id;
        }
        rc = seal_at_cursor(r, batch);
        if (rc != 0) {
            batch_free(batch);
            return rc;
        }
    }
    if (is_end && r->cursor.is_reading) {
        cursor_complete(r); /* without rows; or the last batch was cut exactly at the end */
    }
    return 0;
}

int relay_seal_replayed(struct relay *r, bool is_end)
{
    struct batch *batch;

    if (is_end) {
        batcher_finish(&r->batcher);
    }
    while ((batch = batcher_take(&r->batcher)) != NULL) {
        int rc;
        CHECK(batch->replay_no > r->cursor.replayed);
        r->cursor.replayed = batch->replay_no;
        rc = seal_at_cursor(r, batch);
        if (rc != 0) {
            batch_free(batch);
            return rc;
        }
    }
    return 0;
}

int relay_seal_empty(struct relay *r)
{
    struct batch *batch = batch_new();
    struct buf here;
    int rc;

    buf_init(&here, 0);
    position_encode(&r->cursor, &here);
    rc = batch == NULL || buf_failed(&here) ? ESCROW_ENOMEM : 0;
    if (rc != 0 || slice_eq(buf_slice(&here), buf_slice(&r->sent))) {
        buf_fini(&here);
        batch_free(batch);
        return rc;
    }
    buf_fini(&here);
    rc = seal_at_cursor(r, batch);
    if (rc != 0) {
        batch_free(batch);
    }
    return rc;
}

/* The next row in order. */
static int take_row(struct relay *r, const struct outbox_row *row)
{
    int rc;

    if (!row_follows(row, r->seen_order_id, r->seen_id)) {
        return ESCROW_EPROTO;
    }
    rc = row->topic.len == 0 ? batcher_pass(&r->batcher, row) : batcher_put(&r->batcher, row);
    if (rc != 0) {
        return rc;
    }
    if (relay_is_alone(r, RELAY_ALONE_ROW, row->order_id, row->id) ||
        (row->id == row->order_id &&
         relay_is_alone(r, RELAY_ALONE_TRANSACTION, row->order_id, row->id))) {
        batcher_finish(&r->batcher);
    }
    r->seen_order_id = row->order_id;
    r->seen_id = row->id;
    return list_is_empty(&r->batcher.ready) ? 0 : relay_seal(r, false);
}

/* The next row that had been parked. Each stands for itself: what it came with is published. */
static int take_parked_row(struct relay *r, const struct outbox_row *row)
{
    struct outbox_row alone = *row;
    int rc;

    if (row->order_id <= r->seen_order_id || row->topic.len == 0) {
        return ESCROW_EPROTO;
    }
    alone.order_id = row->id;
    rc = batcher_put(&r->batcher, &alone);
    if (rc != 0) {
        return rc;
    }
    r->batcher.filling->replay_no = row->order_id;
    r->seen_order_id = row->order_id;
    if (row->order_id <= r->alone_replayed) {
        batcher_finish(&r->batcher);
    }
    return list_is_empty(&r->batcher.ready) ? 0 : relay_seal_replayed(r, false);
}

int relay_row(struct relay *r, const struct outbox_row *row)
{
    int rc;

    CHECK(r->state == RELAY_READING || r->state == RELAY_REPLAYING);
    if (r->state == RELAY_REPLAYING) {
        rc = take_parked_row(r, row);
        r->stats.rows_read += rc == 0;
        return rc;
    }
    rc = r->sorts_here ? sorter_put(&r->sorter, row) : take_row(r, row);
    if (rc == 0) {
        r->stats.rows_read++;
        r->round_rows++;
        r->step_bytes += row_size_bytes(row);
    }
    return rc;
}

int relay_unsort(struct relay *r)
{
    uint64_t order_id = r->seen_order_id;
    uint64_t id = r->seen_id;
    struct outbox_row row;
    int rc = 0;

    sorter_sort(&r->sorter);
    while (rc == 0 && sorter_next(&r->sorter, &row)) {
        /* Up to here it was published before the position was taken up again. */
        if (row.order_id > order_id || (row.order_id == order_id && row.id > id)) {
            rc = take_row(r, &row);
        }
    }
    sorter_clear(&r->sorter);
    return rc;
}

bool relay_wants_rows(const struct relay *r)
{
    return (r->state == RELAY_READING && (r->sorts_here || relay_has_room(r))) ||
           (r->state == RELAY_REPLAYING && relay_has_room(r));
}

struct sink_batch *relay_take_batch(struct relay *r)
{
    struct batch *batch = first(&r->sealed);

    if (batch == NULL) {
        return NULL;
    }
    list_remove(&batch->node);
    list_push(&r->flight, &batch->node);
    return &batch->sink;
}

void relay_unread(struct relay *r)
{
    struct batch *batch;

    batcher_clear(&r->batcher);
    sorter_clear(&r->sorter);
    while ((batch = first(&r->sealed)) != NULL) {
        r->flight_bytes -= batch->sink.size_bytes;
        batch_free(batch);
    }
}

int relay_settle(struct relay *r, struct batch *batch)
{
    int rc = batch->sink.code;
    bool is_next = first(&r->flight) == batch;

    CHECK(r->flight_bytes >= batch->sink.size_bytes);
    r->flight_bytes -= batch->sink.size_bytes;
    if (r->state == RELAY_DRAINING || r->state == RELAY_REFUSING) {
        rc = 0; /* what was stored, the broker says at the next OPENED */
    } else if (rc == 0 && !is_next) {
        rc = ESCROW_EPROTO; /* answered out of order: not the sink this code believes in */
    } else if (rc == 0) {
        buf_clear(&r->acked);
        buf_append_slice(&r->acked, buf_slice(&batch->next));
        rc = buf_failed(&r->acked) ? ESCROW_ENOMEM : 0;
        r->stats.batches_acked++;
        r->stats.rows_acked += batch->sink.message_count;
        r->stats.rows_replayed += batch->replay_no > 0 ? batch->sink.message_count : 0;
        r->stats.bytes_acked += batch->sink.size_bytes;
    }
    batch_free(batch);
    return rc;
}

/* Batches of one list: chained by their positions, beginning with *prev; sums up their bytes. */
static size_t check_chain(const struct relay *r, const struct list *l, struct slice *prev)
{
    size_t bytes = 0;

    for (struct list *node = l->next; node != l; node = node->next) {
        const struct batch *batch = LIST_ENTRY(node, struct batch, node);
        CHECK(batch->sink.epoch == r->epoch);
        CHECK_IMPLIES(r->state != RELAY_DRAINING, slice_eq(batch->sink.prev, *prev));
        CHECK(batch->sink.next.len > 0);
        *prev = batch->sink.next;
        bytes += batch->sink.size_bytes;
    }
    return bytes;
}

void relay_check(const struct relay *r)
{
    struct slice prev = buf_slice(&r->acked);
    size_t bytes = check_chain(r, &r->flight, &prev);

    bytes += check_chain(r, &r->sealed, &prev);
    CHECK(bytes == r->flight_bytes);
    CHECK(r->step_index <= r->step_count);
    CHECK(r->step_count <= RELAY_STEPS_MAX);
    CHECK_IMPLIES(r->state == RELAY_READING, r->cursor.is_reading);
    CHECK_IMPLIES(r->state == RELAY_READING, snapshot_contains(&r->cursor.new, &r->cursor.old));
    CHECK_IMPLIES(r->is_opening, r->state == RELAY_OPENING || r->state == RELAY_DRAINING);
    CHECK_IMPLIES(relay_is_final(r) || r->state == RELAY_BACKOFF, relay_is_drained(r));
    CHECK_IMPLIES(relay_is_final(r) || r->state == RELAY_BACKOFF, bytes == 0);
    CHECK_IMPLIES(r->state == RELAY_REPLAYING, !r->cursor.is_reading);
    CHECK_IMPLIES(r->state != RELAY_READING && r->state != RELAY_REPLAYING,
                  r->batcher.size_bytes == 0);
    snapshot_check(&r->cursor.old);
    snapshot_check(&r->cursor.new);
}
