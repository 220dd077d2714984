/*
 * Happy path: a message finds its topic by hash, asks the classes of its queue and of "any queue",
 * and takes the first waiter of those that may want it.
 *
 * Failures: none but memory. When the steps of a turn are used up the topic's classes become due as
 * a whole (topic_miss), which moves one list; waits_next goes through them later.
 */
#include "src/broker/waits.h"

#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/filter/filter.h"
#include "escrow/errors.h"

#include <string.h>

struct wait_topic {
    struct list groups;
    struct list classes;    /* of all groups: those that are not due */
    struct list due;        /* those that are */
    struct list by_due;     /* waits.due, iff one is due */
    uint64_t missed;        /* messages that nobody was asked about */
    uint64_t missed_before; /* who waits at the last of them has a lower number */
    size_t key_len;
    char key[];
};

/* ---- keys of `parts`: what it is, whose it is, its name -------------------------------------- */

#define PART_KEY_MAX (9 + WAITS_NAME_MAX)

enum part { PART_GROUP, PART_PLACE, PART_CLASS };

static struct slice part_key(uint8_t *key, enum part part, const void *parent, struct slice name)
{
    CHECK(name.len <= WAITS_NAME_MAX);
    key[0] = (uint8_t)part;
    put_le64(key + 1, (uint64_t)(uintptr_t)parent);
    if (name.len > 0) {
        memcpy(key + 9, name.ptr, name.len);
    }
    return slice_of(key, 9 + name.len);
}

static struct slice group_key(uint8_t *key, const struct wait_topic *topic, struct slice name)
{
    return part_key(key, PART_GROUP, topic, name);
}

static struct slice place_key(uint8_t *key, const struct wait_group *group, int32_t queue)
{
    uint8_t name[4];

    put_le32(name, (uint32_t)queue);
    return part_key(key, PART_PLACE, group, slice_of(name, sizeof name));
}

static struct slice class_key(uint8_t *key, const struct wait_place *place, uint32_t lane,
                              uint64_t hash)
{
    uint8_t name[12];

    put_le32(name, lane);
    put_le64(name + 4, hash);
    return part_key(key, PART_CLASS, place, slice_of(name, sizeof name));
}

/* ---- coming and going ------------------------------------------------------------------------ */

static void topic_tidy(struct waits *w, struct wait_topic *topic)
{
    if (list_is_empty(&topic->groups)) {
        CHECK(list_is_empty(&topic->classes) && list_is_empty(&topic->due));
        list_remove(&topic->by_due);
        CHECK(strmap_take(&w->topics, slice_of(topic->key, topic->key_len)) == topic);
        mem_free(topic);
    }
}

static void group_tidy(struct waits *w, struct wait_group *group)
{
    struct wait_topic *topic = group->topic;
    uint8_t key[PART_KEY_MAX];

    if (list_is_empty(&group->any.classes) && list_is_empty(&group->places)) {
        struct slice name = slice_of(group->name, group->name_len);
        CHECK(strmap_take(&w->parts, group_key(key, topic, name)) == group);
        list_remove(&group->by_topic);
        mem_free(group);
        topic_tidy(w, topic);
    }
}

static void place_tidy(struct waits *w, struct wait_place *place)
{
    struct wait_group *group = place->group;
    uint8_t key[PART_KEY_MAX];

    if (!list_is_empty(&place->classes)) {
        return;
    }
    if (place != &group->any) {
        CHECK(strmap_take(&w->parts, place_key(key, group, place->queue)) == place);
        list_remove(&place->by_group);
        mem_free(place);
    }
    group_tidy(w, group);
}

static void class_tidy(struct waits *w, struct wait_class *class)
{
    struct wait_place *place = class->place;
    struct wait_topic *topic = place->group->topic;
    uint8_t key[PART_KEY_MAX];

    if (!list_is_empty(&class->waiters)) {
        return;
    }
    CHECK(strmap_take(&w->parts, class_key(key, place, class->lane, class->hash)) == class);
    list_remove(&class->by_place);
    list_remove(&class->by_topic);
    filter_free(&class->filter);
    mem_free(class);
    if (list_is_empty(&topic->due)) {
        list_remove(&topic->by_due);
    }
    place_tidy(w, place);
}

static void *part_add(struct strmap *map, struct slice key, void *part)
{
    if (part != NULL && strmap_put(map, key, part) != 0) {
        mem_free(part);
        return NULL;
    }
    return part;
}

static struct wait_topic *topic_get(struct waits *w, struct slice name)
{
    struct wait_topic *topic = strmap_find(&w->topics, name);

    if (topic != NULL) {
        return topic;
    }
    topic = part_add(&w->topics, name, mem_calloc(1, sizeof *topic + name.len));
    if (topic != NULL) {
        list_init(&topic->groups);
        list_init(&topic->classes);
        list_init(&topic->due);
        list_init(&topic->by_due);
        topic->key_len = name.len;
        memcpy(topic->key, name.ptr, name.len);
    }
    return topic;
}

static void place_init(struct wait_place *place, struct wait_group *group, int32_t queue)
{
    list_init(&place->by_group);
    list_init(&place->classes);
    place->group = group;
    place->queue = queue;
}

static struct wait_group *group_get(struct waits *w, struct wait_topic *topic, struct slice name)
{
    uint8_t bytes[PART_KEY_MAX];
    struct slice key = group_key(bytes, topic, name);
    struct wait_group *group = strmap_find(&w->parts, key);

    if (group != NULL) {
        return group;
    }
    group = part_add(&w->parts, key, mem_calloc(1, sizeof *group + name.len));
    if (group == NULL) {
        topic_tidy(w, topic);
        return NULL;
    }
    group->topic = topic;
    place_init(&group->any, group, -1);
    list_init(&group->places);
    group->name_len = name.len;
    if (name.len > 0) {
        memcpy(group->name, name.ptr, name.len);
    }
    list_push(&topic->groups, &group->by_topic);
    return group;
}

static struct wait_place *place_find(const struct waits *w, struct wait_group *group, int32_t queue)
{
    uint8_t bytes[PART_KEY_MAX];

    if (queue < 0) {
        return &group->any;
    }
    return list_is_empty(&group->places) ? NULL
                                         : strmap_find(&w->parts, place_key(bytes, group, queue));
}

static struct wait_place *place_get(struct waits *w, struct wait_group *group, int32_t queue)
{
    uint8_t bytes[PART_KEY_MAX];
    struct wait_place *place = place_find(w, group, queue);

    if (place != NULL) {
        return place;
    }
    place = part_add(&w->parts, place_key(bytes, group, queue), mem_calloc(1, sizeof *place));
    if (place == NULL) {
        group_tidy(w, group);
        return NULL;
    }
    place_init(place, group, queue);
    list_push(&group->places, &place->by_group);
    return place;
}

static bool is_same_filter(const struct filter *a, const struct filter *b)
{
    if (a == NULL || b == NULL) {
        return a == b;
    }
    return a == b ||
           (filter_type_of(a) == filter_type_of(b) && slice_eq(filter_text(a), filter_text(b)));
}

static uint64_t filter_hash(const struct waits *w, const struct filter *filter)
{
    return filter == NULL
               ? 0
               : hash64(&w->parts.hash_key, filter_text(filter)) + (uint64_t)filter_type_of(filter);
}

static struct wait_class *class_get(struct waits *w, struct wait_place *place, uint32_t lane,
                                    struct filter *filter)
{
    uint64_t hash = filter_hash(w, filter);
    uint8_t bytes[PART_KEY_MAX];
    struct wait_class *class = strmap_find(&w->parts, class_key(bytes, place, lane, hash));

    CHECK(lane < WAITS_LANES);
    while (class != NULL && !is_same_filter(class->filter, filter)) {
        hash++; /* two texts of one hash */
        class = strmap_find(&w->parts, class_key(bytes, place, lane, hash));
    }
    if (class != NULL) {
        return class;
    }
    class = part_add(&w->parts, class_key(bytes, place, lane, hash), mem_calloc(1, sizeof *class));
    if (class == NULL) {
        place_tidy(w, place);
        return NULL;
    }
    class->place = place;
    class->lane = lane;
    class->hash = hash;
    class->filter = filter == NULL ? NULL : filter_hold(filter);
    class->seen = place->group->topic->missed;
    list_init(&class->waiters);
    list_push(&place->classes, &class->by_place);
    list_push(&place->group->topic->classes, &class->by_topic);
    return class;
}

int waits_add(struct waits *w, const struct wait_wish *wish, struct wait_item *waiter)
{
    struct wait_topic *topic = topic_get(w, wish->topic);
    struct wait_group *group = topic == NULL ? NULL : group_get(w, topic, wish->group);
    struct wait_place *place = group == NULL ? NULL : place_get(w, group, wish->queue);
    struct wait_class *class = place == NULL ? NULL : class_get(w, place, wish->lane, wish->filter);

    if (class == NULL) {
        return ESCROW_ENOMEM;
    }
    waiter->class = class;
    waiter->number = w->next_number++;
    list_push(&class->waiters, &waiter->node);
    place->lanes[wish->lane]++;
    group->lanes[wish->lane]++;
    w->lanes[wish->lane]++;
    w->count++;
    return 0;
}

void waits_remove(struct waits *w, struct wait_item *waiter)
{
    struct wait_class *class = waiter->class;

    CHECK(class != NULL);
    if (w->on_leave != NULL) {
        w->on_leave(waiter);
    }
    list_remove(&waiter->node);
    waiter->class = NULL;
    class->place->lanes[class->lane]--;
    class->place->group->lanes[class->lane]--;
    w->lanes[class->lane]--;
    w->count--;
    class_tidy(w, class);
}

/* ---- steps ----------------------------------------------------------------------------------- */

bool waits_turn(struct waits *w, uint64_t turn)
{
    if (turn == w->turn) {
        return false;
    }
    w->turn = turn;
    w->steps_left = WAITS_STEPS_MAX;
    return true;
}

static bool take_step(struct waits *w)
{
    if (w->steps_left == 0) {
        return false;
    }
    w->steps_left--;
    return true;
}

static void topic_is_due(struct waits *w, struct wait_topic *topic)
{
    if (list_is_empty(&topic->by_due) && !list_is_empty(&topic->due)) {
        list_push(&w->due, &topic->by_due);
    }
}

/* Nobody is asked now: whoever waits may be wanted. */
static void topic_miss(struct waits *w, struct wait_topic *topic)
{
    topic->missed++;
    topic->missed_before = w->next_number;
    list_move_all(&topic->classes, &topic->due);
    topic_is_due(w, topic);
}

/* Who waits in it now: one of them more, or all. */
static void class_is_due(struct waits *w, struct wait_class *class)
{
    struct wait_topic *topic = class->place->group->topic;

    class->before = w->next_number;
    class->seen--;
    list_remove(&class->by_topic);
    list_push(&topic->due, &class->by_topic);
    topic_is_due(w, topic);
}

/* ---- one of each lane ------------------------------------------------------------------------ */

/* Who waits longest, in each lane. */
struct longest {
    struct wait_item *first[WAITS_LANES];
};

static bool may_want(const struct wait_class *class, const struct wait_alarm *alarm)
{
    return alarm->tag_code == NULL || class->filter == NULL ||
           filter_may_match(class->filter, *alarm->tag_code);
}

static uint32_t lanes_of(const uint32_t *counts)
{
    uint32_t lanes = 0;

    for (uint32_t i = 0; i < WAITS_LANES; i++) {
        lanes |= counts[i] > 0 ? 1U << i : 0;
    }
    return lanes;
}

/* false: no step is left. */
static bool look_in(struct waits *w, const struct wait_place *place, uint32_t lanes,
                    const struct wait_alarm *alarm, struct longest *out)
{
    struct list *pos;

    if (place == NULL || (lanes_of(place->lanes) & lanes) == 0) {
        return true;
    }
    for (pos = place->classes.next; pos != &place->classes; pos = pos->next) {
        struct wait_class *class = LIST_ENTRY(pos, struct wait_class, by_place);
        struct wait_item *waiter = LIST_ENTRY(class->waiters.next, struct wait_item, node);
        struct wait_item **first = &out->first[class->lane];
        if (!take_step(w)) {
            return false;
        }
        if ((lanes & 1U << class->lane) != 0 && may_want(class, alarm) &&
            (*first == NULL || waiter->number < (*first)->number)) {
            *first = waiter;
        }
    }
    return true;
}

/* One of each class, in the turns to come. */
static bool wake_each_class(struct waits *w, const struct wait_place *place)
{
    struct list *pos;

    for (pos = place->classes.next; pos != &place->classes; pos = pos->next) {
        if (!take_step(w)) {
            return false;
        }
        class_is_due(w, LIST_ENTRY(pos, struct wait_class, by_place));
    }
    return true;
}

static bool wake_each_place(struct waits *w, const struct wait_group *group)
{
    struct list *pos;
    bool has_steps = wake_each_class(w, &group->any);

    for (pos = group->places.next; has_steps && pos != &group->places; pos = pos->next) {
        has_steps = wake_each_class(w, LIST_ENTRY(pos, struct wait_place, by_group));
    }
    return has_steps;
}

/* false: no step is left, and nothing was done. The group is gone if nobody is left in it. */
static bool wake_in(struct waits *w, struct wait_group *group, const struct wait_alarm *alarm)
{
    struct longest longest = {.first = {NULL}};
    uint32_t lanes = lanes_of(group->lanes);

    if (!take_step(w)) {
        return false;
    }
    lanes &= alarm->lanes == NULL ? WAITS_LANES_ALL : alarm->lanes(alarm->arg, group);
    if (alarm->queue < 0 && !list_is_empty(&group->places)) {
        return wake_each_place(w, group);
    }
    if (!look_in(w, &group->any, lanes, alarm, &longest) ||
        (alarm->queue >= 0 &&
         !look_in(w, place_find(w, group, alarm->queue), lanes, alarm, &longest))) {
        return false;
    }
    for (size_t i = 0; i < WAITS_LANES; i++) {
        if (longest.first[i] != NULL) {
            waits_remove(w, longest.first[i]);
            alarm->wake(alarm->arg, longest.first[i]);
        }
    }
    return true;
}

void waits_wake_groups(struct waits *w, struct slice name, const struct wait_alarm *alarm)
{
    struct wait_topic *topic = w->count == 0 ? NULL : strmap_find(&w->topics, name);
    struct list *pos;
    struct list *tmp;

    if (topic == NULL) {
        return;
    }
    LIST_FOREACH(pos, tmp, &topic->groups) {
        bool is_last = tmp == &topic->groups; /* with its last waiter the topic goes, too */
        if (!wake_in(w, LIST_ENTRY(pos, struct wait_group, by_topic), alarm)) {
            topic_miss(w, topic);
            return;
        }
        if (is_last) {
            return;
        }
    }
}

static struct wait_group *group_find(const struct waits *w, struct slice topic_name,
                                     struct slice name)
{
    struct wait_topic *topic = w->count == 0 ? NULL : strmap_find(&w->topics, topic_name);
    uint8_t bytes[PART_KEY_MAX];

    return topic == NULL ? NULL : strmap_find(&w->parts, group_key(bytes, topic, name));
}

void waits_wake_group(struct waits *w, struct slice topic, struct slice name,
                      const struct wait_alarm *alarm)
{
    struct wait_group *group = group_find(w, topic, name);

    if (group != NULL) {
        struct wait_topic *of = group->topic;
        if (!wake_in(w, group, alarm)) {
            topic_miss(w, of);
        }
    }
}

/* ---- all ------------------------------------------------------------------------------------- */

/* Those that are due already: who came since, too. false: no step is left. */
static bool ask_due(struct waits *w, struct wait_topic *topic, waits_wants_fn *wants, void *arg)
{
    struct list *pos;

    for (pos = topic->due.next; pos != &topic->due; pos = pos->next) {
        struct wait_class *class = LIST_ENTRY(pos, struct wait_class, by_topic);
        if (!take_step(w)) {
            return false;
        }
        if (wants(arg, class)) {
            class->before = w->next_number;
        }
    }
    return true;
}

static bool ask_others(struct waits *w, struct wait_topic *topic, waits_wants_fn *wants, void *arg)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &topic->classes) {
        struct wait_class *class = LIST_ENTRY(pos, struct wait_class, by_topic);
        if (!take_step(w)) {
            return false;
        }
        if (wants(arg, class)) {
            class_is_due(w, class);
        }
    }
    return true;
}

void waits_wake_all(struct waits *w, struct slice name, waits_wants_fn *wants, void *arg)
{
    struct wait_topic *topic = w->count == 0 ? NULL : strmap_find(&w->topics, name);

    CHECK(w->wakes_all);
    if (topic != NULL && (!ask_due(w, topic, wants, arg) || !ask_others(w, topic, wants, arg))) {
        topic_miss(w, topic);
    }
}

/* ---- in pieces ------------------------------------------------------------------------------- */

static bool is_over(const struct waits *w, const struct wait_topic *topic,
                    const struct wait_class *class)
{
    uint64_t first = LIST_ENTRY(class->waiters.next, struct wait_item, node)->number;

    return (first >= class->before && first >= topic->missed_before) ||
           (!w->wakes_all && class->seen == topic->missed);
}

struct wait_item *waits_next(struct waits *w)
{
    while (!list_is_empty(&w->due) && take_step(w)) {
        struct wait_topic *topic = LIST_ENTRY(w->due.next, struct wait_topic, by_due);
        struct wait_class *class = LIST_ENTRY(topic->due.next, struct wait_class, by_topic);
        list_remove(&topic->by_due);
        list_remove(&class->by_topic);
        if (is_over(w, topic, class)) {
            class->seen = topic->missed;
            list_push(&topic->classes, &class->by_topic);
            topic_is_due(w, topic);
        } else {
            struct wait_item *waiter = LIST_ENTRY(class->waiters.next, struct wait_item, node);
            class->seen++;
            list_push(&topic->due, &class->by_topic);
            topic_is_due(w, topic); /* topics and classes take turns */
            waits_remove(w, waiter);
            return waiter;
        }
    }
    return NULL;
}

/* ---- begin, end, and looking at it ----------------------------------------------------------- */

void waits_init(struct waits *w, struct hash_key key, bool wakes_all)
{
    *w = (struct waits){.steps_left = WAITS_STEPS_MAX, .wakes_all = wakes_all};
    strmap_init(&w->topics, key);
    strmap_init(&w->parts, key);
    list_init(&w->due);
}

void waits_fini(struct waits *w)
{
    CHECK(w->count == 0 && w->topics.count == 0 && w->parts.count == 0);
    CHECK(list_is_empty(&w->due));
    strmap_fini(&w->topics);
    strmap_fini(&w->parts);
}

uint32_t waits_count(const struct waits *w, const struct wait_wish *wish)
{
    struct wait_group *group = group_find(w, wish->topic, wish->group);
    const struct wait_place *place = group == NULL ? NULL : place_find(w, group, wish->queue);

    return place == NULL ? 0 : place->lanes[wish->lane];
}

/* Who waits in the class; they came one after another. */
static size_t class_check(const struct waits *w, const struct wait_class *class)
{
    uint64_t last = 0;
    size_t count = 0;

    for (const struct list *pos = class->waiters.next; pos != &class->waiters; pos = pos->next) {
        const struct wait_item *waiter = LIST_ENTRY(pos->prev->next, struct wait_item, node);
        CHECK(waiter->class == class);
        CHECK(waiter->number < w->next_number && (count == 0 || waiter->number > last));
        last = waiter->number;
        count++;
    }
    CHECK(count > 0 && class->lane < WAITS_LANES);
    return count;
}

static size_t topic_check(const struct waits *w, const struct wait_topic *topic)
{
    const struct list *lists[2] = {&topic->classes, &topic->due};
    size_t count = 0;

    CHECK(list_is_empty(&topic->due) == list_is_empty(&topic->by_due));
    for (size_t i = 0; i < 2; i++) {
        for (const struct list *pos = lists[i]->next; pos != lists[i]; pos = pos->next) {
            const struct wait_class *class =
                LIST_ENTRY(pos->prev->next, struct wait_class, by_topic);
            CHECK(class->place->group->topic == topic);
            CHECK_IMPLIES(i == 0 && !w->wakes_all, class->seen == topic->missed);
            count += class_check(w, class);
        }
    }
    return count;
}

void waits_check(const struct waits *w)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;
    size_t count = 0;

    while ((slot = strmap_next(&w->topics, &cursor)) != NULL) {
        count += topic_check(w, slot->value);
    }
    CHECK(count == w->count);
    CHECK(count == w->lanes[0] + w->lanes[1] + w->lanes[2] + w->lanes[3]);
}
