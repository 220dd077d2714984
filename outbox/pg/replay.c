#include "outbox/pg/replay.h"

#include "core/base/buf.h"
#include "core/base/slice.h"
#include "escrow/errors.h"
#include "outbox/pg/conn.h"

/* Sent as one statement with its parameters apart: a second one behind a semicolon is an error. */
static int ask(PGconn *pg, const char *sql, uint64_t *rows, struct err_ctx *err)
{
    PGresult *res = PQexecParams(pg, sql, 0, NULL, NULL, NULL, NULL, 0);
    struct pg_error why;
    int64_t count = 0;
    int rc = 0;

    if (PQresultStatus(res) != PGRES_TUPLES_OK || PQntuples(res) != 1 ||
        !slice_to_i64(slice_str(PQgetvalue(res, 0, 0)), &count)) {
        pg_error_set(&why, pg, res);
        rc = err_set(err, ESCROW_EDB, "replay: %s", why.text);
    }
    PQclear(res);
    *rows = (uint64_t)count;
    return rc;
}

int replay_run(const char *conninfo, const char *condition, uint64_t *rows, struct err_ctx *err)
{
    PGconn *pg = PQconnectdb(conninfo);
    struct pg_error why;
    struct buf sql;
    int rc = 0;

    buf_init(&sql, 0);
    buf_append_str(&sql, "SELECT escrow.parked_replay(array(SELECT id FROM escrow.outbox_parked "
                         "WHERE (");
    buf_append_str(&sql, condition);
    buf_append_str(&sql, "\n)))"); /* the line ends whatever comment the condition ends with */
    buf_append_u8(&sql, 0);
    if (buf_failed(&sql)) {
        rc = err_set(err, ESCROW_ENOMEM, "out of memory");
    } else if (pg == NULL || PQstatus(pg) != CONNECTION_OK) {
        pg_error_set(&why, pg, NULL);
        rc = err_set(err, ESCROW_ECONN, "%s", why.text);
    } else {
        PQclear(PQexec(pg, "SET lock_timeout = '30s'; SET search_path = pg_catalog; "
                           "SET default_transaction_isolation = 'read committed'; "
                           "SET default_transaction_read_only = off"));
        rc = ask(pg, (const char *)sql.ptr, rows, err);
    }
    buf_fini(&sql);
    PQfinish(pg);
    return rc;
}
