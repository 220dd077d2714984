/* What the files of the push consumer share: consumer.c (public calls, handlers), rebalance.c (who has which queue), queue.c
 * (pulling one queue). Everything here is the loop's, but what says otherwise. */
#ifndef SRC_CLIENT_CONSUMER_PRIVATE_H
#define SRC_CLIENT_CONSUMER_PRIVATE_H

#include "core/proto/tags.h"
#include "src/client/client_private.h"
#include "src/client/progress.h"

#define CONSUMER_TOPICS_MAX      100
#define CONSUMER_REBALANCE_MS    20000
#define CONSUMER_RETRY_MS        1000
#define CONSUMER_SUSPEND_MS      15000
#define CONSUMER_CALL_TIMEOUT_MS 5000
#define CONSUMER_MEMBERS_MAX     1024
#define CONSUMER_DELAY_MAX_MS    7200000 /* 2 h, RocketMQ's longest level */

struct consumer_topic {
    struct escrow_consumer *consumer;
    char topic[256];
    char expression[1024];
    int64_t version; /* subscription version */
    struct route_lookup lookup;
    struct remote_call members; /* GET_CONSUMER_LIST_BY_GROUP */
    bool is_retry;
};

enum queue_state {
    QUEUE_OFFSET,  /* asking where to begin */
    QUEUE_PULLING, /* a pull is out */
    QUEUE_WAITING, /* waits: for room, or to try again */
    QUEUE_DROPPED  /* given away: waits for its handlers, stores nothing more */
};

struct consumer_queue {
    struct list node; /* consumer->queues */
    struct escrow_consumer *consumer;
    struct consumer_topic *topic;
    char broker[ROUTER_NAME_MAX];
    char addr[REMOTE_ADDR_MAX];
    uint32_t queue_id;
    enum queue_state state;
    bool is_assigned; /* scratch of one rebalance */
    bool is_committing;
    struct remote_call call;   /* offset query, pull */
    struct remote_call commit; /* offset update */
    struct loop_timer timer;
    struct progress progress;
    int64_t next_offset; /* where the next pull begins */
    int64_t committed;   /* last offset stored at the broker; -1 = none */
    int64_t committing;
    uint32_t in_progress; /* messages with handlers */
    uint32_t failures;    /* in a row */
};

/* One message on its way through a handler. */
struct consume_job {
    struct task task;
    struct list
        ready; /* consumer->ready, or consumer->waiting while its timer or its send-back is out */
    struct consumer_queue *queue;
    struct escrow_delivery *message;
    struct loop_timer timer; /* waits for its retry time */
    struct remote_call call; /* send back */
    enum escrow_consume_result result;
    size_t bytes;
    int64_t offset;
};

struct escrow_consumer {
    struct list node; /* client->consumers */
    struct escrow_client *client;
    char group[CLIENT_GROUP_MAX];
    uint64_t concurrency;
    uint64_t retries_max;
    uint64_t retry_delay_ms;
    uint64_t pull_batch;
    uint64_t prefetch_max;
    uint64_t commit_ms;
    bool from_last;
    bool is_started;
    bool is_stopping;
    escrow_handler_fn *handler; /* worker threads */
    void *handler_arg;
    struct consumer_topic *topics[CONSUMER_TOPICS_MAX];
    size_t topic_count;
    struct list queues;
    struct list ready; /* consume_job.ready: jobs that wait for a free handler */
    struct list
        waiting; /* consume_job.ready: jobs that wait for their retry time, or to be sent back */
    uint64_t running;    /* handlers at work */
    uint64_t prefetched; /* messages waiting or at work */
    struct loop_timer rebalance;
    struct loop_timer commit;
    struct loop_deferred rebalance_soon;
    struct waiter *stopped; /* escrow_consumer_free waits here */
    struct subscription
        subscriptions[CONSUMER_TOPICS_MAX]; /* rows of the heartbeat being written */
};

/* rebalance.c */
void rebalance_start(struct escrow_consumer *k);
void rebalance_now(void *arg); /* a loop_fn; arg is the consumer */
void rebalance_stop(struct escrow_consumer *k);

/* queue.c */
ESCROW_MUST_USE int queue_new(struct consumer_topic *t, const char *broker, const char *addr,
                              uint32_t queue_id, struct consumer_queue **out);
void queue_begin(struct consumer_queue *q); /* ask for the offset, then pull */
void queue_drop(struct consumer_queue *q);  /* give it away; freed when its handlers are done */
void queue_commit(struct consumer_queue *q);
void queue_free(struct consumer_queue *q);   /* nothing of it is under way */
void queue_resume(struct consumer_queue *q); /* there is room again */

/* consumer.c: a message was pulled; takes it. */
ESCROW_MUST_USE int consumer_take(struct consumer_queue *q, struct escrow_delivery **message);
bool consumer_has_room(const struct escrow_consumer *k);
void consumer_maybe_stopped(struct escrow_consumer *k);

#endif
