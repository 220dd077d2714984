/*
 * Obeying txn/: appends the records its updates hold, sends the questions, keeps the reserve, runs
 * the timer.
 * Thread: loop.
 */
#ifndef SRC_BROKER_TRANSACTIONS_H
#define SRC_BROKER_TRANSACTIONS_H

#include "core/base/attr.h"
#include "txn/txn.h"

#include <stdint.h>

struct broker;

/*
 * Append update.decision (if any) as a DECISION record and tell txn. 0, or the append's error: then
 * nothing was decided. Afterwards waiting for pump_tail makes every fact of the update true.
 */
ESCROW_MUST_USE int transactions_append_decision(struct broker *b, const struct txn_update *u);

/*
 * Everything an update of the scanner wants: decision, CHECK record, questions. Failures are left
 * to the scanner's next turn.
 */
void transactions_obey(struct broker *b, struct txn_update *u);

/* The timer begins and ends; after the end nothing sets it again. */
void transactions_start(struct broker *b);
void transactions_stop(struct broker *b);

/* A half became durable: its first check may be due before what the timer is set to. */
void transactions_half_applied(struct broker *b);

/* Set the timer to txn_next_ms; call after anything that may have changed it. */
void transactions_reschedule(struct broker *b);

/*
 * Keep store reserve == txn_reserve_bytes + timers_reserve_bytes. Call after every call that can
 * change one of them.
 */
void transactions_sync_reserve(struct broker *b);

#endif
