/*
 * Retention: which segments may go, and whether new messages are taken. RocketMQ's rules:
 *
 *   - at an hour of the day (or at any time), what was not used for reserved_ms goes;
 *   - above disk_clean_percent the hour does not matter;
 *   - above disk_force_percent age does not matter either: the oldest go until usage is below it;
 *   - above disk_refuse_percent new messages are refused as well.
 *
 * Only the front of the log can go: the oldest segment first, and nothing behind one that stays. A
 * segment that holds something that is still needed stays whatever the disk says; `pinned` tells.
 *
 * Pure:    time, usage and segments come in, a verdict goes out. What a release makes of a
 *          segment's time is in core/store/FORMAT.md, "Deletion".
 * Thread:  any.
 */
#ifndef CORE_STORE_RETENTION_H
#define CORE_STORE_RETENTION_H

#include "core/io/disk.h"
#include "core/store/store.h"

#include <stdbool.h>
#include <stdint.h>

/* At most so many go in one step: their files are unlinked in one job. */
#define RETENTION_STEP_SEGMENTS 10u

#define RETENTION_ANY_HOUR UINT32_C(0xffffff)

/* Percentages are of what can be used, as df shows them; 100 = never. */
struct retention_settings {
    int64_t reserved_ms;
    uint32_t hours; /* bit h: local time h:00 to h:59 */
    uint32_t disk_clean_percent;
    uint32_t disk_force_percent;
    uint32_t disk_refuse_percent;
};

struct retention_input {
    int64_t now_ms;
    int32_t utc_offset_s;
    struct disk_usage usage;
    uint64_t segment_bytes;
    const struct store_segment
        *segments;   /* the oldest that could go, from the first of the log on */
    uint32_t count;  /* RETENTION_STEP_SEGMENTS + 1 are enough; a segment is as long as any other */
    uint64_t needed; /* the lowest log offset that somebody needs; UINT64_MAX = nobody any */
};

enum retention_why {
    RETENTION_NOTHING, /* stays as it is */
    RETENTION_AGE,     /* its hour, or any */
    RETENTION_CLEAN,   /* above disk_clean_percent, and old enough */
    RETENTION_FORCE,   /* above disk_force_percent, however young */
};

struct retention_verdict {
    enum retention_why why;
    uint32_t count;   /* segments that go */
    uint32_t percent; /* of the disk in use, rounded up */
    bool is_more;     /* and after them, at once, more */
    bool is_pinned;   /* a segment that would go stays, because it is needed */
    bool is_refusing; /* new messages are refused */
    uint64_t first;   /* where the log begins then; valid when count > 0 */
};

struct retention_verdict retention_step(const struct retention_settings *settings,
                                        const struct retention_input *in);

/* "by age", "by age, disk fuller than it should be", ... for a log line. Static storage. */
const char *retention_why_text(enum retention_why why);

/*
 * The time that messages are judged by: the wall clock's, but never further from where it was
 * (begin_ms) than time has really passed since (elapsed_ms, of a monotonic clock). A clock that is
 * set forward makes no message old.
 */
int64_t retention_now_ms(int64_t begin_ms, int64_t elapsed_ms, int64_t wall_ms);

/* Part in use of the whole, in percent, rounded up; 0 of nothing. */
uint32_t retention_percent(const struct disk_usage *usage);

#endif
