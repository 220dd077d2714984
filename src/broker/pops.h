/*
 * Popping: what pop_table.h decides, obeyed. Pops that found nothing wait here (waits.h) until a
 * message comes or comes again, their time is up, their connection goes, or the broker drains. A
 * timer makes messages due whose time is over.
 *
 * One message wakes one pop of each group (pulls of a queue wake all, hold.h: each of them wants
 * it). The one that was woken and found that more is there wakes the next. Ordered pops, and those
 * who only want to be told (NOTIFICATION), are lanes of their own: one of each is woken, and an
 * ordered one only for a queue that it may have.
 *
 * Whoever is woken, or has waited long enough, is ready, and runs in this turn of the loop or in
 * one that follows: POPS_RUNS_MAX in each.
 *
 * Owns:    the table, every struct pop that waits or is ready.
 * Thread:  loop.
 * Holds:   a pop that waits is in the list of its session and in waits, and its timer runs;
 *          waits.count <= config pulls.held.max.
 */
#ifndef SRC_BROKER_POPS_H
#define SRC_BROKER_POPS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/list.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/pool.h"
#include "core/store/store.h"
#include "src/broker/fair.h"
#include "src/broker/hold.h"
#include "src/broker/pop_table.h"
#include "src/broker/session.h"
#include "src/broker/waits.h"

#include <stdbool.h>
#include <stdint.h>

struct filter;

#define POP_QUEUE_MAX     10000  /* handed out and not acknowledged, of one queue of one group */
#define POP_TOTAL_MAX     500000 /* of all of them: 48 MB */
#define POP_MESSAGES_MAX  32     /* of one pop */
#define POP_WAIT_MAX_MS   60000
#define POP_INVISIBLE_MAX INT64_C(43200000) /* 12 hours */

/* What becomes of the messages. */
enum pop_kind {
    POP_TAKE,  /* handed out */
    POP_PEEK,  /* shown */
    POP_NOTIFY /* said to be there */
};

/* Of those who wait: POP_TAKE and POP_NOTIFY, each with and without order. */
#define POP_LANE_ORDERED 1u
#define POP_LANE_NOTIFY  2u
#define POP_LANES        4

#define POPS_RUNS_MAX 128 /* of one turn */

struct pops {
    struct pop_table *table;
    struct waits waits;
    struct list ready; /* pops that are to run */
    struct loop_deferred run;
    struct loop_timer timer;
    int64_t timer_ms;    /* when it fires; INT64_MAX = it does not run */
    uint32_t turn;       /* with which queue the next pop begins */
    int64_t last_pop_ms; /* receipt handles never go back */
    /* Offsets that have to be durable before anything is handed out: noted; and in the log. */
    bool has_unwritten;
    uint64_t written_to;
    struct buf body; /* scratch of one pop */
    struct buf start_info;
    struct buf offset_info;
    struct buf count_info; /* of ordered pops */
};

/* A pop that could not be answered at once. */
struct pop {
    struct broker *broker;
    struct deferred deferred;
    struct list by_session;
    struct wait_item waiter; /* of pops.waits; or of pops.ready */
    struct loop_timer timer;
    struct fair_item slot;     /* of pump.reads */
    struct store_fetch *fetch; /* while it has a slot */
    struct pool_job job;
    struct filter *filter; /* a reference; NULL = every message */
    int64_t wait_until_ms; /* monotonic; 0 = does not wait */
    int64_t invisible_ms;
    int32_t queue_id; /* < 0: all */
    uint32_t count_max;
    uint32_t turn;
    uint64_t attempt; /* ordered: who asks again; 0: nobody will */
    enum pop_kind kind;
    bool is_ordered;
    bool is_over;       /* it waited long enough */
    bool begins_at_end; /* where a group begins that has no offset */
    char group[GROUP_LEN_MAX + 1];
    char topic[RETRY_TOPIC_LEN_MAX + 1];
};

ESCROW_MUST_USE int pops_init(struct broker *b, struct hash_key key);
void pops_fini(struct broker *b); /* nothing waits any more */

/* Number of a delivery that begins now. */
int64_t pops_now(struct broker *b);

/* The table has changed: a message may be due sooner than the timer fires. */
void pops_arm(struct broker *b);

/* Wait. Takes the pop on success. ESCROW_ELIMIT, ESCROW_ENOMEM: it still is the caller's. */
ESCROW_MUST_USE int pops_wait(struct broker *b, struct pop *pop, uint64_t wait_ms);

/* Run it in this turn of the loop, or, behind many others, soon. Takes the pop. */
void pops_run_soon(struct broker *b, struct pop *pop);

/* The peer is gone, and it may have been woken in the place of another: wake that one, and free. */
void pops_pass_on(struct pop *pop);

/*
 * A message became visible. Cheap: called for every message; what it may cost is bounded (waits.h).
 */
void pops_notify(struct broker *b, const struct hold_arrival *arrival);

/*
 * The message is done: the group's offset follows, and a pop for which there is room now is woken.
 */
enum pop_outcome pops_acknowledge(struct broker *b, const struct pop_key *key, int64_t offset,
                                  int64_t pop_ms);

/*
 * Wake one pop of this group, in each lane, that asks for this queue. < 0: it is not known for
 * which; if there are pops for single queues, one of each kind.
 */
void pops_wake(struct broker *b, struct slice group, struct slice topic, int32_t queue);

/* How many pops of the group wait and ask for this queue (< 0: for all queues). */
uint32_t pops_count(const struct broker *b, struct slice group, struct slice topic, int32_t queue);

/* May an ordered pop have the queue? For the attempt (0: none) that asks. */
bool pops_is_open(struct broker *b, const struct pop_key *key, uint64_t attempt);

/* The session is gone: its pops with it. */
void pops_on_close(struct broker *b, struct session *s);

/* Answer every pop that waits "nothing found": the broker drains. */
void pops_release_all(struct broker *b);

/* ---- of handle_pop.c ------------------------------------------------------------------------- */

/*
 * The start of each request that speaks of what pops get: group, topic and queue are there and may
 * be read. NULL: the request was answered.
 */
const struct topic *pop_check(struct request *req, struct slice group, struct slice topic,
                              int32_t queue_id);

/* One that begins to run; the caller fills in the rest and calls pop_run. NULL: answered. */
struct pop *pop_new(struct request *req, struct slice group, struct slice topic, int32_t queue_id);

/* What attemptId says, as a number; 0: nothing. */
uint64_t pop_attempt(const struct broker *b, struct slice attempt_id);

/* Wait at most so long for messages. */
void pop_wait_at_most(struct pop *pop, int64_t poll_ms);

/* Run it: answer, read from disk, or wait. Takes the pop (frees it when it is answered). */
void pop_run(struct pop *pop);

/* Answer "nothing found", and free. */
void pop_give_up(struct pop *pop);

/* The peer is gone: free without an answer. */
void pop_drop(struct pop *pop);

/* It was answered. */
void pop_free(struct pop *pop);

/* ---- of handle_pop_look.c -------------------------------------------------------------------- */

/* Answer one of POP_NOTIFY, and free. */
void pop_notify_answer(struct pop *pop, bool has_message, bool is_full);

/* ---- of pop_collect.c ------------------------------------------------------------------------ */

/* What one run found; the records are in pops.body, the fields in start_info and offset_info. */
struct pop_found {
    uint32_t count;
    int64_t pop_ms;
    int64_t rest;     /* messages that could be handed out next */
    bool must_read;   /* something has to be read from the disk */
    bool has_skipped; /* a filter passed over messages, and there are more */
    bool is_full;     /* the table has no room */
    int error;        /* of a read; the text is in err */
    struct err_ctx err;
};

/*
 * Hand out what there is. From when `found` says so on, the messages are invisible, whether or not
 * the answer arrives.
 */
void pop_collect(struct pop *pop, uint32_t queues, struct pop_found *found);

/*
 * What pop_collect would hand out, in pops.body alone; everything that is there is in found.rest.
 */
void pop_peek(struct pop *pop, uint32_t queues, struct pop_found *found);

/*
 * Is there a message for it, that is due or that its filter may want? false: not, or it is not
 * known before something was read from the disk (found.must_read).
 */
bool pop_has_message(struct pop *pop, uint32_t queues, struct pop_found *found);

/*
 * Offsets for queues of which the group has none yet. 1: some had to be noted, and nothing may be
 * handed out before the log is durable up to its tail; 0: go on; < 0: error.
 */
ESCROW_MUST_USE int pop_begin_queues(struct pop *pop, uint32_t queues);

#endif
