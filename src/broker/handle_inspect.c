/*
 * Looking into a running broker: 30004 transactions, 30005 status, 30006 groups, 30007 horizon
 * (PROTOCOL.md, "Inspection").
 */
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- transactions ---- */

/* txn_list calls for one answer: a filter that fits nothing must not hold up the loop */
#define LIST_ROWS_BATCH 64
#define LIST_LOOKS_MAX  64

/* Arguments, and how far the walk has come: it goes on where a read had to wait. */
struct list_args {
    struct txn_filter filter;
    char group[GROUP_LEN_MAX + 1];
    uint64_t cursor;
    uint32_t limit;
    uint32_t looks;
    struct list_writer w;
    struct txn_row rows[LIST_ROWS_BATCH];
    size_t row_count;
    size_t row_next;
    bool is_end;
};

/* Longer names of databases are none. */
#define DATABASE_TEXT_MAX 128

/* "system/timeline/name" of the database that a half names; empty if it names none. */
static struct slice database_of(struct slice payload, char text[DATABASE_TEXT_MAX])
{
    struct record_view view;
    struct props_known props;
    int len;

    if (record_decode(payload, &view) != 0) {
        return SLICE_EMPTY;
    }
    (void)props_scan(view.f.properties, &props); /* the count does not matter */
    if (props.db_system.len == 0) {
        return SLICE_EMPTY;
    }
    len = snprintf(text, DATABASE_TEXT_MAX, "%.*s/%.*s/%.*s", SLICE_ARGS(props.db_system),
                   SLICE_ARGS(props.db_timeline), SLICE_ARGS(props.db_name));
    return len < 0 || len >= DATABASE_TEXT_MAX ? SLICE_EMPTY : slice_of(text, (size_t)len);
}

/* Its record is damaged: what the table knows of it. The id is known only to who asked by it. */
static void list_damaged(const struct read_job *job, struct list_writer *w, uint64_t offset)
{
    struct list_txn_row out = {.transaction_id =
                                   job->key.len > 0 ? buf_slice(&job->key) : SLICE_LIT("(damaged)"),
                               .offset = (int64_t)offset,
                               .next_check_ms = INSPECT_NONE};
    struct decided_fact fact;
    struct txn_row row;

    if (!txn_find(job->broker->txn, offset, &row, &fact)) {
        return; /* decided: nothing is left to tell about it */
    }
    out.group = row.group;
    out.topic = row.topic;
    out.state = slice_str(sm_name(&half_sm, (int)row.state));
    out.born_ms = row.store_ms;
    out.checks = row.checks;
    list_txn_put(w, &out);
}

/*
 * The id stands in the half's record, and of a decided half all but its state; the rest in the
 * table.
 */
static int list_row(struct read_job *job, struct list_writer *w, const struct txn_row *row,
                    struct buf *scratch, struct err_ctx *err)
{
    struct store_record rec;
    struct txn_half_info info;
    int64_t mono_ms = loop_mono_ms(job->broker->loop);
    int64_t wall_ms = loop_wall_ms(job->broker->loop);
    int rc = store_read_known(job->broker->store, carry_where(job->broker, row->offset), job->fetch,
                              scratch, &rec, err);

    if (damage_is_error(rc)) {
        list_damaged(job, w, row->offset);
        return 0;
    }
    if (rc == ESCROW_ENOTFOUND) {
        return 0; /* appended, not durable yet: nothing to tell about it */
    }
    if (rc == 0) {
        rc = txn_half_info_decode(rec.payload, &info);
    }
    if (rc == 0 && job->key.len > 0 && !slice_eq(info.txn_id, buf_slice(&job->key))) {
        return 0; /* another id with the same hash */
    }
    if (rc == 0) {
        struct list_txn_row out = {.transaction_id = info.txn_id,
                                   .group = info.group,
                                   .topic = info.topic,
                                   .state = slice_str(sm_name(&half_sm, (int)row->state)),
                                   .offset = (int64_t)row->offset,
                                   .born_ms = info.store_ms,
                                   .checks = row->checks,
                                   .next_check_ms = row->next_check_ms == 0
                                                        ? INSPECT_NONE
                                                        : wall_ms + row->next_check_ms - mono_ms,
                                   .is_not_mine = row->is_not_mine};
        char database[DATABASE_TEXT_MAX];
        if (out.is_not_mine) {
            out.database = database_of(rec.payload, database);
        }
        list_txn_put(w, &out);
    }
    return rc;
}

/* key = the id that is looked for, if one is: all that is known of it is found at once. */
static void list_find_id(struct read_job *job)
{
    struct list_args *args = job->ptr;

    args->row_count =
        txn_find_id(job->broker->txn, buf_slice(&job->key), args->rows, LIST_ROWS_BATCH);
    args->is_end = true;
}

static int list_step(struct read_job *job, struct err_ctx *err)
{
    struct list_args *args = job->ptr;
    struct buf scratch;
    int rc = 0;

    buf_init(&scratch, 0);
    while (rc == 0) {
        size_t want = args->limit - args->w.count;
        if (args->row_next < args->row_count) {
            rc = list_row(job, &args->w, &args->rows[args->row_next], &scratch, err);
            args->row_next += rc == 0 ? 1 : 0;
            continue;
        }
        if (args->is_end || want == 0 || args->looks++ == LIST_LOOKS_MAX) {
            break;
        }
        args->row_next = 0;
        args->row_count = txn_list(job->broker->txn, &args->filter, &args->cursor, args->rows,
                                   want < LIST_ROWS_BATCH ? want : LIST_ROWS_BATCH, &args->is_end);
    }
    buf_fini(&scratch);
    if (rc == 0) {
        list_txn_end(&args->w, !args->is_end, args->cursor);
    }
    return rc == 0 && (buf_failed(&job->body) || buf_failed(&job->key)) ? ESCROW_ENOMEM : rc;
}

static void body_done(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&job->body));
        deferred_end(&job->deferred, &w);
    }
}

static bool state_set(struct slice name, uint32_t *states)
{
    if (name.len == 0) {
        *states = 0;
        return true;
    }
    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        if (slice_eq_str(name, sm_name(&half_sm, s))) {
            *states = UINT32_C(1) << s;
            return true;
        }
    }
    return false;
}

void handle_list_transactions(struct request *req)
{
    struct list_txn_request in;
    struct list_args *args;
    struct read_job *job;
    uint32_t states = 0;
    int rc = list_txn_request_decode(req->body, &in);

    if (rc != 0 || in.group.len > GROUP_LEN_MAX || !state_set(in.state, &states)) {
        request_fail(req, -1, rc != 0 ? rc : ESCROW_EINVAL,
                     "transactions: malformed request, or no such state");
        return;
    }
    args = mem_calloc(1, sizeof *args);
    if (args == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    job = read_job_new(req, list_step, body_done);
    if (job == NULL) {
        mem_free(args);
        return;
    }
    args->filter.group = slice_str(slice_to_cstr(in.group, args->group, sizeof args->group));
    args->filter.states = states;
    args->filter.stored_before_ms =
        in.older_than_ms == INSPECT_NONE ? 0 : in.older_than_ms; /* a time: stored before it */
    args->cursor = in.cursor;
    args->limit = in.limit;
    job->ptr = args;
    list_txn_begin(&args->w, &job->body);
    buf_append_slice(&job->key, in.transaction_id);
    if (in.transaction_id.len > 0) {
        list_find_id(job);
    }
    read_job_start(job);
}

/* ---- status ---- */

static void put(struct list_writer *w, const char *name, const char *help, enum metric_kind kind,
                uint64_t value)
{
    struct metric_row row = {.name = slice_str(name),
                             .help = slice_str(help),
                             .kind = kind,
                             .value = value > INT64_MAX ? INT64_MAX : (int64_t)value};

    status_put(w, &row);
}

static void put_store(struct list_writer *w, const struct broker *b)
{
    struct store_stats s = store_stats(b->store);
    struct store_watermarks m = store_watermarks(b->store);

    put(w, "log_records", "records appended", METRIC_COUNTER, s.records_appended);
    put(w, "log_bytes", "bytes appended", METRIC_COUNTER, s.bytes_appended);
    put(w, "log_batches", "batches written and synced", METRIC_COUNTER, s.batches);
    put(w, "log_batches_inline", "of them on the loop thread", METRIC_COUNTER,
        b->pump.batches_inline);
    put(w, "log_sync_us", "smoothed time of a batch, microseconds", METRIC_GAUGE,
        (uint64_t)(b->pump.sync_ns / 1000));
    put(w, "log_first", "oldest byte of the log", METRIC_GAUGE, m.first);
    put(w, "log_end", "end of the log", METRIC_GAUGE, m.appended);
    put(w, "log_visible", "end of what consumers may see", METRIC_GAUGE, m.visible);
    put(w, "log_allocated_bytes", "allocated space behind the end", METRIC_GAUGE,
        s.allocated_bytes);
    put(w, "log_reserved_bytes", "of it, kept for decisions", METRIC_GAUGE, s.reserved_bytes);
    put(w, "log_checkpoint", "log position of the last checkpoint", METRIC_GAUGE,
        s.checkpoint_offset);
    put(w, "log_damaged", "damaged messages met since the start; see the log", METRIC_COUNTER,
        s.damaged);
    put(w, "log_damaged_stops", "of them, messages at which consumers stop now", METRIC_GAUGE,
        s.damaged_stops);
    put(w, "queue_entries_rebuilt", "damaged entries of queues that were rebuilt from the log",
        METRIC_COUNTER, s.entries_rebuilt);
    put(w, "log_skips", "ranges of queues whose damaged messages are passed over", METRIC_GAUGE,
        s.skips);
    put(w, "index_files_lost",
        "files of the key index found damaged: look-ups miss messages until the next start",
        METRIC_COUNTER, s.index_lost);
    put(w, "disk_full", "1 when new messages are refused for lack of space", METRIC_GAUGE,
        s.is_disk_full || s.is_refusing ? 1 : 0);
}

static void put_retention(struct list_writer *w, const struct broker *b)
{
    const struct retention *r = &b->retention;
    struct store_stats s = store_stats(b->store);
    bool is_pinned = r->needed != UINT64_MAX;

    put(w, "log_files", "files of the log", METRIC_GAUGE, s.segment_count);
    put(w, "log_file_bytes", "disk space of the log", METRIC_GAUGE,
        s.segment_count * s.segment_bytes);
    put(w, "log_files_deleted", "files of the log that were deleted", METRIC_COUNTER,
        s.segments_deleted);
    put(w, "log_files_stuck", "tries to delete one that failed", METRIC_COUNTER, s.segments_stuck);
    put(w, "oldest_message_ms", "when the oldest message was stored, ms since 1970; 0: none",
        METRIC_GAUGE, (uint64_t)(s.oldest_ms < 0 ? 0 : s.oldest_ms));
    put(w, "disk_used_percent", "of the disk of data.dir", METRIC_GAUGE, r->verdict.percent);
    put(w, "log_pinned_bytes", "log that could go but for an undecided half or a held message",
        METRIC_GAUGE, is_pinned ? store_watermarks(b->store).appended - r->needed : 0);
    put(w, "log_pinned_from", "log offset of what keeps it; 0: nothing does", METRIC_GAUGE,
        is_pinned ? r->needed : 0);
}

static void put_txn(struct list_writer *w, const struct broker *b)
{
    const struct txn_counters *c = txn_counters(b->txn);
    struct txn_gauges g;

#define X(name, help) put(w, "txn_" #name, help, METRIC_COUNTER, c->name);
    TXN_COUNTERS(X)
#undef X
    txn_gauges(b->txn, &g);
    put(w, "txn_undecided", "undecided halves", METRIC_GAUGE, g.halves);
    put(w, "txn_expired_now", "of them parked", METRIC_GAUGE, g.by_state[HALF_EXPIRED]);
    put(w, "txn_asking", "questions out", METRIC_GAUGE, g.asking);
    put(w, "txn_remembered", "decided halves remembered", METRIC_GAUGE, g.decided);
    put(w, "txn_halves_bytes", "memory of the half table", METRIC_GAUGE, g.bytes_halves);
    put(w, "txn_decided_bytes", "memory of decided halves", METRIC_GAUGE, g.bytes_decided);
    put(w, "txn_save_bytes", "memory of halves that changed while a checkpoint is written",
        METRIC_GAUGE, g.bytes_save);
}

static void put_timers(struct list_writer *w, struct broker *b)
{
    const struct timers_counters *c = timers_counters(b->timers);
    struct timers_gauges g;

#define X(name, help) put(w, #name, help, METRIC_COUNTER, c->name);
    TIMERS_COUNTERS(X)
#undef X
    timers_gauges(b->timers, broker_txn_now(b), &g);
    put(w, "held_now", "messages held for a time", METRIC_GAUGE, g.held);
    put(w, "held_late_ms", "how long the first of them is overdue", METRIC_GAUGE,
        (uint64_t)(g.late_ms < 0 ? 0 : g.late_ms));
    put(w, "held_bytes", "memory of the table of held messages", METRIC_GAUGE, g.bytes);
}

static void put_pops(struct list_writer *w, struct broker *b)
{
    struct pop_gauges g;

    pop_table_gauges(b->pops.table, &g);
    put(w, "pops_held", "pops, and notifications, waiting for messages", METRIC_GAUGE,
        b->pops.waits.count);
    put(w, "popped_now", "messages handed out and not acknowledged", METRIC_GAUGE, g.in_flight);
    put(w, "popped_due", "of these, messages whose time is over", METRIC_GAUGE, g.due);
    put(w, "popped_forgotten", "messages forgotten because too many were not acknowledged",
        METRIC_COUNTER, g.forgotten);
    put(w, "popped_bytes", "memory of the table of popped messages", METRIC_GAUGE, g.bytes);
}

void handle_status(struct request *req)
{
    struct broker *b = req->broker;
    struct header_writer w;
    struct list_writer list;

    if (!request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        return;
    }
    header_end(&w);
    status_begin(&list, w.buf);
#define X(name, help) put(&list, #name, help, METRIC_COUNTER, b->metrics.name);
    BROKER_COUNTERS(X)
#undef X
    put(&list, "connections", "open connections", METRIC_GAUGE, b->tcp.conn_count);
    put(&list, "buffered_bytes", "input and output waiting", METRIC_GAUGE, b->tcp.buffered_bytes);
    put(&list, "bytes_in", "bytes received", METRIC_COUNTER, b->tcp.stats.bytes_in);
    put(&list, "bytes_out", "bytes sent", METRIC_COUNTER, b->tcp.stats.bytes_out);
    put(&list, "connections_refused", "connections over the limit", METRIC_COUNTER,
        b->tcp.stats.refused);
    put(&list, "loop_slow", "loop iterations over 50 ms", METRIC_COUNTER,
        b->loop->stats.slow_iterations);
    put(&list, "pulls_held", "long polls waiting", METRIC_GAUGE, b->hold.waits.count);
    put(&list, "topics", "topics", METRIC_GAUGE, b->topics.by_name.count);
    if (b->store != NULL) {
        put_store(&list, b);
        put_retention(&list, b);
        put_txn(&list, b);
        put_timers(&list, b);
        put_pops(&list, b);
    }
    status_end(&list);
    request_end(req, &w);
}

/* ---- groups ---- */

struct groups_arg {
    struct broker *broker;
    struct list_writer w;
    struct slice only; /* empty = all */
};

/* Not asked for; or too much for a frame already: request_end says so. */
static bool is_skipped(const struct groups_arg *a, struct slice group)
{
    return (a->only.len > 0 && !slice_eq(a->only, group)) || a->w.out->len > FRAME_SIZE_MAX;
}

static void put_group(void *arg, struct slice group, struct slice topic, uint32_t queue,
                      int64_t offset)
{
    struct groups_arg *a = arg;
    struct store_queue_ref ref = {.topic = topic, .queue_id = queue};
    const struct client_group *members = clients_find_consumers(a->broker, group);
    struct group_row row = {.group = group,
                            .topic = topic,
                            .queue_id = (int32_t)queue,
                            .members = members == NULL ? 0 : (uint32_t)members->role_count,
                            .committed = offset};
    int64_t min_offset = 0;

    if (is_skipped(a, group)) {
        return;
    }
    if (!store_queue_range(a->broker->store, &ref, &min_offset, &row.max)) {
        row.max = 0;
    }
    row.lag = row.max > offset ? row.max - offset : 0;
    list_groups_put(&a->w, &row);
}

/* Queues of a subscription of which the group has stored nothing. */
static void put_subscription(struct groups_arg *a, const struct client_group *group,
                             const struct client_subscription *sub)
{
    struct broker *b = a->broker;
    struct slice name = slice_str(group->name);
    struct slice topic_name = slice_str(sub->topic);
    const struct topic *topic = topics_find(&b->topics, topic_name);
    uint32_t queues = topic == NULL ? 1 : topic->read_queues; /* 1: shows that it waits for it */

    for (uint32_t q = 0; q < queues; q++) {
        struct store_queue_ref ref = {.topic = topic_name, .queue_id = q};
        struct group_row row = {.group = name,
                                .topic = topic_name,
                                .queue_id = (int32_t)q,
                                .members = (uint32_t)group->role_count,
                                .committed = -1};
        int64_t min_offset = 0;
        int64_t offset;
        bool has_queue = store_queue_range(b->store, &ref, &min_offset, &row.max);
        if (is_skipped(a, name) || offsets_find(&b->offsets, name, topic_name, q, &offset) ||
            (!has_queue && name_topic_class(topic_name) == TOPIC_RETRY)) {
            continue; /* listed; or a retry topic that nothing was ever put into */
        }
        row.max = has_queue ? row.max : 0;
        row.lag = row.max - min_offset;
        list_groups_put(&a->w, &row);
    }
}

/* Groups that are here, or read a queue, for which nothing is stored yet. */
static void put_members(struct groups_arg *a)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&a->broker->clients.consumers, &cursor)) != NULL) {
        const struct client_group *group = slot->value;
        if (is_skipped(a, slice_str(group->name))) {
            continue;
        }
        for (struct list *pos = group->subscriptions.next; pos != &group->subscriptions;
             pos = pos->next) {
            put_subscription(a, group, LIST_ENTRY(pos, struct client_subscription, node));
        }
    }
}

void handle_list_groups(struct request *req)
{
    struct groups_arg arg = {.broker = req->broker};
    struct header_writer w;
    int rc = list_groups_request_decode(req->body, &arg.only);

    if (rc != 0) {
        request_fail(req, -1, rc, "groups: malformed request");
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        list_groups_begin(&arg.w, w.buf);
        offsets_visit(&req->broker->offsets, put_group, &arg);
        put_members(&arg);
        list_groups_end(&arg.w);
        request_end(req, &w);
    }
}

/* ---- horizon ---- */

void handle_txn_horizon(struct request *req)
{
    struct broker *b = req->broker;
    struct txn_now now = broker_txn_now(b);
    struct txn_horizon horizon = {.born_ms = INSPECT_NONE, .now_ms = now.wall_ms};
    struct txn_gauges gauges;
    struct header_writer w;
    char self[128 + sizeof "#01234567"];

    (void)snprintf(self, sizeof self, "%s#%08" PRIx32, b->config->broker_name,
                   store_id(b->store)); /* fits: names have at most 127 characters */
    horizon.broker = slice_str(self);
    txn_gauges(b->txn, &gauges);
    horizon.undecided = gauges.halves;
    horizon.offset = txn_oldest_offset(b->txn);
    if (horizon.offset == UINT64_MAX) {
        horizon.offset = store_watermarks(b->store).appended;
    } else {
        horizon.born_ms = txn_horizon_ms(b->txn, now);
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        txn_horizon_encode(w.buf, &horizon);
        request_end(req, &w);
    }
}
