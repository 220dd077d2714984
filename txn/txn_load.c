/*
 * Reading the checkpoint section "txn"; txn_save.c has its bytes. Whatever is wrong with it stops
 * the start.
 */
#include "txn/txn_private.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <inttypes.h>

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
    txn_half_applied(t, half);
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
    if (l->rest.len / TXN_SAVE_HALF_BYTES < halves) {
        return ESCROW_ECORRUPT;
    }
    for (uint64_t i = 0; i < halves; i++) {
        rc = load_half(l, l->rest.ptr);
        if (rc != 0) {
            return rc;
        }
        load_skip(l, TXN_SAVE_HALF_BYTES);
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
    if (section.len < TXN_SAVE_HEAD_BYTES) {
        return err_set(err, ESCROW_ECORRUPT, "transactions: section too short");
    }
    if (get_le32(p) < 1 || get_le32(p) > TXN_SAVE_VERSION) {
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
    load_skip(&l, TXN_SAVE_HEAD_BYTES);
    rc = load_all(&l, get_le32(p + 4), get_le64(p + 8));
    mem_free(l.route_ids);
    if (rc != 0) {
        return err_set(err, rc, "transactions: section cannot be loaded, at byte %zu of %zu",
                       section.len - l.rest.len, section.len);
    }
    txn_dcheck(t);
    return 0;
}
