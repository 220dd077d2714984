/*
 * Inside of struct txn, shared by the txn*.c files and their unit tests.
 *
 * Owns:    everything in it.
 * Thread:  loop.
 * Holds:   txn_check().
 */
#ifndef TXN_TXN_PRIVATE_H
#define TXN_TXN_PRIVATE_H

#include "core/store/store.h"
#include "txn/check_back.h"
#include "txn/decided.h"
#include "txn/group_names.h"
#include "txn/half_table.h"
#include "txn/txn.h"

struct txn {
    struct txn_config config;
    struct half_table table;
    struct decided decided;
    struct group_names group_names; /* of what is in `decided` */
    struct check_back check_back;
    struct hash_key id_key; /* of ids; kept in the checkpoint, because halves keep only the hash */
    struct txn_counters counters;
    uint64_t reserve_bytes;

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
