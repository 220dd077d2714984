/*
 * Who has which queue. For every topic: its route (all queues, sorted by broker and id), the members of the group (from one of
 * the topic's brokers, sorted), our share of it. Queues that are not ours any more are given away, new ones begun. Runs at the
 * start, every 20 seconds, and when a broker says that the members changed.
 */
#include "src/client/consumer_private.h"

#include "core/base/mem.h"
#include "core/proto/body_lists.h"
#include "core/proto/codes.h"
#include "src/client/allocate.h"

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

static struct consumer_queue *queue_find(struct escrow_consumer *k, const struct consumer_topic *t,
                                         const char *broker, uint32_t queue_id)
{
    struct list *pos;
    struct list *tmp;

    LIST_FOREACH(pos, tmp, &k->queues) {
        struct consumer_queue *q = LIST_ENTRY(pos, struct consumer_queue, node);
        if (q->topic == t && q->queue_id == queue_id && q->state != QUEUE_DROPPED &&
            strcmp(q->broker, broker) == 0) {
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

    if (q != NULL && strcmp(q->addr, target->addr) != 0) {
        queue_drop(q); /* the broker moved */
        q = NULL;
    }
    if (q != NULL) {
        q->is_assigned = true;
    } else if (queue_new(t, target->broker, target->addr, queue_id, &q) == 0) {
        q->is_assigned = true;
        queue_begin(q);
    }
}

static void share_apply(struct consumer_topic *t, const struct topic_route *route,
                        struct allocation share)
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
            if (n >= share.first && n < share.first + share.count &&
                route->targets[i].addr[0] != '\0') {
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

static void members_known(struct consumer_topic *t, const struct topic_route *route,
                          struct name_list *list)
{
    struct slice self = slice_str(t->consumer->client->id);

    qsort(list->names, list->count, sizeof *list->names, name_compare);
    for (size_t i = 0; i < list->count; i++) {
        if (slice_eq(list->names[i], self)) {
            share_apply(t, route, allocate_average(queue_total(route), list->count, i));
            return;
        }
    }
    /* The broker has not heard of us yet: say it again, and look soon. */
    heartbeat_send_all(t->consumer->client);
    loop_timer_start(&t->consumer->client->loop, &t->consumer->rebalance, CONSUMER_RETRY_MS,
                     CONSUMER_REBALANCE_MS, rebalance_now, t->consumer);
}

static void rebalance_retry(struct consumer_topic *t)
{
    loop_timer_start(&t->consumer->client->loop, &t->consumer->rebalance, CONSUMER_RETRY_MS,
                     CONSUMER_REBALANCE_MS, rebalance_now, t->consumer);
}

static void members_answered(struct remote_call *call, int error, struct header *header,
                             struct slice body)
{
    struct consumer_topic *t = LIST_ENTRY(call, struct consumer_topic, members);
    struct escrow_client *c = t->consumer->client;
    const struct topic_route *route = router_known(&c->router, t->topic);
    struct name_list list;

    (void)header;
    if (error == ESCROW_ESHUTDOWN || t->consumer->is_stopping) {
        return;
    }
    if (error != 0 || route == NULL) {
        heartbeat_send_all(c);
        rebalance_retry(t);
        return;
    }
    if (name_list_decode(body, LIST_CONSUMER_IDS, &list) != 0) {
        rebalance_retry(t);
        return;
    }
    members_known(t, route, &list);
    name_list_fini(&list);
}

static void members_fields(struct header_writer *w, void *arg)
{
    const struct consumer_topic *t = arg;

    header_put_str(w, "consumerGroup", slice_str(t->consumer->group));
}

static void topic_routed(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct consumer_topic *t = LIST_ENTRY(lookup, struct consumer_topic, lookup);
    struct escrow_client *c = t->consumer->client;
    struct remote_request req = {.code = REQUEST_GET_CONSUMER_LIST_BY_GROUP,
                                 .fields = members_fields,
                                 .fields_arg = t,
                                 .timeout_ms = CONSUMER_CALL_TIMEOUT_MS};

    if (error == ESCROW_ESHUTDOWN || t->consumer->is_stopping) {
        return;
    }
    for (size_t i = 0; error == 0 && i < route->target_count && req.addr == NULL; i++) {
        if (route->targets[i].addr[0] != '\0') {
            req.addr = route->targets[i].addr;
        }
    }
    if (req.addr == NULL || t->members.is_active) {
        rebalance_retry(t); /* the topic is not there yet, or nobody answers */
        return;
    }
    remote_call(&c->remote, &t->members, &req, members_answered);
}

void rebalance_now(void *arg)
{
    struct escrow_consumer *k = arg;

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
