/* A SEND_BATCH body from a client. What is accepted is the same bytes again when written. */
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/proto/batch.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct slice in = slice_of(data, size);
    struct batch_iter iter = batch_begin(in);
    struct batch_item item;
    struct buf again;
    uint32_t count = 0;
    uint32_t items = 0;
    int error = batch_check(in, &count);

    CHECK(error == 0 || error == ESCROW_EPROTO || error == ESCROW_ETOOBIG);
    if (error != 0) {
        return 0;
    }
    buf_init(&again, 0);
    while (batch_next(&iter, &item) == 1) {
        size_t before = again.len;
        if (batch_append(&again, &item) == 0) {
            CHECK(again.len - before == batch_item_size(&item));
        }
        items++;
    }
    CHECK(items == count);
    CHECK(count <= BATCH_ITEMS_MAX);
    CHECK(again.len == in.len);
    buf_fini(&again);
    return 0;
}
