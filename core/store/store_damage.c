/*
 * Damage behind the checkpoint: remembered when a reader meets it, told to the owner once, and
 * passed over where a SKIPPED record allows it. damage.h has the lists.
 */
#include "core/store/recovery.h"
#include "core/store/store_private.h"

#include <inttypes.h>

static void describe(const struct store *st, const struct damage_place *place,
                     struct store_damage *out)
{
    *out = (struct store_damage){.offset = place->offset,
                                 .has_entry = place->queue != NULL,
                                 .topic = SLICE_EMPTY,
                                 .error = place->error,
                                 .text = place->text};
    if (place->queue != NULL) {
        out->topic = queue_topic(place->queue);
        out->queue_id = place->queue->id;
        out->queue_offset = (int64_t)place->number;
        out->is_skipped = skips_allow(&st->skips, place->queue, place->number);
    }
}

void store_note_damage(struct store *st, const struct damage_met *met, int rc,
                       const struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];
    struct damage_place place = {
        .offset = met->offset, .queue = met->queue, .number = met->number, .error = rc};
    const struct damage_place *told;
    struct store_damage damage;
    const char *text = err->text;

    if (text[0] == '\0') {
        text = met->offset == DAMAGE_NO_OFFSET ? escrow_strerror(rc)
               : damage_is_known(&st->damage, met->offset)
                   ? NULL
                   : recovery_where(&st->segs, met->offset, where);
    }
    told = damage_note(&st->damage, &place, text);
    if (told != NULL && st->owner.damaged != NULL) {
        describe(st, told, &damage);
        st->owner.damaged(st->owner.arg, &damage);
    }
}

void store_note_index_lost(void *arg, const char *text)
{
    struct store *st = arg;

    st->index_lost++;
    if (st->owner.index_lost != NULL) {
        st->owner.index_lost(st->owner.arg, text);
    }
}

bool store_damage_next(const struct store *st, uint64_t *cursor, struct store_damage *out)
{
    const struct damage *d = &st->damage;

    while (*cursor < d->count) {
        const struct damage_place *place = &d->list[(*cursor)++];
        if (place->queue == NULL || place->number >= place->queue->min) {
            describe(st, place, out);
            return true;
        }
    }
    return false;
}

bool store_skips_next(const struct store *st, uint64_t *cursor, struct store_skip *out)
{
    const struct skip *skip;

    if (*cursor >= st->skips.count) {
        return false;
    }
    skip = &st->skips.list[(*cursor)++];
    *out = (struct store_skip){.topic = queue_topic(skip->queue),
                               .queue_id = skip->queue->id,
                               .first = (int64_t)skip->first,
                               .end = (int64_t)skip->end};
    return true;
}

bool store_is_damaged(const struct store *st, uint64_t offset)
{
    return damage_is_known(&st->damage, offset);
}

int store_append_skip(struct store *st, const struct store_skip *skip, struct store_receipt *out)
{
    const struct queue *q = queues_find(st->queues, skip->topic, skip->queue_id);
    struct skip_payload payload = {.topic = skip->topic,
                                   .queue_id = skip->queue_id,
                                   .first = (uint64_t)skip->first,
                                   .end = (uint64_t)skip->end};
    struct buf b;
    int rc;

    if (q == NULL || skip->first < 0 || skip->end <= skip->first || payload.first < q->min ||
        payload.end > q->visible) {
        return ESCROW_ENOTFOUND;
    }
    buf_init(&b, 0);
    skip_encode(&b, &payload);
    rc = buf_failed(&b) ? ESCROW_ENOMEM : skips_reserve(&st->skips);
    if (rc == 0) {
        rc = store_append_raw(st, STORE_SKIPPED, buf_slice(&b), NULL, out);
        st->skips.appended -= rc != 0 ? 1 : 0;
    }
    buf_fini(&b);
    return rc;
}

int store_apply_skip(struct store *st, struct slice payload, struct err_ctx *err)
{
    struct skip_payload in;
    struct skip skip;
    int rc = skip_decode(&payload, &in);

    if (rc == 0) {
        skip = (struct skip){.queue = queues_find(st->queues, in.topic, in.queue_id),
                             .first = in.first,
                             .end = in.end};
        rc = skip.queue == NULL || in.end > skip.queue->visible || payload.len > 0
                 ? ESCROW_ECORRUPT
                 : skips_add(&st->skips, &skip);
    }
    return rc != 0 ? err_set(err, rc, "%s",
                             rc == ESCROW_ECORRUPT ? "payload makes no sense" : escrow_strerror(rc))
                   : 0;
}
