/* Looking at the transactions: listings, horizon, figures. Nothing here changes anything. */
#include "txn/txn_private.h"

#include "core/base/check.h"

#define LIST_LOOK_MAX 4096 /* halves looked at in one call */

static void row_fill(const struct txn *t, const struct half *half, struct txn_row *row)
{
    const struct route *route = half_table_route(&t->table, half);
    bool is_waiting = (half->flags & HALF_F_IN_WHEEL) != 0 && half->state == HALF_PREPARED;

    *row = (struct txn_row){
        .offset = half->offset,
        .size_bytes = half->size_bytes,
        .state = (enum half_state)half->state,
        .group = group_name(route->group),
        .topic = route_topic(route),
        .queue = half_queue(half),
        .store_ms = half_store_ms(half),
        .checks = half->checks,
        .is_not_mine = half_is_not_mine(half),
        .next_check_ms = is_waiting ? wheel_due_ms(&t->check_back.halves, &half->timer) : 0,
    };
}

static bool matches(const struct txn *t, const struct half *half, const struct txn_filter *filter)
{
    const struct route *route = half_table_route(&t->table, half);

    if (filter->states != 0 && (filter->states >> half->state & 1) == 0) {
        return false;
    }
    if (filter->stored_before_ms != 0 && half_store_ms(half) >= filter->stored_before_ms) {
        return false;
    }
    if (filter->group.len > 0 && !slice_eq(filter->group, group_name(route->group))) {
        return false;
    }
    return filter->topic.len == 0 || slice_eq(filter->topic, route_topic(route));
}

/*
 * The first half at or after an offset. It is found at once when it is still there; when it was
 * decided between two calls the list is walked from its old end, which lies in memory nearly in
 * order.
 */
static const struct half *first_from(const struct half_table *table, uint64_t offset)
{
    const struct half *half = half_table_find_offset(table, offset);

    if (half != NULL) {
        return half;
    }
    half = half_table_oldest(table);
    while (half != NULL && half->offset < offset) {
        half = half_table_next(table, half);
    }
    return half;
}

size_t txn_list(const struct txn *t, const struct txn_filter *filter, uint64_t *cursor,
                struct txn_row *rows, size_t rows_max, bool *is_end)
{
    const struct half *half = first_from(&t->table, *cursor);
    size_t count = 0;

    for (size_t looked = 0; half != NULL && count < rows_max && looked < LIST_LOOK_MAX; looked++) {
        if (matches(t, half, filter)) {
            row_fill(t, half, &rows[count++]);
        }
        half = half_table_next(&t->table, half);
    }
    *is_end = half == NULL;
    if (half != NULL) {
        *cursor = half->offset;
    }
    return count;
}

bool txn_find(const struct txn *t, uint64_t offset, struct txn_row *row, struct decided_fact *fact)
{
    const struct half *half = half_table_find_offset(&t->table, offset);

    *fact = (struct decided_fact){0};
    if (half == NULL) {
        (void)decided_find_offset(&t->decided, offset, fact, NULL, NULL); /* fact says it */
        return false;
    }
    row_fill(t, half, row);
    return true;
}

/* Has this group something with this id? */
static bool find_in_group(const struct txn *t, struct slice group, struct slice txn_id,
                          struct txn_row *row)
{
    struct hash128 id = txn_id_hash(t, group, txn_id);
    const struct half *half = half_table_find_id(&t->table, id);
    struct decided_fact fact;

    if (half != NULL) {
        row_fill(t, half, row);
        return true;
    }
    if (!decided_find_id(&t->decided, id, &fact)) {
        return false;
    }
    *row =
        (struct txn_row){.offset = fact.offset,
                         .state = fact.kind == DECISION_COMMIT ? HALF_COMMITTED : HALF_ROLLED_BACK,
                         .group = group};
    return true;
}

size_t txn_find_id(const struct txn *t, struct slice txn_id, struct txn_row *rows, size_t rows_max)
{
    const struct routes *routes = &t->table.routes;
    size_t count = 0;

    if (txn_id.len == 0 || txn_id.len > TXN_ID_LEN_MAX) {
        return 0;
    }
    for (uint32_t i = 0; i < routes->group_cap && count < rows_max; i++) {
        const struct group *group = routes->groups[i];
        count += group != NULL && find_in_group(t, group_name(group), txn_id, &rows[count]);
    }
    for (uint32_t i = 0; i < t->group_names.count && count < rows_max; i++) {
        struct slice name = group_names_at(&t->group_names, i);
        count +=
            routes_find_group(routes, name) == NULL && find_in_group(t, name, txn_id, &rows[count]);
    }
    return count;
}

int64_t txn_horizon_ms(const struct txn *t, struct txn_now now)
{
    const struct half *half = half_table_oldest(&t->table);

    return half == NULL ? now.wall_ms : half_store_ms(half);
}

uint64_t txn_oldest_offset(const struct txn *t)
{
    const struct half *half = half_table_oldest(&t->table);

    return half == NULL ? UINT64_MAX : half->offset;
}

uint64_t txn_oldest_from(const struct txn *t, uint64_t from)
{
    const struct half *half = first_from(&t->table, from);

    return half == NULL ? UINT64_MAX : half->offset;
}

void txn_each_between(const struct txn *t, uint64_t from, uint64_t to, held_fn *fn, void *arg)
{
    const struct half *half = first_from(&t->table, from);

    while (half != NULL && half->offset < to) {
        fn(arg, half->offset, half->size_bytes);
        half = half_table_next(&t->table, half);
    }
}

bool txn_holds(const struct txn *t, uint64_t offset)
{
    return half_table_find_offset(&t->table, offset) != NULL;
}

uint64_t txn_reserve_bytes(const struct txn *t)
{
    return t->reserve_bytes;
}

const struct txn_counters *txn_counters(const struct txn *t)
{
    return &t->counters;
}

void txn_counters_reset(struct txn *t)
{
    t->counters = (struct txn_counters){0};
}

void txn_gauges(const struct txn *t, struct txn_gauges *gauges)
{
    *gauges = (struct txn_gauges){
        .halves = t->table.count,
        .decided = t->decided.count,
        .groups = t->table.routes.group_count,
        .asking = t->check_back.asking,
        .bytes_halves = half_table_bytes(&t->table),
        .bytes_decided = decided_bytes(&t->decided),
        .bytes_save = txn_save_bytes(t),
        .scan_work = t->check_back.halves.work + t->check_back.groups.work,
    };
    for (int s = 0; s < HALF_STATE_COUNT; s++) {
        gauges->by_state[s] = t->table.by_state[s];
    }
}
