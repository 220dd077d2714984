/*
 * Topic configurations as JSON (GET_TOPIC_CONFIG 351, GET_ALL_TOPIC_CONFIG 21) and the data version
 * that goes with them.
 *
 * Owns:    what was decoded owns its arrays and the parsed text its slices point into; *_fini frees
 *          both.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_TOPIC_H
#define CORE_PROTO_BODY_TOPIC_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_writer;

/*
 * Budget of a table: each topic has up to 20 elements, keys included; more than that is unusual
 * attributes.
 */
#define TOPIC_TABLE_LIMITS ((struct json_limits){20 * REGISTER_TOPICS_MAX, JSON_DEPTH_MAX})

struct topic_config {
    struct slice name;
    int32_t read_queue_count;
    int32_t write_queue_count;
    int32_t perm; /* PERM_... of body_route.h */
    int32_t sys_flag;
    bool is_ordered;
    bool is_multi_tag; /* topicFilterType MULTI_TAG instead of SINGLE_TAG */
};

struct data_version {
    int64_t timestamp_ms;
    int64_t counter;
    int64_t state_version;
};

/* Append one TopicConfig object, the body of 351. Errors: buf_failed. */
void topic_config_encode(struct buf *out, const struct topic_config *topic);
void topic_config_write(struct json_writer *w, const struct topic_config *topic);

void data_version_encode(struct buf *out, const struct data_version *version);
void data_version_write(struct json_writer *w, const struct data_version *version);

/* Body of QUERY_DATA_VERSION 322. ESCROW_EPROTO, ESCROW_ELIMIT, ESCROW_ENOMEM. */
ESCROW_MUST_USE int data_version_decode(struct slice body, struct data_version *version);

/*
 * For decoders of tables: a DataVersion object, and a TopicConfig object. ESCROW_EPROTO: no name,
 * or a number that cannot be (queue counts outside 0..QUEUES_PER_TOPIC_MAX).
 */
struct data_version data_version_read(const struct json_node *object);
ESCROW_MUST_USE int topic_config_read(const struct json_node *object, struct topic_config *topic);

/* The map "topicConfigTable" as an array in the tree. */
ESCROW_MUST_USE int topic_configs_read(struct body_tree *tree, const struct json_node *owner,
                                       struct topic_config **topics, size_t *count);

struct topic_table {
    struct topic_config *topics;
    size_t topic_count;
    struct data_version version;
    struct body_tree tree; /* private */
};

/* Body of 21: {"dataVersion":{...},"topicConfigTable":{name:{...}}}. */
void topic_table_encode(struct buf *out, const struct topic_table *table);
ESCROW_MUST_USE int topic_table_decode(struct slice body, struct topic_table *table);
void topic_table_fini(struct topic_table *table);

#endif
