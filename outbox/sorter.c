#include "outbox/sorter.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <stdlib.h>

#define ENTRIES_MIN 256
#define KEEP_BYTES  ((size_t)4 << 20)
#define KEEP_COUNT  16384

/* Slices are kept as lengths: they stand one behind the other in the arena, which moves. */
struct sorter_entry {
    uint64_t order_id; /* transaction id until sorter_sort */
    uint64_t id;
    int64_t created_ms;
    size_t offset;
    uint32_t topic_len;
    uint32_t tag_len;
    uint32_t keys_len;
    uint32_t ordering_key_len;
    uint32_t properties_len;
    uint32_t body_len;
};

void sorter_init(struct sorter *s, size_t bytes_max)
{
    CHECK(bytes_max > 0);
    *s = (struct sorter){.bytes_max = bytes_max};
    buf_init(&s->arena, bytes_max);
}

void sorter_fini(struct sorter *s)
{
    buf_fini(&s->arena);
    mem_free(s->entries);
    s->entries = NULL;
    s->count = 0;
    s->cap = 0;
}

void sorter_clear(struct sorter *s)
{
    buf_clear(&s->arena);
    if (s->arena.cap > KEEP_BYTES) {
        buf_fini(&s->arena);
    }
    if (s->cap > KEEP_COUNT) {
        mem_free(s->entries);
        s->entries = NULL;
        s->cap = 0;
    }
    s->count = 0;
    s->next = 0;
}

static int grow(struct sorter *s)
{
    size_t cap = s->cap == 0 ? ENTRIES_MIN : s->cap * 2;
    struct sorter_entry *entries;

    if (s->count < s->cap) {
        return 0;
    }
    entries = mem_realloc(s->entries, cap * sizeof *entries);
    if (entries == NULL) {
        return ESCROW_ENOMEM;
    }
    s->entries = entries;
    s->cap = cap;
    return 0;
}

int sorter_put(struct sorter *s, const struct outbox_row *row)
{
    struct sorter_entry *e;
    int rc;

    if (row_size_bytes(row) > s->bytes_max - s->arena.len) {
        return ESCROW_ELIMIT;
    }
    rc = grow(s);
    if (rc != 0) {
        return rc;
    }
    if (buf_reserve(&s->arena, row_size_bytes(row)) == NULL) {
        buf_clear(&s->arena); /* useless without memory: the caller gives the whole difference up */
        s->count = 0;
        return ESCROW_ENOMEM;
    }
    e = &s->entries[s->count++];
    *e = (struct sorter_entry){
        .order_id = row->order_id,
        .id = row->id,
        .created_ms = row->created_ms,
        .offset = s->arena.len,
        .topic_len = (uint32_t)row->topic.len,
        .tag_len = (uint32_t)row->tag.len,
        .keys_len = (uint32_t)row->keys.len,
        .ordering_key_len = (uint32_t)row->ordering_key.len,
        .properties_len = (uint32_t)row->properties.len,
        .body_len = (uint32_t)row->body.len,
    };
    buf_append_slice(&s->arena, row->topic);
    buf_append_slice(&s->arena, row->tag);
    buf_append_slice(&s->arena, row->keys);
    buf_append_slice(&s->arena, row->ordering_key);
    buf_append_slice(&s->arena, row->properties);
    buf_append_slice(&s->arena, row->body);
    return 0;
}

static int compare(const void *a, const void *b)
{
    const struct sorter_entry *x = a;
    const struct sorter_entry *y = b;

    if (x->order_id != y->order_id) {
        return x->order_id < y->order_id ? -1 : 1;
    }
    return x->id < y->id ? -1 : x->id > y->id;
}

/* Rows come from an index, and transactions are mostly short: often there is nothing to do. */
static void sort(struct sorter *s)
{
    for (size_t i = 1; i < s->count; i++) {
        if (compare(&s->entries[i - 1], &s->entries[i]) > 0) {
            qsort(s->entries, s->count, sizeof *s->entries, compare);
            return;
        }
    }
}

void sorter_sort(struct sorter *s)
{
    size_t end;

    sort(s);
    for (size_t first = 0; first < s->count; first = end) {
        for (end = first + 1;
             end < s->count && s->entries[end].order_id == s->entries[first].order_id; end++) {
        }
        for (size_t i = first; i < end; i++) {
            s->entries[i].order_id = s->entries[end - 1].id; /* sorted by id inside the group */
        }
    }
    sort(s);
    s->next = 0;
}

static struct slice take(const uint8_t **p, uint32_t len)
{
    struct slice s = len == 0 ? SLICE_EMPTY : slice_of(*p, len);

    *p += len;
    return s;
}

bool sorter_next(struct sorter *s, struct outbox_row *row)
{
    const struct sorter_entry *e;
    const uint8_t *p;

    if (s->next == s->count) {
        return false;
    }
    e = &s->entries[s->next++];
    p = s->arena.ptr + e->offset;
    row->order_id = e->order_id;
    row->id = e->id;
    row->created_ms = e->created_ms;
    row->topic = take(&p, e->topic_len);
    row->tag = take(&p, e->tag_len);
    row->keys = take(&p, e->keys_len);
    row->ordering_key = take(&p, e->ordering_key_len);
    row->properties = take(&p, e->properties_len);
    row->body = take(&p, e->body_len);
    return true;
}
