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
    int64_t all = copy_place_count(place, 0, 0, INT64_MAX);
    int64_t last = copy_place_find(place, 0, place->next, true);

    CHECK(place->first < place->next && place->sure <= place->end);
    CHECK(all >= 0 && all <= place->end && all <= place->next - place->first);
    CHECK(last <= place->end && copy_place_find(place, 0, place->next, false) <= last);
    CHECK(copy_place_count(place, place->next, 0, INT64_MAX) == 0);
    CHECK(copy_place_again(place, place->first, 0) == 0);
    CHECK(copy_place_again(place, place->next, 0) >= all);
    for (size_t i = 0; i < place->run_count; i++) {
        const struct copy_run *run = &place->runs[i];
        CHECK(run->count > 0 && run->span >= run->count);
        CHECK(run->first >= place->first && run->first + run->span <= place->next);
        CHECK(run->at >= 0 && run->at + run->count <= place->end);
        CHECK(copy_place_find(place, run->at, run->first, false) == run->at);
    }
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
    while (copy_position_shrink(&p)) {
    }
    for (size_t i = 0; i < p.place_count; i++) {
        CHECK(p.places[i].run_count <= 1);
        copy_place_look(&p.places[i], p.places[i].end);
        check_place(&p.places[i]);
    }
    copy_position_fini(&p);
    return 0;
}
