#include "src/broker/traffic.h"

#include "core/base/attr.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"

#include <string.h>

#define DAY_MS 86400000

static const struct {
    int64_t slot_ms;
    uint32_t slots;
} shapes[RATE_WINDOWS] = {
    [RATE_MINUTE] = {10000, 6},
    [RATE_HOUR] = {600000, 6},
    [RATE_DAY] = {3600000, RATE_SLOTS_MAX},
};

/* The slot of now becomes the newest one. */
static void window_move(struct rate *r, int i, int64_t now_ms)
{
    int64_t slot = now_ms / shapes[i].slot_ms;
    uint32_t slots = shapes[i].slots;

    if (slot - r->windows[i].newest >= slots) {
        memset(r->windows[i].counts, 0, sizeof r->windows[i].counts);
        r->windows[i].newest = slot;
    }
    while (r->windows[i].newest < slot) {
        r->windows[i].newest++;
        r->windows[i].counts[r->windows[i].newest % slots] = 0;
    }
    r->windows[i].at = (uint32_t)(slot % slots);
    r->windows[i].until_ms = (slot + 1) * shapes[i].slot_ms;
}

/* Twice for every message: no division but once in a slot. */
void rate_add(struct rate *r, uint64_t count, int64_t now_ms)
{
    r->total += count;
    for (int i = 0; i < RATE_WINDOWS; i++) {
        if (now_ms >= r->windows[i].until_ms) {
            window_move(r, i, now_ms);
        }
        r->windows[i].counts[r->windows[i].at] += count;
    }
}

struct rate_sum rate_sum(const struct rate *r, enum rate_window window, uint32_t slots,
                         int64_t since_ms, int64_t now_ms)
{
    uint32_t all = shapes[window].slots;
    int64_t slot_ms = shapes[window].slot_ms;
    int64_t slot = now_ms / slot_ms;
    int64_t from_ms;
    struct rate_sum out = {.sum = 0};

    slots = slots == 0 || slots > all ? all : slots;
    for (int64_t s = slot - slots + 1; s <= slot; s++) {
        if (s > r->windows[window].newest - all && s <= r->windows[window].newest && s >= 0) {
            out.sum += r->windows[window].counts[s % all];
        }
    }
    from_ms = (slot - slots + 1) * slot_ms;
    from_ms = from_ms < since_ms ? since_ms : from_ms;
    from_ms = now_ms - from_ms < 1000 ? now_ms - 1000 : from_ms;
    out.per_second = (double)out.sum * 1000.0 / (double)(now_ms - from_ms);
    return out;
}

void day_marks_roll(struct day_marks *d, uint64_t total, int64_t wall_ms)
{
    int64_t day = wall_ms / DAY_MS;

    if (day <= d->day) {
        return; /* also when the clock was set back */
    }
    d->yesterday_morning = day == d->day + 1 ? d->today_morning : total;
    d->today_morning = total;
    d->day = day;
}

/* ---- items ---- */

struct item_key {
    uint8_t bytes[RETRY_TOPIC_LEN_MAX + 1 + GROUP_LEN_MAX];
    size_t len;
};

/* false: no such names can be. */
static bool key_make(struct item_key *key, struct slice topic, struct slice group)
{
    if (topic.len == 0 || topic.len > RETRY_TOPIC_LEN_MAX || group.len > GROUP_LEN_MAX) {
        return false;
    }
    memcpy(key->bytes, topic.ptr, topic.len);
    key->len = topic.len;
    if (group.len > 0) {
        key->bytes[key->len++] = '@';
        memcpy(key->bytes + key->len, group.ptr, group.len);
        key->len += group.len;
    }
    return true;
}

void traffic_init(struct traffic *t, struct hash_key key)
{
    *t = (struct traffic){.is_counting = false};
    strmap_init(&t->topics, key);
    strmap_init(&t->groups, key);
}

static void map_fini(struct strmap *map)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(map, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(map);
}

void traffic_fini(struct traffic *t)
{
    map_fini(&t->topics);
    map_fini(&t->groups);
}

void traffic_start(struct traffic *t, struct traffic_now now)
{
    t->since_ms = now.mono_ms;
    t->put_days.day = t->get_days.day = now.wall_ms / DAY_MS;
    t->is_counting = true;
}

bool traffic_is_full(const struct traffic *t)
{
    return t->bytes >= TRAFFIC_BYTES_MAX;
}

/* NULL when there is no room for one more. */
static struct rate *item_get(struct traffic *t, struct strmap *map, struct slice key)
{
    struct rate *item = strmap_find(map, key);

    if (item != NULL || traffic_is_full(t)) {
        return item;
    }
    item = mem_calloc(1, sizeof *item);
    if (item != NULL && strmap_put(map, key, item) != 0) {
        mem_free(item);
        item = NULL;
    }
    t->bytes += item == NULL ? 0 : sizeof *item + key.len + 2 * sizeof(struct strmap_slot);
    return item;
}

void traffic_put(struct traffic *t, struct slice topic, struct traffic_now now)
{
    struct rate *item;

    if (!t->is_counting) {
        return;
    }
    day_marks_roll(&t->put_days, t->put.total, now.wall_ms);
    rate_add(&t->put, 1, now.mono_ms);
    item = item_get(t, &t->topics, topic);
    if (item != NULL) {
        rate_add(item, 1, now.mono_ms);
    }
}

void traffic_get(struct traffic *t, struct slice topic, struct slice group, uint64_t count,
                 struct traffic_now now)
{
    ESCROW_UNINITIALIZED struct item_key key; /* key_make sets it */
    struct rate *item = NULL;

    if (!t->is_counting || count == 0) {
        return;
    }
    day_marks_roll(&t->get_days, t->get.total, now.wall_ms);
    rate_add(&t->get, count, now.mono_ms);
    if (group.len > 0 && key_make(&key, topic, group)) {
        item = item_get(t, &t->groups, slice_of(key.bytes, key.len));
    }
    if (item != NULL) {
        rate_add(item, count, now.mono_ms);
    }
}

const struct rate *traffic_find(const struct traffic *t, struct slice topic, struct slice group)
{
    ESCROW_UNINITIALIZED struct item_key key; /* key_make sets it */

    if (!key_make(&key, topic, group)) {
        return NULL;
    }
    return strmap_find(group.len > 0 ? &t->groups : &t->topics, slice_of(key.bytes, key.len));
}
