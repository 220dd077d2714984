/*
 * Clients: which producer and consumer groups live on which connection, as their heartbeats say.
 *
 * A producer group's connections are who a check-back asks; a consumer group's members are who
 * shares its queues, and they are told when one comes or goes. Nothing here is durable: a client
 * that is there says so again within 30 seconds.
 *
 * Owns:    groups, roles, subscriptions; sessions are borrowed and leave through clients_on_close.
 * Thread:  loop.
 * Holds:   every role is in the list of its session and in the list of its group; a group without
 *          roles does not exist.
 */
#ifndef SRC_BROKER_CLIENTS_H
#define SRC_BROKER_CLIENTS_H

#include "core/base/list.h"
#include "core/base/strmap.h"
#include "core/filter/filter.h"
#include "core/io_uv/loop.h"
#include "core/proto/body_heartbeat.h"

#include <stdbool.h>
#include <stdint.h>

struct broker;
struct session;

#define CLIENT_ID_MAX            255
#define CLIENT_ROLES_MAX         200000 /* (connection, group) pairs of the whole broker */
#define CLIENT_ROLES_OF_ONE_MAX  1024   /* of one connection: looked through at each heartbeat */
#define CLIENT_SUBSCRIPTIONS_MAX 1000   /* topics of one consumer group */
#define CLIENT_BYTES_MAX         ((size_t)64 << 20) /* groups, roles, subscriptions: all of it */
#define CLIENT_WARN_MS           600000 /* between two warnings about a group's subscriptions */
#define CLIENT_EXPIRY_MS                                                                           \
    120000 /* no heartbeat for longer: gone, although the connection is there */

struct client_subscription {
    struct list node;
    char topic[256];
    int64_t version;
    uint64_t wish; /* hash of type and expression: two that differ want other messages */
    /*
     * A reference. TAG: never NULL. SQL92: the last program that could be compiled, NULL when none
     * could; filter_error says why the newest could not.
     */
    struct filter *filter;
    int64_t filter_version; /* of the subscription it was compiled from */
    char *filter_error;     /* owned; NULL: none, or no memory for it */
    size_t bytes;           /* what it counts for in CLIENT_BYTES_MAX */
    bool is_tag;
    bool is_current; /* scratch of one heartbeat: named in it */
};

struct client_group {
    struct clients *owner;
    char name[256];
    struct list roles;
    size_t role_count;
    struct list *next; /* producers: the role that is asked next; NULL = the first */
    bool is_consumer;
    enum consume_type type;
    enum message_model model;
    enum consume_from from;
    struct list subscriptions;
    size_t subscription_count;
    int64_t warned_ms; /* when it was last logged that members subscribe differently; 0: never */
};

struct client_role {
    struct list by_group;
    struct list by_session;
    struct client_group *group;
    struct session *session;
    char client_id[CLIENT_ID_MAX + 1];
    int64_t seen_ms; /* monotonic */
};

struct clients {
    struct strmap producers; /* group -> struct client_group */
    struct strmap consumers;
    size_t role_count;
    size_t bytes; /* of groups, roles and subscriptions */
    struct loop_timer expiry;
};

void clients_init(struct clients *c, struct hash_key key);
void clients_start(struct broker *b); /* the expiry timer */
void clients_fini(struct broker *b);  /* sessions are gone */

/*
 * A heartbeat came by this session. Registers its groups, replaces subscriptions that are newer,
 * creates retry topics, tells the other members what changed, and tells txn that a producer group
 * can be reached. ESCROW_EINVAL (a bad name), ESCROW_ELIMIT, ESCROW_ENOMEM: the groups before the
 * bad one are registered.
 */
ESCROW_MUST_USE int clients_heartbeat(struct broker *b, struct session *s,
                                      const struct heartbeat *hb);

/* A client leaves a group (either name may be empty). */
void clients_unregister(struct broker *b, struct session *s, struct slice client_id,
                        struct slice producer_group, struct slice consumer_group);

void clients_on_close(struct broker *b, struct session *s);

/* The next connection of a producer group, in turn; NULL when none is connected. */
struct session *clients_pick_producer(struct broker *b, struct slice group);

const struct client_group *clients_find_consumers(const struct broker *b, struct slice group);
const struct client_group *clients_find_producers(const struct broker *b, struct slice group);

/*
 * The connection of a client that is a producer, by its client id: whom a reply goes to. NULL when
 * there is none. Looks at every producer.
 */
struct session *clients_find_session(const struct broker *b, struct slice client_id);

/* What a consumer group subscribes to in a topic; NULL when it does not. */
const struct client_subscription *clients_find_subscription(const struct client_group *group,
                                                            struct slice topic);

#endif
