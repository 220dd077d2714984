#include "src/tools/out.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/compress.h"
#include "core/proto/msgid.h"
#include "core/proto/properties.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* ---- tables ---- */

void out_table_init(struct out_table *t, const char *const *heads, size_t columns, uint32_t right)
{
    CHECK(columns <= OUT_COLUMNS_MAX);
    buf_init(&t->cells, 0);
    t->columns = columns;
    t->heads = heads;
    t->right = right;
}

void out_cell(struct out_table *t, const char *fmt, ...)
{
    char text[512];
    va_list ap;

    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof text, fmt, ap); /* cut when longer */
    va_end(ap);
    buf_append(&t->cells, text, strlen(text) + 1);
}

void out_cell_text(struct out_table *t, struct slice text)
{
    out_put_text(&t->cells, text.len == 0 ? SLICE_LIT("-") : text);
    buf_append_u8(&t->cells, 0);
}

static void put_row(const struct out_table *t, struct buf *out, const char *const *cells,
                    const size_t *widths)
{
    for (size_t c = 0; c < t->columns; c++) {
        size_t pad = widths[c] - strlen(cells[c]);
        bool is_right = (t->right >> c & 1) != 0;

        for (size_t i = 0; is_right && i < pad; i++) {
            buf_append_u8(out, ' ');
        }
        buf_append_str(out, cells[c]);
        for (size_t i = 0; !is_right && i < pad && c + 1 < t->columns; i++) {
            buf_append_u8(out, ' ');
        }
        buf_append_str(out, c + 1 < t->columns ? "  " : "\n");
    }
}

/* The next row of cells; false at the end. */
static bool next_row(const struct out_table *t, size_t *at, const char **cells)
{
    if (*at >= t->cells.len) {
        return false;
    }
    for (size_t c = 0; c < t->columns; c++) {
        CHECK(*at < t->cells.len);
        cells[c] = (const char *)t->cells.ptr + *at;
        *at += strlen(cells[c]) + 1;
    }
    return true;
}

void out_table_print(struct out_table *t)
{
    const char *cells[OUT_COLUMNS_MAX];
    size_t widths[OUT_COLUMNS_MAX];
    struct buf out;
    size_t at = 0;

    buf_init(&out, 0);
    for (size_t c = 0; c < t->columns; c++) {
        widths[c] = strlen(t->heads[c]);
    }
    while (!buf_failed(&t->cells) && next_row(t, &at, cells)) {
        for (size_t c = 0; c < t->columns; c++) {
            widths[c] = strlen(cells[c]) > widths[c] ? strlen(cells[c]) : widths[c];
        }
    }
    if (t->cells.len == 0) {
        buf_append_str(&out, "none\n");
    } else {
        put_row(t, &out, t->heads, widths);
    }
    at = 0;
    while (!buf_failed(&t->cells) && next_row(t, &at, cells)) {
        put_row(t, &out, cells, widths);
    }
    (void)out_flush(&out); /* main looks at stdout */
    buf_fini(&out);
    buf_fini(&t->cells);
}

/* ---- text from outside ---- */

/* Length of the UTF-8 character at p, 0 when malformed. */
static size_t utf8_length(const uint8_t *p, size_t left)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t len = p[0] < 0x80       ? 1
                 : p[0] >> 5 == 6  ? 2
                 : p[0] >> 4 == 14 ? 3
                 : p[0] >> 3 == 30 ? 4
                                   : 0;
    uint32_t c;

    if (len <= 1 || len > left) {
        return len > left ? 0 : len;
    }
    c = p[0] & (0xFFu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if (p[i] >> 6 != 2) {
            return 0;
        }
        c = c << 6 | (p[i] & 0x3Fu);
    }
    return c < least[len] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000) ? 0 : len;
}

/* C0, DEL, and C1 in its two-byte form. */
static bool is_control(const uint8_t *p, size_t len)
{
    return len == 1 ? p[0] < 0x20 || p[0] == 0x7F : len == 2 && p[0] == 0xC2 && p[1] < 0xA0;
}

bool out_is_plain(struct slice text)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_length(text.ptr + i, text.len - i);
        uint8_t c = text.ptr[i];
        if (len == 0 || (is_control(text.ptr + i, len) && c != '\n' && c != '\t')) {
            return false;
        }
        i += len;
    }
    return true;
}

void out_put_text(struct buf *out, struct slice text)
{
    for (size_t i = 0; i < text.len;) {
        size_t len = utf8_length(text.ptr + i, text.len - i);
        if (len == 0 || is_control(text.ptr + i, len)) {
            buf_append_fmt(out, "\\x%02x", text.ptr[i]);
            len = 1;
        } else {
            buf_append(out, text.ptr + i, len);
        }
        i += len;
    }
}

void out_put_time(struct buf *out, int64_t ms)
{
    time_t s = (time_t)(ms / 1000);
    struct tm tm;

    if (ms <= 0 || gmtime_r(&s, &tm) == NULL) {
        buf_append_str(out, "-");
        return;
    }
    buf_append_fmt(out, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", tm.tm_year + 1900, tm.tm_mon + 1,
                   tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec, (int)(ms % 1000));
}

const char *out_age(int64_t ms, char *dst, size_t size)
{
    int64_t s = ms / 1000;

    if (ms < 0) {
        (void)snprintf(dst, size, "-%" PRId64 "s", -s);
    } else if (s < 10) {
        (void)snprintf(dst, size, "%" PRId64 "ms", ms);
    } else if (s < 60) {
        (void)snprintf(dst, size, "%" PRId64 "s", s);
    } else if (s < 3600) {
        (void)snprintf(dst, size, "%" PRId64 "m%02" PRId64 "s", s / 60, s % 60);
    } else if (s < 86400) {
        (void)snprintf(dst, size, "%" PRId64 "h%02" PRId64 "m", s / 3600, s / 60 % 60);
    } else {
        (void)snprintf(dst, size, "%" PRId64 "d%02" PRId64 "h", s / 86400, s / 3600 % 24);
    }
    return dst;
}

/*
 * Whoever read the output is gone: end as any filter does. The event loop has the signal blocked.
 */
static void end_if_pipe_is_closed(void)
{
    sigset_t set;

    if (errno == EPIPE) {
        (void)sigemptyset(&set); /* these cannot fail with a valid signal */
        (void)sigaddset(&set, SIGPIPE);
        (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
        (void)raise(SIGPIPE);
    }
}

bool out_flush(struct buf *out)
{
    bool is_ok =
        !buf_failed(out) && (out->len == 0 || fwrite(out->ptr, 1, out->len, stdout) == out->len);

    if (!is_ok && !buf_failed(out)) {
        end_if_pipe_is_closed();
    }
    buf_clear(out);
    return is_ok;
}

bool out_sync(void)
{
    if (fflush(stdout) == 0 && ferror(stdout) == 0) {
        return true;
    }
    end_if_pipe_is_closed();
    return false;
}

/* ---- messages ---- */

static void put_base64(struct buf *out, struct slice in)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    for (size_t i = 0; i < in.len; i += 3) {
        size_t n = in.len - i < 3 ? in.len - i : 3;
        uint32_t v = 0;
        for (size_t k = 0; k < 3; k++) {
            v = v * 256 + (k < n ? in.ptr[i + k] : 0u);
        }
        for (size_t c = 0; c < 4; c++) {
            buf_append_u8(out, c <= n ? (uint8_t)digits[v >> (18 - 6 * c) & 63] : '=');
        }
    }
}

static void json_body(struct json_writer *w, struct slice body)
{
    struct buf text;

    if (out_is_plain(body)) {
        json_put_string(w, "body", body);
        return;
    }
    buf_init(&text, 0);
    put_base64(&text, body);
    json_put_string(w, "bodyBase64", buf_slice(&text));
    w->out->failed |= buf_failed(&text);
    buf_fini(&text);
}

/* The body as it was sent: decompressed into `opened`, or as it is stored when that cannot be. */
static struct slice body_as_sent(const struct record_fields *f, struct buf *opened)
{
    buf_init(opened, 0);
    if (compression_of(f->sys_flag) == COMPRESSION_NONE ||
        decompress(opened, compression_of(f->sys_flag), f->body, FRAME_SIZE_MAX) != 0) {
        return f->body;
    }
    return buf_slice(opened);
}

void out_message_json(struct json_writer *w, const struct record_view *view)
{
    const struct record_fields *f = &view->f;
    struct buf opened;
    struct props_iter iter = props_begin(f->properties);
    char id[MSGID_TEXT_MAX + 1];
    struct slice name;
    struct slice value;

    (void)msgid_encode(&f->store_host, f->physical_offset, id); /* its length, not needed */
    json_write_object_begin(w);
    json_put_string(w, "id", slice_str(id));
    json_put_string(w, "topic", f->topic);
    json_put_i64(w, "queue", f->queue_id);
    json_put_i64(w, "queueOffset", f->queue_offset);
    json_put_i64(w, "physicalOffset", f->physical_offset);
    json_put_i64(w, "bornMs", f->born_ms);
    json_put_i64(w, "storedMs", f->store_ms);
    json_put_i64(w, "sysFlag", f->sys_flag);
    json_put_i64(w, "flag", f->flag);
    json_put_i64(w, "reconsumeTimes", f->reconsume_times);
    json_write_key(w, "properties");
    json_write_object_begin(w);
    while (props_next(&iter, &name, &value)) {
        json_write_key_slice(w, name);
        json_write_string(w, value);
    }
    json_write_object_end(w);
    json_put_i64(w, "size", (int64_t)f->body.len);
    json_body(w, body_as_sent(f, &opened));
    buf_fini(&opened);
    json_write_object_end(w);
}

void out_message_text(struct buf *out, const struct record_view *view)
{
    const struct record_fields *f = &view->f;
    struct props_iter iter = props_begin(f->properties);
    char id[MSGID_TEXT_MAX + 1];
    struct slice name;
    struct slice value;
    struct buf opened;

    (void)msgid_encode(&f->store_host, f->physical_offset, id); /* its length, not needed */
    out_put_text(out, f->topic);
    buf_append_fmt(out, "/%d @%" PRId64 "  %s  ", f->queue_id, f->queue_offset, id);
    out_put_time(out, f->store_ms);
    buf_append_fmt(out, "  %zu bytes", f->body.len);
    if ((f->sys_flag & SYSFLAG_TXN_MASK) == SYSFLAG_TXN_PREPARED) {
        buf_append_str(out, "  half");
    } else if ((f->sys_flag & SYSFLAG_TXN_MASK) == SYSFLAG_TXN_COMMIT) {
        buf_append_str(out, "  committed");
    }
    buf_append_str(out, (f->sys_flag & SYSFLAG_COMPRESSED) != 0 ? "  compressed\n" : "\n");
    while (props_next(&iter, &name, &value)) {
        buf_append_str(out, "  ");
        out_put_text(out, name);
        buf_append_str(out, " = ");
        out_put_text(out, value);
        buf_append_str(out, "\n");
    }
    buf_append_str(out, "\n  ");
    out_put_text(out, body_as_sent(f, &opened));
    buf_fini(&opened);
    buf_append_str(out, "\n");
}

void out_message_body(struct buf *out, const struct record_view *view)
{
    struct buf opened;

    buf_append_slice(out, body_as_sent(&view->f, &opened));
    buf_fini(&opened);
    buf_append_u8(out, '\n');
}
