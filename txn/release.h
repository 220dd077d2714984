/*
 * Payload of RELEASE records: messages that were held for a time become visible, or are taken back.
 * Bytes, little-endian (STATES.md, "RELEASE"):
 *
 *   0 version u8 = 1 | 1 kind u8 | 2 zero u16 | 4 count u32, 1..1024 | 8 released at i64, ms |
 *   16 count entries:
 *     due        0 message's physical offset u64 | 8 record size u32 | 12 tag hash i32 |
 *                16 store time i64, ms | 24 queue u16 | 26 topic length u8, 1..255 | 27 topic
 *     recalled   the first 8 bytes of a due one
 *
 * As with DECISION, an entry holds all that a consume queue entry needs.
 *
 * Owns:    nothing.
 * Thread:  any. Pure.
 * Errors:  release_decode returns ESCROW_ECORRUPT for anything that is not exactly of this form;
 *          encoders fail only through buf_failed of the buffer they append to.
 */
#ifndef TXN_RELEASE_H
#define TXN_RELEASE_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "core/store/store.h"

#include <stdint.h>

#define RELEASE_VERSION        1
#define RELEASE_HEAD_BYTES     16u
#define RELEASE_DUE_BYTES      27u /* of an entry, without its topic */
#define RELEASE_RECALLED_BYTES 8u
#define RELEASE_COUNT_MAX      1024u

enum release_kind {
    RELEASE_DUE = 1,      /* its time has come: into its queue */
    RELEASE_RECALLED = 2, /* its producer took it back: nobody sees it */
};

struct release_head {
    enum release_kind kind;
    uint32_t count;
    int64_t at_ms;
};

struct release_entry {
    uint64_t offset;
    uint32_t size_bytes; /* this and the rest: 0 and empty when recalled */
    int32_t tag_hash;
    int64_t store_ms;
    uint32_t queue;
    struct slice topic; /* borrowed from the payload */
    int64_t at_ms;      /* of the whole record, from its head */
};

/* Append the head, then count entries. */
void release_encode_head(struct buf *b, const struct release_head *head);
void release_encode_entry(struct buf *b, enum release_kind kind, const struct release_entry *entry);

/* Walk of a payload that release_decode has accepted. */
struct release_iter {
    struct slice rest;
    enum release_kind kind;
    int64_t at_ms;
};

/*
 * Check the whole payload. On success *head is filled and *iter stands before the first entry.
 * ESCROW_ECORRUPT otherwise, both unspecified.
 */
ESCROW_MUST_USE int release_decode(struct slice payload, struct release_head *head,
                                   struct release_iter *iter);

/* false at the end. */
bool release_next(struct release_iter *iter, struct release_entry *entry);

/*
 * Call fn for each message that this payload puts into its queue, in order: none when it is
 * recalled.
 * ESCROW_ECORRUPT: malformed, nothing was called.
 */
ESCROW_MUST_USE int release_each_due(struct slice payload, store_release_fn *fn, void *arg);

/* "due", "recalled"; "?" for anything else. Static storage. */
const char *release_kind_name(enum release_kind kind);

#endif
