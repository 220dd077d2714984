/*
 * Payloads of DECISION and CHECK records. Bytes, little-endian (also in core/store/FORMAT.md,
 * "Payloads owned by txn"):
 *
 *   DECISION   0 version u8 = 2 | 1 kind u8 | 2 by u8 | 3 zero u8 | 4 count u32, 1..1024 |
 *              8 decided at i64, ms |
 *              16 count entries:
 *                commit     0 half's physical offset u64 | 8 record size u32 | 12 tag hash i32 |
 *                           16 store time i64, ms | 24 queue u16, bit 15: held for a time |
 *                           26 topic length u8, 1..127 | 27 topic
 *                expire     the first 24 bytes of a commit
 *                rollback   the first 8 bytes of a commit
 *   CHECK      0 version u8 = 1 | 1..3 zero | 4 count u32, 1..1024 | 8 written at i64, ms |
 *              16 count entries: 0 half's physical offset u64 | 8 rounds counted so far u32
 *
 * An entry holds all that the consume queue entry of its half needs (that of an expired one goes to
 * queue 0 of the parking topic), so that queues can be rebuilt from the log alone, without reading
 * the halves again and without knowing anything of transactions. A half that asked for a delay is
 * not shown by its commit: from then on it waits for a RELEASE (release.h). Version 1 had no such
 * halves. One record decides all its halves or, if it is torn, none. CHECK entries are absolute:
 * reading one twice changes nothing.
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 * Errors:  decoders return ESCROW_ECORRUPT for anything that is not exactly of this form; encoders
 *          fail only through buf_failed of the buffer they append to.
 */
#ifndef TXN_DECISION_H
#define TXN_DECISION_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "core/store/store.h"

#include <stdint.h>

#define DECISION_VERSION        2
#define CHECK_VERSION           1
#define DECISION_HEAD_BYTES     16u
#define DECISION_COMMIT_BYTES   27u /* of an entry, without its topic */
#define DECISION_EXPIRE_BYTES   24u
#define DECISION_ROLLBACK_BYTES 8u
#define CHECK_ENTRY_BYTES       12u

enum decision_kind {
    DECISION_NONE = 0,
    DECISION_COMMIT = 1,
    DECISION_ROLLBACK = 2,
    DECISION_EXPIRE =
        3, /* not a decision about the message: it is parked and can still be decided */
};

enum decision_by {
    DECISION_BY_NOBODY = 0,
    DECISION_BY_PRODUCER = 1, /* END_TRANSACTION of the producer's own */
    DECISION_BY_CHECK = 2,    /* the answer to a check-back */
    DECISION_BY_OPERATOR = 3, /* a person, through the command line */
    DECISION_BY_BROKER = 4,   /* expire: the checks were used up */
};

struct decision_head {
    enum decision_kind kind;
    enum decision_by by;
    uint32_t count;
    int64_t at_ms;
};

struct decision_entry {
    uint64_t offset;
    uint32_t size_bytes; /* this and the next two: 0 in a rollback */
    int32_t tag_hash;
    int64_t store_ms;
    uint32_t queue;     /* commit only, like the next two */
    bool is_held;       /* not shown now: held until it is due */
    struct slice topic; /* borrowed from the payload */
};

/*
 * Bytes of a DECISION payload's entry, and of a whole record (envelope and padding included)
 * that decides one half.
 */
size_t decision_entry_bytes(enum decision_kind kind, size_t topic_len);
size_t decision_record_bytes(enum decision_kind kind, size_t topic_len);

/* Append the head, then count entries. */
void decision_encode_head(struct buf *b, const struct decision_head *head);
void decision_encode_entry(struct buf *b, enum decision_kind kind,
                           const struct decision_entry *entry);

/* Walk of a payload that decision_decode has accepted. */
struct decision_iter {
    struct slice rest;
    enum decision_kind kind;
    uint8_t version;
};

/*
 * Check the whole payload. On success *head is filled and *iter stands before the first entry.
 * ESCROW_ECORRUPT otherwise, both unspecified.
 */
ESCROW_MUST_USE int decision_decode(struct slice payload, struct decision_head *head,
                                    struct decision_iter *iter);

/* false at the end. */
bool decision_next(struct decision_iter *iter, struct decision_entry *entry);

/*
 * Call fn for each half that this payload puts into a queue, in order: those of a commit that are
 * not held for a time into their own, those of an expire into the parking topic's, none of a
 * rollback. ESCROW_ECORRUPT: malformed, nothing was called.
 */
ESCROW_MUST_USE int decision_each_shown(struct slice payload, store_release_fn *fn, void *arg);

struct check_entry {
    uint64_t offset;
    uint32_t checks; /* rounds counted so far */
};

struct check_iter {
    struct slice rest;
};

void check_encode_head(struct buf *b, uint32_t count, int64_t at_ms);
void check_encode_entry(struct buf *b, const struct check_entry *entry);
ESCROW_MUST_USE int check_decode(struct slice payload, uint32_t *count, int64_t *at_ms,
                                 struct check_iter *iter);
bool check_next(struct check_iter *iter, struct check_entry *entry);

/*
 * "commit", "rollback", "expire"; "producer", "check", "operator", "broker". Static storage; "?"
 * for anything else.
 */
const char *decision_kind_name(enum decision_kind kind);
const char *decision_by_name(enum decision_by by);

#endif
