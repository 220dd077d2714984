/*
 * 30002 ESCROW_PUBLISH_BATCH: a relay's messages together with the position they bring the source
 * to, stored in one log write: exactly once. 30003 ESCROW_SOURCE_OPEN: become the publisher of a
 * source and lane, and learn where to go on.
 *
 *   30002 request: three objects back to back, so that both ends can stream:
 *     { "source": text, "lane": uint, "epoch": uint, "systemId": uint64, "timeline": uint32,
 *       "prev": bytes }
 *     [ [topic text or nil, queueId int, tag text or nil, keys text or nil,
 *        orderingKey text or nil, properties text, bornMs int, body bytes,
 *        uniqKey text or nil,
 *        and of a moved message: flag int, sysFlag int, reconsumeTimes int, bornHost bytes], ... ]
 *     next bytes
 *   30002 answer   { "offset": uint or nil, "count": uint, "position": bytes }
 *   30003 request  { "source": text, "lane": uint, "systemId": uint64, "timeline": uint32,
 *                    "owner": text, "adopt": bool, "peek": bool }
 *   30003 answer   { "epoch": uint, "position": bytes or nil, "lastSystemId": uint64,
 *                    "lastTimeline": uint32 }
 *
 * Rows, 0 to PUBLISH_ROWS_MAX. topic nil: that of the row before (the first row has one). queueId
 * -1: the broker picks, by the ordering key's hash if there is one, else in turn. tag, keys and
 * orderingKey become the properties TAGS, KEYS and __SHARDINGKEY, uniqKey becomes UNIQ_KEY (nil:
 * the broker makes one); properties is a string of further pairs as in properties.h. The order of
 * rows is the order of the log.
 * A moved message was stored by another broker before, and keeps what that one knew: the user's
 * flag; of sysFlag how the body is compressed, and multiple tags (no other bit may be set);
 * reconsumeTimes; bornHost, address and port in 6 or 18 bytes, none = the sender's. It names its
 * queue, which the topic must have.
 * "prev" is the position the batch starts from, empty = the source has none yet; "next" the one
 * after it, last because a relay may know it only after its rows. Positions are opaque to the
 * broker, at most POSITION_LEN_MAX bytes. A batch whose "next" is the stored position already is
 * answered as success with offset nil: it is the repetition of one that got through. A batch
 * without rows only moves the position.
 *
 * Owns:    nothing; slices are borrowed from the body.
 * Thread:  a struct publish_* belongs to whoever owns it. Pure.
 */
#ifndef CORE_PROTO_BODY_PUBLISH_H
#define CORE_PROTO_BODY_PUBLISH_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/limits.h"
#include "core/base/slice.h"
#include "core/proto/scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PUBLISH_SOURCE_LEN_MAX 127
#define PUBLISH_OWNER_LEN_MAX  127
#define PUBLISH_QUEUE_ANY      (-1)
#define PUBLISH_HOST_IPV4      6 /* bytes: address, port */
#define PUBLISH_HOST_IPV6      18

struct publish_head {
    struct slice source; /* 1..PUBLISH_SOURCE_LEN_MAX bytes */
    uint32_t lane;
    uint32_t timeline;
    uint64_t epoch;
    uint64_t system_id;
    struct slice prev; /* position the batch starts from; empty = none yet */
};

struct publish_row {
    struct slice topic;
    struct slice tag; /* empty = absent, as with the next three */
    struct slice keys;
    struct slice ordering_key;
    struct slice uniq_key;
    struct slice properties;
    struct slice body;
    int64_t born_ms;
    int32_t queue_id;   /* PUBLISH_QUEUE_ANY = the broker picks */
    bool is_same_topic; /* decode: topic is that of the row before, so a look-up can be saved */
    bool is_moved;      /* the rest counts, and queue_id is one */
    int32_t flag;
    int32_t sys_flag;
    int32_t reconsume_times;
    struct slice born_host; /* PUBLISH_HOST_...; empty = the sender's */
};

/*
 * Writing: the relay encodes row after row into one buf, without an allocation per row.
 *
 *     publish_begin(&pub, out, &head)
 *     publish_put(&pub, &row)               any number
 *     publish_end(&pub, next)               patches the number of rows, appends the position
 *
 * Between begin and end nobody else may touch the buf. Errors: buf_failed.
 */
struct publish_writer {
    struct buf *out;
    size_t count_at; /* where the number of rows is patched */
    size_t topic_at; /* where the topic of the last row that wrote one lies */
    size_t topic_len;
    uint32_t count;
};

void publish_begin(struct publish_writer *pub, struct buf *out, const struct publish_head *head);

/* There must be room: publish_has_room. The row's slices are copied. */
void publish_put(struct publish_writer *pub, const struct publish_row *row);

static inline bool publish_has_room(const struct publish_writer *pub)
{
    return pub->count < PUBLISH_ROWS_MAX;
}

/* Upper bound of the bytes that publish_put adds, for filling a batch up to a size. */
size_t publish_row_size_max(const struct publish_row *row);

/* Returns the number of rows. */
uint32_t publish_end(struct publish_writer *pub, struct slice next);

/*
 * Reading: begin reads the head and the number of rows; next reads one row. Nothing is checked
 * ahead of next, so a caller that must take all or nothing walks the rows twice: publish_check is
 * the first walk.
 */
struct publish_reader {
    struct publish_head head;
    struct slice
        next; /* position after the batch; known after the last row, or after publish_check */
    uint32_t row_count;
    uint32_t row_index; /* rows read so far */
    struct scan rows;
    struct slice topic; /* of the last row */
};

/* ESCROW_ETOOBIG: source or prev too long. ESCROW_ELIMIT: more than PUBLISH_ROWS_MAX rows. */
ESCROW_MUST_USE int publish_reader_begin(struct publish_reader *r, struct slice body);

/*
 * 1 and *row; 0 after the last row, when r->next is set too. ESCROW_EPROTO: malformed, something
 * behind the position, a separator of properties.h in tag, keys, ordering key or uniq key, or a
 * moved message that cannot be.
 * ESCROW_ETOOBIG: body over MESSAGE_BODY_MAX, topic over RETRY_TOPIC_LEN_MAX, next over
 * POSITION_LEN_MAX, or properties, tag, keys, ordering key and uniq key that make a property string
 * over PROPERTIES_LEN_MAX.
 */
ESCROW_MUST_USE int publish_reader_next(struct publish_reader *r, struct publish_row *row);

/*
 * Walk all rows of a reader that has read none, and rewind it; r->next is known then. 0 or the
 * first error. *bytes = sum of all bodies and all properties as they will be stored.
 */
ESCROW_MUST_USE int publish_check(struct publish_reader *r, size_t *bytes);

#define PUBLISH_OFFSET_NONE (-1)

struct publish_answer {
    int64_t offset; /* physical, of the first message; PUBLISH_OFFSET_NONE: nothing appended */
    uint32_t count; /* messages appended */
    struct slice position;
};

void publish_answer_encode(struct buf *out, const struct publish_answer *answer);
ESCROW_MUST_USE int publish_answer_decode(struct slice body, struct publish_answer *answer);

struct source_open_request {
    struct slice source;
    struct slice owner; /* who asks, for people; at most PUBLISH_OWNER_LEN_MAX bytes */
    uint32_t lane;
    uint32_t timeline;
    uint64_t system_id;
    bool adopt; /* go on although the position belongs to another system or timeline */
    bool peek;  /* only tell the position: no epoch is taken, nobody is fenced */
};

void source_open_request_encode(struct buf *out, const struct source_open_request *req);
ESCROW_MUST_USE int source_open_request_decode(struct slice body, struct source_open_request *req);

struct source_open_answer {
    uint64_t epoch;
    bool has_position;
    struct slice position;
    uint64_t last_system_id; /* the database the position belonged to before this open; 0 = none */
    uint32_t last_timeline;
};

void source_open_answer_encode(struct buf *out, const struct source_open_answer *answer);
ESCROW_MUST_USE int source_open_answer_decode(struct slice body, struct source_open_answer *answer);

#endif
