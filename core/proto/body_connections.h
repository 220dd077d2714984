/*
 * Bodies about who is connected: GET_CONSUMER_CONNECTION_LIST 203 and GET_PRODUCER_CONNECTION_LIST
 * 204. Their readers are mqadmin and tools like it; of ours one, which only counts.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_BODY_CONNECTIONS_H
#define CORE_PROTO_BODY_CONNECTIONS_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_heartbeat.h"

#include <stddef.h>
#include <stdint.h>

struct connection_row {
    struct slice client_id;
    struct slice client_addr; /* "host:port" */
    const char *language;     /* "JAVA" */
    int32_t version;
};

struct consumer_connections {
    const struct connection_row *rows;
    size_t row_count;
    const struct subscription *subscriptions;
    size_t subscription_count;
    enum consume_type type;
    enum message_model model;
    enum consume_from from;
};

/* Body of 203. Errors: buf_failed. */
void consumer_connections_encode(struct buf *out, const struct consumer_connections *body);

/*
 * How many are connected, of either body. ESCROW_EPROTO (also: it does not say), ESCROW_ELIMIT,
 * ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int connections_count(struct slice body, size_t *count);

/* Body of 204. */
void producer_connections_encode(struct buf *out, const struct connection_row *rows, size_t count);

#endif
