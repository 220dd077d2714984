/*
 * pump_run is called before the loop sleeps, when everything that arrived in this iteration has
 * been appended.
 *
 * When to sync inline: when the loop would only sleep meanwhile, which it knows from having looked
 * at the sockets once more without waiting. Handing over costs two thread switches (25 us each on
 * the machines measured, a third of the sync itself), more when the log thread has to compete with
 * the loop and the clients for a processor. Looking again also gathers clients that work in step
 * into one batch: otherwise the first few of them start one, and all others wait for two syncs. For
 * a client that is alone most looks are left out (has_more). With many answers waiting, or after a
 * batch with many (whoever got them will come back during this one), with a slow disk, and when
 * there is no end to what arrives, the log thread syncs while the loop reads on.
 */
#include "src/broker/pump.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "src/broker/broker.h"

#include <string.h>

#define PUMP_INLINE_ANSWERS_MAX 128
#define PUMP_INLINE_SYNC_NS_MAX 1000000 /* the loop may stand still so long */
#define PUMP_LOOKS_IN_VAIN      16      /* then so many batches start without a look */
#define PUMP_READS_MAX          16      /* each holds up to STORE_FETCH_BYTES_MAX */
#define PUMP_JOBS_MAX           3       /* a segment, a flush, one of retention */
#define PUMP_TRIM_MS            5000
#define PUMP_WITNESS_MS         200 /* quiet for so long: FORMAT.md, "What recovery cannot know" */
#define PUMP_RING_MIN           64

/* ---- rings ---- */

static int ring_reserve(struct pending_ring *r)
{
    size_t cap = r->cap == 0 ? PUMP_RING_MIN : r->cap * 2;
    struct pending *items;

    if (r->count < r->cap) {
        return 0;
    }
    items = mem_alloc(cap * sizeof *items);
    if (items == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < r->count; i++) {
        items[i] = r->items[(r->head + i) & (r->cap - 1)];
    }
    mem_free(r->items);
    r->items = items;
    r->cap = cap;
    r->head = 0;
    return 0;
}

/* Give a ring's memory back when it is empty and was large. */
static void ring_trim(struct pending_ring *r)
{
    if (r->count == 0 && r->cap > PUMP_RING_MIN) {
        mem_free(r->items);
        *r = (struct pending_ring){.items = NULL};
    }
}

static void ring_complete(struct broker *b, struct pending_ring *r, uint64_t watermark)
{
    while (r->count > 0 && r->items[r->head].wait_for <= watermark) {
        struct pending p = r->items[r->head]; /* a copy: fn may append and grow the ring */
        r->head = (r->head + 1) & (r->cap - 1);
        r->count--;
        p.fn(b, &p, 0);
    }
}

static void ring_cancel(struct broker *b, struct pending_ring *r)
{
    while (r->count > 0) {
        struct pending p = r->items[r->head];
        r->head = (r->head + 1) & (r->cap - 1);
        r->count--;
        p.fn(b, &p, ESCROW_ESHUTDOWN);
    }
    mem_free(r->items);
    *r = (struct pending_ring){.items = NULL};
}

int pump_reserve(struct pump *p)
{
    int rc = ring_reserve(&p->visible);

    return rc != 0 ? rc : ring_reserve(&p->written);
}

struct pending *pump_wait(struct pump *p, uint64_t wait_for, bool is_early, pending_fn *fn,
                          struct deferred deferred)
{
    struct pending_ring *r = is_early && p->broker->config->flush_async ? &p->written : &p->visible;
    struct pending *item;

    CHECK(r->count < r->cap); /* pump_reserve */
    item = &r->items[(r->head + r->count) & (r->cap - 1)];
    CHECK_IMPLIES(r->count > 0,
                  r->items[(r->head + r->count - 1) & (r->cap - 1)].wait_for <= wait_for);
    r->count++;
    item->wait_for = wait_for;
    item->fn = fn;
    item->deferred = deferred;
    return item;
}

uint64_t pump_tail(const struct pump *p)
{
    return store_watermarks(p->broker->store).appended;
}

static void pump_answer(struct pump *p)
{
    struct store_watermarks w = store_watermarks(p->broker->store);

    ring_complete(p->broker, &p->written, w.written);
    ring_complete(p->broker, &p->visible, w.visible);
}

/* ---- the log ---- */

static void batch_run(struct job *job)
{
    struct pump *p = LIST_ENTRY(job, struct pump, batch_job);

    p->batch_error = p->broker->config->flush_async ? log_batch_sync(p->batch, &p->batch_err)
                                                    : log_batch_run(p->batch, &p->batch_err);
}

static void witness_arm(struct pump *p);

/* Nothing came since the last batch: say in the log that it was durable. */
static void witness_time(void *arg)
{
    struct pump *p = arg;
    struct store_watermarks w = store_watermarks(p->broker->store);

    if (w.appended != p->witness_tail || w.visible != w.appended) {
        witness_arm(p);
    } else if (store_append_witness(p->broker->store) != 0) {
        log_debug("store.witness", "no room for a record that says the log is durable");
    }
}

static void witness_arm(struct pump *p)
{
    p->witness_tail = pump_tail(p);
    loop_timer_start(p->broker->loop, &p->witness, PUMP_WITNESS_MS, 0, witness_time, p);
}

static void batch_done(struct job *job)
{
    struct pump *p = LIST_ENTRY(job, struct pump, batch_job);
    struct broker *b = p->broker;
    struct err_ctx err = {.code = 0};
    int64_t took_ns = clock_mono_ns(b->clock) - p->batch_started_ns;
    int rc;

    p->sync_ns += (took_ns - p->sync_ns) / 8;
    rc = store_batch_done(b->store, &p->batch, &err);
    if (p->batch_error != 0) {
        broker_fatal(b, "store.write", &p->batch_err);
    }
    if (rc != 0) {
        broker_fatal(b, "store.apply", &err);
    }
    CHECK(p->batch == NULL);
    if (!p->is_stopping && !loop_timer_is_active(&p->witness)) {
        witness_arm(p);
    }
    pump_answer(p);
}

/* That there is one is enough: the loop polls without waiting, and pump_run comes again. */
static void gather_more(void *arg)
{
    (void)arg;
}

/*
 * Has more arrived than the loop has read? A client that is alone, with one request at a time, has
 * nothing more to send: after some looks in vain most batches start without one.
 */
static bool has_more(struct pump *p)
{
    if (p->visible.count + p->written.count > 1) {
        p->looks_in_vain = 0;
    } else if (p->looks_in_vain >= PUMP_LOOKS_IN_VAIN) {
        p->looks_skipped++;
        if (p->looks_skipped < PUMP_LOOKS_IN_VAIN) {
            return false;
        }
    }
    p->looks_skipped = 0;
    if (!loop_has_events(p->broker->loop)) {
        p->looks_in_vain++;
        return false;
    }
    p->looks_in_vain = 0;
    return true;
}

enum batch_way { BATCH_LATER, BATCH_INLINE, BATCH_HANDED };

static enum batch_way batch_way(struct pump *p)
{
    struct broker *b = p->broker;
    struct store_watermarks w = store_watermarks(b->store);
    int64_t now_ns;

    if (w.appended == w.visible) {
        return BATCH_LATER;
    }
    if (p->visible.count + p->written.count == 0) {
        return BATCH_HANDED; /* nobody waits for it: the loop need not either */
    }
    if (b->config->flush_async || p->sync_ns > PUMP_INLINE_SYNC_NS_MAX ||
        p->visible.count + p->written.count > PUMP_INLINE_ANSWERS_MAX ||
        p->answers_last > PUMP_INLINE_ANSWERS_MAX) {
        return BATCH_HANDED;
    }
    if (!has_more(p)) {
        return BATCH_INLINE;
    }
    now_ns = clock_mono_ns(b->clock);
    if (p->gather_ns == 0) {
        p->gather_ns = now_ns;
    } else if (now_ns - p->gather_ns > p->sync_ns) {
        return BATCH_HANDED; /* gathering for longer would cost more than a sync of its own */
    }
    loop_defer(b->loop, &p->gather);
    return BATCH_LATER;
}

static void batch_start(struct pump *p, enum batch_way way)
{
    struct broker *b = p->broker;

    p->batch = store_batch_take(b->store);
    if (p->batch == NULL) {
        return;
    }
    p->gather_ns = 0;
    p->answers_last = p->visible.count + p->written.count;
    p->batch_error = 0;
    p->batch_started_ns = clock_mono_ns(b->clock);
    if (b->config->flush_async) {
        /* The page cache takes it at memory speed; the sync goes to the log thread. */
        p->batch_error = log_batch_write(p->batch, &p->batch_err);
        if (p->batch_error != 0) {
            broker_fatal(b, "store.write", &p->batch_err);
        }
        store_batch_written(b->store);
        pump_answer(p);
    }
    if (way == BATCH_INLINE && worker_try_inline(&p->log_worker, &p->batch_job)) {
        p->batches_inline++;
        return;
    }
    p->batches_handed++;
    if (worker_submit(&p->log_worker, &p->batch_job) != 0) {
        UNREACHABLE("one batch at a time, and the worker takes more than one");
    }
}

/* ---- reads, segments and flushes ---- */

void pump_read_enter(struct pump *p, struct session *s, struct fair_item *slot,
                     void (*start)(struct fair_item *slot))
{
    session_hold(s);
    fair_enter(&p->reads, &s->reads, slot, start);
}

void pump_read_leave(struct pump *p, struct fair_item *slot)
{
    if (slot->state != FAIR_OUT) {
        struct session *s = LIST_ENTRY(slot->lane, struct session, reads);
        fair_leave(&p->reads, slot);
        session_drop(s);
    }
}

void pump_read(struct pump *p, struct pool_job *job)
{
    CHECK(pool_submit(&p->pool, job) == 0); /* as many jobs as slots */
}

void pump_job(struct pump *p, struct pool_job *job)
{
    CHECK(pool_submit(&p->jobs, job) == 0); /* PUMP_JOBS_MAX counts it */
}

static void segment_run(struct pool_job *job)
{
    segment_job_run(LIST_ENTRY(job, struct pump, segment_pool_job)->segment);
}

static void segment_done(struct pool_job *job)
{
    struct pump *p = LIST_ENTRY(job, struct pump, segment_pool_job);
    struct broker *b = p->broker;
    struct err_ctx err = {.code = 0};
    bool was_full = store_stats(b->store).is_disk_full;

    if (store_prepare_done(b->store, &p->segment, loop_mono_ms(b->loop), &err) != 0) {
        broker_fatal(b, "store.segment", &err);
    }
    if (store_stats(b->store).is_disk_full && !was_full) {
        log_warn("store.full",
                 "%s: no space for the next log segment: new messages will be refused, "
                 "decisions still fit; free some space or move data.dir",
                 b->config->data_dir);
    } else if (was_full && !store_stats(b->store).is_disk_full) {
        log_info("store.full.over", "%s: there is space again", b->config->data_dir);
    }
}

static void flush_run(struct pool_job *job)
{
    flush_job_run(LIST_ENTRY(job, struct pump, flush_pool_job)->flush);
}

static void flush_done(struct pool_job *job)
{
    struct pump *p = LIST_ENTRY(job, struct pump, flush_pool_job);
    struct broker *b = p->broker;
    struct err_ctx err = {.code = 0};
    int rc = store_flush_done(b->store, &p->flush, &err);

    if (rc == ESCROW_ENOSPC) {
        log_warn("store.flush.full", "checkpoint put off, nothing is lost: %s", err.text);
    } else if (rc != 0) {
        broker_fatal(b, "store.flush", &err);
    }
}

/*
 * The half store's part of a checkpoint is written in pieces, one for each turn of the loop: those
 * who send and pull are served in between. Then the pool has it.
 */
static void flush_start(struct pump *p)
{
    struct broker *b = p->broker;

    if (p->flush == NULL && !p->is_stopping) {
        p->flush = store_flush_take(b->store, false);
        p->is_flush_out = false;
    }
    if (p->flush == NULL || p->is_flush_out) {
        return;
    }
    if (store_flush_more(b->store, &p->flush)) {
        loop_defer(b->loop, &p->gather); /* no sleep before the next piece */
    } else if (p->flush != NULL) {
        p->is_flush_out = true;
        CHECK(pool_submit(&p->jobs, &p->flush_pool_job) == 0);
    }
}

static void jobs_start(struct pump *p)
{
    struct broker *b = p->broker;

    if (p->segment == NULL) {
        p->segment = store_prepare_take(b->store, loop_mono_ms(b->loop));
        if (p->segment != NULL) {
            CHECK(pool_submit(&p->jobs, &p->segment_pool_job) == 0);
        }
    }
    flush_start(p);
}

static void pump_run(void *arg)
{
    struct pump *p = arg;
    enum batch_way way;

    pump_answer(p); /* answers about what was a fact already: no batch will come for them */
    way = p->batch == NULL ? batch_way(p) : BATCH_LATER;
    if (way != BATCH_LATER) {
        batch_start(p, way);
    }
    jobs_start(p);
}

/* Nothing appended for a while: give memory of the rush hour back. */
static void pump_trim(void *arg)
{
    struct pump *p = arg;
    uint64_t records = store_stats(p->broker->store).records_appended;

    if (records == p->records_last) {
        store_trim(p->broker->store);
        ring_trim(&p->visible);
        ring_trim(&p->written);
        if (!p->is_trimmed) {
            mem_trim();
            p->is_trimmed = true;
        }
    } else {
        p->is_trimmed = false;
    }
    p->records_last = records;
}

int pump_start(struct pump *p, struct broker *b)
{
    int rc;

    *p = (struct pump){.broker = b, .sync_ns = 100000};
    p->batch_job = (struct job){.run = batch_run, .done = batch_done};
    p->segment_pool_job.run = segment_run;
    p->segment_pool_job.done = segment_done;
    p->flush_pool_job.run = flush_run;
    p->flush_pool_job.done = flush_done;
    rc = worker_start(&p->log_worker, b->loop, "escrow-log", 4);
    if (rc != 0) {
        p->broker = NULL; /* not started: nothing to stop */
        return rc;
    }
    pool_init(&p->pool, b->loop, PUMP_READS_MAX);
    pool_init(&p->jobs, b->loop, PUMP_JOBS_MAX);
    fair_init(&p->reads, PUMP_READS_MAX);
    loop_deferred_init(&p->gather, gather_more, p);
    loop_hook_start(b->loop, LOOP_BEFORE_SLEEP, &p->hook, pump_run, p);
    loop_timer_start(b->loop, &p->trim, PUMP_TRIM_MS, PUMP_TRIM_MS, pump_trim, p);
    return 0;
}

static bool pump_is_busy(const struct pump *p)
{
    struct store_watermarks w = store_watermarks(p->broker->store);

    return p->batch != NULL || w.visible < w.appended || p->flush != NULL ||
           pool_in_flight(&p->jobs) > 0 || pool_in_flight(&p->pool) > 0;
}

void pump_settle(struct pump *p)
{
    struct broker *b = p->broker;

    while (store_watermarks(b->store).visible < store_watermarks(b->store).appended) {
        loop_run_once(b->loop, p->batch != NULL); /* without one in flight the next begins now */
    }
}

void pump_stop(struct pump *p)
{
    struct broker *b = p->broker;

    p->is_stopping = true;
    store_stop_rebuilds(b->store); /* in the pool: the log may take minutes to read */
    loop_timer_stop(b->loop, &p->witness);
    while (pump_is_busy(p)) {
        /* Sleep only while another thread has something that will wake us: a batch goes inline. */
        loop_run_once(b->loop, p->batch != NULL || pool_in_flight(&p->jobs) > 0 ||
                                   pool_in_flight(&p->pool) > 0);
    }
    p->flush = store_flush_take(b->store, true);
    while (p->flush != NULL && store_flush_more(b->store, &p->flush)) {
    }
    if (p->flush != NULL) {
        flush_job_run(p->flush);
        flush_done(&p->flush_pool_job);
    }
    loop_timer_stop(b->loop, &p->trim);
    loop_hook_stop(b->loop, &p->hook);
    loop_deferred_cancel(&p->gather);
    worker_stop(&p->log_worker);
    ring_cancel(b, &p->written);
    ring_cancel(b, &p->visible);
    pool_fini(&p->pool);
    pool_fini(&p->jobs);
}
