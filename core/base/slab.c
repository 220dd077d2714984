#include "core/base/slab.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define WORD_BITS 64u

struct slab_chunk {
    uint32_t used;
    uint32_t free_head; /* slot number within the chunk, chained in the first bytes of each */
    uint32_t prev;      /* partial list, by chunk number */
    uint32_t next;
    uint64_t in_use[SLAB_CHUNK_SLOTS / WORD_BITS];
    uint64_t items[]; /* aligned for anything */
};

_Static_assert(SLAB_CHUNK_SLOTS % WORD_BITS == 0, "a whole number of words");

static uint8_t *chunk_item(const struct slab *s, struct slab_chunk *chunk, uint32_t index)
{
    return (uint8_t *)chunk->items + index * s->item_bytes;
}

static bool chunk_has(const struct slab_chunk *chunk, uint32_t index)
{
    return (chunk->in_use[index / WORD_BITS] >> (index % WORD_BITS) & 1u) != 0;
}

static uint32_t free_next(const struct slab *s, struct slab_chunk *chunk, uint32_t index)
{
    uint32_t next;

    memcpy(&next, chunk_item(s, chunk, index), sizeof next);
    return next;
}

static void free_push(const struct slab *s, struct slab_chunk *chunk, uint32_t index)
{
    memcpy(chunk_item(s, chunk, index), &chunk->free_head, sizeof chunk->free_head);
    chunk->free_head = index;
}

void slab_init(struct slab *s, size_t item_bytes)
{
    CHECK(item_bytes >= sizeof(uint64_t) && item_bytes % sizeof(uint64_t) == 0);
    *s = (struct slab){.item_bytes = item_bytes, .partial = SLAB_NONE, .spare = SLAB_NONE};
}

void slab_fini(struct slab *s)
{
    for (size_t i = 0; i < s->chunk_count; i++) {
        mem_free(s->chunks[i]);
    }
    mem_free(s->chunks);
    slab_init(s, s->item_bytes);
}

static void partial_push(struct slab *s, uint32_t number)
{
    struct slab_chunk *chunk = s->chunks[number];

    chunk->prev = SLAB_NONE;
    chunk->next = s->partial;
    if (s->partial != SLAB_NONE) {
        s->chunks[s->partial]->prev = number;
    }
    s->partial = number;
}

static void partial_remove(struct slab *s, uint32_t number)
{
    struct slab_chunk *chunk = s->chunks[number];

    if (chunk->prev == SLAB_NONE) {
        CHECK(s->partial == number);
        s->partial = chunk->next;
    } else {
        s->chunks[chunk->prev]->next = chunk->next;
    }
    if (chunk->next != SLAB_NONE) {
        s->chunks[chunk->next]->prev = chunk->prev;
    }
}

/* Number for a new chunk: the first that was given back, else one more. */
static int chunk_number(struct slab *s, uint32_t *number)
{
    size_t n = s->chunk_live == s->chunk_count ? s->chunk_count : 0;

    while (n < s->chunk_count && s->chunks[n] != NULL) {
        n++;
    }
    if (n == s->chunk_count && s->chunk_count == s->chunk_cap) {
        size_t cap = s->chunk_cap == 0 ? 8 : s->chunk_cap * 2;
        struct slab_chunk **grown = mem_realloc(s->chunks, cap * sizeof *grown);
        if (grown == NULL) {
            return ESCROW_ENOMEM;
        }
        s->chunks = grown;
        s->chunk_cap = cap;
    }
    CHECK(n < SLAB_NONE / SLAB_CHUNK_SLOTS - 1);
    *number = (uint32_t)n;
    return 0;
}

int slab_reserve(struct slab *s)
{
    struct slab_chunk *chunk;
    uint32_t number;
    int rc;

    if (s->partial != SLAB_NONE) {
        return 0;
    }
    rc = chunk_number(s, &number);
    if (rc != 0) {
        return rc;
    }
    chunk = mem_alloc(sizeof *chunk + SLAB_CHUNK_SLOTS * s->item_bytes);
    if (chunk == NULL) {
        return ESCROW_ENOMEM;
    }
    *chunk = (struct slab_chunk){.free_head = SLAB_NONE};
    for (uint32_t i = SLAB_CHUNK_SLOTS; i > 0; i--) {
        free_push(s, chunk, i - 1);
    }
    s->chunks[number] = chunk;
    s->chunk_live++;
    if (number == s->chunk_count) {
        s->chunk_count++;
    }
    CHECK(s->spare == SLAB_NONE);
    s->spare = number;
    partial_push(s, number);
    return 0;
}

uint32_t slab_take(struct slab *s)
{
    uint32_t number = s->partial;
    struct slab_chunk *chunk;
    uint32_t index;

    CHECK(number != SLAB_NONE); /* slab_reserve */
    chunk = s->chunks[number];
    index = chunk->free_head;
    chunk->free_head = free_next(s, chunk, index);
    chunk->used++;
    chunk->in_use[index / WORD_BITS] |= UINT64_C(1) << (index % WORD_BITS);
    if (chunk->free_head == SLAB_NONE) {
        partial_remove(s, number);
    }
    if (s->spare == number) {
        s->spare = SLAB_NONE;
    }
    s->used++;
    memset(chunk_item(s, chunk, index), 0, s->item_bytes);
    return number * SLAB_CHUNK_SLOTS + index;
}

void slab_put(struct slab *s, uint32_t slot)
{
    uint32_t number = slot / SLAB_CHUNK_SLOTS;
    uint32_t index = slot % SLAB_CHUNK_SLOTS;
    struct slab_chunk *chunk = s->chunks[number];

    CHECK(chunk_has(chunk, index));
    chunk->in_use[index / WORD_BITS] &= ~(UINT64_C(1) << (index % WORD_BITS));
    if (chunk->free_head == SLAB_NONE) {
        partial_push(s, number);
    }
    free_push(s, chunk, index);
    chunk->used--;
    s->used--;
    if (chunk->used > 0) {
        return;
    }
    if (s->spare == SLAB_NONE) {
        s->spare = number;
        return;
    }
    partial_remove(s, number);
    mem_free(chunk);
    s->chunks[number] = NULL;
    s->chunk_live--;
}

void *slab_at(const struct slab *s, uint32_t slot)
{
    struct slab_chunk *chunk = s->chunks[slot / SLAB_CHUNK_SLOTS];

    DCHECK(chunk_has(chunk, slot % SLAB_CHUNK_SLOTS));
    return chunk_item(s, chunk, slot % SLAB_CHUNK_SLOTS);
}

uint32_t slab_next(const struct slab *s, uint32_t *cursor)
{
    while (*cursor / SLAB_CHUNK_SLOTS < s->chunk_count) {
        const struct slab_chunk *chunk = s->chunks[*cursor / SLAB_CHUNK_SLOTS];

        if (chunk == NULL || chunk->used == 0) {
            *cursor = (*cursor / SLAB_CHUNK_SLOTS + 1) * SLAB_CHUNK_SLOTS;
            continue;
        }
        (*cursor)++;
        if (chunk_has(chunk, (*cursor - 1) % SLAB_CHUNK_SLOTS)) {
            return *cursor - 1;
        }
    }
    return SLAB_NONE;
}

size_t slab_bytes(const struct slab *s)
{
    return s->chunk_cap * sizeof(struct slab_chunk *) +
           s->chunk_live * (sizeof(struct slab_chunk) + SLAB_CHUNK_SLOTS * s->item_bytes);
}

void slab_check(const struct slab *s)
{
    size_t used = 0;
    size_t live = 0;
    size_t partial = 0;

    for (uint32_t n = s->partial; n != SLAB_NONE; n = s->chunks[n]->next) {
        CHECK(s->chunks[n]->free_head != SLAB_NONE);
        partial++;
    }
    for (size_t i = 0; i < s->chunk_count; i++) {
        struct slab_chunk *chunk = s->chunks[i];
        uint32_t in_use = 0;

        if (chunk == NULL) {
            continue;
        }
        for (uint32_t j = 0; j < SLAB_CHUNK_SLOTS; j++) {
            in_use += chunk_has(chunk, j);
        }
        CHECK(in_use == chunk->used);
        CHECK((chunk->free_head == SLAB_NONE) == (chunk->used == SLAB_CHUNK_SLOTS));
        CHECK_IMPLIES(chunk->used == 0, s->spare == i);
        partial -= chunk->free_head != SLAB_NONE;
        used += chunk->used;
        live++;
    }
    CHECK(used == s->used);
    CHECK(live == s->chunk_live);
    CHECK(partial == 0);
}
