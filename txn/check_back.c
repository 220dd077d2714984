/*
 * Happy path: a half becomes PREPARED and goes into the wheel; when it is due it joins the ready
 * list of its group; the group has its turn, the half is asked about on the first way, and the
 * answer decides it (txn.c cancels its timers).
 *
 * Failure modes: a question without a useful answer goes to the next way; a round without a
 * decision puts the half back into the wheel, later each time; a group that nobody can reach keeps
 * its halves in the ready list and pauses, so that an outage costs one attempt per pause and not
 * one per half. A half that an endpoint can never know goes to the group's away list: the others
 * go on, and the away list is tried one at a time, at the pace of a pause.
 */
#include "txn/check_back.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "txn/check_back_private.h"

_Static_assert(TXN_WAY_COUNT <= HALF_WAY_MASK, "a half has room for the way");

#define HALF_F_ROUND (HALF_F_ROUND_UNKNOWN | HALF_F_ROUND_REACHED)

static struct wheel_node *half_node(void *owner, uint32_t slot)
{
    return &half_table_at(owner, slot)->timer;
}

static struct wheel_node *group_node(void *owner, uint32_t id)
{
    return &routes_group(owner, id)->timer;
}

void check_back_init(struct check_back *c, const struct txn_config *config,
                     struct half_table *table, struct txn_counters *counters, uint64_t seed,
                     int64_t now_ms)
{
    *c = (struct check_back){
        .config = config, .table = table, .counters = counters, .now_ms = now_ms};
    wheel_init(&c->halves, now_ms, CHECK_BACK_TICK_MS, half_node, table);
    wheel_init(&c->groups, now_ms, CHECK_BACK_TICK_MS, group_node, &table->routes);
    rand_init(&c->rand, seed);
    c->nonce_key.k0 = rand_u64(&c->rand);
    c->nonce_key.k1 = rand_u64(&c->rand);
}

/* ---- where a half waits ---------------------------------------------------------------------- */

static void half_wait(struct check_back *c, struct half *half, int64_t due_ms, int64_t now_ms)
{
    CHECK((half->flags & (HALF_F_IN_WHEEL | HALF_F_IN_READY)) == 0);
    /* What is due already is due in this tick, not rounded up to the next. */
    wheel_add(&c->halves, half_table_slot(c->table, half), due_ms <= now_ms ? INT64_MIN : due_ms);
    half->flags |= HALF_F_IN_WHEEL;
}

static void half_unwait(struct check_back *c, struct half *half)
{
    CHECK((half->flags & HALF_F_IN_WHEEL) != 0);
    wheel_remove(&c->halves, half_table_slot(c->table, half));
    half->flags &= (uint8_t)~HALF_F_IN_WHEEL;
}

/* ---- questions ------------------------------------------------------------------------------- */

/* The first configured way that is not before `way`; TXN_WAY_COUNT when there is none. */
static unsigned way_from(const struct check_back *c, unsigned way)
{
    while (way < TXN_WAY_COUNT && (c->config->ways >> way & 1) == 0) {
        way++;
    }
    return way;
}

uint64_t check_back_nonce(const struct check_back *c, const struct half *half)
{
    uint8_t bytes[12];
    uint64_t nonce;

    put_le64(bytes, half->offset);
    put_le32(bytes + 8, half->ask_seq);
    nonce = hash64(&c->nonce_key, slice_of(bytes, sizeof bytes));
    return nonce == TXN_NONCE_NONE ? 1 : nonce;
}

/* The half is CHECKING and in no list: put the question out. */
static void ask(struct check_back *c, struct half *half, unsigned way, int64_t now_ms,
                struct txn_update *u)
{
    const struct route *route = half_table_route(c->table, half);
    struct txn_ask *out;

    CHECK(half->state == HALF_CHECKING);
    CHECK(way < TXN_WAY_COUNT);
    CHECK(u->ask_count < TXN_ASKS_MAX);
    half_set_way(half, way);
    half->ask_seq++;
    out = &u->asks[u->ask_count++];
    *out = (struct txn_ask){
        .offset = half->offset,
        .size_bytes = half->size_bytes,
        .way = (enum txn_way)way,
        .nonce = check_back_nonce(c, half),
        .checks = half->checks,
        .deadline_ms = now_ms + c->config->answer_ms[way],
        .group = group_name(route->group),
        .topic = route_topic(route),
    };
    half_wait(c, half, out->deadline_ms, now_ms);
    group_charge(c, route->group, now_ms);
    if (way == TXN_WAY_LIVE) {
        c->counters->asks_live++;
    } else {
        c->counters->asks_http++;
    }
}

static void round_begin(struct check_back *c, struct group *group, struct half *half,
                        int64_t now_ms, struct txn_update *u)
{
    group_ready_remove(c, group, half);
    CHECK((half->flags & HALF_F_ROUND) == 0);
    half_table_move(c->table, half, HALF_CHECKING, "check due");
    group->asking++;
    c->asking++;
    ask(c, half, way_from(c, 0), now_ms, u);
}

static void question_is_over(struct check_back *c, struct group *group)
{
    CHECK(group->asking > 0);
    CHECK(c->asking > 0);
    group->asking--;
    c->asking--;
}

void check_back_settle(struct check_back *c, struct half *half, enum check_back_outcome outcome,
                       int64_t now_ms, struct check_back_out *out)
{
    struct group *group = check_back_group(c, half);
    unsigned next =
        outcome == CHECK_BACK_IN_PROGRESS ? TXN_WAY_COUNT : way_from(c, half_way(half) + 1);

    CHECK(half->state == HALF_CHECKING);
    c->now_ms = now_ms;
    if ((half->flags & HALF_F_IN_WHEEL) != 0) {
        half_unwait(c, half);
    }
    if (outcome == CHECK_BACK_UNKNOWN) {
        half->flags |= HALF_F_ROUND_UNKNOWN;
    }
    if (outcome != CHECK_BACK_UNDELIVERABLE) {
        group->pause_step = 0;
    }
    if (outcome != CHECK_BACK_UNDELIVERABLE && outcome != CHECK_BACK_NOT_MINE) {
        half->flags |= HALF_F_ROUND_REACHED;
        group->away_step = 0;
    }
    if (next != TXN_WAY_COUNT) {
        ask(c, half, next, now_ms, out->u);
        group_schedule(c, group, now_ms);
        return;
    }

    question_is_over(c, group);
    half_table_move(c->table, half, HALF_PREPARED, "round over");
    if ((half->flags & HALF_F_ROUND_REACHED) == 0 && outcome == CHECK_BACK_NOT_MINE) {
        half_set_not_mine(half, true);
        group_away_push(c, group, half, now_ms);
    } else if ((half->flags & HALF_F_ROUND_REACHED) == 0) {
        group_ready_push_head(c, group, half);
        group_unschedule(c, group); /* its turn may be another */
        group_pause(c, group, now_ms);
    } else {
        half_set_not_mine(half, false);
        if ((half->flags & HALF_F_ROUND_UNKNOWN) != 0 && outcome != CHECK_BACK_IN_PROGRESS) {
            CHECK(out->counted_count < CHECK_BACK_BATCH);
            out->counted[out->counted_count++] = half;
        }
        half_wait(c, half,
                  now_ms + check_back_delay(c, c->config->interval_ms, c->config->interval_max_ms,
                                            half_step(half)),
                  now_ms);
        half_set_step(half, half_step(half) + 1);
    }
    half->flags &= (uint8_t)~HALF_F_ROUND;
    group_schedule(c, group, now_ms);
}

/* ---- events ---------------------------------------------------------------------------------- */

void check_back_start(struct check_back *c, struct half *half, int64_t delay_ms, int64_t now_ms)
{
    CHECK(half->state == HALF_PREPARED);
    CHECK(delay_ms >= 0);
    half_wait(c, half, now_ms + delay_ms, now_ms);
}

void check_back_cancel(struct check_back *c, struct half *half)
{
    struct group *group = check_back_group(c, half);

    if ((half->flags & HALF_F_IN_WHEEL) != 0) {
        half_unwait(c, half);
    }
    if ((half->flags & HALF_F_IN_READY) != 0) {
        group_ready_remove(c, group, half);
    }
    if (half->state == HALF_CHECKING) {
        question_is_over(c, group);
        group->pause_step = 0;
        group->away_step = 0;
    }
    half->flags &= (uint8_t)~HALF_F_ROUND;
    group_schedule(c, group, c->now_ms);
}

void check_back_hurry(struct check_back *c, struct half *half, int64_t now_ms)
{
    if (half->state == HALF_PREPARED && (half->flags & HALF_F_IN_WHEEL) != 0) {
        half_unwait(c, half);
        half_wait(c, half, now_ms, now_ms);
    }
}

/* A half that came out of the wheel. */
static void half_is_due(struct check_back *c, struct half *half, int64_t now_ms,
                        struct check_back_out *out)
{
    struct group *group = check_back_group(c, half);

    half->flags &= (uint8_t)~HALF_F_IN_WHEEL;
    if (half->state == HALF_CHECKING) {
        c->counters->asks_unanswered++;
        check_back_settle(c, half, CHECK_BACK_UNANSWERED, now_ms, out);
        return;
    }
    CHECK(half->state == HALF_PREPARED);
    if (half->checks >= c->config->checks_max) {
        /*
         * Proposed; it stays PREPARED until the record is appended, and is proposed again if it
         * is not.
         */
        half_wait(c, half, now_ms + CHECK_BACK_EXPIRE_RETRY_MS, now_ms);
        out->expired[out->expired_count++] = half;
        return;
    }
    if (group_is_away(group)) {
        group_unschedule(c, group); /* its turn is earlier now */
    }
    group_ready_push_tail(c, group, half);
    group_schedule(c, group, now_ms);
}

static bool out_is_full(const struct check_back_out *out)
{
    return out->u->ask_count == TXN_ASKS_MAX || out->expired_count == CHECK_BACK_BATCH ||
           out->counted_count == CHECK_BACK_BATCH;
}

/* Questions of one group, as long as pause, rate and window allow. */
static void group_turn(struct check_back *c, struct group *group, int64_t now_ms,
                       struct check_back_out *out)
{
    while (group->ready_count > 0 && group_is_open(c, group) && group_turn_ms(group) <= now_ms &&
           !out_is_full(out)) {
        uint32_t slot = group_is_away(group) ? group->away_head : group->ready_head;
        round_begin(c, group, half_table_at(c->table, slot), now_ms, out->u);
    }
    group_schedule(c, group, now_ms);
}

void check_back_tick(struct check_back *c, int64_t now_ms, struct check_back_out *out)
{
    size_t budget = CHECK_BACK_WORK_MAX;
    uint32_t id;

    c->now_ms = now_ms;
    while (!out_is_full(out)) {
        id = wheel_pop(&c->halves, now_ms, &budget);
        if (id == WHEEL_NONE) {
            break;
        }
        half_is_due(c, half_table_at(c->table, id), now_ms, out);
    }
    while (!out_is_full(out)) {
        struct group *group;

        id = wheel_pop(&c->groups, now_ms, &budget);
        if (id == WHEEL_NONE) {
            break;
        }
        group = routes_group(&c->table->routes, id);
        group->is_scheduled = false;
        group_turn(c, group, now_ms, out);
    }
    out->u->more = out_is_full(out) || budget == 0;
}

int64_t check_back_next_ms(const struct check_back *c)
{
    int64_t halves = wheel_next_ms(&c->halves);
    int64_t groups = wheel_next_ms(&c->groups);

    return halves < groups ? halves : groups;
}

int64_t check_back_remaining_ms(const struct check_back *c, const struct half *half, int64_t now_ms)
{
    int64_t due_ms;

    if ((half->flags & HALF_F_IN_READY) != 0 || half->state == HALF_CHECKING) {
        return 0;
    }
    if ((half->flags & HALF_F_IN_WHEEL) == 0) {
        return -1;
    }
    due_ms = wheel_due_ms(&c->halves, &half->timer);
    return due_ms > now_ms ? due_ms - now_ms : 0;
}
