/*
 * TLS of the process: what its ports speak, and what it speaks to name servers elsewhere.
 *
 * The files are read before the loop runs, and again at SIGHUP, in the pool; what was read counts
 * for connections that begin after. Files that cannot be used change nothing.
 *
 * Owns:    the two policies and their contexts, and the job that reads the files.
 * Thread:  loop; the files are read in the pool.
 */
#ifndef SRC_BROKER_TLS_H
#define SRC_BROKER_TLS_H

#include "core/base/err.h"
#include "core/io_uv/pool.h"
#include "core/io_uv/tcp.h"

#include <stdbool.h>

struct broker;

struct broker_tls {
    struct broker *broker;
    struct tcp_tls_policy server;  /* of the ports */
    struct tcp_tls_policy namesrv; /* of registrations */
    struct pool pool;
    struct pool_job job; /* one at a time */
    bool is_started;
    bool is_reading;
    bool must_read_again; /* asked for while the files were being read */
    bool is_stopping;
    /* Of the read under way: the pool's until it is done. */
    struct tcp_tls_policy new_server;
    struct tcp_tls_policy new_namesrv;
    struct err_ctx err;
    int result;
};

/* ESCROW_ECONFIG: a file cannot be used; ESCROW_ENOMEM. Waits for the disk. */
ESCROW_MUST_USE int broker_tls_start(struct broker *b, struct err_ctx *err);

/* Runs the loop until a read under way has ended. Connections go on with what they have. */
void broker_tls_stop(struct broker *b);

/* Read the files now (SIGHUP). The log says what came of it. */
void broker_tls_reload(struct broker *b);

/* There are files to read. */
bool broker_tls_is_on(const struct broker *b);

#endif
