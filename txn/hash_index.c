/*
 * Linear hashing. With b buckets, let p be the largest power of two <= b. An entry lies in bucket h
 * mod 2p if that is below b, else in h mod p. Adding bucket b therefore only splits bucket b - p,
 * and removing the last one merges it back.
 */
#include "txn/hash_index.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

void hash_index_init(struct hash_index *x, const struct hash_index_ops *ops, void *owner)
{
    *x = (struct hash_index){.ops = ops, .owner = owner};
}

void hash_index_fini(struct hash_index *x)
{
    for (size_t i = 0; i < x->chunk_count; i++) {
        mem_free(x->chunks[i]);
    }
    mem_free(x->chunks);
    *x = (struct hash_index){.ops = x->ops, .owner = x->owner};
}

static size_t hash_index_pow2(size_t n)
{
    return (size_t)1 << (63 - __builtin_clzll((unsigned long long)n));
}

/* Bucket of a hash when there are `bucket_count` buckets. */
static size_t hash_index_address(size_t bucket_count, uint64_t hash)
{
    size_t p = hash_index_pow2(bucket_count);
    size_t bucket = (size_t)hash & (2 * p - 1);

    return bucket < bucket_count ? bucket : bucket - p;
}

static uint32_t *hash_index_bucket(const struct hash_index *x, size_t bucket)
{
    return &x->chunks[bucket / HASH_INDEX_CHUNK][bucket % HASH_INDEX_CHUNK];
}

/* One more chunk of empty buckets. */
static int hash_index_add_chunk(struct hash_index *x)
{
    uint32_t *chunk;

    if (x->chunk_count == x->chunk_cap) {
        size_t cap = x->chunk_cap == 0 ? 4 : x->chunk_cap * 2;
        uint32_t **chunks = mem_realloc(x->chunks, cap * sizeof *chunks);
        if (chunks == NULL) {
            return ESCROW_ENOMEM;
        }
        x->chunks = chunks;
        x->chunk_cap = cap;
    }
    chunk = mem_alloc(HASH_INDEX_CHUNK * sizeof *chunk);
    if (chunk == NULL) {
        return ESCROW_ENOMEM;
    }
    memset(chunk, 0xFF, HASH_INDEX_CHUNK * sizeof *chunk); /* all HASH_INDEX_NONE */
    x->chunks[x->chunk_count++] = chunk;
    return 0;
}

int hash_index_reserve(struct hash_index *x)
{
    if (x->bucket_count > 0) {
        return 0;
    }
    if (x->chunk_count == 0) {
        int rc = hash_index_add_chunk(x);
        if (rc != 0) {
            return rc;
        }
    }
    x->bucket_count = HASH_INDEX_BUCKETS_MIN;
    return 0;
}

uint32_t hash_index_head(const struct hash_index *x, uint64_t hash)
{
    if (x->bucket_count == 0) {
        return HASH_INDEX_NONE;
    }
    return *hash_index_bucket(x, hash_index_address(x->bucket_count, hash));
}

/* Add one bucket; leave things as they are when there is no memory for it. */
static void hash_index_split(struct hash_index *x)
{
    size_t added = x->bucket_count;
    uint32_t *from;
    uint32_t *to;

    if (added == x->chunk_count * HASH_INDEX_CHUNK && hash_index_add_chunk(x) != 0) {
        return;
    }
    from = hash_index_bucket(x, added - hash_index_pow2(added));
    to = hash_index_bucket(x, added);
    CHECK(*to == HASH_INDEX_NONE);
    x->bucket_count++;
    while (*from != HASH_INDEX_NONE) {
        uint32_t slot = *from;
        uint32_t *link = x->ops->link(x->owner, slot);

        x->work++;
        if (hash_index_address(x->bucket_count, x->ops->hash(x->owner, slot)) == added) {
            *from = *link;
            *link = *to;
            *to = slot;
        } else {
            from = link;
        }
    }
}

/*
 * Remove the last bucket, and the chunk behind the one that is then the last: one spare chunk is
 * kept.
 */
static void hash_index_merge(struct hash_index *x)
{
    size_t last = x->bucket_count - 1;
    size_t chunks_wanted;
    uint32_t *from = hash_index_bucket(x, last);
    uint32_t *to = hash_index_bucket(x, last - hash_index_pow2(last));

    while (*to != HASH_INDEX_NONE) {
        to = x->ops->link(x->owner, *to);
        x->work++;
    }
    *to = *from;
    *from = HASH_INDEX_NONE;
    x->bucket_count = last;
    chunks_wanted = (last + HASH_INDEX_CHUNK - 1) / HASH_INDEX_CHUNK + 1;
    while (x->chunk_count > chunks_wanted) {
        mem_free(x->chunks[--x->chunk_count]);
    }
}

void hash_index_insert(struct hash_index *x, uint32_t slot)
{
    uint32_t *head;

    CHECK(x->bucket_count > 0);
    CHECK(slot != HASH_INDEX_NONE);
    head = hash_index_bucket(x, hash_index_address(x->bucket_count, x->ops->hash(x->owner, slot)));
    *x->ops->link(x->owner, slot) = *head;
    *head = slot;
    x->count++;
    if (x->count > x->bucket_count) {
        hash_index_split(x);
    }
}

void hash_index_remove(struct hash_index *x, uint32_t slot)
{
    uint32_t *link;

    CHECK(x->count > 0);
    link = hash_index_bucket(x, hash_index_address(x->bucket_count, x->ops->hash(x->owner, slot)));
    while (*link != slot) {
        CHECK(*link != HASH_INDEX_NONE);
        link = x->ops->link(x->owner, *link);
    }
    *link = *x->ops->link(x->owner, slot);
    x->count--;
    /*
     * Not at once, so that an entry that comes and goes at the edge does not split and merge every
     * time; then two by two, so that the buckets catch up with the entries.
     */
    for (int i = 0; i < 2; i++) {
        if (x->bucket_count > HASH_INDEX_BUCKETS_MIN && x->count + x->count / 2 < x->bucket_count) {
            hash_index_merge(x);
        }
    }
}

size_t hash_index_bytes(const struct hash_index *x)
{
    return x->chunk_cap * sizeof *x->chunks +
           x->chunk_count * HASH_INDEX_CHUNK * sizeof **x->chunks;
}

void hash_index_check(const struct hash_index *x)
{
    size_t count = 0;

    CHECK(x->bucket_count == 0 || x->bucket_count >= HASH_INDEX_BUCKETS_MIN);
    CHECK(x->bucket_count <= x->chunk_count * HASH_INDEX_CHUNK);
    for (size_t bucket = 0; bucket < x->chunk_count * HASH_INDEX_CHUNK; bucket++) {
        uint32_t slot = *hash_index_bucket(x, bucket);

        CHECK_IMPLIES(bucket >= x->bucket_count, slot == HASH_INDEX_NONE);
        while (slot != HASH_INDEX_NONE) {
            CHECK(hash_index_address(x->bucket_count, x->ops->hash(x->owner, slot)) == bucket);
            count++;
            CHECK(count <= x->count);
            slot = *x->ops->link(x->owner, slot);
        }
    }
    CHECK(count == x->count);
}
