#include "outbox/relay.h"

#include "core/base/mem.h"
#include "escrow/errors.h"
#include "tests/unit/outbox/outbox_main.h"

#include <string.h>

/* One relay, fed by hand. */
struct desk {
    struct relay *relay;
    struct relay_update up;
    int64_t now_ms;
    struct snapshot snapshot;
};

static const struct db_identity here = {77, 2, 5};

static void desk_init_with(struct desk *d, const struct relay_config *cfg)
{
    *d = (struct desk){.now_ms = 1000};
    snapshot_init(&d->snapshot);
    d->relay = relay_new(cfg);
    ck_assert_ptr_nonnull(d->relay);
}

static void config_of(struct relay_config *cfg)
{
    relay_config_init(cfg);
    cfg->source = "s";
    cfg->owner = "o";
    cfg->seed = 1;
    cfg->batch_rows_max = 2;
    cfg->window_bytes = 10;
    cfg->poll_min_ms = 4;
    cfg->poll_max_ms = 64;
    cfg->maintain_ms = 1000;
    cfg->db_timeout_ms = 500;
    cfg->sort_bytes_max =
        1; /* nothing fits: the database sorts, and rows are batched as they come */
}

static void desk_init(struct desk *d)
{
    struct relay_config cfg;

    config_of(&cfg);
    desk_init_with(d, &cfg);
}

static void feed(struct desk *d, struct relay_event ev)
{
    ev.now_ms = d->now_ms;
    relay_step(d->relay, &ev, &d->up);
    relay_check(d->relay);
}

static void tick_at_deadline(struct desk *d)
{
    ck_assert_int_ne(d->up.deadline_ms, RELAY_NEVER_MS);
    d->now_ms = d->up.deadline_ms;
    feed(d, (struct relay_event){.type = RELAY_EV_TICK});
}

static void expect(struct desk *d, enum relay_state state, enum relay_db_command db)
{
    ck_assert_int_eq(relay_state(d->relay), state);
    ck_assert_int_eq(d->up.db, db);
}

/* A relay that refuses says so to the database before it ends. */
static void answer_refusal(struct desk *d)
{
    expect(d, RELAY_REFUSING, RELAY_DB_REFUSE);
    ck_assert(d->up.has_news);
    ck_assert(!d->up.must_close_db);
    ck_assert(!d->up.must_open_sink);
    feed(d, (struct relay_event){.type = RELAY_EV_TOLD});
    ck_assert(d->up.must_close_db);
}

/* OPENED with this position: what a peek tells, and, unless that is refused, the open. */
static void answer_open(struct desk *d, uint64_t epoch, struct slice position)
{
    ck_assert(d->up.must_open_sink);
    ck_assert(d->up.is_peek);
    feed(d, (struct relay_event){.type = RELAY_EV_OPENED, .position = position});
    if (d->up.must_open_sink) {
        ck_assert_int_eq(relay_state(d->relay), RELAY_OPENING);
        ck_assert(!d->up.is_peek);
        feed(d,
             (struct relay_event){.type = RELAY_EV_OPENED, .epoch = epoch, .position = position});
        ck_assert(!d->up.must_open_sink);
    }
    if (relay_state(d->relay) == RELAY_REFUSING) {
        answer_refusal(d);
    }
}

/* START, CONNECTED, OPENED with this position. */
static void go(struct desk *d, struct slice position)
{
    feed(d, (struct relay_event){.type = RELAY_EV_START});
    expect(d, RELAY_CONNECTING, RELAY_DB_CONNECT);
    feed(d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3});
    answer_open(d, 9, position);
}

static void answer_snapshot(struct desk *d, const char *text, bool has_rows)
{
    ck_assert_int_eq(snapshot_parse(&d->snapshot, slice_str(text)), 0);
    feed(d, (struct relay_event){.type = RELAY_EV_SNAPSHOT,
                                 .snapshots = &d->snapshot,
                                 .snapshot_count = 1,
                                 .has_rows = has_rows});
}

/* SNAPSHOT with rows, up to READING: the first row does not fit, so it is read again, sorted. */
static void read_sorted(struct desk *d, const char *text)
{
    struct outbox_row row = {
        .order_id = 1, .id = 1, .topic = SLICE_LIT("t"), .body = SLICE_LIT("body")};

    answer_snapshot(d, text, true);
    expect(d, RELAY_READING, RELAY_DB_READ);
    ck_assert(!d->up.is_sorted);
    ck_assert_int_eq(relay_row(d->relay, &row), ESCROW_ELIMIT);
    feed(d, (struct relay_event){.type = RELAY_EV_DB_FAILED, .code = ESCROW_ELIMIT});
    expect(d, RELAY_BACKOFF, RELAY_DB_NONE);
    ck_assert(!d->up.has_news);
    ck_assert_int_eq(d->up.deadline_ms, d->now_ms);
    tick_at_deadline(d);
    feed(d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3});
    answer_open(d, 9, SLICE_EMPTY);
    answer_snapshot(d, text, true);
    expect(d, RELAY_READING, RELAY_DB_READ);
    ck_assert(d->up.is_sorted);
}

static int put_row(struct desk *d, uint64_t order_id, uint64_t id)
{
    struct outbox_row row = {
        .order_id = order_id, .id = id, .topic = SLICE_LIT("t"), .body = SLICE_LIT("body")};

    return relay_row(d->relay, &row);
}

static void give_back(struct desk *d, struct sink_batch *batch, int code)
{
    batch->code = code;
    batch->text = code == 0 ? NULL : "no";
    relay_batch_done(d->relay, batch, d->now_ms, &d->up);
    relay_check(d->relay);
}

static void desk_fini(struct desk *d)
{
    struct sink_batch *batch;

    while ((batch = relay_take_batch(d->relay)) != NULL) {
        give_back(d, batch, ESCROW_ESHUTDOWN);
    }
    feed(d, (struct relay_event){.type = RELAY_EV_STOP});
    ck_assert(relay_is_final(d->relay));
    relay_free(d->relay);
    snapshot_fini(&d->snapshot);
}

START_TEST(the_happy_path)
{
    /* Connect, open, look, read, publish, look again. */
    struct desk d;
    struct relay_config cfg;
    struct sink_batch *first;
    struct sink_batch *second;

    config_of(&cfg);
    cfg.sort_bytes_max = 1000;
    desk_init_with(&d, &cfg);
    go(&d, SLICE_EMPTY);
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(!d.up.hold_wake);
    answer_snapshot(&d, "100:110:100", true);
    expect(&d, RELAY_READING, RELAY_DB_READ);
    /* As the table has them: transaction 105 published rows 2 and 3, transaction 107 row 1. */
    ck_assert_int_eq(put_row(&d, 105, 3), 0);
    ck_assert_int_eq(put_row(&d, 107, 1), 0);
    ck_assert_int_eq(put_row(&d, 105, 2), 0);
    ck_assert_ptr_null(relay_take_batch(d.relay));
    feed(&d, (struct relay_event){.type = RELAY_EV_READ_DONE});
    first = relay_take_batch(d.relay);
    ck_assert_ptr_nonnull(first);
    ck_assert_uint_eq(first->message_count, 1);
    ck_assert_uint_eq(first->prev.len, 0);
    ck_assert_uint_eq(first->messages[0].row_id, 1);
    ck_assert_uint_eq(first->epoch, 9);
    second = relay_take_batch(d.relay);
    ck_assert_uint_eq(second->message_count, 2);
    ck_assert_uint_eq(second->messages[0].row_id, 2);
    ck_assert_uint_eq(second->messages[1].row_id, 3);
    ck_assert(slice_eq(second->prev, first->next));
    ck_assert(!slice_eq(second->next, first->next));
    expect(&d, RELAY_PUBLISHING, RELAY_DB_NONE); /* the window is 10 bytes */
    give_back(&d, first, 0);
    expect(&d, RELAY_PUBLISHING, RELAY_DB_NONE);
    give_back(&d, second, 0);
    expect(&d, RELAY_IDLE, RELAY_DB_NONE);
    ck_assert_uint_eq(relay_stats(d.relay)->rows_acked, 3);
    tick_at_deadline(&d);
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(d.up.hold_wake); /* rows come: nobody need wake us */
    desk_fini(&d);
}
END_TEST

START_TEST(polls_get_rarer_and_a_wake_up_comes_first)
{
    /* 4, 8, 16 ... 64 ms; the wake lock is given back with the second empty poll. */
    struct desk d;
    int64_t waits[6];

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    for (int i = 0; i < 6; i++) {
        answer_snapshot(&d, "100:100:", false);
        expect(&d, RELAY_IDLE, RELAY_DB_NONE);
        waits[i] = d.up.deadline_ms - d.now_ms;
        tick_at_deadline(&d);
        ck_assert(!d.up.hold_wake);
    }
    for (int i = 1; i < 6; i++) {
        ck_assert_int_ge(waits[i], waits[i - 1]);
    }
    ck_assert_int_eq(waits[5], 64);
    answer_snapshot(&d, "100:100:", false);
    feed(&d, (struct relay_event){.type = RELAY_EV_WAKE});
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    feed(&d, (struct relay_event){.type = RELAY_EV_WAKE}); /* while it looks: look again */
    answer_snapshot(&d, "101:101:", false);
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    desk_fini(&d);
}
END_TEST

START_TEST(the_database_is_told_now_and_then)
{
    /* At the report time when something was acknowledged, rarely otherwise. */
    struct desk d;
    struct sink_batch *batch;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    ck_assert_int_eq(put_row(&d, 1, 1), 0);
    feed(&d, (struct relay_event){.type = RELAY_EV_READ_DONE});
    batch = relay_take_batch(d.relay);
    d.now_ms += 2000;
    give_back(&d, batch, 0);
    feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
    expect(&d, RELAY_MAINTAINING, RELAY_DB_MAINTAIN);
    ck_assert_uint_eq(d.up.report_rows, 1);
    ck_assert_uint_eq(relay_acked(d.relay)->old.xmax, 100);
    feed(&d, (struct relay_event){.type = RELAY_EV_MAINTAINED, .reports = 4});
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert_uint_eq(relay_cursor(d.relay)->reports, 4);
    answer_snapshot(&d, "100:101:", false);
    d.now_ms += 2000;
    feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT); /* nothing to tell */
    desk_fini(&d);
}
END_TEST

static void encode(struct buf *out, struct db_identity db, uint64_t reports, const char *old)
{
    struct position p;

    position_init(&p);
    p.db = db;
    p.reports = reports;
    ck_assert_int_eq(snapshot_parse(&p.old, slice_str(old)), 0);
    position_encode(&p, out);
    position_fini(&p);
}

START_TEST(a_database_that_was_never_told_the_position_is_told_soon)
{
    /*
     * By a version before it was: nothing is refused or put back for want of it, and the report
     * that brings it does not wait for something to publish. Told, the next one is due much later.
     */
    struct desk d;
    struct buf bytes;

    buf_init(&bytes, 0);
    encode(&bytes, here, 3, "50:50:");
    desk_init(&d);
    go(&d, buf_slice(&bytes));
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(!d.up.is_put_back);
    answer_snapshot(&d, "60:60:", false);
    for (int i = 0; i < 2; i++) {
        d.now_ms += 1000;
        feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
        if (i == 0) {
            expect(&d, RELAY_MAINTAINING, RELAY_DB_MAINTAIN);
            ck_assert_uint_eq(relay_stored(d.relay)->xmax, 50);
            feed(&d, (struct relay_event){.type = RELAY_EV_MAINTAINED, .reports = 4});
        }
        expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
        answer_snapshot(&d, "60:60:", false);
    }
    desk_fini(&d);
    buf_fini(&bytes);
}
END_TEST

START_TEST(an_error_of_a_relay_before_is_taken_back_at_the_next_report)
{
    /* It may have died of it: the database knows, the new one does not. Nothing else to report. */
    struct desk d;

    desk_init(&d);
    feed(&d, (struct relay_event){.type = RELAY_EV_START});
    feed(&d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here, .knows_error = true});
    answer_open(&d, 9, SLICE_EMPTY);
    answer_snapshot(&d, "100:100:", false);
    expect(&d, RELAY_IDLE, RELAY_DB_NONE);
    d.now_ms += 1000;
    feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
    expect(&d, RELAY_MAINTAINING, RELAY_DB_MAINTAIN);
    ck_assert(d.up.has_recovered);
    desk_fini(&d);
}
END_TEST

START_TEST(a_refusal_that_the_database_cannot_be_told_is_one_all_the_same)
{
    /*
     * The statement fails (an older right), its answer does not come, or somebody stops the relay.
     */
    struct desk d;

    for (int i = 0; i < 3; i++) {
        desk_init(&d);
        feed(&d, (struct relay_event){.type = RELAY_EV_START});
        feed(&d, (struct relay_event){
                     .type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3, .rows_published = 1});
        feed(&d, (struct relay_event){.type = RELAY_EV_OPENED});
        expect(&d, RELAY_REFUSING, RELAY_DB_REFUSE);
        if (i == 0) {
            feed(&d, (struct relay_event){.type = RELAY_EV_DB_FAILED, .code = ESCROW_EDB});
        } else if (i == 1) {
            tick_at_deadline(&d);
        } else {
            feed(&d, (struct relay_event){.type = RELAY_EV_STOP});
        }
        ck_assert_int_eq(relay_state(d.relay), i == 2 ? RELAY_STOPPED : RELAY_REFUSED);
        ck_assert_int_eq(relay_error(d.relay)->code, ESCROW_EFOREIGN);
        ck_assert(!d.up.has_news); /* it was said when it was asked */
        desk_fini(&d);
    }
}
END_TEST

START_TEST(rows_out_of_order_are_refused)
{
    /* The query is not what this code believes: better to stop than to publish. */
    struct desk d;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    ck_assert_int_eq(put_row(&d, 5, 4), 0);
    ck_assert_int_eq(put_row(&d, 5, 4), ESCROW_EPROTO);
    ck_assert_int_eq(put_row(&d, 3, 3), ESCROW_EPROTO);
    ck_assert_int_eq(put_row(&d, 5, 5), 0);
    desk_fini(&d);
}
END_TEST

START_TEST(a_failed_batch_drains_and_backs_off)
{
    /* What was read and not sent is forgotten; the database is closed; then it begins anew. */
    struct desk d;
    struct sink_batch *first;
    struct sink_batch *second;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    for (uint64_t id = 1; id <= 5; id++) {
        ck_assert_int_eq(put_row(&d, id, id), 0);
    }
    first = relay_take_batch(d.relay);
    second = relay_take_batch(d.relay);
    ck_assert_ptr_nonnull(second);
    give_back(&d, first, ESCROW_ENOSPC);
    ck_assert_int_eq(relay_state(d.relay), RELAY_DRAINING);
    ck_assert(d.up.must_close_db);
    ck_assert(d.up.has_news);
    ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "publish: no"));
    feed(&d, (struct relay_event){.type = RELAY_EV_READ_DONE}); /* crossed the close */
    ck_assert_int_eq(relay_state(d.relay), RELAY_DRAINING);
    give_back(&d, second, ESCROW_ECONFLICT);
    ck_assert_int_eq(relay_state(d.relay), RELAY_BACKOFF);
    tick_at_deadline(&d);
    expect(&d, RELAY_CONNECTING, RELAY_DB_CONNECT);
    desk_fini(&d);
}
END_TEST

START_TEST(a_fenced_relay_ends)
{
    /* Final; nothing wakes it up again. */
    struct desk d;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    ck_assert_int_eq(put_row(&d, 1, 1), 0);
    feed(&d, (struct relay_event){.type = RELAY_EV_READ_DONE});
    give_back(&d, relay_take_batch(d.relay), ESCROW_EFENCED);
    ck_assert_int_eq(relay_state(d.relay), RELAY_FENCED);
    ck_assert_int_eq(d.up.deadline_ms, RELAY_NEVER_MS);
    feed(&d, (struct relay_event){.type = RELAY_EV_WAKE});
    feed(&d, (struct relay_event){.type = RELAY_EV_START});
    ck_assert_int_eq(relay_state(d.relay), RELAY_FENCED);
    desk_fini(&d);
}
END_TEST

START_TEST(a_silent_database_times_out_and_a_slow_broker_does_not)
{
    /* No row for half a second is a failure, unless the window is full. */
    struct desk d;
    struct sink_batch *first;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    ck_assert_int_eq(put_row(&d, 1, 1), 0);
    ck_assert_int_eq(put_row(&d, 2, 2), 0);
    ck_assert_int_eq(put_row(&d, 3, 3), 0);
    first = relay_take_batch(d.relay);
    ck_assert(!relay_wants_rows(d.relay));
    for (int i = 0; i < 5; i++) {
        d.now_ms += 600;
        feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
        ck_assert_int_eq(relay_state(d.relay), RELAY_READING);
    }
    give_back(&d, first, 0);
    ck_assert(relay_wants_rows(d.relay));
    d.now_ms += 600;
    feed(&d, (struct relay_event){.type = RELAY_EV_TICK}); /* an answer came in between */
    d.now_ms += 600;
    feed(&d, (struct relay_event){.type = RELAY_EV_TICK});
    ck_assert_int_eq(relay_error(d.relay)->code, ESCROW_ETIMEOUT);
    ck_assert_int_ne(relay_state(d.relay), RELAY_READING);
    desk_fini(&d);
}
END_TEST

START_TEST(every_wait_for_the_database_ends)
{
    /* CONNECTING and SNAPSHOT; the same deadline stands in every state that waits. */
    struct desk d;

    desk_init(&d);
    feed(&d, (struct relay_event){.type = RELAY_EV_START});
    tick_at_deadline(&d);
    ck_assert_int_eq(relay_state(d.relay), RELAY_BACKOFF);
    ck_assert(d.up.must_close_db);
    tick_at_deadline(&d);
    feed(&d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here});
    ck_assert_int_eq(d.up.deadline_ms, RELAY_NEVER_MS); /* the sink keeps its own time */
    answer_open(&d, 1, SLICE_EMPTY);
    tick_at_deadline(&d);
    ck_assert_int_eq(relay_state(d.relay), RELAY_BACKOFF);
    desk_fini(&d);
}
END_TEST

START_TEST(stopping_waits_for_what_the_sink_has)
{
    /* Also for an open request. */
    struct desk d;
    struct relay_config cfg;
    struct sink_batch *batch;

    desk_init(&d);
    go(&d, SLICE_EMPTY);
    read_sorted(&d, "100:100:");
    ck_assert_int_eq(put_row(&d, 1, 1), 0);
    feed(&d, (struct relay_event){.type = RELAY_EV_READ_DONE});
    batch = relay_take_batch(d.relay);
    feed(&d, (struct relay_event){.type = RELAY_EV_STOP});
    ck_assert_int_eq(relay_state(d.relay), RELAY_DRAINING);
    give_back(&d, batch, 0);
    ck_assert_int_eq(relay_state(d.relay), RELAY_STOPPED);
    relay_free(d.relay);
    snapshot_fini(&d.snapshot);
    config_of(&cfg);
    desk_init_with(&d, &cfg);
    feed(&d, (struct relay_event){.type = RELAY_EV_START});
    feed(&d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here});
    feed(&d, (struct relay_event){.type = RELAY_EV_STOP});
    ck_assert_int_eq(relay_state(d.relay), RELAY_DRAINING);
    feed(&d, (struct relay_event){.type = RELAY_EV_OPENED, .code = ESCROW_ESHUTDOWN});
    ck_assert_int_eq(relay_state(d.relay), RELAY_STOPPED);
    desk_fini(&d);
}
END_TEST

START_TEST(a_foreign_position_needs_the_right_word)
{
    /*
     * Refused; refused with the wrong identity; taken over with the right one, and the new position
     * is stored at once.
     */
    static const struct db_identity other = {99, 1, 5};
    struct relay_config cfg;
    struct desk d;
    struct buf bytes;
    struct sink_batch *batch;
    struct snapshot passed;

    buf_init(&bytes, 0);
    encode(&bytes, other, 0, "50:50:");
    config_of(&cfg);
    for (int i = 0; i < 2; i++) {
        cfg.foreign = i == 0 ? RELAY_FOREIGN_REFUSE : RELAY_FOREIGN_ADOPT;
        cfg.foreign_db = (struct db_identity){99, 7, 0};
        desk_init_with(&d, &cfg);
        go(&d, buf_slice(&bytes));
        ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
        ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "--adopt=99/1"));
        desk_fini(&d);
    }
    cfg.foreign_db.timeline = 1;
    desk_init_with(&d, &cfg);
    go(&d, buf_slice(&bytes));
    expect(&d, RELAY_ADOPTING, RELAY_DB_ADOPT);
    ck_assert(d.up.keep_rows);
    snapshot_init(&passed);
    ck_assert_int_eq(snapshot_parse(&passed, SLICE_LIT("30:30:")), 0);
    feed(&d,
         (struct relay_event){.type = RELAY_EV_ADOPTED, .snapshots = &passed, .snapshot_count = 1});
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    batch = relay_take_batch(d.relay);
    ck_assert_uint_eq(batch->message_count, 0);
    ck_assert(slice_eq(batch->prev, buf_slice(&bytes)));
    give_back(&d, batch, 0);
    snapshot_fini(&passed);
    desk_fini(&d);
    buf_fini(&bytes);
}
END_TEST

START_TEST(a_database_behind_its_position_is_refused)
{
    /* By its snapshot, or by the number of reports it knows of. */
    struct desk d;
    struct buf bytes;

    buf_init(&bytes, 0);
    encode(&bytes, here, 3, "50:60:50");
    desk_init(&d);
    go(&d, buf_slice(&bytes));
    answer_snapshot(&d, "55:55:", true);
    ck_assert(d.up.has_news);
    ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED); /* and nothing is written there */
    desk_fini(&d);
    buf_clear(&bytes);
    encode(&bytes, here, 4, "50:60:50");
    desk_init(&d);
    go(&d, buf_slice(&bytes));
    ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
    desk_fini(&d);
    buf_fini(&bytes);
}
END_TEST

/* START, CONNECTED to a database that was told of so many rows, OPENED without a position. */
static void go_without_position(struct desk *d, uint64_t rows_published)
{
    feed(d, (struct relay_event){.type = RELAY_EV_START});
    feed(d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED,
                                 .db = here,
                                 .reports = 3,
                                 .rows_published = rows_published});
    answer_open(d, 1, SLICE_EMPTY);
}

START_TEST(a_broker_without_a_position_is_refused)
{
    /* Unless nothing was published, whatever was reported; the line says what, and what to do. */
    struct desk d;

    desk_init(&d);
    go_without_position(&d, 0);
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    desk_fini(&d);
    desk_init(&d);
    go_without_position(&d, 1);
    ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
    ck_assert_int_eq(relay_error(d.relay)->code, ESCROW_EFOREIGN);
    ck_assert_ptr_nonnull(
        strstr(relay_error(d.relay)->text, "no position of source s, the database says that 1 "));
    ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "--broker"));
    ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "--adopt=77/2"));
    ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "--discard=77/2"));
    desk_fini(&d);
}
END_TEST

START_TEST(a_broker_without_a_position_is_taken_with_the_right_word)
{
    /* With the database's own identity, no other; and a position is stored at once. */
    static const enum relay_foreign words[] = {RELAY_FOREIGN_ADOPT, RELAY_FOREIGN_DISCARD};
    struct relay_config cfg;

    config_of(&cfg);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        struct desk d;
        struct sink_batch *batch;
        cfg.foreign = words[i];
        cfg.foreign_db = (struct db_identity){77, 1, 0};
        desk_init_with(&d, &cfg);
        go_without_position(&d, 1000);
        ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
        desk_fini(&d);
        cfg.foreign_db.timeline = 2;
        desk_init_with(&d, &cfg);
        go_without_position(&d, 1000);
        expect(&d, RELAY_ADOPTING, RELAY_DB_ADOPT);
        ck_assert(d.up.keep_rows == (words[i] == RELAY_FOREIGN_ADOPT));
        ck_assert_int_eq(snapshot_parse(&d.snapshot, SLICE_LIT("30:30:")), 0);
        feed(&d, (struct relay_event){
                     .type = RELAY_EV_ADOPTED, .snapshots = &d.snapshot, .snapshot_count = 1});
        expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
        batch = relay_take_batch(d.relay);
        ck_assert_uint_eq(batch->message_count, 0);
        ck_assert_uint_eq(batch->prev.len, 0);
        ck_assert_uint_gt(batch->next.len, 0);
        give_back(&d, batch, 0);
        desk_fini(&d);
    }
}
END_TEST

/* START, CONNECTED to a database that was told these, OPENED with a position `old`. */
static void go_with_known(struct desk *d, const char *stored, const char *given_up, const char *old)
{
    struct snapshot told[2];
    struct buf bytes;

    snapshot_init(&told[0]);
    snapshot_init(&told[1]);
    ck_assert_int_eq(snapshot_parse(&told[0], slice_str(stored)), 0);
    if (given_up != NULL) {
        ck_assert_int_eq(snapshot_parse(&told[1], slice_str(given_up)), 0);
    }
    buf_init(&bytes, 0);
    encode(&bytes, here, 2, old);
    feed(d, (struct relay_event){.type = RELAY_EV_START});
    feed(d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED,
                                 .db = here,
                                 .reports = 3,
                                 .rows_published = 9,
                                 .stored = &told[0],
                                 .given_up = given_up != NULL ? &told[1] : NULL});
    answer_open(d, 4, buf_slice(&bytes));
    buf_fini(&bytes);
    snapshot_fini(&told[0]);
    snapshot_fini(&told[1]);
}

START_TEST(a_broker_put_back_behind_what_is_truncated_is_refused)
{
    /* Also if only one transaction that was running then is missing; said with what to do. */
    static const char *const olds[] = {"40:40:", "48:90:48"};

    for (size_t i = 0; i < sizeof olds / sizeof olds[0]; i++) {
        struct desk d;
        const char *text;
        desk_init(&d);
        go_with_known(&d, "80:80:", "50:50:", olds[i]);
        ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
        ck_assert_int_eq(relay_error(d.relay)->code, ESCROW_EFOREIGN);
        text = relay_error(d.relay)->text;
        ck_assert_ptr_nonnull(strstr(text, "put back to an older state"));
        ck_assert_ptr_nonnull(strstr(text, i == 0 ? "rows of transactions 40 to 49"
                                                  : "rows of transactions 48 to 49"));
        ck_assert_ptr_nonnull(strstr(text, "--adopt=77/2"));
        ck_assert_ptr_nonnull(strstr(text, "--discard=77/2 to go on with what comes from now on"));
        desk_fini(&d);
    }
}
END_TEST

START_TEST(a_broker_put_back_to_what_is_still_there_gets_it_again)
{
    /* The database is told, once; a position that is where it was left, or later, is not one. */
    struct desk d;

    desk_init(&d);
    go_with_known(&d, "80:80:", "50:50:", "60:60:");
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(d.up.must_claim);
    ck_assert(d.up.is_put_back);
    ck_assert(!d.up.accepts_loss);
    ck_assert_uint_eq(relay_cursor(d.relay)->old.xmax, 60);
    answer_snapshot(&d, "90:90:", false);
    tick_at_deadline(&d);
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(!d.up.is_put_back);
    desk_fini(&d);
    for (int i = 0; i < 2; i++) {
        desk_init(&d);
        go_with_known(&d, "80:80:", NULL, i == 0 ? "80:80:" : "85:90:85");
        expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
        ck_assert(!d.up.is_put_back);
        desk_fini(&d);
    }
}
END_TEST

START_TEST(a_broker_put_back_is_taken_with_the_right_word)
{
    /* adopt: from the broker's position on. discard: from the present on. */
    struct relay_config cfg;
    struct desk d;

    config_of(&cfg);
    cfg.foreign = RELAY_FOREIGN_ADOPT;
    cfg.foreign_db = (struct db_identity){77, 1, 0};
    desk_init_with(&d, &cfg);
    go_with_known(&d, "80:80:", "50:50:", "40:40:");
    ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
    desk_fini(&d);
    cfg.foreign_db.timeline = 2;
    desk_init_with(&d, &cfg);
    go_with_known(&d, "80:80:", "50:50:", "40:40:");
    expect(&d, RELAY_SNAPSHOT, RELAY_DB_SNAPSHOT);
    ck_assert(d.up.is_put_back);
    ck_assert(d.up.accepts_loss);
    ck_assert_uint_eq(relay_cursor(d.relay)->old.xmax, 40);
    ck_assert_uint_eq(relay_given_up(d.relay)->xmax, 50);
    desk_fini(&d);
    cfg.foreign = RELAY_FOREIGN_DISCARD;
    desk_init_with(&d, &cfg);
    go_with_known(&d, "80:80:", "50:50:", "40:40:");
    expect(&d, RELAY_ADOPTING, RELAY_DB_ADOPT);
    ck_assert(!d.up.keep_rows);
    desk_fini(&d);
}
END_TEST

START_TEST(a_broker_that_lost_replayed_rows_is_refused)
{
    /* They were parked, published again, and are removed. */
    struct desk d;
    struct buf bytes;

    buf_init(&bytes, 0);
    encode(&bytes, here, 2, "80:80:");
    for (uint64_t cleared = 0; cleared < 2; cleared++) {
        desk_init(&d);
        feed(&d, (struct relay_event){.type = RELAY_EV_START});
        feed(&d, (struct relay_event){
                     .type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3, .cleared = cleared});
        answer_open(&d, 4, buf_slice(&bytes));
        ck_assert_int_eq(relay_state(d.relay), cleared == 0 ? RELAY_SNAPSHOT : RELAY_REFUSED);
        if (cleared > 0) {
            ck_assert_ptr_nonnull(strstr(relay_error(d.relay)->text, "replayed rows 1 to 1"));
        }
        desk_fini(&d);
    }
    buf_fini(&bytes);
}
END_TEST

START_TEST(a_relay_that_is_refused_has_taken_no_epoch)
{
    /* Another database, one that is behind, no position, garbage: known from the peek. */
    static const struct db_identity copy = {77, 2, 6};
    struct buf bytes[4];

    for (size_t i = 0; i < 4; i++) {
        buf_init(&bytes[i], 0);
    }
    encode(&bytes[0], copy, 0, "50:50:");
    encode(&bytes[1], here, 4, "50:50:");
    buf_append_str(&bytes[2], "garbage");
    for (size_t i = 0; i < 4; i++) { /* the last is empty */
        struct desk d;
        desk_init(&d);
        feed(&d, (struct relay_event){.type = RELAY_EV_START});
        feed(&d, (struct relay_event){
                     .type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3, .rows_published = 1});
        ck_assert(d.up.is_peek);
        feed(&d, (struct relay_event){.type = RELAY_EV_OPENED, .position = buf_slice(&bytes[i])});
        answer_refusal(&d);
        ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
        desk_fini(&d);
        buf_fini(&bytes[i]);
    }
}
END_TEST

START_TEST(what_moves_between_peek_and_open_is_looked_at_again)
{
    /* The position read by the peek was right; the one that comes with the epoch is not. */
    static const struct db_identity copy = {77, 2, 6};
    struct desk d;
    struct buf bytes;

    buf_init(&bytes, 0);
    desk_init(&d);
    feed(&d, (struct relay_event){.type = RELAY_EV_START});
    feed(&d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here, .reports = 3});
    feed(&d, (struct relay_event){.type = RELAY_EV_OPENED});
    ck_assert(d.up.must_open_sink);
    encode(&bytes, copy, 0, "50:50:");
    feed(&d,
         (struct relay_event){.type = RELAY_EV_OPENED, .epoch = 2, .position = buf_slice(&bytes)});
    answer_refusal(&d);
    ck_assert_int_eq(relay_state(d.relay), RELAY_REFUSED);
    desk_fini(&d);
    buf_fini(&bytes);
}
END_TEST

START_TEST(failed_allocations_are_failures_like_any_other)
{
    /* The n-th allocation fails, from the first event on; afterwards it works. */
    int64_t live = mem_live_count();
    bool fired = true;
    uint64_t n;

    for (n = 1; fired; n++) {
        struct desk d;
        struct relay_config cfg;
        config_of(&cfg);
        cfg.sort_bytes_max = 1000;
        desk_init_with(&d, &cfg);
        mem_fault_at(n);
        feed(&d, (struct relay_event){.type = RELAY_EV_START});
        feed(&d, (struct relay_event){.type = RELAY_EV_DB_CONNECTED, .db = here});
        answer_open(&d, 1, SLICE_EMPTY);
        if (relay_state(d.relay) == RELAY_SNAPSHOT) {
            struct sink_batch *batch;
            int rc = 0;
            if (snapshot_parse(&d.snapshot, SLICE_LIT("100:110:100")) == 0) {
                feed(&d, (struct relay_event){.type = RELAY_EV_SNAPSHOT,
                                              .snapshots = &d.snapshot,
                                              .snapshot_count = 1,
                                              .has_rows = true});
            }
            for (uint64_t id = 1; id <= 5 && rc == 0 && relay_state(d.relay) == RELAY_READING;
                 id++) {
                rc = put_row(&d, id, id);
            }
            feed(&d, rc != 0 ? (struct relay_event){.type = RELAY_EV_DB_FAILED, .code = rc}
                             : (struct relay_event){.type = RELAY_EV_READ_DONE});
            while ((batch = relay_take_batch(d.relay)) != NULL) {
                give_back(&d, batch, 0);
            }
        }
        fired = mem_fault_fired();
        mem_fault_at(0);
        desk_fini(&d);
        ck_assert_int_eq(mem_live_count(), live);
    }
    ck_assert_uint_gt(n, 8);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("outbox/relay");
    TCase *tc = tcase_create("relay");

    tcase_add_test(tc, the_happy_path);
    tcase_add_test(tc, polls_get_rarer_and_a_wake_up_comes_first);
    tcase_add_test(tc, the_database_is_told_now_and_then);
    tcase_add_test(tc, a_database_that_was_never_told_the_position_is_told_soon);
    tcase_add_test(tc, an_error_of_a_relay_before_is_taken_back_at_the_next_report);
    tcase_add_test(tc, a_refusal_that_the_database_cannot_be_told_is_one_all_the_same);
    tcase_add_test(tc, rows_out_of_order_are_refused);
    tcase_add_test(tc, a_failed_batch_drains_and_backs_off);
    tcase_add_test(tc, a_fenced_relay_ends);
    tcase_add_test(tc, a_silent_database_times_out_and_a_slow_broker_does_not);
    tcase_add_test(tc, every_wait_for_the_database_ends);
    tcase_add_test(tc, stopping_waits_for_what_the_sink_has);
    tcase_add_test(tc, a_foreign_position_needs_the_right_word);
    tcase_add_test(tc, a_database_behind_its_position_is_refused);
    tcase_add_test(tc, a_broker_without_a_position_is_refused);
    tcase_add_test(tc, a_broker_without_a_position_is_taken_with_the_right_word);
    tcase_add_test(tc, a_broker_put_back_behind_what_is_truncated_is_refused);
    tcase_add_test(tc, a_broker_put_back_to_what_is_still_there_gets_it_again);
    tcase_add_test(tc, a_broker_put_back_is_taken_with_the_right_word);
    tcase_add_test(tc, a_broker_that_lost_replayed_rows_is_refused);
    tcase_add_test(tc, a_relay_that_is_refused_has_taken_no_epoch);
    tcase_add_test(tc, what_moves_between_peek_and_open_is_looked_at_again);
    tcase_add_test(tc, failed_allocations_are_failures_like_any_other);
    suite_add_tcase(suite, tc);
    return outbox_run(suite);
}
