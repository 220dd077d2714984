/*
 * Stands between libescrow and an escrowd: says how many halves each ESCROW_END_TRANSACTION had,
 * and makes mischief with a chosen one.
 *
 * Owns:    a socket that listens, and a thread that serves one connection after another.
 * Thread:  the test's; the results are the thread's until end_proxy_stop.
 * Errors:  in the thread they end the process.
 */
#ifndef TESTS_INTEGRATION_CLIENT_END_PROXY_H
#define TESTS_INTEGRATION_CLIENT_END_PROXY_H

#include "core/base/buf.h"
#include "core/proto/header.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define END_PROXY_REQUESTS_MAX 16

enum end_mischief {
    END_NONE,
    END_CUT_REQUEST,   /* the connection is lost before the request reaches the broker */
    END_CUT_ANSWER,    /* the broker has answered; the connection is lost before the client hears */
    END_SAY_HELD_BACK, /* instead of the broker: every half is held back, and none refused */
    END_SAY_TOO_LITTLE /* instead of the broker: all are decided, without a word of the last one */
};

struct end_proxy {
    char addr[64];
    /* Results. */
    size_t count;                            /* requests that came */
    uint32_t halves[END_PROXY_REQUESTS_MAX]; /* of each */
    bool is_done;                            /* the mischief */
    /* Private. */
    char broker[64];
    enum end_mischief mischief;
    size_t at;
    int listen_fd;
    int stop_fd;
    pthread_t thread;
    int32_t cut_opaque; /* of the request whose answer is cut; 0 = none */
    struct header header;
    struct buf from_client;
    struct buf from_broker;
};

/* broker: "127.0.0.1:port". The mischief is with request number `at`; the first is 1. */
void end_proxy_start(struct end_proxy *p, const char *broker, enum end_mischief mischief,
                     size_t at);
void end_proxy_stop(struct end_proxy *p);

#endif
