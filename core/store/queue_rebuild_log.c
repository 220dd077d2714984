/*
 * The log's part of a rebuild, in passes:
 *
 *   find     from the anchor before the damage (or where the log begins) to the first record whose
 *            number in the queue is known: so that those before it are numbered too
 *   collect  again from there to the last damaged entry; behind damage of the log twice: first to
 *            what names a number, or to the end, which is the queue's
 *   places   of releases: a message that was carried stands where its last copy before the release
 *            stands
 *
 * A record names its number when it is a MESSAGE, or a release of what a sound entry leads to.
 * Between two damages of the log in which nothing does, numbers stay unknown, and entries as they
 * are.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/queue_rebuild_private.h"
#include "core/store/queues.h"
#include "core/store/store_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum pass {
    PASS_FIND,
    PASS_COLLECT,
    PASS_PLACES,
};

struct walk {
    struct rebuild_work *w;
    struct segments segs;
    struct log_scan scan;
    enum pass pass;
    bool is_done;
    int rc;

    uint64_t start;
    uint64_t anchor_id; /* first record of what the anchor leads to */
    bool is_known;      /* which number comes next */
    bool was_damaged;   /* before anything was known: the beginning has no number */
    uint64_t next;
    uint64_t index;     /* entries since the start, or, while numbers are unknown, since `behind` */
    bool is_behind;     /* the next record is the first one behind damage */
    uint64_t behind;    /* that record */
    bool is_told_later; /* something names a number: `next` is that of the first entry there */
    uint64_t at;        /* of the record that is read */

    struct rebuilt_entry **by_id; /* of the releases that were found */
    uint32_t release_count;
};

/* ------------------------------------------------------------------ numbers */

/* The number that this entry names by itself. */
static bool names_number(const struct walk *k, const struct rebuilt_entry *e, uint64_t *number)
{
    const struct rebuild_work *w = k->w;

    if (!e->is_release) {
        *number = e->number;
        return true;
    }
    if (w->has_before && e->id == k->anchor_id) {
        *number = w->before.number;
        return true;
    }
    return rebuild_find_sound(w, e->id, number);
}

static int contradiction(const struct walk *k, uint64_t number, struct err_ctx *err)
{
    char where[RECOVERY_WHERE_MAX];

    return err_set(err, ESCROW_ECORRUPT,
                   "%s: this record does not fit the sound entries of the queue, as entry %" PRIu64,
                   recovery_where(&k->segs, k->at, where), number);
}

/* Is a sound entry what the log gives for its number? */
static bool agrees(const struct walk *k, const struct rebuilt_entry *e)
{
    struct queue_entry sound;

    CHECK(queue_entry_decode(rebuild_bytes(k->w, e->number), e->number, &sound));
    return sound.size_bytes == e->entry.size_bytes && sound.tag_hash == e->entry.tag_hash &&
           (e->is_release ? sound.offset >= e->id && sound.offset < e->at
                          : sound.offset == e->entry.offset);
}

static void collect(struct walk *k, const struct rebuilt_entry *e, struct err_ctx *err)
{
    struct rebuild_work *w = k->w;
    const struct queue_rebuild *r = w->r;

    if (e->number >= r->first && e->number < r->end) {
        if (w->is_bad[e->number - r->first] == 0) {
            k->rc = agrees(k, e) ? k->rc : contradiction(k, e->number, err);
        } else if (w->found_count < r->bad_count &&
                   (w->found_count == 0 || w->found[w->found_count - 1].number < e->number)) {
            w->found[w->found_count++] = *e;
        } else {
            k->rc = contradiction(k, e->number, err);
        }
    }
    k->is_done = k->is_done || e->number >= w->bad_last;
}

/* The next entry that the log puts into the queue. */
static void take_entry(struct walk *k, struct rebuilt_entry *e, struct err_ctx *err)
{
    uint64_t number = 0;
    bool is_named = names_number(k, e, &number);

    if (k->pass == PASS_FIND) {
        k->is_known = is_named && number >= k->index;
        k->next = k->is_known ? number - k->index : 0;
        k->rc = is_named && !k->is_known ? contradiction(k, number, err) : k->rc;
        k->is_done = is_named;
        k->index++;
        return;
    }
    if (is_named && (k->is_known ? number != k->next : number < k->index)) {
        k->rc = contradiction(k, number, err);
        return;
    }
    if (is_named && !k->is_known && k->index > 0) {
        k->is_told_later = true;
        k->next = number - k->index;
        k->is_done = true;
        return;
    }
    if (is_named) {
        k->is_known = true;
        k->next = number;
    }
    if (k->is_known) {
        e->number = k->next++;
        collect(k, e, err);
    } else {
        k->index++;
    }
}

/* ------------------------------------------------------------------ records */

struct release_arg {
    struct walk *k;
    struct err_ctx *err;
};

static void on_release(void *arg, const struct store_release *release)
{
    struct release_arg *a = arg;
    struct walk *k = a->k;
    const struct queue *q = k->w->r->queue;
    struct rebuilt_entry e = {.id = release->half_offset,
                              .at = k->at,
                              .is_release = true,
                              .entry = {.offset = release->half_offset,
                                        .size_bytes = release->payload_size,
                                        .tag_hash = release->tag_code}};

    if (!k->is_done && k->rc == 0 && release->queue_id == q->id &&
        slice_eq(release->topic, queue_topic(q))) {
        take_entry(k, &e, a->err);
    }
}

static void on_message(struct walk *k, const struct store_record *rec, struct err_ctx *err)
{
    const struct queue *q = k->w->r->queue;
    struct rebuilt_entry e = {.number = (uint64_t)rec->queue_offset,
                              .id = rec->offset,
                              .at = rec->offset,
                              .entry = {.offset = rec->offset,
                                        .size_bytes = (uint32_t)rec->payload.len,
                                        .tag_hash = rec->tag_code}};

    if (rec->queue_id == q->id && slice_eq(rec->topic, queue_topic(q))) {
        take_entry(k, &e, err);
    }
}

/* The first of by_id whose id is not below `id`. */
static uint32_t find_id(const struct walk *k, uint64_t id)
{
    uint32_t low = 0;
    uint32_t high = k->release_count;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (k->by_id[middle]->id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* A copy is where the message is read by a release that comes behind it. */
static void on_copy(const struct walk *k, const struct store_record *rec)
{
    for (uint32_t i = find_id(k, rec->first); i < k->release_count && k->by_id[i]->id == rec->first;
         i++) {
        if (rec->offset < k->by_id[i]->at) {
            k->by_id[i]->entry.offset = rec->offset;
        }
    }
}

/* false: the payload makes no sense, as if the record were damaged. */
static bool on_record(struct walk *k, const struct envelope *e, struct slice payload,
                      struct err_ctx *err)
{
    const struct store_owner *owner = k->w->r->owner;
    struct release_arg arg = {.k = k, .err = err};
    struct store_record rec;

    if (e->type == STORE_DECISION || e->type == STORE_RELEASE) {
        return k->pass == PASS_PLACES || (owner->list_releases != NULL &&
                                          owner->list_releases(owner->arg, (enum store_type)e->type,
                                                               payload, on_release, &arg) == 0);
    }
    if (!store_type_is_message((enum store_type)e->type)) {
        return true;
    }
    if (store_record_fill(&rec, e, payload) != 0) {
        return false;
    }
    if (rec.type == STORE_MESSAGE && k->pass != PASS_PLACES) {
        on_message(k, &rec, err);
    } else if (rec.type != STORE_MESSAGE && k->pass == PASS_PLACES && rec.first != 0) {
        on_copy(k, &rec);
    } else if (rec.type != STORE_MESSAGE && rec.offset == k->start) {
        k->anchor_id = rec.first != 0 ? rec.first : rec.offset;
    }
    return true;
}

static void on_damage(struct walk *k)
{
    struct rebuild_work *w = k->w;
    char where[RECOVERY_WHERE_MAX];

    if (w->log_damage[0] == '\0') {
        (void)snprintf(w->log_damage, sizeof w->log_damage, "%s: the log is damaged",
                       recovery_where(&k->segs, k->at, where));
    }
    w->is_log_damaged = true;
    if (k->pass == PASS_FIND) {
        k->was_damaged = true;
        k->is_done = true;
    } else if (k->pass == PASS_COLLECT) {
        k->is_known = false;
        k->is_behind = true;
    }
}

/* 0, or ESCROW_ESHUTDOWN: nobody waits for the end of the log any more. */
static int check_stop(const struct walk *k, struct err_ctx *err)
{
    return atomic_load_explicit(k->w->r->is_stopped, memory_order_relaxed)
               ? err_set(err, ESCROW_ESHUTDOWN, "the store stops")
               : 0;
}

/* Records of [from, to), until k->is_done. */
static int walk_log(struct walk *k, uint64_t from, uint64_t to, struct err_ctx *err)
{
    struct envelope e;
    struct slice payload;
    int rc = 1;

    k->is_done = false;
    log_scan_seek(&k->scan, from);
    while (rc > 0 && !k->is_done && k->rc == 0 && k->scan.pos < to) {
        k->at = k->scan.pos;
        if (k->is_behind) {
            k->is_behind = false;
            k->behind = k->at;
            k->index = 0;
        }
        rc = check_stop(k, err);
        if (rc != 0) {
            break;
        }
        rc = log_scan_next(&k->scan, &e, &payload, err);
        if (rc == 1 && !on_record(k, &e, payload, err)) {
            on_damage(k);
        } else if (rc == 0) {
            uint64_t next = 0;
            on_damage(k);
            rc = k->is_done ? 0 : recovery_find_next(&k->scan, k->at, &next, err);
            if (rc == 1) {
                log_scan_seek(&k->scan, next);
            }
        }
    }
    return k->rc != 0 ? k->rc : rc < 0 ? rc : 0;
}

/* ------------------------------------------------------------------ the passes */

/*
 * The number of the first entry behind k->start. What is not named by then is counted from the end,
 * or from the beginning where the log has that.
 */
static int find_numbers(struct walk *k, struct err_ctx *err)
{
    const struct queue_rebuild *r = k->w->r;
    int rc;

    k->pass = PASS_FIND;
    rc = walk_log(k, k->start, r->log_end, err);
    if (rc == 0 && !k->is_known && !k->was_damaged && k->index <= r->visible) {
        k->is_known = true;
        k->next = r->visible - k->index;
    } else if (rc == 0 && !k->is_known && k->was_damaged && k->start == 0) {
        k->is_known = true;
        k->next = 0;
    }
    return rc;
}

/*
 * The log begins at the first entry that it still has: damaged ones before led to what retention
 * took. They lead nowhere.
 */
static void note_gone(struct walk *k)
{
    struct rebuild_work *w = k->w;
    const struct queue_rebuild *r = w->r;

    if (k->start != r->low || r->low == 0 || !k->is_known) {
        return;
    }
    for (uint64_t n = r->bad_first; n <= w->bad_last && n < k->next; n++) {
        if (w->is_bad[n - r->first] != 0) {
            w->found[w->found_count++] = (struct rebuilt_entry){.number = n};
        }
    }
}

static int by_id(const void *a, const void *b)
{
    const struct rebuilt_entry *x = *(struct rebuilt_entry *const *)a;
    const struct rebuilt_entry *y = *(struct rebuilt_entry *const *)b;

    return x->id < y->id ? -1 : x->id > y->id;
}

/* Where the released messages stood when they were released. */
static int find_places(struct walk *k, struct err_ctx *err)
{
    struct rebuild_work *w = k->w;
    uint64_t low = w->r->low;
    uint64_t from = UINT64_MAX;
    uint64_t to = 0;
    bool was_damaged = w->is_log_damaged;
    int rc;

    k->by_id = mem_alloc((w->found_count + 1) * sizeof(struct rebuilt_entry *));
    if (k->by_id == NULL) {
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    for (uint32_t i = 0; i < w->found_count; i++) {
        struct rebuilt_entry *e = &w->found[i];
        if (e->is_release) {
            k->by_id[k->release_count++] = e;
            from = e->id < from ? e->id : from;
            to = e->at > to ? e->at : to;
        }
    }
    if (k->release_count == 0) {
        return 0;
    }
    qsort((void *)k->by_id, k->release_count, sizeof(struct rebuilt_entry *), by_id);
    k->pass = PASS_PLACES;
    w->is_log_damaged = false;
    rc = walk_log(k, from > low ? from : low, to, err);
    for (uint32_t i = 0; i < k->release_count; i++) {
        /* What is damaged may have been the copy of one that would lead nowhere otherwise. */
        k->by_id[i]->is_unsure = w->is_log_damaged && k->by_id[i]->entry.offset < low;
    }
    w->is_log_damaged = w->is_log_damaged || was_damaged;
    return rc;
}

/* Behind damage of the log, where numbers were unknown: are they known now? */
static bool is_recounted(struct walk *k)
{
    const struct queue_rebuild *r = k->w->r;
    bool is_at_end = !k->is_done && !k->is_known && !k->is_behind && k->index <= r->visible;

    if (k->behind == 0 || (!k->is_told_later && !is_at_end)) {
        return false;
    }
    k->next = k->is_told_later ? k->next : r->visible - k->index;
    k->is_told_later = false;
    k->is_known = true;
    return true;
}

static int collect_all(struct walk *k, struct err_ctx *err)
{
    uint64_t log_end = k->w->r->log_end;
    int rc;

    k->pass = PASS_COLLECT;
    k->index = 0;
    rc = walk_log(k, k->start, log_end, err);
    while (rc == 0 && is_recounted(k)) {
        uint64_t from = k->behind;
        k->behind = 0;
        rc = walk_log(k, from, log_end, err);
    }
    return rc;
}

static int all_passes(struct walk *k, struct err_ctx *err)
{
    int rc = find_numbers(k, err);

    if (rc == 0) {
        note_gone(k);
        rc = collect_all(k, err);
    }
    return rc == 0 ? find_places(k, err) : rc;
}

int rebuild_read_log(struct rebuild_work *w, struct err_ctx *err)
{
    const struct queue_rebuild *r = w->r;
    struct walk k = {.w = w, .start = w->has_before ? w->before.offset : r->low};
    int rc;

    segments_init(&k.segs, r->disk, r->segment_bytes);
    rc = segments_load(&k.segs, r->low, err);
    if (rc == 0 && (k.segs.first != r->low || k.segs.allocated < r->log_end)) {
        rc = err_set(err, ESCROW_ENOTFOUND, SEGMENT_FOLDER ": segments have gone meanwhile");
    }
    if (rc == 0) {
        rc = log_scan_init(&k.scan, &k.segs, r->seed, k.start, 0);
        rc = rc != 0 ? err_set(err, rc, "out of memory") : all_passes(&k, err);
    }
    log_scan_fini(&k.scan);
    segments_fini(&k.segs);
    mem_free((void *)k.by_id);
    return rc;
}
