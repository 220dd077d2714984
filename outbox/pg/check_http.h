/*
 * The check-back endpoint: POST /check with the JSON of check_json.h, answered from PostgreSQL; GET
 * /health.
 *
 * Only a question that was answered gets status 200; 400 malformed, 404, 405, 413 too big, 503
 * nobody could be asked. No TLS and no password: bind it to loopback or to a network that only the
 * brokers reach.
 *
 * Owns:    the listening socket, HTTP connections, questions. The checker is borrowed.
 * Thread:  the loop: libmicrohttpd with external epoll, no thread of its own; while PostgreSQL is
 *          asked the HTTP connection is suspended.
 */
#ifndef OUTBOX_PG_CHECK_HTTP_H
#define OUTBOX_PG_CHECK_HTTP_H

#include "core/base/attr.h"
#include "core/base/err.h"
#include "core/io_uv/loop.h"
#include "outbox/pg/check.h"

#include <stdint.h>

#define CHECK_HTTP_CONNECTIONS_MAX 256
#define CHECK_HTTP_IDLE_S          60

struct check_http;

/*
 * address: numeric, with or without [], and port: "127.0.0.1:10980"; port 0: any. ESCROW_ECONFIG,
 * ESCROW_EIO, ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int check_http_new(struct loop *l, struct checker *checker, const char *address,
                                   struct check_http **out, struct err_ctx *err);

/* The port it listens on. */
uint16_t check_http_port(const struct check_http *h);

/* After checker_free, so that no question is outstanding. NULL is fine. */
void check_http_free(struct check_http *h);

#endif
