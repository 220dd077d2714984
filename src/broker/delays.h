/*
 * Obeying txn/timers.h: appends the messages that are held, their RELEASE records, and runs the
 * timer.
 * Thread: loop.
 */
#ifndef SRC_BROKER_DELAYS_H
#define SRC_BROKER_DELAYS_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/proto/record.h"
#include "core/store/store.h"
#include "src/broker/delay.h"
#include "txn/timers.h"

struct broker;

/* What has to be known of a message before it is appended as HELD or as a HALF with a time. */
struct timer_info delays_info(const struct record_fields *f, struct slice tags,
                              const struct delay *delay);

/*
 * Append a HELD record. Errors of the table (ESCROW_ELIMIT: too many are held) and of the append.
 */
ESCROW_MUST_USE int delays_append(struct broker *b, const struct record_fields *f,
                                  const struct timer_info *info, struct store_receipt *receipt);

/* Take a message back. ESCROW_ENOTFOUND: it does not wait (any more); or the append's error. */
ESCROW_MUST_USE int delays_recall(struct broker *b, uint64_t offset, struct slice topic,
                                  struct store_receipt *receipt);

/* Records, live and in recovery (apply.c). */
ESCROW_MUST_USE int delays_apply_message(struct broker *b, const struct store_record *rec,
                                         struct err_ctx *err);
ESCROW_MUST_USE int delays_apply_release(struct broker *b, const struct store_record *rec,
                                         struct err_ctx *err);

/* The timer begins and ends; after the end nothing sets it again. */
void delays_start(struct broker *b);
void delays_stop(struct broker *b);

/* A message began to wait: it may be due before what the timer is set to. */
void delays_changed(struct broker *b);

#endif
