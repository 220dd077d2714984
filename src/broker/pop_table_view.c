#include "core/base/check.h"
#include "src/broker/pop_table_private.h"

/* ---- looking at it --------------------------------------------------------------------------- */

void pop_table_gauges(const struct pop_table *t, struct pop_gauges *gauges)
{
    *gauges = (struct pop_gauges){.in_flight = (uint32_t)t->items.used,
                                  .due = t->due_count,
                                  .queues = (uint32_t)t->queues.count,
                                  .forgotten = t->forgotten};
    gauges->bytes = slab_bytes(&t->items) + hash_index_bytes(&t->by_offset) + heap_bytes(&t->heap) +
                    t->queues.count * sizeof(struct pop_queue) +
                    t->queues.cap * sizeof(struct strmap_slot);
}

static void queue_check(const struct pop_table *t, const struct pop_queue *q)
{
    int64_t before = q->base - 1;
    uint32_t count = 0;
    uint32_t due = 0;

    CHECK(q->count > 0 && q->count <= t->limits.queue_max);
    for (struct list *pos = q->items.next; pos != &q->items; pos = pos->next) {
        struct pop_item *item = LIST_ENTRY(pos, struct pop_item, by_queue);
        CHECK(item->queue == q && item->deliveries > 0);
        CHECK(count > 0 ? item->offset > before : item->offset == q->base);
        CHECK((item->place == HEAP_NONE) == !list_is_empty(&item->by_due));
        CHECK(pop_item_find(t, q, item->offset) == item);
        before = item->offset;
        due += item->place == HEAP_NONE ? 1 : 0;
        count++;
    }
    CHECK(before < q->next);
    CHECK(count == q->count && due == q->due_count);
    CHECK((due == count) == !list_is_empty(&q->quiet));
}

void pop_table_check(const struct pop_table *t)
{
    size_t cursor = 0;
    size_t count = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&t->queues, &cursor)) != NULL) {
        const struct pop_queue *q = slot->value;
        queue_check(t, q);
        count += q->count;
    }
    CHECK(count == t->items.used && count <= t->limits.total_max);
    CHECK(t->heap.count + t->due_count == count);
    slab_check(&t->items);
    hash_index_check(&t->by_offset);
    heap_check(&t->heap);
}
