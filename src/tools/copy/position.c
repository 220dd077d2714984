#include "src/tools/copy/position.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

#define POSITION_VERSION 2
#define NUMBER_BYTES_MAX 10

void copy_position_fini(struct copy_position *p)
{
    for (size_t i = 0; i < p->place_count; i++) {
        mem_free(p->places[i].runs);
    }
    mem_free(p->places);
    *p = (struct copy_position){.base = 0};
}

/* ---- writing ---- */

static int64_t run_end(const struct copy_run *run)
{
    return run->at + run->count;
}

static int64_t run_next(const struct copy_run *run)
{
    return run->first + run->span;
}

static void put_number(struct buf *out, int64_t number)
{
    uint64_t rest = (uint64_t)number;

    for (; rest >= 0x80; rest >>= 7) {
        buf_append_u8(out, (uint8_t)(rest | 0x80));
    }
    buf_append_u8(out, (uint8_t)rest);
}

static void put_place(struct buf *out, const struct copy_place *place)
{
    struct copy_run before = {.first = place->first};

    put_number(out, place->queue);
    put_number(out, place->first);
    put_number(out, place->next - place->first);
    put_number(out, place->last_ms);
    put_number(out, place->sure);
    put_number(out, place->end - place->sure);
    put_number(out, (int64_t)place->run_count);
    for (size_t i = 0; i < place->run_count; i++) {
        const struct copy_run *run = &place->runs[i];
        put_number(out, run->first - run_next(&before));
        put_number(out, run->span - 1);
        put_number(out, run->span - run->count);
        put_number(out, run->at - run_end(&before));
        before = *run;
    }
}

void copy_position_encode(struct buf *out, struct slice name, const struct copy_position *p)
{
    buf_append_u8(out, POSITION_VERSION);
    buf_append_le16(out, (uint16_t)name.len);
    buf_append_slice(out, name);
    buf_append_le32(out, p->base);
    buf_append_le16(out, (uint16_t)p->place_count);
    for (size_t i = 0; i < p->place_count; i++) {
        CHECK(p->places[i].next > p->places[i].first);
        put_place(out, &p->places[i]);
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

/* Only as it is written: no zeros on top. */
static bool take_any(struct slice *in, int64_t *out)
{
    uint64_t number = 0;

    for (size_t i = 0; i < NUMBER_BYTES_MAX; i++) {
        const uint8_t *at = take(in, 1);
        if (at == NULL || (i == NUMBER_BYTES_MAX - 1 && *at > 1) || (i > 0 && *at == 0)) {
            return false;
        }
        number |= (uint64_t)(*at & 0x7f) << (7 * i);
        if (*at < 0x80) {
            *out = (int64_t)number;
            return true;
        }
    }
    return false;
}

/* A number that can be added to `to`; the sum. */
static bool take_sum(struct slice *in, int64_t to, int64_t *out)
{
    int64_t number;

    if (!take_any(in, &number) || number < 0 || number > INT64_MAX - to) {
        return false;
    }
    *out = to + number;
    return true;
}

static int add_run(struct copy_place *place, const struct copy_run *run)
{
    if (place->run_count == place->run_cap) {
        size_t cap = place->run_cap > 0 ? 2 * place->run_cap : 2;
        struct copy_run *more = mem_realloc(place->runs, cap * sizeof *more);
        if (more == NULL) {
            return ESCROW_ENOMEM;
        }
        place->runs = more;
        place->run_cap = cap;
    }
    CHECK(place->runs != NULL);
    place->runs[place->run_count++] = *run;
    return 0;
}

/* Does the second go on where the first ends, in both queues? */
static bool is_one_run(const struct copy_run *first, const struct copy_run *second)
{
    return run_next(first) == second->first && run_end(first) == second->at &&
           first->span == first->count;
}

static int read_run(struct slice *in, struct copy_place *place)
{
    struct copy_run before = {.first = place->first};
    struct copy_run run;
    int64_t gaps = 0;

    if (place->run_count > 0) {
        before = place->runs[place->run_count - 1];
    }
    if (!take_sum(in, run_next(&before), &run.first) || !take_sum(in, 1, &run.span) ||
        !take_sum(in, 0, &gaps) || !take_sum(in, run_end(&before), &run.at) || gaps >= run.span ||
        run.span > place->next - run.first || run.span - gaps > place->end - run.at) {
        return ESCROW_EPROTO;
    }
    run.count = run.span - gaps;
    if (place->run_count > 0 && is_one_run(&before, &run) && run.span == run.count) {
        return ESCROW_EPROTO;
    }
    return add_run(place, &run);
}

static int read_place(struct slice *in, struct copy_position *p)
{
    struct copy_place read = {.queue = 0};
    struct copy_place *place;
    int64_t queue = 0;
    int64_t runs = 0;
    int rc = 0;

    if (!take_sum(in, 0, &queue) || !take_sum(in, 0, &read.first) ||
        !take_sum(in, read.first, &read.next) || !take_any(in, &read.last_ms) ||
        !take_sum(in, 0, &read.sure) || !take_sum(in, read.sure, &read.end) ||
        !take_sum(in, 0, &runs) || queue >= QUEUES_PER_TOPIC_MAX || read.next == read.first ||
        (p->place_count > 0 && p->places[p->place_count - 1].queue >= (uint32_t)queue)) {
        return ESCROW_EPROTO;
    }
    read.queue = (uint32_t)queue;
    place = copy_position_add(p, read.queue, 0);
    if (place == NULL) {
        return ESCROW_ENOMEM;
    }
    *place = read;
    for (int64_t i = 0; rc == 0 && i < runs; i++) {
        rc = read_run(in, place);
    }
    return rc;
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
    p->places[at] = (struct copy_place){.queue = queue, .sure = start, .end = start};
    p->place_count++;
    return &p->places[at];
}

int copy_place_add(struct copy_place *place, int64_t old_offset)
{
    const struct copy_run one = {old_offset, 1, 1, place->end};
    struct copy_run *last = place->run_count > 0 ? &place->runs[place->run_count - 1] : NULL;
    int rc = 0;

    CHECK(old_offset >= place->next);
    if (last != NULL && is_one_run(last, &one)) {
        last->span++;
        last->count++;
    } else {
        rc = add_run(place, &one);
    }
    if (rc == 0) {
        place->first = place->next == 0 ? old_offset : place->first;
        place->next = old_offset + 1;
        place->end++;
    }
    return rc;
}

/* Forget where messages lie at a new offset and behind it. */
static void forget_from(struct copy_place *place, int64_t at)
{
    struct copy_run *last;

    while (place->run_count > 0 && place->runs[place->run_count - 1].at >= at) {
        place->run_count--;
    }
    if (place->run_count == 0) {
        return;
    }
    last = &place->runs[place->run_count - 1];
    if (run_end(last) <= at) {
        return;
    }
    if (last->span > last->count) {
        place->run_count--; /* which of its old offsets would stay is not known */
        return;
    }
    last->span = last->count = at - last->at;
}

void copy_place_look(struct copy_place *place, int64_t max)
{
    if (max != place->end) {
        forget_from(place, place->sure < max ? place->sure : max);
        place->end = max;
    }
    place->sure = max;
}

/* ---- fewer runs ---- */

/* Of the first half, runs that lie together in the new queue become one. */
static bool join_runs(struct copy_place *place)
{
    size_t half = place->run_count / 2 + 1;
    size_t kept = 0;

    for (size_t i = 1; i < place->run_count; i++) {
        struct copy_run *last = &place->runs[kept];
        const struct copy_run *run = &place->runs[i];
        if (i < half && run_end(last) == run->at) {
            last->span = run_next(run) - last->first;
            last->count += run->count;
        } else {
            place->runs[++kept] = *run;
        }
    }
    if (kept + 1 == place->run_count) {
        return false;
    }
    place->run_count = kept + 1;
    return true;
}

static void drop_runs(struct copy_place *place)
{
    size_t gone = place->run_count / 2;

    place->run_count -= gone;
    memmove(place->runs, place->runs + gone, place->run_count * sizeof *place->runs);
}

bool copy_position_shrink(struct copy_position *p)
{
    struct copy_place *most = NULL;

    for (size_t i = 0; i < p->place_count; i++) {
        if (most == NULL || p->places[i].run_count > most->run_count) {
            most = &p->places[i];
        }
    }
    if (most == NULL || most->run_count < 2) {
        return false;
    }
    if (!join_runs(most)) {
        drop_runs(most);
    }
    return true;
}

/* ---- what old offsets are now ---- */

int64_t copy_place_find(const struct copy_place *place, int64_t from, int64_t old_offset,
                        bool skip_others)
{
    int64_t old = old_offset > place->first ? old_offset : place->first;
    int64_t at = from;

    for (size_t i = 0; i < place->run_count; i++) {
        const struct copy_run *run = &place->runs[i];
        if (at >= run_end(run)) {
            continue;
        }
        if (at < run->at) { /* others', or forgotten ones of ours: those are below run->first */
            if (!skip_others || old < run->first) {
                return at;
            }
            at = run->at;
        }
        if (old < run_next(run)) {
            int64_t offset = old > run->first && run->span == run->count
                                 ? run->at + (old - run->first)
                                 : run->at;
            return offset > at ? offset : at;
        }
        at = run_end(run);
    }
    return skip_others && old >= place->next && at < place->end ? place->end : at;
}

int64_t copy_place_count(const struct copy_place *place, int64_t old_offset, int64_t from,
                         int64_t to)
{
    int64_t count = 0;

    for (size_t i = 0; i < place->run_count; i++) {
        const struct copy_run *run = &place->runs[i];
        int64_t low = run->at;
        int64_t high = run_end(run) < to ? run_end(run) : to;
        if (old_offset >= run_next(run)) {
            continue;
        }
        if (old_offset > run->first && run->span == run->count) {
            low += old_offset - run->first;
        }
        low = low > from ? low : from;
        count += high > low ? high - low : 0;
    }
    return count;
}

int64_t copy_place_again(const struct copy_place *place, int64_t old_offset, int64_t from)
{
    int64_t old = place->first; /* what lies below it has been counted */
    int64_t count = 0;

    for (size_t i = 0; i <= place->run_count; i++) {
        const struct copy_run end = {.first = place->next, .at = place->end};
        const struct copy_run *run = i < place->run_count ? &place->runs[i] : &end;
        int64_t top = old_offset < run->first ? old_offset : run->first;
        int64_t before = i > 0 ? run_end(&place->runs[i - 1]) : 0;
        if (run->at > before && run->at > from && top > old) {
            count += top - old; /* forgotten: somewhere in [before, run->at) */
        }
        if (old_offset > run->first && run_end(run) > from) {
            int64_t low = run->at > from ? run->at : from;
            int64_t high = run_end(run);
            if (old_offset < run_next(run) && run->span == run->count) {
                high = run->at + (old_offset - run->first);
            }
            count += high > low ? high - low : 0;
        }
        old = run_next(run);
    }
    return count;
}
