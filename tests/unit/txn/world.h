/*
 * A broker in a few hundred lines around struct txn, for tests: a log in memory with a durable end,
 * apply() in log order, a checkpoint, and a crash that forgets all but these. It obeys txn.h to the
 * letter and records what is released and asked.
 *
 * Owns:    the log, the struct txn, everything it hands out.
 * Thread:  one.
 * Holds:   applied <= durable <= log_count. Any error that the contract calls fatal fails the test.
 */
#ifndef TESTS_UNIT_TXN_WORLD_H
#define TESTS_UNIT_TXN_WORLD_H

#include "txn/txn.h"

#define WORLD_NAME_MAX 64

enum world_type { WORLD_HALF, WORLD_DECISION, WORLD_CHECK };

struct world_record {
    enum world_type type;
    uint64_t offset;
    struct buf payload; /* DECISION, CHECK */
    /* HALF */
    char group[WORLD_NAME_MAX];
    char id[WORLD_NAME_MAX];
    char topic[WORLD_NAME_MAX];
    int64_t store_ms;
    int64_t immunity_ms;
};

struct world_release {
    uint64_t offset;
    enum decision_kind kind;
    char topic[WORLD_NAME_MAX];
};

struct world {
    struct txn_config config;
    uint64_t seed;
    struct txn_now now;
    struct txn *t;
    struct txn_update u;

    struct world_record *log;
    size_t log_count;
    size_t log_cap;
    size_t durable;
    size_t applied;
    uint64_t next_offset;

    struct world_release *releases; /* what consumers can see, in order */
    size_t release_count;
    size_t release_cap;

    struct txn_ask *asks; /* group and topic are not kept */
    size_t ask_count;
    size_t ask_cap;

    struct buf checkpoint; /* empty = none */
    size_t checkpoint_applied;
    size_t checkpoint_releases;

    struct buf save;       /* the one that is being written; empty = none */
    struct buf save_whole; /* the same, written at once */
    size_t save_applied;
    size_t save_releases;

    /* The log says no. */
    bool refuses_halves;
    bool refuses_decisions;
    bool refuses_checks;
};

/*
 * Immunity 6 s, rounds every 30 s up to 10 min, 3 checks, both ways: the defaults, but quicker to
 * expire.
 */
void world_config(struct txn_config *config);

void world_init(struct world *w, const struct txn_config *config, uint64_t seed);
void world_fini(struct world *w);

/* Let time pass, both clocks. */
void world_pass(struct world *w, int64_t ms);

/*
 * A half arrives: prepare, append, appended. Returns its offset, or the first one's. *result may be
 * NULL.
 */
uint64_t world_half(struct world *w, const char *group, const char *id, const char *topic,
                    struct txn_prepare_result *result);

/* All that is in the log is durable and applied. */
void world_sync(struct world *w);

/* Only the next `count` records. */
void world_sync_some(struct world *w, size_t count);

/* One half is decided. The decision is appended, not synced. */
struct txn_end_result world_end(struct world *w, enum decision_kind kind, enum decision_by by,
                                const char *group, uint64_t offset, const char *id);

/* Several, of one request. */
void world_end_many(struct world *w, const struct txn_end *end, struct txn_end_result *results);

/* Append what w->u asks for and keep its questions. */
void world_obey(struct world *w);

/* Tick until nothing more is due; returns the number of new questions. */
size_t world_tick(struct world *w);

/*
 * Let time pass, from deadline to deadline, until there is a question; NULL when there was none
 * within limit_ms.
 */
const struct txn_ask *world_next_ask(struct world *w, int64_t limit_ms);

const struct txn_ask *world_last_ask(const struct world *w);

int world_answer(struct world *w, const struct txn_ask *ask, enum txn_answer answer);
int world_fail(struct world *w, const struct txn_ask *ask, enum txn_ask_failure why);

/* Write a checkpoint of what is applied now; one that is being written is completed before. */
void world_checkpoint(struct world *w);

/*
 * The same in pieces, with whatever happens between the calls: begin one, or write `max` halves or
 * decisions more. True when it is complete: it counts from then on, and holds what one that is
 * written at once would have held.
 */
bool world_save_some(struct world *w, uint32_t max);

/* Die, keeping the durable records and `kept` of those after them; start again after `down_ms`. */
void world_crash(struct world *w, size_t kept, int64_t down_ms);

/*
 * State of a half; HALF_COMMITTED or HALF_ROLLED_BACK when it is remembered as such; -1 when
 * unknown.
 */
int world_state(const struct world *w, uint64_t offset);

/* How often consumers (COMMIT), or the parking topic (EXPIRE), see a half. */
size_t world_released(const struct world *w, uint64_t offset, enum decision_kind kind);

#endif
