/*
 * Random use of timers.h against a list that is searched from end to end, with a log that forgets
 * what was not flushed in every crash.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/base/rand.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/timers.h"

#include <string.h>

#define MESSAGES_MAX 4000u
#define RECORDS_MAX  20000u

enum record_kind { REC_MESSAGE, REC_COMMIT, REC_ROLLBACK, REC_RELEASE };

/* What the log holds: of a RELEASE the payload, of the rest the message. */
struct record {
    enum record_kind kind;
    uint32_t message;
    int64_t at_ms;
    uint8_t *payload;
    size_t len;
};

enum fate { LOST, UNDECIDED, WAITING, OUT, RECALLED };

struct message {
    struct timer_info info;
    enum fate fate;  /* by the flushed log */
    bool is_leaving; /* a release is in the log's buffer */
    bool is_deciding;
    bool is_in_checkpoint;
    int64_t due_ms;        /* of a time of day: wall clock; of a delay: monotonic clock */
    int64_t checkpoint_ms; /* due by the wall clock, as the checkpoint has it */
    bool is_in_saving;     /* the same of the one that is being written */
    int64_t saving_ms;
    int64_t record_ms; /* the same, as the log has it */
    uint32_t shown;
};

static struct message messages[MESSAGES_MAX];
static uint32_t message_count;
static struct record records[RECORDS_MAX];
static uint32_t record_count;
static uint32_t flushed;
static uint32_t checkpoint_at;
static struct buf checkpoint;
static struct buf saving; /* a checkpoint that is being written; empty: none */
static uint32_t saving_at;
static uint32_t saved_in_pieces;
static struct timers *t;
static struct timers_update u;
static struct txn_now now;
static struct rand rng;
static bool is_recovering; /* the wall clock of the records counts */

static uint32_t below(uint32_t bound)
{
    return (uint32_t)rand_below(&rng, bound);
}

static uint64_t offset_of(uint32_t message)
{
    return 8 * (uint64_t)(message + 1);
}

/* A due time of the wall clock, as the model keeps it. */
static int64_t due_from_wall(const struct message *m, int64_t wall_ms)
{
    return m->info.is_relative ? wall_ms - now.wall_ms + now.mono_ms : wall_ms;
}

static int64_t due_to_wall(const struct message *m)
{
    return m->info.is_relative ? m->due_ms - now.mono_ms + now.wall_ms : m->due_ms;
}

static bool is_due(const struct message *m)
{
    return m->fate == WAITING && !m->is_leaving &&
           m->due_ms <= (m->info.is_relative ? now.mono_ms : now.wall_ms);
}

static int on_release(void *arg, const struct release_entry *entry)
{
    struct message *m = &messages[entry->offset / 8 - 1];

    (void)arg;
    CHECK(entry->queue == m->info.queue && entry->tag_hash == m->info.tag_hash);
    m->shown++;
    return 0;
}

static void settle_release(const struct record *r)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;

    CHECK(release_decode(slice_of(r->payload, r->len), &head, &iter) == 0);
    while (release_next(&iter, &entry)) {
        struct message *m = &messages[entry.offset / 8 - 1];
        CHECK(m->fate == WAITING);
        m->fate = head.kind == RELEASE_DUE ? OUT : RECALLED;
        m->is_leaving = false;
    }
    CHECK(timers_apply_release(t, slice_of(r->payload, r->len), on_release, NULL, NULL) == 0);
}

static void settle_message(const struct record *r)
{
    struct message *m = &messages[r->message];
    int rc = 0;

    switch (r->kind) {
    case REC_MESSAGE:
        rc = timers_apply_message(t, &m->info, offset_of(r->message), NULL);
        m->fate = m->info.is_half ? UNDECIDED : WAITING;
        m->record_ms = m->info.due_ms;
        break;
    case REC_COMMIT:
    case REC_ROLLBACK:
        rc = timers_apply_decided(t, offset_of(r->message), r->kind == REC_COMMIT, r->at_ms, now,
                                  NULL);
        m->fate = r->kind == REC_COMMIT ? WAITING : RECALLED;
        m->record_ms = m->info.due_ms;
        if (m->info.is_relative) {
            m->record_ms += r->at_ms - m->info.store_ms;
            m->due_ms = now.mono_ms + m->info.due_ms - m->info.store_ms;
        }
        break;
    case REC_RELEASE:
        UNREACHABLE("settled elsewhere");
    }
    CHECK(rc == 0);
    m->is_deciding = false;
    if (is_recovering) {
        m->due_ms = due_from_wall(m, m->record_ms);
    }
}

static void settle(const struct record *r)
{
    if (r->kind == REC_RELEASE) {
        settle_release(r);
    } else {
        settle_message(r);
    }
}

static void flush(void)
{
    while (flushed < record_count) {
        settle(&records[flushed++]);
    }
}

static struct record *log_record(enum record_kind kind, uint32_t message)
{
    CHECK(record_count < RECORDS_MAX);
    records[record_count] = (struct record){.kind = kind, .message = message, .at_ms = now.wall_ms};
    return &records[record_count++];
}

static void log_release(void)
{
    struct record *r = log_record(REC_RELEASE, 0);

    r->payload = mem_alloc(u.payload.len);
    ck_assert_ptr_nonnull(r->payload);
    memcpy(r->payload, u.payload.ptr, u.payload.len);
    r->len = u.payload.len;
    timers_release_appended(t);
}

static void step_arrive(void)
{
    static const char *const topics[] = {"a", "orders", "%RETRY%group"};
    struct message *m = &messages[message_count];

    if (message_count == MESSAGES_MAX) {
        return;
    }
    *m = (struct message){.info = {.topic = slice_str(topics[below(3)]),
                                   .queue = below(4),
                                   .size_bytes = 100 + below(100),
                                   .tag_hash = (int32_t)below(9),
                                   .store_ms = now.wall_ms,
                                   .due_ms = now.wall_ms - 20 + (int64_t)below(3000),
                                   .is_relative = below(2) == 0,
                                   .is_half = below(4) == 0}};
    CHECK(timers_accept(t, &m->info) == 0);
    (void)log_record(REC_MESSAGE, message_count);
    timers_appended(t, &m->info, offset_of(message_count), now);
    m->due_ms =
        m->info.is_relative ? now.mono_ms + m->info.due_ms - m->info.store_ms : m->info.due_ms;
    message_count++;
}

static void step_decide(void)
{
    for (uint32_t i = 0; i < message_count; i++) {
        if (messages[i].fate == UNDECIDED && !messages[i].is_deciding && below(4) == 0) {
            messages[i].is_deciding = true;
            (void)log_record(below(3) == 0 ? REC_ROLLBACK : REC_COMMIT, i);
            return;
        }
    }
}

/* Exactly what is due is proposed, oldest first. */
static void step_tick(void)
{
    struct release_head head = {.count = 0};
    struct release_iter iter;
    struct release_entry entry;
    uint32_t want = 0;
    int64_t last_ms = INT64_MIN;
    uint64_t last_offset = 0;

    for (uint32_t i = 0; i < message_count; i++) {
        want += is_due(&messages[i]);
    }
    CHECK(timers_tick(t, now, &u) == 0);
    CHECK((u.payload.len > 0) == (want > 0));
    if (want == 0) {
        return;
    }
    CHECK(release_decode(buf_slice(&u.payload), &head, &iter) == 0);
    CHECK(head.count == (want < RELEASE_COUNT_MAX ? want : RELEASE_COUNT_MAX));
    CHECK(u.more == (want > RELEASE_COUNT_MAX));
    while (release_next(&iter, &entry)) {
        const struct message *m = &messages[entry.offset / 8 - 1];
        int64_t due_ms = due_to_wall(m);
        CHECK(is_due(m));
        CHECK(due_ms > last_ms || (due_ms == last_ms && entry.offset > last_offset));
        last_ms = due_ms;
        last_offset = entry.offset;
    }
    if (below(5) == 0) {
        timers_release_refused(t);
        return;
    }
    CHECK(release_decode(buf_slice(&u.payload), &head, &iter) == 0);
    while (release_next(&iter, &entry)) {
        messages[entry.offset / 8 - 1].is_leaving = true;
    }
    log_release();
}

static void step_recall(void)
{
    struct message *m;
    uint32_t i;
    int rc;

    if (message_count == 0) {
        return;
    }
    i = below(message_count);
    m = &messages[i];
    rc = timers_recall(t, offset_of(i), m->info.topic, now, &u);
    CHECK((rc == 0) == (m->fate == WAITING && !m->is_leaving));
    if (rc == 0) {
        m->is_leaving = true;
        log_release();
    }
}

/* Some of it; the rest later, when messages have come and gone. */
static void save_more(void)
{
    if (timers_save_more(t, saving.ptr, below(20)) == 1) {
        saved_in_pieces++;
        return;
    }
    buf_clear(&checkpoint);
    buf_append_slice(&checkpoint, buf_slice(&saving));
    CHECK(!buf_failed(&checkpoint));
    buf_clear(&saving);
    checkpoint_at = saving_at;
    for (uint32_t i = 0; i < message_count; i++) {
        messages[i].is_in_checkpoint = messages[i].is_in_saving;
        messages[i].checkpoint_ms = messages[i].saving_ms;
    }
}

static void step_checkpoint(void)
{
    if (saving.len > 0 && below(3) == 0) {
        timers_save_stop(t);
        buf_clear(&saving);
    }
    if (saving.len > 0) {
        save_more();
        return;
    }
    timers_save(t, now, &saving);
    CHECK(!buf_failed(&saving));
    saving_at = flushed;
    for (uint32_t i = 0; i < MESSAGES_MAX; i++) {
        messages[i].is_in_saving = i < message_count && messages[i].fate == WAITING;
        messages[i].saving_ms = i < message_count ? due_to_wall(&messages[i]) : 0;
    }
    save_more();
}

/* What was not flushed is gone; the rest comes back from checkpoint and log. */
static void step_crash(void)
{
    struct timers_config config = {.held_max = MESSAGES_MAX};

    while (record_count > flushed) {
        mem_free(records[--record_count].payload);
    }
    timers_free(t);
    buf_clear(&saving);
    now.mono_ms = below(100000);
    CHECK(timers_new(&config, rand_u64(&rng), now, &t) == 0);
    for (uint32_t i = 0; i < message_count; i++) {
        struct message *m = &messages[i];
        m->is_leaving = false;
        m->is_deciding = false;
        m->shown = 0;
        m->due_ms = due_from_wall(m, m->is_in_checkpoint ? m->checkpoint_ms : m->record_ms);
    }
    if (checkpoint.len > 0) {
        CHECK(timers_load(t, buf_slice(&checkpoint), NULL) == 0);
    }
    is_recovering = true;
    for (uint32_t i = checkpoint_at; i < flushed; i++) {
        if (records[i].kind == REC_RELEASE) {
            CHECK(timers_apply_release(t, slice_of(records[i].payload, records[i].len), on_release,
                                       NULL, NULL) == 0);
        } else {
            settle_message(&records[i]);
        }
    }
    is_recovering = false;
    timers_recovered(t, now);
    for (uint32_t i = checkpoint_at; i < flushed; i++) { /* what the replay of messages overwrote */
        struct release_head head;
        struct release_iter iter;
        struct release_entry entry;
        if (records[i].kind != REC_RELEASE) {
            continue;
        }
        CHECK(release_decode(slice_of(records[i].payload, records[i].len), &head, &iter) == 0);
        while (release_next(&iter, &entry)) {
            messages[entry.offset / 8 - 1].fate = head.kind == RELEASE_DUE ? OUT : RECALLED;
        }
    }
}

static void step(void)
{
    uint32_t dice = below(100);

    now.mono_ms += below(40);
    now.wall_ms += now.mono_ms % 3 == 0 ? 0 : (int64_t)below(40);
    if (dice < 35) {
        step_arrive();
    } else if (dice < 45) {
        step_decide();
    } else if (dice < 70) {
        step_tick();
    } else if (dice < 75) {
        step_recall();
    } else if (dice < 90) {
        flush();
    } else if (dice < 95) {
        step_checkpoint();
    } else if (dice < 97) {
        now.wall_ms += (int64_t)below(20000) - 10000;
    } else {
        step_crash();
    }
    timers_check(t);
}

START_TEST(random_use_agrees_with_a_list)
{
    /* Every message that is due goes out, in order, once; crashes and clock steps included. */
    struct timers_config config = {.held_max = MESSAGES_MAX};
    uint32_t out = 0;

    rand_init(&rng, (uint64_t)_i + 1);
    now = (struct txn_now){.mono_ms = 5000, .wall_ms = INT64_C(1700000000000)};
    buf_init(&checkpoint, 0);
    buf_init(&saving, 0);
    timers_update_init(&u);
    ck_assert_int_eq(timers_new(&config, 1, now, &t), 0);
    timers_recovered(t, now);
    for (int i = 0; i < 4000; i++) {
        step();
    }
    flush();
    now.mono_ms += 100000;
    now.wall_ms += 100000;
    do {
        step_tick();
        flush();
    } while (u.payload.len > 0);
    for (uint32_t i = 0; i < message_count; i++) {
        ck_assert(messages[i].fate != WAITING);
        ck_assert_uint_le(messages[i].shown, 1);
        out += messages[i].fate == OUT;
    }
    ck_assert_uint_gt(out, 300);
    ck_assert_uint_gt(saved_in_pieces, 10);
    for (uint32_t i = 0; i < record_count; i++) {
        mem_free(records[i].payload);
    }
    timers_free(t);
    timers_update_fini(&u);
    buf_fini(&checkpoint);
    buf_fini(&saving);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/timers_model");
    TCase *tc = tcase_create("model");

    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, random_use_agrees_with_a_list, 0, 6);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
