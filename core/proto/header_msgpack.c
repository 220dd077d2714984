/*
 * Reading goes through struct scan, which checks every length against the bytes left; with at most
 * HEADER_FIELDS_MAX fields and nothing nested there is nothing else to bound. Writing goes through
 * msgpack-c's packer, except the head of the field map: its count is not known before the last
 * field, so it is a map 16 that is patched at the end.
 */
#include "core/proto/header_msgpack.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/proto/codes.h"
#include "core/proto/header_private.h"
#include "core/proto/scan.h"
#include "escrow/errors.h"

#include <msgpack.h>

#define ARRAY_LEN     7
#define ARRAY_LEN_MAX 64 /* of a version to come */
#define MAP16         0xde

/* Of one such element; the array around it is a level of its own. */
#define LIMITS_REST ((struct scan_limits){HEADER_FIELDS_MAX, HEADER_DEPTH_MAX - 1})

static int read_field(struct header *h, struct scan *s)
{
    struct slice key;
    struct slice text;
    int64_t number;
    bool truth;
    int rc = scan_str(s, &key);

    if (rc != 0) {
        return rc;
    }
    switch (scan_peek(s)) {
    case SCAN_STR:
        rc = scan_str(s, &text);
        return rc != 0 ? rc : header_add_text(h, key, text);
    case SCAN_INT:
        rc = scan_i64(s, &number);
        return rc != 0 ? rc : header_add_number(h, key, number, HEADER_I64);
    case SCAN_BOOL:
        rc = scan_bool(s, &truth);
        return rc != 0 ? rc : header_add_number(h, key, truth ? 1 : 0, HEADER_BOOL);
    case SCAN_NIL:
        return scan_nil(s);
    case SCAN_FLOAT:
    case SCAN_BIN:
    case SCAN_ARRAY:
    case SCAN_MAP:
    case SCAN_EXT:
    case SCAN_END:
        break;
    }
    return ESCROW_EPROTO;
}

static int read_fixed(struct header *h, struct scan *s)
{
    int32_t language;

    if (scan_i32(s, &h->code) != 0 || scan_i32(s, &h->flag) != 0 || scan_i32(s, &h->opaque) != 0 ||
        scan_i32(s, &h->version) != 0 || scan_i32(s, &language) != 0) {
        return ESCROW_EPROTO;
    }
    h->language = language_by_number(language);
    return scan_peek(s) == SCAN_NIL ? scan_nil(s) : scan_str(s, &h->remark);
}

int header_msgpack_decode(struct header *h, struct slice in)
{
    struct scan s;
    uint32_t array_len;
    uint32_t pairs;
    uint32_t i;
    int rc;

    scan_init(&s, in);
    rc = scan_array(&s, &array_len);
    if (rc != 0) {
        return rc;
    }
    if (array_len < ARRAY_LEN || array_len > ARRAY_LEN_MAX) {
        return ESCROW_EPROTO;
    }
    rc = read_fixed(h, &s);
    if (rc != 0) {
        return rc;
    }
    rc = scan_map(&s, &pairs);
    if (rc != 0) {
        return rc;
    }
    if (pairs > HEADER_FIELDS_MAX) {
        return ESCROW_ETOOBIG;
    }
    for (i = 0; i < pairs; i++) {
        rc = read_field(h, &s);
        if (rc != 0) {
            return rc;
        }
    }
    for (i = ARRAY_LEN; i < array_len; i++) {
        if (scan_skip(&s, LIMITS_REST) != 0) {
            return ESCROW_EPROTO;
        }
    }
    return scan_left(&s) == 0 ? 0 : ESCROW_EPROTO;
}

/* ---- writing ---- */

/* Most bytes that msgpack-c puts in front of a str or for a number. */
#define PACKED_HEAD_MAX 9

/*
 * The packer's sink: room for a whole field is reserved first, then the bytes go straight in.
 * Failures stay in the buf.
 */
struct sink {
    struct buf *out;
    uint8_t *at; /* NULL: no room */
    msgpack_packer packer;
};

static int put_packed(void *data, const char *bytes, size_t len)
{
    struct sink *sink = data;

    memcpy(sink->at, bytes, len);
    sink->at += len;
    return 0;
}

/* Room for `values` values with `text_len` bytes of text in all; false when there is none. */
static bool sink_open(struct sink *sink, struct header_writer *w, size_t values, size_t text_len)
{
    if (text_len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
        return false;
    }
    sink->out = w->buf;
    sink->at = buf_reserve(w->buf, values * PACKED_HEAD_MAX + text_len);
    msgpack_packer_init(&sink->packer, sink, put_packed);
    return sink->at != NULL;
}

static void sink_close(struct sink *sink)
{
    buf_commit(sink->out, (size_t)(sink->at - (sink->out->ptr + sink->out->len)));
}

static void put_str(struct sink *sink, struct slice text)
{
    (void)msgpack_pack_str(&sink->packer, text.len); /* put_packed never fails, here and below */
    if (text.len > 0) {
        (void)msgpack_pack_str_body(&sink->packer, text.ptr, text.len);
    }
}

void header_msgpack_begin(struct header_writer *w)
{
    static const char open_map[3] = {(char)MAP16, 0, 0};
    struct sink sink;

    if (!sink_open(&sink, w, ARRAY_LEN + 1, w->head.remark.len)) {
        return;
    }
    (void)msgpack_pack_array(&sink.packer, ARRAY_LEN); /* put_packed never fails */
    (void)msgpack_pack_int32(&sink.packer, w->head.code);
    (void)msgpack_pack_int32(&sink.packer, w->head.flag);
    (void)msgpack_pack_int32(&sink.packer, w->head.opaque);
    (void)msgpack_pack_int32(&sink.packer, HEADER_VERSION);
    (void)msgpack_pack_int32(&sink.packer, LANGUAGE_JAVA);
    if (w->head.remark.ptr == NULL) {
        (void)msgpack_pack_nil(&sink.packer);
    } else {
        put_str(&sink, w->head.remark);
    }
    (void)put_packed(&sink, open_map, sizeof open_map);
    sink_close(&sink);
    w->fields_at = w->buf->len - 2;
}

void header_msgpack_put_str(struct header_writer *w, struct slice key, struct slice value)
{
    struct sink sink;

    if (value.len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
    } else if (sink_open(&sink, w, 2, key.len + value.len)) {
        put_str(&sink, key);
        put_str(&sink, value);
        sink_close(&sink);
    }
}

void header_msgpack_put_i64(struct header_writer *w, struct slice key, int64_t value)
{
    struct sink sink;

    if (sink_open(&sink, w, 2, key.len)) {
        put_str(&sink, key);
        (void)msgpack_pack_int64(&sink.packer, value); /* put_packed never fails */
        sink_close(&sink);
    }
}

void header_msgpack_put_bool(struct header_writer *w, struct slice key, bool value)
{
    struct sink sink;

    if (sink_open(&sink, w, 2, key.len)) {
        put_str(&sink, key);
        (void)(value ? msgpack_pack_true(&sink.packer) : msgpack_pack_false(&sink.packer));
        sink_close(&sink);
    }
}

void header_msgpack_end(struct header_writer *w)
{
    CHECK(w->field_count <= UINT16_MAX);
    put_be16(w->buf->ptr + w->fields_at, (uint16_t)w->field_count);
}
