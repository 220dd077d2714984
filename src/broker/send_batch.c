/* Many messages of one topic and queue: all are stored, or none. */
#include "core/base/mem.h"
#include "core/proto/batch.h"
#include "src/broker/dispatch.h"
#include "src/broker/send.h"

/* The answer to a batch: the id of each message, joined by commas, and the first one's place. */
struct batch_answer {
    int32_t queue_id;
    int64_t queue_offset;
    size_t ids_len;
    char ids[];
};

_Static_assert((size_t)BATCH_ITEMS_MAX *(MSGID_TEXT_MAX + 1) + 1024 <= HEADER_SIZE_MAX,
               "the ids of the largest batch fit into the header of its answer");

static struct batch_answer *batch_answer_new(const struct send *s, uint32_t count)
{
    struct batch_answer *a = mem_alloc(sizeof *a + (size_t)count * (MSGID_TEXT_MAX + 1));

    if (a != NULL) {
        *a = (struct batch_answer){.queue_id = s->in.queue_id};
    }
    return a;
}

static void batch_answer_add(struct batch_answer *a, const struct send *s,
                             const struct store_receipt *receipt)
{
    if (a->ids_len == 0) {
        a->queue_offset = receipt->queue_offset;
    } else {
        a->ids[a->ids_len++] = ',';
    }
    a->ids_len +=
        msgid_encode(&s->broker->store_host, (int64_t)receipt->offset, a->ids + a->ids_len);
}

static void batch_answered(struct broker *b, struct pending *p, int error)
{
    struct batch_answer *a = p->arg.ptr;
    struct send_answer answer = {.msg_id = slice_of(a->ids, a->ids_len),
                                 .queue_id = a->queue_id,
                                 .queue_offset = a->queue_offset};

    (void)b;
    if (error == 0) {
        send_answer_write(&p->deferred, &answer);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
    mem_free(a);
}

/* All messages of a batch, or none; receipt is the last one's. */
static int send_all(struct send *s, struct batch_answer *answer, struct store_receipt *receipt)
{
    struct batch_iter iter = batch_begin(s->req->body);
    struct batch_item item;
    int rc;

    while ((rc = batch_next(&iter, &item)) == 1) {
        struct slice properties;
        struct record_fields fields;
        rc = send_properties(s, item.properties, &properties);
        if (rc != 0) {
            return rc;
        }
        if (send_is_marked(s) || s->delay.is_held) {
            return ESCROW_EREJECTED;
        }
        fields = send_fields(s, item.body, properties);
        fields.flag = item.flag;
        rc = store_append_message(s->broker->store, STORE_MESSAGE, &fields, NULL, receipt);
        if (rc != 0) {
            return rc;
        }
        batch_answer_add(answer, s, receipt);
    }
    return rc;
}

static void batch_refused(struct send *s, int error)
{
    if (error == ESCROW_EREJECTED) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error,
                     "half and delayed messages cannot be sent in a batch");
    } else if (error == ESCROW_EINVAL) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, error, "properties: a delay is no number");
    } else {
        send_refused(s, error);
    }
}

void send_batch(struct send *s)
{
    struct batch_answer *answer;
    struct store_receipt last = {.offset = 0};
    uint32_t count = 0;
    int rc = batch_check(s->req->body, &count);

    if ((s->in.sys_flag & SYSFLAG_TXN_MASK) != 0) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, ESCROW_EREJECTED,
                     "half messages cannot be sent in a batch");
        return;
    }
    if (rc != 0 || name_topic_class(s->in.topic) == TOPIC_RETRY) {
        request_fail(s->req, RESPONSE_MESSAGE_ILLEGAL, rc != 0 ? rc : ESCROW_EINVAL,
                     "malformed batch: %s", rc != 0 ? escrow_strerror(rc) : "a retry topic");
        return;
    }
    answer = batch_answer_new(s, count);
    if (answer == NULL) {
        send_refused(s, ESCROW_ENOMEM);
        return;
    }
    store_group_begin(s->broker->store);
    rc = send_all(s, answer, &last);
    if (rc != 0) {
        store_group_abort(s->broker->store);
        mem_free(answer);
        batch_refused(s, rc);
        return;
    }
    store_group_end(s->broker->store);
    s->broker->metrics.messages_in += count;
    pump_wait(&s->broker->pump, last.wait_for, true, batch_answered, request_defer(s->req))
        ->arg.ptr = answer;
}
