#include "tests/crash/crash_script.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "tests/lib/sim_image.h"
#include "txn/release.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MUST(s, call)                                                                              \
    do {                                                                                           \
        int must_rc = (call);                                                                      \
        if (must_rc != 0) {                                                                        \
            (void)fprintf(stderr, "WRONG: step %llu: %s: %d %s\n", (unsigned long long)(s)->steps, \
                          #call, must_rc, (s)->ts.err.text);                                       \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint32_t below(struct script *s, uint32_t bound)
{
    return (uint32_t)rand_below(&s->rand, bound);
}

static void run_jobs(struct script *s)
{
    MUST(s, test_store_run(&s->ts));
    model_ack(&s->model, store_watermarks(s->ts.st).visible);
}

/* Small as a rule; now and then a big one, so that segments fill. */
static size_t body_size(struct script *s)
{
    switch (below(s, 12)) {
    case 0:
    case 3:
        return 4 + below(s, MODEL_BODY_MAX - 4);
    case 1:
    case 2:
        return 4 + below(s, 6000);
    default:
        return 4 + below(s, 300);
    }
}

static int append_message(struct script *s, enum store_type type, struct store_receipt *receipt,
                          const struct test_message *to)
{
    struct test_message m = *to;
    static uint8_t body[MODEL_BODY_MAX];
    char uniq[16];
    uint32_t id = s->model.next_id;
    size_t size = body_size(s);

    memcpy(body, model_pattern(id), size);
    put_le32(body, id);
    (void)snprintf(uniq, sizeof uniq, "ID%u", id);
    m.body = slice_of(body, size);
    m.uniq = uniq;
    m.tag = id % 3 == 0 ? "tag" : NULL;
    return type == STORE_HALF ? test_half(&s->ts, &m, receipt)
                              : test_append(&s->ts, type, &m, receipt);
}

/* Hold a message for a while. false: back-pressure. */
static bool try_hold(struct script *s)
{
    uint8_t topic = (uint8_t)below(s, MODEL_TOPICS);
    uint8_t queue = (uint8_t)below(s, MODEL_QUEUES);
    struct test_message m = {.topic = model_topics[topic], .queue_id = queue};
    struct store_receipt receipt;
    struct model_event *e;
    int rc;

    m.due_ms = s->ts.now_ms + (int64_t)below(s, 400);
    rc = append_message(s, STORE_HELD, &receipt, &m);
    if (rc == ESCROW_ELIMIT) {
        return false;
    }
    MUST(s, rc);
    e = model_add(&s->model, MODEL_HELD, &receipt);
    e->id = s->model.next_id++;
    e->topic = topic;
    e->queue = queue;
    e->due_ms = m.due_ms;
    return true;
}

/* Release what is due: never early, and nothing that was released before. */
static void step_release(struct script *s)
{
    uint64_t offsets[RELEASE_COUNT_MAX];
    struct store_receipt receipt;
    struct model_event *e;
    uint32_t *released;
    uint32_t count = 0;
    int rc = test_release_due(&s->ts, offsets, &count, &receipt);

    if (rc == ESCROW_ELIMIT) {
        run_jobs(s);
        return;
    }
    MUST(s, rc);
    if (count == 0) {
        return;
    }
    released = sim_grow(NULL, count * sizeof *released);
    for (uint32_t i = 0; i < count; i++) {
        released[i] = model_find_held(&s->model, offsets[i]);
        CHECK(s->model.events[released[i]].due_ms <= s->ts.now_ms);
        for (uint32_t j = released[i]; j < s->model.count; j++) {
            const struct model_event *other = &s->model.events[j];
            for (uint32_t k = 0; other->kind == MODEL_RELEASE && k < other->count; k++) {
                CHECK(other->released[k] != released[i]);
            }
        }
    }
    e = model_add(&s->model, MODEL_RELEASE, &receipt);
    e->count = count;
    e->released = released;
}

static void step_hold(struct script *s)
{
    for (uint32_t n = 1 + below(s, 3); n > 0; n--) {
        if (!try_hold(s)) {
            run_jobs(s);
        }
    }
}

/* false: back-pressure, nothing was appended. */
static bool try_message(struct script *s, enum store_type type)
{
    uint8_t topic = (uint8_t)below(s, MODEL_TOPICS);
    uint8_t queue = (uint8_t)below(s, MODEL_QUEUES);
    struct test_message m = {.topic = model_topics[topic], .queue_id = queue};
    struct store_receipt receipt;
    struct model_event *e;
    int rc = append_message(s, type, &receipt, &m);

    if (rc == ESCROW_ELIMIT) {
        return false;
    }
    MUST(s, rc);
    e = model_add(&s->model, type == STORE_HALF ? MODEL_HALF : MODEL_MESSAGE, &receipt);
    e->id = s->model.next_id++;
    e->topic = topic;
    e->queue = queue;
    return true;
}

static void step_messages(struct script *s, enum store_type type)
{
    for (uint32_t n = 1 + below(s, 4); n > 0; n--) {
        if (type == STORE_HALF && s->ts.owner.half_count > TEST_HALVES_MAX - 50) {
            return;
        }
        if (!try_message(s, type)) {
            run_jobs(s);
        }
    }
}

/* Commit or roll back up to three halves that are applied and undecided. */
static bool try_decide(struct script *s)
{
    uint64_t offsets[MODEL_DECIDE_MAX];
    uint32_t halves[MODEL_DECIDE_MAX];
    uint32_t want = 1 + below(s, MODEL_DECIDE_MAX);
    uint32_t count = 0;
    bool commit = below(s, 3) != 0;
    struct store_receipt receipt;
    struct model_event *e;
    int rc;

    for (uint32_t i = 0; i < s->model.acked && count < want; i++) {
        if (model_is_undecided(&s->model, i, s->model.count) && below(s, 3) == 0) {
            offsets[count] = s->model.events[i].offset;
            halves[count++] = i;
        }
    }
    if (count == 0) {
        return true;
    }
    rc = test_decide(&s->ts, commit, offsets, count, &receipt);
    if (rc == ESCROW_ELIMIT) {
        return false;
    }
    MUST(s, rc);
    e = model_add(&s->model, commit ? MODEL_COMMIT : MODEL_ROLLBACK, &receipt);
    e->count = count;
    memcpy(e->halves, halves, count * sizeof halves[0]);
    return true;
}

/* Messages, perhaps a decision, and the position they were read at: all or nothing. */
static void step_group(struct script *s)
{
    uint32_t start = s->model.count;
    uint32_t id = s->model.next_id;
    struct store_receipt receipt;
    bool is_whole = true;

    store_group_begin(s->ts.st);
    for (uint32_t n = 1 + below(s, 5); n > 0 && is_whole; n--) {
        is_whole = try_message(s, STORE_MESSAGE);
    }
    is_whole = is_whole && test_position(&s->ts, s->position + 1, &receipt) == 0;
    if (!is_whole || below(s, 6) == 0) {
        store_group_abort(s->ts.st);
        s->model.count = start;
        s->model.next_id = id;
        if (!is_whole) {
            run_jobs(s);
        }
        return;
    }
    s->position++;
    model_add(&s->model, MODEL_POSITION, &receipt)->id = s->position;
    store_group_end(s->ts.st);
    for (uint32_t i = start; i + 1 < s->model.count; i++) {
        s->model.events[i].is_more = true;
    }
}

/* Fill the segment to the last byte, or to a rest that holds just a filler, or less than one. */
static void step_exact_fit(struct script *s)
{
    static const uint8_t zeros[65536];
    uint64_t at = store_watermarks(s->ts.st).appended;
    uint64_t left = STORE_SEGMENT_BYTES_MIN - at % STORE_SEGMENT_BYTES_MIN;
    uint64_t rest = 8 * (uint64_t)below(s, 7);
    struct store_receipt receipt;

    while (left > rest + 48) {
        uint64_t want = left - rest;
        uint64_t take = want < sizeof zeros ? want : sizeof zeros / 2;
        int rc = store_append_raw(s->ts.st, STORE_CHECK, slice_of(zeros, take - ENVELOPE_SIZE),
                                  NULL, &receipt);
        if (rc != 0) {
            CHECK(rc == ESCROW_ELIMIT);
            break;
        }
        left -= take;
    }
    (void)try_message(s, STORE_MESSAGE);
}

/* Appends while a batch is out. */
static void step_overlap(struct script *s)
{
    struct log_batch *batch = store_batch_take(s->ts.st);

    if (batch == NULL) {
        return;
    }
    (void)try_message(s, STORE_MESSAGE);
    MUST(s, log_batch_write(batch, &s->ts.err));
    (void)try_message(s, STORE_MESSAGE);
    MUST(s, log_batch_sync(batch, &s->ts.err));
    MUST(s, store_batch_done(s->ts.st, &batch, &s->ts.err));
    model_ack(&s->model, store_watermarks(s->ts.st).visible);
}

/* Decide every half that is applied, and release every message that is held. */
static void settle_all(struct script *s)
{
    run_jobs(s);
    for (uint32_t i = 0; i < s->model.acked; i++) {
        struct store_receipt receipt;
        struct model_event *e;
        int rc;

        if (!model_is_undecided(&s->model, i, s->model.count)) {
            continue;
        }
        rc = test_decide(&s->ts, i % 3 != 0, &s->model.events[i].offset, 1, &receipt);
        if (rc == ESCROW_ELIMIT) {
            break;
        }
        MUST(s, rc);
        e = model_add(&s->model, i % 3 != 0 ? MODEL_COMMIT : MODEL_ROLLBACK, &receipt);
        e->count = 1;
        e->halves[0] = i;
    }
    s->ts.now_ms += 400;
    step_release(s);
    run_jobs(s);
}

/* Delete a topic; sometimes its files go at once, sometimes the next checkpoint takes them. */
static void step_drop(struct script *s)
{
    uint8_t topic = (uint8_t)below(s, MODEL_TOPICS);
    char payload[64] = ""; /* longer than a START: the model tells events by where the log ends */
    struct store_receipt receipt;
    int rc;

    (void)snprintf(payload, sizeof payload, "%s", model_topics[topic]); /* fits */
    rc = store_append_raw(s->ts.st, STORE_TOPIC, slice_of(payload, sizeof payload), NULL, &receipt);

    if (rc == ESCROW_ELIMIT) {
        run_jobs(s);
        return;
    }
    MUST(s, rc);
    model_add(&s->model, MODEL_DROP, &receipt)->topic = topic;
    if (below(s, 2) == 0) {
        run_jobs(s);
        MUST(s, test_store_checkpoint(&s->ts, false));
        s->model.low_acked = store_watermarks(s->ts.st).first;
    }
}

/* The held message that has to be carried next, as the broker would; UINT32_MAX = none. */
static uint32_t next_to_carry(const struct script *s, uint64_t first)
{
    const struct model *m = &s->model;
    uint64_t lowest = first;
    uint32_t found = UINT32_MAX;

    for (uint32_t i = 0; i < m->acked; i++) {
        uint64_t at;
        if (m->events[i].offset >= first || !model_is_needed(m, i, m->acked)) {
            continue;
        }
        at = model_place(m, i, m->count);
        if (at == m->events[i].offset) {
            return i;
        }
        if (at < lowest) {
            lowest = at;
            found = i;
        }
    }
    return found;
}

/*
 * Carry everything that is held below `first`; some of it may be on its way out, which the copy
 * then comes too late for.
 */
static void carry_all(struct script *s, uint64_t first)
{
    uint32_t event;

    if (below(s, 2) == 0) {
        (void)try_decide(s);
    }
    while ((event = next_to_carry(s, first)) != UINT32_MAX) {
        struct store_receipt receipt;
        int rc = test_carry(&s->ts, s->model.events[event].offset, &receipt);

        if (rc == ESCROW_ELIMIT) {
            run_jobs(s);
            continue;
        }
        MUST(s, rc);
        model_add(&s->model, MODEL_COPY, &receipt)->halves[0] = event;
        s->model.events[event].was_copied = true;
        s->carried++;
    }
    run_jobs(s);
}

/* Let readers go on behind damage somewhere; there is none, so nothing else may change. */
static void step_skip(struct script *s)
{
    uint8_t topic = (uint8_t)rand_below(&s->skips, MODEL_TOPICS);
    uint8_t queue = (uint8_t)rand_below(&s->skips, MODEL_QUEUES);
    struct store_queue_ref ref = {.topic = slice_str(model_topics[topic]), .queue_id = queue};
    struct store_skip skip = {.topic = ref.topic, .queue_id = queue};
    struct store_receipt receipt;
    struct model_event *e;
    int64_t min;
    int64_t max;
    int rc;

    if (!store_queue_range(s->ts.st, &ref, &min, &max) || min == max) {
        return;
    }
    skip.first = min + (int64_t)rand_below(&s->skips, (uint64_t)(max - min));
    skip.end = skip.first + 1 + (int64_t)rand_below(&s->skips, (uint64_t)(max - skip.first));
    rc = store_append_skip(s->ts.st, &skip, &receipt);
    if (rc == ESCROW_ELIMIT) {
        run_jobs(s);
        return;
    }
    MUST(s, rc);
    e = model_add(&s->model, MODEL_SKIP, &receipt);
    e->topic = topic;
    e->queue = queue;
    e->first = skip.first;
    e->end = skip.end;
}

/* A checkpoint; now and then halves come and are decided while it is written, piece by piece. */
static void step_checkpoint(struct script *s)
{
    struct flush_job *job = store_flush_take(s->ts.st, true);
    bool is_overlapped = rand_below(&s->skips, 2) == 0;

    for (int n = 0; is_overlapped && n < 4 && job != NULL && store_flush_more(s->ts.st, &job);
         n++) {
        (void)try_decide(s);
        if (s->ts.owner.half_count <= TEST_HALVES_MAX - 50) {
            (void)try_message(s, STORE_HALF);
        }
        run_jobs(s);
        s->pieces++;
    }
    MUST(s, test_store_flush(&s->ts, &job));
    s->model.low_acked = store_watermarks(s->ts.st).first;
}

/*
 * Give up one or more of the oldest segments that nothing needs, and say so in a checkpoint; now
 * and then only in memory, so that a restart forgets it or a later checkpoint says it.
 */
static void step_retain(struct script *s)
{
    struct store_segment rows[4];
    uint32_t count;
    uint64_t first;

    bool is_carrying = below(s, 2) == 0;

    step_exact_fit(s);
    if (!is_carrying) {
        settle_all(s);
    }
    count = store_segments(s->ts.st, rows, 1 + below(s, 4));
    first = count == 0 ? 0 : rows[count - 1].first + STORE_SEGMENT_BYTES_MIN;
    if (count == 0) {
        return;
    }
    if (is_carrying) {
        run_jobs(s);
        carry_all(s, first);
    }
    if (model_needs_below(&s->model, first)) {
        return;
    }
    s->model.low_wanted = first;
    if (below(s, 4) == 0) {
        MUST(s, test_store_give_up(&s->ts, first));
        return;
    }
    MUST(s, test_store_retain(&s->ts, first));
    s->model.low_acked = first;
    s->retained++;
}

static void open_again(struct script *s)
{
    MUST(s, test_store_open_txn(&s->ts, s->disk, NULL));
    s->model.low_acked = store_watermarks(s->ts.st).first;
}

static void step_restart(struct script *s, bool is_clean)
{
    if (is_clean) {
        run_jobs(s);
        MUST(s, test_store_checkpoint(&s->ts, true));
    } else {
        /* Killed: what was appended and never written is gone, like the process that knew it. */
        uint64_t written = store_watermarks(s->ts.st).written;
        while (s->model.count > 0 && s->model.events[s->model.count - 1].wait_for > written) {
            s->model.count--;
        }
    }
    test_store_close(&s->ts);
    open_again(s);
    s->position = (uint32_t)s->ts.owner.position;
    CHECK(model_compare(&s->model, &s->ts, "restart") == s->model.count);
    model_ack(&s->model, store_watermarks(s->ts.st).visible);
}

void script_begin(struct script *s, struct disk *disk, uint64_t seed)
{
    *s = (struct script){.disk = disk};
    rand_init(&s->rand, seed);
    rand_init(&s->skips, ~seed);
    model_init(&s->model);
    open_again(s);
}

void script_step(struct script *s)
{
    uint32_t dice = below(s, 100);

    s->steps++;
    s->ts.now_ms += below(s, 50);
    if (dice < 2) {
        step_exact_fit(s);
    } else if (dice < 25) {
        step_messages(s, STORE_MESSAGE);
    } else if (dice < 33) {
        step_messages(s, STORE_HALF);
    } else if (dice < 38) {
        step_hold(s);
    } else if (dice < 44) {
        step_release(s);
    } else if (dice < 54) {
        if (!try_decide(s)) {
            run_jobs(s);
        }
    } else if (dice < 62) {
        step_group(s);
    } else if (dice < 63) {
        step_drop(s);
    } else if (dice < 85) {
        run_jobs(s);
    } else if (dice < 92) {
        step_overlap(s);
    } else if (dice < 93) {
        step_checkpoint(s);
    } else if (dice < 96) {
        step_retain(s);
    } else {
        step_restart(s, dice < 98);
    }
    if (rand_below(&s->skips, 16) == 0) {
        step_skip(s);
    }
}

void script_end(struct script *s)
{
    run_jobs(s);
    test_store_close(&s->ts);
    model_fini(&s->model);
}
