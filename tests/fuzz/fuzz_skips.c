/*
 * SKIPPED payloads and the checkpoint section of them. What is accepted is the same bytes again
 * when written, and a list of ranges that holds what damage.h promises.
 */
#include "core/base/check.h"
#include "core/store/damage.h"
#include "core/store/queues.h"
#include "tests/lib/sim_disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_queue(struct queues *qs, const char *topic, uint32_t id, uint64_t entries)
{
    struct queue *q;
    uint64_t number;

    CHECK(queues_get(qs, slice_str(topic), id, &q) == 0);
    for (uint64_t i = 0; i < entries; i++) {
        struct queue_entry entry = {.offset = 8 * i, .size_bytes = 100};
        CHECK(queue_reserve(q, &number) == 0);
        CHECK(queues_put(qs, q, &entry) == number);
    }
}

static void check_payload(struct slice in)
{
    struct skip_payload skip;
    struct slice rest = in;
    struct buf again;
    int rc = skip_decode(&rest, &skip);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    if (rc != 0) {
        return;
    }
    buf_init(&again, 0);
    skip_encode(&again, &skip);
    CHECK(slice_eq(buf_slice(&again), slice_of(in.ptr, in.len - rest.len)));
    buf_fini(&again);
}

static void check_ranges(const struct skips *s)
{
    for (size_t i = 0; i < s->count; i++) {
        const struct skip *a = &s->list[i];
        CHECK(a->first < a->end && a->end <= a->queue->visible);
        CHECK(skips_allow(s, a->queue, a->first) && skips_allow(s, a->queue, a->end - 1));
        CHECK(!skips_allow(s, a->queue, a->end));
        for (size_t j = 0; j < i; j++) {
            const struct skip *b = &s->list[j];
            CHECK(a->queue != b->queue || a->end < b->first || b->end < a->first);
        }
    }
}

/* 1: accepted. */
static bool load(struct skips *s, const struct queues *qs, struct slice section)
{
    int rc = skips_load(s, qs, section, NULL);

    CHECK(rc == 0 || rc == ESCROW_ECORRUPT);
    check_ranges(s);
    return rc == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct queues_options options = {.disk = sim_disk_new()};
    struct skips skips = {.count = 0};
    struct skips again = {.count = 0};
    struct queues *qs;
    struct buf section;

    check_payload(slice_of(data, size));
    buf_init(&section, 0);
    CHECK(queues_new(&qs, &options) == 0);
    add_queue(qs, "T", 0, 10);
    add_queue(qs, "orders", 3, 5);
    if (load(&skips, qs, slice_of(data, size))) {
        skips_save(&skips, &section);
        CHECK(load(&again, qs, buf_slice(&section)));
        CHECK(again.count == skips.count);
    }
    skips_fini(&skips);
    skips_fini(&again);
    buf_fini(&section);
    queues_free(&qs);
    disk_free(&options.disk);
    return 0;
}
