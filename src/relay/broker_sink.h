/*
 * The sink of escrow-relay: an escrowd, reached through its name servers.
 *
 * Every source lives at one broker: its positions are there. It is the one that is named, or else the first by name that the
 * name servers know when the source is opened.
 *
 * Owns:    requests on their way; the remote and the router are borrowed.
 * Thread:  the loop.
 * Holds:   what outbox/sink.h promises.
 */
#ifndef SRC_RELAY_BROKER_SINK_H
#define SRC_RELAY_BROKER_SINK_H

#include "outbox/sink.h"
#include "src/client/remote.h"
#include "src/client/router.h"

struct broker_sink {
    struct sink sink; /* first */
    struct remote *remote;
    struct router *router;
    char broker[ROUTER_NAME_MAX]; /* "" = any */
    char addr[REMOTE_ADDR_MAX];   /* where the source was opened; "" = not yet */
    uint64_t timeout_ms;
    /* Requests for which there was no memory: ended from a deferred call. Linked through their `state`. */
    struct loop_deferred fail;
    struct sink_open *failed_opens;
    struct sink_batch *failed_batches;
    struct sink_horizon *failed_horizons;
};

/* broker: its name, or "" for the first. */
void broker_sink_init(struct broker_sink *s, struct remote *remote, struct router *router,
                      const char *broker);

/* Nothing is under way any more (the remote was stopped). */
void broker_sink_fini(struct broker_sink *s);

#endif
