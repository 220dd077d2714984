/*
 * What must be in a store, as a list of events in the order of the log. The log can only be cut at
 * its end, so a recovered store holds the events of some prefix of the list: its length follows
 * from where recovery says the log ends, must cover everything that was acknowledged, and must not
 * split a group. Then every queue, half, position and key must be exactly what that prefix makes of
 * them. This is stricter than the six sentences of design.md section 9, and implies them.
 *
 * Owns:    its events.
 * Thread:  one.
 * Holds:   wait_for never goes down along the list.
 */
#ifndef TESTS_CRASH_CRASH_MODEL_H
#define TESTS_CRASH_CRASH_MODEL_H

#include "tests/lib/test_store.h"

#define MODEL_TOPICS     3u
#define MODEL_QUEUES     2u
#define MODEL_DECIDE_MAX 3u
#define MODEL_BODY_MAX   180000u

enum model_kind {
    MODEL_MESSAGE,
    MODEL_HALF,
    MODEL_COMMIT,
    MODEL_ROLLBACK,
    MODEL_POSITION,
    MODEL_HELD,
    MODEL_RELEASE,
    MODEL_COPY, /* a held message is carried forward */
    MODEL_DROP, /* a topic is deleted, with all that its queues show */
    MODEL_SKIP, /* an operator lets readers go on behind damage in a range of a queue */
};

struct model_event {
    enum model_kind kind;
    bool is_more;      /* the next event belongs to the same group */
    uint64_t wait_for; /* in the log when it ends here or later */
    uint64_t offset;   /* physical */
    uint32_t id; /* MESSAGE, HALF: stands in the body and in UNIQ_KEY. POSITION: the position */
    uint8_t topic;
    uint8_t queue;
    bool was_copied;                   /* HALF, HELD: a COPY followed, unless a crash took it */
    uint32_t count;                    /* COMMIT, ROLLBACK, RELEASE: */
    uint32_t halves[MODEL_DECIDE_MAX]; /* events; of a COPY the first one: what it copies */
    uint32_t *released;                /* RELEASE: count events, in order; owned */
    int64_t due_ms;                    /* HELD */
    int64_t first;                     /* SKIP: numbers of the queue, [first, end) */
    int64_t end;
};

struct model {
    struct model_event *events;
    uint32_t count;
    uint32_t cap;
    uint32_t acked; /* events that were acknowledged: durable, visible, answered */
    uint32_t next_id;
    uint64_t low_acked;  /* the log begins here or later: it was said to be durable */
    uint64_t low_wanted; /* and nowhere later than here */
    uint64_t checks;     /* how many times a store was compared */
};

void model_init(struct model *m);
void model_fini(struct model *m);
struct model_event *model_add(struct model *m, enum model_kind kind,
                              const struct store_receipt *receipt);

/* Everything below this log position is acknowledged now. */
void model_ack(struct model *m, uint64_t visible);

extern const char *const model_topics[MODEL_TOPICS];

/*
 * MODEL_BODY_MAX bytes: the body of message `id`, but for its first four, which are the id. Static.
 */
const uint8_t *model_pattern(uint32_t id);

/* Which HELD event has this log offset? It must be there. */
uint32_t model_find_held(const struct model *m, uint64_t offset);

/* Where the message of a HALF or HELD event stands after the first `prefix` events. */
uint64_t model_place(const struct model *m, uint32_t event, uint32_t prefix);

/* Is the message of this event held: a half undecided, a message not released? */
bool model_is_needed(const struct model *m, uint32_t event, uint32_t prefix);

/* Does a record below this log offset still matter? */
bool model_needs_below(const struct model *m, uint64_t offset);

/* Undecided among the first `prefix` events? */
bool model_is_undecided(const struct model *m, uint32_t half, uint32_t prefix);

/*
 * Compare a store that was just opened with the model. Returns the length of the prefix; aborts
 * with `context` and what is wrong otherwise.
 */
uint32_t model_compare(struct model *m, struct test_store *ts, const char *context);

#endif
