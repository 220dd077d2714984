/* What a producer is told: where its message is, or why it was not taken. */
#include "core/base/limits.h"
#include "src/broker/dispatch.h"
#include "src/broker/send.h"

#include <stdio.h>
#include <string.h>

void send_answer_write(struct deferred *d, const struct send_answer *answer)
{
    struct header_writer w;

    if (deferred_begin(d, &w, RESPONSE_SUCCESS, SLICE_EMPTY)) {
        send_answer_encode(&w, answer);
        header_end(&w);
        deferred_end(d, &w);
    }
}

void send_answer(struct broker *b, struct deferred *d, const struct pending_send *s,
                 struct slice recall_handle)
{
    char id[MSGID_TEXT_MAX + 1];
    struct send_answer answer = {
        .msg_id = slice_of(id, msgid_encode(&b->store_host, (int64_t)s->offset, id)),
        .transaction_id = slice_of(s->id, s->id_len),
        .queue_id = s->queue_id,
        .queue_offset = s->queue_offset,
        .recall_handle = recall_handle};

    send_answer_write(d, &answer);
}

static void send_answered(struct broker *b, struct pending *p, int error)
{
    if (error == 0) {
        send_answer(b, &p->deferred, &p->arg.send, SLICE_EMPTY);
    } else {
        deferred_fail(&p->deferred, -1, error, NULL);
    }
}

void send_note(const struct send *s, struct pending_send *a, uint64_t offset, int64_t queue_offset)
{
    a->offset = offset;
    a->queue_offset = queue_offset;
    a->queue_id = s->in.queue_id;
    a->id_len = 0;
    if (s->props.uniq_key.len > 0 && s->props.uniq_key.len <= sizeof a->id) {
        a->id_len = (uint8_t)s->props.uniq_key.len;
        memcpy(a->id, s->props.uniq_key.ptr, s->props.uniq_key.len);
    }
}

void send_wait(struct send *s, uint64_t wait_for, bool is_early, uint64_t offset,
               int64_t queue_offset)
{
    struct pending *p =
        pump_wait(&s->broker->pump, wait_for, is_early, send_answered, request_defer(s->req));

    send_note(s, &p->arg.send, offset, queue_offset);
}

static void send_refused_full(struct send *s)
{
    struct broker *b = s->broker;
    double used = b->retention.verdict.percent / 100.0;
    char todo[128] = "make room on its disk";

    if (b->retention.verdict.is_refusing) {
        (void)snprintf(todo, sizeof todo,
                       "%u%% of its disk are in use, disk.warning.ratio is %u%%: make room or "
                       "raise it",
                       b->retention.verdict.percent, (unsigned)b->config->disk_warning);
    }
    b->metrics.sends_refused_full++;
    /* RocketMQ's own words first: people and programs look for them. */
    request_fail(s->req, RESPONSE_SERVICE_NOT_AVAILABLE, ESCROW_ENOSPC,
                 "service not available now. It may be caused by one of the following reasons: "
                 "the broker's disk is full [CL: %5.2f CQ: %5.2f INDEX: %5.2f], messages are "
                 "put to the slave, message store has been shut down, etc. Here: %s",
                 used, used, used, todo);
}

void send_refused(struct send *s, int error)
{
    struct broker *b = s->broker;

    if (error == ESCROW_ENOSPC) {
        send_refused_full(s);
    } else if (error == ESCROW_ELIMIT) {
        b->metrics.sends_refused_busy++;
        request_fail(s->req, RESPONSE_SYSTEM_BUSY, error,
                     "[OVERLOAD]system busy, start flow control for a while");
    } else {
        request_fail(s->req, -1, error, NULL);
    }
}
