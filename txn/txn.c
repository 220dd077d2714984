/*
 * Happy path of a half: txn_prepare (new) -> appended (APPENDING) -> applied (PREPARED) -> txn_end
 * -> decision appended (COMMITTING) -> decision applied: it leaves the table, its queue entry is
 * released, `decided` remembers it.
 *
 * Failure modes: an append is refused (nothing has happened); the producer says nothing
 * (check-back); nobody knows (EXPIRE); the process dies (the log says what is true, the rest of
 * this struct is made again from checkpoint and log).
 */
#include "txn/txn_private.h"

#include "core/base/attr.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/properties.h"
#include "core/proto/record.h"
#include "core/proto/tags.h"
#include "escrow/errors.h"

#include <string.h>

static const char *const way_names[TXN_WAY_COUNT] = {
#define X(name, text) [TXN_WAY_##name] = (text),
    TXN_WAYS(X)
#undef X
};

const char *txn_way_name(enum txn_way way)
{
    CHECK((unsigned)way < TXN_WAY_COUNT);
    return way_names[way];
}

void txn_config_default(struct txn_config *config)
{
    *config = (struct txn_config){
        .immunity_ms = 6000,
        .immunity_max_ms = INT64_C(7) * 24 * 3600 * 1000,
        .interval_ms = 30000,
        .interval_max_ms = 600000,
        .answer_ms = {[TXN_WAY_LIVE] = 10000, [TXN_WAY_HTTP] = 10000},
        .pause_ms = 1000,
        .pause_max_ms = 30000,
        .checks_max = 15,
        .group_rate = 500,
        .group_window = 256,
        .ways = (1u << TXN_WAY_COUNT) - 1,
        .halves_max = (size_t)1 << 24,
        .decided_max = (size_t)1 << 20,
    };
}

int txn_config_check(const struct txn_config *c, struct err_ctx *err)
{
    const int64_t day = INT64_C(24) * 3600 * 1000;
    const struct {
        const char *name;
        int64_t value;
        int64_t min;
        int64_t max;
    } bounds[] = {
        {"immunity_ms", c->immunity_ms, 0, c->immunity_max_ms},
        {"immunity_max_ms", c->immunity_max_ms, 0, 365 * day},
        {"interval_ms", c->interval_ms, 1, c->interval_max_ms},
        {"interval_max_ms", c->interval_max_ms, 1, 30 * day},
        {"answer_ms(live)", c->answer_ms[TXN_WAY_LIVE], 1, day},
        {"answer_ms(http)", c->answer_ms[TXN_WAY_HTTP], 1, day},
        {"pause_ms", c->pause_ms, 1, c->pause_max_ms},
        {"pause_max_ms", c->pause_max_ms, 1, day},
        {"checks_max", c->checks_max, 1, UINT8_MAX},
        {"group_rate", c->group_rate, 1, 1000000},
        {"group_window", c->group_window, 1, UINT32_MAX},
        {"ways", c->ways, 1, (1 << TXN_WAY_COUNT) - 1},
        {"halves_max", (int64_t)c->halves_max, 1, INT64_C(1) << 31},
        {"decided_max", (int64_t)c->decided_max, 1, INT64_C(1) << 30},
    };

    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].value < bounds[i].min || bounds[i].value > bounds[i].max) {
            return err_set(err, ESCROW_ECONFIG, "%s is %lld, must be %lld to %lld", bounds[i].name,
                           (long long)bounds[i].value, (long long)bounds[i].min,
                           (long long)bounds[i].max);
        }
    }
    return 0;
}

int txn_new(const struct txn_config *config, uint64_t seed, struct txn_now now, struct txn **out)
{
    struct txn *t = mem_calloc(1, sizeof *t);
    struct rand rand;
    int rc;

    if (t == NULL) {
        return ESCROW_ENOMEM;
    }
    CHECK(txn_config_check(config, NULL) == 0);
    rc = decided_init(&t->decided, config->decided_max);
    if (rc != 0) {
        mem_free(t);
        return rc;
    }
    rand_init(&rand, seed);
    t->config = *config;
    t->id_key.k0 = rand_u64(&rand);
    t->id_key.k1 = rand_u64(&rand);
    half_table_init(&t->table, t->id_key, config->halves_max);
    group_names_init(&t->group_names, t->id_key);
    check_back_init(&t->check_back, &t->config, &t->table, &t->counters, rand_u64(&rand),
                    now.mono_ms);
    *out = t;
    return 0;
}

void txn_free(struct txn *t)
{
    if (t != NULL) {
        txn_save_close(t);
        half_table_fini(&t->table);
        decided_fini(&t->decided);
        group_names_fini(&t->group_names);
        mem_free(t);
    }
}

void txn_update_init(struct txn_update *u)
{
    memset(u, 0, sizeof *u);
    buf_init(&u->decision, 0);
    buf_init(&u->check, 0);
}

void txn_update_fini(struct txn_update *u)
{
    buf_fini(&u->decision);
    buf_fini(&u->check);
}

void txn_update_clear(struct txn_update *u)
{
    buf_clear(&u->decision);
    buf_clear(&u->check);
    u->wait = false;
    u->more = false;
    u->ask_count = 0;
}

struct hash128 txn_id_hash(const struct txn *t, struct slice group, struct slice txn_id)
{
    /* hashed as far as it is set */
    ESCROW_UNINITIALIZED uint8_t text[2 + GROUP_LEN_MAX + TXN_ID_LEN_MAX];

    CHECK(group.len <= GROUP_LEN_MAX);
    CHECK(txn_id.len <= TXN_ID_LEN_MAX);
    put_le16(text, (uint16_t)group.len); /* so that "ab" + "c" is not "a" + "bc" */
    if (group.len > 0) {
        memcpy(text + 2, group.ptr, group.len);
    }
    if (txn_id.len > 0) {
        memcpy(text + 2 + group.len, txn_id.ptr, txn_id.len);
    }
    return hash_wide(&t->id_key, slice_of(text, 2 + group.len + txn_id.len));
}

uint16_t txn_group_tag(const struct txn *t, struct slice group)
{
    return (uint16_t)hash64(&t->id_key, group);
}

bool txn_info_is_valid(const struct txn_half_info *info)
{
    return info->group.len >= 1 && info->group.len <= GROUP_LEN_MAX && info->txn_id.len >= 1 &&
           info->txn_id.len <= TXN_ID_LEN_MAX && info->topic.len >= 1 &&
           info->topic.len <= TOPIC_LEN_MAX && info->queue < QUEUES_PER_TOPIC_MAX;
}

int txn_half_info_props(struct txn_half_info *info, struct slice properties)
{
    const struct slice group = prop_name(PROP_PGROUP);
    const struct slice txn_id = prop_name(PROP_UNIQ_KEY);
    const struct slice due = prop_name(PROP_TIMER_OUT_MS);
    const struct slice immunity = prop_name(PROP_CHECK_IMMUNITY_TIME_IN_SECONDS);
    struct props_iter iter = props_begin(properties);
    struct slice immunity_s = SLICE_EMPTY;
    struct slice name, value;
    int64_t seconds;

    info->group = SLICE_EMPTY;
    info->txn_id = SLICE_EMPTY;
    info->is_held = false;
    info->immunity_ms = -1;
    while (props_next(&iter, &name, &value)) { /* of two with one name the last one counts */
        if (slice_eq(name, group)) {
            info->group = value;
        } else if (slice_eq(name, txn_id)) {
            info->txn_id = value;
        } else if (slice_eq(name, due)) {
            info->is_held = true;
        } else if (slice_eq(name, immunity)) {
            immunity_s = value;
        }
    }
    if (immunity_s.len > 0 && slice_to_i64(immunity_s, &seconds) && seconds >= 0) {
        info->immunity_ms = seconds > INT64_MAX / 1000 ? INT64_MAX : seconds * 1000;
    }
    if (info->group.len < 1 || info->group.len > GROUP_LEN_MAX || info->txn_id.len < 1 ||
        info->txn_id.len > TXN_ID_LEN_MAX) {
        return ESCROW_EINVAL;
    }
    return 0;
}

int txn_half_info_decode(struct slice payload, struct txn_half_info *info)
{
    struct record_view view;
    struct slice tags = SLICE_EMPTY;
    int rc = record_decode(payload, &view);

    if (rc != 0) {
        return rc;
    }
    (void)props_find(view.f.properties, prop_name(PROP_TAGS), &tags); /* none: code 0 */
    *info = (struct txn_half_info){
        .topic = view.f.topic,
        .queue = (uint32_t)view.f.queue_id, /* negative: too large, refused where it is used */
        .size_bytes = (uint32_t)view.record.len,
        .tag_hash = (int32_t)tag_code(tags),
        .store_ms = view.f.store_ms,
    };
    return txn_half_info_props(info, view.f.properties);
}

/* ---- half messages --------------------------------------------------------------------------- */

void txn_drop_pending(struct txn *t)
{
    if (t->is_pending) {
        routes_unref(&t->table.routes, t->pending_route);
        t->is_pending = false;
    }
}

int txn_prepare(struct txn *t, const struct txn_half_info *info, struct txn_prepare_result *result)
{
    struct hash128 id;
    const struct half *half;
    uint32_t route;
    int rc;

    txn_drop_pending(t);
    if (!txn_info_is_valid(info)) {
        return ESCROW_EINVAL;
    }
    *result = (struct txn_prepare_result){.verdict = TXN_NEW};
    id = txn_id_hash(t, info->group, info->txn_id);
    decided_prefetch(&t->decided, id);
    half = half_table_find_id(&t->table, id);
    if (half != NULL) {
        bool is_same = slice_eq(route_topic(half_table_route(&t->table, half)), info->topic);

        result->offset = half->offset;
        if (!is_same) {
            result->verdict = TXN_OTHER;
            return 0;
        }
        result->verdict = TXN_DUPLICATE;
        result->wait = (half->flags & HALF_F_APPLIED) == 0;
        t->counters.halves_duplicate++;
        return 0;
    }
    if (decided_find_id(&t->decided, id, &result->fact)) {
        result->verdict = TXN_DECIDED;
        result->offset = result->fact.offset;
        t->counters.halves_duplicate++;
        return 0;
    }
    rc = half_table_reserve(&t->table);
    if (rc == 0) {
        rc = routes_intern(&t->table.routes, info->group, info->topic, &route);
    }
    if (rc != 0) {
        return rc;
    }
    routes_ref(&t->table.routes, route); /* another half may give back the last other one */
    t->is_pending = true;
    t->pending_id = id;
    t->pending_route = route;
    return 0;
}

struct half *txn_insert(struct txn *t, const struct txn_half_info *info, struct hash128 id,
                        uint32_t route, uint64_t offset)
{
    struct half *half = half_table_insert(&t->table, id, offset, route);

    half->store_queue =
        half_pack_store(info->store_ms, info->queue | (info->is_held ? HALF_QUEUE_HELD : 0));
    half->size_bytes = info->size_bytes;
    half->tag_hash = info->tag_hash;
    t->reserve_bytes += STORE_DECISION_RESERVE;
    return half;
}

void txn_half_appended(struct txn *t, const struct txn_half_info *info, uint64_t offset)
{
    CHECK(t->is_pending);
    DCHECK(txn_id_hash(t, info->group, info->txn_id).lo == t->pending_id.lo);
    (void)txn_insert(t, info, t->pending_id, t->pending_route, offset); /* in APPENDING */
    txn_drop_pending(t);
    t->counters.halves_accepted++;
    txn_dcheck(t);
}

struct decision_entry txn_entry_of(const struct txn *t, const struct half *half)
{
    return (struct decision_entry){
        .offset = half->offset,
        .size_bytes = half->size_bytes,
        .tag_hash = half->tag_hash,
        .store_ms = half_store_ms(half),
        .queue = half_queue(half),
        .is_held = half_is_held(half),
        .topic = route_topic(half_table_route(&t->table, half)),
    };
}

int txn_encode_decision(const struct txn *t, const struct decision_head *head,
                        struct half *const *halves, struct buf *out)
{
    size_t size = DECISION_HEAD_BYTES;

    for (uint32_t i = 0; i < head->count; i++) {
        size += decision_entry_bytes(head->kind, half_table_route(&t->table, halves[i])->topic_len);
    }
    if (buf_reserve(out, size) == NULL) {
        buf_clear(out);
        return ESCROW_ENOMEM;
    }
    decision_encode_head(out, head);
    for (uint32_t i = 0; i < head->count; i++) {
        struct decision_entry entry = txn_entry_of(t, halves[i]);
        decision_encode_entry(out, head->kind, &entry);
    }
    CHECK(!buf_failed(out));
    CHECK(out->len == size);
    return 0;
}

/* ---- check-back ------------------------------------------------------------------------------ */

int64_t txn_next_ms(const struct txn *t)
{
    return check_back_next_ms(&t->check_back);
}

/* Room for the records of one tick, so that nothing has to be taken back. */
static int reserve_records(struct txn_update *u, size_t expired, size_t counted)
{
    txn_update_clear(u);
    if (buf_reserve(&u->decision, DECISION_HEAD_BYTES + expired * DECISION_EXPIRE_BYTES) == NULL ||
        buf_reserve(&u->check, DECISION_HEAD_BYTES + counted * CHECK_ENTRY_BYTES) == NULL) {
        txn_update_clear(u);
        return ESCROW_ENOMEM;
    }
    return 0;
}

static void encode_records(const struct txn *t, const struct check_back_out *out, int64_t wall_ms)
{
    int64_t at_ms = wall_ms < 0 ? 0 : wall_ms;

    if (out->expired_count > 0) {
        struct decision_head head = {.kind = DECISION_EXPIRE,
                                     .by = DECISION_BY_BROKER,
                                     .count = (uint32_t)out->expired_count,
                                     .at_ms = at_ms};
        int rc = txn_encode_decision(t, &head, out->expired, &out->u->decision);
        CHECK(rc == 0); /* reserved */
    }
    if (out->counted_count > 0) {
        check_encode_head(&out->u->check, (uint32_t)out->counted_count, at_ms);
        for (size_t i = 0; i < out->counted_count; i++) {
            struct check_entry entry = {.offset = out->counted[i]->offset,
                                        .checks = out->counted[i]->checks + 1u};
            check_encode_entry(&out->u->check, &entry);
        }
        CHECK(!buf_failed(&out->u->check));
    }
}

int txn_tick(struct txn *t, struct txn_now now, struct txn_update *u)
{
    struct check_back_out out = {.u = u};
    int rc = reserve_records(u, CHECK_BACK_BATCH, CHECK_BACK_BATCH);

    if (rc != 0) {
        return rc;
    }
    check_back_tick(&t->check_back, now.mono_ms, &out);
    encode_records(t, &out, now.wall_ms);
    txn_dcheck(t);
    return 0;
}

/* The half whose question a nonce belongs to; NULL, and counted, when the answer is stale. */
static struct half *find_question(struct txn *t, uint64_t offset, uint64_t nonce)
{
    struct half *half = half_table_find_offset(&t->table, offset);
    bool is_it = half != NULL && half->state == HALF_CHECKING;

    if (is_it && nonce == TXN_NONCE_NONE) {
        is_it = half_way(half) == TXN_WAY_LIVE;
    } else if (is_it) {
        is_it = nonce == check_back_nonce(&t->check_back, half);
    }
    if (!is_it) {
        t->counters.answers_stale++;
        return NULL;
    }
    return half;
}

static int settle(struct txn *t, struct half *half, enum check_back_outcome outcome,
                  struct txn_now now, struct txn_update *u)
{
    struct check_back_out out = {.u = u};

    check_back_settle(&t->check_back, half, outcome, now.mono_ms, &out);
    encode_records(t, &out, now.wall_ms);
    txn_dcheck(t);
    return 0;
}

int txn_check_answered(struct txn *t, uint64_t offset, uint64_t nonce, enum txn_answer answer,
                       struct txn_now now, struct txn_update *u)
{
    struct decision_head head = {
        .by = DECISION_BY_CHECK, .count = 1, .at_ms = now.wall_ms < 0 ? 0 : now.wall_ms};
    struct half *half;
    int rc = reserve_records(u, 0, 1);

    if (rc != 0) {
        return rc;
    }
    half = find_question(t, offset, nonce);
    if (half == NULL) {
        return ESCROW_ENOTFOUND;
    }
    switch (answer) {
    case TXN_ANSWER_COMMIT:
    case TXN_ANSWER_ROLLBACK:
        head.kind = answer == TXN_ANSWER_COMMIT ? DECISION_COMMIT : DECISION_ROLLBACK;
        rc = txn_encode_decision(t, &head, &half, &u->decision);
        if (rc == 0 && answer == TXN_ANSWER_COMMIT) {
            t->counters.answers_commit++;
        } else if (rc == 0) {
            t->counters.answers_rollback++;
        }
        return rc;
    case TXN_ANSWER_IN_PROGRESS:
        t->counters.answers_in_progress++;
        return settle(t, half, CHECK_BACK_IN_PROGRESS, now, u);
    case TXN_ANSWER_UNKNOWN:
        t->counters.answers_unknown++;
        return settle(t, half, CHECK_BACK_UNKNOWN, now, u);
    case TXN_ANSWER_NOT_MINE:
        t->counters.answers_not_mine++;
        return settle(t, half, CHECK_BACK_NOT_MINE, now, u);
    case TXN_ANSWER_INVALID:
        t->counters.answers_invalid++;
        return settle(t, half, CHECK_BACK_UNANSWERED, now, u);
    }
    UNREACHABLE("no such answer");
}

int txn_ask_failed(struct txn *t, uint64_t offset, uint64_t nonce, enum txn_ask_failure why,
                   struct txn_now now, struct txn_update *u)
{
    struct half *half;
    int rc = reserve_records(u, 0, 1);

    if (rc != 0) {
        return rc;
    }
    half = find_question(t, offset, nonce);
    if (half == NULL) {
        return ESCROW_ENOTFOUND;
    }
    if (why == TXN_ASK_UNDELIVERABLE) {
        t->counters.asks_undeliverable++;
        return settle(t, half, CHECK_BACK_UNDELIVERABLE, now, u);
    }
    t->counters.asks_unanswered++;
    return settle(t, half, CHECK_BACK_UNANSWERED, now, u);
}

void txn_group_reachable(struct txn *t, struct slice group, struct txn_now now)
{
    struct group *found = routes_find_group(&t->table.routes, group);

    if (found != NULL) {
        check_back_reachable(&t->check_back, found, now.mono_ms);
        txn_dcheck(t);
    }
}

void txn_check(const struct txn *t)
{
    uint64_t reserve = 0;
    size_t applied = 0;

    half_table_check(&t->table);
    routes_check(&t->table.routes);
    check_back_check(&t->check_back);
    decided_check(&t->decided);
    group_names_check(&t->group_names);
    for (const struct half *h = half_table_oldest(&t->table); h != NULL;
         h = half_table_next(&t->table, h)) {
        struct decided_fact fact;
        CHECK(!decided_find_offset(&t->decided, h->offset, &fact, NULL, NULL));
        reserve += txn_reserve_share(h);
        if ((h->flags & HALF_F_APPLIED) != 0) {
            CHECK(h->offset <= t->applied_to);
            applied++;
        } else {
            CHECK_IMPLIES(t->applied_count > 0, h->offset > t->applied_to);
        }
    }
    CHECK(applied == t->applied_count);
    CHECK(reserve == t->reserve_bytes);
}

void txn_dcheck(const struct txn *t)
{
#ifdef ESCROW_DCHECK
    if (t->table.count <= 64 && t->decided.count <= 256 && t->table.routes.route_count <= 64) {
        txn_check(t);
    }
#else
    (void)t;
#endif
}
