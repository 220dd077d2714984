#include "core/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LOG_LINE_MAX 1024

static _Atomic int log_level_min = LOG_INFO;
static const char *log_program = "escrow";

/*
 * Burst control, per thread: good enough to keep a loop that fails from filling a disk, and needs
 * no lock.
 */
static _Thread_local char burst_event[48];
static _Thread_local time_t burst_second;
static _Thread_local unsigned burst_count;

void log_set_level(enum log_level level)
{
    atomic_store(&log_level_min, (int)level);
}

void log_set_program(const char *name)
{
    log_program = name;
}

int log_level_from_name(const char *name)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};

    for (int i = 0; i < 4; i++) {
        if (strcmp(name, names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

/*
 * Returns how many lines were swallowed before this one, or -1 when this one is to be swallowed
 * too.
 */
static int burst_admit(const char *event, time_t now)
{
    int swallowed = 0;

    if (burst_second == now && strncmp(burst_event, event, sizeof burst_event - 1) == 0) {
        burst_count++;
        return burst_count > LOG_BURST_MAX ? -1 : 0;
    }
    if (burst_count > LOG_BURST_MAX) {
        swallowed = (int)(burst_count - LOG_BURST_MAX);
    }
    (void)snprintf(burst_event, sizeof burst_event, "%s", event); /* cut is fine: only compared */
    burst_second = now;
    burst_count = 1;
    return swallowed;
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LOG_LINE_MAX];
    struct timespec ts;
    struct tm tm;
    va_list args;
    int swallowed;
    int len;

    if ((int)level < atomic_load_explicit(&log_level_min, memory_order_relaxed)) {
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
    swallowed = burst_admit(event, ts.tv_sec);
    if (swallowed < 0) {
        return;
    }
    (void)gmtime_r(&ts.tv_sec, &tm);
    len = snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %-5s %s ",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   ts.tv_nsec / 1000000, log_program, names[level], event);
    if (swallowed > 0) {
        len += snprintf(line + len, sizeof line - (size_t)len, "(%d lines left out) ", swallowed);
    }
    va_start(args, fmt);
    len += vsnprintf(line + len, sizeof line - (size_t)len, fmt, args);
    va_end(args);
    if (len > (int)sizeof line - 2) {
        len = (int)sizeof line - 2; /* cut */
    }
    for (int i = 0; i < len; i++) {
        if (line[i] == '\n' || line[i] == '\r') {
            line[i] = ' '; /* a line stays one line, whatever was put into it */
        }
    }
    line[len] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)len + 1); /* nowhere left to report to */
}
