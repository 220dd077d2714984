#include "outbox/batcher.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define MESSAGES_CAP_MIN 16

struct batch *batch_new(void)
{
    struct batch *batch = mem_calloc(1, sizeof *batch);

    if (batch != NULL) {
        list_init(&batch->node);
        buf_init(&batch->arena, 0);
        buf_init(&batch->prev, 0);
        buf_init(&batch->next, 0);
    }
    return batch;
}

void batch_free(struct batch *batch)
{
    if (batch == NULL) {
        return;
    }
    list_remove(&batch->node);
    buf_fini(&batch->arena);
    buf_fini(&batch->prev);
    buf_fini(&batch->next);
    mem_free(batch->messages);
    mem_free(batch);
}

/*
 * The arena never moves once it holds a message, so that slices into it stay good: its size is
 * fixed here.
 */
static struct batch *batch_sized(size_t arena_bytes)
{
    struct batch *batch = batch_new();

    if (batch != NULL && buf_reserve(&batch->arena, arena_bytes) == NULL) {
        batch_free(batch);
        return NULL;
    }
    return batch;
}

static size_t arena_left(const struct batch *batch)
{
    return batch->arena.cap - batch->arena.len;
}

static struct slice arena_copy(struct batch *batch, struct slice s)
{
    const uint8_t *at = batch->arena.ptr + batch->arena.len;

    if (s.len == 0) {
        return SLICE_EMPTY;
    }
    CHECK(s.len <= arena_left(batch));
    buf_append_slice(&batch->arena, s);
    return slice_of(at, s.len);
}

static int batch_grow(struct batch *batch)
{
    size_t cap = batch->message_cap == 0 ? MESSAGES_CAP_MIN : batch->message_cap * 2;
    struct sink_message *messages;

    if (batch->sink.message_count < batch->message_cap) {
        return 0;
    }
    messages = mem_realloc(batch->messages, cap * sizeof *messages);
    if (messages == NULL) {
        return ESCROW_ENOMEM;
    }
    batch->messages = messages;
    batch->message_cap = cap;
    batch->sink.messages = messages;
    return 0;
}

static size_t message_size_bytes(const struct sink_message *msg)
{
    return msg->topic.len + msg->tag.len + msg->keys.len + msg->ordering_key.len +
           msg->properties.len + msg->body.len;
}

static int batch_append(struct batch *batch, const struct outbox_row *row)
{
    struct sink_message *msg;
    const uint8_t *pairs;
    size_t arena_before = batch->arena.len;
    int rc = batch_grow(batch);

    if (rc != 0) {
        return rc;
    }
    msg = &batch->messages[batch->sink.message_count];
    pairs = batch->arena.ptr + arena_before;
    rc = row_properties(row->properties, &batch->arena); /* never longer than the array */
    if (rc != 0) {
        return rc;
    }
    *msg = (struct sink_message){
        .properties = batch->arena.len == arena_before
                          ? SLICE_EMPTY
                          : slice_of(pairs, batch->arena.len - arena_before),
        .born_ms = row->created_ms,
        .row_id = row->id,
    };
    msg->topic = arena_copy(batch, row->topic);
    msg->tag = arena_copy(batch, row->tag);
    msg->keys = arena_copy(batch, row->keys);
    msg->ordering_key = arena_copy(batch, row->ordering_key);
    msg->body = arena_copy(batch, row->body);
    batch->sink.message_count++;
    batch->sink.size_bytes += message_size_bytes(msg);
    return 0;
}

void batcher_init(struct batcher *b, size_t rows_max, size_t bytes_max)
{
    CHECK(rows_max > 0);
    CHECK(bytes_max > 0);
    *b = (struct batcher){.rows_max = rows_max, .bytes_max = bytes_max};
    list_init(&b->ready);
}

void batcher_fini(struct batcher *b)
{
    batcher_clear(b);
}

void batcher_clear(struct batcher *b)
{
    struct batch *batch;

    batch_free(b->filling);
    b->filling = NULL;
    while ((batch = batcher_take(b)) != NULL) {
        batch_free(batch);
    }
    b->has_border = false;
    b->size_bytes = 0;
}

void batcher_finish(struct batcher *b)
{
    if (b->filling != NULL) {
        list_push(&b->ready, &b->filling->node);
        b->filling = NULL;
        b->has_border = false;
    }
}

struct batch *batcher_take(struct batcher *b)
{
    struct batch *batch;

    if (list_is_empty(&b->ready)) {
        return NULL;
    }
    batch = LIST_ENTRY(b->ready.next, struct batch, node);
    list_remove(&batch->node);
    CHECK(b->size_bytes >= batch->sink.size_bytes);
    b->size_bytes -= batch->sink.size_bytes;
    return batch;
}

/*
 * Move the messages after the border, part of a transaction that goes on, to a new batch; what is
 * before it is complete.
 */
static int split_at_border(struct batcher *b)
{
    struct batch *head = b->filling;
    struct batch *tail;
    size_t count = head->sink.message_count;
    size_t moved_bytes = 0;

    CHECK(b->has_border);
    CHECK(b->border_count <= count);
    CHECK(b->border_id <= head->last_order_id);
    if (b->border_count == count && head->last_id == b->border_id) {
        batcher_finish(b);
        return 0;
    }
    for (size_t i = b->border_count; i < count; i++) {
        moved_bytes += message_size_bytes(&head->messages[i]);
    }
    tail = batch_sized(b->bytes_max > moved_bytes ? b->bytes_max : moved_bytes);
    if (tail == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = b->border_count; i < count; i++) {
        struct sink_message msg = head->messages[i];
        if (batch_grow(tail) != 0) {
            batch_free(tail);
            return ESCROW_ENOMEM;
        }
        msg.topic = arena_copy(tail, msg.topic);
        msg.tag = arena_copy(tail, msg.tag);
        msg.keys = arena_copy(tail, msg.keys);
        msg.ordering_key = arena_copy(tail, msg.ordering_key);
        msg.properties = arena_copy(tail, msg.properties);
        msg.body = arena_copy(tail, msg.body);
        tail->messages[tail->sink.message_count++] = msg;
    }
    tail->sink.size_bytes = moved_bytes;
    tail->last_order_id = head->last_order_id;
    tail->last_id = head->last_id;
    head->sink.message_count = b->border_count;
    head->sink.size_bytes -= moved_bytes;
    head->last_id = b->border_id;
    head->last_order_id = b->border_id; /* the last row of a transaction has its highest id */
    list_push(&b->ready, &head->node);
    b->filling = tail;
    b->has_border = false;
    return 0;
}

/* The row is the last one of the batch that is being filled. */
static void note_row(struct batcher *b, const struct outbox_row *row)
{
    b->filling->last_order_id = row->order_id;
    b->filling->last_id = row->id;
    if (row->id == row->order_id) { /* the last row of its transaction */
        b->has_border = true;
        b->border_count = b->filling->sink.message_count;
        b->border_id = row->id;
    }
}

int batcher_pass(struct batcher *b, const struct outbox_row *row)
{
    if (b->filling == NULL) {
        b->filling = batch_new(); /* memory when there is a message */
        if (b->filling == NULL) {
            return ESCROW_ENOMEM;
        }
    }
    note_row(b, row);
    return 0;
}

int batcher_put(struct batcher *b, const struct outbox_row *row)
{
    size_t row_bytes = row_size_bytes(row);
    size_t before;
    int rc;

    while (b->filling != NULL && (b->filling->sink.message_count == b->rows_max ||
                                  b->filling->arena.len + row_bytes > b->bytes_max)) {
        if (b->has_border) {
            rc = split_at_border(b);
            if (rc != 0) {
                return rc;
            }
        } else {
            batcher_finish(b); /* one transaction that is bigger than a batch */
        }
    }
    if (b->filling == NULL) {
        b->filling = batch_new();
    }
    if (b->filling == NULL ||
        (b->filling->arena.cap == 0 &&
         buf_reserve(&b->filling->arena, b->bytes_max > row_bytes ? b->bytes_max : row_bytes) ==
             NULL)) {
        return ESCROW_ENOMEM;
    }
    before = b->filling->sink.size_bytes;
    rc = batch_append(b->filling, row);
    if (rc != 0) {
        return rc;
    }
    b->size_bytes += b->filling->sink.size_bytes - before;
    note_row(b, row);
    return 0;
}
