/*
 * Bodies around POP: BATCH_ACK_MESSAGE 200151, QUERY_ASSIGNMENT 400, SET_MESSAGE_REQUEST_MODE 401.
 *
 * Owns:    what was decoded owns its arrays and the parsed text its slices point into; *_fini frees
 *          both.
 * Thread:  whoever owns the struct.
 * Holds:   after a failed decode the struct is empty; fini is then allowed and does nothing.
 */
#ifndef CORE_PROTO_BODY_POP_H
#define CORE_PROTO_BODY_POP_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/body_queues.h"
#include "core/proto/body_tree.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Messages that one batch may acknowledge, and how far one entry's may lie apart. */
#define BATCH_ACK_MESSAGES_MAX 65536u

/* Messages of one queue that one pop handed out. */
struct batch_ack {
    struct slice group;
    struct slice topic;
    struct slice kind; /* "0": the message lies in its own topic */
    int32_t queue_id;
    int64_t pop_ms;
    int64_t start_offset;
    struct slice bits; /* bit i, from the lowest of the first byte: start_offset + i */
};

struct batch_acks {
    struct slice broker_name;
    struct batch_ack *acks;
    size_t count;
    size_t message_count;  /* bits that are set, in all of them */
    struct body_tree tree; /* private */
};

/* {"brokerName":"b","acks":[{"c":..,"t":..,"r":"0","so":0,"q":0,"rq":0,"pt":0,"it":0,"b":..}]} */
void batch_acks_encode(struct buf *out, const struct batch_acks *acks);

/*
 * b is Base64, or an array of bytes as numbers (fastjson 1 and 2). ESCROW_EPROTO, ESCROW_ENOMEM;
 * ESCROW_ELIMIT: too many elements, or more messages than BATCH_ACK_MESSAGES_MAX.
 */
ESCROW_MUST_USE int batch_acks_decode(struct slice body, struct batch_acks *acks);
void batch_acks_fini(struct batch_acks *acks);

static inline bool batch_ack_has(const struct batch_ack *ack, size_t bit)
{
    return bit / 8 < ack->bits.len && (ack->bits.ptr[bit / 8] >> (bit % 8) & 1) != 0;
}

/* ---- who consumes what, and how ---- */

enum request_mode { REQUEST_MODE_PULL, REQUEST_MODE_POP };

/* 401: {"topic":..,"consumerGroup":..,"mode":"PULL"|"POP","popShareQueueNum":0} */
struct mode_request {
    struct slice topic;
    struct slice group;
    enum request_mode mode;
    int32_t share_queues;
    struct body_tree tree; /* private */
};

void mode_request_encode(struct buf *out, const struct mode_request *req);
/* ESCROW_EPROTO also for another mode. */
ESCROW_MUST_USE int mode_request_decode(struct slice body, struct mode_request *req);
void mode_request_fini(struct mode_request *req);

/* 400: {"topic":..,"consumerGroup":..,"clientId":..,"strategyName":..,"messageModel":..} */
struct assignment_request {
    struct slice topic;
    struct slice group;
    struct slice client_id;
    struct slice strategy;
    bool is_broadcast;
    struct body_tree tree; /* private */
};

ESCROW_MUST_USE int assignment_request_decode(struct slice body, struct assignment_request *req);
void assignment_request_fini(struct assignment_request *req);

/*
 * The answer: {"messageQueueAssignments":[{"messageQueue":{..},"mode":".."}]}. queues NULL: {},
 * which tells the client to keep what it has.
 */
void assignments_encode(struct buf *out, const struct message_queue *queues, size_t count,
                        enum request_mode mode);

#endif
