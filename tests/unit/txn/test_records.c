#include "tests/unit/txn/world.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "core/store/store.h"
#include "escrow/errors.h"
#include "tests/unit/core/base/unit_main.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static struct world w;

static void setup(void)
{
    struct txn_config config;

    world_config(&config);
    world_init(&w, &config, 1);
}

static void teardown(void)
{
    txn_check(w.t);
    world_fini(&w);
}

static struct txn_end_result commit(uint64_t offset)
{
    return world_end(&w, DECISION_COMMIT, DECISION_BY_PRODUCER, "orders", offset, NULL);
}

static struct txn_end_result rollback(uint64_t offset)
{
    return world_end(&w, DECISION_ROLLBACK, DECISION_BY_PRODUCER, "orders", offset, NULL);
}

static uint64_t half(const char *id)
{
    return world_half(&w, "orders", id, "paid", NULL);
}

static uint64_t durable_half(const char *id)
{
    uint64_t offset = half(id);

    world_sync(&w);
    return offset;
}

/* ---- records that contradict ----------------------------------------------------------------- */

static int no_release(void *arg, const struct txn_release *release)
{
    (void)arg;
    (void)release;
    return 0;
}

static int apply_fake(enum decision_kind kind, enum decision_by by, uint64_t offset,
                      uint64_t second)
{
    struct decision_head head = {.kind = kind, .by = by, .count = second == 0 ? 1 : 2, .at_ms = 1};
    struct decision_entry entry = {.offset = offset, .topic = SLICE_LIT("paid")};
    struct err_ctx err = {0};
    struct buf b;
    int rc;

    buf_init(&b, 0);
    decision_encode_head(&b, &head);
    decision_encode_entry(&b, kind, &entry);
    if (second != 0) {
        entry.offset = second;
        decision_encode_entry(&b, kind, &entry);
    }
    rc = txn_apply_decision(w.t, buf_slice(&b), no_release, NULL, &err);
    buf_fini(&b);
    if (rc != 0) {
        ck_assert_int_eq(err.code, rc);
        ck_assert(err.text[0] != '\0');
    }
    txn_check(w.t);
    return rc;
}

START_TEST(a_log_that_contradicts_the_table_is_reported_and_changes_nothing)
{
    /*
     * Decisions for halves that do not wait for them: corruption, found before anything has moved.
     */
    uint64_t open = durable_half("open");
    uint64_t done = durable_half("done");
    uint64_t fresh;

    (void)commit(done);
    world_sync(&w);
    fresh = half("fresh"); /* appended, not durable */
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, 4711, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, done, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_ROLLBACK, DECISION_BY_CHECK, fresh, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, open), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, done), ESCROW_ECORRUPT);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_BROKER, open, 0), ESCROW_ECORRUPT);
    (void)rollback(open);
    ck_assert_int_eq(apply_fake(DECISION_COMMIT, DECISION_BY_CHECK, open, 0), ESCROW_ECORRUPT);
    ck_assert_int_eq(world_state(&w, open), HALF_ROLLING_BACK);
    ck_assert_int_eq(txn_apply_decision(w.t, SLICE_LIT("?"), no_release, NULL, NULL),
                     ESCROW_ECORRUPT);
    ck_assert_int_eq(txn_apply_check(w.t, SLICE_LIT("?"), w.now, NULL), ESCROW_ECORRUPT);
}
END_TEST

START_TEST(a_half_record_that_contradicts_the_table_is_reported)
{
    /* Applied twice, an id that is undecided elsewhere, an offset that goes back, no name. */
    uint64_t offset = durable_half("t1");
    struct txn_half_info info = {.group = SLICE_LIT("orders"),
                                 .txn_id = SLICE_LIT("t1"),
                                 .topic = SLICE_LIT("paid"),
                                 .immunity_ms = -1};

    ck_assert_int_eq(txn_apply_half(w.t, &info, offset, w.now, NULL), ESCROW_ECORRUPT);
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset + 8, w.now, NULL), ESCROW_ECORRUPT);
    info.txn_id = SLICE_LIT("t2");
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset - 8, w.now, NULL), ESCROW_ECORRUPT);
    info.group = SLICE_EMPTY;
    ck_assert_int_eq(txn_apply_half(w.t, &info, offset + 16, w.now, NULL), ESCROW_ECORRUPT);
}
END_TEST

/* ---- facts from records ---------------------------------------------------------------------- */

static int decode(const char *props, struct txn_half_info *info, struct buf *b)
{
    const uint8_t ip[4] = {127, 0, 0, 1};
    struct record_fields f = {.queue_id = 3,
                              .sys_flag = SYSFLAG_TXN_PREPARED,
                              .born_ms = 1,
                              .store_ms = 1700000000000,
                              .born_host = record_host_ipv4(ip, 1),
                              .store_host = record_host_ipv4(ip, 2),
                              .body = SLICE_LIT("body"),
                              .topic = SLICE_LIT("paid"),
                              .properties = slice_str(props)};

    buf_clear(b);
    ck_assert_ptr_nonnull(buf_reserve(b, record_size(&f)));
    buf_commit(b, record_encode(b->ptr, &f));
    return txn_half_info_decode(buf_slice(b), info);
}

START_TEST(the_facts_of_a_half_are_read_from_its_record)
{
    /* Names, queue, size, tag, the broker's store time and never the client's born time. */
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decode("PGROUP\001orders\002UNIQ_KEY\0010A\002TAGS\001TagA\002"
                            "CHECK_IMMUNITY_TIME_IN_SECONDS\00160\002",
                            &info, &b),
                     0);
    ck_assert(slice_eq_str(info.group, "orders"));
    ck_assert(slice_eq_str(info.txn_id, "0A"));
    ck_assert(slice_eq_str(info.topic, "paid"));
    ck_assert_uint_eq(info.queue, 3);
    ck_assert_uint_eq(info.size_bytes, b.len);
    ck_assert_int_eq(info.tag_hash, 2598919);
    ck_assert_int_eq(info.store_ms, 1700000000000);
    ck_assert_int_eq(info.immunity_ms, 60000);
    ck_assert_int_eq(decode("PGROUP\001g\002UNIQ_KEY\001x\002", &info, &b), 0);
    ck_assert_int_eq(info.immunity_ms, -1);
    ck_assert_int_eq(info.tag_hash, 0);
    buf_fini(&b);
}
END_TEST

START_TEST(an_immunity_that_is_no_number_is_none)
{
    /*
     * Garbage, negative, too large for milliseconds: never a crash, never an early check by
     * mistake.
     */
    static const struct {
        const char *text;
        int64_t want;
    } cases[] = {{"abc", -1},
                 {"-5", -1},
                 {"0", 0},
                 {"9223372036854775807", INT64_MAX},
                 {"99999999999999999999", -1},
                 {"6.5", -1}};
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char props[128];
        (void)snprintf(props, sizeof props,
                       "PGROUP\001g\002UNIQ_KEY\001x\002CHECK_IMMUNITY_TIME_IN_SECONDS\001%s\002",
                       cases[i].text);
        ck_assert_int_eq(decode(props, &info, &b), 0);
        ck_assert_int_eq(info.immunity_ms, cases[i].want);
    }
    buf_fini(&b);
}
END_TEST

START_TEST(a_record_without_group_or_id_is_no_half)
{
    /* Nobody could be asked about it. */
    struct txn_half_info info;
    struct buf b;

    buf_init(&b, 0);
    ck_assert_int_eq(decode("UNIQ_KEY\0010A\002", &info, &b), ESCROW_EINVAL);
    ck_assert_int_eq(decode("PGROUP\001g\002", &info, &b), ESCROW_EINVAL);
    ck_assert_int_eq(txn_half_info_decode(SLICE_LIT("no record"), &info), ESCROW_EPROTO);
    buf_fini(&b);
}
END_TEST

/* ---- configuration and memory ---------------------------------------------------------------- */

START_TEST(a_configuration_out_of_bounds_is_named)
{
    /* The option's name is in the error; the defaults are fine. */
    struct txn_config config;
    struct err_ctx err = {0};

    txn_config_default(&config);
    ck_assert_int_eq(txn_config_check(&config, &err), 0);
    config.checks_max = 256;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "checks_max"));
    txn_config_default(&config);
    config.interval_ms = config.interval_max_ms + 1;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "interval_ms"));
    txn_config_default(&config);
    config.ways = 0;
    ck_assert_int_eq(txn_config_check(&config, &err), ESCROW_ECONFIG);
    ck_assert_str_eq(txn_way_name(TXN_WAY_LIVE), "live");
    ck_assert_str_eq(txn_way_name(TXN_WAY_HTTP), "http");
}
END_TEST

/* A short life of two halves, in which any call may be out of memory; repeats what was refused. */
static int scenario(struct world *sw)
{
    struct txn_half_info info = {.group = SLICE_LIT("g"),
                                 .txn_id = SLICE_LIT("a"),
                                 .topic = SLICE_LIT("t"),
                                 .store_ms = 1700000000000,
                                 .size_bytes = 500,
                                 .immunity_ms = 0};
    struct txn_end_item item = {.offset = 4096};
    struct txn_end end = {
        .kind = DECISION_COMMIT, .by = DECISION_BY_OPERATOR, .items = &item, .count = 1};
    struct txn_end_result result;
    struct txn_prepare_result prep;
    struct buf section;
    int rc = txn_prepare(sw->t, &info, &prep);

    if (rc != 0) {
        return rc;
    }
    txn_half_appended(sw->t, &info, 4096);
    rc = txn_apply_half(sw->t, &info, 4096, sw->now, NULL);
    CHECK(rc == 0); /* cannot fail live */
    rc = txn_tick(sw->t, sw->now, &sw->u);
    if (rc != 0) {
        return rc;
    }
    CHECK(sw->u.ask_count == 1);
    rc = txn_check_answered(sw->t, 4096, sw->u.asks[0].nonce, TXN_ANSWER_COMMIT, sw->now, &sw->u);
    if (rc != 0) {
        return rc;
    }
    rc = txn_end(sw->t, &end, sw->now, &result, &sw->u);
    if (rc != 0) {
        CHECK(world_state(sw, 4096) == HALF_CHECKING);
        return rc;
    }
    txn_decision_appended(sw->t, buf_slice(&sw->u.decision));
    rc = txn_apply_decision(sw->t, buf_slice(&sw->u.decision), no_release, NULL, NULL);
    CHECK(rc == 0); /* cannot fail live */
    buf_init(&section, 0);
    txn_save(sw->t, sw->now, &section);
    rc = buf_failed(&section) ? ESCROW_ENOMEM : txn_save_more(sw->t, section.ptr, UINT32_MAX);
    buf_fini(&section);
    return rc;
}

START_TEST(every_failed_allocation_is_reported_and_leaves_everything_in_order)
{
    /*
     * Fail the 1st, 2nd, ... allocation of a life until none fires: no leak, no broken invariant.
     */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct world sw;
        int rc;

        world_init(&sw, &w.config, 3);
        mem_fault_at(++n);
        rc = scenario(&sw);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        if (rc != 0) {
            ck_assert_int_eq(rc, ESCROW_ENOMEM);
            ck_assert(fired);
        }
        txn_check(sw.t);
        world_fini(&sw);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 10);
}
END_TEST

START_TEST(every_failed_allocation_of_the_start_is_reported)
{
    /* Fail the 1st, 2nd, ... of txn_new. */
    int64_t live = mem_live_count();
    uint64_t n = 0;
    bool fired = true;

    while (fired) {
        struct txn *t = NULL;
        int rc;

        mem_fault_at(++n);
        rc = txn_new(&w.config, 1, w.now, &t);
        fired = mem_fault_fired() != 0;
        mem_fault_at(0);
        ck_assert_int_eq(rc, fired ? ESCROW_ENOMEM : 0);
        txn_free(rc == 0 ? t : NULL);
        ck_assert_int_eq(mem_live_count(), live);
    }
}
END_TEST

START_TEST(appending_what_was_not_prepared_aborts)
{
    /* A broker that breaks the order of calls is stopped at once. */
    struct txn_half_info info = {
        .group = SLICE_LIT("g"), .txn_id = SLICE_LIT("a"), .topic = SLICE_LIT("t")};

    txn_half_appended(w.t, &info, 4096);
}
END_TEST

static void add_rest(Suite *suite)
{
    TCase *tc = tcase_create("records, configuration, memory");

    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_add_test(tc, the_facts_of_a_half_are_read_from_its_record);
    tcase_add_test(tc, an_immunity_that_is_no_number_is_none);
    tcase_add_test(tc, a_record_without_group_or_id_is_no_half);
    tcase_add_test(tc, a_configuration_out_of_bounds_is_named);
    tcase_add_test(tc, every_failed_allocation_is_reported_and_leaves_everything_in_order);
    tcase_add_test(tc, every_failed_allocation_of_the_start_is_reported);
    tcase_add_test_raise_signal(tc, appending_what_was_not_prepared_aborts, SIGABRT);
    tcase_add_test(tc, a_log_that_contradicts_the_table_is_reported_and_changes_nothing);
    tcase_add_test(tc, a_half_record_that_contradicts_the_table_is_reported);
    suite_add_tcase(suite, tc);
}

int main(void)
{
    Suite *suite = suite_create("txn/records");

    add_rest(suite);
    return unit_run(suite);
}
