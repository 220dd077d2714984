#include "txn/half.h"

#include "core/base/check.h"

static const struct sm_state half_states[HALF_STATE_COUNT] = {
#define X(id, to, fin) [HALF_##id] = {.name = #id, .next = (to), .final = (fin)},
    HALF_STATES(X)
#undef X
};

const struct sm_table half_sm = {
    .object = "half", .states = half_states, .count = HALF_STATE_COUNT};

void half_move(struct half *half, enum half_state to, const char *event)
{
    sm_move(&half_sm, &half->state, (int)to, half->offset, event);
}

uint64_t half_pack_store(int64_t store_ms, uint32_t queue)
{
    uint64_t ms = store_ms < 0 ? 0 : (uint64_t)store_ms;

    CHECK(queue <= UINT16_MAX);
    if (ms > UINT64_MAX >> 16) {
        ms = UINT64_MAX >> 16;
    }
    return ms << 16 | queue;
}

enum half_state half_durable_state(const struct half *half)
{
    CHECK((half->flags & HALF_F_APPLIED) != 0);
    return (half->flags & HALF_F_EXPIRED) != 0 ? HALF_EXPIRED : HALF_PREPARED;
}

void half_check(const struct half *half)
{
    unsigned place = half->flags & (HALF_F_IN_WHEEL | HALF_F_IN_READY);
    bool is_applied = (half->flags & HALF_F_APPLIED) != 0;
    bool is_expired = (half->flags & HALF_F_EXPIRED) != 0;

    CHECK((half->flags & HALF_F_USED) != 0);
    CHECK((half->flags & HALF_F_PICKED) == 0);
    CHECK_IMPLIES(is_expired, is_applied);
    switch ((enum half_state)half->state) {
    case HALF_APPENDING:
        CHECK(!is_applied);
        CHECK(place == 0);
        break;
    case HALF_PREPARED:
        CHECK(is_applied && !is_expired);
        CHECK(place == HALF_F_IN_WHEEL || place == HALF_F_IN_READY);
        break;
    case HALF_CHECKING:
        CHECK(is_applied && !is_expired);
        CHECK(place == HALF_F_IN_WHEEL);
        break;
    case HALF_EXPIRING:
        CHECK(is_applied && !is_expired);
        CHECK(place == 0);
        break;
    case HALF_EXPIRED:
        CHECK(is_expired);
        CHECK(place == 0);
        break;
    case HALF_COMMITTING:
    case HALF_ROLLING_BACK:
        CHECK(place == 0);
        break;
    case HALF_COMMITTED:
    case HALF_ROLLED_BACK:
    case HALF_STATE_COUNT:
        UNREACHABLE("a decided half has left the table");
    }
}
