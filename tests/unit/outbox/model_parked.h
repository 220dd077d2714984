/*
 * A model of what sql/006_park.sql does: rows that are parked, topics and keys that are held, rows
 * that are to be published again. Everything it does is durable at once, as there.
 *
 * Owns:    nothing. Thread: the test's.
 */
#ifndef TESTS_UNIT_OUTBOX_MODEL_PARKED_H
#define TESTS_UNIT_OUTBOX_MODEL_PARKED_H

#include "core/base/rand.h"
#include "tests/unit/outbox/model_db.h"

#define MODEL_TOPICS 2

struct model_hold {
    bool is_held;
    bool wanted;
    bool is_tried;
    bool is_due; /* topics: to be tried */
};

struct model_parked {
    struct model_db *db;
    bool is_parked[MODEL_ROW_MAX];
    bool ever[MODEL_ROW_MAX];
    bool wanted[MODEL_ROW_MAX];
    uint64_t number[MODEL_ROW_MAX];
    uint64_t replay_no[MODEL_ROW_MAX]; /* 0: none */
    uint64_t last_number;
    struct model_hold topics[MODEL_TOPICS];
    struct model_hold keys[MODEL_KEYS];
};

/* Keys are of one topic each; rows without one are of either. */
int model_topic(const struct model_db *db, size_t row);

/* As escrow.outbox_park. */
void model_park(struct model_parked *p, size_t row, bool is_whole_topic);

/* As escrow.outbox_set_aside, for the difference of this position. */
void model_set_aside(struct model_parked *p, const struct position *at);

bool model_has_parked(const struct model_parked *p);
bool model_wants_replay(const struct model_parked *p, uint64_t replayed);

/* As escrow.parked_count_off and the COPY behind it: rows in order; returns how many. */
size_t model_count_off(struct model_parked *p, uint64_t replayed, size_t *out);

/* As escrow.parked_clear. */
void model_clear(struct model_parked *p, const struct position *acked);

/* As escrow.parked_replay: of a key, with its first rows; -1: of everything. */
void model_replay(struct model_parked *p, int key, struct rand *rand);

#endif
