/*
 * Addresses are those of linear hashing: with b buckets and p the largest power of two <= b, a hash
 * lies in bucket h mod 2p if that is below b, else in h mod p. The fragment is taken from the upper
 * bits, which addresses do not use; 0 marks an unused place.
 *
 * Splitting needs no memory but for the new bucket's chunk: what was chained to the old bucket is
 * given back, one by one, before its slots are put where they belong.
 */
#include "txn/fragment_index.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

struct fragment_bucket {
    uint32_t slots[FRAGMENT_SLOTS];
    uint32_t chained; /* number of an extra bucket, FRAGMENT_NONE */
    uint8_t fragments[FRAGMENT_SLOTS];
};

_Static_assert(sizeof(struct fragment_bucket) == FRAGMENT_BUCKET_BYTES, "one cache line");

static uint8_t fragment_of(uint64_t hash)
{
    uint8_t fragment = (uint8_t)(hash >> 56);

    return fragment == 0 ? 1 : fragment;
}

static size_t fragment_address(size_t bucket_count, uint64_t hash)
{
    size_t p = (size_t)1 << (63 - __builtin_clzll((unsigned long long)bucket_count));
    size_t bucket = (size_t)hash & (2 * p - 1);

    return bucket < bucket_count ? bucket : bucket - p;
}

static struct fragment_bucket *chunks_get(const struct fragment_chunks *c, size_t n)
{
    return &c->at[n / FRAGMENT_BUCKETS_MIN][n % FRAGMENT_BUCKETS_MIN];
}

static void chunks_fini(struct fragment_chunks *c)
{
    for (size_t i = 0; i < c->count; i++) {
        mem_free(c->memory[i]);
    }
    mem_free((void *)c->memory);
    mem_free((void *)c->at);
}

static int chunks_reserve(struct fragment_chunks *c)
{
    size_t cap = c->cap == 0 ? 4 : c->cap * 2;
    void **memory;
    struct fragment_bucket **at;

    if (c->count < c->cap) {
        return 0;
    }
    memory = mem_realloc((void *)c->memory, cap * sizeof(void *));
    if (memory == NULL) {
        return ESCROW_ENOMEM;
    }
    c->memory = memory;
    at = mem_realloc((void *)c->at, cap * sizeof(struct fragment_bucket *));
    if (at == NULL) {
        return ESCROW_ENOMEM; /* the other has room for more than it needs: harmless */
    }
    c->at = at;
    c->cap = cap;
    return 0;
}

/* One more chunk of empty buckets. */
static int chunks_add(struct fragment_chunks *c)
{
    size_t size = FRAGMENT_BUCKETS_MIN * sizeof(struct fragment_bucket);
    int rc = chunks_reserve(c);
    uint8_t *memory;

    if (rc != 0) {
        return rc;
    }
    memory = mem_alloc(size + FRAGMENT_BUCKET_BYTES - 1);
    if (memory == NULL) {
        return ESCROW_ENOMEM;
    }
    c->memory[c->count] = memory;
    c->at[c->count] = (struct fragment_bucket *)(void *)(memory + (-(uintptr_t)memory &
                                                                   (FRAGMENT_BUCKET_BYTES - 1)));
    for (size_t i = 0; i < FRAGMENT_BUCKETS_MIN; i++) {
        c->at[c->count][i] = (struct fragment_bucket){.chained = FRAGMENT_NONE};
    }
    c->count++;
    return 0;
}

void fragment_index_init(struct fragment_index *x, fragment_hash_fn *hash, void *owner)
{
    *x = (struct fragment_index){.hash = hash, .owner = owner, .extra_free = FRAGMENT_NONE};
}

void fragment_index_fini(struct fragment_index *x)
{
    chunks_fini(&x->buckets);
    chunks_fini(&x->extra);
    fragment_index_init(x, x->hash, x->owner);
}

static int extra_add(struct fragment_index *x)
{
    size_t first = x->extra.count * FRAGMENT_BUCKETS_MIN;
    int rc = chunks_add(&x->extra);

    if (rc != 0) {
        return rc;
    }
    for (size_t i = FRAGMENT_BUCKETS_MIN; i-- > 0;) {
        chunks_get(&x->extra, first + i)->chained = x->extra_free;
        x->extra_free = (uint32_t)(first + i);
    }
    return 0;
}

int fragment_index_reserve(struct fragment_index *x)
{
    int rc = 0;

    if (x->bucket_count == 0) {
        rc = x->buckets.count == 0 ? chunks_add(&x->buckets) : 0;
        x->bucket_count = rc == 0 ? FRAGMENT_BUCKETS_MIN : 0;
    }
    return rc;
}

struct fragment_cursor fragment_index_find(const struct fragment_index *x, uint64_t hash)
{
    CHECK(x->bucket_count > 0);
    return (struct fragment_cursor){
        .bucket = chunks_get(&x->buckets, fragment_address(x->bucket_count, hash))};
}

uint32_t fragment_index_next(const struct fragment_index *x, uint64_t hash,
                             struct fragment_cursor *cursor)
{
    uint8_t fragment = fragment_of(hash);

    while (cursor->bucket != NULL) {
        const struct fragment_bucket *b = cursor->bucket;

        while (cursor->next < FRAGMENT_SLOTS) {
            uint32_t i = cursor->next++;
            if (b->fragments[i] == fragment) {
                return b->slots[i];
            }
        }
        cursor->next = 0;
        cursor->bucket = b->chained == FRAGMENT_NONE ? NULL : chunks_get(&x->extra, b->chained);
    }
    return FRAGMENT_NONE;
}

void fragment_index_prefetch(const struct fragment_index *x, uint64_t hash)
{
    __builtin_prefetch(chunks_get(&x->buckets, fragment_address(x->bucket_count, hash)), 1);
}

/* Put into the first free place of a bucket and of what is chained to it. */
static int bucket_put(struct fragment_index *x, struct fragment_bucket *b, uint8_t fragment,
                      uint32_t slot)
{
    for (;;) {
        for (uint32_t i = 0; i < FRAGMENT_SLOTS; i++) {
            if (b->fragments[i] == 0) {
                b->fragments[i] = fragment;
                b->slots[i] = slot;
                return 0;
            }
        }
        if (b->chained == FRAGMENT_NONE) {
            uint32_t taken = x->extra_free;

            if (taken == FRAGMENT_NONE) {
                int rc = extra_add(x);
                if (rc != 0) {
                    return rc;
                }
                taken = x->extra_free;
            }
            x->extra_free = chunks_get(&x->extra, taken)->chained;
            *chunks_get(&x->extra, taken) = (struct fragment_bucket){.chained = FRAGMENT_NONE};
            b->chained = taken;
        }
        b = chunks_get(&x->extra, b->chained);
    }
}

/* Add one bucket; leave things as they are when there is no memory for it. */
static void fragment_split(struct fragment_index *x)
{
    size_t added = x->bucket_count;
    struct fragment_bucket *from;
    struct fragment_bucket rest;

    if (added == x->buckets.count * FRAGMENT_BUCKETS_MIN && chunks_add(&x->buckets) != 0) {
        return;
    }
    x->bucket_count++;
    from = chunks_get(&x->buckets, fragment_address(added, added));
    rest = *from;
    *from = (struct fragment_bucket){.chained = FRAGMENT_NONE};
    for (;;) {
        uint32_t chained = rest.chained;
        uint64_t hashes[FRAGMENT_SLOTS];

        for (uint32_t i = 0; i < FRAGMENT_SLOTS;
             i++) { /* they lie far apart: fetch them together */
            hashes[i] = rest.fragments[i] == 0 ? 0 : x->hash(x->owner, rest.slots[i]);
        }
        for (uint32_t i = 0; i < FRAGMENT_SLOTS; i++) {
            if (rest.fragments[i] != 0) {
                size_t to = fragment_address(x->bucket_count, hashes[i]);
                int rc =
                    bucket_put(x, chunks_get(&x->buckets, to), rest.fragments[i], rest.slots[i]);
                CHECK(rc == 0); /* what is chained was given back first */
            }
        }
        if (chained == FRAGMENT_NONE) {
            return;
        }
        rest = *chunks_get(&x->extra, chained);
        chunks_get(&x->extra, chained)->chained = x->extra_free;
        x->extra_free = chained;
    }
}

int fragment_index_insert(struct fragment_index *x, uint64_t hash, uint32_t slot)
{
    int rc;

    CHECK(x->bucket_count > 0);
    CHECK(slot != FRAGMENT_NONE);
    rc = bucket_put(x, chunks_get(&x->buckets, fragment_address(x->bucket_count, hash)),
                    fragment_of(hash), slot);
    if (rc != 0) {
        return rc;
    }
    x->count++;
    /* Two by two, so that a doubling is over long before the next. */
    for (int i = 0; i < 2; i++) {
        bool is_doubling = (x->bucket_count & (x->bucket_count - 1)) != 0;
        if (is_doubling || x->count > FRAGMENT_LOAD * x->bucket_count) {
            fragment_split(x);
        }
    }
    return 0;
}

static bool bucket_is_empty(const struct fragment_bucket *b)
{
    static const uint8_t zeros[FRAGMENT_SLOTS];

    return memcmp(b->fragments, zeros, sizeof zeros) == 0;
}

void fragment_index_remove(struct fragment_index *x, uint64_t hash, uint32_t slot)
{
    struct fragment_bucket *before = NULL;
    struct fragment_bucket *b;
    uint32_t i = 0;

    CHECK(x->count > 0);
    b = chunks_get(&x->buckets, fragment_address(x->bucket_count, hash));
    while (b->slots[i] != slot || b->fragments[i] == 0) {
        if (++i == FRAGMENT_SLOTS) {
            CHECK(b->chained != FRAGMENT_NONE);
            before = b;
            b = chunks_get(&x->extra, b->chained);
            i = 0;
        }
    }
    CHECK(b->fragments[i] == fragment_of(hash));
    b->fragments[i] = 0;
    b->slots[i] = 0;
    x->count--;
    if (before != NULL && bucket_is_empty(b)) {
        uint32_t number = before->chained;

        before->chained = b->chained;
        b->chained = x->extra_free;
        x->extra_free = number;
    }
}

size_t fragment_index_bytes(const struct fragment_index *x)
{
    size_t chunk = FRAGMENT_BUCKETS_MIN * FRAGMENT_BUCKET_BYTES + FRAGMENT_BUCKET_BYTES;

    return (x->buckets.count + x->extra.count) * chunk +
           (x->buckets.cap + x->extra.cap) * 2 * sizeof(void *);
}

static size_t bucket_check(const struct fragment_index *x, const struct fragment_bucket *b,
                           size_t number)
{
    size_t count = 0;

    for (uint32_t i = 0; i < FRAGMENT_SLOTS; i++) {
        if (b->fragments[i] != 0) {
            uint64_t hash = x->hash(x->owner, b->slots[i]);
            CHECK(fragment_address(x->bucket_count, hash) == number);
            CHECK(fragment_of(hash) == b->fragments[i]);
            count++;
        }
    }
    return count;
}

void fragment_index_check(const struct fragment_index *x)
{
    size_t count = 0;
    size_t extra = 0;

    CHECK(x->bucket_count <= x->buckets.count * FRAGMENT_BUCKETS_MIN);
    for (size_t n = 0; n < x->bucket_count; n++) {
        const struct fragment_bucket *b = chunks_get(&x->buckets, n);

        count += bucket_check(x, b, n);
        while (b->chained != FRAGMENT_NONE) {
            b = chunks_get(&x->extra, b->chained);
            count += bucket_check(x, b, n);
            extra++;
            CHECK(extra <= x->extra.count * FRAGMENT_BUCKETS_MIN);
        }
    }
    CHECK(count == x->count);
    for (uint32_t n = x->extra_free; n != FRAGMENT_NONE; n = chunks_get(&x->extra, n)->chained) {
        extra++;
        CHECK(extra <= x->extra.count * FRAGMENT_BUCKETS_MIN);
    }
    CHECK(extra == x->extra.count * FRAGMENT_BUCKETS_MIN);
}
