/*
 * Counters of the broker since its start. One table: the struct, the names and the help texts
 * cannot drift.
 * Thread: loop.
 */
#ifndef SRC_BROKER_METRICS_H
#define SRC_BROKER_METRICS_H

#include <stdint.h>

/* X(name, help) */
#define BROKER_COUNTERS(X)                                                                         \
    X(requests, "requests received")                                                               \
    X(requests_failed, "requests answered with an error")                                          \
    X(access_unsigned, "requests refused because they were not signed")                            \
    X(access_refused, "requests refused for a wrong key, signature or address")                    \
    X(access_denied, "requests refused because their user may not")                                \
    X(messages_in, "messages stored, halves not counted")                                          \
    X(halves_in, "half messages stored")                                                           \
    X(pulls_beyond_end, "pulls and offsets behind the end of their queue: consumers ahead of it")  \
    X(messages_out, "messages sent to consumers")                                                  \
    X(outbox_batches, "outbox batches stored")                                                     \
    X(sends_refused_full, "sends refused because the disk is full")                                \
    X(sends_refused_busy, "sends refused because too much waits for the disk")                     \
    X(retention_steps, "looks at the disk and at the age of messages")                             \
    X(held_carried, "held messages copied to the end of the log, so that its front can go")        \
    X(callbacks_sent, "HTTP check-backs sent")                                                     \
    X(callbacks_failed, "HTTP check-backs without a valid answer")

struct metrics {
#define X(name, help) uint64_t name;
    BROKER_COUNTERS(X)
#undef X
};

#endif
