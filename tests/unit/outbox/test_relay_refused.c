/*
 * What the relay does when the broker refuses: which refusals park a row, and which never do. A
 * database with three rows and a broker that decides what it refuses are played by hand.
 */
#include "outbox/relay.h"

#include "core/base/buf.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

#include <limits.h>
#include <string.h>

#define ROWS      3
#define STEPS_MAX 400
#define SETTLED   UINT_MAX

struct office;

/* The broker's word on a batch or, with NULL, on an open. */
typedef int judge_fn(struct office *o, const struct sink_batch *batch);

struct office {
    struct relay *relay;
    struct relay_update up;
    int64_t now_ms;
    judge_fn *judge;
    unsigned refusals; /* so far, of batches and opens */
    unsigned alone;    /* refusals of a batch with one row, by the judge */
    unsigned opens;    /* that the broker refused since it last refused a batch, by the judge */
    /* Database. */
    enum relay_db_command asked;
    uint64_t park_id;
    bool up_whole_topic;
    bool is_whole_topic; /* the last one that was parked */
    bool has_recovered;
    uint64_t parked[8];
    size_t parked_count;
    bool is_told; /* that the relay fails; as the relay says when it connects and reports */
    /* Broker. */
    bool is_opening;
    bool is_peek;
    uint64_t epoch;
    struct buf position;
    struct buf offered; /* position after the batch that was refused last */
    uint64_t log[8];
    size_t log_count;
};

static const struct db_identity here = {77, 2, 5};

static void hire(struct office *o)
{
    struct relay_config cfg;

    relay_config_init(&cfg);
    cfg.source = "s";
    cfg.owner = "o";
    cfg.seed = 1;
    cfg.batch_rows_max = 2;
    o->relay = relay_new(&cfg);
    ck_assert_ptr_nonnull(o->relay);
}

static void open_office(struct office *o, judge_fn *judge)
{
    *o = (struct office){.now_ms = 1000, .judge = judge};
    buf_init(&o->position, 0);
    buf_init(&o->offered, 0);
    hire(o);
}

static void note(struct office *o)
{
    if (o->up.must_close_db) {
        o->asked = RELAY_DB_NONE;
    }
    if (o->up.db != RELAY_DB_NONE) {
        o->asked = o->up.db;
        o->park_id = o->up.park_id;
        o->up_whole_topic = o->up.is_whole_topic;
        o->has_recovered = o->up.has_recovered;
    }
    if (o->up.must_open_sink) {
        o->is_opening = true;
        o->is_peek = o->up.is_peek;
    }
    relay_check(o->relay);
}

static void feed(struct office *o, struct relay_event ev)
{
    ev.now_ms = o->now_ms;
    relay_step(o->relay, &ev, &o->up);
    note(o);
}

static int store(struct office *o, const struct sink_batch *batch)
{
    int rc = batch->epoch != o->epoch                          ? ESCROW_EFENCED
             : !slice_eq(batch->prev, buf_slice(&o->position)) ? ESCROW_ECONFLICT
                                                               : o->judge(o, batch);

    if (rc != 0) {
        o->refusals++;
        buf_clear(&o->offered);
        buf_append_slice(&o->offered, batch->next);
        return rc;
    }
    for (size_t i = 0; i < batch->message_count; i++) {
        o->log[o->log_count++] = batch->messages[i].row_id;
    }
    buf_clear(&o->position);
    buf_append_slice(&o->position, batch->next);
    return 0;
}

static void answer_open(struct office *o)
{
    struct buf copy;
    int rc = o->judge(o, NULL);

    o->is_opening = false;
    if (rc != 0) {
        o->refusals++;
        feed(o, (struct relay_event){.type = RELAY_EV_OPENED, .code = rc, .text = "no, says it"});
        return;
    }
    buf_init(&copy, 0);
    buf_append_slice(&copy, buf_slice(&o->position));
    o->epoch += !o->is_peek;
    feed(o, (struct relay_event){
                .type = RELAY_EV_OPENED, .epoch = o->epoch, .position = buf_slice(&copy)});
    buf_fini(&copy);
}

static bool is_parked(const struct office *o, uint64_t id)
{
    for (size_t i = 0; i < o->parked_count; i++) {
        if (o->parked[i] == id) {
            return true;
        }
    }
    return false;
}

static void answer_read(struct office *o)
{
    for (uint64_t id = 1; id <= ROWS; id++) { /* each its own transaction; the second is denied */
        struct outbox_row row = {.order_id = id,
                                 .id = id,
                                 .topic = is_parked(o, id) ? SLICE_EMPTY
                                          : id == 2        ? SLICE_LIT("denied")
                                                           : SLICE_LIT("t"),
                                 .body = SLICE_LIT("body")};
        ck_assert_int_eq(relay_row(o->relay, &row), 0);
    }
    feed(o, (struct relay_event){.type = RELAY_EV_READ_DONE});
}

static void answer_db(struct office *o, enum relay_db_command asked)
{
    struct snapshot present;

    switch (asked) {
    case RELAY_DB_CONNECT:
        o->is_told = relay_error(o->relay)->code != 0;
        feed(o, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here});
        return;
    case RELAY_DB_SNAPSHOT:
        snapshot_init(&present);
        ck_assert_int_eq(snapshot_parse(&present, SLICE_LIT("100:110:100")), 0);
        feed(o, (struct relay_event){.type = RELAY_EV_SNAPSHOT,
                                     .snapshots = &present,
                                     .snapshot_count = 1,
                                     .has_rows = true,
                                     .has_parked = o->parked_count > 0});
        snapshot_fini(&present);
        return;
    case RELAY_DB_READ:
        answer_read(o);
        return;
    case RELAY_DB_PARK:
        o->parked[o->parked_count++] = o->park_id;
        o->is_whole_topic = o->up_whole_topic;
        feed(o, (struct relay_event){.type = RELAY_EV_PARKED});
        return;
    case RELAY_DB_MAINTAIN:
        o->is_told = o->is_told && !o->has_recovered;
        feed(o, (struct relay_event){.type = RELAY_EV_MAINTAINED});
        return;
    case RELAY_DB_NONE:
    case RELAY_DB_CLOSE:
    case RELAY_DB_ADOPT:
    case RELAY_DB_REFUSE:
    case RELAY_DB_REPLAY:
        ck_abort_msg("not expected here");
    }
}

/* One thing that is due. false: nothing is. */
static bool work(struct office *o)
{
    struct sink_batch *batch = relay_take_batch(o->relay);
    enum relay_db_command asked = o->asked;

    if (batch != NULL) {
        batch->code = store(o, batch);
        batch->text = batch->code == 0 ? NULL : "no, says it";
        relay_batch_done(o->relay, batch, o->now_ms, &o->up);
        note(o);
    } else if (o->is_opening) {
        answer_open(o);
    } else if (asked != RELAY_DB_NONE) {
        o->asked = RELAY_DB_NONE;
        answer_db(o, asked);
    } else {
        return false;
    }
    return true;
}

static void pass_time(struct office *o)
{
    ck_assert_int_ne(o->up.deadline_ms, RELAY_NEVER_MS);
    o->now_ms = o->up.deadline_ms;
    feed(o, (struct relay_event){.type = RELAY_EV_TICK});
}

/* Play both until the broker has refused so often; SETTLED: until nothing is left to do. */
static void play(struct office *o, unsigned refusals)
{
    if (relay_state(o->relay) == RELAY_STOPPED) {
        feed(o, (struct relay_event){.type = RELAY_EV_START});
    }
    for (int i = 0; i < STEPS_MAX && o->refusals < refusals; i++) {
        if (work(o)) {
            continue;
        }
        if (relay_state(o->relay) == RELAY_IDLE) {
            return;
        }
        pass_time(o);
    }
    ck_assert_uint_ge(o->refusals, refusals);
}

/* The relay is gone, with what it knew. What it has sent is lost. */
static void fire(struct office *o)
{
    struct sink_batch *batch;

    while ((batch = relay_take_batch(o->relay)) != NULL) {
        batch->code = ESCROW_ESHUTDOWN;
        relay_batch_done(o->relay, batch, o->now_ms, &o->up);
        note(o);
    }
    feed(o, (struct relay_event){.type = RELAY_EV_STOP});
    if (o->is_opening) {
        feed(o, (struct relay_event){.type = RELAY_EV_OPENED, .code = ESCROW_ESHUTDOWN});
    }
    ck_assert(relay_is_final(o->relay));
    relay_free(o->relay);
    o->relay = NULL;
    o->is_opening = false;
    o->asked = RELAY_DB_NONE;
}

static void close_office(struct office *o)
{
    fire(o);
    buf_fini(&o->position);
    buf_fini(&o->offered);
}

static bool has_row(const struct sink_batch *batch, uint64_t id)
{
    for (size_t i = 0; batch != NULL && i < batch->message_count; i++) {
        if (batch->messages[i].row_id == id) {
            return true;
        }
    }
    return false;
}

static void expect_log(const struct office *o, const char *ids)
{
    char text[16] = "";

    for (size_t i = 0; i < o->log_count; i++) {
        text[i] = (char)('0' + o->log[i]);
    }
    ck_assert_str_eq(text, ids);
}

static int accept_all(struct office *o, const struct sink_batch *batch)
{
    (void)o;
    (void)batch;
    return 0;
}

static void expect_recovered(struct office *o)
{
    o->judge = accept_all;
    play(o, SETTLED);
    expect_log(o, "123");
    ck_assert_uint_eq(o->parked_count, 0);
    ck_assert_uint_eq(relay_stats(o->relay)->rows_parked, 0);
    ck_assert_int_eq(relay_error(o->relay)->code, 0);
}

static int moment_code;
static uint64_t moment_row;

static int refuse_once_alone(struct office *o, const struct sink_batch *batch)
{
    if (!has_row(batch, moment_row) || (batch->message_count == 1 && o->alone++ > 0)) {
        return 0;
    }
    return moment_code;
}

START_TEST(a_refusal_for_a_moment_parks_nothing)
{
    /* Whichever row, whatever the reason: it is offered once more, and goes out in its place. */
    static const int codes[] = {ESCROW_EPERM, ESCROW_ENOROUTE, ESCROW_EINVAL};

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        for (moment_row = 1; moment_row <= ROWS; moment_row++) {
            struct office o;
            moment_code = codes[i];
            open_office(&o, refuse_once_alone);
            play(&o, SETTLED);
            ck_assert_uint_ge(o.refusals, 1);
            expect_recovered(&o);
            close_office(&o);
        }
    }
}
END_TEST

static int refuse_row(struct office *o, const struct sink_batch *batch)
{
    o->alone += has_row(batch, 2) && batch->message_count == 1;
    return has_row(batch, 2) ? ESCROW_ETOOBIG : 0;
}

static int deny_topic_so(struct office *o, const struct sink_batch *batch)
{
    o->alone += has_row(batch, 2) && batch->message_count == 1;
    return has_row(batch, 2) ? moment_code : 0;
}

static int deny_topic(struct office *o, const struct sink_batch *batch)
{
    o->alone += has_row(batch, 2) && batch->message_count == 1;
    return has_row(batch, 2) ? ESCROW_EPERM : 0;
}

START_TEST(a_row_that_stays_refused_is_parked_and_no_other)
{
    /* Refused twice alone; what it is and why is said both times, first that it is tried again. */
    struct office o;

    open_office(&o, refuse_row);
    while (o.alone < 1) {
        play(&o, o.refusals + 1);
    }
    ck_assert_uint_eq(o.parked_count, 0);
    ck_assert(o.up.has_news);
    ck_assert_int_eq(o.up.deadline_ms, o.now_ms); /* at once: others wait behind it */
    ck_assert_ptr_nonnull(
        strstr(relay_error(o.relay)->text, "row 2 for topic denied: no, says it; tried once more"));
    play(&o, o.refusals + 1);
    ck_assert_uint_eq(o.alone, 2);
    ck_assert(o.up.has_news);
    ck_assert_ptr_nonnull(
        strstr(relay_error(o.relay)->text, "; parked, and what comes for its key"));
    play(&o, SETTLED);
    expect_log(&o, "13");
    ck_assert_uint_eq(o.parked_count, 1);
    ck_assert_uint_eq(o.parked[0], 2);
    ck_assert_uint_eq(o.alone, 2);
    ck_assert(!o.is_whole_topic);
    ck_assert_uint_eq(relay_stats(o.relay)->rows_parked, 1);
    close_office(&o);
}
END_TEST

START_TEST(a_topic_that_takes_nothing_is_waited_for_and_then_parked)
{
    /* As long as was said, with growing waits; it is said which topic, and what to do. */
    static const int codes[] = {ESCROW_EPERM, ESCROW_ENOROUTE};

    for (size_t i = 0; i < 2; i++) {
        struct office o;
        int64_t since_ms = 0;
        moment_code = codes[i];
        open_office(&o, deny_topic_so);
        while (o.parked_count == 0) {
            unsigned alone = o.alone;
            play(&o, o.refusals + 1);
            since_ms = since_ms == 0 && o.alone == 1 ? o.now_ms : since_ms;
            if (o.alone > 2 && o.alone > alone && o.now_ms < since_ms + 10000) {
                ck_assert_int_eq(relay_state(o.relay), RELAY_BACKOFF);
                ck_assert_int_gt(o.up.deadline_ms, o.now_ms);
                ck_assert_int_le(o.up.deadline_ms, since_ms + 10000);
                ck_assert_ptr_nonnull(
                    strstr(relay_error(o.relay)->text, "row 2 for topic denied: no, says it; all"));
            }
            if (o.now_ms >= since_ms + 10000 && o.alone > alone) {
                break; /* refused when the time was over */
            }
        }
        ck_assert_uint_gt(relay_stats(o.relay)->topic_waits, 3);
        ck_assert_uint_lt(relay_stats(o.relay)->topic_waits, 100);
        play(&o, SETTLED);
        expect_log(&o, "13");
        ck_assert_uint_eq(o.parked_count, 1);
        ck_assert(o.is_whole_topic);
        close_office(&o);
    }
}
END_TEST

static int deny_topic_for_seconds(struct office *o, const struct sink_batch *batch)
{
    return o->now_ms < 6000 ? deny_topic(o, batch) : 0;
}

START_TEST(a_topic_that_takes_nothing_for_seconds_parks_nothing)
{
    /* Read-only for a while: the others wait too, and all go out in their order. */
    struct office o;

    open_office(&o, deny_topic_for_seconds);
    play(&o, SETTLED);
    ck_assert_uint_gt(o.alone, 3);
    expect_recovered(&o);
    close_office(&o);
}
END_TEST

START_TEST(a_row_that_another_relay_published_meanwhile_is_not_parked)
{
    /* Refused twice; before the source is opened again the position has passed the row. */
    struct office o;

    open_office(&o, refuse_row);
    while (o.alone < 2) {
        play(&o, o.refusals + 1);
    }
    ck_assert_uint_eq(o.parked_count, 0);
    expect_log(&o, "1");
    buf_clear(&o.position);
    buf_append_slice(&o.position, buf_slice(&o.offered));
    o.log[o.log_count++] = 2;
    o.epoch++;
    play(&o, SETTLED);
    expect_log(&o, "123");
    ck_assert_uint_eq(o.parked_count, 0);
    close_office(&o);
}
END_TEST

START_TEST(what_a_killed_relay_has_parked_is_not_published)
{
    /* It died before the position passed the row, which the broker would take by now. */
    struct office o;

    open_office(&o, refuse_row);
    feed(&o, (struct relay_event){.type = RELAY_EV_START});
    for (int i = 0; i < STEPS_MAX && o.parked_count == 0; i++) {
        if (!work(&o)) {
            pass_time(&o);
        }
    }
    ck_assert_uint_eq(o.parked_count, 1);
    expect_log(&o, "1");
    fire(&o);
    o.judge = accept_all;
    hire(&o);
    play(&o, SETTLED);
    expect_log(&o, "13");
    ck_assert_uint_eq(o.parked_count, 1);
    close_office(&o);
}
END_TEST

static int refuse_keys(struct office *o, const struct sink_batch *batch)
{
    (void)o;
    return batch != NULL ? ESCROW_EAUTH : 0;
}

static int refuse_keys_everywhere(struct office *o, const struct sink_batch *batch)
{
    (void)o;
    (void)batch;
    return ESCROW_EAUTH;
}

START_TEST(keys_that_are_refused_park_nothing_however_long)
{
    /* Each time it is said and counted, the waits grow; and then everything goes out. */
    static judge_fn *const judges[] = {refuse_keys, refuse_keys_everywhere};

    for (size_t i = 0; i < sizeof judges / sizeof judges[0]; i++) {
        struct office o;
        int64_t longest_ms = 0;
        open_office(&o, judges[i]);
        for (unsigned n = 0; n < 20; n++) {
            uint64_t said = relay_stats(o.relay)->auth_failures;
            for (int tries = 0; tries < 4 && relay_stats(o.relay)->auth_failures == said; tries++) {
                play(&o, o.refusals + 1);
            }
            ck_assert_uint_eq(relay_stats(o.relay)->auth_failures, n + 1);
            ck_assert_int_eq(relay_error(o.relay)->code, ESCROW_EAUTH);
            ck_assert_ptr_nonnull(
                strstr(relay_error(o.relay)->text, "not authenticated: no, says it"));
            ck_assert(o.up.has_news);
            if (relay_state(o.relay) != RELAY_BACKOFF) {
                play(&o, o.refusals + 1); /* the batch behind it comes back too */
            }
            ck_assert_int_eq(relay_state(o.relay), RELAY_BACKOFF);
            if (o.up.deadline_ms - o.now_ms > longest_ms) {
                longest_ms = o.up.deadline_ms - o.now_ms;
            }
        }
        ck_assert_int_gt(longest_ms, 1000); /* the first is at most 100 */
        ck_assert_uint_eq(o.parked_count, 0);
        expect_log(&o, "");
        expect_recovered(&o);
        close_office(&o);
    }
}
END_TEST

/*
 * A broker that does not tell keys from rights: not permitted, until the source was refused three
 * times; and once more, when a row comes alone.
 */
static int refuse_without_telling(struct office *o, const struct sink_batch *batch)
{
    if (batch == NULL) {
        return o->refusals > 0 && o->opens++ < 3 ? ESCROW_EPERM : 0;
    }
    if (batch->message_count > 1 ? o->refusals > 0 : o->alone++ > 0) {
        return 0;
    }
    o->opens = 0;
    return ESCROW_EPERM;
}

START_TEST(the_database_is_told_and_told_when_it_is_over)
{
    /* Soon, although nothing was published that would have to be reported. */
    struct office o;
    int64_t since_ms;

    open_office(&o, accept_all);
    play(&o, SETTLED);
    fire(&o);
    hire(&o);
    o.judge = refuse_keys_everywhere;
    play(&o, 5);
    ck_assert(o.is_told);
    o.judge = accept_all;
    play(&o, SETTLED);
    since_ms = o.now_ms;
    for (int i = 0; i < STEPS_MAX && o.is_told; i++) {
        if (!work(&o)) {
            pass_time(&o);
        }
    }
    ck_assert(!o.is_told);
    ck_assert_int_le(o.now_ms - since_ms, 2000); /* reports are made every second */
    close_office(&o);
}
END_TEST

START_TEST(not_permitted_to_open_either_is_not_the_rows_fault)
{
    /* Twice the broker refuses everything for a while. */
    struct office o;

    open_office(&o, refuse_without_telling);
    play(&o, SETTLED);
    ck_assert_uint_ge(o.alone, 1);
    ck_assert_uint_ge(o.refusals, 8);
    expect_recovered(&o);
    close_office(&o);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/relay_refused");
    TCase *tc = tcase_create("relay_refused");

    tcase_add_test(tc, a_refusal_for_a_moment_parks_nothing);
    tcase_add_test(tc, a_row_that_stays_refused_is_parked_and_no_other);
    tcase_add_test(tc, a_topic_that_takes_nothing_is_waited_for_and_then_parked);
    tcase_add_test(tc, a_topic_that_takes_nothing_for_seconds_parks_nothing);
    tcase_add_test(tc, keys_that_are_refused_park_nothing_however_long);
    tcase_add_test(tc, a_row_that_another_relay_published_meanwhile_is_not_parked);
    tcase_add_test(tc, what_a_killed_relay_has_parked_is_not_published);
    tcase_add_test(tc, the_database_is_told_and_told_when_it_is_over);
    tcase_add_test(tc, not_permitted_to_open_either_is_not_the_rows_fault);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
