#include "core/base/heap.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#define CHILDREN 4u

static uint32_t *at(const struct heap *h, uint32_t place)
{
    return &h->chunks[place / HEAP_CHUNK][place % HEAP_CHUNK];
}

void heap_init(struct heap *h, const struct heap_ops *ops, void *owner)
{
    *h = (struct heap){.ops = ops, .owner = owner};
}

void heap_fini(struct heap *h)
{
    for (size_t i = 0; i < h->chunk_count; i++) {
        mem_free(h->chunks[i]);
    }
    mem_free(h->chunks);
    h->chunks = NULL;
    h->chunk_count = 0;
    h->chunk_cap = 0;
    h->count = 0;
}

int heap_reserve(struct heap *h, uint32_t count)
{
    size_t want = ((size_t)count + HEAP_CHUNK - 1) / HEAP_CHUNK;

    if (want > h->chunk_cap) {
        size_t cap = h->chunk_cap == 0 ? 8 : h->chunk_cap;
        uint32_t **grown;
        while (cap < want) {
            cap *= 2;
        }
        grown = mem_realloc(h->chunks, cap * sizeof *grown);
        if (grown == NULL) {
            return ESCROW_ENOMEM;
        }
        h->chunks = grown;
        h->chunk_cap = cap;
    }
    while (h->chunk_count < want) {
        uint32_t *chunk = mem_alloc(HEAP_CHUNK * sizeof *chunk);
        if (chunk == NULL) {
            return ESCROW_ENOMEM; /* what was allocated is room for later */
        }
        h->chunks[h->chunk_count++] = chunk;
    }
    return 0;
}

static void put(struct heap *h, uint32_t place, uint32_t id)
{
    *at(h, place) = id;
    h->ops->placed(h->owner, id, place);
}

/* The id belongs at `place` or above it. */
static void rise(struct heap *h, uint32_t place, uint32_t id)
{
    while (place > 0) {
        uint32_t parent = (place - 1) / CHILDREN;
        uint32_t other = *at(h, parent);
        if (!h->ops->before(h->owner, id, other)) {
            break;
        }
        put(h, place, other);
        place = parent;
    }
    put(h, place, id);
}

/* The child of `place` that comes first, or HEAP_NONE. */
static uint32_t first_child(const struct heap *h, uint32_t place)
{
    uint64_t child = (uint64_t)place * CHILDREN + 1;
    uint64_t end = child + CHILDREN < h->count ? child + CHILDREN : h->count;
    uint32_t best = HEAP_NONE;

    for (; child < end; child++) {
        if (best == HEAP_NONE || h->ops->before(h->owner, *at(h, (uint32_t)child), *at(h, best))) {
            best = (uint32_t)child;
        }
    }
    return best;
}

/* The id belongs at `place` or below it. */
static void sink(struct heap *h, uint32_t place, uint32_t id)
{
    uint32_t child;

    while ((child = first_child(h, place)) != HEAP_NONE) {
        uint32_t other = *at(h, child);
        if (!h->ops->before(h->owner, other, id)) {
            break;
        }
        put(h, place, other);
        place = child;
    }
    put(h, place, id);
}

void heap_push(struct heap *h, uint32_t id)
{
    CHECK(h->count < h->chunk_count * HEAP_CHUNK);
    CHECK(h->count < HEAP_NONE - 1);
    h->count++;
    rise(h, h->count - 1, id);
}

uint32_t heap_top(const struct heap *h)
{
    return h->count == 0 ? HEAP_NONE : *at(h, 0);
}

void heap_remove(struct heap *h, uint32_t place)
{
    uint32_t id;
    uint32_t last;

    CHECK(place < h->count);
    id = *at(h, place);
    h->count--;
    last = *at(h, h->count);
    if (place != h->count) {
        bool is_first = place > 0 && h->ops->before(h->owner, last, *at(h, (place - 1) / CHILDREN));
        if (is_first) {
            rise(h, place, last);
        } else {
            sink(h, place, last);
        }
    }
    h->ops->placed(h->owner, id, HEAP_NONE);
}

void heap_trim(struct heap *h, uint32_t count)
{
    size_t keep = ((size_t)count + HEAP_CHUNK - 1) / HEAP_CHUNK + 1;

    CHECK(count >= h->count);
    while (h->chunk_count > keep) {
        mem_free(h->chunks[--h->chunk_count]);
    }
}

size_t heap_bytes(const struct heap *h)
{
    return h->chunk_cap * sizeof(uint32_t *) + h->chunk_count * HEAP_CHUNK * sizeof(uint32_t);
}

void heap_check(const struct heap *h)
{
    CHECK(h->count <= h->chunk_count * HEAP_CHUNK);
    for (uint32_t place = 1; place < h->count; place++) {
        CHECK(!h->ops->before(h->owner, *at(h, place), *at(h, (place - 1) / CHILDREN)));
    }
}
