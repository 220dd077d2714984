/*
 * Record and section layout: group and topic (group_topic.h), mode u8 (0 pull, 1 pop), share u32.
 */
#include "src/broker/request_modes.h"

#include "core/base/bytes.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "src/broker/group_topic.h"

#include <string.h>

#define MODE_NUMBERS_BYTES 5 /* mode, share */

struct mode_entry {
    int32_t share_queues;
    uint32_t group_len;
};

void request_modes_init(struct request_modes *m, struct hash_key key)
{
    strmap_init(&m->by_pair, key);
}

void request_modes_fini(struct request_modes *m)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&m->by_pair, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(&m->by_pair);
}

enum request_mode request_modes_find(const struct request_modes *m, struct slice group,
                                     struct slice topic, int32_t *share_queues)
{
    struct group_topic_key key;
    const struct mode_entry *entry = NULL;

    if (group_topic_key_make(&key, group, topic)) {
        entry = strmap_find(&m->by_pair, group_topic_key_slice(&key));
    }
    *share_queues = entry == NULL ? 0 : entry->share_queues;
    return entry == NULL ? REQUEST_MODE_PULL : REQUEST_MODE_POP;
}

bool request_modes_is_full(const struct request_modes *m)
{
    return m->by_pair.count >= REQUEST_MODES_MAX;
}

void request_mode_encode(struct buf *out, const struct mode_request *mode)
{
    group_topic_encode(out, mode->group, mode->topic);
    buf_append_u8(out, mode->mode == REQUEST_MODE_POP ? 1 : 0);
    buf_append_le32(out, (uint32_t)mode->share_queues);
}

/* Decode one entry at the start of *in and advance past it. */
static bool mode_decode(struct slice *in, struct mode_request *mode)
{
    uint8_t what;

    if (!group_topic_decode(in, MODE_NUMBERS_BYTES, &mode->group, &mode->topic)) {
        return false;
    }
    what = in->ptr[0];
    mode->mode = what == 1 ? REQUEST_MODE_POP : REQUEST_MODE_PULL;
    mode->share_queues = (int32_t)get_le32(in->ptr + 1);
    *in = slice_of(in->ptr + MODE_NUMBERS_BYTES, in->len - MODE_NUMBERS_BYTES);
    return what <= 1;
}

static int mode_set(struct request_modes *m, const struct mode_request *mode)
{
    struct group_topic_key key;
    struct mode_entry *entry;
    int rc = 0;

    if (!group_topic_key_make(&key, mode->group, mode->topic)) {
        return ESCROW_ECORRUPT;
    }
    if (mode->mode == REQUEST_MODE_PULL) {
        mem_free(strmap_take(&m->by_pair, group_topic_key_slice(&key)));
        return 0;
    }
    entry = strmap_find(&m->by_pair, group_topic_key_slice(&key));
    if (entry == NULL) {
        entry = mem_calloc(1, sizeof *entry);
        rc = entry == NULL ? ESCROW_ENOMEM
                           : strmap_put(&m->by_pair, group_topic_key_slice(&key), entry);
        if (rc != 0) {
            mem_free(entry);
            return rc;
        }
        entry->group_len = (uint32_t)mode->group.len;
    }
    entry->share_queues = mode->share_queues;
    return 0;
}

int request_modes_apply(struct request_modes *m, struct slice payload, struct err_ctx *err)
{
    struct mode_request mode = {.mode = REQUEST_MODE_PULL};
    int rc =
        mode_decode(&payload, &mode) && payload.len == 0 ? mode_set(m, &mode) : ESCROW_ECORRUPT;

    return rc == 0 ? 0 : err_set(err, rc, "MODE record: %s", escrow_strerror(rc));
}

/* The next pair of this group or topic; NULL when there is none. */
static const struct strmap_slot *pair_of(const struct request_modes *m, struct slice group,
                                         struct slice topic)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&m->by_pair, &cursor)) != NULL) {
        const struct mode_entry *entry = slot->value;
        struct slice key = slice_of(slot->key, slot->key_len);
        struct slice of = slice_of(key.ptr + entry->group_len + 1, key.len - entry->group_len - 1);
        if ((group.len > 0 && slice_eq(slice_of(key.ptr, entry->group_len), group)) ||
            (topic.len > 0 && slice_eq(of, topic))) {
            return slot;
        }
    }
    return NULL;
}

void request_modes_remove(struct request_modes *m, struct slice group, struct slice topic)
{
    const struct strmap_slot *slot;

    while ((slot = pair_of(m, group, topic)) != NULL) {
        struct group_topic_key key = {.len = slot->key_len};
        memcpy(key.bytes, slot->key, slot->key_len);
        mem_free(strmap_take(&m->by_pair, group_topic_key_slice(&key)));
    }
}

void request_modes_save(const struct request_modes *m, struct buf *out)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&m->by_pair, &cursor)) != NULL) {
        const struct mode_entry *entry = slot->value;
        struct mode_request mode = {
            .group = slice_of(slot->key, entry->group_len),
            .topic =
                slice_of(slot->key + entry->group_len + 1, slot->key_len - entry->group_len - 1),
            .mode = REQUEST_MODE_POP,
            .share_queues = entry->share_queues,
        };
        request_mode_encode(out, &mode);
    }
}

int request_modes_load(struct request_modes *m, struct slice section, struct err_ctx *err)
{
    struct mode_request mode = {.mode = REQUEST_MODE_PULL};
    int rc = 0;

    while (rc == 0 && section.len > 0) {
        rc = mode_decode(&section, &mode) ? mode_set(m, &mode) : ESCROW_ECORRUPT;
    }
    return rc == 0 ? 0 : err_set(err, rc, "checkpoint section modes: %s", escrow_strerror(rc));
}
