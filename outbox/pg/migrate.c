#include "outbox/pg/migrate.h"

#include "core/base/buf.h"
#include "core/base/check.h"
#include "core/base/crc32c.h"
#include "escrow/errors.h"
#include "outbox/pg/conn.h"
#include "outbox/pg/schema.h"

#include <stdio.h>
#include <string.h>

#define LOCK_SQL                                                                                   \
    "SET client_min_messages = 'warning'; SET lock_timeout = '60s'; SET statement_timeout = 0; "   \
    "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = "   \
    "off; "                                                                                        \
    "SELECT pg_advisory_lock(1702060914, 3)"

/* A table, function, column or other object of this name exists. */
static bool is_there_already(const char *sqlstate)
{
    return strcmp(sqlstate, "42P07") == 0 || strcmp(sqlstate, "42723") == 0 ||
           strcmp(sqlstate, "42701") == 0 || strcmp(sqlstate, "42710") == 0;
}

static int pg_fail(struct err_ctx *err, PGconn *pg, PGresult *res, const char *what)
{
    struct pg_error why;

    pg_error_set(&why, pg, res);
    PQclear(res);
    return err_set(
        err, strcmp(why.sqlstate, "55P03") == 0 ? ESCROW_EBUSY : ESCROW_EDB, "%s: %s%s", what,
        why.text,
        is_there_already(why.sqlstate)
            ? "; if the file was run by hand: escrow.migration has no row of it, see sql/README.md"
            : "");
}

/* Run it; *out is the last result, the caller's, when it is not NULL. */
static int run(PGconn *pg, const char *sql, const char *what, PGresult **out, struct err_ctx *err)
{
    PGresult *res = PQexec(pg, sql);

    if (PQresultStatus(res) != PGRES_COMMAND_OK && PQresultStatus(res) != PGRES_TUPLES_OK) {
        return pg_fail(err, pg, res, what);
    }
    if (out != NULL) {
        *out = res;
    } else {
        PQclear(res);
    }
    return 0;
}

static void checksum(const struct schema_file *file, char out[9])
{
    (void)snprintf(out, 9, "%08x", crc32c(0, file->sql, file->size_bytes));
}

/* One applied row against our file of that number. */
static int compare(const PGresult *res, int row, int *version, struct err_ctx *err)
{
    const struct schema_file *file;
    char sum[9];
    int32_t number;

    if (!slice_to_i32(slice_str(PQgetvalue(res, row, 0)), &number) || number != row + 1) {
        return err_set(err, ESCROW_ECONFLICT, "escrow.migration has no row for version %d",
                       row + 1);
    }
    if (number > SCHEMA_VERSION) {
        return err_set(
            err, ESCROW_EVERSION,
            "the schema has version %d, this program knows only %d: use a newer escrow-relay",
            PQntuples(res), SCHEMA_VERSION);
    }
    file = &schema_files[number - 1];
    checksum(file, sum);
    if (strcmp(PQgetvalue(res, row, 1), sum) != 0) {
        return err_set(
            err, ESCROW_ECONFLICT,
            "%s was changed after it was applied (%s then, %s now): migrations are only ever added",
            file->name, PQgetvalue(res, row, 1), sum);
    }
    *version = number;
    return 0;
}

static int installed_version(PGconn *pg, int *version, struct err_ctx *err)
{
    PGresult *res = NULL;
    bool is_there;
    int rc = run(pg, "SELECT to_regclass('escrow.migration') IS NOT NULL", "look for the schema",
                 &res, err);

    *version = 0;
    if (rc != 0) {
        return rc;
    }
    is_there = PQntuples(res) == 1 && strcmp(PQgetvalue(res, 0, 0), "t") == 0;
    PQclear(res);
    if (!is_there) {
        return 0;
    }
    rc = run(pg, "SELECT version, checksum FROM escrow.migration ORDER BY version",
             "read escrow.migration", &res, err);
    if (rc != 0) {
        return rc;
    }
    if (PQntuples(res) == 0) { /* the table comes with its first row */
        rc = err_set(err, ESCROW_ECONFLICT, SCHEMA_UNRECORDED);
    }
    for (int row = 0; rc == 0 && row < PQntuples(res); row++) {
        rc = compare(res, row, version, err);
    }
    PQclear(res);
    return rc;
}

static int apply(PGconn *pg, const struct schema_file *file, struct err_ctx *err)
{
    char sum[9];
    char record[256];
    int rc;

    checksum(file, sum);
    (void)snprintf(
        record, sizeof record,
        "INSERT INTO escrow.migration (version, name, checksum) VALUES (%d, '%s', '%s'); COMMIT",
        file->version, file->name, sum);
    rc = run(pg, "BEGIN; SET LOCAL search_path = pg_catalog, pg_temp", file->name, NULL, err);
    if (rc == 0) {
        rc = run(pg, file->sql, file->name, NULL, err);
    }
    if (rc == 0) {
        rc = run(pg, record, file->name, NULL, err);
    }
    if (rc != 0 && PQstatus(pg) == CONNECTION_OK) {
        PQclear(PQexec(pg, "ROLLBACK")); /* the first error is the one to report */
    }
    return rc;
}

int migrate_run(const char *conninfo, int version, struct migrate_result *result,
                struct err_ctx *err)
{
    PGconn *pg = PQconnectdb(conninfo);
    int rc = 0;

    CHECK(version <= SCHEMA_VERSION);
    *result = (struct migrate_result){.version_before = 0};
    if (pg == NULL || PQstatus(pg) != CONNECTION_OK) {
        struct pg_error why;
        pg_error_set(&why, pg, NULL);
        rc = err_set(err, ESCROW_ECONN, "%s", why.text);
    }
    if (rc == 0) {
        rc = run(pg, LOCK_SQL, "wait for another migration", NULL, err);
    }
    if (rc == 0) {
        rc = installed_version(pg, &result->version_before, err);
        result->version_after = result->version_before;
    }
    for (int i = result->version_before; rc == 0 && i < version; i++) {
        rc = apply(pg, &schema_files[i], err);
        if (rc == 0) {
            result->version_after = i + 1;
        }
    }
    PQfinish(pg); /* gives the lock back */
    return rc;
}
