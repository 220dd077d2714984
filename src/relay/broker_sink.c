/*
 * Three requests (ESCROW_SOURCE_OPEN, ESCROW_PUBLISH_BATCH, ESCROW_TXN_HORIZON) over one connection. Batches are written in the
 * order of the calls and answered in any; the broker's own check of `prev` keeps a pipeline honest.
 */
#include "src/relay/broker_sink.h"

#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/codes.h"
#include "core/proto/names.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SINK_TIMEOUT_MS 10000
#define SINK_TEXT_MAX   256

/* One request on its way; freed when it is answered. */
struct sink_request {
    struct broker_sink *sink;
    struct route_lookup lookup;
    struct remote_call call;
    union {
        struct sink_open *open;
        struct sink_batch *batch;
        struct sink_horizon *horizon;
    } for_;
    char text[SINK_TEXT_MAX];
};

static struct broker_sink *sink_of(struct sink *s)
{
    return (struct broker_sink *)(void *)s;
}

/* One line about a failed request: what the broker said, or what is wrong with reaching it. */
static const char *sink_text(struct sink_request *r, int error, const struct header *header)
{
    if (header != NULL && header->remark.len > 0) {
        (void)slice_to_cstr(header->remark, r->text, sizeof r->text);
    } else {
        (void)snprintf(r->text, sizeof r->text, "broker %s: %s",
                       r->sink->addr[0] == '\0' ? "(not found)" : r->sink->addr,
                       escrow_strerror(error)); /* cut when long */
    }
    return r->text;
}

/* NULL when out of memory; the caller puts its request into a list of failed ones. */
static struct sink_request *request_new(struct broker_sink *s)
{
    struct sink_request *r = mem_calloc(1, sizeof *r);

    if (r == NULL) {
        loop_defer(s->remote->loop, &s->fail);
    } else {
        r->sink = s;
    }
    return r;
}

/* ---- open ---- */

static void open_end(struct sink_request *r, int error, const struct header *header)
{
    struct sink_open *open = r->for_.open;

    open->code = error;
    open->text = error == 0 ? "" : sink_text(r, error, header);
    open->cb(open);
    mem_free(r);
}

static void open_answered(struct remote_call *call, int error, struct header *header,
                          struct slice body)
{
    struct sink_request *r = LIST_ENTRY(call, struct sink_request, call);
    struct source_open_answer answer;

    if (error == 0) {
        error = source_open_answer_decode(body, &answer);
    }
    if (error == 0) {
        r->for_.open->epoch = answer.epoch;
        r->for_.open->position = answer.has_position ? answer.position : SLICE_EMPTY;
    }
    open_end(r, error, header);
}

static void open_send(struct sink_request *r)
{
    const struct sink_open *open = r->for_.open;
    struct source_open_request in = {.source = open->source.name,
                                     .owner = open->source.owner,
                                     .lane = open->source.lane,
                                     .timeline = open->source.timeline,
                                     .system_id = open->source.system_id,
                                     .adopt = open->may_adopt};
    struct remote_request req = {.addr = r->sink->addr,
                                 .code = REQUEST_ESCROW_SOURCE_OPEN,
                                 .timeout_ms = r->sink->timeout_ms};
    struct buf body;

    buf_init(&body, 0);
    source_open_request_encode(&body, &in);
    req.body = buf_slice(&body);
    if (buf_failed(&body)) {
        open_end(r, ESCROW_ENOMEM, NULL);
    } else {
        remote_call(r->sink->remote, &r->call, &req, open_answered);
    }
    buf_fini(&body);
}

static void open_routed(struct route_lookup *lookup, int error, const struct topic_route *route)
{
    struct sink_request *r = LIST_ENTRY(lookup, struct sink_request, lookup);
    struct broker_sink *s = r->sink;

    s->addr[0] = '\0';
    for (size_t i = 0; error == 0 && i < route->target_count && s->addr[0] == '\0'; i++) {
        const struct route_target *t = &route->targets[i];
        if (s->broker[0] == '\0' || strcmp(s->broker, t->broker) == 0) {
            (void)snprintf(s->addr, sizeof s->addr, "%s", t->addr); /* same size */
        }
    }
    if (error == 0 && s->addr[0] == '\0') {
        error = ESCROW_ENOROUTE;
    }
    if (error != 0) {
        /* Nobody was asked: whatever kept us from the broker, nothing was stored. */
        open_end(r, escrow_error_class(error) == ESCROW_CLASS_RETRY ? error : ESCROW_ECONN, NULL);
        return;
    }
    open_send(r);
}

static void sink_open(struct sink *sink, struct sink_open *open)
{
    struct broker_sink *s = sink_of(sink);
    struct sink_request *r = request_new(s);

    if (r == NULL) {
        open->state = s->failed_opens;
        s->failed_opens = open;
        return;
    }
    r->for_.open = open;
    router_lookup(s->router, &r->lookup, TOPIC_TEMPLATE, false, open_routed);
}

/* ---- publish ---- */

static void batch_end(struct sink_request *r, int error, const struct header *header)
{
    struct sink_batch *batch = r->for_.batch;

    batch->code = error;
    batch->text = error == 0 ? "" : sink_text(r, error, header);
    batch->cb(batch);
    mem_free(r);
}

static void batch_answered(struct remote_call *call, int error, struct header *header,
                           struct slice body)
{
    struct sink_request *r = LIST_ENTRY(call, struct sink_request, call);
    struct publish_answer answer;

    if (error == 0) {
        error = publish_answer_decode(body, &answer);
    }
    batch_end(r, error, header);
}

/* The id of a row's message: the database's identifier and the row's id, so that it is the same whenever it is sent. */
static void batch_encode(struct buf *out, const struct sink_batch *batch)
{
    struct publish_head head = {.source = batch->source->name,
                                .lane = batch->source->lane,
                                .timeline = batch->source->timeline,
                                .epoch = batch->epoch,
                                .system_id = batch->source->system_id,
                                .prev = batch->prev};
    struct publish_writer pub;

    publish_begin(&pub, out, &head);
    for (size_t i = 0; i < batch->message_count; i++) {
        const struct sink_message *m = &batch->messages[i];
        char id[33];
        (void)snprintf(id, sizeof id, "%016" PRIX64 "%016" PRIX64, batch->source->system_id,
                       m->row_id); /* exactly 32 digits */
        publish_put(&pub, &(struct publish_row){.topic = m->topic,
                                                .tag = m->tag,
                                                .keys = m->keys,
                                                .ordering_key = m->ordering_key,
                                                .uniq_key = slice_of(id, 32),
                                                .properties = m->properties,
                                                .body = m->body,
                                                .born_ms = m->born_ms,
                                                .queue_id = PUBLISH_QUEUE_ANY});
    }
    (void)publish_end(&pub, batch->next); /* the number of rows is known */
}

static void sink_publish(struct sink *sink, struct sink_batch *batch)
{
    struct broker_sink *s = sink_of(sink);
    struct sink_request *r = request_new(s);
    struct remote_request req = {
        .addr = s->addr, .code = REQUEST_ESCROW_PUBLISH_BATCH, .timeout_ms = s->timeout_ms};
    struct buf body;

    if (r == NULL) {
        batch->state = s->failed_batches;
        s->failed_batches = batch;
        return;
    }
    r->for_.batch = batch;
    buf_init(&body, 0);
    batch_encode(&body, batch);
    if (buf_failed(&body)) {
        mem_free(r);
        batch->state = s->failed_batches;
        s->failed_batches = batch;
        loop_defer(s->remote->loop, &s->fail);
    } else {
        req.body = buf_slice(&body);
        remote_call(s->remote, &r->call, &req, batch_answered);
    }
    buf_fini(&body);
}

/* ---- horizon ---- */

static void horizon_end(struct sink_request *r, int error)
{
    struct sink_horizon *horizon = r->for_.horizon;

    horizon->code = error;
    horizon->cb(horizon);
    mem_free(r);
}

static void horizon_answered(struct remote_call *call, int error, struct header *header,
                             struct slice body)
{
    struct sink_request *r = LIST_ENTRY(call, struct sink_request, call);
    struct txn_horizon answer;

    (void)header;
    if (error == 0) {
        error = txn_horizon_decode(body, &answer);
    }
    if (error == 0) {
        r->for_.horizon->oldest_born_ms =
            answer.born_ms == INSPECT_NONE ? answer.now_ms : answer.born_ms;
    }
    horizon_end(r, error);
}

static void sink_horizon(struct sink *sink, struct sink_horizon *horizon)
{
    struct broker_sink *s = sink_of(sink);
    struct sink_request *r = request_new(s);
    struct remote_request req = {
        .addr = s->addr, .code = REQUEST_ESCROW_TXN_HORIZON, .timeout_ms = s->timeout_ms};

    if (r == NULL) {
        horizon->state = s->failed_horizons;
        s->failed_horizons = horizon;
        return;
    }
    r->for_.horizon = horizon;
    remote_call(s->remote, &r->call, &req, horizon_answered);
}

/* ---- out of memory ---- */

static void fail_run(void *arg)
{
    struct broker_sink *s = arg;

    while (s->failed_opens != NULL) {
        struct sink_open *open = s->failed_opens;
        s->failed_opens = open->state;
        open->code = ESCROW_ENOMEM;
        open->text = "out of memory";
        open->cb(open);
    }
    while (s->failed_batches != NULL) {
        struct sink_batch *batch = s->failed_batches;
        s->failed_batches = batch->state;
        batch->code = ESCROW_ENOMEM;
        batch->text = "out of memory";
        batch->cb(batch);
    }
    while (s->failed_horizons != NULL) {
        struct sink_horizon *horizon = s->failed_horizons;
        s->failed_horizons = horizon->state;
        horizon->code = ESCROW_ENOMEM;
        horizon->cb(horizon);
    }
}

void broker_sink_init(struct broker_sink *s, struct remote *remote, struct router *router,
                      const char *broker)
{
    *s = (struct broker_sink){.remote = remote, .router = router, .timeout_ms = SINK_TIMEOUT_MS};
    s->sink.open = sink_open;
    s->sink.publish = sink_publish;
    s->sink.horizon = sink_horizon;
    (void)snprintf(s->broker, sizeof s->broker, "%s", broker); /* longer names match no broker */
    loop_deferred_init(&s->fail, fail_run, s);
}

void broker_sink_fini(struct broker_sink *s)
{
    loop_deferred_cancel(&s->fail);
}
