/*
 * Happy path: queue_reserve makes room in the last chunk (or adds one twice as large), queue_put
 * fills the place in order, queue_flushed drops chunks from the front. A chunk that is full and
 * flushed goes; one that is half full stays while its queue is busy, and the flush job writes only
 * what was visible when it was taken.
 *
 * Failure modes: memory, in queue_reserve only.
 */
#include "core/store/queue.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

_Static_assert(QUEUE_FILE_SIZE == (uint64_t)QUEUE_ENTRY_SIZE * QUEUE_FILE_ENTRIES, "a whole file");
_Static_assert(sizeof(struct queue) <= 96, "an idle queue is cheap: core/store/README.md");

#define AT_SIZE  8
#define AT_CHECK 12
#define AT_TAG   16

static uint32_t entry_check(const uint8_t bytes[QUEUE_ENTRY_SIZE], uint64_t number)
{
    uint8_t raw[8 + AT_CHECK + 4];

    put_be64(raw, number);
    memcpy(raw + 8, bytes, AT_CHECK);
    memcpy(raw + 8 + AT_CHECK, bytes + AT_TAG, 4);
    return crc32c(0, raw, sizeof raw);
}

void queue_entry_encode(const struct queue_entry *entry, uint64_t number,
                        uint8_t dst[QUEUE_ENTRY_SIZE])
{
    CHECK((int32_t)entry->tag_hash == entry->tag_hash);
    put_be64(dst, entry->offset);
    put_be32(dst + AT_SIZE, entry->size_bytes);
    put_be32(dst + AT_TAG, (uint32_t)entry->tag_hash);
    put_be32(dst + AT_CHECK, entry_check(dst, number));
}

bool queue_entry_decode(const uint8_t src[QUEUE_ENTRY_SIZE], uint64_t number,
                        struct queue_entry *entry)
{
    entry->offset = get_be64(src);
    entry->size_bytes = get_be32(src + AT_SIZE);
    entry->tag_hash = (int32_t)get_be32(src + AT_TAG);
    return get_be32(src + AT_CHECK) == entry_check(src, number);
}

void queue_init(struct queue *q, struct queue_topic *topic, uint16_t id)
{
    *q = (struct queue){.topic = topic, .id = id};
}

static void chunk_free_head(struct queue *q)
{
    struct queue_chunk *chunk = q->chunk_head;

    q->chunk_head = chunk->next;
    if (chunk->next == NULL) {
        q->chunk_tail = NULL;
    } else {
        chunk->next->prev = NULL;
    }
    if (q->chunk_put == chunk) {
        q->chunk_put = NULL;
    }
    mem_free(chunk);
}

void queue_fini(struct queue *q)
{
    while (q->chunk_head != NULL) {
        chunk_free_head(q);
    }
}

void queue_begin_at(struct queue *q, uint64_t first)
{
    CHECK(first <= QUEUE_NUMBER_MAX);
    CHECK(q->append_next == 0);
    CHECK(q->chunk_head == NULL);
    q->min = first;
    q->flushed = first;
    q->visible = first;
    q->append_next = first;
    q->first_file = (uint32_t)(first / QUEUE_FILE_ENTRIES);
}

static uint64_t chunk_end(const struct queue_chunk *chunk)
{
    return chunk->first + chunk->cap;
}

/* Add a chunk for the entries from append_next on. */
static int chunk_add(struct queue *q)
{
    struct queue_chunk *tail = q->chunk_tail;
    uint32_t cap = QUEUE_CHUNK_ENTRIES_MIN;
    struct queue_chunk *chunk;

    if (tail != NULL) {
        cap = tail->cap < QUEUE_CHUNK_ENTRIES_MAX ? tail->cap * 2 : QUEUE_CHUNK_ENTRIES_MAX;
    }
    chunk = mem_alloc(sizeof *chunk + (size_t)cap * QUEUE_ENTRY_SIZE);
    if (chunk == NULL) {
        return ESCROW_ENOMEM;
    }
    chunk->prev = tail;
    chunk->next = NULL;
    chunk->first = q->append_next;
    chunk->cap = cap;
    if (tail == NULL) {
        q->chunk_head = chunk;
    } else {
        tail->next = chunk;
    }
    q->chunk_tail = chunk;
    if (q->chunk_put == NULL) {
        CHECK(q->visible == chunk->first);
        q->chunk_put = chunk;
    }
    return 0;
}

int queue_reserve(struct queue *q, uint64_t *number)
{
    if (q->append_next == QUEUE_NUMBER_MAX) {
        return ESCROW_ELIMIT;
    }
    if (q->chunk_tail == NULL || q->append_next == chunk_end(q->chunk_tail)) {
        int rc = chunk_add(q);
        if (rc != 0) {
            return rc;
        }
    }
    *number = q->append_next++;
    return 0;
}

void queue_unreserve(struct queue *q, uint64_t number)
{
    CHECK(q->append_next > q->visible);
    CHECK(number == q->append_next - 1);
    q->append_next--;
    /*
     * An empty last chunk would have the wrong first number for whatever comes after a flush: none
     * stays behind.
     */
    if (q->append_next == q->chunk_tail->first && q->chunk_tail->prev != NULL) {
        struct queue_chunk *tail = q->chunk_tail;
        q->chunk_tail = tail->prev;
        q->chunk_tail->next = NULL;
        if (q->chunk_put == tail) {
            q->chunk_put = NULL;
        }
        mem_free(tail);
    }
}

uint64_t queue_put(struct queue *q, const struct queue_entry *entry)
{
    struct queue_chunk *chunk = q->chunk_put;
    uint64_t number = q->visible;

    CHECK(number < q->append_next);
    CHECK(chunk != NULL);
    CHECK(number >= chunk->first);
    CHECK(number < chunk_end(chunk));
    queue_entry_encode(entry, number, chunk->bytes + (number - chunk->first) * QUEUE_ENTRY_SIZE);
    q->visible = number + 1;
    if (q->visible == chunk_end(chunk)) {
        q->chunk_put = chunk->next;
    }
    return number;
}

uint64_t queue_pending_count(const struct queue *q)
{
    return q->visible - q->flushed;
}

uint32_t queue_memory(const struct queue *q, uint64_t first, uint32_t count_max,
                      const uint8_t **bytes)
{
    const struct queue_chunk *chunk = q->chunk_tail; /* readers are mostly near the end */
    uint64_t end;

    *bytes = NULL;
    if (chunk == NULL || first < q->chunk_head->first || first >= q->visible) {
        return 0;
    }
    while (first < chunk->first) {
        chunk = chunk->prev;
    }
    end = chunk_end(chunk) < q->visible ? chunk_end(chunk) : q->visible;
    *bytes = chunk->bytes + (first - chunk->first) * QUEUE_ENTRY_SIZE;
    return end - first < count_max ? (uint32_t)(end - first) : count_max;
}

void queue_flushed(struct queue *q, uint64_t end)
{
    CHECK(end >= q->flushed);
    CHECK(end <= q->visible);
    q->flushed = end;
    while (q->chunk_head != NULL && chunk_end(q->chunk_head) <= end) {
        chunk_free_head(q);
    }
    if (end == q->append_next) {
        while (q->chunk_head != NULL) {
            chunk_free_head(q);
        }
    }
#ifdef ESCROW_DCHECK
    queue_check(q);
#endif
}

void queue_set_min(struct queue *q, uint64_t min)
{
    CHECK(min <= q->visible);
    if (min > q->min) {
        q->min = min;
    }
}

void queue_check(const struct queue *q)
{
    const struct queue_chunk *prev = NULL;
    const struct queue_chunk *put = NULL;

    CHECK(q->min <= q->visible);
    CHECK(q->flushed <= q->visible);
    CHECK(q->visible <= q->append_next);
    for (const struct queue_chunk *c = q->chunk_head; c != NULL; c = c->next) {
        CHECK(c->prev == prev);
        CHECK(c->cap > 0);
        CHECK_IMPLIES(prev != NULL, c->first == chunk_end(prev));
        if (c->first <= q->visible && q->visible < chunk_end(c)) {
            put = c;
        }
        prev = c;
    }
    CHECK(q->chunk_tail == prev);
    CHECK(q->chunk_put == put);
    if (q->flushed < q->append_next) {
        CHECK(q->chunk_head != NULL);
        CHECK(q->chunk_head->first <= q->flushed);
        CHECK(chunk_end(q->chunk_tail) >= q->append_next);
    }
    CHECK_IMPLIES(q->chunk_tail != NULL, q->chunk_tail->first <= q->append_next);
}

void queue_search_begin(struct queue_search *search, const struct queue *q, int64_t ms)
{
    *search = (struct queue_search){.low = q->min, .high = q->visible, .ms = ms};
}

bool queue_search_next(const struct queue_search *search, uint64_t *number)
{
    CHECK(search->low <= search->high);
    *number = search->low + (search->high - search->low) / 2 + search->step;
    return search->low < search->high;
}

void queue_search_feed(struct queue_search *search, uint64_t number, int64_t store_ms)
{
    CHECK(number >= search->low);
    CHECK(number < search->high);
    search->step = 0;
    if (store_ms >= search->ms) {
        search->high = number;
    } else {
        search->low = number + 1;
    }
}

void queue_search_gone(struct queue_search *search, uint64_t number)
{
    uint64_t middle = number - search->step;

    CHECK(number < search->high);
    search->step = search->step == 0 ? 1 : search->step * 2;
    if (search->step >= search->high - middle) {
        search->high = middle;
        search->step = 0;
    }
}
