/*
 * Decisions that arrive: each half of a request is classified first, and only when none of them
 * stands in the way is one DECISION record encoded for all that are still open. Nothing moves until
 * that record is in the log's buffer.
 */
#include "txn/txn_private.h"

#include "core/base/check.h"
#include "escrow/errors.h"

static void count_code(struct txn *t, enum txn_end_code code)
{
    switch (code) {
    case TXN_END_PENDING:
    case TXN_END_SAME:
        t->counters.decisions_repeated++;
        break;
    case TXN_END_CONFLICT:
        t->counters.decisions_refused++;
        break;
    case TXN_END_NOTFOUND:
    case TXN_END_WRONG_GROUP:
    case TXN_END_WRONG_ID:
        t->counters.decisions_not_found++;
        break;
    case TXN_END_PERSIST:
    case TXN_END_HELD_BACK:
        break;
    }
}

/*
 * Does an undecided half belong to this group and id? TXN_END_PERSIST, TXN_END_WRONG_GROUP or
 * TXN_END_WRONG_ID.
 */
static enum txn_end_code identify(const struct txn *t, const struct half *half, struct slice group,
                                  struct slice txn_id)
{
    struct slice own = group_name(half_table_route(&t->table, half)->group);

    if (group.len > 0 && !slice_eq(group, own)) {
        return TXN_END_WRONG_GROUP;
    }
    if (txn_id.len > 0) {
        struct hash128 id;
        if (txn_id.len > TXN_ID_LEN_MAX) {
            return TXN_END_WRONG_ID;
        }
        id = txn_id_hash(t, own, txn_id);
        if (!half_has_id(half, id)) {
            return TXN_END_WRONG_ID;
        }
    }
    return TXN_END_PERSIST;
}

/* The same for a half that has been decided and is remembered. */
static enum txn_end_code identify_decided(const struct txn *t, struct slice group,
                                          struct slice txn_id, uint64_t id_lo, uint16_t tag)
{
    if (group.len == 0) {
        return TXN_END_SAME; /* an operator, by offset alone */
    }
    if (group.len > GROUP_LEN_MAX || txn_group_tag(t, group) != tag) {
        return TXN_END_WRONG_GROUP;
    }
    if (txn_id.len > 0 &&
        (txn_id.len > TXN_ID_LEN_MAX || txn_id_hash(t, group, txn_id).lo != id_lo)) {
        return TXN_END_WRONG_ID;
    }
    return TXN_END_SAME;
}

static bool has_id(struct slice group, const struct txn_end_item *item)
{
    return group.len > 0 && group.len <= GROUP_LEN_MAX && item->txn_id.len > 0 &&
           item->txn_id.len <= TXN_ID_LEN_MAX;
}

/*
 * The offset of an item that gives only group and id; TXN_OFFSET_NONE when neither undecided nor
 * remembered.
 */
static uint64_t resolve_offset(const struct txn *t, struct slice group,
                               const struct txn_end_item *item)
{
    struct decided_fact fact;
    const struct half *half;
    struct hash128 id;

    if (item->offset != TXN_OFFSET_NONE || !has_id(group, item)) {
        return item->offset;
    }
    id = txn_id_hash(t, group, item->txn_id);
    half = half_table_find_id(&t->table, id);
    if (half != NULL) {
        return half->offset;
    }
    return decided_find_id(&t->decided, id, &fact) ? fact.offset : TXN_OFFSET_NONE;
}

/* Is the decided half at this offset, and is it the asker's? By its id first: that has an index. */
static enum txn_end_code classify_decided(const struct txn *t, struct slice group,
                                          const struct txn_end_item *item, uint64_t offset,
                                          struct decided_fact *fact)
{
    enum txn_end_code code;
    uint64_t id_lo;
    uint16_t tag;

    if (has_id(group, item) &&
        decided_find_id(&t->decided, txn_id_hash(t, group, item->txn_id), fact) &&
        fact->offset == offset) {
        return TXN_END_SAME;
    }
    code = decided_find_offset(&t->decided, offset, fact, &id_lo, &tag)
               ? identify_decided(t, group, item->txn_id, id_lo, tag)
               : TXN_END_NOTFOUND;
    if (code != TXN_END_SAME) {
        *fact = (struct decided_fact){0}; /* not the asker's to know */
    }
    return code;
}

static struct txn_end_result classify(struct txn *t, const struct txn_end *end,
                                      const struct txn_end_item *item, struct half **out)
{
    uint64_t offset = resolve_offset(t, end->group, item);
    struct half *half = half_table_find_offset(&t->table, offset);
    struct txn_end_result result = {.code = TXN_END_NOTFOUND};

    *out = NULL;
    if (half != NULL) {
        result.code = identify(t, half, end->group, item->txn_id);
        if (result.code == TXN_END_PERSIST && half_is_deciding(half)) {
            result.fact.offset = half->offset;
            result.fact.kind = half->state == HALF_COMMITTING ? DECISION_COMMIT : DECISION_ROLLBACK;
            result.code = result.fact.kind == end->kind ? TXN_END_PENDING : TXN_END_CONFLICT;
        } else if (result.code == TXN_END_PERSIST) {
            *out = half;
        }
        return result;
    }
    result.code = classify_decided(t, end->group, item, offset, &result.fact);
    if (result.code == TXN_END_SAME && result.fact.kind != end->kind) {
        result.code = TXN_END_CONFLICT;
    }
    return result;
}

static bool end_is_valid(const struct txn_end *end)
{
    if (end->count < 1 || end->count > END_TXN_HALVES_MAX) {
        return false;
    }
    if (end->kind != DECISION_COMMIT && end->kind != DECISION_ROLLBACK) {
        return false;
    }
    if (end->by < DECISION_BY_PRODUCER || end->by > DECISION_BY_OPERATOR) {
        return false;
    }
    return end->group.len > 0 || end->by == DECISION_BY_OPERATOR;
}

int txn_end(struct txn *t, const struct txn_end *end, struct txn_now now,
            struct txn_end_result *results, struct txn_update *u)
{
    struct decision_head head = {
        .kind = end->kind, .by = end->by, .at_ms = now.wall_ms < 0 ? 0 : now.wall_ms};
    ESCROW_UNINITIALIZED struct half
        *open[END_TXN_HALVES_MAX]; /* each once, even if it is named twice */
    bool is_held_back = false;
    int rc = 0;

    txn_update_clear(u);
    if (!end_is_valid(end)) {
        return ESCROW_EINVAL;
    }
    for (size_t i = 0; i < end->count; i++) {
        struct half *half;

        results[i] = classify(t, end, &end->items[i], &half);
        count_code(t, results[i].code);
        if (half != NULL && (half->flags & HALF_F_PICKED) == 0) {
            half->flags |= HALF_F_PICKED;
            open[head.count++] = half;
        }
        is_held_back |= txn_end_error(&results[i]) != 0;
        u->wait |= results[i].fact.kind != DECISION_NONE && results[i].fact.at_ms == 0;
    }
    for (uint32_t i = 0; i < head.count; i++) {
        open[i]->flags &= (uint8_t)~HALF_F_PICKED;
    }
    if (is_held_back) {
        for (size_t i = 0; i < end->count; i++) {
            if (results[i].code == TXN_END_PERSIST) {
                results[i].code = TXN_END_HELD_BACK;
            }
        }
    } else if (head.count > 0) {
        rc = txn_encode_decision(t, &head, open, &u->decision);
    }
    txn_dcheck(t);
    return rc;
}

int txn_end_error(const struct txn_end_result *result)
{
    switch (result->code) {
    case TXN_END_PERSIST:
    case TXN_END_PENDING:
    case TXN_END_SAME:
        return 0;
    case TXN_END_CONFLICT:
        return result->fact.kind == DECISION_ROLLBACK ? ESCROW_EROLLEDBACK : ESCROW_ECONFLICT;
    case TXN_END_NOTFOUND:
    case TXN_END_WRONG_ID:
        return ESCROW_ENOTFOUND;
    case TXN_END_WRONG_GROUP:
        return ESCROW_EPERM;
    case TXN_END_HELD_BACK:
        return ESCROW_ECONFLICT;
    }
    UNREACHABLE("no such result");
}

int txn_check_unknown(struct txn *t, struct slice group, const struct txn_end_item *item,
                      struct txn_now now, struct txn_update *u)
{
    const struct half *half = half_table_find_offset(&t->table, item->offset);

    txn_update_clear(u);
    if (half == NULL || group.len == 0 ||
        identify(t, half, group, item->txn_id) != TXN_END_PERSIST) {
        t->counters.answers_stale++;
        return ESCROW_ENOTFOUND;
    }
    return txn_check_answered(t, item->offset, TXN_NONCE_NONE, TXN_ANSWER_UNKNOWN, now, u);
}

size_t txn_reserve_share(const struct half *half)
{
    if (half_is_deciding(half)) {
        return 0;
    }
    if (half->state == HALF_EXPIRING || half->state == HALF_EXPIRED) {
        return STORE_DECISION_RESERVE - decision_record_bytes(DECISION_EXPIRE, 0);
    }
    return STORE_DECISION_RESERVE;
}

void txn_begin_decision(struct txn *t, struct half *half, enum decision_kind kind,
                        const char *event)
{
    size_t share = txn_reserve_share(half);
    enum half_state to = kind == DECISION_COMMIT     ? HALF_COMMITTING
                         : kind == DECISION_ROLLBACK ? HALF_ROLLING_BACK
                                                     : HALF_EXPIRING;

    check_back_cancel(&t->check_back, half);
    half_table_move(&t->table, half, to, event);
    CHECK(t->reserve_bytes >= share);
    t->reserve_bytes = t->reserve_bytes - share + txn_reserve_share(half);
}

void txn_decision_appended(struct txn *t, struct slice payload)
{
    struct decision_head head;
    struct decision_iter iter;
    struct decision_entry entry;
    int rc = decision_decode(payload, &head, &iter);

    CHECK(rc == 0);
    while (decision_next(&iter, &entry)) {
        struct half *half = half_table_find_offset(&t->table, entry.offset);

        CHECK(half != NULL);
        CHECK(!half_is_deciding(half));
        txn_begin_decision(t, half, head.kind, "decision appended");
    }
    txn_dcheck(t);
}
