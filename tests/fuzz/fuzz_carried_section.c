/*
 * The checkpoint section of held messages that were carried forward. What is accepted is a
 * consistent table that works: it is saved as it was, and takes new copies.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "txn/carried.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(struct carried *c, uint64_t at)
{
    uint64_t upto = c->upto;

    while (carried_first(c) != NULL) {
        uint64_t id = carried_first(c)->id;

        CHECK(carried_where(c, id) == carried_first(c)->at);
        carried_drop_first(c);
        CHECK(carried_where(c, id) == id);
    }
    if (upto < at) {
        CHECK(carried_put(c, upto, at, 1) == 0);
        CHECK(carried_where(c, upto) == at);
    }
    carried_check(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct carried c;
    struct buf again;
    int rc;

    carried_init(&c);
    rc = carried_load(&c, slice_of(data, size), NULL);
    CHECK(rc == 0 || rc == ESCROW_ECORRUPT || rc == ESCROW_EVERSION);
    if (rc == 0) {
        carried_check(&c);
        buf_init(&again, 0);
        carried_save(&c, &again);
        CHECK(slice_eq(buf_slice(&again), slice_of(data, size)));
        buf_fini(&again);
        use(&c, UINT64_MAX);
    }
    carried_fini(&c);
    return 0;
}
