/*
 * Outbox sources: for every (source, lane) who may publish (epoch) and how far the database has
 * been read (position).
 *
 * The position is stored in the same atomic group of log records as the messages it covers, so that
 * a batch is in its topics exactly once whatever dies. What a position means is the relay's
 * business: here it is bytes. It names the database system and timeline it belongs to; another
 * system or timeline is refused until a person decides (design.md section 6).
 *
 * A change is noted when its POSITION record is appended (the log is written in order and a failed
 * write ends the process, so an appended record is either in the log or nothing after it is) and
 * applied again when it is durable: `sequence` makes the second time, and replay, harmless.
 *
 * Owns:    every struct source in it.
 * Thread:  loop.
 * Pure:    no clock, no I/O.
 * Holds:   epoch and sequence of a source only grow.
 */
#ifndef SRC_BROKER_SOURCES_H
#define SRC_BROKER_SOURCES_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/strmap.h"

#include <stdbool.h>
#include <stdint.h>

#define SOURCES_MAX         10000
#define SOURCE_NAME_MAX     127
#define SOURCE_POSITION_MAX 65536 /* a snapshot with thousands of running transactions in it */
#define SOURCE_OWNER_MAX    127

struct source {
    char name[SOURCE_NAME_MAX + 1];
    char owner[SOURCE_OWNER_MAX + 1]; /* who opened it last, for people */
    uint32_t lane;
    uint32_t timeline;
    uint64_t system_id;
    uint64_t epoch;      /* 0 = never opened */
    uint64_t sequence;   /* of the last POSITION record noted */
    uint64_t log_offset; /* where that record stands; an answer waits until the log is durable
                            beyond it */
    struct buf position; /* empty = nothing read yet */
    struct buf applied; /* payload of the last POSITION record applied: what a checkpoint may say */
};

struct sources {
    struct strmap by_name; /* key: name, 0x01, lane in 4 bytes */
};

void sources_init(struct sources *s, struct hash_key key);
void sources_fini(struct sources *s);

/* NULL when never opened. */
struct source *sources_find(const struct sources *s, struct slice name, uint32_t lane);

/*
 * What opening would store: `next` is filled with a copy (position borrowed from the table: do not
 * fini) with epoch and sequence moved on. ESCROW_EFOREIGN when the source is known with another
 * system id or timeline, and adopt is false. ESCROW_EINVAL (bad name),
 * ESCROW_ELIMIT. The table has not changed.
 */
struct source_open {
    struct slice name;
    struct slice owner;
    uint32_t lane;
    uint32_t timeline;
    uint64_t system_id;
    bool adopt; /* keep the position although it belongs to another system or timeline */
};
ESCROW_MUST_USE int sources_open(const struct sources *s, const struct source_open *open,
                                 struct source *next, struct err_ctx *err);

/*
 * May a batch of `epoch` that moves the position from `prev` to `to` be appended?
 *   0                it may: *next is what to store (position borrowed from `to`)
 *   ESCROW_EEXIST    it is stored already (to == current position): answer as success
 *   ESCROW_EFENCED   a newer epoch exists, or the source was never opened
 *   ESCROW_ECONFLICT `prev` is not the current position: the relay has to open again and compare
 *   ESCROW_EINVAL    `to` is empty
 *   ESCROW_ETOOBIG   `to` is too long
 */
ESCROW_MUST_USE int sources_advance(const struct source *src, uint64_t epoch, struct slice prev,
                                    struct slice to, struct source *next);

/* Payload of a POSITION record (core/store/FORMAT.md, "POSITION"). */
void source_encode(struct buf *out, const struct source *src);

/* After the record was appended at log_offset: the table says what the log will say. ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int sources_note(struct sources *s, const struct source *next, uint64_t log_offset);

/* Apply a POSITION record, live or in replay; older than what is noted: nothing happens. */
ESCROW_MUST_USE int sources_apply(struct sources *s, struct slice payload, struct err_ctx *err);

/* Checkpoint section "sources". */
void sources_save(const struct sources *s, struct buf *out);
ESCROW_MUST_USE int sources_load(struct sources *s, struct slice section, struct err_ctx *err);

/* Iterate in no order; *cursor starts at 0. NULL at the end. */
const struct source *sources_next(const struct sources *s, size_t *cursor);

#endif
