/*
 * Happy path: the request's body is encoded into a scratch buffer, remote_call copies it into the
 * connection; the answer's error goes back to the relay. Batches of one connection arrive in the
 * order in which they were sent.
 */
#include "src/relay/broker_sink.h"

#include "core/base/check.h"
#include "core/base/hash.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/codes.h"
#include "escrow/errors.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define SCRATCH_KEEP ((size_t)2 << 20) /* more is given back after use */

struct broker_sink {
    struct sink sink; /* first */
    struct remote *remote;
    const char *addr;
    uint64_t timeout_ms;
    struct buf scratch;
    struct remote_call open_call;
    struct horizons *horizons;
    size_t batch_count;        /* under way */
    struct sink_batch *failed; /* never sent; chained by their `state`, newest first */
    struct loop_deferred fail;
};

struct batch_call {
    struct remote_call call;
    struct broker_sink *owner;
    struct sink_batch *batch;
};

static struct broker_sink *sink_of(struct sink *s)
{
    return (struct broker_sink *)(void *)s;
}

/*
 * What the broker said, NUL-terminated; the words for the error, and which broker, when it said
 * nothing.
 */
static const char *answer_text(const struct broker_sink *s, const struct header *header, int error,
                               char *out, size_t size)
{
    if (header == NULL || header->remark.len == 0) {
        (void)snprintf(out, size, "broker %s: %s", s->addr, escrow_strerror(error)); /* fits */
        return out;
    }
    return slice_to_cstr(header->remark, out, size);
}

static void call(struct broker_sink *s, struct remote_call *c, int32_t code, remote_done_fn *done)
{
    struct remote_request req = {
        .addr = s->addr, .code = code, .body = buf_slice(&s->scratch), .timeout_ms = s->timeout_ms};

    remote_call(s->remote, c, &req, done);
    if (s->scratch.cap > SCRATCH_KEEP) {
        buf_fini(&s->scratch);
    }
}

/* ---- open ---- */

static void on_opened(struct remote_call *c, int error, struct header *header, struct slice body)
{
    struct broker_sink *s = LIST_ENTRY(c, struct broker_sink, open_call);
    struct sink_open *open = c->arg;
    struct source_open_answer answer;
    char text[256];

    if (error == 0) {
        error = source_open_answer_decode(body, &answer);
    }
    open->code = error;
    open->text = error == 0 ? NULL : answer_text(s, header, error, text, sizeof text);
    if (error == 0) {
        open->epoch = answer.epoch;
        open->position = answer.has_position ? answer.position : SLICE_EMPTY;
    }
    open->cb(open);
}

static void sink_open(struct sink *sink, struct sink_open *open)
{
    struct broker_sink *s = sink_of(sink);
    struct source_open_request req = {
        .source = open->source.name,
        .owner = open->source.owner,
        .lane = open->source.lane,
        .timeline = open->source.timeline,
        .system_id = open->source.system_id,
        .adopt = open->may_adopt,
        .peek = open->is_peek,
    };

    buf_clear(&s->scratch);
    source_open_request_encode(&s->scratch, &req);
    s->open_call.arg = open;
    call(s, &s->open_call, REQUEST_ESCROW_SOURCE_OPEN, on_opened);
}

/* ---- publish ---- */

static int64_t month_ms(int64_t born_ms)
{
    time_t seconds = (time_t)(born_ms / 1000);
    struct tm tm;

    if (born_ms < 0 || gmtime_r(&seconds, &tm) == NULL) {
        return 0;
    }
    return ((((int64_t)(tm.tm_mday - 1) * 24 + tm.tm_hour) * 60 + tm.tm_min) * 60 + tm.tm_sec) *
               1000 +
           born_ms % 1000;
}

static uint32_t source_hash(const struct sink_source *source)
{
    uint64_t hash = hash_u64(source->system_id);

    for (size_t i = 0; i < source->name.len; i++) {
        hash = hash_u64(hash + source->name.ptr[i]);
    }
    return (uint32_t)(hash >> 32);
}

void broker_sink_row_key(const struct sink_source *source, uint64_t row_id, int64_t born_ms,
                         char out[ROW_KEY_LEN + 1])
{
    static const char digits[] = "0123456789ABCDEF";
    uint64_t ms = (uint64_t)month_ms(born_ms);
    /*
     * Where a client's key has address, process and class loader, time, counter
     * (core/proto/msgid.h).
     */
    uint64_t high = (uint64_t)source_hash(source) << 32 | row_id >> 32;
    uint64_t low = (row_id >> 16 & 0xffff) << 48 | (ms & 0xffffffff) << 16 | (row_id & 0xffff);

    for (int i = 0; i < 16; i++) {
        out[i] = digits[high >> (60 - 4 * i) & 0xf];
        out[16 + i] = digits[low >> (60 - 4 * i) & 0xf];
    }
    out[ROW_KEY_LEN] = '\0';
}

static void encode_batch(struct broker_sink *s, const struct sink_batch *batch)
{
    const struct sink_source *source = batch->source;
    struct publish_head head = {
        .source = source->name,
        .lane = source->lane,
        .timeline = source->timeline,
        .epoch = batch->epoch,
        .system_id = source->system_id,
        .prev = batch->prev,
    };
    struct publish_writer pub;
    char key[ROW_KEY_LEN + 1];

    buf_clear(&s->scratch);
    publish_begin(&pub, &s->scratch, &head);
    for (size_t i = 0; i < batch->message_count; i++) {
        const struct sink_message *msg = &batch->messages[i];
        struct publish_row row = {
            .topic = msg->topic,
            .tag = msg->tag,
            .keys = msg->keys,
            .ordering_key = msg->ordering_key,
            .properties = msg->properties,
            .body = msg->body,
            .born_ms = msg->born_ms,
            .queue_id = PUBLISH_QUEUE_ANY,
        };
        broker_sink_row_key(source, msg->row_id, msg->born_ms, key);
        row.uniq_key = slice_of(key, ROW_KEY_LEN);
        publish_put(&pub, &row);
    }
    (void)publish_end(&pub, batch->next); /* the number of rows is known */
}

static void on_published(struct remote_call *c, int error, struct header *header, struct slice body)
{
    struct batch_call *bc = LIST_ENTRY(c, struct batch_call, call);
    struct sink_batch *batch = bc->batch;
    struct publish_answer answer;
    char text[256];

    if (error == 0 && publish_answer_decode(body, &answer) != 0) {
        error = ESCROW_ECLOSED; /* stored or not, this answer does not say it */
    }
    bc->owner->batch_count--;
    batch->code = error;
    batch->text = error == 0 ? NULL : answer_text(bc->owner, header, error, text, sizeof text);
    mem_free(bc);
    batch->cb(batch);
}

/* Out of memory: nothing was sent. Answered soon, not inside sink_publish. */
static void fail_later(struct broker_sink *s, struct sink_batch *batch)
{
    batch->state = s->failed;
    s->failed = batch;
    loop_defer(s->remote->loop, &s->fail);
}

static void on_fail(void *arg)
{
    struct broker_sink *s = arg;

    while (s->failed != NULL) {
        struct sink_batch *batch = s->failed;
        s->failed = batch->state;
        batch->code = ESCROW_ENOMEM;
        batch->text = escrow_strerror(ESCROW_ENOMEM);
        batch->cb(batch);
    }
}

static void sink_publish(struct sink *sink, struct sink_batch *batch)
{
    struct broker_sink *s = sink_of(sink);
    struct batch_call *bc = mem_calloc(1, sizeof *bc);

    encode_batch(s, batch);
    if (bc == NULL || buf_failed(&s->scratch)) {
        mem_free(bc);
        fail_later(s, batch);
        return;
    }
    bc->owner = s;
    bc->batch = batch;
    s->batch_count++;
    call(s, &bc->call, REQUEST_ESCROW_PUBLISH_BATCH, on_published);
}

/* ---- horizon ---- */

static void sink_horizon(struct sink *sink, struct sink_horizon *horizon)
{
    horizons_ask(sink_of(sink)->horizons, horizon);
}

/* ---- life ---- */

struct broker_sink *broker_sink_new(struct remote *remote, const struct horizons_config *cfg)
{
    struct broker_sink *s = mem_calloc(1, sizeof *s);

    if (s == NULL) {
        return NULL;
    }
    s->horizons = horizons_new(remote, cfg);
    if (s->horizons == NULL) {
        mem_free(s);
        return NULL;
    }
    s->sink = (struct sink){.open = sink_open, .publish = sink_publish, .horizon = sink_horizon};
    s->remote = remote;
    s->addr = cfg->broker;
    s->timeout_ms = cfg->timeout_ms;
    buf_init(&s->scratch, FRAME_SIZE_MAX);
    loop_deferred_init(&s->fail, on_fail, s);
    return s;
}

void broker_sink_free(struct broker_sink *s)
{
    if (s == NULL) {
        return;
    }
    CHECK(s->batch_count == 0);
    CHECK(s->failed == NULL);
    CHECK(!s->open_call.is_active);
    horizons_free(s->horizons);
    buf_fini(&s->scratch);
    mem_free(s);
}

struct sink *broker_sink_sink(struct broker_sink *s)
{
    return &s->sink;
}
