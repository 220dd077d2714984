/*
 * One entry per (group, topic). An entry holds blocks of queues, so that one offset of queue 1000
 * costs one block.
 *
 * Record and section layout: repeated { group and topic (group_topic.h), queue u32, offset u64 }.
 */
#include "src/broker/offsets.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "src/broker/group_topic.h"

#include <string.h>

#define OFFSET_NUMBERS_BYTES 12 /* queue, offset */
#define OFFSET_FIXED_BYTES   (GROUP_TOPIC_FIXED_BYTES + OFFSET_NUMBERS_BYTES)

struct offset_entry {
    struct slice group;
    struct slice topic;
    uint32_t queue;
    uint64_t offset;
};

static void pair_free(struct offset_pair *pair)
{
    if (pair != NULL) {
        mem_free(pair->group);
        for (uint32_t i = 0; i < pair->block_count; i++) {
            mem_free(pair->blocks[i]);
        }
        mem_free(pair->blocks);
        mem_free(pair);
    }
}

void offsets_init(struct offsets *o, struct hash_key key)
{
    *o = (struct offsets){.dirty = NULL};
    strmap_init(&o->by_pair, key);
}

void offsets_fini(struct offsets *o)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        pair_free(slot->value);
    }
    strmap_fini(&o->by_pair);
    o->dirty = NULL;
}

static struct offset_block *block_of(const struct offset_pair *pair, uint32_t queue)
{
    uint32_t at = queue / OFFSET_BLOCK_QUEUES;

    return at < pair->block_count ? pair->blocks[at] : NULL;
}

/* Of a queue that has a block. */
static struct offset_block *known_block(const struct offset_pair *pair, uint32_t queue)
{
    struct offset_block *block = block_of(pair, queue);

    CHECK(block != NULL);
    return block;
}

bool offsets_find(const struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                  int64_t *offset)
{
    struct group_topic_key key;
    const struct offset_pair *pair;

    if (!group_topic_key_make(&key, group, topic)) {
        return false;
    }
    pair = strmap_find(&o->by_pair, group_topic_key_slice(&key));
    if (pair == NULL || block_of(pair, queue) == NULL) {
        return false;
    }
    *offset = known_block(pair, queue)->offset[queue % OFFSET_BLOCK_QUEUES];
    return *offset >= 0;
}

static struct offset_pair *pair_new(struct slice group, struct slice topic)
{
    struct offset_pair *pair = mem_calloc(1, sizeof *pair);

    if (pair == NULL) {
        return NULL;
    }
    pair->group = mem_alloc(group.len + topic.len + 1);
    if (pair->group == NULL) {
        pair_free(pair);
        return NULL;
    }
    memcpy(pair->group, group.ptr, group.len);
    memcpy(pair->group + group.len, topic.ptr, topic.len);
    pair->group[group.len + topic.len] = '\0';
    pair->group_len = (uint32_t)group.len;
    pair->topic_len = (uint32_t)topic.len;
    return pair;
}

/* The block of `queue`. */
static int pair_grow(struct offsets *o, struct offset_pair *pair, uint32_t queue)
{
    uint32_t at = queue / OFFSET_BLOCK_QUEUES;
    struct offset_block *block;

    if (at >= pair->block_count) {
        struct offset_block **blocks = mem_realloc(pair->blocks, (at + 1) * sizeof(void *));
        if (blocks == NULL) {
            return ESCROW_ENOMEM;
        }
        pair->blocks = blocks;
        while (pair->block_count <= at) {
            pair->blocks[pair->block_count++] = NULL;
            o->bytes += sizeof(void *);
        }
    }
    if (pair->blocks[at] != NULL) {
        return 0;
    }
    block = mem_alloc(sizeof *block);
    if (block == NULL) {
        return ESCROW_ENOMEM;
    }
    block->dirty = 0;
    for (uint32_t i = 0; i < OFFSET_BLOCK_QUEUES; i++) {
        block->offset[i] = -1;
    }
    pair->blocks[at] = block;
    o->bytes += sizeof *block;
    return 0;
}

/* What a new pair counts for, without its blocks: its key is in the map too. */
static size_t pair_bytes(struct slice group, struct slice topic)
{
    return sizeof(struct offset_pair) + 2 * (group.len + topic.len + 1) +
           2 * sizeof(struct strmap_slot);
}

/* The pair, with room for `queue`. Only what a client asks for is_limited, not what is in a log. */
static int pair_get(struct offsets *o, const struct offset_entry *e, bool is_limited,
                    struct offset_pair **out)
{
    struct group_topic_key key;
    struct offset_pair *pair;
    int rc;

    if (e->queue >= QUEUES_PER_TOPIC_MAX || !group_topic_key_make(&key, e->group, e->topic)) {
        return ESCROW_EINVAL;
    }
    pair = strmap_find(&o->by_pair, group_topic_key_slice(&key));
    if (is_limited && (pair == NULL || block_of(pair, e->queue) == NULL) &&
        (o->by_pair.count >= OFFSETS_PAIRS_MAX || o->bytes >= OFFSETS_BYTES_MAX)) {
        return ESCROW_ELIMIT;
    }
    if (pair == NULL) {
        pair = pair_new(e->group, e->topic);
        if (pair == NULL) {
            return ESCROW_ENOMEM;
        }
        rc = strmap_put(&o->by_pair, group_topic_key_slice(&key), pair);
        if (rc != 0) {
            pair_free(pair);
            return rc;
        }
        o->bytes += pair_bytes(e->group, e->topic);
    }
    rc = pair_grow(o, pair, e->queue);
    *out = pair;
    return rc;
}

static void pair_mark_dirty(struct offsets *o, struct offset_pair *pair, uint32_t queue)
{
    known_block(pair, queue)->dirty |= 1u << (queue % OFFSET_BLOCK_QUEUES);
    if (!pair->is_dirty) {
        pair->is_dirty = true;
        pair->next_dirty = o->dirty;
        o->dirty = pair;
    }
}

int offsets_note(struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                 int64_t offset)
{
    const struct offset_entry e = {.group = group, .topic = topic, .queue = queue};
    struct offset_pair *pair = NULL;
    int64_t *known;
    int rc;

    if (offset < 0) {
        return ESCROW_EINVAL;
    }
    rc = pair_get(o, &e, true, &pair);
    if (rc != 0) {
        return rc;
    }
    known = &known_block(pair, queue)->offset[queue % OFFSET_BLOCK_QUEUES];
    if (*known != offset) {
        *known = offset;
        pair_mark_dirty(o, pair, queue);
    }
    return 0;
}

static bool is_of_group(const struct offset_pair *pair, struct slice group)
{
    return slice_eq(slice_of(pair->group, pair->group_len), group);
}

static void pair_remove(struct offsets *o, struct offset_pair *pair)
{
    struct slice group = slice_of(pair->group, pair->group_len);
    struct slice topic = slice_of(pair->group + pair->group_len, pair->topic_len);
    struct group_topic_key key;

    CHECK(group_topic_key_make(&key, group, topic));
    CHECK(strmap_take(&o->by_pair, group_topic_key_slice(&key)) == pair);
    o->bytes -= pair_bytes(group, topic) + pair->block_count * sizeof(void *);
    for (uint32_t i = 0; i < pair->block_count; i++) {
        o->bytes -= pair->blocks[i] == NULL ? 0 : sizeof *pair->blocks[i];
    }
    pair_free(pair);
}

void offsets_remove_group(struct offsets *o, struct slice group)
{
    struct offset_pair **at = &o->dirty;
    struct offset_pair *found = NULL; /* a list, by the member that the dirty ones no longer use */
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while (*at != NULL) {
        struct offset_pair *pair = *at;
        if (is_of_group(pair, group)) {
            *at = pair->next_dirty;
            pair->is_dirty = false;
        } else {
            at = &pair->next_dirty;
        }
    }
    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        struct offset_pair *pair = slot->value;
        if (is_of_group(pair, group)) {
            pair->next_dirty = found;
            found = pair;
        }
    }
    while (found != NULL) {
        struct offset_pair *next = found->next_dirty;
        pair_remove(o, found);
        found = next;
    }
}

bool offsets_is_dirty(const struct offsets *o)
{
    return o->dirty != NULL;
}

static void entry_encode(struct buf *out, const struct offset_pair *pair, uint32_t queue)
{
    group_topic_encode(out, slice_of(pair->group, pair->group_len),
                       slice_of(pair->group + pair->group_len, pair->topic_len));
    buf_append_le32(out, queue);
    buf_append_le64(out, (uint64_t)known_block(pair, queue)->offset[queue % OFFSET_BLOCK_QUEUES]);
}

static uint32_t queue_end(const struct offset_pair *pair)
{
    return pair->block_count * OFFSET_BLOCK_QUEUES;
}

static bool is_dirty(const struct offset_pair *pair, uint32_t queue)
{
    const struct offset_block *block = block_of(pair, queue);

    return block != NULL && (block->dirty & 1u << (queue % OFFSET_BLOCK_QUEUES)) != 0;
}

static bool is_stored(const struct offset_pair *pair, uint32_t queue)
{
    const struct offset_block *block = block_of(pair, queue);

    return block != NULL && block->offset[queue % OFFSET_BLOCK_QUEUES] >= 0;
}

bool offsets_take_dirty(struct offsets *o, struct buf *payload, size_t limit_bytes)
{
    if (o->dirty != NULL && limit_bytes > payload->len &&
        buf_reserve(payload, limit_bytes - payload->len) == NULL) {
        return true;
    }
    while (o->dirty != NULL) {
        struct offset_pair *pair = o->dirty;
        size_t entry_bytes = OFFSET_FIXED_BYTES + pair->group_len + pair->topic_len;
        for (uint32_t q = 0; q < queue_end(pair); q++) {
            if (!is_dirty(pair, q)) {
                continue;
            }
            if (payload->len + entry_bytes > limit_bytes) {
                return true;
            }
            entry_encode(payload, pair, q);
            known_block(pair, q)->dirty &= ~(1u << (q % OFFSET_BLOCK_QUEUES));
        }
        o->dirty = pair->next_dirty;
        pair->is_dirty = false;
        pair->next_dirty = NULL;
    }
    return false;
}

/* Decode one entry at the start of *in and advance past it. */
static bool entry_decode(struct slice *in, struct offset_entry *e)
{
    if (!group_topic_decode(in, OFFSET_NUMBERS_BYTES, &e->group, &e->topic)) {
        return false;
    }
    e->queue = get_le32(in->ptr);
    e->offset = get_le64(in->ptr + 4);
    *in = slice_of(in->ptr + OFFSET_NUMBERS_BYTES, in->len - OFFSET_NUMBERS_BYTES);
    return e->offset <= INT64_MAX;
}

void offsets_redirty(struct offsets *o, struct slice payload)
{
    struct offset_entry e;

    while (payload.len > 0) {
        struct offset_pair *pair = NULL;
        CHECK(entry_decode(&payload, &e));         /* our own encoding */
        CHECK(pair_get(o, &e, false, &pair) == 0); /* exists: no allocation */
        pair_mark_dirty(o, pair, e.queue);
    }
}

static int entries_apply(struct offsets *o, struct slice in)
{
    struct offset_entry e;

    while (in.len > 0) {
        struct offset_pair *pair = NULL;
        int rc;
        if (!entry_decode(&in, &e)) {
            return ESCROW_ECORRUPT;
        }
        rc = pair_get(o, &e, false, &pair);
        if (rc != 0) {
            return rc == ESCROW_ENOMEM ? rc : ESCROW_ECORRUPT;
        }
        if (!is_dirty(pair, e.queue)) {
            known_block(pair, e.queue)->offset[e.queue % OFFSET_BLOCK_QUEUES] = (int64_t)e.offset;
        }
    }
    return 0;
}

int offsets_apply(struct offsets *o, struct slice payload, struct err_ctx *err)
{
    int rc = entries_apply(o, payload);

    return rc == 0 ? 0 : err_set(err, rc, "OFFSETS record: %s", escrow_strerror(rc));
}

static void pair_save(const struct offset_pair *pair, struct buf *out)
{
    for (uint32_t q = 0; q < queue_end(pair); q++) {
        if (is_stored(pair, q)) {
            entry_encode(out, pair, q);
        }
    }
}

void offsets_save(const struct offsets *o, struct buf *out)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        pair_save(slot->value, out);
    }
}

int offsets_load(struct offsets *o, struct slice section, struct err_ctx *err)
{
    int rc = entries_apply(o, section);

    return rc == 0 ? 0 : err_set(err, rc, "checkpoint section offsets: %s", escrow_strerror(rc));
}

void offsets_visit(const struct offsets *o, offsets_visit_fn *fn, void *arg)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        const struct offset_pair *pair = slot->value;
        for (uint32_t q = 0; q < queue_end(pair); q++) {
            if (is_stored(pair, q)) {
                fn(arg, slice_of(pair->group, pair->group_len),
                   slice_of(pair->group + pair->group_len, pair->topic_len), q,
                   known_block(pair, q)->offset[q % OFFSET_BLOCK_QUEUES]);
            }
        }
    }
}

static bool has_stored(const struct offset_pair *pair)
{
    for (uint32_t q = 0; q < queue_end(pair); q++) {
        if (is_stored(pair, q)) {
            return true;
        }
    }
    return false;
}

void offsets_visit_pairs(const struct offsets *o, offsets_visit_pair_fn *fn, void *arg)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&o->by_pair, &cursor)) != NULL) {
        const struct offset_pair *pair = slot->value;
        if (has_stored(pair)) {
            fn(arg, slice_of(pair->group, pair->group_len),
               slice_of(pair->group + pair->group_len, pair->topic_len));
        }
    }
}

bool offsets_has_pair(const struct offsets *o, struct slice group, struct slice topic)
{
    struct group_topic_key key;
    const struct offset_pair *pair = NULL;

    if (group_topic_key_make(&key, group, topic)) {
        pair = strmap_find(&o->by_pair, group_topic_key_slice(&key));
    }
    return pair != NULL && has_stored(pair);
}
