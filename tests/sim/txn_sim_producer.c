/*
 * Producers and their databases. A producer sends its halves, runs the local transaction when all
 * are acknowledged, and ends them by what became of it. It may die at any moment; its database then
 * aborts what it had open, after a while.
 */
#include "tests/sim/txn_sim.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <stdio.h>

void sim_half_name(const struct sim *s, unsigned tx, unsigned half, char *text, size_t size)
{
    (void)snprintf(text, size, "tx%u-%u-%llu", tx, half, (unsigned long long)s->seed);
}

/* Is the producer that runs this transaction still alive? */
static bool is_alive(const struct sim *s, const struct sim_tx *tx)
{
    const struct sim_group *g = &s->groups[tx->group];

    return g->is_up && g->incarnation == tx->incarnation;
}

static void begin(struct sim *s, unsigned number)
{
    struct sim_tx *tx = &s->txs[number];

    tx->group = (unsigned)rand_below(&s->rand, SIM_GROUPS);
    if (!s->groups[tx->group].is_up) {
        tx->db = DB_ABORTED; /* nobody there to begin it */
        return;
    }
    tx->incarnation = s->groups[tx->group].incarnation;
    tx->half_count = (unsigned)(1 + rand_below(&s->rand, SIM_TX_HALVES));
    tx->wants_commit = rand_below(&s->rand, 4) != 0;
    tx->is_confirmed = rand_below(&s->rand, 2) == 0;
    tx->is_batch = rand_below(&s->rand, 2) == 0;
    for (unsigned h = 0; h < tx->half_count; h++) {
        sim_at(s, 0, (struct sim_event){.kind = EV_HALF_SEND, .a = number, .b = h});
    }
}

static void half_send(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];
    struct sim_half *half = &tx->halves[ev->b];

    if (half->is_acked || !is_alive(s, tx) || tx->db != DB_NONE) {
        return;
    }
    if (half->tries++ == 4) {
        tx->db = DB_ABORTED; /* gives up: the local transaction is never begun */
        return;
    }
    sim_send(s, (struct sim_event){.kind = EV_HALF_ARRIVE, .a = ev->a, .b = ev->b});
    sim_at(s, 3 * SIM_SECOND, *ev);
}

static void half_ack(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];
    bool is_complete = true;

    if (!is_alive(s, tx) || tx->db != DB_NONE || tx->halves[ev->b].is_acked) {
        return;
    }
    if (ev->v == TXN_DECIDED) {
        tx->db = DB_ABORTED; /* a check was faster and rolled it back */
        return;
    }
    tx->halves[ev->b].is_acked = true;
    tx->halves[ev->b].offset = ev->x;
    for (unsigned h = 0; h < tx->half_count; h++) {
        is_complete &= tx->halves[h].is_acked;
    }
    if (is_complete) {
        tx->db = DB_RUNNING;
        sim_at(s, sim_chance(s, 30) ? sim_between(s, 0, 3 * SIM_MINUTE) : sim_between(s, 0, 50),
               (struct sim_event){.kind = EV_DB_END, .a = ev->a});
    }
}

static void db_end(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];

    if (tx->db != DB_RUNNING || !is_alive(s, tx)) {
        return; /* EV_DB_LOST cleans up */
    }
    if (tx->has_tombstone) {
        s->cover->tombstone_stopped_a_commit++;
    }
    tx->db = tx->wants_commit && !tx->has_tombstone ? DB_COMMITTED : DB_ABORTED;
    sim_at(s, sim_chance(s, 10) ? sim_between(s, 0, 10 * SIM_MINUTE) : 0,
           (struct sim_event){.kind = EV_END_SEND, .a = ev->a});
}

static void end_send(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];
    int kind = tx->db == DB_COMMITTED ? DECISION_COMMIT : DECISION_ROLLBACK;

    if (!is_alive(s, tx) || tx->is_answered) {
        return;
    }
    if (tx->is_batch) {
        sim_send(
            s, (struct sim_event){
                   .kind = EV_END_ARRIVE, .a = ev->a, .v = kind, .b = (1u << tx->half_count) - 1});
    } else {
        for (unsigned h = 0; h < tx->half_count; h++) {
            sim_send(
                s, (struct sim_event){.kind = EV_END_ARRIVE, .a = ev->a, .b = 1u << h, .v = kind});
        }
    }
    if (tx->is_confirmed && tx->end_tries++ < 20) {
        sim_at(s, 5 * SIM_SECOND, *ev);
    }
}

/*
 * What a producer that is asked over its connection can say: only what its own process still knows.
 */
static enum txn_answer live_answer(const struct sim *s, const struct sim_tx *tx)
{
    if (!is_alive(s, tx)) {
        return TXN_ANSWER_UNKNOWN;
    }
    switch (tx->db) {
    case DB_COMMITTED:
        return TXN_ANSWER_COMMIT;
    case DB_ABORTED:
        return TXN_ANSWER_ROLLBACK;
    case DB_NONE:
    case DB_RUNNING:
        break;
    }
    return TXN_ANSWER_UNKNOWN;
}

/*
 * The endpoint that looks into the database: a row, a running transaction, or a tombstone of its
 * own.
 */
static enum txn_answer database_answer(struct sim *s, struct sim_tx *tx)
{
    if (sim_chance(s, 5)) {
        return TXN_ANSWER_UNKNOWN; /* the database is failing over */
    }
    switch (tx->db) {
    case DB_COMMITTED:
        return TXN_ANSWER_COMMIT;
    case DB_RUNNING:
        return TXN_ANSWER_IN_PROGRESS;
    case DB_ABORTED:
        return TXN_ANSWER_ROLLBACK;
    case DB_NONE:
        break;
    }
    tx->has_tombstone = true;
    return TXN_ANSWER_ROLLBACK;
}

static void ask_arrive(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];
    struct sim_group *g = &s->groups[tx->group];
    struct sim_event answer = *ev;

    answer.kind = EV_ANSWER_ARRIVE;
    if (ev->b == TXN_WAY_LIVE) {
        if (!g->is_up) {
            return;
        }
        answer.v = (int)live_answer(s, tx);
    } else if (g->is_dead) {
        return;
    } else if (g->http == HTTP_OK) {
        answer.v = (int)database_answer(s, tx);
    } else if (g->http == HTTP_GARBAGE) {
        answer.v = (int)TXN_ANSWER_INVALID;
    } else {
        return; /* hung, or gone meanwhile */
    }
    if (sim_chance(s, 3)) {
        answer.nonce ^= 1u << rand_below(&s->rand, 31);
    }
    sim_send(s, answer);
}

static void begin_event(struct sim *s, const struct sim_event *ev)
{
    begin(s, ev->a);
}

static void db_lost(struct sim *s, const struct sim_event *ev)
{
    if (s->txs[ev->a].db == DB_RUNNING) {
        s->txs[ev->a].db = DB_ABORTED;
    }
}

static void end_ack(struct sim *s, const struct sim_event *ev)
{
    struct sim_tx *tx = &s->txs[ev->a];

    tx->is_answered |= ev->b == (1u << tx->half_count) - 1;
}

void sim_producer_event(struct sim *s, const struct sim_event *ev)
{
    static void (*const handlers[])(struct sim *, const struct sim_event *) = {
        [EV_TX_BEGIN] = begin_event, [EV_HALF_SEND] = half_send,  [EV_HALF_ACK] = half_ack,
        [EV_DB_END] = db_end,        [EV_DB_LOST] = db_lost,      [EV_END_SEND] = end_send,
        [EV_END_ACK] = end_ack,      [EV_ASK_ARRIVE] = ask_arrive};

    CHECK(ev->kind < sizeof handlers / sizeof handlers[0] && handlers[ev->kind] != NULL);
    handlers[ev->kind](s, ev);
}

void sim_group_event(struct sim *s, const struct sim_event *ev)
{
    struct sim_group *g = &s->groups[ev->a];

    if (ev->kind == EV_GROUP_DOWN && !s->is_quiet) {
        g->is_up = false;
        g->incarnation++;
        for (unsigned i = 0; i < SIM_TX_COUNT; i++) {
            struct sim_tx *tx = &s->txs[i];
            if (tx->group == ev->a && tx->half_count > 0 && tx->db == DB_RUNNING) {
                sim_at(s, sim_between(s, 0, 2 * SIM_MINUTE),
                       (struct sim_event){.kind = EV_DB_LOST, .a = i});
            } else if (tx->group == ev->a && tx->half_count > 0 && tx->db == DB_NONE) {
                tx->db = rand_below(&s->rand, 2) == 0 ? DB_ABORTED : DB_NONE;
            }
        }
        g->is_dead = sim_chance(s, 25); /* its endpoint and database are gone too */
        sim_at(s, sim_between(s, 0, g->is_dead ? 24 * SIM_HOUR : 30 * SIM_MINUTE),
               (struct sim_event){.kind = EV_GROUP_UP, .a = ev->a});
    } else if (ev->kind == EV_GROUP_UP) {
        g->is_up = true;
        g->is_dead = false;
        if (s->is_broker_up) {
            txn_group_reachable(s->w.t, slice_str(g->name), s->w.now);
        }
        if (!s->is_quiet) {
            sim_at(s, sim_between(s, SIM_MINUTE, 6 * SIM_HOUR),
                   (struct sim_event){.kind = EV_GROUP_DOWN, .a = ev->a});
        }
    } else if (ev->kind == EV_HTTP && !s->is_quiet) {
        g->http = (enum sim_http)ev->v;
        sim_at(s, sim_between(s, SIM_MINUTE, ev->v == HTTP_OK ? 6 * SIM_HOUR : 3 * SIM_HOUR),
               (struct sim_event){.kind = EV_HTTP, .a = ev->a, .v = (int)rand_below(&s->rand, 4)});
    }
}
