/*
 * Looking into a broker: 30004 ESCROW_LIST_TRANSACTIONS, 30005 ESCROW_STATUS, 30006
 * ESCROW_LIST_GROUPS, 30007 ESCROW_TXN_HORIZON.
 *
 *   30004 request  { "state": text or nil, "group": text or nil,
 *                    "olderThanMs": int or nil (born before), "limit": uint,
 *                    "cursor": uint (0 = from the beginning),
 *                    "transactionId": text or nil (nil = undecided ones; else every half with
 *                    this id that is known, decided ones too; the others are not looked at) }
 *   30004 answer   { "cursor": uint or nil (nil = no more; else ask again with it),
 *                    "rows": [ [transactionId text, offset uint, group text, topic text,
 *                               state text, bornMs int, checks uint,
 *                               nextCheckMs int or nil, notMine text or nil], ... ] }
 *   30005 request  no body
 *   30005 answer   { "metrics": [ [name text, kind 0 counter | 1 gauge, value int,
 *                                  help text], ... ] }
 *   30006 request  { "group": text or nil }
 *   30006 answer   { "rows": [ [group text, topic text, queueId uint,
 *                               committed int (-1 = never), max uint, lag uint,
 *                               members uint], ... ] }
 *   30007 request  no body
 *   30007 answer   { "bornMs": int or nil (nil = no undecided half), "undecided": uint,
 *                    "nowMs": int, "broker": text, "offset": uint }
 *
 * state is a name of txn/STATES.md. The horizon: every half born before bornMs is decided, so
 * markers older than that (less a margin for clocks; nowMs is the broker's clock) can never be
 * asked for again by this broker. offset says the same without clocks: every half at a lower place
 * of its log is decided (no undecided half: the end of the log). broker is its identity, "name#id
 * of its store": whose horizon this is, whatever address it was asked at. Names and addresses can
 * be the same on two machines, ids cannot. At most BROKER_IDENTITY_MAX visible ASCII characters
 * without '"' and '\'.
 *
 * Owns:    nothing; slices are borrowed from the body.
 * Thread:  any. Pure.
 */
#ifndef CORE_PROTO_BODY_INSPECT_H
#define CORE_PROTO_BODY_INSPECT_H

#include "core/base/attr.h"
#include "core/base/buf.h"
#include "core/base/slice.h"
#include "core/proto/scan.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INSPECT_NONE        INT64_MIN /* nil in an int64 */
#define BROKER_IDENTITY_MAX 255

struct list_txn_request {
    struct slice state;    /* empty = any */
    struct slice group;    /* empty = any */
    int64_t older_than_ms; /* INSPECT_NONE = any age */
    uint32_t limit;        /* 1..LIST_ROWS_MAX; decode clamps */
    uint64_t cursor;
    struct slice transaction_id; /* empty = any */
};

void list_txn_request_encode(struct buf *out, const struct list_txn_request *req);
ESCROW_MUST_USE int list_txn_request_decode(struct slice body, struct list_txn_request *req);

struct list_txn_row {
    struct slice transaction_id;
    struct slice group;
    struct slice topic;
    struct slice state;
    int64_t offset;
    int64_t born_ms;
    int64_t next_check_ms; /* INSPECT_NONE = none is due */
    uint32_t checks;
    bool is_not_mine;      /* who was asked can never know it */
    struct slice database; /* if so: "system/timeline/name" that the half names, or empty */
};

/*
 * Lists are written begin, put, put, ..., end: the number of rows is patched by end, so rows can be
 * produced by a walk that does not know their number. The struct is the same for all four lists.
 */
struct list_writer {
    struct buf *out;
    size_t count_at;
    uint32_t count;
};

void list_txn_begin(struct list_writer *w, struct buf *out);
void list_txn_put(struct list_writer *w, const struct list_txn_row *row);
void list_txn_end(struct list_writer *w, bool has_more, uint64_t cursor);

/* A list being read. Decode checks every row, so next cannot fail; false after the last. */
struct list_reader {
    struct scan rows;
    uint32_t count;
    uint32_t index;
    bool has_more; /* 30004 */
    uint64_t cursor;
};

ESCROW_MUST_USE int list_txn_decode(struct slice body, struct list_reader *r);
bool list_txn_next(struct list_reader *r, struct list_txn_row *row);

enum metric_kind { METRIC_COUNTER = 0, METRIC_GAUGE = 1 };

struct metric_row {
    struct slice name;
    struct slice help;
    int64_t value;
    enum metric_kind kind;
};

void status_begin(struct list_writer *w, struct buf *out);
void status_put(struct list_writer *w, const struct metric_row *row);
void status_end(struct list_writer *w);
ESCROW_MUST_USE int status_decode(struct slice body, struct list_reader *r);
bool status_next(struct list_reader *r, struct metric_row *row);

/* Request of 30006; an empty group = all. */
void list_groups_request_encode(struct buf *out, struct slice group);
ESCROW_MUST_USE int list_groups_request_decode(struct slice body, struct slice *group);

struct group_row {
    struct slice group;
    struct slice topic;
    int32_t queue_id;
    uint32_t members;  /* consumers of the group connected now */
    int64_t committed; /* -1 = never */
    int64_t max;       /* next offset to be written */
    int64_t lag;
};

void list_groups_begin(struct list_writer *w, struct buf *out);
void list_groups_put(struct list_writer *w, const struct group_row *row);
void list_groups_end(struct list_writer *w);
ESCROW_MUST_USE int list_groups_decode(struct slice body, struct list_reader *r);
bool list_groups_next(struct list_reader *r, struct group_row *row);

struct txn_horizon {
    int64_t born_ms; /* INSPECT_NONE = no undecided half */
    int64_t now_ms;
    uint64_t undecided;
    struct slice broker;
    uint64_t offset; /* halves at a lower place of the log are all decided */
};

void txn_horizon_encode(struct buf *out, const struct txn_horizon *horizon);
ESCROW_MUST_USE int txn_horizon_decode(struct slice body, struct txn_horizon *horizon);

#endif
