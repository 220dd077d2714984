#include "tests/crash/crash_model.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/store/segment.h"
#include "tests/lib/sim_image.h"
#include "txn/timers.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const model_topics[MODEL_TOPICS] = {"orders", "payments", "%RETRY%group"};

const uint8_t *model_pattern(uint32_t id)
{
    static uint8_t pattern[MODEL_BODY_MAX + 256];

    if (pattern[1] == 0) {
        for (size_t i = 0; i < sizeof pattern; i++) {
            pattern[i] = (uint8_t)i;
        }
    }
    return pattern + id % 256;
}

void model_init(struct model *m)
{
    *m = (struct model){.next_id = 1};
}

void model_fini(struct model *m)
{
    for (uint32_t i = 0; i < m->cap; i++) {
        sim_free(m->events[i].released);
    }
    sim_free(m->events);
    m->events = NULL;
}

struct model_event *model_add(struct model *m, enum model_kind kind,
                              const struct store_receipt *receipt)
{
    struct model_event *e;

    if (m->count == m->cap) {
        uint32_t cap = m->cap == 0 ? 256 : m->cap * 2;
        m->events = sim_grow(m->events, cap * sizeof *m->events);
        memset(&m->events[m->cap], 0, (cap - m->cap) * sizeof *m->events);
        m->cap = cap;
    }
    e = &m->events[m->count++];
    sim_free(e->released); /* of an event that a crash took back */
    *e = (struct model_event){
        .kind = kind, .wait_for = receipt->wait_for, .offset = receipt->offset};
    CHECK(m->count == 1 || m->events[m->count - 2].wait_for < e->wait_for);
    return e;
}

void model_ack(struct model *m, uint64_t visible)
{
    while (m->acked < m->count && m->events[m->acked].wait_for <= visible) {
        m->acked++;
    }
}

uint32_t model_find_held(const struct model *m, uint64_t offset)
{
    for (uint32_t i = m->count; i > 0; i--) {
        if (m->events[i - 1].kind == MODEL_HELD && m->events[i - 1].offset == offset) {
            return i - 1;
        }
    }
    (void)fprintf(stderr, "WRONG: log offset %" PRIu64 " was released, and is not held\n", offset);
    abort();
}

bool model_is_undecided(const struct model *m, uint32_t half, uint32_t prefix)
{
    if (half >= prefix || m->events[half].kind != MODEL_HALF) {
        return false;
    }
    for (uint32_t i = half + 1; i < prefix; i++) {
        const struct model_event *e = &m->events[i];
        if (e->kind != MODEL_COMMIT && e->kind != MODEL_ROLLBACK) {
            continue;
        }
        for (uint32_t j = 0; j < e->count; j++) {
            if (e->halves[j] == half) {
                return false;
            }
        }
    }
    return true;
}

/* The event that put the message of this one into its queue; `prefix` when none did. */
static uint32_t model_entered(const struct model *m, uint32_t event, uint32_t prefix)
{
    for (uint32_t i = event; i < prefix; i++) {
        const struct model_event *e = &m->events[i];
        for (uint32_t j = 0; j < e->count; j++) {
            if ((e->kind == MODEL_RELEASE && e->released[j] == event) ||
                (e->kind == MODEL_COMMIT && e->halves[j] == event)) {
                return i;
            }
        }
    }
    return prefix;
}

static bool model_is_released(const struct model *m, uint32_t held, uint32_t prefix)
{
    for (uint32_t i = held; i < prefix; i++) {
        const struct model_event *e = &m->events[i];
        for (uint32_t j = 0; e->kind == MODEL_RELEASE && j < e->count; j++) {
            if (e->released[j] == held) {
                return true;
            }
        }
    }
    return false;
}

uint64_t model_place(const struct model *m, uint32_t event, uint32_t prefix)
{
    for (uint32_t i = m->events[event].was_copied ? prefix : 0; i > event; i--) {
        const struct model_event *e = &m->events[i - 1];
        if (e->kind == MODEL_COPY && e->halves[0] == event) {
            return e->offset;
        }
    }
    return m->events[event].offset;
}

bool model_is_needed(const struct model *m, uint32_t event, uint32_t prefix)
{
    if (m->events[event].kind == MODEL_HELD) {
        return !model_is_released(m, event, prefix);
    }
    return model_is_undecided(m, event, prefix);
}

bool model_needs_below(const struct model *m, uint64_t offset)
{
    for (uint32_t i = 0; i < m->count; i++) {
        if (m->events[i].offset < offset && model_is_needed(m, i, m->count) &&
            model_place(m, i, m->count) < offset) {
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ comparing */

struct compare {
    const struct model *m;
    const char *context;
    uint32_t prefix;
    uint64_t end;
    uint64_t low; /* where the log begins */
    uint32_t topic;
    uint32_t queue;
    uint32_t next;      /* event to look at for the next message of the queue */
    uint32_t next_half; /* within a COMMIT */
    uint32_t entered;   /* event that put the message into the queue */
    uint32_t dropped;   /* what entered before this event went with the topic */
    int64_t number;     /* of the next message */
};

#define WRONG(cmp, ...)                                                                            \
    do {                                                                                           \
        (void)fprintf(stderr, "WRONG: %s: ", (cmp)->context);                                      \
        (void)fprintf(stderr, __VA_ARGS__);                                                        \
        (void)fprintf(stderr,                                                                      \
                      " (prefix %u of %u events, %u acknowledged, log ends at %" PRIu64 ")\n",     \
                      (cmp)->prefix, (cmp)->m->count, (cmp)->m->acked, (cmp)->end);                \
        abort();                                                                                   \
    } while (0)

/* The event whose message stands next in the queue; NULL at the end of the prefix. */
static const struct model_event *next_of_queue(struct compare *cmp)
{
    while (cmp->next < cmp->prefix) {
        const struct model_event *e = &cmp->m->events[cmp->next];
        cmp->entered = cmp->next;
        if (e->kind == MODEL_COMMIT && cmp->next_half < e->count) {
            const struct model_event *half = &cmp->m->events[e->halves[cmp->next_half++]];
            if (half->topic == cmp->topic && half->queue == cmp->queue) {
                return half;
            }
            continue;
        }
        if (e->kind == MODEL_RELEASE && cmp->next_half < e->count) {
            const struct model_event *held = &cmp->m->events[e->released[cmp->next_half++]];
            if (held->topic == cmp->topic && held->queue == cmp->queue) {
                return held;
            }
            continue;
        }
        cmp->next++;
        cmp->next_half = 0;
        if (e->kind == MODEL_MESSAGE && e->topic == cmp->topic && e->queue == cmp->queue) {
            return e;
        }
    }
    return NULL;
}

/* Where a message stood when it entered the queue. */
static uint64_t place_of(const struct compare *cmp, const struct model_event *e)
{
    return model_place(cmp->m, (uint32_t)(e - cmp->m->events), cmp->entered);
}

/* The same of those that are still there. */
static const struct model_event *expected(struct compare *cmp)
{
    const struct model_event *e = next_of_queue(cmp);

    while (e != NULL && (place_of(cmp, e) < cmp->low || cmp->entered < cmp->dropped)) {
        cmp->number++;
        e = next_of_queue(cmp);
    }
    return e;
}

static int compare_message(void *arg, const struct record_view *view)
{
    struct compare *cmp = arg;
    const struct model_event *e = expected(cmp);
    uint32_t id = view->f.body.len >= 4 ? get_le32(view->f.body.ptr) : 0;

    if (e == NULL) {
        WRONG(cmp, "queue %s/%u delivers message %u that must not be there",
              model_topics[cmp->topic], cmp->queue, id);
    }
    if (e->id != id) {
        WRONG(cmp, "queue %s/%u number %" PRId64 " is message %u, expected %u",
              model_topics[cmp->topic], cmp->queue, cmp->number, id, e->id);
    }
    if (view->f.queue_offset != cmp->number ||
        (uint64_t)view->f.physical_offset != place_of(cmp, e)) {
        WRONG(cmp, "message %u says queue offset %" PRId64 ", physical %" PRId64, id,
              view->f.queue_offset, view->f.physical_offset);
    }
    if ((view->f.sys_flag & SYSFLAG_TXN_MASK) !=
        (e->kind == MODEL_HALF ? SYSFLAG_TXN_COMMIT : SYSFLAG_TXN_NONE)) {
        WRONG(cmp, "message %u is delivered with flags %d", id, view->f.sys_flag);
    }
    if ((uint64_t)view->f.prepared_offset != (e->kind == MODEL_HALF ? place_of(cmp, e) : 0)) {
        WRONG(cmp, "message %u says it was prepared at %" PRId64, id, view->f.prepared_offset);
    }
    if (memcmp(view->f.body.ptr + 4, model_pattern(id) + 4, view->f.body.len - 4) != 0) {
        WRONG(cmp, "message %u has a wrong body", id);
    }
    cmp->number++;
    return 0;
}

static uint32_t last_drop(const struct compare *cmp)
{
    for (uint32_t i = cmp->prefix; i > 0; i--) {
        const struct model_event *e = &cmp->m->events[i - 1];
        if (e->kind == MODEL_DROP && e->topic == cmp->topic) {
            return i - 1;
        }
    }
    return 0;
}

static void compare_queues(struct compare *cmp, struct test_store *ts)
{
    for (cmp->topic = 0; cmp->topic < MODEL_TOPICS; cmp->topic++) {
        cmp->dropped = last_drop(cmp);
        for (cmp->queue = 0; cmp->queue < MODEL_QUEUES; cmp->queue++) {
            const struct model_event *missing;
            int rc;
            cmp->next = 0;
            cmp->next_half = 0;
            cmp->number = 0;
            rc = test_pull(ts, model_topics[cmp->topic], cmp->queue, 0, compare_message, cmp);
            if (rc != 0) {
                WRONG(cmp, "queue %s/%u: %s", model_topics[cmp->topic], cmp->queue, ts->err.text);
            }
            missing = expected(cmp);
            if (missing != NULL) {
                WRONG(cmp, "queue %s/%u lacks message %u", model_topics[cmp->topic], cmp->queue,
                      missing->id);
            }
        }
    }
}

static void compare_halves(struct compare *cmp, struct test_store *ts)
{
    uint32_t count = 0;
    uint32_t position = 0;

    for (uint32_t i = 0; i < cmp->prefix; i++) {
        const struct model_event *e = &cmp->m->events[i];
        if (e->kind == MODEL_HALF) {
            struct test_half *half = test_owner_find(&ts->owner, e->offset);
            count++;
            if (half == NULL) {
                WRONG(cmp, "half %u is not in the half table", e->id);
            }
            if ((half->state == TEST_HALF_UNDECIDED) !=
                model_is_undecided(cmp->m, i, cmp->prefix)) {
                WRONG(cmp, "half %u is in state %d", e->id, half->state);
            }
        } else if (e->kind == MODEL_POSITION) {
            position = e->id;
        }
    }
    if (count != ts->owner.half_count) {
        WRONG(cmp, "%u halves in the half table, expected %u", ts->owner.half_count, count);
    }
    if (position != ts->owner.position) {
        WRONG(cmp, "position %" PRIu64 ", expected %u", ts->owner.position, position);
    }
}

/* What is held is known by its first place, and can be read where it is now. */
static void compare_place(struct compare *cmp, struct test_store *ts, uint32_t event)
{
    const struct model_event *e = &cmp->m->events[event];
    uint64_t at = carried_where(&ts->carried, e->offset);
    struct store_fetch *fetch = store_fetch_new(ts->st);
    struct store_record rec;
    struct record_view view;
    struct buf scratch;
    int rc;

    if (at != model_place(cmp->m, event, cmp->prefix)) {
        WRONG(cmp, "message %u is said to be at %" PRIu64, e->id, at);
    }
    buf_init(&scratch, 0);
    while ((rc = store_read_record(ts->st, at, fetch, &scratch, &rec, &ts->err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    if (rc != 0 || rec.type != (e->kind == MODEL_HALF ? STORE_HALF : STORE_HELD) ||
        record_decode(rec.payload, &view) != 0 || get_le32(view.f.body.ptr) != e->id) {
        WRONG(cmp, "message %u cannot be read at %" PRIu64 ": %d", e->id, at, rc);
    }
    buf_fini(&scratch);
    store_fetch_free(&fetch);
}

/* Exactly what was held and not released is held, and keeps its room in the log. */
static void compare_held(struct compare *cmp, struct test_store *ts)
{
    uint32_t held = 0;
    struct timers_gauges gauges;

    for (uint32_t i = 0; i < cmp->prefix; i++) {
        const struct model_event *e = &cmp->m->events[i];
        if ((e->kind == MODEL_HALF || e->kind == MODEL_HELD) && e->was_copied &&
            model_is_needed(cmp->m, i, cmp->prefix)) {
            compare_place(cmp, ts, i);
        }
        held += e->kind == MODEL_HELD;
        held -= e->kind == MODEL_RELEASE ? e->count : 0;
    }
    timers_gauges(ts->timers, (struct txn_now){.mono_ms = ts->now_ms, .wall_ms = ts->now_ms},
                  &gauges);
    if (gauges.held != held) {
        WRONG(cmp, "%zu messages are held, expected %u", gauges.held, held);
    }
}

static bool is_in_skip(struct test_store *ts, const struct store_queue_ref *ref, int64_t number)
{
    struct store_skip skip;
    uint64_t cursor = 0;

    while (store_skips_next(ts->st, &cursor, &skip)) {
        if (slice_eq(skip.topic, ref->topic) && skip.queue_id == ref->queue_id &&
            number >= skip.first && number < skip.end) {
            return true;
        }
    }
    return false;
}

/* Of every message that is there: was it allowed to go on behind it, and is it now? */
static void compare_skips_of(struct compare *cmp, struct test_store *ts)
{
    struct store_queue_ref ref = {.topic = slice_str(model_topics[cmp->topic]),
                                  .queue_id = cmp->queue};
    int64_t min;
    int64_t max;

    (void)store_queue_range(ts->st, &ref, &min, &max);
    for (int64_t n = min; n < max; n++) {
        bool want = false;
        for (uint32_t i = 0; i < cmp->prefix && !want; i++) {
            const struct model_event *e = &cmp->m->events[i];
            want = e->kind == MODEL_SKIP && e->topic == cmp->topic && e->queue == cmp->queue &&
                   n >= e->first && n < e->end;
        }
        if (want != is_in_skip(ts, &ref, n)) {
            WRONG(cmp, "queue %s/%u number %" PRId64 ": skipped %d, expected %d",
                  model_topics[cmp->topic], cmp->queue, n, !want, want);
        }
    }
}

static void compare_skips(struct compare *cmp, struct test_store *ts)
{
    bool is_any = false;

    for (uint32_t i = 0; i < cmp->prefix && !is_any; i++) {
        is_any = cmp->m->events[i].kind == MODEL_SKIP;
    }
    if (!is_any) {
        if (store_stats(ts->st).skips != 0) {
            WRONG(cmp, "%s", "something is skipped that nobody asked for");
        }
        return;
    }
    for (cmp->topic = 0; cmp->topic < MODEL_TOPICS; cmp->topic++) {
        for (cmp->queue = 0; cmp->queue < MODEL_QUEUES; cmp->queue++) {
            compare_skips_of(cmp, ts);
        }
    }
}

/* One key, another one each time: found if and only if its message may be shown. */
static void compare_key(struct compare *cmp, struct test_store *ts)
{
    const struct model_event *e;
    uint32_t pick;
    struct store_key_query query = {.begin_ms = 0, .end_ms = INT64_MAX, .max = 4};
    uint64_t offsets[4];
    uint32_t count = 0;
    uint32_t want;
    char key[16];
    struct store_fetch *fetch;
    int rc;

    if (cmp->m->count == 0) {
        return;
    }
    pick = (uint32_t)(cmp->m->checks * 7919 % cmp->m->count);
    e = &cmp->m->events[pick];
    if (e->kind != MODEL_MESSAGE && e->kind != MODEL_HALF && e->kind != MODEL_HELD) {
        return;
    }
    cmp->entered = model_entered(cmp->m, pick, cmp->prefix);
    want = pick < cmp->prefix && place_of(cmp, e) >= cmp->low ? 1 : 0;
    if (want == 1 && e->kind == MODEL_HALF) {
        struct test_half *half = test_owner_find(&ts->owner, e->offset);
        want = half->state == TEST_HALF_COMMITTED ? 1 : 0;
    }
    if (want == 1 && e->kind == MODEL_HELD) {
        want = model_is_released(cmp->m, pick, cmp->prefix) ? 1 : 0;
    }
    (void)snprintf(key, sizeof key, "ID%u", e->id);
    query.topic = slice_str(model_topics[e->topic]);
    query.key = slice_str(key);
    fetch = store_fetch_new(ts->st);
    while ((rc = store_query_key(ts->st, &query, fetch, offsets, &count, &ts->err)) ==
           ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    store_fetch_free(&fetch);
    if (rc != 0 || count != want || (count == 1 && offsets[0] != place_of(cmp, e))) {
        WRONG(cmp, "key %s: result %d, %u messages, expected %u", key, rc, count, want);
    }
}

/* No file of a segment that was given up. */
static int compare_segment(void *arg, const char *name, bool is_dir)
{
    struct compare *cmp = arg;

    if (is_dir || strtoull(name, NULL, 10) < cmp->low) {
        WRONG(cmp, "segment %s is there, and the log begins at %" PRIu64, name, cmp->low);
    }
    return 0;
}

static void compare_low(struct compare *cmp, struct test_store *ts)
{
    if (cmp->low < cmp->m->low_acked || cmp->low > cmp->m->low_wanted) {
        WRONG(cmp, "the log begins at %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, cmp->low,
              cmp->m->low_acked, cmp->m->low_wanted);
    }
    CHECK(disk_list(ts->disk, SEGMENT_FOLDER, compare_segment, cmp, NULL) == 0);
}

uint32_t model_compare(struct model *m, struct test_store *ts, const char *context)
{
    struct compare cmp = {
        .m = m, .context = context, .end = ts->recovery.end, .low = store_watermarks(ts->st).first};

    m->checks++;
    while (cmp.prefix < m->count && m->events[cmp.prefix].wait_for <= cmp.end) {
        cmp.prefix++;
    }
    if (cmp.prefix < m->acked) {
        WRONG(&cmp, "acknowledged events are lost: %s", ts->recovery.cut_reason);
    }
    if (cmp.prefix > 0 && m->events[cmp.prefix - 1].is_more) {
        WRONG(&cmp, "a group was split");
    }
    compare_low(&cmp, ts);
    compare_queues(&cmp, ts);
    compare_skips(&cmp, ts);
    compare_halves(&cmp, ts);
    if (ts->timers != NULL) {
        compare_held(&cmp, ts);
    }
    compare_key(&cmp, ts);
    store_check(ts->st);
    if (ts->txn != NULL) {
        test_txn_check(ts);
    }
    return cmp.prefix;
}
