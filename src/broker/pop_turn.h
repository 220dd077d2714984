/*
 * One queue, as one pop finds it: what the files share that collect (pop_collect.c: all queues and
 * new messages; pop_again.c: messages that are handed out again; pop_look.c: for those who only
 * look).
 *
 * Owns:    nothing.
 * Thread:  loop.
 */
#ifndef SRC_BROKER_POP_TURN_H
#define SRC_BROKER_POP_TURN_H

#include "core/base/attr.h"
#include "core/store/store.h"
#include "src/broker/pops.h"

#include <stdbool.h>
#include <stdint.h>

#define POP_BYTES_MAX 262144 /* of one answer, but for its first message */
/* offsets of one queue in one answer: what a batch can acknowledge */
#define POP_SPAN_MAX 32768

struct pop_queue_turn {
    struct pop *pop;
    struct pop_found *found;
    struct pop_key key;
    struct pop_look look;
    int64_t committed;
    bool has_offset; /* the group has an offset for it */
    uint32_t count;  /* handed out by this pop */
    int64_t offsets[POP_MESSAGES_MAX];
    int32_t retries[POP_MESSAGES_MAX]; /* of those that are handed out again */
};

/* Where the group is in the queue. false: nothing was ever in it. */
bool pop_turn_begin(struct pop_queue_turn *turn, struct pop *pop, uint32_t queue,
                    struct pop_found *found);

/* How many messages more the answer may have. */
uint32_t pop_turn_left(const struct pop_queue_turn *turn);

struct pop_delivery pop_turn_delivery(const struct pop_queue_turn *turn);

/* The group's offset is what the table says. When it cannot be kept the table forgets the queue. */
int pop_turn_note(struct pop_queue_turn *turn);

/*
 * store_pull for this queue, into pops.body. ESCROW_EAGAIN: found->must_read says whether it is
 * worth a read; another error is in found, and was logged.
 */
int pop_turn_read(struct pop_queue_turn *turn, struct store_pull_request *req,
                  struct store_pull_result *res);

/*
 * The message of `due` lies in pops.body behind `before`: it gets its retries. false: it is another
 * one, or none.
 */
struct record_view;
bool pop_turn_count_retries(struct pop_queue_turn *turn, const struct pop_due *due, size_t before,
                            struct record_view *view);

/* What becomes of a message that is to come again. */
struct pop_due_ops {
    /* It lies in pops.body behind `before`. */
    void (*found)(struct pop_queue_turn *turn, const struct pop_due *due, size_t before);
    /* It is not in the queue any more. */
    void (*gone)(struct pop_queue_turn *turn, const struct pop_due *due);
    /* It cannot be read; NULL: nothing behind it may come. */
    void (*unreadable)(struct pop_queue_turn *turn, const struct pop_due *due);
};

/* Read it, and do that. false: go no further. */
bool pop_turn_step(struct pop_queue_turn *turn, const struct pop_due *due,
                   const struct pop_due_ops *ops);

/* ---- of pop_again.c ---- */

/* Messages that are due. */
void pop_again_due(struct pop_queue_turn *turn);

/* Of an ordered pop: what is not done, by offset, up to the first that cannot be read. */
void pop_again_in_order(struct pop_queue_turn *turn);

#endif
