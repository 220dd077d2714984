/*
 * The receipt handle with which a consumer acknowledges a popped message. What is accepted is
 * within bounds, and written again it is the same handle.
 */
#include "core/base/check.h"
#include "core/proto/pop_info.h"
#include "escrow/errors.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_again(const struct pop_handle *handle)
{
    struct pop_handle again;
    struct buf out;

    buf_init(&out, 0);
    pop_handle_encode(&out, handle);
    CHECK(!buf_failed(&out));
    CHECK(pop_handle_decode(buf_slice(&out), &again) == 0);
    CHECK(again.start_offset == handle->start_offset && again.offset == handle->offset);
    CHECK(again.pop_ms == handle->pop_ms && again.invisible_ms == handle->invisible_ms);
    CHECK(again.revive_queue == handle->revive_queue && again.queue_id == handle->queue_id);
    CHECK(again.kind == handle->kind);
    CHECK(slice_eq(again.broker_name, handle->broker_name));
    buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct pop_handle handle;
    int error = pop_handle_decode(slice_of(data, size), &handle);

    CHECK(error == 0 || error == ESCROW_EINVAL);
    if (error == 0) {
        CHECK(handle.start_offset >= 0 && handle.pop_ms >= 0 && handle.invisible_ms >= 0);
        CHECK(handle.revive_queue >= 0 && handle.kind >= 0);
        CHECK(handle.queue_id >= 0 && handle.offset >= 0);
        CHECK(handle.broker_name.len > 0);
        CHECK(handle.broker_name.ptr >= data);
        CHECK(handle.broker_name.ptr + handle.broker_name.len <= data + size);
        if (memchr(handle.broker_name.ptr, 0, handle.broker_name.len) == NULL) {
            check_again(&handle);
        }
    }
    return 0;
}
