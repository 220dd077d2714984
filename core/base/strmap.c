#include "core/base/strmap.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#define STRMAP_CAP_MIN 16

void strmap_init(struct strmap *m, struct hash_key hash_key)
{
    *m = (struct strmap){.hash_key = hash_key};
}

void strmap_fini(struct strmap *m)
{
    for (size_t i = 0; i < m->cap; i++) {
        mem_free(m->slots[i].key);
    }
    mem_free(m->slots);
    *m = (struct strmap){.hash_key = m->hash_key};
}

/* Slot of the key, or the empty slot where it would go. cap > 0 and at least one slot is empty. */
static struct strmap_slot *strmap_probe(const struct strmap *m, struct slice key, uint64_t hash)
{
    size_t mask = m->cap - 1;
    size_t i = (size_t)hash & mask;

    while (m->slots[i].key != NULL) {
        struct strmap_slot *slot = &m->slots[i];
        if (slot->hash == hash && slice_eq(slice_of(slot->key, slot->key_len), key)) {
            break;
        }
        i = (i + 1) & mask;
    }
    return &m->slots[i];
}

void *strmap_find(const struct strmap *m, struct slice key)
{
    struct strmap_slot *slot;

    if (m->count == 0) {
        return NULL;
    }
    slot = strmap_probe(m, key, hash64(&m->hash_key, key));
    return slot->key == NULL ? NULL : slot->value;
}

static int strmap_grow(struct strmap *m)
{
    size_t cap = m->cap == 0 ? STRMAP_CAP_MIN : m->cap * 2;
    struct strmap_slot *old = m->slots;
    size_t old_cap = m->cap;
    struct strmap_slot *slots = mem_calloc(cap, sizeof *slots);

    if (slots == NULL) {
        return ESCROW_ENOMEM;
    }
    m->slots = slots;
    m->cap = cap;
    for (size_t i = 0; i < old_cap; i++) {
        if (old[i].key != NULL) {
            *strmap_probe(m, slice_of(old[i].key, old[i].key_len), old[i].hash) = old[i];
        }
    }
    mem_free(old);
    return 0;
}

int strmap_put(struct strmap *m, struct slice key, void *value)
{
    uint64_t hash = hash64(&m->hash_key, key);
    struct strmap_slot *slot;
    char *copy;

    CHECK(value != NULL);
    if ((m->count + 1) * 4 > m->cap * 3) {
        int rc = strmap_grow(m);
        if (rc != 0) {
            return rc;
        }
    }
    slot = strmap_probe(m, key, hash);
    if (slot->key != NULL) {
        slot->value = value;
        return 0;
    }
    copy = mem_alloc(key.len + 1);
    if (copy == NULL) {
        return ESCROW_ENOMEM;
    }
    (void)slice_to_cstr(key, copy, key.len + 1);
    *slot = (struct strmap_slot){.key = copy, .key_len = key.len, .value = value, .hash = hash};
    m->count++;
    return 0;
}

void *strmap_take(struct strmap *m, struct slice key)
{
    struct strmap_slot *slot;
    void *value;
    size_t mask = m->cap - 1;
    size_t hole;
    size_t i;

    if (m->count == 0) {
        return NULL;
    }
    slot = strmap_probe(m, key, hash64(&m->hash_key, key));
    if (slot->key == NULL) {
        return NULL;
    }
    value = slot->value;
    mem_free(slot->key);
    m->count--;
    /*
     * Close the gap: move back every later entry of the run that may stand in the hole (Knuth 6.4,
     * algorithm R).
     */
    hole = (size_t)(slot - m->slots);
    for (i = (hole + 1) & mask; m->slots[i].key != NULL; i = (i + 1) & mask) {
        size_t home = (size_t)m->slots[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole] = (struct strmap_slot){0};
    return value;
}

const struct strmap_slot *strmap_next(const struct strmap *m, size_t *cursor)
{
    while (*cursor < m->cap) {
        const struct strmap_slot *slot = &m->slots[(*cursor)++];
        if (slot->key != NULL) {
            return slot;
        }
    }
    return NULL;
}
