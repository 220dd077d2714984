/*
 * Hash map from a byte string to a pointer. Open addressing, linear probing, load at most 3/4.
 *
 * Owns:    copies of the keys; the values are the caller's.
 * Thread:  whoever owns the struct.
 * Errors:  strmap_put returns ESCROW_ENOMEM and changes nothing.
 * Holds:   count <= 3/4 cap; cap is 0 or a power of two.
 */
#ifndef CORE_BASE_STRMAP_H
#define CORE_BASE_STRMAP_H

#include "core/base/attr.h"
#include "core/base/hash.h"
#include "core/base/slice.h"

#include <stddef.h>

struct strmap_slot {
    char *key; /* NULL = empty; NUL-terminated copy for convenience */
    size_t key_len;
    void *value;
    uint64_t hash;
};

struct strmap {
    struct strmap_slot *slots;
    size_t cap;
    size_t count;
    struct hash_key hash_key;
};

void strmap_init(struct strmap *m, struct hash_key hash_key);
void strmap_fini(struct strmap *m); /* values are not touched */

/* NULL when absent. */
void *strmap_find(const struct strmap *m, struct slice key);

/* Insert or replace; value must not be NULL. */
ESCROW_MUST_USE int strmap_put(struct strmap *m, struct slice key, void *value);

/* Remove; returns the value, NULL when it was absent. */
void *strmap_take(struct strmap *m, struct slice key);

/*
 * Iterate: *cursor starts at 0; returns the next used slot, NULL at the end. Do not put while
 * iterating. Taking the slot just returned is not allowed either (entries move): collect first.
 */
const struct strmap_slot *strmap_next(const struct strmap *m, size_t *cursor);

#endif
