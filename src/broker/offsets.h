/*
 * Consumer offsets: per (group, topic, queue) the offset of the next message to consume.
 *
 * Durable through OFFSETS records: an update is appended and becomes true in offsets_apply. Oneway
 * updates (RocketMQ clients send one every five seconds per queue) are collected with offsets_note
 * and written together by the broker's timer; what has been noted is answered to queries at once,
 * as RocketMQ does.
 *
 * Memory: queues lie in blocks of OFFSET_BLOCK_QUEUES that exist when one of them has an offset;
 * all of it together is at most OFFSETS_BYTES_MAX, whoever asks. What a log holds is taken in full.
 *
 * Owns:    its table.
 * Thread:  loop.
 * Pure:    no clock, no I/O.
 * Holds:   an offset is >= 0; dirty entries are exactly those noted and not yet taken by
 * offsets_take_dirty.
 */
#ifndef SRC_BROKER_OFFSETS_H
#define SRC_BROKER_OFFSETS_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"

#include <stdbool.h>
#include <stdint.h>

/* Distinct (group, topic) pairs that may have offsets: bounds what hostile clients can make the
 * broker keep. */
#define OFFSETS_PAIRS_MAX   200000
#define OFFSETS_BYTES_MAX   ((size_t)64 << 20)
#define OFFSET_BLOCK_QUEUES 16u

struct offset_block {
    int64_t offset[OFFSET_BLOCK_QUEUES]; /* -1 = none */
    uint32_t dirty;                      /* bit per queue */
};

struct offset_pair {
    char *group; /* group name, then topic name, owned */
    uint32_t group_len;
    uint32_t topic_len;
    struct offset_block **blocks; /* NULL inside = no offsets */
    uint32_t block_count;
    bool is_dirty;
    struct offset_pair *next_dirty;
};

struct offsets {
    struct strmap by_pair; /* group_topic.h */
    struct offset_pair *dirty;
    size_t bytes; /* of pairs and blocks */
};

void offsets_init(struct offsets *o, struct hash_key key);
void offsets_fini(struct offsets *o);

/* false when nothing was ever stored for this queue. */
bool offsets_find(const struct offsets *o, struct slice group, struct slice topic, uint32_t queue,
                  int64_t *offset);

/*
 * Remember an update and mark it dirty. ESCROW_EINVAL (negative offset, queue >=
 * QUEUES_PER_TOPIC_MAX, empty or overlong name), ESCROW_ELIMIT (too many pairs, or too much memory
 * for all of them), ESCROW_ENOMEM; no offset has changed then.
 */
ESCROW_MUST_USE int offsets_note(struct offsets *o, struct slice group, struct slice topic,
                                 uint32_t queue, int64_t offset);

/* Forget what a group has consumed, noted or applied. */
void offsets_remove_group(struct offsets *o, struct slice group);

bool offsets_is_dirty(const struct offsets *o);

/*
 * Encode dirty entries as the payload of one OFFSETS record and clear them, until the payload would
 * pass limit_bytes; true when dirty entries are left. Takes nothing when memory is short
 * (buf_failed), so that no entry is ever cut. When the append is then refused, the caller marks
 * them again with offsets_redirty(payload).
 */
bool offsets_take_dirty(struct offsets *o, struct buf *payload, size_t limit_bytes);
void offsets_redirty(struct offsets *o, struct slice payload);

/* Apply an OFFSETS record. ESCROW_ECORRUPT when malformed. An entry that was noted again meanwhile
 * keeps the noted value. */
ESCROW_MUST_USE int offsets_apply(struct offsets *o, struct slice payload, struct err_ctx *err);

/* Checkpoint section "offsets". */
void offsets_save(const struct offsets *o, struct buf *out);
ESCROW_MUST_USE int offsets_load(struct offsets *o, struct slice section, struct err_ctx *err);

/* Visit every stored offset. */
typedef void offsets_visit_fn(void *arg, struct slice group, struct slice topic, uint32_t queue,
                              int64_t offset);
void offsets_visit(const struct offsets *o, offsets_visit_fn *fn, void *arg);

/* Visit every (group, topic) of which an offset is stored, once. */
typedef void offsets_visit_pair_fn(void *arg, struct slice group, struct slice topic);
void offsets_visit_pairs(const struct offsets *o, offsets_visit_pair_fn *fn, void *arg);

/* Is any offset of the pair stored? */
bool offsets_has_pair(const struct offsets *o, struct slice group, struct slice topic);

#endif
