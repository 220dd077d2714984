/*
 * Log lines: level, stable event id, one line of text, to standard error.
 *
 * Tests and dashboards match the event id ("store.recovery.cut"), never the text. Never put a
 * message body or a secret in a line. Only programs, core/io_uv and outbox/pg log; pure code and
 * core/base, core/proto, core/store return errors. Lines of one event id that come too often are
 * counted instead of printed (log_limit.h), and the next line of the thread says how many. What a
 * peer can cause by sending something, and again and again, is log_peer_...: after a burst one a
 * minute. Event ids are string literals.
 * Thread: any; one write(2) per line.
 */
#ifndef CORE_BASE_LOG_H
#define CORE_BASE_LOG_H

#include "core/base/attr.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Lines below `level` are not printed. Default LOG_INFO. */
void log_set_level(enum log_level level);

/* Name printed in every line ("escrowd"); borrowed, static storage. */
void log_set_program(const char *name);

/* "debug", "info", "warn", "error"; -1 when it is none of them. */
int log_level_from_name(const char *name);

void log_line(enum log_level level, const char *event, const char *fmt, ...) ESCROW_PRINTF(3, 4);

/* The same at the rate of what peers cause. */
void log_peer_line(enum log_level level, const char *event, const char *fmt, ...)
    ESCROW_PRINTF(3, 4);

#define log_debug(...) log_line(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_line(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_line(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_line(LOG_ERROR, __VA_ARGS__)

#define log_peer_info(...)  log_peer_line(LOG_INFO, __VA_ARGS__)
#define log_peer_warn(...)  log_peer_line(LOG_WARN, __VA_ARGS__)
#define log_peer_error(...) log_peer_line(LOG_ERROR, __VA_ARGS__)

#endif
