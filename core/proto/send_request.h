/*
 * The header of a send: SEND_MESSAGE 10 (long names), SEND_MESSAGE_V2 310 and SEND_BATCH_MESSAGE
 * 320 (one letter each).
 *
 * Old and new clients mix codes and spellings, so the spelling is taken from the fields, not from
 * the code: a header with the field "a" is read by letters, any other by long names.
 *
 * Owns:    nothing; slices are borrowed from the decoded header.
 * Thread:  any. Pure: no allocation.
 */
#ifndef CORE_PROTO_SEND_REQUEST_H
#define CORE_PROTO_SEND_REQUEST_H

#include "core/base/attr.h"
#include "core/base/slice.h"
#include "core/proto/header.h"

#include <stdbool.h>
#include <stdint.h>

/* X(member, letter, long name) of the text fields and of the rest, in the order of the letters. */
#define SEND_FIELDS(X)                                                                             \
    X(producer_group, "a", "producerGroup")                                                        \
    X(topic, "b", "topic")                                                                         \
    X(default_topic, "c", "defaultTopic")                                                          \
    X(default_queue_count, "d", "defaultTopicQueueNums")                                           \
    X(queue_id, "e", "queueId")                                                                    \
    X(sys_flag, "f", "sysFlag")                                                                    \
    X(born_ms, "g", "bornTimestamp")                                                               \
    X(flag, "h", "flag")                                                                           \
    X(properties, "i", "properties")                                                               \
    X(reconsume_times, "j", "reconsumeTimes")                                                      \
    X(unit_mode, "k", "unitMode")                                                                  \
    X(max_reconsume_times, "l", "maxReconsumeTimes")                                               \
    X(batch, "m", "batch")                                                                         \
    X(broker_name, "n", "brokerName")

/* MSG_REGION of everything: RocketMQ's default. */
#define REGION_DEFAULT "DefaultRegion"

/* "not given" in max_reconsume_times */
#define SEND_MAX_RECONSUME_NONE (-1)

struct send_request {
    struct slice producer_group;
    struct slice topic;
    struct slice default_topic; /* template of automatic creation; TBW102 */
    struct slice properties;    /* properties.h */
    struct slice broker_name;   /* newer clients only; informative */
    int64_t born_ms;
    int32_t default_queue_count; /* queues wanted when the topic is created */
    int32_t queue_id;            /* below 0: the broker picks */
    int32_t sys_flag;            /* record.h */
    int32_t flag;                /* the user's */
    int32_t reconsume_times;     /* 0 when absent */
    int32_t max_reconsume_times; /* SEND_MAX_RECONSUME_NONE when absent */
    bool unit_mode;
    bool is_batch; /* the field; the code 320 alone says so too, which is the caller's to know */
};

/* Defaults of a request that a client begins to fill: no topic yet, template TBW102, 4 queues,
 * queue -1. */
void send_request_init(struct send_request *req);

/*
 * Read the fields of a header. Names are not checked for their characters (names.h does).
 *
 * Returns 0, or ESCROW_EINVAL: a field that must be there is absent (producerGroup, topic, queueId,
 * sysFlag, bornTimestamp, flag; the rest have defaults) or a number is none; *field then names it
 * (static storage), for the remark. ESCROW_ETOOBIG: properties over PROPERTIES_LEN_MAX. After an
 * error *req is unspecified.
 */
ESCROW_MUST_USE int send_request_decode(struct header *h, struct send_request *req,
                                        const char **field);

/* Append the fields to a header being written; letters (310, 320) or long names (10). Errors:
 * header_frame_end's. */
void send_request_encode(struct header_writer *w, const struct send_request *req, bool use_letters);

/* The answer to a send. */
struct send_answer {
    struct slice msg_id;         /* offset message id; comma-joined for a batch */
    struct slice transaction_id; /* UNIQ_KEY; empty = absent */
    struct slice region;         /* MSG_REGION; empty = "DefaultRegion" when written */
    int32_t queue_id;
    int64_t queue_offset;       /* of the first message of a batch */
    struct slice recall_handle; /* of a timed message; empty = absent */
};

/* Fields msgId, queueId, queueOffset, transactionId, recallHandle, MSG_REGION, TRACE_ON. */
void send_answer_encode(struct header_writer *w, const struct send_answer *answer);

/* The same for a client. ESCROW_EPROTO when msgId, queueId or queueOffset is absent or malformed.
 */
ESCROW_MUST_USE int send_answer_decode(struct header *h, struct send_answer *answer);

#endif
