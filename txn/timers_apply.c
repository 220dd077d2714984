/*
 * Durable records: the same functions live and in recovery, in log order. A record that contradicts
 * the table is a corrupt log or a bug, is found before anything has changed, and stops the process.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "txn/timers_private.h"

#include <inttypes.h>

/* In recovery: make the message that the record speaks of. */
static int recover(struct timers *t, const struct timer_info *info, uint64_t offset, uint32_t *slot,
                   struct err_ctx *err)
{
    uint32_t route;
    int rc =
        timers_reserve(t, info->topic, info->is_relative ? TIMERS_STEADY : TIMERS_WALL, &route);

    if (rc != 0) {
        return err_set(err, rc, "held message at %" PRIu64 ": no room among %zu", offset,
                       t->slab.used);
    }
    *slot = timers_insert(t, info, offset, route);
    return 0;
}

int timers_apply_message(struct timers *t, const struct timer_info *info, uint64_t offset,
                         struct err_ctx *err)
{
    uint32_t slot = timers_find(t, offset);
    struct held *held;

    if (!timers_info_is_valid(info)) {
        return err_set(err, ESCROW_ECORRUPT, "held message at %" PRIu64 ": no topic or queue",
                       offset);
    }
    if (slot == SLAB_NONE) {
        int rc = recover(t, info, offset, &slot, err);
        if (rc != 0) {
            return rc;
        }
    }
    held = timers_at(t, slot);
    if (held->state != HELD_APPENDING) {
        return err_set(err, ESCROW_ECORRUPT, "held message at %" PRIu64 ": applied twice", offset);
    }
    t->applied_to = offset > t->applied_to ? offset : t->applied_to;
    if ((held->flags & HELD_F_HALF) != 0) {
        timers_move(t, held, HELD_UNDECIDED, "half durable");
    } else {
        timers_arm(t, slot, held->due_ms, "held durable");
    }
    timers_dcheck(t);
    return 0;
}

int timers_apply_decided(struct timers *t, uint64_t offset, bool is_commit, int64_t at_ms,
                         struct txn_now now, struct err_ctx *err)
{
    uint32_t slot = timers_find(t, offset);
    struct held *held;
    int64_t due_ms;

    if (slot == SLAB_NONE || timers_at(t, slot)->state != HELD_UNDECIDED) {
        return err_set(err, ESCROW_ECORRUPT, "the half at %" PRIu64 " has no time", offset);
    }
    held = timers_at(t, slot);
    timers_save_keep(t, slot);
    if (!is_commit) {
        timers_move(t, held, HELD_GONE, "rolled back");
        timers_remove(t, slot);
        timers_dcheck(t);
        return 0;
    }
    due_ms = held->due_ms;
    if (timers_clock_of(held) == TIMERS_STEADY) { /* its delay begins with the commit */
        int64_t delay_ms = due_ms - held_store_ms(held);
        due_ms = t->is_live ? timers_begin(t, held, delay_ms, now) : at_ms + delay_ms;
    }
    timers_arm(t, slot, due_ms, "committed");
    timers_dcheck(t);
    return 0;
}

/* Does every message of the record wait to leave, and is it named once? */
static int check_all_wait(struct timers *t, struct release_iter iter, enum release_kind kind,
                          struct err_ctx *err)
{
    struct release_iter again = iter;
    struct release_entry entry;
    uint64_t bad = UINT64_MAX;

    while (bad == UINT64_MAX && release_next(&iter, &entry)) {
        uint32_t slot = timers_find(t, entry.offset);
        struct held *held = slot == SLAB_NONE ? NULL : timers_at(t, slot);

        if (held == NULL || (held->state != HELD_LEAVING && held->state != HELD_WAITING) ||
            (held->flags & HELD_F_PICKED) != 0 ||
            (kind == RELEASE_DUE && (held->size_bytes != entry.size_bytes ||
                                     !slice_eq(timers_topic(t, held), entry.topic)))) {
            bad = entry.offset;
        } else {
            held->flags |= HELD_F_PICKED;
        }
    }
    while (release_next(&again, &entry)) {
        uint32_t slot = timers_find(t, entry.offset);
        if (slot != SLAB_NONE) {
            timers_at(t, slot)->flags &= (uint8_t)~HELD_F_PICKED;
        }
    }
    if (bad != UINT64_MAX) {
        return err_set(err, ESCROW_ECORRUPT,
                       "release: the message at %" PRIu64 " does not wait for it", bad);
    }
    return 0;
}

static void leave(struct timers *t, uint64_t offset)
{
    uint32_t slot = timers_find(t, offset);
    struct held *held = timers_at(t, slot);

    timers_save_keep(t, slot);
    if (held->state == HELD_WAITING) {
        heap_remove(&t->heaps[timers_clock_of(held)], held->place);
        timers_move(t, held, HELD_LEAVING, "read in recovery");
    }
    timers_move(t, held, HELD_GONE, "release durable");
    timers_remove(t, slot);
}

int timers_apply_release(struct timers *t, struct slice payload, timers_release_fn *release,
                         void *arg, struct err_ctx *err)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;
    int rc;

    CHECK(t->picked_count == 0); /* a proposal is settled before anything else happens */
    if (release_decode(payload, &head, &iter) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "release: malformed");
    }
    rc = check_all_wait(t, iter, head.kind, err);
    while (rc == 0 && release_next(&iter, &entry)) {
        if (head.kind == RELEASE_DUE) {
            rc = release(arg, &entry);
            t->counters.held_released++;
        } else {
            t->counters.held_recalled++;
        }
        if (rc == 0) {
            leave(t, entry.offset);
        }
    }
    timers_dcheck(t);
    return rc;
}
