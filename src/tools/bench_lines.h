/*
 * Answers of brokers that answer by lines, in the order of the requests.
 *
 * Redis:        "$15", then the id as a line of its own; errors "-ERR ..."
 * beanstalkd:   "INSERTED 7"; anything else is an error
 *
 * Pure:    no I/O; the bytes are borrowed.
 */
#ifndef SRC_TOOLS_BENCH_LINES_H
#define SRC_TOOLS_BENCH_LINES_H

#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>

/* One answer; `line` has no end of line. */
typedef void bench_line_fn(void *arg, bool is_ok, struct slice line);

/* Call fn for each answer in data; returns how many bytes that took: the rest is a line to come. */
size_t bench_lines_read(struct slice data, bool is_redis, bench_line_fn *fn, void *arg);

#endif
