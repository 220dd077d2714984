/*
 * Asks every broker that may hold half messages for its horizon: the relay's own, those listed, and
 * those that the name servers know at that moment.
 *
 * Halves are at whatever brokers the services use, and several brokers may hold halves of one
 * database; each answers for itself, under its own name (ESCROW_TXN_HORIZON).
 *
 * Owns:    the calls. The remote is borrowed.
 * Thread:  the loop of the remote.
 * Holds:   one question at a time; its cb runs exactly once, never inside horizons_ask, also when
 *          the remote is stopped.
 */
#ifndef SRC_RELAY_HORIZONS_H
#define SRC_RELAY_HORIZONS_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "outbox/sink.h"
#include "src/client/remote.h"

#include <stdint.h>

struct horizons;

struct horizons_config {
    const char *broker;  /* "host:port" */
    const char *brokers; /* further ones: "host:port,host:port", or "" */
    const char *namesrv; /* name servers, the same way */
    uint64_t timeout_ms; /* of each request */
};

/* A list as above. ESCROW_ECONFIG: an address that is none (named after `what`), or too many. */
ESCROW_MUST_USE int horizons_check_list(const char *what, const char *list, struct err_ctx *err);

/* cfg's strings are copied; they are lists that horizons_check_list takes. NULL: out of memory. */
struct horizons *horizons_new(struct remote *remote,
                              const struct horizons_config *cfg) ESCROW_MUST_USE;
void horizons_free(struct horizons *h); /* nothing is under way. NULL is fine */

void horizons_ask(struct horizons *h, struct sink_horizon *question);

#endif
