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
 */
#include "txn/txn_private.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <inttypes.h>

#define SAVE_VERSION    3u
#define SAVE_HEAD_BYTES 40u
#define SAVE_HALF_BYTES 56u

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

void txn_save(const struct txn *t, struct txn_now now, struct buf *out)
{
    size_t applied = 0;

    for (const struct half *h = half_table_oldest(&t->table); h != NULL;
         h = half_table_next(&t->table, h)) {
        applied += (h->flags & HALF_F_APPLIED) != 0;
    }
    buf_append_le32(out, SAVE_VERSION);
    buf_append_le32(out, t->table.routes.route_count);
    buf_append_le64(out, applied);
    buf_append_le64(out, t->id_key.k0);
    buf_append_le64(out, t->id_key.k1);
    buf_append_le64(out, (uint64_t)now.wall_ms);
    save_routes(&t->table.routes, out);
    if (applied > 0) {
        uint8_t *p = buf_reserve(out, applied * SAVE_HALF_BYTES);

        if (p == NULL) {
            return;
        }
        for (const struct half *h = half_table_oldest(&t->table); h != NULL;
             h = half_table_next(&t->table, h)) {
            if ((h->flags & HALF_F_APPLIED) != 0) {
                save_half(t, h, now.mono_ms, p);
                p += SAVE_HALF_BYTES;
            }
        }
        buf_commit(out, applied * SAVE_HALF_BYTES);
    }
    decided_save(&t->decided, out);
    group_names_save(&t->group_names, out);
}

/* ---- and back -------------------------------------------------------------------------------- */

struct load {
    struct txn *t;
    struct txn_now now;
    struct slice rest;
    uint32_t version;
    int64_t elapsed_ms;   /* wall clock since the section was written; never negative */
    uint32_t *route_ids;  /* from the section's ids to ours */
    uint32_t route_count; /* of route_ids */
};

static void load_skip(struct load *l, size_t n)
{
    l->rest = slice_of(l->rest.ptr + n, l->rest.len - n);
}

/* A length byte and that much text, 1 to max. */
static bool load_text(struct load *l, size_t max, struct slice *text)
{
    size_t len;

    if (l->rest.len < 1) {
        return false;
    }
    len = l->rest.ptr[0];
    load_skip(l, 1);
    if (len < 1 || len > max || len > l->rest.len) {
        return false;
    }
    *text = slice_of(l->rest.ptr, len);
    load_skip(l, len);
    return true;
}

static int load_routes(struct load *l, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct slice group;
        struct slice topic;
        uint32_t id;
        int rc;

        if (l->rest.len < 4) {
            return ESCROW_ECORRUPT;
        }
        id = get_le32(l->rest.ptr);
        load_skip(l, 4);
        if (id >= l->route_count || l->route_ids[id] != UINT32_MAX ||
            !load_text(l, GROUP_LEN_MAX, &group) || !load_text(l, TOPIC_LEN_MAX, &topic)) {
            return ESCROW_ECORRUPT;
        }
        rc = routes_intern(&l->t->table.routes, group, topic, &l->route_ids[id]);
        if (rc != 0) {
            return rc;
        }
        if (l->t->table.routes.route_count != i + 1) {
            return ESCROW_ECORRUPT; /* the same names twice */
        }
    }
    return 0;
}

static bool half_bytes_are_valid(const struct load *l, const uint8_t *p)
{
    const struct half_table *table = &l->t->table;
    struct hash128 id = {.lo = get_le64(p), .hi = get_le64(p + 8)};
    uint32_t route = get_le32(p + 40);

    if (route >= l->route_count || l->route_ids[route] == UINT32_MAX) {
        return false;
    }
    if ((get_le64(p + 24) & (0xFFFF & ~(uint64_t)HALF_QUEUE_HELD)) >= QUEUES_PER_TOPIC_MAX ||
        p[45] > 15 || p[46] > 1 || p[47] != 0 || (int64_t)get_le64(p + 48) < -1) {
        return false;
    }
    if (table->newest != HALF_NONE &&
        half_table_at(table, table->newest)->offset >= get_le64(p + 16)) {
        return false;
    }
    return half_table_find_id(table, id) == NULL;
}

static int load_half(struct load *l, const uint8_t *p)
{
    struct txn *t = l->t;
    struct txn_half_info info;
    struct half *half;
    int64_t remaining;
    int rc;

    if (!half_bytes_are_valid(l, p)) {
        return ESCROW_ECORRUPT;
    }
    rc = half_table_reserve(&t->table);
    if (rc != 0) {
        return rc;
    }
    info = (struct txn_half_info){
        .queue = (uint32_t)(get_le64(p + 24) & (0xFFFF & ~(uint64_t)HALF_QUEUE_HELD)),
        .is_held = (get_le64(p + 24) & HALF_QUEUE_HELD) != 0,
        .size_bytes = get_le32(p + 32),
        .tag_hash = (int32_t)get_le32(p + 36),
        .store_ms = (int64_t)(get_le64(p + 24) >> 16),
    };
    half = txn_insert(t, &info, (struct hash128){.lo = get_le64(p), .hi = get_le64(p + 8)},
                      l->route_ids[get_le32(p + 40)], get_le64(p + 16));
    half->checks = p[44];
    half_set_step(half, p[45]);
    half->flags |= HALF_F_APPLIED;
    half_table_move(&t->table, half, HALF_PREPARED, "checkpoint");
    if (p[46] == 1) {
        half->flags |= HALF_F_EXPIRED;
        txn_begin_decision(t, half, DECISION_EXPIRE, "checkpoint");
        half_table_move(&t->table, half, HALF_EXPIRED, "checkpoint");
        return 0;
    }
    remaining = (int64_t)get_le64(p + 48) - l->elapsed_ms;
    check_back_start(&t->check_back, half, remaining < 0 ? 0 : remaining, l->now.mono_ms);
    return 0;
}

static bool is_open(void *arg, uint64_t offset)
{
    const struct txn *t = arg;

    return half_table_find_offset(&t->table, offset) != NULL;
}

static int load_all(struct load *l, uint32_t routes, uint64_t halves)
{
    int rc = load_routes(l, routes);

    if (rc != 0) {
        return rc;
    }
    if (l->rest.len / SAVE_HALF_BYTES < halves) {
        return ESCROW_ECORRUPT;
    }
    for (uint64_t i = 0; i < halves; i++) {
        rc = load_half(l, l->rest.ptr);
        if (rc != 0) {
            return rc;
        }
        load_skip(l, SAVE_HALF_BYTES);
    }
    for (uint32_t i = 0; i < l->route_count; i++) {
        if (l->route_ids[i] != UINT32_MAX) {
            routes_drop_unused(&l->t->table.routes, l->route_ids[i]);
        }
    }
    rc = decided_load(&l->t->decided, &l->rest);
    if (rc == 0 && l->version >= 3) {
        rc = group_names_load(&l->t->group_names, &l->rest);
    }
    if (rc == 0 && (l->rest.len != 0 || decided_any(&l->t->decided, is_open, l->t))) {
        rc = ESCROW_ECORRUPT;
    }
    return rc;
}

int txn_load(struct txn *t, struct slice section, struct txn_now now, struct err_ctx *err)
{
    struct load l = {.t = t, .now = now, .rest = section, .route_count = ROUTES_MAX};
    const uint8_t *p = section.ptr;
    int64_t saved_ms;
    int rc;

    CHECK(t->table.count == 0 && t->decided.count == 0);
    if (section.len < SAVE_HEAD_BYTES) {
        return err_set(err, ESCROW_ECORRUPT, "transactions: section too short");
    }
    if (get_le32(p) < 1 || get_le32(p) > SAVE_VERSION) {
        return err_set(err, ESCROW_EVERSION, "transactions: version %" PRIu32 " is not known",
                       get_le32(p));
    }
    l.route_ids = mem_alloc(ROUTES_MAX * sizeof *l.route_ids);
    if (l.route_ids == NULL) {
        return err_set(err, ESCROW_ENOMEM, "transactions: out of memory");
    }
    for (uint32_t i = 0; i < ROUTES_MAX; i++) {
        l.route_ids[i] = UINT32_MAX;
    }
    l.version = get_le32(p);
    t->check_back.now_ms = now.mono_ms;
    t->id_key = (struct hash_key){.k0 = get_le64(p + 16), .k1 = get_le64(p + 24)};
    saved_ms = (int64_t)get_le64(p + 32);
    l.elapsed_ms = now.wall_ms > saved_ms && saved_ms >= 0 ? now.wall_ms - saved_ms : 0;
    load_skip(&l, SAVE_HEAD_BYTES);
    rc = load_all(&l, get_le32(p + 4), get_le64(p + 8));
    mem_free(l.route_ids);
    if (rc != 0) {
        return err_set(err, rc, "transactions: section cannot be loaded, at byte %zu of %zu",
                       section.len - l.rest.len, section.len);
    }
    txn_dcheck(t);
    return 0;
}
