/*
 * The pair of a consumer group and a topic: its key in tables, and how records and checkpoint
 * sections write it.
 *
 * Written: group length u16, group, topic length u16, topic. Key: "group 0x01 topic"; no name has a
 * 0x01 (core/proto/names.h), so no two pairs have the same key.
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 */
#ifndef SRC_BROKER_GROUP_TOPIC_H
#define SRC_BROKER_GROUP_TOPIC_H

#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define GROUP_TOPIC_FIXED_BYTES 4 /* of what is written, besides the names */

struct group_topic_key {
    uint8_t bytes[GROUP_LEN_MAX + 1 + RETRY_TOPIC_LEN_MAX];
    size_t len;
};

/* false, and *key unspecified: a name is empty, too long, or the group's has a 0x01. */
bool group_topic_key_make(struct group_topic_key *key, struct slice group, struct slice topic);

static inline struct slice group_topic_key_slice(const struct group_topic_key *key)
{
    return slice_of(key->bytes, key->len);
}

/* The names have at most UINT16_MAX bytes each. */
void group_topic_encode(struct buf *out, struct slice group, struct slice topic);

/*
 * Read the pair at the start of *in and advance past it. false, and nothing has changed, unless
 * `behind` bytes follow it. Names are borrowed from *in, and not checked.
 */
bool group_topic_decode(struct slice *in, size_t behind, struct slice *group, struct slice *topic);

#endif
