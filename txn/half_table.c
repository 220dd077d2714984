/*
 * Slots lie in chunks of 512. A chunk with a free slot is in the list of partial chunks; a chunk
 * that becomes empty is given back, except for one spare, so that a half that comes and goes does
 * not allocate each time.
 */
#include "txn/half_table.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

struct half_chunk {
    uint32_t used;      /* slots with a half in them */
    uint32_t free_head; /* first free slot, chained through timer.next; HALF_NONE */
    uint32_t prev;      /* partial list, by chunk number */
    uint32_t next;
    struct half halves[HALF_CHUNK_SLOTS];
};

static struct half *table_slot(const struct half_table *t, uint32_t slot)
{
    return &t->chunks[slot / HALF_CHUNK_SLOTS]->halves[slot % HALF_CHUNK_SLOTS];
}

static uint64_t by_id_hash(void *owner, uint32_t slot)
{
    return table_slot(owner, slot)->id_lo;
}

static uint32_t *by_id_link(void *owner, uint32_t slot)
{
    return &table_slot(owner, slot)->id_next;
}

static uint64_t by_offset_hash(void *owner, uint32_t slot)
{
    return hash_u64(table_slot(owner, slot)->offset);
}

static uint32_t *by_offset_link(void *owner, uint32_t slot)
{
    return &table_slot(owner, slot)->offset_next;
}

static const struct hash_index_ops by_id_ops = {by_id_hash, by_id_link};
static const struct hash_index_ops by_offset_ops = {by_offset_hash, by_offset_link};

void half_table_init(struct half_table *t, struct hash_key name_key, size_t count_max)
{
    CHECK(count_max < WHEEL_ID_MAX - HALF_CHUNK_SLOTS);
    *t = (struct half_table){
        .partial = HALF_NONE,
        .spare = HALF_NONE,
        .oldest = HALF_NONE,
        .newest = HALF_NONE,
        .count_max = count_max,
    };
    hash_index_init(&t->by_id, &by_id_ops, t);
    hash_index_init(&t->by_offset, &by_offset_ops, t);
    routes_init(&t->routes, name_key);
}

void half_table_fini(struct half_table *t)
{
    for (size_t i = 0; i < t->chunk_count; i++) {
        mem_free(t->chunks[i]);
    }
    mem_free(t->chunks);
    hash_index_fini(&t->by_id);
    hash_index_fini(&t->by_offset);
    routes_fini(&t->routes);
    t->chunks = NULL;
    t->chunk_count = 0;
}

static void partial_push(struct half_table *t, uint32_t number)
{
    struct half_chunk *chunk = t->chunks[number];

    chunk->prev = HALF_NONE;
    chunk->next = t->partial;
    if (t->partial != HALF_NONE) {
        t->chunks[t->partial]->prev = number;
    }
    t->partial = number;
}

static void partial_remove(struct half_table *t, uint32_t number)
{
    struct half_chunk *chunk = t->chunks[number];

    if (chunk->prev == HALF_NONE) {
        CHECK(t->partial == number);
        t->partial = chunk->next;
    } else {
        t->chunks[chunk->prev]->next = chunk->next;
    }
    if (chunk->next != HALF_NONE) {
        t->chunks[chunk->next]->prev = chunk->prev;
    }
}

/* Number for a new chunk: the first that was given back, else one more. */
static int chunk_number(struct half_table *t, uint32_t *number)
{
    size_t n = t->chunk_live == t->chunk_count ? t->chunk_count : 0;

    while (n < t->chunk_count && t->chunks[n] != NULL) {
        n++;
    }
    if (n == t->chunk_count && t->chunk_count == t->chunk_cap) {
        size_t cap = t->chunk_cap == 0 ? 8 : t->chunk_cap * 2;
        struct half_chunk **grown = mem_realloc(t->chunks, cap * sizeof *grown);
        if (grown == NULL) {
            return ESCROW_ENOMEM;
        }
        t->chunks = grown;
        t->chunk_cap = cap;
    }
    *number = (uint32_t)n;
    return 0;
}

static int chunk_add(struct half_table *t)
{
    struct half_chunk *chunk;
    uint32_t number;
    int rc = chunk_number(t, &number);

    if (rc != 0) {
        return rc;
    }
    chunk = mem_alloc(sizeof *chunk);
    if (chunk == NULL) {
        return ESCROW_ENOMEM;
    }
    chunk->used = 0;
    chunk->free_head = number * HALF_CHUNK_SLOTS;
    for (uint32_t i = 0; i < HALF_CHUNK_SLOTS; i++) {
        uint32_t next = i + 1 == HALF_CHUNK_SLOTS ? HALF_NONE : chunk->free_head + i + 1;
        chunk->halves[i].flags = 0;
        chunk->halves[i].timer.next = next;
    }
    t->chunks[number] = chunk;
    t->chunk_live++;
    if (number == t->chunk_count) {
        t->chunk_count++;
    }
    CHECK(t->spare == HALF_NONE);
    t->spare = number;
    partial_push(t, number);
    return 0;
}

int half_table_reserve(struct half_table *t)
{
    int rc;

    if (t->count >= t->count_max) {
        return ESCROW_ELIMIT;
    }
    rc = hash_index_reserve(&t->by_id);
    if (rc == 0) {
        rc = hash_index_reserve(&t->by_offset);
    }
    if (rc == 0 && t->partial == HALF_NONE) {
        rc = chunk_add(t);
    }
    return rc;
}

static uint32_t slot_take(struct half_table *t)
{
    uint32_t number = t->partial;
    struct half_chunk *chunk;
    uint32_t slot;

    CHECK(number != HALF_NONE);
    chunk = t->chunks[number];
    slot = chunk->free_head;
    chunk->free_head = table_slot(t, slot)->timer.next;
    chunk->used++;
    if (chunk->free_head == HALF_NONE) {
        partial_remove(t, number);
    }
    if (t->spare == number) {
        t->spare = HALF_NONE;
    }
    return slot;
}

static void slot_put(struct half_table *t, uint32_t slot)
{
    uint32_t number = slot / HALF_CHUNK_SLOTS;
    struct half_chunk *chunk = t->chunks[number];
    struct half *half = table_slot(t, slot);

    half->flags = 0;
    half->timer.next = chunk->free_head;
    if (chunk->free_head == HALF_NONE) {
        partial_push(t, number);
    }
    chunk->free_head = slot;
    CHECK(chunk->used > 0);
    chunk->used--;
    if (chunk->used > 0) {
        return;
    }
    if (t->spare == HALF_NONE) {
        t->spare = number;
        return;
    }
    partial_remove(t, number);
    mem_free(chunk);
    t->chunks[number] = NULL;
    t->chunk_live--;
}

struct half *half_table_insert(struct half_table *t, struct hash128 id, uint64_t offset,
                               uint32_t route)
{
    uint32_t slot = slot_take(t);
    struct half *half = table_slot(t, slot);

    CHECK(route < ROUTES_MAX);
    CHECK(t->newest == HALF_NONE || table_slot(t, t->newest)->offset < offset);
    *half = (struct half){
        .id_lo = id.lo,
        .id_hi = (uint32_t)id.hi,
        .offset = offset,
        .timer = {.prev = WHEEL_NONE, .next = WHEEL_NONE},
        .order_prev = t->newest,
        .order_next = HALF_NONE,
        .route = (uint16_t)route,
        .state = HALF_APPENDING,
        .flags = HALF_F_USED,
    };
    if (t->newest == HALF_NONE) {
        t->oldest = slot;
    } else {
        table_slot(t, t->newest)->order_next = slot;
    }
    t->newest = slot;
    routes_ref(&t->routes, route);
    hash_index_insert(&t->by_id, slot);
    hash_index_insert(&t->by_offset, slot);
    t->count++;
    t->by_state[HALF_APPENDING]++;
    return half;
}

void half_table_move(struct half_table *t, struct half *half, enum half_state to, const char *event)
{
    CHECK(t->by_state[half->state] > 0);
    t->by_state[half->state]--;
    half_move(half, to, event);
    t->by_state[to]++;
}

void half_table_remove(struct half_table *t, struct half *half)
{
    uint32_t slot = half_table_slot(t, half);
    uint32_t route = half->route;

    CHECK((half->flags & (HALF_F_IN_WHEEL | HALF_F_IN_READY)) == 0);
    if (half->order_prev == HALF_NONE) {
        t->oldest = half->order_next;
    } else {
        table_slot(t, half->order_prev)->order_next = half->order_next;
    }
    if (half->order_next == HALF_NONE) {
        t->newest = half->order_prev;
    } else {
        table_slot(t, half->order_next)->order_prev = half->order_prev;
    }
    hash_index_remove(&t->by_id, slot);
    hash_index_remove(&t->by_offset, slot);
    CHECK(t->by_state[half->state] > 0);
    t->by_state[half->state]--;
    CHECK(t->count > 0);
    t->count--;
    slot_put(t, slot);
    routes_unref(&t->routes, route);
}

struct half *half_table_find_id(const struct half_table *t, struct hash128 id)
{
    uint32_t slot = hash_index_head(&t->by_id, id.lo);

    while (slot != HALF_NONE) {
        struct half *half = table_slot(t, slot);
        if (half_has_id(half, id)) {
            return half;
        }
        slot = half->id_next;
    }
    return NULL;
}

struct half *half_table_find_offset(const struct half_table *t, uint64_t offset)
{
    uint32_t slot = hash_index_head(&t->by_offset, hash_u64(offset));

    while (slot != HALF_NONE) {
        struct half *half = table_slot(t, slot);
        if (half->offset == offset) {
            return half;
        }
        slot = half->offset_next;
    }
    return NULL;
}

struct half *half_table_oldest(const struct half_table *t)
{
    return t->oldest == HALF_NONE ? NULL : table_slot(t, t->oldest);
}

struct half *half_table_next(const struct half_table *t, const struct half *half)
{
    return half->order_next == HALF_NONE ? NULL : table_slot(t, half->order_next);
}

/* A half does not know its slot; its predecessor in log order does. */
uint32_t half_table_slot(const struct half_table *t, const struct half *half)
{
    uint32_t slot =
        half->order_prev == HALF_NONE ? t->oldest : table_slot(t, half->order_prev)->order_next;

    CHECK(table_slot(t, slot) == half);
    return slot;
}

struct half *half_table_at(const struct half_table *t, uint32_t slot)
{
    struct half *half;

    CHECK(slot / HALF_CHUNK_SLOTS < t->chunk_count);
    CHECK(t->chunks[slot / HALF_CHUNK_SLOTS] != NULL);
    half = table_slot(t, slot);
    CHECK((half->flags & HALF_F_USED) != 0);
    return half;
}

struct route *half_table_route(const struct half_table *t, const struct half *half)
{
    return routes_get(&t->routes, half->route);
}

size_t half_table_bytes(const struct half_table *t)
{
    return t->chunk_live * sizeof(struct half_chunk) + t->chunk_cap * sizeof(struct half_chunk *) +
           hash_index_bytes(&t->by_id) + hash_index_bytes(&t->by_offset) + t->routes.bytes;
}

static void check_chunks(const struct half_table *t)
{
    size_t live = 0;
    size_t used = 0;

    for (size_t n = 0; n < t->chunk_count; n++) {
        const struct half_chunk *chunk = t->chunks[n];
        uint32_t in_use = 0;

        if (chunk == NULL) {
            continue;
        }
        live++;
        for (uint32_t i = 0; i < HALF_CHUNK_SLOTS; i++) {
            in_use += (chunk->halves[i].flags & HALF_F_USED) != 0;
        }
        CHECK(in_use == chunk->used);
        CHECK((chunk->free_head == HALF_NONE) == (in_use == HALF_CHUNK_SLOTS));
        CHECK_IMPLIES(in_use == 0, t->spare == n);
        used += in_use;
    }
    CHECK(live == t->chunk_live);
    CHECK(used == t->count);
}

void half_table_check(const struct half_table *t)
{
    size_t by_state[HALF_STATE_COUNT] = {0};
    const struct half *prev = NULL;
    size_t count = 0;

    for (const struct half *h = half_table_oldest(t); h != NULL; h = half_table_next(t, h)) {
        CHECK_IMPLIES(prev != NULL, prev->offset < h->offset);
        half_check(h);
        CHECK(half_table_find_offset(t, h->offset) == h);
        CHECK(half_table_find_id(t, half_id(h)) == h);
        CHECK(half_table_slot(t, h) != HALF_NONE);
        CHECK(half_table_route(t, h)->refs > 0);
        by_state[h->state]++;
        prev = h;
        count++;
    }
    CHECK(count == t->count);
    CHECK(count <= t->count_max);
    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        CHECK(by_state[s] == t->by_state[s]);
    }
    hash_index_check(&t->by_id);
    hash_index_check(&t->by_offset);
    CHECK(t->by_id.count == count && t->by_offset.count == count);
    check_chunks(t);
}
