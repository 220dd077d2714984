/*
 * Fair: a fixed number of slots, shared by lanes in turn. Whoever wants one enters by its lane; a
 * free slot goes to the next lane that has somebody waiting, and inside a lane to the first who
 * came. So one lane with thousands waiting costs another lane one turn, not thousands.
 *
 *     fair_enter(&f, &lane, &item, start);   start(item) runs when the slot is there: at once, or
 *     later ... the work, which may take any number of steps ...
 *     fair_leave(&f, &item);                 also when it waits still, or never entered
 *
 * Owns:    nothing. Items and lanes are the callers'; a lane stays until its items have left.
 * Thread:  the owner's.
 * Pure:    no I/O, no clock, no allocation.
 * Holds:   running <= limit, lane.running <= lane.limit (after a limit was lowered: once enough
 *          have left). A lane is in `lanes` iff it has waiting items and room. start may enter and
 *          leave anything, its own item too; it is never called inside another start.
 */
#ifndef SRC_BROKER_FAIR_H
#define SRC_BROKER_FAIR_H

#include "core/base/list.h"

#include <stdbool.h>
#include <stdint.h>

#define FAIR_NO_LIMIT UINT32_MAX

enum fair_state {
    FAIR_OUT, /* 0: a zeroed item is ready to use */
    FAIR_WAITING,
    FAIR_IN,
};

struct fair_lane {
    struct list node;    /* fair.lanes */
    struct list waiting; /* fair_item.node */
    uint32_t running;
    uint32_t limit;
};

struct fair_item {
    struct list node;
    struct fair_lane *lane;
    void (*start)(struct fair_item *item);
    enum fair_state state;
};

struct fair {
    struct list lanes; /* whose turn it is: the first one's */
    uint32_t running;
    uint32_t limit;
    bool is_turning;
};

void fair_init(struct fair *f, uint32_t limit);
void fair_lane_init(struct fair_lane *lane, uint32_t limit);

/* The item is FAIR_OUT. */
void fair_enter(struct fair *f, struct fair_lane *lane, struct fair_item *item,
                void (*start)(struct fair_item *item));
void fair_leave(struct fair *f, struct fair_item *item);

/* Change how many slots a lane may have at a time. */
void fair_set_limit(struct fair *f, struct fair_lane *lane, uint32_t limit);

/* Nobody is started any more: the end. */
void fair_close(struct fair *f);

#endif
