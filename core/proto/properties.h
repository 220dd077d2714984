/*
 * Message properties: one string, name 0x01 value 0x02 name 0x01 value 0x02 ... ; the last 0x02 may
 * be missing.
 *
 * Read as RocketMQ reads it: a pair ends at 0x02, its name at the first 0x01; a pair with an empty
 * name or an empty value does not exist; of two pairs with one name the later counts. Nothing is
 * escaped, so a name or a value that we write must not contain the separators; what a client sent
 * is passed on as it is.
 *
 * Owns:    nothing. Slices are borrowed from the string they were found in; a writer fills the
 *          caller's memory.
 * Thread:  any.
 * Pure:    no allocation.
 * Holds:   props_writer: len <= cap.
 */
#ifndef CORE_PROTO_PROPERTIES_H
#define CORE_PROTO_PROPERTIES_H

#include "core/base/attr.h"
#include "core/base/slice.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PROPS_NAME_VALUE_SEPARATOR 0x01
#define PROPS_PAIR_SEPARATOR       0x02

/*
 * Names with a meaning to broker, client or tools (MessageConst). X(identifier, text). Users may
 * not set them by name through libescrow's property call; other clients may send any of them.
 */
#define PROP_NAMES(X)                                                                              \
    X(KEYS, "KEYS")                                                                                \
    X(TAGS, "TAGS")                                                                                \
    X(WAIT, "WAIT")                                                                                \
    X(DELAY, "DELAY")                                                                              \
    X(RETRY_TOPIC, "RETRY_TOPIC")                                                                  \
    X(REAL_TOPIC, "REAL_TOPIC")                                                                    \
    X(REAL_QID, "REAL_QID")                                                                        \
    X(TRAN_MSG, "TRAN_MSG")                                                                        \
    X(PGROUP, "PGROUP")                                                                            \
    X(MIN_OFFSET, "MIN_OFFSET")                                                                    \
    X(MAX_OFFSET, "MAX_OFFSET")                                                                    \
    X(BUYER_ID, "BUYER_ID")                                                                        \
    X(ORIGIN_MESSAGE_ID, "ORIGIN_MESSAGE_ID")                                                      \
    X(TRANSFER_FLAG, "TRANSFER_FLAG")                                                              \
    X(CORRECTION_FLAG, "CORRECTION_FLAG")                                                          \
    X(MQ2_FLAG, "MQ2_FLAG")                                                                        \
    X(RECONSUME_TIME, "RECONSUME_TIME")                                                            \
    X(MSG_REGION, "MSG_REGION")                                                                    \
    X(TRACE_ON, "TRACE_ON")                                                                        \
    X(UNIQ_KEY, "UNIQ_KEY")                                                                        \
    X(EXTEND_UNIQ_INFO, "EXTEND_UNIQ_INFO")                                                        \
    X(MAX_RECONSUME_TIMES, "MAX_RECONSUME_TIMES")                                                  \
    X(CONSUME_START_TIME, "CONSUME_START_TIME")                                                    \
    X(TRAN_PREPARED_QUEUE_OFFSET, "TRAN_PREPARED_QUEUE_OFFSET")                                    \
    X(TRANSACTION_ID, "__transactionId__")                                                         \
    X(TRANSACTION_CHECK_TIMES, "TRANSACTION_CHECK_TIMES")                                          \
    X(CHECK_IMMUNITY_TIME_IN_SECONDS, "CHECK_IMMUNITY_TIME_IN_SECONDS")                            \
    X(INSTANCE_ID, "INSTANCE_ID")                                                                  \
    X(CORRELATION_ID, "CORRELATION_ID")                                                            \
    X(REPLY_TO_CLIENT, "REPLY_TO_CLIENT")                                                          \
    X(TTL, "TTL")                                                                                  \
    X(ARRIVE_TIME, "ARRIVE_TIME")                                                                  \
    X(PUSH_REPLY_TIME, "PUSH_REPLY_TIME")                                                          \
    X(CLUSTER, "CLUSTER")                                                                          \
    X(MSG_TYPE, "MSG_TYPE")                                                                        \
    X(POP_CK, "POP_CK")                                                                            \
    X(POP_CK_OFFSET, "POP_CK_OFFSET")                                                              \
    X(FIRST_POP_TIME, "1ST_POP_TIME")                                                              \
    X(SHARDING_KEY, "__SHARDINGKEY")                                                               \
    X(PROPERTY_FORWARD_QUEUE_ID, "PROPERTY_FORWARD_QUEUE_ID")                                      \
    X(REDIRECT, "REDIRECT")                                                                        \
    X(INNER_MULTI_DISPATCH, "INNER_MULTI_DISPATCH")                                                \
    X(INNER_MULTI_QUEUE_OFFSET, "INNER_MULTI_QUEUE_OFFSET")                                        \
    X(TRACE_CONTEXT, "TRACE_CONTEXT")                                                              \
    X(TIMER_DELAY_SEC, "TIMER_DELAY_SEC")                                                          \
    X(TIMER_DELAY_MS, "TIMER_DELAY_MS")                                                            \
    X(TIMER_DELIVER_MS, "TIMER_DELIVER_MS")                                                        \
    X(TIMER_ENQUEUE_MS, "TIMER_ENQUEUE_MS")                                                        \
    X(TIMER_DEQUEUE_MS, "TIMER_DEQUEUE_MS")                                                        \
    X(TIMER_ROLL_TIMES, "TIMER_ROLL_TIMES")                                                        \
    X(TIMER_OUT_MS, "TIMER_OUT_MS")                                                                \
    X(TIMER_DEL_UNIQKEY, "TIMER_DEL_UNIQKEY")                                                      \
    X(TIMER_DELAY_LEVEL, "TIMER_DELAY_LEVEL")                                                      \
    X(BORN_HOST, "__BORNHOST")                                                                     \
    X(BORN_TIMESTAMP, "BORN_TIMESTAMP")                                                            \
    X(DLQ_ORIGIN_TOPIC, "DLQ_ORIGIN_TOPIC")                                                        \
    X(DLQ_ORIGIN_MESSAGE_ID, "DLQ_ORIGIN_MESSAGE_ID")                                              \
    X(DUP_INFO, "DUP_INFO")                                                                        \
    X(INNER_NUM, "INNER_NUM")                                                                      \
    X(INNER_BASE, "INNER_BASE")                                                                    \
    X(CRC32, "__CRC32#")                                                                           \
    X(ESCROW_DB_SYSTEM, "ESCROW_DB_SYSTEM")                                                        \
    X(ESCROW_DB_TIMELINE, "ESCROW_DB_TIMELINE")                                                    \
    X(ESCROW_DB_NAME, "ESCROW_DB_NAME")                                                            \
    X(ESCROW_XID, "ESCROW_XID")

enum prop_id {
#define X(id, text) PROP_##id,
    PROP_NAMES(X)
#undef X
        PROP_COUNT
};

/* Text of a name, static storage. */
struct slice prop_name(enum prop_id id);

/* Is it one of PROP_NAMES, or does it begin with "__RMQ.TRANSIENT."? */
bool prop_is_reserved(struct slice name);

/*
 * The properties that the send path looks at, found in one pass: X(field, identifier). A field that
 * is absent has len 0 (an empty value does not exist).
 */
#define PROPS_KNOWN(X)                                                                             \
    X(keys, KEYS)                                                                                  \
    X(tags, TAGS)                                                                                  \
    X(wait, WAIT)                                                                                  \
    X(delay, DELAY)                                                                                \
    X(uniq_key, UNIQ_KEY)                                                                          \
    X(tran_msg, TRAN_MSG)                                                                          \
    X(pgroup, PGROUP)                                                                              \
    X(real_topic, REAL_TOPIC)                                                                      \
    X(real_qid, REAL_QID)                                                                          \
    X(retry_topic, RETRY_TOPIC)                                                                    \
    X(origin_message_id, ORIGIN_MESSAGE_ID)                                                        \
    X(reconsume_time, RECONSUME_TIME)                                                              \
    X(max_reconsume_times, MAX_RECONSUME_TIMES)                                                    \
    X(transaction_id, TRANSACTION_ID)                                                              \
    X(check_immunity_s, CHECK_IMMUNITY_TIME_IN_SECONDS)                                            \
    X(sharding_key, SHARDING_KEY)                                                                  \
    X(timer_delay_s, TIMER_DELAY_SEC)                                                              \
    X(timer_delay_ms, TIMER_DELAY_MS)                                                              \
    X(timer_deliver_ms, TIMER_DELIVER_MS)                                                          \
    X(timer_out_ms, TIMER_OUT_MS)                                                                  \
    X(msg_region, MSG_REGION)                                                                      \
    X(trace_on, TRACE_ON)                                                                          \
    X(cluster, CLUSTER)                                                                            \
    X(pop_ck, POP_CK)                                                                              \
    X(correlation_id, CORRELATION_ID)                                                              \
    X(reply_to_client, REPLY_TO_CLIENT)                                                            \
    X(msg_type, MSG_TYPE)                                                                          \
    X(inner_num, INNER_NUM)                                                                        \
    X(db_system, ESCROW_DB_SYSTEM)                                                                 \
    X(db_timeline, ESCROW_DB_TIMELINE)                                                             \
    X(db_name, ESCROW_DB_NAME)                                                                     \
    X(xid, ESCROW_XID)

struct props_known {
#define X(field, id) struct slice field;
    PROPS_KNOWN(X)
#undef X
};

/* Fill *known from a string; returns how many pairs the string has in all. */
size_t props_scan(struct slice props, struct props_known *known);

/* Iteration in the order of the string, duplicates included. */
struct props_iter {
    struct slice rest;
};

static inline struct props_iter props_begin(struct slice props)
{
    return (struct props_iter){props};
}

/* false at the end. */
bool props_next(struct props_iter *iter, struct slice *name, struct slice *value);

/* Value of the last pair named `name`. false, and *value untouched, when there is none. */
bool props_find(struct slice props, struct slice name, struct slice *value);

/* props_find for a number; `fallback` when absent or not a decimal int64. */
int64_t props_find_i64(struct slice props, struct slice name, int64_t fallback);

/* Number of pairs. */
size_t props_count(struct slice props);

/*
 * Writer into memory of the caller. A put that does not fit, or whose name or value is empty or
 * holds a separator, sets `error` and changes nothing; later puts do nothing. Test `error` once at
 * the end.
 */
struct props_writer {
    uint8_t *ptr;
    size_t len;
    size_t cap;
    int error; /* 0, ESCROW_ETOOBIG or ESCROW_EINVAL */
};

void props_writer_init(struct props_writer *w, uint8_t *dst, size_t cap);

/* Append name 0x01 value 0x02. */
void props_put(struct props_writer *w, struct slice name, struct slice value);
void props_put_i64(struct props_writer *w, struct slice name, int64_t value);

/*
 * Append the string `props` as it is, adding the last 0x02 if it is missing. Bytes that are no pair
 * are kept too: they are the sender's.
 */
void props_put_all(struct props_writer *w, struct slice props);

/* Append the pairs of `props` whose name is none of `drop`. */
void props_put_except(struct props_writer *w, struct slice props, const struct slice *drop,
                      size_t drop_count);

/* Bytes that props_put writes. */
static inline size_t props_pair_size(struct slice name, struct slice value)
{
    return name.len + value.len + 2;
}

/* May this stand as name or value? 0, or ESCROW_EINVAL: empty, or contains 0x01 or 0x02. */
ESCROW_MUST_USE int props_check_text(struct slice text);

/*
 * The index keys of a message: blank-separated words of KEYS. *rest starts as the value of KEYS;
 * false at the end.
 */
bool props_next_key(struct slice *rest, struct slice *key);

#endif
