/*
 * When a producer group has its turn. Halves that are due wait in its ready list; those that an
 * endpoint can never know in its away list, behind all others. Pause, rate and window say when the
 * next question may go out, and the wheel of groups wakes the group then.
 */
#include "txn/check_back_private.h"

#include "core/base/check.h"

int64_t check_back_delay(struct check_back *c, int64_t base, int64_t max, unsigned step)
{
    int64_t delay = base;

    while (step-- > 0 && delay < max) {
        delay = delay > max / 2 ? max : delay * 2;
    }
    if (delay > max) {
        delay = max;
    }
    return delay + (int64_t)rand_below(&c->rand, (uint64_t)delay / 4 + 1);
}

/* ---- its lists ------------------------------------------------------------------------------- */

/* Behind the last of one of the group's two lists. */
static void list_push_tail(struct check_back *c, struct half *half, uint32_t *head, uint32_t *tail)
{
    uint32_t slot = half_table_slot(c->table, half);

    half->timer.prev = *tail;
    half->timer.next = WHEEL_NONE;
    if (*tail == WHEEL_NONE) {
        *head = slot;
    } else {
        half_table_at(c->table, *tail)->timer.next = slot;
    }
    *tail = slot;
    check_back_group(c, half)->ready_count++;
    half->flags |= HALF_F_IN_READY;
}

void group_ready_push_tail(struct check_back *c, struct group *group, struct half *half)
{
    list_push_tail(c, half, &group->ready_head, &group->ready_tail);
}

void group_ready_push_head(struct check_back *c, struct group *group, struct half *half)
{
    uint32_t slot = half_table_slot(c->table, half);

    half->timer.prev = WHEEL_NONE;
    half->timer.next = group->ready_head;
    if (group->ready_head == WHEEL_NONE) {
        group->ready_tail = slot;
    } else {
        half_table_at(c->table, group->ready_head)->timer.prev = slot;
    }
    group->ready_head = slot;
    group->ready_count++;
    half->flags |= HALF_F_IN_READY;
}

void group_ready_remove(struct check_back *c, struct group *group, struct half *half)
{
    uint32_t slot = half_table_slot(c->table, half);

    CHECK(group->ready_count > 0);
    if (half->timer.prev == WHEEL_NONE) {
        *(group->ready_head == slot ? &group->ready_head : &group->away_head) = half->timer.next;
    } else {
        half_table_at(c->table, half->timer.prev)->timer.next = half->timer.next;
    }
    if (half->timer.next == WHEEL_NONE) {
        *(group->ready_tail == slot ? &group->ready_tail : &group->away_tail) = half->timer.prev;
    } else {
        half_table_at(c->table, half->timer.next)->timer.prev = half->timer.prev;
    }
    half->timer.prev = WHEEL_NONE;
    half->timer.next = WHEEL_NONE;
    group->ready_count--;
    half->flags &= (uint8_t)~HALF_F_IN_READY;
}

/* The away list becomes the end of the ready list. */
static void away_to_ready(struct check_back *c, struct group *group)
{
    group->away_step = 0;
    group->away_until_ms = 0;
    if (group->away_head == WHEEL_NONE) {
        return;
    }
    if (group->ready_head == WHEEL_NONE) {
        group->ready_head = group->away_head;
    } else {
        half_table_at(c->table, group->ready_tail)->timer.next = group->away_head;
        half_table_at(c->table, group->away_head)->timer.prev = group->ready_tail;
    }
    group->ready_tail = group->away_tail;
    group->away_head = WHEEL_NONE;
    group->away_tail = WHEEL_NONE;
}

/* ---- the turn of a group --------------------------------------------------------------------- */

bool group_is_away(const struct group *group)
{
    return group->ready_head == WHEEL_NONE && group->away_head != WHEEL_NONE;
}

bool group_is_open(const struct check_back *c, const struct group *group)
{
    uint32_t window = group->pause_step > 0 || group_is_away(group) ? 1 : c->config->group_window;

    return group->asking < window;
}

void group_unschedule(struct check_back *c, struct group *group)
{
    if (group->is_scheduled) {
        wheel_remove(&c->groups, group->id);
        group->is_scheduled = false;
    }
}

int64_t group_turn_ms(const struct group *group)
{
    int64_t turn_ms = (group->next_free_us + 999) / 1000;

    if (turn_ms < group->paused_until_ms) {
        turn_ms = group->paused_until_ms;
    }
    return group_is_away(group) && turn_ms < group->away_until_ms ? group->away_until_ms : turn_ms;
}

void group_schedule(struct check_back *c, struct group *group, int64_t now_ms)
{
    int64_t turn_ms = group_turn_ms(group);

    if (group->ready_count == 0 || !group_is_open(c, group)) {
        group_unschedule(c, group);
        return;
    }
    if (!group->is_scheduled) {
        wheel_add(&c->groups, group->id, turn_ms <= now_ms ? INT64_MIN : turn_ms);
        group->is_scheduled = true;
    }
}

void group_charge(const struct check_back *c, struct group *group, int64_t now_ms)
{
    int64_t earliest = now_ms * 1000 - CHECK_BACK_RATE_BURST_US;

    if (group->next_free_us < earliest) {
        group->next_free_us = earliest;
    }
    group->next_free_us += 1000000 / c->config->group_rate;
}

void group_pause(struct check_back *c, struct group *group, int64_t now_ms)
{
    if (now_ms < group->paused_until_ms) {
        return; /* several questions were out: one pause for all */
    }
    group->paused_until_ms = now_ms + check_back_delay(c, c->config->pause_ms,
                                                       c->config->pause_max_ms, group->pause_step);
    if (group->pause_step < 31) {
        group->pause_step++;
    }
    c->counters->group_pauses++;
}

void group_away_push(struct check_back *c, struct group *group, struct half *half, int64_t now_ms)
{
    list_push_tail(c, half, &group->away_head, &group->away_tail);
    group_unschedule(c, group); /* its turn may be another */
    if (now_ms < group->away_until_ms) {
        return; /* several questions were out: one step for all */
    }
    group->away_until_ms = now_ms + check_back_delay(c, c->config->pause_ms,
                                                     c->config->pause_max_ms, group->away_step);
    if (group->away_step < 31) {
        group->away_step++;
    }
}

void check_back_reachable(struct check_back *c, struct group *group, int64_t now_ms)
{
    group->pause_step = 0;
    group->paused_until_ms = 0;
    away_to_ready(c, group);
    group_unschedule(c, group);
    group_schedule(c, group, now_ms);
}
