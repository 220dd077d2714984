/*
 * Where the relay publishes to: a broker, seen as three requests.
 *
 * The relay knows nothing of connections and protocols. Whoever wires it (src/relay/main.c, a test)
 * hands in a struct sink; the same relay then runs stand-alone, inside a broker, or against a fake
 * that crashes at every step.
 *
 *   open      become the publisher of (source, lane): take the next epoch, learn the stored
 *             position; or only the latter, before
 *   publish   store a batch of messages and the position after it, in one atomic write
 *   horizon   of every broker that can be asked: born time of the oldest half message that nobody
 *             has decided yet
 *
 * What a sink promises:
 *   - A request is the caller's struct from the call until its `cb`. cb runs exactly once, on the
 *     relay's thread, never inside the call that submitted the request, in bounded time, also on
 *     shutdown (ESCROW_ESHUTDOWN).
 *   - Batches reach the broker in the order of the publish calls, and several may be outstanding.
 *   - A batch is stored only if its epoch is the current one and its `prev` is the position stored
 *     at that moment: so when one batch of a pipeline fails, none that follows it is stored. That
 *     is what makes a window of batches exactly once.
 *   - code: 0 the batch is durable. Otherwise escrow_error_class(code) counts: RETRY and ABORT: it
 *     was not stored; UNKNOWN: it may have been stored; FENCED: a newer epoch exists. ESCROW_EAUTH
 *     says that the relay's keys were not accepted; what was in the batch was not looked at.
 *
 * Owns:    nothing; slices and arrays are borrowed from the submit until cb.
 * Thread:  the relay's (one loop).
 */
#ifndef OUTBOX_SINK_H
#define OUTBOX_SINK_H

#include "core/base/list.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Who publishes: the same in every request of one relay. */
struct sink_source {
    struct slice name;  /* 1..127 bytes, unique per outbox */
    struct slice owner; /* host and process, for people; at most 127 bytes */
    uint64_t system_id; /* PostgreSQL's system identifier */
    uint32_t timeline;
    uint32_t lane;
};

struct sink_open;
typedef void sink_open_fn(struct sink_open *open);

struct sink_open {
    struct sink_source source;
    bool may_adopt; /* the stored position may belong to another database system */
    bool is_peek;   /* only learn the position: no epoch is taken, nobody is fenced */
    sink_open_fn *cb;
    void *arg;   /* the caller's */
    void *state; /* the sink's */
    /* Answer, valid during cb. */
    int code;              /* ESCROW_EFOREIGN: the broker knows this source from another database */
    uint64_t epoch;        /* code 0, not is_peek */
    struct slice position; /* code 0; empty: nothing was ever published */
    const char *text;      /* code not 0: one line, never NULL */
};

/* An empty slice means absent. */
struct sink_message {
    struct slice topic;
    struct slice tag;
    struct slice keys;         /* separated by one blank */
    struct slice ordering_key; /* same key: same queue, and order kept */
    struct slice properties;   /* name 0x01 value 0x02 name 0x01 value 0x02 ... */
    struct slice body;
    int64_t born_ms; /* when publish was called, by the database's clock */
    uint64_t row_id; /* unique in the database for ever */
};

struct sink_batch;
typedef void sink_batch_fn(struct sink_batch *batch);

/* Without messages it only moves the position. */
struct sink_batch {
    const struct sink_source *source;
    uint64_t epoch;
    struct slice prev; /* position before the batch; empty: none was ever stored */
    struct slice next; /* position after it, never empty, never equal to prev */
    const struct sink_message *messages;
    size_t message_count;
    size_t size_bytes; /* of all slices in messages */
    sink_batch_fn *cb;
    void *arg;   /* the caller's */
    void *state; /* the sink's */
    /* Answer, valid during cb. */
    int code;
    const char *text; /* code not 0: one line, never NULL */
};

struct sink_horizon;
typedef void sink_horizon_fn(struct sink_horizon *horizon);

#define SINK_BROKERS_MAX     64
#define SINK_BROKER_NAME_MAX 255
#define SINK_AGE_UNKNOWN     INT64_C(3155760000000) /* a hundred years: nothing goes by age */

/* A broker that answered. */
struct sink_broker {
    char name[SINK_BROKER_NAME_MAX + 1]; /* its identity, visible ASCII */
    /* Of its oldest undecided half. None: 0, and the end of its log */
    int64_t oldest_age_ms;  /* by its own clock; SINK_AGE_UNKNOWN: that was set back */
    uint64_t oldest_offset; /* halves at a lower place of its log are all decided */
};

struct sink_horizon {
    sink_horizon_fn *cb;
    void *arg;
    void *state;
    /* Answer. */
    const struct sink_broker *brokers;
    size_t broker_count;
    /*
     * A person has said where all brokers are to be found, and all that are known there have
     * answered.
     */
    bool is_complete;
    const char *missing; /* the first one that did not answer, for people; NULL: all did */
};

/* The functions return nothing: every outcome goes through cb. */
struct sink {
    void (*open)(struct sink *s, struct sink_open *open);
    void (*publish)(struct sink *s, struct sink_batch *batch);
    void (*horizon)(struct sink *s, struct sink_horizon *horizon); /* NULL: not offered */
};

#endif
