/* Requests that reach the broker, its questions, and the answers to them. */
#include "tests/sim/txn_sim.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "escrow/errors.h"

#include <string.h>

/* Send an acknowledgement when the log is applied up to `until` records. */
static void ack_when(struct sim *s, size_t until, struct sim_event ack)
{
    if (s->waiting_count == s->waiting_cap) {
        s->waiting_cap = s->waiting_cap == 0 ? 64 : s->waiting_cap * 2;
        s->waiting = mem_realloc(s->waiting, s->waiting_cap * sizeof *s->waiting);
        CHECK(s->waiting != NULL);
    }
    s->waiting[s->waiting_count++] = (struct sim_waiting){.until = until, .ack = ack};
    sim_broker_answers_due(s);
}

void sim_broker_answers_due(struct sim *s)
{
    size_t left = 0;

    for (size_t i = 0; i < s->waiting_count; i++) {
        if (s->waiting[i].until <= s->w.applied) {
            sim_check_ack(s, &s->waiting[i].ack);
            sim_send(s, s->waiting[i].ack);
        } else {
            s->waiting[left++] = s->waiting[i];
        }
    }
    s->waiting_count = left;
}

static void half_arrive(struct sim *s, const struct sim_event *ev)
{
    const struct sim_tx *tx = &s->txs[ev->a];
    struct txn_prepare_result result;
    struct sim_event ack = {.kind = EV_HALF_ACK, .a = ev->a, .b = ev->b};
    char id[WORLD_NAME_MAX];
    char topic[2] = {(char)('a' + ev->b), '\0'};
    size_t before = s->w.log_count;

    sim_half_name(s, ev->a, ev->b, id, sizeof id);
    ack.x = world_half(&s->w, s->groups[tx->group].name, id, topic, &result);
    ack.v = (int)result.verdict;
    if (result.verdict == TXN_NEW && s->w.log_count == before) {
        s->cover->half_refused_by_full_disk++;
        return; /* an error; the producer tries again */
    }
    if (result.verdict == TXN_NEW) {
        CHECK(!s->w.refuses_halves);
        /* A record that a crash will take may be acknowledged only in asynchronous mode. */
        ack_when(s, s->is_async ? 0 : s->w.log_count, ack);
        return;
    }
    s->cover->duplicate_half += result.verdict == TXN_DUPLICATE;
    s->cover->half_after_decision += result.verdict == TXN_DECIDED;
    ack_when(s, result.wait && !s->is_async ? s->w.log_count : 0, ack);
}

/* Somebody says the opposite of what was just decided: refused, whatever the disk is doing. */
static void contradict(struct sim *s, struct txn_end end)
{
    struct txn_end_result results[SIM_TX_HALVES];
    bool wait = s->w.u.wait || s->w.u.decision.len > 0;
    size_t before = s->w.log_count;

    end.kind = end.kind == DECISION_COMMIT ? DECISION_ROLLBACK : DECISION_COMMIT;
    world_end_many(&s->w, &end, results);
    for (size_t i = 0; i < end.count; i++) {
        CHECK(results[i].code == TXN_END_CONFLICT);
        CHECK(results[i].fact.kind != end.kind);
    }
    CHECK(s->w.log_count == before);
    CHECK(s->w.u.wait == wait);
    s->cover->conflict_in_flight += wait;
}

static void end_arrive(struct sim *s, const struct sim_event *ev)
{
    const struct sim_tx *tx = &s->txs[ev->a];
    char ids[SIM_TX_HALVES][WORLD_NAME_MAX];
    struct txn_end_item items[SIM_TX_HALVES];
    struct txn_end_result results[SIM_TX_HALVES];
    struct txn_end end = {.kind = (enum decision_kind)ev->v,
                          .by = DECISION_BY_PRODUCER,
                          .group = slice_str(s->groups[tx->group].name),
                          .items = items};
    struct sim_event ack = *ev;
    bool is_waiting;
    bool is_ok = true;

    for (unsigned h = 0; h < tx->half_count; h++) {
        if ((ev->b >> h & 1) == 0) {
            continue;
        }
        sim_half_name(s, ev->a, h, ids[h], sizeof ids[h]);
        items[end.count++] =
            (struct txn_end_item){.offset = tx->halves[h].offset, .txn_id = slice_str(ids[h])};
    }
    for (size_t i = 0; i < end.count; i++) {
        int state = world_state(&s->w, items[i].offset);
        s->cover->commit_while_appending += state == HALF_APPENDING;
        s->cover->decision_while_expiring += state == HALF_EXPIRING;
        s->cover->decision_after_expiry += state == HALF_EXPIRED;
    }
    world_end_many(&s->w, &end, results);
    is_waiting = s->w.u.wait || s->w.u.decision.len > 0;
    for (size_t i = 0; i < end.count; i++) {
        is_ok &= txn_end_error(&results[i]) == 0;
        s->cover->conflict_in_flight += results[i].code == TXN_END_CONFLICT && s->w.u.wait;
        s->cover->repeated_decision += results[i].code == TXN_END_SAME;
        s->cover->decision_for_lost_half +=
            results[i].code == TXN_END_WRONG_ID || results[i].code == TXN_END_NOTFOUND;
        /*
         * Nobody contradicts the database: its decisions are the only ones that anybody may make.
         */
        CHECK_IMPLIES(end.kind == DECISION_COMMIT, results[i].code != TXN_END_CONFLICT);
        /* A half that was acknowledged when it was durable is never unknown. */
        CHECK_IMPLIES(!s->is_async,
                      results[i].code != TXN_END_WRONG_ID && results[i].code != TXN_END_NOTFOUND);
    }
    s->cover->batch_of_halves += end.count > 1;
    if (is_ok && sim_chance(s, 5)) {
        contradict(s, end);
    }
    ack.kind = EV_END_ACK;
    ack.x = is_ok;
    ack_when(s, is_waiting ? s->w.log_count : 0, ack);
}

void sim_broker_request(struct sim *s, const struct sim_event *ev)
{
    if (ev->kind == EV_HALF_ARRIVE) {
        half_arrive(s, ev);
    } else {
        CHECK(ev->kind == EV_END_ARRIVE);
        end_arrive(s, ev);
    }
}

void sim_broker_tick(struct sim *s)
{
    (void)world_tick(&s->w); /* its questions are sent out in sim_broker_asks */
}

void sim_broker_asks(struct sim *s)
{
    for (; s->asks_seen < s->w.ask_count; s->asks_seen++) {
        struct txn_ask ask = s->w.asks[s->asks_seen];
        struct sim_event ev = {.b = (unsigned)ask.way, .x = ask.offset, .nonce = ask.nonce};
        const struct sim_group *g;
        unsigned half;

        sim_check_ask(s, &ask);
        CHECK(sim_half_at(s, ask.offset, &ev.a, &half));
        g = &s->groups[s->txs[ev.a].group];
        if (ask.way == TXN_WAY_LIVE ? !g->is_up : g->is_dead || g->http == HTTP_REFUSED) {
            ev.kind = EV_ASK_FAILED;
            ev.v = (int)TXN_ASK_UNDELIVERABLE;
            sim_at(s, sim_between(s, 0, 20), ev);
        } else if (ask.way == TXN_WAY_HTTP && g->http == HTTP_HUNG && sim_chance(s, 50)) {
            ev.kind = EV_ASK_FAILED;
            ev.v = (int)TXN_ASK_UNANSWERED;
            sim_at(s, sim_between(s, 1, 30 * SIM_SECOND), ev);
        } else {
            ev.kind = EV_ASK_ARRIVE;
            sim_send(s, ev);
        }
    }
}

/* Remember that somebody said "unknown" about a half. */
static void count_unknown(struct sim *s, uint64_t offset)
{
    size_t index = (size_t)((offset - 4096) / 1024);

    if (index >= s->unknowns_cap) {
        size_t cap = index * 2 + 64;
        s->unknowns = mem_realloc(s->unknowns, cap * sizeof *s->unknowns);
        CHECK(s->unknowns != NULL);
        memset(s->unknowns + s->unknowns_cap, 0, (cap - s->unknowns_cap) * sizeof *s->unknowns);
        s->unknowns_cap = cap;
    }
    s->unknowns[index]++;
}

/* RocketMQ's way: the answer is an END_TRANSACTION from a check, without a nonce. */
static void live_answer_arrive(struct sim *s, const struct sim_event *ev)
{
    const char *group = s->groups[s->txs[ev->a].group].name;
    char id[WORLD_NAME_MAX];
    unsigned tx;
    unsigned half;

    /* Clients echo the id that the question named; the broker may have lost that half since. */
    if (!sim_half_at(s, ev->x, &tx, &half) || tx != ev->a) {
        return;
    }
    sim_half_name(s, tx, half, id, sizeof id);
    if (ev->v == TXN_ANSWER_UNKNOWN) {
        struct txn_end_item item = {.offset = ev->x, .txn_id = slice_str(id)};
        if (txn_check_unknown(s->w.t, slice_str(group), &item, s->w.now, &s->w.u) == 0) {
            count_unknown(s, ev->x);
            world_obey(&s->w);
        }
        return;
    }
    (void)world_end(&s->w, ev->v == TXN_ANSWER_COMMIT ? DECISION_COMMIT : DECISION_ROLLBACK,
                    DECISION_BY_CHECK, group, ev->x, id);
    s->cover->decided_by_check++;
}

void sim_broker_answer(struct sim *s, const struct sim_event *ev)
{
    struct txn_ask ask = {.offset = ev->x, .nonce = ev->nonce};

    if (ev->kind == EV_ASK_FAILED) {
        (void)world_fail(&s->w, &ask, (enum txn_ask_failure)ev->v); /* stale: nothing */
        return;
    }
    if (ev->b == TXN_WAY_LIVE) {
        live_answer_arrive(s, ev);
        return;
    }
    if (world_answer(&s->w, &ask, (enum txn_answer)ev->v) != 0) {
        s->cover->wrong_nonce++;
        return;
    }
    if (ev->v == TXN_ANSWER_UNKNOWN) {
        count_unknown(s, ev->x);
    }
    s->cover->decided_by_check += ev->v == TXN_ANSWER_COMMIT || ev->v == TXN_ANSWER_ROLLBACK;
}
