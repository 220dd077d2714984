/*
 * The text of a snapshot, from the database. What is accepted prints as something that reads as the
 * same.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct snapshot s;
    struct snapshot again;
    struct buf text;
    int rc;

    snapshot_init(&s);
    snapshot_init(&again);
    rc = snapshot_parse(&s, slice_of(data, size));
    CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_ELIMIT);
    snapshot_check(&s);
    buf_init(&text, 0);
    snapshot_format(&s, &text);
    CHECK(snapshot_parse(&again, buf_slice(&text)) == 0);
    CHECK(snapshot_equal(&s, &again));
    buf_fini(&text);
    snapshot_fini(&s);
    snapshot_fini(&again);
    return 0;
}
