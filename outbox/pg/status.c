#include "outbox/pg/status.h"

#include "core/base/slice.h"
#include "escrow/errors.h"
#include "outbox/pg/conn.h"
#include "outbox/pg/schema.h"

#include <string.h>

struct section {
    const char *key;
    const char *title;
    const char *none; /* instead of an empty table */
    const char *sql;
};

/* A moment, for people and programs. */
#define AT(time) "to_char(" time " AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"

static const struct section sections[] = {
    {"database", "Database", "",
     "SELECT i.database_name AS name, i.system_identifier AS system, i.timeline, "
     "i.database_oid::bigint AS oid, "
     "v.schema_version, CASE WHEN v.schema_version IS NULL THEN '" SCHEMA_UNRECORDED
     "' END AS schema_error, "
     "current_setting('server_version') AS server "
     "FROM escrow.database_identity() AS i CROSS JOIN "
     "(SELECT max(version) AS schema_version FROM escrow.migration) AS v"},
    /*
     * The lag is as of the reader's last report: at most a second or so behind the broker's truth.
     */
    {"readers", "Readers", "none yet: escrow-relay run has not been started for this database",
     "SELECT r.source, r.lane, "
     "CASE WHEN r.is_refused THEN 'REFUSED: nothing is published; escrow-relay has ended, and ends "
     "again until somebody decides' "
     "WHEN r.error IS NOT NULL THEN 'FAILING: nothing is published until it is over; escrow-relay "
     "tries again by itself' "
     "WHEN h.count > 0 THEN 'HOLDING: ' || h.count || ' topics or keys; what comes for them is "
     "parked, all else is published' "
     "WHEN r.passed IS NULL THEN 'NEW: it has not reported yet' "
     "ELSE 'well, as of its last report' END AS state, "
     "CASE WHEN r.error IS NOT NULL THEN " AT("r.error_since") " ELSE " AT(
         "h.since") " END AS since, "
                    "CASE WHEN r.is_refused THEN 'start escrow-relay as the error says' "
                    "WHEN r.error IS NOT NULL THEN 'mend what the error says; escrow-relay need "
                    "not be restarted' "
                    "WHEN h.count > 0 THEN 'see held' END AS to_do, "
                    "round(extract(epoch FROM clock_timestamp() - "
                    "r.reported_at)::numeric, 1) AS reported_seconds_ago, "
                    "l.rows AS lag_rows, l.bytes AS lag_bytes, round(extract(epoch FROM "
                    "clock_timestamp() - "
                    "l.oldest)::numeric, 1) AS lag_seconds, "
                    "r.rows_acked AS published_rows, r.passed::text AS passed, "
                    "r.error, round(extract(epoch FROM clock_timestamp() - "
                    "r.error_since)::numeric, 1) AS "
                    "failing_seconds, r.error_count AS failed_attempts, "
                    "(r.system_identifier, r.timeline, r.database_oid) IS NOT DISTINCT FROM "
                    "(i.system_identifier, i.timeline, i.database_oid) AS is_of_this_database "
                    "FROM escrow.reader AS r CROSS JOIN escrow.database_identity() AS i CROSS JOIN "
                    "LATERAL "
                    "(SELECT count(*) AS count, min(k.since) AS since FROM escrow.outbox_hold AS k "
                    "WHERE k.source = r.source AND k.lane = r.lane AND NOT k.wanted) AS h CROSS "
                    "JOIN LATERAL "
                    "(SELECT count(*) AS rows, coalesce(sum(octet_length(o.body)), 0)::bigint AS "
                    "bytes, "
                    "min(o.created_at) AS oldest "
                    "FROM escrow.outbox AS o WHERE o.xid >= coalesce(pg_snapshot_xmin(r.passed), "
                    "'0') "
                    "AND NOT pg_visible_in_snapshot(o.xid, coalesce(r.passed, '1:1:'))) AS l ORDER "
                    "BY r.source, "
                    "r.lane"},
    {"partitions", "Partitions", "",
     "SELECT n AS slot, n = s.slot AS is_current, "
     "pg_total_relation_size(format('escrow.outbox_%s', n)::regclass) AS bytes "
     "FROM generate_series(0, 3) AS n CROSS JOIN escrow.outbox_state AS s ORDER BY n"},
    {"open_transactions", "Oldest open writing transactions (each delays only its own messages)",
     "none",
     "SELECT * FROM (SELECT a.pid::text AS session, a.datname::text AS database, a.usename::text "
     "AS user, a.application_name AS application, "
     "a.state, round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1) AS "
     "open_seconds, a.backend_xid::text AS xid "
     "FROM pg_stat_activity AS a WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_backend_pid() "
     "UNION ALL SELECT 'prepared ' || p.gid, p.database::text, p.owner::text, '', 'prepared', "
     "round(extract(epoch FROM clock_timestamp() - p.prepared)::numeric, 1), p.transaction::text "
     "FROM pg_prepared_xacts AS p) AS t "
     "ORDER BY open_seconds DESC NULLS LAST LIMIT 10"},
    {"locks", "Sessions whose locks keep a partition from being emptied", "none",
     "SELECT c.relname::text AS partition, l.pid, l.mode, coalesce(a.application_name, '') AS "
     "application, coalesce(a.state, '') AS state, "
     "round(extract(epoch FROM clock_timestamp() - a.xact_start)::numeric, 1) AS open_seconds "
     "FROM pg_locks AS l JOIN pg_class AS c ON c.oid = l.relation JOIN pg_namespace AS n ON n.oid "
     "= c.relnamespace "
     "LEFT JOIN pg_stat_activity AS a ON a.pid = l.pid CROSS JOIN escrow.outbox_state AS s "
     "WHERE n.nspname = 'escrow' AND c.relname LIKE 'outbox\\__' AND c.relname <> 'outbox_' || "
     "s.slot AND l.granted "
     "AND l.pid <> pg_backend_pid() AND l.database = (SELECT oid FROM pg_database WHERE datname = "
     "current_database()) "
     "ORDER BY open_seconds DESC NULLS LAST LIMIT 10"},
    {"held", "Topics and keys that are held: what comes for them is parked, in order", "none",
     "SELECT h.source, h.topic, CASE h.ordering_key WHEN '' THEN 'all of the topic' ELSE 'key ' || "
     "h.ordering_key END AS holds, h.error, " AT(
         "h.since") " AS since, "
                    "round(extract(epoch FROM clock_timestamp() - h.since)::numeric, 1) AS "
                    "held_seconds, "
                    "(SELECT count(*) FROM escrow.outbox_parked AS p WHERE p.source = h.source AND "
                    "p.lane = "
                    "h.lane AND p.topic = h.topic AND (h.ordering_key = '' OR p.ordering_key = "
                    "h.ordering_key)) "
                    "AS parked_rows, "
                    "CASE WHEN h.wanted THEN 'being published again' WHEN h.try_at IS NULL THEN "
                    "'until somebody mends it: escrow-relay replay' ELSE 'tried again in ' || "
                    "greatest(0, round(extract(epoch FROM h.try_at - clock_timestamp())::numeric)) "
                    "|| "
                    "' seconds' END AS next, "
                    "CASE WHEN h.wanted THEN 'nothing' WHEN h.ordering_key = '' THEN 'create the "
                    "topic, or make "
                    "it writable for escrow-relay; then all goes out by itself' ELSE 'mend what "
                    "the error says, "
                    "then escrow-relay replay CONDITION' END AS to_do "
                    "FROM escrow.outbox_hold AS h ORDER BY h.source, h.lane, h.topic, "
                    "h.ordering_key LIMIT 20"},
    {"parked", "Rows that are parked (escrow-relay replay CONDITION publishes them again)", "none",
     "SELECT p.id, p.source, p.topic, p.ordering_key, p.error, round(extract(epoch FROM "
     "clock_timestamp() - "
     "p.parked_at)::numeric, 1) AS parked_seconds_ago, p.wanted AS is_wanted_again, "
     "(SELECT count(*) FROM escrow.outbox_parked) AS parked_in_all "
     "FROM escrow.outbox_parked AS p ORDER BY p.number LIMIT 10"},
    {"markers", "Transaction markers", "",
     "SELECT count(*) FILTER (WHERE kind = 'C') AS commits, count(*) FILTER (WHERE kind = 'R') AS "
     "tombstones, "
     "round(extract(epoch FROM clock_timestamp() - min(created_at))::numeric, 1) AS oldest_seconds "
     "FROM escrow.transaction_marker"},
    {"brokers", "Brokers whose decisions the markers wait for", "none yet",
     "SELECT coalesce(m.broker, b.name, '(not said)') AS broker, coalesce(m.commits, 0) AS "
     "commits, "
     "round(extract(epoch FROM clock_timestamp() - m.oldest)::numeric, 1) AS oldest_seconds, "
     "round(extract(epoch FROM clock_timestamp() - b.answered_at)::numeric, 1) AS "
     "answered_seconds_ago, "
     "CASE WHEN m.broker IS NULL AND b.name IS NULL THEN 'kept until every broker is known "
     "(escrow-relay --namesrv or --brokers) and answers' "
     "WHEN b.name IS NULL THEN 'HELD: escrow-relay has never reached this broker: --namesrv or "
     "--brokers; if it is gone for good: SELECT escrow.broker_drop(...)' "
     "WHEN b.answered_at < (SELECT max(answered_at) FROM escrow.broker) - interval '1 second' THEN "
     "'HELD: this broker did not answer; if it is gone for good: SELECT escrow.broker_drop(...)' "
     "ELSE 'removed when decided' END AS markers "
     "FROM (SELECT broker, count(*) AS commits, min(created_at) AS oldest FROM "
     "escrow.transaction_marker WHERE kind = 'C' GROUP BY broker) AS m "
     "FULL JOIN escrow.broker AS b ON b.name = m.broker ORDER BY 1"},
};

#define SECTIONS (sizeof sections / sizeof sections[0])

/* One record a block: "  name   value" lines, aligned. */
static void put_table(struct buf *out, const struct section *s, const PGresult *res)
{
    int columns = PQnfields(res);
    int width = 0;

    for (int c = 0; c < columns; c++) {
        int len = (int)strlen(PQfname(res, c));
        width = len > width ? len : width;
    }
    buf_append_fmt(out, "%s\n", s->title);
    if (PQntuples(res) == 0) {
        buf_append_fmt(out, "  %s\n", s->none);
    }
    for (int row = 0; row < PQntuples(res); row++) {
        for (int c = 0; c < columns; c++) {
            buf_append_fmt(out, "%s%-*s  ", c == 0 && row > 0 ? "  -\n  " : "  ", width,
                           PQfname(res, c));
            pg_put_text(out, PQgetisnull(res, row, c) ? "-" : PQgetvalue(res, row, c));
            buf_append_str(out, "\n");
        }
    }
}

static int run_section(PGconn *pg, const struct section *s, bool is_json, struct buf *out,
                       struct err_ctx *err)
{
    struct buf sql;
    PGresult *res;
    int rc = 0;

    buf_init(&sql, 0);
    buf_append_fmt(&sql, is_json ? "SELECT coalesce(json_agg(t), '[]') FROM (%s) AS t" : "%s",
                   s->sql);
    buf_append_u8(&sql, 0);
    if (buf_failed(&sql)) {
        buf_fini(&sql);
        return err_set(err, ESCROW_ENOMEM, "out of memory");
    }
    res = PQexec(pg, (const char *)sql.ptr);
    buf_fini(&sql);
    if (PQresultStatus(res) != PGRES_TUPLES_OK) {
        struct pg_error why;
        pg_error_set(&why, pg, res);
        rc = err_set(err, ESCROW_EDB, "%s: %s", s->key, why.text);
    } else if (is_json) {
        buf_append_fmt(out, "%s\"%s\":%s", s == sections ? "" : ",", s->key, PQgetvalue(res, 0, 0));
    } else {
        put_table(out, s, res);
    }
    PQclear(res);
    return rc;
}

int status_run(const char *conninfo, bool is_json, struct buf *out, struct err_ctx *err)
{
    PGconn *pg = PQconnectdb(conninfo);
    struct pg_error why;
    int rc = 0;

    if (pg == NULL || PQstatus(pg) != CONNECTION_OK) {
        pg_error_set(&why, pg, NULL);
        rc = err_set(err, ESCROW_ECONN, "%s", why.text);
    } else {
        PQclear(PQexec(pg, "SET enable_seqscan = off; SET statement_timeout = '30s'; SET "
                           "search_path = pg_catalog"));
    }
    if (is_json) {
        buf_append_str(out, "{");
    }
    for (size_t i = 0; rc == 0 && i < SECTIONS; i++) {
        rc = run_section(pg, &sections[i], is_json, out, err);
    }
    if (is_json) {
        buf_append_str(out, "}\n");
    }
    PQfinish(pg);
    return rc != 0 ? rc : buf_failed(out) ? err_set(err, ESCROW_ENOMEM, "out of memory") : 0;
}
