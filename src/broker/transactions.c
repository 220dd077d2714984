#include "src/broker/transactions.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"

#define TICK_ROUNDS_MAX 8

/* Halves in one DECISION record, with their queues; at most END_TXN_HALVES_MAX. */
static size_t decision_releases(struct slice payload, struct store_queue_ref *refs, size_t max)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    size_t count = 0;

    CHECK(decision_decode(payload, &head, &iter) == 0); /* txn wrote it a moment ago */
    if (head.kind == DECISION_ROLLBACK) {
        return 0;
    }
    while (decision_next(&iter, &entry)) {
        if (entry.is_held && head.kind == DECISION_COMMIT) {
            continue; /* its RELEASE will name its queue */
        }
        CHECK(count < max);
        refs[count++] =
            head.kind == DECISION_EXPIRE
                ? (struct store_queue_ref){.topic = SLICE_LIT(TOPIC_EXPIRED)}
                : (struct store_queue_ref){.topic = entry.topic, .queue_id = entry.queue};
    }
    return count;
}

void transactions_sync_reserve(struct broker *b)
{
    uint64_t want = txn_reserve_bytes(b->txn) + timers_reserve_bytes(b->timers);
    uint64_t have = store_stats(b->store).reserved_bytes;

    if (want > have) {
        store_reserve_add(b->store, want - have);
    } else if (want < have) {
        store_reserve_sub(b->store, have - want);
    }
}

int transactions_append_decision(struct broker *b, const struct txn_update *u)
{
    static struct store_queue_ref
        refs[END_TXN_HALVES_MAX]; /* loop thread only: too large for its stack */
    struct store_receipt receipt;
    size_t count;
    int rc;

    if (u->decision.len == 0) {
        return 0;
    }
    count = decision_releases(buf_slice(&u->decision), refs, END_TXN_HALVES_MAX);
    rc = store_append_decision(b->store, buf_slice(&u->decision), refs, count, NULL, &receipt);
    if (rc != 0) {
        return rc;
    }
    txn_decision_appended(b->txn, buf_slice(&u->decision));
    transactions_sync_reserve(b);
    return 0;
}

void transactions_obey(struct broker *b, struct txn_update *u)
{
    int rc = transactions_append_decision(b, u);

    if (rc != 0) {
        log_warn("txn.decision.refused", "decision not written, will be tried again: %s",
                 escrow_strerror(rc));
    }
    if (u->check.len > 0) {
        struct store_receipt receipt;
        rc = store_append_raw(b->store, STORE_CHECK, buf_slice(&u->check), NULL, &receipt);
        if (rc != 0) {
            log_debug("txn.check.uncounted", "check round not counted: %s", escrow_strerror(rc));
        }
    }
    for (size_t i = 0; i < u->ask_count; i++) {
        checker_ask(b, &u->asks[i]);
    }
}

/*
 * A few rounds at a time: what is overdue after an outage must not keep the loop from its
 * connections.
 */
static void transactions_tick(void *arg)
{
    struct broker *b = arg;
    int rounds = 0;

    do {
        if (txn_tick(b->txn, broker_txn_now(b), &b->update) != 0) {
            break; /* out of memory: the timer comes again */
        }
        transactions_obey(b, &b->update);
    } while (b->update.more && ++rounds < TICK_ROUNDS_MAX);
    transactions_reschedule(b);
}

static void reschedule_soon(void *arg)
{
    transactions_reschedule(arg);
}

void transactions_start(struct broker *b)
{
    loop_deferred_init(&b->txn_soon, reschedule_soon, b);
    transactions_reschedule(b);
}

void transactions_stop(struct broker *b)
{
    loop_timer_stop(b->loop, &b->txn_timer);
    if (b->txn_soon.fn != NULL) {
        loop_deferred_cancel(&b->txn_soon);
    }
}

void transactions_half_applied(struct broker *b)
{
    if (b->txn_soon.fn != NULL &&
        !b->is_draining) { /* otherwise the start is to come, or the end */
        loop_defer(b->loop, &b->txn_soon);
    }
}

void transactions_reschedule(struct broker *b)
{
    int64_t next_ms = txn_next_ms(b->txn);
    int64_t delay_ms;

    if (next_ms == INT64_MAX) {
        loop_timer_stop(b->loop, &b->txn_timer);
        return;
    }
    delay_ms = next_ms - loop_mono_ms(b->loop);
    loop_timer_start(b->loop, &b->txn_timer, delay_ms < 1 ? 1 : (uint64_t)delay_ms, 0,
                     transactions_tick, b);
}
