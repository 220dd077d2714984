/*
 * Happy path: pop_table_take makes an item for each message and puts it into the heap of due times;
 * pop_table_ack takes it away again, and the committed offset follows the first one that is left.
 *
 * A queue that is not here is as good as one whose `next` is its committed offset. So it exists
 * only while something of it is handed out, and forgetting it is always allowed: its messages come
 * again, also those that were done above the committed offset.
 */
#include "src/broker/pop_table.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "src/broker/pop_table_private.h"

#include <string.h>

/* ---- index and heap -------------------------------------------------------------------------- */

static uint64_t item_hash(const struct pop_queue *q, int64_t offset)
{
    return hash_u64(hash_u64(q->id) ^ (uint64_t)offset);
}

static uint64_t by_offset_hash(void *owner, uint32_t slot)
{
    const struct pop_item *item = pop_item_at(owner, slot);

    return item_hash(item->queue, item->offset);
}

static uint32_t *by_offset_link(void *owner, uint32_t slot)
{
    return &pop_item_at(owner, slot)->link;
}

static bool heap_before(void *owner, uint32_t a, uint32_t b)
{
    const struct pop_item *left = pop_item_at(owner, a);
    const struct pop_item *right = pop_item_at(owner, b);

    if (left->due_ms != right->due_ms) {
        return left->due_ms < right->due_ms;
    }
    return left->offset != right->offset ? left->offset < right->offset : a < b;
}

static void heap_placed(void *owner, uint32_t id, uint32_t place)
{
    pop_item_at(owner, id)->place = place;
}

static const struct hash_index_ops by_offset_ops = {by_offset_hash, by_offset_link};
static const struct heap_ops heap_ops = {heap_before, heap_placed};

/* ---- table and queues ------------------------------------------------------------------------ */

int pop_table_new(const struct pop_limits *limits, struct hash_key key, struct pop_table **out)
{
    struct pop_table *t = mem_calloc(1, sizeof *t);

    *out = NULL;
    if (t == NULL) {
        return ESCROW_ENOMEM;
    }
    t->limits = *limits;
    strmap_init(&t->queues, key);
    slab_init(&t->items, sizeof(struct pop_item));
    hash_index_init(&t->by_offset, &by_offset_ops, t);
    heap_init(&t->heap, &heap_ops, t);
    list_init(&t->quiet);
    *out = t;
    return 0;
}

void pop_table_free(struct pop_table *t)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    if (t == NULL) {
        return;
    }
    while ((slot = strmap_next(&t->queues, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&t->queues);
    slab_fini(&t->items);
    hash_index_fini(&t->by_offset);
    heap_fini(&t->heap);
    mem_free(t);
}

static size_t key_make(uint8_t *bytes, const struct pop_key *key)
{
    CHECK(key->group.len > 0 && key->group.len <= GROUP_LEN_MAX);
    CHECK(key->topic.len > 0 && key->topic.len <= RETRY_TOPIC_LEN_MAX);
    memcpy(bytes, key->group.ptr, key->group.len);
    bytes[key->group.len] = 0x01;
    memcpy(bytes + key->group.len + 1, key->topic.ptr, key->topic.len);
    put_le32(bytes + key->group.len + 1 + key->topic.len, key->queue);
    return key->group.len + 1 + key->topic.len + 4;
}

static struct slice queue_key(const struct pop_queue *q)
{
    return slice_of(q->key, (size_t)q->group_len + 1 + q->topic_len + 4);
}

static void queue_free(struct pop_table *t, struct pop_queue *q)
{
    CHECK(q->count == 0 && list_is_empty(&q->items) && list_is_empty(&q->due));
    list_remove(&q->quiet);
    CHECK(strmap_take(&t->queues, queue_key(q)) == q);
    mem_free(q);
}

/* Is everything of it due, and so nobody's at the moment? */
static void queue_set_quiet(struct pop_table *t, struct pop_queue *q)
{
    bool is_quiet = q->count > 0 && q->due_count == q->count;

    if (!is_quiet) {
        list_remove(&q->quiet);
    } else if (list_is_empty(&q->quiet)) {
        list_push(&t->quiet, &q->quiet);
    }
}

/* Out of the list of what is due, if it is in it. */
static void item_leave_due(struct pop_table *t, struct pop_item *item)
{
    if (!list_is_empty(&item->by_due)) {
        list_remove(&item->by_due);
        item->queue->due_count--;
        t->due_count--;
    }
}

/* Without a look at the queue's own end. */
static void item_free(struct pop_table *t, struct pop_item *item)
{
    struct pop_queue *q = item->queue;

    if (item->place != HEAP_NONE) {
        heap_remove(&t->heap, item->place);
    } else {
        item_leave_due(t, item);
    }
    hash_index_remove(&t->by_offset, item->slot);
    list_remove(&item->by_queue);
    q->count--;
    slab_put(&t->items, item->slot);
}

static void queue_forget(struct pop_table *t, struct pop_queue *q)
{
    while (!list_is_empty(&q->items)) {
        item_free(t, LIST_ENTRY(q->items.next, struct pop_item, by_queue));
    }
    queue_free(t, q);
    heap_trim(&t->heap, (uint32_t)t->items.used);
}

/* The queue, if something of it is handed out and nobody else has moved its offset. */
static struct pop_queue *queue_find(struct pop_table *t, const struct pop_key *key,
                                    int64_t committed)
{
    uint8_t bytes[POP_KEY_MAX];
    struct pop_queue *q = strmap_find(&t->queues, slice_of(bytes, key_make(bytes, key)));

    if (q != NULL && q->base != committed) {
        queue_forget(t, q);
        q = NULL;
    }
    return q;
}

static int queue_new(struct pop_table *t, const struct pop_key *key, int64_t committed,
                     struct pop_queue **out)
{
    struct pop_queue *q = mem_calloc(1, sizeof *q);
    int rc;

    if (q == NULL) {
        return ESCROW_ENOMEM;
    }
    list_init(&q->items);
    list_init(&q->due);
    list_init(&q->quiet);
    (void)key_make(q->key, key);
    q->group_len = (uint32_t)key->group.len;
    q->topic_len = (uint32_t)key->topic.len;
    q->number = key->queue;
    q->base = q->next = committed;
    rc = strmap_put(&t->queues, queue_key(q), q);
    if (rc != 0) {
        mem_free(q);
        return rc;
    }
    q->id = ++t->queue_id_last;
    *out = q;
    return 0;
}

struct pop_item *pop_item_find(const struct pop_table *t, const struct pop_queue *q, int64_t offset)
{
    uint32_t slot = hash_index_head(&t->by_offset, item_hash(q, offset));

    while (slot != HASH_INDEX_NONE) {
        struct pop_item *item = pop_item_at(t, slot);
        if (item->queue == q && item->offset == offset) {
            return item;
        }
        slot = item->link;
    }
    return NULL;
}

/* ---- handing out ----------------------------------------------------------------------------- */

void pop_table_look(struct pop_table *t, const struct pop_key *key, int64_t committed,
                    struct pop_look *out)
{
    const struct pop_queue *q = queue_find(t, key, committed);

    *out = (struct pop_look){.next = committed, .room = t->limits.queue_max};
    if (q != NULL) {
        out->next = q->next;
        out->room = t->limits.queue_max - q->count;
        out->due = q->due_count;
    }
}

/* Let go of what nobody has in hand, the longest quiet first, but not of this queue. */
static bool make_room(struct pop_table *t, const struct pop_queue *keep, uint32_t count)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &t->quiet) {
        struct pop_queue *q = LIST_ENTRY(pos, struct pop_queue, quiet);
        if (t->items.used + count <= t->limits.total_max) {
            break;
        }
        if (q != keep) {
            t->forgotten += q->count;
            queue_forget(t, q);
        }
    }
    return t->items.used + count <= t->limits.total_max;
}

static bool offsets_are_good(const struct pop_taken *taken, int64_t next)
{
    for (uint32_t i = 0; i < taken->count; i++) {
        if (taken->offsets[i] < next) {
            return false;
        }
        next = taken->offsets[i] + 1;
    }
    return next <= taken->next_offset;
}

static struct pop_item *item_new(struct pop_table *t, struct pop_queue *q, int64_t offset,
                                 struct pop_delivery delivery)
{
    uint32_t slot = slab_take(&t->items);
    struct pop_item *item = pop_item_at(t, slot);

    *item = (struct pop_item){.queue = q,
                              .offset = offset,
                              .pop_ms = delivery.pop_ms,
                              .due_ms = delivery.due_ms,
                              .attempt = delivery.attempt,
                              .slot = slot,
                              .place = HEAP_NONE,
                              .deliveries = 1};
    list_init(&item->by_due);
    list_push(&q->items, &item->by_queue);
    hash_index_insert(&t->by_offset, slot);
    heap_push(&t->heap, slot);
    q->count++;
    return item;
}

/* Items for all of them, or none. */
static int items_new(struct pop_table *t, struct pop_queue *q, const struct pop_taken *taken,
                     struct pop_delivery delivery)
{
    struct pop_item *last = NULL;
    int rc = heap_reserve(&t->heap, (uint32_t)t->items.used + taken->count);

    if (rc == 0) {
        rc = hash_index_reserve(&t->by_offset);
    }
    for (uint32_t i = 0; rc == 0 && i < taken->count; i++) {
        rc = slab_reserve(&t->items);
        if (rc == 0) {
            last = item_new(t, q, taken->offsets[i], delivery);
        } else {
            for (; i > 0; i--) {
                struct list *before = last->by_queue.prev;
                item_free(t, last);
                last = LIST_ENTRY(before, struct pop_item, by_queue);
            }
        }
    }
    return rc;
}

int pop_table_take(struct pop_table *t, const struct pop_key *key, int64_t *committed,
                   const struct pop_taken *taken, struct pop_delivery delivery)
{
    struct pop_queue *q = queue_find(t, key, *committed);
    int64_t next = q == NULL ? *committed : q->next;
    bool is_new = q == NULL;
    int rc = 0;

    if (!offsets_are_good(taken, next)) {
        return ESCROW_EINVAL;
    }
    if (q == NULL && taken->count == 0) {
        *committed = taken->next_offset;
        return 0;
    }
    if ((q == NULL ? 0 : q->count) + (uint64_t)taken->count > t->limits.queue_max ||
        (taken->count > 0 && !make_room(t, q, taken->count))) {
        return ESCROW_ELIMIT;
    }
    if (is_new) {
        rc = queue_new(t, key, *committed, &q);
    }
    if (rc == 0) {
        rc = items_new(t, q, taken, delivery);
        if (rc != 0 && is_new) {
            queue_free(t, q);
        }
    }
    if (rc == 0) {
        q->next = taken->next_offset;
        q->base = LIST_ENTRY(q->items.next, struct pop_item, by_queue)->offset;
        *committed = q->base;
        queue_set_quiet(t, q);
    }
    return rc;
}

uint32_t pop_table_due(struct pop_table *t, const struct pop_key *key, int64_t committed,
                       struct pop_due *due, uint32_t max)
{
    struct pop_queue *q = queue_find(t, key, committed);
    struct list *pos;
    uint32_t count = 0;

    if (q == NULL) {
        return 0;
    }
    for (pos = q->due.next; pos != &q->due && count < max; pos = pos->next) {
        const struct pop_item *item = LIST_ENTRY(pos, struct pop_item, by_due);
        due[count++] = (struct pop_due){.offset = item->offset, .deliveries = item->deliveries};
    }
    return count;
}

static bool is_of(const struct pop_item *item, uint64_t attempt)
{
    return attempt != 0 && item->attempt == attempt;
}

enum pop_order pop_table_order(struct pop_table *t, const struct pop_key *key, int64_t committed,
                               uint64_t attempt)
{
    struct pop_queue *q = queue_find(t, key, committed);
    struct list *pos;

    if (q == NULL) {
        return POP_ORDER_NEW;
    }
    if (q->due_count == q->count) {
        return POP_ORDER_AGAIN;
    }
    for (pos = q->items.next; pos != &q->items; pos = pos->next) {
        const struct pop_item *item = LIST_ENTRY(pos, struct pop_item, by_queue);
        if (item->place != HEAP_NONE && !is_of(item, attempt)) {
            return POP_ORDER_BLOCKED;
        }
    }
    return POP_ORDER_AGAIN;
}

uint32_t pop_table_first(struct pop_table *t, const struct pop_key *key, int64_t committed,
                         uint64_t attempt, struct pop_due *due, uint32_t max)
{
    struct pop_queue *q = queue_find(t, key, committed);
    struct list *pos;
    uint32_t count = 0;

    if (q == NULL) {
        return 0;
    }
    for (pos = q->items.next; pos != &q->items && count < max; pos = pos->next) {
        const struct pop_item *item = LIST_ENTRY(pos, struct pop_item, by_queue);
        due[count++] =
            (struct pop_due){.offset = item->offset,
                             .deliveries = item->deliveries - (is_of(item, attempt) ? 1 : 0)};
    }
    return count;
}

/* Invisible from now on, under this delivery. Room in the heap is what it had before. */
static void item_deliver(struct pop_table *t, struct pop_item *item, struct pop_delivery delivery)
{
    if (item->place != HEAP_NONE) {
        heap_remove(&t->heap, item->place);
    } else {
        item_leave_due(t, item);
    }
    item->pop_ms = delivery.pop_ms;
    item->due_ms = delivery.due_ms;
    heap_push(&t->heap, item->slot);
    queue_set_quiet(t, item->queue);
}

int pop_table_retake(struct pop_table *t, const struct pop_key *key, int64_t committed,
                     int64_t offset, struct pop_delivery delivery)
{
    struct pop_queue *q = queue_find(t, key, committed);
    struct pop_item *item = q == NULL ? NULL : pop_item_find(t, q, offset);

    if (item == NULL || (item->place != HEAP_NONE && !is_of(item, delivery.attempt))) {
        return ESCROW_ENOTFOUND;
    }
    item_deliver(t, item, delivery);
    if (item->deliveries < UINT32_MAX && !is_of(item, delivery.attempt)) {
        item->deliveries++;
    }
    item->attempt = delivery.attempt;
    return 0;
}

/* ---- what consumers say ---------------------------------------------------------------------- */

/* The item that this delivery has in hand; *outcome when there is none. */
static struct pop_item *delivered(struct pop_table *t, struct pop_queue *q, int64_t committed,
                                  const struct pop_due *which, int64_t pop_ms,
                                  enum pop_outcome *outcome)
{
    struct pop_item *item = q == NULL ? NULL : pop_item_find(t, q, which->offset);

    if (item != NULL && item->pop_ms == pop_ms) {
        *outcome = POP_DONE;
        return item;
    }
    *outcome =
        item == NULL && which->offset < (q == NULL ? committed : q->next) ? POP_ALREADY : POP_STALE;
    return NULL;
}

enum pop_outcome pop_table_ack(struct pop_table *t, const struct pop_key *key, int64_t *committed,
                               int64_t offset, int64_t pop_ms, struct pop_opening *opening)
{
    struct pop_queue *q = queue_find(t, key, *committed);
    const struct pop_due which = {.offset = offset};
    enum pop_outcome outcome;
    struct pop_item *item = delivered(t, q, *committed, &which, pop_ms, &outcome);

    if (opening != NULL) {
        *opening = (struct pop_opening){.has_room = false};
    }
    if (item == NULL) {
        return outcome;
    }
    q = item->queue;
    if (opening != NULL) {
        opening->has_room = q->count == t->limits.queue_max;
        opening->is_free = item->place != HEAP_NONE && q->count - q->due_count == 1;
    }
    item_free(t, item);
    q->base =
        q->count == 0 ? q->next : LIST_ENTRY(q->items.next, struct pop_item, by_queue)->offset;
    *committed = q->base;
    if (q->count == 0) {
        queue_free(t, q);
    } else {
        queue_set_quiet(t, q);
    }
    heap_trim(&t->heap, (uint32_t)t->items.used); /* what is due goes back into it */
    return outcome;
}

enum pop_outcome pop_table_change(struct pop_table *t, const struct pop_key *key, int64_t committed,
                                  int64_t offset, int64_t pop_ms, struct pop_delivery delivery)
{
    struct pop_queue *q = queue_find(t, key, committed);
    const struct pop_due which = {.offset = offset};
    enum pop_outcome outcome;
    struct pop_item *item = delivered(t, q, committed, &which, pop_ms, &outcome);

    if (item != NULL) {
        item_deliver(t, item, delivery);
    }
    return outcome;
}

/* ---- time ------------------------------------------------------------------------------------ */

void pop_table_tick(struct pop_table *t, int64_t now_ms, uint32_t max, pop_due_fn *fn, void *arg)
{
    for (uint32_t i = 0; i < max && t->heap.count > 0; i++) {
        struct pop_item *item = pop_item_at(t, heap_top(&t->heap));
        struct pop_queue *q = item->queue;
        struct pop_key key = {.group = slice_of(q->key, q->group_len),
                              .topic = slice_of(q->key + q->group_len + 1, q->topic_len),
                              .queue = q->number};
        if (item->due_ms > now_ms) {
            break;
        }
        heap_remove(&t->heap, item->place);
        list_push(&q->due, &item->by_due);
        q->due_count++;
        t->due_count++;
        queue_set_quiet(t, q);
        fn(arg, &key);
    }
}

int64_t pop_table_next_ms(const struct pop_table *t)
{
    return t->heap.count == 0 ? INT64_MAX : pop_item_at(t, heap_top(&t->heap))->due_ms;
}
