#include "outbox/pg/query.h"

#include "core/base/check.h"

#include <inttypes.h>

#define WAKE_LOCK       "1702060914, 1" /* sql/README.md lists the advisory locks */
#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)
#define LIMIT_TEXT      TEXT(QUERY_MILESTONES_MAX)

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

/*
 * Text that may hold anything, for a person: what is not visible ASCII, or would need quoting,
 * becomes a dot.
 */
static void put_said(struct buf *out, const char *text)
{
    buf_append_str(out, "'");
    for (const char *p = text; *p != '\0'; p++) {
        buf_append_u8(out, *p < ' ' || *p > '~' || *p == '\'' || *p == '\\' ? '.' : (uint8_t)*p);
    }
    buf_append_str(out, "'");
}

static void put_says(struct buf *out, const char *source, uint32_t lane, const char *error)
{
    buf_append_str(out, "SELECT escrow.reader_says(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", ", lane);
    if (error == NULL) {
        buf_append_str(out, "NULL");
    } else {
        put_said(out, error);
    }
    buf_append_str(out, "); ");
}

static void put_snapshot(struct buf *out, const struct snapshot *s)
{
    buf_append_str(out, "'");
    snapshot_format(s, out);
    buf_append_str(out, "'::pg_snapshot");
}

/*
 * Ids of `from` that `later` sees, as an array; all of them when later is NULL. Returns how many.
 */
static size_t put_xids(struct buf *out, const struct snapshot *from, const struct snapshot *later)
{
    size_t count = 0;

    buf_append_str(out, "'{");
    for (size_t i = 0; i < from->xip_count; i++) {
        if (later == NULL || snapshot_sees(later, from->xip[i])) {
            buf_append_fmt(out, "%s%" PRIu64, count++ == 0 ? "" : ",", from->xip[i]);
        }
    }
    buf_append_str(out, "}'::xid8[]");
    return count;
}

/* A column of the reader's own row. */
static void put_own(struct buf *out, const char *column, const char *source, uint32_t lane)
{
    buf_append_fmt(out, "(SELECT r.%s FROM escrow.reader AS r WHERE r.source = ", column);
    put_literal(out, source);
    buf_append_fmt(out, " AND r.lane = %" PRIu32 ")", lane);
}

/*
 * Looking is prepared: planning it costs five times as much as running it. OFFSET 0: the first look
 * at the rows and at the log is the only one. Commits may be visible before they are on disk, and
 * an id that is used up may be given out again after a crash; a commit of our own behind them
 * flushes both.
 */
static const char look_sql[] =
    "PREPARE escrow_look (xid8, xid8[], boolean) AS SELECT s.present, s.has_rows, m.texts, "
    "m.count, "
    "CASE WHEN $3 THEN pg_try_advisory_lock(" WAKE_LOCK ") END, "
    "CASE WHEN s.has_rows AND NOT s.is_durable THEN pg_logical_emit_message(true, 'escrow', '') "
    "END "
    "FROM (SELECT pg_current_snapshot()::text AS present, "
    "EXISTS (SELECT 1 FROM escrow.outbox WHERE xid >= $1) "
    "OR EXISTS (SELECT 1 FROM escrow.outbox WHERE xid = ANY ($2)) AS has_rows, "
    "pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() "
    "AND current_setting('synchronous_standby_names') = '' AS is_durable OFFSET 0) AS s "
    "CROSS JOIN (SELECT string_agg(t.milestone::text, ' ' ORDER BY pg_snapshot_xmax(t.milestone)) "
    "AS texts, count(*) AS count FROM (SELECT milestone FROM escrow.outbox "
    "WHERE milestone IS NOT NULL AND xid >= $1 ORDER BY xid LIMIT " LIMIT_TEXT ") AS t) AS m; ";

void query_setup(struct buf *out, const char *source, uint32_t lane, const char *error)
{
    buf_append_str(
        out,
        /* The plans that are right for a table that is a queue, whatever its statistics say. */
        "SET jit = off; SET enable_seqscan = off; SET plan_cache_mode = force_generic_plan; "
        "SET work_mem = '64MB'; SET statement_timeout = 0; SET lock_timeout = '5s'; "
        "SET idle_in_transaction_session_timeout = 0; SET datestyle = 'ISO'; "
        "SET default_transaction_isolation = 'read committed'; "
        "SET default_transaction_read_only = off; SET search_path = pg_catalog; "
        "SET client_min_messages = 'warning'; "
        "SELECT set_config('synchronous_commit', 'on', false) "
        "WHERE current_setting('synchronous_commit') IN ('off', 'local', 'remote_write'); ");
    buf_append_str(out, look_sql);
    buf_append_str(out, "LISTEN escrow_outbox; ");
    put_says(out, source, lane, error);
    buf_append_str(out, "SELECT i.system_identifier, i.timeline, i.database_oid, i.database_name, "
                        "(SELECT max(version) FROM escrow.migration), ");
    put_own(out, "reports", source, lane);
    buf_append_str(out, ", ");
    put_own(out, "parked_id", source, lane);
    buf_append_str(out, ", ");
    put_own(out, "rows_acked", source, lane);
    buf_append_str(out, " FROM escrow.database_identity() AS i");
}

void query_recovered(struct buf *out, const char *source, uint32_t lane)
{
    put_says(out, source, lane, NULL);
}

void query_snapshot(struct buf *out, const struct snapshot *old, enum query_wake wake)
{
    if (wake == QUERY_WAKE_RELEASE) {
        buf_append_str(out, "SELECT pg_advisory_unlock(" WAKE_LOCK "); ");
    }
    buf_append_fmt(out, "EXECUTE escrow_look ('%" PRIu64 "', ", old->xmax);
    (void)put_xids(out, old, NULL); /* the count is known */
    buf_append_fmt(out, ", %s)", wake == QUERY_WAKE_HOLD ? "true" : "false");
}

#define COLUMNS "xid, id, created_at, topic, tag, keys, ordering_key, properties, body"

/* Every row of the difference, once. */
static void put_difference(struct buf *out, const struct position *at)
{
    size_t before = out->len;

    /* Running then, ended now. */
    buf_append_str(out, "SELECT " COLUMNS " FROM escrow.outbox WHERE xid = ANY (");
    if (put_xids(out, &at->old, &at->new) > 0) {
        buf_append_str(out, ") UNION ALL ");
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

/* The same through a function that has its plan already. */
static void put_short_difference(struct buf *out, const struct position *at)
{
    buf_append_str(out, "SELECT * FROM escrow.outbox_read(");
    (void)put_xids(out, &at->old, &at->new); /* none is fine */
    buf_append_fmt(out, ", '%" PRIu64 "', '%" PRIu64 "', ", at->old.xmax, at->new.xmax);
    put_snapshot(out, &at->new);
    buf_append_str(out, ")");
}

static void put_sorted_difference(struct buf *out, const struct position *at)
{
    buf_append_str(out, "SELECT order_id, id, created_at, topic, tag, keys, ordering_key, "
                        "properties, body FROM "
                        "(SELECT o.*, max(o.id) OVER (PARTITION BY o.xid) AS order_id FROM (");
    put_difference(out, at);
    buf_append_str(out, ") AS o) AS w");
    if (at->last_order_id > 0) {
        buf_append_fmt(out, " WHERE (order_id, id) > (%" PRIu64 ", %" PRIu64 ")", at->last_order_id,
                       at->last_id);
    }
    buf_append_str(out, " ORDER BY order_id, id");
}

void query_read(struct buf *out, const struct position *at, enum query_read how)
{
    CHECK(at->is_reading);
    buf_append_str(out, "COPY (");
    switch (how) {
    case QUERY_READ_SHORT:
        put_short_difference(out, at);
        break;
    case QUERY_READ_LONG:
        put_difference(out, at);
        break;
    case QUERY_READ_SORTED:
        put_sorted_difference(out, at);
        break;
    }
    buf_append_str(out, ") TO STDOUT (FORMAT binary)");
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
    put_own(out, "reports", source, lane);
    buf_append_fmt(out, ", emptied, is_switched, blocked FROM escrow.outbox_rotate(%" PRIu64 ")",
                   switch_bytes);
}

void query_park(struct buf *out, const char *source, uint32_t lane, uint64_t row_id,
                const char *why)
{
    buf_append_str(out, "SELECT escrow.outbox_park(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", %" PRIu64 ", ", lane, row_id);
    put_literal(out, why);
    buf_append_str(out, ")");
}

void query_adopt(struct buf *out, const char *source, uint32_t lane, bool keep_rows)
{
    buf_append_str(out, "SELECT escrow.outbox_adopt(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", %s)::text", lane, keep_rows ? "true" : "false");
}
