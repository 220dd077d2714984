/*
 * What must be true, always (design sentences in the comments):
 *
 *   2  no half that is undecided or rolled back is ever delivered 3  a committed half is delivered
 *   once 4  every half is decided, or reported, in bounded time after somebody can answer and:
 *   nothing acknowledged is lost; only answered questions count; decided halves are not asked
 *   about; what a restart makes of the log is what was there before.
 */
#include "tests/sim/txn_sim.h"

#include "core/base/check.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>

bool sim_half_at(const struct sim *s, uint64_t offset, unsigned *tx, unsigned *half)
{
    size_t index = (size_t)((offset - 4096) / 1024);
    const char *id;

    if (offset < 4096 || offset % 1024 != 0 || index >= s->w.log_count ||
        s->w.log[index].type != WORLD_HALF) {
        return false;
    }
    CHECK(s->w.log[index].offset == offset);
    id = s->w.log[index].id;
    for (*tx = 0; *tx < SIM_TX_COUNT; (*tx)++) {
        for (*half = 0; *half < s->txs[*tx].half_count; (*half)++) {
            char name[WORLD_NAME_MAX];
            sim_half_name(s, *tx, *half, name, sizeof name);
            if (strcmp(name, id) == 0) {
                return true;
            }
        }
    }
    return false;
}

void sim_check_releases(struct sim *s)
{
    for (; s->releases_seen < s->w.release_count; s->releases_seen++) {
        const struct world_release *r = &s->w.releases[s->releases_seen];
        unsigned tx;
        unsigned half;

        CHECK(sim_half_at(s, r->offset, &tx, &half));
        CHECK((r->offset - 4096) / 1024 < s->w.durable);
        if (r->kind == DECISION_COMMIT) {
            CHECK(s->txs[tx].db == DB_COMMITTED); /* 2 */
            CHECK(r->topic[0] == (char)('a' + half));
        } else {
            CHECK(strcmp(r->topic, TXN_PARKING_TOPIC) == 0);
            s->cover->expired++;
        }
        CHECK(world_released(&s->w, r->offset, r->kind) == 1); /* 3 */
    }
}

/*
 * The DECISION record of this kind that names the half, as an index; log_count when there is none.
 */
static size_t find_decision(const struct sim *s, uint64_t offset, bool is_expire)
{
    size_t index = (size_t)((offset - 4096) / 1024);

    for (size_t i = index; i < s->w.log_count; i++) {
        struct decision_head head;
        struct decision_iter iter;
        struct decision_entry entry;

        if (s->w.log[i].type != WORLD_DECISION) {
            continue;
        }
        CHECK(decision_decode(buf_slice(&s->w.log[i].payload), &head, &iter) == 0);
        if ((head.kind == DECISION_EXPIRE) != is_expire) {
            continue;
        }
        while (decision_next(&iter, &entry)) {
            if (entry.offset == offset) {
                return i;
            }
        }
    }
    return s->w.log_count;
}

void sim_check_ask(struct sim *s, const struct txn_ask *ask)
{
    size_t index = (size_t)((ask->offset - 4096) / 1024);

    CHECK(index < s->w.applied);
    CHECK(find_decision(s, ask->offset, false) == s->w.log_count);
    CHECK(find_decision(s, ask->offset, true) == s->w.log_count);
    /* Not before the immunity, by the broker's clock. */
    CHECK(s->w.now.wall_ms >= s->w.log[index].store_ms + s->w.config.immunity_ms);
}

void sim_check_ack(struct sim *s, const struct sim_event *ack)
{
    const struct sim_tx *tx = &s->txs[ack->a];

    if (ack->kind == EV_HALF_ACK) {
        unsigned number;
        unsigned half;
        CHECK(sim_half_at(s, ack->x, &number, &half));
        CHECK(number == ack->a && half == ack->b);
        CHECK_IMPLIES(!s->is_async, (ack->x - 4096) / 1024 < s->w.durable);
        return;
    }
    for (unsigned h = 0; h < tx->half_count && ack->x == 1; h++) {
        /* A decision that was answered as success is durable, and is this one. */
        if ((ack->b >> h & 1) != 0) {
            CHECK(world_state(&s->w, tx->halves[h].offset) ==
                  (ack->v == DECISION_COMMIT ? HALF_COMMITTED : HALF_ROLLED_BACK));
            CHECK(find_decision(s, tx->halves[h].offset, false) < s->w.durable);
        }
    }
}

void sim_check_undecided(struct sim *s)
{
    txn_check(s->w.t);
    for (size_t i = 0; i < s->w.applied; i++) {
        uint64_t offset = s->w.log[i].offset;
        struct txn_row row = {0};
        struct decided_fact fact;
        size_t decision;
        size_t expiry;

        if (s->w.log[i].type != WORLD_HALF) {
            continue;
        }
        decision = find_decision(s, offset, false);
        expiry = find_decision(s, offset, true);
        if (decision < s->w.applied) {
            CHECK(!txn_find(s->w.t, offset, &row, &fact));
            CHECK(fact.kind != DECISION_NONE);
            continue;
        }
        CHECK(txn_find(s->w.t, offset, &row, &fact)); /* never dropped */
        CHECK((row.state == HALF_EXPIRED) == (expiry < s->w.applied && decision == s->w.log_count));
        /* Only answers count. */
        CHECK(row.checks <= (i < s->unknowns_cap ? s->unknowns[i] : 0));
        CHECK_IMPLIES(expiry < s->w.log_count, row.checks >= s->w.config.checks_max);
    }
}

void sim_check_bounded(struct sim *s)
{
    struct txn_gauges g;

    sim_check_undecided(s);
    txn_gauges(s->w.t, &g);
    if (g.halves != g.by_state[HALF_EXPIRED]) { /* 4 */
        struct txn_row row = {0};
        struct txn_filter open = {.states = ~(1u << HALF_EXPIRED)};
        uint64_t cursor = 0;
        bool is_end;
        (void)txn_list(s->w.t, &open, &cursor, &row, 1, &is_end); /* one is enough to say which */
        (void)fprintf(stderr, "half at %llu is still in state %s, stored %lld ms ago\n",
                      (unsigned long long)row.offset, sm_name(&half_sm, (int)row.state),
                      (long long)(s->w.now.wall_ms - row.store_ms));
    }
    CHECK(g.halves == g.by_state[HALF_EXPIRED]);
}

void sim_check_end(struct sim *s)
{
    struct txn_gauges g;

    txn_check(s->w.t);
    txn_gauges(s->w.t, &g);
    CHECK(g.halves == 0);
    CHECK(txn_reserve_bytes(s->w.t) == 0);
    CHECK(txn_next_ms(s->w.t) == INT64_MAX);
    for (size_t i = 0; i < s->w.log_count; i++) {
        unsigned tx;
        unsigned half;
        uint64_t offset = s->w.log[i].offset;
        if (s->w.log[i].type == WORLD_HALF) {
            CHECK(sim_half_at(s, offset, &tx, &half));
            CHECK(world_released(&s->w, offset, DECISION_COMMIT) ==
                  (s->txs[tx].db == DB_COMMITTED ? 1 : 0)); /* 2, 3 */
        }
    }
    for (unsigned t = 0; t < SIM_TX_COUNT; t++) {
        for (unsigned h = 0; h < s->txs[t].half_count && !s->is_async; h++) {
            const struct sim_half *half = &s->txs[t].halves[h];
            unsigned tx;
            unsigned number;
            if (half->is_acked) { /* nothing acknowledged is lost */
                CHECK(sim_half_at(s, half->offset, &tx, &number));
                CHECK(tx == t && number == h);
            }
        }
    }
}
