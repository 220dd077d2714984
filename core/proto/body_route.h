/*
 * Bodies about brokers and where topics live: GET_ROUTEINFO_BY_TOPIC 105 and
 * GET_BROKER_CLUSTER_INFO 106.
 *
 * Written compactly with quoted keys: the Go client takes the address table apart by ',' and ':'
 * and keeps blanks. Read leniently: bare numeric keys from servers before 4.9.4 are accepted.
 *
 * Owns:    what was decoded owns its arrays and the parsed text its slices point into; *_fini frees
 *          both. What is to be encoded is the caller's in every part.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_ROUTE_H
#define CORE_PROTO_BODY_ROUTE_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Permission bits of a topic at a broker. */
#define PERM_INHERIT 1
#define PERM_WRITE   2
#define PERM_READ    4

struct route_queue {
    struct slice broker_name;
    int32_t read_queue_count;
    int32_t write_queue_count;
    int32_t perm;
    int32_t topic_sys_flag;
};

struct route_addr {
    int64_t broker_id; /* 0 = master */
    struct slice addr; /* "host:port" */
};

struct route_broker {
    struct slice cluster;
    struct slice broker_name;
    struct route_addr *addrs;
    size_t addr_count;
};

struct route {
    struct slice order_topic_conf; /* empty = absent */
    struct route_queue *queues;
    size_t queue_count;
    struct route_broker *brokers;
    size_t broker_count;
    struct body_tree tree; /* private */
};

/* Append the body of 105. Errors: buf_failed. */
void route_encode(struct buf *out, const struct route *route);

/*
 * Read the body of 105. ESCROW_EPROTO, ESCROW_ELIMIT (more than BODY_ELEMENTS_MAX elements, too
 * deep), ESCROW_ENOMEM. Absent lists are empty; an entry without a broker name, and an address
 * whose id is no number, is an error.
 */
ESCROW_MUST_USE int route_decode(struct slice body, struct route *route);
void route_fini(struct route *route);

/* Address of a broker's master (id 0); SLICE_EMPTY when there is none. */
struct slice route_broker_master(const struct route_broker *broker);

/* The broker of that name, or NULL. */
const struct route_broker *route_find_broker(const struct route *route, struct slice broker_name);

/* Every broker that the name server knows; clusters are what the brokers name. */
struct cluster_info {
    struct route_broker *brokers;
    size_t broker_count;
    struct body_tree tree; /* private */
};

/* Append the body of 106. Errors: buf_failed. */
void cluster_info_encode(struct buf *out, const struct cluster_info *info);

/* Read the body of 106; errors as route_decode. */
ESCROW_MUST_USE int cluster_info_decode(struct slice body, struct cluster_info *info);
void cluster_info_fini(struct cluster_info *info);

#endif
