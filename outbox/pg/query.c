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

/* A call, up to where its further arguments come. */
static void put_reader(struct buf *out, const char *function, const char *source, uint32_t lane)
{
    buf_append_fmt(out, "SELECT escrow.%s(", function);
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32, lane);
}

static void put_says(struct buf *out, const char *source, uint32_t lane, const char *error)
{
    put_reader(out, "reader_says", source, lane);
    buf_append_str(out, ", ");
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

/* An expression over the reader's own row, r. */
static void put_own(struct buf *out, const char *expression, const char *source, uint32_t lane)
{
    buf_append_fmt(out, "(SELECT %s FROM escrow.reader AS r WHERE r.source = ", expression);
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
    "PREPARE escrow_look (xid8, xid8[], boolean, text, integer, bigint) AS "
    "SELECT s.present, s.has_rows, m.texts, m.count, "
    "CASE WHEN $3 THEN pg_try_advisory_lock(" WAKE_LOCK ") END, "
    "CASE WHEN s.has_rows AND NOT s.is_durable THEN pg_logical_emit_message(true, 'escrow', '') "
    "END, "
    "EXISTS (SELECT 1 FROM escrow.outbox_parked WHERE source = $4 AND lane = $5) "
    "OR EXISTS (SELECT 1 FROM escrow.outbox_hold WHERE source = $4 AND lane = $5), "
    "EXISTS (SELECT 1 FROM escrow.outbox_parked WHERE source = $4 AND lane = $5 AND wanted "
    "AND replay_no IS NULL) "
    "OR EXISTS (SELECT 1 FROM escrow.outbox_parked WHERE source = $4 AND lane = $5 AND wanted "
    "AND replay_no > $6) "
    "OR EXISTS (SELECT 1 FROM escrow.outbox_hold WHERE source = $4 AND lane = $5 AND NOT wanted "
    "AND NOT is_tried AND try_at <= clock_timestamp()) "
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
    /* Columns of version 7: asked for so that a schema without them can be named as what it is. */
    static const char *const added[] = {"to_jsonb(r) ->> 'stored'", "to_jsonb(r) ->> 'given_up'",
                                        "to_jsonb(r) ->> 'cleared'",
                                        "to_jsonb(r) ->> 'error' IS NOT NULL"};

    buf_append_str(
        out,
        /* This message is one transaction, and begins before the settings below count. */
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE; "
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
    if (error != NULL) {
        put_says(out, source, lane, error);
    } else {
        put_reader(out, "reader_register", source, lane);
        buf_append_str(out, "); ");
    }
    buf_append_str(out, "SELECT i.system_identifier, i.timeline, i.database_oid, i.database_name, "
                        "(SELECT max(version) FROM escrow.migration), ");
    put_own(out, "r.reports", source, lane);
    buf_append_str(out, ", ");
    put_own(out, "r.rows_acked", source, lane);
    for (size_t i = 0; i < sizeof added / sizeof added[0]; i++) {
        buf_append_str(out, ", ");
        put_own(out, added[i], source, lane);
    }
    buf_append_str(out, " FROM escrow.database_identity() AS i");
}

void query_refuse(struct buf *out, const char *source, uint32_t lane, const char *error)
{
    put_reader(out, "reader_refuses", source, lane);
    buf_append_str(out, ", ");
    put_said(out, error);
    buf_append_str(out, ")");
}

void query_recovered(struct buf *out, const char *source, uint32_t lane)
{
    put_says(out, source, lane, NULL);
}

static void put_owner(struct buf *out, const struct query_owner *owner)
{
    put_literal(out, owner->source);
    buf_append_fmt(out, ", %" PRIu32 ", %" PRIu64, owner->lane, owner->epoch);
}

void query_claim(struct buf *out, const struct query_owner *owner)
{
    buf_append_str(out, "SELECT escrow.reader_claims(");
    put_owner(out, owner);
    buf_append_str(out, ") AS " QUERY_OWNER_COLUMN "; ");
}

void query_put_back(struct buf *out, const struct query_owner *owner, const struct position *at,
                    const struct snapshot *given_up, bool accepts_loss)
{
    buf_append_str(out, "SELECT escrow.reader_put_back(");
    put_owner(out, owner);
    buf_append_str(out, ", ");
    put_snapshot(out, &at->old);
    buf_append_fmt(out, ", %" PRIu64 ", '", at->replayed);
    if (given_up->xmax > 1) {
        snapshot_format(given_up, out);
    }
    buf_append_fmt(out, "', %s); ", accepts_loss ? "true" : "false");
}

void query_snapshot(struct buf *out, const char *source, uint32_t lane, const struct position *at,
                    enum query_wake wake)
{
    if (wake == QUERY_WAKE_RELEASE) {
        buf_append_str(out, "SELECT pg_advisory_unlock(" WAKE_LOCK "); ");
    }
    buf_append_fmt(out, "EXECUTE escrow_look ('%" PRIu64 "', ", at->old.xmax);
    (void)put_xids(out, &at->old, NULL); /* the count is known */
    buf_append_fmt(out, ", %s, ", wake == QUERY_WAKE_HOLD ? "true" : "false");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", %" PRIu64 ")", lane, at->replayed);
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

/* Parked rows are there, for the order, and empty: an empty topic is not one. */
static void put_without_parked(struct buf *out, const char *first)
{
    buf_append_fmt(out,
                   "SELECT %s, w.id, w.created_at, "
                   "CASE WHEN p.id IS NULL THEN w.topic ELSE '' END, "
                   "CASE WHEN p.id IS NULL THEN w.tag END, CASE WHEN p.id IS NULL THEN w.keys END, "
                   "CASE WHEN p.id IS NULL THEN w.ordering_key END, "
                   "CASE WHEN p.id IS NULL THEN w.properties END, "
                   "CASE WHEN p.id IS NULL THEN w.body ELSE '' END FROM (",
                   first);
}

static void put_parked_join(struct buf *out, const struct query_owner *owner)
{
    buf_append_str(out, ") AS w LEFT JOIN escrow.outbox_parked AS p ON p.source = ");
    put_literal(out, owner->source);
    buf_append_fmt(out, " AND p.lane = %" PRIu32 " AND p.id = w.id", owner->lane);
}

/* With the highest id of the row's transaction, parked rows counted. */
static void put_ordered_difference(struct buf *out, const struct position *at)
{
    buf_append_str(out, "SELECT o.*, max(o.id) OVER (PARTITION BY o.xid) AS order_id FROM (");
    put_difference(out, at);
    buf_append_str(out, ") AS o");
}

static void put_order(struct buf *out, const struct position *at)
{
    if (at->last_order_id > 0) {
        buf_append_fmt(out, " WHERE (w.order_id, w.id) > (%" PRIu64 ", %" PRIu64 ")",
                       at->last_order_id, at->last_id);
    }
    buf_append_str(out, " ORDER BY w.order_id, w.id");
}

void query_read(struct buf *out, const struct position *at, enum query_read how,
                const struct query_owner *owner)
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
        buf_append_str(out, "SELECT w.order_id, w.id, w.created_at, w.topic, w.tag, w.keys, "
                            "w.ordering_key, w.properties, w.body FROM (");
        put_ordered_difference(out, at);
        buf_append_str(out, ") AS w");
        put_order(out, at);
        break;
    case QUERY_READ_LONG_PARKED:
        put_without_parked(out, "w.xid");
        put_difference(out, at);
        put_parked_join(out, owner);
        break;
    case QUERY_READ_SORTED_PARKED:
        put_without_parked(out, "w.order_id");
        put_ordered_difference(out, at);
        put_parked_join(out, owner);
        put_order(out, at);
        break;
    }
    buf_append_str(out, ") TO STDOUT (FORMAT binary)");
}

void query_set_aside(struct buf *out, const struct query_owner *owner, const struct position *at)
{
    buf_append_str(out, "BEGIN; SELECT escrow.outbox_set_aside(");
    put_owner(out, owner);
    buf_append_str(out, ", ");
    (void)put_xids(out, &at->old, &at->new); /* none is fine */
    buf_append_fmt(out, ", '%" PRIu64 "', '%" PRIu64 "', ", at->old.xmax, at->new.xmax);
    put_snapshot(out, &at->new);
    buf_append_fmt(out, ", %" PRIu64 ", %" PRIu64 ") AS " QUERY_OWNER_COLUMN "; COMMIT; ",
                   at->last_order_id, at->last_id);
}

void query_replay(struct buf *out, const struct query_owner *owner, uint64_t replayed)
{
    buf_append_str(out, "BEGIN; SELECT escrow.parked_count_off(");
    put_owner(out, owner);
    buf_append_fmt(out, ", %" PRIu64 ") AS " QUERY_OWNER_COLUMN "; COMMIT; ", replayed);
    buf_append_str(out, "COPY (SELECT replay_no, id, created_at, topic, tag, keys, ordering_key, "
                        "properties, body FROM escrow.outbox_parked WHERE source = ");
    put_literal(out, owner->source);
    buf_append_fmt(out,
                   " AND lane = %" PRIu32 " AND wanted AND replay_no > %" PRIu64
                   " ORDER BY replay_no) TO STDOUT (FORMAT binary)",
                   owner->lane, replayed);
}

void query_clear(struct buf *out, const struct query_owner *owner, const struct position *acked)
{
    buf_append_str(out, "SELECT escrow.parked_clear(");
    put_owner(out, owner);
    buf_append_str(out, ", ");
    put_snapshot(out, &acked->old);
    buf_append_fmt(out, ", %" PRIu64 ") AS " QUERY_OWNER_COLUMN "; ", acked->replayed);
}

void query_maintain(struct buf *out, const char *source, uint32_t lane,
                    const struct query_report *report, uint64_t switch_bytes)
{
    buf_append_str(out, "SELECT escrow.make_durable(); SELECT escrow.reader_report(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", ", lane);
    put_snapshot(out, report->passed);
    buf_append_str(out, ", ");
    if (report->stored != NULL) {
        put_snapshot(out, report->stored);
    } else {
        buf_append_str(out, "NULL");
    }
    buf_append_fmt(out, ", %" PRIu64 "); ", report->rows);
    buf_append_str(out, "SELECT ");
    put_own(out, "r.reports", source, lane);
    buf_append_fmt(out, ", emptied, is_switched, blocked FROM escrow.outbox_rotate(%" PRIu64 ")",
                   switch_bytes);
}

void query_park(struct buf *out, const struct query_owner *owner, uint64_t row_id,
                bool is_whole_topic, const char *why)
{
    buf_append_str(out, "SELECT escrow.outbox_park(");
    put_owner(out, owner);
    buf_append_fmt(out, ", %" PRIu64 ", %s, ", row_id, is_whole_topic ? "true" : "false");
    put_literal(out, why);
    buf_append_str(out, ") AS " QUERY_OWNER_COLUMN);
}

void query_adopt(struct buf *out, const char *source, uint32_t lane, bool keep_rows)
{
    buf_append_str(out, "SELECT escrow.outbox_adopt(");
    put_literal(out, source);
    buf_append_fmt(out, ", %" PRIu32 ", %s)::text", lane, keep_rows ? "true" : "false");
}
