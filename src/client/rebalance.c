/*
 * Who has which queue. For every topic: its route (all queues, sorted by broker and id), the
 * members of the group (from one of the topic's brokers, sorted), our share of it by the strategy
 * that the group has agreed on; in broadcast all of them. Queues that are not ours any more are
 * given away, new ones begun. Runs at the start, every 20 seconds, when a broker says that the
 * members changed, and soon after a queue failed: its broker may have moved.
 */
#include "src/client/consumer_private.h"

#include "core/base/mem.h"
#include "core/proto/allocate.h"
#include "core/proto/body_lists.h"
#include "core/proto/codes.h"

#include <stdlib.h>
#include <string.h>

static int name_compare(const void *a, const void *b)
{
    const struct slice *x = a;
    const struct slice *y = b;
    size_t len = x->len < y->len ? x->len : y->len;
    int c = memcmp(x->ptr, y->ptr, len);

    return c != 0 ? c : (x->len > y->len) - (x->len < y->len);
}

/*
 * A queue of ours, or one that has not ended and keeps another of its name from beginning: maybe of
 * a topic that was given up and is taken up again.
 */
static struct consumer_queue *queue_find(struct escrow_consumer *k, const struct consumer_topic *t,
                                         const char *broker, uint32_t queue_id)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (strcmp(q->topic->topic, t->topic) == 0 && q->queue_id == queue_id &&
            strcmp(q->broker, broker) == 0 &&
            (q->state != QUEUE_DROPPED || queue_is_in_the_way(q))) {
            return q;
        }
    }
    return NULL;
}

/* Take or keep one queue. */
static void queue_assign(struct consumer_topic *t, const struct route_target *target,
                         uint32_t queue_id)
{
    struct consumer_queue *q = queue_find(t->consumer, t, target->broker, queue_id);

    if (q != NULL) {
        q->is_assigned = true;
        if (q->state != QUEUE_DROPPED && strcmp(q->addr, target->addr) != 0) {
            queue_moved(q, target->addr);
        }
    } else if (queue_new(t, target->broker, target->addr, queue_id, &q) == 0) {
        q->is_assigned = true;
        queue_begin(q);
    }
}

/* The queues of one member of a topic. */
struct share {
    enum consumer_allocation how;
    struct allocation run;      /* average */
    size_t members;             /* circle */
    size_t index;               /* circle, hash: which member */
    struct allocate_ring *ring; /* hash */
};

static bool share_has(const struct share *s, const struct consumer_topic *t, const char *broker,
                      uint32_t queue_id, size_t n)
{
    size_t owner;

    switch (s->how) {
    case ALLOCATE_CIRCLE:
        return allocate_circle(n, s->members, s->index);
    case ALLOCATE_HASH:
        return allocate_ring_owner(s->ring, slice_str(t->topic), slice_str(broker), queue_id,
                                   &owner) == 0 &&
               owner == s->index; /* names of routes fit */
    case ALLOCATE_AVERAGE:
        break;
    }
    return n >= s->run.first && n < s->run.first + s->run.count;
}

static void share_apply(struct consumer_topic *t, const struct topic_route *route,
                        const struct share *share)
{
    size_t n = 0;
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &t->consumer->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        q->is_assigned = q->is_assigned && q->topic != t;
    }
    for (size_t i = 0; i < route->target_count; i++) {
        for (uint32_t id = 0; id < route->targets[i].read_queues; id++, n++) {
            if (share_has(share, t, route->targets[i].broker, id, n) &&
                route->targets[i].addr[0] != '\0' &&
                consumer_has_queue(t, route->targets[i].broker, id)) {
                queue_assign(t, &route->targets[i], id);
            }
        }
    }
    LIST_FOREACH(pos, tmp, &t->consumer->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->topic == t && !q->is_assigned) {
            queue_drop(q);
        }
    }
}

static size_t queue_total(const struct topic_route *route)
{
    size_t total = 0;

    for (size_t i = 0; i < route->target_count; i++) {
        total += route->targets[i].read_queues;
    }
    return total;
}

/* Asked for again before it has come it stays where it is: many queues may fail one by one. */
void rebalance_retry(struct escrow_consumer *k)
{
    if (k->rebalance_is_soon || k->is_stopping) {
        return;
    }
    k->rebalance_is_soon = true;
    loop_timer_start(&k->client->loop, &k->rebalance, CONSUMER_RETRY_MS, CONSUMER_REBALANCE_MS,
                     rebalance_now, k);
}

/*
 * Every member has every queue; brokers hear of it all the same, to tell it what they tell members.
 */
static void share_all(struct consumer_topic *t, const struct topic_route *route)
{
    const struct share all = {.how = ALLOCATE_AVERAGE, .run = {0, queue_total(route)}};
    bool was_member = t->is_member;

    t->is_member = true;
    share_apply(t, route, &all);
    if (!was_member) {
        heartbeat_send_all(t->consumer->client);
    }
}

/* Member `index` of the sorted list takes its queues; ESCROW_ENOMEM: nothing has changed. */
static int share_take(struct consumer_topic *t, const struct topic_route *route,
                      const struct name_list *list, size_t index)
{
    struct allocate_ring ring = {NULL, 0};
    struct share share = {.how = t->consumer->allocation,
                          .run = allocate_average(queue_total(route), list->count, index),
                          .members = list->count,
                          .index = index,
                          .ring = &ring};
    int rc = share.how == ALLOCATE_HASH ? allocate_ring_init(&ring, list->names, list->count) : 0;

    if (rc == 0) {
        share_apply(t, route, &share);
    }
    allocate_ring_fini(&ring);
    return rc;
}

static void members_known(struct consumer_topic *t, const struct topic_route *route,
                          struct name_list *list)
{
    struct escrow_client *c = t->consumer->client;
    struct slice self = slice_str(c->id);
    bool was_member = t->is_member;

    t->is_member = false;
    qsort(list->names, list->count, sizeof *list->names, name_compare);
    for (size_t i = 0; i < list->count; i++) {
        if (slice_eq(list->names[i], self)) {
            t->is_member = share_take(t, route, list, i) == 0;
            break;
        }
    }
    if (!t->is_member) {
        rebalance_retry(t->consumer); /* the broker has not heard of us yet, or forgot */
    } else if (!was_member) {
        heartbeat_send_all(c); /* the other brokers of the topic */
    }
}

static void members_answered(struct remote_call *call, int error, struct header *header,
                             struct slice body)
{
    struct consumer_topic *t = LIST_ENTRY(call, struct consumer_topic, members);
    const struct topic_route *route = router_last(&t->consumer->client->router, t->topic);
    struct name_list list;

    (void)header;
    if (error != 0 || route == NULL || name_list_decode(body, LIST_CONSUMER_IDS, &list) != 0) {
        t->asks_failed++;
        t->is_member = false;
        rebalance_retry(t->consumer);
        return;
    }
    t->asks_failed = 0;
    members_known(t, route, &list);
    name_list_fini(&list);
}

static void members_fields(struct header_writer *w, void *arg)
{
    const struct consumer_topic *t = arg;

    header_put_str(w, "consumerGroup", slice_str(t->consumer->group));
}

/*
 * One broker that serves the topic: the first, the next one while they do not answer. NULL when
 * there is none.
 */
static const char *broker_to_ask(const struct consumer_topic *t, const struct topic_route *route)
{
    size_t count = 0;
    size_t n;

    for (size_t i = 0; i < route->target_count; i++) {
        count += route->targets[i].addr[0] != '\0' ? 1 : 0;
    }
    n = count == 0 ? 0 : t->asks_failed % count;
    for (size_t i = 0; i < route->target_count; i++) {
        if (route->targets[i].addr[0] != '\0' && n-- == 0) {
            return route->targets[i].addr;
        }
    }
    return NULL;
}

static void topic_routed(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct consumer_topic *t = LIST_ENTRY(lookup, struct consumer_topic, lookup);
    struct escrow_client *c = t->consumer->client;
    struct remote_request req = {.code = REQUEST_GET_CONSUMER_LIST_BY_GROUP,
                                 .fields = members_fields,
                                 .fields_arg = t,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    req.addr = error == 0 ? broker_to_ask(t, route) : NULL;
    if (req.addr != NULL && !consumer_shares(t->consumer)) {
        share_all(t, route);
        return;
    }
    if (req.addr == NULL || t->members.is_active) {
        rebalance_retry(t->consumer); /* the topic is not there yet, or nobody answers */
        return;
    }
    if (!t->is_member) {
        heartbeat_send_to(c, req.addr); /* arrives before the question */
    }
    remote_call(&c->remote, &t->members, &req, members_answered);
}

void rebalance_now(void *arg)
{
    struct escrow_consumer *k = arg;

    k->rebalance_is_soon = false;
    for (size_t i = 0; i < k->topic_count && !k->is_stopping; i++) {
        struct consumer_topic *t = k->topics[i];
        if (!t->lookup.is_active) {
            router_lookup(&k->client->router, &t->lookup, t->topic, false, topic_routed);
        }
    }
}

void rebalance_start(struct escrow_consumer *k)
{
    loop_deferred_init(&k->rebalance_soon, rebalance_now, k);
    loop_timer_start(&k->client->loop, &k->rebalance, 1, CONSUMER_REBALANCE_MS, rebalance_now, k);
}

void rebalance_stop(struct escrow_consumer *k)
{
    loop_timer_stop(&k->client->loop, &k->rebalance);
    loop_deferred_cancel(&k->rebalance_soon);
    for (size_t i = 0; i < k->topic_count; i++) {
        router_cancel(&k->topics[i]->lookup);
        remote_cancel(&k->topics[i]->members);
    }
}
