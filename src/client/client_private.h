/*
 * What the files of libescrow share. One loop thread owns everything marked "loop"; public calls
 * reach it by posting tasks; worker threads run handlers and transaction callbacks.
 */
#ifndef SRC_CLIENT_CLIENT_PRIVATE_H
#define SRC_CLIENT_CLIENT_PRIVATE_H

#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/rand.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/mailbox.h"
#include "core/proto/body_heartbeat.h"
#include "core/proto/compress.h"
#include "core/proto/msgid.h"
#include "core/proto/properties.h"
#include "escrow/escrow.h"
#include "src/client/decide.h"
#include "src/client/remote.h"
#include "src/client/router.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define CLIENT_WORKERS_MAX 256
#define CLIENT_TASKS_MAX                                                                           \
    SIZE_MAX /* posting must not fail; memory.max.bytes bounds what tasks hold */
#define CLIENT_GROUP_MAX      256
#define CLIENT_BACKOFF_MS     100  /* first wait before a try is repeated; doubles ... */
#define CLIENT_BACKOFF_MAX_MS 2000 /* ... up to this, up to a quarter more by chance */

/* Something to run on the loop, or on a worker. Embedded in the object it is about. */
struct task {
    struct mail mail; /* first */
    void (*run)(struct task *task);
};

struct escrow_client {
    /* Set by escrow_client_new, then only read. */
    char servers[1024];
    char id[256];
    char access_key[REMOTE_KEY_MAX + 1];
    char secret_key[REMOTE_KEY_MAX + 1]; /* wiped when the loop has started */
    char tls_word[16];
    char tls_ca_file[512], tls_cert_file[512], tls_key_file[512];
    char tls_server_name[256];
    struct tcp_tls_policy tls;
    uint64_t connect_timeout_ms;
    uint64_t route_refresh_ms;
    uint64_t heartbeat_ms;
    uint64_t memory_max;
    uint64_t worker_count;
    enum remote_encoding encoding;
    struct clock *clock;
    /* Any thread. */
    struct mailbox inbox;                  /* tasks to the loop */
    struct mailbox jobs;                   /* tasks to the workers */
    atomic_uint_least64_t memory_used;     /* by sends */
    atomic_uint_least64_t memory_received; /* by messages for handlers and polls */
    atomic_uint_least64_t children;        /* producers and consumers that are not freed */
    uv_thread_t thread;
    uv_thread_t workers[CLIENT_WORKERS_MAX];
    struct waiter started;
    int start_error;
    struct err_ctx start_why; /* code 0: start_error says it all */
    /* Loop. */
    struct loop loop;
    struct remote remote;
    struct router router;
    struct rand rand;
    struct uniq_key_gen ids;
    struct list producers;
    struct list consumers;
    struct gather gather;
    struct loop_timer heartbeat;
    struct list heartbeats; /* on their way: struct heartbeat_call */
};

struct escrow_message {
    char *topic;
    uint8_t *body;
    size_t body_len;
    char *tag;
    char *keys;
    char *ordering_key;
    enum prop_id time_prop; /* DELAY, TIMER_DELAY_MS or TIMER_DELIVER_MS */
    int64_t time_value;     /* 0 = at once */
    struct buf properties;  /* user's: name 0x01 value 0x02 ... */
};

struct escrow_receipt {
    char message_id[MSGID_TEXT_MAX + 1];
    char offset_id[MSGID_TEXT_MAX + 1];
    char broker[ROUTER_NAME_MAX];
    char addr[REMOTE_ADDR_MAX]; /* where a half is, for its decision */
    int32_t queue;
    int64_t offset;
};

struct escrow_producer {
    struct list node; /* client->producers (loop) */
    struct escrow_client *client;
    char group[CLIENT_GROUP_MAX];
    uint64_t retries;
    uint64_t timeout_ms;
    uint64_t body_max;
    uint64_t queues;
    uint64_t compress_over; /* bodies longer than this; 0 = never */
    uint64_t compress_level;
    enum compression compress_how;
    escrow_txn_check_fn *check; /* NULL: does not answer check-backs */
    void *check_arg;
    bool is_txn;
    atomic_uint_least64_t refs; /* the owner's, and one per send, check and decision under way */
    struct waiter idle;         /* signalled by who gives the last one back */
    atomic_uint_least64_t open; /* transactions of escrow_pg_begin that have not ended */
    /* Loop. */
    uint32_t next_queue;
    struct route_lookup lookup; /* of the brokers to heartbeat to */
    struct loop_timer meet;     /* repeats a lookup that failed */
    uint32_t meet_tries;
};

/* A message on its way to a handler or a check callback. */
struct escrow_delivery {
    struct buf record; /* the RocketMQ record */
    char *topic;
    char *message_id;
    char *properties; /* names and values as NUL-terminated strings, one behind the other */
    size_t properties_len;
    const void *body;
    size_t body_len;
    struct slice stored;          /* the body as it is in the record */
    struct buf opened;            /* what it stands for, between delivery_open and delivery_close */
    enum compression packed;      /* how the stored one is compressed */
    enum compression compression; /* and `body`, now */
    char broker[ROUTER_NAME_MAX];
    int32_t queue;
    int64_t offset;
    int64_t born_ms;
    int64_t store_ms;
    int64_t physical_offset;
    int32_t attempt;
};

/* ---- options (options.c) ---- */

struct option_spec {
    const char *key;
    uint64_t *number; /* one of the two is set */
    char *text;
    size_t text_size;
    uint64_t min;
    uint64_t max;
};

/*
 * Read {key, value} pairs into what `specs` point to. ESCROW_ECONFIG with the key in the last
 * error.
 */
ESCROW_MUST_USE int options_read(const struct escrow_option *options,
                                 const struct option_spec *specs, size_t count);

/* Set this thread's escrow_last_error text; returns code. */
int last_error_set(int code, const char *fmt, ...) ESCROW_PRINTF(2, 3);

/* ---- threads (client.c) ---- */

/* Run task->run on the loop. ESCROW_ESHUTDOWN, ESCROW_ELIMIT. Any thread. */
ESCROW_MUST_USE int client_post(struct escrow_client *c, struct task *task);

/* Run task->run on a worker. Any thread. */
ESCROW_MUST_USE int client_work(struct escrow_client *c, struct task *task);

/*
 * Run fn(arg) on the loop and wait until it has returned; on the loop itself at once.
 * ESCROW_ENOMEM, ESCROW_ESHUTDOWN.
 */
ESCROW_MUST_USE int client_call(struct escrow_client *c, void (*fn)(void *arg), void *arg);

/*
 * 0, or ESCROW_EINVAL on the loop thread (in a completion callback), which may not wait. Sets the
 * last error.
 */
ESCROW_MUST_USE int client_may_block(const struct escrow_client *c);

/* Is this one of the client's worker threads? */
bool client_is_worker(const struct escrow_client *c);

/*
 * A free that cannot be done now: the caller returns, and nothing has happened. Sets the last
 * error, and logs a line, since free functions return nothing.
 */
void client_refuse_free(const char *what, const char *why);

/* Take memory for a send; false when memory.max.bytes would be exceeded. Any thread. */
bool client_memory_take(struct escrow_client *c, size_t bytes);
void client_memory_give(struct escrow_client *c, size_t bytes);

/* The same for what was received, which has half of it at most. Loop, but for force and give. */
bool client_received_take(struct escrow_client *c, size_t bytes);
void client_received_force(struct escrow_client *c, size_t bytes); /* also above the limit */
void client_received_give(struct escrow_client *c, size_t bytes);

/* Wait before try number `tries` (1, 2, ...) is repeated, in ms, with jitter. Loop. */
uint64_t client_backoff_ms(struct escrow_client *c, uint32_t tries);

/* ---- heartbeats (heartbeat.c), loop ---- */

/* To every broker of every known route, now. */
void heartbeat_send_all(struct escrow_client *c);

/* To one broker. */
void heartbeat_send_to(struct escrow_client *c, const char *addr);

/*
 * A group leaves: say so to every broker that is connected. field: producerGroup or consumerGroup.
 */
void heartbeat_goodbye(struct escrow_client *c, const char *field, const char *group);
void heartbeat_stop(struct escrow_client *c);

/* ---- producers (producer.c) ---- */

/* Find the brokers and heartbeat to them. Loop. */
void producer_meet(struct escrow_producer *p);

/* Hold a producer while something of it is under way. Any thread. */
void producer_ref(struct escrow_producer *p);
void producer_unref(struct escrow_producer *p);

/* Is escrow_txn_send of this producer in its `execute` on this thread? (txn.c) */
bool txn_is_executing(const struct escrow_producer *p);

/* ---- sending (send.c) ---- */

enum send_kind { SEND_PLAIN, SEND_HALF, SEND_BATCH };

/*
 * One send: routes, picks a queue, tries, retries. Filled by the caller, run on the loop with
 * send_start; `done` is called there exactly once.
 */
struct send_op {
    struct task task;
    struct escrow_producer *producer;
    const char *topic; /* the caller's, until done */
    struct slice body; /* likewise */
    struct slice ordering_key;
    struct slice extra;    /* further properties, likewise the caller's; may be empty */
    struct buf properties; /* complete: UNIQ_KEY included */
    struct buf packed;     /* the body, compressed; empty: it is sent as it is */
    enum send_kind kind;
    bool is_oneway;
    void (*done)(struct send_op *op);
    void *arg;
    /* Results. */
    int error;
    struct escrow_receipt receipt;
    struct err_ctx *why; /* the broker's words about the last refusal; NULL = not wanted */
    /* Private. */
    struct route_lookup lookup;
    struct remote_call call;
    struct loop_timer timer;
    struct route_target target;
    uint32_t tries;
    bool may_be_stored; /* some try ended without an answer */
    int32_t queue_id;
    int64_t born_ms;
};

/*
 * The body of a message, compressed when the producer says so and it gets shorter. ESCROW_ENOMEM.
 * Takes milliseconds: not on the loop.
 */
ESCROW_MUST_USE int send_pack(struct send_op *op, const struct escrow_message *m);

/* Compose properties and id. Loop (ids). ESCROW_ENOMEM, ESCROW_ETOOBIG. */
ESCROW_MUST_USE int send_prepare(struct send_op *op, const struct escrow_message *m);
void send_start(struct send_op *op);
void send_fini(struct send_op *op);

/* What a message counts for in memory.max.bytes. */
size_t send_bytes(const struct escrow_message *m);

/* Send and wait. Not on the loop. */
ESCROW_MUST_USE int send_wait(struct escrow_producer *p, const struct escrow_message *m,
                              enum send_kind kind, struct escrow_receipt *receipt);

/* All messages of one topic as one batch; the receipt is the first one's. Not on the loop. */
ESCROW_MUST_USE int send_batch_wait(struct escrow_producer *p,
                                    const struct escrow_message *const *messages, size_t count,
                                    struct escrow_receipt *receipt);

/*
 * Room for a receipt before the send (out may be NULL: not wanted), and what becomes of it
 * afterwards; returns rc.
 */
ESCROW_MUST_USE int receipt_new(struct escrow_receipt **out);
int receipt_give(int rc, const struct escrow_receipt *from, struct escrow_receipt **out);

/* A deep copy; NULL when out of memory. */
struct escrow_message *message_copy(const struct escrow_message *m);

/* Is the message well-formed for this producer? Sets the last error. */
ESCROW_MUST_USE int message_check(const struct escrow_producer *p, const struct escrow_message *m);

/* ---- check-backs (check.c) and pushes, loop ---- */
void check_on_push(struct escrow_client *c, const char *addr, struct header *header,
                   struct slice body);

/* ---- what brokers ask consumers (asked.c), loop ---- */
void asked_on_push(struct escrow_client *c, const char *addr, struct header *header,
                   struct slice body);

/* ---- deliveries (delivery.c) ---- */

/* Copy a record into a new delivery. ESCROW_EPROTO, ESCROW_ENOMEM. */
ESCROW_MUST_USE int delivery_new(struct slice record, const char *broker,
                                 struct escrow_delivery **out);
void delivery_free(struct escrow_delivery **delivery);

/*
 * Before somebody looks at the body: decompress it. One that is not what it says, or in a way that
 * this library was built without, stays as it is stored. ESCROW_ENOMEM: nothing has changed. Takes
 * milliseconds: not on the loop.
 */
ESCROW_MUST_USE int delivery_open(struct escrow_delivery *d);
void delivery_close(struct escrow_delivery *d); /* only the stored body stays */

/* ---- consumers (consumer.c), loop ---- */
void consumer_on_ids_changed(struct escrow_client *c, struct slice group);
void consumer_fill_heartbeat(struct escrow_client *c, struct heartbeat_consumer *rows, size_t max,
                             size_t *count);

#endif
