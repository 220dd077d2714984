/*
 * The texts of POP: receipt handles, and the fields of an answer from which clients make them
 * (PROTOCOL.md, "POP_MESSAGE").
 *
 * A client gets a handle together from fields of the answer and of the record, and sends it back as
 * it is:
 *   startOffset popTime invisibleTime reviveQueue kind brokerName queueId offset
 * with one blank in between; kind says whether the message lies in its own topic (0) or in a pop
 * retry topic of either form (1, 2). In the answer, of each queue:
 *   startOffsetInfo  "kind queueId startOffset;..."    not above any offset of the queue
 *   msgOffsetInfo    "kind queueId offset,offset;..."  in the order of the records
 *   orderCountInfo   "kind qoQUEUEID%OFFSET retries;...;kind queueId retries;..."  of an ordered
 *                    pop
 *
 * Owns:    nothing. Slices are borrowed from the text.
 * Thread:  any. Pure.
 */
#ifndef CORE_PROTO_POP_INFO_H
#define CORE_PROTO_POP_INFO_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"

#include <stddef.h>
#include <stdint.h>

#define POP_KIND_TOPIC 0

/* reviveQueue of a message that an ordered pop handed out; RocketMQ's number. */
#define POP_REVIVE_ORDERED 999

struct pop_handle {
    int64_t start_offset;
    int64_t pop_ms;
    int64_t invisible_ms;
    int32_t revive_queue;
    int32_t kind;
    struct slice broker_name;
    int32_t queue_id;
    int64_t offset;
};

/* Append the text of a handle; for clients and tests. */
void pop_handle_encode(struct buf *out, const struct pop_handle *handle);

/* ESCROW_EINVAL: not eight words, or a number that is none or is negative. */
ESCROW_MUST_USE int pop_handle_decode(struct slice text, struct pop_handle *handle);

/*
 * One queue of an answer, appended to both fields. offsets: count > 0, in the order of the records.
 */
void pop_info_add(struct buf *start_info, struct buf *offset_info, int32_t queue_id,
                  const int64_t *offsets, size_t count);

/*
 * One queue of an ordered pop's answer, appended to orderCountInfo: those of its messages that had
 * retries, and the lowest number that one of them had.
 */
void pop_info_add_counts(struct buf *count_info, int32_t queue_id, const int64_t *offsets,
                         const int32_t *retries, size_t count);

#endif
