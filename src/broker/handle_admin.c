/*
 * The broker itself, for RocketMQ's tools: UPDATE_BROKER_CONFIG 25, GET_BROKER_CONFIG 26,
 * GET_BROKER_RUNTIME_INFO 28, GET_SYSTEM_TOPIC_LIST_FROM_BROKER 305, CLEAN_UNUSED_TOPIC 316
 * (PROTOCOL.md, "Administration").
 */
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_topic.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/damage.h"
#include "src/broker/dispatch.h"
#include "src/broker/read_job.h"
#include "src/broker/settings.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

/* ---- settings ---- */

void handle_update_config(struct request *req)
{
    struct broker *b = req->broker;
    struct err_ctx err = {.code = 0};
    int rc = settings_change(b->config, req->body, &err);

    if (rc != 0) {
        request_fail(req, -1, rc, "%s", err.text);
        return;
    }
    b->settings_version++;
    log_warn("settings.changed", "by request, until the end of this process: %.*s",
             (int)(req->body.len > 500 ? 500 : req->body.len), (const char *)req->body.ptr);
    request_ok(req);
}

void handle_get_config(struct request *req)
{
    struct broker *b = req->broker;
    struct data_version version = {.timestamp_ms = b->registrar.version_ms,
                                   .counter = (int64_t)b->settings_version};
    struct header_writer w;

    buf_clear(&b->scratch);
    data_version_encode(&b->scratch, &version);
    if (buf_failed(&b->scratch)) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_put_str(&w, "version", buf_slice(&b->scratch));
        header_end(&w);
        settings_print(w.buf, b->config, slice_str(b->registrar.addr));
        request_end(req, &w);
    }
}

/* ---- what it is and does ---- */

#define INFO_ROWS_MAX   48
#define INFO_TEXT_MAX   96
#define INFO_LOOKS_MAX  64 /* records at the beginning of the log that may be no messages */
#define INFO_NO_MESSAGE (-1)

struct info {
    struct kv_pair rows[INFO_ROWS_MAX];
    char texts[INFO_ROWS_MAX][INFO_TEXT_MAX];
    size_t count;
};

static void put(struct info *info, const char *key, const char *fmt, ...) ESCROW_PRINTF(3, 4);

static void put(struct info *info, const char *key, const char *fmt, ...)
{
    char *text = info->texts[info->count];
    va_list args;

    va_start(args, fmt);
    (void)vsnprintf(text, INFO_TEXT_MAX, fmt, args); /* numbers: they fit */
    va_end(args);
    info->rows[info->count++] = (struct kv_pair){slice_str(key), slice_str(text)};
}

/* Per second in the last 10 to 20 seconds, in the last minute, and in the last 10 to 20 minutes. */
static void put_rates(struct info *info, const char *key, const struct rate *r, struct broker *b)
{
    struct traffic_now now = broker_traffic_now(b);
    int64_t since = b->traffic.since_ms;

    put(info, key, "%.3f %.3f %.3f", rate_sum(r, RATE_MINUTE, 2, since, now.mono_ms).per_second,
        rate_sum(r, RATE_MINUTE, 0, since, now.mono_ms).per_second,
        rate_sum(r, RATE_HOUR, 2, since, now.mono_ms).per_second);
}

static void put_days(struct info *info, struct broker *b)
{
    struct traffic *t = &b->traffic;
    int64_t wall_ms = loop_wall_ms(b->loop);

    day_marks_roll(&t->put_days, t->put.total, wall_ms);
    day_marks_roll(&t->get_days, t->get.total, wall_ms);
    put(info, "msgPutTotalYesterdayMorning", "%" PRIu64, t->put_days.yesterday_morning);
    put(info, "msgPutTotalTodayMorning", "%" PRIu64, t->put_days.today_morning);
    put(info, "msgPutTotalTodayNow", "%" PRIu64, t->put.total);
    put(info, "msgGetTotalYesterdayMorning", "%" PRIu64, t->get_days.yesterday_morning);
    put(info, "msgGetTotalTodayMorning", "%" PRIu64, t->get_days.today_morning);
    put(info, "msgGetTotalTodayNow", "%" PRIu64, t->get.total);
}

static void put_process(struct info *info, const struct broker *b)
{
    int64_t up_ms = loop_mono_ms(b->loop) - b->traffic.since_ms;

    put(info, "brokerActive", "true");
    put(info, "brokerVersion", "409");
    put(info, "brokerVersionDesc", "Escrow %s", ESCROW_VERSION);
    put(info, "bootTimestamp", "%" PRId64, loop_wall_ms(b->loop) - up_ms);
    put(info, "runtime", "[ %" PRId64 " days, %d hours, %d minutes, %d seconds ]", up_ms / 86400000,
        (int)(up_ms / 3600000 % 24), (int)(up_ms / 60000 % 60), (int)(up_ms / 1000 % 60));
    put(info, "putMessageTimesTotal", "%" PRIu64, b->metrics.messages_in + b->metrics.halves_in);
}

static void put_log(struct info *info, const struct broker *b)
{
    struct store_watermarks m = store_watermarks(b->store);

    put(info, "commitLogDiskRatio", "%.2f", b->retention.verdict.percent / 100.0);
    put(info, "commitLogMinOffset", "%" PRIu64, m.first);
    put(info, "commitLogMaxOffset", "%" PRIu64, m.appended);
    put(info, "dispatchBehindBytes", "%" PRIu64, m.appended - m.visible);
    put(info, "remainHowManyDataToFlush", "%" PRIu64 " B", m.appended - m.durable);
}

/* There is nothing of this kind in escrowd: no requests that wait for a thread, no lock. */
static void put_nothing(struct info *info)
{
    static const char *const names[] = {
        "sendThreadPoolQueueSize",  "sendThreadPoolQueueHeadWaitTimeMills",
        "pullThreadPoolQueueSize",  "pullThreadPoolQueueHeadWaitTimeMills",
        "queryThreadPoolQueueSize", "queryThreadPoolQueueHeadWaitTimeMills",
        "ackThreadPoolQueueSize",   "ackThreadPoolQueueHeadWaitTimeMills",
        "EndTransactionQueueSize",  "pageCacheLockTimeMills",
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        put(info, names[i], "0");
    }
}

static void put_timers(struct info *info, struct broker *b)
{
    struct timers_gauges g;

    timers_gauges(b->timers, broker_txn_now(b), &g);
    put(info, "timerReadBehind", "%" PRId64, g.late_ms < 0 ? 0 : g.late_ms / 1000);
    put(info, "timerOffsetBehind", "0");
    put(info, "timerCongestNum", "%" PRIu64, (uint64_t)g.held);
}

static bool is_message(enum store_type type)
{
    return type == STORE_MESSAGE || type == STORE_HALF || type == STORE_HELD;
}

/* When the first message that is still in the log was stored. */
static int info_step(struct read_job *job, struct err_ctx *err)
{
    struct store_record rec;
    int rc = 0;

    job->result = INFO_NO_MESSAGE;
    while (rc == 0 && job->result == INFO_NO_MESSAGE && job->count < INFO_LOOKS_MAX) {
        rc = store_read_known(job->broker->store, job->offset, job->fetch, &job->key, &rec, err);
        if (rc == 0 && is_message(rec.type)) {
            job->result = rec.store_ms;
        } else if (rc == 0) {
            job->offset = rec.end;
            job->count++;
        }
    }
    /* The end of the log; or nobody can tell. */
    return rc == ESCROW_ENOTFOUND || damage_is_error(rc) ? 0 : rc;
}

static void info_done(struct read_job *job)
{
    struct broker *b = job->broker;
    struct info *info = mem_alloc(sizeof *info);
    struct header_writer w;

    if (info == NULL) {
        deferred_fail(&job->deferred, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    info->count = 0;
    put_process(info, b);
    put_rates(info, "putTps", &b->traffic.put, b);
    put_rates(info, "getTransferedTps", &b->traffic.get, b); /* 4.x spells it so */
    put_rates(info, "getTransferredTps", &b->traffic.get, b);
    put_days(info, b);
    put_log(info, b);
    put_nothing(info);
    put_timers(info, b);
    if (job->result != INFO_NO_MESSAGE) {
        put(info, "earliestMessageTimeStamp", "%" PRId64, job->result);
    }
    if (deferred_begin(&job->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        kv_table_encode(w.buf, info->rows, info->count);
        deferred_end(&job->deferred, &w);
    }
    mem_free(info);
}

void handle_runtime_info(struct request *req)
{
    struct read_job *job = read_job_new(req, info_step, info_done);

    if (job != NULL) {
        job->offset = store_watermarks(req->broker->store).first;
        read_job_start(job);
    }
}

/* ---- topics ---- */

void handle_system_topics(struct request *req)
{
    struct broker *b = req->broker;
    struct slice *names = mem_calloc(b->topics.by_name.count + 1, sizeof *names);
    const struct topic *topic;
    struct header_writer w;
    size_t cursor = 0;
    size_t count = 0;

    if (names == NULL) {
        request_fail(req, -1, ESCROW_ENOMEM, NULL);
        return;
    }
    while ((topic = topics_next(&b->topics, &cursor)) != NULL) {
        if (name_topic_class(slice_str(topic->name)) == TOPIC_SYSTEM) {
            names[count++] = slice_str(topic->name);
        }
    }
    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        name_list_encode(w.buf, LIST_TOPICS, names, count);
        request_end(req, &w);
    }
    mem_free(names);
}

/* A topic that is deleted takes its queues with it, so there is never anything left to clean. */
void handle_clean_topics(struct request *req)
{
    request_ok(req);
}

/* ---- what is old ---- */

/* Queue files go with the log files that they lead to, so there is never one left to clean. */
void handle_clean_queues(struct request *req)
{
    request_ok(req);
}

void handle_delete_log(struct request *req)
{
    retention_ask(req->broker);
    request_ok(req);
}
