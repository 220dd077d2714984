/*
 * HTTP POST of JSON to a URL, for check-backs to an endpoint of the producer. libcurl's multi
 * interface driven by the loop.
 *
 * Only http and https, no redirects, no proxy from the environment, TLS peers are verified. The
 * answer's body is limited.
 *
 * Owns:    connections and curl handles. A request is the caller's struct from webhook_post until
 *          done.
 * Thread:  the loop.
 * Holds:   in_flight <= concurrent_max; done is called exactly once per accepted request, never
 *          inside webhook_post.
 */
#ifndef CORE_IO_UV_WEBHOOK_H
#define CORE_IO_UV_WEBHOOK_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/list.h"
#include "core/base/slice.h"
#include "core/io_uv/loop.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define WEBHOOK_ANSWER_MAX ((size_t)64 * 1024)
#define WEBHOOK_ERROR_MAX  256 /* CURL_ERROR_SIZE, asserted in webhook.c */

struct webhook;
struct webhook_request;

/*
 * status: HTTP status (200...), and then result is 0; else 0. result: 0, ESCROW_ETIMEOUT,
 * ESCROW_ECONN (no connection), ESCROW_ECLOSED (connection lost after sending), ESCROW_ETOOBIG
 * (answer above WEBHOOK_ANSWER_MAX), ESCROW_ENOMEM, ESCROW_EPROTO (not HTTP, TLS refused),
 * ESCROW_ESHUTDOWN (webhook_free). error: one line of reason, "" when result is 0.
 */
struct webhook_result {
    int result;
    int status;
    struct slice body; /* borrowed until done returns */
    const char *error;
};

typedef void webhook_done_fn(struct webhook_request *req, const struct webhook_result *result);

struct webhook_request {
    void *easy; /* CURL */
    struct webhook *webhook;
    struct list node;
    struct buf answer;
    webhook_done_fn *done;
    void *arg; /* the owner's */
    bool is_too_big;
    char error[WEBHOOK_ERROR_MAX];
};

/*
 * concurrent_max: requests in flight. Memory for TLS and HTTP is taken here, so create it only
 * where URLs are configured. ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int webhook_new(struct loop *l, size_t concurrent_max, struct webhook **out);

/*
 * Requests in flight are given up: done is called for each, with ESCROW_ESHUTDOWN, before this
 * returns. Not inside done. NULL is fine.
 */
void webhook_free(struct webhook *w);

/*
 * POST `body` (application/json) to `url`; both are copied. timeout_ms covers everything from name
 * resolution on. ESCROW_ELIMIT (concurrent_max), ESCROW_EINVAL (not an http or https URL),
 * ESCROW_ENOMEM: no done follows.
 */
ESCROW_MUST_USE int webhook_post(struct webhook *w, struct webhook_request *req, const char *url,
                                 struct slice body, uint64_t timeout_ms, webhook_done_fn *done);

size_t webhook_in_flight(const struct webhook *w);

/* Would webhook_post take this URL? For the configuration's check. */
bool webhook_url_is_valid(const char *url);

#endif
