#include "txn/held.h"

#include "core/base/check.h"
#include "core/base/heap.h"

static const struct sm_state held_states[HELD_STATE_COUNT] = {
#define X(id, to, fin) [HELD_##id] = {.name = #id, .next = (to), .final = (fin)},
    HELD_STATES(X)
#undef X
};

const struct sm_table held_sm = {
    .object = "held", .states = held_states, .count = HELD_STATE_COUNT};

void held_move(struct held *held, enum held_state to, const char *event)
{
    sm_move(&held_sm, &held->state, (int)to, held->offset, event);
}

void held_check(const struct held *held)
{
    bool is_picked = (held->flags & HELD_F_PICKED) != 0;

    switch ((enum held_state)held->state) {
    case HELD_APPENDING:
    case HELD_LEAVING:
        CHECK(held->place == HEAP_NONE);
        CHECK(!is_picked);
        break;
    case HELD_UNDECIDED:
        CHECK(held->place == HEAP_NONE);
        CHECK(!is_picked);
        CHECK((held->flags & HELD_F_HALF) != 0);
        break;
    case HELD_WAITING:
        CHECK((held->place == HEAP_NONE) == is_picked);
        break;
    case HELD_GONE:
    case HELD_STATE_COUNT:
        UNREACHABLE("it has left the table");
    }
}
