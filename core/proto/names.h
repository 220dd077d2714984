/*
 * Names of topics and groups: the check that stands between a string from the network and
 * everything that uses it, folder names above all.
 *
 * Letters, digits, '%', '|', '_' and '-' only: no '.', no '/', no space, nothing that a file system
 * or a log line could take for something else. Topics: 1 to TOPIC_LEN_MAX characters, with the
 * prefix %RETRY% or %DLQ%, and a group behind it, up to RETRY_TOPIC_LEN_MAX. Groups: 1 to
 * NAME_GROUP_LEN_MAX, so that the names of both their topics fit.
 *
 * Owns:    nothing.
 * Thread:  any.
 */
#ifndef CORE_PROTO_NAMES_H
#define CORE_PROTO_NAMES_H

#include "core/base/attr.h"
#include "core/base/limits.h"
#include "core/base/slice.h"

#include <stdbool.h>

#define NAME_RETRY_PREFIX  "%RETRY%"
#define NAME_DLQ_PREFIX    "%DLQ%"
#define NAME_GROUP_LEN_MAX (RETRY_TOPIC_LEN_MAX - 7) /* 7 = length of %RETRY% */

#define TOPIC_TEMPLATE                                                                             \
    "TBW102" /* template of automatic creation; clients ask the name server for it */
#define TOPIC_HALF         "RMQ_SYS_TRANS_HALF_TOPIC"
#define TOPIC_OP_HALF      "RMQ_SYS_TRANS_OP_HALF_TOPIC"
#define TOPIC_EXPIRED      "TRANS_CHECK_MAX_TIME_TOPIC" /* where halves go that nobody decided */
#define TOPIC_SCHEDULE     "SCHEDULE_TOPIC_XXXX"
#define TOPIC_SELF_TEST    "SELF_TEST_TOPIC"
#define TOPIC_OFFSET_MOVED "OFFSET_MOVED_EVENT"
#define TOPIC_BENCHMARK    "BenchmarkTest"
#define TOPIC_TRACE        "RMQ_SYS_TRACE_TOPIC"
#define TOPIC_WHEEL_TIMER  "rmq_sys_wheel_timer"
#define TOPIC_SYS_PREFIX   "rmq_sys_"
#define GROUP_SYS_PREFIX   "CID_RMQ_SYS_"

/* And a region: where clients with the access channel CLOUD send their traces. */
#define TOPIC_CLOUD_TRACE "rmq_sys_TRACE_DATA_"

enum topic_class {
    TOPIC_NORMAL,
    TOPIC_RETRY, /* %RETRY%group */
    TOPIC_DLQ,   /* %DLQ%group */
    TOPIC_SYSTEM /* the set above and everything that begins with rmq_sys_ */
};

/* 0 or ESCROW_EINVAL. */
ESCROW_MUST_USE int name_check_topic(struct slice topic);
ESCROW_MUST_USE int name_check_group(struct slice group);

enum topic_class name_topic_class(struct slice topic);

/* May a producer send to it? false for the system topics that only the broker writes. */
bool name_is_sendable(struct slice topic);

/* The group of a retry or dead-letter topic; SLICE_EMPTY for any other topic. */
struct slice name_group_of_topic(struct slice topic);

/*
 * Do both name one topic? A client that lives in a namespace writes "ns%topic" or "topic",
 * %RETRY%ns%group or %RETRY%group: a namespace that only one of the two has does not count.
 */
bool name_is_same_topic(struct slice a, struct slice b);

/* Room for the longest topic and a NUL. */
struct name_buf {
    char text[RETRY_TOPIC_LEN_MAX + 1];
};

/* %RETRY%<group> and %DLQ%<group>. ESCROW_EINVAL for a group that name_check_group refuses. */
ESCROW_MUST_USE int name_retry_topic(struct slice group, struct name_buf *out);
ESCROW_MUST_USE int name_dlq_topic(struct slice group, struct name_buf *out);

#endif
