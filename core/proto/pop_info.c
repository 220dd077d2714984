#include "core/proto/pop_info.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <inttypes.h>
#include <string.h>

#define HANDLE_WORDS 8

void pop_handle_encode(struct buf *out, const struct pop_handle *handle)
{
    buf_append_fmt(out,
                   "%" PRId64 " %" PRId64 " %" PRId64 " %" PRId32 " %" PRId32 " %.*s %" PRId32
                   " %" PRId64,
                   handle->start_offset, handle->pop_ms, handle->invisible_ms, handle->revive_queue,
                   handle->kind, SLICE_ARGS(handle->broker_name), handle->queue_id, handle->offset);
}

/* false: more or fewer words than HANDLE_WORDS, or an empty one. */
static bool split(struct slice text, struct slice words[HANDLE_WORDS])
{
    size_t count = 0;

    while (count < HANDLE_WORDS && text.len > 0) {
        const uint8_t *blank = memchr(text.ptr, ' ', text.len);
        size_t len = blank == NULL ? text.len : (size_t)(blank - text.ptr);
        if (len == 0) {
            return false;
        }
        words[count++] = slice_of(text.ptr, len);
        len += blank == NULL ? 0 : 1;
        text = slice_of(text.ptr + len, text.len - len);
    }
    return count == HANDLE_WORDS && text.len == 0;
}

int pop_handle_decode(struct slice text, struct pop_handle *handle)
{
    struct slice w[HANDLE_WORDS];

    if (!split(text, w) || !slice_to_i64(w[0], &handle->start_offset) ||
        !slice_to_i64(w[1], &handle->pop_ms) || !slice_to_i64(w[2], &handle->invisible_ms) ||
        !slice_to_i32(w[3], &handle->revive_queue) || !slice_to_i32(w[4], &handle->kind) ||
        !slice_to_i32(w[6], &handle->queue_id) || !slice_to_i64(w[7], &handle->offset)) {
        return ESCROW_EINVAL;
    }
    handle->broker_name = w[5];
    return handle->start_offset < 0 || handle->pop_ms < 0 || handle->invisible_ms < 0 ||
                   handle->revive_queue < 0 || handle->kind < 0 || handle->queue_id < 0 ||
                   handle->offset < 0
               ? ESCROW_EINVAL
               : 0;
}

void pop_info_add(struct buf *start_info, struct buf *offset_info, int32_t queue_id,
                  const int64_t *offsets, size_t count)
{
    int64_t start;

    CHECK(count > 0);
    start = offsets[0];
    buf_append_fmt(offset_info, "%s%d %" PRId32 " ", offset_info->len > 0 ? ";" : "",
                   POP_KIND_TOPIC, queue_id);
    for (size_t i = 0; i < count; i++) {
        buf_append_fmt(offset_info, "%s%" PRId64, i > 0 ? "," : "", offsets[i]);
        start = offsets[i] < start ? offsets[i] : start;
    }
    buf_append_fmt(start_info, "%s%d %" PRId32 " %" PRId64, start_info->len > 0 ? ";" : "",
                   POP_KIND_TOPIC, queue_id, start);
}

void pop_info_add_counts(struct buf *count_info, int32_t queue_id, const int64_t *offsets,
                         const int32_t *retries, size_t count)
{
    int32_t lowest = INT32_MAX;

    CHECK(count > 0);
    for (size_t i = 0; i < count; i++) {
        lowest = retries[i] < lowest ? retries[i] : lowest;
        if (retries[i] > 0) {
            buf_append_fmt(count_info, "%s%d qo%" PRId32 "%%%" PRId64 " %" PRId32,
                           count_info->len > 0 ? ";" : "", POP_KIND_TOPIC, queue_id, offsets[i],
                           retries[i]);
        }
    }
    buf_append_fmt(count_info, "%s%d %" PRId32 " %" PRId32, count_info->len > 0 ? ";" : "",
                   POP_KIND_TOPIC, queue_id, lowest);
}
