/*
 * A private PostgreSQL for C tests: made by postgres.sh in a new folder, and gone afterwards
 * whatever becomes of the test. A keeper process holds the other end of a pipe: when the test ends,
 * in any way, it stops the server and removes the folder.
 *
 * Owns:    server, folder and keeper.
 * Thread:  the test's. Errors: end the test.
 */
#ifndef TESTS_LIB_PG_FIXTURE_H
#define TESTS_LIB_PG_FIXTURE_H

#include "core/base/attr.h"

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include <libpq-fe.h>

struct pg_fixture {
    char folder[80];
    char conninfo[160]; /* of the database postgres */
    pid_t keeper;
    int pipe_fd;
};

/*
 * settings: "name=value", ending with NULL; or NULL. Use it in an unchecked fixture: before Check
 * forks.
 */
void pg_fixture_start(struct pg_fixture *f, const char *const *settings);
void pg_fixture_stop(struct pg_fixture *f);

/* Crash without a checkpoint, and start again. */
void pg_fixture_crash(struct pg_fixture *f);

/* Fast shutdown; start again. */
void pg_fixture_restart(struct pg_fixture *f);
void pg_fixture_shutdown(struct pg_fixture *f);
void pg_fixture_boot(struct pg_fixture *f);

/* A new database with the schema escrow; its conninfo in `out`. */
void pg_fixture_database(struct pg_fixture *f, const char *name, char *out, size_t size);

/* Install the schema, and the roles of sql/roles.sql. */
void pg_fixture_migrate(const char *conninfo);
void pg_fixture_roles(const char *conninfo);

/* Put a line in front of pg_hba.conf; the caller reloads. */
void pg_fixture_hba(struct pg_fixture *f, const char *line);

/*
 * Keep a copy of the stopped server's data, and put it back later: a restored backup. Both stop and
 * start the server.
 */
void pg_fixture_backup(struct pg_fixture *f);
void pg_fixture_restore(struct pg_fixture *f);

/* ---- Plain libpq, for what a test does as a service ---- */

PGconn *pg_test_connect(const char *conninfo);

/*
 * Run it; the test fails when it does. The first field of the last result, "" if there is none;
 * valid until the next call.
 */
const char *pg_test_sql(PGconn *pg, const char *fmt, ...) ESCROW_PRINTF(2, 3);

/* Run it; it must fail with this SQLSTATE. Returns the message. */
const char *pg_test_fails(PGconn *pg, const char *sqlstate, const char *fmt, ...)
    ESCROW_PRINTF(3, 4);

#endif
