/*
 * Hash index by linear hashing (Litwin 1980): from a 64-bit hash to a chain of 32-bit slots.
 *
 * One bucket is split per insertion and at most two are merged per removal, and buckets lie in
 * small chunks: growing to a million entries never stops the loop for a rehash, never doubles
 * memory, and shrinking gives it back. About one bucket (4 bytes) and one chain link (4 bytes, in
 * the owner's entry) per entry.
 *
 * Owns:    the buckets. Entries and their links are the owner's.
 * Thread:  whoever owns the struct.
 * Errors:  none: a bucket that cannot be allocated is not split, and chains get longer until memory
 *          is back.
 * Holds:   every entry is in the chain of its address; bucket_count is 0 or >=
 *          HASH_INDEX_BUCKETS_MIN.
 */
#ifndef TXN_HASH_INDEX_H
#define TXN_HASH_INDEX_H

#include <stddef.h>
#include <stdint.h>

#define HASH_INDEX_NONE        UINT32_MAX
#define HASH_INDEX_CHUNK       1024u /* buckets per chunk: 4 KiB */
#define HASH_INDEX_BUCKETS_MIN 64u

struct hash_index_ops {
    uint64_t (*hash)(void *owner, uint32_t slot);  /* of an entry that is in the index */
    uint32_t *(*link)(void *owner, uint32_t slot); /* its chain link */
};

struct hash_index {
    const struct hash_index_ops *ops;
    void *owner;
    uint32_t **chunks;
    size_t chunk_count; /* allocated chunks */
    size_t chunk_cap;
    size_t bucket_count;
    size_t count;
    uint64_t work; /* links followed while splitting and merging: the measure of its cost */
};

void hash_index_init(struct hash_index *x, const struct hash_index_ops *ops, void *owner);
void hash_index_fini(struct hash_index *x);

/*
 * Make sure that one insertion is possible: allocates the first chunk. ESCROW_ENOMEM; then nothing
 * has changed. Later insertions need no memory to succeed.
 */
int hash_index_reserve(struct hash_index *x);

/* First slot of the chain that a hash belongs to; the caller follows the links and compares. */
uint32_t hash_index_head(const struct hash_index *x, uint64_t hash);

/* After hash_index_reserve has succeeded once. The slot's hash and link must be ready. */
void hash_index_insert(struct hash_index *x, uint32_t slot);

/* The slot must be in the index. */
void hash_index_remove(struct hash_index *x, uint32_t slot);

/* Bytes allocated. */
size_t hash_index_bytes(const struct hash_index *x);

/* CHECKs that every chain holds only its own and that the count is right. */
void hash_index_check(const struct hash_index *x);

#endif
