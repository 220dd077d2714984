/*
 * JSON writer: compact, straight into a buf, no tree. Used for the bodies that RocketMQ clients and
 * tools read.
 *
 *     struct json_writer w = json_writer_to(out);
 *     json_write_object_begin(&w);
 *     json_put_string(&w, "brokerName", name);
 *     json_write_object_end(&w);                  {"brokerName":"..."}
 *
 * Text is written as UTF-8; control characters, quote and backslash are escaped; each malformed
 * byte becomes U+FFFD. Errors: those of buf (test buf_failed once at the end).
 *
 * Owns:    nothing.
 * Thread:  whoever owns the struct.
 * Holds:   begins and ends are paired by the caller; a key is followed by one value.
 */
#ifndef CORE_PROTO_JSON_WRITE_H
#define CORE_PROTO_JSON_WRITE_H

#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stdint.h>

struct json_writer {
    struct buf *out;
    bool needs_comma;
};

static inline struct json_writer json_writer_to(struct buf *out)
{
    return (struct json_writer){out, false};
}

void json_write_object_begin(struct json_writer *w);
void json_write_object_end(struct json_writer *w);
void json_write_array_begin(struct json_writer *w);
void json_write_array_end(struct json_writer *w);

/* A key; the next call writes its value. */
void json_write_key(struct json_writer *w, const char *key);
void json_write_key_slice(struct json_writer *w, struct slice key);

/* After an object that stands as a key (fastjson's form): the next call writes its value. */
void json_write_object_key_end(struct json_writer *w);

void json_write_string(struct json_writer *w, struct slice text);
void json_write_i64(struct json_writer *w, int64_t value);
void json_write_f64(struct json_writer *w, double value); /* not finite: 0.000 */
void json_write_bool(struct json_writer *w, bool value);

/* A value that is JSON already, as a json_writer wrote it. */
void json_write_text(struct json_writer *w, struct slice json);

/* Key and value in one call. */
static inline void json_put_string(struct json_writer *w, const char *key, struct slice text)
{
    json_write_key(w, key);
    json_write_string(w, text);
}

static inline void json_put_i64(struct json_writer *w, const char *key, int64_t value)
{
    json_write_key(w, key);
    json_write_i64(w, value);
}

static inline void json_put_bool(struct json_writer *w, const char *key, bool value)
{
    json_write_key(w, key);
    json_write_bool(w, value);
}

/* Append text in quotes, escaped; for those who need no writer. */
void json_append_quoted(struct buf *out, struct slice text);

#endif
