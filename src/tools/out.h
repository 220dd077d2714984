/*
 * Output of commands: tables, times, message bodies that are safe to show, JSON lines.
 *
 * Owns:    a table owns its cells. Buffers are the caller's.
 * Thread:  any.
 * Errors:  those of buf; out_flush is where they are seen.
 */
#ifndef SRC_TOOLS_OUT_H
#define SRC_TOOLS_OUT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/json_write.h"
#include "core/proto/record.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OUT_COLUMNS_MAX 12

struct out_table {
    struct buf cells; /* each ends with NUL */
    size_t columns;
    const char *const *heads;
    uint32_t right; /* bit c: column c is a number, set to the right */
};

void out_table_init(struct out_table *t, const char *const *heads, size_t columns, uint32_t right);
void out_cell(struct out_table *t, const char *fmt, ...) ESCROW_PRINTF(2, 3);

/* Text from outside: what a terminal could obey is shown as \xNN. */
void out_cell_text(struct out_table *t, struct slice text);

/* Print heads and rows, aligned, and free the cells. Nothing but "none" when there is no row. */
void out_table_print(struct out_table *t);

/* The same safety for a buffer. */
void out_put_text(struct buf *out, struct slice text);

/* 2026-01-31T12:00:00.123Z; "-" for 0 and below. */
void out_put_time(struct buf *out, int64_t ms);

/* "4m07s", "350ms", "3d02h" */
const char *out_age(int64_t ms, char *dst, size_t size);

/* Is it UTF-8 without control characters but tab and newline? */
bool out_is_plain(struct slice text);

/*
 * Write it to standard output and empty it. A closed pipe ends the program, as SIGPIPE does. false
 * when it could not be written, or memory was short.
 */
bool out_flush(struct buf *out);

/* Push out what stdio holds. false when it could not be written. */
bool out_sync(void);

/*
 * A message. As JSON: one object, body as text ("body") or base64 ("bodyBase64"). For people: one
 * line of fields, then the properties, then the body. "size" and bytes are what is stored; the body
 * is what was sent, decompressed if need be (if that fails, as it is stored).
 */
void out_message_json(struct json_writer *w, const struct record_view *view);
void out_message_text(struct buf *out, const struct record_view *view);

/* The body alone, as it was sent, and a newline. */
void out_message_body(struct buf *out, const struct record_view *view);

#endif
