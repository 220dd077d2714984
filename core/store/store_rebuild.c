/*
 * Damaged entries of queues are rebuilt from the log by the fetch of the reader who meets one:
 * which may be, what is asked for, and what came of it. queue_rebuild.h has the job.
 *
 * One at a time: readers of other damage ask again. What could not be rebuilt is remembered, so
 * that a reader who stands before it does not have the log read again for each pull.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/store/fetch.h"
#include "core/store/queue_path.h"

#include <inttypes.h>
#include <stdio.h>

/* "queues/T/3/000...: entry 917 at byte 18340": what an operator looks for. */
static void say_where(const struct entry_ref *ref, char *text, size_t size)
{
    struct queue_path path;

    queue_path_file(&path, queue_topic(ref->queue), ref->queue->id,
                    (uint32_t)(ref->number / QUEUE_FILE_ENTRIES));
    (void)snprintf(text, size, "%s: entry %" PRIu64 " at byte %" PRIu64, path.text, ref->number,
                   ref->number % QUEUE_FILE_ENTRIES * QUEUE_ENTRY_SIZE);
}

static const struct rebuild_left *find_left(const struct store *st, const struct entry_ref *ref)
{
    for (uint32_t i = 0; i < REBUILD_LEFT_MAX; i++) {
        const struct rebuild_left *left = &st->rebuild_left[i];
        if (left->queue == ref->queue && ref->number >= left->first && ref->number < left->end) {
            return left;
        }
    }
    return NULL;
}

void store_stop_rebuilds(struct store *st)
{
    atomic_store_explicit(&st->is_stopping, true, memory_order_relaxed);
}

static bool is_stopping(const struct store *st)
{
    return atomic_load_explicit(&st->is_stopping, memory_order_relaxed);
}

int store_rebuild_may(const struct store *st, const struct store_rebuild_ask *ask,
                      struct err_ctx *err)
{
    const struct rebuild_left *left = find_left(st, ask->ref);
    char where[QUEUE_PATH_MAX + 64];

    say_where(ask->ref, where, sizeof where);
    if (left != NULL && left->is_final) {
        return err_set(err, ESCROW_ECORRUPT, "%s is damaged, and the log cannot give it: %s", where,
                       left->why);
    }
    if (left != NULL) {
        return err_set(
            err, ESCROW_ELIMIT,
            "%s is damaged and not yet rebuilt from the log: %s; it is tried again after "
            "the next checkpoint, and when the server starts",
            where, left->why);
    }
    if (is_stopping(st)) {
        return err_set(err, ESCROW_ESHUTDOWN,
                       "%s is damaged, and rebuilt from the log when it is read after the next "
                       "start",
                       where);
    }
    if (ask->before == REBUILD_VOID) {
        return err_set(err, ESCROW_ELIMIT,
                       "%s is damaged, and the log lost its front while it was rebuilt: ask again",
                       where);
    }
    if (ask->before == REBUILD_DONE) {
        return err_set(err, ESCROW_ECORRUPT, "%s was rebuilt from the log, and is damaged again",
                       where);
    }
    return st->is_rebuilding ? err_set(err, ESCROW_ELIMIT,
                                       "%s is damaged and will be rebuilt from the log, one file "
                                       "after the other: ask again",
                                       where)
                             : 0;
}

int store_rebuild_take(struct store *st, const struct entry_ref *ref, struct queue_rebuild **out)
{
    const struct queue *q = ref->queue;
    struct queue_rebuild *r = mem_calloc(1, sizeof *r);
    uint64_t first;
    uint64_t end;

    CHECK(!st->is_rebuilding);
    CHECK(ref->number >= q->min);
    CHECK(ref->number < q->flushed);
    if (r == NULL) {
        return ESCROW_ENOMEM;
    }
    first = ref->number / QUEUE_FILE_ENTRIES * QUEUE_FILE_ENTRIES;
    end = first + QUEUE_FILE_ENTRIES;
    *r = (struct queue_rebuild){
        .disk = st->disk,
        .queue = q,
        .owner = &st->owner,
        .is_stopped = &st->is_stopping,
        .segment_bytes = st->segs.segment_bytes,
        .seed = st->seed,
        .file = (uint32_t)(ref->number / QUEUE_FILE_ENTRIES),
        .low = st->low,
        .log_end = st->visible,
        .min = q->min,
        .visible = q->visible,
        .first = first < q->min ? q->min : first,
        .end = end < q->flushed ? end : q->flushed,
    };
    st->is_rebuilding = true;
    *out = r;
    return 0;
}

static bool is_complete(const struct queue_rebuild *r)
{
    return r->rc == 0 && r->rebuilt_count == r->bad_count;
}

/*
 * A log that lost its front meanwhile was not what was to be read: files of it may have been gone,
 * and entries that lead there are not damaged any more.
 */
static enum rebuild_outcome outcome_of(const struct store *st, const struct queue_rebuild *r)
{
    if (!is_complete(r) && (r->rc == ESCROW_ESHUTDOWN || r->low != st->low)) {
        return REBUILD_VOID;
    }
    return r->rc == 0 ? REBUILD_DONE : REBUILD_NONE;
}

static void tell(const struct store *st, const struct queue_rebuild *r,
                 enum rebuild_outcome outcome)
{
    /* Of what is left; err has words of what was overcome, too. */
    bool is_told = outcome != REBUILD_VOID && !is_complete(r);
    struct entry_ref ref = {.queue = r->queue,
                            .number = r->bad_count > 0 ? r->bad_first : r->first};
    char where[QUEUE_PATH_MAX + 64];
    struct store_rebuilt rebuilt = {.topic = queue_topic(r->queue),
                                    .queue_id = r->queue->id,
                                    .first = (int64_t)ref.number,
                                    .count = r->rebuilt_count,
                                    .left = is_told ? r->bad_count - r->rebuilt_count : 0,
                                    .text = where,
                                    .why = is_told ? r->err.text : ""};

    if (st->owner.rebuilt != NULL && (rebuilt.count > 0 || rebuilt.why[0] != '\0')) {
        say_where(&ref, where, sizeof where);
        st->owner.rebuilt(st->owner.arg, &rebuilt);
    }
}

static void note_left(struct store *st, const struct queue_rebuild *r)
{
    struct rebuild_left *left = &st->rebuild_left[st->rebuild_left_next];
    bool is_whole = r->rc != 0 || r->left_end == 0;

    st->rebuild_left_next = (st->rebuild_left_next + 1) % REBUILD_LEFT_MAX;
    *left = (struct rebuild_left){.queue = r->queue,
                                  .first = is_whole ? r->first : r->left_first,
                                  .end = is_whole ? r->end : r->left_end,
                                  .is_final = r->is_final};
    (void)snprintf(left->why, sizeof left->why, "%s", r->err.text);
}

enum rebuild_outcome store_rebuild_done(struct store *st, struct queue_rebuild **rebuild,
                                        bool has_run)
{
    struct queue_rebuild *r = *rebuild;
    enum rebuild_outcome outcome = REBUILD_NONE;

    CHECK(st->is_rebuilding);
    st->is_rebuilding = false;
    *rebuild = NULL;
    if (has_run) {
        queues_reopen(st->queues, r->queue, r->file); /* it may be another file now */
        st->entries_rebuilt += r->rebuilt_count;
        outcome = outcome_of(st, r);
        tell(st, r, outcome);
        if (outcome != REBUILD_VOID && !is_complete(r)) {
            note_left(st, r);
        }
    }
    mem_free(r);
    return outcome;
}

void store_rebuild_again(struct store *st)
{
    for (uint32_t i = 0; i < REBUILD_LEFT_MAX; i++) {
        if (!st->rebuild_left[i].is_final) {
            st->rebuild_left[i].queue = NULL;
        }
    }
}
