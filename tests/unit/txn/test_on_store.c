/*
 * struct txn on the real store over a disk in memory: what the two promise each other. The store
 * keeps room for decisions and applies records in log order; the payloads say all that a queue
 * needs.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "core/store/store.h"
#include "escrow/errors.h"
#include "tests/lib/sim_disk.h"
#include "tests/unit/core/base/unit_main.h"
#include "txn/check_back.h"
#include "txn/txn.h"

#include <stdio.h>
#include <string.h>

struct broker {
    struct disk *disk;
    struct store *store;
    struct txn *txn;
    struct txn_update u;
    struct txn_now now;
    struct txn_config config;
    struct store_config store_config;
};

static struct broker b;

/* ---- owner ----------------------------------------------------------------------------------- */

static int on_release(void *arg, const struct txn_release *r)
{
    struct store_release release = {.topic = r->topic,
                                    .queue_id = r->queue,
                                    .half_offset = r->offset,
                                    .payload_size = r->size_bytes,
                                    .tag_code = r->tag_hash,
                                    .store_ms = r->store_ms,
                                    .at_ms = r->at_ms};
    int64_t queue_offset;

    (void)arg;
    return store_release(b.store, &release, &queue_offset, NULL);
}

static int on_apply(void *arg, const struct store_record *rec, struct err_ctx *err)
{
    struct txn_half_info info;
    int rc = 0;

    (void)arg;
    if (rec->type == STORE_HALF) {
        rc = txn_half_info_decode(rec->payload, &info);
        CHECK(rc == 0);
        CHECK(info.size_bytes == rec->payload.len);
        CHECK(info.tag_hash == rec->tag_code);
        CHECK(info.store_ms == rec->store_ms);
        CHECK(slice_eq(info.topic, rec->topic) && info.queue == rec->queue_id);
        rc = txn_apply_half(b.txn, &info, rec->offset, b.now, err);
    } else if (rec->type == STORE_DECISION) {
        rc = txn_apply_decision(b.txn, rec->payload, on_release, NULL, err);
    } else if (rec->type == STORE_CHECK) {
        rc = txn_apply_check(b.txn, rec->payload, b.now, err);
    }
    return rc;
}

static int on_save(void *arg, struct store_sections *sections)
{
    struct buf *section = store_section(sections, "txn");

    (void)arg;
    CHECK(section != NULL);
    txn_save(b.txn, b.now, section);
    return buf_failed(section) ? ESCROW_ENOMEM : 0;
}

static int on_save_more(void *arg, uint8_t *bytes)
{
    (void)arg;
    return txn_save_more(b.txn, bytes, 1);
}

static int on_load(void *arg, struct slice name, struct slice data, struct err_ctx *err)
{
    (void)arg;
    CHECK(slice_eq_str(name, "txn"));
    return txn_load(b.txn, data, b.now, err);
}

/* The store's reserve is what the halves need. */
static void sync_reserve(void)
{
    uint64_t want = txn_reserve_bytes(b.txn);
    uint64_t have = store_stats(b.store).reserved_bytes;

    if (want > have) {
        store_reserve_add(b.store, want - have);
    } else {
        store_reserve_sub(b.store, have - want);
    }
}

static void broker_open(void)
{
    static const struct store_owner owner = {.apply = on_apply,
                                             .checkpoint_save = on_save,
                                             .checkpoint_more = on_save_more,
                                             .checkpoint_load = on_load};
    struct err_ctx err = {0};
    int rc = txn_new(&b.config, 7, b.now, &b.txn);

    CHECK(rc == 0);
    rc = store_open(b.disk, &b.store_config, &owner, &b.store, NULL, &err);
    if (rc != 0) {
        (void)fprintf(stderr, "open: %s\n", err.text);
    }
    CHECK(rc == 0);
    sync_reserve();
}

static void broker_close(void)
{
    txn_check(b.txn);
    store_close(&b.store);
    txn_free(b.txn);
}

static void setup(void)
{
    memset(&b, 0, sizeof b);
    txn_config_default(&b.config);
    b.config.checks_max = 1;
    b.config.group_rate = 100000;
    b.now = (struct txn_now){.mono_ms = 1000, .wall_ms = 1700000000000};
    store_config_init(&b.store_config);
    b.store_config.segment_bytes = STORE_SEGMENT_BYTES_MIN;
    b.store_config.ahead_bytes = 64 * 1024;
    b.store_config.random_seed = 5;
    b.store_config.now_ms = b.now.wall_ms;
    b.disk = sim_disk_new();
    txn_update_init(&b.u);
    broker_open();
}

static void teardown(void)
{
    broker_close();
    txn_update_fini(&b.u);
    disk_free(&b.disk);
}

/* Everything appended becomes durable; segments are prepared as long as there is room. */
static void run(void)
{
    struct log_batch *batch;
    struct segment_job *job;

    b.now.mono_ms += 2000; /* a store that found the disk full tries again after a second */
    b.now.wall_ms += 2000;
    while ((batch = store_batch_take(b.store)) != NULL) {
        CHECK(log_batch_run(batch, NULL) == 0);
        CHECK(store_batch_done(b.store, &batch, NULL) == 0);
    }
    job = store_prepare_take(b.store, b.now.mono_ms);
    if (job != NULL) {
        segment_job_run(job);
        CHECK(store_prepare_done(b.store, &job, b.now.mono_ms, NULL) == 0);
    }
}

/* ---- requests -------------------------------------------------------------------------------- */

static int half(const char *id, uint64_t *offset)
{
    static uint8_t body[1000];
    const uint8_t ip[4] = {127, 0, 0, 1};
    char text[128];
    struct record_fields f = {.queue_id = 2,
                              .sys_flag = SYSFLAG_TXN_PREPARED,
                              .store_ms = b.now.wall_ms,
                              .born_host = record_host_ipv4(ip, 1),
                              .store_host = record_host_ipv4(ip, 2),
                              .body = slice_of(body, sizeof body),
                              .topic = SLICE_LIT("paid")};
    struct txn_half_info info = {.topic = f.topic, .queue = 2, .store_ms = f.store_ms};
    struct txn_prepare_result result;
    struct store_receipt receipt;
    int rc;

    (void)snprintf(text, sizeof text, "PGROUP\001g\002UNIQ_KEY\001%s\002TAGS\001TagA\002", id);
    f.properties = slice_str(text);
    info.size_bytes = (uint32_t)record_size(&f);
    info.tag_hash = (int32_t)tag_code(SLICE_LIT("TagA"));
    CHECK(txn_half_info_props(&info, f.properties) == 0);
    rc = txn_prepare(b.txn, &info, &result);
    CHECK(rc == 0 && result.verdict == TXN_NEW);
    rc = store_append_message(b.store, STORE_HALF, &f, NULL, &receipt);
    if (rc == 0) {
        txn_half_appended(b.txn, &info, receipt.offset);
        sync_reserve();
        *offset = receipt.offset;
    }
    return rc;
}

/* Append what the update asks for; a decision must never be refused. */
static void obey(void)
{
    struct store_queue_ref refs[END_TXN_HALVES_MAX];
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    struct store_receipt receipt;
    size_t count = 0;

    if (b.u.decision.len > 0) {
        CHECK(decision_decode(buf_slice(&b.u.decision), &head, &iter) == 0);
        while (head.kind != DECISION_ROLLBACK && decision_next(&iter, &entry)) {
            refs[count++] = head.kind == DECISION_COMMIT
                                ? (struct store_queue_ref){entry.topic, entry.queue}
                                : (struct store_queue_ref){SLICE_LIT(TXN_PARKING_TOPIC), 0};
        }
        CHECK(store_append_decision(b.store, buf_slice(&b.u.decision), refs, count, NULL,
                                    &receipt) == 0);
        txn_decision_appended(b.txn, buf_slice(&b.u.decision));
        sync_reserve();
    }
    if (b.u.check.len > 0) {
        int rc = store_append_raw(b.store, STORE_CHECK, buf_slice(&b.u.check), NULL, &receipt);
        CHECK(rc == 0 || rc == ESCROW_ENOSPC || rc == ESCROW_ELIMIT);
    }
}

static void end(enum decision_kind kind, const uint64_t *offsets, size_t count)
{
    struct txn_end_item items[END_TXN_HALVES_MAX];
    struct txn_end_result results[END_TXN_HALVES_MAX];
    struct txn_end request = {.kind = kind,
                              .by = DECISION_BY_PRODUCER,
                              .group = SLICE_LIT("g"),
                              .items = items,
                              .count = count};

    for (size_t i = 0; i < count; i++) {
        items[i] = (struct txn_end_item){.offset = offsets[i]};
    }
    CHECK(txn_end(b.txn, &request, b.now, results, &b.u) == 0);
    for (size_t i = 0; i < count; i++) {
        CHECK(results[i].code == TXN_END_PERSIST);
    }
    obey();
}

static int64_t queue_length(const char *topic, uint32_t queue)
{
    struct store_queue_ref ref = {slice_str(topic), queue};
    int64_t min = 0;
    int64_t max = 0;

    (void)store_queue_range(b.store, &ref, &min, &max); /* false: 0, 0 */
    return max - min;
}

/* Ask about everything that is due, and hear "unknown" on every way. */
static void unknown_rounds(void)
{
    do {
        struct txn_ask asks[TXN_ASKS_MAX];
        size_t count;
        bool more;
        CHECK(txn_tick(b.txn, b.now, &b.u) == 0);
        obey();
        count = b.u.ask_count;
        more = b.u.more;
        memcpy(asks, b.u.asks, sizeof asks);
        for (size_t i = 0; i < count; i++) {
            struct txn_ask http;
            CHECK(txn_check_answered(b.txn, asks[i].offset, asks[i].nonce, TXN_ANSWER_UNKNOWN,
                                     b.now, &b.u) == 0);
            CHECK(b.u.ask_count == 1);
            http = b.u.asks[0];
            CHECK(txn_check_answered(b.txn, http.offset, http.nonce, TXN_ANSWER_UNKNOWN, b.now,
                                     &b.u) == 0);
            obey();
        }
        CHECK(count > 0 || !more);
        if (count == 0) {
            return;
        }
    } while (true);
}

/* ---- tests ----------------------------------------------------------------------------------- */

START_TEST(halves_reach_the_queues_that_their_decisions_name)
{
    /*
     * Two committed in one record, one rolled back, one parked: queues count exactly that, also
     * after a restart.
     */
    uint64_t at[4];

    for (int i = 0; i < 4; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        ck_assert_int_eq(half(id, &at[i]), 0);
    }
    run();
    ck_assert_int_eq(queue_length("paid", 2), 0);
    end(DECISION_COMMIT, at, 2);
    end(DECISION_ROLLBACK, at + 2, 1);
    run();
    b.now.mono_ms += 10000;
    unknown_rounds();
    run();
    CHECK(txn_tick(b.txn, b.now, &b.u) == 0);
    obey();
    run();
    for (int round = 0; round < 2; round++) {
        struct txn_row row;
        struct decided_fact fact;
        ck_assert_int_eq(queue_length("paid", 2), 2);
        ck_assert_int_eq(queue_length(TXN_PARKING_TOPIC, 0), 1);
        ck_assert(txn_find(b.txn, at[3], &row, &fact));
        ck_assert_int_eq(row.state, HALF_EXPIRED);
        broker_close();
        broker_open();
    }
    end(DECISION_COMMIT, at + 3, 1);
    run();
    ck_assert_int_eq(queue_length("paid", 2), 3);
    ck_assert_uint_eq(store_stats(b.store).reserved_bytes, 0);
}
END_TEST

START_TEST(a_full_disk_refuses_halves_and_resolves_every_one_it_holds)
{
    /*
     * Fill the disk with halves, some of them about to expire; then expire, commit and roll back
     * all: nothing is refused.
     */
    static uint64_t at[20000];
    const size_t expiring = 100;
    size_t count = 0;
    size_t parked = 0;
    int rc = 0;

    sim_disk_set_capacity(b.disk, 5 * STORE_SEGMENT_BYTES_MIN + 300000);
    while (rc == 0 || rc == ESCROW_ELIMIT) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%zu", count);
        rc = half(id, &at[count]);
        count += rc == 0;
        if (count == expiring && rc == 0) {
            run();
            b.now.mono_ms += 10000;
            unknown_rounds(); /* counted, not yet expired */
        }
        if (rc != 0 || count % 50 == 0) {
            run();
        }
    }
    ck_assert_int_eq(rc, ESCROW_ENOSPC);
    ck_assert_uint_gt(count, 2000);
    run();
    do {
        CHECK(txn_tick(b.txn, b.now, &b.u) == 0);
        b.u.ask_count = 0; /* nobody is asked here */
        obey();
    } while (b.u.more);
    run();
    parked = (size_t)queue_length(TXN_PARKING_TOPIC, 0);
    ck_assert_uint_eq(parked, expiring);
    for (size_t i = 0; i < count / 2; i++) {
        end(i % 2 == 0 ? DECISION_COMMIT : DECISION_ROLLBACK, &at[i], 1);
        if (i % 300 == 0) {
            run();
        }
    }
    run();
    for (size_t i = count / 2; i < count;) {
        size_t n = count - i < END_TXN_HALVES_MAX ? count - i : END_TXN_HALVES_MAX;
        end(DECISION_COMMIT, &at[i], n);
        i += n;
    }
    run();
    ck_assert_int_eq(queue_length("paid", 2), (int64_t)(count - count / 2 + (count / 2 + 1) / 2));
    ck_assert_uint_eq(store_stats(b.store).reserved_bytes, 0);
    broker_close();
    broker_open();
    ck_assert_int_eq(queue_length("paid", 2), (int64_t)(count - count / 2 + (count / 2 + 1) / 2));
    ck_assert_int_eq(queue_length(TXN_PARKING_TOPIC, 0), (int64_t)expiring);
}
END_TEST

START_TEST(a_checkpoint_of_the_store_carries_the_half_table)
{
    /*
     * After it, the log before it is not read again; open, decided and counted halves are all
     * there.
     */
    struct flush_job *job;
    struct txn_row row = {0};
    struct decided_fact fact;
    uint64_t at[3];

    for (int i = 0; i < 3; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        ck_assert_int_eq(half(id, &at[i]), 0);
    }
    run();
    end(DECISION_COMMIT, at, 1);
    run();
    job = store_flush_take(b.store, true);
    ck_assert_ptr_nonnull(job);
    while (store_flush_more(b.store, &job)) {
    }
    flush_job_run(job);
    ck_assert_int_eq(store_flush_done(b.store, &job, NULL), 0);
    end(DECISION_ROLLBACK, at + 1, 1);
    run();
    broker_close();
    broker_open();
    ck_assert(!txn_find(b.txn, at[0], &row, &fact));
    ck_assert_int_eq(fact.kind, DECISION_COMMIT);
    ck_assert(!txn_find(b.txn, at[1], &row, &fact));
    ck_assert_int_eq(fact.kind, DECISION_ROLLBACK);
    ck_assert(txn_find(b.txn, at[2], &row, &fact));
    ck_assert_int_eq(row.state, HALF_PREPARED);
    ck_assert_int_eq(queue_length("paid", 2), 1);
    ck_assert_uint_eq(store_stats(b.store).reserved_bytes, STORE_DECISION_RESERVE);
}
END_TEST

/* Write the rest of it; false: it was given up. */
static bool finish_checkpoint(struct flush_job **job)
{
    while (store_flush_more(b.store, job)) {
    }
    if (*job == NULL) {
        return false;
    }
    flush_job_run(*job);
    CHECK(store_flush_done(b.store, job, NULL) == 0);
    return true;
}

/* Store and halves: t0 to t5 are durable, a checkpoint has been taken and written in part. */
static struct flush_job *begin_checkpoint(uint64_t *at)
{
    struct flush_job *job;

    for (int i = 0; i < 6; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "t%d", i);
        ck_assert_int_eq(half(id, &at[i]), 0);
    }
    run();
    job = store_flush_take(b.store, true);
    ck_assert_ptr_nonnull(job);
    ck_assert(store_flush_more(b.store, &job));
    return job;
}

START_TEST(a_checkpoint_is_of_one_point_of_the_log_whatever_is_decided_while_it_is_written)
{
    /*
     * Written one half at a time. What is decided and what comes in between lies behind the
     * checkpoint's position: a start reads it again, and finds the halves undecided.
     */
    struct flush_job *job;
    struct txn_row row;
    struct decided_fact fact;
    uint64_t at[7];

    job = begin_checkpoint(at);
    end(DECISION_COMMIT, at + 5, 1);
    end(DECISION_ROLLBACK, at, 1); /* is written already */
    run();
    ck_assert(store_flush_more(b.store, &job));
    end(DECISION_COMMIT, at + 3, 1);
    ck_assert_int_eq(half("t6", &at[6]), 0);
    run();
    ck_assert(finish_checkpoint(&job));
    broker_close();
    broker_open();
    for (int i = 0; i < 7; i++) {
        bool is_undecided = i != 0 && i != 3 && i != 5;
        ck_assert_int_eq(txn_find(b.txn, at[i], &row, &fact), is_undecided);
        ck_assert(is_undecided || fact.kind == (i == 0 ? DECISION_ROLLBACK : DECISION_COMMIT));
    }
    ck_assert_int_eq(queue_length("paid", 2), 2);
}
END_TEST

START_TEST(a_checkpoint_without_memory_for_what_changes_is_given_up_and_made_later)
{
    /*
     * Each allocation of an apply fails in turn: applying never does, and the next checkpoint is a
     * whole one.
     */
    uint32_t given_up = 0;
    bool fired = true;

    for (uint64_t n = 1; fired; n++) {
        struct flush_job *job;
        struct log_batch *batch;
        uint64_t at[6];

        job = begin_checkpoint(at);
        end(DECISION_ROLLBACK, at + 5, 1);
        batch = store_batch_take(b.store);
        ck_assert_int_eq(log_batch_run(batch, NULL), 0);
        mem_fault_at(n);
        ck_assert_int_eq(store_batch_done(b.store, &batch, NULL), 0);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        end(DECISION_ROLLBACK, at, 5);
        run();
        given_up += !finish_checkpoint(&job);
        broker_close();
        broker_open(); /* from the checkpoint before, or from this one */
        ck_assert_uint_eq(txn_oldest_offset(b.txn), UINT64_MAX);
        job = store_flush_take(b.store, true);
        ck_assert_ptr_nonnull(job);
        ck_assert(finish_checkpoint(&job));
        teardown();
        setup();
    }
    ck_assert_uint_ge(given_up, 2);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("txn/on_store");
    TCase *tc = tcase_create("on_store");

    tcase_set_timeout(tc, 60);
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, halves_reach_the_queues_that_their_decisions_name);
    tcase_add_test(tc, a_full_disk_refuses_halves_and_resolves_every_one_it_holds);
    tcase_add_test(tc, a_checkpoint_of_the_store_carries_the_half_table);
    tcase_add_test(tc,
                   a_checkpoint_is_of_one_point_of_the_log_whatever_is_decided_while_it_is_written);
    tcase_add_test(tc, a_checkpoint_without_memory_for_what_changes_is_given_up_and_made_later);
    suite_add_tcase(suite, tc);
    return unit_run(suite);
}
