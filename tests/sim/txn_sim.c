#include "tests/sim/txn_sim.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

/* ---- events ---------------------------------------------------------------------------------- */

static bool is_before(const struct sim_event *a, const struct sim_event *b)
{
    return a->at_ms < b->at_ms || (a->at_ms == b->at_ms && a->number < b->number);
}

static void heap_swap(struct sim *s, size_t a, size_t b)
{
    struct sim_event ev = s->heap[a];

    s->heap[a] = s->heap[b];
    s->heap[b] = ev;
}

void sim_at(struct sim *s, int64_t delay_ms, struct sim_event ev)
{
    size_t i;

    if (s->heap_count == s->heap_cap) {
        s->heap_cap = s->heap_cap == 0 ? 256 : s->heap_cap * 2;
        s->heap = mem_realloc(s->heap, s->heap_cap * sizeof *s->heap);
        CHECK(s->heap != NULL);
    }
    ev.at_ms = s->now_ms + (delay_ms < 0 ? 0 : delay_ms);
    ev.number = s->event_count++;
    i = s->heap_count++;
    s->heap[i] = ev;
    while (i > 0 && is_before(&s->heap[i], &s->heap[(i - 1) / 2])) {
        heap_swap(s, i, (i - 1) / 2);
        i = (i - 1) / 2;
    }
}

static struct sim_event heap_take(struct sim *s)
{
    struct sim_event first = s->heap[0];
    size_t i = 0;

    s->heap[0] = s->heap[--s->heap_count];
    for (;;) {
        size_t least = i;
        for (size_t child = 2 * i + 1; child <= 2 * i + 2 && child < s->heap_count; child++) {
            least = is_before(&s->heap[child], &s->heap[least]) ? child : least;
        }
        if (least == i) {
            return first;
        }
        heap_swap(s, i, least);
        i = least;
    }
}

bool sim_chance(struct sim *s, unsigned percent)
{
    bool hit = rand_below(&s->rand, 100) < percent;

    return hit && !s->is_quiet;
}

int64_t sim_between(struct sim *s, int64_t from_ms, int64_t to_ms)
{
    return from_ms + (int64_t)rand_below(&s->rand, (uint64_t)(to_ms - from_ms) + 1);
}

void sim_send(struct sim *s, struct sim_event ev)
{
    int64_t delay = sim_chance(s, 10) ? sim_between(s, 0, SIM_MINUTE) : sim_between(s, 0, 5);

    if (sim_chance(s, 8)) {
        return;
    }
    if (sim_chance(s, 8)) {
        sim_at(s, delay + sim_between(s, 0, 20 * SIM_SECOND), ev);
    }
    sim_at(s, delay, ev);
}

/* ---- the broker's life ----------------------------------------------------------------------- */

/* The questions and deadlines of the store decide when it is ticked. */
static void plan_tick(struct sim *s)
{
    int64_t next_ms = txn_next_ms(s->w.t);
    int64_t delay = next_ms == INT64_MAX ? INT64_MAX : next_ms - s->w.now.mono_ms;

    if (delay == INT64_MAX || (s->tick_at_ms > s->now_ms && s->tick_at_ms <= s->now_ms + delay)) {
        return;
    }
    if (delay < 1) {
        delay = 1;
    }
    s->tick_at_ms = s->now_ms + delay;
    sim_at(s, delay, (struct sim_event){.kind = EV_TICK});
}

static void plan_next(struct sim *s, enum sim_kind kind)
{
    static const int64_t mean_ms[] = {
        [EV_CHECKPOINT] = 20 * SIM_MINUTE, [EV_CRASH] = 90 * SIM_MINUTE, [EV_FULL] = 3 * SIM_HOUR};

    if (!s->is_quiet) {
        sim_at(s, sim_between(s, 1, 2 * mean_ms[kind]), (struct sim_event){.kind = kind, .v = 1});
    }
}

static void crash(struct sim *s)
{
    size_t in_flight = s->w.log_count - s->w.applied;
    size_t kept = in_flight == 0 ? 0 : rand_below(&s->rand, in_flight + 1);

    for (size_t i = s->w.applied; i < s->w.log_count; i++) {
        s->cover->crash_with_decision_in_flight += s->w.log[i].type == WORLD_DECISION;
        s->cover->crash_with_half_in_flight += s->w.log[i].type == WORLD_HALF;
    }
    s->cover->restart_from_checkpoint += s->w.checkpoint.len > 0;
    s->cover->stale_answer += txn_counters(s->w.t)->answers_stale;
    s->cover->group_paused += txn_counters(s->w.t)->group_pauses;
    s->cover->deadline_passed += txn_counters(s->w.t)->asks_unanswered;
    world_crash(&s->w, kept, 0);
    if (s->w.log_count < s->unknowns_cap) {
        /* Offsets behind the end are handed out again. */
        memset(s->unknowns + s->w.log_count, 0,
               (s->unknowns_cap - s->w.log_count) * sizeof *s->unknowns);
    }
    s->waiting_count = 0;
    s->is_broker_up = false;
    s->asks_seen = s->w.ask_count;
    s->releases_seen =
        s->releases_seen > s->w.release_count ? s->w.release_count : s->releases_seen;
    sim_check_releases(s);
    sim_check_undecided(s);
    sim_at(s, sim_between(s, 100, sim_chance(s, 10) ? 4 * SIM_HOUR : 20 * SIM_SECOND),
           (struct sim_event){.kind = EV_START});
}

static void start(struct sim *s)
{
    s->is_broker_up = true;
    s->tick_at_ms = 0;
    for (unsigned g = 0; g < SIM_GROUPS; g++) {
        if (s->groups[g].is_up) {
            txn_group_reachable(s->w.t, slice_str(s->groups[g].name), s->w.now);
        }
    }
    sim_at(s, 1, (struct sim_event){.kind = EV_SYNC});
}

static void sync_some(struct sim *s)
{
    world_sync_some(&s->w, s->is_quiet ? SIZE_MAX : rand_below(&s->rand, 6));
    sim_check_releases(s);
    sim_broker_answers_due(s);
}

static void broker_event(struct sim *s, const struct sim_event *ev)
{
    if (ev->kind == EV_START) {
        start(s);
        return;
    }
    if (ev->kind == EV_CRASH || ev->kind == EV_CHECKPOINT || ev->kind == EV_FULL) {
        if (s->is_broker_up && ev->kind == EV_CRASH && !s->is_quiet) {
            crash(s);
        } else if (s->is_broker_up && ev->kind == EV_CHECKPOINT) {
            world_checkpoint(&s->w);
            sim_check_undecided(s);
        } else if (ev->kind == EV_FULL) {
            s->w.refuses_halves = ev->v == 1 && !s->is_quiet;
            s->w.refuses_checks = s->w.refuses_halves;
            sim_at(s, sim_between(s, 1, SIM_HOUR), (struct sim_event){.kind = EV_FULL});
        }
        if (ev->v == 1) {
            plan_next(s, ev->kind);
        }
        return;
    }
    if (!s->is_broker_up) {
        return;
    }
    if (ev->kind == EV_SYNC) {
        sync_some(s);
        if (s->w.applied < s->w.log_count) {
            sim_at(s, sim_between(s, 1, s->disk_ms), *ev);
        }
    } else if (ev->kind == EV_TICK) {
        sim_broker_tick(s);
    } else if (ev->kind == EV_ANSWER_ARRIVE || ev->kind == EV_ASK_FAILED) {
        sim_broker_answer(s, ev);
    } else {
        sim_broker_request(s, ev);
    }
}

/*
 * Whatever happened: new questions go out, new records become durable soon, the next deadline is
 * kept.
 */
static void after_event(struct sim *s, size_t records_before)
{
    if (!s->is_broker_up) {
        return;
    }
    sim_broker_asks(s);
    if (s->w.log_count > records_before) {
        sim_at(s, sim_between(s, 1, s->disk_ms), (struct sim_event){.kind = EV_SYNC});
        if (sim_chance(s, 1)) { /* the worst moment: something is in flight */
            sim_at(s, sim_between(s, 0, s->disk_ms), (struct sim_event){.kind = EV_CRASH, .v = 2});
        }
    }
    plan_tick(s);
}

static void dispatch(struct sim *s, const struct sim_event *ev)
{
    switch (ev->kind) {
    case EV_TX_BEGIN:
    case EV_HALF_SEND:
    case EV_HALF_ACK:
    case EV_DB_END:
    case EV_DB_LOST:
    case EV_END_SEND:
    case EV_END_ACK:
    case EV_ASK_ARRIVE:
        sim_producer_event(s, ev);
        break;
    case EV_HALF_ARRIVE:
    case EV_END_ARRIVE:
    case EV_ANSWER_ARRIVE:
    case EV_ASK_FAILED:
    case EV_SYNC:
    case EV_TICK:
    case EV_CHECKPOINT:
    case EV_CRASH:
    case EV_START:
    case EV_FULL:
        broker_event(s, ev);
        break;
    case EV_GROUP_DOWN:
    case EV_GROUP_UP:
    case EV_HTTP:
        sim_group_event(s, ev);
        break;
    }
}

/* Run until `until_ms`, or until nothing more can happen. */
static void run_until(struct sim *s, int64_t until_ms)
{
    while (s->heap_count > 0 && s->heap[0].at_ms <= until_ms) {
        struct sim_event ev = heap_take(s);
        size_t records = s->w.log_count;

        world_pass(&s->w, ev.at_ms - s->now_ms);
        s->now_ms = ev.at_ms;
        dispatch(s, &ev);
        after_event(s, records < s->w.log_count ? records : s->w.log_count);
    }
    world_pass(&s->w, until_ms - s->now_ms);
    s->now_ms = until_ms;
}

/* ---- one run --------------------------------------------------------------------------------- */

static void sim_init(struct sim *s, uint64_t seed, struct sim_cover *cover)
{
    struct txn_config config;

    memset(s, 0, sizeof *s);
    s->seed = seed;
    s->cover = cover;
    rand_init(&s->rand, seed);
    s->is_async = seed % 5 == 0;
    s->disk_ms = rand_below(&s->rand, 2) == 0 ? 20 : 5 * SIM_SECOND;
    txn_config_default(&config);
    config.checks_max = (uint32_t)(2 + rand_below(&s->rand, 3));
    config.group_window = (uint32_t)(1 + rand_below(&s->rand, 30));
    config.group_rate = (uint32_t)(1 + rand_below(&s->rand, 20));
    world_init(&s->w, &config, seed);
    s->is_broker_up = true;
    for (unsigned g = 0; g < SIM_GROUPS; g++) {
        (void)snprintf(s->groups[g].name, sizeof s->groups[g].name, "g%u", g);
        s->groups[g].is_up = true;
        sim_at(s, sim_between(s, SIM_MINUTE, 6 * SIM_HOUR),
               (struct sim_event){.kind = EV_GROUP_DOWN, .a = g});
        sim_at(s, sim_between(s, 0, 2 * SIM_HOUR), (struct sim_event){.kind = EV_HTTP, .a = g});
    }
    for (unsigned i = 0; i < SIM_TX_COUNT; i++) {
        sim_at(s, sim_between(s, 0, SIM_RUN_MS * 3 / 4),
               (struct sim_event){.kind = EV_TX_BEGIN, .a = i});
    }
    plan_next(s, EV_CHECKPOINT);
    plan_next(s, EV_CRASH);
    plan_next(s, EV_FULL);
}

static void sim_fini(struct sim *s)
{
    world_fini(&s->w);
    mem_free(s->heap);
    mem_free(s->waiting);
    mem_free(s->unknowns);
}

/* Everybody is there, everything works, for as long as the slowest half may need. */
static void calm_down(struct sim *s)
{
    s->is_quiet = true;
    s->w.refuses_halves = false;
    s->w.refuses_checks = false;
    for (unsigned g = 0; g < SIM_GROUPS; g++) {
        struct sim_event up = {.kind = EV_GROUP_UP, .a = g};
        s->groups[g].http = HTTP_OK;
        if (!s->groups[g].is_up) {
            sim_at(s, 0, up);
        }
    }
    if (!s->is_broker_up) {
        sim_at(s, 0, (struct sim_event){.kind = EV_START});
    }
}

/* A person looks at the parking topic and at the databases, and decides. */
static void decide_parked(struct sim *s)
{
    struct txn_filter parked = {.states = 1u << HALF_EXPIRED};
    struct txn_row rows[16];
    uint64_t cursor = 0;
    bool is_end = false;

    while (!is_end) {
        size_t count = txn_list(s->w.t, &parked, &cursor, rows, 16, &is_end);
        for (size_t i = 0; i < count; i++) {
            unsigned tx;
            unsigned half;
            struct txn_end_result result;
            CHECK(sim_half_at(s, rows[i].offset, &tx, &half));
            result = world_end(&s->w,
                               s->txs[tx].db == DB_COMMITTED ? DECISION_COMMIT : DECISION_ROLLBACK,
                               DECISION_BY_OPERATOR, NULL, rows[i].offset, NULL);
            CHECK(result.code == TXN_END_PERSIST);
            s->cover->decision_after_expiry++;
        }
    }
    world_sync(&s->w);
    sim_check_releases(s);
}

void sim_run(uint64_t seed, struct sim_cover *cover)
{
    struct sim s;
    int64_t bound_ms;

    sim_init(&s, seed, cover);
    run_until(&s, SIM_RUN_MS);
    calm_down(&s);
    /*
     * The longest back-off and its jitter, a deadline, an immunity, a pause, twice over, and the
     * rate.
     */
    bound_ms = 2 * (s.w.config.interval_max_ms * 5 / 4 + 20 * SIM_SECOND + 10 * SIM_MINUTE +
                    s.w.config.pause_max_ms * 5 / 4) +
               SIM_TX_COUNT * SIM_TX_HALVES * SIM_SECOND * 10;
    run_until(&s, SIM_RUN_MS + bound_ms);
    sim_check_bounded(&s);
    decide_parked(&s);
    sim_check_end(&s);
    cover->stale_answer += txn_counters(s.w.t)->answers_stale;
    cover->group_paused += txn_counters(s.w.t)->group_pauses;
    cover->deadline_passed += txn_counters(s.w.t)->asks_unanswered;
    sim_fini(&s);
}
