#include "src/tools/copy/position.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define POSITION_VERSION 1
#define PLACE_SIZE       (4 + 1 + 8 + 8 + 2)
#define RUN_SIZE         (8 + 8)

void copy_position_fini(struct copy_position *p)
{
    mem_free(p->places);
    *p = (struct copy_position){.base = 0};
}

void copy_position_encode(struct buf *out, struct slice name, const struct copy_position *p)
{
    buf_append_u8(out, POSITION_VERSION);
    buf_append_le16(out, (uint16_t)name.len);
    buf_append_slice(out, name);
    buf_append_le32(out, p->base);
    buf_append_le16(out, (uint16_t)p->place_count);
    for (size_t i = 0; i < p->place_count; i++) {
        const struct copy_place *place = &p->places[i];
        CHECK(place->run_count > 0);
        buf_append_le32(out, place->queue);
        buf_append_u8(out, (uint8_t)place->state);
        buf_append_le64(out, (uint64_t)place->start);
        buf_append_le64(out, (uint64_t)place->last_ms);
        buf_append_le16(out, (uint16_t)place->run_count);
        for (size_t r = 0; r < place->run_count; r++) {
            buf_append_le64(out, (uint64_t)place->runs[r].first);
            buf_append_le64(out, (uint64_t)place->runs[r].count);
        }
    }
}

/* ---- reading ---- */

static const uint8_t *take(struct slice *in, size_t len)
{
    const uint8_t *at = in->ptr;

    if (in->len < len) {
        return NULL;
    }
    *in = slice_of(at + len, in->len - len);
    return at;
}

static int read_runs(struct slice *in, struct copy_place *place, size_t count)
{
    int64_t total = 0;

    for (size_t r = 0; r < count; r++) {
        const uint8_t *at = take(in, RUN_SIZE);
        struct copy_run run;
        if (at == NULL) {
            return ESCROW_EPROTO;
        }
        run.first = (int64_t)get_le64(at);
        run.count = (int64_t)get_le64(at + 8);
        if (run.first < 0 || run.count < 1 || run.count > INT64_MAX - run.first ||
            (r > 0 && run.first <= copy_place_next(place)) || run.count > INT64_MAX - total) {
            return ESCROW_EPROTO;
        }
        total += run.count;
        place->runs[place->run_count++] = run;
    }
    return total > INT64_MAX - place->start ? ESCROW_EPROTO : 0;
}

static int read_place(struct slice *in, struct copy_position *p)
{
    const uint8_t *at = take(in, PLACE_SIZE);
    struct copy_place *place;
    uint32_t queue;
    int64_t start;
    size_t runs;

    if (at == NULL) {
        return ESCROW_EPROTO;
    }
    queue = get_le32(at);
    start = (int64_t)get_le64(at + 5);
    runs = get_le16(at + 21);
    if (queue >= QUEUES_PER_TOPIC_MAX || at[4] > COPY_MIXED || start < 0 || runs < 1 ||
        runs > COPY_RUNS_MAX ||
        (p->place_count > 0 && p->places[p->place_count - 1].queue >= queue)) {
        return ESCROW_EPROTO;
    }
    place = copy_position_add(p, queue, start);
    if (place == NULL) {
        return ESCROW_ENOMEM;
    }
    place->state = (enum copy_state)at[4];
    place->last_ms = (int64_t)get_le64(at + 13);
    return read_runs(in, place, runs);
}

/* Version and name; what is behind them stays in *in. */
static int read_head(struct slice *in, struct slice name)
{
    const uint8_t *at = take(in, 3);
    size_t len;

    if (at == NULL) {
        return ESCROW_EPROTO;
    }
    if (at[0] != POSITION_VERSION) {
        return ESCROW_EVERSION;
    }
    len = get_le16(at + 1);
    at = take(in, len);
    if (at == NULL) {
        return ESCROW_EPROTO;
    }
    return slice_eq(slice_of(at, len), name) ? 0 : ESCROW_EFOREIGN;
}

int copy_position_decode(struct slice in, struct slice name, struct copy_position *p)
{
    const uint8_t *at;
    size_t count;
    int rc = read_head(&in, name);

    if (rc != 0) {
        return rc;
    }
    at = take(&in, 6);
    if (at == NULL || get_le32(at) >= QUEUES_PER_TOPIC_MAX) {
        return ESCROW_EPROTO;
    }
    p->base = get_le32(at);
    count = get_le16(at + 4);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = read_place(&in, p);
    }
    if (rc == 0 && in.len != 0) {
        rc = ESCROW_EPROTO;
    }
    if (rc != 0) {
        copy_position_fini(p);
    }
    return rc;
}

/* ---- places ---- */

struct copy_place *copy_position_find(const struct copy_position *p, uint32_t queue)
{
    for (size_t i = 0; i < p->place_count; i++) {
        if (p->places[i].queue == queue) {
            return &p->places[i];
        }
    }
    return NULL;
}

struct copy_place *copy_position_add(struct copy_position *p, uint32_t queue, int64_t start)
{
    size_t at = p->place_count;

    if (p->place_count == p->place_cap) {
        size_t cap = p->place_cap > 0 ? 2 * p->place_cap : 8;
        struct copy_place *more = mem_realloc(p->places, cap * sizeof *more);
        if (more == NULL) {
            return NULL;
        }
        p->places = more;
        p->place_cap = cap;
    }
    for (; at > 0 && p->places[at - 1].queue > queue; at--) {
        p->places[at] = p->places[at - 1];
    }
    CHECK(at == 0 || p->places[at - 1].queue != queue);
    p->places[at] = (struct copy_place){.queue = queue, .state = COPY_OPEN, .start = start};
    p->place_count++;
    return &p->places[at];
}

int copy_place_add(struct copy_place *place, int64_t old_offset)
{
    CHECK(old_offset >= copy_place_next(place));
    if (place->run_count > 0 && old_offset == copy_place_next(place)) {
        place->runs[place->run_count - 1].count++;
        return 0;
    }
    if (place->run_count == COPY_RUNS_MAX) {
        return ESCROW_ELIMIT;
    }
    place->runs[place->run_count++] = (struct copy_run){old_offset, 1};
    return 0;
}

int64_t copy_place_next(const struct copy_place *place)
{
    const struct copy_run *last;

    if (place->run_count == 0) {
        return 0;
    }
    last = &place->runs[place->run_count - 1];
    return last->first + last->count;
}

int64_t copy_place_total(const struct copy_place *place)
{
    int64_t total = 0;

    for (size_t r = 0; r < place->run_count; r++) {
        total += place->runs[r].count;
    }
    return total;
}

int64_t copy_place_find(const struct copy_place *place, int64_t old_offset)
{
    int64_t at = place->start;

    for (size_t r = 0; r < place->run_count; r++) {
        const struct copy_run *run = &place->runs[r];
        if (old_offset <= run->first) {
            break;
        }
        if (old_offset - run->first < run->count) {
            return at + (old_offset - run->first);
        }
        at += run->count;
    }
    return at;
}
