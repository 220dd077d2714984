/*
 * QUERY_ASSIGNMENT 400, SET_MESSAGE_REQUEST_MODE 401 (PROTOCOL.md, "Popping"): the broker says
 * which queues a member of a consumer group takes, and whether it pulls or pops them.
 *
 * The queues are those of the topic at every broker that the built-in name server knows; where it
 * does not know this broker, only our own.
 */
#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/allocate.h"
#include "core/proto/body_pop.h"
#include "core/proto/body_route.h"
#include "core/proto/names.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"

#include <stdlib.h>

#define ASSIGN_QUEUES_MAX 65536 /* of one topic, at all brokers */

/* What one answer is made of. */
struct assignment {
    struct message_queue *all; /* every queue, sorted */
    size_t all_count;
    struct message_queue *taken;
    size_t taken_count;
    size_t members;
    size_t index;       /* of the client among the members, sorted; members if it is none */
    struct route route; /* names in the queues point into it */
};

static void assignment_fini(struct assignment *a)
{
    mem_free(a->all);
    mem_free(a->taken);
    route_fini(&a->route);
}

/* ---- queues ---- */

static int queue_order(const void *left, const void *right)
{
    const struct message_queue *a = left;
    const struct message_queue *b = right;
    size_t len = a->broker_name.len < b->broker_name.len ? a->broker_name.len : b->broker_name.len;
    int order = len == 0 ? 0 : memcmp(a->broker_name.ptr, b->broker_name.ptr, len);

    if (order != 0) {
        return order;
    }
    if (a->broker_name.len != b->broker_name.len) {
        return a->broker_name.len < b->broker_name.len ? -1 : 1;
    }
    return a->queue_id < b->queue_id ? -1 : a->queue_id > b->queue_id ? 1 : 0;
}

static void add_queues(struct assignment *a, struct slice topic, struct slice broker,
                       uint32_t count)
{
    for (uint32_t i = 0; i < count && a->all_count < ASSIGN_QUEUES_MAX; i++) {
        a->all[a->all_count++] =
            (struct message_queue){.topic = topic, .broker_name = broker, .queue_id = (int32_t)i};
    }
}

static uint32_t readable(const struct route_queue *q)
{
    return (q->perm & PERM_READ) == 0 || q->read_queue_count < 0 ? 0
                                                                 : (uint32_t)q->read_queue_count;
}

/* The topic's queues at all brokers, by the built-in name server. false: it does not know us. */
static bool route_queues(struct broker *b, struct slice topic, struct assignment *a)
{
    size_t count = 0;
    bool has_us = false;

    buf_clear(&b->scratch);
    if (registry_route(&b->namesrv.registry, topic, &b->scratch) != 0 ||
        route_decode(buf_slice(&b->scratch), &a->route) != 0) {
        return false;
    }
    for (size_t i = 0; i < a->route.queue_count; i++) {
        has_us = has_us || slice_eq_str(a->route.queues[i].broker_name, b->config->broker_name);
        count += readable(&a->route.queues[i]);
    }
    count = count > ASSIGN_QUEUES_MAX ? ASSIGN_QUEUES_MAX : count;
    a->all = has_us ? mem_calloc(count + 1, sizeof *a->all) : NULL;
    for (size_t i = 0; a->all != NULL && i < a->route.queue_count; i++) {
        add_queues(a, topic, a->route.queues[i].broker_name, readable(&a->route.queues[i]));
    }
    return a->all != NULL;
}

static int find_queues(struct broker *b, const struct topic *own, struct slice topic,
                       struct assignment *a)
{
    uint32_t count = (own->perm & PERM_READ) != 0 ? own->read_queues : 0;

    if (!b->config->is_namesrv || !route_queues(b, topic, a)) {
        a->all = mem_calloc((size_t)count + 1, sizeof *a->all);
        if (a->all == NULL) {
            return ESCROW_ENOMEM;
        }
        add_queues(a, topic, slice_str(b->config->broker_name), count);
    }
    qsort(a->all, a->all_count, sizeof *a->all, queue_order);
    a->taken = mem_calloc(a->all_count * 2 + 1, sizeof *a->taken);
    return a->taken == NULL ? ESCROW_ENOMEM : 0;
}

/* ---- members ---- */

static int id_order(const void *left, const void *right)
{
    return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Counts the members, and finds the client among them in the order that everybody sees. */
static int find_members(struct broker *b, struct slice group_name, struct slice client,
                        struct assignment *a)
{
    const struct client_group *group = clients_find_consumers(b, group_name);
    struct list *pos;
    const char **ids;
    size_t count = 0;

    if (group == NULL) {
        return 0;
    }
    ids = mem_calloc(group->role_count + 1, sizeof *ids);
    if (ids == NULL) {
        return ESCROW_ENOMEM;
    }
    for (pos = group->roles.next; pos != &group->roles; pos = pos->next) {
        ids[count++] = LIST_ENTRY(pos, struct client_role, by_group)->client_id;
    }
    qsort(ids, count, sizeof *ids, id_order);
    for (size_t i = 0; i < count; i++) { /* one client may have several connections */
        if (i == 0 || strcmp(ids[i], ids[i - 1]) != 0) {
            ids[a->members++] = ids[i];
        }
    }
    a->index = a->members;
    for (size_t i = 0; i < a->members; i++) {
        a->index = slice_eq_str(client, ids[i]) ? i : a->index;
    }
    mem_free(ids);
    return 0;
}

/* ---- shares ---- */

static void take(struct assignment *a, size_t at)
{
    CHECK(a->taken_count < a->all_count * 2 + 1);
    a->taken[a->taken_count++] = a->all[at];
}

/* One member's share. false: a strategy that we do not know. */
static bool take_share(struct assignment *a, struct slice strategy, size_t index)
{
    if (slice_eq_str(strategy, "AVG")) {
        struct allocation share = allocate_average(a->all_count, a->members, index);
        for (size_t i = 0; i < share.count; i++) {
            take(a, share.first + i);
        }
        return true;
    }
    if (slice_eq_str(strategy, "AVG_BY_CIRCLE")) {
        for (size_t i = index; i < a->all_count; i += a->members) {
            take(a, i);
        }
        return true;
    }
    return false;
}

/* Every broker as a whole: a pop of queue -1 takes from whichever queue has something. */
static void take_brokers(struct assignment *a)
{
    for (size_t i = 0; i < a->all_count; i++) {
        if (i == 0 || !slice_eq(a->all[i].broker_name, a->all[i - 1].broker_name)) {
            take(a, i);
            a->taken[a->taken_count - 1].queue_id = -1;
        }
    }
}

/* Its own share and those of the next `share` members; with more members than queues one queue. */
static bool take_shared(struct assignment *a, struct slice strategy, size_t share)
{
    if (a->members > a->all_count) {
        if (a->all_count > 0) {
            take(a, a->index % a->all_count);
        }
        return true;
    }
    for (size_t i = 0; i <= share; i++) { /* share < members: no queue twice */
        if (!take_share(a, strategy, (a->index + i) % a->members)) {
            return false;
        }
    }
    return true;
}

/* false: nothing can be said; the client keeps what it has. */
static bool assign(const struct assignment_request *in, enum request_mode mode, int32_t share,
                   struct assignment *a)
{
    if (in->is_broadcast) {
        for (size_t i = 0; i < a->all_count; i++) {
            take(a, i);
        }
        return true;
    }
    if (a->index >= a->members) {
        return false; /* its heartbeat is still to come */
    }
    if (mode == REQUEST_MODE_PULL) {
        return take_share(a, in->strategy, a->index);
    }
    if (share <= 0 || (size_t)share + 1 >= a->members) {
        take_brokers(a);
        return true;
    }
    return take_shared(a, in->strategy, (size_t)share);
}

/* ---- requests ---- */

static void assignment_answer(struct request *req, const struct assignment *a, bool is_known,
                              enum request_mode mode)
{
    struct header_writer w;

    if (request_begin(req, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        assignments_encode(w.buf, is_known ? a->taken : NULL, a->taken_count, mode);
        request_end(req, &w);
    }
}

void handle_query_assignment(struct request *req)
{
    struct broker *b = req->broker;
    struct assignment_request in;
    struct assignment a = {.all = NULL};
    enum request_mode mode = REQUEST_MODE_PULL;
    const struct topic *topic;
    int32_t share = 0;
    bool is_known = false;
    int rc = assignment_request_decode(req->body, &in);

    if (rc != 0) {
        request_fail(req, rc == ESCROW_ENOMEM ? -1 : RESPONSE_INVALID_PARAMETER, rc,
                     "query of an assignment: %s", escrow_strerror(rc));
        return;
    }
    topic = topics_find(&b->topics, in.topic);
    if (topic != NULL) {
        mode = request_modes_find(&b->request_modes, in.group, in.topic, &share);
        rc = find_queues(b, topic, in.topic, &a);
        if (rc == 0) {
            rc = find_members(b, in.group, in.client_id, &a);
        }
        is_known = rc == 0 && assign(&in, mode, share, &a);
    }
    if (rc != 0) {
        request_fail(req, -1, rc, NULL);
    } else {
        assignment_answer(req, &a, is_known, mode);
    }
    assignment_fini(&a);
    assignment_request_fini(&in);
}

static void mode_is_written(struct broker *b, struct pending *p, int error)
{
    (void)b;
    if (error == 0) {
        deferred_ok(&p->deferred);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

static bool mode_check(struct request *req, const struct mode_request *in)
{
    struct broker *b = req->broker;
    int32_t share;

    if (name_check_group(in->group) != 0 || name_check_topic(in->topic) != 0) {
        request_fail(req, -1, ESCROW_EINVAL, "topic or consumerGroup is not a valid name");
    } else if (name_topic_class(in->topic) == TOPIC_RETRY) {
        request_fail(req, RESPONSE_NO_PERMISSION, ESCROW_EPERM,
                     "retry topic is not allowed to set mode");
    } else if (topics_find(&b->topics, in->topic) == NULL) {
        request_fail(req, RESPONSE_TOPIC_NOT_EXIST, ESCROW_ENOROUTE, "topic[%.*s] not exist",
                     SLICE_ARGS(in->topic));
    } else if (in->mode == REQUEST_MODE_POP && request_modes_is_full(&b->request_modes) &&
               request_modes_find(&b->request_modes, in->group, in->topic, &share) ==
                   REQUEST_MODE_PULL) {
        request_fail(req, -1, ESCROW_ELIMIT, "more than %d groups pop", REQUEST_MODES_MAX);
    } else {
        return true;
    }
    return false;
}

void handle_set_request_mode(struct request *req)
{
    struct broker *b = req->broker;
    struct mode_request in;
    struct store_receipt receipt;
    int rc = mode_request_decode(req->body, &in);

    if (rc != 0) {
        request_fail(req, rc == ESCROW_ENOMEM ? -1 : RESPONSE_INVALID_PARAMETER, rc,
                     "request mode: %s", escrow_strerror(rc));
        return;
    }
    if (mode_check(req, &in)) {
        buf_clear(&b->scratch);
        request_mode_encode(&b->scratch, &in);
        rc = buf_failed(&b->scratch) ? ESCROW_ENOMEM : pump_reserve(&b->pump);
        if (rc == 0) {
            rc = store_append_raw(b->store, STORE_MODE, buf_slice(&b->scratch), NULL, &receipt);
        }
        if (rc != 0) {
            request_fail(req, -1, rc, NULL);
        } else {
            (void)pump_wait(&b->pump, receipt.wait_for, false, mode_is_written, request_defer(req));
        }
    }
    mode_request_fini(&in);
}
