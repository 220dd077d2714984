/*
 * The writing half of header.h. The frame goes straight into the caller's buf with both lengths
 * left open; header_end patches the header's, header_frame_end the frame's. Errors are remembered,
 * in the writer or in the buf, until header_frame_end, which then cuts the buf back to where the
 * frame began.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/proto/header.h"
#include "core/proto/header_json.h"
#include "core/proto/header_msgpack.h"
#include "core/proto/header_private.h"
#include "core/proto/header_rocketmq.h"
#include "escrow/errors.h"

void header_begin(struct header_writer *w, struct buf *out, enum header_type type,
                  const struct header_out *head)
{
    uint8_t *prefix;

    CHECK((unsigned)type < HEADER_TYPE_COUNT);
    *w = (struct header_writer){
        .buf = out, .type = type, .head = *head, .start = out->len, .is_open = true};
    if (buf_failed(out)) {
        w->error = ESCROW_ENOMEM; /* somebody else's failure, which stays theirs to see */
        return;
    }
    prefix = buf_reserve(out, FRAME_PREFIX_BYTES);
    if (prefix == NULL) {
        return;
    }
    memset(prefix, 0, FRAME_PREFIX_BYTES);
    buf_commit(out, FRAME_PREFIX_BYTES);
    switch (type) {
    case HEADER_JSON:
        header_json_begin(w);
        break;
    case HEADER_ROCKETMQ:
        header_rocketmq_begin(w);
        break;
    case HEADER_MSGPACK:
        header_msgpack_begin(w);
        break;
    }
}

/* May another field be written? Counts it. */
static bool one_more(struct header_writer *w)
{
    CHECK(w->is_open);
    if (w->error != 0 || buf_failed(w->buf)) {
        return false;
    }
    if (w->field_count == HEADER_FIELDS_MAX) {
        w->error = ESCROW_ETOOBIG;
        return false;
    }
    w->field_count++;
    return true;
}

void header_put_slice(struct header_writer *w, struct slice key, struct slice value)
{
    if (!one_more(w)) {
        return;
    }
    switch (w->type) {
    case HEADER_JSON:
        header_json_put(w, key, value);
        break;
    case HEADER_ROCKETMQ:
        header_rocketmq_put(w, key, value);
        break;
    case HEADER_MSGPACK:
        header_msgpack_put_str(w, key, value);
        break;
    }
}

void header_put_number(struct header_writer *w, struct slice key, int64_t value)
{
    if (w->type != HEADER_MSGPACK) {
        uint8_t text[HEADER_NUMBER_TEXT_MAX];
        header_put_slice(w, key, slice_of(text, header_number_text(value, text)));
    } else if (one_more(w)) {
        header_msgpack_put_i64(w, key, value);
    }
}

void header_put_truth(struct header_writer *w, struct slice key, bool value)
{
    if (w->type != HEADER_MSGPACK) {
        header_put_slice(w, key, value ? SLICE_LIT("true") : SLICE_LIT("false"));
    } else if (one_more(w)) {
        header_msgpack_put_bool(w, key, value);
    }
}

void header_end(struct header_writer *w)
{
    size_t len;

    CHECK(w->is_open);
    w->is_open = false;
    if (w->error != 0 || buf_failed(w->buf)) {
        return;
    }
    switch (w->type) {
    case HEADER_JSON:
        header_json_end(w);
        break;
    case HEADER_ROCKETMQ:
        header_rocketmq_end(w);
        break;
    case HEADER_MSGPACK:
        header_msgpack_end(w);
        break;
    }
    if (buf_failed(w->buf)) {
        return;
    }
    len = w->buf->len - w->start - FRAME_PREFIX_BYTES;
    if (len > HEADER_SIZE_MAX) {
        w->error = ESCROW_ETOOBIG;
        return;
    }
    put_be32(w->buf->ptr + w->start + 4, (uint32_t)w->type << 24 | (uint32_t)len);
}

int header_frame_end(struct header_writer *w, size_t body_follows)
{
    struct buf *out = w->buf;
    int error = w->error;
    size_t size;

    CHECK(!w->is_open);
    if (error == 0 && buf_failed(out)) {
        error = ESCROW_ENOMEM;
        out->failed = false; /* it failed on this frame, which is now taken out */
    }
    size = out->len - w->start;
    if (error == 0 && (body_follows > FRAME_SIZE_MAX || size > FRAME_SIZE_MAX - body_follows)) {
        error = ESCROW_ETOOBIG;
    }
    if (error != 0) {
        out->len = w->start;
        return error;
    }
    put_be32(out->ptr + w->start, (uint32_t)(size + body_follows - 4));
    return 0;
}

int header_encode(struct buf *out, enum header_type type, const struct header_out *head,
                  struct slice body)
{
    struct header_writer w;

    header_begin(&w, out, type, head);
    header_end(&w);
    buf_append_slice(out, body);
    return header_frame_end(&w, 0);
}
