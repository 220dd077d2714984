/*
 * Happy path: tick -> usage job -> verdict -> retain job -> the store gives up, and the pump's next
 * flush writes the checkpoint and unlinks the files.
 *
 * What is needed is asked for only when something would go: finding the oldest message that is held
 * for a time walks the table of them.
 */
#include "src/broker/retention.h"

#include "core/base/check.h"
#include "core/base/list.h"
#include "core/base/log.h"
#include "src/broker/broker.h"

#include <inttypes.h>

#define SOON_MS       100     /* between two steps while there is more */
#define PINNED_SAY_MS 3600000 /* how often to say that something pins the log */
#define MS_PER_HOUR   3600000
#define BYTES_PER_MIB (1 << 20)
#define HOURS_PER_DAY 24u

int retention_hours_parse(struct slice text, uint32_t *hours)
{
    uint32_t hour = 0;
    uint32_t digits = 0;

    *hours = 0;
    if (slice_eq_str(text, "any")) {
        *hours = RETENTION_ANY_HOUR;
        return 0;
    }
    for (size_t i = 0; i <= text.len; i++) {
        uint8_t c = i < text.len ? text.ptr[i] : ';';

        if (c >= '0' && c <= '9' && digits < 2) {
            hour = hour * 10 + (uint32_t)(c - '0');
            digits++;
        } else if (c == ';' && digits > 0 && hour < HOURS_PER_DAY) {
            *hours |= UINT32_C(1) << hour;
            hour = 0;
            digits = 0;
        } else {
            return ESCROW_EINVAL;
        }
    }
    return 0;
}

static void tick(void *arg);

static void arm(struct broker *b, int64_t ms)
{
    struct retention *r = &b->retention;

    r->is_busy = false;
    if (!r->is_stopping) {
        loop_timer_start(b->loop, &r->timer, (uint64_t)(r->is_asked ? SOON_MS : ms), 0, tick, b);
    }
}

void retention_ask(struct broker *b)
{
    b->retention.is_asked = true;
    if (!b->retention.is_busy) {
        arm(b, SOON_MS);
    }
}

/* ---- what the verdict says ---- */

static void say_refusing(struct broker *b, const struct retention_verdict *v)
{
    bool was_refusing = store_stats(b->store).is_refusing;

    store_refuse(b->store, v->is_refusing);
    if (v->is_refusing && !was_refusing) {
        log_warn(
            "retention.full",
            "%s: the disk is %u%% full, more than disk.warning.ratio: new messages are refused, "
            "transactions can still be ended and consumers go on",
            b->config->data_dir, v->percent);
    } else if (was_refusing && !v->is_refusing) {
        log_info("retention.full.over", "%s: the disk is %u%% full: new messages are taken again",
                 b->config->data_dir, v->percent);
    }
}

/* The log would be shorter without it. */
static void say_pinned(struct broker *b)
{
    struct retention *r = &b->retention;
    uint64_t kept_mib = (store_watermarks(b->store).appended - r->needed) / BYTES_PER_MIB;
    int64_t now_ms = loop_mono_ms(b->loop);
    struct decided_fact fact;
    struct txn_row row;

    if (r->pinned_said_ms != 0 && now_ms - r->pinned_said_ms < PINNED_SAY_MS) {
        return;
    }
    r->pinned_said_ms = now_ms;
    if (txn_find(b->txn, r->needed_by, &row, &fact)) {
        log_warn("retention.pinned",
                 "%" PRIu64 " MiB of log stay although they could go: an undecided half of group "
                 "%.*s, topic %.*s, stored %lld hours ago at log offset %" PRIu64
                 ", needs them; decide it",
                 kept_mib, SLICE_ARGS(row.group), SLICE_ARGS(row.topic),
                 (long long)((loop_wall_ms(b->loop) - row.store_ms) / MS_PER_HOUR), r->needed);
    } else {
        log_warn("retention.pinned",
                 "%" PRIu64 " MiB of log stay although they could go: a message at log offset "
                 "%" PRIu64 " is held until its time comes",
                 kept_mib, r->needed);
    }
}

static void say_stuck(struct broker *b)
{
    struct retention *r = &b->retention;
    uint64_t stuck = store_stats(b->store).segments_stuck;

    if (stuck > r->stuck_said) {
        log_warn("retention.stuck", "%s: a log segment could not be deleted; trying again",
                 b->config->data_dir);
    }
    r->stuck_said = stuck;
}

/* Now, for judging ages. */
static int64_t judging_ms(struct broker *b)
{
    struct retention *r = &b->retention;
    int64_t wall_ms = loop_wall_ms(b->loop);
    int64_t now_ms =
        retention_now_ms(r->begin_ms, loop_mono_ms(b->loop) - r->begin_mono_ms, wall_ms);

    if (wall_ms - now_ms >= MS_PER_HOUR && !r->has_said_ahead) {
        log_warn("retention.clock",
                 "the clock was set forward by %lld hours: until the next start messages count as "
                 "so much younger",
                 (long long)((wall_ms - now_ms) / MS_PER_HOUR));
    }
    r->has_said_ahead = wall_ms - now_ms >= MS_PER_HOUR;
    return now_ms;
}

static struct retention_verdict decide(struct broker *b)
{
    const struct config *c = b->config;
    struct retention *r = &b->retention;
    struct store_segment segments[RETENTION_STEP_SEGMENTS + 1];
    struct retention_settings settings = {
        .reserved_ms = (int64_t)c->file_reserved_ms,
        .hours = r->is_asked ? RETENTION_ANY_HOUR : c->delete_hours,
        .disk_clean_percent = (uint32_t)c->disk_max_used,
        .disk_force_percent = (uint32_t)c->disk_clean_forcibly,
        .disk_refuse_percent = (uint32_t)c->disk_warning,
    };
    struct retention_input in = {
        .now_ms = judging_ms(b),
        .usage = r->usage,
        .segment_bytes = store_stats(b->store).segment_bytes,
        .segments = segments,
        .needed = UINT64_MAX,
    };
    struct retention_verdict v;

    in.utc_offset_s = clock_utc_offset_s(b->clock, in.now_ms);
    store_segments_not_after(b->store, loop_wall_ms(b->loop));
    in.count = store_segments(b->store, segments, RETENTION_STEP_SEGMENTS + 1);
    v = retention_step(&settings, &in);
    if (v.count > 0) {
        r->wanted = v.first;
        in.needed = carry_oldest_needed(b, segments[0].first + in.segment_bytes, &r->needed_by);
        v = retention_step(&settings, &in);
    }
    r->needed = v.is_pinned ? in.needed : UINT64_MAX;
    return v;
}

/* ---- jobs ---- */

static void retain_run(struct pool_job *job)
{
    retain_job_run(LIST_ENTRY(job, struct retention, retain_pool_job)->retain);
}

static void retain_done(struct pool_job *job)
{
    struct retention *r = LIST_ENTRY(job, struct retention, retain_pool_job);
    struct broker *b = LIST_ENTRY(r, struct broker, retention);
    const struct retention_verdict *v = &r->verdict;
    struct err_ctx err = {.code = 0};

    if (store_retain_done(b->store, &r->retain, &err) != 0) {
        log_warn("retention.read", "nothing was deleted, trying again: %s", err.text);
        arm(b, (int64_t)b->config->retention_interval_ms);
        return;
    }
    log_info("retention.delete",
             "%u segments deleted, the log begins at %" PRIu64 ": %s; the disk is %u%% full",
             v->count, v->first, retention_why_text(v->why), v->percent);
    arm(b, v->is_more ? SOON_MS : (int64_t)b->config->retention_interval_ms);
}

static void usage_run(struct pool_job *job)
{
    struct retention *r = LIST_ENTRY(job, struct retention, usage_job);
    struct broker *b = LIST_ENTRY(r, struct broker, retention); /* its disk never changes */

    r->usage_rc = disk_usage(b->disk, &r->usage, &r->usage_err);
}

static void usage_done(struct pool_job *job)
{
    struct retention *r = LIST_ENTRY(job, struct retention, usage_job);
    struct broker *b = LIST_ENTRY(r, struct broker, retention);
    enum carry_begun carrying = CARRY_NOT;
    uint64_t first;

    if (r->usage_rc != 0) {
        log_warn("retention.usage", "%s", r->usage_err.text);
        r->usage = (struct disk_usage){.used_bytes = 0}; /* age counts all the same */
    }
    if (r->is_stopping) {
        r->is_busy = false;
        return;
    }
    b->metrics.retention_steps++;
    r->verdict = decide(b);
    r->is_asked = r->is_asked && r->verdict.count > 0;
    say_refusing(b, &r->verdict);
    say_stuck(b);
    if (r->verdict.is_pinned && r->verdict.count == 0) {
        carrying = carry_begin(b, store_watermarks(b->store).first, r->wanted);
    }
    if (carrying != CARRY_NOT) {
        if (carrying == CARRY_WAIT) {
            arm(b, SOON_MS);
        }
        return;
    }
    if (r->verdict.is_pinned) {
        say_pinned(b);
    } else {
        r->pinned_said_ms = 0;
    }
    first = r->verdict.count > 0 ? r->verdict.first : store_watermarks(b->store).first;
    r->retain = store_retain_take(b->store, first);
    if (r->retain != NULL) {
        pump_job(&b->pump, &r->retain_pool_job);
    } else {
        /* Nothing to do, or a flush is under way. */
        arm(b, r->verdict.count > 0 ? SOON_MS : (int64_t)b->config->retention_interval_ms);
    }
}

static void tick(void *arg)
{
    struct broker *b = arg;

    CHECK(!b->retention.is_busy);
    b->retention.is_busy = true;
    pump_job(&b->pump, &b->retention.usage_job);
}

void retention_resume(struct broker *b, bool was_carried)
{
    if (!was_carried) {
        say_pinned(b);
    }
    arm(b, was_carried ? SOON_MS : (int64_t)b->config->retention_interval_ms);
}

void retention_start(struct broker *b)
{
    struct retention *r = &b->retention;

    *r = (struct retention){.needed = UINT64_MAX,
                            .begin_ms = loop_wall_ms(b->loop),
                            .begin_mono_ms = loop_mono_ms(b->loop)};
    r->usage_job.run = usage_run;
    r->usage_job.done = usage_done;
    r->retain_pool_job.run = retain_run;
    r->retain_pool_job.done = retain_done;
    tick(b);
}

void retention_stop(struct broker *b)
{
    b->retention.is_stopping = true;
    loop_timer_stop(b->loop, &b->retention.timer);
    carry_stop(b);
}
