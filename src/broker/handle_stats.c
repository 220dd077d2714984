/*
 * Where queues and groups stand, and how much goes through them, for RocketMQ's tools:
 * GET_TOPIC_STATS_INFO 202, GET_CONSUME_STATS 208, VIEW_BROKER_STATS_DATA 315,
 * GET_BROKER_CONSUME_STATS 317 (PROTOCOL.md, "Administration").
 *
 * Happy path: the rows are made at once, from the tables: queues, offsets, rates. Then the job
 * reads one record of each row, for its store time, some rows at a time.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_admin.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"

#include <string.h>

#define STATS_ROWS_MAX  65536 /* of one answer: they are read one by one */
#define STATS_ROWS_TURN 256   /* looked at before others have their turn */

/* ---- rows ---- */

/* Counted in a first pass, made in a second; what the rows name is copied, because the tables may
 * change while the job reads. */
struct stats {
    struct broker *broker;
    struct queue_stats *rows;
    struct group_stats *groups; /* one per group and topic; its rows are among `rows` */
    char *names;
    size_t row_count;
    size_t group_count;
    size_t name_bytes;
    size_t next; /* row to read */
    bool is_filling;
    bool is_ordered_only;
    struct slice want_group; /* empty: all; while rows are made */
    struct slice want_topic;
};

static void stats_fini(struct read_job *job)
{
    struct stats *s = job->ptr;

    mem_free(s->rows);
    mem_free(s->groups);
    mem_free(s->names);
}

static struct slice keep_name(struct stats *s, struct slice name)
{
    char *copy = s->names + s->name_bytes;

    s->name_bytes += name.len;
    if (!s->is_filling) {
        return SLICE_EMPTY;
    }
    memcpy(copy, name.ptr, name.len);
    return slice_of(copy, name.len);
}

static struct queue_stats *add_row(struct stats *s, struct slice topic, uint32_t queue)
{
    struct store_queue_ref ref = {.topic = topic, .queue_id = queue};
    struct queue_stats *row = s->is_filling ? &s->rows[s->row_count] : NULL;

    s->row_count++;
    if (row != NULL) {
        *row =
            (struct queue_stats){.queue = {.topic = topic,
                                           .broker_name = slice_str(s->broker->config->broker_name),
                                           .queue_id = (int32_t)queue}};
        if (!store_queue_range(s->broker->store, &ref, &row->min_offset, &row->max_offset)) {
            row->min_offset = row->max_offset = 0;
        }
    }
    return row;
}

static double rate_of(const struct broker *b, struct slice topic, struct slice group,
                      struct traffic_now now)
{
    const struct rate *rate = traffic_find(&b->traffic, topic, group);

    return rate == NULL
               ? 0
               : rate_sum(rate, RATE_MINUTE, 0, b->traffic.since_ms, now.mono_ms).per_second;
}

static bool is_wanted(const struct stats *s, struct slice group, const struct topic *topic)
{
    return topic != NULL && (s->want_group.len == 0 || slice_eq(s->want_group, group)) &&
           (s->want_topic.len == 0 || slice_eq_str(s->want_topic, topic->name)) &&
           (!s->is_ordered_only || topic->is_ordered);
}

/* Where a group stands in each queue of a topic. */
static void add_group(struct stats *s, struct slice group, const struct topic *topic)
{
    struct slice kept_group = keep_name(s, group);
    struct slice kept_topic = keep_name(s, slice_str(topic->name));
    struct group_stats *g = s->is_filling ? &s->groups[s->group_count] : NULL;

    s->group_count++;
    if (g != NULL) {
        *g = (struct group_stats){
            .group = kept_group,
            .table = {.rows = s->rows + s->row_count,
                      .count = topic->read_queues,
                      .tps = rate_of(s->broker, kept_topic, group, broker_traffic_now(s->broker))}};
    }
    for (uint32_t q = 0; q < topic->read_queues; q++) {
        struct queue_stats *row = add_row(s, kept_topic, q);
        if (row == NULL) {
            continue;
        }
        /* a group that never said where it is begins with what is there */
        if (!offsets_find(&s->broker->offsets, group, kept_topic, q, &row->consumer_offset)) {
            row->consumer_offset = row->min_offset;
        }
        row->pull_offset = row->consumer_offset;
    }
}

static void add_stored(void *arg, struct slice group, struct slice topic)
{
    struct stats *s = arg;
    const struct topic *found = topics_find(&s->broker->topics, topic);

    if (is_wanted(s, group, found)) {
        add_group(s, group, found);
    }
}

/* Topics that a connected group reads and of which it has not stored anything. */
static void add_subscriptions(struct stats *s, const struct client_group *group)
{
    struct slice name = slice_str(group->name);

    for (struct list *pos = group->subscriptions.next; pos != &group->subscriptions;
         pos = pos->next) {
        struct slice topic = slice_str(LIST_ENTRY(pos, struct client_subscription, node)->topic);
        const struct topic *found = topics_find(&s->broker->topics, topic);
        if (name_topic_class(topic) != TOPIC_RETRY && is_wanted(s, name, found) &&
            !offsets_has_pair(&s->broker->offsets, name, topic)) {
            add_group(s, name, found);
        }
    }
}

static void walk_groups(struct stats *s)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    s->row_count = s->group_count = s->name_bytes = 0;
    offsets_visit_pairs(&s->broker->offsets, add_stored, s);
    while ((slot = strmap_next(&s->broker->clients.consumers, &cursor)) != NULL) {
        const struct client_group *group = slot->value;
        if (group->model == MODEL_CLUSTERING) { /* the others keep their offsets themselves */
            add_subscriptions(s, group);
        }
    }
}

static int make_rows(struct stats *s, void (*walk)(struct stats *s))
{
    walk(s);
    if (s->row_count > STATS_ROWS_MAX) {
        return ESCROW_ETOOBIG;
    }
    s->rows = mem_calloc(s->row_count + 1, sizeof *s->rows);
    s->groups = mem_calloc(s->group_count + 1, sizeof *s->groups);
    s->names = mem_alloc(s->name_bytes + 1);
    if (s->rows == NULL || s->groups == NULL || s->names == NULL) {
        return ESCROW_ENOMEM;
    }
    s->is_filling = true;
    walk(s);
    return 0;
}

/* ---- store times ---- */

/* Store time of the message before `offset`; 0 when it is not there any more, or damaged. */
static int read_time(struct read_job *job, struct queue_stats *row, int64_t offset,
                     struct buf *scratch, struct err_ctx *err)
{
    struct store_entry_ref entry = {
        .topic = row->queue.topic, .queue_id = (uint32_t)row->queue.queue_id, .offset = offset - 1};
    struct store_record rec;
    int rc;

    if (offset <= row->min_offset || offset > row->max_offset) {
        return 0;
    }
    rc = store_read_entry(job->broker->store, &entry, job->fetch, scratch, &rec, err);
    if (rc == 0) {
        row->last_ms = rec.store_ms;
    }
    return rc == ESCROW_ENOTFOUND || damage_is_error(rc) ? 0 : rc;
}

/* In 202 the newest message of the queue, otherwise the last one that the group has consumed. */
static int read_times(struct read_job *job, struct err_ctx *err)
{
    struct stats *s = job->ptr;
    struct buf scratch;
    size_t turn = 0;
    int rc = 0;

    buf_init(&scratch, 0);
    while (rc == 0 && s->next < s->row_count) {
        struct queue_stats *row = &s->rows[s->next];
        if (turn++ == STATS_ROWS_TURN) {
            rc = ESCROW_EBUSY;
            break;
        }
        rc = read_time(job, row, s->group_count > 0 ? row->consumer_offset : row->max_offset,
                       &scratch, err);
        s->next += rc == 0 ? 1 : 0;
    }
    buf_fini(&scratch);
    return rc;
}

static void answer_body(struct read_job *job)
{
    struct header_writer w;

    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        buf_append_slice(w.buf, buf_slice(&job->body));
        deferred_end(&job->deferred, &w);
    }
}

static void topic_done(struct read_job *job)
{
    struct stats *s = job->ptr;
    struct queue_table table = {.rows = s->rows,
                                .count = s->row_count,
                                .tps = rate_of(s->broker, slice_str(job->topic), SLICE_EMPTY,
                                               broker_traffic_now(s->broker))};

    queue_table_encode(&job->body, QUEUE_TABLE_TOPIC, &table);
    answer_body(job);
}

static void group_done(struct read_job *job)
{
    struct stats *s = job->ptr;
    struct queue_table table = {.rows = s->rows, .count = s->row_count};

    for (size_t i = 0; i < s->group_count; i++) {
        table.tps += s->groups[i].table.tps;
    }
    queue_table_encode(&job->body, QUEUE_TABLE_CONSUME, &table);
    answer_body(job);
}

static void all_done(struct read_job *job)
{
    struct stats *s = job->ptr;

    group_stats_encode(&job->body, slice_str(s->broker->registrar.addr), s->groups, s->group_count);
    answer_body(job);
}

/* ---- requests ---- */

/* NULL when the request was answered with an error. */
static struct read_job *stats_job(struct request *req, const struct stats *what,
                                  void (*walk)(struct stats *s), read_done_fn *done)
{
    struct stats *s = mem_alloc(sizeof *s);
    struct read_job *job;
    int rc;

    if (s == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return NULL;
    }
    *s = *what;
    s->broker = req->broker;
    job = read_job_new(req, read_times, done);
    if (job == NULL) {
        mem_free(s);
        return NULL;
    }
    job->ptr = s;
    job->fini = stats_fini;
    rc = make_rows(s, walk);
    if (rc != 0) {
        read_job_end(job, rc, "more than 65536 queues in one answer: ask for one group or topic");
        return NULL;
    }
    s->want_group = s->want_topic = SLICE_EMPTY; /* borrowed from the request */
    return job;
}

static void walk_topic(struct stats *s)
{
    const struct topic *topic = topics_find(&s->broker->topics, s->want_topic);
    uint32_t queues =
        topic->read_queues > topic->write_queues ? topic->read_queues : topic->write_queues;
    struct slice name;

    s->row_count = s->name_bytes = 0;
    name = keep_name(s, slice_str(topic->name));
    for (uint32_t q = 0; q < queues; q++) {
        (void)add_row(s, name, q);
    }
}

void handle_topic_stats(struct request *req)
{
    struct stats what = {.next = 0};
    struct read_job *job;

    if (header_get_str(req->header, "topic", &what.want_topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field topic is missing");
        return;
    }
    if (topics_find(&req->broker->topics, what.want_topic) == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     (int)(what.want_topic.len > 255 ? 255 : what.want_topic.len),
                     (const char *)what.want_topic.ptr);
        return;
    }
    job = stats_job(req, &what, walk_topic, topic_done);
    if (job != NULL) {
        struct stats *s = job->ptr;
        (void)slice_to_cstr(s->rows[0].queue.topic, job->topic, sizeof job->topic);
        read_job_start(job);
    }
}

void handle_consume_stats(struct request *req)
{
    struct stats what = {.next = 0};
    struct read_job *job;

    if (header_get_str(req->header, "consumerGroup", &what.want_group) != 0 ||
        what.want_group.len == 0 || header_opt_str(req->header, "topic", &what.want_topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field consumerGroup is missing");
        return;
    }
    job = stats_job(req, &what, walk_groups, group_done);
    if (job != NULL) {
        read_job_start(job);
    }
}

void handle_all_consume_stats(struct request *req)
{
    struct stats what = {.next = 0};
    struct read_job *job;

    if (header_opt_bool(req->header, "isOrder", &what.is_ordered_only) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field isOrder is malformed");
        return;
    }
    job = stats_job(req, &what, walk_groups, all_done);
    if (job != NULL) {
        read_job_start(job);
    }
}

/* ---- traffic ---- */

static struct traffic_span span_of(const struct broker *b, const struct rate *rate,
                                   enum rate_window window, struct traffic_now now)
{
    struct rate_sum sum = rate_sum(rate, window, 0, b->traffic.since_ms, now.mono_ms);

    return (struct traffic_span){.sum = sum.sum, .per_second = sum.per_second};
}

/* What RocketMQ calls the counter; NULL when it is not counted here, or there is nothing to it. */
static const struct rate *counter_find(const struct broker *b, struct slice name, struct slice key)
{
    const uint8_t *at = key.len == 0 ? NULL : memchr(key.ptr, '@', key.len);
    bool is_cluster = slice_eq_str(key, b->config->cluster_name);

    if (slice_eq_str(name, "TOPIC_PUT_NUMS")) {
        return at == NULL ? traffic_find(&b->traffic, key, SLICE_EMPTY) : NULL;
    }
    if (slice_eq_str(name, "GROUP_GET_NUMS") && at != NULL) {
        size_t len = (size_t)(at - key.ptr);
        return len + 1 == key.len ? NULL
                                  : traffic_find(&b->traffic, slice_of(key.ptr, len),
                                                 slice_of(at + 1, key.len - len - 1));
    }
    if (slice_eq_str(name, "BROKER_PUT_NUMS")) {
        return is_cluster ? &b->traffic.put : NULL;
    }
    return slice_eq_str(name, "BROKER_GET_NUMS") && is_cluster ? &b->traffic.get : NULL;
}

void handle_traffic(struct request *req)
{
    struct broker *b = req->broker;
    struct traffic_now now = broker_traffic_now(b);
    struct slice name = SLICE_EMPTY;
    struct slice key = SLICE_EMPTY;
    const struct rate *rate;
    struct header_writer w;

    if (header_get_str(req->header, "statsName", &name) != 0 ||
        header_get_str(req->header, "statsKey", &key) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "field statsName or statsKey is missing");
        return;
    }
    rate = counter_find(b, name, key);
    if (rate == NULL) {
        request_fail(req, RESPONSE_SYSTEM_ERROR, ESCROW_ENOTFOUND, "The stats <%.*s> not exist",
                     (int)(name.len > 63 ? 63 : name.len),
                     name.len == 0 ? "" : (const char *)name.ptr);
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        struct traffic_span minute = span_of(b, rate, RATE_MINUTE, now);
        struct traffic_span hour = span_of(b, rate, RATE_HOUR, now);
        struct traffic_span day = span_of(b, rate, RATE_DAY, now);
        header_end(&w);
        traffic_encode(w.buf, &minute, &hour, &day);
        request_end(req, &w);
    }
}
