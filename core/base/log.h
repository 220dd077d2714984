/*
 * Log lines: level, stable event id, one line of text, to standard error.
 *
 * Tests and dashboards match the event id ("store.recovery.cut"), never the text. Never put a
 * message body or a secret in a line. Only programs, core/io_uv and outbox/pg log; pure code and
 * core/base, core/proto, core/store return errors. A line that repeats with the same event id more
 * than LOG_BURST_MAX times in a second is counted instead of printed.
 * Thread: any; one write(2) per line.
 */
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include "core/base/attr.h"

#define LOG_BURST_MAX 20

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below `level` are not printed. Default LOG_INFO. */
void log_set_level(enum log_level level);

/* Name printed in every line ("escrowd"); borrowed, static storage. */
void log_set_program(const char *name);

/* "debug", "info", "warn", "error"; -1 when it is none of them. */
int log_level_from_name(const char *name);

void log_line(enum log_level level, const char *event, const char *fmt, ...) ESCROW_PRINTF(3, 4);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#endif
