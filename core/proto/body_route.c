/*
 * The order of the keys is Java's (alphabetical), so that texts can be compared with those of a
 * Java name server.
 */
#include "core/proto/body_route.h"

#include "core/proto/json_write.h"
#include "escrow/errors.h"

#include <stdio.h>

/* ---- writing ---- */

static void put_addrs(struct json_writer *w, const struct route_broker *broker)
{
    char id[24];

    json_write_key(w, "brokerAddrs");
    json_write_object_begin(w);
    for (size_t i = 0; i < broker->addr_count; i++) {
        int len = snprintf(id, sizeof id, "%lld", (long long)broker->addrs[i].broker_id);
        json_write_key_slice(w, slice_of(id, (size_t)len));
        json_write_string(w, broker->addrs[i].addr);
    }
    json_write_object_end(w);
}

static void put_broker(struct json_writer *w, const struct route_broker *broker)
{
    json_write_object_begin(w);
    put_addrs(w, broker);
    json_put_string(w, "brokerName", broker->broker_name);
    json_put_string(w, "cluster", broker->cluster);
    json_put_bool(w, "enableActingMaster", false);
    json_write_object_end(w);
}

static void put_queue(struct json_writer *w, const struct route_queue *queue)
{
    json_write_object_begin(w);
    json_put_string(w, "brokerName", queue->broker_name);
    json_put_i64(w, "perm", queue->perm);
    json_put_i64(w, "readQueueNums", queue->read_queue_count);
    json_put_i64(w, "topicSysFlag", queue->topic_sys_flag);
    json_put_i64(w, "writeQueueNums", queue->write_queue_count);
    json_write_object_end(w);
}

void route_encode(struct buf *out, const struct route *route)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "brokerDatas");
    json_write_array_begin(&w);
    for (size_t i = 0; i < route->broker_count; i++) {
        put_broker(&w, &route->brokers[i]);
    }
    json_write_array_end(&w);
    json_write_key(&w, "filterServerTable");
    json_write_object_begin(&w);
    json_write_object_end(&w);
    if (route->order_topic_conf.len > 0) {
        json_put_string(&w, "orderTopicConf", route->order_topic_conf);
    }
    json_write_key(&w, "queueDatas");
    json_write_array_begin(&w);
    for (size_t i = 0; i < route->queue_count; i++) {
        put_queue(&w, &route->queues[i]);
    }
    json_write_array_end(&w);
    json_write_object_end(&w);
}

/* Is broker i the first one of its cluster? */
static bool is_first_of_cluster(const struct cluster_info *info, size_t i)
{
    for (size_t k = 0; k < i; k++) {
        if (slice_eq(info->brokers[k].cluster, info->brokers[i].cluster)) {
            return false;
        }
    }
    return true;
}

void cluster_info_encode(struct buf *out, const struct cluster_info *info)
{
    struct json_writer w = json_writer_to(out);

    json_write_object_begin(&w);
    json_write_key(&w, "brokerAddrTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < info->broker_count; i++) {
        json_write_key_slice(&w, info->brokers[i].broker_name);
        put_broker(&w, &info->brokers[i]);
    }
    json_write_object_end(&w);
    json_write_key(&w, "clusterAddrTable");
    json_write_object_begin(&w);
    for (size_t i = 0; i < info->broker_count; i++) {
        if (!is_first_of_cluster(info, i)) {
            continue;
        }
        json_write_key_slice(&w, info->brokers[i].cluster);
        json_write_array_begin(&w);
        for (size_t k = i; k < info->broker_count; k++) {
            if (slice_eq(info->brokers[k].cluster, info->brokers[i].cluster)) {
                json_write_string(&w, info->brokers[k].broker_name);
            }
        }
        json_write_array_end(&w);
    }
    json_write_object_end(&w);
    json_write_object_end(&w);
}

/* ---- reading ---- */

static int get_addrs(struct body_tree *tree, const struct json_node *object,
                     struct route_broker *broker)
{
    const struct json_node *map = body_tree_map(object, "brokerAddrs");
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;

    broker->addrs = body_tree_array(tree, json_node_count(map), sizeof *broker->addrs);
    if (broker->addrs == NULL) {
        return ESCROW_ENOMEM;
    }
    while (body_tree_next_pair(map, &cursor, &key, &value)) {
        struct route_addr *addr = &broker->addrs[broker->addr_count++];
        if (!body_tree_number(key, &addr->broker_id) || !body_tree_text(value, &addr->addr)) {
            return ESCROW_EPROTO;
        }
    }
    return 0;
}

static int get_broker(struct body_tree *tree, const struct json_node *object,
                      struct route_broker *broker)
{
    broker->broker_name = body_tree_str(object, "brokerName");
    broker->cluster = body_tree_str(object, "cluster");
    return broker->broker_name.len == 0 ? ESCROW_EPROTO : get_addrs(tree, object, broker);
}

static int get_queue(const struct json_node *object, struct route_queue *queue)
{
    int32_t old_flag = body_tree_i32(object, "topicSynFlag", 0); /* the key of early 4.x servers */

    queue->broker_name = body_tree_str(object, "brokerName");
    queue->read_queue_count = body_tree_i32(object, "readQueueNums", 0);
    queue->write_queue_count = body_tree_i32(object, "writeQueueNums", 0);
    queue->perm = body_tree_i32(object, "perm", 0);
    queue->topic_sys_flag = body_tree_i32(object, "topicSysFlag", old_flag);
    return queue->broker_name.len == 0 ? ESCROW_EPROTO : 0;
}

static int get_queues(struct route *route, const struct json_node *list)
{
    const struct json_node *queue = NULL;
    int error = 0;

    route->queues = body_tree_array(&route->tree, json_node_count(list), sizeof *route->queues);
    if (route->queues == NULL) {
        return ESCROW_ENOMEM;
    }
    while (error == 0 && (queue = json_node_next(list, queue)) != NULL) {
        error = get_queue(queue, &route->queues[route->queue_count++]);
    }
    return error;
}

static int get_brokers(struct route *route, const struct json_node *list)
{
    const struct json_node *broker = NULL;
    int error = 0;

    route->brokers = body_tree_array(&route->tree, json_node_count(list), sizeof *route->brokers);
    if (route->brokers == NULL) {
        return ESCROW_ENOMEM;
    }
    while (error == 0 && (broker = json_node_next(list, broker)) != NULL) {
        error = get_broker(&route->tree, broker, &route->brokers[route->broker_count++]);
    }
    return error;
}

static int get_route(struct route *route, const struct json_node *root)
{
    int error = get_queues(route, body_tree_list(root, "queueDatas"));

    route->order_topic_conf = body_tree_str(root, "orderTopicConf");
    return error == 0 ? get_brokers(route, body_tree_list(root, "brokerDatas")) : error;
}

int route_decode(struct slice body, struct route *route)
{
    const struct json_node *root;
    int error;

    *route = (struct route){0};
    error = body_tree_parse(&route->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = get_route(route, root);
    }
    if (error != 0) {
        route_fini(route);
    }
    return error;
}

void route_fini(struct route *route)
{
    body_tree_fini(&route->tree);
    *route = (struct route){0};
}

struct slice route_broker_master(const struct route_broker *broker)
{
    struct slice addr = SLICE_EMPTY;

    for (size_t i = 0; i < broker->addr_count; i++) {
        if (broker->addrs[i].broker_id == 0) {
            addr = broker->addrs[i].addr; /* of several the last counts, as in a map */
        }
    }
    return addr;
}

const struct route_broker *route_find_broker(const struct route *route, struct slice broker_name)
{
    for (size_t i = 0; i < route->broker_count; i++) {
        if (slice_eq(route->brokers[i].broker_name, broker_name)) {
            return &route->brokers[i];
        }
    }
    return NULL;
}

static int get_cluster_info(struct cluster_info *info, const struct json_node *root)
{
    const struct json_node *map = body_tree_map(root, "brokerAddrTable");
    const struct json_node *cursor = NULL;
    const struct json_node *key;
    const struct json_node *value;
    int error = 0;

    info->brokers = body_tree_array(&info->tree, json_node_count(map), sizeof *info->brokers);
    if (info->brokers == NULL) {
        return ESCROW_ENOMEM;
    }
    while (error == 0 && body_tree_next_pair(map, &cursor, &key, &value)) {
        error = get_broker(&info->tree, value, &info->brokers[info->broker_count++]);
    }
    return error;
}

int cluster_info_decode(struct slice body, struct cluster_info *info)
{
    const struct json_node *root;
    int error;

    *info = (struct cluster_info){0};
    error = body_tree_parse(&info->tree, body, JSON_LIMITS_BODY, &root);
    if (error == 0) {
        error = get_cluster_info(info, root);
    }
    if (error != 0) {
        cluster_info_fini(info);
    }
    return error;
}

void cluster_info_fini(struct cluster_info *info)
{
    body_tree_fini(&info->tree);
    *info = (struct cluster_info){0};
}
