/*
 * Payloads of DECISION, RELEASE and CHECK records. What is accepted is the same bytes again when
 * written; of a DECISION but for its version.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "txn/decision.h"
#include "txn/release.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void decision(struct slice in, struct buf *again)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    uint32_t count = 0;
    int rc = decision_decode(in, &head, &iter);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    if (rc != 0) {
        return;
    }
    decision_encode_head(again, &head);
    while (decision_next(&iter, &entry)) {
        decision_encode_entry(again, head.kind, &entry);
        count++;
    }
    CHECK(count == head.count);
    CHECK(again->len == in.len);
    CHECK(memcmp(again->ptr + 1, in.ptr + 1, in.len - 1) == 0);
}

static void release(struct slice in, struct buf *again)
{
    struct release_head head;
    struct release_iter iter;
    struct release_entry entry;
    int rc = release_decode(in, &head, &iter);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    if (rc != 0) {
        return;
    }
    release_encode_head(again, &head);
    while (release_next(&iter, &entry)) {
        release_encode_entry(again, head.kind, &entry);
    }
    CHECK(slice_eq(buf_slice(again), in));
}

static void check(struct slice in, struct buf *again)
{
    struct check_iter iter;
    struct check_entry entry;
    uint32_t count = 0;
    int64_t at_ms = 0;
    int rc = check_decode(in, &count, &at_ms, &iter);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    if (rc != 0) {
        return;
    }
    check_encode_head(again, count, at_ms);
    while (check_next(&iter, &entry)) {
        check_encode_entry(again, &entry);
    }
    CHECK(slice_eq(buf_slice(again), in));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct buf again;

    buf_init(&again, 0);
    decision(slice_of(data, size), &again);
    buf_clear(&again);
    release(slice_of(data, size), &again);
    buf_clear(&again);
    check(slice_of(data, size), &again);
    buf_fini(&again);
    return 0;
}
