#include "core/proto/json_write.h"

#include "core/base/check.h"
#include "core/base/utf8.h"

#include <math.h>

static void separate(struct json_writer *w)
{
    if (w->needs_comma) {
        buf_append_u8(w->out, ',');
    }
    w->needs_comma = true;
}

static void begin(struct json_writer *w, uint8_t bracket)
{
    separate(w);
    buf_append_u8(w->out, bracket);
    w->needs_comma = false;
}

static void end(struct json_writer *w, uint8_t bracket)
{
    buf_append_u8(w->out, bracket);
    w->needs_comma = true;
}

void json_write_object_begin(struct json_writer *w)
{
    begin(w, '{');
}

void json_write_object_end(struct json_writer *w)
{
    end(w, '}');
}

void json_write_array_begin(struct json_writer *w)
{
    begin(w, '[');
}

void json_write_array_end(struct json_writer *w)
{
    end(w, ']');
}

void json_write_object_key_end(struct json_writer *w)
{
    buf_append_u8(w->out, ':');
    w->needs_comma = false;
}

void json_write_key_slice(struct json_writer *w, struct slice key)
{
    separate(w);
    json_append_quoted(w->out, key);
    json_write_object_key_end(w);
}

void json_write_key(struct json_writer *w, const char *key)
{
    json_write_key_slice(w, slice_str(key));
}

void json_write_string(struct json_writer *w, struct slice text)
{
    separate(w);
    json_append_quoted(w->out, text);
}

void json_write_i64(struct json_writer *w, int64_t value)
{
    separate(w);
    buf_append_fmt(w->out, "%lld", (long long)value);
}

void json_write_f64(struct json_writer *w, double value)
{
    separate(w);
    buf_append_fmt(w->out, "%.3f", isfinite(value) ? value : 0.0);
}

void json_write_text(struct json_writer *w, struct slice json)
{
    separate(w);
    buf_append_slice(w->out, json);
}

void json_write_bool(struct json_writer *w, bool value)
{
    separate(w);
    buf_append_str(w->out, value ? "true" : "false");
}

/* ---- text ---- */

/* Bytes from `at` on that can be copied as they are. */
static size_t plain_len(const uint8_t *at, size_t left)
{
    size_t n = 0;

    while (n < left && at[n] != '"' && at[n] != '\\' && at[n] >= 0x20) {
        size_t len = utf8_len(at + n, left - n);
        if (len == 0) {
            break;
        }
        n += len;
    }
    return n;
}

static void append_escaped(struct buf *out, uint8_t c)
{
    if (c == '"' || c == '\\') {
        buf_append_u8(out, '\\');
        buf_append_u8(out, c);
    } else if (c < 0x20) {
        buf_append_fmt(out, "\\u%04x", (unsigned)c);
    } else {
        buf_append_str(out, "\xEF\xBF\xBD"); /* U+FFFD for a malformed byte */
    }
}

void json_append_quoted(struct buf *out, struct slice text)
{
    size_t i = 0;

    buf_append_u8(out, '"');
    while (i < text.len) {
        size_t n = plain_len(text.ptr + i, text.len - i);
        buf_append(out, text.ptr + i, n);
        i += n;
        if (i < text.len) {
            append_escaped(out, text.ptr[i]);
            i++;
        }
    }
    buf_append_u8(out, '"');
}
