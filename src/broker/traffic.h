/*
 * Traffic: how many messages entered a topic, and how many a consumer group took from it, in the
 * last minute, hour and day. For people and their tools; nothing is decided by it.
 *
 * A message counts when it becomes visible in its queue (a half at its commit, a delayed one when
 * it is due), and when a pull hands it out. Counting begins with the process. Slots of 10 seconds,
 * 10 minutes and an hour are summed up, the running one included, so "the last minute" is 50 to 60
 * seconds, and a rate is the sum by the time it really covers.
 *
 * Owns:    its items; at most TRAFFIC_BYTES_MAX of them. What comes after is not counted, and
 *          traffic_find says so.
 * Thread:  loop.
 * Pure:    no clock: monotonic milliseconds for rates and wall-clock milliseconds for days come in.
 */
#ifndef SRC_BROKER_TRAFFIC_H
#define SRC_BROKER_TRAFFIC_H

#include "core/base/slice.h"
#include "core/base/strmap.h"

#include <stdbool.h>
#include <stdint.h>

#define TRAFFIC_BYTES_MAX ((size_t)32 << 20)

enum rate_window { RATE_MINUTE, RATE_HOUR, RATE_DAY, RATE_WINDOWS };

#define RATE_SLOTS_MAX 24

struct rate {
    struct {
        int64_t newest;   /* number of the slot that was added to last */
        int64_t until_ms; /* when it ends */
        uint32_t at;      /* its place in counts */
        uint64_t counts[RATE_SLOTS_MAX];
    } windows[RATE_WINDOWS];
    uint64_t total;
};

void rate_add(struct rate *r, uint64_t count, int64_t now_ms);

struct rate_sum {
    uint64_t sum;
    double per_second;
};

/*
 * The last `slots` slots of a window (0 = all of it). since_ms: when counting began; no rate is
 * taken over less than a second.
 */
struct rate_sum rate_sum(const struct rate *r, enum rate_window window, uint32_t slots,
                         int64_t since_ms, int64_t now_ms);

/* What `total` was when today and yesterday began (UTC). */
struct day_marks {
    int64_t day;
    uint64_t yesterday_morning;
    uint64_t today_morning;
};

/* Must be called with the total before anything of a new day is added to it. */
void day_marks_roll(struct day_marks *d, uint64_t total, int64_t wall_ms);

struct traffic_now {
    int64_t mono_ms;
    int64_t wall_ms;
};

struct traffic {
    struct strmap topics; /* topic -> struct rate */
    struct strmap groups; /* topic, '@', group -> struct rate */
    struct rate put;      /* of all topics */
    struct rate get;
    struct day_marks put_days;
    struct day_marks get_days;
    size_t bytes;
    int64_t since_ms;
    bool is_counting; /* recovery is over */
};

void traffic_init(struct traffic *t, struct hash_key key);
void traffic_fini(struct traffic *t);

/* Recovery is over: what comes from now on is new. */
void traffic_start(struct traffic *t, struct traffic_now now);

void traffic_put(struct traffic *t, struct slice topic, struct traffic_now now);
void traffic_get(struct traffic *t, struct slice topic, struct slice group, uint64_t count,
                 struct traffic_now now);

/*
 * Of a topic, or with a group of what it took from the topic. NULL: nothing since the start; when
 * traffic_is_full, perhaps something that was not counted.
 */
const struct rate *traffic_find(const struct traffic *t, struct slice topic, struct slice group);
bool traffic_is_full(const struct traffic *t);

#endif
