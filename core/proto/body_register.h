/*
 * Body of REGISTER_BROKER 103: the topics of a broker, as plain JSON or as zlib-compressed lists.
 *
 *   plain        {"filterServerList":[],"topicConfigSerializeWrapper":{
 *                    "dataVersion":{...},"topicConfigTable":{"T":{...}}, ...}}
 *   compressed   zlib of: int32 length, DataVersion as JSON; int32 number of topics, of each an
 *                int32 length and "name readQueues writeQueues perm filterType [attributes]";
 *                int32 length, JSON array of filter servers; from broker version 5.0.0 on queue
 *                mappings, which we do not read
 *
 * Owns:    what was decoded owns everything its slices point into; register_body_fini frees it.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_REGISTER_H
#define CORE_PROTO_BODY_REGISTER_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_topic.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A compressed body may not grow beyond this: what a frame could have carried uncompressed. */
#define REGISTER_INFLATED_MAX FRAME_SIZE_MAX

struct register_body {
    struct data_version version;
    struct topic_config *topics;
    size_t topic_count;
    struct body_tree tree; /* private */
    struct buf inflated;   /* private */
};

/* Append the plain form. Errors: buf_failed. */
void register_body_encode(struct buf *out, const struct register_body *body);

/* Append the compressed form, without the mapping section (right for a broker version below 5.0.0).
 * ESCROW_ENOMEM. */
ESCROW_MUST_USE int register_body_encode_compressed(struct buf *out,
                                                    const struct register_body *body);

/*
 * Read either form, as the header field `compressed` says. ESCROW_EPROTO, ESCROW_ELIMIT (more than
 * REGISTER_TOPICS_MAX topics in plain form, TOPICS_MAX in the other), ESCROW_ETOOBIG (inflates
 * beyond REGISTER_INFLATED_MAX), ESCROW_ENOMEM.
 */
ESCROW_MUST_USE int register_body_decode(struct slice in, bool is_compressed,
                                         struct register_body *body);
void register_body_fini(struct register_body *body);

/* The value of the header field bodyCrc32: CRC-32 of the bytes as sent, without its sign bit. A
 * received 0 = not checked. */
uint32_t register_body_crc(struct slice in);

#endif
