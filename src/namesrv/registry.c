/*
 * Who is there. A registration finds or makes the broker, moves its address to the id it claims,
 * and takes over its topics when the data version changed. Everything that removes an address ends
 * in broker_remove_addr, and a broker without addresses is taken out of every topic.
 */
#include "src/namesrv/registry_private.h"

#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/mem.h"
#include "core/proto/names.h"

#include <stdio.h>
#include <string.h>

void registry_init(struct registry *r, struct hash_key key)
{
    strmap_init(&r->brokers, key);
    strmap_init(&r->topics, key);
    strmap_init(&r->kv, key);
    r->kv_bytes = 0;
}

static void map_free_values(struct strmap *m)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(m, &cursor)) != NULL) {
        mem_free(slot->value);
    }
    strmap_fini(m);
}

void registry_fini(struct registry *r)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&r->topics, &cursor)) != NULL) {
        mem_free(((struct registry_topic *)slot->value)->queues);
    }
    map_free_values(&r->topics);
    map_free_values(&r->brokers);
    map_free_values(&r->kv);
}

/*
 * Cluster and broker names and addresses are shown to people and put into routes: printable,
 * without quotes or blanks.
 */
static bool text_is_plain(struct slice s, size_t max)
{
    if (s.len == 0 || s.len > max) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint8_t c = s.ptr[i];
        if (c <= ' ' || c >= 0x7F || c == '"' || c == '\\' || c == ',' || c == ';') {
            return false;
        }
    }
    return true;
}

static struct registry_broker *broker_find(const struct registry *r, struct slice name)
{
    return strmap_find(&r->brokers, name);
}

/* Where the address stands in addrs; addr_count when it does not. */
static size_t broker_find_addr(const struct registry_broker *broker, struct slice addr)
{
    size_t i = 0;

    while (i < broker->addr_count && !slice_eq_str(addr, broker->addrs[i].addr)) {
        i++;
    }
    return i;
}

/* Take a broker out of one topic; true when no broker is left. */
static bool topic_drop_broker(struct registry_topic *topic, const struct registry_broker *broker)
{
    for (size_t i = 0; i < topic->count; i++) {
        if (topic->queues[i].broker == broker) {
            topic->queues[i] = topic->queues[--topic->count];
            break;
        }
    }
    return topic->count == 0;
}

static void topic_delete(struct registry *r, struct slice name)
{
    struct registry_topic *topic = strmap_take(&r->topics, name);

    if (topic != NULL) {
        mem_free(topic->queues);
        mem_free(topic);
    }
}

/*
 * The broker serves nothing any more. Deleting moves later entries of a run back, so the walk looks
 * at the same slot again; what moves from the front of the table to its end was looked at before.
 */
static void broker_delete(struct registry *r, struct registry_broker *broker)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&r->topics, &cursor)) != NULL) {
        if (topic_drop_broker(slot->value, broker)) {
            char name[RETRY_TOPIC_LEN_MAX + 1];
            struct slice key =
                slice_of(slice_to_cstr(slice_of(slot->key, slot->key_len), name, sizeof name),
                         slot->key_len);
            topic_delete(r, key);
            cursor--;
        }
    }
    CHECK(strmap_take(&r->brokers, slice_str(broker->name)) == broker);
    mem_free(broker);
}

static void broker_remove_addr(struct registry *r, struct registry_broker *broker, size_t index)
{
    CHECK(index < broker->addr_count);
    memmove(&broker->addrs[index], &broker->addrs[index + 1],
            (broker->addr_count - index - 1) * sizeof broker->addrs[0]);
    broker->addr_count--;
    if (broker->addr_count == 0) {
        broker_delete(r, broker);
    }
}

static struct registry_broker *broker_new(struct registry *r, const struct registration *reg,
                                          int *error)
{
    struct registry_broker *broker;

    if (r->brokers.count >= REGISTRY_BROKERS_MAX) {
        *error = ESCROW_ELIMIT;
        return NULL;
    }
    broker = mem_calloc(1, sizeof *broker);
    if (broker == NULL) {
        *error = ESCROW_ENOMEM;
        return NULL;
    }
    (void)slice_to_cstr(reg->broker_name, broker->name, sizeof broker->name);
    *error = strmap_put(&r->brokers, reg->broker_name, broker);
    if (*error != 0) {
        mem_free(broker);
        return NULL;
    }
    return broker;
}

/*
 * Put the address under its id, keeping the order; an older entry of the same address or the same
 * id is replaced.
 */
static int broker_put_addr(struct registry_broker *broker, int64_t now_ms,
                           const struct registration *reg)
{
    struct registry_addr entry = {
        .broker_id = reg->broker_id,
        .seen_ms = now_ms,
        .timeout_ms = reg->timeout_ms > 0 ? reg->timeout_ms : REGISTRY_EXPIRY_MS,
        .state_version = reg->version.state_version,
        .conn = reg->conn,
    };
    size_t kept = 0;
    size_t at;

    (void)slice_to_cstr(reg->addr, entry.addr, sizeof entry.addr);
    for (size_t i = 0; i < broker->addr_count; i++) {
        const struct registry_addr *old = &broker->addrs[i];
        if (old->broker_id != entry.broker_id && strcmp(old->addr, entry.addr) != 0) {
            broker->addrs[kept++] = *old;
        }
    }
    broker->addr_count = kept;
    if (kept == REGISTRY_ADDRS_MAX) {
        return ESCROW_ELIMIT;
    }
    for (at = kept; at > 0 && broker->addrs[at - 1].broker_id > entry.broker_id; at--) {
        broker->addrs[at] = broker->addrs[at - 1];
    }
    broker->addrs[at] = entry;
    broker->addr_count++;
    return 0;
}

static struct registry_topic *topic_get(struct registry *r, struct slice name)
{
    struct registry_topic *topic = strmap_find(&r->topics, name);

    if (topic == NULL) {
        topic = mem_calloc(1, sizeof *topic);
        if (topic != NULL && strmap_put(&r->topics, name, topic) != 0) {
            mem_free(topic);
            topic = NULL;
        }
    }
    return topic;
}

static int topic_put_queues(struct registry *r, struct slice name, struct registry_queues queues)
{
    struct registry_topic *topic;
    struct registry_queues *grown;

    if (strmap_find(&r->topics, name) == NULL && r->topics.count >= TOPICS_MAX) {
        return ESCROW_ELIMIT;
    }
    topic = topic_get(r, name);
    if (topic == NULL) {
        return ESCROW_ENOMEM;
    }
    for (size_t i = 0; i < topic->count; i++) {
        if (topic->queues[i].broker == queues.broker) {
            topic->queues[i] = queues;
            return 0;
        }
    }
    grown = mem_realloc(topic->queues, (topic->count + 1) * sizeof *grown);
    if (grown == NULL) {
        if (topic->count == 0) {
            topic_delete(r, name);
        }
        return ESCROW_ENOMEM;
    }
    topic->queues = grown;
    topic->queues[topic->count++] = queues;
    return 0;
}

static int broker_take_topics(struct registry *r, struct registry_broker *broker,
                              const struct registration *reg)
{
    for (size_t i = 0; i < reg->topic_count; i++) {
        const struct topic_config *t = &reg->topics[i];
        int rc = name_check_topic(t->name);
        if (rc == 0) {
            rc =
                topic_put_queues(r, t->name,
                                 (struct registry_queues){.broker = broker,
                                                          .read_queue_count = t->read_queue_count,
                                                          .write_queue_count = t->write_queue_count,
                                                          .perm = t->perm,
                                                          .sys_flag = t->sys_flag});
        }
        if (rc != 0 &&
            rc != ESCROW_EINVAL) { /* a name we cannot serve is left out, the rest counts */
            return rc;
        }
    }
    broker->version = reg->version;
    broker->has_version = true;
    return 0;
}

static bool version_eq(const struct data_version *a, const struct data_version *b)
{
    return a->timestamp_ms == b->timestamp_ms && a->counter == b->counter &&
           a->state_version == b->state_version;
}

static bool addr_is_silent(const struct registry_addr *a, int64_t now_ms)
{
    return now_ms - a->seen_ms > a->timeout_ms;
}

static bool version_is_older(const struct data_version *a, const struct data_version *b)
{
    if (a->state_version != b->state_version) {
        return a->state_version < b->state_version;
    }
    return a->timestamp_ms != b->timestamp_ms ? a->timestamp_ms < b->timestamp_ms
                                              : a->counter < b->counter;
}

/* Has it been silent for a while, and is the newcomer what it was, or later? */
static bool addr_gives_way(const struct registry_broker *broker, const struct registry_addr *a,
                           int64_t now_ms, const struct registration *reg)
{
    return now_ms - a->seen_ms > REGISTRY_QUIET_MS &&
           !(broker->has_version && version_is_older(&reg->version, &broker->version));
}

/*
 * The live entry of another address under the id that is claimed, NULL when there is none. RocketMQ
 * gives it away to any newcomer; its brokers rely on that after an election only: the new master
 * has a higher state version, or (older ones, without any) it was known under another id. A machine
 * that vanished says no goodbye, and its connection stays open for long: what it held is free again
 * for the broker that was moved.
 */
static const struct registry_addr *broker_find_holder(const struct registry_broker *broker,
                                                      int64_t now_ms,
                                                      const struct registration *reg)
{
    const struct registry_addr *holder = NULL;
    bool is_known = false;

    for (size_t i = 0; broker != NULL && i < broker->addr_count; i++) {
        const struct registry_addr *a = &broker->addrs[i];
        bool is_same_addr = slice_eq_str(reg->addr, a->addr);
        is_known = is_known || is_same_addr;
        if (a->broker_id == reg->broker_id && !is_same_addr && !addr_is_silent(a, now_ms) &&
            !addr_gives_way(broker, a, now_ms, reg)) {
            holder = a;
        }
    }
    if (holder != NULL && (reg->version.state_version > holder->state_version ||
                           (is_known && reg->version.state_version == holder->state_version))) {
        holder = NULL;
    }
    return holder;
}

void registry_refusal(const struct registry *r, int64_t now_ms, const struct registration *reg,
                      char *text, size_t size)
{
    const struct registry_addr *holder =
        broker_find_holder(broker_find(r, reg->broker_name), now_ms, reg);

    text[0] = '\0';
    if (holder != NULL) {
        (void)snprintf(text, size,
                       "broker.name %.*s, id %lld, is held by the live broker at %s; the one at "
                       "%.*s is refused: give each broker a broker.name of its own",
                       SLICE_ARGS(reg->broker_name), (long long)reg->broker_id, holder->addr,
                       SLICE_ARGS(reg->addr)); /* what does not fit is cut */
    }
}

int registry_register(struct registry *r, int64_t now_ms, const struct registration *reg)
{
    struct registry_broker *broker = broker_find(r, reg->broker_name);
    bool is_lowest;
    int rc = 0;

    if (!text_is_plain(reg->cluster, REGISTRY_NAME_MAX) ||
        !text_is_plain(reg->broker_name, REGISTRY_NAME_MAX) ||
        !text_is_plain(reg->addr, REGISTRY_ADDR_MAX) || reg->broker_id < 0) {
        return ESCROW_EINVAL;
    }
    if (broker_find_holder(broker, now_ms, reg) != NULL) {
        return ESCROW_EEXIST;
    }
    if (broker == NULL) {
        broker = broker_new(r, reg, &rc);
        if (broker == NULL) {
            return rc;
        }
    }
    (void)slice_to_cstr(reg->cluster, broker->cluster, sizeof broker->cluster);
    rc = broker_put_addr(broker, now_ms, reg);
    if (rc != 0) {
        return rc;
    }
    is_lowest = broker->addrs[0].broker_id == reg->broker_id;
    if (is_lowest && (!broker->has_version || !version_eq(&broker->version, &reg->version))) {
        rc = broker_take_topics(r, broker, reg);
    }
    return rc;
}

int registry_unregister(struct registry *r, struct slice broker_name, struct slice addr)
{
    struct registry_broker *broker = broker_find(r, broker_name);
    size_t i = broker == NULL ? 0 : broker_find_addr(broker, addr);

    if (broker == NULL || i == broker->addr_count) {
        return ESCROW_ENOTFOUND;
    }
    broker_remove_addr(r, broker, i);
    return 0;
}

/* What a connection that closed had asked, and who asked by another one since its registration. */
static void forget_conn(struct registry *r, uint64_t conn)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
        struct registry_broker *broker = slot->value;
        for (size_t i = 0; i < broker->addr_count; i++) {
            struct registry_addr *a = &broker->addrs[i];
            if (a->conn == conn && a->asked != 0 && a->asked != conn) {
                a->conn = a->asked;
            }
            if (a->asked == conn || a->asked == a->conn) {
                a->asked = 0;
            }
        }
    }
}

/* Remove the first address for which one of the conditions holds; false when there is none. */
static bool remove_one(struct registry *r, uint64_t conn, int64_t now_ms)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
        struct registry_broker *broker = slot->value;
        for (size_t i = 0; i < broker->addr_count; i++) {
            const struct registry_addr *a = &broker->addrs[i];
            bool is_closed = conn != 0 && a->conn == conn;
            bool is_silent = conn == 0 && addr_is_silent(a, now_ms);
            if (is_closed || is_silent) {
                broker_remove_addr(r, broker, i);
                return true;
            }
        }
    }
    return false;
}

void registry_on_close(struct registry *r, uint64_t conn)
{
    CHECK(conn != 0);
    forget_conn(r, conn);
    while (remove_one(r, conn, 0)) {
    }
}

size_t registry_expire(struct registry *r, int64_t now_ms)
{
    size_t count = 0;

    while (remove_one(r, 0, now_ms)) {
        count++;
    }
    return count;
}

bool registry_is_current(const struct registry *r, struct slice broker_name, struct slice addr,
                         const struct data_version *version)
{
    const struct registry_broker *broker = broker_find(r, broker_name);

    return broker != NULL && broker_find_addr(broker, addr) < broker->addr_count &&
           broker->has_version && version_eq(&broker->version, version);
}

void registry_seen(struct registry *r, struct slice broker_name, struct slice addr, uint64_t conn,
                   int64_t now_ms)
{
    struct registry_broker *broker = broker_find(r, broker_name);
    size_t i = broker == NULL ? 0 : broker_find_addr(broker, addr);

    if (broker != NULL && i < broker->addr_count) {
        broker->addrs[i].seen_ms = now_ms;
        broker->addrs[i].asked = broker->addrs[i].conn == conn ? 0 : conn;
    }
}

size_t registry_set_writable(struct registry *r, struct slice broker_name, bool is_writable)
{
    struct registry_broker *broker = broker_find(r, broker_name);
    size_t cursor = 0;
    size_t count = 0;
    const struct strmap_slot *slot;

    if (broker == NULL) {
        return 0;
    }
    broker->is_wiped = !is_writable;
    while ((slot = strmap_next(&r->topics, &cursor)) != NULL) {
        const struct registry_topic *topic = slot->value;
        for (size_t i = 0; i < topic->count; i++) {
            count += topic->queues[i].broker == broker ? 1 : 0;
        }
    }
    return count;
}

void registry_delete_topic(struct registry *r, struct slice topic)
{
    topic_delete(r, topic);
}

void registry_check(const struct registry *r)
{
    size_t cursor = 0;
    const struct strmap_slot *slot;

    while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
        const struct registry_broker *broker = slot->value;
        CHECK(broker->addr_count > 0 && broker->addr_count <= REGISTRY_ADDRS_MAX);
        for (size_t i = 1; i < broker->addr_count; i++) {
            CHECK(broker->addrs[i - 1].broker_id < broker->addrs[i].broker_id);
        }
    }
    cursor = 0;
    while ((slot = strmap_next(&r->topics, &cursor)) != NULL) {
        const struct registry_topic *topic = slot->value;
        CHECK(topic->count > 0);
        for (size_t i = 0; i < topic->count; i++) {
            CHECK(broker_find(r, slice_str(topic->queues[i].broker->name)) ==
                  topic->queues[i].broker);
        }
    }
}
