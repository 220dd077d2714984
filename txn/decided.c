/*
 * A ring of slots in chunks: entries come in at first + count and leave at first. The ring grows by
 * a chunk only when it is full and unbroken (first == 0), so that slots never have to move; when it
 * may not grow, the oldest entry is overwritten.
 *
 * fact: bits 0-1 kind, 2-3 by (producer, check, operator as 0..2), 4-19 group tag, 20-62 time in ms
 * (43 bits: until 2248), 63 whether the entry was late: 0 where it is saved.
 *
 * Offsets: an entry is late when one much further on in the log was put before it. Late ones are in
 * an index; all others are, but for DECIDED_LATE_BYTES, in the order of the log, so that the ranges
 * of the chunks overlap by no more than that.
 */
#include "txn/decided.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#define DECIDED_AT_MAX     ((INT64_C(1) << 43) - 1)
#define DECIDED_F_LATE     (UINT64_C(1) << 63)
#define DECIDED_SAVE_BYTES 24u

_Static_assert(sizeof(struct decided_entry) == 24, "decided entries are counted on to be small");

static struct decided_entry *decided_slot(const struct decided *d, uint32_t slot)
{
    return &d->chunks[slot / DECIDED_CHUNK]->entries[slot % DECIDED_CHUNK];
}

/* Slots of the ring that hold no entry keep what they held. */
static bool is_in_use(const struct decided *d, uint32_t slot)
{
    return (slot >= d->first ? slot - d->first : slot + d->ring - d->first) < d->count;
}

static uint64_t decided_id_hash(void *owner, uint32_t slot)
{
    return decided_slot(owner, slot)->id;
}

static uint64_t decided_offset_hash(void *owner, uint32_t slot)
{
    return hash_u64(decided_slot(owner, slot)->offset);
}

static uint64_t fact_pack(const struct decided_fact *fact, uint16_t group_tag)
{
    int64_t at = fact->at_ms < 0 ? 0 : fact->at_ms;

    CHECK(fact->kind == DECISION_COMMIT || fact->kind == DECISION_ROLLBACK);
    CHECK(fact->by >= DECISION_BY_PRODUCER && fact->by <= DECISION_BY_OPERATOR);
    return (uint64_t)(at > DECIDED_AT_MAX ? DECIDED_AT_MAX : at) << 20 | (uint64_t)group_tag << 4 |
           ((uint64_t)fact->by - 1) << 2 | (uint64_t)fact->kind;
}

static struct decided_fact fact_unpack(const struct decided_entry *entry)
{
    return (struct decided_fact){
        .offset = entry->offset,
        .kind = (enum decision_kind)(entry->fact & 3),
        .by = (enum decision_by)((entry->fact >> 2 & 3) + 1),
        .at_ms = (int64_t)(entry->fact >> 20) & DECIDED_AT_MAX,
    };
}

static bool fact_is_valid(uint64_t fact)
{
    return ((fact & 3) == DECISION_COMMIT || (fact & 3) == DECISION_ROLLBACK) &&
           (fact >> 2 & 3) <= 2 && (fact & DECIDED_F_LATE) == 0;
}

static const struct decided_range range_none = {.min = UINT64_MAX, .max = 0};

static void range_widen(struct decided_range *range, uint64_t offset)
{
    range->min = offset < range->min ? offset : range->min;
    range->max = offset > range->max ? offset : range->max;
}

/* Slots of a chunk that are part of the ring. */
static uint32_t chunk_slots(const struct decided *d, uint32_t chunk)
{
    uint32_t left = d->ring - chunk * DECIDED_CHUNK;

    return left < DECIDED_CHUNK ? left : DECIDED_CHUNK;
}

static bool is_late(const struct decided_entry *entry)
{
    return (entry->fact & DECIDED_F_LATE) != 0;
}

/*
 * A slot was filled, and is to be found by its offset. One that is late is in the index, or, when
 * there is no memory for that, makes its chunk's range too wide.
 */
static void offset_note(struct decided *d, uint32_t slot)
{
    struct decided_entry *entry = decided_slot(d, slot);
    uint32_t chunk = slot / DECIDED_CHUNK;
    uint32_t count = chunk_slots(d, chunk);

    if (d->furthest > DECIDED_LATE_BYTES && entry->offset < d->furthest - DECIDED_LATE_BYTES &&
        fragment_index_reserve(&d->late) == 0 &&
        fragment_index_insert(&d->late, hash_u64(entry->offset), slot) == 0) {
        entry->fact |= DECIDED_F_LATE;
    } else {
        range_widen(&d->ranges[chunk], entry->offset);
        d->furthest = entry->offset > d->furthest ? entry->offset : d->furthest;
    }
    if (slot % DECIDED_CHUNK == count - 1) {
        /* All entries are of this turn of the ring now: what the last one widened is gone. */
        d->ranges[chunk] = range_none;
        for (uint32_t i = 0; i < count; i++) {
            if (!is_late(&d->chunks[chunk]->entries[i])) {
                range_widen(&d->ranges[chunk], d->chunks[chunk]->entries[i].offset);
            }
        }
    }
}

static int decided_add_chunk(struct decided *d)
{
    struct decided_chunk *chunk;

    if (d->chunk_count == d->chunk_cap) {
        size_t cap = d->chunk_cap == 0 ? 4 : d->chunk_cap * 2;
        struct decided_chunk **chunks =
            mem_realloc((void *)d->chunks, cap * sizeof(struct decided_chunk *));
        struct decided_range *ranges;
        if (chunks == NULL) {
            return ESCROW_ENOMEM;
        }
        d->chunks = chunks;
        ranges = mem_realloc(d->ranges, cap * sizeof *ranges);
        if (ranges == NULL) {
            return ESCROW_ENOMEM; /* the other has room for more than it needs: harmless */
        }
        d->ranges = ranges;
        d->chunk_cap = cap;
    }
    chunk = mem_calloc(1, sizeof *chunk);
    if (chunk == NULL) {
        return ESCROW_ENOMEM;
    }
    d->ranges[d->chunk_count] = range_none;
    d->chunks[d->chunk_count++] = chunk;
    d->ring = (uint32_t)d->chunk_count * DECIDED_CHUNK;
    if (d->ring > d->count_max) {
        d->ring = d->count_max;
    }
    return 0;
}

int decided_init(struct decided *d, size_t count_max)
{
    int rc;

    CHECK(count_max >= 1 && count_max <= UINT32_MAX / 2);
    *d = (struct decided){.count_max = (uint32_t)count_max, .may_grow = true};
    fragment_index_init(&d->by_id, decided_id_hash, d);
    fragment_index_init(&d->late, decided_offset_hash, d);
    rc = decided_add_chunk(d);
    if (rc == 0) {
        rc = fragment_index_reserve(&d->by_id);
    }
    if (rc != 0) {
        decided_fini(d);
    }
    return rc;
}

void decided_fini(struct decided *d)
{
    for (size_t i = 0; i < d->chunk_count; i++) {
        mem_free(d->chunks[i]);
    }
    mem_free((void *)d->chunks);
    mem_free(d->ranges);
    fragment_index_fini(&d->by_id);
    fragment_index_fini(&d->late);
    *d = (struct decided){0};
}

/*
 * The oldest entries that are not in the section yet. Slots do not move; the ring grows only when
 * it begins at slot 0, so that what is left never goes around its old end.
 */
static void save_oldest(struct decided *d, uint32_t count)
{
    uint32_t slot = d->save_next;
    uint8_t *p = d->save_to;

    CHECK(count <= d->save_left);
    d->save_left -= count;
    for (; count > 0; count--, p += DECIDED_SAVE_BYTES) {
        const struct decided_entry *entry = decided_slot(d, slot);

        put_le64(p, entry->id);
        put_le64(p + 8, entry->offset);
        put_le64(p + 16, entry->fact & ~DECIDED_F_LATE);
        slot = slot + 1 == d->ring ? 0 : slot + 1;
    }
    d->save_next = slot;
    d->save_to = p;
}

static void decided_forget_oldest(struct decided *d)
{
    const struct decided_entry *oldest = decided_slot(d, d->first);

    CHECK(d->count > 0);
    if (d->save_left > 0 && d->save_next == d->first) {
        save_oldest(d, 1);
    }
    fragment_index_remove(&d->by_id, oldest->id, d->first);
    if (is_late(oldest)) {
        fragment_index_remove(&d->late, hash_u64(oldest->offset), d->first);
    }
    d->first = d->first + 1 == d->ring ? 0 : d->first + 1;
    d->count--;
    if (d->first == 0) {
        d->may_grow = true;
    }
}

void decided_put(struct decided *d, struct hash128 id, uint16_t group_tag,
                 const struct decided_fact *fact)
{
    struct decided_entry *entry;
    uint32_t slot;

    if (d->count == d->ring) {
        bool is_grown = false;
        if (d->first == 0 && d->may_grow && d->ring < d->count_max) {
            is_grown = decided_add_chunk(d) == 0;
            d->may_grow = is_grown;
        }
        if (!is_grown) {
            decided_forget_oldest(d);
        }
    }
    slot = (uint32_t)(((uint64_t)d->first + d->count) % d->ring);
    entry = decided_slot(d, slot);
    *entry = (struct decided_entry){
        .id = id.lo, .offset = fact->offset, .fact = fact_pack(fact, group_tag)};
    if (fragment_index_insert(&d->by_id, id.lo, slot) != 0) {
        return; /* no memory, and many ids in one bucket: this one is not remembered */
    }
    d->count++;
    offset_note(d, slot);
}

bool decided_find_id(const struct decided *d, struct hash128 id, struct decided_fact *fact)
{
    bool is_found = false;

    struct fragment_cursor at = fragment_index_find(&d->by_id, id.lo);
    uint32_t slot;

    while ((slot = fragment_index_next(&d->by_id, id.lo, &at)) != FRAGMENT_NONE) {
        const struct decided_entry *entry = decided_slot(d, slot);
        if (entry->id == id.lo && (!is_found || entry->offset > fact->offset)) {
            *fact = fact_unpack(entry);
            is_found = true;
        }
    }
    return is_found;
}

bool decided_any(const struct decided *d, decided_match_fn *match, void *arg)
{
    for (uint32_t i = 0; i < d->count; i++) {
        if (match(arg, decided_slot(d, (uint32_t)(((uint64_t)d->first + i) % d->ring))->offset)) {
            return true;
        }
    }
    return false;
}

void decided_prefetch(const struct decided *d, struct hash128 id)
{
    fragment_index_prefetch(&d->by_id, id.lo);
}

/* The entry with this offset among the chunk's; NULL when none of those in use has it. */
static const struct decided_entry *chunk_find(const struct decided *d, uint32_t chunk,
                                              uint64_t offset)
{
    const struct decided_entry *entries = d->chunks[chunk]->entries;
    uint32_t count = chunk_slots(d, chunk);

    for (uint32_t i = 0; i < count; i++) {
        if (entries[i].offset == offset && is_in_use(d, chunk * DECIDED_CHUNK + i)) {
            return &entries[i];
        }
    }
    return NULL;
}

/* The late entry with this offset; NULL when there is none. */
static const struct decided_entry *late_find(const struct decided *d, uint64_t offset)
{
    uint64_t hash = hash_u64(offset);
    struct fragment_cursor at;
    uint32_t slot;

    if (d->late.count == 0) {
        return NULL;
    }
    at = fragment_index_find(&d->late, hash);
    while ((slot = fragment_index_next(&d->late, hash, &at)) != FRAGMENT_NONE) {
        if (decided_slot(d, slot)->offset == offset) {
            return decided_slot(d, slot);
        }
    }
    return NULL;
}

bool decided_find_offset(const struct decided *d, uint64_t offset, struct decided_fact *fact,
                         uint64_t *id_lo, uint16_t *group_tag)
{
    const struct decided_entry *entry = late_find(d, offset);

    for (uint32_t chunk = 0; entry == NULL && chunk * DECIDED_CHUNK < d->ring; chunk++) {
        if (offset >= d->ranges[chunk].min && offset <= d->ranges[chunk].max) {
            entry = chunk_find(d, chunk, offset);
        }
    }
    if (entry == NULL) {
        return false;
    }
    *fact = fact_unpack(entry);
    if (id_lo != NULL) {
        *id_lo = entry->id;
    }
    if (group_tag != NULL) {
        *group_tag = (uint16_t)(entry->fact >> 4);
    }
    return true;
}

size_t decided_bytes(const struct decided *d)
{
    return d->chunk_cap * (sizeof *d->chunks + sizeof *d->ranges) +
           d->chunk_count * sizeof(struct decided_chunk) + fragment_index_bytes(&d->by_id) +
           fragment_index_bytes(&d->late);
}

void decided_save(const struct decided *d, struct buf *out)
{
    size_t room = (size_t)d->count * DECIDED_SAVE_BYTES;

    buf_append_le32(out, d->count);
    if (room > 0 && buf_reserve(out, room) != NULL) {
        buf_commit(out, room);
    }
}

void decided_save_start(struct decided *d, uint8_t *bytes)
{
    CHECK(d->save_left == 0);
    CHECK(get_le32(bytes) == d->count);
    d->save_to = bytes + 4;
    d->save_next = d->first;
    d->save_left = d->count;
}

bool decided_save_more(struct decided *d, uint32_t max)
{
    save_oldest(d, d->save_left < max ? d->save_left : max);
    return d->save_left > 0;
}

void decided_save_stop(struct decided *d)
{
    d->save_left = 0;
    d->save_to = NULL;
}

int decided_load(struct decided *d, struct slice *in)
{
    const uint8_t *p = in->ptr;
    uint32_t count;

    CHECK(d->count == 0);
    if (in->len < 4) {
        return ESCROW_ECORRUPT;
    }
    count = get_le32(p);
    p += 4;
    if ((in->len - 4) / DECIDED_SAVE_BYTES < count) {
        return ESCROW_ECORRUPT;
    }
    for (uint32_t i = 0; i < count; i++, p += DECIDED_SAVE_BYTES) {
        struct decided_entry entry = {.offset = get_le64(p + 8), .fact = get_le64(p + 16)};
        struct decided_fact fact;

        if (!fact_is_valid(entry.fact)) {
            return ESCROW_ECORRUPT;
        }
        fact = fact_unpack(&entry);
        decided_put(d, (struct hash128){.lo = get_le64(p)}, (uint16_t)(entry.fact >> 4), &fact);
    }
    *in = slice_of(p, in->len - 4 - (size_t)count * DECIDED_SAVE_BYTES);
    return 0;
}

void decided_check(const struct decided *d)
{
    size_t late = 0;

    CHECK(d->count <= d->ring);
    CHECK(d->ring <= d->count_max);
    CHECK(d->ring <= d->chunk_count * DECIDED_CHUNK);
    CHECK(d->first < d->ring);
    CHECK(d->save_left <= d->count);
    CHECK(d->by_id.count == d->count);
    fragment_index_check(&d->by_id);
    fragment_index_check(&d->late);
    for (uint32_t i = 0; i < d->count; i++) {
        uint32_t slot = (uint32_t)(((uint64_t)d->first + i) % d->ring);
        const struct decided_entry *entry = decided_slot(d, slot);
        late += is_late(entry) ? 1 : 0;
        if (!is_late(entry)) {
            CHECK(entry->offset >= d->ranges[slot / DECIDED_CHUNK].min);
            CHECK(entry->offset <= d->ranges[slot / DECIDED_CHUNK].max);
        }
    }
    CHECK(d->late.count == late);
}
