/*
 * A relay on a loop, between a real PostgreSQL and a broker in memory.
 *
 * Owns:    loop, broker, relay. Thread: the test's. Errors: end the test.
 */
#ifndef TESTS_INTEGRATION_PG_RIG_H
#define TESTS_INTEGRATION_PG_RIG_H

#include "outbox/pg/relay_loop.h"
#include "tests/integration/pg/fake_broker.h"
#include "tests/lib/pg_fixture.h"

#include <stdbool.h>

struct rig {
    struct loop loop;
    struct fake_broker broker;
    struct relay_loop_config cfg;
    struct relay_loop *relay;
    bool has_ended;
    enum relay_state final;
    struct err_ctx why;
    char conninfo[160];
    PGconn *pg; /* a service's session */
};

/*
 * A new database `name`, a broker that keeps log_cap messages (0: counts them). The relay is not
 * started.
 */
void rig_init(struct rig *r, struct pg_fixture *f, const char *name, size_t log_cap);
void rig_fini(struct rig *r);

/* The same on a database that is there already. */
void rig_attach(struct rig *r, const char *conninfo, size_t log_cap);

/* A relay with r->cfg. */
void rig_start(struct rig *r);

/* Let it end, and free it. */
void rig_stop(struct rig *r);

/* Run the loop until is_true(arg); the test fails after two minutes. */
void rig_until(struct rig *r, bool (*is_true)(void *arg), void *arg, const char *what);

/* Until the broker has `count` messages, and then nothing more is on the way. */
void rig_until_count(struct rig *r, size_t count);

/* Until the broker has at least `count` messages. */
void rig_until_some(struct rig *r, size_t count);

/* Until the relay is idle with everything acknowledged. */
void rig_until_idle(struct rig *r);

/* Until the relay has ended by itself, in this state. */
void rig_until_ended(struct rig *r, enum relay_state final);

/* Until a failure was reported whose text contains `text`. */
void rig_until_error(struct rig *r, const char *text);

/* For about this long: timers run. */
void rig_run_ms(struct rig *r, int64_t ms);

/*
 * Every row of the table, which nothing was removed from, is in the log exactly once, and nothing
 * else.
 */
void rig_check_books(struct rig *r);

/* Bodies of the log, separated by blanks. Static. */
const char *rig_bodies(struct rig *r);

#endif
