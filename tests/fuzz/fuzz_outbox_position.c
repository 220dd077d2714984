/*
 * A position as the broker stored it. What is accepted has exactly these bytes, and its invariants
 * hold.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "outbox/position.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct position p;
    struct buf again;
    int rc;

    position_init(&p);
    rc = position_decode(&p, slice_of(data, size));
    CHECK(rc == 0 || rc == ESCROW_EPROTO || rc == ESCROW_EVERSION || rc == ESCROW_ELIMIT);
    if (rc == 0) {
        snapshot_check(&p.old);
        snapshot_check(&p.new);
        CHECK_IMPLIES(p.is_reading, snapshot_contains(&p.new, &p.old));
        CHECK(p.last_id <= p.last_order_id);
        buf_init(&again, 0);
        position_encode(&p, &again);
        CHECK(slice_eq(buf_slice(&again), slice_of(data, size)));
        buf_fini(&again);
    }
    position_fini(&p);
    return 0;
}
