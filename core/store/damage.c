/*
 * Both lists are short and searched from the front: they are looked at when damage was met, which
 * is rare, and never for a message that reads well.
 */
#include "core/store/damage.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/store/checkpoint.h"
#include "core/store/queues.h"

#include <string.h>

#define SKIP_FIXED_BYTES 22u /* of a payload, without the topic */

/* ------------------------------------------------------------------ payload of SKIPPED */

void skip_encode(struct buf *b, const struct skip_payload *skip)
{
    CHECK(skip->topic.len <= RETRY_TOPIC_LEN_MAX);
    buf_append_le16(b, (uint16_t)skip->topic.len);
    buf_append_slice(b, skip->topic);
    buf_append_le32(b, skip->queue_id);
    buf_append_le64(b, skip->first);
    buf_append_le64(b, skip->end);
}

int skip_decode(struct slice *bytes, struct skip_payload *skip)
{
    const uint8_t *p = bytes->ptr;
    size_t topic_len;

    if (bytes->len < SKIP_FIXED_BYTES) {
        return ESCROW_ECORRUPT;
    }
    topic_len = get_le16(p);
    if (topic_len == 0 || topic_len > RETRY_TOPIC_LEN_MAX ||
        bytes->len - SKIP_FIXED_BYTES < topic_len) {
        return ESCROW_ECORRUPT;
    }
    skip->topic = slice_of(p + 2, topic_len);
    p += 2 + topic_len;
    skip->queue_id = get_le32(p);
    skip->first = get_le64(p + 4);
    skip->end = get_le64(p + 12);
    *bytes = slice_of(bytes->ptr + SKIP_FIXED_BYTES + topic_len,
                      bytes->len - SKIP_FIXED_BYTES - topic_len);
    return skip->queue_id < QUEUES_PER_TOPIC_MAX && skip->first < skip->end &&
                   skip->end <= QUEUE_NUMBER_MAX
               ? 0
               : ESCROW_ECORRUPT;
}

/* ------------------------------------------------------------------ skips */

void skips_fini(struct skips *s)
{
    mem_free(s->list);
    *s = (struct skips){.list = NULL};
}

bool skips_allow(const struct skips *s, const struct queue *queue, uint64_t number)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct skip *skip = &s->list[i];
        if (skip->queue == queue && number >= skip->first && number < skip->end) {
            return true;
        }
    }
    return false;
}

static int make_room(struct skips *s, size_t want)
{
    size_t cap = s->cap == 0 ? 8 : s->cap;
    struct skip *grown;

    while (cap < want) {
        cap *= 2;
    }
    if (want <= s->cap) {
        return 0;
    }
    grown = mem_realloc(s->list, cap * sizeof *grown);
    if (grown == NULL) {
        return ESCROW_ENOMEM;
    }
    s->list = grown;
    s->cap = cap;
    return 0;
}

int skips_copy(struct skips *copy, const struct skips *s)
{
    int rc = make_room(copy, s->count);

    if (rc == 0 && s->count > 0) {
        memcpy(copy->list, s->list, s->count * sizeof *s->list);
        copy->count = s->count;
    }
    return rc;
}

int skips_reserve(struct skips *s)
{
    int rc;

    skips_prune(s);
    if (s->count + s->appended >= DAMAGE_SKIPS_MAX) {
        return ESCROW_ELIMIT;
    }
    rc = make_room(s, s->count + s->appended + 1);
    s->appended += rc == 0 ? 1 : 0;
    return rc;
}

int skips_add(struct skips *s, const struct skip *skip)
{
    struct skip all = *skip;
    size_t kept = 0;
    int rc = make_room(s, s->count + 1);

    CHECK(skip->first < skip->end);
    s->appended -= s->appended > 0 ? 1 : 0;
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < s->count; i++) {
        const struct skip *old = &s->list[i];
        if (old->queue == all.queue && old->first <= all.end && all.first <= old->end) {
            all.first = old->first < all.first ? old->first : all.first;
            all.end = old->end > all.end ? old->end : all.end;
        } else {
            s->list[kept++] = *old;
        }
    }
    s->list[kept] = all;
    s->count = kept + 1;
    return 0;
}

void skips_prune(struct skips *s)
{
    size_t kept = 0;

    for (size_t i = 0; i < s->count; i++) {
        if (s->list[i].end > s->list[i].queue->min) {
            s->list[kept++] = s->list[i];
        }
    }
    s->count = kept;
}

void skips_save(const struct skips *s, struct buf *b)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct skip *skip = &s->list[i];
        struct skip_payload row = {.topic = queue_topic(skip->queue),
                                   .queue_id = skip->queue->id,
                                   .first = skip->first,
                                   .end = skip->end};
        skip_encode(b, &row);
    }
}

int skips_load(struct skips *s, const struct queues *queues, struct slice section,
               struct err_ctx *err)
{
    int rc = 0;

    while (rc == 0 && section.len > 0) {
        struct skip_payload row;
        struct skip skip = {.queue = NULL};

        rc = skip_decode(&section, &row);
        if (rc == 0) {
            skip = (struct skip){.queue = queues_find(queues, row.topic, row.queue_id),
                                 .first = row.first,
                                 .end = row.end};
            rc = skip.queue != NULL && row.end <= skip.queue->visible ? skips_add(s, &skip)
                                                                      : ESCROW_ECORRUPT;
        }
    }
    return rc != 0 ? err_set(err, rc, "%s: section \"%s\": %s", CHECKPOINT_PATH, DAMAGE_SECTION,
                             rc == ESCROW_ECORRUPT ? "makes no sense" : escrow_strerror(rc))
                   : 0;
}

/* ------------------------------------------------------------------ places */

void damage_fini(struct damage *d)
{
    for (size_t i = 0; i < d->count; i++) {
        mem_free(d->list[i].text);
    }
    mem_free(d->list);
    *d = (struct damage){.list = NULL};
}

bool damage_is_known(const struct damage *d, uint64_t offset)
{
    for (size_t i = 0; i < d->count; i++) {
        if (d->list[i].offset == offset) {
            return true;
        }
    }
    return false;
}

static bool is_same_entry(const struct damage_place *a, const struct damage_place *b)
{
    return a->offset == b->offset && a->queue == b->queue && a->number == b->number;
}

/*
 * The place, if it is known. A place without a queue is found by any entry that leads there, so
 * that the first of these can complete it.
 */
static struct damage_place *find_place(const struct damage *d, const struct damage_place *place)
{
    struct damage_place *found = NULL;

    for (size_t i = 0; i < d->count; i++) {
        struct damage_place *at = &d->list[i];
        bool is_record = at->offset == place->offset && at->offset != DAMAGE_NO_OFFSET;
        if (is_same_entry(at, place)) {
            return at;
        }
        if (is_record && (at->queue == NULL || place->queue == NULL)) {
            found = at;
        }
    }
    return found;
}

static char *copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = mem_alloc(size);

    if (copy != NULL) {
        memcpy(copy, text, size);
    }
    return copy;
}

static bool has_room(struct damage *d)
{
    size_t cap = d->cap == 0 ? 4 : d->cap * 2;
    struct damage_place *grown;

    if (d->count < d->cap) {
        return true;
    }
    if (d->count >= DAMAGE_PLACES_MAX) {
        return false;
    }
    grown = mem_realloc(d->list, cap * sizeof *grown);
    if (grown == NULL) {
        return false;
    }
    d->list = grown;
    d->cap = cap;
    return true;
}

const struct damage_place *damage_note(struct damage *d, const struct damage_place *place,
                                       const char *text)
{
    struct damage_place *known = find_place(d, place);
    struct damage_place *at = known;
    const char *said = known != NULL && text == NULL ? known->text : text;
    char *copy;

    if (known != NULL && (known->queue != NULL || place->queue == NULL)) {
        return NULL;
    }
    CHECK(said != NULL);
    if (known == NULL && !has_room(d)) {
        return NULL;
    }
    copy = copy_text(said);
    if (copy == NULL) {
        return NULL; /* the next reader tries again */
    }
    if (known == NULL) {
        at = &d->list[d->count++];
        d->met++;
    } else {
        mem_free(known->text);
    }
    *at = *place;
    at->text = copy;
    return at;
}

void damage_prune(struct damage *d, uint64_t low)
{
    size_t kept = 0;

    for (size_t i = 0; i < d->count; i++) {
        struct damage_place *at = &d->list[i];
        if (at->offset < low || (at->queue != NULL && at->number < at->queue->min)) {
            mem_free(at->text);
        } else {
            d->list[kept++] = *at;
        }
    }
    d->count = kept;
}
