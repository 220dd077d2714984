#include "core/base/log.h"

#include "core/base/log_limit.h"

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
 * Per thread: good enough to keep a loop that fails, or a stranger, from filling a disk, and needs
 * no lock.
 */
static _Thread_local struct log_limit limit;
static _Thread_local unsigned left_out; /* lines since the last one that was printed */

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

static int64_t mono_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void print(enum log_level level, const char *event, int64_t interval_ms, const char *fmt,
                  va_list args) ESCROW_PRINTF(4, 0);

static void print(enum log_level level, const char *event, int64_t interval_ms, const char *fmt,
                  va_list args)
{
    static const char *const names[] = {"debug", "info", "warn", "error"};
    char line[LOG_LINE_MAX];
    struct timespec ts;
    struct tm tm;
    int len;

    if ((int)level < atomic_load_explicit(&log_level_min, memory_order_relaxed)) {
        return;
    }
    if (!log_limit_admit(&limit, event, interval_ms, mono_ms())) {
        left_out++;
        return;
    }
    (void)clock_gettime(CLOCK_REALTIME, &ts); /* cannot fail for this clock */
    (void)gmtime_r(&ts.tv_sec, &tm);
    len = snprintf(line, sizeof line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %s %-5s %s ",
                   tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
                   ts.tv_nsec / 1000000, log_program, names[level], event);
    if (left_out > 0) {
        len += snprintf(line + len, sizeof line - (size_t)len, "(%u lines left out) ", left_out);
        left_out = 0;
    }
    len += vsnprintf(line + len, sizeof line - (size_t)len, fmt, args);
    if (len > (int)sizeof line - 2) {
        len = (int)sizeof line - 2; /* cut */
    }
    for (int i = 0; i < len; i++) {
        if ((line[i] >= '\0' && line[i] < ' ') || line[i] == 127) {
            line[i] = ' '; /* one line that moves no cursor, whatever was put into it */
        }
    }
    line[len] = '\n';
    (void)!write(STDERR_FILENO, line, (size_t)len + 1); /* nowhere left to report to */
}

void log_line(enum log_level level, const char *event, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    print(level, event, LOG_OWN_INTERVAL_MS, fmt, args);
    va_end(args);
}

void log_peer_line(enum log_level level, const char *event, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    print(level, event, LOG_PEER_INTERVAL_MS, fmt, args);
    va_end(args);
}
