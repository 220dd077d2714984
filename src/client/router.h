/*
 * Router: which broker serves which topic, as the name servers say.
 *
 * A topic's route is asked for when it is first needed and again when it is older than refresh_ms
 * or was found wrong. Name servers are asked in turn until one answers. A topic without a route
 * takes that of the template topic TBW102, at most `queues` queues: the broker creates it with the
 * first message.
 *
 * Owns:    routes; a const struct topic_route * is borrowed until the next call that may change it
 *          (copy what you keep).
 * Thread:  the loop.
 * Errors:  a lookup ends with ESCROW_ENOROUTE (no broker has the topic, and it is not created by
 *          sending), ESCROW_ECONN (no name server answers), ESCROW_ESHUTDOWN.
 * Holds:   lookup callbacks run exactly once, never inside router_lookup.
 */
#ifndef SRC_CLIENT_ROUTER_H
#define SRC_CLIENT_ROUTER_H

#include "core/base/attr.h"
#include "core/base/list.h"
#include "core/base/strmap.h"
#include "src/client/remote.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ROUTER_SERVERS_MAX 16
#define ROUTER_BROKERS_MAX 64 /* brokers of one topic */
#define ROUTER_NAME_MAX    128

struct route_target {
    char broker[ROUTER_NAME_MAX];
    char addr[REMOTE_ADDR_MAX]; /* master; "" when it has none now */
    uint32_t read_queues;       /* 0 when the topic is not readable there */
    uint32_t write_queues;      /* 0 when it is not writable there */
};

struct topic_route {
    struct list waiting; /* lookups */
    struct remote_call call;
    struct router *router;
    int64_t fetched_ms; /* monotonic; 0 = never */
    int64_t used_ms;
    size_t target_count;
    struct route_target *targets; /* ordered by broker name */
    size_t server;                /* the name server asked last */
    size_t tries;
    bool is_template; /* these are TBW102's queues: the topic does not exist yet */
    bool asks_template;
    bool may_create;
    bool is_stale;
    char topic[256];
};

struct router {
    struct remote *remote;
    struct strmap routes; /* topic -> struct topic_route */
    char servers[ROUTER_SERVERS_MAX][REMOTE_ADDR_MAX];
    size_t server_count;
    size_t server; /* the one that answered last */
    int64_t refresh_ms;
    uint32_t queues; /* of a topic that is created by sending */
};

struct route_lookup;

/* error 0: *route is the topic's. */
typedef void route_fn(struct route_lookup *lookup, int error, const struct topic_route *route);

struct route_lookup {
    struct list node;
    struct loop_deferred deferred;
    struct router *router;
    struct topic_route *route;
    route_fn *fn;
    void *arg; /* the owner's */
    int error;
    bool may_create;
    bool is_active;
};

/*
 * servers: "host:port;host:port" (',' is accepted too). ESCROW_ECONFIG: none, too many, or
 * malformed.
 */
ESCROW_MUST_USE int router_init(struct router *r, struct remote *remote, const char *servers,
                                struct hash_key key, struct err_ctx *err);
void router_fini(struct router *r); /* lookups have ended: stop the remote first */

/*
 * Find the route of a topic. may_create: a missing topic is as good as one with the template's
 * queues (for producers).
 */
void router_lookup(struct router *r, struct route_lookup *lookup, const char *topic,
                   bool may_create, route_fn *fn);

/* Give it up: fn will not be called. Not active is fine. */
void router_cancel(struct route_lookup *lookup);

/* What was known last, however old; NULL when the topic never had a route of its own. */
const struct topic_route *router_last(struct router *r, const char *topic);

/* The route turned out to be wrong: ask again at the next lookup. */
void router_forget(struct router *r, const char *topic);

/* Address of a broker by name, from any known route; NULL when unknown. */
const char *router_broker_addr(const struct router *r, const char *broker);

/* The name server that answered last: for requests that any of them can answer. */
const char *router_server(const struct router *r);

/* Go on to the next name server: the last one did not answer. */
void router_server_failed(struct router *r);

#endif
