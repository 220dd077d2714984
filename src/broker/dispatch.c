#include "src/broker/dispatch.h"

#include "src/broker/broker.h"

/* A handler, and whether it needs the store (a process that is a name server only has none). */
struct route_entry {
    request_fn *fn;
    bool needs_store;
};

static struct route_entry find_namesrv_handler(int32_t code)
{
    switch (code) {
    case REQUEST_GET_ROUTEINFO_BY_TOPIC:
    case REQUEST_REGISTER_BROKER:
    case REQUEST_UNREGISTER_BROKER:
    case REQUEST_GET_BROKER_CLUSTER_INFO:
    case REQUEST_GET_ALL_TOPIC_LIST_FROM_NAMESERVER:
    case REQUEST_GET_TOPICS_BY_CLUSTER:
    case REQUEST_QUERY_DATA_VERSION:
    case REQUEST_PUT_KV_CONFIG:
    case REQUEST_GET_KV_CONFIG:
    case REQUEST_DELETE_KV_CONFIG:
    case REQUEST_GET_KVLIST_BY_NAMESPACE:
    case REQUEST_DELETE_TOPIC_IN_NAMESRV:
    case REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_NS:
    case REQUEST_UPDATE_NAMESRV_CONFIG:
    case REQUEST_GET_NAMESRV_CONFIG:
    case REQUEST_WIPE_WRITE_PERM_OF_BROKER:
    case REQUEST_ADD_WRITE_PERM_OF_BROKER:
        return (struct route_entry){handle_namesrv, false};
    default: /* the code is a number from outside, not an enum */
        return (struct route_entry){NULL, false};
    }
}

/* What people who look after the broker ask of groups, with RocketMQ's tools. */
static struct route_entry find_group_admin_handler(int32_t code)
{
    switch (code) {
    case REQUEST_GET_ALL_CONSUMER_OFFSET:
        return (struct route_entry){handle_all_offsets, true};
    case REQUEST_CLONE_GROUP_OFFSET:
        return (struct route_entry){handle_clone_offsets, true};
    case REQUEST_QUERY_CONSUME_TIME_SPAN:
        return (struct route_entry){handle_time_span, true};
    case REQUEST_QUERY_SUBSCRIPTION_BY_CONSUMER:
        return (struct route_entry){handle_group_subscription, true};
    case REQUEST_INVOKE_BROKER_TO_GET_CONSUMER_STATUS:
        return (struct route_entry){handle_member_status, true};
    case REQUEST_QUERY_TOPIC_CONSUME_BY_WHO:
        return (struct route_entry){handle_topic_groups, true};
    case REQUEST_QUERY_TOPICS_BY_CONSUMER:
        return (struct route_entry){handle_group_topics, true};
    default:
        return find_namesrv_handler(code);
    }
}

/* What they ask of the broker. */
static struct route_entry find_admin_handler(int32_t code)
{
    switch (code) {
    case REQUEST_GET_CONSUMER_CONNECTION_LIST:
        return (struct route_entry){handle_consumer_connections, true};
    case REQUEST_GET_PRODUCER_CONNECTION_LIST:
        return (struct route_entry){handle_producer_connections, true};
    case REQUEST_GET_TOPIC_STATS_INFO:
        return (struct route_entry){handle_topic_stats, true};
    case REQUEST_GET_CONSUME_STATS:
        return (struct route_entry){handle_consume_stats, true};
    case REQUEST_GET_BROKER_CONSUME_STATS:
        return (struct route_entry){handle_all_consume_stats, true};
    case REQUEST_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP:
        return (struct route_entry){handle_update_group, true};
    case REQUEST_GET_ALL_SUBSCRIPTIONGROUP_CONFIG:
        return (struct route_entry){handle_all_groups, true};
    case REQUEST_GET_SUBSCRIPTIONGROUP_CONFIG:
        return (struct route_entry){handle_group_config, true};
    case REQUEST_DELETE_SUBSCRIPTIONGROUP:
        return (struct route_entry){handle_delete_group, true};
    case REQUEST_DELETE_TOPIC_IN_BROKER:
        return (struct route_entry){handle_delete_topic, true};
    case REQUEST_GET_CONSUMER_RUNNING_INFO:
        return (struct route_entry){handle_running_info, true};
    case REQUEST_CONSUME_MESSAGE_DIRECTLY:
        return (struct route_entry){handle_consume_directly, true};
    case REQUEST_UPDATE_BROKER_CONFIG:
        return (struct route_entry){handle_update_config, true};
    case REQUEST_GET_BROKER_CONFIG:
        return (struct route_entry){handle_get_config, true};
    case REQUEST_GET_BROKER_RUNTIME_INFO:
        return (struct route_entry){handle_runtime_info, true};
    case REQUEST_GET_SYSTEM_TOPIC_LIST_FROM_BROKER:
        return (struct route_entry){handle_system_topics, true};
    case REQUEST_CLEAN_UNUSED_TOPIC:
        return (struct route_entry){handle_clean_topics, true};
    case REQUEST_INVOKE_BROKER_TO_RESET_OFFSET:
        return (struct route_entry){handle_reset_offset, true};
    case REQUEST_VIEW_BROKER_STATS_DATA:
        return (struct route_entry){handle_traffic, true};
    case REQUEST_ESCROW_SKIP_DAMAGED:
        return (struct route_entry){handle_skip_damaged, true};
    case REQUEST_QUERY_CONSUME_QUEUE:
        return (struct route_entry){handle_queue_view, true};
    case REQUEST_CLEAN_EXPIRED_CONSUMEQUEUE:
        return (struct route_entry){handle_clean_queues, true};
    case REQUEST_DELETE_EXPIRED_COMMITLOG:
        return (struct route_entry){handle_delete_log, true};
    default:
        return find_group_admin_handler(code);
    }
}

/* Popping. */
static struct route_entry find_pop_handler(int32_t code)
{
    switch (code) {
    case REQUEST_POP_MESSAGE:
        return (struct route_entry){handle_pop, true};
    case REQUEST_ACK_MESSAGE:
        return (struct route_entry){handle_pop_ack, true};
    case REQUEST_BATCH_ACK_MESSAGE:
        return (struct route_entry){handle_pop_batch_ack, true};
    case REQUEST_CHANGE_MESSAGE_INVISIBLETIME:
        return (struct route_entry){handle_pop_change, true};
    case REQUEST_PEEK_MESSAGE:
        return (struct route_entry){handle_pop_peek, true};
    case REQUEST_NOTIFICATION:
        return (struct route_entry){handle_pop_notify, true};
    case REQUEST_POLLING_INFO:
        return (struct route_entry){handle_polling_info, true};
    case REQUEST_QUERY_ASSIGNMENT:
        return (struct route_entry){handle_query_assignment, true};
    case REQUEST_SET_MESSAGE_REQUEST_MODE:
        return (struct route_entry){handle_set_request_mode, true};
    default:
        return find_admin_handler(code);
    }
}

/* What clients that work together ask of each other. */
static struct route_entry find_group_handler(int32_t code)
{
    switch (code) {
    case REQUEST_SEND_REPLY_MESSAGE:
    case REQUEST_SEND_REPLY_MESSAGE_V2:
        return (struct route_entry){handle_send_reply, true};
    case REQUEST_LOCK_BATCH_MQ:
        return (struct route_entry){handle_lock_queues, true};
    case REQUEST_UNLOCK_BATCH_MQ:
        return (struct route_entry){handle_unlock_queues, true};
    default:
        return find_pop_handler(code);
    }
}

static struct route_entry find_handler(int32_t code)
{
    switch (code) {
    case REQUEST_SEND_MESSAGE_V2:
    case REQUEST_SEND_MESSAGE:
    case REQUEST_SEND_BATCH_MESSAGE:
        return (struct route_entry){handle_send, true};
    case REQUEST_PULL_MESSAGE:
    case REQUEST_LITE_PULL_MESSAGE:
        return (struct route_entry){handle_pull, true};
    case REQUEST_END_TRANSACTION:
        return (struct route_entry){handle_end_transaction, true};
    case REQUEST_ESCROW_END_TRANSACTION:
        return (struct route_entry){handle_end_confirmed, true};
    case REQUEST_ESCROW_PUBLISH_BATCH:
        return (struct route_entry){handle_publish_batch, true};
    case REQUEST_ESCROW_SOURCE_OPEN:
        return (struct route_entry){handle_source_open, true};
    case REQUEST_RECALL_MESSAGE:
        return (struct route_entry){handle_recall, true};
    case REQUEST_CONSUMER_SEND_MSG_BACK:
        return (struct route_entry){handle_send_back, true};
    case REQUEST_QUERY_CONSUMER_OFFSET:
        return (struct route_entry){handle_query_offset, true};
    case REQUEST_UPDATE_CONSUMER_OFFSET:
        return (struct route_entry){handle_update_offset, true};
    case REQUEST_GET_MAX_OFFSET:
        return (struct route_entry){handle_max_offset, true};
    case REQUEST_GET_MIN_OFFSET:
        return (struct route_entry){handle_min_offset, true};
    case REQUEST_SEARCH_OFFSET_BY_TIMESTAMP:
        return (struct route_entry){handle_search_offset, true};
    case REQUEST_GET_EARLIEST_MSG_STORETIME:
        return (struct route_entry){handle_earliest_time, true};
    case REQUEST_HEART_BEAT:
        return (struct route_entry){handle_heartbeat, true};
    case REQUEST_UNREGISTER_CLIENT:
        return (struct route_entry){handle_unregister_client, true};
    case REQUEST_GET_CONSUMER_LIST_BY_GROUP:
        return (struct route_entry){handle_consumer_list, true};
    case REQUEST_CHECK_CLIENT_CONFIG:
        return (struct route_entry){handle_check_client, true};
    case REQUEST_QUERY_MESSAGE:
        return (struct route_entry){handle_query_key, true};
    case REQUEST_VIEW_MESSAGE_BY_ID:
        return (struct route_entry){handle_view_message, true};
    case REQUEST_UPDATE_AND_CREATE_TOPIC:
        return (struct route_entry){handle_create_topic, true};
    case REQUEST_GET_ALL_TOPIC_CONFIG:
        return (struct route_entry){handle_all_topics, true};
    case REQUEST_GET_TOPIC_CONFIG:
        return (struct route_entry){handle_topic_config, true};
    case REQUEST_ESCROW_LIST_TRANSACTIONS:
        return (struct route_entry){handle_list_transactions, true};
    case REQUEST_ESCROW_STATUS:
        return (struct route_entry){handle_status, false};
    case REQUEST_ESCROW_LIST_GROUPS:
        return (struct route_entry){handle_list_groups, true};
    case REQUEST_ESCROW_TXN_HORIZON:
        return (struct route_entry){handle_txn_horizon, true};
    default:
        return find_group_handler(code);
    }
}

void dispatch_request(struct request *req)
{
    struct route_entry entry = find_handler(req->header->code);

    if (!access_check(req)) {
        return; /* answered; whether the code exists is nobody's business either */
    }
    if (entry.fn == NULL || (entry.needs_store && req->broker->store == NULL)) {
        request_fail(req, RESPONSE_REQUEST_CODE_NOT_SUPPORTED, ESCROW_ENOTSUP,
                     " request type %d not supported", req->header->code);
    } else if (req->broker->is_draining) {
        request_fail(req, -1, ESCROW_ESHUTDOWN, "the broker is shutting down");
    } else {
        entry.fn(req);
    }
}
