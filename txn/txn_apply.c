/*
 * Durable records: the same functions live and in recovery, in log order. Live, a half is already
 * in the -ING state that the record ends; in recovery it passes through that state here. A record
 * that contradicts the table is a corrupt log or a bug, is found before anything has changed, and
 * stops the process.
 */
#include "txn/txn_private.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <inttypes.h>

/*
 * Time until the first check: the immunity, less what has passed since the broker stored the
 * half.
 */
static int64_t first_delay_ms(const struct txn *t, const struct txn_half_info *info,
                              struct txn_now now)
{
    int64_t immunity = info->immunity_ms < 0 ? t->config.immunity_ms : info->immunity_ms;
    int64_t age = now.wall_ms > info->store_ms ? now.wall_ms - info->store_ms : 0;

    if (immunity > t->config.immunity_max_ms) {
        immunity = t->config.immunity_max_ms;
    }
    return age >= immunity ? 0 : immunity - age;
}

/* In recovery: make the half that the record speaks of. */
static int recover_half(struct txn *t, const struct txn_half_info *info, uint64_t offset,
                        struct half **out, struct err_ctx *err)
{
    struct hash128 id = txn_id_hash(t, info->group, info->txn_id);
    const struct half *other = half_table_find_id(&t->table, id);
    uint32_t route;
    int rc;

    txn_drop_pending(t);
    if (other != NULL) {
        return err_set(err, ESCROW_ECORRUPT,
                       "half at %" PRIu64 ": its transaction is undecided at %" PRIu64 " already",
                       offset, other->offset);
    }
    if (t->table.newest != HALF_NONE &&
        half_table_at(&t->table, t->table.newest)->offset >= offset) {
        return err_set(err, ESCROW_ECORRUPT, "half at %" PRIu64 ": read out of order", offset);
    }
    rc = half_table_reserve(&t->table);
    if (rc == 0) {
        rc = routes_intern(&t->table.routes, info->group, info->topic, &route);
    }
    if (rc != 0) {
        return err_set(err, rc, "half at %" PRIu64 ": no room among %zu undecided ones", offset,
                       t->table.count);
    }
    *out = txn_insert(t, info, id, route, offset);
    return 0;
}

void txn_half_applied(struct txn *t, struct half *half)
{
    CHECK(t->applied_count == 0 || half->offset > t->applied_to);
    half->flags |= HALF_F_APPLIED;
    t->applied_count++;
    t->applied_to = half->offset;
}

int txn_apply_half(struct txn *t, const struct txn_half_info *info, uint64_t offset,
                   struct txn_now now, struct err_ctx *err)
{
    struct half *half = half_table_find_offset(&t->table, offset);

    t->check_back.now_ms = now.mono_ms;
    if (!txn_info_is_valid(info)) {
        return err_set(err, ESCROW_ECORRUPT, "half at %" PRIu64 ": a name is missing or too long",
                       offset);
    }
    if (half == NULL) {
        int rc = recover_half(t, info, offset, &half, err);
        if (rc != 0) {
            return rc;
        }
    }
    CHECK(half != NULL);
    if ((half->flags & HALF_F_APPLIED) != 0) {
        return err_set(err, ESCROW_ECORRUPT, "half at %" PRIu64 ": applied twice", offset);
    }
    txn_half_applied(t, half);
    if (half->state == HALF_APPENDING) {
        half_table_move(&t->table, half, HALF_PREPARED, "half durable");
        check_back_start(&t->check_back, half, first_delay_ms(t, info, now), now.mono_ms);
    } else {
        CHECK(half_is_deciding(half)); /* its decision follows in the log */
    }
    txn_dcheck(t);
    return 0;
}

/* May this record be applied to this half? */
static bool fits(const struct half *half, enum decision_kind kind)
{
    bool is_applied = (half->flags & HALF_F_APPLIED) != 0;
    bool is_expired = (half->flags & HALF_F_EXPIRED) != 0;

    if (!is_applied || (half->flags & HALF_F_PICKED) != 0) {
        return false;
    }
    switch ((enum half_state)half->state) {
    case HALF_PREPARED:
        return true;
    case HALF_EXPIRING:
        return kind == DECISION_EXPIRE;
    case HALF_EXPIRED:
        return kind != DECISION_EXPIRE;
    case HALF_COMMITTING:
        return kind == DECISION_COMMIT || (kind == DECISION_EXPIRE && !is_expired);
    case HALF_ROLLING_BACK:
        return kind == DECISION_ROLLBACK || (kind == DECISION_EXPIRE && !is_expired);
    case HALF_APPENDING:
    case HALF_CHECKING:
    case HALF_COMMITTED:
    case HALF_ROLLED_BACK:
    case HALF_STATE_COUNT:
        return false;
    }
    return false;
}

static void unpick(const struct txn *t, struct decision_iter iter)
{
    struct decision_entry entry;

    while (decision_next(&iter, &entry)) {
        struct half *half = half_table_find_offset(&t->table, entry.offset);
        if (half != NULL) {
            half->flags &= (uint8_t)~HALF_F_PICKED;
        }
    }
}

/* May the record be applied to all its halves? Then each is marked as picked. */
static int check_all_fit(const struct txn *t, enum decision_kind kind, struct decision_iter iter,
                         struct err_ctx *err)
{
    struct decision_iter again = iter;
    struct decision_entry entry;
    uint64_t bad = UINT64_MAX;
    struct half *half;

    while (bad == UINT64_MAX && decision_next(&iter, &entry)) {
        half = half_table_find_offset(&t->table, entry.offset);
        if (half == NULL || !fits(half, kind) ||
            (kind == DECISION_COMMIT && entry.is_held != half_is_held(half))) {
            bad = entry.offset;
        } else {
            half->flags |= HALF_F_PICKED;
            decided_prefetch(&t->decided, half_id(half)); /* where apply_final will put it */
        }
    }
    if (bad != UINT64_MAX) {
        unpick(t, again);
        return err_set(err, ESCROW_ECORRUPT,
                       "decision (%s): the half at %" PRIu64 " is not waiting for it",
                       decision_kind_name(kind), bad);
    }
    return 0;
}

static void apply_expire(struct txn *t, struct half *half)
{
    txn_save_keep(t, half);
    half->flags |= HALF_F_EXPIRED;
    t->counters.expired++;
    if (half_is_deciding(half)) {
        return; /* a decision overtook it: its record follows */
    }
    if (half->state == HALF_PREPARED) {
        txn_begin_decision(t, half, DECISION_EXPIRE, "read in recovery");
    }
    half_table_move(&t->table, half, HALF_EXPIRED, "expire durable");
}

static void apply_final(struct txn *t, struct half *half, const struct decision_head *head)
{
    bool is_commit = head->kind == DECISION_COMMIT;
    struct decided_fact fact = {
        .offset = half->offset, .kind = head->kind, .by = head->by, .at_ms = head->at_ms};
    struct group *group = half_table_route(&t->table, half)->group;
    struct hash128 id = half_id(half);
    uint16_t tag;

    txn_save_keep(t, half);
    if (!half_is_deciding(half)) {
        txn_begin_decision(t, half, head->kind, "read in recovery");
    }
    half_table_move(&t->table, half, is_commit ? HALF_COMMITTED : HALF_ROLLED_BACK,
                    "decision durable");
    t->counters.committed += is_commit;
    t->counters.rolled_back += !is_commit;
    t->counters.decided_by_check += head->by == DECISION_BY_CHECK;
    t->counters.decided_after_expiry += (half->flags & HALF_F_EXPIRED) != 0;
    if (!group->is_named) {
        group_names_note(&t->group_names, group_name(group));
        group->tag = txn_group_tag(t, group_name(group));
        group->is_named = true;
    }
    tag = group->tag; /* the group may go with its last half */
    half_table_remove(&t->table, half);
    t->applied_count--;
    decided_put(&t->decided, id, tag, &fact);
}

static int release_entry(const struct decision_head *head, const struct decision_entry *entry,
                         bool is_held, txn_release_fn *release, void *arg)
{
    enum decision_kind kind = head->kind;
    struct txn_release r = {
        .offset = entry->offset,
        .size_bytes = entry->size_bytes,
        .tag_hash = entry->tag_hash,
        .store_ms = entry->store_ms,
        .kind = kind,
        .is_held = is_held && kind != DECISION_EXPIRE,
        .at_ms = head->at_ms,
        .queue = entry->queue,
        .topic = entry->topic,
    };

    if (kind == DECISION_ROLLBACK && !is_held) {
        return 0;
    }
    if (kind == DECISION_EXPIRE) {
        r.queue = 0;
        r.topic = SLICE_LIT(TXN_PARKING_TOPIC);
    }
    return release(arg, &r);
}

int txn_apply_decision(struct txn *t, struct slice payload, txn_release_fn *release, void *arg,
                       struct err_ctx *err)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    int rc = decision_decode(payload, &head, &iter);

    if (rc != 0) {
        return err_set(err, rc, "decision: malformed");
    }
    if (head.kind != DECISION_EXPIRE && head.by == DECISION_BY_BROKER) {
        return err_set(err, ESCROW_ECORRUPT, "decision: the broker decides nothing by itself");
    }
    rc = check_all_fit(t, head.kind, iter, err);
    if (rc != 0) {
        return rc;
    }
    while (decision_next(&iter, &entry)) {
        struct half *half = half_table_find_offset(&t->table, entry.offset);

        CHECK(half != NULL);
        half->flags &= (uint8_t)~HALF_F_PICKED;
        rc = release_entry(&head, &entry, half_is_held(half), release, arg);
        if (rc != 0) {
            unpick(t, iter);
            return err_set(err, rc, "decision: the half at %" PRIu64 " could not be released",
                           entry.offset);
        }
        if (head.kind == DECISION_EXPIRE) {
            apply_expire(t, half);
        } else {
            apply_final(t, half, &head);
        }
    }
    txn_dcheck(t);
    return 0;
}

int txn_apply_check(struct txn *t, struct slice payload, struct txn_now now, struct err_ctx *err)
{
    struct check_iter iter;
    struct check_entry entry;
    uint32_t count;
    int64_t at_ms;
    int rc = check_decode(payload, &count, &at_ms, &iter);

    t->check_back.now_ms = now.mono_ms;
    if (rc != 0) {
        return err_set(err, rc, "check: malformed");
    }
    while (check_next(&iter, &entry)) {
        struct half *half = half_table_find_offset(&t->table, entry.offset);

        if (half == NULL || entry.checks <= half->checks) {
            continue;
        }
        txn_save_keep(t, half);
        half->checks = (uint8_t)(entry.checks > UINT8_MAX ? UINT8_MAX : entry.checks);
        t->counters.rounds_counted++;
        if (half->checks >= t->config.checks_max) {
            check_back_hurry(&t->check_back, half, now.mono_ms);
        }
    }
    txn_dcheck(t);
    return 0;
}
