#include "src/broker/hold.h"

#include "core/base/attr.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "src/broker/broker.h"
#include "src/broker/pull.h"

#include <string.h>

#define QUEUE_KEY_MAX (RETRY_TOPIC_LEN_MAX + 5)

static struct slice queue_key(uint8_t *key, struct slice topic, uint32_t queue_id)
{
    CHECK(topic.len <= RETRY_TOPIC_LEN_MAX);
    memcpy(key, topic.ptr, topic.len);
    key[topic.len] = 0x01;
    put_le32(key + topic.len + 1, queue_id);
    return slice_of(key, topic.len + 5);
}

static struct pull *pull_of(struct wait_item *waiter)
{
    return LIST_ENTRY(waiter, struct pull, waiter);
}

/* ---- who waits ------------------------------------------------------------------------------- */

/* What came since, and nobody of its class wanted, it need not look at. */
static void on_leave(struct wait_item *waiter)
{
    const struct wait_class *class = waiter->class;
    struct pull *pull = pull_of(waiter);

    if (pull->offset >= class->passed_from && pull->offset < class->passed_to) {
        pull->offset = class->passed_to;
    }
}

/* It does not wait any more. */
static void let_out(struct pull *pull)
{
    loop_timer_stop(pull->broker->loop, &pull->timer);
    list_remove(&pull->by_session);
}

static void hold_remove(struct hold *h, struct pull *pull)
{
    waits_remove(&h->waits, &pull->waiter);
    let_out(pull);
}

static void time_is_up(void *arg)
{
    struct pull *pull = arg;
    struct hold *h = &pull->broker->hold;

    hold_remove(h, pull);
    list_push(&h->over, &pull->waiter.node);
    loop_defer(pull->broker->loop, &h->wake);
}

int hold_add(struct broker *b, struct pull *pull, uint64_t wait_ms)
{
    struct hold *h = &b->hold;
    uint8_t key[QUEUE_KEY_MAX];
    const struct wait_wish wish = {.topic = queue_key(key, slice_str(pull->topic), pull->queue_id),
                                   .queue = -1,
                                   .filter = pull->filter};
    int rc;

    if (h->waits.count >= b->config->pulls_held_max) {
        return ESCROW_ELIMIT;
    }
    rc = waits_add(&h->waits, &wish, &pull->waiter);
    if (rc == 0) {
        list_push(&pull->deferred.session->pulls, &pull->by_session);
        loop_timer_start(b->loop, &pull->timer, wait_ms, 0, time_is_up, pull);
    }
    return rc;
}

/* ---- waking ---------------------------------------------------------------------------------- */

static bool answer_over(struct hold *h)
{
    struct pull *pull;

    if (list_is_empty(&h->over)) {
        return false;
    }
    pull = LIST_ENTRY(h->over.next, struct pull, waiter.node);
    list_remove(&pull->waiter.node);
    if (pull->deferred.session->is_closed) {
        pull_drop(pull);
    } else {
        pull_give_up(pull);
    }
    return true;
}

/* One that is woken runs again; it comes back to a new wait if it still finds nothing. */
static bool run_woken(struct hold *h)
{
    struct wait_item *waiter = waits_next(&h->waits);

    if (waiter == NULL) {
        return false;
    }
    let_out(pull_of(waiter));
    pull_run(pull_of(waiter));
    return true;
}

static void begin_turn(struct broker *b)
{
    if (waits_turn(&b->hold.waits, b->loop->stats.iterations)) {
        b->hold.scan_left = HOLD_SCAN_MAX;
    }
}

static void hold_turn(void *arg)
{
    struct broker *b = arg;
    struct hold *h = &b->hold;
    bool has_more = true;

    begin_turn(b);
    for (int i = 0; i < HOLD_RUNS_MAX && has_more; i++) {
        has_more = run_woken(h);
        has_more = answer_over(h) || has_more;
    }
    if (waits_has_due(&h->waits) || !list_is_empty(&h->over)) {
        loop_defer(b->loop, &h->wake);
    }
}

struct hold_question {
    struct hold *hold;
    const struct hold_arrival *arrival;
};

static bool may_want(struct hold *h, const struct filter *filter,
                     const struct hold_arrival *arrival)
{
    uint64_t cost;

    if (filter == NULL) {
        return true;
    }
    if (!filter_may_match(filter, arrival->tag_code)) {
        return false;
    }
    if (!filter_needs_properties(filter) || !arrival->has_properties) {
        return true;
    }
    cost = filter_cost(filter, arrival->properties);
    if (cost > h->scan_left) {
        return true;
    }
    h->scan_left -= cost;
    return filter_match(filter, arrival->properties);
}

static bool class_wants(void *arg, struct wait_class *class)
{
    const struct hold_question *q = arg;
    int64_t offset = q->arrival->queue_offset;

    if (may_want(q->hold, class->filter, q->arrival)) {
        return true;
    }
    if (class->passed_to != offset) {
        class->passed_from = offset;
    }
    class->passed_to = offset + 1;
    return false;
}

void hold_notify(struct broker *b, const struct hold_arrival *arrival)
{
    struct hold *h = &b->hold;
    ESCROW_UNINITIALIZED uint8_t key[QUEUE_KEY_MAX]; /* queue_key sets it */
    struct hold_question question = {.hold = h, .arrival = arrival};

    pops_notify(b, arrival);
    if (h->waits.count == 0) {
        return;
    }
    begin_turn(b);
    waits_wake_all(&h->waits, queue_key(key, arrival->topic, arrival->queue_id), class_wants,
                   &question);
    if (waits_has_due(&h->waits)) {
        loop_defer(b->loop, &h->wake);
    }
}

/* ---- begin and end --------------------------------------------------------------------------- */

void hold_init(struct broker *b, struct hash_key key)
{
    struct hold *h = &b->hold;

    waits_init(&h->waits, key, true);
    h->waits.on_leave = on_leave;
    list_init(&h->over);
    loop_deferred_init(&h->wake, hold_turn, b);
}

void hold_fini(struct broker *b)
{
    struct hold *h = &b->hold;

    CHECK(list_is_empty(&h->over));
    loop_deferred_cancel(&h->wake);
    waits_fini(&h->waits);
}

void hold_on_close(struct broker *b, struct session *s)
{
    while (!list_is_empty(&s->pulls)) {
        struct pull *pull = LIST_ENTRY(s->pulls.next, struct pull, by_session);
        hold_remove(&b->hold, pull);
        pull_drop(pull);
    }
}

void hold_release_all(struct broker *b)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &b->sessions) {
        struct session *s = LIST_ENTRY(pos, struct session, node);
        while (!list_is_empty(&s->pulls)) {
            struct pull *pull = LIST_ENTRY(s->pulls.next, struct pull, by_session);
            hold_remove(&b->hold, pull);
            pull_give_up(pull);
        }
    }
    while (answer_over(&b->hold)) {
    }
}
