#include "src/broker/queue_locks.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "src/broker/clients.h"

#include <stdio.h>
#include <string.h>

#define SWEEP_MIN 1024 /* locks; below it expired ones are not worth looking for */

struct queue_lock_entry {
    int64_t renewed_ms;
    char client_id[]; /* NUL-terminated */
};

/* '@' is in no valid name. */
struct lock_name {
    char text[2 * 256 + 16];
};

static int lock_name_make(const struct queue_lock_key *key, struct lock_name *name,
                          struct slice *out)
{
    int len;

    if (key->group.len > GROUP_LEN_MAX || key->topic.len > RETRY_TOPIC_LEN_MAX ||
        key->client_id.len == 0 || key->client_id.len > CLIENT_ID_MAX) {
        return ESCROW_EINVAL;
    }
    len = snprintf(name->text, sizeof name->text, "%.*s@%.*s@%d", SLICE_ARGS(key->group),
                   SLICE_ARGS(key->topic), key->queue_id);
    CHECK(len > 0 && (size_t)len < sizeof name->text);
    *out = slice_of(name->text, (size_t)len);
    return 0;
}

static bool is_expired(const struct queue_locks *locks, const struct queue_lock_entry *entry,
                       int64_t now_ms)
{
    return now_ms - entry->renewed_ms > locks->expiry_ms;
}

void queue_locks_init(struct queue_locks *locks, struct hash_key key, int64_t expiry_ms)
{
    locks->expiry_ms = expiry_ms;
    strmap_init(&locks->by_queue, key);
    locks->sweep_at = SWEEP_MIN;
}

void queue_locks_fini(struct queue_locks *locks)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&locks->by_queue, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&locks->by_queue);
}

/*
 * Free what has expired, by building the map anew without it. Costs as much as the map is large,
 * and is next done when it has doubled. ESCROW_ENOMEM: nothing has changed.
 */
static int sweep(struct queue_locks *locks, int64_t now_ms)
{
    struct strmap kept;
    const struct strmap_slot *slot;
    size_t cursor = 0;

    strmap_init(&kept, locks->by_queue.hash_key);
    while ((slot = strmap_next(&locks->by_queue, &cursor)) != NULL) {
        if (!is_expired(locks, slot->value, now_ms) &&
            strmap_put(&kept, slice_of(slot->key, slot->key_len), slot->value) != 0) {
            strmap_fini(&kept);
            return ESCROW_ENOMEM;
        }
    }
    cursor = 0;
    while ((slot = strmap_next(&locks->by_queue, &cursor)) != NULL) {
        if (is_expired(locks, slot->value, now_ms)) {
            mem_free(slot->value);
        }
    }
    strmap_fini(&locks->by_queue);
    locks->by_queue = kept;
    locks->sweep_at = kept.count < SWEEP_MIN / 2 ? SWEEP_MIN : kept.count * 2;
    return 0;
}

static int lock_add(struct queue_locks *locks, struct slice name, struct slice client_id,
                    int64_t now_ms)
{
    struct queue_lock_entry *entry;
    int rc;

    if (locks->by_queue.count >= locks->sweep_at || locks->by_queue.count >= QUEUE_LOCKS_MAX) {
        rc = sweep(locks, now_ms);
        if (rc != 0 || locks->by_queue.count >= QUEUE_LOCKS_MAX) {
            return rc != 0 ? rc : ESCROW_ELIMIT;
        }
    }
    entry = mem_alloc(sizeof *entry + client_id.len + 1);
    if (entry == NULL) {
        return ESCROW_ENOMEM;
    }
    entry->renewed_ms = now_ms;
    (void)slice_to_cstr(client_id, entry->client_id, client_id.len + 1);
    rc = strmap_put(&locks->by_queue, name, entry);
    if (rc != 0) {
        mem_free(entry);
    }
    return rc;
}

int queue_locks_take(struct queue_locks *locks, const struct queue_lock_key *key, int64_t now_ms)
{
    struct lock_name text;
    struct slice name;
    struct queue_lock_entry *entry;
    int rc = lock_name_make(key, &text, &name);

    if (rc != 0) {
        return rc;
    }
    entry = strmap_find(&locks->by_queue, name);
    if (entry != NULL && slice_eq_str(key->client_id, entry->client_id)) {
        entry->renewed_ms = now_ms;
        return 0;
    }
    if (entry != NULL && !is_expired(locks, entry, now_ms)) {
        return ESCROW_EBUSY;
    }
    mem_free(strmap_take(&locks->by_queue, name));
    return lock_add(locks, name, key->client_id, now_ms);
}

void queue_locks_give(struct queue_locks *locks, const struct queue_lock_key *key)
{
    struct lock_name text;
    struct slice name;
    const struct queue_lock_entry *entry;

    if (lock_name_make(key, &text, &name) != 0) {
        return;
    }
    entry = strmap_find(&locks->by_queue, name);
    if (entry != NULL && slice_eq_str(key->client_id, entry->client_id)) {
        mem_free(strmap_take(&locks->by_queue, name));
    }
}
