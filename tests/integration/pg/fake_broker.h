/*
 * A broker for the relay, in memory: keeps what a broker keeps on disk (epoch, position, messages),
 * answers through the loop, and crashes where a test says so.
 *
 * Owns:    what it has stored. Requests are the relay's.
 * Thread:  the loop.
 */
#ifndef TESTS_INTEGRATION_PG_FAKE_BROKER_H
#define TESTS_INTEGRATION_PG_FAKE_BROKER_H

#include "core/base/buf.h"
#include "core/io_uv/loop.h"
#include "outbox/sink.h"

#include <stdbool.h>
#include <stdint.h>

#define FAKE_OUTSTANDING_MAX 1024

struct fake_message {
    uint64_t row_id;
    size_t batch;
    char topic[32];
    char ordering_key[32];
    char body[48]; /* cut */
    size_t body_len;
};

struct fake_request {
    struct sink_open *open; /* one of the two */
    struct sink_batch *batch;
};

struct fake_broker {
    struct sink sink; /* first */
    struct loop *loop;
    struct loop_deferred work;
    /* Durable. */
    uint64_t epoch;
    struct buf position;
    struct fake_message *log; /* NULL: messages are counted only */
    size_t log_cap;
    size_t log_count;
    size_t batch_count;
    uint64_t bytes;
    /* Not durable. */
    struct fake_request queue[FAKE_OUTSTANDING_MAX];
    size_t queue_count;
    bool holds_batches; /* answers no batch, until released */
    bool is_down;       /* refuses everything */
    int down_code;      /* with this; 0: ESCROW_ECONN */
    struct sink_horizon *horizon;
    struct sink_broker brokers[2]; /* the answer to horizon */
    size_t broker_count;
    bool is_complete;
    /*
     * The crash: at the n-th step (1 = the next), then none. A step is before storing, or after it.
     */
    uint64_t crash_at;
    uint64_t step_count;
    uint64_t crash_count;
    int fail_code;             /* not 0: the next batch is refused with it */
    const char *missing_topic; /* batches with a message for it are refused; NULL: none */
    const char *bad_body;      /* and with one whose body begins so; NULL: none */
};

void fake_broker_init(struct fake_broker *b, struct loop *l, size_t log_cap);
void fake_broker_fini(struct fake_broker *b);

/* Answer what is waiting. */
void fake_broker_release(struct fake_broker *b);

/* Everything outstanding is lost, and its sender is told that the outcome is unknown. */
void fake_broker_crash(struct fake_broker *b);

#endif
