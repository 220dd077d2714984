/*
 * The file in which a broadcast consumer keeps its offsets. What is accepted is the same table when
 * it was written and read again.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "src/client/local_offsets.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void table_init(struct local_offsets *o)
{
    *o = (struct local_offsets){.is_dirty = false};
    strmap_init(&o->rows, (struct hash_key){1, 2});
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct local_offsets o;
    struct local_offsets again;
    struct buf text;
    int error;

    table_init(&o);
    table_init(&again);
    buf_init(&text, 0);
    error = local_offsets_decode(&o, slice_of(data, size));
    CHECK(error == 0 || error == ESCROW_ECORRUPT || error == ESCROW_ENOMEM);
    CHECK(o.rows.count <= LOCAL_OFFSETS_MAX);
    if (error == 0) {
        local_offsets_encode(&o, &text);
        CHECK(!buf_failed(&text));
        CHECK(local_offsets_decode(&again, buf_slice(&text)) == 0);
        CHECK(again.rows.count == o.rows.count);
    }
    buf_fini(&text);
    local_offsets_close(&again);
    local_offsets_close(&o);
    return 0;
}
