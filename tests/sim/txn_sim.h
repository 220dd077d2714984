/*
 * Simulation of transactions: producers with a local database each, a network that loses, repeats
 * and delays, checkers that are down for hours, hang or talk nonsense, and a broker
 * (tests/unit/txn/world.h) that crashes with any part of its log buffer. Everything happens at
 * virtual times and follows from the seed.
 *
 * Files: txn_sim.c events, network, life of the broker; txn_sim_producer.c producers and their
 * databases; txn_sim_broker.c requests at the broker and check-backs; txn_sim_oracle.c what must be
 * true.
 *
 * Owns:    everything.
 * Thread:  one.
 */
#ifndef TESTS_SIM_TXN_SIM_H
#define TESTS_SIM_TXN_SIM_H

#include "core/base/rand.h"
#include "tests/unit/txn/world.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SIM_GROUPS    3
#define SIM_TX_COUNT  60
#define SIM_TX_HALVES 3
#define SIM_SECOND    INT64_C(1000)
#define SIM_MINUTE    (60 * SIM_SECOND)
#define SIM_HOUR      (60 * SIM_MINUTE)
#define SIM_RUN_MS    (36 * SIM_HOUR)

/* The truth about a local transaction. */
enum sim_db { DB_NONE, DB_RUNNING, DB_COMMITTED, DB_ABORTED };

struct sim_half {
    uint64_t offset; /* as answered */
    bool is_acked;
    unsigned tries;
};

struct sim_tx {
    unsigned group;
    unsigned half_count;
    struct sim_half halves[SIM_TX_HALVES];
    enum sim_db db;
    bool has_tombstone;   /* a checker has written one: it can no longer commit */
    bool wants_commit;    /* else its business check fails */
    bool is_confirmed;    /* repeats END until it is answered */
    bool is_batch;        /* one END for all halves */
    bool is_answered;     /* END was answered */
    unsigned incarnation; /* of the producer that runs it */
    unsigned end_tries;
};

enum sim_http { HTTP_OK, HTTP_REFUSED, HTTP_HUNG, HTTP_GARBAGE };

struct sim_group {
    char name[8];
    bool is_up;           /* a producer is connected */
    unsigned incarnation; /* what it knew before a restart is gone */
    enum sim_http http;
    bool is_dead; /* nothing of it answers, however it is asked */
};

enum sim_kind {
    EV_TX_BEGIN,    /* a = tx */
    EV_HALF_SEND,   /* a = tx, b = half: the producer (re)sends it */
    EV_HALF_ARRIVE, /* at the broker */
    EV_HALF_ACK,    /* at the producer; x = offset, v = verdict */
    EV_DB_END,      /* a = tx: the local transaction ends */
    EV_DB_LOST,     /* a = tx: the database notices that its client died */
    EV_END_SEND,    /* a = tx */
    EV_END_ARRIVE,  /* a = tx, b = set of halves, v = kind */
    EV_END_ACK,     /* a = tx, b = set of halves, v = kind, x = 1 when it succeeded */
    EV_ASK_ARRIVE,  /* at the producer group or its endpoint; a = tx, b = way, x = offset, nonce */
    EV_ANSWER_ARRIVE, /* at the broker; a = tx, b = way, x = offset, nonce, v = answer */
    EV_ASK_FAILED,    /* x = offset, nonce, v = why */
    EV_SYNC,          /* some of the log becomes durable */
    EV_TICK,
    EV_CHECKPOINT,
    EV_CRASH,
    EV_START,
    EV_FULL,       /* v = 1 the disk is full, 0 no longer */
    EV_GROUP_DOWN, /* a = group */
    EV_GROUP_UP,
    EV_HTTP /* a = group, v = mode */
};

struct sim_event {
    int64_t at_ms;
    uint64_t number; /* order among equals */
    enum sim_kind kind;
    unsigned a;
    unsigned b;
    int v;
    uint64_t x;
    uint64_t nonce;
};

/* An answer that waits until the log is applied up to a point. */
struct sim_waiting {
    size_t until;
    struct sim_event ack;
};

/* Rare things that the seeds together must have met. */
#define SIM_COVER(X)                                                                               \
    X(crash_with_decision_in_flight)                                                               \
    X(crash_with_half_in_flight)                                                                   \
    X(commit_while_appending)                                                                      \
    X(decision_while_expiring)                                                                     \
    X(decision_after_expiry)                                                                       \
    X(conflict_in_flight)                                                                          \
    X(repeated_decision)                                                                           \
    X(decision_for_lost_half)                                                                      \
    X(batch_of_halves)                                                                             \
    X(duplicate_half)                                                                              \
    X(half_after_decision)                                                                         \
    X(half_refused_by_full_disk)                                                                   \
    X(stale_answer)                                                                                \
    X(wrong_nonce)                                                                                 \
    X(tombstone_stopped_a_commit)                                                                  \
    X(expired)                                                                                     \
    X(group_paused)                                                                                \
    X(decided_by_check)                                                                            \
    X(deadline_passed)                                                                             \
    X(restart_from_checkpoint)

struct sim_cover {
#define X(name) uint64_t name;
    SIM_COVER(X)
#undef X
};

struct sim {
    uint64_t seed;
    struct rand rand;
    struct world w;
    int64_t now_ms; /* virtual; the world's clocks follow */
    bool is_async;  /* halves are acknowledged before they are durable */
    bool is_quiet;  /* no more faults */
    bool is_broker_up;
    int64_t tick_at_ms; /* of the tick event that is planned */
    int64_t disk_ms;    /* the slowest sync of this seed */

    struct sim_event *heap;
    size_t heap_count;
    size_t heap_cap;
    uint64_t event_count;

    struct sim_waiting *waiting;
    size_t waiting_count;
    size_t waiting_cap;

    struct sim_group groups[SIM_GROUPS];
    struct sim_tx txs[SIM_TX_COUNT];

    size_t asks_seen;
    size_t releases_seen;
    unsigned *
        /* typed "unknown" answers that were taken, by half: index (offset - 4096) / 1024 */
        unknowns;
    size_t unknowns_cap;
    struct sim_cover *cover;
};

/* One run; aborts with a message when something is not true. Adds to *cover. */
void sim_run(uint64_t seed, struct sim_cover *cover);

/* ---- txn_sim.c ---- */
bool sim_chance(struct sim *s, unsigned percent); /* never when quiet */
int64_t sim_between(struct sim *s, int64_t from_ms, int64_t to_ms);
void sim_at(struct sim *s, int64_t delay_ms, struct sim_event ev);

/* Over the network: may be lost, delayed up to a minute, delivered twice. */
void sim_send(struct sim *s, struct sim_event ev);

/* ---- txn_sim_producer.c ---- */
void sim_producer_event(struct sim *s, const struct sim_event *ev);
void sim_group_event(struct sim *s, const struct sim_event *ev);
void sim_half_name(const struct sim *s, unsigned tx, unsigned half, char *text, size_t size);

/* ---- txn_sim_broker.c ---- */
void sim_broker_request(struct sim *s, const struct sim_event *ev);
void sim_broker_tick(struct sim *s);
void sim_broker_asks(struct sim *s); /* send out the questions that are new in the world */
void sim_broker_answer(struct sim *s, const struct sim_event *ev);
void sim_broker_answers_due(struct sim *s); /* acknowledge what is applied */

/* ---- txn_sim_oracle.c ---- */

/*
 * The transaction and half number that a log record belongs to; false for a record that is no half.
 */
bool sim_half_at(const struct sim *s, uint64_t offset, unsigned *tx, unsigned *half);
void sim_check_releases(struct sim *s);                         /* after each apply */
void sim_check_ask(struct sim *s, const struct txn_ask *ask);   /* when it is put out */
void sim_check_ack(struct sim *s, const struct sim_event *ack); /* when it is sent */
void sim_check_undecided(struct sim *s);                        /* now and then */
void sim_check_bounded(struct sim *s); /* long after everybody can answer: decided or parked */
void sim_check_end(struct sim *s);     /* after the operator has decided the parked ones */

#endif
