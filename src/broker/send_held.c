/* A message that is to be delivered later. */
#include "core/base/mem.h"
#include "src/broker/dispatch.h"
#include "src/broker/recall_handle.h"
#include "src/broker/send.h"

/* What the answer to a timed message says besides the usual. */
struct held_answer {
    struct pending_send send;
    size_t handle_len;
    char handle[RECALL_HANDLE_MAX];
};

static void held_answered(struct broker *b, struct pending *p, int error)
{
    struct held_answer *h = p->arg.ptr;

    if (error == 0) {
        send_answer(b, &p->deferred, &h->send, slice_of(h->handle, h->handle_len));
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
    mem_free(h);
}

void send_held(struct send *s, struct slice properties)
{
    struct broker *b = s->broker;
    struct record_fields fields = send_fields(s, s->req->body, properties);
    struct timer_info info = delays_info(&fields, s->props.tags, &s->delay);
    struct recall_handle handle = {.topic = fields.topic,
                                   .broker = slice_str(b->config->broker_name),
                                   .message_id = s->props.uniq_key,
                                   .due_ms = info.due_ms};
    struct held_answer *answer = mem_alloc(sizeof *answer);
    struct store_receipt receipt;
    int rc = answer == NULL ? ESCROW_ENOMEM : delays_append(b, &fields, &info, &receipt);

    if (rc != 0) {
        mem_free(answer);
        send_refused(s, rc);
        return;
    }
    b->metrics.messages_in++;
    handle.offset = receipt.offset;
    /* Levels have no handle in RocketMQ either: its clients would not look for one. */
    answer->handle_len = s->delay.level > 0 ? 0 : recall_handle_encode(&handle, answer->handle);
    send_note(s, &answer->send, receipt.offset, (int64_t)receipt.offset);
    pump_wait(&b->pump, receipt.wait_for, true, held_answered, request_defer(s->req))->arg.ptr =
        answer;
}
