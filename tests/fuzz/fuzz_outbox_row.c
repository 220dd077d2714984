/*
 * Messages of a binary COPY, from the database: two length bytes, then that many, and so on. Rows
 * in order go through the batcher: every byte of a message that comes out was in the input.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/batcher.h"
#include "outbox/row.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct row_decoder decoder = {.has_header = false};
    struct batcher batcher;
    struct batch *batch;
    size_t out_bytes = 0;
    uint64_t seen_order_id = 0;
    uint64_t seen_id = 0;
    int rc = 0;

    batcher_init(&batcher, 3, 64);
    for (size_t at = 0; rc >= 0 && at + 2 <= size;) {
        size_t len = get_le16(data + at);
        struct outbox_row row;
        at += 2;
        len = len > size - at ? size - at : len;
        rc = row_decode(&decoder, slice_of(data + at, len), &row);
        CHECK(rc == 0 || rc == 1 || rc == ESCROW_EPROTO);
        if (rc == 1) {
            CHECK(row.id > 0);
            CHECK(row.order_id > 0);
            CHECK(row_size_bytes(&row) <= len);
            if (!row_follows(&row, seen_order_id, seen_id)) {
                break; /* the relay gives up here */
            }
            seen_order_id = row.order_id;
            seen_id = row.id;
            rc = batcher_put(&batcher, &row);
            CHECK(rc == 0 || rc == ESCROW_EPROTO);
        }
        at += len;
    }
    if (rc >= 0) {
        batcher_finish(&batcher);
    }
    while ((batch = batcher_take(&batcher)) != NULL) {
        out_bytes += batch->sink.size_bytes;
        CHECK(batch->sink.message_count > 0);
        CHECK(batch->sink.message_count <= 3);
        batch_free(batch);
    }
    CHECK(out_bytes <= size);
    batcher_fini(&batcher);
    return 0;
}
