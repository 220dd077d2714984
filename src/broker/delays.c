#include "src/broker/delays.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/proto/tags.h"
#include "src/broker/broker.h"
#include "src/broker/transactions.h"

#define TICK_ROUNDS_MAX 8   /* records of one tick: what is overdue must not keep the loop */
#define TICK_GAP_MS     10  /* between two ticks, so that a stream of messages shares its records */
#define RETRY_MS        100 /* after a refused append */

struct timer_info delays_info(const struct record_fields *f, struct slice tags,
                              const struct delay *delay)
{
    return (struct timer_info){
        .topic = f->topic,
        .queue = (uint32_t)f->queue_id,
        .size_bytes = (uint32_t)record_size(f),
        .tag_hash = (int32_t)tag_code(tags),
        .store_ms = f->store_ms,
        .due_ms = delay->due_ms,
        .is_relative = delay->is_relative,
    };
}

int delays_append(struct broker *b, const struct record_fields *f, const struct timer_info *info,
                  struct store_receipt *receipt)
{
    int rc = timers_accept(b->timers, info);

    if (rc == 0) {
        rc = store_append_message(b->store, STORE_HELD, f, NULL, receipt);
    }
    if (rc == 0) {
        timers_appended(b->timers, info, receipt->offset, broker_txn_now(b));
        transactions_sync_reserve(b);
    }
    return rc;
}

/* Append what timers propose. */
static int append_release(struct broker *b, struct store_receipt *receipt)
{
    struct timers_update *u = &b->timers_update;
    int rc =
        store_append_release(b->store, buf_slice(&u->payload), u->queues, u->count, NULL, receipt);

    if (rc != 0) {
        timers_release_refused(b->timers);
        return rc;
    }
    timers_release_appended(b->timers);
    transactions_sync_reserve(b);
    return 0;
}

int delays_recall(struct broker *b, uint64_t offset, struct slice topic,
                  struct store_receipt *receipt)
{
    int rc = timers_recall(b->timers, offset, topic, broker_txn_now(b), &b->timers_update);

    return rc != 0 ? rc : append_release(b, receipt);
}

/* ---- records --------------------------------------------------------------------------------- */

int delays_apply_message(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct timer_info info;
    int rc;

    if (timer_info_decode(rec->payload, rec->type == STORE_HALF, &info) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "%s record without a time",
                       store_type_name(rec->type));
    }
    rc = timers_apply_message(b->timers, &info, rec->offset, err);
    delays_changed(b);
    return rc;
}

struct release_arg {
    struct broker *broker;
    struct err_ctx *err;
};

static int release_due(void *arg, const struct release_entry *entry)
{
    struct release_arg *a = arg;
    struct store_release release = {.topic = entry->topic,
                                    .queue_id = entry->queue,
                                    .half_offset = carry_where(a->broker, entry->offset),
                                    .payload_size = entry->size_bytes,
                                    .tag_code = entry->tag_hash,
                                    .store_ms = entry->store_ms,
                                    .at_ms = entry->at_ms};

    return held_enter_queue(a->broker, &release, a->err);
}

int delays_apply_release(struct broker *b, const struct store_record *rec, struct err_ctx *err)
{
    struct release_arg arg = {.broker = b, .err = err};

    return timers_apply_release(b->timers, rec->payload, release_due, &arg, err);
}

/* ---- timer ----------------------------------------------------------------------------------- */

static void delays_tick(void *arg);

static void set_timer(struct broker *b, int64_t not_before_ms)
{
    struct txn_now now = broker_txn_now(b);
    int64_t next_ms = timers_next_ms(b->timers, now);
    int64_t wait_ms;

    if (next_ms == INT64_MAX) {
        loop_timer_stop(b->loop, &b->delays_timer);
        return;
    }
    wait_ms = (next_ms > not_before_ms ? next_ms : not_before_ms) - now.mono_ms;
    loop_timer_start(b->loop, &b->delays_timer, wait_ms < 1 ? 1 : (uint64_t)wait_ms, 0, delays_tick,
                     b);
}

static void delays_tick(void *arg)
{
    struct broker *b = arg;
    struct store_receipt receipt;
    int64_t now_ms = loop_mono_ms(b->loop);
    int rounds = 0;
    int rc;

    do {
        rc = timers_tick(b->timers, broker_txn_now(b), &b->timers_update);
        if (rc == 0 && b->timers_update.payload.len > 0) {
            rc = append_release(b, &receipt);
        }
    } while (rc == 0 && b->timers_update.more && ++rounds < TICK_ROUNDS_MAX);
    if (rc != 0) {
        log_warn("delay.release.refused", "messages are due and stay held for a moment: %s",
                 escrow_strerror(rc));
    }
    b->delays_ticked_ms = now_ms + (rc != 0 ? RETRY_MS : b->timers_update.more ? 0 : TICK_GAP_MS);
    set_timer(b, b->delays_ticked_ms);
}

static void delays_soon(void *arg)
{
    struct broker *b = arg;

    set_timer(b, b->delays_ticked_ms);
}

void delays_start(struct broker *b)
{
    struct timers_gauges gauges;

    timers_gauges(b->timers, broker_txn_now(b), &gauges);
    if (gauges.held > 0) {
        log_info("delay.start", "%zu messages are held for a time", gauges.held);
    }
    loop_deferred_init(&b->delays_soon, delays_soon, b);
    set_timer(b, INT64_MIN);
}

void delays_stop(struct broker *b)
{
    loop_timer_stop(b->loop, &b->delays_timer);
    if (b->delays_soon.fn != NULL) {
        loop_deferred_cancel(&b->delays_soon);
    }
}

void delays_changed(struct broker *b)
{
    if (b->delays_soon.fn != NULL &&
        !b->is_draining) { /* otherwise the start is to come, or the end */
        loop_defer(b->loop, &b->delays_soon);
    }
}
