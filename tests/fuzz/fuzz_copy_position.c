/*
 * The position of a copied topic, as a broker hands it back. What is accepted is the same bytes
 * again when written, and holds what position.h promises.
 */
#include "core/base/check.h"
#include "escrow/errors.h"
#include "src/tools/copy/position.h"

#define NAME SLICE_LIT("n")

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_place(const struct copy_place *place)
{
    const struct copy_run *last = &place->runs[place->run_count - 1];
    int64_t end = place->start + copy_place_total(place);

    CHECK(copy_place_find(place, 0) == place->start);
    CHECK(copy_place_find(place, last->first + last->count) == end);
    CHECK(copy_place_find(place, last->first) == end - last->count);
    CHECK(copy_place_next(place) == last->first + last->count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct copy_position p = {.base = 0};
    struct buf again;
    int error = copy_position_decode(slice_of(data, size), NAME, &p);

    if (error != 0) {
        CHECK(error == ESCROW_EPROTO || error == ESCROW_EVERSION || error == ESCROW_EFOREIGN);
        CHECK(p.places == NULL);
        return 0;
    }
    for (size_t i = 0; i < p.place_count; i++) {
        CHECK(copy_position_find(&p, p.places[i].queue) == &p.places[i]);
        check_place(&p.places[i]);
    }
    buf_init(&again, 0);
    copy_position_encode(&again, NAME, &p);
    CHECK(slice_eq(buf_slice(&again), slice_of(data, size)));
    buf_fini(&again);
    copy_position_fini(&p);
    return 0;
}
