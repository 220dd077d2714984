#include "outbox/pg/query.h"

#include "core/base/check.h"

#include <inttypes.h>

#define WAKE_LOCK "1702060914, 1" /* sql/README.md lists the advisory locks */

static void put_literal(struct buf *out, const char *text)
{
    buf_append_str(out, "'");
    for (const char *p = text; *p != '\0'; p++) {
        CHECK(*p != '\\'); /* names are checked when the configuration is read */
        buf_append(out, p, 1);
        if (*p == '\'') {
            buf_append_str(out, "'");
        }
    }
    buf_append_str(out, "'");
}

static void put_snapshot(struct buf *out, const struct snapshot *s)
{
    buf_append_str(out, "'");
    snapshot_format(s, out);
    buf_append_str(out, "'::pg_snapshot");
}

/* Ids of `from` that `later` sees; every id when later is NULL. Returns how many. */
static size_t put_xids(struct buf *out, const struct snapshot *from, const struct snapshot *later)
{
    size_t count = 0;

    buf_append_str(out, "ANY ('{");
    for (size_t i = 0; i < from->xip_count; i++) {
        if (later == NULL || snapshot_sees(later, from->xip[i])) {
            buf_append_fmt(out, "%s%" PRIu64, count++ == 0 ? "" : ",", from->xip[i]);
        }
    }
    buf_append_str(out, "}'::xid8[])");
    return count;
}

static void put_reports(struct buf *out, const char *source, uint32_t lane)
{
    buf_append_str(out, "(SELECT r.reports FROM escrow.reader AS r WHERE r.source = ");
    put_literal(out, source);
    buf_append_fmt(out, " AND r.lane = %" PRIu32 ")", lane);
}

void query_setup(struct buf *out, const char *source, uint32_t lane)
{
    buf_append_str(
        out,
        /* The plans that are right for a table that is a queue, whatever its statistics say. */
        "SET jit = off; SET enable_seqscan = off; SET work_mem = '64MB'; SET statement_timeout = "
        "0; "
        "SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = 0; "
        "SET default_transaction_isolation = 'read committed'; SET default_transaction_read_only = "
        "off; "
        "SET search_path = pg_catalog; SET datestyle = 'ISO'; SET client_min_messages = 'warning'; "
        "LISTEN escrow_outbox; SELECT escrow.reader_register(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 "); ", lane);
    buf_append_str(out, "SELECT i.system_identifier, i.timeline, i.database_oid, i.database_name, "
                        "(SELECT max(version) FROM escrow.migration), ");
    put_reports(out, source, lane);
    buf_append_str(out, " FROM escrow.database_identity() AS i");
}

void query_snapshot(struct buf *out, const struct snapshot *old, enum query_wake wake)
{
    if (wake == QUERY_WAKE_RELEASE) {
        buf_append_str(out, "SELECT pg_advisory_unlock(" WAKE_LOCK "); ");
    }
    buf_append_str(out, "SELECT pg_current_snapshot()::text, "
                        "pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() "
                        "AND current_setting('synchronous_standby_names') = '', "
                        "EXISTS (SELECT 1 FROM escrow.outbox WHERE xid >= '");
    buf_append_fmt(out, "%" PRIu64 "'::xid8)", old->xmax);
    if (old->xip_count > 0) {
        buf_append_str(out, " OR EXISTS (SELECT 1 FROM escrow.outbox WHERE xid = ");
        (void)put_xids(out, old, NULL); /* the count is known */
        buf_append_str(out, ")");
    }
    buf_append_fmt(out,
                   ", m.texts, m.count, %s FROM (SELECT string_agg(t.milestone::text, ' ' ORDER BY "
                   "pg_snapshot_xmax(t.milestone)) AS texts, count(*) AS count FROM (SELECT "
                   "milestone FROM escrow.outbox "
                   "WHERE milestone IS NOT NULL AND xid >= '%" PRIu64
                   "'::xid8 ORDER BY xid LIMIT %d) AS t) AS m",
                   wake == QUERY_WAKE_HOLD ? "pg_try_advisory_lock(" WAKE_LOCK ")" : "NULL",
                   old->xmax, QUERY_MILESTONES_MAX);
}

#define COLUMNS "xid, id, created_at, topic, tag, keys, ordering_key, properties, body"

/* Every row of the difference, once. */
static void put_difference(struct buf *out, const struct position *at)
{
    size_t before = out->len;

    /* Running then, ended now. */
    buf_append_str(out, "SELECT " COLUMNS " FROM escrow.outbox WHERE xid = ");
    if (put_xids(out, &at->old, &at->new) > 0) {
        buf_append_str(out, " UNION ALL ");
    } else if (!buf_failed(out)) {
        out->len = before;
    }
    /* Not begun then, ended now. */
    buf_append_fmt(out,
                   "SELECT " COLUMNS " FROM escrow.outbox WHERE xid >= '%" PRIu64
                   "'::xid8 AND xid < '%" PRIu64 "'::xid8",
                   at->old.xmax, at->new.xmax);
    if (at->new.xip_count > 0) {
        buf_append_str(out, " AND pg_visible_in_snapshot(xid, ");
        put_snapshot(out, &at->new);
        buf_append_str(out, ")");
    }
}

void query_read(struct buf *out, const struct position *at, bool is_sorted)
{
    CHECK(at->is_reading);
    buf_append_str(out, "COPY (");
    if (is_sorted) {
        buf_append_str(out, "SELECT order_id, id, created_at, topic, tag, keys, ordering_key, "
                            "properties, body FROM "
                            "(SELECT o.*, max(o.id) OVER (PARTITION BY o.xid) AS order_id FROM (");
    }
    put_difference(out, at);
    if (is_sorted) {
        buf_append_str(out, ") AS o) AS w");
        if (at->last_order_id > 0) {
            buf_append_fmt(out, " WHERE (order_id, id) > (%" PRIu64 ", %" PRIu64 ")",
                           at->last_order_id, at->last_id);
        }
        buf_append_str(out, " ORDER BY order_id, id");
    }
    buf_append_str(out, ") TO STDOUT (FORMAT binary)");
}

void query_flush(struct buf *out)
{
    buf_append_str(out, "SELECT escrow.make_durable()");
}

void query_maintain(struct buf *out, const char *source, uint32_t lane,
                    const struct snapshot *passed, uint64_t rows, uint64_t switch_bytes)
{
    buf_append_str(out, "SELECT escrow.make_durable(); SELECT escrow.reader_report(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", ", lane);
    put_snapshot(out, passed);
    buf_append_fmt(out, ", %" PRIu64 "); ", rows);
    buf_append_str(out, "SELECT ");
    put_reports(out, source, lane);
    buf_append_fmt(out, ", emptied, is_switched, blocked FROM escrow.outbox_rotate(%" PRIu64 ")",
                   switch_bytes);
}

void query_adopt(struct buf *out, const char *source, uint32_t lane, bool keep_rows)
{
    buf_append_str(out, "SELECT escrow.outbox_adopt(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", %s)::text", lane, keep_rows ? "true" : "false");
}
