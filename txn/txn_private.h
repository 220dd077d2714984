/*
 * Inside of struct txn, shared by the txn*.c files and their unit tests.
 *
 * Owns:    everything in it.
 * Thread:  loop.
 * Holds:   txn_check().
 */
#ifndef TXN_TXN_PRIVATE_H
#define TXN_TXN_PRIVATE_H

#include "core/base/heap.h"
#include "core/store/store.h"
#include "txn/check_back.h"
#include "txn/decided.h"
#include "txn/group_names.h"
#include "txn/half_table.h"
#include "txn/txn.h"

#define TXN_SAVE_VERSION    3u
#define TXN_SAVE_HEAD_BYTES 40u
#define TXN_SAVE_HALF_BYTES 56u

/*
 * A checkpoint section that is being written while records go on being applied (txn_save.c). Halves
 * up to `until` are in it: those below `next` are written, others are as they were when it began,
 * or in `kept`.
 */
struct txn_save {
    bool is_open;
    bool is_short; /* no memory to keep a half: the section is given up */
    struct txn_now now;
    size_t halves_at; /* in the checkpoint */
    size_t decided_at;
    size_t count; /* halves in the section */
    uint8_t *to;  /* where the next half goes, and where the last one ends */
    uint8_t *end;
    const struct half *next; /* the first that was neither written nor kept; NULL: none */
    uint64_t until;          /* offset of the last half that is in it */
    uint64_t last;           /* offset of the half written last */
    struct buf kept;         /* bytes of halves that changed before they were written */
    struct heap order;       /* of kept ones, by offset */
};

struct txn {
    struct txn_config config;
    struct half_table table;
    struct decided decided;
    struct group_names group_names; /* of what is in `decided` */
    struct check_back check_back;
    struct hash_key id_key; /* of ids; kept in the checkpoint, because halves keep only the hash */
    struct txn_counters counters;
    uint64_t reserve_bytes;
    size_t applied_count; /* halves whose own record is durable: the oldest ones of the table */
    uint64_t applied_to;  /* offset of the last one that was applied */
    struct txn_save save;

    /* Between txn_prepare's TXN_NEW and txn_half_appended; holds a reference to the route. */
    bool is_pending;
    struct hash128 pending_id;
    uint32_t pending_route;
};

/* Keyed hash of (group, transaction id). Both within their limits. */
struct hash128 txn_id_hash(const struct txn *t, struct slice group, struct slice txn_id);

/* 16 bits of a keyed hash of a group name, for the memory of decided halves. */
uint16_t txn_group_tag(const struct txn *t, struct slice group);

/* Lengths and numbers of *info are within bounds. */
bool txn_info_is_valid(const struct txn_half_info *info);

/* Forget a prepared half that was not appended. */
void txn_drop_pending(struct txn *t);

void txn_update_clear(struct txn_update *u);

/* Put a half into the table: APPENDING, with the facts of *info. After half_table_reserve. */
struct half *txn_insert(struct txn *t, const struct txn_half_info *info, struct hash128 id,
                        uint32_t route, uint64_t offset);

/* Its own record is durable. */
void txn_half_applied(struct txn *t, struct half *half);

/*
 * A record that is applied is about to change or remove this half: a checkpoint that is being
 * written gets it as it was.
 */
void txn_save_keep(struct txn *t, const struct half *half);

/* Give up what is being written; nothing may be. */
void txn_save_close(struct txn *t);

/* Memory of what is kept. */
size_t txn_save_bytes(const struct txn *t);

/* One half's entry of a DECISION. */
struct decision_entry txn_entry_of(const struct txn *t, const struct half *half);

/*
 * Move a half into the -ING state of a decision: no more timers, the reserve gives back what the
 * record takes.
 */
void txn_begin_decision(struct txn *t, struct half *half, enum decision_kind kind,
                        const char *event);

/* A half of which EXPIRE was appended has used this much of its reserve. */
size_t txn_reserve_share(const struct half *half);

/* Encode one decision about `count` halves. ESCROW_ENOMEM. */
ESCROW_MUST_USE int txn_encode_decision(const struct txn *t, const struct decision_head *head,
                                        struct half *const *halves, struct buf *out);

/* In builds with ESCROW_DCHECK: everything must hold, as long as there is little of it. */
void txn_dcheck(const struct txn *t);

#endif
