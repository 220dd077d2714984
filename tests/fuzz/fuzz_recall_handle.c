/*
 * The handle with which a producer takes a timed message back. What is accepted can be written
 * again, and is then the same handle.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "src/broker/recall_handle.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A zero byte would make the same handle as the text before it. */
static bool is_text(struct slice s)
{
    return memchr(s.ptr, 0, s.len) == NULL;
}

static void check_again(const struct recall_handle *handle)
{
    uint8_t scratch[RECALL_TEXT_MAX];
    char text[RECALL_HANDLE_MAX];
    struct recall_handle again;
    size_t len;

    CHECK(is_text(handle->topic) && is_text(handle->broker) && is_text(handle->message_id));
    len = recall_handle_encode(handle, text);
    if (len == 0) { /* only for its length: decoding takes a byte more */
        CHECK(handle->topic.len + handle->broker.len + handle->message_id.len > 400);
        return;
    }
    CHECK(len <= sizeof text);
    CHECK(recall_handle_decode(slice_of(text, len), scratch, &again) == 0);
    CHECK(slice_eq(again.topic, handle->topic));
    CHECK(slice_eq(again.broker, handle->broker));
    CHECK(slice_eq(again.message_id, handle->message_id));
    CHECK(again.due_ms == handle->due_ms && again.offset == handle->offset);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t scratch[RECALL_TEXT_MAX];
    struct recall_handle handle;
    int error = recall_handle_decode(slice_of(data, size), scratch, &handle);

    CHECK(error == 0 || error == ESCROW_EINVAL);
    if (error == 0) {
        CHECK(handle.topic.len > 0 && handle.broker.len > 0 && handle.message_id.len > 0);
        CHECK(handle.message_id.ptr + handle.message_id.len <= scratch + sizeof scratch);
        check_again(&handle);
    }
    return 0;
}
