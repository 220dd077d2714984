/* What clients are told: routes, cluster, topic lists, key-value configuration. */
#include "src/namesrv/registry_private.h"

#include "core/base/check.h"
#include "core/base/mem.h"
#include "core/proto/body_lists.h"

#include <string.h>

/* Key of a key-value entry: namespace, 0x01, key. */
struct kv_key {
    uint8_t bytes[2 * REGISTRY_NAME_MAX + 1];
    size_t len;
};

static bool kv_key_make(struct kv_key *out, struct slice ns, struct slice key)
{
    if (ns.len == 0 || ns.len > REGISTRY_NAME_MAX || key.len == 0 || key.len > REGISTRY_NAME_MAX ||
        memchr(ns.ptr, 0x01, ns.len) != NULL) {
        return false;
    }
    memcpy(out->bytes, ns.ptr, ns.len);
    out->bytes[ns.len] = 0x01;
    memcpy(out->bytes + ns.len + 1, key.ptr, key.len);
    out->len = ns.len + 1 + key.len;
    return true;
}

/* View of a broker as the encoder wants it; addrs has room for REGISTRY_ADDRS_MAX. */
static struct route_broker broker_view(const struct registry_broker *broker,
                                       struct route_addr *addrs)
{
    for (size_t i = 0; i < broker->addr_count; i++) {
        addrs[i] = (struct route_addr){.broker_id = broker->addrs[i].broker_id,
                                       .addr = slice_str(broker->addrs[i].addr)};
    }
    return (struct route_broker){.cluster = slice_str(broker->cluster),
                                 .broker_name = slice_str(broker->name),
                                 .addrs = addrs,
                                 .addr_count = broker->addr_count};
}

int registry_route(const struct registry *r, struct slice topic, struct buf *out)
{
    const struct registry_topic *found = strmap_find(&r->topics, topic);
    struct slice order = SLICE_EMPTY;
    struct route route = {0};
    struct route_queue *queues;
    struct route_broker *brokers;
    struct route_addr *addrs;

    if (found == NULL) {
        return ESCROW_ENOROUTE;
    }
    if (registry_kv_get(r, SLICE_LIT("ORDER_TOPIC_CONFIG"), topic, &order) != 0) {
        order = SLICE_EMPTY; /* an ordinary topic */
    }
    queues = mem_calloc(found->count, sizeof *queues);
    brokers = mem_calloc(found->count, sizeof *brokers);
    addrs = mem_calloc(found->count, REGISTRY_ADDRS_MAX * sizeof *addrs);
    if (queues != NULL && brokers != NULL && addrs != NULL) {
        for (size_t i = 0; i < found->count; i++) {
            const struct registry_queues *q = &found->queues[i];
            queues[i] =
                (struct route_queue){.broker_name = slice_str(q->broker->name),
                                     .read_queue_count = q->read_queue_count,
                                     .write_queue_count = q->write_queue_count,
                                     .perm = q->broker->is_wiped ? q->perm & ~PERM_WRITE : q->perm,
                                     .topic_sys_flag = q->sys_flag};
            brokers[i] = broker_view(q->broker, addrs + i * REGISTRY_ADDRS_MAX);
        }
        route.order_topic_conf = order;
        route.queues = queues;
        route.queue_count = found->count;
        route.brokers = brokers;
        route.broker_count = found->count;
        route_encode(out, &route);
    } else {
        out->failed = true;
    }
    mem_free(queues);
    mem_free(brokers);
    mem_free(addrs);
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}

/* Clusters come first; a cluster of several brokers is named once. */
int registry_system_names(const struct registry *r, struct buf *out)
{
    struct slice *names = mem_calloc(2 * r->brokers.count + 1, sizeof *names);
    size_t count = 0;
    size_t clusters;
    size_t cursor = 0;
    const struct strmap_slot *slot;

    if (names == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
        struct slice cluster = slice_str(((const struct registry_broker *)slot->value)->cluster);
        bool is_there = false;
        for (size_t i = 0; i < count && !is_there; i++) {
            is_there = slice_eq(names[i], cluster);
        }
        if (!is_there) {
            names[count++] = cluster;
        }
    }
    clusters = count;
    cursor = 0;
    while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
        names[count++] = slice_str(((const struct registry_broker *)slot->value)->name);
    }
    CHECK(count == clusters + r->brokers.count);
    name_list_encode(out, LIST_TOPICS, names, count);
    mem_free(names);
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}

int registry_cluster_info(const struct registry *r, struct buf *out)
{
    struct cluster_info info = {0};
    struct route_addr *addrs = mem_calloc(r->brokers.count + 1, REGISTRY_ADDRS_MAX * sizeof *addrs);
    size_t cursor = 0;
    const struct strmap_slot *slot;

    info.brokers = mem_calloc(r->brokers.count + 1, sizeof *info.brokers);
    if (info.brokers != NULL && addrs != NULL) {
        while ((slot = strmap_next(&r->brokers, &cursor)) != NULL) {
            size_t i = info.broker_count++;
            info.brokers[i] = broker_view(slot->value, addrs + i * REGISTRY_ADDRS_MAX);
        }
        cluster_info_encode(out, &info);
    } else {
        out->failed = true;
    }
    mem_free(info.brokers);
    mem_free(addrs);
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}

static bool topic_is_in(const struct registry_topic *topic, struct slice cluster)
{
    for (size_t i = 0; i < topic->count; i++) {
        if (cluster.len == 0 || slice_eq_str(cluster, topic->queues[i].broker->cluster)) {
            return true;
        }
    }
    return false;
}

int registry_topic_list(const struct registry *r, struct slice cluster, struct buf *out)
{
    struct slice *names = mem_calloc(r->topics.count + 1, sizeof *names);
    size_t count = 0;
    size_t cursor = 0;
    const struct strmap_slot *slot;

    if (names == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((slot = strmap_next(&r->topics, &cursor)) != NULL) {
        if (topic_is_in(slot->value, cluster)) {
            names[count++] = slice_of(slot->key, slot->key_len);
        }
    }
    name_list_encode(out, LIST_TOPICS, names, count);
    mem_free(names);
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}

/* The key, and what all entries would come to with the value. */
static int kv_check(const struct registry *r, const struct registry_kv *entry, struct kv_key *full,
                    size_t *bytes)
{
    const char *old;
    struct slice value = entry->value;

    if (!kv_key_make(full, entry->ns, entry->key) || value.len > REGISTRY_KV_VALUE_MAX ||
        (value.len > 0 && memchr(value.ptr, '\0', value.len) != NULL)) {
        return ESCROW_EINVAL;
    }
    old = strmap_find(&r->kv, slice_of(full->bytes, full->len));
    *bytes =
        r->kv_bytes + value.len + (old == NULL ? full->len : 0) - (old == NULL ? 0 : strlen(old));
    return (old == NULL && r->kv.count >= REGISTRY_KV_MAX) || *bytes > REGISTRY_KV_BYTES_MAX
               ? ESCROW_ELIMIT
               : 0;
}

int registry_kv_check(const struct registry *r, struct slice ns, struct slice key,
                      struct slice value)
{
    const struct registry_kv entry = {ns, key, value};
    struct kv_key full;
    size_t bytes;

    return kv_check(r, &entry, &full, &bytes);
}

int registry_kv_put(struct registry *r, struct slice ns, struct slice key, struct slice value)
{
    const struct registry_kv entry = {ns, key, value};
    struct kv_key full;
    char *copy;
    char *old;
    size_t bytes;
    int rc = kv_check(r, &entry, &full, &bytes);

    if (rc != 0) {
        return rc;
    }
    old = strmap_find(&r->kv, slice_of(full.bytes, full.len));
    copy = mem_alloc(value.len + 1);
    if (copy == NULL) {
        return ESCROW_ENOMEM;
    }
    (void)slice_to_cstr(value, copy, value.len + 1);
    rc = strmap_put(&r->kv, slice_of(full.bytes, full.len), copy);
    mem_free(rc == 0 ? old : copy);
    r->kv_bytes = rc == 0 ? bytes : r->kv_bytes;
    return rc;
}

bool registry_kv_next(const struct registry *r, size_t *cursor, struct registry_kv *entry)
{
    const struct strmap_slot *slot = strmap_next(&r->kv, cursor);
    const uint8_t *end;
    struct slice full;

    if (slot == NULL) {
        return false;
    }
    full = slice_of(slot->key, slot->key_len);
    end = memchr(full.ptr, 0x01, full.len); /* no namespace has one */
    CHECK(end != NULL);
    entry->ns = slice_of(full.ptr, (size_t)(end - full.ptr));
    entry->key = slice_of(end + 1, full.len - entry->ns.len - 1);
    entry->value = slice_str(slot->value);
    return true;
}

int registry_kv_get(const struct registry *r, struct slice ns, struct slice key,
                    struct slice *value)
{
    struct kv_key full;
    const char *found = NULL;

    if (kv_key_make(&full, ns, key)) {
        found = strmap_find(&r->kv, slice_of(full.bytes, full.len));
    }
    if (found == NULL) {
        return ESCROW_ENOTFOUND;
    }
    *value = slice_str(found);
    return 0;
}

int registry_kv_delete(struct registry *r, struct slice ns, struct slice key)
{
    struct kv_key full;
    char *found = NULL;

    if (kv_key_make(&full, ns, key)) {
        found = strmap_take(&r->kv, slice_of(full.bytes, full.len));
    }
    if (found == NULL) {
        return ESCROW_ENOTFOUND;
    }
    r->kv_bytes -= full.len + strlen(found);
    mem_free(found);
    return 0;
}

int registry_kv_list(const struct registry *r, struct slice ns, struct buf *out)
{
    struct kv_pair *pairs = mem_calloc(r->kv.count + 1, sizeof *pairs);
    size_t count = 0;
    size_t cursor = 0;
    const struct strmap_slot *slot;

    if (pairs == NULL) {
        return ESCROW_ENOMEM;
    }
    while ((slot = strmap_next(&r->kv, &cursor)) != NULL) {
        struct slice full = slice_of(slot->key, slot->key_len);
        if (ns.len > 0 && full.len > ns.len + 1 && slice_has_prefix(full, ns) &&
            full.ptr[ns.len] == 0x01) {
            pairs[count++] =
                (struct kv_pair){.key = slice_of(full.ptr + ns.len + 1, full.len - ns.len - 1),
                                 .value = slice_str(slot->value)};
        }
    }
    if (count > 0) {
        kv_table_encode(out, pairs, count);
    }
    mem_free(pairs);
    if (count == 0) {
        return ESCROW_ENOTFOUND;
    }
    return buf_failed(out) ? ESCROW_ENOMEM : 0;
}
