/*
 * The checkpoint section "timers". Little-endian:
 *
 *   0 version u32 = 1 | 4 topics u32 | 8 messages u64 |
 *   topics: id u32, length u8, 1..255, topic |
 *   messages, 40 bytes: offset u64 | due i64, ms since 1970 | store time << 16 | queue u64 |
 *           size u32 | tag hash i32 | topic u32 | undecided u8 | flags u8: 1 a delay, 2 a half |
 *           zero u16
 *
 * Only what is durable and applied is in it: a message whose RELEASE is in flight still waits here,
 * and the RELEASE lies behind the checkpoint's log position. Messages are in no order.
 *
 * A million of them take 29 ms to write, so timers_save only leaves room, and timers_save_more
 * fills it, a bounded number in each turn of the loop, walking the slab. A message that a record
 * changes before the walk has come to it is written first, as it was, and marked for the walk to
 * pass. One that is applied later has a higher offset than all that are in the section.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"
#include "txn/half.h"
#include "txn/timers_private.h"

#define SAVE_VERSION    1u
#define SAVE_HEAD_BYTES 16u
#define SAVE_HELD_BYTES 40u
#define SAVE_FLAGS      (HELD_F_RELATIVE | HELD_F_HALF)

static void save_topics(const struct routes *r, struct buf *out)
{
    for (uint32_t i = 0; i < r->route_cap; i++) {
        const struct route *route = r->routes[i];

        if (route != NULL) {
            buf_append_le32(out, route->id);
            buf_append_u8(out, (uint8_t)route->topic_len);
            buf_append_slice(out, route_topic(route));
        }
    }
}

static void save_held(const struct timers *t, const struct held *held, struct txn_now now,
                      uint8_t *p)
{
    bool is_undecided = held->state == HELD_UNDECIDED;
    bool is_steady = !is_undecided && timers_clock_of(held) == TIMERS_STEADY;

    put_le64(p, held->offset);
    put_le64(p + 8, (uint64_t)(held->due_ms + (is_steady ? timers_shift_ms(t, now) : 0)));
    put_le64(p + 16, held->store_queue);
    put_le32(p + 24, held->size_bytes);
    put_le32(p + 28, (uint32_t)held->tag_hash);
    put_le32(p + 32, held->route);
    p[36] = is_undecided;
    p[37] = held->flags & SAVE_FLAGS;
    put_le16(p + 38, 0);
}

void timers_save(struct timers *t, struct txn_now now, struct buf *out)
{
    struct timers_save *s = &t->save;

    CHECK(!s->is_open);
    *s = (struct timers_save){
        .now = now, .count = t->slab.used - t->by_state[HELD_APPENDING], .until = t->applied_to};
    buf_append_le32(out, SAVE_VERSION);
    buf_append_le32(out, t->topics.route_count);
    buf_append_le64(out, s->count);
    save_topics(&t->topics, out);
    s->held_at = out->len;
    if (s->count > 0 && buf_reserve(out, s->count * SAVE_HELD_BYTES) != NULL) {
        buf_commit(out, s->count * SAVE_HELD_BYTES);
    }
}

static bool save_has(const struct timers_save *s, const struct held *held)
{
    return held->state != HELD_APPENDING && held->offset <= s->until;
}

static void save_next(struct timers *t, const struct held *held)
{
    struct timers_save *s = &t->save;

    CHECK(s->written < s->count);
    save_held(t, held, s->now, s->bytes + s->held_at + s->written * SAVE_HELD_BYTES);
    s->written++;
}

void timers_save_keep(struct timers *t, uint32_t slot)
{
    struct timers_save *s = &t->save;
    struct held *held = timers_at(t, slot);

    if (!s->is_open || slot < s->cursor || !save_has(s, held) ||
        (held->flags & HELD_F_SAVED) != 0) {
        return;
    }
    save_next(t, held);
    held->flags |= HELD_F_SAVED;
}

void timers_save_stop(struct timers *t)
{
    uint32_t cursor = t->save.cursor;
    uint32_t slot;

    if (!t->save.is_open) {
        return;
    }
    while ((slot = slab_next(&t->slab, &cursor)) != SLAB_NONE) {
        timers_at(t, slot)->flags &= (uint8_t)~HELD_F_SAVED;
    }
    t->save.is_open = false;
}

int timers_save_more(struct timers *t, uint8_t *bytes, uint32_t max)
{
    struct timers_save *s = &t->save;

    s->is_open = true;
    s->bytes = bytes;
    for (; max > 0; max--) {
        uint32_t slot = slab_next(&t->slab, &s->cursor);
        struct held *held;
        if (slot == SLAB_NONE) {
            CHECK(s->written == s->count);
            s->is_open = false;
            return 0;
        }
        held = timers_at(t, slot);
        if ((held->flags & HELD_F_SAVED) != 0) {
            held->flags &= (uint8_t)~HELD_F_SAVED;
        } else if (save_has(s, held)) {
            save_next(t, held);
        }
    }
    return 1;
}

/* ---- and back -------------------------------------------------------------------------------- */

struct load {
    struct timers *t;
    struct slice rest;
    struct slice *topics; /* by the section's ids; empty = none */
};

static void load_skip(struct load *l, size_t n)
{
    l->rest = slice_of(l->rest.ptr + n, l->rest.len - n);
}

static int load_topics(struct load *l, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t id;
        size_t len;

        if (l->rest.len < 5) {
            return ESCROW_ECORRUPT;
        }
        id = get_le32(l->rest.ptr);
        len = l->rest.ptr[4];
        load_skip(l, 5);
        if (id >= ROUTES_MAX || l->topics[id].len > 0 || len < 1 || len > l->rest.len) {
            return ESCROW_ECORRUPT;
        }
        l->topics[id] = slice_of(l->rest.ptr, len);
        load_skip(l, len);
    }
    return 0;
}

static bool held_bytes_are_valid(const struct load *l, const uint8_t *p)
{
    uint32_t topic = get_le32(p + 32);
    bool is_half = (p[37] & HELD_F_HALF) != 0;

    return topic < ROUTES_MAX && l->topics[topic].len > 0 && p[36] <= 1 &&
           (p[37] & ~SAVE_FLAGS) == 0 && (p[36] == 0 || is_half) && get_le16(p + 38) == 0 &&
           timers_find(l->t, get_le64(p)) == SLAB_NONE;
}

static int load_held(struct load *l, const uint8_t *p)
{
    struct timer_info info = {
        .due_ms = (int64_t)get_le64(p + 8),
        .queue = (uint32_t)(get_le64(p + 16) & 0xFFFF),
        .store_ms = (int64_t)(get_le64(p + 16) >> 16),
        .size_bytes = get_le32(p + 24),
        .tag_hash = (int32_t)get_le32(p + 28),
        .is_relative = (p[37] & HELD_F_RELATIVE) != 0,
        .is_half = (p[37] & HELD_F_HALF) != 0,
    };
    uint32_t route;
    uint32_t slot;
    int rc;

    if (!held_bytes_are_valid(l, p)) {
        return ESCROW_ECORRUPT;
    }
    info.topic = l->topics[get_le32(p + 32)];
    if (!timers_info_is_valid(&info)) {
        return ESCROW_ECORRUPT;
    }
    rc = timers_reserve(l->t, info.topic, info.is_relative ? TIMERS_STEADY : TIMERS_WALL, &route);
    if (rc != 0) {
        return rc;
    }
    slot = timers_insert(l->t, &info, get_le64(p), route);
    l->t->applied_to = get_le64(p) > l->t->applied_to ? get_le64(p) : l->t->applied_to;
    if (p[36] == 1) {
        timers_move(l->t, timers_at(l->t, slot), HELD_UNDECIDED, "checkpoint");
    } else {
        timers_arm(l->t, slot, timers_at(l->t, slot)->due_ms, "checkpoint");
    }
    return 0;
}

static int load_all(struct load *l, uint32_t topics, uint64_t count)
{
    int rc = load_topics(l, topics);

    if (rc == 0 && (l->rest.len % SAVE_HELD_BYTES != 0 || l->rest.len / SAVE_HELD_BYTES != count)) {
        rc = ESCROW_ECORRUPT;
    }
    while (rc == 0 && l->rest.len > 0) {
        rc = load_held(l, l->rest.ptr);
        load_skip(l, SAVE_HELD_BYTES);
    }
    return rc;
}

int timers_load(struct timers *t, struct slice section, struct err_ctx *err)
{
    struct load l = {.t = t, .rest = section};
    const uint8_t *p = section.ptr;
    int rc;

    CHECK(t->slab.used == 0);
    if (section.len < SAVE_HEAD_BYTES) {
        return err_set(err, ESCROW_ECORRUPT, "held messages: section too short");
    }
    if (get_le32(p) != SAVE_VERSION) {
        return err_set(err, ESCROW_EVERSION, "held messages: version %u is not known",
                       (unsigned)get_le32(p));
    }
    l.topics = mem_calloc(ROUTES_MAX, sizeof *l.topics);
    if (l.topics == NULL) {
        return err_set(err, ESCROW_ENOMEM, "held messages: out of memory");
    }
    load_skip(&l, SAVE_HEAD_BYTES);
    rc = load_all(&l, get_le32(p + 4), get_le64(p + 8));
    mem_free(l.topics);
    if (rc != 0) {
        return err_set(err, rc, "held messages: section cannot be loaded, at byte %zu of %zu",
                       section.len - l.rest.len, section.len);
    }
    timers_dcheck(t);
    return 0;
}
