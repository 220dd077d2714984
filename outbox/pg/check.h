/*
 * Asks PostgreSQL what became of a transaction: escrow.transaction_check on a few connections of
 * its own.
 *
 * Owns:    the connections. A question is the caller's struct from check_ask until its cb.
 * Thread:  the loop.
 * Holds:   cb runs exactly once, never inside check_ask, within about CHECK_TIMEOUT_MS, also on
 *          check_free.
 */
#ifndef OUTBOX_PG_CHECK_H
#define OUTBOX_PG_CHECK_H

#include "core/base/attr.h"
#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/io_uv/loop.h"

#include <stdbool.h>
#include <stdint.h>

#define CHECK_CONNECTIONS_MAX 16
#define CHECK_WAITING_MAX     1024 /* more questions than that: ask again later */
#define CHECK_TIMEOUT_MS      10000
#define CHECK_NAME_MAX        63 /* of a database */

enum check_state {
    CHECK_STATE_COMMIT,
    CHECK_STATE_ROLLBACK,
    CHECK_STATE_IN_PROGRESS,
    CHECK_STATE_NOT_MINE /* of no database, or of another: it will never be known here */
};

struct check_question;
typedef void check_answered_fn(struct check_question *q);

struct check_question {
    char txn_id[TXN_ID_LEN_MAX + 1];
    char xid[21]; /* decimal; "" = not known */
    char system_id
        [21]; /* decimal; "" = the question names no database, and the next two mean nothing */
    char timeline[12];
    char database[CHECK_NAME_MAX + 1];
    check_answered_fn *cb;
    void *arg;
    struct list node;
    int64_t deadline_ms;
    /*
     * The answer: good when code is 0. Otherwise nobody was asked, or the outcome is not known: no
     * answer at all.
     */
    int code;
    enum check_state state;
};

struct checker;

/*
 * connection_count: 1..CHECK_CONNECTIONS_MAX; they are opened when needed. conninfo is borrowed.
 * NULL: out of memory.
 */
struct checker *checker_new(struct loop *l, const char *conninfo,
                            int connection_count) ESCROW_MUST_USE;

/* Answers what waits with ESCROW_ESHUTDOWN, from inside this call. NULL is fine. */
void checker_free(struct checker *c);

void check_ask(struct checker *c, struct check_question *q);

/* "commit", "rollback", "in_progress", "not_mine". */
const char *check_state_name(enum check_state state);

#endif
