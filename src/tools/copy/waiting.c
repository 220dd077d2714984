/*
 * escrow copy: what waits inside the brokers of the source, where nobody can fetch it: messages
 * that are not due, and half messages.
 */
#include "core/proto/body_inspect.h"
#include "core/proto/body_lists.h"
#include "core/proto/codes.h"
#include "src/tools/copy/copy.h"

#include <inttypes.h>
#include <string.h>

static bool to_pair(struct slice text, int64_t *first, int64_t *second)
{
    const uint8_t *comma = text.len > 0 ? memchr(text.ptr, ',', text.len) : NULL;
    size_t len;

    if (comma == NULL) {
        return false;
    }
    len = (size_t)(comma - text.ptr);
    return slice_to_i64(slice_of(text.ptr, len), first) &&
           slice_to_i64(slice_of(comma + 1, text.len - len - 1), second);
}

#define LEVELS_MAX 64

/* What a broker says of messages that it holds until they are due. */
struct held {
    int64_t timed;            /* in its timer; with an escrowd, all */
    int64_t done[LEVELS_MAX]; /* by delay level - 1: where its queue was read to; -1: not said */
};

static void take_level(struct held *held, struct slice level_text, struct slice value)
{
    int64_t level = 0;
    int64_t done = 0;
    int64_t end = 0;

    if (slice_to_i64(level_text, &level) && level >= 1 && level <= LEVELS_MAX &&
        to_pair(value, &done, &end)) {
        held->done[level - 1] = done;
    }
}

static int on_runtime(void *arg, struct header *header, struct slice body)
{
    const struct slice level_key = SLICE_LIT("scheduleMessageOffset_");
    struct held *held = arg;
    struct kv_table table;
    int rc = kv_table_decode(body, &table);

    (void)header;
    held->timed = 0;
    for (size_t i = 0; i < LEVELS_MAX; i++) {
        held->done[i] = -1;
    }
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < table.count; i++) {
        struct slice key = table.pairs[i].key;
        int64_t timed = 0;
        if (slice_has_prefix(key, level_key)) {
            take_level(held, slice_of(key.ptr + level_key.len, key.len - level_key.len),
                       table.pairs[i].value);
        } else if (slice_eq_str(key, "timerCongestNum") &&
                   slice_to_i64(table.pairs[i].value, &timed)) {
            held->timed = timed > 0 && timed < INT64_MAX / 2 ? timed : 0;
        }
    }
    kv_table_fini(&table);
    return 0;
}

static int count_level(struct copy *c, const struct copy_queue *queue, int64_t done, int64_t *count)
{
    int64_t end = 0;
    int rc = copy_ask_offset(c, &c->from, REQUEST_GET_MAX_OFFSET, queue, &end);

    if (rc == 0 && done < 0) {
        rc = copy_ask_offset(c, &c->from, REQUEST_GET_MIN_OFFSET, queue, &done);
    }
    if (rc == 0 && end > done && end - done < INT64_MAX / 2 / LEVELS_MAX) {
        *count += end - done;
    }
    return rc;
}

/* RocketMQ keeps a queue for each delay level. What it has never read from, it says nothing of. */
static int count_levels(struct copy *c, const struct copy_broker *b, const struct held *held,
                        int64_t *count)
{
    struct copy_queue queue = {b->addr, TOPIC_SCHEDULE, 0};
    int32_t levels = 0;
    int rc = 0;

    for (size_t i = 0; i < b->topics.topic_count; i++) {
        if (slice_eq_str(b->topics.topics[i].name, TOPIC_SCHEDULE)) {
            levels = b->topics.topics[i].read_queue_count;
        }
    }
    for (int32_t i = 0; rc == 0 && i < levels && i < LEVELS_MAX; i++) {
        queue.queue = (uint32_t)i;
        rc = count_level(c, &queue, held->done[i], count);
    }
    return rc;
}

static int count_held(struct copy *c, const struct copy_broker *b, int64_t *count)
{
    struct cli_request req = {.addr = b->addr, .code = REQUEST_GET_BROKER_RUNTIME_INFO};
    struct held held;
    int rc = copy_ask(c, &c->from, &req, on_runtime, &held);

    if (rc != 0) {
        return rc;
    }
    *count = held.timed;
    return remote_is_escrowd(&c->from.remote, b->addr) ? 0 : count_levels(c, b, &held, count);
}

static int on_horizon(void *arg, struct header *header, struct slice body)
{
    int64_t *undecided = arg;
    struct txn_horizon horizon;
    int rc = txn_horizon_decode(body, &horizon);

    (void)header;
    if (rc == 0) {
        *undecided = (int64_t)horizon.undecided;
    }
    return rc;
}

static void half_fields(struct header_writer *w, void *arg)
{
    (void)arg;
    header_put_str(w, "consumerGroup", SLICE_LIT("CID_RMQ_SYS_TRANS"));
    header_put_str(w, "topic", SLICE_LIT(TOPIC_HALF));
    header_put_i64(w, "queueId", 0);
}

static int on_half_offset(void *arg, struct header *header, struct slice body)
{
    (void)body;
    return header_get_i64(header, "offset", arg);
}

/* Half messages behind the last that the broker is done with: those that are decided count too. */
static int count_halves(struct copy *c, const struct copy_broker *b, int64_t *halves)
{
    struct cli_request req = {.addr = b->addr, .code = REQUEST_ESCROW_TXN_HORIZON};
    struct copy_queue queue = {b->addr, TOPIC_HALF, 0};
    int64_t done = 0;
    int rc;

    if (remote_is_escrowd(&c->from.remote, b->addr)) {
        return copy_ask(c, &c->from, &req, on_horizon, halves);
    }
    rc = copy_ask_offset(c, &c->from, REQUEST_GET_MAX_OFFSET, &queue, halves);
    if (rc == 0 && *halves > 0) {
        req = (struct cli_request){
            .addr = b->addr, .code = REQUEST_QUERY_CONSUMER_OFFSET, .fields = half_fields};
        rc = copy_ask(c, &c->from, &req, on_half_offset, &done);
        rc = rc == ESCROW_ENOTFOUND ? 0 : rc;
    }
    if (rc == 0) {
        *halves = done > 0 ? *halves - done : *halves;
    }
    return rc;
}

static int tell_waiting(struct copy *c, const struct copy_broker *b)
{
    int64_t held = 0;
    int64_t halves = 0;
    int rc = count_held(c, b, &held);

    if (rc == 0) {
        rc = count_halves(c, b, &halves);
    }
    if (rc != 0) {
        return rc;
    }
    if (held > 0) {
        copy_warn(c, b->name,
                  "%" PRId64 " messages wait there until they are due (delayed, timed, retries); "
                  "copy again when they are",
                  held);
    }
    if (halves > 0) {
        copy_warn(c, b->name,
                  "up to %" PRId64
                  " half messages are there, which are not copied; copy again when "
                  "they are decided",
                  halves);
    }
    return 0;
}

int copy_tell_waiting(struct copy *c)
{
    int rc = 0;

    for (size_t i = 0; rc == 0 && i < c->broker_count; i++) {
        rc = copy_settle(c, tell_waiting(c, &c->brokers[i]), c->brokers[i].name);
    }
    return rc;
}
