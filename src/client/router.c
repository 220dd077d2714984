/*
 * A lookup that finds a fresh route ends from a deferred call; otherwise it waits in the topic's
 * list while one question is out. The question goes to one name server after another; ENOROUTE from
 * one of them is an answer, not a failure.
 */
#include "src/client/router.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_route.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"

#include <stdlib.h>
#include <string.h>

#define ROUTER_TIMEOUT_MS 3000
#define ROUTER_REFRESH_MS 30000
#define ROUTER_QUEUES     4

static void route_ask(struct topic_route *route);

/* ---- servers ---- */

int router_init(struct router *r, struct remote *remote, const char *servers, struct hash_key key,
                struct err_ctx *err)
{
    const char *p = servers;

    *r =
        (struct router){.remote = remote, .refresh_ms = ROUTER_REFRESH_MS, .queues = ROUTER_QUEUES};
    while (*p != '\0') {
        size_t len = strcspn(p, ";,");
        if (len > 0 && r->server_count == ROUTER_SERVERS_MAX) {
            return err_set(err, ESCROW_ECONFIG, "name servers '%.100s': more than %d", servers,
                           ROUTER_SERVERS_MAX);
        }
        if (len > 0) {
            char *addr = r->servers[r->server_count++];
            if (len >= REMOTE_ADDR_MAX ||
                !remote_addr_is_valid(slice_to_cstr(slice_of(p, len), addr, REMOTE_ADDR_MAX))) {
                return err_set(err, ESCROW_ECONFIG,
                               "name servers '%.100s': '%.*s': expected host:port, ports from 1 to "
                               "65535, more than one divided by ;",
                               servers, len > 100 ? 100 : (int)len, p);
            }
        }
        p += len + (p[len] != '\0' ? 1 : 0);
    }
    if (r->server_count == 0) {
        return err_set(err, ESCROW_ECONFIG, "name servers: none given; expected host:port");
    }
    strmap_init(&r->routes, key);
    return 0;
}

static void route_free(struct topic_route *route)
{
    CHECK(list_is_empty(&route->waiting));
    remote_cancel(&route->call);
    mem_free(route->targets);
    mem_free(route);
}

void router_fini(struct router *r)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&r->routes, &cursor)) != NULL) {
        route_free(slot->value);
    }
    strmap_fini(&r->routes);
}

const char *router_server(const struct router *r)
{
    return r->servers[r->server];
}

void router_server_failed(struct router *r)
{
    r->server = (r->server + 1) % r->server_count;
}

/* ---- what a route says ---- */

static int target_compare(const void *a, const void *b)
{
    const struct route_target *x = a;
    const struct route_target *y = b;

    return strcmp(x->broker, y->broker);
}

static uint32_t queue_count(int32_t n, int32_t perm, int32_t bit)
{
    return (perm & bit) == 0 || n <= 0 ? 0 : (uint32_t)(n > 65536 ? 65536 : n);
}

static uint32_t at_most(uint32_t n, uint32_t limit)
{
    return n < limit ? n : limit;
}

/* Take over the body of an answer. */
static int route_take(struct topic_route *route, struct slice body)
{
    struct route in;
    struct route_target *targets;
    size_t count = 0;
    int rc = route_decode(body, &in);

    if (rc != 0) {
        return rc;
    }
    targets = mem_calloc(in.queue_count + 1, sizeof *targets);
    if (targets == NULL) {
        route_fini(&in);
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < in.queue_count && count < ROUTER_BROKERS_MAX; i++) {
        const struct route_queue *q = &in.queues[i];
        const struct route_broker *b = route_find_broker(&in, q->broker_name);
        struct route_target *t = &targets[count];
        struct slice addr = b == NULL ? SLICE_EMPTY : route_broker_master(b);
        if (q->broker_name.len >= sizeof t->broker || addr.len >= sizeof t->addr) {
            continue;
        }
        (void)slice_to_cstr(q->broker_name, t->broker, sizeof t->broker);
        (void)slice_to_cstr(addr, t->addr, sizeof t->addr);
        t->read_queues = queue_count(q->read_queue_count, q->perm, PERM_READ);
        t->write_queues = queue_count(q->write_queue_count, q->perm, PERM_WRITE);
        if (route->asks_template) {
            t->read_queues = at_most(t->read_queues, route->router->queues);
            t->write_queues = at_most(t->write_queues, route->router->queues);
        }
        count++;
    }
    route_fini(&in);
    qsort(targets, count, sizeof *targets, target_compare);
    mem_free(route->targets);
    route->targets = targets;
    route->target_count = count;
    route->is_template = route->asks_template;
    route->is_stale = false;
    route->fetched_ms = loop_mono_ms(route->router->remote->loop);
    return 0;
}

static bool route_is_fresh(const struct topic_route *route, bool may_create)
{
    const struct router *r = route->router;
    int64_t limit_ms = route->is_template ? 1000 : r->refresh_ms;

    return route->fetched_ms != 0 && !route->is_stale && (may_create || !route->is_template) &&
           loop_mono_ms(r->remote->loop) - route->fetched_ms < limit_ms;
}

/* ---- asking ---- */

static void lookups_end(struct topic_route *route, int error)
{
    struct list ready;

    list_init(&ready);
    while (!list_is_empty(&route->waiting)) {
        struct list *node = route->waiting.next;
        list_remove(node);
        list_push(&ready, node);
    }
    while (!list_is_empty(&ready)) {
        struct route_lookup *lookup = LIST_ENTRY(ready.next, struct route_lookup, node);
        list_remove(&lookup->node);
        int rc = error == 0 && route->is_template && !lookup->may_create ? ESCROW_ENOROUTE : error;
        lookup->is_active = false;
        lookup->fn(lookup, rc, rc == 0 ? route : NULL);
    }
}

static void route_fields(struct header_writer *w, void *arg)
{
    const struct topic_route *route = arg;

    header_put_str(w, "topic",
                   route->asks_template ? SLICE_LIT(TOPIC_TEMPLATE) : slice_str(route->topic));
    header_put_bool(w, "acceptStandardJsonOnly", true);
}

/* Old news is better than none while no name server answers. */
static void route_unreachable(struct topic_route *route, int error)
{
    bool has_old = route->fetched_ms != 0 && route->target_count > 0;

    lookups_end(route, has_old ? 0 : error == ESCROW_ETLS ? ESCROW_ETLS : ESCROW_ECONN);
}

static void route_answered(struct remote_call *call, int error, struct header *header,
                           struct slice body)
{
    struct topic_route *route = call->arg;
    struct router *r = route->router;

    if (error == ESCROW_ESHUTDOWN && r->remote->is_stopping) {
        lookups_end(route, error);
        return;
    }
    if (header == NULL || error == ESCROW_ESHUTDOWN) { /* nobody there, or not for long */
        router_server_failed(r);
        if (++route->tries < r->server_count) {
            route_ask(route);
        } else {
            route_unreachable(route, error);
        }
        return;
    }
    if (error == ESCROW_ENOROUTE && route->may_create && !route->asks_template) {
        route->asks_template = true;
        route->tries = 0;
        route_ask(route);
        return;
    }
    if (error == 0) {
        error = route_take(route, body);
    }
    lookups_end(route, error);
}

static void route_ask(struct topic_route *route)
{
    struct router *r = route->router;
    struct remote_request req = {.addr = router_server(r),
                                 .code = REQUEST_GET_ROUTEINFO_BY_TOPIC,
                                 .fields = route_fields,
                                 .fields_arg = route,
                                 .timeout_ms = ROUTER_TIMEOUT_MS};

    route->call.arg = route;
    remote_call(r->remote, &route->call, &req, route_answered);
}

static struct topic_route *route_get(struct router *r, const char *topic)
{
    struct topic_route *route = strmap_find(&r->routes, slice_str(topic));

    if (route == NULL && strlen(topic) < sizeof route->topic) {
        route = mem_calloc(1, sizeof *route);
        if (route != NULL) {
            list_init(&route->waiting);
            route->router = r;
            (void)slice_to_cstr(slice_str(topic), route->topic, sizeof route->topic);
            if (strmap_put(&r->routes, slice_str(topic), route) != 0) {
                mem_free(route);
                route = NULL;
            }
        }
    }
    return route;
}

static void lookup_end_now(void *arg)
{
    struct route_lookup *lookup = arg;

    lookup->is_active = false;
    lookup->fn(lookup, lookup->error, lookup->error == 0 ? lookup->route : NULL);
}

void router_lookup(struct router *r, struct route_lookup *lookup, const char *topic,
                   bool may_create, route_fn *fn)
{
    struct topic_route *route = route_get(r, topic);

    CHECK(!lookup->is_active);
    lookup->router = r;
    lookup->route = route;
    lookup->fn = fn;
    lookup->may_create = may_create;
    lookup->is_active = true;
    lookup->error = route == NULL ? ESCROW_ENOMEM : 0;
    list_init(&lookup->node);
    loop_deferred_init(&lookup->deferred, lookup_end_now, lookup);
    if (route == NULL || route_is_fresh(route, may_create)) {
        loop_defer(r->remote->loop, &lookup->deferred);
        return;
    }
    list_push(&route->waiting, &lookup->node);
    route->may_create = route->may_create || may_create;
    if (!route->call.is_active) {
        route->tries = 0;
        route->asks_template = false;
        route->may_create = may_create;
        route_ask(route);
    }
}

void router_cancel(struct route_lookup *lookup)
{
    if (lookup->is_active) {
        lookup->is_active = false;
        list_remove(&lookup->node);
        loop_deferred_cancel(&lookup->deferred);
    }
}

const struct topic_route *router_last(struct router *r, const char *topic)
{
    const struct topic_route *route = strmap_find(&r->routes, slice_str(topic));

    return route != NULL && route->fetched_ms != 0 && !route->is_template ? route : NULL;
}

void router_forget(struct router *r, const char *topic)
{
    struct topic_route *route = strmap_find(&r->routes, slice_str(topic));

    if (route != NULL) {
        route->is_stale = true;
    }
}

const char *router_broker_addr(const struct router *r, const char *broker)
{
    const struct strmap_slot *slot;
    size_t cursor = 0;

    while ((slot = strmap_next(&r->routes, &cursor)) != NULL) {
        const struct topic_route *route = slot->value;
        for (size_t i = 0; i < route->target_count; i++) {
            if (strcmp(route->targets[i].broker, broker) == 0 &&
                route->targets[i].addr[0] != '\0') {
                return route->targets[i].addr;
            }
        }
    }
    return NULL;
}
