/*
 * Obeying txn/carried.h: when retention wants segments in which something is still held, copies of
 * that go to the end of the log.
 *
 * Copying pays when most of what could go is not held: held messages that fill more than half of it
 * stay where they are, and the log with them, or the same bytes would be written again and again
 * for little room.
 *
 * Thread:  loop; what is not in memory is read in the pump's pool, in the place of retention's job.
 * Errors:  none: what fails is logged, and retention comes again.
 * Holds:   until the copies are applied nothing else is carried.
 */
#ifndef SRC_BROKER_CARRY_H
#define SRC_BROKER_CARRY_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/store/store.h"
#include "txn/carried.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;

struct carry {
    struct carried table;
    uint64_t *ids; /* what is to be copied, in this order */
    size_t count;
    size_t next;
    uint64_t bytes;    /* log space of all of them */
    uint64_t wait_for; /* the last copy ends here: when that is visible the table knows it */
    struct store_fetch *fetch;
    struct pool_job job;
    struct buf record;
    struct loop_timer timer;
    bool is_busy;
    bool is_failing; /* the last plan was not carried out, and that was said */
    bool is_stopping;
};

void carry_init(struct broker *b);
void carry_fini(struct broker *b);
void carry_stop(struct broker *b); /* nothing new begins; a job that runs ends before the pump */

/* Where the record of a held message is to be read and released, given its first offset. */
uint64_t carry_where(const struct broker *b, uint64_t id);

/*
 * The lowest log offset that somebody needs; when it is below `enough`, any that is. *id: the
 * message that needs it.
 */
uint64_t carry_oldest_needed(struct broker *b, uint64_t enough, uint64_t *id);

enum carry_begun {
    CARRY_BEGUN, /* retention_resume will be called */
    CARRY_WAIT,  /* the last copies are not applied yet: look again soon */
    CARRY_NOT    /* it would not pay, or memory is short */
};

/* Begin to copy what is held in [first, to). */
enum carry_begun carry_begin(struct broker *b, uint64_t first, uint64_t to);

/* A copy is durable. As apply() in store.h. */
ESCROW_MUST_USE int carry_apply(struct broker *b, const struct store_record *rec,
                                struct err_ctx *err);

#endif
