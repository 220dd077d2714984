#include "src/broker/fair.h"

#include "core/base/check.h"

#include <stddef.h>

void fair_init(struct fair *f, uint32_t limit)
{
    CHECK(limit > 0);
    *f = (struct fair){.limit = limit};
    list_init(&f->lanes);
}

void fair_lane_init(struct fair_lane *lane, uint32_t limit)
{
    CHECK(limit > 0);
    *lane = (struct fair_lane){.limit = limit};
    list_init(&lane->node);
    list_init(&lane->waiting);
}

/* Keep `Holds`: in `lanes` iff it has waiting items and room. Who is in keeps its place. */
static void lane_schedule(struct fair *f, struct fair_lane *lane)
{
    if (list_is_empty(&lane->waiting) || lane->running >= lane->limit) {
        list_remove(&lane->node);
    } else if (list_is_empty(&lane->node)) {
        list_push(&f->lanes, &lane->node);
    }
}

static void fair_turn(struct fair *f)
{
    if (f->is_turning) {
        return;
    }
    f->is_turning = true;
    while (f->running < f->limit && !list_is_empty(&f->lanes)) {
        struct fair_lane *lane = LIST_ENTRY(f->lanes.next, struct fair_lane, node);
        struct fair_item *item = LIST_ENTRY(lane->waiting.next, struct fair_item, node);

        DCHECK(item->state == FAIR_WAITING);
        list_remove(&item->node);
        list_remove(&lane->node); /* to the end, if it has more */
        item->state = FAIR_IN;
        lane->running++;
        f->running++;
        lane_schedule(f, lane);
        item->start(item); /* may leave, and free item and lane */
    }
    f->is_turning = false;
}

void fair_enter(struct fair *f, struct fair_lane *lane, struct fair_item *item,
                void (*start)(struct fair_item *item))
{
    CHECK(item->state == FAIR_OUT);
    item->lane = lane;
    item->start = start;
    item->state = FAIR_WAITING;
    list_push(&lane->waiting, &item->node);
    lane_schedule(f, lane);
    fair_turn(f);
}

void fair_leave(struct fair *f, struct fair_item *item)
{
    struct fair_lane *lane = item->lane;
    enum fair_state state = item->state;

    item->state = FAIR_OUT;
    item->lane = NULL;
    if (state == FAIR_OUT) {
        return;
    }
    if (state == FAIR_WAITING) {
        list_remove(&item->node);
        lane_schedule(f, lane);
        return;
    }
    CHECK(lane->running > 0);
    CHECK(f->running > 0);
    lane->running--;
    f->running--;
    lane_schedule(f, lane);
    fair_turn(f);
}

void fair_set_limit(struct fair *f, struct fair_lane *lane, uint32_t limit)
{
    CHECK(limit > 0);
    lane->limit = limit;
    lane_schedule(f, lane);
    fair_turn(f);
}

void fair_close(struct fair *f)
{
    f->limit = 0;
}
