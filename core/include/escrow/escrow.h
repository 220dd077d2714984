/*
 * libescrow: messages that agree with your database.
 *
 * A client finds its brokers through name servers and works against escrowd and against an Apache
 * RocketMQ cluster alike. Three ways to send:
 *
 *   escrow_send            an ordinary message
 *   escrow_txn_send        a half message around a local transaction that you run in a callback,
 *                          with a check callback
 *   escrow_pg_*            (escrow/pg.h) a half message around a PostgreSQL transaction; no
 *                          callbacks at all
 *
 * and one way to receive: a consumer in a group, with a handler that is called (push), or without
 * one, and then it is asked (pull).
 *
 * Threads: every function may be called from any thread. A client has one thread of its own for the
 * network; completion callbacks run on it and must not block: they may call anything here except
 * functions marked "blocks". Handlers and transaction callbacks run on worker threads and may
 * block.
 *
 * Ownership: what an escrow_*_new returns is yours until the matching escrow_*_free; free takes the
 * address of your pointer and sets it to NULL; NULL is fine. A client, producer or consumer that
 * cannot be freed now (said at each) is not: nothing happens, your pointer keeps its value,
 * escrow_last_error says why, and so does a line on standard error. Strings and bytes passed in are
 * copied. Strings passed out belong to the object.
 *
 * Errors: functions return 0 or a negative ESCROW_E... (escrow/errors.h). escrow_error_class says
 * what may be done next; ESCROW_CLASS_UNKNOWN means that the request may have taken effect: do not
 * repeat it as something new. The text of the last error is at escrow_last_error (per thread).
 *
 * Options are {key, value} pairs ended by {NULL, NULL}; NULL means all defaults. An unknown key or
 * a bad value is ESCROW_ECONFIG, with a text that names the key.
 */
#ifndef ESCROW_ESCROW_H
#define ESCROW_ESCROW_H

#include <escrow/errors.h>

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct escrow_option {
    const char *key;
    const char *value;
};

struct escrow_client;
struct escrow_message;
struct escrow_receipt;
struct escrow_producer;
struct escrow_consumer;
struct escrow_delivery;

/* Library version, "0.1.0". */
ESCROW_API const char *escrow_version(void);

/* ---- client ---------------------------------------------------------------------------------- */

/*
 * name_servers: "host:port;host:port". Connects lazily: a name server that is down is not an error
 * here.
 *
 *   client.id              default "<ip>@<pid>#<random>"
 *   header                 "auto" (default: MessagePack to an escrowd, JSON to anything else),
 *                          "msgpack", "json", "rocketmq"
 *   access.key, secret.key what requests are signed with (RocketMQ's ACL); default: not signed.
 *                          Both or none, at most 256 characters
 *   tls                    "off" (default), "on": every connection is encrypted, and the server's
 *                          certificate has to be of a known authority and for its name; or
 *                          "insecure": encrypted, but to whomever answers
 *   tls.ca.file            authorities (PEM); default: those of the system
 *   tls.cert.file, tls.key.file
 *                          certificate of this client and its key (PEM), for servers that ask; the
 *                          key's mode is 0600 (its group may read)
 *   tls.server.name        name that certificates must have; default: the host that is connected
 *                          to. Routes tell brokers by numeric address, which has to be in their
 *                          certificates then
 *   connect.timeout.ms     3000; as much again for the handshake of TLS
 *   route.refresh.ms       30000
 *   heartbeat.ms           30000
 *   memory.max.bytes       67108864: messages waiting to be sent or handled. A send that would
 *                          exceed it is ESCROW_ELIMIT; half of it is for sends alone, so handlers
 *                          can send whatever waits for them
 *   workers                threads for handlers and transaction callbacks, default 4
 *
 * A connection that TLS could not be agreed on costs a line on standard error; the calls that
 * waited for it end with ESCROW_ETLS.
 *
 * Errors: ESCROW_ECONFIG (name servers that are no host:port, files of TLS that cannot be used),
 * ESCROW_ENOMEM, ESCROW_ELIMIT (no thread).
 */
ESCROW_API int escrow_client_new(const char *name_servers, const struct escrow_option *options,
                                 struct escrow_client **out);

/*
 * Blocks: finishes callbacks (ESCROW_ESHUTDOWN for what is under way), closes connections. Not
 * while it has producers or consumers, and not in a callback of its own.
 */
ESCROW_API void escrow_client_free(struct escrow_client **client);

/*
 * One line about the calling thread's last error: what, where, what to do. "" when there was none.
 * Valid until its next call.
 */
ESCROW_API const char *escrow_last_error(void);

/* ---- messages -------------------------------------------------------------------------------- */

/* NULL when out of memory. The topic's name is checked when the message is sent. */
ESCROW_API struct escrow_message *escrow_message_new(const char *topic, const void *body,
                                                     size_t body_bytes);
ESCROW_API void escrow_message_free(struct escrow_message **message);

/* One tag; consumers filter by it. */
ESCROW_API int escrow_message_set_tag(struct escrow_message *message, const char *tag);

/* Keys for look-up, separated by blanks. */
ESCROW_API int escrow_message_set_keys(struct escrow_message *message, const char *keys);

/* Messages with the same ordering key go to the same queue. */
ESCROW_API int escrow_message_set_ordering_key(struct escrow_message *message, const char *key);

/*
 * Deliver it later. The last of the three counts; 0 takes it back. The broker waits, and bounds how
 * long (escrowd: delay.max.ms, three days by default): what is further away is refused by the send.
 * In a transaction a delay begins with the commit. Not in a batch: escrow_send_batch is
 * ESCROW_EINVAL. Against Apache RocketMQ times other than levels need version 5.
 *
 * delay_level: of the broker's table, 1 s 5 s 10 s 30 s 1 min ... by default; 1 to 64.
 * delay_ms: so long after it came. deliver_at_ms: a time of day, ms since 1970; one that has passed
 * means at once. ESCROW_EINVAL: negative, or no such level.
 */
ESCROW_API int escrow_message_set_delay_level(struct escrow_message *message, int32_t delay_level);
ESCROW_API int escrow_message_set_delay(struct escrow_message *message, int64_t delay_ms);
ESCROW_API int escrow_message_set_deliver_at(struct escrow_message *message, int64_t deliver_at_ms);

/*
 * User property; names of RocketMQ's own properties and the bytes 0x01 and 0x02 are ESCROW_EINVAL.
 */
ESCROW_API int escrow_message_set_property(struct escrow_message *message, const char *name,
                                           const char *value);

/* Receipt of a sent message. */
ESCROW_API void escrow_receipt_free(struct escrow_receipt **receipt);
/* UNIQ_KEY: stable over retries */
ESCROW_API const char *escrow_receipt_message_id(const struct escrow_receipt *receipt);
/* where the broker stored it */
ESCROW_API const char *escrow_receipt_offset_id(const struct escrow_receipt *receipt);
ESCROW_API const char *escrow_receipt_broker(const struct escrow_receipt *receipt);
ESCROW_API int32_t escrow_receipt_queue(const struct escrow_receipt *receipt);
/* in the queue; for a half and a delayed message: its log offset */
ESCROW_API int64_t escrow_receipt_offset(const struct escrow_receipt *receipt);

/* ---- producer -------------------------------------------------------------------------------- */

/*
 *   retries                tries after the first, each on another broker when there is one: 2
 *   send.timeout.ms        for one try: 3000
 *   body.max.bytes         4194304
 *   queues                 queues of a topic that is created by the first send: 4
 *   compress.over.bytes    longer bodies are compressed when that makes them shorter: 4096; 0:
 *                          never. Not those of batches
 *   compress.type          "zlib" (default), which everybody reads; "lz4" or "zstd", which
 *                          RocketMQ's Java clients read from 5.0 on. ESCROW_ENOTSUP: the library
 *                          was built without it
 *   compress.level         1 (fast) to 9 (small): 5. LZ4 has none
 */
ESCROW_API int escrow_producer_new(struct escrow_client *client, const char *group,
                                   const struct escrow_option *options,
                                   struct escrow_producer **out);

/*
 * Blocks until nothing of it is under way: sends of other threads, decisions, check callbacks. Not
 * in a completion callback or its own `execute`; not in a handler or check callback when it has a
 * check callback; not while a transaction of escrow_pg_begin is open.
 */
ESCROW_API void escrow_producer_free(struct escrow_producer **producer);

/*
 * Send and wait until the broker has stored the message as durably as it is configured to. Blocks.
 * receipt may be NULL. Errors: RETRY class: nothing was stored. ESCROW_ETIMEOUT, ESCROW_ECLOSED
 * (UNKNOWN): every try may have been stored. ABORT class: the broker or this library refuses this
 * message.
 */
ESCROW_API int escrow_send(struct escrow_producer *producer, const struct escrow_message *message,
                           struct escrow_receipt **receipt);

/*
 * error as for escrow_send; receipt is NULL on error, and is freed after the callback returns. Runs
 * exactly once, never inside escrow_send_async.
 */
typedef void escrow_send_fn(int error, const struct escrow_receipt *receipt, void *arg);

/* An error returned here means that fn will not run. */
ESCROW_API int escrow_send_async(struct escrow_producer *producer,
                                 const struct escrow_message *message, escrow_send_fn *fn,
                                 void *arg);

/* Several messages of one topic, stored all or none, in this order, in one queue. Blocks. */
ESCROW_API int escrow_send_batch(struct escrow_producer *producer,
                                 const struct escrow_message *const *messages, size_t count,
                                 struct escrow_receipt **receipt);

/* No answer is asked for and none is waited for: the message may be lost. */
ESCROW_API int escrow_send_oneway(struct escrow_producer *producer,
                                  const struct escrow_message *message);

/* ---- transactions with callbacks ------------------------------------------------------------- */

enum escrow_txn_state {
    ESCROW_TXN_UNKNOWN = 0,    /* cannot say; will be asked again, and it counts */
    ESCROW_TXN_COMMIT = 8,     /* deliver the message */
    ESCROW_TXN_ROLLBACK = 12,  /* drop it */
    ESCROW_TXN_IN_PROGRESS = 1 /* still running; will be asked again, and it does not count */
};

/*
 * The local transaction. Called once, after the half message is durable. arg is escrow_txn_send's.
 */
typedef enum escrow_txn_state escrow_txn_execute_fn(const struct escrow_message *message,
                                                    const char *transaction_id, void *arg);

/*
 * What became of a transaction, possibly one of another process of the group. arg is
 * escrow_txn_producer_new's.
 */
typedef enum escrow_txn_state escrow_txn_check_fn(const struct escrow_delivery *message,
                                                  const char *transaction_id, void *arg);

/*
 * A producer that answers the broker's check-backs for its group. check may be NULL when something
 * else answers them.
 */
ESCROW_API int escrow_txn_producer_new(struct escrow_client *client, const char *group,
                                       const struct escrow_option *options,
                                       escrow_txn_check_fn *check, void *arg,
                                       struct escrow_producer **out);

/*
 * Half message, local transaction in `execute` (on this thread), durable decision. Blocks. *state
 * (may be NULL) is what execute returned, ESCROW_TXN_UNKNOWN when it was not called. An error after
 * a commit was decided locally is in class UNKNOWN or RETRY: check-back will finish it; the message
 * is not lost. ESCROW_ECONFLICT: the broker had already decided the other way.
 */
ESCROW_API int escrow_txn_send(struct escrow_producer *producer,
                               const struct escrow_message *message, escrow_txn_execute_fn *execute,
                               void *arg, enum escrow_txn_state *state,
                               struct escrow_receipt **receipt);

/* ---- consumer -------------------------------------------------------------------------------- */

enum escrow_consume_result {
    ESCROW_CONSUME_OK = 0, /* done with it */
    /*
     * deliver it again later (retry topic, with back-off; dead-letter queue in the end); in order
     * the queue waits for it
     */
    ESCROW_CONSUME_RETRY = 1
};

typedef enum escrow_consume_result escrow_handler_fn(const struct escrow_delivery *message,
                                                     void *arg);

/*
 *   model                  "cluster" (default): the members of the group share the queues of every
 *                          topic (see allocate), and the brokers keep how far each queue was
 *                          handled; or "broadcast": every member gets every message,
 *                          and keeps that itself, in offsets.file
 *   order                  "off" (default); or "queue": the messages of a queue one after another,
 *                          each when the one before is done. Only one member of the group has a
 *                          queue at a time (the broker locks it); that of a member that died is
 *                          taken over when its lock has run out, after a minute
 *   allocate               how they share, by one of RocketMQ's strategies: "average" (default):
 *                          each a run of neighbouring queues; "circle": queue by queue in turn;
 *                          "hash": consistent hashing, few queues change hands when a member comes
 *                          or goes, but shares differ, and some may be empty. All members of a
 *                          group need the same one, or some queues are nobody's and some have two
 *                          readers. For queues of one's own choice: escrow_consumer_assign
 *   offsets.file           broadcast: the file (its folder is created); default
 *                          $XDG_STATE_HOME/escrow/offsets/GROUP.json, else
 *                          ~/.local/state/escrow/offsets/GROUP.json. Written whole and made durable
 *                          every commit.ms; one consumer at a time: of two processes of one host
 *                          each needs its own
 *   concurrency            handlers at a time: 4
 *   from                   where a new group begins: "first" (default), "last", or ms since 1970:
 *                          at the first message that was stored then or later
 *   retries.max            16; in order: without end
 *   retry.level            delay level of every redelivery; 0 (default): the broker's rule, longer
 *                          each time: level 3, 4, 5 ... = 10 s, 30 s, 1 min ... 2 h. The broker
 *                          waits, not the client
 *   retry.pause.ms         in order, and broadcast: the message that failed is handled again here
 *                          after so long: 1000. After retries.max it goes to the dead-letter queue;
 *                          broadcast: it is dropped, which costs a line on standard error
 *   lock.ms                in order: how often locks are renewed: 20000
 *   pull.batch             32
 *   prefetch.max           messages waiting for a handler, all queues together: 1000. In order
 *                          every queue may have one batch more
 *   commit.ms              how often offsets are stored: 1000
 *   commit                 without a handler: "auto" (default): what a poll returned is done when
 *                          the next one begins; "manual": when escrow_consumer_commit is called
 */
ESCROW_API int escrow_consumer_new(struct escrow_client *client, const char *group,
                                   const struct escrow_option *options,
                                   struct escrow_consumer **out);

/*
 * expression: "*" or "TagA || TagB". Also while the consumer runs, but then not of one with
 * assigned queues (ESCROW_EINVAL). All members of a group should subscribe alike; while they do
 * not, brokers warn. Waits for the client's thread, for no network. ESCROW_EEXIST: it is subscribed
 * already; ESCROW_ELIMIT: more than 100 topics.
 */
ESCROW_API int escrow_consumer_subscribe(struct escrow_consumer *consumer, const char *topic,
                                         const char *expression);

/*
 * The same. Only messages whose properties make the SQL92 expression true ("color = 'blue' AND
 * price > 9.5"); the broker decides. ESCROW_EINVAL or ESCROW_ELIMIT: escrow_last_error names the
 * column and what is wrong there. An Apache RocketMQ broker needs enablePropertyFilter=true.
 */
ESCROW_API int escrow_consumer_subscribe_sql(struct escrow_consumer *consumer, const char *topic,
                                             const char *expression);

/*
 * Before start, also more than once: this consumer reads these queues of a subscribed topic,
 * whatever others do, and is no member of its group: no broker tells it anything, and the members'
 * shares are as if it were not there. broker NULL: of every broker; queue -1: every queue. What a
 * handler fails at is handled again here, as in order. Each subscribed topic needs a queue.
 */
ESCROW_API int escrow_consumer_assign(struct escrow_consumer *consumer, const char *topic,
                                      const char *broker, int32_t queue);

/*
 * No more of this topic, also while the consumer runs: its queues are the other members', what no
 * handler and no poll has of them is forgotten, and how far they are is stored. Handlers that have
 * a message of it go on. May be subscribed again. Waits for the client's thread, for no network.
 * ESCROW_ENOTFOUND: it is not subscribed.
 */
ESCROW_API int escrow_consumer_unsubscribe(struct escrow_consumer *consumer, const char *topic);

/*
 * Leave queues alone, and go on with them: of a subscribed topic (broker NULL: of every broker;
 * queue -1: every queue), or, topic NULL, everything, retries included. What was said last about a
 * queue counts, also for one that is ours only later. At any time, in a handler, too; waits for the
 * client's thread, for no network.
 *
 * When pause returns no handler begins with a message of them and no poll returns one; handlers
 * that have one go on, offsets are stored, and the queues stay ours. Nothing is kept here
 * meanwhile: a queue that is resumed goes on behind what is done. In order, a message that failed
 * is counted anew.
 *
 * ESCROW_ENOTFOUND: the topic is not subscribed. ESCROW_EINVAL: a broker or queue of no topic, a
 * name too long. ESCROW_ELIMIT: more than 1024 exceptions from what holds for more.
 */
ESCROW_API int escrow_consumer_pause(struct escrow_consumer *consumer, const char *topic,
                                     const char *broker, int32_t queue);
ESCROW_API int escrow_consumer_resume(struct escrow_consumer *consumer, const char *topic,
                                      const char *broker, int32_t queue);

/*
 * handler NULL: messages are asked for with escrow_consumer_poll.
 *
 * Errors: ESCROW_EEXIST (this client has a consumer of the group already); broadcast, and nothing
 * has begun: ESCROW_ELOCKED (offsets.file is another consumer's), ESCROW_ECORRUPT (it is no such
 * file), ESCROW_ECONFIG (no home folder), and what the disk says.
 */
ESCROW_API int escrow_consumer_start(struct escrow_consumer *consumer, escrow_handler_fn *handler,
                                     void *arg);

/*
 * Without a handler. Wait until there are messages, and take up to max of them, those of a queue in
 * their order. They are yours: escrow_delivery_free. *count is 0 after timeout_ms (0: do not wait;
 * negative: wait for ever). Blocks; one thread at a time, others get ESCROW_EBUSY.
 */
ESCROW_API int escrow_consumer_poll(struct escrow_consumer *consumer, int64_t timeout_ms,
                                    struct escrow_delivery **messages, size_t max, size_t *count);
ESCROW_API void escrow_delivery_free(struct escrow_delivery **delivery);

/*
 * Everything that polls have returned is done; returns when that is stored. Blocks.
 * escrow_consumer_free stores what was done before, not what the last poll returned. An error: not
 * all of it is stored, what is not comes again. Queues that meanwhile are another member's are
 * passed over.
 */
ESCROW_API int escrow_consumer_commit(struct escrow_consumer *consumer);

enum escrow_seek {
    ESCROW_SEEK_OFFSET = 0, /* value: an offset; one outside the queue becomes its nearest end */
    ESCROW_SEEK_FIRST = 1,
    ESCROW_SEEK_LAST = 2, /* behind the last message there is */
    ESCROW_SEEK_TIME = 3  /* value: ms since 1970; the first message stored then or later */
};

/*
 * The next poll goes on elsewhere in these queues of ours (broker NULL: of every broker; queue -1:
 * every queue); that counts as done. Blocks. ESCROW_ENOTFOUND: there is no such queue, or it is not
 * ours yet: poll first.
 */
ESCROW_API int escrow_consumer_seek(struct escrow_consumer *consumer, const char *topic,
                                    const char *broker, int32_t queue, enum escrow_seek to,
                                    int64_t value);

/*
 * Blocks: waits for running handlers, stores offsets, leaves the group. Not in a handler or another
 * callback of its client: return from it first.
 */
ESCROW_API void escrow_consumer_free(struct escrow_consumer **consumer);

ESCROW_API const char *escrow_delivery_topic(const struct escrow_delivery *message);
ESCROW_API const char *escrow_delivery_message_id(const struct escrow_delivery *message);
ESCROW_API const void *escrow_delivery_body(const struct escrow_delivery *message, size_t *bytes);

/*
 * NULL: the body is what was sent. "zlib", "lz4", "zstd", "unknown": it is as it was stored,
 * compressed so, because it is damaged, stands for more than 16 MiB, or this library was built
 * without lz4 or zstd.
 */
ESCROW_API const char *escrow_delivery_compression(const struct escrow_delivery *message);
ESCROW_API const char *escrow_delivery_property(const struct escrow_delivery *message,
                                                const char *name); /* NULL when absent */
ESCROW_API const char *escrow_delivery_tag(const struct escrow_delivery *message);
ESCROW_API const char *escrow_delivery_keys(const struct escrow_delivery *message);
ESCROW_API const char *escrow_delivery_broker(const struct escrow_delivery *message);
ESCROW_API int32_t escrow_delivery_queue(const struct escrow_delivery *message);
ESCROW_API int64_t escrow_delivery_offset(const struct escrow_delivery *message);
ESCROW_API int64_t escrow_delivery_born_ms(const struct escrow_delivery *message);
ESCROW_API int64_t escrow_delivery_stored_ms(const struct escrow_delivery *message);
/* 0 the first time */
ESCROW_API int32_t escrow_delivery_attempt(const struct escrow_delivery *message);

#ifdef __cplusplus
}
#endif

#endif
