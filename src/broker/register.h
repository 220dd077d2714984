/*
 * Registrar: tells the name servers that this broker is there and which topics it has: the built-in
 * one directly, others by REGISTER_BROKER every 30 seconds and at once after a change;
 * UNREGISTER_BROKER at the end.
 *
 * Owns:    one connection to each configured name server.
 * Thread:  loop.
 * Errors:  a name server that is down costs a log line and is tried again; nothing else waits for
 *          it. One that refuses this broker (its name is held by another) costs an error line, the
 *          same one at most once a minute, and is asked again every few seconds.
 */
#ifndef SRC_BROKER_REGISTER_H
#define SRC_BROKER_REGISTER_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/err.h"
#include "core/io_uv/loop.h"
#include "core/io_uv/tcp.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct broker;

#define REGISTER_PERIOD_MS   30000
#define REGISTER_RETRY_MS    2000
#define REGISTER_REFUSED_MS  5000  /* after a refusal: ask again */
#define REGISTER_REPEAT_MS   60000 /* the same refusal is logged again */
#define REGISTER_REMARK_MAX  511
#define REGISTER_SERVERS_MAX 16

struct register_peer {
    struct tcp_conn conn; /* first */
    struct broker *broker;
    struct loop_timer retry;
    char host[64];
    uint16_t port;
    char refusal[REGISTER_REMARK_MAX + 1]; /* what was logged last, and when */
    int64_t refusal_ms;
    bool is_connected;
    bool is_connecting;
    bool is_refused; /* the last answer was no */
    bool is_warned;  /* its failure was logged; do not repeat until it worked again */
};

struct registrar {
    struct register_peer peers[REGISTER_SERVERS_MAX];
    size_t peer_count;
    struct loop_timer timer;
    struct loop_deferred soon;
    char addr[TCP_ADDR_TEXT_MAX]; /* what clients are told to connect to */
    int64_t version_ms;           /* data version: its time stamp */
    struct tcp_options tcp_options;
    struct signer *signer; /* access.key; NULL: registrations are not signed */
    bool is_stopping;
};

/*
 * Read namesrv.addrs and secret.key.file. ESCROW_ECONFIG: an address that is none, a file that
 * cannot be used. ESCROW_ENOMEM. Before register_start, and before the loop runs.
 */
ESCROW_MUST_USE int register_configure(struct broker *b, struct err_ctx *err);

/* `addr` is this broker's own, "host:port". */
void register_start(struct broker *b, const char *addr);

/* Topics have changed: register before the loop sleeps. */
void register_soon(struct broker *b);

/* After every connection is closed. */
void register_fini(struct broker *b);

/* Say goodbye and close; the connections end while the loop runs on. */
void register_stop(struct broker *b);

#endif
