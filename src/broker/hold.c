#include "src/broker/hold.h"

#include "core/base/attr.h"
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/mem.h"
#include "src/broker/broker.h"
#include "src/broker/pull.h"

#include <string.h>

struct hold_queue {
    struct list pulls;      /* that wait */
    struct list ready;      /* that are to run: a message came that they may want */
    struct list woken_node; /* in hold.woken, or alone */
    bool is_woken;
    size_t key_len;
    uint8_t key[RETRY_TOPIC_LEN_MAX + 5];
};

static size_t queue_key(uint8_t *key, struct slice topic, uint32_t queue_id)
{
    CHECK(topic.len <= RETRY_TOPIC_LEN_MAX);
    memcpy(key, topic.ptr, topic.len);
    key[topic.len] = 0x01;
    put_le32(key + topic.len + 1, queue_id);
    return topic.len + 5;
}

static void queue_free(struct hold *h, struct hold_queue *q)
{
    CHECK(list_is_empty(&q->pulls));
    CHECK(list_is_empty(&q->ready));
    list_remove(&q->woken_node);
    CHECK(strmap_take(&h->queues, slice_of(q->key, q->key_len)) == q);
    mem_free(q);
}

/*
 * Take a pull out of the waiting; the queue entry goes with its last one, unless it is being woken.
 */
static void hold_remove(struct hold *h, struct pull *pull)
{
    struct hold_queue *q = pull->queue;

    CHECK(q != NULL);
    loop_timer_stop(pull->broker->loop, &pull->timer);
    list_remove(&pull->by_session);
    list_remove(&pull->by_queue);
    pull->queue = NULL;
    h->count--;
    if (list_is_empty(&q->pulls) && list_is_empty(&q->ready) && !q->is_woken) {
        queue_free(h, q);
    }
}

/* What is ready runs again; those that still find nothing come back to a new wait. */
static void hold_wake(void *arg)
{
    struct broker *b = arg;
    struct hold *h = &b->hold;

    while (!list_is_empty(&h->woken)) {
        struct hold_queue *q = LIST_ENTRY(h->woken.next, struct hold_queue, woken_node);
        struct list ready;
        list_init(&ready);
        while (!list_is_empty(&q->ready)) {
            struct pull *pull = LIST_ENTRY(q->ready.next, struct pull, by_queue);
            hold_remove(h, pull);
            list_push(&ready, &pull->by_queue);
        }
        q->is_woken = false;
        list_remove(&q->woken_node);
        if (list_is_empty(&q->pulls)) {
            queue_free(h, q);
        }
        while (!list_is_empty(&ready)) {
            struct pull *pull = LIST_ENTRY(ready.next, struct pull, by_queue);
            list_remove(&pull->by_queue);
            pull_run(pull);
        }
    }
}

void hold_init(struct broker *b, struct hash_key key)
{
    struct hold *h = &b->hold;

    h->count = 0;
    strmap_init(&h->queues, key);
    list_init(&h->woken);
    loop_deferred_init(&h->wake, hold_wake, b);
}

void hold_fini(struct broker *b)
{
    struct hold *h = &b->hold;

    CHECK(h->count == 0);
    loop_deferred_cancel(&h->wake);
    while (!list_is_empty(&h->woken)) { /* woken for pulls that the end has answered */
        queue_free(h, LIST_ENTRY(h->woken.next, struct hold_queue, woken_node));
    }
    CHECK(h->queues.count == 0);
    strmap_fini(&h->queues);
}

static void hold_time_up(void *arg)
{
    struct pull *pull = arg;

    hold_remove(&pull->broker->hold, pull);
    pull_give_up(pull);
}

int hold_add(struct broker *b, struct pull *pull, uint64_t wait_ms)
{
    struct hold *h = &b->hold;
    uint8_t key[RETRY_TOPIC_LEN_MAX + 5];
    size_t len = queue_key(key, slice_str(pull->topic), pull->queue_id);
    struct hold_queue *q;

    if (h->count >= b->config->pulls_held_max) {
        return ESCROW_ELIMIT;
    }
    q = strmap_find(&h->queues, slice_of(key, len));
    if (q == NULL) {
        q = mem_calloc(1, sizeof *q);
        if (q == NULL) {
            return ESCROW_ENOMEM;
        }
        list_init(&q->pulls);
        list_init(&q->ready);
        list_init(&q->woken_node);
        memcpy(q->key, key, len);
        q->key_len = len;
        if (strmap_put(&h->queues, slice_of(key, len), q) != 0) {
            mem_free(q);
            return ESCROW_ENOMEM;
        }
    }
    pull->queue = q;
    list_push(&q->pulls, &pull->by_queue);
    list_push(&pull->deferred.session->pulls, &pull->by_session);
    loop_timer_start(b->loop, &pull->timer, wait_ms, 0, hold_time_up, pull);
    h->count++;
    return 0;
}

/* May the pull want it? *left is what filters may still cost. */
static bool may_want(const struct filter *filter, const struct hold_arrival *arrival,
                     uint64_t *left)
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
    if (cost > *left) {
        return true;
    }
    *left -= cost;
    return filter_match(filter, arrival->properties);
}

void hold_notify(struct broker *b, const struct hold_arrival *arrival)
{
    struct hold *h = &b->hold;
    ESCROW_UNINITIALIZED uint8_t key[RETRY_TOPIC_LEN_MAX + 5]; /* queue_key sets it */
    uint64_t left = HOLD_SCAN_MAX;
    struct hold_queue *q;
    struct list *pos;
    struct list *tmp;

    pops_notify(b, arrival);
    if (h->count == 0) {
        return;
    }
    q = strmap_find(&h->queues, slice_of(key, queue_key(key, arrival->topic, arrival->queue_id)));
    if (q == NULL) {
        return;
    }
    LIST_FOREACH(pos, tmp, &q->pulls) {
        struct pull *pull = LIST_ENTRY(pos, struct pull, by_queue);
        if (may_want(pull->filter, arrival, &left)) {
            list_remove(&pull->by_queue);
            list_push(&q->ready, &pull->by_queue);
        } else if (pull->offset == arrival->queue_offset) {
            pull->offset++;
        }
    }
    if (!q->is_woken && !list_is_empty(&q->ready)) {
        q->is_woken = true;
        list_push(&h->woken, &q->woken_node);
        loop_defer(b->loop, &h->wake);
    }
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
}
