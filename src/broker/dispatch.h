/*
 * Request code -> handler. One line per code in dispatch.c; the handlers live in
 * handle_<request>.c.
 * Thread: loop.
 */
#ifndef SRC_BROKER_DISPATCH_H
#define SRC_BROKER_DISPATCH_H

#include "src/broker/session.h"

typedef void request_fn(struct request *req);

/*
 * Run the handler of req->header->code; answers REQUEST_CODE_NOT_SUPPORTED when there is none. The
 * request is finished when it returns (answered, failed or deferred).
 */
void dispatch_request(struct request *req);

/* Handlers, by file. Each finishes its request. */
request_fn handle_send;                 /* 10, 310, 320: handle_send.c */
request_fn handle_send_back;            /* 36: handle_send_back.c */
request_fn handle_recall;               /* 370: handle_recall.c */
request_fn handle_send_reply;           /* 324, 325: handle_reply.c */
request_fn handle_pull;                 /* 11, 361: handle_pull.c */
request_fn handle_pop;                  /* 200050: handle_pop.c */
request_fn handle_pop_ack;              /* 200051: handle_pop_ack.c */
request_fn handle_pop_batch_ack;        /* 200151 */
request_fn handle_pop_change;           /* 200053 */
request_fn handle_pop_peek;             /* 200052: handle_pop_look.c */
request_fn handle_pop_notify;           /* 200054 */
request_fn handle_polling_info;         /* 200055 */
request_fn handle_query_assignment;     /* 400: handle_assignment.c */
request_fn handle_set_request_mode;     /* 401 */
request_fn handle_end_transaction;      /* 37: handle_end_transaction.c */
request_fn handle_end_confirmed;        /* 30001: handle_end_confirmed.c */
request_fn handle_query_offset;         /* 14: handle_offset.c */
request_fn handle_update_offset;        /* 15 */
request_fn handle_max_offset;           /* 30 */
request_fn handle_min_offset;           /* 31 */
request_fn handle_search_offset;        /* 29 */
request_fn handle_earliest_time;        /* 32 */
request_fn handle_heartbeat;            /* 34: handle_client.c */
request_fn handle_unregister_client;    /* 35 */
request_fn handle_consumer_list;        /* 38 */
request_fn handle_check_client;         /* 46 */
request_fn handle_lock_queues;          /* 41: handle_lock.c */
request_fn handle_unlock_queues;        /* 42 */
request_fn handle_query_key;            /* 12: handle_query.c */
request_fn handle_view_message;         /* 33 */
request_fn handle_create_topic;         /* 17: handle_topic.c */
request_fn handle_all_topics;           /* 21 */
request_fn handle_delete_topic;         /* 215 */
request_fn handle_topic_config;         /* 351 */
request_fn handle_update_group;         /* 200: handle_group.c */
request_fn handle_all_groups;           /* 201 */
request_fn handle_delete_group;         /* 207 */
request_fn handle_group_config;         /* 352 */
request_fn handle_running_info;         /* 307: handle_relay.c */
request_fn handle_consume_directly;     /* 309 */
request_fn handle_update_config;        /* 25: handle_admin.c */
request_fn handle_get_config;           /* 26 */
request_fn handle_runtime_info;         /* 28 */
request_fn handle_system_topics;        /* 305 */
request_fn handle_clean_topics;         /* 316 */
request_fn handle_clean_queues;         /* 306 */
request_fn handle_delete_log;           /* 329 */
request_fn handle_reset_offset;         /* 222: handle_reset.c */
request_fn handle_topic_stats;          /* 202: handle_stats.c */
request_fn handle_consume_stats;        /* 208 */
request_fn handle_traffic;              /* 315 */
request_fn handle_all_consume_stats;    /* 317 */
request_fn handle_queue_view;           /* 321: handle_query.c */
request_fn handle_consumer_connections; /* 203: handle_members.c */
request_fn handle_producer_connections; /* 204 */
request_fn handle_topic_groups;         /* 300 */
request_fn handle_group_topics;         /* 343 */
request_fn handle_group_subscription;   /* 345 */
request_fn handle_all_offsets;          /* 43: handle_group_offsets.c */
request_fn handle_clone_offsets;        /* 314 */
request_fn handle_time_span;            /* 303: handle_time_span.c */
request_fn handle_member_status;        /* 223: handle_relay.c */
request_fn handle_publish_batch;        /* 30002: handle_source.c */
request_fn handle_source_open;          /* 30003 */
request_fn handle_list_transactions;    /* 30004: handle_inspect.c */
request_fn handle_status;               /* 30005 */
request_fn handle_list_groups;          /* 30006 */
request_fn handle_txn_horizon;          /* 30007 */
request_fn handle_skip_damaged;         /* 30008: handle_skip.c */
request_fn handle_namesrv;              /* 100..106, 206..., on either port: handle_namesrv.c */

#endif
