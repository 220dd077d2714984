/*
 * escrow bench: one load generator for everything that is to be compared, on one loop thread.
 *
 *     bench.c           options, set-up (topic, route, kind of server), the phases
 *     bench_frame.c     requests, built once and patched: opaque, time, unique key
 *     bench_conn.c      connections, slots, answers: producer, consumer, other brokers
 *     bench_txn.c       half, decision, decision's answer
 *     bench_report.c    counters to text and JSON
 *
 * A *slot* is one thing in flight on a connection: a message, a transaction, a pull. Closed loop: a
 * slot that ends begins again. Open loop (--rate): messages fall due on a grid of BENCH_TICK_NS and
 * take a free slot; their latency counts from when they were due, so that waiting for a slot is not
 * forgotten.
 *
 * Owns:    connections, slots, counters.
 * Thread:  loop.
 * Holds:   slots in flight + free slots == connections x window (per open connection).
 */
#ifndef SRC_TOOLS_BENCH_H
#define SRC_TOOLS_BENCH_H

#include "core/base/rand.h"
#include "core/io_uv/tcp.h"
#include "core/proto/header.h"
#include "core/proto/record.h"
#include "src/tools/cli.h"
#include "src/tools/histogram.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BENCH_CONNECTIONS_MAX 4096
#define BENCH_WINDOW_MAX      16384
#define BENCH_QUEUES_MAX      1024
#define BENCH_ERRORS_MAX      8      /* kinds of errors told apart */
#define BENCH_BODY_SPREAD     65536  /* random bytes from which bodies are cut */
#define BENCH_TICK_NS         200000 /* open loop */
#define BENCH_DRAIN_MS        5000   /* how long to wait for the last answers */
#define BENCH_KEY_LEN         32
#define BENCH_OPAQUE          1000000000 /* + slot; ten digits, so that patching keeps the length */
#define BENCH_OPAQUE_END      1500000000 /* + first slot of the batch */
#define BENCH_SLOT_NONE       UINT32_MAX

enum bench_mode { BENCH_PRODUCER, BENCH_TXN, BENCH_CONSUMER };
enum bench_driver { BENCH_ROCKETMQ, BENCH_REDIS, BENCH_BEANSTALKD };
enum bench_end { BENCH_END_CONFIRMED, BENCH_END_ANSWERED, BENCH_END_ONEWAY };

struct bench_options {
    enum bench_mode mode;
    enum bench_driver driver;
    enum header_type header;
    enum bench_end end;
    const char *topic;
    const char *group;
    uint64_t size_bytes;
    uint64_t delay_ms; /* 0: delivered at once */
    uint64_t connections;
    uint64_t window;
    uint64_t queues; /* 0: what the topic has */
    uint64_t duration_ms;
    uint64_t warmup_ms;
    uint64_t count; /* 0: by time */
    uint64_t rate;  /* per second; 0: closed loop */
    uint64_t end_batch;
    uint64_t rollback_percent;
    uint64_t leave_percent; /* halves left undecided */
    uint64_t pull_max;
    uint64_t server_pid; /* 0: not measured */
    bool is_from_end;    /* consumer */
    bool is_quiet;
};

/* A request with holes. */
struct bench_frame {
    struct buf head; /* frame without the body */
    size_t opaque_at;
    size_t born_at; /* 0 = none */
    size_t key_at;  /* the last 12 characters of the unique key; 0 = none */
    enum header_type type;
};

struct bench_slot {
    int64_t start_ns;
    int64_t offset;       /* txn: of the half. consumer: next offset of the queue */
    int64_t table_offset; /* txn: what the answer to the half calls queueOffset */
    uint64_t seq;         /* number of the message */
    uint32_t next;        /* free list, decision list */
    int32_t queue;        /* consumer */
    bool is_busy;
    bool is_rollback; /* txn: of the batch that begins here */
};

struct bench;

struct bench_conn {
    struct tcp_conn conn; /* first */
    struct bench *bench;
    struct bench_slot *slots;
    uint32_t slot_count;
    uint32_t free_head; /* rocketmq: list of free slots */
    uint32_t fifo;      /* redis, beanstalkd: answers come in order; the slot answered next */
    uint32_t in_flight;
    uint32_t end_head[2]; /* txn: halves that wait for their decision; [0] commit, [1] rollback */
    int32_t queue;        /* next queue of a message */
    bool is_open;
    bool has_ends; /* in bench->ending */
    struct list ending;
};

struct bench_error {
    int32_t code;
    uint64_t count;
    char text[96];
};

/* What is measured, between two calls of bench_usage. */
struct bench_usage {
    double self_s;
    double server_s;
    uint64_t server_rss;
};

struct bench {
    struct bench_options options;
    struct cli *cli;
    struct loop *loop;
    struct tcp tcp;
    struct tcp_options tcp_options;
    struct clock *clock;
    struct rand rand;
    char addr[REMOTE_ADDR_MAX];
    char host[REMOTE_ADDR_MAX];
    uint16_t port;
    int32_t queues;

    struct bench_conn *conns;
    uint32_t conn_count;
    uint32_t open_count;
    uint32_t next_conn;         /* open loop: the one that is served next */
    struct bench_frame *frames; /* one per queue */
    uint8_t *bodies;
    char key[BENCH_KEY_LEN + 1];
    struct header header; /* of answers */
    struct list ending;   /* connections with decisions to send */
    struct loop_hook end_hook;
    struct loop_timer phase;
    struct loop_timer progress;

    bool is_running; /* slots begin again */
    bool is_measuring;
    bool is_failed;
    uint64_t issued;
    uint64_t in_flight;
    uint64_t done; /* all, warm-up included */
    uint64_t progress_done;
    int64_t started_ns; /* of the measured time */
    int64_t ended_ns;
    struct bench_usage usage[2];

    uint64_t measured;
    uint64_t measured_bytes;
    uint64_t late;    /* open loop: due, and no slot free */
    uint64_t missing; /* no answer when all was over */
    uint64_t committed, rolled_back, left;
    struct bench_error errors[BENCH_ERRORS_MAX];
    size_t error_count;
    struct histogram latency; /* ns */
    struct histogram second;  /* of the last second, for the progress line */

    int tick_fd; /* open loop */
    uv_poll_t tick;
    int64_t due_ns;      /* when the next message is due */
    double due_fraction; /* of a nanosecond, carried over */
};

/* ---- bench_frame.c ---- */

/*
 * Bodies, and frames of a send: one per queue (none for the other brokers, which have no queues).
 * ESCROW_ENOMEM, ESCROW_ETOOBIG.
 */
ESCROW_MUST_USE int bench_frames_make(struct bench *b);
void bench_frames_free(struct bench *b);

/* Append one send to `out`: message number seq, in slot. */
void bench_frame_put(struct bench *b, struct buf *out, int32_t queue, uint32_t slot, uint64_t seq);

/* The unique key of message number seq, BENCH_KEY_LEN characters and NUL. */
void bench_key(const struct bench *b, uint64_t seq, char text[BENCH_KEY_LEN + 1]);

/* The other brokers' requests: one message of options.size_bytes. */
void bench_put_redis(struct bench *b, struct buf *out, uint64_t seq);
void bench_put_beanstalkd(struct bench *b, struct buf *out, uint64_t seq);

/* A pull of the slot's queue from the slot's offset. */
void bench_put_pull(struct bench *b, struct buf *out, const struct bench_slot *slot,
                    uint32_t index);

/* ---- bench_conn.c ---- */

/*
 * Connect all; the loop is stopped when all are open or one failed. ESCROW_ENOMEM, ESCROW_EINVAL.
 */
ESCROW_MUST_USE int bench_connect(struct bench *b);
void bench_disconnect(struct bench *b);

/* Fill every free slot (closed loop), or begin to follow the schedule. */
ESCROW_MUST_USE int bench_begin(struct bench *b);
void bench_tick_stop(struct bench *b);

/*
 * A slot is over. error 0 counts; anything else is noted under its code and text. The slot begins
 * again when it may.
 */
void bench_slot_done(struct bench_conn *c, uint32_t index, int32_t code, struct slice text);

void bench_note_error(struct bench *b, int32_t code, struct slice text);

/* ---- bench_txn.c ---- */

/* The half of a slot was answered. */
void bench_txn_half(struct bench_conn *c, uint32_t index, struct header *answer);

/* A decision was answered. */
void bench_txn_end(struct bench_conn *c, uint32_t first, struct header *answer, struct slice body);

/* LOOP_BEFORE_SLEEP: send what the iteration has collected. */
void bench_txn_flush(void *arg);

/* ---- bench_report.c ---- */

void bench_usage_read(const struct bench *b, struct bench_usage *usage);
void bench_progress(struct bench *b);
void bench_report_text(const struct bench *b);
ESCROW_MUST_USE int bench_report_json(const struct bench *b);

/* The subcommand. */
int bench_main(int argc, char **argv);

#endif
