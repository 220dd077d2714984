/*
 * Index from a 64-bit hash to 32-bit slots that answers most questions from one cache line: a
 * bucket holds twelve slots and eight bits of each one's hash, so that an entry is looked at only
 * when it is very likely the one.
 *
 * Linear hashing (hash_index.h) with wide buckets, for what grows and never shrinks: entries may
 * leave, buckets stay. Once a bound is reached, splitting goes on with every insertion until the
 * number of buckets has doubled. 8 to 16 bytes per entry (about 10 when entries come and go);
 * nothing in the entry.
 *
 * Owns:    the buckets. Entries are the owner's.
 * Thread:  whoever owns the struct.
 * Errors:  a bucket that cannot be allocated is not split; fragment_index_insert alone can fail.
 * Holds:   every slot is in the bucket of its hash, or in one chained to it, with its fragment;
 *          bucket_count is 0 or >= FRAGMENT_BUCKETS_MIN.
 */
#ifndef TXN_FRAGMENT_INDEX_H
#define TXN_FRAGMENT_INDEX_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FRAGMENT_NONE         UINT32_MAX
#define FRAGMENT_SLOTS        12u
#define FRAGMENT_LOAD         8u   /* slots per bucket, on average, that begin a doubling */
#define FRAGMENT_BUCKETS_MIN  256u /* and per chunk: 16 KiB */
#define FRAGMENT_BUCKET_BYTES 64u

/* Hash of an entry that is in the index; called when its bucket is split. */
typedef uint64_t fragment_hash_fn(void *owner, uint32_t slot); /* allow(typedef): function */

struct fragment_bucket;

struct fragment_chunks {
    struct fragment_bucket **at; /* chunks of FRAGMENT_BUCKETS_MIN, on a cache line's boundary */
    void **memory;               /* what they were allocated as */
    size_t count;
    size_t cap;
};

struct fragment_index {
    fragment_hash_fn *hash;
    void *owner;
    struct fragment_chunks buckets;
    struct fragment_chunks extra; /* chained to buckets that are full */
    uint32_t extra_free;          /* chain of unused ones, FRAGMENT_NONE */
    size_t bucket_count;
    size_t count;
};

/* Where a search stands. */
struct fragment_cursor {
    const struct fragment_bucket *bucket;
    uint32_t next;
};

void fragment_index_init(struct fragment_index *x, fragment_hash_fn *hash, void *owner);
void fragment_index_fini(struct fragment_index *x);

/* The first buckets: ESCROW_ENOMEM, nothing has changed. Before anything is inserted. */
ESCROW_MUST_USE int fragment_index_reserve(struct fragment_index *x);

/* The slots that may belong to a hash, FRAGMENT_NONE after the last: the caller compares. */
struct fragment_cursor fragment_index_find(const struct fragment_index *x, uint64_t hash);
uint32_t fragment_index_next(const struct fragment_index *x, uint64_t hash,
                             struct fragment_cursor *cursor);

/* Have the bucket of a hash brought near, for a call that follows. */
void fragment_index_prefetch(const struct fragment_index *x, uint64_t hash);

/* ESCROW_ENOMEM: its bucket is full and there is no memory for another; nothing has changed. */
ESCROW_MUST_USE int fragment_index_insert(struct fragment_index *x, uint64_t hash, uint32_t slot);

/* The slot must be in the index with this hash. */
void fragment_index_remove(struct fragment_index *x, uint64_t hash, uint32_t slot);

/* Bytes allocated. */
size_t fragment_index_bytes(const struct fragment_index *x);

void fragment_index_check(const struct fragment_index *x);

#endif
