/*
 * What is known of damage behind the checkpoint: places where a reader met a record, or an entry of
 * a queue, that is not what was written; and skips, ranges of queues in which an operator allows
 * readers to go on behind damage. Damage is never delivered and nothing is ever removed because of
 * it: a skip is a permission, and what reads well inside of one is delivered all the same.
 *
 * Places are remembered in memory, so that each is told once (store_owner.damaged), however many
 * readers come by. Skips are facts of the log: SKIPPED records and the section "skips" (FORMAT.md).
 *
 * Owns:    both lists. Queues are borrowed: they live as long as the store.
 * Thread:  loop; a copy of the skips may be read by a job.
 * Holds:   skips of a queue do not overlap or touch; each has first < end. At most
 *          DAMAGE_PLACES_MAX places.
 */
#ifndef CORE_STORE_DAMAGE_H
#define CORE_STORE_DAMAGE_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/slice.h"
#include "core/store/queue.h"
#include "core/store/store.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct queues;

#define DAMAGE_PLACES_MAX STORE_DAMAGED_MAX

/* Ranges that may be in force; an append beyond is refused. */
#define DAMAGE_SKIPS_MAX 1024u

#define DAMAGE_SECTION "skips"

/* ------------------------------------------------------------------ payload of SKIPPED */

struct skip_payload {
    struct slice topic;
    uint32_t queue_id;
    uint64_t first; /* entries [first, end) */
    uint64_t end;
};

void skip_encode(struct buf *b, const struct skip_payload *skip);

/*
 * One payload from the front of *bytes, which moves behind it. ESCROW_ECORRUPT for anything that
 * skip_encode does not write.
 */
ESCROW_MUST_USE int skip_decode(struct slice *bytes, struct skip_payload *skip);

/* ------------------------------------------------------------------ skips */

struct skip {
    const struct queue *queue;
    uint64_t first;
    uint64_t end;
};

struct skips {
    struct skip *list;
    size_t count;
    size_t cap;
    size_t appended; /* SKIPPED records on their way: there is room for them */
};

void skips_fini(struct skips *s);

/* *copy is empty; for a job. ESCROW_ENOMEM. */
ESCROW_MUST_USE int skips_copy(struct skips *copy, const struct skips *s);

/* May a reader go on behind damage at this entry? */
bool skips_allow(const struct skips *s, const struct queue *queue, uint64_t number);

/* Room for one more, so that applying it cannot fail. ESCROW_ELIMIT, ESCROW_ENOMEM. */
ESCROW_MUST_USE int skips_reserve(struct skips *s);

/*
 * A SKIPPED record is applied: what it touches becomes one range with it. ESCROW_ENOMEM only
 * without skips_reserve (recovery).
 */
ESCROW_MUST_USE int skips_add(struct skips *s, const struct skip *skip);

/* Forget what lies below the first entry of its queue. */
void skips_prune(struct skips *s);

/* The section: nothing without skips. */
void skips_save(const struct skips *s, struct buf *b);
ESCROW_MUST_USE int skips_load(struct skips *s, const struct queues *queues, struct slice section,
                               struct err_ctx *err);

/* ------------------------------------------------------------------ places */

#define DAMAGE_NO_OFFSET UINT64_MAX

struct damage_place {
    uint64_t offset;           /* of the record; DAMAGE_NO_OFFSET: the entry itself is damaged */
    const struct queue *queue; /* that leads to it; NULL: met by its place in the log */
    uint64_t number;           /* of the entry */
    int error;                 /* ESCROW_ECORRUPT or ESCROW_EIO */
    char *text;                /* file, offset, reason; owned */
};

struct damage {
    struct damage_place *list;
    size_t count;
    size_t cap;
    uint64_t met; /* since the start */
};

void damage_fini(struct damage *d);

/* Is the record at this offset known to be damaged? */
bool damage_is_known(const struct damage *d, uint64_t offset);

/*
 * A reader met this place. Returns it when it is worth telling: it is new, or was known without a
 * queue so far; otherwise NULL, also when there is no room or no memory for it. text NULL: as it is
 * known (a place that is).
 */
const struct damage_place *damage_note(struct damage *d, const struct damage_place *place,
                                       const char *text);

/* Forget what the log and its queues no longer have. `low`: where the log begins. */
void damage_prune(struct damage *d, uint64_t low);

#endif
