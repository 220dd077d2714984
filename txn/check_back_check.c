/* The invariants of the scanner: what check_back.h says it holds. */
#include "core/base/check.h"
#include "txn/check_back_private.h"

/* Returns how many halves the list has. */
static uint32_t list_check(const struct check_back *c, const struct group *group, uint32_t head,
                           uint32_t tail)
{
    uint32_t count = 0;
    uint32_t prev = WHEEL_NONE;

    for (uint32_t slot = head; slot != WHEEL_NONE;) {
        const struct half *half = half_table_at(c->table, slot);
        CHECK(half->state == HALF_PREPARED);
        CHECK((half->flags & HALF_F_IN_READY) != 0);
        CHECK(half->timer.prev == prev);
        CHECK(check_back_group(c, half) == group);
        count++;
        CHECK(count <= group->ready_count);
        prev = slot;
        slot = half->timer.next;
    }
    CHECK(tail == prev);
    return count;
}

static void group_check(const struct check_back *c, const struct group *group)
{
    uint32_t ready = list_check(c, group, group->ready_head, group->ready_tail);
    uint32_t away = list_check(c, group, group->away_head, group->away_tail);

    CHECK(ready + away == group->ready_count);
    CHECK(group->is_scheduled == (group->ready_count > 0 && group_is_open(c, group)));
}

void check_back_check(const struct check_back *c)
{
    size_t in_wheel = 0;
    size_t in_ready = 0;
    size_t asking = 0;
    size_t group_asking = 0;
    size_t group_ready = 0;
    size_t scheduled = 0;

    wheel_check(&c->halves);
    wheel_check(&c->groups);
    for (const struct half *h = half_table_oldest(c->table); h != NULL;
         h = half_table_next(c->table, h)) {
        in_wheel += (h->flags & HALF_F_IN_WHEEL) != 0;
        in_ready += (h->flags & HALF_F_IN_READY) != 0;
        asking += h->state == HALF_CHECKING;
    }
    for (uint32_t i = 0; i < c->table->routes.group_cap; i++) {
        const struct group *group = c->table->routes.groups[i];
        if (group != NULL) {
            group_check(c, group);
            group_asking += group->asking;
            group_ready += group->ready_count;
            scheduled += group->is_scheduled;
        }
    }
    CHECK(in_wheel == c->halves.count);
    CHECK(scheduled == c->groups.count);
    CHECK(in_ready == group_ready);
    CHECK(asking == c->asking);
    CHECK(asking == group_asking);
}
