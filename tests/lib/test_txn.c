#include "tests/lib/test_txn.h"

#include "core/base/check.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "txn/timers.h"
#include "txn/txn.h"

#define DECIDE_MAX 64u

static struct txn_now now_of(const struct test_store *ts)
{
    return (struct txn_now){.mono_ms = ts->now_ms, .wall_ms = ts->now_ms};
}

void test_txn_new(struct test_store *ts)
{
    struct txn_config config;
    struct timers_config timers = {.held_max = 100000};

    txn_config_default(&config);
    CHECK(txn_new(&config, 7, now_of(ts), &ts->txn) == 0);
    CHECK(timers_new(&timers, 7, now_of(ts), &ts->timers) == 0);
    carried_init(&ts->carried);
}

void test_txn_free(struct test_store *ts)
{
    if (ts->txn != NULL) {
        carried_fini(&ts->carried);
    }
    txn_free(ts->txn);
    ts->txn = NULL;
    timers_free(ts->timers);
    ts->timers = NULL;
}

void test_txn_recovered(struct test_store *ts)
{
    timers_recovered(ts->timers, now_of(ts));
}

void test_txn_sync_reserve(struct test_store *ts)
{
    uint64_t want = txn_reserve_bytes(ts->txn) + timers_reserve_bytes(ts->timers);
    uint64_t have = store_stats(ts->st).reserved_bytes;

    if (want > have) {
        store_reserve_add(ts->st, want - have);
    } else {
        store_reserve_sub(ts->st, have - want);
    }
}

/* ------------------------------------------------------------------ applying */

struct release_arg {
    struct test_store *ts;
    struct err_ctx *err;
};

static int on_release(void *arg, const struct txn_release *r)
{
    struct release_arg *a = arg;
    struct store_release release = {
        .topic = r->topic,
        .queue_id = r->queue,
        .half_offset = carried_where(&a->ts->carried, r->offset),
        .payload_size = r->size_bytes,
        .tag_code = r->tag_hash,
        .store_ms = r->store_ms,
        .at_ms = r->at_ms,
    };
    int64_t number;

    return store_release(a->ts->st, &release, &number, a->err);
}

static int on_due(void *arg, const struct release_entry *entry)
{
    struct release_arg *a = arg;
    struct store_release release = {
        .topic = entry->topic,
        .queue_id = entry->queue,
        .half_offset = carried_where(&a->ts->carried, entry->offset),
        .payload_size = entry->size_bytes,
        .tag_code = entry->tag_hash,
        .store_ms = entry->store_ms,
        .at_ms = entry->at_ms,
    };
    int64_t number;

    return store_release(a->ts->st, &release, &number, a->err);
}

static int apply_held(struct test_store *ts, const struct store_record *rec, struct err_ctx *err)
{
    struct release_arg arg = {.ts = ts, .err = err};
    struct timer_info info;

    if (rec->type == STORE_RELEASE) {
        return timers_apply_release(ts->timers, rec->payload, on_due, &arg, err);
    }
    CHECK(timer_info_decode(rec->payload, false, &info) == 0);
    return timers_apply_message(ts->timers, &info, rec->offset, err);
}

/* The small table learns from the payload; the real one must take it too. */
static int apply_decision(struct test_store *ts, const struct store_record *rec,
                          struct err_ctx *err)
{
    struct release_arg arg = {.ts = ts, .err = err};
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;

    CHECK(decision_decode(rec->payload, &head, &iter) == 0);
    while (decision_next(&iter, &entry)) {
        struct test_half *half = test_owner_find(&ts->owner, entry.offset);
        CHECK(half != NULL);
        CHECK(half->state == TEST_HALF_UNDECIDED);
        half->state = head.kind == DECISION_COMMIT ? TEST_HALF_COMMITTED : TEST_HALF_ROLLED_BACK;
    }
    return txn_apply_decision(ts->txn, rec->payload, on_release, &arg, err);
}

static bool is_held(const struct test_store *ts, uint64_t id)
{
    return txn_holds(ts->txn, id) || timers_holds(ts->timers, id);
}

int test_txn_apply(struct test_store *ts, const struct store_record *rec, struct err_ctx *err)
{
    struct txn_half_info info;
    int rc;

    if (rec->first != 0) {
        return !is_held(ts, rec->first)
                   ? 0
                   : carried_put(&ts->carried, rec->first, rec->offset, (uint32_t)rec->payload.len);
    }
    if (rec->type == STORE_HELD || rec->type == STORE_RELEASE) {
        return apply_held(ts, rec, err);
    }
    if (rec->type == STORE_DECISION) {
        return apply_decision(ts, rec, err);
    }
    rc = txn_half_info_decode(rec->payload, &info);
    CHECK(rc == 0);
    return txn_apply_half(ts->txn, &info, rec->offset, now_of(ts), err);
}

/* Two at a time: a crash test is to see what happens in between. */
int test_txn_save_more(struct test_store *ts, uint8_t *bytes)
{
    int rc = timers_save_more(ts->timers, bytes, ts->is_txn_saved ? 2 : 0);

    if (ts->is_txn_saved) {
        return rc;
    }
    rc = txn_save_more(ts->txn, bytes, 2);
    CHECK(rc >= 0);
    ts->is_txn_saved = rc == 0;
    return 1;
}

int test_txn_save(struct test_store *ts, struct store_sections *sections)
{
    struct buf *b = store_section(sections, "txn");

    ts->is_txn_saved = false;
    if (b != NULL) {
        txn_save(ts->txn, now_of(ts), b);
    }
    if (b == NULL || buf_failed(b)) {
        return ESCROW_ENOMEM;
    }
    b = store_section(sections, "timers");
    if (b != NULL) {
        timers_save(ts->timers, now_of(ts), b);
    }
    if (b == NULL || buf_failed(b)) {
        return ESCROW_ENOMEM;
    }
    b = store_section(sections, "carried");
    if (b != NULL) {
        carried_save(&ts->carried, b);
    }
    return b == NULL || buf_failed(b) ? ESCROW_ENOMEM : 0;
}

int test_txn_load(struct test_store *ts, struct slice name, struct slice data, struct err_ctx *err)
{
    if (slice_eq_str(name, "carried")) {
        return carried_load(&ts->carried, data, err);
    }
    return slice_eq_str(name, "timers") ? timers_load(ts->timers, data, err)
                                        : txn_load(ts->txn, data, now_of(ts), err);
}

/* ------------------------------------------------------------------ appending */

int test_txn_append(struct test_store *ts, const struct record_fields *f, struct store_receipt *out)
{
    struct txn_half_info info = {
        .topic = f->topic,
        .queue = (uint32_t)f->queue_id,
        .size_bytes = (uint32_t)record_size(f),
        .store_ms = f->store_ms,
    };
    struct txn_prepare_result result;
    struct slice tag = SLICE_EMPTY;
    int rc = txn_half_info_props(&info, f->properties);

    CHECK(rc == 0);
    (void)props_find(f->properties, SLICE_LIT("TAGS"), &tag); /* no tag is fine */
    info.tag_hash = (int32_t)tag_code(tag);
    rc = txn_prepare(ts->txn, &info, &result);
    CHECK(rc == 0);
    CHECK(result.verdict == TXN_NEW);
    rc = store_append_message(ts->st, STORE_HALF, f, ts, out);
    if (rc == 0) {
        txn_half_appended(ts->txn, &info, out->offset);
        test_txn_sync_reserve(ts);
    }
    return rc;
}

int test_txn_hold(struct test_store *ts, const struct record_fields *f, int64_t due_ms,
                  struct store_receipt *out)
{
    struct timer_info info = {.topic = f->topic,
                              .queue = (uint32_t)f->queue_id,
                              .size_bytes = (uint32_t)record_size(f),
                              .store_ms = f->store_ms,
                              .due_ms = due_ms,
                              .is_relative = true};
    struct slice tag = SLICE_EMPTY;
    int rc;

    (void)props_find(f->properties, SLICE_LIT("TAGS"), &tag); /* no tag is fine */
    info.tag_hash = (int32_t)tag_code(tag);
    CHECK(timers_accept(ts->timers, &info) == 0);
    rc = store_append_message(ts->st, STORE_HELD, f, ts, out);
    if (rc == 0) {
        timers_appended(ts->timers, &info, out->offset, now_of(ts));
        test_txn_sync_reserve(ts);
    }
    return rc;
}

int test_carry(struct test_store *ts, uint64_t id, struct store_receipt *out)
{
    struct store_fetch *fetch = store_fetch_new(ts->st);
    struct store_record rec;
    struct buf scratch;
    int rc;

    CHECK(fetch != NULL);
    buf_init(&scratch, 0);
    while ((rc = store_read_record(ts->st, carried_where(&ts->carried, id), fetch, &scratch, &rec,
                                   &ts->err)) == ESCROW_EAGAIN) {
        store_fetch_run(fetch);
    }
    if (rc == 0) {
        rc = store_append_copy(ts->st, rec.type, rec.payload, id, out);
    }
    buf_fini(&scratch);
    store_fetch_free(&fetch);
    return rc;
}

int test_release_due(struct test_store *ts, uint64_t *offsets, uint32_t *count,
                     struct store_receipt *out)
{
    static struct timers_update u;
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;
    int rc;

    *count = 0;
    timers_update_init(&u);
    rc = timers_tick(ts->timers, now_of(ts), &u);
    if (rc == 0 && u.count > 0) {
        rc = store_append_release(ts->st, buf_slice(&u.payload), u.queues, u.count, ts, out);
        if (rc == 0) {
            timers_release_appended(ts->timers);
            test_txn_sync_reserve(ts);
            CHECK(release_decode(buf_slice(&u.payload), &head, &iter) == 0);
            while (release_next(&iter, &entry)) {
                offsets[(*count)++] = entry.offset;
            }
        } else {
            timers_release_refused(ts->timers);
        }
    }
    timers_update_fini(&u);
    return rc;
}

static int append_update(struct test_store *ts, const struct txn_update *u,
                         struct store_receipt *out)
{
    struct store_queue_ref refs[DECIDE_MAX];
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    size_t count = 0;
    int rc;

    CHECK(decision_decode(buf_slice(&u->decision), &head, &iter) == 0);
    while (head.kind == DECISION_COMMIT && decision_next(&iter, &entry)) {
        CHECK(count < DECIDE_MAX);
        refs[count++] = (struct store_queue_ref){entry.topic, entry.queue};
    }
    rc = store_append_decision(ts->st, buf_slice(&u->decision), refs, count, ts, out);
    if (rc == 0) {
        txn_decision_appended(ts->txn, buf_slice(&u->decision));
        test_txn_sync_reserve(ts);
    }
    return rc;
}

int test_txn_decide(struct test_store *ts, bool commit, const uint64_t *offsets, uint32_t count,
                    struct store_receipt *out)
{
    struct txn_end_item items[DECIDE_MAX];
    struct txn_end_result results[DECIDE_MAX];
    struct txn_end end = {
        .kind = commit ? DECISION_COMMIT : DECISION_ROLLBACK,
        .by = DECISION_BY_PRODUCER,
        .group = SLICE_LIT(TEST_TXN_GROUP),
        .items = items,
        .count = count,
    };
    struct txn_update u;
    int rc;

    CHECK(count <= DECIDE_MAX);
    for (uint32_t i = 0; i < count; i++) {
        items[i] = (struct txn_end_item){.offset = offsets[i]};
    }
    txn_update_init(&u);
    rc = txn_end(ts->txn, &end, now_of(ts), results, &u);
    for (uint32_t i = 0; rc == 0 && i < count; i++) {
        CHECK(results[i].code == TXN_END_PERSIST);
    }
    rc = rc == 0 ? append_update(ts, &u, out) : rc;
    txn_update_fini(&u);
    return rc;
}

void test_txn_check(struct test_store *ts)
{
    txn_check(ts->txn);
    for (uint32_t i = 0; i < ts->owner.half_count; i++) {
        const struct test_half *half = &ts->owner.halves[i];
        struct decided_fact fact = {.kind = DECISION_NONE};
        struct txn_row row;
        bool is_undecided = txn_find(ts->txn, half->offset, &row, &fact);

        CHECK(is_undecided == (half->state == TEST_HALF_UNDECIDED));
        CHECK_IMPLIES(half->state == TEST_HALF_COMMITTED, fact.kind == DECISION_COMMIT);
        CHECK_IMPLIES(half->state == TEST_HALF_ROLLED_BACK, fact.kind == DECISION_ROLLBACK);
    }
    timers_check(ts->timers);
    carried_check(&ts->carried);
    CHECK(store_stats(ts->st).reserved_bytes ==
          txn_reserve_bytes(ts->txn) + timers_reserve_bytes(ts->timers));
}
