/*
 * The struct behind pop_table.h, for its own files and tests.
 * Owns: see pop_table.h.    Thread: loop.
 */
#ifndef SRC_BROKER_POP_TABLE_PRIVATE_H
#define SRC_BROKER_POP_TABLE_PRIVATE_H

#include "core/base/heap.h"
#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/base/slab.h"
#include "core/base/strmap.h"
#include "src/broker/pop_table.h"
#include "txn/hash_index.h"

#define POP_KEY_MAX (GROUP_LEN_MAX + 1 + RETRY_TOPIC_LEN_MAX + 4)

struct pop_queue {
    struct list items; /* in the order of their offsets */
    struct list due;   /* in the order in which they became due */
    struct list quiet; /* in table.quiet when every item is due, or alone */
    uint64_t id;       /* never used again */
    int64_t base;      /* the committed offset: of the first item */
    int64_t next;
    uint32_t count;
    uint32_t due_count;
    uint32_t group_len;
    uint32_t topic_len;
    uint32_t number;
    uint8_t key[POP_KEY_MAX];
};

struct pop_item {
    struct list by_queue;
    struct list by_due; /* alone while it is invisible */
    struct pop_queue *queue;
    int64_t offset;
    int64_t pop_ms;
    int64_t due_ms;
    uint64_t attempt; /* of the ordered pop that had it last; 0: of another, or of no attempt */
    uint32_t place;   /* in the heap; HEAP_NONE when it is due */
    uint32_t link;
    uint32_t slot;
    uint32_t deliveries;
};

struct pop_table {
    struct pop_limits limits;
    struct strmap queues;
    struct slab items;
    struct hash_index by_offset;
    struct heap heap;
    struct list quiet;
    uint64_t queue_id_last;
    uint64_t forgotten;
    uint32_t due_count;
};

static inline struct pop_item *pop_item_at(const struct pop_table *t, uint32_t slot)
{
    return slab_at(&t->items, slot);
}

/* The message, if it is handed out; NULL otherwise. */
struct pop_item *pop_item_find(const struct pop_table *t, const struct pop_queue *q,
                               int64_t offset);

#endif
