/*
 * Name server registry: which brokers are alive and which topics they serve.
 *
 * What brokers say is not durable: they register again every 30 seconds, and with every name
 * server. The key-value configuration is: kv_store.h. A broker is gone when it says so, when its
 * connection closes, or when it has been silent for its heartbeat time-out. Rules as RocketMQ's
 * name server (shared facts in core/proto/PROTOCOL.md, "Registration"): the table of topics comes
 * from the master (id 0), is taken over when its data version changed, and topics missing from a
 * later table stay until they are deleted. Stricter than RocketMQ's in one thing: name and id of a
 * live broker are not given to another address, which would make the messages of the first
 * unreachable, unless it was elected, or the first has been silent for REGISTRY_QUIET_MS and the
 * newcomer's data version is not older: a broker that was moved.
 *
 * Owns:    everything in it, as copies.
 * Thread:  loop.
 * Pure:    no clock, no I/O; time comes in (milliseconds, monotonic).
 * Holds:   every broker has at least one address; every queue entry names a broker in the table
 *          (registry_check).
 */
#ifndef SRC_NAMESRV_REGISTRY_H
#define SRC_NAMESRV_REGISTRY_H

#include "core/base/buf.h"
#include "core/base/strmap.h"
#include "core/proto/body_register.h"
#include "core/proto/body_route.h"
#include "escrow/errors.h"

#include <stdbool.h>
#include <stdint.h>

#define REGISTRY_BROKERS_MAX 1000
#define REGISTRY_ADDRS_MAX   16 /* master and slaves of one broker name */
#define REGISTRY_EXPIRY_MS                                                                         \
    120000 /* silent for longer: gone, unless the broker asked for another time */
#define REGISTRY_QUIET_MS                                                                          \
    75000 /* silent for longer: gives way. Two missed registrations of 30 s, one of 60 s: README */
#define REGISTRY_NAME_MAX     127 /* cluster and broker names */
#define REGISTRY_ADDR_MAX     127
#define REGISTRY_REFUSAL_MAX  511 /* text of registry_refusal */
#define REGISTRY_KV_MAX       10000
#define REGISTRY_KV_VALUE_MAX 65536
#define REGISTRY_KV_BYTES_MAX ((size_t)16 << 20) /* keys and values together */

struct registry {
    struct strmap brokers; /* broker name -> struct registry_broker */
    struct strmap topics;  /* topic -> struct registry_topic */
    struct strmap kv;      /* namespace 0x01 key -> char * */
    size_t kv_bytes;       /* of its keys and values */
};

/* One registration as it arrived; borrowed for the call. */
struct registration {
    struct slice cluster;
    struct slice broker_name;
    struct slice addr;  /* "host:port" */
    int64_t broker_id;  /* 0 = master */
    int64_t timeout_ms; /* 0 = REGISTRY_EXPIRY_MS */
    /*
         * identity of the connection it came by, for registry_on_close; 0 = none (the built-in
         * broker)
         */
    uint64_t conn;
    struct data_version version;
    const struct topic_config *topics;
    size_t topic_count;
};

void registry_init(struct registry *r, struct hash_key key);
void registry_fini(struct registry *r);

/*
 * Enter or refresh a broker. ESCROW_EINVAL (a name empty, too long or with control characters),
 * ESCROW_EEXIST (a live broker of another address holds name and id; nothing has changed, and
 * registry_refusal says it in words), ESCROW_ELIMIT, ESCROW_ENOMEM; after ESCROW_ENOMEM part of the
 * topics may have been taken over and the next registration completes them.
 */
ESCROW_MUST_USE int registry_register(struct registry *r, int64_t now_ms,
                                      const struct registration *reg);

/*
 * Why registry_register answered ESCROW_EEXIST: which name, who holds it, what to do. Empty when
 * nothing is in the way.
 */
void registry_refusal(const struct registry *r, int64_t now_ms, const struct registration *reg,
                      char *text, size_t size);

/* The broker said goodbye. ESCROW_ENOTFOUND when it was not known. */
ESCROW_MUST_USE int registry_unregister(struct registry *r, struct slice broker_name,
                                        struct slice addr);

/*
 * The connection closed: every address that registered by it is gone, but for those that have asked
 * by another one since: theirs it is now.
 */
void registry_on_close(struct registry *r, uint64_t conn);

/* Drop what has been silent too long; returns how many addresses. */
size_t registry_expire(struct registry *r, int64_t now_ms);

/*
 * Append the route of a topic (body of 105). ESCROW_ENOROUTE when no live broker serves it,
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int registry_route(const struct registry *r, struct slice topic, struct buf *out);

/*
 * Append {"topicList":[...]} of the names that no topic should have, clusters and brokers (body of
 * 304). ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int registry_system_names(const struct registry *r, struct buf *out);

/* Append the body of 106. ESCROW_ENOMEM. */
ESCROW_MUST_USE int registry_cluster_info(const struct registry *r, struct buf *out);

/*
 * Append {"topicList":[...]} of all topics; of one cluster's when cluster is not empty.
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int registry_topic_list(const struct registry *r, struct slice cluster,
                                        struct buf *out);

/*
 * Take the write permission from every topic of a broker, or give it back as it was registered: its
 * routes say so from now on, until the opposite is asked for or the broker is gone. Registrations
 * do not change it. Returns how many topics the broker serves; 0 when it is not known.
 */
size_t registry_set_writable(struct registry *r, struct slice broker_name, bool is_writable);

/*
 * Is this address registered under the name, and is `version` that of the name's table of topics?
 * For QUERY_DATA_VERSION. An address that has to register itself is not current, whoever else holds
 * the name with the same version: a slave that stayed, or the broker's own old address.
 */
bool registry_is_current(const struct registry *r, struct slice broker_name, struct slice addr,
                         const struct data_version *version);

/*
 * A broker asked whether its registration is current: it is alive. RocketMQ's brokers register only
 * what has changed when they are told so (forceRegister=false). An address that is not registered
 * is not made so. conn: the connection it asked by. One that connected again before the end of its
 * old connection was noticed is not asked to register, and stays when that ends.
 */
void registry_seen(struct registry *r, struct slice broker_name, struct slice addr, uint64_t conn,
                   int64_t now_ms);

/*
 * Forget a topic everywhere; the next changed registration of a broker that still has it brings it
 * back.
 */
void registry_delete_topic(struct registry *r, struct slice topic);

/*
 * Key-value configuration. ESCROW_EINVAL (a name empty or longer than REGISTRY_NAME_MAX, a value
 * longer than REGISTRY_KV_VALUE_MAX or with a zero), ESCROW_ELIMIT (REGISTRY_KV_MAX,
 * REGISTRY_KV_BYTES_MAX), ESCROW_ENOMEM; ESCROW_ENOTFOUND.
 */
ESCROW_MUST_USE int registry_kv_check(const struct registry *r, struct slice ns, struct slice key,
                                      struct slice value); /* could it be put? but for memory */
ESCROW_MUST_USE int registry_kv_put(struct registry *r, struct slice ns, struct slice key,
                                    struct slice value);
ESCROW_MUST_USE int registry_kv_get(const struct registry *r, struct slice ns, struct slice key,
                                    struct slice *value);
ESCROW_MUST_USE int registry_kv_delete(struct registry *r, struct slice ns, struct slice key);

struct registry_kv {
    struct slice ns;
    struct slice key;
    struct slice value;
};

/* Iterate in no order; *cursor starts at 0. false at the end. */
bool registry_kv_next(const struct registry *r, size_t *cursor, struct registry_kv *entry);

/* Append {"table":{...}} of a namespace. ESCROW_ENOTFOUND when it has no key, ESCROW_ENOMEM. */
ESCROW_MUST_USE int registry_kv_list(const struct registry *r, struct slice ns, struct buf *out);

/* Asserts the invariants; for tests and debug builds. */
void registry_check(const struct registry *r);

#endif
