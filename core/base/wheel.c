/*
 * A due tick is seen as six digits of six bits. A node lies at the level of the highest digit in
 * which its due tick differs from `now`, in the slot of that digit. When `now` reaches the first
 * tick of that slot, the node moves down to the level of the next digit that differs; at level 0 it
 * is due.
 *
 * `now` jumps from event to event (wheel_event), never past one: an event is a slot with nodes in
 * it. So empty time costs nothing, and a slot that was left half emptied for want of budget is
 * simply the next event again.
 *
 * First nodes of a slot have the slot's number, coded above WHEEL_ID_MAX, as `prev`, so that
 * unlinking needs no search.
 */
#include "core/base/wheel.h"

#include "core/base/check.h"

#define WHEEL_BITS    6
#define WHEEL_HEAD    UINT32_C(0xFFFFF000) /* prev of the first node in slot s: WHEEL_HEAD + s */
#define WHEEL_DUE_MAX (UINT32_MAX - 1)

static unsigned wheel_digit(uint32_t tick, unsigned level)
{
    return (tick >> (WHEEL_BITS * level)) & (WHEEL_SLOTS - 1);
}

/* First tick of the slot that `tick` lies in at a level. */
static uint32_t wheel_floor(uint32_t tick, unsigned level)
{
    return tick >> (WHEEL_BITS * level) << (WHEEL_BITS * level);
}

void wheel_init(struct wheel *w, int64_t now_ms, int64_t tick_ms, wheel_node_fn *node, void *owner)
{
    CHECK(tick_ms > 0);
    *w = (struct wheel){.node = node, .owner = owner, .base_ms = now_ms, .tick_ms = tick_ms};
    for (size_t i = 0; i < sizeof w->heads / sizeof w->heads[0]; i++) {
        w->heads[i] = WHEEL_NONE;
    }
}

/* Ticks from the base: rounded up for a due time, down for the present. Saturates at both ends. */
static uint32_t wheel_tick(const struct wheel *w, int64_t ms, bool is_up)
{
    uint64_t past;

    if (ms <= w->base_ms) {
        return 0;
    }
    past = (uint64_t)ms - (uint64_t)w->base_ms;
    if (is_up) {
        past += (uint64_t)w->tick_ms - 1;
    }
    past /= (uint64_t)w->tick_ms;
    return past > WHEEL_DUE_MAX ? WHEEL_DUE_MAX : (uint32_t)past;
}

static void wheel_link(struct wheel *w, uint32_t id, struct wheel_node *node)
{
    uint32_t differ = node->due ^ w->now;
    unsigned level = differ == 0 ? 0 : (31 - (unsigned)__builtin_clz(differ)) / WHEEL_BITS;
    unsigned slot = wheel_digit(node->due, level);
    uint32_t *head = &w->heads[level * WHEEL_SLOTS + slot];

    CHECK(node->due >= w->now);
    node->prev = WHEEL_HEAD + level * WHEEL_SLOTS + slot;
    node->next = *head;
    if (*head != WHEEL_NONE) {
        w->node(w->owner, *head)->prev = id;
    }
    *head = id;
    w->level_used[level] |= UINT64_C(1) << slot;
}

static void wheel_unlink(struct wheel *w, struct wheel_node *node)
{
    if (node->prev >= WHEEL_HEAD) {
        uint32_t place = node->prev - WHEEL_HEAD;
        CHECK(place < WHEEL_LEVELS * WHEEL_SLOTS);
        w->heads[place] = node->next;
        if (node->next == WHEEL_NONE) {
            w->level_used[place / WHEEL_SLOTS] &= ~(UINT64_C(1) << place % WHEEL_SLOTS);
        }
    } else {
        w->node(w->owner, node->prev)->next = node->next;
    }
    if (node->next != WHEEL_NONE) {
        w->node(w->owner, node->next)->prev = node->prev;
    }
    node->prev = WHEEL_NONE;
    node->next = WHEEL_NONE;
}

void wheel_add(struct wheel *w, uint32_t id, int64_t due_ms)
{
    struct wheel_node *node = w->node(w->owner, id);

    CHECK(id <= WHEEL_ID_MAX);
    node->due = wheel_tick(w, due_ms, true);
    if (node->due < w->now) {
        node->due = w->now;
    }
    wheel_link(w, id, node);
    w->count++;
}

void wheel_remove(struct wheel *w, uint32_t id)
{
    CHECK(w->count > 0);
    wheel_unlink(w, w->node(w->owner, id));
    w->count--;
}

int64_t wheel_due_ms(const struct wheel *w, const struct wheel_node *node)
{
    return w->base_ms + (int64_t)node->due * w->tick_ms;
}

/*
 * The earliest slot with nodes in it: its first tick and its level. A slot above level 0 that `now`
 * has entered was left half emptied and comes first; otherwise lower levels come first, because
 * their nodes share more digits with `now`.
 */
static bool wheel_event(const struct wheel *w, uint32_t *tick, unsigned *level)
{
    for (unsigned l = 1; l < WHEEL_LEVELS; l++) {
        if ((w->level_used[l] >> wheel_digit(w->now, l) & 1) != 0) {
            *tick = w->now;
            *level = l;
            return true;
        }
    }
    for (unsigned l = 0; l < WHEEL_LEVELS; l++) {
        unsigned slot;
        uint32_t first;

        if (w->level_used[l] == 0) {
            continue;
        }
        slot = (unsigned)__builtin_ctzll(w->level_used[l]);
        CHECK(slot >= wheel_digit(w->now, l));
        first = l + 1 == WHEEL_LEVELS ? 0 : wheel_floor(w->now, l + 1);
        first |= (uint32_t)slot << (WHEEL_BITS * l);
        CHECK(first >= w->now);
        *tick = first;
        *level = l;
        return true;
    }
    return false;
}

uint32_t wheel_pop(struct wheel *w, int64_t now_ms, size_t *budget)
{
    uint32_t until = wheel_tick(w, now_ms, false);
    uint32_t tick;
    unsigned level;

    if (until < w->now) {
        until = w->now;
    }
    while (wheel_event(w, &tick, &level) && tick <= until) {
        uint32_t id;
        struct wheel_node *node;

        if (*budget == 0) {
            return WHEEL_NONE;
        }
        (*budget)--;
        w->work++;
        w->now = tick;
        id = w->heads[level * WHEEL_SLOTS + wheel_digit(tick, level)];
        node = w->node(w->owner, id);
        wheel_unlink(w, node);
        if (node->due <= w->now) {
            w->count--;
            return id;
        }
        wheel_link(w, id, node);
    }
    w->now = until;
    return WHEEL_NONE;
}

int64_t wheel_next_ms(const struct wheel *w)
{
    uint32_t tick;
    unsigned level;

    if (!wheel_event(w, &tick, &level)) {
        return WHEEL_NEVER;
    }
    return w->base_ms + (int64_t)tick * w->tick_ms;
}

void wheel_check(const struct wheel *w)
{
    size_t count = 0;

    for (unsigned place = 0; place < WHEEL_LEVELS * WHEEL_SLOTS; place++) {
        unsigned level = place / WHEEL_SLOTS;
        unsigned slot = place % WHEEL_SLOTS;
        uint32_t prev = WHEEL_HEAD + place;

        CHECK(((w->level_used[level] >> slot) & 1) == (w->heads[place] != WHEEL_NONE));
        for (uint32_t id = w->heads[place]; id != WHEEL_NONE;) {
            const struct wheel_node *node = w->node(w->owner, id);
            CHECK(node->prev == prev);
            CHECK(node->due >= w->now);
            CHECK(wheel_digit(node->due, level) == slot);
            CHECK(level + 1 == WHEEL_LEVELS ||
                  wheel_floor(node->due, level + 1) == wheel_floor(w->now, level + 1));
            count++;
            CHECK(count <= w->count);
            prev = id;
            id = node->next;
        }
    }
    CHECK(count == w->count);
}
