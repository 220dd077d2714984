/*
 * JSON bodies of clients, brokers and name servers: the first byte picks the decoder. What is
 * accepted is written again and must be accepted again.
 */
#include "core/base/check.h"
#include "core/proto/body_callback.h"
#include "core/proto/body_connections.h"
#include "core/proto/body_group.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/body_lists.h"
#include "core/proto/body_pop.h"
#include "core/proto/body_queues.h"
#include "core/proto/body_register.h"
#include "core/proto/body_route.h"
#include "escrow/errors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int try_route(struct slice in, struct buf *out)
{
    struct route route;
    int error = route_decode(in, &route);

    if (error == 0) {
        route_encode(out, &route);
        for (size_t i = 0; i < route.broker_count; i++) {
            (void)route_broker_master(&route.brokers[i]); /* only that it reads nothing wrong */
        }
    }
    route_fini(&route);
    return error;
}

static int try_cluster(struct slice in, struct buf *out)
{
    struct cluster_info info;
    int error = cluster_info_decode(in, &info);

    if (error == 0) {
        cluster_info_encode(out, &info);
    }
    cluster_info_fini(&info);
    return error;
}

static int try_heartbeat(struct slice in, struct buf *out)
{
    struct heartbeat hb;
    int error = heartbeat_decode(in, &hb);

    if (error == 0) {
        heartbeat_encode(out, &hb);
    }
    heartbeat_fini(&hb);
    return error;
}

static int try_client_config(struct slice in, struct buf *out)
{
    struct client_config config;
    int error = client_config_decode(in, &config);

    client_config_fini(&config);
    buf_append_slice(out, in);
    return error;
}

static int try_topic_table(struct slice in, struct buf *out)
{
    struct topic_table table;
    int error = topic_table_decode(in, &table);

    if (error == 0) {
        topic_table_encode(out, &table);
    }
    topic_table_fini(&table);
    return error;
}

static int try_group_config(struct slice in, struct buf *out)
{
    struct group_config group;
    struct body_tree tree;
    int error = group_config_decode(in, &group, &tree);

    body_tree_fini(&tree);
    buf_append_slice(out, in); /* written again, a malformed name may be longer than one may be */
    return error;
}

static int try_group_table(struct slice in, struct buf *out)
{
    struct group_table table;
    int error = group_table_decode(in, &table);

    buf_append_slice(out, in); /* as above */
    group_table_fini(&table);
    return error;
}

static int try_register(struct slice in, struct buf *out)
{
    struct register_body body;
    int error = register_body_decode(in, false, &body);

    if (error == 0) {
        register_body_encode(out, &body);
    }
    register_body_fini(&body);
    return error;
}

static int try_register_compressed(struct slice in, struct buf *out)
{
    struct register_body body;
    int error = register_body_decode(in, true, &body);

    if (error == 0) {
        error = register_body_encode_compressed(out, &body);
    }
    register_body_fini(&body);
    return error;
}

static int try_name_list(struct slice in, struct buf *out)
{
    struct name_list list;
    int error = name_list_decode(in, LIST_CONSUMER_IDS, &list);

    if (error == 0) {
        name_list_encode(out, LIST_CONSUMER_IDS, list.names, list.count);
    }
    name_list_fini(&list);
    return error;
}

static int try_kv_table(struct slice in, struct buf *out)
{
    struct kv_table table;
    int error = kv_table_decode(in, &table);

    if (error == 0) {
        kv_table_encode(out, table.pairs, table.count);
    }
    kv_table_fini(&table);
    return error;
}

static int try_queue_lock(struct slice in, struct buf *out)
{
    struct queue_lock lock;
    int error = queue_lock_decode(in, &lock);

    if (error == 0) {
        queue_lock_encode(out, &lock);
    }
    queue_lock_fini(&lock);
    return error;
}

static int try_queue_set(struct slice in, struct buf *out)
{
    struct queue_set set;
    int error = queue_set_decode(in, &set);

    if (error == 0) {
        queue_set_encode(out, set.queues, set.count);
    }
    queue_set_fini(&set);
    return error;
}

static int try_table(struct slice in, struct buf *out, enum queue_table_kind kind)
{
    struct queue_table table;
    int error = queue_table_decode(in, kind, &table);

    if (error == 0) {
        queue_table_encode(out, kind, &table);
    }
    queue_table_fini(&table);
    return error;
}

static int try_topic_stats(struct slice in, struct buf *out)
{
    return try_table(in, out, QUEUE_TABLE_TOPIC);
}

static int try_consume_stats(struct slice in, struct buf *out)
{
    return try_table(in, out, QUEUE_TABLE_CONSUME);
}

static int try_offsets(struct slice in, struct buf *out)
{
    return try_table(in, out, QUEUE_TABLE_OFFSETS);
}

static int try_member(struct slice in, struct buf *out)
{
    return try_table(in, out, QUEUE_TABLE_MEMBER);
}

static int try_callback(struct slice in, struct buf *out)
{
    enum callback_state state;

    buf_append_slice(out, in);
    return callback_answer_decode(in, SLICE_LIT("T"), 1, &state);
}

static int try_batch_acks(struct slice in, struct buf *out)
{
    struct batch_acks acks;
    int error = batch_acks_decode(in, &acks);

    if (error == 0) {
        batch_acks_encode(out, &acks);
    }
    batch_acks_fini(&acks);
    return error;
}

static int try_mode(struct slice in, struct buf *out)
{
    struct mode_request mode;
    int error = mode_request_decode(in, &mode);

    if (error == 0) {
        mode_request_encode(out, &mode);
    }
    mode_request_fini(&mode);
    return error;
}

static int try_assignment(struct slice in, struct buf *out)
{
    struct assignment_request req;
    int error = assignment_request_decode(in, &req);

    buf_append_slice(out, in);
    assignment_request_fini(&req);
    return error;
}

static int try_connections(struct slice in, struct buf *out)
{
    size_t count;
    int error = connections_count(in, &count);

    producer_connections_encode(out, NULL, 0);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int (*const tries[])(struct slice in, struct buf * out) = {
        try_route,       try_cluster,    try_heartbeat,     try_client_config,
        try_topic_table, try_register,   try_queue_lock,    try_group_config,
        try_name_list,   try_kv_table,   try_queue_set,     try_register_compressed,
        try_topic_stats, try_offsets,    try_consume_stats, try_callback,
        try_batch_acks,  try_mode,       try_assignment,    try_group_table,
        try_member,      try_connections};
    struct buf once, twice;
    int error;

    if (size == 0 || data[0] >= sizeof tries / sizeof tries[0]) {
        return 0;
    }
    buf_init(&once, 0);
    buf_init(&twice, 0);
    error = tries[data[0]](slice_of(data + 1, size - 1), &once);
    CHECK(error <= 0);
    if (error == 0 && !buf_failed(&once)) {
        CHECK(tries[data[0]](buf_slice(&once), &twice) == 0);
    }
    buf_fini(&twice);
    buf_fini(&once);
    return 0;
}
