/*
 * The checkpoint section "txn". Little-endian:
 *
 *   0 version u32 = 3 | 4 routes u32 | 8 halves u64 | 16 id key, two u64 | 32 wall clock i64, ms |
 *   routes: id u32, group length u8, group, topic length u8, topic |
 *   halves in log order, 56 bytes: id u64, u32 | not read, 4 bytes | offset u64 |
 *           store time << 16 | queue u64 (bit 15 of the queue, since version 2: held for a time) |
 *           size u32 | tag hash i32 | route u32 |
 *           checks u8, back-off step u8, expired u8, zero u8 | ms to the next check i64, -1 = none
 *           |
 *   decided: count u32, then 24 bytes each (decided.c)
 *   since version 3, names of their groups: count u32, then length u8 and name each
 *
 * Only what is durable and applied is in it. What is in flight lies behind the checkpoint's log
 * position and is read again.
 *
 * A million halves take 40 ms to write, so txn_save only leaves room for them, and txn_save_more
 * fills it, a bounded number in each turn of the loop, in log order. A record that is applied in
 * between and changes a half that was not written yet has its bytes kept first; they are written at
 * its place, instead of what it has become. So what a half is in the section is what it was when
 * txn_save was called. (When it is to be asked about next, and the back-off step, no record says:
 * they are as of when it was written or kept.) Halves that came later have higher offsets: the walk
 * ends before them.
 *
 * Failure modes: no memory to keep a half. The section is given up; nothing else notices.
 */
#include "txn/txn_private.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#define AT_OFFSET 16u /* in the bytes of a half */

static void save_routes(const struct routes *r, struct buf *out)
{
    for (uint32_t i = 0; i < r->route_cap; i++) {
        const struct route *route = r->routes[i];

        if (route == NULL) {
            continue;
        }
        buf_append_le32(out, route->id);
        buf_append_u8(out, (uint8_t)route->group->name_len);
        buf_append_slice(out, group_name(route->group));
        buf_append_u8(out, (uint8_t)route->topic_len);
        buf_append_slice(out, route_topic(route));
    }
}

/* The durable state of a half, 56 bytes. */
static void save_half(const struct txn *t, const struct half *half, int64_t now_ms, uint8_t *p)
{
    bool is_expired = half_durable_state(half) == HALF_EXPIRED;
    int64_t remaining = check_back_remaining_ms(&t->check_back, half, now_ms);

    if (remaining < 0 && !is_expired) {
        remaining = t->config.interval_ms; /* a decision is in flight; if it is lost, ask later */
    }
    put_le64(p, half->id_lo);
    put_le64(p + 8, half->id_hi);
    put_le64(p + 16, half->offset);
    put_le64(p + 24, half->store_queue);
    put_le32(p + 32, half->size_bytes);
    put_le32(p + 36, (uint32_t)half->tag_hash);
    put_le32(p + 40, half->route);
    p[44] = half->checks;
    p[45] = (uint8_t)half_step(half);
    p[46] = is_expired;
    p[47] = 0;
    put_le64(p + 48, (uint64_t)remaining);
}

/* ---- halves that changed before they were written -------------------------------------------- */

static uint64_t kept_offset(const struct txn_save *s, uint32_t i)
{
    return get_le64(s->kept.ptr + (size_t)i * TXN_SAVE_HALF_BYTES + AT_OFFSET);
}

/* One half may be kept more than once: expired, then decided. What it was first is what counts. */
static bool kept_before(void *owner, uint32_t a, uint32_t b)
{
    const struct txn_save *s = owner;
    uint64_t at_a = kept_offset(s, a);
    uint64_t at_b = kept_offset(s, b);

    return at_a != at_b ? at_a < at_b : a < b;
}

static void kept_placed(void *owner, uint32_t id, uint32_t place)
{
    (void)owner; /* only the first is ever taken out */
    (void)id;
    (void)place;
}

static const struct heap_ops kept_ops = {kept_before, kept_placed};

static void save_advance(const struct txn *t, struct txn_save *s)
{
    s->next = half_table_next(&t->table, s->next);
    if (s->next != NULL && s->next->offset > s->until) {
        s->next = NULL;
    }
}

void txn_save_keep(struct txn *t, const struct half *half)
{
    struct txn_save *s = &t->save;
    uint32_t id = (uint32_t)(s->kept.len / TXN_SAVE_HALF_BYTES);
    uint8_t *p;

    if (s->next == NULL || half->offset < s->next->offset || half->offset > s->until) {
        return; /* nothing is being saved, or it is written, or it came later */
    }
    if (half == s->next) {
        save_advance(t, s); /* it may be removed */
    }
    p = s->is_short ? NULL : buf_reserve(&s->kept, TXN_SAVE_HALF_BYTES);
    if (p == NULL || heap_reserve(&s->order, id + 1) != 0) {
        s->is_short = true;
        return;
    }
    save_half(t, half, s->now.mono_ms, p);
    buf_commit(&s->kept, TXN_SAVE_HALF_BYTES);
    heap_push(&s->order, id);
}

size_t txn_save_bytes(const struct txn *t)
{
    return t->save.is_open ? t->save.kept.cap + heap_bytes(&t->save.order) : 0;
}

/* ---- writing --------------------------------------------------------------------------------- */

void txn_save(struct txn *t, struct txn_now now, struct buf *out)
{
    struct txn_save *s = &t->save;

    CHECK(!s->is_open);
    buf_append_le32(out, TXN_SAVE_VERSION);
    buf_append_le32(out, t->table.routes.route_count);
    buf_append_le64(out, t->applied_count);
    buf_append_le64(out, t->id_key.k0);
    buf_append_le64(out, t->id_key.k1);
    buf_append_le64(out, (uint64_t)now.wall_ms);
    save_routes(&t->table.routes, out);
    *s = (struct txn_save){.now = now, .halves_at = out->len, .count = t->applied_count};
    if (s->count > 0 && buf_reserve(out, s->count * TXN_SAVE_HALF_BYTES) != NULL) {
        buf_commit(out, s->count * TXN_SAVE_HALF_BYTES);
    }
    s->decided_at = out->len;
    decided_save(&t->decided, out);
    group_names_save(&t->group_names, out);
}

/* The state of now is what will be written: nothing was applied since txn_save. */
static void save_open(struct txn *t, uint8_t *bytes)
{
    struct txn_save *s = &t->save;

    CHECK(s->count == t->applied_count);
    s->is_open = true;
    s->to = bytes + s->halves_at;
    s->end = s->to + s->count * TXN_SAVE_HALF_BYTES;
    s->until = t->applied_to;
    s->last = UINT64_MAX;
    s->next = s->count == 0 ? NULL : half_table_oldest(&t->table);
    buf_init(&s->kept, s->count * TXN_SAVE_HALF_BYTES); /* its limit */
    heap_init(&s->order, &kept_ops, s);
    decided_save_start(&t->decided, bytes + s->decided_at);
}

void txn_save_close(struct txn *t)
{
    struct txn_save *s = &t->save;

    if (s->is_open) {
        buf_fini(&s->kept);
        heap_fini(&s->order);
        decided_save_stop(&t->decided);
        *s = (struct txn_save){.is_open = false};
    }
}

/* The half of the lowest offset that was not written, as it was kept or as it is. */
static void save_lowest(struct txn *t)
{
    struct txn_save *s = &t->save;
    uint32_t id = heap_top(&s->order);
    uint64_t offset;

    if (id == HEAP_NONE || (s->next != NULL && s->next->offset < kept_offset(s, id))) {
        CHECK(s->next != NULL);
        CHECK(s->to < s->end);
        CHECK((s->next->flags & HALF_F_APPLIED) != 0);
        save_half(t, s->next, s->now.mono_ms, s->to);
        s->last = s->next->offset;
        s->to += TXN_SAVE_HALF_BYTES;
        save_advance(t, s);
        return;
    }
    offset = kept_offset(s, id);
    heap_remove(&s->order, 0);
    if (s->next != NULL && s->next->offset == offset) {
        save_advance(t, s);
    }
    if (offset != s->last) {
        CHECK(s->to < s->end);
        memcpy(s->to, s->kept.ptr + (size_t)id * TXN_SAVE_HALF_BYTES, TXN_SAVE_HALF_BYTES);
        s->last = offset;
        s->to += TXN_SAVE_HALF_BYTES;
    }
}

int txn_save_more(struct txn *t, uint8_t *bytes, uint32_t max)
{
    struct txn_save *s = &t->save;

    if (!s->is_open) {
        save_open(t, bytes);
    }
    while (max > 0 && !s->is_short && (s->next != NULL || heap_top(&s->order) != HEAP_NONE)) {
        save_lowest(t);
        max--;
    }
    if (s->is_short) {
        txn_save_close(t);
        return ESCROW_ENOMEM;
    }
    if (max == 0 || decided_save_more(&t->decided, max)) {
        return 1;
    }
    CHECK(s->to == s->end);
    txn_save_close(t);
    return 0;
}
