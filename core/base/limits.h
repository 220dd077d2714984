/*
 * Every bound of the system, each with its reason. Bounds that a configuration can change are the
 * defaults here.
 */
#ifndef CORE_BASE_LIMITS_H
#define CORE_BASE_LIMITS_H

#define FRAME_SIZE_MAX       (16u << 20)  /* RocketMQ's; a first byte of 0x16 is TLS */
#define HEADER_SIZE_MAX      (256u << 10) /* properties <= 32767 bytes, small fields */
#define HEADER_FIELDS_MAX    256          /* of one frame; the largest known has 30 */
#define HEADER_DEPTH_MAX     8            /* nesting in a header or body we parse */
#define BODY_ELEMENTS_MAX    65536        /* in all, of one JSON or MessagePack body */
#define TOPIC_LEN_MAX        127          /* one signed length byte in old records */
#define RETRY_TOPIC_LEN_MAX  255          /* %RETRY% and %DLQ% names */
#define GROUP_LEN_MAX        255
#define TXN_ID_LEN_MAX       128        /* UNIQ_KEY has 32 or 56; ours are shorter */
#define PROPERTIES_LEN_MAX   32767      /* int16 in the record */
#define MESSAGE_BODY_MAX     (4u << 20) /* maxMessageSize */
#define RECORD_SIZE_MAX      (MESSAGE_BODY_MAX + (128u << 10)) /* and properties, topic, envelope */
#define QUEUES_PER_TOPIC_MAX 1024
#define TOPICS_MAX           100000
#define END_TXN_HALVES_MAX   1024 /* halves decided by one request */
#define PULL_MESSAGES_MAX    1024
#define BATCH_ITEMS_MAX      4096        /* one SEND_BATCH; its answer has an id per item */
#define PUBLISH_ROWS_MAX     32768       /* one relay batch; fills a frame at 500 bytes a row */
#define POSITION_LEN_MAX     (64u << 10) /* holds a snapshot's list of running ids */
#define LIST_ROWS_MAX        1000        /* one page of LIST_TRANSACTIONS */
#define REGISTER_TOPICS_MAX  32768       /* one registration in plain JSON */

#endif
