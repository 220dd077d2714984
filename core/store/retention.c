/*
 * Happy path: the segments from the front on that are old enough, at most RETENTION_STEP_SEGMENTS,
 * none that reaches beyond `needed`. By force: as many as bring usage to the limit, counted in
 * whole segments, since usage is measured again only after they are gone.
 */
#include "core/store/retention.h"

#include "core/base/check.h"

#define HOUR_S INT64_C(3600)
#define DAY_S  INT64_C(86400)

/* Both small enough to be multiplied by 100. */
static struct disk_usage scaled(const struct disk_usage *usage)
{
    struct disk_usage u = *usage;

    while (u.used_bytes >= UINT64_C(1) << 56 || u.available_bytes >= UINT64_C(1) << 56) {
        u.used_bytes >>= 8;
        u.available_bytes >>= 8;
    }
    return u;
}

int64_t retention_now_ms(int64_t begin_ms, int64_t elapsed_ms, int64_t wall_ms)
{
    return wall_ms < begin_ms + elapsed_ms ? wall_ms : begin_ms + elapsed_ms;
}

uint32_t retention_percent(const struct disk_usage *usage)
{
    struct disk_usage u = scaled(usage);
    uint64_t all = u.used_bytes + u.available_bytes;

    return all == 0 ? 0 : (uint32_t)((u.used_bytes * 100 + all - 1) / all);
}

/* Segments that have to go until usage is below the limit; 0 when it is. */
static uint64_t forced_count(const struct retention_settings *s, const struct retention_input *in)
{
    struct disk_usage u = scaled(&in->usage);
    uint64_t all = u.used_bytes + u.available_bytes;
    uint64_t allowed = all / 100 * s->disk_force_percent + all % 100 * s->disk_force_percent / 100;
    uint64_t excess = u.used_bytes > allowed ? u.used_bytes - allowed : 0;

    if (retention_percent(&in->usage) <= s->disk_force_percent) {
        return 0;
    }
    return excess / in->segment_bytes + 1;
}

static bool is_hour(const struct retention_settings *s, const struct retention_input *in)
{
    int64_t local_s = in->now_ms / 1000 + in->utc_offset_s;
    int64_t of_day = (local_s % DAY_S + DAY_S) % DAY_S;

    return (s->hours >> (of_day / HOUR_S) & 1) != 0;
}

/* Why may segment i go? */
static enum retention_why why_of(const struct retention_settings *s,
                                 const struct retention_input *in, uint32_t i, uint64_t forced)
{
    const struct store_segment *seg = &in->segments[i];
    bool is_old = seg->used_ms <= in->now_ms - s->reserved_ms;

    if (is_old && is_hour(s, in)) {
        return RETENTION_AGE;
    }
    if (is_old && retention_percent(&in->usage) > s->disk_clean_percent) {
        return RETENTION_CLEAN;
    }
    return i < forced ? RETENTION_FORCE : RETENTION_NOTHING;
}

struct retention_verdict retention_step(const struct retention_settings *settings,
                                        const struct retention_input *in)
{
    struct retention_verdict v = {.percent = retention_percent(&in->usage)};
    uint64_t forced = forced_count(settings, in);

    CHECK(in->segment_bytes > 0);
    v.is_refusing = v.percent > settings->disk_refuse_percent;
    for (uint32_t i = 0; i < in->count; i++) {
        enum retention_why why = why_of(settings, in, i, forced);
        uint64_t end = in->segments[i].first + in->segment_bytes;

        if (why == RETENTION_NOTHING) {
            break;
        }
        if (end > in->needed) {
            v.is_pinned = true;
            break;
        }
        if (v.count == RETENTION_STEP_SEGMENTS) {
            v.is_more = true;
            break;
        }
        v.count++;
        v.first = end;
        v.why = why > v.why ? why : v.why;
    }
    return v;
}

const char *retention_why_text(enum retention_why why)
{
    switch (why) {
    case RETENTION_NOTHING:
        return "nothing to delete";
    case RETENTION_AGE:
        return "old enough";
    case RETENTION_CLEAN:
        return "old enough, and the disk is fuller than disk.max.used.ratio";
    case RETENTION_FORCE:
        return "the disk is fuller than disk.clean.forcibly.ratio";
    }
    return "?";
}
