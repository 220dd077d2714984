/*
 * What queue_rebuild.c (the file) and queue_rebuild_log.c (the log) share. The contract is in
 * queue_rebuild.h.
 */
#ifndef CORE_STORE_QUEUE_REBUILD_PRIVATE_H
#define CORE_STORE_QUEUE_REBUILD_PRIVATE_H

#include "core/store/queue_rebuild.h"
#include "core/store/recovery.h"

/* An entry that the log gives. */
struct rebuilt_entry {
    uint64_t number;
    uint64_t id; /* of a released message: its first record; of a MESSAGE: its own */
    uint64_t at; /* the record that put it */
    bool is_release;
    bool is_unsure; /* of a release: where its message stands is not known */
    struct queue_entry entry;
};

/* What is known before the log is read: entry `number` leads to the record at `offset`. */
struct rebuild_anchor {
    uint64_t number;
    uint64_t offset;
};

struct rebuild_work {
    struct queue_rebuild *r;
    uint8_t *image;       /* of the file, from entry image_first on */
    uint64_t image_first; /* begins a chunk */
    uint8_t *is_bad;      /* one for each entry of [r->first, r->end) */
    uint64_t bad_last;
    bool has_before;
    struct rebuild_anchor before; /* the last one before the damage: where to begin */
    struct rebuild_anchor *sound; /* entries of [r->first, r->end) that are, by offset */
    uint32_t sound_count;
    struct rebuilt_entry *found; /* by number; room for all that are bad */
    uint32_t found_count;
    bool is_log_damaged;                      /* in what was read */
    char log_damage[RECOVERY_WHERE_MAX + 32]; /* where first, or "" */
};

/* Bytes of an entry in the image. */
static inline uint8_t *rebuild_bytes(const struct rebuild_work *w, uint64_t number)
{
    return w->image + (size_t)(number - w->image_first) * QUEUE_ENTRY_SIZE;
}

/* The number of the sound entry that leads to the record at `offset`; false when there is none. */
bool rebuild_find_sound(const struct rebuild_work *w, uint64_t offset, uint64_t *number);

/*
 * Fill w->found from the log. 0, also when some are not there; ESCROW_ECORRUPT: the log
 * contradicts a sound entry; ESCROW_EIO, ESCROW_ENOMEM, ESCROW_ENOTFOUND (a segment has gone),
 * ESCROW_ESHUTDOWN (r->is_stopped).
 */
ESCROW_MUST_USE int rebuild_read_log(struct rebuild_work *w, struct err_ctx *err);

#endif
