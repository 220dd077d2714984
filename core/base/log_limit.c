#include "core/base/log_limit.h"

#include <stddef.h>
#include <string.h>

static struct log_limit_event *event_of(struct log_limit *limit, const char *name,
                                        int64_t interval_ms)
{
    struct log_limit_event *oldest = &limit->events[0];

    for (size_t i = 0; i < LOG_LIMIT_EVENTS_MAX; i++) {
        struct log_limit_event *e = &limit->events[i];
        if (e->name == NULL) {
            oldest = e;
            break;
        }
        if (e->interval_ms == interval_ms && strcmp(e->name, name) == 0) {
            return e;
        }
        oldest = e->used_ms < oldest->used_ms ? e : oldest;
    }
    *oldest = (struct log_limit_event){.name = name, .interval_ms = interval_ms};
    return oldest;
}

bool log_limit_admit(struct log_limit *limit, const char *event, int64_t interval_ms,
                     int64_t now_ms)
{
    struct log_limit_event *e = event_of(limit, event, interval_ms);
    int64_t burst_ms = LOG_BURST_MAX * interval_ms;

    e->used_ms = now_ms;
    if (e->whole_ms < now_ms ||
        e->whole_ms > now_ms + burst_ms) { /* whole, or the clock went back */
        e->whole_ms = now_ms;
    }
    if (e->whole_ms + interval_ms > now_ms + burst_ms) {
        return false;
    }
    e->whole_ms += interval_ms;
    return true;
}
