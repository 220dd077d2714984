/*
 * Body of HEART_BEAT 34: which producer and consumer groups live on a connection, and what they
 * subscribe to.
 *
 * Owns:    what was decoded owns its arrays and the parsed text its slices point into;
 *          heartbeat_fini frees both. What is to be encoded is the caller's in every part.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_HEARTBEAT_H
#define CORE_PROTO_BODY_HEARTBEAT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* X(name on the wire without its common prefix): what an unknown or absent name becomes is the
 * first. */
#define CONSUME_TYPES(X)                                                                           \
    X(PASSIVELY)                                                                                   \
    X(ACTIVELY)                                                                                    \
    X(POP)
enum consume_type {
#define X(name) CONSUME_##name,
    CONSUME_TYPES(X)
#undef X
};

#define MESSAGE_MODELS(X)                                                                          \
    X(CLUSTERING)                                                                                  \
    X(BROADCASTING)
enum message_model {
#define X(name) MODEL_##name,
    MESSAGE_MODELS(X)
#undef X
};

/* Three more names of old clients mean LAST_OFFSET. */
#define CONSUME_FROMS(X)                                                                           \
    X(LAST_OFFSET)                                                                                 \
    X(FIRST_OFFSET)                                                                                \
    X(TIMESTAMP)
enum consume_from {
#define X(name) CONSUME_FROM_##name,
    CONSUME_FROMS(X)
#undef X
};

/* Names as the wire has them ("CONSUME_PASSIVELY", "CLUSTERING", "CONSUME_FROM_LAST_OFFSET"),
 * static storage. */
const char *consume_type_name(enum consume_type type);
const char *message_model_name(enum message_model model);
const char *consume_from_name(enum consume_from from);

/* Subscriptions of one consumer group; also in CHECK_CLIENT_CONFIG and in a consumer's connection
 * list. */
struct subscription {
    struct slice topic;
    struct slice expression;      /* subString, "*" or "a || b"; "*" when absent */
    struct slice expression_type; /* "TAG" when absent */
    int64_t version;              /* subVersion: a later one replaces an earlier one */
    bool is_class_filter;
    struct slice *tags;
    size_t tag_count;
    int32_t *codes; /* tags.h; numbers or strings of numbers on the wire */
    size_t code_count;
};

struct heartbeat_consumer {
    struct slice group;
    enum consume_type type;
    enum message_model model;
    enum consume_from from;
    bool unit_mode;
    struct subscription *subscriptions;
    size_t subscription_count;
};

struct heartbeat {
    struct slice client_id;
    struct slice *producer_groups;
    size_t producer_count;
    struct heartbeat_consumer *consumers;
    size_t consumer_count;
    struct body_tree tree; /* private */
};

/*
 * Read a heartbeat. ESCROW_EPROTO (also: no clientID, a group without a name), ESCROW_ELIMIT,
 * ESCROW_ENOMEM. Names are not checked for their characters (names.h does). Unknown keys are
 * ignored.
 */
ESCROW_MUST_USE int heartbeat_decode(struct slice body, struct heartbeat *hb);
void heartbeat_fini(struct heartbeat *hb);

/* Append the body. Errors: buf_failed. */
void heartbeat_encode(struct buf *out, const struct heartbeat *hb);

/* Body of CHECK_CLIENT_CONFIG 46. */
struct client_config {
    struct slice client_id;
    struct slice group;
    struct subscription subscription; /* topic empty = the body had none */
    struct body_tree tree;            /* private */
};

/* ESCROW_EPROTO (also: no group), ESCROW_ELIMIT, ESCROW_ENOMEM. */
ESCROW_MUST_USE int client_config_decode(struct slice body, struct client_config *config);
void client_config_fini(struct client_config *config);

struct json_writer;

/* One SubscriptionData object; tagsSet and codeSet are written from tags and codes. */
void subscription_encode(struct json_writer *w, const struct subscription *sub);

#endif
