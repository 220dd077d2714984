/*
 * Checker: carries out the questions that the check-back scanner asks (txn.h, txn_ask) and brings
 * the answers back.
 *
 * Live: CHECK_TRANSACTION_STATE down a connection of the producer group; the answer is an
 * END_TRANSACTION that comes some time, or never. HTTP: a POST to the group's callback URL; typed
 * answer or none (core/proto/body_callback.h).
 *
 * Producer groups take turns: a group whose endpoint hangs has one request out, and the others go
 * on.
 *
 * checker_ask never calls txn before it has returned: what fails at once is reported from a
 * deferred call.
 *
 * Owns:    questions under way (each holds what it read of the half), the HTTP client.
 * Thread:  loop; reading a half may go to the pool.
 * Holds:   every question is reported to txn at most once. Not reported are live ones that were
 *          sent (their answer is a request), and what the scanner has given up or will (its
 *          deadline).
 */
#ifndef SRC_BROKER_CHECKER_H
#define SRC_BROKER_CHECKER_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/strmap.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/io_uv/webhook.h"
#include "src/broker/fair.h"
#include "txn/txn.h"

struct broker;

#define CHECKER_CALLBACKS_MAX 256 /* HTTP requests at a time */
#define CHECKER_READS_MAX     8 /* halves being read from disk at a time, beside all other reads */

struct checker {
    struct list questions; /* under way */
    struct list settled;   /* to be reported */
    struct loop_deferred report;
    struct webhook *webhook; /* NULL: no callback is configured */
    struct strmap lanes;     /* by producer group, as long as questions are under way */
    struct fair callbacks;
    struct fair reads;
    struct pool pool; /* for reads; as large as `reads` */
};

/* ESCROW_ENOMEM. The configuration says which callbacks there are. */
ESCROW_MUST_USE int checker_start(struct broker *b);

/*
 * Give up what is under way (nothing is reported any more); runs the loop while reads are in the
 * pool.
 */
void checker_stop(struct broker *b);

/* Ask. */
void checker_ask(struct broker *b, const struct txn_ask *ask);

#endif
