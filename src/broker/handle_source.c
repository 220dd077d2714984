/*
 * ESCROW_SOURCE_OPEN 30003 and ESCROW_PUBLISH_BATCH 30002: the broker's end of the exactly-once
 * hand-off from an outbox.
 *
 * A batch is one atomic group of the log: its messages, and behind them the POSITION record that
 * says they are in. The whole request is checked before the first append; after it, only a refusal
 * of the store can take the group back.
 */
#include "core/base/bytes.h"
#include "core/base/check.h"
#include "core/base/limits.h"
#include "core/base/log.h"
#include "core/base/mem.h"
#include "core/proto/body_escrow.h"
#include "core/proto/names.h"
#include "core/proto/properties.h"
#include "core/proto/tags.h"
#include "src/broker/broker.h"
#include "src/broker/dispatch.h"
#include "src/broker/topic_create.h"

#include <inttypes.h>

#define SOURCE_TOPIC_QUEUES                                                                        \
    8 /* of a topic that a relay's first batch creates; at most the template's */

/* ---- open ---- */

struct open_answer {
    struct source_open_answer answer; /* position points into `position` */
    struct buf position;
};

static void open_answered(struct broker *b, struct pending *p, int error)
{
    struct open_answer *a = p->arg.ptr;
    struct header_writer w;

    (void)b;
    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
    } else if (deferred_begin(&p->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        source_open_answer_encode(w.buf, &a->answer);
        deferred_end(&p->deferred, &w);
    }
    buf_fini(&a->position);
    mem_free(a);
}

/* Append the POSITION record of `next` and note it. */
static int source_append(struct broker *b, const struct source *next, uint64_t *wait_for)
{
    struct store_receipt receipt;
    int rc;

    buf_clear(&b->scratch);
    source_encode(&b->scratch, next);
    if (buf_failed(&b->scratch)) {
        return ESCROW_ENOMEM;
    }
    rc = store_append_raw(b->store, STORE_POSITION, buf_slice(&b->scratch), NULL, &receipt);
    if (rc == 0) {
        *wait_for = receipt.wait_for;
        rc = sources_note(&b->sources, next, receipt.offset);
        if (rc != 0) {
            /*
             * The record is in the log and the table does not know it: only a restart makes them
             * agree.
             */
            struct err_ctx err = {.code = 0};
            (void)err_set(&err, rc, "source %s: out of memory behind its POSITION record",
                          next->name);
            broker_fatal(b, "source.note", &err);
        }
    }
    return rc;
}

static int open_prepare(struct broker *b, const struct source_open_request *in, struct source *next,
                        struct open_answer *a, struct err_ctx *err)
{
    const struct source *old = sources_find(&b->sources, in->source, in->lane);
    struct source_open open = {.name = in->source,
                               .owner = in->owner,
                               .lane = in->lane,
                               .timeline = in->timeline,
                               .system_id = in->system_id,
                               .adopt = in->adopt};
    int rc;

    if (old != NULL) {
        a->answer.last_system_id = old->system_id;
        a->answer.last_timeline = old->timeline;
        buf_append_slice(&a->position, buf_slice(&old->position));
        if (buf_failed(&a->position)) {
            return err_set(err, ESCROW_ENOMEM, "out of memory");
        }
    }
    rc = sources_open(&b->sources, &open, next, err);
    if (rc == 0) {
        a->answer.epoch = !in->peek ? next->epoch : old != NULL ? old->epoch : 0;
        a->answer.has_position = a->position.len > 0;
        a->answer.position = buf_slice(&a->position);
    }
    return rc;
}

void handle_source_open(struct request *req)
{
    struct broker *b = req->broker;
    struct source_open_request in;
    struct err_ctx err = {.code = 0};
    struct open_answer *a = NULL;
    struct source next;
    uint64_t wait_for = 0;
    int rc = source_open_request_decode(req->body, &in);

    if (rc != 0) {
        request_fail(req, -1, rc, "ESCROW_SOURCE_OPEN: malformed body");
        return;
    }
    a = mem_calloc(1, sizeof *a);
    rc = a == NULL ? ESCROW_ENOMEM : pump_reserve(&b->pump);
    if (rc == 0) {
        buf_init(&a->position, 0);
        rc = open_prepare(b, &in, &next, a, &err);
    }
    if (rc == 0 && in.peek) {
        wait_for = pump_tail(&b->pump); /* the position that is told may be on its way to disk */
    } else if (rc == 0) {
        rc = source_append(b, &next, &wait_for);
    }
    if (rc != 0) {
        if (a != NULL) {
            buf_fini(&a->position);
            mem_free(a);
        }
        request_fail(req, -1, rc, "%s", err.text[0] != '\0' ? err.text : escrow_strerror(rc));
        return;
    }
    if (!in.peek) {
        log_info("source.open", "source %s lane %" PRIu32 ": epoch %" PRIu64 ", owner %s",
                 next.name, next.lane, next.epoch, next.owner);
    }
    pump_wait(&b->pump, wait_for, false, open_answered, request_defer(req))->arg.ptr = a;
}

/* ---- publish ---- */

struct publish_wait {
    struct publish_answer answer; /* position points into `position` */
    struct buf position;
};

static void publish_answered(struct broker *b, struct pending *p, int error)
{
    struct publish_wait *a = p->arg.ptr;
    struct header_writer w;

    (void)b;
    if (error != 0) {
        deferred_fail(&p->deferred, -1, error, NULL);
    } else if (deferred_begin(&p->deferred, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        header_end(&w);
        publish_answer_encode(w.buf, &a->answer);
        deferred_end(&p->deferred, &w);
    }
    buf_fini(&a->position);
    mem_free(a);
}

/* State of one batch while its rows are appended. */
struct publish {
    struct broker *broker;
    struct request *req;
    struct topic *topic; /* of the last row */
    struct store_receipt first;
    struct store_receipt last;
    uint32_t count;
    uint8_t properties[PROPERTIES_LEN_MAX];
};

static int publish_topic(struct publish *pub, const struct publish_row *row, struct err_ctx *err)
{
    int rc;

    if (!name_is_sendable(row->topic)) {
        return err_set(err, ESCROW_EPERM, "sending to the topic[%.*s] is forbidden",
                       SLICE_ARGS(row->topic));
    }
    rc = topic_find_or_create(pub->broker, row->topic, SLICE_LIT(TOPIC_TEMPLATE),
                              SOURCE_TOPIC_QUEUES, &pub->topic, err);
    if (rc == 0 && (pub->topic->perm & PERM_WRITE) == 0) {
        rc = err_set(err, ESCROW_EPERM, "the topic[%s] is not writable", pub->topic->name);
    }
    return rc;
}

/* A moved message goes into the queue that it names. */
static bool has_its_queue(const struct topic *topic, const struct publish_row *row)
{
    CHECK(topic != NULL); /* the first row names one */
    return !row->is_moved || (uint32_t)row->queue_id < topic->write_queues ||
           (uint32_t)row->queue_id < topic->read_queues;
}

/*
 * Every topic of the batch exists before the group begins, so that creating one cannot break it
 * off.
 */
static int publish_topics(struct publish *pub, struct publish_reader *reader, struct err_ctx *err)
{
    struct publish_row row;
    struct slice body = pub->req->body;
    int rc;

    while ((rc = publish_reader_next(reader, &row)) == 1) {
        rc = row.is_same_topic ? 0 : publish_topic(pub, &row, err);
        if (rc != 0) {
            return rc;
        }
        if (!has_its_queue(pub->topic, &row)) {
            return err_set(err, ESCROW_EINVAL, "queue %" PRId32 " is none of the topic[%s]",
                           row.queue_id, pub->topic->name);
        }
    }
    return rc == 0 ? publish_reader_begin(reader, body) : rc;
}

static int32_t publish_queue(struct publish *pub, const struct publish_row *row)
{
    uint32_t queues = pub->topic->write_queues;

    if (row->is_moved) {
        return row->queue_id; /* publish_topics has seen that there is one */
    }
    if (row->queue_id >= 0) {
        return (int32_t)((uint32_t)row->queue_id % queues);
    }
    if (row->ordering_key.len > 0) {
        return (int32_t)((uint32_t)java_hash(row->ordering_key) % queues);
    }
    return (int32_t)(pub->topic->next_queue++ % queues);
}

static int publish_properties(struct publish *pub, const struct publish_row *row,
                              struct slice *properties)
{
    struct props_writer w;
    char id[MSGID_TEXT_MAX + 1];

    props_writer_init(&w, pub->properties, sizeof pub->properties);
    if (row->uniq_key.len > 0) {
        props_put(&w, prop_name(PROP_UNIQ_KEY), row->uniq_key);
    } else {
        size_t len = uniq_key_next(&pub->broker->ids, loop_wall_ms(pub->broker->loop), id);
        props_put(&w, prop_name(PROP_UNIQ_KEY), slice_of(id, len));
    }
    if (row->tag.len > 0) {
        props_put(&w, prop_name(PROP_TAGS), row->tag);
    }
    if (row->keys.len > 0) {
        props_put(&w, prop_name(PROP_KEYS), row->keys);
    }
    if (row->ordering_key.len > 0) {
        props_put(&w, prop_name(PROP_SHARDING_KEY), row->ordering_key);
    }
    props_put_all(&w, row->properties);
    *properties = slice_of(w.ptr, w.len);
    return w.error;
}

/* What a message that another broker stored before brings along. */
static void publish_moved(const struct publish_row *row, struct record_fields *fields)
{
    struct record_host *host = &fields->born_host;

    fields->flag = row->flag;
    fields->sys_flag = row->sys_flag;
    fields->reconsume_times = row->reconsume_times;
    if (row->born_host.len > 0) {
        host->ip_len = (uint8_t)(row->born_host.len - 2);
        memcpy(host->ip, row->born_host.ptr, host->ip_len);
        host->port = get_be16(row->born_host.ptr + host->ip_len);
    }
}

static int publish_row(struct publish *pub, const struct publish_row *row)
{
    struct broker *b = pub->broker;
    struct record_fields fields = {.born_ms = row->born_ms,
                                   .store_ms = loop_wall_ms(b->loop),
                                   .born_host = pub->req->session->born_host,
                                   .store_host = b->store_host,
                                   .body = row->body};
    int rc;

    if (!row->is_same_topic) {
        pub->topic = topics_find(&b->topics, row->topic);
    }
    if (pub->topic == NULL) {
        /* publish_topics made it; a body that changed between two walks is not possible */
        return ESCROW_ENOROUTE;
    }
    if (row->is_moved) {
        publish_moved(row, &fields);
    }
    fields.queue_id = publish_queue(pub, row);
    fields.topic = slice_str(pub->topic->name);
    rc = publish_properties(pub, row, &fields.properties);
    if (rc != 0) {
        return rc;
    }
    rc = store_append_message(b->store, STORE_MESSAGE, &fields, NULL, &pub->last);
    if (rc == 0 && pub->count++ == 0) {
        pub->first = pub->last;
    }
    return rc;
}

/* All rows and the position as one group, or nothing. */
static int publish_append(struct publish *pub, struct publish_reader *reader,
                          const struct source *next, uint64_t *wait_for)
{
    struct broker *b = pub->broker;
    struct publish_row row;
    int rc;

    store_group_begin(b->store);
    while ((rc = publish_reader_next(reader, &row)) == 1) {
        rc = publish_row(pub, &row);
        if (rc != 0) {
            break;
        }
    }
    if (rc == 0) {
        rc = source_append(b, next, wait_for);
    }
    if (rc != 0) {
        store_group_abort(b->store);
        return rc;
    }
    store_group_end(b->store);
    b->metrics.messages_in += pub->count;
    b->metrics.outbox_batches++;
    return 0;
}

/*
 * 0: appended, or stored before (then *wait_for is the tail and count 0). The rest as
 * sources_advance and the appends say.
 */
static int publish_run(struct publish *pub, struct publish_reader *reader, uint64_t *wait_for,
                       struct err_ctx *err)
{
    struct broker *b = pub->broker;
    const struct publish_head *head = &reader->head;
    const struct source *src = sources_find(&b->sources, head->source, head->lane);
    struct source next;
    size_t bytes = 0;
    int rc = publish_check(reader, &bytes);

    if (rc != 0) {
        return err_set(err, rc, "ESCROW_PUBLISH_BATCH: malformed body");
    }
    rc = sources_advance(src, head->epoch, head->prev, reader->next, &next);
    if (rc == ESCROW_EEXIST) {
        *wait_for = pump_tail(&b->pump);
        return 0;
    }
    if (rc != 0) {
        return err_set(
            err, rc, "source %.*s lane %" PRIu32 ": %s", SLICE_ARGS(head->source), head->lane,
            rc == ESCROW_ECONFLICT ? "the batch does not start where the last one ended; "
                                     "open the source again and compare"
                                   : escrow_strerror(rc));
    }
    if (src->system_id != head->system_id || src->timeline != head->timeline) {
        return err_set(err, ESCROW_EFOREIGN,
                       "source %.*s was opened for another database system or timeline",
                       SLICE_ARGS(head->source));
    }
    rc = publish_topics(pub, reader, err);
    if (rc == 0) {
        rc = publish_append(pub, reader, &next, wait_for);
    }
    return rc;
}

void handle_publish_batch(struct request *req)
{
    struct broker *b = req->broker;
    static struct publish pub; /* loop thread only: too large for its stack */
    struct err_ctx err = {.code = 0};
    struct publish_reader reader;
    struct publish_wait *a = NULL;
    uint64_t wait_for = 0;
    int rc = publish_reader_begin(&reader, req->body);

    pub.broker = b;
    pub.req = req;
    pub.topic = NULL;
    pub.count = 0;
    if (rc == 0) {
        a = mem_calloc(1, sizeof *a);
        rc = a == NULL ? ESCROW_ENOMEM : pump_reserve(&b->pump);
    }
    if (rc == 0) {
        buf_init(&a->position, 0);
        rc = publish_run(&pub, &reader, &wait_for, &err);
    }
    if (rc == 0) {
        buf_append_slice(&a->position, reader.next);
        a->answer = (struct publish_answer){.offset = pub.count > 0 ? (int64_t)pub.first.offset
                                                                    : PUBLISH_OFFSET_NONE,
                                            .count = pub.count,
                                            .position = buf_slice(&a->position)};
        pump_wait(&b->pump, wait_for, false, publish_answered, request_defer(req))->arg.ptr = a;
        return;
    }
    if (a != NULL) {
        buf_fini(&a->position);
        mem_free(a);
    }
    request_fail(req, -1, rc, "%s", err.text[0] != '\0' ? err.text : escrow_strerror(rc));
}
