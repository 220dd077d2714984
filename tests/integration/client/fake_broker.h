/*
 * A name server and broker in one, in memory, that misbehaves where a test says so: one topic, one
 * queue, one group, one connection to each client. It speaks JSON headers only, as a foreign broker
 * does.
 *
 * Owns:    sockets and a thread.
 * Thread:  the test's; the fake_ functions are for any thread.
 * Errors:  in the thread they end the process.
 */
#ifndef TESTS_INTEGRATION_CLIENT_FAKE_BROKER_H
#define TESTS_INTEGRATION_CLIENT_FAKE_BROKER_H

#include "core/base/buf.h"
#include "core/proto/header.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#define FAKE_CONNECTIONS_MAX 16
#define FAKE_TOPIC           "Fake"
#define FAKE_GROUP           "readers"

struct fake_connection {
    int fd; /* -1: free */
    struct buf in;
    bool is_silent;      /* what comes is read and not answered */
    int32_t held_opaque; /* a pull that waits for messages; 0 = none */
    int64_t held_offset;
};

struct fake_broker {
    char addr[64];
    int listen_fd;
    int wake_fd;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* With the lock. */
    bool is_stopping;
    char route[64]; /* the broker's address as the route says it; "" = there is none */
    int64_t min;    /* the queue holds messages min..max-1, whose bodies are "m<offset>" */
    int64_t max;
    int64_t stored;    /* the group's offset; -1 = none */
    bool has_moved_to; /* every pull is told OFFSET_MOVED ... */
    int64_t moved_to;
    uint64_t pulls; /* how many came */
    uint64_t pings; /* heartbeats */
    uint64_t accepted;
    uint64_t closed; /* by the client, or cut */
    uint64_t sends;  /* that came */
    uint64_t cuts;   /* so many sends from now on are not answered: the connection is closed */
    char client_id[256];
    struct fake_connection connections[FAKE_CONNECTIONS_MAX]; /* the thread's */
    struct header header;                                     /* the thread's */
};

/* A queue with messages min..max-1, and a group that is at `stored` (-1: was never there). */
void fake_start(struct fake_broker *f, int64_t min, int64_t max, int64_t stored);
void fake_stop(struct fake_broker *f);

/* The queue holds this from now on; held pulls are looked at again. */
void fake_set_range(struct fake_broker *f, int64_t min, int64_t max);

/* The route names this address. */
void fake_set_route(struct fake_broker *f, const char *addr);

/* The connections that are open now get no answer any more; new ones do. */
void fake_fall_silent(struct fake_broker *f);

/* The connections of the next `count` sends are closed instead of an answer. */
void fake_cut_sends(struct fake_broker *f, uint64_t count);

/* Every pull is told that its offset moved to this one. */
void fake_move_to(struct fake_broker *f, int64_t offset);

/* Wait until *counter, one of f, is at least `least`. Fails the test after RIG_WAIT_MS. */
void fake_wait(struct fake_broker *f, const uint64_t *counter, uint64_t least);

/* Wait until the group's offset is stored as that. */
void fake_wait_stored(struct fake_broker *f, int64_t offset);

uint64_t fake_read(struct fake_broker *f, const uint64_t *counter);

#endif
