/*
 * One consume queue, in memory: its counters and the entries that are not in a file yet. No I/O;
 * core/store/queues.h is the set of all queues, with their files, and what the rest of the store
 * calls.
 *
 * An entry has a number, from 0 in every queue. Numbers are handed out when a record is appended to
 * the log (queue_reserve) and become visible when it is applied (queue_put), in the same order.
 * queue_reserve also makes the room, so that queue_put, which happens when the record is already
 * durable, cannot fail.
 *
 * Owns:    its chunks of entries, already encoded as they are in the file.
 * Thread:  loop. A flush job reads the bytes of entries below `visible` that it was given, and
 *          `topic` and `id`, which never change; the loop writes only at and above `visible`.
 * Holds:   min <= visible <= append_next; flushed <= visible; chunks tile [chunk_head->first, ...)
 *          without a hole and cover [flushed, append_next). queue_check() asserts it.
 */
#ifndef CORE_STORE_QUEUE_H
#define CORE_STORE_QUEUE_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QUEUE_ENTRY_SIZE   20u
#define QUEUE_FILE_ENTRIES 300000u
#define QUEUE_FILE_SIZE    UINT64_C(6000000) /* their product */

#define QUEUE_NUMBER_MAX (UINT64_C(1) << 50) /* file numbers fit 32 bits, offsets 64 */

#define QUEUE_CHUNK_ENTRIES_MIN 8u     /* the first chunk of a queue that had none: 200 bytes */
#define QUEUE_CHUNK_ENTRIES_MAX 16384u /* each further chunk is twice the last, up to 320 KiB */

struct queue_entry {
    uint64_t offset;     /* physical offset of the record's envelope */
    uint32_t size_bytes; /* of the payload */
    int64_t tag_hash;    /* Java String.hashCode() of the tag, 0 without one */
};

/*
 * As in memory and in the file (FORMAT.md, "Consume queues"): with a check over its bytes and its
 * number, because an entry whose tag hash was damaged would hide a message without a word.
 * tag_hash is an int32.
 */
void queue_entry_encode(const struct queue_entry *entry, uint64_t number,
                        uint8_t dst[QUEUE_ENTRY_SIZE]);

/* false: these bytes are not entry `number`; *entry is then unspecified. */
ESCROW_MUST_USE bool queue_entry_decode(const uint8_t src[QUEUE_ENTRY_SIZE], uint64_t number,
                                        struct queue_entry *entry);

struct queue_chunk {
    struct queue_chunk *prev;
    struct queue_chunk *next;
    uint64_t first; /* number of the first entry */
    uint32_t cap;   /* entries */
    uint8_t bytes[];
};

/* Read the members freely; change them only through the functions below and those of queues.h. */
struct queue {
    struct queue_topic *topic; /* queues.h: queue_topic() */
    uint64_t min;         /* first entry that still exists (retention); entries below are gone */
    uint64_t flushed;     /* entries below are in the queue's files */
    uint64_t visible;     /* entries below are applied: the next number to become visible */
    uint64_t append_next; /* the next number to hand out */
    struct queue_chunk *chunk_head;
    struct queue_chunk *chunk_tail;
    struct queue_chunk *chunk_put; /* where entry `visible` goes; NULL when nothing is reserved */
    struct queue *dirty_next;      /* list of queues with entries not in a file; the set's */
    uint32_t first_file; /* number of the first file that may exist; none below the next to write */
    uint16_t id;
    bool is_dirty;   /* in that list */
    bool is_unsure;  /* a flush failed: a file may exist whose name is not durable */
    bool is_touched; /* had an entry put since the last checkpoint */
};

void queue_init(struct queue *q, struct queue_topic *topic, uint16_t id);
void queue_fini(struct queue *q);

/*
 * An empty queue that begins at entry `first`, because the log no longer has what was before.
 * CHECKs that it is unused and first <= QUEUE_NUMBER_MAX.
 */
void queue_begin_at(struct queue *q, uint64_t first);

/*
 * Hand out the next number. 0, ESCROW_ENOMEM or ESCROW_ELIMIT (QUEUE_NUMBER_MAX); nothing has
 * changed on an error.
 */
ESCROW_MUST_USE int queue_reserve(struct queue *q, uint64_t *number);

/* Take back the number handed out last: CHECKs that it is that one, and not put. */
void queue_unreserve(struct queue *q, uint64_t number);

/*
 * Entry number `visible` is applied; returns its number. CHECKs that a number was handed out for
 * it.
 */
uint64_t queue_put(struct queue *q, const struct queue_entry *entry);

/* Entries not in a file: visible - flushed. */
uint64_t queue_pending_count(const struct queue *q);

/*
 * Encoded entries [first, ...) that are in memory and contiguous there: sets *bytes (borrowed until
 * the next queue_flushed) and returns how many, at most count_max and never beyond `visible`. 0
 * when entry `first` is not in memory.
 */
uint32_t queue_memory(const struct queue *q, uint64_t first, uint32_t count_max,
                      const uint8_t **bytes);

/*
 * Entries below `end` (flushed <= end <= visible) are in files now: frees the chunks that are no
 * longer needed.
 */
void queue_flushed(struct queue *q, uint64_t end);

/* Entries below `min` are gone; a lower or equal value changes nothing. CHECKs min <= visible. */
void queue_set_min(struct queue *q, uint64_t min);

/* Asserts what "Holds" says. */
void queue_check(const struct queue *q);

/*
 * Search by store time: the first entry whose store time is >= ms, or `visible` when there is none.
 * Store times rise with the entry's number except where a clock jumped back or a held message was
 * released; there the result is one of the entries around the jump. A step function, so that a
 * caller may fetch what is cold between two steps:
 *
 *     queue_search_begin(&search, q, ms);
 *     while (queue_search_next(&search, &number)) {
 *         ... store_ms of the record of entry `number` ...
 *         queue_search_feed(&search, number, store_ms);
 *     }
 *     result = search.low;
 *
 * Of an entry whose record retention took nobody knows the time (queue_search_gone): the search
 * looks at later ones, in steps that double, and when they are gone too goes on before them. The
 * result may then be earlier than it had to be, never later.
 */
struct queue_search {
    uint64_t low;  /* every entry below is earlier than ms */
    uint64_t high; /* this entry and those above are not earlier than ms */
    uint64_t step; /* distance from the middle; not 0 when the entry there is gone */
    int64_t ms;
};

void queue_search_begin(struct queue_search *search, const struct queue *q, int64_t ms);
bool queue_search_next(const struct queue_search *search, uint64_t *number);
void queue_search_feed(struct queue_search *search, uint64_t number, int64_t store_ms);
void queue_search_gone(struct queue_search *search, uint64_t number);

#endif
