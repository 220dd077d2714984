/*
 * How often a log line may be printed: per event id, a burst, and after that one each interval.
 *
 * Two rates. Lines of our own doing: a burst of LOG_BURST_MAX, then as many each second; a loop
 * that fails stays readable. Lines that anybody who can connect can cause, as often as they like:
 * the same burst, then one a minute, so that a stranger cannot fill the disk (at most 2 MiB a day
 * for each event id).
 *
 * Owns:    nothing; event ids are borrowed for good (static storage).
 * Thread:  whoever owns the struct; log.c has one for each thread.
 * Pure:    no clock; times come in, and may go back.
 * Holds:   no event id is twice in the table, unless it is used at both rates: a stranger does not
 *          silence our own lines. One that was used longest ago makes room for a new one, and
 *          begins with a whole burst when it comes back: the programs have fewer event ids.
 */
#ifndef CORE_BASE_LOG_LIMIT_H
#define CORE_BASE_LOG_LIMIT_H

#include <stdbool.h>
#include <stdint.h>

#define LOG_BURST_MAX        20
#define LOG_OWN_INTERVAL_MS  50
#define LOG_PEER_INTERVAL_MS 60000
#define LOG_LIMIT_EVENTS_MAX 96

struct log_limit_event {
    const char *name; /* NULL: no entry */
    int64_t interval_ms;
    int64_t used_ms;
    int64_t whole_ms; /* when its burst will be whole again */
};

/* All zero to begin with. */
struct log_limit {
    struct log_limit_event events[LOG_LIMIT_EVENTS_MAX];
};

/* May a line of this event be printed now? It counts as printed then. */
bool log_limit_admit(struct log_limit *limit, const char *event, int64_t interval_ms,
                     int64_t now_ms);

#endif
