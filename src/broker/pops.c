#include "src/broker/pops.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/filter/filter.h"
#include "src/broker/broker.h"

#define TICK_MAX 4096 /* what is due must not keep the loop: the rest a millisecond later */

struct pop_topic {
    struct list groups;
    char name[RETRY_TOPIC_LEN_MAX + 1];
};

struct pop_group {
    struct list by_topic;
    struct list waiting; /* pops, the one that waits longest first */
    struct pop_topic *topic;
    uint32_t lanes[POP_LANES]; /* how many of each wait */
    char name[GROUP_LEN_MAX + 1];
};

static size_t lane_of(const struct pop *pop)
{
    return (pop->kind == POP_NOTIFY ? 2u : 0u) + (pop->is_ordered ? 1u : 0u);
}

/* ---- who waits ------------------------------------------------------------------------------- */

static struct pop_group *group_find(const struct pop_topic *topic, struct slice name)
{
    struct list *pos;

    for (pos = topic->groups.next; pos != &topic->groups; pos = pos->next) {
        struct pop_group *group = LIST_ENTRY(pos, struct pop_group, by_topic);
        if (slice_eq_str(name, group->name)) {
            return group;
        }
    }
    return NULL;
}

static struct pop_topic *topic_get(struct pops *p, struct slice name)
{
    struct pop_topic *topic = strmap_find(&p->topics, name);

    if (topic != NULL) {
        return topic;
    }
    topic = mem_calloc(1, sizeof *topic);
    if (topic == NULL) {
        return NULL;
    }
    list_init(&topic->groups);
    (void)slice_to_cstr(name, topic->name, sizeof topic->name);
    if (strmap_put(&p->topics, name, topic) != 0) {
        mem_free(topic);
        return NULL;
    }
    return topic;
}

static void topic_put(struct pops *p, struct pop_topic *topic)
{
    if (list_is_empty(&topic->groups)) {
        CHECK(strmap_take(&p->topics, slice_str(topic->name)) == topic);
        mem_free(topic);
    }
}

static struct pop_group *group_get(struct pops *p, struct slice topic_name, struct slice name)
{
    struct pop_topic *topic = topic_get(p, topic_name);
    struct pop_group *group;

    if (topic == NULL) {
        return NULL;
    }
    group = group_find(topic, name);
    if (group != NULL) {
        return group;
    }
    group = mem_calloc(1, sizeof *group);
    if (group == NULL) {
        topic_put(p, topic);
        return NULL;
    }
    list_init(&group->waiting);
    group->topic = topic;
    (void)slice_to_cstr(name, group->name, sizeof group->name);
    list_push(&topic->groups, &group->by_topic);
    return group;
}

/* Take a pop out of the waiting; what nobody waits in any more goes with it. */
static void stop_waiting(struct pops *p, struct pop *pop)
{
    struct pop_group *group = pop->waits_in;

    CHECK(group != NULL);
    loop_timer_stop(pop->broker->loop, &pop->timer);
    list_remove(&pop->by_session);
    list_remove(&pop->by_group);
    pop->waits_in = NULL;
    group->lanes[lane_of(pop)]--;
    p->waiting--;
    p->waiting_ordered -= pop->is_ordered ? 1 : 0;
    if (list_is_empty(&group->waiting)) {
        struct pop_topic *topic = group->topic;
        list_remove(&group->by_topic);
        mem_free(group);
        topic_put(p, topic);
    }
}

static void wait_is_over(void *arg)
{
    struct pop *pop = arg;

    stop_waiting(&pop->broker->pops, pop);
    pop_give_up(pop);
}

int pops_wait(struct broker *b, struct pop *pop, uint64_t wait_ms)
{
    struct pops *p = &b->pops;
    struct pop_group *group;

    if (p->waiting >= b->config->pulls_held_max) {
        return ESCROW_ELIMIT;
    }
    group = group_get(p, slice_str(pop->topic), slice_str(pop->group));
    if (group == NULL) {
        return ESCROW_ENOMEM;
    }
    pop->waits_in = group;
    list_push(&group->waiting, &pop->by_group);
    list_push(&pop->deferred.session->pops, &pop->by_session);
    loop_timer_start(b->loop, &pop->timer, wait_ms, 0, wait_is_over, pop);
    group->lanes[lane_of(pop)]++;
    p->waiting++;
    p->waiting_ordered += pop->is_ordered ? 1 : 0;
    return 0;
}

/* ---- waking ---------------------------------------------------------------------------------- */

static void run_ready(void *arg)
{
    struct broker *b = arg;

    while (!list_is_empty(&b->pops.ready)) {
        struct pop *pop = LIST_ENTRY(b->pops.ready.next, struct pop, by_group);
        list_remove(&pop->by_group);
        if (pop->deferred.session->is_closed) {
            /* It was woken in the place of another one. */
            pops_wake(b, slice_str(pop->group), slice_str(pop->topic), pop->queue_id);
            pop_drop(pop);
        } else {
            pop_run(pop);
        }
    }
}

void pops_run_soon(struct broker *b, struct pop *pop)
{
    list_push(&b->pops.ready, &pop->by_group);
    loop_defer(b->loop, &b->pops.run);
}

bool pops_is_open(struct broker *b, const struct pop_key *key, uint64_t attempt)
{
    int64_t committed;

    if (!offsets_find(&b->offsets, key->group, key->topic, key->queue, &committed)) {
        return true; /* nothing was ever handed out */
    }
    return pop_table_order(b->pops.table, key, committed, attempt) != POP_ORDER_BLOCKED;
}

/* What wakes: a queue (< 0: any), and a message's tag code (NULL: any). */
struct pop_alarm {
    int32_t queue;
    const int64_t *tag_code;
    bool is_for_ordered; /* for nobody else */
};

/* Would it find something? An ordered pop does not in a queue that is in hand. */
static bool is_worth_waking(const struct pop *pop, const struct pop_alarm *alarm, bool is_open)
{
    return (is_open || !pop->is_ordered) && (pop->is_ordered || !alarm->is_for_ordered) &&
           (alarm->queue < 0 || pop->queue_id < 0 || pop->queue_id == alarm->queue) &&
           (alarm->tag_code == NULL || pop->filter == NULL ||
            filter_may_match(pop->filter, *alarm->tag_code));
}

/* The first one of each lane. The group is gone if nobody is left in it. */
static void wake_first(struct broker *b, struct pop_group *group, const struct pop_alarm *alarm)
{
    struct pop_key key = {slice_str(group->name), slice_str(group->topic->name),
                          alarm->queue < 0 ? 0 : (uint32_t)alarm->queue};
    struct pop *first[POP_LANES] = {NULL};
    size_t lanes_left = 0;
    struct list *pos;
    bool is_open =
        group->lanes[1] + group->lanes[3] > 0 && (alarm->queue < 0 || pops_is_open(b, &key, 0));

    for (size_t i = 0; i < POP_LANES; i++) {
        lanes_left += group->lanes[i] > 0 ? 1 : 0;
    }
    for (pos = group->waiting.next; pos != &group->waiting && lanes_left > 0; pos = pos->next) {
        struct pop *pop = LIST_ENTRY(pos, struct pop, by_group);
        struct pop **place = &first[lane_of(pop)];
        if (*place == NULL && is_worth_waking(pop, alarm, is_open)) {
            *place = pop;
            lanes_left--;
        }
    }
    for (size_t i = 0; i < POP_LANES; i++) {
        if (first[i] != NULL) {
            stop_waiting(&b->pops, first[i]);
            pops_run_soon(b, first[i]);
        }
    }
}

void pops_notify(struct broker *b, const struct hold_arrival *arrival)
{
    struct pop_topic *topic;
    struct list *pos;
    struct list *tmp;
    struct pop_alarm alarm = {.queue = (int32_t)arrival->queue_id, .tag_code = &arrival->tag_code};

    if (b->pops.waiting == 0) {
        return;
    }
    topic = strmap_find(&b->pops.topics, arrival->topic);
    if (topic == NULL) {
        return;
    }
    LIST_FOREACH(pos, tmp, &topic->groups) {
        bool is_last = tmp == &topic->groups; /* with its last waiter the topic goes, too */
        wake_first(b, LIST_ENTRY(pos, struct pop_group, by_topic), &alarm);
        if (is_last) {
            break;
        }
    }
}

static struct pop_group *find_waiting(const struct broker *b, struct slice group,
                                      struct slice topic)
{
    const struct pop_topic *t = b->pops.waiting == 0 ? NULL : strmap_find(&b->pops.topics, topic);

    return t == NULL ? NULL : group_find(t, group);
}

void pops_wake(struct broker *b, struct slice group, struct slice topic, int32_t queue)
{
    struct pop_group *g = find_waiting(b, group, topic);

    if (g != NULL) {
        wake_first(b, g, &(struct pop_alarm){.queue = queue});
    }
}

uint32_t pops_count(const struct broker *b, struct slice group, struct slice topic, int32_t queue)
{
    struct pop_group *g = find_waiting(b, group, topic);
    struct list *pos;
    uint32_t count = 0;

    if (g != NULL) {
        for (pos = g->waiting.next; pos != &g->waiting; pos = pos->next) {
            const struct pop *pop = LIST_ENTRY(pos, struct pop, by_group);
            count += pop->kind == POP_TAKE && pop->queue_id == (queue < 0 ? -1 : queue) ? 1 : 0;
        }
    }
    return count;
}

/* ---- time ------------------------------------------------------------------------------------ */

int64_t pops_now(struct broker *b)
{
    int64_t now_ms = loop_wall_ms(b->loop);

    if (now_ms > b->pops.last_pop_ms) {
        b->pops.last_pop_ms = now_ms;
    }
    return b->pops.last_pop_ms;
}

static void became_due(void *arg, const struct pop_key *key)
{
    pops_wake(arg, key->group, key->topic, (int32_t)key->queue);
}

static void pops_tick(void *arg)
{
    struct broker *b = arg;

    b->pops.timer_ms = INT64_MAX;
    pop_table_tick(b->pops.table, loop_mono_ms(b->loop), TICK_MAX, became_due, b);
    pops_arm(b);
}

void pops_arm(struct broker *b)
{
    int64_t next_ms = pop_table_next_ms(b->pops.table);
    int64_t wait_ms;

    if (next_ms >= b->pops.timer_ms || b->is_draining) {
        return; /* one that fires too early finds nothing, and looks again */
    }
    wait_ms = next_ms - loop_mono_ms(b->loop);
    loop_timer_start(b->loop, &b->pops.timer, wait_ms < 1 ? 1 : (uint64_t)wait_ms, 0, pops_tick, b);
    b->pops.timer_ms = next_ms;
}

enum pop_outcome pops_acknowledge(struct broker *b, const struct pop_key *key, int64_t offset,
                                  int64_t pop_ms)
{
    int64_t committed = 0;
    int64_t before;
    enum pop_outcome outcome;
    struct pop_opening opening;

    (void)offsets_find(&b->offsets, key->group, key->topic, key->queue, &committed); /* none: 0 */
    before = committed;
    outcome = pop_table_ack(b->pops.table, key, &committed, offset, pop_ms, &opening);
    if (committed != before &&
        offsets_note(&b->offsets, key->group, key->topic, key->queue, committed) != 0) {
        log_debug("pop.offset", "offset not kept: the messages from %lld on come again",
                  (long long)before);
    }
    if (opening.has_room) {
        pops_wake(b, key->group, key->topic, (int32_t)key->queue);
    } else if (opening.is_free && b->pops.waiting_ordered > 0) {
        struct pop_group *g = find_waiting(b, key->group, key->topic);
        if (g != NULL) {
            wake_first(b, g,
                       &(struct pop_alarm){.queue = (int32_t)key->queue, .is_for_ordered = true});
        }
    }
    return outcome;
}

/* ---- begin and end --------------------------------------------------------------------------- */

int pops_init(struct broker *b, struct hash_key key)
{
    const struct pop_limits limits = {.queue_max = POP_QUEUE_MAX, .total_max = POP_TOTAL_MAX};
    struct pops *p = &b->pops;

    *p = (struct pops){.timer_ms = INT64_MAX};
    strmap_init(&p->topics, key);
    list_init(&p->ready);
    loop_deferred_init(&p->run, run_ready, b);
    buf_init(&p->body, FRAME_SIZE_MAX);
    buf_init(&p->start_info, 0);
    buf_init(&p->offset_info, 0);
    buf_init(&p->count_info, 0);
    return pop_table_new(&limits, key, &p->table);
}

void pops_fini(struct broker *b)
{
    struct pops *p = &b->pops;

    CHECK(p->waiting == 0 && p->waiting_ordered == 0 && list_is_empty(&p->ready));
    loop_deferred_cancel(&p->run);
    loop_timer_stop(b->loop, &p->timer);
    CHECK(p->topics.count == 0);
    strmap_fini(&p->topics);
    buf_fini(&p->body);
    buf_fini(&p->start_info);
    buf_fini(&p->offset_info);
    buf_fini(&p->count_info);
    pop_table_free(p->table);
    p->table = NULL;
}

void pops_on_close(struct broker *b, struct session *s)
{
    while (!list_is_empty(&s->pops)) {
        struct pop *pop = LIST_ENTRY(s->pops.next, struct pop, by_session);
        stop_waiting(&b->pops, pop);
        pop_drop(pop);
    }
}

void pops_release_all(struct broker *b)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->sessions) {
        struct session *s = LIST_ENTRY(pos, struct session, node);
        while (!list_is_empty(&s->pops)) {
            struct pop *pop = LIST_ENTRY(s->pops.next, struct pop, by_session);
            stop_waiting(&b->pops, pop);
            pop_give_up(pop);
        }
    }
    run_ready(b);
}
