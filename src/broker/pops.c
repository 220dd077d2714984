#include "src/broker/pops.h"

#include "core/base/check.h"
#include "core/base/log.h"
#include "src/broker/broker.h"

#define TICK_MAX 4096 /* what is due must not keep the loop: the rest a millisecond later */

static struct pop *pop_of(struct wait_item *waiter)
{
    return LIST_ENTRY(waiter, struct pop, waiter);
}

static uint32_t lane_of(const struct pop *pop)
{
    return (pop->kind == POP_NOTIFY ? POP_LANE_NOTIFY : 0) |
           (pop->is_ordered ? POP_LANE_ORDERED : 0);
}

/* ---- who waits ------------------------------------------------------------------------------- */

/* It does not wait any more. */
static void let_out(struct pop *pop)
{
    loop_timer_stop(pop->broker->loop, &pop->timer);
    list_remove(&pop->by_session);
}

static void stop_waiting(struct pops *p, struct pop *pop)
{
    waits_remove(&p->waits, &pop->waiter);
    let_out(pop);
}

static void wait_is_over(void *arg)
{
    struct pop *pop = arg;

    stop_waiting(&pop->broker->pops, pop);
    pop->is_over = true;
    pops_run_soon(pop->broker, pop);
}

int pops_wait(struct broker *b, struct pop *pop, uint64_t wait_ms)
{
    struct pops *p = &b->pops;
    const struct wait_wish wish = {.topic = slice_str(pop->topic),
                                   .group = slice_str(pop->group),
                                   .queue = pop->queue_id,
                                   .lane = lane_of(pop),
                                   .filter = pop->filter};
    int rc;

    if (p->waits.count >= b->config->pulls_held_max) {
        return ESCROW_ELIMIT;
    }
    rc = waits_add(&p->waits, &wish, &pop->waiter);
    if (rc == 0) {
        list_push(&pop->deferred.session->pops, &pop->by_session);
        loop_timer_start(b->loop, &pop->timer, wait_ms, 0, wait_is_over, pop);
    }
    return rc;
}

/* ---- running --------------------------------------------------------------------------------- */

void pops_pass_on(struct pop *pop)
{
    pops_wake(pop->broker, slice_str(pop->group), slice_str(pop->topic), pop->queue_id);
    pop_drop(pop);
}

static void run_one(struct pop *pop)
{
    if (session_is_gone(pop->deferred.session)) {
        pops_pass_on(pop);
    } else if (pop->is_over) {
        pop_give_up(pop);
    } else {
        pop_run(pop);
    }
}

static bool run_ready(struct broker *b)
{
    struct pop *pop;

    if (list_is_empty(&b->pops.ready)) {
        return false;
    }
    pop = LIST_ENTRY(b->pops.ready.next, struct pop, waiter.node);
    list_remove(&pop->waiter.node);
    run_one(pop);
    return true;
}

/* Somebody who waited when there were too many messages to ask for each who may want it. */
static bool run_due(struct broker *b)
{
    struct wait_item *waiter = waits_next(&b->pops.waits);

    if (waiter == NULL) {
        return false;
    }
    let_out(pop_of(waiter));
    run_one(pop_of(waiter));
    return true;
}

static void pops_turn(void *arg)
{
    struct broker *b = arg;
    bool has_more = true;

    (void)waits_turn(&b->pops.waits, b->loop->stats.iterations);
    for (int i = 0; i < POPS_RUNS_MAX && has_more; i++) {
        has_more = run_ready(b);
        has_more = run_due(b) || has_more;
    }
    if (waits_has_due(&b->pops.waits) || !list_is_empty(&b->pops.ready)) {
        loop_defer(b->loop, &b->pops.run);
    }
}

void pops_run_soon(struct broker *b, struct pop *pop)
{
    list_push(&b->pops.ready, &pop->waiter.node);
    loop_defer(b->loop, &b->pops.run);
}

/* ---- waking ---------------------------------------------------------------------------------- */

bool pops_is_open(struct broker *b, const struct pop_key *key, uint64_t attempt)
{
    int64_t committed;

    if (!offsets_find(&b->offsets, key->group, key->topic, key->queue, &committed)) {
        return true; /* nothing was ever handed out */
    }
    return pop_table_order(b->pops.table, key, committed, attempt) != POP_ORDER_BLOCKED;
}

/* For which queue of which topic (< 0: any) somebody is woken, and in which lanes. */
struct waking {
    struct broker *broker;
    struct slice topic;
    int32_t queue;
    uint32_t lanes;
};

#define LANES_ORDERED (1U << POP_LANE_ORDERED | 1U << (POP_LANE_ORDERED | POP_LANE_NOTIFY))

/* An ordered pop would find nothing in a queue that is in hand. */
static uint32_t open_lanes(void *arg, const struct wait_group *group)
{
    const struct waking *waking = arg;
    struct pop_key key = {slice_of(group->name, group->name_len), waking->topic,
                          (uint32_t)waking->queue};
    bool has_ordered =
        group->lanes[POP_LANE_ORDERED] + group->lanes[POP_LANE_ORDERED | POP_LANE_NOTIFY] > 0;

    return has_ordered && waking->queue >= 0 && !pops_is_open(waking->broker, &key, 0)
               ? waking->lanes & ~LANES_ORDERED
               : waking->lanes;
}

static void is_woken(void *arg, struct wait_item *waiter)
{
    const struct waking *waking = arg;

    let_out(pop_of(waiter));
    pops_run_soon(waking->broker, pop_of(waiter));
}

static void wake_done(struct broker *b)
{
    if (waits_has_due(&b->pops.waits)) {
        loop_defer(b->loop, &b->pops.run);
    }
}

void pops_notify(struct broker *b, const struct hold_arrival *arrival)
{
    struct waking waking = {.broker = b,
                            .topic = arrival->topic,
                            .queue = (int32_t)arrival->queue_id,
                            .lanes = WAITS_LANES_ALL};
    const struct wait_alarm alarm = {.queue = waking.queue,
                                     .tag_code = &arrival->tag_code,
                                     .lanes = open_lanes,
                                     .wake = is_woken,
                                     .arg = &waking};

    if (b->pops.waits.count == 0) {
        return;
    }
    (void)waits_turn(&b->pops.waits, b->loop->stats.iterations);
    waits_wake_groups(&b->pops.waits, arrival->topic, &alarm);
    wake_done(b);
}

static void wake_group(struct broker *b, struct slice group, struct waking *waking)
{
    const struct wait_alarm alarm = {
        .queue = waking->queue, .lanes = open_lanes, .wake = is_woken, .arg = waking};

    if (b->pops.waits.count == 0) {
        return;
    }
    (void)waits_turn(&b->pops.waits, b->loop->stats.iterations);
    waits_wake_group(&b->pops.waits, waking->topic, group, &alarm);
    wake_done(b);
}

void pops_wake(struct broker *b, struct slice group, struct slice topic, int32_t queue)
{
    struct waking waking = {.broker = b, .topic = topic, .queue = queue, .lanes = WAITS_LANES_ALL};

    wake_group(b, group, &waking);
}

uint32_t pops_count(const struct broker *b, struct slice group, struct slice topic, int32_t queue)
{
    struct wait_wish wish = {.topic = topic, .group = group, .queue = queue};
    uint32_t count = waits_count(&b->pops.waits, &wish);

    wish.lane = POP_LANE_ORDERED;
    return count + waits_count(&b->pops.waits, &wish);
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
    } else if (opening.is_free) {
        wake_group(b, key->group,
                   &(struct waking){.broker = b,
                                    .topic = key->topic,
                                    .queue = (int32_t)key->queue,
                                    .lanes = LANES_ORDERED});
    }
    return outcome;
}

/* ---- begin and end --------------------------------------------------------------------------- */

int pops_init(struct broker *b, struct hash_key key)
{
    const struct pop_limits limits = {.queue_max = POP_QUEUE_MAX, .total_max = POP_TOTAL_MAX};
    struct pops *p = &b->pops;

    *p = (struct pops){.timer_ms = INT64_MAX};
    waits_init(&p->waits, key, false);
    list_init(&p->ready);
    loop_deferred_init(&p->run, pops_turn, b);
    buf_init(&p->body, FRAME_SIZE_MAX);
    buf_init(&p->start_info, 0);
    buf_init(&p->offset_info, 0);
    buf_init(&p->count_info, 0);
    return pop_table_new(&limits, key, &p->table);
}

void pops_fini(struct broker *b)
{
    struct pops *p = &b->pops;

    CHECK(list_is_empty(&p->ready));
    loop_deferred_cancel(&p->run);
    loop_timer_stop(b->loop, &p->timer);
    waits_fini(&p->waits);
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
    while (run_ready(b)) {
    }
}
