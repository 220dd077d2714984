/*
 * What the files of the consumer share: consumer.c (public calls, start and end), rebalance.c (who
 * has which queue), begin.c (where a queue begins), queue.c (pulling it), lock.c (its lock, when it
 * is consumed in order), commit.c (how far), jobs.c (messages on their way through handlers),
 * poll.c (consumers without a handler), subscribe.c (which topics, which
 * queues of them).
 *
 * Owns:    a consumer owns its topics, queues and jobs. A queue lives until its last job is done,
 *          also after it was given away.
 * Thread:  the loop, but what says otherwise.
 * Holds:   queue->in_progress counts its jobs; prefetch[].count counts all jobs, those of the retry
 *          topic apart.
 */
#ifndef SRC_CLIENT_CONSUMER_PRIVATE_H
#define SRC_CLIENT_CONSUMER_PRIVATE_H

#include "core/proto/tags.h"
#include "src/client/client_private.h"
#include "src/client/local_offsets.h"
#include "src/client/progress.h"

#define CONSUMER_TOPICS_MAX      100
#define CONSUMER_ASSIGN_MAX      1024
#define CONSUMER_PAUSES_MAX      1024
#define CONSUMER_TAGS_LEN_MAX    1023 /* of a tag expression */
#define CONSUMER_REBALANCE_MS    20000
#define CONSUMER_RETRY_MS        1000
#define CONSUMER_SUSPEND_MS      15000
#define CONSUMER_CALL_TIMEOUT_MS 5000
#define CONSUMER_LOCK_MS         20000 /* how often a lock is renewed */
#define CONSUMER_LOCK_VALID_MS   30000 /* half of what brokers let it live */
#define CONSUMER_RETRIES         16    /* unless said otherwise; in order: without end */

struct consumer_topic {
    struct escrow_consumer *consumer;
    char topic[256];
    char *expression; /* owned */
    bool is_sql;      /* SQL92: the broker's answer is not looked at again */
    int64_t version;  /* subscription version */
    struct route_lookup lookup;
    struct remote_call members; /* GET_CONSUMER_LIST_BY_GROUP */
    uint32_t asks_failed;       /* in a row: the next broker is asked */
    uint64_t handled;           /* messages that handlers had */
    uint64_t failed;            /* of them */
    int64_t handler_ms;         /* for all of them */
    bool is_member;             /* the broker asked last has heard of us */
    bool is_retry;
    bool is_gone;         /* given up: freed with its last queue */
    uint32_t queue_count; /* queues that have not been freed */
};

/* A place in a queue. */
struct queue_seek {
    enum escrow_seek to;
    int64_t value; /* offset, or ms since 1970 */
};

enum queue_state {
    QUEUE_LOCKING, /* in order: asking for the lock */
    QUEUE_OFFSET,  /* asking where to begin */
    QUEUE_PULLING, /* a pull is out */
    QUEUE_WAITING, /* waits: for room, or to try again */
    QUEUE_PAUSED,  /* left alone until the program resumes it */
    /* given away, or the consumer stops: waits for its handlers and its last commit */
    QUEUE_DROPPED
};

struct consumer_queue {
    struct list node; /* consumer->queues */
    struct escrow_consumer *consumer;
    struct consumer_topic *topic;
    char broker[ROUTER_NAME_MAX];
    char addr[REMOTE_ADDR_MAX];
    uint32_t queue_id;
    enum queue_state state;
    bool is_assigned;          /* scratch of one rebalance */
    bool is_paused;            /* the program said so: it does not pull */
    struct remote_call call;   /* offset query, pull */
    struct remote_call commit; /* offset update */
    struct loop_timer timer;
    struct progress progress;
    int64_t next_offset; /* where the next pull begins */
    int64_t committed;   /* last offset stored at the broker; -1 = none */
    int64_t committing;
    int64_t done;           /* polled: what the program says it is done with; that may be stored */
    struct queue_seek seek; /* the place that is asked for */
    bool has_seek;          /* the program asked for it; else begin where the group is */
    int commit_error;       /* of the last commit */
    int64_t commit_max; /* nothing above it may be stored any more: the queue is another member's */
    int64_t pulled_ms;  /* when the last pull was sent; monotonic */
    int64_t handled_ms; /* when the last handler came back; monotonic */
    bool has_given_up;  /* its last commit failed */
    uint32_t in_progress; /* jobs */
    uint32_t failures;    /* in a row */
    /* In order. */
    struct remote_call lock; /* take or renew */
    struct loop_timer renew;
    int64_t lock_asked_ms;    /* monotonic */
    int64_t locked_ms;        /* when the lock that was granted last was asked for; -1 = none */
    struct list backlog;      /* consume_job.ready: jobs whose turn has not come */
    struct consume_job *turn; /* the one whose turn it is */
};

/* One message on its way through a handler. */
struct consume_job {
    struct task task;
    struct list ready; /* consumer->ready, or consumer->waiting while it is being sent back */
    struct consumer_queue *queue;
    struct escrow_delivery *message;
    struct loop_timer timer; /* could not be sent back: waits to be handled again */
    struct remote_call call; /* send back */
    enum escrow_consume_result result;
    size_t bytes;
    int64_t offset;
    int64_t began_ms; /* when it was given to a handler */
};

/*
 * What a consumer holds of messages; those of the retry topic fail again as a rule and must not
 * keep others out.
 */
struct prefetch {
    uint64_t count;
    uint64_t bytes;
    bool is_full;    /* a message was refused for want of memory */
    bool is_starved; /* a queue waits for room */
};

struct consumer_poll;
struct direct_job;

/* escrow_consumer_commit waits here. */
struct commit_wait {
    struct task task;
    struct waiter waiter;
    struct escrow_consumer *consumer;
    bool has_written; /* broadcast: the file has been tried */
    int error;
};

/* Queues that the program named. */
struct queue_set_name {
    const struct consumer_topic *topic;
    char broker[ROUTER_NAME_MAX]; /* "": every one */
    int32_t queue;                /* -1: every one */
};

struct consumer_pause {
    struct queue_set_name queues;
    bool is_paused; /* or resumed, of more that is paused */
};

/* How the members of a group share queues (core/proto/allocate.h). */
enum consumer_allocation { ALLOCATE_AVERAGE, ALLOCATE_CIRCLE, ALLOCATE_HASH };

struct escrow_consumer {
    struct list node; /* client->consumers */
    struct escrow_client *client;
    char group[CLIENT_GROUP_MAX];
    uint64_t concurrency;
    uint64_t retries_max;
    uint64_t retry_level; /* 0: the broker's rule */
    uint64_t pull_batch;
    uint64_t prefetch_max;
    uint64_t commit_ms;
    uint64_t retry_pause_ms; /* between two tries that are made here */
    uint64_t lock_ms;        /* how often locks are renewed */
    struct queue_seek from;  /* where a new group begins */
    bool commits_by_itself;  /* polled: polling again says that one is done */
    bool is_broadcast;       /* every member has every queue; offsets are kept here */
    bool is_orderly;         /* one message of a queue at a time */
    enum consumer_allocation allocation;
    char offsets_file[LOCAL_OFFSETS_PATH_MAX];
    struct local_offsets local; /* open while a broadcast consumer runs */
    bool has_stored_last;       /* the last write of `local` has been tried */
    bool is_started;            /* the caller's */
    bool is_running;            /* the loop's */
    bool is_stopping;
    escrow_handler_fn *handler; /* worker threads; NULL: the program polls */
    void *handler_arg;
    struct queue_set_name *assigned;
    size_t assign_count;           /* 0: the group's members share */
    bool is_paused;                /* all but what `pauses` says */
    struct consumer_pause *pauses; /* the later one counts */
    size_t pause_count;
    struct consumer_poll *poll;
    struct loop_deferred poll_soon;
    struct commit_wait *commit_wait;
    struct direct_job *direct; /* the message that is consumed because somebody asked for it */
    int64_t started_ms;        /* monotonic */
    struct consumer_topic *topics[CONSUMER_TOPICS_MAX];
    size_t topic_count;
    struct list queues;
    struct list ready;           /* consume_job.ready: jobs that wait for a free handler */
    struct list waiting;         /* consume_job.ready: jobs that are being sent back */
    uint64_t running;            /* handlers at work */
    struct prefetch prefetch[2]; /* by topic->is_retry */
    struct loop_timer rebalance;
    bool rebalance_is_soon; /* the timer is set for a retry */
    struct loop_timer commit;
    struct loop_deferred rebalance_soon;
    struct loop_deferred finish;
    struct waiter *stopped; /* escrow_consumer_free waits here */
    int start_error;
    struct subscription
        subscriptions[CONSUMER_TOPICS_MAX]; /* rows of the heartbeat being written */
};

/* rebalance.c */
void rebalance_start(struct escrow_consumer *k);
void rebalance_now(void *arg);                   /* a loop_fn; arg is the consumer */
void rebalance_retry(struct escrow_consumer *k); /* within a second: something is amiss */
void rebalance_stop(struct escrow_consumer *k);

/* Is it a member of its group, which shares the queues, and the retry topic? */
static inline bool consumer_shares(const struct escrow_consumer *k)
{
    return !k->is_broadcast && k->assign_count == 0;
}

/*
 * Are failed messages tried again here, not by the broker? It would deliver them to another member
 * or, in order, later than their successors.
 */
static inline bool consumer_retries_here(const struct escrow_consumer *k)
{
    return !consumer_shares(k) || k->is_orderly;
}

/* Does a broker say which member may have a queue in hand? */
static inline bool consumer_locks(const struct escrow_consumer *k)
{
    return k->is_orderly && consumer_shares(k);
}

/* Does the program ask for its messages? Of a consumer that is started. */
static inline bool consumer_is_polled(const struct escrow_consumer *k)
{
    return k->handler == NULL;
}

/* queue.c */
ESCROW_MUST_USE int queue_new(struct consumer_topic *t, const char *broker, const char *addr,
                              uint32_t queue_id, struct consumer_queue **out);
void queue_begin(struct consumer_queue *q);  /* lock, ask for the offset, then pull */
void queue_resume(struct consumer_queue *q); /* there is room again */

/* Its broker has another address now. */
void queue_moved(struct consumer_queue *q, const char *addr);

/* Let go of it, for another member (rebalance) or because the consumer stops. May free it. */
void queue_drop(struct consumer_queue *q);

/*
 * The lock is another's by now, or nobody knows whose: nothing is stored, and the queue begins anew
 * when what handlers have in hand is done. May free it.
 */
void queue_lose(struct consumer_queue *q);

/* Free a dropped queue if nothing of it is under way any more. */
void queue_maybe_end(struct consumer_queue *q);

/* Pull, if it is time and there is room. */
void queue_pull(struct consumer_queue *q);

/*
 * Forget what no handler has, and begin there: at once, or when the handlers that have something of
 * it are done.
 */
void queue_go_to(struct consumer_queue *q, const struct queue_seek *to);

/*
 * Leave the queue alone, forgetting what no handler has; or go on behind what is finished, when the
 * handlers that have something of it are done.
 */
void queue_set_paused(struct consumer_queue *q, bool is_paused);

/* Paused no more, and its last job is done: go on. */
void queue_maybe_go_on(struct consumer_queue *q);

/* The broker did not answer as hoped: wait and do the same again, elsewhere if need be. */
void queue_fail(struct consumer_queue *q);

/*
 * Has the queue to end before another of the same name may begin? One that is consumed in order has
 * to, so that not two messages are in hand.
 */
bool queue_is_in_the_way(const struct consumer_queue *q);

/* begin.c */

/*
 * Ask where to begin, then pull: the queue is locked, or need not be. Nothing happens while it has
 * jobs: the last one comes here again.
 */
void begin_ask(struct consumer_queue *q);
void begin_at(struct consumer_queue *q, int64_t offset); /* no jobs; does not pull yet */

/* lock.c */
void lock_ask(struct consumer_queue *q);
bool lock_is_held(const struct consumer_queue *q); /* long enough for a handler to begin */
void lock_moved(struct consumer_queue *q);         /* its broker has another address now */
void lock_give(struct consumer_queue *q);          /* if it is ours; nothing is under way then */

/* commit.c */

/* Store how far the queue is, unless that is known already. */
void queue_commit(struct consumer_queue *q);

/* Store another offset than that of what was consumed: the queue goes on there. */
void commit_offset(struct consumer_queue *q, int64_t offset);

/* All queues of the consumer. */
void commit_all(struct escrow_consumer *k);

/* Something was stored, or could not be: is that all that escrow_consumer_commit waits for? */
void commit_watch(struct escrow_consumer *k);

/* The last write of a broadcast consumer's file; true: consumer_maybe_stopped follows. */
bool commit_is_ending(struct escrow_consumer *k);

/* Is it another member's by now? */
static inline bool queue_is_lost(const struct consumer_queue *q)
{
    return q->commit_max != INT64_MAX;
}

/* jobs.c */

/*
 * A message was pulled: takes it, *message = NULL, its offset is begun. ESCROW_ELIMIT: no memory
 * left for it, queue_resume follows; ESCROW_ENOMEM. On error nothing has changed.
 */
ESCROW_MUST_USE int jobs_take(struct consumer_queue *q, struct escrow_delivery **message);

/* May the queue pull? If not, queue_resume follows when it may. */
bool jobs_have_room(struct consumer_queue *q);

/*
 * Forget the jobs of a dropped queue that no handler has and that are not being sent back: they are
 * delivered again.
 */
void jobs_abandon(struct consumer_queue *q);

/* The next message for a poll, which takes it; its offset is finished. NULL: none is ready. */
struct escrow_delivery *jobs_hand_out(struct escrow_consumer *k);

/* poll.c */
void poll_feed(void *arg); /* a loop_fn: messages are ready; arg is the consumer */

/* subscribe.c */
enum topic_kind {
    KIND_TAGS,
    KIND_SQL,
    KIND_RETRY, /* the group's own, of which everything is wanted */
};

struct consumer_topic *consumer_topic_find(const struct escrow_consumer *k, const char *topic);

/* ESCROW_EEXIST, ESCROW_ELIMIT, ESCROW_ENOMEM. */
ESCROW_MUST_USE int topic_add(struct escrow_consumer *k, const char *topic, const char *expression,
                              enum topic_kind kind);
void topic_free(struct consumer_topic *t);

/* A queue of it was freed. */
void topic_release(struct consumer_topic *t);

/* Does the program want this queue left alone? */
bool consumer_is_paused(const struct consumer_topic *t, const char *broker, uint32_t queue_id);

/* Is the queue one of those that the program chose, if it did? */
bool consumer_has_queue(const struct consumer_topic *t, const char *broker, uint32_t queue_id);

/* consumer.c: its row of a heartbeat; borrows from the consumer until the next call. */
void consumer_describe(struct escrow_consumer *k, struct heartbeat_consumer *row);

/* consumer.c: "TAG" or "SQL92", as the wire has it. */
const char *consumer_type_of(const struct consumer_topic *t);

/* consumer.c: tell escrow_consumer_free when nothing is left; from a later callback. */
void consumer_maybe_stopped(struct escrow_consumer *k);

#endif
