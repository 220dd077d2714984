/*
 * Buffers, putting, looking up, gaps.
 *
 * Happy path of a put: a hash (of the key only, when the topic is the same as before) and 24 bytes
 * at the end of an array. No allocation but one per 128 Ki entries. The chains by hash are for
 * look-ups, which are rare, and their heads lie all over 256 KiB: the first look-up after a put
 * links what came since the one before. So each entry is linked once at most, and most never. After
 * a rush on a slow disk that may be millions: a look-up links KEY_INDEX_LINK_MAX of them and comes
 * again.
 *
 * Failure modes: no memory for a new buffer: entries are dropped until there is some, and the next
 * buffer begins behind what was lost, so that the hole shows as a gap now and after every restart
 * until it is filled.
 */
#include "core/store/key_index.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/store/key_index_private.h"

#include <stdio.h>

/* On disk for ever: the bytes "escrow key index" (FORMAT.md). */
static const struct hash_key fixed_key = {.k0 = UINT64_C(0x6b20776f72637365),
                                          .k1 = UINT64_C(0x7865646e69207965)};

/* ------------------------------------------------------------------ hash */

static uint64_t hash_with_topic(uint64_t topic_hash, struct slice key)
{
    struct hash_key k = {.k0 = fixed_key.k0 ^ topic_hash, .k1 = fixed_key.k1};

    return hash64(&k, key);
}

uint64_t key_index_hash(struct slice topic, struct slice key)
{
    return hash_with_topic(hash64(&fixed_key, topic), key);
}

static uint64_t hash_cached(struct key_index *ix, struct slice topic, struct slice key)
{
    if (topic.len == 0 || topic.len > sizeof ix->topic) {
        return key_index_hash(topic, key);
    }
    if (!slice_eq(topic, slice_of(ix->topic, ix->topic_len))) {
        memcpy(ix->topic, topic.ptr, topic.len);
        ix->topic_len = topic.len;
        ix->topic_hash = hash64(&fixed_key, topic);
    }
    return hash_with_topic(ix->topic_hash, key);
}

/* ------------------------------------------------------------------ buffers */

struct key_index_buffer *key_index_buffer_new(struct key_index *ix, uint64_t begin)
{
    struct key_index_buffer *b;

    if (ix->sealed_count >= KEY_INDEX_SEALED_MAX) {
        return NULL;
    }
    /* Room for this one, and for the other of active and fill, so that sealing cannot fail. */
    if (ix->sealed_count + 2 > ix->sealed_cap) {
        uint32_t cap = KEY_INDEX_SEALED_MAX + 2;
        struct key_index_buffer **grown =
            mem_realloc((void *)ix->sealed, cap * sizeof(struct key_index_buffer *));
        if (grown == NULL) {
            return NULL;
        }
        ix->sealed = grown;
        ix->sealed_cap = cap;
    }
    b = ix->spare;
    if (b != NULL) {
        ix->spare = NULL;
        b->begin = begin;
        return b;
    }
    b = mem_calloc(1, sizeof *b);
    if (b == NULL) {
        return NULL;
    }
    b->begin = begin;
    b->cap = ix->file_entries + KEY_INDEX_RECORD_KEYS;
    /* Not touched before they are used: an idle index costs address space, not memory. */
    b->entries = mem_alloc(b->cap * sizeof *b->entries);
    b->next = mem_alloc(b->cap * sizeof *b->next);
    b->heads = mem_calloc(KEY_INDEX_HEADS, sizeof *b->heads);
    if (b->entries == NULL || b->next == NULL || b->heads == NULL) {
        key_index_buffer_free(b);
        return NULL;
    }
    return b;
}

void key_index_buffer_free(struct key_index_buffer *b)
{
    if (b != NULL) {
        mem_free(b->entries);
        mem_free(b->next);
        mem_free(b->heads);
        mem_free(b);
    }
}

void key_index_buffer_recycle(struct key_index *ix, struct key_index_buffer *b)
{
    if (ix->spare != NULL) {
        key_index_buffer_free(b);
        return;
    }
    if (b->linked > 0) {
        memset(b->heads, 0, KEY_INDEX_HEADS * sizeof *b->heads);
    }
    *b = (struct key_index_buffer){
        .cap = b->cap, .entries = b->entries, .next = b->next, .heads = b->heads};
    ix->spare = b;
}

void key_index_shrink(struct key_index *ix)
{
    key_index_buffer_free(ix->spare);
    ix->spare = NULL;
}

void key_index_buffer_put(struct key_index_buffer *b, const struct key_index_entry *entry)
{
    CHECK(b->count < b->cap);
    if (b->count == 0 || entry->store_ms < b->min_ms) {
        b->min_ms = entry->store_ms;
    }
    if (b->count == 0 || entry->store_ms > b->max_ms) {
        b->max_ms = entry->store_ms;
    }
    b->entries[b->count++] = *entry;
}

uint32_t key_index_buffer_link(struct key_index_buffer *b, uint32_t max)
{
    uint32_t count = b->count - b->linked < max ? b->count - b->linked : max;

    for (uint32_t end = b->linked + count; b->linked < end;) {
        uint32_t *head = &b->heads[b->entries[b->linked].hash >> 48];

        b->next[b->linked] = *head;
        *head = ++b->linked;
    }
    return count;
}

static void buffer_seal(struct key_index *ix, struct key_index_buffer *b, uint64_t end)
{
    uint32_t i = ix->sealed_count;

    CHECK(end > b->begin);
    CHECK(i < ix->sealed_cap);
    b->end = end;
    while (i > 0 && ix->sealed[i - 1]->begin > b->begin) {
        ix->sealed[i] = ix->sealed[i - 1];
        i--;
    }
    ix->sealed[i] = b;
    ix->sealed_count++;
}

/* ------------------------------------------------------------------ put */

/*
 * The buffer a put goes to, sealed and replaced when it is full and a new record begins; NULL
 * without memory.
 */
static struct key_index_buffer *buffer_for(struct key_index *ix, struct key_index_buffer **current,
                                           uint64_t *next_begin, uint64_t at)
{
    struct key_index_buffer *b = *current;

    if (b != NULL && b->count >= ix->file_entries && at > b->last_at && at > b->begin) {
        buffer_seal(ix, b, at);
        *next_begin = at;
        *current = NULL;
        b = NULL;
    }
    /* A gap bigger than half of what may wait is filled in part: live puts need room as well. */
    if (b == NULL && (!ix->is_filling || ix->sealed_count < KEY_INDEX_SEALED_MAX / 2)) {
        b = key_index_buffer_new(ix, *next_begin);
        *current = b;
    }
    return b;
}

static void put_live(struct key_index *ix, uint64_t at, const struct key_index_entry *entry)
{
    struct key_index_buffer *b = NULL;

    CHECK(at >= ix->at);
    ix->at = at;
    if (!ix->is_lost) {
        b = buffer_for(ix, &ix->active, &ix->next_begin, at);
    } else if (at > ix->lost_at) {
        uint64_t begin = at; /* what is between was lost: a gap */
        b = buffer_for(ix, &ix->active, &begin, at);
        ix->next_begin = b == NULL ? ix->next_begin : at;
    }
    if (b == NULL || b->count == b->cap) {
        ix->lost_count++;
        ix->lost_at = at;
        ix->is_lost = b == NULL;
        return;
    }
    ix->is_lost = false;
    b->last_at = at;
    key_index_buffer_put(b, entry);
}

static void put_fill(struct key_index *ix, uint64_t at, const struct key_index_entry *entry)
{
    struct key_index_buffer *b = NULL;

    CHECK(at >= ix->fill_begin);
    CHECK(at < ix->fill_end);
    if (!ix->is_fill_lost) {
        b = buffer_for(ix, &ix->fill, &ix->fill_begin, at);
    }
    if (b == NULL || b->count == b->cap) {
        ix->lost_count++;
        ix->is_fill_lost = ix->is_fill_lost || b == NULL;
        return;
    }
    b->last_at = at;
    key_index_buffer_put(b, entry);
}

void key_index_put(struct key_index *ix, uint64_t at, uint64_t offset, int64_t store_ms,
                   struct slice topic, struct slice key)
{
    struct key_index_entry entry = {.offset = offset, .store_ms = store_ms};

    if (!ix->is_filling && at < ix->floor) {
        return;
    }
    entry.hash = hash_cached(ix, topic, key);
    if (ix->is_filling) {
        put_fill(ix, at, &entry);
    } else {
        put_live(ix, at, &entry);
    }
}

uint64_t key_index_end(const struct key_index *ix)
{
    return ix->at > ix->floor ? ix->at : ix->floor;
}

uint64_t key_index_lost_count(const struct key_index *ix)
{
    return ix->lost_count;
}

/* ------------------------------------------------------------------ files of the set */

int key_index_files_reserve(struct key_index *ix, uint32_t more)
{
    uint32_t need = ix->file_count + more;
    uint32_t cap = ix->file_cap == 0 ? 64 : ix->file_cap;
    struct key_index_file **grown;

    if (need <= ix->file_cap) {
        return 0;
    }
    while (cap < need) {
        cap *= 2;
    }
    grown = mem_realloc((void *)ix->files, cap * sizeof(struct key_index_file *));
    if (grown == NULL) {
        return ESCROW_ENOMEM;
    }
    ix->files = grown;
    ix->file_cap = cap;
    return 0;
}

void key_index_files_insert(struct key_index *ix, struct key_index_file *file)
{
    uint32_t i = ix->file_count;

    CHECK(i < ix->file_cap);
    CHECK(file->disk_file != NULL);
    while (i > 0 && ix->files[i - 1]->meta.begin > file->meta.begin) {
        ix->files[i] = ix->files[i - 1];
        i--;
    }
    ix->files[i] = file;
    ix->file_count++;
}

void key_index_file_discard(struct key_index *ix, struct key_index_file *file)
{
    CHECK(file->pins == 0);
    disk_close(&file->disk_file);
    file->garbage_next = ix->garbage;
    ix->garbage = file;
}

void key_index_file_retire(struct key_index *ix, struct key_index_file *file)
{
    uint32_t i = 0;

    CHECK(!file->is_merging);
    CHECK(!file->is_retired);
    while (ix->files[i] != file) {
        i++;
        CHECK(i < ix->file_count);
    }
    for (; i + 1 < ix->file_count; i++) {
        ix->files[i] = ix->files[i + 1];
    }
    ix->file_count--;
    file->is_retired = true;
    if (file->pins == 0) {
        key_index_file_discard(ix, file);
    }
}

void key_index_file_lose(struct key_index *ix, struct key_index_file *file, const char *text)
{
    char path[sizeof file->path + sizeof ": a page is damaged"];

    (void)snprintf(path, sizeof path, "%s: a page is damaged", file->path); /* fits */
    key_index_file_retire(ix, file);
    if (ix->lost != NULL) {
        ix->lost(ix->lost_arg, text[0] != '\0' ? text : path);
    }
}

void key_index_file_unpin(struct key_index *ix, struct key_index_file *file)
{
    CHECK(file->pins > 0);
    file->pins--;
    if (file->pins == 0 && file->is_retired) {
        key_index_file_discard(ix, file);
    }
}

void key_index_trim(struct key_index *ix, uint64_t log_min)
{
    uint32_t i = 0;

    if (log_min > ix->log_min) {
        ix->log_min = log_min;
    }
    while (i < ix->file_count && ix->files[i]->meta.end <= ix->log_min) {
        if (ix->files[i]->is_merging) {
            i++; /* the result of the merge goes at a later trim */
        } else {
            key_index_file_retire(ix, ix->files[i]);
        }
    }
}

/* ------------------------------------------------------------------ gaps */

/* Of the ranges that reach above `pos`, the one that begins first. */
static bool cover_next(const struct key_index *ix, uint64_t pos, uint64_t *begin, uint64_t *end)
{
    bool found = false;

    *begin = UINT64_MAX;
    *end = UINT64_MAX;
    for (uint32_t i = 0; i < ix->file_count; i++) {
        const struct key_index_meta *m = &ix->files[i]->meta;
        if (m->end > pos && (!found || m->begin < *begin)) {
            *begin = m->begin;
            *end = m->end;
            found = true;
        }
    }
    for (uint32_t i = 0; i < ix->sealed_count; i++) {
        const struct key_index_buffer *b = ix->sealed[i];
        if (b->end > pos && (!found || b->begin < *begin)) {
            *begin = b->begin;
            *end = b->end;
            found = true;
        }
    }
    if (!found && !ix->is_lost) {
        *begin = ix->active != NULL ? ix->active->begin : ix->next_begin;
        found = true; /* what will be put is not missing */
    }
    return found;
}

bool key_index_gap(const struct key_index *ix, uint64_t from, uint64_t *begin, uint64_t *end)
{
    uint64_t pos = from > ix->log_min ? from : ix->log_min;
    uint64_t cover_begin;
    uint64_t cover_end;

    while (cover_next(ix, pos, &cover_begin, &cover_end)) {
        if (cover_begin > pos) {
            *begin = pos;
            *end = cover_begin;
            return true;
        }
        if (cover_end == UINT64_MAX) {
            return false;
        }
        pos = cover_end;
    }
    *begin = pos;
    *end = ix->lost_at + 1;
    return *end > pos;
}

void key_index_fill_start(struct key_index *ix, uint64_t begin, uint64_t end)
{
    CHECK(!ix->is_filling);
    CHECK(begin < end);
    ix->is_filling = true;
    ix->is_fill_lost = false;
    ix->fill_begin = begin;
    ix->fill_end = end;
}

void key_index_fill_finish(struct key_index *ix)
{
    CHECK(ix->is_filling);
    if (ix->fill == NULL && !ix->is_fill_lost && ix->fill_begin < ix->fill_end) {
        ix->fill = key_index_buffer_new(ix, ix->fill_begin); /* no keys there: known from now on */
    }
    if (ix->fill != NULL) {
        buffer_seal(ix, ix->fill, ix->fill_end);
        ix->fill = NULL;
    }
    ix->is_filling = false;
}

void key_index_check(const struct key_index *ix)
{
    uint64_t end = 0;
    uint32_t f = 0;
    uint32_t s = 0;

    while (f < ix->file_count || s < ix->sealed_count) {
        bool is_file = s == ix->sealed_count ||
                       (f < ix->file_count && ix->files[f]->meta.begin < ix->sealed[s]->begin);
        uint64_t begin = is_file ? ix->files[f]->meta.begin : ix->sealed[s]->begin;
        CHECK(begin >= end);
        end = is_file ? ix->files[f]->meta.end : ix->sealed[s]->end;
        CHECK(end > begin);
        if (is_file) {
            CHECK(ix->files[f]->disk_file != NULL);
            CHECK(!ix->files[f]->is_retired);
            CHECK_IMPLIES(ix->files[f]->is_merging, ix->merge != NULL);
            f++;
        } else {
            CHECK_IMPLIES(ix->sealed[s]->is_taken, ix->flush != NULL);
            s++;
        }
    }
    if (ix->active != NULL) {
        CHECK(ix->active->begin >= end);
        CHECK(ix->active->begin == ix->next_begin);
        CHECK(ix->active->count > 0);
        CHECK(ix->active->count <= ix->active->cap);
    }
    CHECK(ix->sealed_count <= KEY_INDEX_SEALED_MAX + 2);
}
